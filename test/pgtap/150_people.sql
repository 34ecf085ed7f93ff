-- What people do to incidents: acknowledge, close, silence, say what they were;
-- and faults that come and go.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(101);

\ir helpers/incidents.sql

CREATE FUNCTION pg_temp.id_of(of_service text, name text DEFAULT 'x') RETURNS text LANGUAGE sql AS $$
    SELECT incident_id FROM smartbox.incidents WHERE service = of_service AND anomaly_name = name ORDER BY first_seen DESC LIMIT 1
$$;
-- The same as alerts(), with those that are silenced in brackets.
CREATE FUNCTION pg_temp.told(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format(CASE WHEN silence_id IS NULL THEN '%s@%s' ELSE '(%s@%s)' END, alert_type,
                                      extract(epoch FROM ts - '2024-01-15 10:00+00')::int / 60),
                               ', ' ORDER BY ts, alert_number), 'none')
    FROM smartbox.alerts WHERE service = of_service
$$;
CREATE FUNCTION pg_temp.minute(n int) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2024-01-15 10:00+00'::timestamptz + n * interval '1 min' $$;
CREATE FUNCTION pg_temp.quietly(anyelement) RETURNS SETOF void LANGUAGE sql AS $$ SELECT NULL::void WHERE false $$;
CREATE FUNCTION pg_temp.hint_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END
$$;

-- Acknowledging
SELECT pg_temp.new_service('a');
SELECT pg_temp.cycle('a', 0, 'x'), pg_temp.cycle('a', 5, 'x');
CREATE TEMP TABLE acknowledged AS SELECT acknowledge_incident(pg_temp.id_of('a'), 'looking at it') AS incident;
SELECT is((SELECT incident->>'acknowledged_by' FROM acknowledged), session_user::text, 'acknowledging returns the incident, with who did it');
SELECT is((SELECT incident->>'status' FROM acknowledged), 'OPEN', 'which stays as it is');
SELECT results_eq(
    $$ SELECT event, ts, status, details->>'by', details->>'note' FROM smartbox.incident_events WHERE service = 'a' ORDER BY event_number DESC LIMIT 1 $$,
    $$ VALUES ('ACKNOWLEDGE'::smartbox.incident_event, '2024-01-15 10:05+00'::timestamptz, 'OPEN'::smartbox.incident_status, session_user::text COLLATE "default", 'looking at it' COLLATE "default") $$,
    'and is an event of it');
CREATE TEMP TABLE first_acknowledged AS SELECT acknowledged_at FROM smartbox.incidents WHERE service = 'a';
CREATE ROLE smartbox_test_second SUPERUSER;
SET LOCAL ROLE smartbox_test_second;
SELECT pg_temp.quietly(acknowledge_incident(pg_temp.id_of('a')));
RESET ROLE;
SELECT is((SELECT acknowledged_by FROM smartbox.incidents WHERE service = 'a'), 'smartbox_test_second (' || session_user || ')',
    'somebody else can take it over, and it says who is behind the role');
SELECT results_eq($$ SELECT acknowledged_at FROM smartbox.incidents WHERE service = 'a' $$, 'SELECT acknowledged_at FROM first_acknowledged',
    'the first time counts');
SELECT pg_temp.cycle('a', 10, 'x/critical'), pg_temp.cycle('a', 15), pg_temp.cycle('a', 20), pg_temp.cycle('a', 25);
SELECT is(pg_temp.told('a'), 'anomaly_detected@5, anomaly_detected@10, incident_resolved@25', 'its alerts go on');
SELECT throws_ok(format('SELECT acknowledge_incident(%L)', pg_temp.id_of('a')), '55000',
    format('incident %s of service "a" is closed', pg_temp.id_of('a')), 'what is closed is not acknowledged');
SELECT throws_ok($$ SELECT acknowledge_incident('incident_0') $$, 'P0002', 'incident "incident_0" is not known', 'nor what is not there');
SELECT throws_ok($$ SELECT acknowledge_incident(NULL) $$, 'P0002', 'the id of the incident must not be null', 'nor nothing');
SELECT is(pg_temp.hint_of($$ SELECT acknowledge_incident('incident_0') $$), 'No incident is active now; smartbox.incidents has them all.', 'the hint says so when there is none');

-- Closing
SELECT pg_temp.new_service('c');
SELECT pg_temp.cycle('c', 0, 'x', 'y'), pg_temp.cycle('c', 5, 'x', 'y');
SELECT matches(pg_temp.hint_of($$ SELECT close_incident('c') $$), '^Active now: incident_[0-9a-f]{12} \([xy] of c\), incident_[0-9a-f]{12} \([xy] of c\)\.$',
    'the hint of an unknown incident names those that are active');
SELECT is(close_incident(pg_temp.id_of('c'), 'restarted it')->>'resolution_reason', 'closed_by_person', 'closing returns the incident');
SELECT is(pg_temp.incidents('c'), 'CLOSED 2/2/0 high (closed_by_person), OPEN 2/2/0 high', 'the other one stays');
SELECT is(pg_temp.told('c'), 'anomaly_detected@5, anomaly_detected@5, incident_resolved@5', 'the resolution goes out');
SELECT is((SELECT payload #>> '{resolution_details,reason}' FROM smartbox.alerts WHERE service = 'c' AND alert_type = 'incident_resolved'),
    'closed_by_person', 'and says why');
SELECT results_eq(
    $$ SELECT event, details->>'by', details->>'note' FROM smartbox.incident_events WHERE service = 'c' AND status = 'CLOSED' $$,
    $$ VALUES ('CLOSE'::smartbox.incident_event, session_user::text COLLATE "default", 'restarted it' COLLATE "default") $$, 'it is an event');
SELECT pg_temp.cycle('c', 10, 'x', 'y'), pg_temp.cycle('c', 15, 'x', 'y');
SELECT is(pg_temp.incidents('c'), 'CLOSED 2/2/0 high (closed_by_person), OPEN 4/4/0 high', 'a fault that goes on opens nothing');
SELECT is((SELECT payload #>> '{anomalies,0,metadata,incident_action}' || ' ' || (payload #>> '{anomalies,0,metadata,status}')
           FROM smartbox.detections WHERE service = 'c' ORDER BY ts DESC LIMIT 1), 'CLOSE CLOSED', 'the detection says to what it belongs');
SELECT pg_temp.cycle('c', 20, 'x/critical', 'y');
SELECT is(pg_temp.incidents('c'), 'OPEN 3/1/0 critical, OPEN 5/5/0 high', 'one that gets worse reopens it');
SELECT is(pg_temp.told('c'), 'anomaly_detected@5, anomaly_detected@5, incident_resolved@5, anomaly_detected@20', 'with an alert');
SELECT pg_temp.quietly(close_incident(pg_temp.id_of('c')));
SELECT pg_temp.cycle('c', 49, 'x');
SELECT is((SELECT count(*) FROM smartbox.incidents WHERE service = 'c' AND anomaly_name = 'x'), 1::bigint, 'closed again, it stays so for 30 minutes');
SELECT pg_temp.cycle('c', 50, 'x');
SELECT is((SELECT status FROM smartbox.incidents WHERE service = 'c' AND first_seen = pg_temp.minute(50)), 'SUSPECTED', 'then it is a new suspicion');
SELECT pg_temp.new_service('s');
SELECT pg_temp.cycle('s', 0, 'x');
SELECT pg_temp.quietly(close_incident(pg_temp.id_of('s')));
SELECT pg_temp.cycle('s', 5, 'x'), pg_temp.cycle('s', 10, 'x');
SELECT is(pg_temp.incidents('s'), 'CLOSED 1/1/0 high (closed_by_person)', 'a suspicion can be closed as well');
SELECT is(pg_temp.told('s'), 'none', 'of which nobody hears');
SELECT pg_temp.cycle('s', 15, 'x/critical');
SELECT is(pg_temp.incidents('s'), 'CLOSED 1/1/0 high (closed_by_person), SUSPECTED 1/1/0 critical', 'a worse one is another suspicion');
SELECT pg_temp.new_service('n');
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
SELECT 'n', pg_temp.minute(n), true, '{"anomalies": [{"name": "x", "severity": "high", "detection_signals": ["s"]}]}' FROM unnest('{0,5}'::int[]) AS n;
SELECT pg_temp.quietly(close_incident(pg_temp.id_of('n')));
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
VALUES ('n', pg_temp.minute(10), true, '{"anomalies": [{"name": "y", "severity": "high", "detection_signals": ["s"]}, {"name": "z", "severity": "high"}]}');
SELECT is((SELECT string_agg(anomaly_name || ' ' || status, ', ' ORDER BY anomaly_name) FROM smartbox.incidents WHERE service = 'n'),
    'x CLOSED, z SUSPECTED', 'another name with the same signal is the same fault, another fault is not');
SELECT pg_temp.new_service('d');
SELECT pg_temp.cycle('d', 0, 'x'), pg_temp.cycle('d', 5, 'x'), pg_temp.no_data('d', 10);
SELECT is(close_incident(pg_temp.id_of('d'))->>'resolved_at', to_jsonb(pg_temp.minute(10)) #>> '{}', 'the time of a close is that of the last cycle, without data too');

-- Silences
SELECT pg_temp.new_service('q');
SELECT pg_temp.cycle('q', 0, 'x');
CREATE TEMP TABLE silenced AS SELECT silence('q', until => pg_temp.minute(60), note => 'planned') AS silence;
SELECT is((SELECT silence->'services' FROM silenced), '["q"]', 'a silence says what it covers');
SELECT is((SELECT silence->'incidents' FROM silenced), to_jsonb(ARRAY[pg_temp.id_of('q')]), 'and which incidents that are active');
SELECT pg_temp.ends(pg_temp.events('q'), 'CREATE SUSPECTED@0, SILENCE SUSPECTED@0', 'which is an event of each');
SELECT pg_temp.cycle('q', 5, 'x'), pg_temp.cycle('q', 10, 'x'), pg_temp.cycle('q', 15, 'x/critical');
SELECT is(pg_temp.incidents('q'), 'OPEN 4/4/0 critical', 'the incident moves');
SELECT is(pg_temp.told('q'), '(anomaly_detected@5), (anomaly_detected@15)', 'its alerts are written, and silenced');
SELECT is((SELECT DISTINCT silence_id FROM smartbox.alerts WHERE service = 'q'), (SELECT silence->>'silence_id' FROM silenced), 'by that silence');
SELECT pg_temp.cycle('q', 20), pg_temp.cycle('q', 25), pg_temp.cycle('q', 30);
SELECT is(pg_temp.told('q'), '(anomaly_detected@5), (anomaly_detected@15), (incident_resolved@30)', 'nobody is told of the end either');
SELECT ok(NOT (SELECT payload ? 'resolved_incidents' FROM smartbox.detections WHERE service = 'q' ORDER BY ts DESC LIMIT 1), 'nor by the detection');
SELECT pg_temp.cycle('q', 35, 'x'), pg_temp.cycle('q', 60, 'x');
SELECT pg_temp.ends(pg_temp.told('q'), '(incident_resolved@30), (anomaly_detected@35), anomaly_detected@60', 'an incident that outlives its silence is told of then');
SELECT pg_temp.cycle('q', 65, 'x'), pg_temp.cycle('q', 70);
SELECT pg_temp.ends(pg_temp.told('q'), 'anomaly_detected@60', 'once');
SELECT pg_temp.quietly(silence('q', until => pg_temp.minute(600)));
SELECT pg_temp.cycle('q', 75), pg_temp.cycle('q', 80);
SELECT pg_temp.ends(pg_temp.told('q'), 'anomaly_detected@60, incident_resolved@80', 'the end of what was told before is told although it is silenced');

-- Ending one
SELECT pg_temp.new_service('u');
SELECT pg_temp.cycle('u', 0, 'x'), pg_temp.cycle('u', 5, 'x');
CREATE TEMP TABLE lifted AS SELECT silence('u', until => pg_temp.minute(600))->>'silence_id' AS id;
SELECT pg_temp.cycle('u', 10, 'x'), pg_temp.cycle('u', 15, 'x/critical');
SELECT is(unsilence(id, 'over')->'incidents', to_jsonb(ARRAY[pg_temp.id_of('u')]), 'a silence can be ended') FROM lifted;
SELECT is((SELECT count(*) FROM smartbox.active_silences WHERE service = 'u'), 0::bigint, 'it is no longer active');
SELECT is((SELECT lifted_by FROM smartbox.silences WHERE service = 'u'), session_user::text, 'it says who did it');
SELECT pg_temp.cycle('u', 20, 'x'), pg_temp.cycle('u', 25, 'x');
SELECT is(pg_temp.told('u'), 'anomaly_detected@5, (anomaly_detected@15), anomaly_detected@20', 'what was held back is told at the next detection');
SELECT pg_temp.ends(pg_temp.events('u'), 'SILENCE OPEN@5, CONTINUE OPEN@10, CONTINUE OPEN@15, ESCALATE OPEN@15, SILENCE OPEN@15, CONTINUE OPEN@20, CONTINUE OPEN@25', 'both are events');
SELECT throws_ok(format('SELECT unsilence(%L)', id), 'P0002', format('there is no silence "%s" to end', id), 'not twice') FROM lifted;
SELECT is(pg_temp.hint_of($$ SELECT unsilence('silence_0') $$), 'Nothing is silenced now.', 'the hint says what there is');

-- What one covers
SELECT is(smartbox.silence_covers(metric, pattern, '{database_latency_high,database_bottleneck,NULL}', signals::text[]), covers, what)
FROM (VALUES
    (NULL, NULL, '{x}', true, 'a whole service'),
    ('database_latency', NULL, '{database_latency_high}', true, 'a metric: its signal'),
    ('database_latency', NULL, '{database_latency_high,database_latency_low}', true, 'both directions'),
    ('database_latency', NULL, '{database_latency_high,error_rate_high}', false, 'not when another metric has a part in it'),
    ('latency', NULL, '{latency_p99_high}', false, 'not a metric whose name begins so'),
    (NULL, 'database_bottleneck', '{x}', true, 'a pattern'),
    (NULL, 'database_latency_high', '{x}', true, 'an anomaly by its name'),
    (NULL, 'traffic_cliff', '{x}', false, 'no other')) AS v(metric, pattern, signals, covers, what);
SELECT pg_temp.new_service('m');
SELECT is(silence('m', 'error_rate', until => 'tomorrow') @> '{"metric": "error_rate", "pattern": null}', true, 'a metric by its name');
SELECT is(silence('m', 'error_rate_high', until => 'tomorrow') @> '{"metric": null, "pattern": "error_rate_high"}', true, 'an anomaly by its name');
SELECT is(silence('m', 'no_data', until => 'tomorrow')->>'pattern', 'no_data', 'that it does not report');
SELECT is(silence('m', (SELECT min(pattern) FROM smartbox.patterns), until => 'tomorrow')->>'pattern', (SELECT min(pattern) FROM smartbox.patterns), 'a pattern');
SELECT throws_ok($$ SELECT silence('m', 'eror_rate', until => 'tomorrow') $$, '22023', '"eror_rate" is no metric, pattern or anomaly that is known', 'nothing else');
SELECT is(silence('q', 'x', until => 'tomorrow')->>'pattern', 'x', 'but what that service once had');
SELECT throws_ok($$ SELECT silence('mm', until => 'tomorrow') $$, NULL, 'service "mm" is not known', 'not a service that nobody knows');
SELECT throws_ok($$ SELECT silence('m') $$, '22004', 'until must not be null', 'a silence has an end');
SELECT throws_ok($$ SELECT silence(NULL, until => 'tomorrow') $$, '22004', 'service must not be null', 'and a service');
SELECT throws_ok($$ SELECT silence('m', until => 'yesterday') $$, '22023', NULL, 'an end that is still to come');
SELECT throws_ok($$ SELECT silence('m', until => 'infinity') $$, '22023', NULL, 'and that does come');
SELECT throws_ok($$ INSERT INTO smartbox.silences (service, silence_id, metric, pattern, until) VALUES ('m', 'silence_000000000000', 'a', 'b', 'tomorrow') $$,
    '23514', NULL, 'of a metric or a pattern, not both');

-- One that begins later, by hand
SELECT pg_temp.new_service('l');
INSERT INTO smartbox.silences (service, silence_id, starts_at, until) VALUES ('l', 'silence_00000000000a', now() + interval '1 day', now() + interval '2 days');
SELECT is(smartbox.find_silence('l', '{x}', '{x}', now()), NULL, 'before it begins it covers nothing');
SELECT is(smartbox.find_silence('l', '{x}', '{x}', now() + interval '1 day'), 'silence_00000000000a', 'then it does');
SELECT is(smartbox.find_silence('l', '{x}', '{x}', now() + interval '2 days'), NULL, 'up to its end');

-- A service and those that depend on it
SELECT pg_temp.new_service('db'), pg_temp.new_service('shop'), pg_temp.new_service('web'), pg_temp.new_service('other');
INSERT INTO smartbox.dependencies VALUES ('shop', 'db'), ('web', 'shop'), ('db', 'web'), ('web', 'other'), ('nobody', 'db');
SELECT pg_temp.cycle('shop', 0), pg_temp.cycle('web', 0, 'x');
CREATE TEMP TABLE subtree AS SELECT silence('shop', until => pg_temp.minute(600), include_dependents => true) AS silence;
SELECT is(silence->'services', '["shop", "db", "web"]', 'those that depend on it, in a circle too, are silenced with it') FROM subtree;
SELECT is(silence->'incidents', to_jsonb(ARRAY[pg_temp.id_of('web')]), 'with their incidents') FROM subtree;
SELECT is((SELECT count(*) FROM smartbox.silences WHERE included_with = 'shop'), 2::bigint, 'each has its row');
SELECT is(unsilence(silence->>'silence_id')->'services', '["db", "shop", "web"]', 'and they end together') FROM subtree;

-- All of them
SELECT pg_temp.quietly(silence('*', until => pg_temp.minute(100000000)));
SELECT pg_temp.cycle('web', 5, 'x'), pg_temp.cycle('other', 5, 'x'), pg_temp.cycle('other', 10, 'x');
SELECT is(pg_temp.told('web') || ' ' || pg_temp.told('other'), '(anomaly_detected@5) (anomaly_detected@10)', 'the service * is every one');
SELECT is(pg_temp.hint_of($$ SELECT unsilence('silence_0') $$), format('There are: %s.', string_agg(format('%s (%s)', silence_id, service), ', ' ORDER BY created_at DESC, silence_id)),
    'the hint names those that are active') FROM (SELECT * FROM smartbox.active_silences WHERE included_with IS NULL ORDER BY created_at DESC, silence_id LIMIT 5) AS a;
SELECT pg_temp.quietly(unsilence(silence_id)) FROM smartbox.silences WHERE service = '*';

-- Flapping
SELECT pg_temp.new_service('f', 1, 1);
SELECT pg_temp.cycle('f', n * 10, 'x'), pg_temp.cycle('f', n * 10 + 5) FROM generate_series(0, 2) AS n;
SELECT is((SELECT reopen_count || ' ' || flapping FROM smartbox.incidents WHERE service = 'f'), '2 false', 'three times is not yet flapping');
SELECT is(pg_temp.told('f'), 'anomaly_detected@0, incident_resolved@5, anomaly_detected@10, incident_resolved@15, anomaly_detected@20, incident_resolved@25', 'each is told');
SELECT pg_temp.cycle('f', 30, 'x');
SELECT is((SELECT reopen_count || ' ' || flapping FROM smartbox.incidents WHERE service = 'f'), '3 true', 'the fourth time is');
SELECT is((SELECT payload #> '{anomalies,0,metadata,flapping}' FROM smartbox.alerts WHERE service = 'f' ORDER BY alert_number DESC LIMIT 1), 'true', 'the alert says so');
SELECT is((SELECT details->'flapping' FROM smartbox.incident_events WHERE service = 'f' ORDER BY event_number DESC LIMIT 1), 'true', 'the event too');
SELECT pg_temp.cycle('f', 35), pg_temp.cycle('f', 40, 'x'), pg_temp.cycle('f', 45), pg_temp.cycle('f', 50, 'x');
SELECT pg_temp.ends(pg_temp.told('f'), 'anomaly_detected@30, incident_resolved@35', 'and after its end nobody is told each time');
SELECT is((SELECT alert_held FROM smartbox.incidents WHERE service = 'f'), true, 'which the incident knows');
SELECT pg_temp.cycle('f', 55, 'x'), pg_temp.cycle('f', 79, 'x');
SELECT pg_temp.ends(pg_temp.told('f'), 'incident_resolved@35', 'for less than 30 minutes');
SELECT pg_temp.cycle('f', 80, 'x'), pg_temp.cycle('f', 85, 'x'), pg_temp.cycle('f', 90);
SELECT pg_temp.ends(pg_temp.told('f'), 'incident_resolved@35, anomaly_detected@80, incident_resolved@90', 'one that stays is told of, and its end');
SELECT pg_temp.cycle('f', 95, 'x'), pg_temp.cycle('f', 100, 'x/critical');
SELECT pg_temp.ends(pg_temp.told('f'), 'incident_resolved@90, anomaly_detected@100', 'one that gets worse at once');
SELECT pg_temp.cycle('f', 105), pg_temp.cycle('f', 450, 'x');
SELECT pg_temp.ends(pg_temp.told('f'), 'incident_resolved@105, anomaly_detected@450', 'six hours later it is told as ever');
SELECT is((SELECT flapping FROM smartbox.incidents WHERE service = 'f' ORDER BY first_seen DESC LIMIT 1), false, 'and flaps no more');

-- How often and within what time is a matter of the service, or of its category.
SELECT pg_temp.new_service('f2', 1, 1), pg_temp.new_service('f3', 1, 1), pg_temp.new_service('f4', 1, 1);
UPDATE smartbox.services SET flapping_openings = 2, flapping_window = '15 min' WHERE service = 'f2';
UPDATE smartbox.service_categories SET flapping_openings = 3, flapping_window = '25 min' WHERE category = 'standard';
UPDATE smartbox.services SET flapping_openings = 1000 WHERE service = 'f4';
SELECT pg_temp.cycle(s, n * 10, 'x'), pg_temp.cycle(s, n * 10 + 5) FROM unnest('{f2,f3,f4}'::text[]) AS s, generate_series(0, 4) AS n;
CREATE FUNCTION pg_temp.flapped(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(CASE WHEN details ? 'flapping' THEN 'flaps' ELSE 'opens' END, ' ' ORDER BY ts)
    FROM smartbox.incident_events WHERE service = of_service AND event IN ('CONFIRM', 'REOPEN')
$$;
SELECT is(pg_temp.flapped('f2'), 'opens flaps flaps flaps flaps', 'twice, where a service says so');
SELECT pg_temp.cycle('f2', 60, 'x');
SELECT pg_temp.ends(pg_temp.flapped('f2'), 'opens', 'within its own time');
SELECT is(pg_temp.flapped('f3'), 'opens opens flaps flaps flaps', 'three times, where its category does');
SELECT is(pg_temp.flapped('f4'), 'opens opens opens opens opens', 'or hardly ever');
SELECT throws_ok($$ UPDATE smartbox.services SET flapping_openings = 1 WHERE service = 'f4' $$, '23514', NULL, 'the first opening is no flapping');
SELECT throws_ok($$ UPDATE smartbox.service_categories SET flapping_window = '0' WHERE category = 'core' $$, '23514', NULL, 'and takes some time');

-- Feedback and notes
SELECT pg_temp.new_service('v');
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
SELECT 'v', pg_temp.minute(minute), true, jsonb_build_object('anomalies', jsonb_build_array(jsonb_build_object(
    'name', 'application_latency_high', 'severity', 'high',
    'comparison', jsonb_build_object('application_latency', jsonb_build_object('value', value, 'expected', 100),
                                     'request_rate', jsonb_build_object('value', 20, 'expected', 50),
                                     'error_rate', jsonb_build_object('value', 0.01, 'expected', 0),
                                     'database_latency', jsonb_build_object('value', 90, 'expected', 10)),
    'detection_signals', '[{"name": "application_latency_high", "metric": "application_latency", "direction": "high", "method": "univariate_isolation_forest"},
                           {"name": "request_rate_low", "metric": "request_rate", "direction": "low", "method": "univariate_isolation_forest"},
                           {"name": "error_rate_high", "metric": "error_rate", "direction": "high", "method": "univariate_isolation_forest"},
                           {"name": "database_latency_high", "metric": "database_latency", "direction": "high", "method": "rule"},
                           {"method": "multivariate_enhanced_isolation_forest", "forest_score": 0.7}, "x"]'::jsonb)))
FROM (VALUES (0, 300), (5, 400), (10, 200)) AS v(minute, value);
SELECT is(feedback(pg_temp.id_of('v', 'application_latency_high'), 'not_anomaly', 'nightly backup') - 'given_at', jsonb_build_object(
    'service', 'v', 'incident_id', pg_temp.id_of('v', 'application_latency_high'), 'feedback_number', 1, 'verdict', 'not_anomaly',
    'note', 'nightly backup', 'given_by', session_user), 'feedback returns what was said');
SELECT results_eq(
    $$ SELECT metric || ' ' || direction, round(absolute_deviation::numeric, 4), round(relative_deviation::numeric, 4) FROM smartbox.signal_bars WHERE service = 'v' ORDER BY metric $$,
    $$ VALUES ('application_latency high', 400.0000, 4.0000), ('error_rate high', 0.0125, 0.0000), ('request_rate low', 34.0000, 0.6800) $$,
    'not_anomaly raises the bar a quarter beyond the worst that was seen, for what the model took for a signal');
SELECT pg_temp.quietly(feedback(pg_temp.id_of('v', 'application_latency_high'), 'expected'));
SELECT is_empty($$ SELECT FROM smartbox.signal_bars WHERE service = 'v' $$, 'another verdict takes it away');
SELECT is(add_note(pg_temp.id_of('v', 'application_latency_high'), 'see the wiki')->>'feedback_number', '3', 'notes are numbered with it');
SELECT throws_ok($$ SELECT add_note('x', '') $$, '22023', 'note must not be empty', 'and say something');
SELECT throws_ok(format('SELECT feedback(%L, %L)', pg_temp.id_of('v', 'application_latency_high'), 'false_alarm'), '22023', '"false_alarm" is no verdict', 'no other verdicts');
SELECT throws_ok(format('SELECT feedback(%L, NULL)', pg_temp.id_of('v', 'application_latency_high')), '22023', 'verdict must not be null', 'nor none');
SELECT is(pg_temp.hint_of($$ SELECT feedback('x', 'y') $$), 'There are: anomaly, expected, not_anomaly and new_trend. For a note alone, call add_note().', 'the hint lists them');
SELECT is(feedback(pg_temp.id_of('f'), 'anomaly')->>'verdict', 'anomaly', 'whatever the status of the incident');

SELECT * FROM finish();
ROLLBACK;
