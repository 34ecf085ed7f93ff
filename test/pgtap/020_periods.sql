-- The periods of the week: every hour, the changes of the clock, the zones,
-- and maps that do not cover the week.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(41);

-- The table of the periods once more, by another way than rows of days and
-- hours: as arithmetic on the hour of the week.
CREATE FUNCTION pg_temp.expected_period(local timestamp) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN monday_first >= 5 THEN CASE WHEN hour - 8 BETWEEN 0 AND 13 THEN 'weekend_day' ELSE 'weekend_night' END
        WHEN (hour + 2) % 24 < 8 THEN 'night_hours'
        WHEN abs(2 * hour - 25) < 10 THEN 'business_hours'
        ELSE 'evening_hours'
    END
    FROM (SELECT (local::date - date '2024-01-01') % 7 AS monday_first, extract(hour FROM local)::int AS hour) AS x
$$;

SELECT is_empty(
    $$ SELECT h, time_period(h, 'UTC') FROM generate_series('2024-01-15 00:00+00'::timestamptz, '2024-01-21 23:00+00', '1 hour') AS h
       WHERE time_period(h, 'UTC') IS DISTINCT FROM pg_temp.expected_period(h AT TIME ZONE 'UTC') $$,
    'all 168 hours in UTC');
SELECT is((SELECT count(*) FROM generate_series('2024-01-15 00:00+00'::timestamptz, '2024-01-21 23:00+00', '1 hour')), 168::bigint,
    'that is 168');
SELECT is_empty(
    $$ SELECT h FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2025-01-01 00:00+00', '15 min') AS h
       WHERE time_period(h, 'Europe/Paris') IS DISTINCT FROM pg_temp.expected_period(h AT TIME ZONE 'Europe/Paris') $$,
    'every quarter of an hour of a year in Paris');
SELECT is_empty(
    $$ SELECT h, zone FROM generate_series('2024-06-01 00:00+00'::timestamptz, '2024-06-08 00:00+00', '15 min') AS h,
           unnest(ARRAY['Asia/Kathmandu', 'America/St_Johns', 'Pacific/Chatham', 'America/New_York']) AS zone
       WHERE time_period(h, zone) IS DISTINCT FROM pg_temp.expected_period(h AT TIME ZONE zone) $$,
    'zones that are not whole hours from UTC');

SELECT is(time_period(local::timestamp AT TIME ZONE 'Europe/Paris', 'Europe/Paris'), period, local)
FROM (VALUES
    ('2024-01-19 17:59:59.999999', 'business_hours'),
    ('2024-01-19 18:00', 'evening_hours'),
    ('2024-01-19 21:59:59', 'evening_hours'),
    ('2024-01-19 22:00', 'night_hours'),
    ('2024-01-19 23:59:59', 'night_hours'),
    ('2024-01-20 00:00', 'weekend_night'),
    ('2024-01-20 07:59:59', 'weekend_night'),
    ('2024-01-20 08:00', 'weekend_day'),
    ('2024-01-21 22:00', 'weekend_night'),
    ('2024-01-21 23:59:59', 'weekend_night'),
    ('2024-01-22 00:00', 'night_hours'),
    ('2024-01-22 05:59:59', 'night_hours'),
    ('2024-01-22 06:00', 'evening_hours'),
    ('2024-01-22 07:59:59', 'evening_hours'),
    ('2024-01-22 08:00', 'business_hours')) AS v(local, period);

-- The clock goes from 02:00 to 03:00 on 31 March 2024, and from 03:00 back to
-- 02:00 on 27 October 2024, both Sundays; 08:00 is an hour nearer to midnight
-- UTC in summer.
SELECT is(time_period('2024-03-30 07:00+00', 'Europe/Paris'), 'weekend_day', 'Saturday before spring: 07:00 UTC is 08:00');
SELECT is(time_period('2024-03-30 06:59+00', 'Europe/Paris'), 'weekend_night', 'and a minute earlier is night');
SELECT is(time_period('2024-03-31 06:00+00', 'Europe/Paris'), 'weekend_day', 'Sunday of spring: 06:00 UTC is 08:00');
SELECT is(time_period('2024-03-31 05:59+00', 'Europe/Paris'), 'weekend_night', 'and a minute earlier is night');
SELECT is(time_period('2024-10-26 06:00+00', 'Europe/Paris'), 'weekend_day', 'Saturday before autumn: 06:00 UTC is 08:00');
SELECT is(time_period('2024-10-27 06:59+00', 'Europe/Paris'), 'weekend_night', 'Sunday of autumn: 06:59 UTC is 07:59');
SELECT is(time_period('2024-10-27 07:00+00', 'Europe/Paris'), 'weekend_day', 'and 07:00 UTC is 08:00');
SELECT results_eq(
    $$ SELECT time_period(h, 'Europe/Paris'), count(*)
       FROM generate_series('2024-10-26 22:00+00'::timestamptz, '2024-10-27 22:55+00', '5 min') AS h GROUP BY 1 ORDER BY 1 $$,
    $$ VALUES ('weekend_day', 14 * 12::bigint), ('weekend_night', 11 * 12::bigint) $$,
    'the Sunday of autumn has 25 hours, one more at night');
SELECT results_eq(
    $$ SELECT time_period(h, 'Europe/Paris'), count(*)
       FROM generate_series('2024-03-30 23:00+00'::timestamptz, '2024-03-31 21:55+00', '5 min') AS h GROUP BY 1 ORDER BY 1 $$,
    $$ VALUES ('weekend_day', 14 * 12::bigint), ('weekend_night', 9 * 12::bigint) $$,
    'the Sunday of spring has 23 hours, one less at night');

-- The zone: of the argument, else of the setting; a service's goes before it.
SET smartbox_anomaly.time_zone = 'Asia/Tokyo';
SELECT is(time_period('2024-01-15 09:00+00'), 'evening_hours', 'without a zone the setting counts: 18:00 in Tokyo');
SELECT is(time_period('2024-01-15 09:00+00', 'UTC'), 'business_hours', 'a zone goes before the setting');
INSERT INTO smartbox.services (service, category, time_zone) VALUES
    ('tokyo', 'standard', NULL), ('paris', 'standard', 'Europe/Paris');
INSERT INTO smartbox.detections (service, ts) VALUES ('tokyo', '2024-01-15 09:00+00'), ('paris', '2024-01-15 09:00+00');
SELECT results_eq(
    $$ SELECT service, time_period FROM smartbox.detections ORDER BY service $$,
    $$ VALUES ('paris', 'business_hours'), ('tokyo', 'evening_hours') $$,
    'a detection''s period is its service''s');
RESET smartbox_anomaly.time_zone;

-- Maps.
SAVEPOINT map;
DELETE FROM smartbox.time_periods WHERE time_period = 'evening_hours' AND start_hour = 6;
SELECT throws_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, '23514', 'time periods do not cover Monday 06:00', 'a gap is refused');
ROLLBACK TO map;
UPDATE smartbox.time_periods SET first_day = 4 WHERE time_period = 'evening_hours' AND start_hour = 6;
SELECT throws_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, '23514', 'time periods do not cover Monday 06:00', 'the first hour that is missing is named');
ROLLBACK TO map;
UPDATE smartbox.time_periods SET last_day = 2 WHERE time_period = 'evening_hours' AND start_hour = 6;
SELECT throws_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, '23514', 'time periods do not cover Wednesday 06:00', 'whatever the day');
ROLLBACK TO map;
UPDATE smartbox.time_periods SET end_hour = 9 WHERE time_period = 'evening_hours' AND start_hour = 6;
SELECT throws_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, '23514', 'time periods cover Monday 08:00 2 times', 'an hour in two periods is refused');
ROLLBACK TO map;
INSERT INTO smartbox.time_periods VALUES ('lunch', 1, 5, 12, 14, 0.5);
SELECT throws_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, '23514', 'time periods do not cover Monday 08:00',
    'a shipped row gives way to a new one; the rest of its hours is missing then');
INSERT INTO smartbox.time_periods VALUES ('business_hours', 1, 5, 8, 12, 0.9), ('business_hours', 1, 5, 14, 18, 0.9);
SELECT lives_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, 'with them covered the map is complete');
SELECT is(time_period('2024-01-15 13:00+00', 'UTC'), 'lunch', 'and counts at once');
ROLLBACK TO map;

-- Moving a border takes two statements, and the check waits for both.
SET CONSTRAINTS ALL DEFERRED;
UPDATE smartbox.time_periods SET end_hour = 19 WHERE time_period = 'business_hours';
UPDATE smartbox.time_periods SET start_hour = 19 WHERE time_period = 'evening_hours' AND start_hour = 18;
SELECT lives_ok($$ SET CONSTRAINTS ALL IMMEDIATE $$, 'a border can be moved');
SELECT set_eq($$ SELECT time_period, start_hour FROM smartbox.time_periods WHERE NOT shipped $$,
    $$ VALUES ('business_hours', 8::smallint), ('evening_hours', 19::smallint) $$, 'what was changed is the user''s');
ROLLBACK TO map;
SELECT throws_ok($$ INSERT INTO smartbox.time_periods VALUES ('x', 1, 5, 22, 6, 0.5) $$, '23514', NULL, 'a row does not pass midnight');

SELECT * FROM finish();
ROLLBACK;
