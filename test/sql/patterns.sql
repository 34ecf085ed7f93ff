-- Hard rules and patterns in detections: what the payload and the incident say.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

-- The newest detection: what is wrong, how bad, what it is taken for, what found it.
CREATE FUNCTION say(of_service text, at timestamptz) RETURNS TABLE (type text, severity text, name text, score boolean, pattern text, signals text)
LANGUAGE sql AS
    $$ SELECT coalesce(a ->> 'type', answer ->> 'alert_type'), answer ->> 'overall_severity', a ->> 'name', a ? 'score', a ->> 'pattern',
              (SELECT string_agg(s ->> 'name' || ' ' || replace(s ->> 'method', 'univariate_isolation_', ''), ', ' ORDER BY n)
               FROM jsonb_array_elements(a -> 'detection_signals') WITH ORDINALITY AS x (s, n) WHERE s ? 'name')
       FROM detect_anomalies(of_service, at) AS answer LEFT JOIN jsonb_array_elements(answer -> 'anomalies') AS a ON true $$;

-- ---------------------------------------------------------------------------
-- Without any model
-- ---------------------------------------------------------------------------
INSERT INTO smartbox.services (service, confirmation_cycles, resolution_grace_cycles) VALUES ('fresh', 2, 1), ('slow', 2, 1);
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES
    ('fresh', '2024-01-29 10:00+00', '{20,120,NULL,NULL,0.04}'),
    ('fresh', '2024-01-29 10:05+00', '{20,120,NULL,NULL,0.06}'),
    ('fresh', '2024-01-29 10:10+00', '{20,1500,NULL,NULL,0.06}'),
    ('fresh', '2024-01-29 10:15+00', '{20,2500,NULL,NULL,0.04}'),
    ('fresh', '2024-01-29 10:20+00', '{20,120,NULL,NULL,0.04}'),
    ('fresh', '2024-01-29 10:25+00', '{20,120,NULL,NULL,0.04}'),
    -- one of two requests failed, one of them was slow: that is no rate and no mean
    ('fresh', '2024-01-29 10:30+00', '{0.0067,5000,NULL,NULL,0.5}'),
    -- all of ten failed
    ('fresh', '2024-01-29 10:35+00', '{0.034,120,NULL,NULL,1}'),
    -- how many there were is not known
    ('fresh', '2024-01-29 10:40+00', '{NULL,120,NULL,NULL,0.5}');
SELECT to_char(ts, 'HH24:MI') AS at, said.* FROM smartbox.samples CROSS JOIN LATERAL say(service, ts) AS said WHERE service = 'fresh' ORDER BY ts;
SELECT anomaly_name, status, severity, score, pattern, description FROM smartbox.incidents ORDER BY first_seen;
SELECT jsonb_pretty(payload #> '{anomalies,0}' #- '{metadata,incident_id}') FROM smartbox.detections WHERE ts = '2024-01-29 10:05+00';

-- a service's own rules take the place of those for all, or switch them off
INSERT INTO smartbox.rules (service, metric, comparison, threshold, severity) VALUES ('slow', 'application_latency', 'above', 9000, 'critical');
INSERT INTO smartbox.rules (service, metric, comparison, threshold, severity, enabled) VALUES ('slow', 'application_latency', 'above', 1000, 'high', false);
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES
    ('slow', '2024-01-29 10:00+00', '{20,8000,NULL,NULL,0.04}'), ('slow', '2024-01-29 10:05+00', '{20,9500,NULL,NULL,0.04}');
SELECT to_char(ts, 'HH24:MI') AS at, said.* FROM smartbox.samples CROSS JOIN LATERAL say(service, ts) AS said WHERE service = 'slow' ORDER BY ts;

-- ---------------------------------------------------------------------------
-- With a model
-- ---------------------------------------------------------------------------
INSERT INTO smartbox.services (service, confirmation_cycles, resolution_grace_cycles) VALUES ('shop', 1, 1), ('report', 1, 1);
CREATE FUNCTION noise(i bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    $$ SELECT sum((((i + k) * 7919 + salt * 104729) * 48271 + (i + k) * (i + k) * 31) % 10007)::float8 / (4 * 10006) - 0.5
       FROM generate_series(0, 30000, 10000) AS k $$;
CREATE FUNCTION sample_at(salt bigint, ts timestamptz, latency float8) RETURNS float8[] LANGUAGE sql STABLE AS
    $$ SELECT ARRAY[40 * load * (1 + 0.2 * noise(i, salt)), latency * (1 + 0.1 * noise(i, salt + 1)), latency / 4 * (1 + 0.15 * noise(i, salt + 2)),
                    latency / 10 * (1 + 0.15 * noise(i, salt + 3)), 0.002 * (1 + 0.5 * noise(i, salt + 4))]
       FROM (SELECT extract(epoch FROM ts)::bigint / 300 AS i,
                    1.2 - cos((extract(epoch FROM ts)::bigint % 86400) / 86400.0 * 2 * pi()) AS load) AS at $$;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT service, ts, sample_at(salt, ts, latency)
FROM (VALUES ('shop', 1, 200), ('report', 20, 1500)) AS s (service, salt, latency),
     generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-29 10:00+00', '5 min') AS ts;
SELECT service, status, count(*) FROM train_models(ARRAY['shop', 'report']) GROUP BY 1, 2 ORDER BY 1;

-- a second and a half is what the report always takes: the rule for all keeps
-- quiet and says so, and one of its own does not
SELECT answer ->> 'alert_type' AS alert_type, answer -> 'usual_beyond_rules' AS usual_beyond_rules FROM detect_anomalies('report', '2024-01-29 09:50+00') AS answer;
INSERT INTO smartbox.rules (service, metric, comparison, threshold, severity) VALUES ('report', 'application_latency', 'above', 1000, 'high');
SELECT type, severity, name, score, signals FROM say('report', '2024-01-29 09:55+00');
DELETE FROM smartbox.rules WHERE service = 'report';
SELECT said.* FROM say('report', '2024-01-29 10:00+00') AS said;

-- one fault after the other, each for one sample with a quiet hour behind it
CREATE TABLE fault (minute int, factors float8[]);
INSERT INTO fault VALUES
    (5, '{1,1,1,1,30}'),        -- errors
    (80, '{1,8,1,1,1}'),        -- the application itself
    (155, '{1,4,1,30,1}'),       -- the database, and the application with it
    (230, '{1,4,12,1,1}'),       -- other services
    (305, '{1,1,1,10,1}'),       -- the database, without the application
    (380, '{0.1,1,1,1,1}'),      -- no traffic
    (455, '{4,1,1,1,1}'),        -- more traffic, taken well
    (530, '{4,6,1,1,1}'),        -- ... not so well
    (605, '{4,6,1,1,40}'),       -- ... not at all
    (680, '{1,0.2,1,1,300}'),    -- turned away
    (755, '{1,12,1,1,1}');      -- slow beyond the rules
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'shop', ts, ARRAY(SELECT v * coalesce(factors[n], 1) FROM unnest(sample_at(1, ts, 200)) WITH ORDINALITY AS x (v, n) ORDER BY n)
FROM generate_series('2024-01-29 10:05+00'::timestamptz, '2024-01-29 23:55+00', '5 min') AS ts
    LEFT JOIN fault ON ts = '2024-01-29 10:00+00'::timestamptz + minute * interval '1 min';
CREATE TABLE said AS
SELECT ts, said.* FROM smartbox.samples CROSS JOIN LATERAL say(service, ts) AS said WHERE service = 'shop' AND ts > '2024-01-29 10:00+00' ORDER BY ts;
SELECT type, severity, name, pattern, signals FROM said WHERE name IS NOT NULL ORDER BY ts;
SELECT count(*) AS quiet_between FROM said WHERE name IS NULL;
SELECT a ->> 'pattern' AS pattern, a -> 'matched_patterns' AS matched, a ->> 'description' AS description, a ->> 'business_impact' AS impact
FROM smartbox.detections, jsonb_array_elements(payload -> 'anomalies') AS a WHERE service = 'shop' ORDER BY ts;
SELECT round(sum(c.value::numeric), 3) AS contributions, count(DISTINCT ts) AS detections
FROM smartbox.detections, jsonb_array_elements(payload -> 'anomalies') AS a, jsonb_each_text(a -> 'contributions') AS c
WHERE service = 'shop' GROUP BY ts HAVING abs(sum(c.value::numeric) - 1) > 0.001;

-- no text has a brace in it, and there are at most five actions
SELECT count(*) > 150 AS texts, count(*) FILTER (WHERE t.text ~ '[{}]') AS with_braces,
       max(jsonb_array_length(a -> 'recommended_actions')) AS most_actions
FROM smartbox.detections, jsonb_array_elements(payload -> 'anomalies') AS a,
     LATERAL (SELECT a ->> 'description' AS text UNION ALL SELECT a ->> 'interpretation' UNION ALL SELECT a ->> 'business_impact'
              UNION ALL SELECT jsonb_array_elements_text(a -> 'possible_causes') UNION ALL SELECT jsonb_array_elements_text(a -> 'recommended_actions')) AS t;

-- a fault that develops is one incident; what it is taken for is an event of it
UPDATE smartbox.services SET incident_separation = '10 min' WHERE service = 'shop';
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'shop', ts, ARRAY(SELECT v * (ARRAY[1, application, 1, database, 1])[n] FROM unnest(sample_at(1, ts, 200)) WITH ORDINALITY AS x (v, n) ORDER BY n)
FROM (VALUES (5, 1, 4), (10, 1, 8), (15, 3, 25), (20, 5, 40), (25, 1, 1)) AS v (minute, application, database),
     LATERAL (SELECT '2024-01-30 00:00+00'::timestamptz + minute * interval '1 min' AS ts) AS at;
SELECT to_char(ts, 'HH24:MI') AS at, said.pattern, said.name FROM smartbox.samples CROSS JOIN LATERAL say(service, ts) AS said
WHERE service = 'shop' AND ts > '2024-01-30 00:00+00' ORDER BY ts;
SELECT event, to_char(ts, 'HH24:MI') AS at, severity, pattern FROM smartbox.incident_timeline
WHERE incident_id = (SELECT incident_id FROM smartbox.incidents WHERE first_seen = '2024-01-30 00:05+00') ORDER BY event_number;
SELECT count(*) AS incidents FROM smartbox.incidents WHERE service = 'shop' AND first_seen > '2024-01-30 00:00+00';

-- a pattern of one's own serves at once, and goes with the transaction
BEGIN;
INSERT INTO smartbox.patterns (pattern, severity, conditions, message)
VALUES ('report_day', 'low', '{"request_rate": {"above_expected": 3}}', '{service} serves {request_rate.times} ({requests} in this interval)');
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'shop', ts, ARRAY(SELECT v * CASE n WHEN 1 THEN 4 ELSE 1 END FROM unnest(sample_at(1, ts, 200)) WITH ORDINALITY AS x (v, n) ORDER BY n)
FROM (VALUES ('2024-01-30 00:30+00'::timestamptz), ('2024-01-30 00:35+00')) AS v (ts);
SELECT a ->> 'pattern' AS pattern, a ->> 'severity' AS severity, a ->> 'description' AS description, a -> 'matched_patterns' AS matched
FROM detect_anomalies('shop', '2024-01-30 00:30+00') AS answer, jsonb_array_elements(answer -> 'anomalies') AS a;
SAVEPOINT before;
UPDATE smartbox.patterns SET enabled = false WHERE pattern = 'report_day';
SELECT pattern FROM smartbox.try_patterns('{"request_rate": {"level": "high", "value": 400, "expected": 100}}');
ROLLBACK TO before;
SELECT pattern FROM smartbox.try_patterns('{"request_rate": {"level": "high", "value": 400, "expected": 100}}');
ROLLBACK;
SELECT pattern FROM smartbox.try_patterns('{"request_rate": {"level": "high", "value": 400, "expected": 100}}');
