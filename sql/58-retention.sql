-- What is too old goes, in small pieces that are committed one by one.
--
-- Nobody waits for it: rows that somebody has locked are left for the next
-- time, a table that somebody has locked is given up after a moment, and no
-- transaction is longer than one piece.  Whatever ends it, what was done stays.

CREATE FUNCTION smartbox.retention(kind text) RETURNS interval
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_retention';

COMMENT ON FUNCTION smartbox.retention(text) IS
    'for how long samples, detections, closed incidents (with their events and alerts) or training_runs are kept: the settings smartbox_anomaly.*_retention; NULL: for ever';

-- Whole days, so that the marks of what was fetched move once a day.
CREATE FUNCTION smartbox.kept_since(kind text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN date_trunc('day', now() - smartbox.retention(kind), 'UTC');
END
$$;

COMMENT ON FUNCTION smartbox.kept_since(text) IS
    'rows of that kind before this instant, the begin of a day (UTC), are deleted; NULL: none is';

-- An open incident refers to the samples and detections since it began, and
-- to the incident that is suspected to be behind it.
CREATE FUNCTION smartbox.needed_since(of_service text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(min(i.first_seen), 'infinity')
        FROM smartbox.incidents AS i
        WHERE i.service = of_service AND i.status <> 'CLOSED');
END
$$;

COMMENT ON FUNCTION smartbox.needed_since(text) IS
    'when the oldest incident of a service that is not closed began: samples and detections from then on are kept whatever their age; infinity: there is none';

-- ---------------------------------------------------------------------------
-- One piece of each kind
-- ---------------------------------------------------------------------------

-- What is deleted may be fetched again, if a training looks back so far.
CREATE FUNCTION smartbox.forget_backfilled(of_service text, before timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM smartbox.services AS s
    WHERE s.service = of_service AND lower(s.backfilled) < before
    FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE smartbox.services AS s
        SET backfilled = s.backfilled - tstzmultirange(tstzrange(NULL, before))
        WHERE s.service = of_service;
    ELSIF EXISTS (SELECT FROM smartbox.services AS s WHERE s.service = of_service AND lower(s.backfilled) < before) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'lock_not_available',
            MESSAGE = format('service "%s" is locked by another session', of_service);
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.forget_backfilled(text, timestamptz) IS
    'forgets that what lies before an instant was fetched; lock_not_available when somebody has the service''s row';

-- A lock that is not there within a moment is somebody's who is at work.
CREATE FUNCTION smartbox.delete_old_rows(
    kind text, of_service text, before timestamptz, batch_size integer)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deleted integer;
BEGIN
    PERFORM set_config('lock_timeout', '50ms', true);
    -- What a crash brings back is deleted the next time.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF kind IN ('samples', 'detections') THEN
        before := least(before, smartbox.needed_since(of_service));
    END IF;

    IF kind = 'samples' THEN
        PERFORM smartbox.forget_backfilled(of_service, before);
        WITH old AS (
            SELECT x.ts
            FROM smartbox.samples AS x
            WHERE x.service = of_service AND x.ts < before
            ORDER BY x.ts
            LIMIT batch_size
            FOR UPDATE SKIP LOCKED
        )
        DELETE FROM smartbox.samples AS x
        USING old
        WHERE x.service = of_service AND x.ts = old.ts;
    ELSIF kind = 'detections' THEN
        -- The newest one says how far the service was judged.
        WITH old AS (
            SELECT d.ts
            FROM smartbox.detections AS d
            WHERE d.service = of_service AND d.ts < least(before, smartbox.service_clock(of_service))
            ORDER BY d.ts
            LIMIT batch_size
            FOR UPDATE SKIP LOCKED
        )
        DELETE FROM smartbox.detections AS d
        USING old
        WHERE d.service = of_service AND d.ts = old.ts;
    ELSIF kind = 'incidents' THEN
        -- With its events and alerts; not one that is suspected to be behind an open one.
        WITH old AS (
            SELECT i.incident_id
            FROM smartbox.incidents AS i
            WHERE i.service = of_service AND i.status = 'CLOSED' AND i.resolved_at < before
                AND NOT EXISTS (
                    SELECT FROM smartbox.incidents AS above
                    WHERE above.status <> 'CLOSED'
                        AND above.root_service = i.service AND above.root_incident_id = i.incident_id)
            LIMIT batch_size
            FOR UPDATE OF i SKIP LOCKED
        )
        DELETE FROM smartbox.incidents AS i
        USING old
        WHERE i.service = of_service AND i.incident_id = old.incident_id AND i.status = 'CLOSED';
    ELSE
        -- The newest one of all stays.
        WITH old AS (
            SELECT r.run_id
            FROM smartbox.training_runs AS r
            WHERE r.service = of_service AND r.started_at < before
                AND EXISTS (
                    SELECT FROM smartbox.training_runs AS later
                    WHERE later.service = of_service AND later.started_at > r.started_at)
            ORDER BY r.started_at
            LIMIT batch_size
            FOR UPDATE OF r SKIP LOCKED
        )
        DELETE FROM smartbox.training_runs AS r
        USING old
        WHERE r.service = of_service AND r.run_id = old.run_id;
    END IF;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN NULL;
END
$$;

COMMENT ON FUNCTION smartbox.delete_old_rows(text, text, timestamptz, integer) IS
'deletes the oldest samples, detections, closed incidents or training_runs of a service before an instant, a
limited number of them that nobody has locked, and nothing that an open incident needs; returns how many, NULL
when a lock was in the way';

CREATE FUNCTION smartbox.services_with_old_rows(kind text, before timestamptz) RETURNS text[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[];
BEGIN
    -- One look into the primary key for each service: samples may be of
    -- services that are no more.
    IF kind = 'samples' THEN
        WITH RECURSIVE name(service, oldest) AS (
            (SELECT x.service, x.ts FROM smartbox.samples AS x ORDER BY x.service, x.ts LIMIT 1)
            UNION ALL
            SELECT following.service, following.ts
            FROM name AS n
                CROSS JOIN LATERAL (
                    SELECT x.service, x.ts
                    FROM smartbox.samples AS x
                    WHERE x.service > n.service
                    ORDER BY x.service, x.ts
                    LIMIT 1
                ) AS following
        )
        SELECT array_agg(n.service ORDER BY n.service) INTO names
        FROM name AS n
        WHERE n.oldest < before;
    ELSE
        SELECT array_agg(s.service ORDER BY s.service) INTO names
        FROM smartbox.services AS s
        WHERE CASE kind
            WHEN 'detections' THEN
                (SELECT min(d.ts) FROM smartbox.detections AS d WHERE d.service = s.service) < before
            WHEN 'incidents' THEN EXISTS (
                SELECT FROM smartbox.incidents AS i
                WHERE i.service = s.service AND i.status = 'CLOSED' AND i.resolved_at < before)
            WHEN 'training_runs' THEN
                (SELECT min(r.started_at) FROM smartbox.training_runs AS r WHERE r.service = s.service) < before
        END;
    END IF;
    RETURN coalesce(names, '{}');
END
$$;

COMMENT ON FUNCTION smartbox.services_with_old_rows(text, timestamptz) IS
    'services with rows of a kind before an instant';

-- ---------------------------------------------------------------------------
-- All of it
-- ---------------------------------------------------------------------------

-- A procedure that commits cannot have a search_path of its own: every name
-- and every operator in it is qualified, or is one of the language's.
CREATE PROCEDURE @extschema@.apply_retention(
    batch_size integer DEFAULT 1000,
    INOUT samples bigint DEFAULT NULL, INOUT detections bigint DEFAULT NULL,
    INOUT incidents bigint DEFAULT NULL, INOUT training_runs bigint DEFAULT NULL,
    INOUT postponed bigint DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    kind pg_catalog.text;
    before pg_catalog.timestamptz;
    of_service pg_catalog.text;
    piece pg_catalog.int4;
    deleted pg_catalog.int8;
BEGIN
    IF batch_size IS NULL OR batch_size OPERATOR(pg_catalog.<) 1 OR batch_size OPERATOR(pg_catalog.>) 100000 THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = pg_catalog.format('a batch cannot have %s rows', coalesce(batch_size::pg_catalog.text, 'NULL')),
            HINT = 'Give a number from 1 to 100000.';
    END IF;
    postponed := 0;
    FOREACH kind IN ARRAY ARRAY['samples', 'detections', 'incidents', 'training_runs'] LOOP
        deleted := 0;
        before := smartbox.kept_since(kind);
        FOREACH of_service IN ARRAY smartbox.services_with_old_rows(kind, before) LOOP
            LOOP
                piece := smartbox.delete_old_rows(kind, of_service, before, batch_size);
                COMMIT;
                IF piece IS NULL THEN
                    postponed := postponed OPERATOR(pg_catalog.+) 1;
                    EXIT;
                END IF;
                deleted := deleted OPERATOR(pg_catalog.+) piece;
                EXIT WHEN piece OPERATOR(pg_catalog.<) batch_size;
            END LOOP;
        END LOOP;
        -- A CASE with a value would look for an operator.
        CASE
            WHEN kind OPERATOR(pg_catalog.=) 'samples' THEN samples := deleted;
            WHEN kind OPERATOR(pg_catalog.=) 'detections' THEN detections := deleted;
            WHEN kind OPERATOR(pg_catalog.=) 'incidents' THEN incidents := deleted;
            WHEN kind OPERATOR(pg_catalog.=) 'training_runs' THEN training_runs := deleted;
        END CASE;
    END LOOP;
END
$$;

COMMENT ON PROCEDURE @extschema@.apply_retention(integer, bigint, bigint, bigint, bigint, bigint) IS
    'deletes what is older than the settings smartbox_anomaly.*_retention, batch_size rows to a transaction, in nobody''s way; shows how many rows of each kind went, and how often a lock made it leave a service for the next time';
