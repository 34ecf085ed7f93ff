-- The embedded default: no endpoint, nothing preloaded, samples inserted by
-- hand.  Four weeks are learnt, a fault becomes an incident, and it ends.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
INSERT INTO smartbox.services (service, time_zone)
VALUES ('booking', 'Europe/Paris'), ('search', 'Europe/Paris');

-- A daily wave with noise from a fixed recurrence, so that it is the same on
-- every machine.
CREATE FUNCTION noise(i bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    $$ SELECT sum((((i + k) * 7919 + salt * 104729) * 48271 + (i + k) * (i + k) * 31) % 10007)::float8 / (4 * 10006) - 0.5
       FROM generate_series(0, 30000, 10000) AS k $$;
CREATE FUNCTION sample_at(salt bigint, ts timestamptz, fault float8) RETURNS float8[] LANGUAGE sql STABLE AS
    $$ SELECT ARRAY[40 * load * (1 + 0.2 * noise(i, salt)),
                    (60 + 25 * load) * (1 + 0.1 * noise(i, salt + 1)) + (fault - 1),
                    50 * (1 + 0.15 * noise(i, salt + 2)),
                    5 * (1 + 0.15 * noise(i, salt + 3)) * fault,
                    0.002 * (1 + 0.5 * noise(i, salt + 4))]
       FROM (SELECT extract(epoch FROM ts)::bigint / 300 AS i,
                    1.2 - cos((extract(epoch FROM ts AT TIME ZONE 'Europe/Paris')::bigint % 86400) / 86400.0 * 2 * pi()) AS load) AS at $$;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT service, ts, sample_at(salt, ts, 1)
FROM (VALUES ('booking', 1), ('search', 20)) AS s (service, salt),
     generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-29 10:00+00', '5 min') AS ts;

-- discovery without a source: the services that have samples
DELETE FROM smartbox.services WHERE service = 'search';
SELECT * FROM discover_services();
UPDATE smartbox.services SET time_zone = 'Europe/Paris';

SELECT service, period, version, status, samples, reason FROM train_models() ORDER BY service, period;
SELECT service, status, samples, models_accepted, models_rejected, message FROM smartbox.training_runs ORDER BY service;
SELECT service, time_period, is_active, seed IS NOT NULL AS seeded, round(coverage::numeric, 3) AS coverage, sample_range FROM smartbox.models
ORDER BY service, time_period;

-- the same rows and seed give the same bytes, as a new version
CREATE TEMP TABLE first_models AS SELECT * FROM smartbox.models;
SELECT version, status, count(*) FROM train_models(ARRAY['booking']) GROUP BY 1, 2;
SELECT count(*) AS compared, bool_and(a.model = b.model) AS same_bytes
FROM first_models AS a JOIN smartbox.models AS b USING (service, time_period)
WHERE b.version = 2;
SELECT time_period, array_agg(version ORDER BY version) FILTER (WHERE is_active) AS active
FROM smartbox.models WHERE service = 'booking' GROUP BY 1 ORDER BY 1;

-- nothing is wrong
SELECT answer ->> 'alert_type' AS alert_type, answer ->> 'time_period' AS time_period,
       answer ->> 'anomaly_count' AS anomalies
FROM detect_anomalies('booking') AS answer;

-- the database becomes ten times as slow, for three samples
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', ts, sample_at(1, ts, 10)
FROM generate_series('2024-01-29 10:05+00'::timestamptz, '2024-01-29 10:15+00', '5 min') AS ts;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'search', ts, sample_at(20, ts, 1)
FROM generate_series('2024-01-29 10:05+00'::timestamptz, '2024-01-29 10:15+00', '5 min') AS ts;
CREATE FUNCTION cycle(at timestamptz) RETURNS TABLE (alert_type text, severity text, name text, status text, action text, occurrences text)
LANGUAGE sql AS
    $$ SELECT answer ->> 'alert_type', answer ->> 'overall_severity', anomaly ->> 'name',
              anomaly #>> '{metadata,status}', anomaly #>> '{metadata,incident_action}',
              anomaly #>> '{metadata,occurrence_count}'
       FROM detect_anomalies('booking', at) AS answer
       LEFT JOIN jsonb_array_elements(answer -> 'anomalies') AS anomaly ON true $$;
SELECT * FROM cycle('2024-01-29 10:05+00');
SELECT * FROM cycle('2024-01-29 10:10+00');
SELECT * FROM cycle('2024-01-29 10:10+00');
SELECT * FROM cycle('2024-01-29 10:15+00');
SELECT answer ->> 'service' AS service, answer ->> 'alert_type' AS alert_type
FROM run_inference() AS answer ORDER BY 1;
SELECT service, incident_id, fingerprint_id = fingerprint_id(service, anomaly_name) AS fingerprint,
       anomaly_name, status, first_seen, last_seen, occurrence_count
FROM smartbox.incidents;

-- it is over
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', ts, sample_at(1, ts, 1)
FROM generate_series('2024-01-29 10:20+00'::timestamptz, '2024-01-29 10:30+00', '5 min') AS ts;
SELECT alert_type, status FROM cycle('2024-01-29 10:20+00');
SELECT alert_type, status FROM cycle('2024-01-29 10:25+00');
SELECT answer ->> 'alert_type' AS alert_type, answer -> 'resolved_incidents' -> 0 -> 'resolution_details' AS details
FROM detect_anomalies('booking', '2024-01-29 10:30+00') AS answer;
SELECT event_number, event, status, ts FROM smartbox.incident_events ORDER BY event_number;
SELECT alert_number, alert_type, severity, ts FROM smartbox.alerts ORDER BY alert_number;

-- an older sample is recorded and moves nothing
SELECT alert_type, status FROM cycle('2024-01-28 10:00+00');
SELECT status, resolution_reason, resolved_at FROM smartbox.incidents;

-- no sample any more, while the other service reports
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'search', ts, sample_at(20, ts, 1)
FROM generate_series('2024-01-29 10:20+00'::timestamptz, '2024-01-29 10:45+00', '5 min') AS ts;
SELECT answer ->> 'service' AS service, answer ->> 'alert_type' AS alert_type,
       answer -> 'anomalies' -> 0 ->> 'description' AS description
FROM run_inference() AS answer ORDER BY 1;

-- values that cannot be are unknown, and said; too few or too many values too
DELETE FROM smartbox.samples WHERE ts > '2024-01-29 10:30+00';
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES
    ('search', '2024-01-29 11:00+00', '{NaN,Infinity,-5,5,2}'),
    ('search', '2024-01-29 11:05+00', '{80,115}'),
    ('search', '2024-01-29 11:10+00', '{80,115,50,5,0.002,6,7}');
SELECT to_char(ts, 'HH24:MI') AS at, answer ->> 'alert_type' AS alert_type,
       answer -> 'current_metrics' AS current_metrics, answer -> 'validation_warnings' AS warnings
FROM smartbox.samples CROSS JOIN LATERAL detect_anomalies(service, ts) AS answer
WHERE service = 'search' AND ts >= '2024-01-29 11:00+00' ORDER BY ts;
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('search', '2024-01-29 11:20+00', '{{1,2},{3,4}}');
