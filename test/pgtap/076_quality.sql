-- The quality of samples, in numbers and in words.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL TimeZone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(23);

-- now() stands still within a transaction.
CREATE FUNCTION pg_temp.ago(n int) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT date_bin('5 min', now(), 'epoch') - n * interval '5 min'
$$;
CREATE FUNCTION pg_temp.load(of_service text, oldest int, newest int) RETURNS SETOF void LANGUAGE sql AS $$
    INSERT INTO smartbox.services (service) VALUES (of_service) ON CONFLICT DO NOTHING;
    INSERT INTO smartbox.samples (service, ts, metric_values)
    SELECT of_service, pg_temp.ago(n), ARRAY[10 + sin(n), 80 + sin(n * 2), 20 + sin(n * 3), 5 + sin(n * 5), 0]
    FROM generate_series(newest, oldest) AS n;
    SELECT NULL::void WHERE false
$$;
CREATE FUNCTION pg_temp.verdict(of_service text, of_days int DEFAULT 1) RETURNS text LANGUAGE sql AS $$
    SELECT verdict FROM smartbox.sample_quality WHERE service = of_service AND days = of_days
$$;
CREATE FUNCTION pg_temp.metric_verdict(of_service text, of_metric text, of_days int DEFAULT 1) RETURNS text LANGUAGE sql AS $$
    SELECT verdict FROM smartbox.metric_quality WHERE service = of_service AND metric = of_metric AND days = of_days
$$;

SELECT pg_temp.load('complete', 2015, 0), pg_temp.load('young', 143, 0), pg_temp.load('silent', 2015, 12), pg_temp.load('gaps', 2015, 0),
       pg_temp.load('holes', 2015, 0), pg_temp.load('flat', 287, 0), pg_temp.load('counter', 287, 0), pg_temp.load('refused', 287, 0),
       pg_temp.load('lost', 2015, 0), pg_temp.load('warned', 287, 0), pg_temp.load('disabled', 10, 0);
INSERT INTO smartbox.services (service) VALUES ('never');
UPDATE smartbox.services SET enabled = false WHERE service = 'disabled';
DELETE FROM smartbox.samples WHERE service = 'gaps' AND (ts BETWEEN pg_temp.ago(50) AND pg_temp.ago(15) OR ts = pg_temp.ago(10));
UPDATE smartbox.samples SET metric_values[1] = NULL WHERE service = 'holes' AND extract(minute FROM ts)::int % 15 = 0 AND ts > pg_temp.ago(288);
UPDATE smartbox.samples SET metric_values[2] = 77 WHERE service = 'flat' AND ts BETWEEN pg_temp.ago(40) AND pg_temp.ago(21);
UPDATE smartbox.samples SET metric_values[5] = 0.1 WHERE service = 'flat' AND ts BETWEEN pg_temp.ago(5) AND pg_temp.ago(3);
UPDATE smartbox.samples SET metric_values[1] = 100000 - extract(epoch FROM now() - ts) WHERE service = 'counter';
UPDATE smartbox.samples SET metric_values[3] = CASE WHEN extract(minute FROM ts)::int % 15 = 0 THEN float8 'NaN' ELSE -5 END
WHERE service = 'refused' AND ts > pg_temp.ago(20);
UPDATE smartbox.samples SET metric_values[1] = NULL WHERE service = 'lost' AND ts > pg_temp.ago(400);
UPDATE smartbox.samples SET metric_values[4] = NULL WHERE service = 'lost';
UPDATE smartbox.samples SET warnings = '{a,b}' WHERE service = 'warned' AND ts > pg_temp.ago(100);

SELECT is((SELECT count(*) FROM smartbox.sample_quality), 3 * 11::bigint, 'a row for each enabled service and span');
SELECT is((SELECT count(*) FROM smartbox.metric_quality WHERE service <> 'disabled'), 3 * 11 * 5::bigint, 'and for each of its metrics');
SELECT results_eq(
    $$ SELECT days, as_of, expected_samples, samples, coverage, gaps, longest_gap, last_gap_until, repeated_samples, warnings, last_sample, lag < '5 min', verdict
       FROM smartbox.sample_quality WHERE service = 'complete' ORDER BY days $$,
    $$ VALUES (1, pg_temp.ago(0), 288::bigint, 288::bigint, 1::float8, 0::bigint, NULL::interval, NULL::timestamptz, 0::bigint, 0::bigint, pg_temp.ago(0), true, 'good'),
              (7, pg_temp.ago(0), 2016, 2016, 1, 0, NULL, NULL, 0, 0, pg_temp.ago(0), true, 'good'),
              (30, pg_temp.ago(0), 2016, 2016, 1, 0, NULL, NULL, 0, 0, pg_temp.ago(0), true, 'good') $$,
    'nothing is missing');
SELECT results_eq(
    $$ SELECT expected_samples, samples, coverage, verdict FROM smartbox.sample_quality WHERE service = 'young' AND days = 7 $$,
    $$ VALUES (144::bigint, 144::bigint, 1::float8, 'good') $$, 'nothing is expected before the first sample');
SELECT results_eq(
    $$ SELECT samples, gaps, longest_gap, last_gap_until, lag FROM smartbox.sample_quality WHERE service = 'silent' AND days = 1 $$,
    $$ VALUES (276::bigint, 1::bigint, interval '1 hour', pg_temp.ago(0), now() - pg_temp.ago(12)) $$, 'a service that has fallen silent');
SELECT is(pg_temp.verdict('silent', 7), format('no sample since %s UTC, while others report', to_char(pg_temp.ago(12), 'YYYY-MM-DD HH24:MI')), 'in words');
SELECT results_eq(
    $$ SELECT expected_samples, samples, round(coverage::numeric, 4), gaps, longest_gap, last_gap_until, verdict
       FROM smartbox.sample_quality WHERE service = 'gaps' AND days = 1 $$,
    $$ VALUES (288::bigint, 251::bigint, round(251 / 288.0, 4), 2::bigint, interval '185 min', pg_temp.ago(9),
               '13 % of the expected samples are missing, the longest gap is 3.1 h') $$, 'gaps');
SELECT is(pg_temp.verdict('gaps', 7), 'good', 'they are few within a week');
SELECT is(pg_temp.verdict('never'), 'no sample yet', 'a service without any');
SELECT is(pg_temp.metric_verdict('never', 'request_rate'), 'no samples', 'and its metrics');

SELECT is(pg_temp.verdict('holes'), 'request_rate is missing in 33 % of the samples: check its query', 'a metric that is often missing');
SELECT results_eq(
    $$ SELECT samples, known_values, refused_values, round(missing_share::numeric, 4), last_value > pg_temp.ago(2), needs_attention
       FROM smartbox.metric_quality WHERE service = 'holes' AND metric = 'request_rate' AND days = 1 $$,
    $$ VALUES (288::bigint, 192::bigint, 0::bigint, 0.3333, true, true) $$, 'in numbers');
SELECT is(pg_temp.verdict('flat'), 'application_latency had the same value 20 times in a row: does its source stand still?', 'a flat line');
SELECT is((SELECT array_agg(longest_flat_line ORDER BY metric) FROM smartbox.metric_quality WHERE service = 'flat' AND days = 1),
    '{20,0,0,3,0}', 'zeros are none');
SELECT is(pg_temp.verdict('counter'), 'request_rate only ever rises: is its query a counter without rate()?', 'a counter');
SELECT is(pg_temp.verdict('refused'), 'dependency_latency has 20 values that are no numbers or out of range: check its query', 'values that cannot be');
SELECT is(pg_temp.verdict('lost'),
    format('request_rate has no value any more, the last one was at %s UTC', to_char(pg_temp.ago(400), 'YYYY-MM-DD HH24:MI')), 'a metric that has disappeared');
SELECT is(pg_temp.metric_verdict('lost', 'database_latency', 30), 'the service does not have database_latency', 'is another thing than one that never was');
SELECT is((SELECT last_value FROM smartbox.metric_quality WHERE service = 'lost' AND metric = 'request_rate' AND days = 1), pg_temp.ago(400), 'when it was seen last');
SELECT is(pg_temp.verdict('warned'), '200 warnings in 288 samples: see smartbox.samples.warnings', 'warnings');

-- A sample from the future moves no span.
INSERT INTO smartbox.samples VALUES ('complete', now() + interval '1 day', '{1,1,1,1,1}');
SELECT is(pg_temp.verdict('complete'), 'good', 'the future does not count');
DELETE FROM smartbox.samples WHERE ts > now() OR ts > pg_temp.ago(20);
SELECT is(pg_temp.verdict('complete'), format('no service has a sample since %s UTC', to_char(pg_temp.ago(20), 'YYYY-MM-DD HH24:MI')), 'nothing is collected');
SELECT is((SELECT count(*) FROM smartbox.sample_quality WHERE NOT needs_attention), 0::bigint, 'which concerns them all');

SELECT * FROM finish();
ROLLBACK;
