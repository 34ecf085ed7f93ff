-- What an operator looks at: what can be wrong, what is, and what to do.

CREATE VIEW smartbox.status AS
WITH sampling AS (
    SELECT coalesce(nullif(current_setting('smartbox_anomaly.sample_interval', true), '')::interval, '5 minutes') AS sample_interval
), newest AS (
    SELECT s.service, (SELECT max(x.ts) FROM smartbox.samples AS x WHERE x.service = s.service) AS ts,
        EXISTS (SELECT FROM smartbox.models AS m WHERE m.service = s.service AND m.is_active) AS has_model,
        (SELECT max(m.trained_at) FROM smartbox.models AS m WHERE m.service = s.service AND m.is_active) AS trained_at
    FROM smartbox.services AS s
    WHERE s.enabled
), fleet AS (
    SELECT count(*) AS services,
        count(*) FILTER (WHERE n.ts IS NULL OR n.ts < now() - 3 * p.sample_interval) AS late,
        count(*) FILTER (WHERE NOT n.has_model) AS untrained,
        count(*) FILTER (WHERE n.trained_at < now() - interval '8 days') AS stale,
        max(n.ts) AS newest_ts
    FROM newest AS n CROSS JOIN sampling AS p
)
SELECT 'workers' AS thing,
    CASE
        WHEN NOT w.preloaded THEN 'warning'
        WHEN pg_is_in_recovery() THEN 'ok'
        WHEN w.launcher_pid IS NULL OR w.state = 'other version' THEN 'error'
        WHEN w.state = 'not listed' OR w.no_worker_free_since IS NOT NULL THEN 'warning'
        ELSE 'ok'
    END AS severity,
    CASE
        WHEN NOT w.preloaded THEN 'the library is not preloaded: nothing runs by itself'
        WHEN pg_is_in_recovery() THEN 'this is a standby: workers begin when it is promoted'
        WHEN w.launcher_pid IS NULL THEN 'the launcher does not run'
        WHEN w.state = 'other version' THEN 'the extension''s version is not the library''s: jobs do not run'
        WHEN w.state = 'not listed' THEN 'smartbox_anomaly.databases does not name this database'
        WHEN w.no_worker_free_since IS NOT NULL THEN format('no background worker has been free since %s', w.no_worker_free_since)
        ELSE format('jobs were last looked at %s', coalesce(w.checked_at::text, 'never'))
    END AS message,
    CASE
        WHEN NOT w.preloaded THEN 'Add smartbox_anomaly to shared_preload_libraries and restart, or have pg_cron CALL run_cycle().'
        WHEN pg_is_in_recovery() THEN NULL
        WHEN w.launcher_pid IS NULL THEN 'Look into the server''s log; it is restarted after 5 seconds.'
        WHEN w.state = 'other version' THEN 'ALTER EXTENSION smartbox_anomaly UPDATE, or restart the server to load the new library.'
        WHEN w.state = 'not listed' THEN 'Add it to smartbox_anomaly.databases and reload, unless pg_cron runs the cycle here.'
        WHEN w.no_worker_free_since IS NOT NULL THEN 'Increase max_worker_processes and restart.'
    END AS what_to_do
FROM smartbox.worker_state() AS w
UNION ALL
SELECT 'job ' || j.job,
    CASE
        WHEN NOT j.enabled THEN 'warning'
        WHEN j.failures_in_a_row > 0 THEN 'error'
        WHEN j.running_pid IS NULL AND j.next_run_at < now() - interval '2 minutes' THEN 'error'
        ELSE 'ok'
    END,
    CASE
        WHEN NOT j.enabled THEN 'is switched off'
        WHEN j.failures_in_a_row > 0 THEN format('has failed %s times in a row: %s', j.failures_in_a_row, split_part(j.last_error, E'\n', 1))
        WHEN j.running_pid IS NULL AND j.next_run_at < now() - interval '2 minutes' THEN format('has been due since %s', j.next_run_at)
        WHEN j.running_pid IS NOT NULL THEN format('has been running since %s', j.last_started_at)
        ELSE format('last ended well %s', coalesce(j.last_succeeded_at::text, 'never'))
    END,
    CASE
        WHEN NOT j.enabled THEN 'Set smartbox.jobs.enabled to true, unless something else does its work.'
        WHEN j.failures_in_a_row > 0 THEN 'See smartbox.job_history, and try it with smartbox.run_job().'
        WHEN j.running_pid IS NULL AND j.next_run_at < now() - interval '2 minutes' THEN 'See the line "workers".'
    END
FROM smartbox.jobs AS j
UNION ALL
SELECT 'source ' || b.endpoint,
    CASE b.state WHEN 'closed' THEN CASE WHEN b.failures > 0 THEN 'warning' ELSE 'ok' END ELSE 'error' END,
    CASE WHEN b.state = 'closed' AND b.failures = 0 THEN 'answers'
        ELSE format('circuit breaker %s after %s failed calls: %s', b.state, b.failures, b.last_error) END,
    CASE WHEN b.state <> 'closed' OR b.failures > 0 THEN 'See that it runs and can be reached from here; it is asked again by itself, or after reset_circuit_breaker().' END
FROM smartbox.circuit_breakers AS b
UNION ALL
SELECT 'samples',
    CASE WHEN f.services = 0 THEN 'warning' WHEN f.late = f.services THEN 'error' WHEN f.late > 0 THEN 'warning' ELSE 'ok' END,
    CASE WHEN f.services = 0 THEN 'no service is watched'
        ELSE format('%s of %s services have no sample of the last three intervals; the newest is of %s',
                    f.late, f.services, coalesce(f.newest_ts::text, 'never')) END,
    CASE WHEN f.services = 0 THEN 'SELECT discover_services(), or insert into smartbox.services.'
        WHEN f.late > 0 THEN 'See the lines of the source and of the job collect_and_detect, then smartbox.sample_quality.' END
FROM fleet AS f
UNION ALL
SELECT 'models',
    CASE WHEN f.untrained > 0 OR f.stale > 0 THEN 'warning' ELSE 'ok' END,
    format('%s of %s services have no model, %s only models of more than 8 days ago', f.untrained, f.services, f.stale),
    CASE WHEN f.untrained > 0 OR f.stale > 0 THEN 'See smartbox.model_status and smartbox.training_progress; SELECT * FROM train_models() trains now.' END
FROM fleet AS f;

COMMENT ON VIEW smartbox.status IS 'one row per thing that can be wrong, and what to do about it';
COMMENT ON COLUMN smartbox.status.thing IS 'workers, job ..., source ..., samples, models';
COMMENT ON COLUMN smartbox.status.severity IS 'ok, warning: look at it in working hours, error: nothing is watched, or not all of it';
COMMENT ON COLUMN smartbox.status.message IS 'how it is';
COMMENT ON COLUMN smartbox.status.what_to_do IS 'what to do about it; NULL: nothing';

CREATE FUNCTION @extschema@.system_status() RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'endpoint', CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
            THEN nullif(current_setting('smartbox_anomaly.vm_endpoint', true), '') END,
        'circuit_breakers', (SELECT coalesce(jsonb_agg(jsonb_build_object('endpoint', b.endpoint, 'state', b.state,
            'failures', b.failures, 'next_probe_at', b.next_probe_at)), '[]') FROM smartbox.circuit_breakers AS b),
        'workers', (SELECT to_jsonb(w) FROM smartbox.worker_state() AS w),
        'last_cycle', (SELECT jsonb_build_object('started_at', j.last_started_at, 'succeeded_at', j.last_succeeded_at,
            'error', j.last_error, 'error_at', j.last_error_at) FROM smartbox.jobs AS j WHERE j.job = 'collect_and_detect'),
        'available_services', (SELECT coalesce(jsonb_agg(s.service ORDER BY s.service), '[]') FROM smartbox.services AS s WHERE s.enabled),
        'models', (SELECT coalesce(jsonb_object_agg(m.time_period, m.models), '{}')
            FROM (SELECT time_period, count(*) AS models FROM smartbox.models WHERE is_active GROUP BY time_period) AS m),
        'open_incidents', (SELECT count(*) FROM smartbox.incidents AS i WHERE i.status IN ('OPEN', 'RECOVERING')),
        'needs_attention', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.severity, x.thing), '[]')
            FROM smartbox.status AS x WHERE x.severity <> 'ok'))
$$;

COMMENT ON FUNCTION @extschema@.system_status() IS
    'the state of everything as one document: endpoint (for who may read all settings), circuit breakers, workers, last cycle, available services, models by period, open incidents, and the rows of smartbox.status that need attention';

CREATE FUNCTION smartbox.prometheus_metrics() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH sample(name, kind, help, labels, value) AS (
        SELECT 'smartbox_status', 'gauge', '0 ok, 1 warning, 2 error', jsonb_build_object('thing', s.thing),
            CASE s.severity WHEN 'ok' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END::float8
        FROM smartbox.status AS s
        UNION ALL
        SELECT m.name, m.kind, m.help, jsonb_build_object('job', j.job), m.value
        FROM smartbox.jobs AS j,
            LATERAL (VALUES
                ('smartbox_job_runs_total', 'counter', 'runs that have begun', j.runs::float8),
                ('smartbox_job_failures_total', 'counter', 'runs that have failed', j.failures::float8),
                ('smartbox_job_last_success_timestamp_seconds', 'gauge', 'when it last ended well',
                 extract(epoch FROM j.last_succeeded_at)::float8),
                ('smartbox_job_last_duration_seconds', 'gauge', 'how long its last run took',
                 extract(epoch FROM j.last_duration)::float8)) AS m(name, kind, help, value)
        UNION ALL
        SELECT 'smartbox_last_detection_timestamp_seconds', 'gauge', 'instant of the newest sample that was judged', '{}',
            extract(epoch FROM max(d.ts))::float8 FROM smartbox.detections AS d
        UNION ALL
        SELECT 'smartbox_active_incidents', 'gauge', 'incidents that are not closed', jsonb_build_object('status', i.status),
            count(*)::float8
        FROM smartbox.incidents AS i WHERE i.status <> 'CLOSED' GROUP BY i.status
    ), line AS (
        SELECT s.name, min(s.kind) AS kind, min(s.help) AS help,
            string_agg(s.name || CASE WHEN s.labels = '{}' THEN '' ELSE (
                SELECT '{' || string_agg(format('%s="%s"', l.key,
                    replace(replace(replace(l.value, '\', '\\'), '"', '\"'), E'\n', '\n')), ',' ORDER BY l.key) || '}'
                FROM jsonb_each_text(s.labels) AS l) END || ' ' || s.value::text, E'\n' ORDER BY s.labels::text) AS samples
        FROM sample AS s
        WHERE s.value IS NOT NULL
        GROUP BY s.name
    )
    SELECT string_agg(format(E'# HELP %s %s\n# TYPE %s %s\n%s\n', l.name, l.help, l.name, l.kind, l.samples), '' ORDER BY l.name)
    FROM line AS l
$$;

COMMENT ON FUNCTION smartbox.prometheus_metrics() IS
    'state and counters in Prometheus'' text format, for the textfile collector or postgres_exporter';
