-- What runs by itself: the jobs, when each is due, and what became of each run.
--
-- Every function here takes the time as an argument, so that a test can be at
-- any time it likes.  Background workers (src/worker) and nobody else decide
-- what time it is.

CREATE TABLE smartbox.jobs (
    job text PRIMARY KEY CHECK (job ~ '^[a-z][a-z0-9_]{0,62}$'),
    command text NOT NULL CHECK (command <> ''),
    every interval CHECK (every >= '1 second' AND every <= '7 days'),
    delay interval NOT NULL DEFAULT '0' CHECK (delay >= '0' AND delay <= '1 hour'),
    at_local time,
    on_alert boolean NOT NULL DEFAULT false,
    timeout interval NOT NULL DEFAULT '1 hour' CHECK (timeout >= '1 second' AND timeout <= '7 days'),
    enabled boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    next_run_at timestamptz,
    last_started_at timestamptz,
    last_finished_at timestamptz,
    last_succeeded_at timestamptz,
    last_duration interval,
    last_error text,
    last_error_at timestamptz,
    runs bigint NOT NULL DEFAULT 0 CHECK (runs >= 0),
    failures bigint NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failures_in_a_row integer NOT NULL DEFAULT 0 CHECK (failures_in_a_row >= 0),
    running_pid integer,
    running_process timestamptz,
    shipped boolean NOT NULL DEFAULT false,
    CHECK (every IS NULL OR at_local IS NULL),
    CHECK ((running_pid IS NULL) = (running_process IS NULL))
) WITH (fillfactor = 50);

COMMENT ON TABLE smartbox.jobs IS 'what background workers do by themselves, when, and what became of it; change a row, and it holds from the next run on';
COMMENT ON COLUMN smartbox.jobs.job IS 'name, in lower case';
COMMENT ON COLUMN smartbox.jobs.command IS 'one statement, run with the rights of the extension''s owner, who alone may set it; a procedure may commit';
COMMENT ON COLUMN smartbox.jobs.every IS 'how often, counted from midnight UTC; with at_local NULL too: each smartbox_anomaly.sample_interval';
COMMENT ON COLUMN smartbox.jobs.delay IS 'how much later than the clock says';
COMMENT ON COLUMN smartbox.jobs.at_local IS 'once a day at this time in the zone smartbox_anomaly.time_zone';
COMMENT ON COLUMN smartbox.jobs.on_alert IS 'also at once when a transaction with new alerts has committed, and when an alert is to be tried again';
COMMENT ON COLUMN smartbox.jobs.timeout IS 'a run that takes longer is cancelled, and has failed';
COMMENT ON COLUMN smartbox.jobs.enabled IS 'false: does not run by itself';
COMMENT ON COLUMN smartbox.jobs.description IS 'for people';
COMMENT ON COLUMN smartbox.jobs.next_run_at IS 'when it is due; NULL: not yet known. What was missed runs once';
COMMENT ON COLUMN smartbox.jobs.last_started_at IS 'when it last began';
COMMENT ON COLUMN smartbox.jobs.last_finished_at IS 'when it last ended, well or not';
COMMENT ON COLUMN smartbox.jobs.last_succeeded_at IS 'when it last ended well';
COMMENT ON COLUMN smartbox.jobs.last_duration IS 'how long its last run took';
COMMENT ON COLUMN smartbox.jobs.last_error IS 'why it last failed; smartbox.job_history has the earlier ones';
COMMENT ON COLUMN smartbox.jobs.last_error_at IS 'when that was';
COMMENT ON COLUMN smartbox.jobs.runs IS 'how often it has begun';
COMMENT ON COLUMN smartbox.jobs.failures IS 'how often it has failed';
COMMENT ON COLUMN smartbox.jobs.failures_in_a_row IS 'failures since it last ended well; it is tried again after 1, 2, 4, ... minutes, at most an hour, or when it is due anyway';
COMMENT ON COLUMN smartbox.jobs.running_pid IS 'the server process that runs it now; NULL: it does not run';
COMMENT ON COLUMN smartbox.jobs.running_process IS 'when that process started, since ids of processes come back';
COMMENT ON COLUMN smartbox.jobs.shipped IS 'came with the extension and was never changed; such rows are not dumped';

CREATE TABLE smartbox.job_history (
    job text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('succeeded', 'failed', 'interrupted')),
    error text,
    pid integer NOT NULL,
    PRIMARY KEY (job, started_at),
    CHECK ((status = 'succeeded') = (error IS NULL))
);

COMMENT ON TABLE smartbox.job_history IS 'one row for each run of a job that is over, for 14 days';
COMMENT ON COLUMN smartbox.job_history.job IS 'the job';
COMMENT ON COLUMN smartbox.job_history.started_at IS 'when it began';
COMMENT ON COLUMN smartbox.job_history.finished_at IS 'when it ended; of one that was interrupted: when that was found out';
COMMENT ON COLUMN smartbox.job_history.status IS 'succeeded, failed, or interrupted: its process ended before it';
COMMENT ON COLUMN smartbox.job_history.error IS 'why, with what the server had to say about it';
COMMENT ON COLUMN smartbox.job_history.pid IS 'the server process that ran it';

-- ---------------------------------------------------------------------------
-- When
-- ---------------------------------------------------------------------------

-- A day's local times are looked at from the day before to two days after,
-- since zones differ from UTC by more than half a day.
CREATE FUNCTION smartbox.next_run(
    every interval, delay interval, at_local time, time_zone text, after timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN at_local IS NULL
        THEN date_bin(every, after - delay, 'epoch') + delay + make_interval(secs => extract(epoch FROM every)::float8)
        ELSE (SELECT min(run.at)
              FROM generate_series(-1, 2) AS day,
                  LATERAL (SELECT ((after AT TIME ZONE time_zone)::date + day + at_local) AT TIME ZONE time_zone + delay AS at) AS run
              WHERE run.at > after)
        END
$$;

COMMENT ON FUNCTION smartbox.next_run(interval, interval, time, text, timestamptz) IS
    'the first time after an instant that a job is due: each multiple of an interval since midnight UTC, or a time of the day in a zone, both with a delay';

-- What is to be repeated comes in many small portions; five seconds make them
-- few.
CREATE FUNCTION smartbox.next_delivery(after timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
    SELECT greatest(min(n.at), after + interval '5 seconds')
    FROM (
        SELECT d.next_attempt_at FROM smartbox.deliveries AS d WHERE d.next_attempt_at > after
        UNION ALL
        SELECT d.resend_at FROM smartbox.deliveries AS d WHERE d.resend_at > after
    ) AS n(at)
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.next_delivery(timestamptz) IS
    'the first time after an instant that an alert is to be tried or repeated; NULL: none is';

CREATE FUNCTION smartbox.next_run(job smartbox.jobs, after timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(
        smartbox.next_run(
            coalesce(job.every, nullif(current_setting('smartbox_anomaly.sample_interval', true), '')::interval, '5 minutes'),
            job.delay, job.at_local,
            coalesce(nullif(current_setting('smartbox_anomaly.time_zone', true), ''), 'UTC'),
            after),
        CASE WHEN job.on_alert THEN smartbox.next_delivery(after) END)
$$;

COMMENT ON FUNCTION smartbox.next_run(smartbox.jobs, timestamptz) IS
    'the first time after an instant that this job is due by its clock, or for an alert that is to be tried again';

-- ---------------------------------------------------------------------------
-- Changing a job
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.replace_shipped_job() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.jobs AS j WHERE j.job = NEW.job AND j.shipped;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.replace_shipped_job() IS
    'trigger: the shipped row gives way to a row of the same name, such as the one in a dump';

CREATE FUNCTION smartbox.check_job_command() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT x.extowner FROM pg_extension AS x WHERE x.extname = 'smartbox_anomaly'), 'USAGE') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied to set the command of job "%s"', NEW.job),
            DETAIL = 'It runs with the rights of the owner of the extension.',
            HINT = 'When, how long and whether a job runs can be changed by whoever may update smartbox.jobs.';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.check_job_command() IS
    'trigger: only who has the rights of the extension''s owner says what runs with them';

CREATE FUNCTION smartbox.reschedule_job() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.next_run_at := NULL;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.reschedule_job() IS
    'trigger: a changed clock counts at once';

CREATE FUNCTION smartbox.wake_workers() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'sba_wake_workers';

COMMENT ON FUNCTION smartbox.wake_workers() IS
    'trigger: has the background workers look at the jobs when the transaction commits; with the argument "alert", at those that wait for alerts';

-- ---------------------------------------------------------------------------
-- Running
-- ---------------------------------------------------------------------------

-- No run can be going on after its process has ended; what it had not
-- committed is undone.
CREATE FUNCTION smartbox.note_interrupted_jobs(at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dead smartbox.jobs;
BEGIN
    FOR dead IN
        SELECT j.* FROM smartbox.jobs AS j
        WHERE j.running_pid IS NOT NULL AND NOT smartbox.process_runs(j.running_pid, j.running_process)
        ORDER BY j.job
        FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM smartbox.record_run(dead, at, 'interrupted', format('the server process %s that ran it has ended', dead.running_pid));
    END LOOP;
END
$$;

COMMENT ON FUNCTION smartbox.note_interrupted_jobs(timestamptz) IS
    'records the end of runs whose server process is gone';

CREATE FUNCTION smartbox.record_run(run smartbox.jobs, at timestamptz, status text, error text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retry_at CONSTANT timestamptz := at + least(interval '1 minute' * 2 ^ least(run.failures_in_a_row, 10), interval '1 hour');
    succeeded CONSTANT boolean := error IS NULL;
BEGIN
    UPDATE smartbox.jobs AS j
    SET running_pid = NULL,
        running_process = NULL,
        last_finished_at = record_run.at,
        last_duration = record_run.at - j.last_started_at,
        last_succeeded_at = CASE WHEN succeeded THEN record_run.at ELSE j.last_succeeded_at END,
        last_error = CASE WHEN succeeded THEN j.last_error ELSE record_run.error END,
        last_error_at = CASE WHEN succeeded THEN j.last_error_at ELSE record_run.at END,
        failures = j.failures + (NOT succeeded)::integer,
        failures_in_a_row = CASE WHEN succeeded THEN 0 ELSE j.failures_in_a_row + 1 END,
        next_run_at = CASE WHEN succeeded THEN j.next_run_at ELSE least(j.next_run_at, retry_at) END
    WHERE j.job = run.job;
    INSERT INTO smartbox.job_history (job, started_at, finished_at, status, error, pid)
    VALUES (run.job, run.last_started_at, at, status, error, run.running_pid)
    ON CONFLICT DO NOTHING;
    DELETE FROM smartbox.job_history AS h
    WHERE h.job = run.job AND h.started_at < record_run.at - interval '14 days';
END
$$;

COMMENT ON FUNCTION smartbox.record_run(smartbox.jobs, timestamptz, text, text) IS
    'records the end of a run, and when one that failed is tried again';

CREATE FUNCTION smartbox.claim_job(
    at timestamptz, wanted text DEFAULT NULL,
    OUT job text, OUT command text, OUT timeout_ms bigint)
RETURNS SETOF record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT integer := pg_backend_pid();
    my_start CONSTANT timestamptz := (SELECT a.backend_start FROM pg_stat_get_activity(pg_backend_pid()) AS a);
    due smartbox.jobs;
BEGIN
    PERFORM smartbox.note_interrupted_jobs(at);

    -- Nothing is ever due later than its clock says from now on.
    FOR due IN
        SELECT j.* FROM smartbox.jobs AS j
        WHERE j.enabled AND coalesce(j.next_run_at, 'infinity') > smartbox.next_run(j, at)
        ORDER BY j.job
        FOR UPDATE SKIP LOCKED
    LOOP
        UPDATE smartbox.jobs AS j SET next_run_at = smartbox.next_run(due, at) WHERE j.job = due.job;
    END LOOP;

    SELECT j.* INTO due
    FROM smartbox.jobs AS j
    WHERE j.running_pid IS NULL
        AND CASE WHEN wanted IS NULL THEN j.enabled AND j.next_run_at <= at ELSE j.job = wanted END
    ORDER BY j.next_run_at, j.job
    LIMIT 1
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    -- The clock was read before the run that came before could have ended.
    UPDATE smartbox.jobs AS j
    SET running_pid = me, running_process = my_start, runs = j.runs + 1,
        last_started_at = greatest(claim_job.at, j.last_finished_at),
        next_run_at = smartbox.next_run(due, claim_job.at)
    WHERE j.job = due.job;
    job := due.job;
    command := due.command;
    timeout_ms := (extract(epoch FROM due.timeout) * 1000)::bigint;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION smartbox.claim_job(timestamptz, text) IS
    'takes the job that has been due for longest, or the wanted one, for this server process to run; none when nothing is due or it runs already';

CREATE FUNCTION smartbox.finish_job(job text, at timestamptz, error text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT integer := pg_backend_pid();
    run smartbox.jobs;
BEGIN
    SELECT j.* INTO run FROM smartbox.jobs AS j
    WHERE j.job = finish_job.job AND j.running_pid = me
    FOR UPDATE;
    IF FOUND THEN
        PERFORM smartbox.record_run(run, at, CASE WHEN error IS NULL THEN 'succeeded' ELSE 'failed' END, error);
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.finish_job(text, timestamptz, text) IS
    'records the end of a job that this server process has claimed; error NULL: it went well';

CREATE FUNCTION smartbox.wake_jobs_for_alerts(at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE smartbox.jobs AS j
    SET next_run_at = wake_jobs_for_alerts.at
    WHERE j.on_alert AND j.enabled AND coalesce(j.next_run_at, 'infinity') > wake_jobs_for_alerts.at
$$;

COMMENT ON FUNCTION smartbox.wake_jobs_for_alerts(timestamptz) IS
    'makes the jobs due that wait for alerts';

CREATE FUNCTION smartbox.next_job_due() RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT min(coalesce(j.next_run_at, '-infinity'))
    FROM smartbox.jobs AS j
    WHERE j.enabled AND j.running_pid IS NULL
$$;

COMMENT ON FUNCTION smartbox.next_job_due() IS
    'when the next job is due that does not run already; NULL: never';

CREATE FUNCTION smartbox.run_job(
    job text, OUT started_at timestamptz, OUT finished_at timestamptz, OUT status text, OUT error text)
RETURNS record
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE COST 1000000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_run_job';

COMMENT ON FUNCTION smartbox.run_job(text) IS
    'runs a job now, enabled or not, in a background worker (which needs no preloading), waits for it and says what became of it';

CREATE FUNCTION smartbox.worker_state(
    OUT preloaded boolean, OUT launcher_pid integer, OUT state text, OUT checked_at timestamptz,
    OUT next_due timestamptz, OUT workers integer, OUT no_worker_free_since timestamptz)
RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_worker_state';

COMMENT ON FUNCTION smartbox.worker_state() IS
    'how the background workers see this database: whether the library is preloaded, whether the launcher runs, state (not listed, starting, working, no extension, other version), when a worker was last here and when the next is due';

-- ---------------------------------------------------------------------------
-- The jobs that come with the extension
-- ---------------------------------------------------------------------------

-- Sources need a moment until what they were sent can be asked for.  Alerts
-- wake who delivers them; its clock is for what nothing announces, such as a
-- receiver that was switched on by a restore.
INSERT INTO smartbox.jobs (job, command, every, delay, at_local, on_alert, timeout, description, shipped) VALUES
    ('collect_and_detect', 'CALL smartbox.collect_and_detect()', NULL, '35 seconds', NULL, false, '15 minutes',
     'one cycle per sample interval: fetches the newest samples and judges them', true),
    ('deliver', 'CALL @extschema@.deliver_alerts()', '1 minute', '0', NULL, true, '15 minutes',
     'sends alerts as soon as they are there, and again what could not be sent', true),
    ('write_back', 'CALL @extschema@.write_back_scores()', NULL, '1 minute', NULL, false, '15 minutes',
     'writes scores and bands as series, if smartbox_anomaly.write_back_endpoint says where to', true),
    ('train', 'SELECT pg_catalog.count(*) FROM @extschema@.train_models()', NULL, '0', '02:00', false, '6 hours',
     'learns anew from the last 30 days, at night', true),
    ('retention', 'CALL @extschema@.apply_retention()', '1 hour', '20 minutes', NULL, false, '1 hour',
     'deletes what is too old', true);

CREATE TRIGGER replace_shipped BEFORE INSERT ON smartbox.jobs
    FOR EACH ROW WHEN (NOT NEW.shipped)
    EXECUTE FUNCTION smartbox.replace_shipped_job();

CREATE TRIGGER check_command BEFORE INSERT OR UPDATE OF command ON smartbox.jobs
    FOR EACH ROW EXECUTE FUNCTION smartbox.check_job_command();

CREATE TRIGGER own_changed BEFORE UPDATE OF job, command, every, delay, at_local, on_alert, timeout, enabled, description
    ON smartbox.jobs
    FOR EACH ROW WHEN (OLD.shipped)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE TRIGGER reschedule BEFORE UPDATE OF every, delay, at_local, enabled ON smartbox.jobs
    FOR EACH ROW WHEN (OLD.next_run_at IS NOT DISTINCT FROM NEW.next_run_at)
    EXECUTE FUNCTION smartbox.reschedule_job();

CREATE TRIGGER keep_name BEFORE UPDATE ON smartbox.jobs
    FOR EACH ROW WHEN (OLD.shipped AND NEW.job <> OLD.job)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Insert a job of your own.');

CREATE TRIGGER keep_shipped BEFORE DELETE ON smartbox.jobs
    FOR EACH ROW WHEN (OLD.shipped AND pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set its enabled to false.');

CREATE TRIGGER wake_workers AFTER INSERT OR DELETE OR UPDATE OF every, delay, at_local, on_alert, enabled, next_run_at ON smartbox.jobs
    FOR EACH ROW WHEN (pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.wake_workers('job');

CREATE TRIGGER wake_workers AFTER INSERT ON smartbox.alerts
    FOR EACH ROW WHEN (NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.wake_workers('alert');

-- Whoever arms delivery or puts a receiver right wants to see what waits go out.
CREATE TRIGGER wake_workers AFTER INSERT ON smartbox.delivery_arming
    FOR EACH STATEMENT EXECUTE FUNCTION smartbox.wake_workers('alert');

CREATE TRIGGER wake_workers AFTER INSERT OR UPDATE ON smartbox.receivers
    FOR EACH STATEMENT EXECUTE FUNCTION smartbox.wake_workers('alert');

SELECT pg_catalog.pg_extension_config_dump('smartbox.jobs', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('smartbox.job_history', '');
