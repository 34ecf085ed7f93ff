-- What verdicts on incidents do to the next training and to the next detections.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(13);

-- Thirty days of two services, up to a Monday morning.
INSERT INTO smartbox.services (service, category, time_zone, confirmation_cycles) VALUES ('a', 'standard', 'UTC', 2), ('b', 'standard', 'UTC', 2);
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT service, '2024-01-15 09:00+00'::timestamptz - (8640 - n) * interval '5 min',
    ARRAY[50 * exp(0.05 * sin(n * 12.9898) + 0.05 * sin(n * 78.233)), 120 * exp(0.05 * sin(n * 39.425) + 0.05 * sin(n * 11.135)), 40, 8, 0.002]
FROM generate_series(1, 8640) AS n, unnest('{a,b}'::text[]) AS service;
CREATE TEMP TABLE trained AS SELECT service, status FROM train_models() WHERE period = 'business_hours';
SELECT set_eq('SELECT service, status FROM trained', $$ VALUES ('a', 'accepted'), ('b', 'accepted') $$, 'there are models');

-- One sample with a latency, judged.
CREATE FUNCTION pg_temp.judge(of_service text, minute int, latency float8) RETURNS text LANGUAGE plpgsql AS $$
DECLARE at timestamptz := '2024-01-15 09:00+00'::timestamptz + minute * interval '1 min';
BEGIN
    INSERT INTO smartbox.samples (service, ts, metric_values) VALUES (of_service, at, ARRAY[50, latency, 40, 8, 0.002]);
    RETURN detect_anomalies(of_service, at)->>'alert_type';
END
$$;

-- Three times the usual is an anomaly, until somebody says that it is none.
SELECT is(pg_temp.judge('a', 5, 360), 'anomaly_detected', 'three times the usual latency is an anomaly');
SELECT is(pg_temp.judge('a', 10, 360), 'anomaly_detected', 'which is confirmed');
SELECT is(feedback(incident_id, 'not_anomaly')->>'verdict', 'not_anomaly', 'somebody says that it is none')
FROM smartbox.incidents WHERE service = 'a';
SELECT is(pg_temp.judge('a', 15, 370), 'no_anomaly', 'it is not detected again');
SELECT is(pg_temp.judge('a', 20, 800), 'anomaly_detected', 'what goes much further is');
SELECT is(pg_temp.judge('b', 30, 370), 'anomaly_detected', 'for which it is still an anomaly');
SELECT is(feedback(incident_id, 'expected')->>'verdict', 'expected', 'somebody takes it back')
FROM smartbox.incidents WHERE service = 'a' AND anomaly_name = 'application_latency_high' ORDER BY first_seen LIMIT 1;
SELECT is(pg_temp.judge('a', 30, 370), 'anomaly_detected', 'and it is an anomaly again');

-- Which samples teach: an incident of two hours, long ago.
DELETE FROM smartbox.incidents;
INSERT INTO smartbox.incidents (service, incident_id, fingerprint_id, anomaly_name, status, severity, first_seen, last_seen, last_evaluated,
    confirmed_at, resolved_at, resolution_reason)
SELECT service, 'incident_00000000000' || n, fingerprint_id(service, 'x'), 'x', 'CLOSED', 'high', '2024-01-10 10:00+00', '2024-01-10 12:00+00', '2024-01-10 12:00+00',
    confirmed_at::timestamptz, '2024-01-10 12:00+00', 'resolved'
FROM (VALUES ('a', 1, '2024-01-10 10:05+00'), ('b', 2, NULL)) AS v(service, n, confirmed_at);
CREATE FUNCTION pg_temp.left_out(of_service text) RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    PERFORM train_models(ARRAY[of_service]);
    RETURN (SELECT coalesce((card #>> '{left_out,incident}')::float8, 0) FROM smartbox.models
            WHERE service = of_service AND time_period = 'business_hours' ORDER BY version DESC LIMIT 1);
END
$$;
SELECT cmp_ok(pg_temp.left_out('a'), '>', 20::float8, 'a confirmed incident leaves its samples out');
SELECT feedback('incident_000000000001', 'new_trend') IS NOT NULL AS said \gset
SELECT is(pg_temp.left_out('a'), 0::float8, 'when it is a new trend they teach');
SELECT is(pg_temp.left_out('b'), 0::float8, 'those of a suspicion teach');
SELECT feedback('incident_000000000002', 'anomaly') IS NOT NULL AS said \gset
SELECT cmp_ok(pg_temp.left_out('b'), '>', 20::float8, 'unless somebody says that it was an anomaly');

SELECT * FROM finish();
ROLLBACK;
