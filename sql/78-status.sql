-- What an operator looks at: what can be wrong, what is, and what to do.

CREATE FUNCTION smartbox.library_version() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_library_version';

COMMENT ON FUNCTION smartbox.library_version() IS
    'the version of the library that this session has loaded; the extension''s is in pg_extension';

CREATE VIEW smartbox.status AS
WITH newest AS MATERIALIZED (
    SELECT s.service, d.judged_ts, d.drift, m.trained_at, t.training_status,
        (SELECT max(x.ts) FROM smartbox.samples AS x WHERE x.service = s.service) AS sampled_ts,
        (SELECT min(x.ts) FROM smartbox.samples AS x WHERE x.service = s.service) AS oldest_ts,
        (SELECT min(i.first_seen) FROM smartbox.incidents AS i WHERE i.service = s.service AND i.status <> 'CLOSED') AS needed_ts,
        now() - 3 * smartbox.sample_interval() AS late_ts
    FROM smartbox.services AS s
        LEFT JOIN LATERAL (
            SELECT x.ts AS judged_ts, x.payload #>> '{drift,level}' AS drift
            FROM smartbox.detections AS x WHERE x.service = s.service
            ORDER BY x.ts DESC LIMIT 1
        ) AS d ON true
        LEFT JOIN LATERAL (
            SELECT max(x.trained_at) AS trained_at
            FROM smartbox.models AS x WHERE x.service = s.service AND x.is_active
        ) AS m ON true
        LEFT JOIN LATERAL (
            SELECT x.status AS training_status
            FROM smartbox.training_runs AS x WHERE x.service = s.service AND x.finished_at IS NOT NULL
            ORDER BY x.started_at DESC LIMIT 1
        ) AS t ON true
    WHERE s.enabled
), fleet AS (
    SELECT count(*) AS services,
        count(*) FILTER (WHERE n.sampled_ts IS NULL OR n.sampled_ts < n.late_ts) AS late,
        -- nothing is recorded of a service without a model
        count(*) FILTER (WHERE n.sampled_ts >= n.late_ts AND n.trained_at IS NOT NULL
            AND coalesce(n.judged_ts, '-infinity') < n.late_ts) AS unjudged,
        count(*) FILTER (WHERE n.trained_at IS NULL) AS untrained,
        count(*) FILTER (WHERE n.trained_at < now() - interval '8 days') AS stale,
        count(*) FILTER (WHERE n.training_status = 'failed') AS failed,
        count(*) FILTER (WHERE n.drift = 'severe') AS drifted,
        count(*) FILTER (WHERE n.oldest_ts < smartbox.kept_since('samples') - interval '2 days'
            AND n.needed_ts IS NULL) AS kept_too_long,
        max(n.sampled_ts) AS newest_ts,
        max(n.judged_ts) AS judged_ts
    FROM newest AS n
), outbox AS (
    SELECT r.receiver, count(d.receiver) FILTER (WHERE d.status IN ('pending', 'sending')) AS waiting,
        min(d.created_at) FILTER (WHERE d.status IN ('pending', 'sending')) AS oldest_at,
        count(d.receiver) FILTER (WHERE d.status = 'held') AS held,
        count(d.receiver) FILTER (WHERE d.status = 'dead') AS dead,
        (array_agg(d.last_error ORDER BY d.created_at DESC)
            FILTER (WHERE d.last_error IS NOT NULL AND d.status IN ('pending', 'sending', 'dead')))[1] AS last_error
    FROM smartbox.receivers AS r
        LEFT JOIN smartbox.deliveries AS d
            ON d.receiver = r.receiver AND (d.next_attempt_at IS NOT NULL OR d.status IN ('dead', 'held') AND d.created_at > now() - interval '7 days')
    WHERE r.enabled
    GROUP BY r.receiver
)
SELECT 'library' AS thing,
    CASE WHEN x.extversion = smartbox.library_version() THEN 'ok' ELSE 'error' END AS severity,
    format('the extension has version %s, the library %s', x.extversion, smartbox.library_version()) AS message,
    CASE WHEN x.extversion <> smartbox.library_version()
        THEN 'ALTER EXTENSION smartbox_anomaly UPDATE, or restart the server to load the new library.' END AS what_to_do
FROM pg_extension AS x
WHERE x.extname = 'smartbox_anomaly'
UNION ALL
SELECT 'workers',
    CASE
        WHEN NOT w.preloaded THEN 'warning'
        WHEN pg_is_in_recovery() THEN 'ok'
        WHEN w.launcher_pid IS NULL OR w.state = 'other version' THEN 'error'
        WHEN w.state = 'not listed' OR w.no_worker_free_since IS NOT NULL THEN 'warning'
        ELSE 'ok'
    END,
    CASE
        WHEN NOT w.preloaded THEN 'the library is not preloaded: nothing runs by itself'
        WHEN pg_is_in_recovery() THEN 'this is a standby: workers begin when it is promoted'
        WHEN w.launcher_pid IS NULL THEN 'the launcher does not run'
        WHEN w.state = 'other version' THEN 'the extension''s version is not the library''s: jobs do not run'
        WHEN w.state = 'not listed' THEN 'smartbox_anomaly.databases does not name this database'
        WHEN w.no_worker_free_since IS NOT NULL THEN format('no background worker has been free since %s', w.no_worker_free_since)
        ELSE format('jobs were last looked at %s', coalesce(w.checked_at::text, 'never'))
    END,
    CASE
        WHEN NOT w.preloaded THEN 'Add smartbox_anomaly to shared_preload_libraries and restart, or have pg_cron CALL run_cycle().'
        WHEN pg_is_in_recovery() THEN NULL
        WHEN w.launcher_pid IS NULL THEN 'Look into the server''s log; it is restarted after 5 seconds.'
        WHEN w.state = 'other version' THEN 'ALTER EXTENSION smartbox_anomaly UPDATE, or restart the server to load the new library.'
        WHEN w.state = 'not listed' THEN 'Add it to smartbox_anomaly.databases and reload, unless pg_cron runs the cycle here.'
        WHEN w.no_worker_free_since IS NOT NULL THEN 'Increase max_worker_processes and restart.'
    END
FROM smartbox.worker_state() AS w
UNION ALL
SELECT 'job ' || j.job,
    CASE
        WHEN NOT j.enabled THEN 'warning'
        WHEN j.failures_in_a_row > 0 THEN 'error'
        WHEN NOT o.is_overdue THEN 'ok'
        WHEN o.is_running THEN 'warning'
        ELSE 'error'
    END,
    CASE
        WHEN NOT j.enabled THEN 'is switched off'
        WHEN j.failures_in_a_row > 0 THEN format('has failed %s times in a row: %s', j.failures_in_a_row, split_part(j.last_error, E'\n', 1))
        WHEN o.is_running AND o.is_overdue THEN format('has been running since %s, and is due again since %s', j.last_started_at, j.next_run_at)
        WHEN o.is_running THEN format('has been running since %s', j.last_started_at)
        WHEN o.is_overdue THEN format('has been due since %s', j.next_run_at)
        ELSE format('last ended well %s', coalesce(j.last_succeeded_at::text, 'never'))
    END,
    CASE
        WHEN NOT j.enabled THEN 'Set smartbox.jobs.enabled to true, unless something else does its work.'
        WHEN j.failures_in_a_row > 0 THEN 'See smartbox.job_history, and try it with smartbox.run_job().'
        WHEN o.is_running AND o.is_overdue THEN 'See what its process waits for in pg_stat_activity; pg_cancel_backend(smartbox.jobs.running_pid) ends the run.'
        WHEN o.is_overdue THEN 'See the line "workers".'
    END
FROM smartbox.jobs AS j,
    LATERAL (
        SELECT j.running_pid IS NOT NULL AND smartbox.process_runs(j.running_pid, j.running_process) AS is_running,
            coalesce(j.next_run_at < now() - interval '2 minutes', false) AS is_overdue
    ) AS o
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
        WHEN f.late > 0 THEN 'See the lines of the source and of the job collect_and_detect, then smartbox.sample_quality and check_metric_source().' END
FROM fleet AS f
UNION ALL
SELECT 'detections',
    CASE WHEN f.unjudged = 0 THEN 'ok' WHEN f.unjudged < f.services THEN 'warning' ELSE 'error' END,
    format('%s of %s services have new samples that are not judged; the last one that was: %s',
           f.unjudged, f.services, coalesce(f.judged_ts::text, 'never')),
    CASE WHEN f.unjudged > 0 THEN 'See the line of the job collect_and_detect, or what is to CALL run_cycle().' END
FROM fleet AS f
UNION ALL
SELECT 'models',
    CASE WHEN f.untrained > 0 OR f.stale > 0 THEN 'warning' ELSE 'ok' END,
    format('%s of %s services have no model, %s only models of more than 8 days ago', f.untrained, f.services, f.stale),
    CASE WHEN f.untrained > 0 OR f.stale > 0 THEN 'See smartbox.model_status and smartbox.training_progress; SELECT * FROM train_models() trains now.' END
FROM fleet AS f
UNION ALL
SELECT 'training',
    CASE WHEN f.failed > 0 THEN 'warning' ELSE 'ok' END,
    format('the last training of %s of %s services has failed', f.failed, f.services),
    CASE WHEN f.failed > 0 THEN 'See message in smartbox.training_progress; they keep the models that they have.' END
FROM fleet AS f
UNION ALL
SELECT 'drift',
    CASE WHEN f.drifted > 0 THEN 'warning' ELSE 'ok' END,
    format('%s of %s services have drifted far from what their models know', f.drifted, f.services),
    CASE WHEN f.drifted > 0 THEN 'The next training follows them, and SELECT * FROM train_models() at once; until then their anomalies have less confidence.' END
FROM fleet AS f
UNION ALL
SELECT 'retention',
    CASE WHEN f.kept_too_long > 0 THEN 'warning' ELSE 'ok' END,
    format('%s of %s services have samples that are two days older than they should be', f.kept_too_long, f.services),
    CASE WHEN f.kept_too_long > 0 THEN 'See the line of the job retention; CALL apply_retention() deletes them now.' END
FROM fleet AS f
UNION ALL
SELECT 'delivery',
    CASE WHEN (d.obstacle IS NULL) = (d.receivers > 0) THEN 'ok' ELSE 'warning' END,
    CASE WHEN d.receivers = 0 THEN 'no receiver is enabled: alerts are rows of smartbox.alerts, and told to nobody'
        ELSE coalesce(d.obstacle, format('alerts are sent to %s receivers', d.receivers)) END,
    CASE WHEN d.receivers = 0 AND d.obstacle IS NULL THEN 'Insert or enable one in smartbox.receivers, or SELECT disarm_delivery().'
        WHEN d.receivers > 0 AND d.obstacle IS NOT NULL THEN 'Leave it so in a copy; where alerts are to be sent, do what it says.' END
FROM (SELECT smartbox.delivery_obstacle() AS obstacle, (SELECT count(*) FROM outbox) AS receivers) AS d
UNION ALL
SELECT 'receiver ' || o.receiver,
    CASE WHEN o.oldest_at < now() - interval '5 minutes' AND smartbox.delivery_obstacle() IS NULL THEN 'error'
        WHEN o.dead > 0 OR o.held > 0 OR o.last_error IS NOT NULL THEN 'warning' ELSE 'ok' END,
    format('%s alerts wait%s, %s are held back, %s were given up in the last 7 days%s', o.waiting,
           ' since ' || o.oldest_at, o.held, o.dead, ': ' || split_part(o.last_error, E'\n', 1)),
    CASE WHEN o.last_error IS NOT NULL AND o.waiting > 0 THEN 'Put it, its address or its token right; what waits is sent then.'
        WHEN o.dead > 0 THEN 'See smartbox.deliveries; redeliver_alerts() tries them anew.'
        WHEN o.held > 0 THEN 'See smartbox.incident_groups for what is behind so many, and max_per_minute in smartbox.receivers.'
        WHEN o.oldest_at < now() - interval '5 minutes' AND smartbox.delivery_obstacle() IS NULL
            THEN 'Nobody has tried: see the line of the job deliver, or CALL deliver_alerts().' END
FROM outbox AS o;

COMMENT ON VIEW smartbox.status IS 'one row per thing that can be wrong, and what to do about it';
COMMENT ON COLUMN smartbox.status.thing IS 'library, workers, job ..., source ..., samples, detections, models, training, drift, retention, delivery, receiver ...';
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
            extract(epoch FROM max((SELECT max(d.ts) FROM smartbox.detections AS d WHERE d.service = s.service)))::float8
        FROM smartbox.services AS s
        UNION ALL
        SELECT 'smartbox_deliveries', 'gauge', 'alerts by what has become of them',
            jsonb_build_object('receiver', d.receiver, 'status', d.status), count(*)::float8
        FROM smartbox.deliveries AS d GROUP BY d.receiver, d.status
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
