-- Nothing is anybody's by default.  The administrator grants what a role
-- needs; roles are not made here, since they belong to the whole cluster.

REVOKE ALL ON SCHEMA smartbox FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA smartbox FROM PUBLIC;

-- Functions of other extensions may share the schema of the verbs, so the
-- list is taken from this extension's members.
DO $$
DECLARE
    member regprocedure;
BEGIN
    FOR member IN
        SELECT d.objid
        FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_extension AS x
                ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = x.oid
        WHERE x.extname = 'smartbox_anomaly' AND d.deptype = 'e'
            AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', member);
    END LOOP;
END
$$;

-- A view shows to whoever reads it what that one may see of its tables, so
-- that row-level security on these holds for it too.
DO $$
DECLARE
    member regclass;
BEGIN
    FOR member IN
        SELECT d.objid
        FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_extension AS x
                ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = x.oid
            JOIN pg_catalog.pg_class AS c
                ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        WHERE x.extname = 'smartbox_anomaly' AND d.deptype = 'e' AND c.relkind = 'v'
    LOOP
        EXECUTE pg_catalog.format('ALTER VIEW %s SET (security_invoker = true)', member);
    END LOOP;
END
$$;

REVOKE ALL ON TYPE smartbox.severity, smartbox.incident_status, smartbox.incident_event, smartbox.anomaly FROM PUBLIC;

-- Pure functions that tell nothing about anybody's data; the period of an
-- instant is read from the map of the week.
GRANT EXECUTE ON FUNCTION @extschema@.fingerprint_id(text, text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.score_to_severity(double precision) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.time_period(timestamptz, text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest(double precision[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest(double precision[], integer) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest(double precision[], integer, integer) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest(double precision[], integer, integer, bigint) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest_score(bytea, double precision[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest_scores(bytea, double precision[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest_contributions(bytea, double precision[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest_info(bytea) TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_forest_trees(bytea) TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.minutes_between(timestamptz, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.process_runs(integer, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.worker_state() TO PUBLIC;
-- Asks itself for the privilege to read the view that it is for.
GRANT EXECUTE ON FUNCTION smartbox.circuit_breaker_states() TO PUBLIC;
-- What smartbox.delivery_status says needs the privilege to read its tables.
GRANT EXECUTE ON FUNCTION smartbox.delivery_obstacle() TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.database_identity() TO PUBLIC;
-- What smartbox.status says of versions and of what is kept.
GRANT EXECUTE ON FUNCTION smartbox.library_version() TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.kept_since(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.retention(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.fallback_periods(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION smartbox.sample_interval() TO PUBLIC;
-- What a page is made of reads with its caller's privileges.
DO $$
DECLARE
    member regprocedure;
BEGIN
    FOREACH member IN ARRAY '{
        smartbox.service_time_period, smartbox.iso_timestamp, smartbox.refuse_unknown_incident, smartbox.html_text,
        smartbox.value_text, smartbox.duration_text, smartbox.sparkline, smartbox.line_path, smartbox.band_path,
        smartbox.nice_step, smartbox.time_step, smartbox.metric_chart, smartbox.sparkline_svg, smartbox.time_html,
        smartbox.word_html, smartbox.list_html, smartbox.metrics_of_anomaly, smartbox.charts_html,
        smartbox.comparison_html, smartbox.events_html, smartbox.incident_html, smartbox.incidents_html,
        smartbox.fleet_html, smartbox.watch_html, smartbox.report_style, smartbox.page_html
    }'::pg_catalog.regproc[]::pg_catalog.oid[]::pg_catalog.regprocedure[]
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', member);
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA smartbox TO PUBLIC;
GRANT USAGE ON TYPE smartbox.severity TO PUBLIC;
GRANT SELECT ON smartbox.time_periods TO PUBLIC;
