-- What a detection's payload says about incidents, and what alerts carry.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir helpers/incidents.sql
SELECT plan(17);

SELECT pg_temp.new_service('booking');
SELECT pg_temp.cycle('booking', 0, 'x'), pg_temp.cycle('booking', 5, 'x', 'y/critical');

SELECT is(
    (SELECT payload->'anomalies' FROM smartbox.detections WHERE service = 'booking' AND ts = '2024-01-15 10:05+00'),
    jsonb_build_array(
        jsonb_build_object('name', 'x', 'severity', 'high', 'score', -0.4, 'metadata', jsonb_build_object(
            'fingerprint_id', fingerprint_id('booking', 'x'),
            'incident_id', (SELECT incident_id FROM smartbox.incidents WHERE anomaly_name = 'x'),
            'status', 'OPEN', 'incident_action', 'CONFIRM', 'occurrence_count', 2,
            'first_seen', '2024-01-15T10:00:00+00:00', 'duration_minutes', 5)),
        jsonb_build_object('name', 'y', 'severity', 'critical', 'score', -0.8, 'metadata', jsonb_build_object(
            'fingerprint_id', fingerprint_id('booking', 'y'),
            'incident_id', (SELECT incident_id FROM smartbox.incidents WHERE anomaly_name = 'y'),
            'status', 'SUSPECTED', 'incident_action', 'CREATE', 'occurrence_count', 1,
            'first_seen', '2024-01-15T10:05:00+00:00', 'duration_minutes', 0))),
    'each anomaly says what became of it');
SELECT is(
    (SELECT payload - 'anomalies' FROM smartbox.detections WHERE service = 'booking' AND ts = '2024-01-15 10:05+00'),
    '{"alert_type": "anomaly_detected", "service": "booking", "timestamp": "2024-01-15T10:05:00+00:00",
      "time_period": "business_hours", "overall_severity": "critical", "anomaly_count": 2}'::jsonb,
    'the rest is the detection''s');
SELECT is(
    (SELECT payload FROM smartbox.alerts WHERE service = 'booking'),
    (SELECT payload || jsonb_build_object('anomalies', jsonb_build_array(payload #> '{anomalies,0}'), 'anomaly_count', 1, 'overall_severity', 'high')
     FROM smartbox.detections WHERE service = 'booking' AND ts = '2024-01-15 10:05+00'),
    'an alert is the payload with its own anomaly');
SELECT matches((SELECT string_agg(incident_id, '') FROM smartbox.incidents), '^(incident_[0-9a-f]{12}){2}$', 'the form of an incident''s name');
SELECT is((SELECT incident_id FROM smartbox.incidents WHERE anomaly_name = 'x'),
    'incident_' || left(encode(sha256(convert_to(fingerprint_id('booking', 'x') || '_1705312800.000000', 'UTF8')), 'hex'), 12),
    'which is made of the fingerprint and the first instant');

-- What was in the payload already stays.
INSERT INTO smartbox.detections (service, ts, time_period, is_anomaly, severity, payload) VALUES
    ('booking', '2024-01-15 10:10+00', 'business_hours', true, 'high',
     '{"alert_type": "anomaly_detected", "service": "booking", "overall_severity": "high", "anomaly_count": 1,
       "current_metrics": {"request_rate": 12.5}, "validation_warnings": ["w"],
       "anomalies": [{"name": "x", "severity": "critical", "score": -0.7, "type": "rule", "description": "slow",
                      "confidence_score": 0.5, "metadata": {"rule": 7}}]}');
SELECT is((SELECT payload->'current_metrics'->>'request_rate' FROM smartbox.alerts WHERE severity = 'critical'), '12.5', 'an alert has the metrics');
SELECT is((SELECT payload #>> '{anomalies,0,metadata,rule}' FROM smartbox.alerts WHERE severity = 'critical'), '7', 'and the anomaly''s own metadata');
SELECT results_eq(
    $$ SELECT severity::text, score, confidence, description FROM smartbox.incidents WHERE anomaly_name = 'x' $$,
    $$ VALUES ('critical', -0.7::float8, 0.5::float8, 'slow') $$, 'the incident takes the worst, and the last words');
SELECT is((SELECT details FROM smartbox.incident_events WHERE event = 'ESCALATE'), '{"from": "high", "to": "critical"}'::jsonb, 'an escalation says from where to where');
SELECT is((SELECT payload #>> '{anomalies,0,metadata,incident_action}' FROM smartbox.alerts WHERE severity = 'critical'), 'CONTINUE', 'it is a CONTINUE to who knows no more');

-- The end
SELECT pg_temp.cycle('booking', 15), pg_temp.cycle('booking', 20);
SELECT is((SELECT payload ? 'resolved_incidents' FROM smartbox.detections WHERE ts = '2024-01-15 10:15+00'), false, 'nothing is resolved yet');
SELECT pg_temp.cycle('booking', 25);
SELECT is(
    (SELECT payload FROM smartbox.alerts WHERE alert_type = 'incident_resolved'),
    jsonb_build_object('alert_type', 'incident_resolved', 'service', 'booking', 'timestamp', '2024-01-15T10:25:00+00:00',
        'incident_id', (SELECT incident_id FROM smartbox.incidents WHERE anomaly_name = 'x'),
        'fingerprint_id', fingerprint_id('booking', 'x'), 'anomaly_name', 'x',
        'resolution_details', jsonb_build_object('final_severity', 'critical', 'total_occurrences', 3, 'incident_duration_minutes', 25,
            'first_seen', '2024-01-15T10:00:00+00:00', 'reason', 'resolved')),
    'a resolution');
SELECT is(
    (SELECT payload->'resolved_incidents' FROM smartbox.detections WHERE ts = '2024-01-15 10:25+00'),
    (SELECT jsonb_agg(payload) FROM smartbox.alerts WHERE alert_type = 'incident_resolved'),
    'is in the payload of the cycle that closed it, without the suspicion that expired');
SELECT is((SELECT resolved_at FROM smartbox.incidents WHERE anomaly_name = 'x'), '2024-01-15 10:25+00', 'an incident ends at the cycle that closed it');
SELECT results_eq(
    $$ SELECT alert_number, alert_type FROM smartbox.alerts WHERE service = 'booking' ORDER BY alert_number $$,
    $$ VALUES (1, 'anomaly_detected'), (2, 'anomaly_detected'), (3, 'incident_resolved') $$, 'alerts are numbered in order');

-- A quiet payload is the detector's own.
INSERT INTO smartbox.detections (service, ts, payload) VALUES ('booking', '2024-01-15 10:30+00', '{"alert_type": "no_anomaly", "anomalies": []}');
SELECT is((SELECT payload FROM smartbox.detections WHERE ts = '2024-01-15 10:30+00'), '{"alert_type": "no_anomaly", "anomalies": []}'::jsonb,
    'a quiet payload stays as it is');

-- Rows that were processed elsewhere.
INSERT INTO smartbox.detections (service, ts, is_anomaly, severity, processed_at) VALUES ('booking', '2024-01-15 11:30+00', true, 'critical', now());
SELECT is((SELECT count(*) FROM smartbox.incidents), 2::bigint, 'a row that comes with processed_at moves nothing');

SELECT * FROM finish();
ROLLBACK;
