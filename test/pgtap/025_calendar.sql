-- The calendar: entries, their ends, and what they mean on the clock of each
-- service.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(31);

INSERT INTO smartbox.services (service, time_zone) VALUES ('paris', 'Europe/Paris'), ('utc', 'UTC'), ('tokyo', 'Asia/Tokyo');

-- What a row may look like.
INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('holiday', '2024-12-25');
SELECT results_eq('SELECT service, ends_at FROM smartbox.calendar', $$ VALUES ('*', '2024-12-26 00:00'::timestamp) $$,
    'an entry without an end ends with its day, and is for all');
INSERT INTO smartbox.calendar (service, kind, starts_at) VALUES ('utc', 'busy', '2024-06-01 23:59:59');
SELECT is((SELECT ends_at FROM smartbox.calendar WHERE service = 'utc'), '2024-06-02'::timestamp, 'also late in that day');
UPDATE smartbox.calendar SET ends_at = NULL, starts_at = '2024-06-03 10:00' WHERE service = 'utc';
SELECT is((SELECT ends_at FROM smartbox.calendar WHERE service = 'utc'), '2024-06-04'::timestamp, 'an end that is taken away too');
SELECT throws_ok($$ INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('vacation', '2024-12-25') $$, '23514', NULL, 'no other kinds');
SELECT throws_ok($$ INSERT INTO smartbox.calendar (kind, starts_at, ends_at) VALUES ('busy', '2024-12-25', '2024-12-25') $$,
    '23514', NULL, 'no empty entry');
SELECT throws_ok($$ INSERT INTO smartbox.calendar (kind, starts_at, ends_at) VALUES ('busy', '2024-12-25', '2024-12-24') $$,
    '23514', NULL, 'none that ends before it begins');
SELECT throws_ok($$ INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('busy', 'infinity') $$, '23514', NULL, 'none at the end of time');
SELECT throws_ok($$ INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('holiday', '2024-12-25') $$, '23505', NULL, 'none twice');

-- A holiday is a day on each clock, midnight to midnight.
SELECT is(smartbox.calendar_kinds(service, at::timestamp AT TIME ZONE zone), kinds::text[], service || ' ' || at)
FROM (VALUES
    ('paris', 'Europe/Paris', '2024-12-24 23:59:59', '{}'),
    ('paris', 'Europe/Paris', '2024-12-25 00:00', '{holiday}'),
    ('paris', 'Europe/Paris', '2024-12-25 23:59:59', '{holiday}'),
    ('paris', 'Europe/Paris', '2024-12-26 00:00', '{}'),
    ('tokyo', 'Asia/Tokyo', '2024-12-24 23:59:59', '{}'),
    ('tokyo', 'Asia/Tokyo', '2024-12-25 00:00', '{holiday}'),
    ('tokyo', 'Asia/Tokyo', '2024-12-26 00:00', '{}')) AS v(service, zone, at, kinds);
SELECT is(smartbox.service_time_period('paris', '2024-12-25 10:00+01'), 'weekend_day', 'its day is one of the weekend');
SELECT is(smartbox.service_time_period('paris', '2024-12-25 23:00+01'), 'weekend_night', 'and its night');
SELECT is(smartbox.service_time_period('paris', '2024-12-24 23:00+01'), 'night_hours', 'the night before is one of the week');
SELECT is(time_period('2024-12-25 10:00+01', 'Europe/Paris'), 'business_hours', 'time_period() knows no calendar');
SELECT throws_ok($$ SELECT smartbox.service_time_period('pariss', now()) $$, NULL, NULL, 'a service that nobody knows is an error');

-- A maintenance covers the samples that describe it.
INSERT INTO smartbox.calendar (service, kind, starts_at, ends_at) VALUES
    ('paris', 'maintenance', '2024-03-31 01:00', '2024-03-31 04:00'),
    ('paris', 'maintenance', '2024-03-31 03:30', '2024-03-31 05:00'),
    ('*', 'maintenance', '2024-10-27 02:30', '2024-10-27 04:00');
SELECT is(smartbox.calendar_kinds(service, at::timestamptz), kinds::text[], service || ' ' || at || ' ' || why)
FROM (VALUES
    ('paris', '2024-03-31 00:00+00', '{}', 'a sample at the beginning describes what was before'),
    ('paris', '2024-03-31 00:05+00', '{maintenance}', 'and the next one the maintenance'),
    ('paris', '2024-03-31 02:15+00', '{maintenance}', 'two entries that overlap are one span'),
    ('paris', '2024-03-31 03:00+00', '{maintenance}', 'a clock that skips an hour: 05:00 is 03:00 UTC'),
    ('paris', '2024-03-31 03:05+00', '{}', 'and after it'),
    ('utc', '2024-03-31 02:00+00', '{}', 'another service has its own'),
    ('paris', '2024-10-27 01:30+00', '{}', 'of a time that comes twice'),
    ('paris', '2024-10-27 01:35+00', '{maintenance}', 'the second counts'),
    ('utc', '2024-10-27 02:35+00', '{maintenance}', 'on its own clock')) AS v(service, at, kinds, why);

INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('busy', '2024-12-25'), ('maintenance', '2024-12-25 09:00');
SELECT is(smartbox.calendar_kinds('paris', '2024-12-25 12:00+01'), '{holiday,maintenance,busy}', 'a day can be several things');
DELETE FROM smartbox.services WHERE service = 'utc';
SELECT is_empty($$ SELECT FROM smartbox.calendar WHERE service = 'utc' $$, 'entries go with their service');

SELECT * FROM finish();
ROLLBACK;
