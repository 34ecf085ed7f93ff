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

-- The replay begins a day before, so that what was wrong already is known as
-- an incident of its own.  A service that is not known has no row.
CREATE FUNCTION smartbox.incidents_in_window(
    of_service text, since timestamptz, until timestamptz, backtest_options jsonb,
    OUT incident_id text, OUT anomaly_name text, OUT severity smartbox.severity,
    OUT first_seen timestamptz, OUT confirmed_at timestamptz)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF backtest_options IS NULL THEN
        RETURN QUERY
        SELECT i.incident_id, i.anomaly_name, i.severity, i.first_seen, i.confirmed_at
        FROM smartbox.incidents AS i
        WHERE i.service = of_service AND i.first_seen BETWEEN since AND until;
    ELSE
        RETURN QUERY
        SELECT b.incident_id, b.anomaly_name, b.severity, b.first_seen, b.confirmed_at
        FROM smartbox.services AS s
            CROSS JOIN LATERAL @extschema@.backtest_incidents(s.service, since - interval '24 hours', until, backtest_options) AS b
        WHERE s.service = of_service AND b.first_seen BETWEEN since AND until;
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.incidents_in_window(text, timestamptz, timestamptz, jsonb) IS
    'incidents of a service that began between two instants: those of smartbox.incidents, or with options those of a backtest';

CREATE FUNCTION smartbox.judged_in_window(of_service text, since timestamptz, until timestamptz, backtest_options jsonb)
RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF backtest_options IS NULL THEN
        RETURN (
            SELECT count(*)
            FROM smartbox.detections AS d
            WHERE d.service = of_service AND d.ts BETWEEN since AND until AND NOT d.no_data);
    END IF;
    RETURN (
        SELECT count(*)
        FROM smartbox.services AS s
            CROSS JOIN LATERAL @extschema@.backtest(s.service, since - interval '24 hours', until, backtest_options) AS b
        WHERE s.service = of_service AND b.ts >= since AND b.score IS NOT NULL);
END
$$;

COMMENT ON FUNCTION smartbox.judged_in_window(text, timestamptz, timestamptz, jsonb) IS
    'how many samples of a service between two instants were judged, or with options would be by a backtest';

CREATE FUNCTION @extschema@.past_incident_coverage(
    tolerance interval DEFAULT '30 minutes', backtest_options jsonb DEFAULT NULL,
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
        -- What began long before is another incident; of those that began in
        -- time, the one that people were told of first.
        LEFT JOIN LATERAL (
            SELECT i.incident_id, i.anomaly_name, i.severity, i.first_seen, c.confirmed_at
            FROM smartbox.incidents_in_window(p.service, w.since, w.until, backtest_options) AS i
                CROSS JOIN LATERAL (SELECT CASE WHEN i.confirmed_at <= w.until THEN i.confirmed_at END AS confirmed_at) AS c
            ORDER BY c.confirmed_at, i.first_seen, i.incident_id
            LIMIT 1
        ) AS i ON true
        CROSS JOIN LATERAL (
            SELECT smartbox.judged_in_window(p.service, w.since, w.until, backtest_options) AS n
        ) AS d
    ORDER BY p.service, p.started_at, p.title
$$;

COMMENT ON FUNCTION @extschema@.past_incident_coverage(interval, jsonb) IS
'which of smartbox.past_incidents have an incident that began between their start and end (one hour where
nobody wrote that down), give or take the tolerance: one of smartbox.incidents, or with backtest_options one
of backtest_incidents() with these options (''{}'': as it is set up now), by models trained on what was there
until a day before. outcome: caught: people were told in that time; suspected: nobody was; missed: judged and
nothing found; not judged: no detection is kept of that time, or there is too little to learn from; unknown
service. minutes_after_start: until people were told, or until the first detection of a suspicion; negative:
before the recorded start';
