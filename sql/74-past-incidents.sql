-- What a customer knows of: old incidents from a ticket system, to compare
-- with what was detected.

CREATE TABLE smartbox.past_incidents (
    service text NOT NULL CHECK (length(service) BETWEEN 1 AND 200),
    started_at timestamptz NOT NULL CHECK (isfinite(started_at)),
    ended_at timestamptz CHECK (isfinite(ended_at)),
    title text NOT NULL CHECK (title <> ''),
    severity text,
    source text,
    PRIMARY KEY (service, started_at, title),
    CONSTRAINT past_incidents_order_check CHECK (started_at <= ended_at)
);

COMMENT ON TABLE smartbox.past_incidents IS 'incidents that people recorded elsewhere; load them with COPY, also of services that are not known here';
COMMENT ON COLUMN smartbox.past_incidents.service IS 'the service';
COMMENT ON COLUMN smartbox.past_incidents.started_at IS 'when it began, as it was recorded';
COMMENT ON COLUMN smartbox.past_incidents.ended_at IS 'when it was over; NULL: nobody wrote it down';
COMMENT ON COLUMN smartbox.past_incidents.title IS 'what it was';
COMMENT ON COLUMN smartbox.past_incidents.severity IS 'how bad it was, in the words of its source';
COMMENT ON COLUMN smartbox.past_incidents.source IS 'where it comes from, such as the number of a ticket';

SELECT pg_catalog.pg_extension_config_dump('smartbox.past_incidents', '');

CREATE VIEW smartbox.unknown_past_services AS
SELECT
    p.service,
    count(*) AS past_incidents,
    (SELECT s.service
     FROM smartbox.services AS s
     WHERE lower(s.service) = lower(p.service)
         OR starts_with(lower(s.service), lower(p.service))
         OR starts_with(lower(p.service), lower(s.service))
     ORDER BY lower(s.service) = lower(p.service) DESC, abs(length(s.service) - length(p.service)), s.service
     LIMIT 1) AS perhaps
FROM smartbox.past_incidents AS p
WHERE NOT EXISTS (SELECT FROM smartbox.services AS s WHERE s.service = p.service)
GROUP BY p.service;

COMMENT ON VIEW smartbox.unknown_past_services IS 'names in smartbox.past_incidents that are no services here, one row each';
COMMENT ON COLUMN smartbox.unknown_past_services.service IS 'the name';
COMMENT ON COLUMN smartbox.unknown_past_services.past_incidents IS 'incidents that were recorded under it';
COMMENT ON COLUMN smartbox.unknown_past_services.perhaps IS 'a service that begins like it, or whose name it begins with; NULL: there is none';

CREATE FUNCTION @extschema@.past_incident_coverage(
    tolerance interval DEFAULT '30 minutes',
    OUT service text, OUT started_at timestamptz, OUT ended_at timestamptz, OUT title text,
    OUT outcome text, OUT samples bigint, OUT detections bigint, OUT incident_id text, OUT anomaly_name text,
    OUT severity smartbox.severity, OUT first_seen timestamptz, OUT confirmed_at timestamptz,
    OUT minutes_after_start double precision)
RETURNS SETOF record
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.service, p.started_at, p.ended_at, p.title,
        CASE
            WHEN i.confirmed_at IS NOT NULL THEN 'caught'
            WHEN i.incident_id IS NOT NULL THEN 'suspected'
            WHEN NOT EXISTS (SELECT FROM smartbox.services AS s WHERE s.service = p.service) THEN 'unknown service'
            WHEN d.n = 0 THEN 'not judged'
            ELSE 'missed'
        END,
        x.n, d.n, i.incident_id, i.anomaly_name, i.severity, i.first_seen, i.confirmed_at,
        (extract(epoch FROM coalesce(i.confirmed_at, i.first_seen) - p.started_at) / 60)::double precision
    FROM smartbox.past_incidents AS p
        CROSS JOIN LATERAL (
            SELECT p.started_at - tolerance AS since,
                coalesce(p.ended_at, p.started_at + interval '1 hour') + tolerance AS until
        ) AS w
        CROSS JOIN LATERAL (
            SELECT count(*) AS n
            FROM smartbox.samples AS x
            WHERE x.service = p.service AND x.ts BETWEEN w.since AND w.until
        ) AS x
        CROSS JOIN LATERAL (
            SELECT count(*) AS n
            FROM smartbox.detections AS d
            WHERE d.service = p.service AND d.ts BETWEEN w.since AND w.until AND NOT d.no_data
        ) AS d
        -- What began long before is another incident; of those that began in
        -- time, the one that people were told of first.
        LEFT JOIN LATERAL (
            SELECT i.incident_id, i.anomaly_name, i.severity, i.first_seen, c.confirmed_at
            FROM smartbox.incidents AS i
                CROSS JOIN LATERAL (SELECT CASE WHEN i.confirmed_at <= w.until THEN i.confirmed_at END AS confirmed_at) AS c
            WHERE i.service = p.service AND i.first_seen BETWEEN w.since AND w.until
            ORDER BY c.confirmed_at, i.first_seen, i.incident_id
            LIMIT 1
        ) AS i ON true
    ORDER BY p.service, p.started_at, p.title
$$;

COMMENT ON FUNCTION @extschema@.past_incident_coverage(interval) IS
    'which of smartbox.past_incidents have an incident in smartbox.incidents that began between their start and end (one hour where nobody wrote that down), give or take the tolerance. outcome: caught: people were told in that time; suspected: nobody was; missed: judged and nothing found; not judged: no detection is kept of that time; unknown service. minutes_after_start: until people were told, or until the first detection of a suspicion; negative: before the recorded start';
