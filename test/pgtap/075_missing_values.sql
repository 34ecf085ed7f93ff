-- What is unknown is not zero, what stands still is no data, and a model that
-- is missing is replaced by the one that smartbox.model_status names.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL TimeZone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(32);

INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'UTC'), ('vouchers', 'UTC');
CREATE FUNCTION pg_temp.values_at(ts timestamptz) RETURNS float8[] LANGUAGE sql AS $$
    SELECT ARRAY[40 * load * (1 + 0.1 * sin(i * 1.7)), (60 + 25 * load) * (1 + 0.1 * sin(i * 2.3)), 50 * (1 + 0.1 * sin(i * 3.1)),
                 5 * (1 + 0.1 * sin(i * 4.7)), 0.002 * (1 + 0.5 * sin(i * 5.3))]
    FROM (SELECT extract(epoch FROM ts)::bigint / 300 AS i,
                 1.2 - cos((extract(epoch FROM ts)::bigint % 86400) / 86400.0 * 2 * pi()) AS load) AS at
$$;
-- Three weeks, until Monday noon; vouchers has no database, and quiet dependencies now and then.
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', ts, pg_temp.values_at(ts)
FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-22 11:00+00', '5 min') AS ts;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'vouchers', ts, v[1:2] || CASE WHEN extract(hour FROM ts)::int % 3 = 0 THEN 0 ELSE v[3] END || NULL::float8 || v[5]
FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-22 11:00+00', '5 min') AS ts,
     LATERAL pg_temp.values_at(ts) AS v;
SELECT is(count(*), 10::bigint, 'two services are trained') FROM train_models() WHERE status = 'accepted';

-- One sample more, judged: the usual values, with some of them changed.
CREATE FUNCTION pg_temp.judge(of_service text, at timestamptz, changes jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v float8[] := pg_temp.values_at(at);
BEGIN
    IF of_service = 'vouchers' THEN
        v[4] := NULL;
    END IF;
    SELECT array_agg(CASE WHEN changes ? n::text THEN (changes->>n::text)::float8 ELSE v[n] END ORDER BY n) INTO v
    FROM generate_series(1, 5) AS n;
    INSERT INTO smartbox.samples (service, ts, metric_values) VALUES (of_service, at, v);
    RETURN detect_anomalies(of_service, at);
END
$$;
CREATE FUNCTION pg_temp.confidence(of_service text, at timestamptz) RETURNS numeric LANGUAGE sql AS $$
    SELECT round(confidence::numeric, 6) FROM smartbox.detections WHERE service = of_service AND ts = at
$$;

SELECT is(a->>'alert_type' || coalesce(a->>'validation_warnings', ''), 'no_anomaly', 'all is well')
FROM pg_temp.judge('booking', '2024-01-22 11:05+00') AS a;
SELECT is(pg_temp.confidence('booking', '2024-01-22 11:05+00'), 0.9, 'and trusted as the period is');

SELECT unnest(ARRAY[is(a->>'alert_type', 'no_anomaly', 'a metric that disappears is not zero'),
       is(a->'current_metrics'->'request_rate', 'null', 'it is unknown'),
       is(a->'validation_warnings', '["request_rate: unknown, which it usually is not"]', 'which is said')])
FROM pg_temp.judge('booking', '2024-01-22 11:10+00', '{"1": null}') AS a;
SELECT is(pg_temp.confidence('booking', '2024-01-22 11:10+00'), 0.9 * 4 / 5, 'and lowers the confidence by its share');
SELECT unnest(ARRAY[is(a->>'alert_type', 'no_anomaly', 'a value that is no number is not zero either'),
       is(a->'validation_warnings', '["request_rate: not a number, taken as unknown"]', 'it is said once')])
FROM pg_temp.judge('booking', '2024-01-22 11:15+00', '{"1": "NaN"}') AS a;
SELECT unnest(ARRAY[is(a->>'alert_type', 'no_anomaly', 'nor is one that is infinite or negative'),
       is(a->'validation_warnings', '["application_latency: infinite, taken as unknown", "dependency_latency: -1 is below 0, taken as unknown"]', 'both are said')])
FROM pg_temp.judge('booking', '2024-01-22 11:20+00', '{"2": "Infinity", "3": -1}') AS a;
SELECT is(a->>'alert_type' || ' ' || (a#>>'{anomalies,0,name}'), 'anomaly_detected request_rate_low', 'zero is: the requests have stopped')
FROM pg_temp.judge('booking', '2024-01-22 11:25+00', '{"1": 0}') AS a;

SELECT is(a->>'alert_type' || coalesce(a->>'validation_warnings', ''), 'no_anomaly', 'a service that never had a metric does not miss it')
FROM pg_temp.judge('vouchers', '2024-01-22 11:05+00') AS a;
SELECT is(pg_temp.confidence('vouchers', '2024-01-22 11:05+00'), 0.9, 'and is trusted without');
SELECT is(a->>'alert_type' || coalesce(a->>'validation_warnings', ''), 'no_anomaly', 'nor one that is often missing')
FROM pg_temp.judge('vouchers', '2024-01-22 11:10+00', '{"3": null}') AS a;
SELECT is(a->>'alert_type' || coalesce(a->>'validation_warnings', ''), 'no_anomaly', 'zero of what may be zero is no gap')
FROM pg_temp.judge('booking', '2024-01-22 11:30+00', '{"4": 0}') AS a;
SELECT is(pg_temp.confidence('booking', '2024-01-22 11:30+00'), 0.9, 'and costs no confidence');

-- The sample changes after it was judged.
UPDATE smartbox.samples SET metric_values[1] = 0 WHERE service = 'booking' AND ts = '2024-01-22 11:05+00';
SELECT is(detect_anomalies('booking', '2024-01-22 11:05+00')->>'alert_type', 'no_anomaly', 'a judgement stays when its sample is corrected');

-- An incident is open when the source begins to repeat itself.
SELECT is(a#>>'{anomalies,0,metadata,status}', 'SUSPECTED', 'a fault') FROM pg_temp.judge('booking', '2024-01-22 11:35+00', '{"4": 80}') AS a;
SELECT is(a#>>'{anomalies,0,metadata,status}', 'OPEN', 'is an incident') FROM pg_temp.judge('booking', '2024-01-22 11:40+00', '{"4": 81}') AS a;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', '2024-01-22 11:45+00'::timestamptz + n * interval '5 min', pg_temp.values_at('2024-01-22 11:45+00') FROM generate_series(0, 5) AS n;
SELECT is(a->>'alert_type' || coalesce(a->>'validation_warnings', ''), 'no_anomaly', 'the first of equal samples is data')
FROM detect_anomalies('booking', '2024-01-22 11:45+00') AS a;
SELECT unnest(ARRAY[is(a->>'alert_type', 'no_anomaly', 'so is the second'),
       is(a->'validation_warnings', '["every metric repeats its value of 2024-01-22T11:45:00+00:00 exactly, 1 time in a row"]', 'with a warning')])
FROM detect_anomalies('booking', '2024-01-22 11:50+00') AS a;
SELECT unnest(ARRAY[is(a->>'alert_type' || ' ' || (a->>'anomaly_count') || ' ' || (a->>'last_sample'), 'no_data 0 2024-01-22T11:45:00+00:00', 'the third is no data'),
       is(a->'validation_warnings', '["every metric repeats its value of 2024-01-22T11:45:00+00:00 exactly, 2 times in a row: this is no data"]', 'and says why')])
FROM detect_anomalies('booking', '2024-01-22 11:55+00') AS a;
SELECT is(detect_anomalies('booking', '2024-01-22 12:00+00')->>'alert_type', 'no_data', 'and so on');
SELECT is(status || ' ' || missed_cycles, 'RECOVERING 2', 'the incident is held and not resolved by it')
FROM smartbox.incidents WHERE service = 'booking' AND anomaly_name = 'database_latency_high';
SELECT is(a->>'alert_type' || coalesce(a->>'validation_warnings', ''), 'no_anomaly', 'what differs is data again')
FROM pg_temp.judge('booking', '2024-01-22 12:15+00') AS a;

-- A service that stands still by nature is judged as it is.
INSERT INTO smartbox.services (service, time_zone) VALUES ('steady', 'UTC');
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'steady', ts, '{10,100,50,5,0.001}' FROM generate_series('2024-01-21 00:00+00'::timestamptz, '2024-01-22 12:15+00', '5 min') AS ts;
SELECT is(detect_anomalies('steady', '2024-01-22 12:15+00')->>'error_code', 'MODEL_NOT_FOUND', 'a service that never moves has data');

-- Without a model of its own the period has another one's.
DELETE FROM smartbox.models WHERE service = 'booking' AND time_period = 'business_hours';
SELECT unnest(ARRAY[is(a->>'alert_type', 'no_anomaly', 'another model serves'),
       is((SELECT fallback_period || ' ' || fallback_version FROM smartbox.model_status WHERE service = 'booking' AND time_period = 'business_hours'),
          (a#>>'{model,fallback}') || ' ' || (a#>>'{model,version}'), 'which is the one that model_status names')])
FROM pg_temp.judge('booking', '2024-01-22 12:20+00') AS a;
SELECT is(pg_temp.confidence('booking', '2024-01-22 12:20+00'),
    (SELECT round(confidence::numeric, 6) FROM smartbox.model_status WHERE service = 'booking' AND time_period = 'business_hours'),
    'as is the confidence');

SELECT * FROM finish();
ROLLBACK;
