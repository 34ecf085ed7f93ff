-- Every row of the state table: from which state, by what, to which, with
-- which counts, events and alerts.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(67);

\ir helpers/incidents.sql

-- none → SUSPECTED
SELECT pg_temp.new_service('a');
SELECT pg_temp.cycle('a', 0);
SELECT is(pg_temp.incidents('a'), NULL, 'a quiet cycle begins nothing');
SELECT pg_temp.cycle('a', 5, 'x');
SELECT is(pg_temp.incidents('a'), 'SUSPECTED 1/1/0 high', 'a first detection is a suspicion');
SELECT is(pg_temp.events('a'), 'CREATE SUSPECTED@5', 'which is created');
SELECT is(pg_temp.alerts('a'), 'none', 'and tells nobody');

-- SUSPECTED → OPEN
SELECT pg_temp.cycle('a', 10, 'x');
SELECT is(pg_temp.incidents('a'), 'OPEN 2/2/0 high', 'two in a row open it');
SELECT is(pg_temp.events('a'), 'CREATE SUSPECTED@5, CONFIRM OPEN@10', 'it is confirmed');
SELECT is(pg_temp.alerts('a'), 'anomaly_detected high@10', 'and the alert goes out');
SELECT is((SELECT confirmed_at FROM smartbox.incidents WHERE service = 'a'), '2024-01-15 10:10+00', 'at that instant');

-- OPEN → OPEN
SELECT pg_temp.cycle('a', 15, 'x');
SELECT is(pg_temp.incidents('a'), 'OPEN 3/3/0 high', 'a further detection continues it');
SELECT is(pg_temp.alerts('a'), 'anomaly_detected high@10', 'without another alert');
SELECT pg_temp.cycle('a', 20, 'x/medium');
SELECT is(pg_temp.incidents('a'), 'OPEN 4/4/0 high', 'the worst severity stays');
SELECT is((SELECT severity || ' ' || score FROM smartbox.incident_events WHERE service = 'a' ORDER BY event_number DESC LIMIT 1),
    'medium -0.2', 'the event has this cycle''s');
SELECT pg_temp.cycle('a', 25, 'x/critical');
SELECT is(pg_temp.incidents('a'), 'OPEN 5/5/0 critical', 'a worse one counts');
SELECT is(pg_temp.events('a'),
    'CREATE SUSPECTED@5, CONFIRM OPEN@10, CONTINUE OPEN@15, CONTINUE OPEN@20, CONTINUE OPEN@25, ESCALATE OPEN@25',
    'it escalates, and continues');
SELECT is(pg_temp.alerts('a'), 'anomaly_detected high@10, anomaly_detected critical@25', 'with an alert');

-- OPEN → RECOVERING → OPEN
SELECT pg_temp.cycle('a', 30);
SELECT is(pg_temp.incidents('a'), 'RECOVERING 5/0/1 critical', 'a quiet cycle lets it recover');
SELECT pg_temp.cycle('a', 35);
SELECT is(pg_temp.incidents('a'), 'RECOVERING 5/0/2 critical', 'a second one too');
SELECT pg_temp.cycle('a', 40, 'x');
SELECT is(pg_temp.incidents('a'), 'OPEN 6/1/0 critical', 'a detection makes it open again');
SELECT pg_temp.ends(pg_temp.events('a'), 'RECOVER RECOVERING@30, CONTINUE OPEN@40', 'which continues it');
SELECT is(pg_temp.alerts('a'), 'anomaly_detected high@10, anomaly_detected critical@25', 'and tells nobody anew');

-- RECOVERING → CLOSED
SELECT pg_temp.cycle('a', 45), pg_temp.cycle('a', 50), pg_temp.cycle('a', 55);
SELECT is(pg_temp.incidents('a'), 'CLOSED 6/0/3 critical (resolved)', 'three quiet cycles in a row resolve it');
SELECT pg_temp.ends(pg_temp.events('a'), 'RECOVER RECOVERING@45, RESOLVE CLOSED@55', 'at the third');
SELECT is(pg_temp.alerts('a'), 'anomaly_detected high@10, anomaly_detected critical@25, incident_resolved critical@55',
    'and the resolution goes out');
SELECT pg_temp.cycle('a', 60);
SELECT is(pg_temp.incidents('a'), 'CLOSED 6/0/3 critical (resolved)', 'what is closed is not evaluated');

-- CLOSED → OPEN, less than incident_separation after
SELECT pg_temp.cycle('a', 84, 'x');
SELECT is(pg_temp.incidents('a'), 'OPEN 7/1/0 critical', 'within 30 minutes it reopens at once');
SELECT pg_temp.ends(pg_temp.events('a'), 'RESOLVE CLOSED@55, REOPEN OPEN@84', 'the same incident');
SELECT pg_temp.ends(pg_temp.alerts('a'), 'incident_resolved critical@55, anomaly_detected high@84', 'with an alert');
SELECT pg_temp.cycle('a', 89), pg_temp.cycle('a', 94), pg_temp.cycle('a', 99), pg_temp.cycle('a', 129, 'x');
SELECT is(pg_temp.incidents('a'), 'CLOSED 7/0/3 critical (resolved), SUSPECTED 1/1/0 high',
    '30 minutes after it is a new suspicion');

-- SUSPECTED → CLOSED, silently, and for good
SELECT pg_temp.new_service('b');
SELECT pg_temp.cycle('b', 0, 'x'), pg_temp.cycle('b', 5), pg_temp.cycle('b', 10);
SELECT is(pg_temp.incidents('b'), 'SUSPECTED 1/0/2 high', 'a suspicion lasts two quiet cycles');
SELECT pg_temp.cycle('b', 15);
SELECT is(pg_temp.incidents('b'), 'CLOSED 1/0/3 high (suspected_expired)', 'and not a third');
SELECT is(pg_temp.events('b'), 'CREATE SUSPECTED@0, EXPIRE CLOSED@15', 'it expires');
SELECT is(pg_temp.alerts('b'), 'none', 'silently');
SELECT pg_temp.cycle('b', 20, 'x');
SELECT is(pg_temp.incidents('b'), 'CLOSED 1/0/3 high (suspected_expired), SUSPECTED 1/1/0 high', 'and never reopens');

-- In a row means in a row.
SELECT pg_temp.new_service('c');
SELECT pg_temp.cycle('c', 0, 'x'), pg_temp.cycle('c', 5), pg_temp.cycle('c', 10, 'x');
SELECT is(pg_temp.incidents('c'), 'SUSPECTED 2/1/0 high', 'with a quiet cycle between, two detections open nothing');
SELECT pg_temp.cycle('c', 15, 'x');
SELECT is(pg_temp.events('c'), 'CREATE SUSPECTED@0, CONTINUE SUSPECTED@10, CONFIRM OPEN@15', 'the next one does');

-- Active, last seen longer ago than incident_separation
SELECT pg_temp.new_service('d');
SELECT pg_temp.cycle('d', 0, 'x'), pg_temp.cycle('d', 5, 'x'), pg_temp.cycle('d', 35, 'x');
SELECT is(pg_temp.incidents('d'), 'OPEN 3/3/0 high', '30 minutes are not longer than 30 minutes');
SELECT pg_temp.cycle('d', 66, 'x');
SELECT is(pg_temp.incidents('d'), 'CLOSED 3/3/0 high (auto_stale), SUSPECTED 1/1/0 high', '31 are: it is closed, and a new one begins');
SELECT is(pg_temp.events('d'), 'CREATE SUSPECTED@0, CONFIRM OPEN@5, CONTINUE OPEN@35, EXPIRE CLOSED@66 | CREATE SUSPECTED@66', 'both in one cycle');
SELECT is(pg_temp.alerts('d'), 'anomaly_detected high@5, incident_resolved high@66', 'the one that was open is told to be over');
SELECT is((SELECT jsonb_array_length(payload->'resolved_incidents') FROM smartbox.detections WHERE service = 'd' ORDER BY ts DESC LIMIT 1),
    1, 'in the payload too');
SELECT pg_temp.new_service('e');
SELECT pg_temp.cycle('e', 0, 'x'), pg_temp.cycle('e', 31, 'x');
SELECT is(pg_temp.incidents('e'), 'CLOSED 1/1/0 high (auto_stale), SUSPECTED 1/1/0 high', 'so is a suspicion');
SELECT is(pg_temp.alerts('e'), 'none', 'of which nobody hears');

-- No data
SELECT pg_temp.new_service('f');
SELECT pg_temp.cycle('f', 0, 'x'), pg_temp.cycle('f', 5, 'x'), pg_temp.cycle('f', 6, 'x', 'y'), pg_temp.cycle('f', 7, 'y');
SELECT pg_temp.no_data('f', 10 + n) FROM generate_series(1, 9) AS n;
SELECT is(pg_temp.incidents('f'), 'RECOVERING 3/0/1 high, OPEN 2/2/0 high', 'without data every incident is held as it is');
SELECT is((SELECT max(last_evaluated) FROM smartbox.incidents WHERE service = 'f'), '2024-01-15 10:07+00', 'such a cycle does not count');
INSERT INTO smartbox.detections (service, ts, no_data, is_anomaly, severity) VALUES
    ('f', '2024-01-15 10:20+00', true, true, 'high'), ('f', '2024-01-15 10:21+00', true, true, 'high');
SELECT is(pg_temp.incidents('f'), 'RECOVERING 3/0/1 high, OPEN 2/2/0 high, OPEN 2/2/0 high',
    'no data can itself be an incident, and holds the others');

-- The time without data does not count towards incident_separation.
SELECT pg_temp.new_service('h1'), pg_temp.new_service('h2'), pg_temp.new_service('h3');
SELECT pg_temp.cycle(s, 0, 'x'), pg_temp.cycle(s, 5, 'x') FROM unnest('{h1,h2,h3}'::text[]) AS s;
SELECT pg_temp.no_data('h1', 5 + 5 * n), pg_temp.no_data('h2', 5 + 5 * n) FROM generate_series(1, 24) AS n;
SELECT is(smartbox.held_time('h1', '2024-01-15 10:05+00', '2024-01-15 13:00+00'), '2 hours', 'cycles without data stand for the time since the one before');
SELECT is(smartbox.held_time('h3', '2024-01-15 10:05+00', '2024-01-15 13:00+00'), '0', 'no cycles at all for none');
SELECT pg_temp.cycle('h1', 130, 'x'), pg_temp.cycle('h2', 130), pg_temp.cycle('h2', 135), pg_temp.cycle('h2', 140, 'x'), pg_temp.cycle('h3', 130, 'x');
SELECT is(pg_temp.incidents('h1'), 'OPEN 3/3/0 high', 'two hours without data end no incident');
SELECT is(pg_temp.alerts('h1'), 'anomaly_detected high@5', 'and nobody is told anything');
SELECT is(pg_temp.incidents('h2'), 'OPEN 3/1/0 high', 'not even with quiet cycles after them');
SELECT is(pg_temp.incidents('h3'), 'CLOSED 2/2/0 high (auto_stale), SUSPECTED 1/1/0 high', 'two hours that were not watched do');
SELECT pg_temp.no_data('h1', 140), pg_temp.cycle('h1', 171, 'x');
SELECT is(pg_temp.incidents('h1'), 'CLOSED 3/3/0 high (auto_stale), SUSPECTED 1/1/0 high', 'held for ten minutes, 41 are longer than 30');
SELECT pg_temp.ends(pg_temp.alerts('f'), 'no_data high@21', 'of which an alert tells');
SELECT pg_temp.cycle('f', 22, 'y');
SELECT is(pg_temp.incidents('f'), 'RECOVERING 3/0/2 high, OPEN 3/3/0 high, RECOVERING 2/0/1 high', 'with data again it goes on');

-- One detection and one quiet cycle, as the original
SELECT pg_temp.new_service('g', 1, 1);
SELECT pg_temp.cycle('g', 0, 'x');
SELECT is(pg_temp.events('g'), 'CREATE SUSPECTED@0, CONFIRM OPEN@0', 'with one confirmation cycle the first detection opens');
SELECT is((SELECT payload #>> '{anomalies,0,metadata,incident_action}' FROM smartbox.alerts WHERE service = 'g'), 'CREATE', 'and is a CREATE');
SELECT pg_temp.cycle('g', 5);
SELECT is(pg_temp.events('g'), 'CREATE SUSPECTED@0, CONFIRM OPEN@0, RESOLVE CLOSED@5', 'with one grace cycle the first quiet one resolves');
SELECT is(pg_temp.alerts('g'), 'anomaly_detected high@0, incident_resolved high@5', 'two alerts');

-- Late and repeated
SELECT pg_temp.new_service('h');
SELECT pg_temp.cycle('h', 0, 'x'), pg_temp.cycle('h', 10, 'x');
CREATE TEMP TABLE before AS SELECT pg_temp.incidents('h') AS incidents, pg_temp.events('h') AS events, pg_temp.alerts('h') AS alerts;
SELECT pg_temp.cycle('h', 10), pg_temp.cycle('h', 0), pg_temp.cycle('h', 10, 'y');
SELECT is((SELECT count(*) FROM smartbox.detections WHERE service = 'h'), 2::bigint, 'the same instant again is no new detection');
SELECT pg_temp.cycle('h', 5), pg_temp.cycle('h', 6, 'x', 'y');
SELECT is((SELECT count(*) FROM smartbox.detections WHERE service = 'h' AND processed_at IS NOT NULL), 4::bigint, 'an older one is kept');
SELECT results_eq($$ SELECT pg_temp.incidents('h'), pg_temp.events('h'), pg_temp.alerts('h') $$, $$ SELECT * FROM before $$,
    'neither moves anything');
SELECT throws_ok(
    $$ INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
       VALUES ('h', '2024-01-15 10:07+00', true, '{"anomalies": [{"name": "x", "severity": "awful"}]}') $$,
    '22P02', NULL, 'what cannot be read is refused, late too');

-- Days of 23 and of 25 hours: time is counted in hours, whatever the clock of
-- the session does meanwhile.
SET LOCAL TimeZone = 'Europe/Berlin';
CREATE FUNCTION pg_temp.minutes_until(at timestamptz) RETURNS int LANGUAGE sql AS $$
    SELECT (extract(epoch FROM at - '2024-01-15 10:00+00') / 60)::int
$$;
SELECT pg_temp.new_service('spring'), pg_temp.new_service('autumn'), pg_temp.new_service('day', separation => '1 day');
SELECT pg_temp.cycle('spring', m, 'x'), pg_temp.cycle('spring', m + 5, 'x') FROM pg_temp.minutes_until('2024-03-30 10:00+00') AS m;
SELECT pg_temp.no_data('spring', m + 1505) FROM pg_temp.minutes_until('2024-03-30 10:00+00') AS m;
SELECT is(smartbox.held_time('spring', '2024-03-30 10:05+00', '2024-03-31 11:10+00')::text, '25:00:00', 'time without data is hours, not days');
SELECT pg_temp.cycle('spring', m + 1510, 'x') FROM pg_temp.minutes_until('2024-03-30 10:00+00') AS m;
SELECT is(pg_temp.incidents('spring'), 'OPEN 3/3/0 high', 'held through the short day');
SELECT pg_temp.cycle('autumn', m, 'x'), pg_temp.cycle('autumn', m + 5, 'x') FROM pg_temp.minutes_until('2024-10-26 10:00+00') AS m;
SELECT pg_temp.no_data('autumn', m + 1505) FROM pg_temp.minutes_until('2024-10-26 10:00+00') AS m;
SELECT pg_temp.cycle('autumn', m + 1541, 'x') FROM pg_temp.minutes_until('2024-10-26 10:00+00') AS m;
SELECT is(pg_temp.incidents('autumn'), 'CLOSED 2/2/0 high (auto_stale), SUSPECTED 1/1/0 high', 'and no longer than it was, through the long one');
SELECT pg_temp.cycle('day', m, 'x'), pg_temp.cycle('day', m + 5, 'x'), pg_temp.cycle('day', m + 1415, 'x')
FROM pg_temp.minutes_until('2024-03-30 10:00+00') AS m;
SELECT is(pg_temp.incidents('day'), 'OPEN 3/3/0 high', 'a separation of a day is 24 hours');
SELECT pg_temp.cycle('day', m + 1415 + 1441, 'x') FROM pg_temp.minutes_until('2024-03-30 10:00+00') AS m;
SELECT is(pg_temp.incidents('day'), 'CLOSED 3/3/0 high (auto_stale), SUSPECTED 1/1/0 high', 'and no more');

SELECT * FROM finish();
ROLLBACK;
