-- Progress of backfills.  The workers write it as they store what they have
-- fetched, so others see it while the call that began it still runs.

CREATE TABLE smartbox.backfill_runs (
    service text NOT NULL,
    run_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz,
    span tstzrange NOT NULL,
    pieces integer NOT NULL CHECK (pieces > 0),
    pieces_done integer NOT NULL DEFAULT 0 CHECK (pieces_done >= 0),
    pieces_failed integer NOT NULL DEFAULT 0 CHECK (pieces_failed >= 0),
    samples bigint NOT NULL DEFAULT 0 CHECK (samples >= 0),
    gaps bigint NOT NULL DEFAULT 0 CHECK (gaps >= 0),
    stopped boolean NOT NULL DEFAULT false,
    last_error text,
    pid integer NOT NULL,
    PRIMARY KEY (service, run_id)
);

COMMENT ON TABLE smartbox.backfill_runs IS 'one row per backfill and service, for a week; smartbox.backfill_progress sums them up';
COMMENT ON COLUMN smartbox.backfill_runs.service IS 'the service';
COMMENT ON COLUMN smartbox.backfill_runs.run_id IS 'identity of the run, the same for all of its services';
COMMENT ON COLUMN smartbox.backfill_runs.started_at IS 'begin of the transaction that called for it';
COMMENT ON COLUMN smartbox.backfill_runs.updated_at IS 'when the last piece was done';
COMMENT ON COLUMN smartbox.backfill_runs.finished_at IS 'when the last piece was done or had failed; NULL before, and of a run that was interrupted';
COMMENT ON COLUMN smartbox.backfill_runs.span IS 'first to last instant that is asked for';
COMMENT ON COLUMN smartbox.backfill_runs.pieces IS 'pieces that the service is part of';
COMMENT ON COLUMN smartbox.backfill_runs.pieces_done IS 'how many of them are stored';
COMMENT ON COLUMN smartbox.backfill_runs.pieces_failed IS 'how many could not be fetched or stored';
COMMENT ON COLUMN smartbox.backfill_runs.samples IS 'samples that were new or changed';
COMMENT ON COLUMN smartbox.backfill_runs.gaps IS 'instants for which the source has nothing';
COMMENT ON COLUMN smartbox.backfill_runs.stopped IS 'the source could not be reached: what is left is not tried';
COMMENT ON COLUMN smartbox.backfill_runs.last_error IS 'what went wrong last';
COMMENT ON COLUMN smartbox.backfill_runs.pid IS 'process that waits for it';

SELECT pg_catalog.pg_extension_config_dump('smartbox.backfill_runs', '');

-- Whoever began a run waits for it in the same transaction: when that is
-- over, so is the run.  Not everybody sees when another's transaction began.
CREATE VIEW smartbox.backfill_progress AS
SELECT
    r.run_id,
    r.started_at,
    r.updated_at,
    CASE
        WHEN r.is_finished AND r.pieces_failed > 0 THEN 'failed'
        WHEN r.is_finished THEN 'succeeded'
        WHEN r.is_running THEN 'running'
        ELSE 'interrupted'
    END AS status,
    r.services,
    r.span,
    r.pieces,
    r.pieces_done,
    r.pieces_failed,
    r.samples,
    r.gaps,
    CASE WHEN r.is_running AND NOT r.is_finished AND r.pieces_done > 0 THEN
        now() + (now() - r.started_at)
            * ((r.pieces - r.pieces_done - r.pieces_failed)::double precision / r.pieces_done)
    END AS expected_end,
    r.last_error
FROM (
    SELECT
        b.run_id,
        b.started_at,
        max(b.updated_at) AS updated_at,
        bool_and(b.finished_at IS NOT NULL) AS is_finished,
        EXISTS (
            SELECT FROM pg_catalog.pg_stat_activity AS a
            WHERE a.pid = b.pid AND coalesce(a.xact_start = b.started_at, true)) AS is_running,
        count(*) AS services,
        pg_catalog.tstzrange(min(lower(b.span)), max(upper(b.span)), '(]') AS span,
        sum(b.pieces) AS pieces,
        sum(b.pieces_done) AS pieces_done,
        sum(b.pieces_failed) AS pieces_failed,
        sum(b.samples)::bigint AS samples,
        sum(b.gaps)::bigint AS gaps,
        (array_agg(b.last_error ORDER BY b.updated_at DESC) FILTER (WHERE b.last_error IS NOT NULL))[1] AS last_error
    FROM smartbox.backfill_runs AS b
    GROUP BY b.run_id, b.started_at, b.pid
) AS r;

COMMENT ON VIEW smartbox.backfill_progress IS 'backfills, while they run and for a week: one row each';
COMMENT ON COLUMN smartbox.backfill_progress.run_id IS 'identity of the run';
COMMENT ON COLUMN smartbox.backfill_progress.started_at IS 'when it began';
COMMENT ON COLUMN smartbox.backfill_progress.updated_at IS 'when a piece was last done';
COMMENT ON COLUMN smartbox.backfill_progress.status IS 'running, succeeded, failed (some pieces have), or interrupted: another call completes it';
COMMENT ON COLUMN smartbox.backfill_progress.services IS 'services that it is about';
COMMENT ON COLUMN smartbox.backfill_progress.span IS 'first to last instant that is asked for';
COMMENT ON COLUMN smartbox.backfill_progress.pieces IS 'pieces that it is cut into, counted once for each service in them';
COMMENT ON COLUMN smartbox.backfill_progress.pieces_done IS 'how many of them are stored';
COMMENT ON COLUMN smartbox.backfill_progress.pieces_failed IS 'how many could not be fetched or stored';
COMMENT ON COLUMN smartbox.backfill_progress.samples IS 'samples that were new or changed';
COMMENT ON COLUMN smartbox.backfill_progress.gaps IS 'instants of services for which the source has nothing';
COMMENT ON COLUMN smartbox.backfill_progress.expected_end IS 'when it will be done if it goes on as before; NULL when it does not run';
COMMENT ON COLUMN smartbox.backfill_progress.last_error IS 'what went wrong last';
