-- expected_values(): what a detection compares with, for every sample.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(22);
SET LOCAL TimeZone = 'UTC';

CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'Europe/Berlin'), ('new', 'UTC');
-- Two anomalous samples at the end of a Wednesday morning, an hour without
-- samples before, no dependencies, and a database that is not always asked.
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT s.service, t.ts, ARRAY[100 * noise(k, 0.07),
    120 * noise(k + 1, 0.06) * CASE WHEN t.ts > '2024-01-31 09:50+00' THEN 6 ELSE 1 END,
    NULL, CASE WHEN t.ts = '2024-01-31 08:00+00' THEN 0 ELSE 8 * noise(k + 3, 0.08) END, 0.002 * noise(k + 4, 0.2)]
FROM (VALUES ('booking', 1), ('new', 2)) AS s(service, n),
    generate_series('2024-01-01 00:05+00'::timestamptz, '2024-01-31 10:00+00', '5 min') AS t(ts),
    LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + s.n * 7 AS k) AS seed
WHERE (s.n = 1 OR t.ts > '2024-01-31 09:00+00')
    AND NOT (t.ts > '2024-01-31 05:00+00' AND t.ts <= '2024-01-31 06:00+00');
SELECT is(count(*), 5::bigint, 'five models are accepted') FROM train_models(ARRAY['booking']) WHERE status = 'accepted';

-- The same as a detection says
CREATE TEMP TABLE cycle AS
SELECT t.ts, detect_anomalies('booking', t.ts) AS payload
FROM unnest('{2024-01-31 09:55+00,2024-01-31 10:00+00}'::timestamptz[]) AS t(ts);
CREATE TEMP TABLE compared AS
SELECT c.ts, m.key AS metric, (m.value->>'value')::float8 AS value, (m.value->>'expected')::float8 AS expected,
    (m.value->>'lower')::float8 AS lower, (m.value->>'upper')::float8 AS upper, (m.value->>'deviation_sigma')::float8 AS sigma
FROM cycle AS c, jsonb_each(c.payload->'anomalies'->0->'comparison') AS m;
SELECT is(count(*), 8::bigint, 'four metrics of two anomalous samples were compared') FROM compared;
SELECT is(count(*), 0::bigint, 'with what is given here; payloads have six digits')
FROM compared AS c LEFT JOIN expected_values('booking', '2024-01-31 09:55+00', '2024-01-31 10:00+00') AS e USING (ts, metric)
WHERE (abs(e.value - c.value) <= 1e-5 * c.value AND abs(e.expected - c.expected) <= 1e-5 * c.expected
    AND abs(e.lower - c.lower) <= 1e-5 * c.lower AND abs(e.upper - c.upper) <= 1e-5 * c.upper
    AND abs(e.deviation_sigma - c.sigma) <= 1e-5 * abs(c.sigma)) IS NOT TRUE;
SELECT is(count(*), 0::bigint, 'wherever it begins')
FROM expected_values('booking', '2024-01-31 09:55+00', '2024-01-31 10:00+00') AS e
    JOIN expected_values('booking', '2024-01-30 00:00+00', '2024-01-31 10:00+00') AS l USING (ts, metric)
WHERE e.expected IS DISTINCT FROM l.expected AND abs(e.expected - l.expected) > 0.02 * e.expected;

-- Normal samples too
CREATE TEMP TABLE day AS SELECT * FROM expected_values('booking', '2024-01-30 00:00+00', '2024-01-31 10:00+00');
SELECT results_eq($$ SELECT metric, unit, count(*) FROM day GROUP BY metric, unit ORDER BY metric $$,
    $$ VALUES ('application_latency', 'ms', 397::bigint), ('database_latency', 'ms', 397), ('dependency_latency', 'ms', 397),
              ('error_rate', 'ratio', 397), ('request_rate', 'req/s', 397) $$, 'one row for each sample and metric, both ends included');
SELECT is(count(*), 0::bigint, 'none where there is no sample') FROM day WHERE ts > '2024-01-31 05:00+00' AND ts <= '2024-01-31 06:00+00';
SELECT cmp_ok(count(*) FILTER (WHERE value BETWEEN lower AND upper)::float8 / count(*), '>', 0.98::float8, 'normal values lie in the band')
FROM day WHERE ts <= '2024-01-31 09:50+00' AND value IS NOT NULL;
SELECT cmp_ok(count(*) FILTER (WHERE value BETWEEN lower AND upper)::float8 / count(*), '<', 1::float8, 'which is no wider than that')
FROM day WHERE ts <= '2024-01-31 09:50+00' AND value IS NOT NULL;
SELECT ok(bool_and(lower < expected AND expected < upper), 'the band is around what is expected') FROM day WHERE expected IS NOT NULL;
SELECT ok(bool_and(value > upper AND deviation_sigma > 10), 'the fault is above it')
FROM day WHERE metric = 'application_latency' AND ts > '2024-01-31 09:50+00';
SELECT ok(bool_and(value IS NULL AND expected IS NULL AND lower IS NULL AND upper IS NULL AND deviation_sigma IS NULL),
    'nothing is expected of a metric that the service does not have') FROM day WHERE metric = 'dependency_latency';
SELECT results_eq($$ SELECT value, deviation_sigma, expected > 0 FROM day WHERE metric = 'database_latency' AND ts = '2024-01-31 08:00+00' $$,
    $$ VALUES (NULL::float8, NULL::float8, true) $$, 'a zero that means nothing happened is no value, and something is expected all the same');
SELECT results_eq($$ SELECT DISTINCT metric FROM expected_values('booking', '2024-01-31', '2024-01-31 10:00', '{error_rate,request_rate}') $$,
    $$ VALUES ('error_rate'), ('request_rate') $$, 'only the metrics that are asked for');
SELECT results_eq($$ SELECT bool_and(expected IS NULL), count(value) > 0 FROM expected_values('new', '2024-01-31', '2024-02-01') $$,
    $$ VALUES (true, true) $$, 'a service without a model has values alone');
SELECT is_empty($$ SELECT FROM expected_values('booking', '2025-01-31', '2025-02-01') $$, 'a span without samples has no rows');

-- Another period's model serves where there is none
UPDATE smartbox.models SET is_active = false WHERE service = 'booking' AND time_period = 'business_hours';
SELECT cmp_ok(count(*) FILTER (WHERE e.expected IS NULL OR abs(e.expected - d.expected) > 0.1 * d.expected), '=', 0::bigint,
    'the model that serves instead expects much the same')
FROM expected_values('booking', '2024-01-31 07:00+00', '2024-01-31 09:00+00', '{request_rate,application_latency}') AS e
    JOIN day AS d USING (ts, metric);

-- What it refuses
PREPARE given(text, timestamptz, timestamptz, text[]) AS SELECT FROM expected_values($1, $2, $3, $4);
SELECT throws_like($$ EXECUTE given('bookin', now(), now(), NULL) $$, 'service "bookin" is not known', 'an unknown service');
SELECT throws_ok($$ EXECUTE given(NULL, now(), now(), NULL) $$, '22004', 'a service''s name must not be null', 'no service');
SELECT throws_ok($$ EXECUTE given('booking', NULL, now(), NULL) $$, '22004', 'since must not be null', 'no beginning');
SELECT throws_ok($$ EXECUTE given('booking', now(), '-infinity', NULL) $$, '22008', 'until must be finite', 'no end');
SELECT throws_ok($$ EXECUTE given('booking', now(), now() - interval '1 s', NULL) $$, '22023', 'since must not be after until', 'a span that ends before it begins');
SELECT throws_ok($$ EXECUTE given('booking', now(), now(), '{latency}') $$, '42704', 'metric "latency" is not watched', 'an unknown metric');

SELECT * FROM finish();
ROLLBACK;
