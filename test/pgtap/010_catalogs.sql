-- Categories, metrics and services: shipped rows, guessing, time zones.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(50);

-- ---------------------------------------------------------------------------
-- Categories
-- ---------------------------------------------------------------------------

SELECT results_eq(
    $$ SELECT category, contamination, false_alarms_per_week, confirmation_cycles, resolution_grace_cycles,
              incident_separation, flapping_openings, flapping_window, shipped
       FROM smartbox.service_categories ORDER BY priority $$,
    $$ VALUES ('critical', 0.03::float8, 1::float8, 2, 3, '30 min'::interval, 4, '6 hours'::interval, true),
              ('admin', 0.06, 2, 2, 3, '30 min', 4, '6 hours', true),
              ('background', 0.08, 3, 2, 3, '30 min', 4, '6 hours', true),
              ('micro', 0.08, 3, 2, 3, '30 min', 4, '6 hours', true),
              ('core', 0.04, 1.5, 2, 3, '30 min', 4, '6 hours', true),
              ('standard', 0.05, 2, 2, 3, '30 min', 4, '6 hours', true) $$,
    'the shipped categories');

INSERT INTO smartbox.services (service) VALUES
    ('booking'), ('mobile-api'), ('mobileApi'), ('payments_api2'), ('APIs'), ('edge.gateway'), ('oauth'), ('auth'),
    ('capital'), ('apiary'), ('therapist'),
    ('shop-fr-adm'), ('admin'), ('user-mgmt'), ('administration'), ('admin-api'),
    ('billing-job'), ('mail_queue'), ('imageProcessor'), ('jobs'), ('admin-worker'), ('jobseeker'),
    ('pdf-util'), ('micro-frontend'), ('stool'),
    ('core'), ('session-cache'), ('users-db'), ('scoreboard'), ('feedback'), ('core-worker'), ('été');
SELECT results_eq(
    $$ SELECT service, category FROM smartbox.services ORDER BY service COLLATE "C" $$,
    $$ SELECT * FROM (VALUES
        ('booking', 'standard'), ('mobile-api', 'critical'), ('mobileApi', 'critical'), ('payments_api2', 'critical'),
        ('APIs', 'critical'), ('edge.gateway', 'critical'), ('oauth', 'standard'), ('auth', 'critical'),
        ('capital', 'standard'), ('apiary', 'standard'), ('therapist', 'standard'),
        ('shop-fr-adm', 'admin'), ('admin', 'admin'), ('user-mgmt', 'admin'), ('administration', 'standard'),
        ('admin-api', 'critical'),
        ('billing-job', 'background'), ('mail_queue', 'background'), ('imageProcessor', 'background'),
        ('jobs', 'background'), ('admin-worker', 'admin'), ('jobseeker', 'standard'),
        ('pdf-util', 'micro'), ('micro-frontend', 'micro'), ('stool', 'standard'),
        ('core', 'core'), ('session-cache', 'core'), ('users-db', 'core'), ('scoreboard', 'standard'),
        ('feedback', 'standard'), ('core-worker', 'background'), ('été', 'standard')) AS v(s, c)
       ORDER BY s COLLATE "C" $$,
    'a category is guessed by whole words of the name, in their order');

INSERT INTO smartbox.services (service, category) VALUES ('other-api', 'micro');
SELECT is((SELECT category FROM smartbox.services WHERE service = 'other-api'), 'micro', 'a given category stays');
SELECT throws_ok(
    $$ INSERT INTO smartbox.services (service, category) VALUES ('x', 'vital') $$, '23503',
    'category "vital" of service "x" does not exist', 'a category must exist');
SELECT throws_ok(
    $$ UPDATE smartbox.services SET category = 'vital' WHERE service = 'booking' $$, '23503',
    'category "vital" of service "booking" does not exist', 'by an UPDATE too');

INSERT INTO smartbox.service_categories (category, contamination, false_alarms_per_week, name_pattern)
VALUES ('money', 0.02, 0.5, '^pay');
INSERT INTO smartbox.services (service) VALUES ('payment-api');
SELECT is((SELECT category FROM smartbox.services WHERE service = 'payment-api'), 'money',
    'a pattern of one''s own comes before the shipped ones');
SELECT throws_ok(
    $$ INSERT INTO smartbox.service_categories (category, contamination, false_alarms_per_week, name_pattern)
       VALUES ('broken', 0.02, 0.5, '(') $$, '2201B', NULL, 'a pattern that is none is refused at once');
SELECT throws_ok(
    $$ INSERT INTO smartbox.service_categories (category, contamination, false_alarms_per_week)
       VALUES ('broken', 0.5, 1) $$, '23514', NULL, 'half of the history cannot be bad');
SELECT throws_ok(
    $$ UPDATE smartbox.service_categories SET confirmation_cycles = 0 WHERE category = 'core' $$, '23514', NULL,
    'an incident takes a detection');

UPDATE smartbox.service_categories SET description = description;
SELECT is((SELECT count(*) FROM smartbox.service_categories WHERE NOT shipped), 1::bigint,
    'a row that does not change stays shipped');
UPDATE smartbox.service_categories SET confirmation_cycles = 4 WHERE category = 'core';
SELECT is((SELECT shipped FROM smartbox.service_categories WHERE category = 'core'), false,
    'a row that changes is the user''s');
UPDATE smartbox.service_categories SET shipped = true, confirmation_cycles = 2 WHERE category = 'core';
SELECT is((SELECT shipped FROM smartbox.service_categories WHERE category = 'core'), true,
    'and can be given back');
SELECT throws_ok($$ DELETE FROM smartbox.service_categories WHERE category = 'core' $$, '55000', NULL,
    'a shipped category stays');
SELECT throws_ok($$ UPDATE smartbox.service_categories SET category = 'kernel' WHERE category = 'core' $$, '55000', NULL,
    'under its name');
SELECT lives_ok(
    $$ INSERT INTO smartbox.service_categories (category, contamination, false_alarms_per_week) VALUES ('core', 0.1, 9) $$,
    'a row from a dump takes the place of the shipped one');
SELECT results_eq(
    $$ SELECT contamination, shipped FROM smartbox.service_categories WHERE category = 'core' $$,
    $$ VALUES (0.1::float8, false) $$, 'and is what counts');
SELECT throws_ok(
    $$ INSERT INTO smartbox.service_categories (category, contamination, false_alarms_per_week) VALUES ('core', 0.1, 9) $$,
    '23505', NULL, 'but not of another row from a dump');

-- A restored row, which brings its created_at, is taken as it is: what it
-- refers to may come later.
SELECT lives_ok(
    $$ INSERT INTO smartbox.services (service, category, time_zone, created_at) VALUES ('restored', 'later', 'Nowhere/Yet', '2024-01-01') $$,
    'a restored service is not checked');
SELECT lives_ok($$ INSERT INTO smartbox.detections (service, ts, time_period, is_anomaly) VALUES ('restored', now(), 'night_hours', true) $$,
    'a category that is not there stops no cycle');
SELECT is((SELECT status::text FROM smartbox.incidents WHERE service = 'restored'), 'SUSPECTED', 'the usual numbers count then');

UPDATE smartbox.service_categories SET name_pattern = NULL WHERE category = 'standard';
SELECT throws_ok($$ INSERT INTO smartbox.services (service) VALUES ('plain') $$, '23502',
    'no category is known for service "plain"', 'no category to fall back to is an error that says so');

-- ---------------------------------------------------------------------------
-- Services
-- ---------------------------------------------------------------------------

SELECT results_eq(
    $$ SELECT time_zone, enabled, contamination, false_alarms_per_week, confirmation_cycles,
              resolution_grace_cycles, incident_separation, flapping_openings, flapping_window, backfilled::text
       FROM smartbox.services WHERE service = 'booking' $$,
    $$ VALUES (NULL::text, true, NULL::float8, NULL::float8, NULL::int, NULL::int, NULL::interval, NULL::int, NULL::interval, '{}') $$,
    'the name alone is enough');

SET TimeZone = 'America/New_York';
INSERT INTO smartbox.services (service, category, time_zone) VALUES
    ('paris', 'standard', 'Europe/Paris'), ('utc', 'standard', 'UTC'), ('kathmandu', 'standard', 'Asia/Kathmandu'),
    ('lower', 'standard', 'europe/paris');
SELECT is(current_setting('TimeZone'), 'America/New_York', 'checking a zone does not change the session''s');
SELECT throws_ok(
    $$ INSERT INTO smartbox.services (service, category, time_zone) VALUES ('x', 'standard', 'Europe/Pariss') $$,
    '22023', 'time zone "Europe/Pariss" of service "x" is not known', 'a zone must be known');
SELECT throws_ok(
    format($$ INSERT INTO smartbox.services (service, category, time_zone) VALUES ('x', 'standard', %L) $$, zone),
    '22023', NULL, format('"%s" is no zone', zone))
FROM unnest(ARRAY['', '5', '-3.5', 'nan', 'CEST', 'interval ''3h''']) AS zone;
SELECT throws_ok($$ UPDATE smartbox.services SET time_zone = 'Mars/Olympus' WHERE service = 'paris' $$, '22023', NULL,
    'nor by an UPDATE');
SELECT lives_ok($$ UPDATE smartbox.services SET time_zone = NULL WHERE service = 'paris' $$, 'NULL is the setting''s');
SELECT is(current_setting('TimeZone'), 'America/New_York', 'a refused zone does not change the session''s either');
RESET TimeZone;

-- ---------------------------------------------------------------------------
-- Metrics
-- ---------------------------------------------------------------------------

SELECT results_eq(
    $$ SELECT position, metric, unit, kind, direction, zero_is_normal, valid_min, valid_max,
              min_absolute_deviation, min_relative_deviation
       FROM smartbox.metrics ORDER BY position $$,
    $$ VALUES (1, 'request_rate', 'req/s', 'rate', 'both', false, 0::float8, 1000000::float8, 0.05::float8, 0.3::float8),
              (2, 'application_latency', 'ms', 'latency', 'high', false, 0, 300000, 5, 0.25),
              (3, 'dependency_latency', 'ms', 'latency', 'high', true, 0, 300000, 5, 0.25),
              (4, 'database_latency', 'ms', 'latency', 'high', true, 0, 300000, 5, 0.25),
              (5, 'error_rate', 'ratio', 'ratio', 'high', false, 0, 1, 0.01, 0.5) $$,
    'the shipped metrics');
SELECT is_empty(
    $$ SELECT metric FROM smartbox.metrics
       WHERE query !~ 'by \(\$service_label\)' OR query !~ '\{\$selector[,}]' OR query ~ '\[5m\]|service_name|production' $$,
    'their queries ask for all services, and take environment, label and window from the settings');

INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('queue_length', 'sum(q{$selector}) by ($service_label)', 'rate', 1e6);
SELECT is((SELECT position FROM smartbox.metrics WHERE metric = 'queue_length'), 6, 'a new metric gets the next position');
SAVEPOINT twice;
INSERT INTO smartbox.metrics (metric, position, query, kind, valid_max) VALUES ('m', 6, 'q', 'rate', 1);
SELECT throws_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, '23505', NULL, 'a position is one metric''s');
ROLLBACK TO twice;
SELECT lives_ok(
    $$ UPDATE smartbox.metrics SET position = 7 - position WHERE position IN (1, 6); SET CONSTRAINTS ALL IMMEDIATE $$,
    'two metrics can change places');
SELECT throws_ok($$ INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('M', 'q', 'rate', 1) $$,
    '23514', NULL, 'a metric''s name is in lower case');
SELECT throws_ok($$ INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('m', 'q', 'gauge', 1) $$,
    '23514', NULL, 'its kind is known');
SELECT throws_ok($$ INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('m', 'q', 'ratio', 100) $$,
    '23514', NULL, 'a ratio is no percentage');
SELECT throws_ok($$ INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('m', 'q', 'rate', 'infinity') $$,
    '23514', NULL, 'a range has an end');
SELECT throws_ok($$ INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('m', 'q', 'rate', 'nan') $$,
    '23514', NULL, 'and the end is a number');
SELECT throws_ok($$ DELETE FROM smartbox.metrics WHERE metric = 'error_rate' $$, '55000', NULL, 'a shipped metric stays');
SELECT throws_ok($$ UPDATE smartbox.metrics SET metric = 'errors' WHERE metric = 'error_rate' $$, '55000', NULL, 'under its name');
SELECT lives_ok($$ UPDATE smartbox.metrics SET enabled = false WHERE metric = 'error_rate' $$, 'it can be switched off');
SELECT is((SELECT shipped FROM smartbox.metrics WHERE metric = 'error_rate'), false, 'and is the user''s then');
SELECT lives_ok(
    $$ INSERT INTO smartbox.metrics (metric, position, query, kind, valid_max)
       VALUES ('dependency_latency', 3, 'q', 'latency', 1000) $$, 'a row from a dump takes the place of the shipped one');
SELECT results_eq(
    $$ SELECT query, shipped FROM smartbox.metrics WHERE metric = 'dependency_latency' $$,
    $$ VALUES ('q', false) $$, 'and is what counts');
SELECT lives_ok($$ DELETE FROM smartbox.metrics WHERE metric = 'queue_length' $$, 'one''s own metric can go');

SELECT * FROM finish();
ROLLBACK;
