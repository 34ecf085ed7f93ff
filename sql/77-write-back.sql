-- Scores and bands as series, for dashboards and rules that live elsewhere.
--
-- smartbox.write_backs says how far each service was written.  Detections of a
-- service only go forward (the state machine locks its row), so nothing that
-- is committed later lies before that.

CREATE TABLE smartbox.write_backs (
    service text PRIMARY KEY,
    written_until timestamptz NOT NULL,
    leased_until timestamptz,
    written_at timestamptz,
    points bigint NOT NULL DEFAULT 0 CHECK (points >= 0),
    last_error text,
    last_error_at timestamptz,
    CONSTRAINT write_backs_error_check CHECK ((last_error IS NULL) = (last_error_at IS NULL))
) WITH (fillfactor = 50);

COMMENT ON TABLE smartbox.write_backs IS 'how far the scores and bands of each service were written as series, see write_back_scores()';
COMMENT ON COLUMN smartbox.write_backs.service IS 'the service';
COMMENT ON COLUMN smartbox.write_backs.written_until IS 'instant of the last detection that was written; set it back to write later ones again';
COMMENT ON COLUMN smartbox.write_backs.leased_until IS 'while it is being written: when another session may try, should this one have died';
COMMENT ON COLUMN smartbox.write_backs.written_at IS 'when something was last taken';
COMMENT ON COLUMN smartbox.write_backs.points IS 'points that were taken so far';
COMMENT ON COLUMN smartbox.write_backs.last_error IS 'why the last attempt failed; NULL: it went well';
COMMENT ON COLUMN smartbox.write_backs.last_error_at IS 'when that was';

SELECT pg_catalog.pg_extension_config_dump('smartbox.write_backs', '');

CREATE FUNCTION smartbox.label_value(text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN '"' || replace(replace(replace($1, '\', '\\'), '"', '\"'), E'\n', '\n') || '"';
END
$$;

COMMENT ON FUNCTION smartbox.label_value(text) IS
    'a text as the value of a label in Prometheus'' text format';

CREATE FUNCTION smartbox.score_series(
    of_service text, since timestamptz, until timestamptz, OUT lines text, OUT points bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    labels CONSTANT text := coalesce(current_setting('smartbox_anomaly.service_label', true), 'service_name') || '=' || smartbox.label_value(of_service);
    first_judged timestamptz;
BEGIN
    SELECT min(d.ts) INTO first_judged
    FROM smartbox.detections AS d
    WHERE d.service = of_service AND d.ts > since AND d.ts <= until;

    SELECT string_agg(format(E'%s{%s} %s %s\n', p.name, labels || p.metric, p.value,
                             floor(extract(epoch FROM p.ts) * 1000)::bigint), '' ORDER BY p.ts, p.name, p.metric),
        count(*)
    INTO lines, points
    FROM (
        SELECT d.ts, v.name, '' AS metric, v.value
        FROM smartbox.detections AS d
            CROSS JOIN LATERAL (VALUES
                ('smartbox_score', d.score),
                ('smartbox_anomaly', d.is_anomaly::integer::double precision)) AS v(name, value)
        WHERE d.service = of_service AND d.ts > since AND d.ts <= until
        UNION ALL
        SELECT e.ts, v.name, ',metric=' || smartbox.label_value(e.metric), v.value
        FROM @extschema@.expected_values(of_service, first_judged, until) AS e
            JOIN smartbox.detections AS d ON d.service = of_service AND d.ts = e.ts
            CROSS JOIN LATERAL (VALUES
                ('smartbox_expected', e.expected),
                ('smartbox_lower', e.lower),
                ('smartbox_upper', e.upper)) AS v(name, value)
    ) AS p
    WHERE p.value > '-Infinity' AND p.value < 'Infinity';
END
$$;

COMMENT ON FUNCTION smartbox.score_series(text, timestamptz, timestamptz) IS
    'scores, verdicts, expected values and bands of a service after one instant and up to another, as lines of Prometheus'' text format; lines is NULL when there are none';

CREATE FUNCTION smartbox.claim_write_backs(
    at timestamptz, lease timestamptz, most integer,
    OUT service text, OUT written_until timestamptz, OUT lines text, OUT points bigint)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    due record;
BEGIN
    -- A service that is new here begins with its newest detection.
    INSERT INTO smartbox.write_backs AS w (service, written_until)
    SELECT s.service, n.ts - interval '1 microsecond'
    FROM smartbox.services AS s
        CROSS JOIN LATERAL (
            SELECT d.ts FROM smartbox.detections AS d WHERE d.service = s.service ORDER BY d.ts DESC LIMIT 1) AS n
    WHERE NOT EXISTS (SELECT FROM smartbox.write_backs AS k WHERE k.service = s.service)
    ON CONFLICT DO NOTHING;

    -- Whoever is furthest behind comes first, an hour at a time.
    FOR due IN
        SELECT w.service, w.written_until
        FROM smartbox.write_backs AS w
        WHERE (w.leased_until IS NULL OR w.leased_until <= at)
            AND EXISTS (SELECT FROM smartbox.detections AS d WHERE d.service = w.service AND d.ts > w.written_until)
        ORDER BY w.written_until, w.service COLLATE "C"
        LIMIT most
        FOR NO KEY UPDATE OF w SKIP LOCKED
    LOOP
        service := due.service;
        UPDATE smartbox.write_backs AS w SET leased_until = lease WHERE w.service = due.service;
        SELECT max(n.ts) INTO written_until
        FROM (SELECT d.ts FROM smartbox.detections AS d
              WHERE d.service = due.service AND d.ts > due.written_until ORDER BY d.ts LIMIT 12) AS n;
        SELECT s.lines, s.points INTO lines, points
        FROM smartbox.score_series(due.service, due.written_until, written_until) AS s;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION smartbox.claim_write_backs(timestamptz, timestamptz, integer) IS
    'leases services until an instant that have detections that were not written yet, and says what is to be sent of each and how far that goes';

CREATE FUNCTION smartbox.record_write_back(
    of_service text, lease timestamptz, until timestamptz, taken bigint, error text, at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A lease that is not there any more is another session's.
    UPDATE smartbox.write_backs AS w SET
        leased_until = NULL,
        written_until = CASE WHEN error IS NULL THEN until ELSE w.written_until END,
        written_at = CASE WHEN error IS NULL THEN at ELSE w.written_at END,
        points = w.points + CASE WHEN error IS NULL THEN taken ELSE 0 END,
        last_error = error,
        last_error_at = CASE WHEN error IS NOT NULL THEN at END
    WHERE w.service = of_service AND w.leased_until = lease;
END
$$;

COMMENT ON FUNCTION smartbox.record_write_back(text, timestamptz, timestamptz, bigint, text, timestamptz) IS
    'gives a lease back: what was sent was taken, or it failed with an error';

CREATE FUNCTION smartbox.has_series_endpoint() RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_has_series_endpoint';

COMMENT ON FUNCTION smartbox.has_series_endpoint() IS
    'whether smartbox_anomaly.write_back_endpoint says where series are written to, for who may not read it';

CREATE PROCEDURE @extschema@.write_back_scores()
LANGUAGE c
AS 'MODULE_PATHNAME', 'sba_write_back_scores';

COMMENT ON PROCEDURE @extschema@.write_back_scores() IS
'writes scores, expected values and bands of new detections as series to smartbox_anomaly.write_back_endpoint;
commits before and after, and holds nothing while it waits; a failure is an error, and what was not taken is
sent again the next time';
