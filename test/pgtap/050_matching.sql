-- Which incident an anomaly belongs to, what may not be done by hand, and that
-- a replay gives the same.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir helpers/incidents.sql
SELECT plan(45);

-- Anomalies with signals: {"name": ["signal", ...], ...}
CREATE FUNCTION pg_temp.signals(of_service text, minute int, anomalies json) RETURNS SETOF void LANGUAGE sql AS $$
    INSERT INTO smartbox.detections (service, ts, time_period, is_anomaly, severity, payload)
    SELECT of_service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 minute', 'business_hours', true, 'high',
        jsonb_build_object('anomalies', jsonb_agg(jsonb_build_object('name', a.key, 'severity', 'high',
            'detection_signals', (SELECT jsonb_agg(jsonb_build_object('name', s)) FROM json_array_elements_text(a.value) AS s))))
    FROM json_each(anomalies) AS a;
    SELECT NULL::void WHERE false
$$;

CREATE FUNCTION pg_temp.names(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s', anomaly_name, status, occurrence_count), ', ' ORDER BY first_seen, anomaly_name)
    FROM smartbox.incidents WHERE service = of_service
$$;

-- Two faults at once
SELECT pg_temp.new_service('a');
SELECT pg_temp.cycle('a', 0, 'x', 'y'), pg_temp.cycle('a', 5, 'y', 'x'), pg_temp.cycle('a', 10, 'y');
SELECT is(pg_temp.names('a'), 'x RECOVERING 2, y OPEN 3', 'two faults are two incidents, each with its own life');
SELECT is(pg_temp.alerts('a'), 'anomaly_detected high@5, anomaly_detected high@5', 'and two alerts');
SELECT is((SELECT string_agg(payload #>> '{anomalies,0,name}' || ' ' || jsonb_array_length(payload->'anomalies') || ' ' || (payload->>'anomaly_count'), ', ' ORDER BY payload #>> '{anomalies,0,name}')
           FROM smartbox.alerts WHERE service = 'a'), 'x 1 1, y 1 1', 'each with its own anomaly only');
SELECT results_eq(
    $$ SELECT fingerprint_id, first_seen, last_seen, incident_count FROM smartbox.fingerprints WHERE service = 'a' ORDER BY anomaly_name $$,
    $$ VALUES (fingerprint_id('a', 'x'), '2024-01-15 10:00+00'::timestamptz, '2024-01-15 10:05+00'::timestamptz, 1),
              (fingerprint_id('a', 'y'), '2024-01-15 10:00+00', '2024-01-15 10:10+00', 1) $$, 'two fingerprints');

-- A service's incidents are its own.
SELECT pg_temp.new_service('b');
SELECT pg_temp.cycle('b', 0, 'x');
SELECT is(pg_temp.names('a'), 'x RECOVERING 2, y OPEN 3', 'another service''s fault is another incident');
SELECT isnt(fingerprint_id('a', 'x'), fingerprint_id('b', 'x'), 'with another fingerprint');

-- The same fault by another name
SELECT pg_temp.new_service('c');
SELECT pg_temp.signals('c', 0, '{"slow": ["latency_high"]}'), pg_temp.signals('c', 5, '{"database_bottleneck": ["database_high", "latency_high"]}');
SELECT is(pg_temp.names('c'), 'slow OPEN 2', 'another name with a signal in common is the same incident');
SELECT is((SELECT details->>'anomaly_name' FROM smartbox.incident_events WHERE service = 'c' AND event = 'CONFIRM'), 'database_bottleneck',
    'the event says the new name');
SELECT is((SELECT signals FROM smartbox.incidents WHERE service = 'c'), ARRAY['database_bottleneck', 'database_high', 'latency_high', 'slow'],
    'the incident knows all of them');
SELECT is((SELECT payload #>> '{anomalies,0,metadata,fingerprint_id}' FROM smartbox.detections WHERE service = 'c' ORDER BY ts DESC LIMIT 1),
    fingerprint_id('c', 'slow'), 'and keeps its fingerprint');
SELECT pg_temp.signals('c', 10, '{"database_high": []}');
SELECT is(pg_temp.names('c'), 'slow OPEN 3', 'a signal by itself is still the same');
SELECT pg_temp.signals('c', 15, '{"errors": ["error_rate_high"]}');
SELECT is(pg_temp.names('c'), 'slow RECOVERING 3, errors SUSPECTED 1', 'something with nothing in common is another');
SELECT pg_temp.cycle('c', 20, 'slow', 'errors');
SELECT is(pg_temp.names('c'), 'slow OPEN 4, errors OPEN 2', 'and both go on');
SELECT pg_temp.signals('c', 25, '{"errors": ["latency_high"], "slow": ["error_rate_high"]}');
SELECT is(pg_temp.names('c'), 'slow OPEN 5, errors OPEN 3', 'its own name counts for more than a signal');
SELECT pg_temp.signals('c', 30, '{"database_bottleneck": ["error_rate_high"], "slow": []}');
SELECT is(pg_temp.names('c'), 'slow OPEN 6, errors OPEN 4', 'whatever the order');
SELECT pg_temp.new_service('k');
SELECT pg_temp.signals('k', 0, '{"slow": ["latency_high"]}'), pg_temp.signals('k', 5, '{"p": ["latency_high"], "q": ["latency_high"]}');
SELECT is(pg_temp.names('k'), 'slow OPEN 2, q SUSPECTED 1', 'an incident is matched once in a cycle');
SELECT is(pg_temp.events('k'), 'CREATE SUSPECTED@0, CONFIRM OPEN@5 | CREATE SUSPECTED@5', 'the other one begins its own');

-- Signals may be plain texts; the same name twice is one fault.
SELECT pg_temp.new_service('d');
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('d', '2024-01-15 10:00+00', true,
    '{"anomalies": [{"name": "x", "score": -0.4, "detection_signals": ["s"]}, {"name": "x", "score": -0.7}]}');
SELECT is(pg_temp.names('d'), 'x SUSPECTED 1', 'a name twice in one detection is one incident');
SELECT is((SELECT signals FROM smartbox.incidents WHERE service = 'd'), ARRAY['s', 'x'], 'signals may be texts');
SELECT is((SELECT count(DISTINCT incident_id) || ' ' || count(*) FROM smartbox.anomalies WHERE service = 'd'), '1 2', 'both say which');

-- Rows that people insert without a payload
SELECT pg_temp.new_service('e');
INSERT INTO smartbox.detections (service, ts, is_anomaly, score) VALUES ('e', '2024-01-17 02:00+00', true, -0.65);
SELECT is(pg_temp.names('e'), 'anomaly SUSPECTED 1', 'is_anomaly alone is an anomaly');
SELECT results_eq(
    $$ SELECT time_period, severity::text, payload->>'alert_type', payload->>'service', payload->>'timestamp', payload->>'overall_severity',
              (payload->>'anomaly_count')::int, payload #>> '{anomalies,0,severity}'
       FROM smartbox.detections WHERE service = 'e' $$,
    $$ VALUES ('night_hours', 'critical', 'anomaly_detected', 'e', '2024-01-17T02:00:00+00:00', 'critical', 1, 'critical') $$,
    'what was left out is filled in');
SELECT throws_ok(
    $$ INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('e', '2024-01-18', true, '{"anomalies": [{"name": "x", "score": "bad"}]}') $$,
    '22P02', NULL, 'a score is a number');
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('e', '2024-01-18', true, '{"anomalies": ["x"]}');
SELECT is((SELECT payload #>> '{anomalies,0,name}' FROM smartbox.detections WHERE service = 'e' AND ts = '2024-01-18'), 'anomaly',
    'a list of something else is no list of anomalies');
INSERT INTO smartbox.detections (service, ts, payload) VALUES ('e', '2024-01-19', '{"anomalies": [{"name": "slo", "severity": "low"}]}');
SELECT is((SELECT status::text FROM smartbox.incidents WHERE service = 'e' ORDER BY first_seen DESC LIMIT 1), 'SUSPECTED',
    'anomalies of a detection that is none are for information');
SELECT is((SELECT missed_cycles FROM smartbox.incidents WHERE service = 'e' ORDER BY first_seen DESC LIMIT 1), 1, 'the cycle is a quiet one');

-- The numbers are the service's, else the category's.
UPDATE smartbox.service_categories SET confirmation_cycles = 3, resolution_grace_cycles = 2 WHERE category = 'standard';
SELECT pg_temp.new_service('f'), pg_temp.new_service('g', 1, 4);
SELECT pg_temp.cycle(s, n * 5, 'x') FROM unnest(ARRAY['f', 'g']) AS s, generate_series(0, 1) AS n;
SELECT is(pg_temp.incidents('f'), 'SUSPECTED 2/2/0 high', 'three confirmation cycles of the category');
SELECT is(pg_temp.incidents('g'), 'OPEN 2/2/0 high', 'one of the service');
SELECT pg_temp.cycle(s, 10, 'x') FROM unnest(ARRAY['f', 'g']) AS s;
SELECT pg_temp.cycle(s, 15 + 5 * n) FROM unnest(ARRAY['f', 'g']) AS s, generate_series(0, 1) AS n;
SELECT is(pg_temp.incidents('f'), 'CLOSED 3/0/2 high (resolved)', 'two grace cycles of the category');
SELECT is(pg_temp.incidents('g'), 'RECOVERING 3/0/2 high', 'four of the service');

UPDATE smartbox.service_categories SET confirmation_cycles = 2, resolution_grace_cycles = 3 WHERE category = 'standard';

-- By hand
CREATE FUNCTION pg_temp.put(new_status text) RETURNS text LANGUAGE sql AS $$
    SELECT format($f$ UPDATE smartbox.incidents SET status = %L,
                          resolved_at = CASE WHEN %1$L = 'CLOSED' THEN last_seen END,
                          resolution_reason = CASE WHEN %1$L = 'CLOSED' THEN 'by hand' END
                      WHERE service = 'h' $f$, new_status)
$$;
SELECT pg_temp.new_service('h');
SELECT pg_temp.cycle('h', 0, 'x');
SELECT throws_ok(pg_temp.put('RECOVERING'), '23514',
    format('incident %s of service "h" cannot go from SUSPECTED to RECOVERING', (SELECT incident_id FROM smartbox.incidents WHERE service = 'h')),
    'SUSPECTED → RECOVERING is refused');
SELECT throws_ok(pg_temp.put('OPEN'), '23514', NULL, 'SUSPECTED → OPEN without a confirmation is refused');
SAVEPOINT hand;
SELECT lives_ok(pg_temp.put('CLOSED'), 'SUSPECTED → CLOSED is possible');
SELECT throws_ok(pg_temp.put('OPEN'), '23514', NULL, 'what was never confirmed stays closed');
SELECT throws_ok(pg_temp.put('SUSPECTED'), '23514', NULL, 'CLOSED → SUSPECTED is refused');
ROLLBACK TO hand;
SELECT pg_temp.cycle('h', 5, 'x');
SELECT throws_ok(pg_temp.put('SUSPECTED'), '23514', NULL, 'OPEN → SUSPECTED is refused');
SELECT lives_ok(pg_temp.put('RECOVERING'), 'OPEN → RECOVERING is possible');
SELECT throws_ok(pg_temp.put('SUSPECTED'), '23514', NULL, 'RECOVERING → SUSPECTED is refused');
SELECT lives_ok(pg_temp.put('OPEN'), 'RECOVERING → OPEN is possible');
SELECT lives_ok(pg_temp.put('CLOSED'), 'OPEN → CLOSED is possible');
SELECT throws_ok(pg_temp.put('RECOVERING'), '23514', NULL, 'CLOSED → RECOVERING is refused');
SELECT throws_ok(
    $$ INSERT INTO smartbox.incidents (service, incident_id, fingerprint_id, anomaly_name, status, severity, first_seen, last_seen, last_evaluated, confirmed_at)
       SELECT service, 'incident_' || n || '23456789012', fingerprint_id, anomaly_name, 'OPEN', 'low', now(), now(), now(), now()
       FROM smartbox.fingerprints, generate_series(1, 2) AS n WHERE service = 'h' $$,
    '23505', NULL, 'a pattern has one active incident');

-- A replay
CREATE TEMP TABLE first_run AS
SELECT i.service, i.incident_id, i.status, i.severity, i.score, i.first_seen, i.last_seen, i.resolved_at, i.occurrence_count, i.signals,
    (SELECT array_agg(row(e.event, e.ts, e.status, e.details) ORDER BY e.event_number)::text
     FROM smartbox.incident_events AS e WHERE e.service = i.service AND e.incident_id = i.incident_id) AS events,
    (SELECT array_agg(a.payload ORDER BY a.alert_number)::text
     FROM smartbox.alerts AS a WHERE a.service = i.service AND a.incident_id = i.incident_id) AS alerts
FROM smartbox.incidents AS i WHERE i.service IN ('a', 'c', 'd');
CREATE TEMP TABLE replay AS
SELECT service, ts, time_period, severity, is_anomaly, payload FROM smartbox.detections WHERE service IN ('a', 'c', 'd');
DELETE FROM smartbox.services WHERE service IN ('a', 'c', 'd');
SELECT is((SELECT count(*) FROM smartbox.incidents WHERE service IN ('a', 'c', 'd')), 0::bigint, 'incidents go with their service');
SELECT pg_temp.new_service(s) FROM unnest(ARRAY['a', 'c', 'd']) AS s;
SET LOCAL TimeZone = 'Asia/Tokyo';
INSERT INTO smartbox.detections (service, ts, time_period, severity, is_anomaly, payload) SELECT * FROM replay ORDER BY ts, service;
SELECT set_eq(
    $$ SELECT service, incident_id, status, severity, score, first_seen, last_seen, resolved_at, occurrence_count, signals
       FROM smartbox.incidents WHERE service IN ('a', 'c', 'd') $$,
    $$ SELECT service, incident_id, status, severity, score, first_seen, last_seen, resolved_at, occurrence_count, signals
       FROM first_run $$,
    'a replay, in another zone, gives the same incidents under the same names');
SET LOCAL TimeZone = 'UTC';
SELECT results_eq(
    $$ SELECT i.incident_id,
           (SELECT array_agg(row(e.event, e.ts, e.status, e.details) ORDER BY e.event_number)::text
            FROM smartbox.incident_events AS e WHERE e.service = i.service AND e.incident_id = i.incident_id),
           (SELECT array_agg(a.payload ORDER BY a.alert_number)::text
            FROM smartbox.alerts AS a WHERE a.service = i.service AND a.incident_id = i.incident_id)
       FROM smartbox.incidents AS i WHERE i.service IN ('a', 'c', 'd') ORDER BY 1 $$,
    $$ SELECT incident_id, events, alerts FROM first_run ORDER BY incident_id $$,
    'with the same events and alerts');

SELECT * FROM finish();
ROLLBACK;
