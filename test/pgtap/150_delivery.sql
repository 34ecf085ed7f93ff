-- The outbox: who gets what, in which order, how often it is tried, what is
-- held back.  Sending is elsewhere; here time is an argument.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(58);

INSERT INTO smartbox.services (service, category) VALUES ('booking', 'critical'), ('search', 'standard'), ('payment', 'critical');
UPDATE smartbox.service_categories SET confirmation_cycles = 2, resolution_grace_cycles = 1;
SET LOCAL TIME ZONE 'UTC';

-- ---------------------------------------------------------------------------
-- Receivers
-- ---------------------------------------------------------------------------

SELECT results_eq($$ SELECT receiver, kind, url, enabled, shipped FROM smartbox.receivers $$,
    $$ VALUES ('observability', 'observability', 'http://localhost:8000', false, true) $$, 'one receiver is shipped, disabled');
SELECT throws_ok($$ INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('a', 'webhook', $x$https://me:secret@example.com/$x$) $$,
    '23514', NULL, 'no password in an address');
SELECT throws_ok($$ INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('a', 'webhook', 'ftp://example.com') $$, '23514', NULL, 'only http and https');
SELECT throws_ok($$ INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('a', 'webhook', 'https://example.com/?token=x') $$, '23514', NULL, 'no query');
SELECT throws_ok($$ INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('a', 'mail', 'https://example.com') $$, '23514', NULL, 'no other kinds');
SELECT throws_ok($$ INSERT INTO smartbox.receivers (receiver, kind, url, user_name) VALUES ('a', 'webhook', 'https://example.com', 'me') $$, '23514', NULL,
    'a user takes a password file');
SELECT throws_ok($$ DELETE FROM smartbox.receivers $$, '55000', NULL, 'the shipped one stays');

INSERT INTO smartbox.receivers (receiver, kind, url, min_severity, services, categories, max_per_minute) VALUES
    ('all', 'webhook', 'http://127.0.0.1:1', 'low', NULL, NULL, NULL),
    ('high', 'observability', 'http://127.0.0.1:1', 'high', NULL, NULL, NULL),
    ('teams', 'webhook', 'http://127.0.0.1:1/hook', 'low', '{search}', '{standard,critical}', NULL),
    ('admins', 'webhook', 'http://127.0.0.1:1', 'low', NULL, '{admin}', NULL);

CREATE ROLE smartbox_test_operator;
GRANT SELECT, UPDATE, INSERT ON smartbox.receivers TO smartbox_test_operator;
SET LOCAL ROLE smartbox_test_operator;
SELECT lives_ok($$ UPDATE smartbox.receivers SET max_per_minute = 10 WHERE receiver = 'admins' $$, 'an operator changes filters');
SELECT throws_ok($$ UPDATE smartbox.receivers SET url = 'http://127.0.0.1:2' WHERE receiver = 'admins' $$, '42501', NULL, 'but not where the server connects to');
SELECT throws_ok($$ UPDATE smartbox.receivers SET bearer_token_file = '/etc/shadow' WHERE receiver = 'admins' $$, '42501', NULL, 'nor what it reads');
RESET ROLE;

-- ---------------------------------------------------------------------------
-- Rows of the outbox
-- ---------------------------------------------------------------------------

CREATE FUNCTION pg_temp.detect(service text, minute integer, names text[] DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
    SELECT service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 min', names <> '{}',
        jsonb_build_object('anomalies', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', split_part(n, '/', 1),
            'severity', split_part(n, '/', 2))), '[]') FROM unnest(names) AS n));
$$;
CREATE FUNCTION pg_temp.claim(receiver text, at timestamptz, most integer DEFAULT 50)
RETURNS TABLE (service text, incident_id text, alert_number integer, leased_until timestamptz, idempotency_key text, path text, body text)
LANGUAGE sql AS $$ SELECT * FROM smartbox.claim_deliveries(receiver, at, most) $$;
-- Claims and records one outcome for all.
CREATE FUNCTION pg_temp.deliver(to_receiver text, at timestamptz, outcome text DEFAULT 'sent', wait interval DEFAULT '0')
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    told text[] := '{}';
    c record;
BEGIN
    FOR c IN SELECT * FROM smartbox.claim_deliveries(to_receiver, at, 50) LOOP
        told := told || (c.service || ' ' || c.alert_number);
        PERFORM smartbox.record_delivery(c.service, c.incident_id, c.alert_number, to_receiver, c.leased_until, outcome, 'broken', wait, at);
    END LOOP;
    RETURN (SELECT array_agg(t ORDER BY t) FROM unnest(told) AS t);
END
$$;

SELECT pg_temp.detect('booking', 0, '{x/medium}');
SELECT is((SELECT count(*) FROM smartbox.deliveries), 0::bigint, 'a suspicion is no message');
SELECT pg_temp.detect('booking', 5, '{x/medium}');
SELECT set_eq($$ SELECT receiver || ' ' || alert_number || ' ' || status FROM smartbox.deliveries $$, ARRAY['all 1 pending'],
    'a confirmed incident is one for who asks for its severity, service and category');
SELECT pg_temp.detect('booking', 10, '{x/critical}');
SELECT set_eq($$ SELECT receiver || ' ' || alert_number FROM smartbox.deliveries $$, ARRAY['all 1', 'all 2', 'high 2'], 'so is an escalation');
SELECT pg_temp.detect('booking', 15);
SELECT set_eq($$ SELECT receiver || ' ' || alert_number FROM smartbox.deliveries $$, ARRAY['all 1', 'all 2', 'high 2', 'all 3', 'high 3'],
    'and the end, for who was to be told of it');
SELECT pg_temp.detect('search', 0, '{y/low}'), pg_temp.detect('search', 5, '{y/low}');
SELECT set_eq($$ SELECT receiver FROM smartbox.deliveries WHERE service = 'search' $$, ARRAY['all', 'teams'], 'filters by service and category');

INSERT INTO smartbox.alerts (service, incident_id, alert_number, alert_type, severity, ts, payload, created_at)
VALUES ('search', 'incident_000000000000', 1, 'anomaly_detected', 'high', now(), '{}', '2024-01-01');
SELECT is_empty($$ SELECT FROM smartbox.deliveries WHERE incident_id = 'incident_000000000000' $$, 'a restored alert writes none');

-- ---------------------------------------------------------------------------
-- Claiming and recording
-- ---------------------------------------------------------------------------

SELECT results_eq($$ SELECT service, alert_number, path, body::jsonb->>'alert_type' FROM pg_temp.claim('teams', now()) $$,
    $$ VALUES ('search', 1, '', 'anomaly_detected') $$, 'a webhook gets the payload as it is');
SELECT is_empty($$ SELECT FROM pg_temp.claim('teams', now()) $$, 'what is leased is not claimed again');
SELECT is_empty($$ SELECT FROM pg_temp.claim('teams', now() + interval '119 s') $$, 'nor while the lease lasts');
CREATE TEMP TABLE second AS SELECT * FROM pg_temp.claim('teams', now() + interval '2 min');
SELECT is((SELECT count(*) FROM second), 1::bigint, 'then it is');
SELECT smartbox.record_delivery(service, incident_id, 1, 'teams', now() + interval '2 min', 'dead', 'late', NULL, now()) FROM second;
SELECT is((SELECT status FROM smartbox.deliveries WHERE receiver = 'teams'), 'sending', 'who has lost the lease records nothing');
SELECT smartbox.record_delivery(service, incident_id, 1, 'teams', leased_until, 'retry', 'HTTP status 503', '1 hour', now() + interval '3 min') FROM second;
SELECT results_eq($$ SELECT status, attempts, next_attempt_at, leased_until, last_error FROM smartbox.deliveries WHERE receiver = 'teams' $$,
    $$ VALUES ('pending', 2, now() + interval '63 min', NULL::timestamptz, 'HTTP status 503') $$, 'Retry-After is honoured');
SELECT is((SELECT idempotency_key FROM pg_temp.claim('teams', now() + interval '2 hours')), (SELECT idempotency_key FROM second),
    'a message has one key, however often it is sent');

SELECT results_eq($$ SELECT alert_number, path, jsonb_typeof(body::jsonb) FROM pg_temp.claim('high', now()) $$,
    $$ VALUES (2, '/api/anomalies/batch', 'array') $$, 'one alert of an incident at a time');
SELECT is_empty($$ SELECT FROM pg_temp.claim('high', now()) $$, 'the next one waits');
SELECT smartbox.record_delivery(service, incident_id, 2, 'high', leased_until, 'sent', NULL, NULL, now()) FROM smartbox.deliveries
WHERE receiver = 'high' AND alert_number = 2;
SELECT results_eq($$ SELECT alert_number, path, body::jsonb->0->>'alert_type' FROM pg_temp.claim('high', now()) $$,
    $$ VALUES (3, '/api/incidents/resolve', 'incident_resolved') $$, 'until it was sent');

SELECT is(pg_temp.deliver('all', now(), 'retry'), '{booking 1,search 1}', 'first attempts');
SELECT ok((SELECT bool_and(next_attempt_at BETWEEN now() + interval '5 s' AND now() + interval '15 s') FROM smartbox.deliveries
    WHERE receiver = 'all' AND attempts = 1), 'the first pause is 10 s, more or less');
SELECT is(pg_temp.deliver('all', now() + interval '15 s', 'retry'), '{booking 1,search 1}', 'second attempts');
SELECT ok((SELECT bool_and(next_attempt_at BETWEEN now() + interval '25 s' AND now() + interval '45 s') FROM smartbox.deliveries
    WHERE receiver = 'all' AND attempts = 2), 'the second is longer');
SELECT is_empty($$ SELECT FROM smartbox.deliveries WHERE receiver = 'all' AND attempts = 0 AND status <> 'pending' $$, 'later alerts wait');
SELECT smartbox.expire_deliveries(now() + interval '23 hours');
SELECT is((SELECT count(*) FROM smartbox.deliveries WHERE status = 'dead'), 0::bigint, 'nothing is given up within a day');
SELECT is(pg_temp.deliver('all', now() + interval '1 hour', 'dead'), '{booking 1,search 1}', 'a message that is refused');
SELECT is(pg_temp.deliver('all', now() + interval '1 hour', 'sent'), '{booking 2}', 'does not hold up the next one');
SELECT smartbox.expire_deliveries(now() + interval '24 hours');
SELECT results_eq($$ SELECT alert_number, status, reason FROM smartbox.deliveries WHERE service = 'booking' AND receiver = 'all' ORDER BY 1 $$,
    $$ VALUES (1, 'dead', NULL), (2, 'sent', NULL), (3, 'dead', 'it could not be sent for too long') $$, 'after a day it is dead');
SELECT is(redeliver_alerts('all'), 2, 'dead ones are tried anew');
SELECT results_eq($$ SELECT alert_number, status FROM smartbox.deliveries WHERE service = 'booking' AND receiver = 'all' ORDER BY 1 $$,
    $$ VALUES (1, 'dead'), (2, 'sent'), (3, 'pending') $$, 'but not those that a later one has overtaken');
SELECT throws_ok($$ SELECT redeliver_alerts('nobody') $$, '22023', 'receiver "nobody" is not known', 'of a receiver that there is');
SELECT throws_ok($$ SELECT redeliver_alerts('all', 'sent') $$, '22023', NULL, 'and not what was sent');

-- ---------------------------------------------------------------------------
-- Storms
-- ---------------------------------------------------------------------------

DELETE FROM smartbox.incidents;
DELETE FROM smartbox.alerts;
SELECT is((SELECT count(*) FROM smartbox.deliveries), 0::bigint, 'deliveries go with their incident');
UPDATE smartbox.receivers SET enabled = false;
INSERT INTO smartbox.receivers (receiver, kind, url, max_per_minute) VALUES ('capped', 'webhook', 'http://127.0.0.1:1', 3);
INSERT INTO smartbox.services (service, category) SELECT 's' || n, 'standard' FROM generate_series(1, 7) AS n;
-- payment is behind s1 to s4; s5 to s7 have nothing to do with it.
INSERT INTO smartbox.dependencies SELECT 's' || n, 'payment' FROM generate_series(1, 4) AS n;
SELECT pg_temp.detect(s, 20, '{slow/high}'), pg_temp.detect(s, 25, '{slow/high}')
FROM unnest(ARRAY['payment', 's1', 's2', 's3', 's4', 's5', 's6', 's7']) AS s;
SELECT smartbox.assign_root_causes();
SELECT is((SELECT count(*) FROM smartbox.incidents WHERE root_service = 'payment'), 4::bigint, 'four have the same root');

CREATE TEMP TABLE minute AS SELECT date_trunc('minute', now()) + interval '1 minute' AS at;
CREATE FUNCTION pg_temp.minute(n integer, seconds integer DEFAULT 0) RETURNS timestamptz LANGUAGE sql
AS $$ SELECT at + n * interval '1 min' + seconds * interval '1 s' FROM minute $$;

SELECT is(pg_temp.deliver('capped', pg_temp.minute(0)), '{payment 1,s5 1,s6 1}', 'roots and lone incidents come first');
SELECT results_eq($$ SELECT status, count(*)::int, count(next_attempt_at)::int FROM smartbox.deliveries WHERE service LIKE 's_' GROUP BY 1 ORDER BY 1 $$,
    $$ VALUES ('held', 5, 1), ('sent', 2, 0) $$, 'what is more than the cap is held: children of a root that was told of for good, others for a minute');
SELECT matches((SELECT reason FROM smartbox.deliveries WHERE service = 's1'), '^more than 3 messages in a minute, and incident_\w+ of payment is suspected',
    'with the reason');
SELECT is(pg_temp.deliver('capped', pg_temp.minute(0, 10)), '{"* 1"}', 'one message says so');
SELECT results_eq($$ SELECT payload->>'alert_type', (payload->>'held_count')::int, (payload->>'grouped_count')::int, payload->'services'
    FROM smartbox.deliveries WHERE service = '*' $$,
    $$ VALUES ('alerts_held', 5, 4, '["s1", "s2", "s3", "s4", "s7"]'::jsonb) $$, 'how many, and of whom');
SELECT is(pg_temp.deliver('capped', pg_temp.minute(0, 50)), NULL, 'and no more in this minute');
SELECT pg_temp.detect('s1', 30), pg_temp.detect('s5', 30);
SELECT is(pg_temp.deliver('capped', pg_temp.minute(1)), '{s5 2,s7 1}', 'the next minute has room again; the end of a held incident is not sent');
SELECT results_eq($$ SELECT status, reason FROM smartbox.deliveries WHERE service = 's1' AND alert_number = 2 $$,
    $$ VALUES ('skipped', 'nobody was told of the incident') $$, 'it is skipped');
SELECT is(redeliver_alerts('capped', 'held'), 4, 'what is held can be let go');

-- ---------------------------------------------------------------------------
-- Alertmanager
-- ---------------------------------------------------------------------------

UPDATE smartbox.receivers SET enabled = false;
INSERT INTO smartbox.receivers (receiver, kind, url, ends_after) VALUES ('am', 'alertmanager', 'http://127.0.0.1:1', '20 min');
SELECT pg_temp.detect('booking', 100, '{slow/medium}'), pg_temp.detect('booking', 105, '{slow/medium}'), pg_temp.detect('booking', 110, '{slow/critical}');
CREATE TEMP TABLE sent AS SELECT * FROM pg_temp.claim('am', now());
SELECT results_eq($$ SELECT path, body::jsonb #> '{0,labels}', body::jsonb #>> '{0,startsAt}', (body::jsonb #>> '{0,endsAt}')::timestamptz FROM sent $$,
    $$ SELECT '/api/v2/alerts', jsonb_build_object('alertname', anomaly_name, 'service', service, 'incident_id', incident_id,
           'fingerprint_id', fingerprint_id, 'source', 'smartbox_anomaly'), '2024-01-15T11:40:00+00:00', date_trunc('second', now()) + interval '20 min'
       FROM smartbox.incidents WHERE service = 'booking' $$, 'labels that never change, and an end ahead');
SELECT smartbox.record_delivery(service, incident_id, alert_number, 'am', leased_until, 'sent', NULL, NULL, now()) FROM sent;
SELECT is_empty($$ SELECT FROM smartbox.claim_resends('am', now() + interval '1 min', 50) $$, 'with more to say first, nothing is repeated');
SELECT is(pg_temp.deliver('am', now()), '{booking 2}', 'the escalation follows');
SELECT is_empty($$ SELECT FROM smartbox.claim_resends('am', now() + interval '59 s', 50) $$, 'an open incident is sent again');
SELECT results_eq($$ SELECT alert_number, leased_until, body::jsonb #> '{0,labels}' FROM smartbox.claim_resends('am', now() + interval '1 min', 50) $$,
    $$ SELECT 2, NULL::timestamptz, body::jsonb #> '{0,labels}' FROM sent $$, 'each minute, under the same labels');
SELECT results_eq(
    $$ SELECT n, r.alert_number, r.body::jsonb #> '{0,labels}', (r.body::jsonb #>> '{0,endsAt}')::timestamptz > now() + (n + 1) * interval '1 min'
       FROM generate_series(2, 30) AS n CROSS JOIN LATERAL smartbox.claim_resends('am', now() + n * interval '1 min', 50) AS r $$,
    $$ SELECT n, 2, body::jsonb #> '{0,labels}', true FROM generate_series(2, 30) AS n, sent $$,
    'half an hour without anything new, and its end is ahead each time');
SELECT pg_temp.detect('booking', 115);
SELECT results_eq(
    $$ SELECT alert_number, body::jsonb #> '{0,labels}', body::jsonb #>> '{0,endsAt}' FROM pg_temp.claim('am', now() + interval '31 min') $$,
    $$ SELECT 3, body::jsonb #> '{0,labels}', '2024-01-15T11:55:00+00:00' FROM sent $$, 'over: the same labels, and an end in the past');
SELECT is_empty($$ SELECT FROM smartbox.claim_resends('am', now() + interval '31 min', 50) $$, 'which is not said to go on meanwhile');

SELECT * FROM finish();
ROLLBACK;
