-- Statistics of incidents, with known data; past incidents.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL TimeZone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(26);

-- now() stands still within a transaction.
CREATE FUNCTION pg_temp.minute(n int) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2024-01-15 10:00+00'::timestamptz + n * interval '1 min' $$;
CREATE FUNCTION pg_temp.quietly(anyelement) RETURNS SETOF void LANGUAGE sql AS $$ SELECT NULL::void WHERE false $$;
\ir helpers/incidents.sql
CREATE FUNCTION pg_temp.incident_of(of_service text, name text, nth int DEFAULT 1) RETURNS text LANGUAGE sql AS $$
    SELECT incident_id FROM smartbox.incidents WHERE service = of_service AND anomaly_name = name ORDER BY first_seen OFFSET nth - 1 LIMIT 1
$$;

-- booking: x for 10 minutes and resolved after 15 more, again for 5 minutes the
-- next day and still open; y a suspicion. search: z, told and judged.
SELECT pg_temp.new_service('booking'), pg_temp.new_service('search'), pg_temp.new_service('quiet');
SELECT pg_temp.cycle('booking', 0, 'x'), pg_temp.cycle('booking', 5, 'x', 'y'), pg_temp.cycle('booking', 10, 'x'),
       pg_temp.cycle('booking', 15), pg_temp.cycle('booking', 20), pg_temp.cycle('booking', 25),
       pg_temp.cycle('booking', 1440, 'x/critical'), pg_temp.cycle('booking', 1445, 'x/critical'),
       pg_temp.cycle('search', 0, 'z/medium'), pg_temp.cycle('search', 5, 'z/medium'), pg_temp.cycle('search', 10, 'z/medium');
UPDATE smartbox.incidents SET acknowledged_at = confirmed_at + interval '7 min', acknowledged_by = 'eve'
WHERE incident_id = pg_temp.incident_of('booking', 'x');
SELECT pg_temp.quietly(feedback(pg_temp.incident_of('booking', 'x'), 'anomaly')),
       pg_temp.quietly(feedback(pg_temp.incident_of('booking', 'x', 2), 'anomaly')),
       pg_temp.quietly(feedback(pg_temp.incident_of('booking', 'x', 2), 'not_anomaly')),
       pg_temp.quietly(add_note(pg_temp.incident_of('booking', 'x', 2), 'a note is no verdict'));

SELECT results_eq(
    $$ SELECT service, anomaly_name, status::text, is_confirmed, is_open, minutes_to_acknowledge, minutes_to_resolve, minutes_active, verdict, is_false_alarm
       FROM smartbox.incident_facts ORDER BY service, anomaly_name, first_seen $$,
    $$ VALUES ('booking', 'x', 'CLOSED', true, false, 7::float8, 25::float8, 25::float8, 'anomaly', false),
              ('booking', 'x', 'OPEN', true, true, NULL, NULL, 5, 'not_anomaly', true),
              ('booking', 'y', 'CLOSED', false, false, NULL, 15, 15, NULL, NULL),
              ('search', 'z', 'OPEN', true, true, NULL, NULL, 10, NULL, NULL) $$,
    'incident_facts: times, and the newest verdict');
SELECT results_eq(
    $$ SELECT service, anomaly_name, incidents, confirmed_incidents, open_incidents, expired_suspicions, mean_minutes_to_acknowledge,
           mean_minutes_to_resolve, longest_minutes, longest_incident_id = pg_temp.incident_of('booking', 'x'), judged, false_alarms, precision_by_feedback
       FROM smartbox.pattern_statistics ORDER BY service, anomaly_name $$,
    $$ VALUES ('booking', 'x', 2::bigint, 2::bigint, 1::bigint, 0::bigint, 7::float8, 25::float8, 25::float8, true, 2::bigint, 1::bigint, 0.5::float8),
              ('booking', 'y', 1, 0, 0, 1, NULL, NULL, NULL, NULL, 0, 0, NULL), ('search', 'z', 1, 1, 1, 0, NULL, NULL, 10, false, 0, 0, NULL) $$,
    'pattern_statistics');
SELECT results_eq(
    $$ SELECT service, severity::text, incidents, acknowledged, oldest_first_seen FROM smartbox.open_incidents ORDER BY service $$,
    $$ VALUES ('booking', 'critical', 1::bigint, 0::bigint, pg_temp.minute(1440)), ('search', 'medium', 1, 0, pg_temp.minute(0)) $$,
    'open_incidents, by service and severity');
SELECT results_eq(
    $$ SELECT service, day, created, confirmed, resolved, expired FROM smartbox.incident_days ORDER BY service, day $$,
    $$ VALUES ('booking', '2024-01-15'::timestamptz, 2::bigint, 1::bigint, 1::bigint, 1::bigint), ('booking', '2024-01-16', 1, 1, 0, 0), ('search', '2024-01-15', 1, 1, 0, 0) $$,
    'incident_days: created against resolved');
SELECT results_eq(
    $$ SELECT service, incidents, confirmed_incidents, open_incidents, acknowledged_incidents, mean_minutes_to_acknowledge, mean_minutes_to_resolve,
           longest_minutes, judged, false_alarms, precision_by_feedback FROM smartbox.incident_statistics ORDER BY service $$,
    $$ VALUES ('booking', 3::bigint, 2::bigint, 1::bigint, 1::bigint, 7::float8, 25::float8, 25::float8, 2::bigint, 1::bigint, 0.5::float8),
              ('search', 1, 1, 1, 0, NULL, NULL, 10, 0, 0, NULL) $$,
    'incident_statistics');

-- What was expected of the metrics
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('search', pg_temp.minute(15), true,
    '{"anomalies": [{"name": "z", "score": -0.2, "contributions": {"error_rate": 0.7}, "comparison": {
        "error_rate": {"value": 0.2, "expected": 0.01, "lower": 0, "upper": 0.02, "deviation_sigma": 12, "percentile": 100},
        "request_rate": {"value": 3, "expected": null}}}]}');
SELECT results_eq(
    $$ SELECT anomaly_number, anomaly_name, incident_id, metric, value, expected, lower, upper, deviation_sigma, percentile, contribution, unit
       FROM smartbox.anomaly_metrics WHERE service = 'search' ORDER BY metric $$,
    $$ VALUES (1, 'z', pg_temp.incident_of('search', 'z'), 'error_rate', 0.2::float8, 0.01::float8, 0::float8, 0.02::float8, 12::float8, 100::float8, 0.7::float8, 'ratio'),
              (1, 'z', pg_temp.incident_of('search', 'z'), 'request_rate', 3, NULL, NULL, NULL, NULL, NULL, NULL, 'req/s') $$,
    'anomaly_metrics');

-- How each service is
SELECT pg_temp.new_service('new'), pg_temp.new_service('lagging'), pg_temp.new_service('lost'), pg_temp.new_service('maybe'), pg_temp.new_service('off');
UPDATE smartbox.services SET enabled = false WHERE service = 'off';
SELECT pg_temp.cycle('quiet', 0), pg_temp.cycle('lagging', 0), pg_temp.cycle('maybe', 0, 'm'), pg_temp.cycle('lost', 0);
SELECT pg_temp.no_data('lost', 5);
INSERT INTO smartbox.samples SELECT service, pg_temp.minute(0), '{1}' FROM smartbox.services;
INSERT INTO smartbox.samples SELECT 'lagging', pg_temp.minute(n), '{1}' FROM generate_series(5, 20, 5) AS n;
SELECT results_eq(
    $$ SELECT service, status, worst_severity::text, open_critical, open_high, open_medium, open_low, suspected, unacknowledged
       FROM smartbox.service_health ORDER BY status_rank, service $$,
    $$ VALUES ('booking', 'critical', 'critical', 1::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 1::bigint),
              ('search', 'medium', 'medium', 0, 0, 1, 0, 0, 1), ('lost', 'silent', NULL, 0, 0, 0, 0, 0, 0),
              ('lagging', 'not judged', NULL, 0, 0, 0, 0, 0, 0), ('new', 'not judged', NULL, 0, 0, 0, 0, 0, 0),
              ('maybe', 'suspected', NULL, 0, 0, 0, 0, 1, 0), ('quiet', 'ok', NULL, 0, 0, 0, 0, 0, 0), ('off', 'disabled', NULL, 0, 0, 0, 0, 0, 0) $$,
    'service_health: one row per service, worst first');
SELECT results_eq(
    $$ SELECT last_sample, last_detection, active_models, last_trained_at, data_quality IS NOT NULL, alarms_7d
       FROM smartbox.service_health WHERE service IN ('lagging', 'off') ORDER BY service $$,
    $$ VALUES (pg_temp.minute(20), pg_temp.minute(0), 0::bigint, NULL::timestamptz, true, 0::bigint), (pg_temp.minute(0), NULL, 0, NULL, false, 0) $$,
    'with its data');
INSERT INTO smartbox.models (service, time_period, version, status, is_active, model, samples, trained_at)
VALUES ('quiet', 'night_hours', 1, 'accepted', true, '\x01', 10, pg_temp.minute(3));
SELECT results_eq($$ SELECT active_models, last_trained_at FROM smartbox.service_health WHERE service = 'quiet' $$,
    $$ VALUES (1::bigint, pg_temp.minute(3)) $$, 'and its models');

-- The last weeks
DELETE FROM smartbox.services;
SELECT pg_temp.new_service('booking'), pg_temp.new_service('young'), pg_temp.new_service('it''s');
UPDATE smartbox.services SET created_at = now() - interval '400 days' WHERE service = 'booking';
CREATE FUNCTION pg_temp.alarm(of_service text, name text, hours_ago int, occurrences int, reopened int, of_verdict text) RETURNS SETOF void LANGUAGE sql AS $$
    WITH i AS (
        INSERT INTO smartbox.incidents (service, incident_id, fingerprint_id, anomaly_name, status, severity, first_seen, confirmed_at,
            last_seen, last_evaluated, resolved_at, resolution_reason, occurrence_count, reopen_count)
        SELECT of_service, smartbox.incident_id(fingerprint_id(of_service, name), t), fingerprint_id(of_service, name), name, 'CLOSED', 'high',
            t, t, t, t, t, 'resolved', occurrences, reopened
        FROM (SELECT now() - hours_ago * interval '1 hour' AS t) AS at
        RETURNING service, incident_id)
    INSERT INTO smartbox.feedback (service, incident_id, feedback_number, verdict)
    SELECT service, incident_id, 1, of_verdict FROM i WHERE of_verdict IS NOT NULL;
    SELECT NULL::void WHERE false
$$;
SELECT is(count(*), 12::bigint, 'service_weeks has weeks without an alarm, too') FROM smartbox.service_weeks WHERE service = 'booking';
SELECT is(count(*), 1::bigint, 'but none before the service was known') FROM smartbox.service_weeks WHERE service = 'young';
SELECT pg_temp.alarm('booking', 'error_rate_high', n, 9, 0, CASE WHEN n < 4 THEN 'not_anomaly' ELSE 'anomaly' END) FROM generate_series(0, 4) AS n;
SELECT is((sum(alarms), sum(judged), sum(false_alarms), min(false_alarm_budget), bool_or(is_over_budget))::text,
    CASE WHEN now() - date_trunc('week', now()) >= interval '2 hours' OR now() - date_trunc('week', now()) < interval '1 hour'
        THEN '(5,5,4,2,t)' ELSE '(5,5,4,2,f)' END, 'alarms, and how many were false')
FROM smartbox.service_weeks WHERE service = 'booking';
SELECT results_eq($$ SELECT alarms_7d, false_alarms_7d FROM smartbox.service_health WHERE service = 'booking' $$, $$ VALUES (5::bigint, 4::bigint) $$,
    'service_health has the last 7 days');
SELECT pg_temp.alarm('booking', 'old', 168 + n, 9, 0, NULL) FROM generate_series(1, 3) AS n;
SELECT is(alarms_7d, 5::bigint, 'and not the time before') FROM smartbox.service_health WHERE service = 'booking';

-- Noise and what to do about it; each statement does what it says.
SELECT pg_temp.alarm('booking', 'flaps', n, 9, 2, NULL) FROM generate_series(1, 2) AS n;
SELECT pg_temp.alarm('booking', 'short', n, 3, 0, NULL) FROM generate_series(1, 4) AS n;
INSERT INTO smartbox.fingerprints VALUES ('it''s', fingerprint_id('it''s', 'odd'), 'odd', now(), now(), 2);
SELECT pg_temp.alarm('it''s', 'odd', n, 9, 0, 'not_anomaly') FROM generate_series(1, 2) AS n;
SELECT pg_temp.alarm('booking', 'once', 1, 9, 0, NULL), pg_temp.alarm('young', 'ancient', 700, 9, 0, NULL), pg_temp.alarm('young', 'ancient', 701, 9, 0, NULL);
SELECT results_eq(
    $$ SELECT rank, service, anomaly_name, alarms, judged, false_alarms, short_alarms, reopenings, remedy FROM smartbox.noisy_patterns ORDER BY rank $$,
    $$ VALUES (1::bigint, 'booking', 'error_rate_high', 5::bigint, 5::bigint, 4::bigint, 0::bigint, 0::bigint, 'let smaller deviations of the metric be, for all services'),
              (2, 'booking', 'short', 4, 0, 0, 4, 0, 'wait for one more cycle before anybody is told'),
              (3, 'booking', 'old', 3, 0, 0, 0, 0, 'say what it was: not_anomaly raises the bar'),
              (4, 'booking', 'flaps', 2, 0, 0, 0, 4, 'wait longer before it counts as over'),
              (5, 'it''s', 'odd', 2, 2, 2, 0, 0, 'silence it until it is understood') $$,
    'noisy_patterns: the most alarms first, each with a remedy');
CREATE FUNCTION pg_temp.run(of_name text) RETURNS SETOF void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE (SELECT statement FROM smartbox.noisy_patterns WHERE anomaly_name = of_name);
    RETURN;
END
$$;
SELECT pg_temp.run('error_rate_high'), pg_temp.run('short'), pg_temp.run('flaps'), pg_temp.run('odd'), pg_temp.run('old');
SELECT is(min_relative_deviation, 0.75::float8, 'its statement asks for larger deviations') FROM smartbox.metrics WHERE metric = 'error_rate';
SELECT is((confirmation_cycles, resolution_grace_cycles)::text, '(3,6)', 'for more cycles, before and after') FROM smartbox.services WHERE service = 'booking';
SELECT results_eq($$ SELECT service, pattern, until, note FROM smartbox.silences $$, $$ VALUES ('it''s', 'odd', now() + interval '7 days', 'noisy') $$, 'silences');
SELECT results_eq($$ SELECT i.anomaly_name, f.verdict FROM smartbox.feedback AS f JOIN smartbox.incidents AS i USING (service, incident_id) WHERE i.anomaly_name = 'old' $$,
    $$ VALUES ('old', 'not_anomaly') $$, 'or gives feedback');

-- Past incidents
DELETE FROM smartbox.services;
SELECT pg_temp.new_service('booking'), pg_temp.new_service('search-api');
SELECT lives_ok($$ INSERT INTO smartbox.past_incidents VALUES ('booking', pg_temp.minute(0), NULL, 'x', 'sev1', 'T-1') $$, 'a past incident');
SELECT throws_ok($$ INSERT INTO smartbox.past_incidents VALUES ('booking', pg_temp.minute(0), NULL, 'x') $$, '23505', NULL, 'but not twice');
SELECT throws_ok($$ INSERT INTO smartbox.past_incidents VALUES ('booking', pg_temp.minute(0), pg_temp.minute(-1), 'y') $$, '23514', NULL, 'and not with an end before its start');
SELECT throws_ok($$ INSERT INTO smartbox.past_incidents VALUES ('booking', pg_temp.minute(0), NULL, '') $$, '23514', NULL, 'nor without a title');
TRUNCATE smartbox.past_incidents, smartbox.samples;

INSERT INTO smartbox.past_incidents (service, started_at, ended_at, title) VALUES
    ('booking', pg_temp.minute(30), pg_temp.minute(60), 'early'), ('booking', pg_temp.minute(200), NULL, 'late'), ('booking', pg_temp.minute(400), pg_temp.minute(410), 'suspected'),
    ('booking', pg_temp.minute(600), pg_temp.minute(660), 'missed'), ('booking', pg_temp.minute(900), pg_temp.minute(905), 'nobody looked'), ('Search', pg_temp.minute(0), NULL, 'elsewhere'),
    ('zzz', pg_temp.minute(0), NULL, 'nowhere');
SELECT pg_temp.cycle('booking', 10, 'x'), pg_temp.cycle('booking', 15, 'x'), pg_temp.cycle('booking', 20), pg_temp.cycle('booking', 25), pg_temp.cycle('booking', 30), pg_temp.cycle('booking', 50, 'z'), pg_temp.cycle('booking', 55, 'z'),
    pg_temp.cycle('booking', 220, 'w'), pg_temp.cycle('booking', 225, 'w'), pg_temp.cycle('booking', 380), pg_temp.cycle('booking', 385),
    pg_temp.cycle('booking', 390), pg_temp.cycle('booking', 405, 's'), pg_temp.cycle('booking', 415), pg_temp.cycle('booking', 610);
SELECT pg_temp.no_data('booking', 900);
INSERT INTO smartbox.samples VALUES ('booking', pg_temp.minute(610), '{1}'), ('booking', pg_temp.minute(691), '{1}');
SELECT results_eq(
    $$ SELECT service, title, outcome, samples, detections, anomaly_name, minutes_after_start FROM past_incident_coverage() ORDER BY lower(service), started_at $$,
    $$ VALUES ('booking', 'early', 'caught', 0::bigint, 7::bigint, 'x', -15::float8), ('booking', 'late', 'caught', 0, 2, 'w', 25),
              ('booking', 'suspected', 'suspected', 0, 5, 's', 5), ('booking', 'missed', 'missed', 1, 1, NULL, NULL),
              ('booking', 'nobody looked', 'not judged', 0, 0, NULL, NULL), ('Search', 'elsewhere', 'unknown service', 0, 0, NULL, NULL),
              ('zzz', 'nowhere', 'unknown service', 0, 0, NULL, NULL) $$,
    'past_incident_coverage: what was caught, and when');
SELECT results_eq($$ SELECT title, outcome, minutes_after_start FROM past_incident_coverage('10 min') WHERE service = 'booking' AND title <> 'missed' ORDER BY started_at LIMIT 2 $$,
    $$ VALUES ('early', 'caught', 25::float8), ('late', 'caught', 25) $$, 'what began earlier than the tolerance is another incident');
SELECT results_eq($$ SELECT service, past_incidents, perhaps FROM smartbox.unknown_past_services ORDER BY lower(service) $$,
    $$ VALUES ('Search', 1::bigint, 'search-api'), ('zzz', 1, NULL) $$, 'names that are not known, and what may be meant');

SELECT * FROM finish();
ROLLBACK;
