-- Training: what is under way, and going back to an earlier model.

-- Whoever may not see the other's start time takes it that the process is
-- still the same; ids of processes come back only after a long time.
CREATE FUNCTION smartbox.process_runs(pid integer, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_stat_get_activity(pid) AS a
        WHERE pid IS NOT NULL AND coalesce(a.backend_start <= since, true)
    )
$$;

COMMENT ON FUNCTION smartbox.process_runs(integer, timestamptz) IS
    'whether a server process that had this id at that time is still there';

CREATE VIEW smartbox.training_progress AS
SELECT DISTINCT ON (r.service)
    r.service,
    CASE WHEN r.status = 'running' AND NOT smartbox.process_runs(r.pid, r.started_at)
        THEN 'interrupted' ELSE r.status END AS status,
    r.started_at,
    r.finished_at,
    r.samples,
    r.models_accepted,
    r.models_rejected,
    r.message,
    r.pid,
    r.run_id
FROM smartbox.training_runs AS r
ORDER BY r.service, r.started_at DESC, r.run_id;

COMMENT ON VIEW smartbox.training_progress IS 'the newest training of each service, also while it is under way';
COMMENT ON COLUMN smartbox.training_progress.service IS 'the service';
COMMENT ON COLUMN smartbox.training_progress.status IS 'running, succeeded, failed, or interrupted: its process is gone';
COMMENT ON COLUMN smartbox.training_progress.started_at IS 'when it began';
COMMENT ON COLUMN smartbox.training_progress.finished_at IS 'when it ended; NULL while it runs';
COMMENT ON COLUMN smartbox.training_progress.samples IS 'samples that were read';
COMMENT ON COLUMN smartbox.training_progress.models_accepted IS 'models that became active';
COMMENT ON COLUMN smartbox.training_progress.models_rejected IS 'models that did not pass validation';
COMMENT ON COLUMN smartbox.training_progress.message IS 'what went wrong';
COMMENT ON COLUMN smartbox.training_progress.pid IS 'the server process that trains or trained it';
COMMENT ON COLUMN smartbox.training_progress.run_id IS 'identity of the run';

CREATE FUNCTION @extschema@.rollback_model(service text, period text) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_rollback_model';

COMMENT ON FUNCTION @extschema@.rollback_model(text, text) IS
    'makes the accepted version before the active one active again, for a service and a part of the week, and returns its number; it judges the next sample in every session';
