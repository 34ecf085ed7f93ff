-- backtest(): what it refuses, and what its options do.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(52);

CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'Europe/Berlin'), ('search', 'UTC'), ('new', 'UTC');
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT s.service, t.ts, ARRAY[100 * noise(k, 0.07),
    120 * noise(k + 1, 0.06) * CASE WHEN t.ts BETWEEN '2024-01-31 10:00+00' AND '2024-01-31 11:00+00' THEN 6 ELSE 1 END,
    40 * noise(k + 2, 0.08), 8 * noise(k + 3, 0.08), 0.002 * noise(k + 4, 0.2)]
FROM (VALUES ('booking', 1), ('search', 2)) AS s(service, n),
    generate_series('2024-01-01 00:05+00'::timestamptz, '2024-02-02 00:00+00', '5 min') AS t(ts),
    LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + s.n * 7 AS k) AS seed
WHERE NOT (s.n = 1 AND t.ts BETWEEN '2024-02-01 12:00+00' AND '2024-02-01 13:00+00');

CREATE FUNCTION run(options jsonb) RETURNS TABLE (rows bigint, anomalies bigint, alerting bigint) LANGUAGE sql AS
$$ SELECT count(*), count(*) FILTER (WHERE is_anomaly), count(*) FILTER (WHERE alerting)
   FROM backtest('booking', '2024-01-31', '2024-02-01', options) $$;
CREATE FUNCTION refused(options jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    PERFORM run(options);
    RETURN 'accepted';
EXCEPTION WHEN invalid_parameter_value OR undefined_object OR invalid_datetime_format THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLERRM || coalesce(nullif('. ' || hint, '. '), '');
END $$;

-- What it gives
SELECT is(count(*), 289::bigint, 'a row for each sample, both ends included') FROM backtest('booking', '2024-01-31 00:00+00', '2024-02-01 00:00+00');
SELECT is(count(DISTINCT incident_id), 1::bigint, 'the fault is one incident')
FROM backtest('booking', '2024-01-31 10:00+00', '2024-01-31 11:00+00') WHERE is_anomaly;
SELECT results_eq(
    $$ SELECT incident_action, alerting FROM backtest('booking', '2024-01-31 10:00+00', '2024-01-31 10:10+00') ORDER BY ts $$,
    $$ VALUES ('CREATE'::smartbox.incident_event, false), ('CONFIRM', true), ('CONTINUE', true) $$, 'suspected, confirmed, continued');
SELECT is(incident_id, smartbox.incident_id(fingerprint_id('booking', anomaly_name), ts), 'incidents are named as the live ones are')
FROM backtest('booking', '2024-01-31 10:00+00', '2024-01-31 10:00+00');
SELECT results_eq(
    $$ SELECT fingerprint_id, status::text, confirmed_at, resolution_reason, occurrence_count
       FROM backtest_incidents('booking', '2024-01-31 10:00+00', '2024-01-31 12:00+00') WHERE confirmed_at IS NOT NULL $$,
    $$ VALUES (fingerprint_id('booking', 'application_latency_high'), 'CLOSED', '2024-01-31 10:05+00'::timestamptz, 'resolved', 13) $$,
    'the incident came and went');
SELECT is(count(*), 0::bigint, 'a span without samples has no rows') FROM backtest('booking', '2024-03-01', '2024-03-02');
SELECT is(count(*), 0::bigint, 'nor has a service without any') FROM backtest('new', '2024-01-31', '2024-02-01');
SELECT results_eq(
    $$ SELECT count(*), min(ts), bool_and(is_anomaly AND score IS NULL AND anomaly_name = 'no_data')
       FROM backtest('booking', '2024-02-01 11:00+00', '2024-02-01 14:00+00') WHERE no_data $$,
    $$ VALUES (12::bigint, '2024-02-01 12:05+00'::timestamptz, true) $$, 'it was silent for an hour while another reported');
SELECT is(count(*), 0::bigint, 'before there is anything to learn from nothing is judged')
FROM backtest('booking', '2024-01-01', '2024-01-01 12:00+00') WHERE score IS NOT NULL;
SELECT is((SELECT count(*) FROM smartbox.models) + (SELECT count(*) FROM smartbox.detections)
    + (SELECT count(*) FROM smartbox.incidents) + (SELECT count(*) FROM smartbox.training_runs), 0::bigint, 'nothing was written');

-- Options
SELECT is(alerting, 12::bigint, 'twelve samples would wake somebody') FROM run('{}');
SELECT is(alerting, 12::bigint, 'options may be null') FROM run(NULL);
SELECT is(alerting, 13::bigint, 'thirteen when one detection is enough') FROM run('{"confirmation_cycles": 1}');
SELECT is(alerting, 0::bigint, 'none when more are asked for than there are') FROM run('{"confirmation_cycles": 20}');
SELECT is(anomalies, 0::bigint, 'no score is below -1') FROM run('{"threshold": -1}');
SELECT cmp_ok(anomalies, '>', 13::bigint, 'a threshold above 0 finds more') 
FROM run('{"threshold": 1, "min_relative_deviation": {"application_latency": 0}, "min_absolute_deviation": {"application_latency": 0}}');
SELECT is(anomalies, 0::bigint, 'the fault is in no other metric') FROM run('{"metrics": ["dependency_latency"]}');
SELECT is(anomalies, 0::bigint, 'six times is too little when ten are asked for')
FROM run('{"min_relative_deviation": {"application_latency": 9}, "metrics": ["application_latency"]}');
SELECT is(anomalies, 0::bigint, 'nor with a bar that asks for ten, and without rules')
FROM run('{"signal_bars": [{"metric": "application_latency", "direction": "high", "absolute_deviation": 0, "relative_deviation": 9}], "rules": false}');
SELECT is(alerting, 12::bigint, 'a bar in the other direction is none')
FROM run('{"signal_bars": [{"metric": "application_latency", "direction": "low", "absolute_deviation": 1e6, "relative_deviation": 9}]}');
SAVEPOINT bars;
INSERT INTO smartbox.signal_bars VALUES ('booking', 'application_latency', 'high', 'incident_000000000000', 0, 9);
SELECT is(anomalies, 0::bigint, 'the bars of the table count') FROM run('{}');
SELECT is(alerting, 12::bigint, 'unless they are left out') FROM run('{"signal_bars": false}');
ROLLBACK TO bars;
SELECT is(alerting, 12::bigint, 'a rule finds it where nothing else does')
FROM run('{"min_relative_deviation": {"application_latency": 9}, "rules": [{"metric": "application_latency", "comparison": "above", "threshold": 400, "severity": "high"}]}');
INSERT INTO smartbox.rules (metric, comparison, threshold, severity) VALUES ('application_latency', 'above', 500, 'medium');
SELECT is(alerting, 12::bigint, 'so does one for all')
FROM run('{"min_relative_deviation": {"application_latency": 9}}');
SELECT is(anomalies, 0::bigint, 'whose place another one takes')
FROM run('{"min_relative_deviation": {"application_latency": 9}, "rules": [{"metric": "application_latency", "comparison": "above", "threshold": 5000, "severity": "medium"}]}');
SELECT is(anomalies, 0::bigint, 'or none')
FROM run('{"min_relative_deviation": {"application_latency": 9}, "rules": [{"metric": "application_latency", "comparison": "above", "threshold": 1, "severity": "medium", "enabled": false}]}');
DELETE FROM smartbox.rules WHERE severity = 'medium' AND NOT shipped;
SELECT cmp_ok(alerting, '>', 0::bigint, 'without forests it is found too') FROM run('{"forests": false}');
SELECT cmp_ok(alerting, '>', 0::bigint, 'with one model for the week') FROM run('{"periods": false}');
SELECT cmp_ok(alerting, '>', 0::bigint, 'and with models of six hours ago') FROM run('{"retrain": "6 hours", "lookback": "21 days"}');
SELECT isnt_empty($$ SELECT score FROM backtest('booking', '2024-01-31', '2024-02-01', '{"retrain": "6 hours"}') EXCEPT
    SELECT score FROM backtest('booking', '2024-01-31', '2024-02-01') $$, 'which are others');
SELECT is_empty($$ SELECT * FROM backtest('booking', '2024-01-31', '2024-02-01', '{"retrain": "6 hours"}')
    WHERE ts < '2024-01-31 06:00+00' EXCEPT SELECT * FROM backtest('booking', '2024-01-31', '2024-02-01') $$, 'from then on');
SELECT is_empty($$ SELECT * FROM backtest('booking', '2024-01-31', '2024-02-02', '{"calendar": false}') EXCEPT
    SELECT * FROM backtest('booking', '2024-01-31', '2024-02-02') $$, 'an empty calendar changes nothing');
INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('holiday', '2024-01-31');
SELECT is((SELECT string_agg(DISTINCT time_period, ' ' ORDER BY time_period) FROM backtest('search', '2024-01-31 00:00+00', '2024-01-31 23:00+00')),
    'weekend_day weekend_night', 'a holiday counts as a Sunday');
SELECT is((SELECT string_agg(DISTINCT time_period, ' ' ORDER BY time_period) FROM backtest('search', '2024-01-31 00:00+00', '2024-01-31 23:00+00', '{"calendar": false}')),
    'business_hours evening_hours night_hours', 'unless the calendar is left out');

-- What it refuses
SELECT is(refused('{"tresh": 1}'), 'option "tresh" is not known. There are: calendar, confirmation_cycles, contamination, false_alarms_per_week, '
    'forests, incident_separation, lookback, metrics, min_absolute_deviation, min_relative_deviation, periods, resolution_grace_cycles, retrain, rules, signal_bars, threshold.',
    'an unknown option, with those that there are');
SELECT is(refused(o::jsonb), m, o) FROM (VALUES
    ('{"threshold": "low"}', 'option "threshold" must be a number from -1 to 1'),
    ('{"confirmation_cycles": 1.5}', 'option "confirmation_cycles" must be a whole number from 1 to 1000'),
    ('{"forests": 1}', 'option "forests" must be true or false'),
    ('{"retrain": "5 minutes"}', 'option "retrain" must be an interval of at least one hour, such as "1 day"'),
    ('{"metrics": ["latency"]}', 'metric "latency" is not known. There are: request_rate, application_latency, dependency_latency, database_latency, error_rate.'),
    ('{"metrics": []}', 'option "metrics" must be an array with at least one name of a metric'),
    ('{"min_absolute_deviation": {"error_rate": -1}}',
     'option "min_absolute_deviation" must be an object of metrics and numbers, such as {"error_rate": 0.01}, none below 0'),
    ('{"signal_bars": [{"metric": "error_rate", "direction": "up", "absolute_deviation": 1, "relative_deviation": 1}]}',
     'option "signal_bars" must be true, false, or an array of objects with metric, direction (high or low), absolute_deviation and relative_deviation'),
    ('{"rules": [{"metric": "error_rate", "comparison": "above", "severity": "high"}]}',
     'option "rules" must be true, false, or an array of objects with metric, comparison, threshold and severity as smartbox.rules has them'),
    ('[1]', 'options must be a JSON object. For example {"threshold": -0.1}.')) AS x(o, m);
SELECT throws_ok($$ SELECT backtest('bookin', now(), now()) $$, '42704', 'service "bookin" is not known', 'an unknown service');
SELECT throws_ok($$ SELECT backtest('booking', now(), now() - interval '1 day') $$, '22023', 'since must not be after until', 'time that runs backwards');
SELECT throws_ok($$ SELECT backtest('booking', NULL, now()) $$, '22004', 'since must not be null', 'no beginning');

-- What would have been caught of what people remember
INSERT INTO smartbox.past_incidents (service, started_at, ended_at, title) VALUES
    ('booking', '2024-01-31 10:20+00', '2024-01-31 11:00+00', 'slow'), ('booking', '2024-01-30 10:00+00', NULL, 'nothing'),
    ('booking', '2024-01-31 10:55+00', '2024-01-31 11:00+00', 'the end of it'), ('booking', '2024-01-01 10:00+00', NULL, 'too early'), ('nobody', '2024-01-31', NULL, 'elsewhere');
SELECT results_eq(
    $$ SELECT title, outcome, anomaly_name, minutes_after_start FROM past_incident_coverage('30 min', '{}') ORDER BY title $$,
    $$ VALUES ('elsewhere', 'unknown service', NULL, NULL), ('nothing', 'missed', NULL, NULL), ('slow', 'caught', 'application_latency_high', -15::float8),
              ('the end of it', 'missed', NULL, NULL), ('too early', 'not judged', NULL, NULL) $$,
    'past_incident_coverage: caught by a backtest, and how long before; what began long before is another incident');
SELECT results_eq(
    $$ SELECT outcome, minutes_after_start FROM past_incident_coverage('30 min', '{"confirmation_cycles": 20}') WHERE title = 'slow' $$,
    $$ VALUES ('suspected', -20::float8) $$, 'with options, it would not have been told');
SELECT is(count(*), 5::bigint, 'without options it looks at what was detected, which is nothing')
FROM past_incident_coverage() WHERE outcome IN ('not judged', 'unknown service');
SELECT throws_ok($$ SELECT FROM past_incident_coverage('30 min', '{"tresh": 1}') $$, '22023', 'option "tresh" is not known', 'options are those of backtest()');

SELECT * FROM finish();
ROLLBACK;
