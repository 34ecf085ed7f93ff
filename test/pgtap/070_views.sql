-- The views: one row per thing.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir helpers/incidents.sql
SELECT plan(17);

SELECT pg_temp.new_service('booking'), pg_temp.new_service('search');
UPDATE smartbox.services SET enabled = false WHERE service = 'search';
SELECT pg_temp.cycle('booking', 0, 'x'), pg_temp.cycle('booking', 5, 'x', 'y'), pg_temp.cycle('booking', 10, 'x'),
       pg_temp.cycle('booking', 15), pg_temp.cycle('booking', 20), pg_temp.cycle('booking', 25), pg_temp.cycle('booking', 80, 'x'),
       pg_temp.cycle('booking', 85, 'x/critical', 'z');

SELECT results_eq(
    $$ SELECT service, category, anomaly_name, status::text, severity::text, duration_minutes, occurrence_count
       FROM smartbox.active_incidents ORDER BY anomaly_name $$,
    $$ VALUES ('booking', 'standard', 'x', 'OPEN', 'critical', 5, 2), ('booking', 'standard', 'z', 'SUSPECTED', 'high', 0, 1) $$,
    'active_incidents');
SELECT results_eq(
    $$ SELECT event_number, event::text, status::text, minutes_since_first_seen, reason
       FROM smartbox.incident_timeline WHERE anomaly_name = 'x' AND ts < '2024-01-15 11:00+00' ORDER BY event_number $$,
    $$ VALUES (1, 'CREATE', 'SUSPECTED', 0, NULL), (2, 'CONFIRM', 'OPEN', 5, NULL), (3, 'CONTINUE', 'OPEN', 10, NULL),
              (4, 'RECOVER', 'RECOVERING', 15, NULL), (5, 'RESOLVE', 'CLOSED', 25, 'resolved') $$,
    'incident_timeline');
SELECT results_eq(
    $$ SELECT ts, anomaly_number, anomaly_name, severity::text, incident_status::text, incident_action::text, occurrence_count
       FROM smartbox.anomalies WHERE ts >= '2024-01-15 11:00+00' ORDER BY ts, anomaly_number $$,
    $$ VALUES ('2024-01-15 11:20+00'::timestamptz, 1, 'x', 'high', 'SUSPECTED', 'CREATE', 1),
              ('2024-01-15 11:25+00', 1, 'x', 'critical', 'OPEN', 'CONFIRM', 2), ('2024-01-15 11:25+00', 2, 'z', 'high', 'SUSPECTED', 'CREATE', 1) $$,
    'anomalies');
SELECT is((SELECT count(*) FROM smartbox.anomalies), 7::bigint, 'one row per anomaly');
SELECT pg_temp.cycle('booking', 82, 'x');
SELECT results_eq(
    $$ SELECT anomaly_name, incident_id FROM smartbox.anomalies WHERE ts = '2024-01-15 11:22+00' $$,
    $$ VALUES ('x', NULL::text) $$, 'one of a late detection has no incident');
SELECT results_eq(
    $$ SELECT anomaly_name, incidents, active_incidents, open_incidents, expired_suspicions, worst_severity::text, mean_minutes_to_resolve, last_seen
       FROM smartbox.pattern_statistics WHERE service = 'booking' ORDER BY anomaly_name $$,
    $$ VALUES ('x', 2::bigint, 1::bigint, 1::bigint, 0::bigint, 'critical', 25::float8, '2024-01-15 11:25+00'::timestamptz),
              ('y', 1, 0, 0, 1, 'high', NULL, '2024-01-15 10:05+00'),
              ('z', 1, 1, 0, 0, 'high', NULL, '2024-01-15 11:25+00') $$,
    'pattern_statistics');

INSERT INTO smartbox.samples (service, ts, metric_values) VALUES
    ('booking', '2024-01-15 10:00+00', '{12.5,80,NULL,0,0.01}'), ('booking', '2024-01-15 10:05+00', '{13}');
SELECT results_eq(
    $$ SELECT ts, metric, value, unit FROM smartbox.metric_values WHERE service = 'booking' AND ts < '2024-01-15 10:05+00' ORDER BY metric $$,
    $$ VALUES ('2024-01-15 10:00+00'::timestamptz, 'application_latency', 80::float8, 'ms'), ('2024-01-15 10:00+00', 'database_latency', 0, 'ms'),
              ('2024-01-15 10:00+00', 'dependency_latency', NULL, 'ms'), ('2024-01-15 10:00+00', 'error_rate', 0.01, 'ratio'),
              ('2024-01-15 10:00+00', 'request_rate', 12.5, 'req/s') $$,
    'metric_values, the unknown one too');
SELECT is((SELECT count(*) || ' ' || count(value) FROM smartbox.metric_values WHERE ts = '2024-01-15 10:05+00'), '5 1',
    'what an older sample does not have is unknown');

INSERT INTO smartbox.models (service, time_period, version, status, is_active, model, samples, trained_at, reason) VALUES
    ('booking', 'business_hours', 1, 'accepted', true, '\x01', 2000, '2024-01-14', NULL),
    ('booking', 'business_hours', 2, 'rejected', false, NULL, 2100, '2024-01-15', 'too many alarms'),
    ('booking', 'weekend_night', 1, 'accepted', true, '\x01', 760, '2024-01-15', NULL),
    ('booking', 'weekend_day', 1, 'insufficient', false, NULL, 20, '2024-01-15', 'needs 100 samples, has 20');
SELECT is((SELECT count(*) FROM smartbox.model_status WHERE service = 'booking'), 5::bigint, 'model_status has a row for each period');
SELECT is((SELECT count(*) FROM smartbox.model_status WHERE service = 'search'), 0::bigint, 'of enabled services');
SELECT results_eq(
    $$ SELECT time_period, is_active, active_version, samples, latest_version, latest_status, missing_samples, remark
       FROM smartbox.model_status WHERE service = 'booking' ORDER BY time_period $$,
    $$ VALUES ('business_hours', true, 1, 2000, 2, 'rejected', 0, 'too many alarms'),
              ('evening_hours', false, NULL, NULL, NULL, NULL, NULL, 'never trained'),
              ('night_hours', false, NULL, NULL, NULL, NULL, NULL, 'never trained'),
              ('weekend_day', false, NULL, NULL, 1, 'insufficient', 980, 'needs 100 samples, has 20'),
              ('weekend_night', true, 1, 760, 1, 'accepted', 240, '240 more samples give full confidence') $$,
    'and says what is missing');
SELECT is((SELECT complete_at FROM smartbox.model_status WHERE service = 'booking' AND time_period = 'weekend_night'),
    '2024-01-22'::timestamptz, '20 hours a week are 240 samples: it is complete in a week');
SELECT is(smartbox.fallback_periods('night_hours'), ARRAY['weekend_night', 'evening_hours', 'weekend_day', 'business_hours'],
    'the nearest in kind serves first');
INSERT INTO smartbox.time_periods VALUES ('lunch', 1, 5, 12, 13, 0.5), ('business_hours', 1, 5, 8, 12, 0.9), ('business_hours', 1, 5, 13, 18, 0.9);
SELECT is(smartbox.fallback_periods('lunch'), ARRAY['business_hours', 'evening_hours', 'night_hours', 'weekend_day', 'weekend_night'],
    'for a period of one''s own the others do, by name');
SELECT results_eq(
    $$ SELECT time_period, based_on, fallback_period, fallback_version, round(confidence::numeric, 4), missing_univariate_samples
       FROM smartbox.model_status WHERE service = 'booking' ORDER BY time_period $$,
    $$ VALUES ('business_hours', 'own samples', NULL, NULL, 0.9, 0), ('evening_hours', NULL, 'business_hours', 1, 0.68, NULL),
              ('lunch', NULL, 'business_hours', 1, 0.425, NULL),
              ('night_hours', NULL, 'weekend_night', 1, 0.6137, NULL), ('weekend_day', NULL, 'business_hours', 1, 0.595, 480),
              ('weekend_night', 'own samples', NULL, NULL, 0.456, 0) $$,
    'which model serves meanwhile, and how far it is trusted');
UPDATE smartbox.models SET coverage = 0.5 WHERE time_period = 'weekend_night';
SELECT is((SELECT complete_at FROM smartbox.model_status WHERE service = 'booking' AND time_period = 'weekend_night'),
    '2024-01-29'::timestamptz, 'in two when every other sample is missing');
UPDATE smartbox.models SET coverage = NULL WHERE time_period = 'weekend_night';
SET smartbox_anomaly.sample_interval = '600s';
SELECT is((SELECT complete_at FROM smartbox.model_status WHERE service = 'booking' AND time_period = 'weekend_night'),
    '2024-01-29'::timestamptz, 'in two with half as many samples');

SELECT * FROM finish();
ROLLBACK;
