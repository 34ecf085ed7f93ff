-- The verbs' arguments and errors, without a metric source.
\set VERBOSITY default
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
INSERT INTO smartbox.services (service) VALUES ('booking'), ('search'), ('vouchers'), ('mobile-api');

-- every verb is described
SELECT count(*) >= 10 AS has_verbs,
       array_agg(p.oid::regprocedure) FILTER (WHERE obj_description(p.oid, 'pg_proc') IS NULL) AS not_described
FROM pg_proc AS p
JOIN pg_depend AS e ON e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e'
JOIN pg_extension AS x ON x.oid = e.refobjid AND x.extname = 'smartbox_anomaly'
WHERE p.pronamespace = 'public'::regnamespace;

-- time_period
SELECT time_period('2024-01-15 10:30+00'), time_period('2024-01-15 17:30+00', 'Europe/Paris'),
       time_period(NULL) IS NULL AS no_time;
SELECT time_period('2024-01-15 10:30+00', 'Mars/Olympus_Mons');
SELECT time_period('infinity');

-- score_to_severity
SELECT score_to_severity(-0.61), score_to_severity(-0.6), score_to_severity(-0.3), score_to_severity(-0.1),
       score_to_severity(0), score_to_severity(NULL) IS NULL AS no_score;
SELECT score_to_severity('NaN');

-- fingerprint_id
SELECT fingerprint_id('booking', 'database_latency_high'), fingerprint_id('booking', NULL) IS NULL AS no_name;

-- unknown services: the nearest names are told
SELECT detect_anomalies('bookign');
SELECT detect_anomalies('mobile_api');
SELECT detect_anomalies('no such thing at all');
SELECT detect_anomalies('');
SELECT detect_anomalies(NULL);
SELECT * FROM train_models(ARRAY['booking', 'serch']);
SELECT * FROM run_inference(ARRAY['vuchers']);
SELECT * FROM collect_metrics(ARRAY['bookings']);
SELECT * FROM backfill_metrics(ARRAY['bookings']);

-- arrays that name no service
SELECT * FROM train_models(ARRAY[['booking', 'search'], ['vouchers', 'mobile-api']]);
SELECT * FROM train_models(ARRAY['booking', NULL]);
SELECT * FROM run_inference('{}');

-- no endpoint is configured
SELECT * FROM collect_metrics();
SELECT * FROM backfill_metrics();
SELECT * FROM discover_services();

-- lookback
SELECT * FROM train_models(lookback => '-1 day');
SELECT * FROM train_models(lookback => '0');
SELECT * FROM train_models(lookback => NULL);
SELECT * FROM backfill_metrics(lookback => '-1 day');

-- neither samples nor models
SELECT detect_anomalies('booking') - 'timestamp' - 'time_period' AS answer;
SELECT detect_anomalies('booking', '2024-01-15 10:30+00');
SELECT answer ->> 'service' AS service, answer ->> 'alert_type' AS alert_type FROM run_inference() AS answer;
SELECT detect_anomalies('booking', 'infinity');
SELECT service, period, version, status, samples, reason FROM train_models(ARRAY['booking']) ORDER BY period;
SELECT service, time_period, version, status, is_active, model IS NULL AS no_model FROM smartbox.models ORDER BY time_period;

-- a sample, but no model
INSERT INTO smartbox.samples VALUES ('booking', '2024-01-15 10:30+00', '{40,80,50,5,0.001}');
SELECT jsonb_pretty(detect_anomalies('booking'));

-- nothing that failed has left anything
SELECT service, ts, is_anomaly, no_data FROM smartbox.detections ORDER BY service, ts;
SELECT count(*) FROM smartbox.incidents;
