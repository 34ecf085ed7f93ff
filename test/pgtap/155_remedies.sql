-- try_remedies(): what it proposes for which incident, and what it counts.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(16);

CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'UTC'), ('search', 'UTC');

-- Two times slow: 6 times by what the model knows, and once beyond a limit.
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT s.service, t.ts, ARRAY[100 * noise(k, 0.07),
    120 * noise(k + 1, 0.06) * CASE WHEN s.n = 1 AND t.ts BETWEEN '2024-01-30 10:00+00' AND '2024-01-30 10:30+00' THEN 6
        WHEN s.n = 1 AND t.ts BETWEEN '2024-01-31 10:00+00' AND '2024-01-31 10:30+00' THEN 10 ELSE 1 END,
    40 * noise(k + 2, 0.08), 8 * noise(k + 3, 0.08), 0.002 * noise(k + 4, 0.2)]
FROM (VALUES ('booking', 1), ('search', 2)) AS s(service, n),
    generate_series('2024-01-01 00:05+00'::timestamptz, '2024-01-31 16:00+00', '5 min') AS t(ts),
    LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + s.n * 7 AS k) AS seed
WHERE NOT (s.n = 2 AND t.ts BETWEEN '2024-01-31 12:00+00' AND '2024-01-31 13:00+00');
SELECT count(*) AS trained FROM train_models() \gset
DELETE FROM smartbox.incidents;

CREATE FUNCTION pg_temp.live(of_service text, since timestamptz, until timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id text;
BEGIN
    PERFORM detect_anomalies(of_service, ts) FROM generate_series(since, until, '5 min') AS ts;
    SELECT incident_id INTO STRICT id FROM smartbox.incidents AS i
    WHERE i.service = of_service AND i.first_seen >= since AND i.confirmed_at IS NOT NULL;
    RETURN id;
END
$$;
CREATE TEMP TABLE it AS
SELECT pg_temp.live('booking', '2024-01-30 10:00+00', '2024-01-30 11:00+00') AS slow,
    pg_temp.live('booking', '2024-01-31 10:00+00', '2024-01-31 11:00+00') AS slower,
    pg_temp.live('search', '2024-01-31 11:55+00', '2024-01-31 13:30+00') AS silent;

CREATE FUNCTION pg_temp.bar_for(id text, OUT options jsonb, OUT faults_missed bigint) LANGUAGE sql AS
$$ SELECT options, faults_missed FROM try_remedies(id, '2024-01-29') OFFSET 1 LIMIT 1 $$;

SELECT results_eq(
    $$ SELECT remedy, stops_it, alarms, others_stopped, faults_missed, others_new FROM it, try_remedies(slow, '2024-01-29') $$,
    $$ VALUES ('as it is', false, 2::bigint, 0::bigint, 0::bigint, 0::bigint),
              ('say that it is nothing: the bar rises', true, 1, 0, 0, 0),
              ('wait for more cycles before anybody is told', false, 2, 0, 0, 0),
              ('ask for what is ten times as rare', false, 2, 0, 0, 0) $$,
    'the bar stops the alarm and leaves the worse one');
SELECT results_eq(
    $$ SELECT remedy, stops_it, alarms, others_stopped, faults_missed FROM it, try_remedies(slower, '2024-01-29') LIMIT 2 $$,
    $$ VALUES ('as it is', false, 2::bigint, 0::bigint, 0::bigint),
              ('say that it is nothing: the bar rises, and the limit of the rule', true, 0, 1, 0) $$,
    'where a rule was broken, its limit rises too, and takes the smaller one along');
SELECT is((options #>> '{rules,0,threshold}')::numeric,
    (SELECT round(1.25 * max(metric_values[2])::numeric, -1) FROM smartbox.samples WHERE service = 'booking'), 'a quarter beyond what was seen')
FROM it, pg_temp.bar_for(slower);
SELECT is(tried_since, '2024-01-17 16:00+00'::timestamptz, 'tried on two weeks') FROM it, try_remedies(slower) LIMIT 1;
SELECT feedback(slow, 'anomaly') ->> 'verdict' AS verdict FROM it \gset
SELECT is(faults_missed, 1::bigint, 'what people called a fault is missed') FROM it, pg_temp.bar_for(slower);
SELECT feedback(slow, 'expected') ->> 'verdict' AS verdict FROM it \gset
INSERT INTO smartbox.past_incidents (service, started_at, title) VALUES ('booking', '2024-01-30 10:10+00', 'disk full');
SELECT is(faults_missed, 1::bigint, 'and so is what a ticket says') FROM it, pg_temp.bar_for(slower);
SELECT results_eq(
    $$ SELECT remedy, stops_it FROM it, try_remedies(silent, '2024-01-29') $$,
    $$ VALUES ('as it is', false), ('wait for more cycles before anybody is told', false) $$,
    'for silence there is nothing but patience');
SELECT is((SELECT count(*) FROM smartbox.signal_bars) + (SELECT count(*) FROM smartbox.rules WHERE NOT shipped), 0::bigint, 'nothing was changed');

-- What it proposes can be run, and does it.
CREATE FUNCTION pg_temp.make(id text, place integer) RETURNS SETOF void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE (SELECT statement FROM try_remedies(id) OFFSET place LIMIT 1);
    RETURN;
END
$$;
SAVEPOINT before;
SELECT pg_temp.make(slower, 1) FROM it;
SELECT is((stops_it, alarms)::text, '(t,0)', 'the bar and the limit are as they were tried') FROM it, try_remedies(slower, '2024-01-29') LIMIT 1;
SELECT results_eq(
    $$ SELECT service, comparison, severity::text, min_requests, enabled FROM smartbox.rules WHERE NOT shipped $$,
    $$ VALUES ('booking', 'above', 'high', 20::float8, true) $$, 'the limit is the service''s own');
ROLLBACK TO before;
SELECT pg_temp.make(slow, 2), pg_temp.make(slow, 3) FROM it;
SELECT is((confirmation_cycles, false_alarms_per_week)::text, '(6,0.2)', 'so are the cycles and the budget') FROM smartbox.services WHERE service = 'booking';

-- What it refuses
SELECT throws_ok($$ SELECT try_remedies('incident_000000000000') $$, 'P0002', 'incident "incident_000000000000" is not known', 'an unknown incident');
SELECT throws_ok($$ SELECT try_remedies(NULL) $$, 'P0002', 'the id of the incident must not be null', 'none');
SELECT throws_ok(format('SELECT try_remedies(%L, %L)', slow, '2025-01-01 00:00+00'), '55000', NULL, 'a time without samples') FROM it;
DELETE FROM smartbox.samples WHERE service = 'booking';
SELECT throws_ok(format('SELECT try_remedies(%L)', slow), '55000', NULL, 'and a service without any') FROM it;
SELECT lives_ok(format('SELECT count(*) FROM try_remedies(%L)', silent), 'but not another') FROM it;

SELECT * FROM finish();
ROLLBACK;
