-- Service objectives: what a row may say, breaches without a model, what
-- nobody is woken for, and the error budget.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir helpers/incidents.sql
SELECT plan(38);

-- Here objectives alone have their say.
UPDATE smartbox.rules SET enabled = false;

SELECT pg_temp.new_service(name) FROM unnest('{booking,search}'::text[]) AS name;
CREATE FUNCTION pg_temp.declare(metric text, acceptable float8, warning float8, objective float8, of_service text DEFAULT 'booking')
RETURNS text LANGUAGE sql AS $$
    SELECT format('INSERT INTO smartbox.slos (service, metric, acceptable, warning, objective) VALUES (%L, %L, %L, %L, %L)',
                  of_service, metric, acceptable, warning, objective)
$$;

SELECT is((SELECT count(*) FROM smartbox.slos), 0::bigint, 'nothing is promised by default');
SELECT throws_ok(pg_temp.declare('application_latency', 300, 600, 500), '23514', NULL, 'limits go one way');
SELECT throws_ok(pg_temp.declare('application_latency', 500, 400, 300), '23514',
    'the limits of application_latency go the wrong way: its high values hurt', 'the one that hurts');
SELECT throws_ok(pg_temp.declare('request_rate', 5, 5, 5), '23514', 'the limits of request_rate do not say which way hurts',
    'or say which one that is');
SELECT throws_ok(pg_temp.declare('error_rate', 0.5, 1, 2), '22003', 'limits of error_rate are outside of its valid range, 0 to 1',
    'two per cent are not 2');
SELECT throws_ok(pg_temp.declare('latency', 1, 2, 3), '23503', 'metric "latency" is not known', 'a metric that nobody knows');
SELECT throws_ok(pg_temp.declare('error_rate', 0, 0, 0.1, 'bookng'), '23503', 'service "bookng" is not known', 'a service that nobody knows');
SELECT throws_ok(pg_temp.declare('error_rate', 0, 0, 'NaN'), '22003', NULL, 'a limit is a number');
SELECT lives_ok(pg_temp.declare('application_latency', 300, 400, 500), 'up to 500 ms');
SELECT lives_ok(pg_temp.declare('request_rate', 20, 10, 5), 'at least 5 requests a second');
SELECT lives_ok(pg_temp.declare('error_rate', 0.002, 0.005, 0.01, '*'), 'everybody: no more than one per cent');
SELECT throws_ok($$ UPDATE smartbox.slos SET objective = 400000 WHERE metric = 'application_latency' $$, '22003', NULL, 'changes are checked too');
SELECT throws_ok($$ UPDATE smartbox.slos SET target = 1 $$, '23514', NULL, 'nobody never fails');
SELECT throws_ok($$ UPDATE smartbox.slos SET busy_factor = 0.5 $$, '23514', NULL, 'busy times are no stricter');

-- Breaches, without any model: what a detection finds minutes after 10:00.
CREATE FUNCTION pg_temp.detect(of_service text, minute int, rate float8, latency float8, errors float8) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO smartbox.samples (service, ts, metric_values)
    VALUES (of_service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 minute', ARRAY[rate, latency, 10, 5, errors]);
    SELECT detect_anomalies(of_service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 minute')
$$;
SELECT is(pg_temp.detect('booking', 0, 50, 499, 0.009)->>'overall_severity', 'none', 'near the limits nothing is wrong by itself');
SELECT pg_temp.detect('booking', 5, 50, 612, 0.001) AS found \gset
SELECT is(:'found'::jsonb->>'alert_type', 'anomaly_detected', 'a breach is an anomaly');
SELECT is(:'found'::jsonb #- '{anomalies,0,metadata}' #> '{anomalies,0}', $${
    "type": "slo", "name": "application_latency_high", "severity": "critical", "confidence_score": 1,
    "description": "application_latency is 612 ms, above the objective of 500 ms",
    "interpretation": "A service objective is broken, whether or not that is unusual here.",
    "slo": {"metric": "application_latency", "state": "breach", "value": 612, "threshold": 500,
            "text": "application_latency is 612 ms, above the objective of 500 ms"},
    "detection_signals": [{"name": "application_latency_high", "metric": "application_latency", "direction": "high", "method": "slo", "threshold": 500}]
}$$::jsonb, 'that says what was promised');
SELECT is(:'found'::jsonb #>> '{anomalies,0,metadata,fingerprint_id}', fingerprint_id('booking', 'application_latency_high'),
    'the fault is the one that any other detector finds');
SELECT is(pg_temp.detect('booking', 10, 50, 600, 0.02)->>'anomaly_count', '1', 'two breaches are one anomaly');
SELECT results_eq($$ SELECT status::text, severity::text, signals FROM smartbox.incidents WHERE service = 'booking' $$,
    $$ VALUES ('OPEN', 'critical', '{application_latency_high,error_rate_high}'::text[]) $$, 'of one incident, which opens');
SELECT is(pg_temp.detect('search', 0, 50, 9000, 0.02) #>> '{anomalies,0,slo,metric}', 'error_rate', 'the one for all holds for the others');
SELECT is(pg_temp.detect('search', 5, 0.1, 9000, 0.02)->>'overall_severity', 'none', 'not with 30 requests');
INSERT INTO smartbox.slos (service, metric, acceptable, warning, objective, enabled) VALUES ('search', 'error_rate', 0, 0, 0.01, false);
SELECT is(pg_temp.detect('search', 10, 50, 9000, 0.02)->>'overall_severity', 'none', 'nor for who has switched it off');
SELECT is(pg_temp.detect('booking', 15, 0, NULL, NULL) #>> '{anomalies,0,slo,text}',
    'request_rate is 0 req/s, below the objective of 5 req/s', 'no requests break a limit from below');

-- Busy times and maintenance, on the clock of the service
INSERT INTO smartbox.calendar (service, kind, starts_at, ends_at) VALUES ('*', 'busy', '2024-01-15 11:00', '2024-01-15 12:00'),
    ('booking', 'maintenance', '2024-01-15 12:00', '2024-01-15 13:00');
SELECT is(pg_temp.detect('booking', 65, 50, 700, 0.001)->>'overall_severity', 'none', 'at a busy time 700 ms are no breach');
SELECT is(pg_temp.detect('booking', 70, 50, 751, 0.001) #>> '{anomalies,0,slo,text}',
    'application_latency is 751 ms, above the objective of 750 ms, at a busy time', '751 are');
SELECT is(pg_temp.detect('booking', 125, 50, 900, 0.1)->>'overall_severity', 'none', 'nothing is promised for a maintenance');

-- What is within wakes nobody, neither when it begins nor when it ends.
CREATE FUNCTION pg_temp.informational(minute int, severity text, informational boolean) RETURNS SETOF void LANGUAGE sql AS $$
    INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
    VALUES ('search', '2024-01-16 10:00+00'::timestamptz + minute * interval '1 minute', true, jsonb_build_object('anomalies',
        jsonb_build_array(jsonb_build_object('name', 'slow', 'severity', severity, 'informational', informational))));
    SELECT NULL::void WHERE false
$$;
SELECT pg_temp.informational(0, 'low', true), pg_temp.informational(5, 'low', true);
SELECT is((SELECT status::text FROM smartbox.incidents WHERE service = 'search' AND anomaly_name = 'slow'), 'OPEN', 'an informational incident opens');
SELECT is((SELECT count(*) FROM smartbox.alerts WHERE service = 'search'), 0::bigint, 'without an alert');
SELECT pg_temp.cycle('search', 1450), pg_temp.cycle('search', 1455), pg_temp.cycle('search', 1460);
SELECT is((SELECT status::text FROM smartbox.incidents WHERE service = 'search' AND anomaly_name = 'slow'), 'CLOSED', 'it closes');
SELECT is((SELECT count(*) FROM smartbox.alerts WHERE service = 'search'), 0::bigint, 'without one');
SELECT pg_temp.informational(60, 'low', true), pg_temp.informational(65, 'low', true), pg_temp.informational(70, 'high', false);
SELECT results_eq($$ SELECT alert_type, severity::text FROM smartbox.alerts WHERE service = 'search' $$,
    $$ VALUES ('anomaly_detected', 'high') $$, 'when it leaves what is acceptable, somebody is told');
SELECT pg_temp.cycle('search', 1515), pg_temp.cycle('search', 1520), pg_temp.cycle('search', 1525);
SELECT is((SELECT count(*) FROM smartbox.alerts WHERE service = 'search' AND alert_type = 'incident_resolved'), 1::bigint, 'and told of its end');

-- The error budget: of 1,000 samples 5 are in breach, 2 of them in the last hour.
DELETE FROM smartbox.samples;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', date_trunc('minute', now()) - n * interval '5 minutes',
    ARRAY[50, CASE WHEN n IN (1, 3, 100, 500, 900) THEN 501 ELSE 500 END, NULL, NULL, 0.5]
FROM generate_series(0, 999) AS n;
SELECT results_eq(
    $$ SELECT samples, breaches, attainment, round(budget_left::numeric, 6), round(burn_rate::numeric, 6), round(burn_rate_1h::numeric, 3),
           last_breach = date_trunc('minute', now()) - interval '5 minutes'
       FROM smartbox.slo_status WHERE service = 'booking' AND metric = 'application_latency' $$,
    $$ VALUES (1000::bigint, 5::bigint, 0.995::float8, 0.5, 0.5, 16.667, true) $$, 'half of the budget is left, and it burns');
SELECT results_eq($$ SELECT metric, budget_left FROM smartbox.slo_status WHERE service = 'booking' AND metric = 'error_rate' $$,
    $$ VALUES ('error_rate', (1 - 1000 / (1 - 0.99::float8) / 1000)) $$, 'an objective for all counts, and a budget can be overdrawn');
SELECT is((SELECT breaches FROM smartbox.slo_status WHERE service = 'booking' AND metric = 'request_rate'), 0::bigint, 'the traffic was there');
UPDATE smartbox.slos SET acceptable = 100, warning = 80, objective = 60 WHERE metric = 'request_rate';
SELECT is((SELECT breaches FROM smartbox.slo_status WHERE service = 'booking' AND metric = 'request_rate'), 1000::bigint, 'but not enough of it');
INSERT INTO smartbox.calendar (kind, starts_at, ends_at) SELECT 'busy', t - interval '50 days', t + interval '1 day' FROM (SELECT now() AT TIME ZONE 'UTC' AS t) AS x;
SELECT is((SELECT sum(breaches) FROM smartbox.slo_status WHERE service = 'booking' AND metric <> 'error_rate'), 0::numeric, 'busy times are judged by wider limits');

SELECT * FROM finish();
ROLLBACK;
