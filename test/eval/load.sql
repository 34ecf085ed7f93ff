-- A fleet from the lines of its metrics.csv on standard input.  psql's variables:
-- zone, the services' time zone.
CREATE EXTENSION smartbox_anomaly;

CREATE TABLE line (
    service text, ts bigint, request_rate float8, application_latency float8,
    dependency_latency float8, database_latency float8, error_rate float8);
\copy line FROM pstdin WITH (FORMAT csv, HEADER)

INSERT INTO smartbox.services (service, time_zone)
SELECT DISTINCT service, :'zone' FROM line;

INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT l.service, to_timestamp(l.ts), v.metric_values
FROM line AS l
CROSS JOIN LATERAL (
    SELECT array_agg(CASE m.metric
        WHEN 'request_rate' THEN l.request_rate
        WHEN 'application_latency' THEN l.application_latency
        WHEN 'dependency_latency' THEN l.dependency_latency
        WHEN 'database_latency' THEN l.database_latency
        WHEN 'error_rate' THEN l.error_rate END ORDER BY m.position) AS metric_values
    FROM smartbox.metrics AS m) AS v;
ANALYZE smartbox.samples;
