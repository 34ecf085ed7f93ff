-- The detections of a fleet by detect_anomalies(), as CSV on standard output,
-- with models of the samples before the first judged one.  psql's variables:
-- since and until, in seconds since 1970.
-- Models learn from the samples up to the last one that there is.
CREATE TABLE judged AS
SELECT * FROM smartbox.samples WHERE ts >= to_timestamp(:since);
DELETE FROM smartbox.samples WHERE ts >= to_timestamp(:since);
SELECT count(*) FROM train_models() \gset
INSERT INTO smartbox.samples SELECT * FROM judged;
ANALYZE smartbox.samples;

CREATE TABLE payload AS
SELECT c.service, c.at, detect_anomalies(c.service, c.at) AS payload
FROM (
    SELECT s.service, at
    FROM smartbox.services AS s
    CROSS JOIN generate_series(to_timestamp(:since), to_timestamp(:until), '5 minutes') AS at
    ORDER BY s.service, at) AS c;

COPY (
    SELECT p.service, extract(epoch FROM p.at)::bigint AS ts, (a.status = 'OPEN')::int AS is_anomaly,
        p.payload ->> 'overall_severity' AS severity, a.score, c.culprit, s.category,
        coalesce(s.false_alarms_per_week, k.false_alarms_per_week) AS budget
    FROM payload AS p
    JOIN smartbox.services AS s USING (service)
    JOIN smartbox.service_categories AS k USING (category)
    LEFT JOIN LATERAL (
        SELECT n.anomaly #>> '{metadata,status}' AS status, n.anomaly ->> 'score' AS score, n.anomaly -> 'contributions' AS contributions
        FROM jsonb_array_elements(p.payload -> 'anomalies') AS n (anomaly)
        ORDER BY n.anomaly #>> '{metadata,status}' = 'OPEN' DESC LIMIT 1) AS a ON true
    LEFT JOIN LATERAL (
        SELECT e.key AS culprit
        FROM jsonb_each(a.contributions) AS e
        ORDER BY e.value::float8 DESC LIMIT 1) AS c ON a.status = 'OPEN'
    ORDER BY p.service, p.at
) TO STDOUT WITH (FORMAT csv, HEADER);
