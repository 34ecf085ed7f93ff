-- explain_anomaly(): what detect_anomalies() says, as rows, recording nothing.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(25);
SET LOCAL TimeZone = 'UTC';

CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
INSERT INTO smartbox.services (service, time_zone)
VALUES ('booking', 'Europe/Berlin'), ('new', 'UTC'), ('stuck', 'UTC'), ('empty', 'UTC');
-- The last sample of booking is slow; it has no dependencies, and its database
-- is not asked in the last two.
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT s.service, t.ts, ARRAY[100 * noise(k, 0.07),
    120 * noise(k + 1, 0.06) * CASE WHEN t.ts = '2024-01-31 10:00+00' THEN 6 ELSE 1 END,
    NULL, CASE WHEN t.ts >= '2024-01-31 09:55+00' THEN 0 ELSE 8 * noise(k + 3, 0.08) END, 0.002 * noise(k + 4, 0.2)]
FROM (VALUES ('booking', 1), ('new', 2), ('stuck', 3)) AS s(service, n),
    generate_series('2024-01-01 00:05+00'::timestamptz, '2024-01-31 10:00+00', '5 min') AS t(ts),
    LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + s.n * 7 AS k) AS seed
WHERE s.n = 1 OR t.ts > '2024-01-30 10:00+00';
UPDATE smartbox.samples SET metric_values = '{100,120,NULL,8,0.002}' WHERE service = 'stuck' AND ts > '2024-01-31 09:00+00';
SELECT is(count(*), 5::bigint, 'five models are accepted') FROM train_models(ARRAY['booking']) WHERE status = 'accepted';

-- Before anything is recorded, in a transaction that could not record it.
CREATE FUNCTION explain_read_only(service text, at timestamptz, OUT explanation jsonb) LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL transaction_read_only = on;
    SELECT jsonb_object_agg(e.metric, to_jsonb(e)) INTO explanation FROM explain_anomaly(service, at) AS e;
    RAISE EXCEPTION 'no more';
EXCEPTION WHEN raise_exception THEN
END $$;
CREATE TEMP TABLE explained AS SELECT explain_read_only('booking', '2024-01-31 10:00+00') AS e;
CREATE TEMP TABLE detected AS SELECT detect_anomalies('booking', '2024-01-31 10:00+00') AS payload;

-- An anomaly
SELECT is(payload #>> '{anomalies,0,name}', 'application_latency_high', 'the last sample is slow') FROM detected;
CREATE TEMP TABLE compared AS
SELECT c.key AS metric, c.value::float8 AS contribution, (p->'value')::float8 AS value, (p->'expected')::float8 AS expected,
    (p->'lower')::float8 AS lower, (p->'upper')::float8 AS upper, (p->'deviation_sigma')::float8 AS deviation, (p->'percentile')::float8 AS percentile
FROM detected, jsonb_each(payload #> '{anomalies,0,contributions}') AS c,
    LATERAL (SELECT payload #> ARRAY['anomalies', '0', 'comparison', c.key]) AS n(p);
CREATE FUNCTION pg_temp.same(a float8, b float8) RETURNS boolean LANGUAGE sql AS $$ SELECT abs(a - b) <= 1e-5 * greatest(abs(a), abs(b)) $$;
SELECT is(count(*), 3::bigint, 'three metrics were compared') FROM compared;
SELECT is(count(*), 3::bigint, 'each number is that of the payload, which has six digits')
FROM compared AS c JOIN explained ON true,
    jsonb_to_record(e->c.metric) AS r(value float8, expected float8, lower float8, upper float8, deviation float8, percentile float8, contribution float8)
WHERE pg_temp.same(r.value, c.value) AND pg_temp.same(r.expected, c.expected) AND pg_temp.same(r.lower, c.lower)
    AND pg_temp.same(r.upper, c.upper) AND pg_temp.same(r.deviation, c.deviation) AND pg_temp.same(r.percentile, c.percentile)
    AND pg_temp.same(r.contribution, c.contribution);
SELECT results_eq($$ SELECT metric, unit, stands_out, contribution > 0.5, direction FROM explain_anomaly('booking') WHERE metric <> 'request_rate' $$,
    $$ VALUES ('application_latency', 'ms', true, true, 'high'), ('dependency_latency', 'ms', false, NULL, NULL),
        ('database_latency', 'ms', false, NULL, NULL), ('error_rate', 'ratio', false, false,
        CASE WHEN (SELECT deviation FROM explain_anomaly('booking') WHERE metric = 'error_rate') < 0 THEN 'low' ELSE 'high' END) $$,
    'of the newest sample one row per metric, in their order');
SELECT ok(abs(sum(contribution) - 1) < 1e-9, 'contributions sum to 1') FROM explain_anomaly('booking');
SELECT matches(description, '^[56]\.\d+ times what is expected$', 'in words') FROM explain_anomaly('booking') WHERE stands_out;
SELECT results_eq(
    $$ SELECT metric, value, expected IS NULL, deviation, percentile, description FROM explain_anomaly('booking')
       WHERE metric IN ('dependency_latency', 'database_latency') ORDER BY metric $$,
    $$ VALUES ('database_latency', NULL::float8, false, NULL::float8, NULL::float8, 'nothing happened'),
        ('dependency_latency', NULL, true, NULL, NULL, 'unknown') $$, 'what is missing is unknown, a zero that only says so is nothing');
SELECT results_eq(
    $$ SELECT DISTINCT e.ts, e.time_period, e.model_period, e.model_version FROM explain_anomaly('booking') AS e $$,
    $$ SELECT d.ts, d.time_period, d.time_period, d.model_version FROM smartbox.detections AS d WHERE service = 'booking' $$,
    'it says which sample, and by which model');

-- Nothing wrong
SELECT results_eq(
    $$ SELECT DISTINCT contribution, stands_out, description FROM explain_anomaly('booking', '2024-01-31 09:45+00') WHERE expected IS NOT NULL $$,
    $$ VALUES (0::float8, false, 'as expected') $$, 'in a normal sample nothing stands out');
SELECT is(detect_anomalies('booking', '2024-01-31 09:45+00')->>'alert_type', 'no_anomaly', 'which is no anomaly');
SELECT is(ts, '2024-01-31 09:45+00', 'an instant has the sample of the interval before it')
FROM explain_anomaly('booking', '2024-01-31 09:49:59+00') WHERE metric = 'error_rate';
DELETE FROM smartbox.models WHERE service = 'booking' AND time_period = 'night_hours';
SELECT results_eq($$ SELECT DISTINCT time_period, model_period <> time_period FROM explain_anomaly('booking', '2024-01-31 00:00+00') $$,
    $$ VALUES ('night_hours', true) $$, 'another period''s model serves where there is none');

-- Without a model
SELECT results_eq(
    $$ SELECT bool_and((value IS NOT NULL) = (metric NOT IN ('dependency_latency', 'database_latency'))), bool_or(stands_out),
           count(expected) + count(deviation) + count(contribution) + count(model_period) + count(model_version),
           min(description) FILTER (WHERE metric = 'error_rate') FROM explain_anomaly('new', '2024-01-31 09:55+00') $$,
    $$ VALUES (true, false, 0::bigint, 'nothing to compare with') $$, 'without a model there are values and nothing else');
UPDATE smartbox.samples SET metric_values[2] = 2500 WHERE service = 'new' AND ts = '2024-01-31 10:00+00';
CREATE TEMP TABLE ruled AS SELECT detect_anomalies('new', '2024-01-31 10:00+00') #> '{anomalies,0,contributions}' AS contributions;
SELECT is((SELECT jsonb_object_agg(metric, contribution) FROM explain_anomaly('new') WHERE contribution IS NOT NULL), contributions,
    'a rule that is broken has the contributions of the payload') FROM ruled;
SELECT results_eq($$ SELECT metric, contribution, description FROM explain_anomaly('new') WHERE stands_out $$,
    $$ VALUES ('application_latency', 1::float8, 'beyond what a rule allows') $$, 'and stands out');

-- Nothing to explain
SELECT is_empty($$ SELECT explain_anomaly('empty') $$, 'a service without samples has no rows');
SELECT is_empty($$ SELECT explain_anomaly('booking', '2024-01-31 12:00+00') $$, 'nor an instant without one');
SELECT is(detect_anomalies('stuck')->>'alert_type', 'no_data', 'a stuck service has no data');
SELECT is_empty($$ SELECT explain_anomaly('stuck') $$, 'and nothing to explain');
SELECT isnt_empty($$ SELECT explain_anomaly('stuck', '2024-01-31 08:30+00') $$, 'before that there was');

-- What it refuses
SELECT throws_ok($$ SELECT explain_anomaly('bookin') $$, '42704', 'service "bookin" is not known', 'an unknown service');
SELECT throws_ok($$ SELECT explain_anomaly(NULL) $$, '22004', 'a service''s name must not be null', 'no service');
SELECT throws_ok($$ SELECT explain_anomaly('booking', '-infinity') $$, '22008', 'at must be finite', 'no instant');
SELECT results_eq($$ SELECT service, ts FROM smartbox.detections ORDER BY service COLLATE "C", ts $$,
    $$ VALUES ('booking', '2024-01-31 09:45+00'::timestamptz), ('booking', '2024-01-31 10:00+00'), ('new', '2024-01-31 10:00+00'), ('stuck', '2024-01-31 10:00+00') $$,
    'nothing is recorded but what was detected');

SELECT * FROM finish();
ROLLBACK;
