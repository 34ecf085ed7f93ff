-- Who may do what: nothing by default, and what a grant is good for.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(23);

CREATE ROLE smartbox_test_nobody;

SELECT is_empty(
    $$ SELECT c.oid::regclass, a.privilege_type
       FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
       WHERE c.relnamespace = 'smartbox'::regnamespace AND c.relkind IN ('r', 'v') AND a.grantee = 0
           AND (c.oid, a.privilege_type) <> ('smartbox.time_periods'::regclass, 'SELECT') $$,
    'PUBLIC has nothing of the tables but the map of the week');
SELECT set_eq(
    $$ SELECT p.oid::regprocedure::text
       FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid JOIN pg_proc AS p ON p.oid = d.objid,
           aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
       WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
           AND x.extname = 'smartbox_anomaly' AND a.grantee = 0 $$,
    ARRAY['fingerprint_id(text,text)', 'score_to_severity(double precision)', 'time_period(timestamp with time zone,text)',
          'isolation_forest(double precision[])', 'isolation_forest(double precision[],integer)',
          'isolation_forest(double precision[],integer,integer)', 'isolation_forest(double precision[],integer,integer,bigint)',
          'isolation_forest_score(bytea,double precision[])', 'isolation_forest_scores(bytea,double precision[])',
          'isolation_forest_contributions(bytea,double precision[])', 'isolation_forest_info(bytea)',
          'isolation_forest_trees(bytea)',
          'smartbox.minutes_between(timestamp with time zone,timestamp with time zone)',
          'smartbox.process_runs(integer,timestamp with time zone)', 'smartbox.worker_state()',
          'smartbox.circuit_breaker_states()', 'smartbox.delivery_obstacle()', 'smartbox.database_identity()',
          'smartbox.library_version()', 'smartbox.kept_since(text)', 'smartbox.retention(text)',
          'smartbox.fallback_periods(text)', 'smartbox.sample_interval()']
    || '{
        smartbox.service_time_period, smartbox.iso_timestamp, smartbox.refuse_unknown_incident, smartbox.html_text,
        smartbox.value_text, smartbox.duration_text, smartbox.sparkline, smartbox.line_path, smartbox.band_path,
        smartbox.nice_step, smartbox.time_step, smartbox.metric_chart, smartbox.sparkline_svg, smartbox.time_html,
        smartbox.word_html, smartbox.list_html, smartbox.metrics_of_anomaly, smartbox.charts_html,
        smartbox.comparison_html, smartbox.events_html, smartbox.incident_html, smartbox.incidents_html,
        smartbox.fleet_html, smartbox.watch_html, smartbox.report_style, smartbox.page_html
    }'::regproc[]::oid[]::regprocedure[]::text[],
    'PUBLIC may call pure functions, and what looks at or reads with the caller''s own privileges');
SELECT ok(NOT has_schema_privilege('smartbox_test_nobody', 'smartbox', 'CREATE'), 'nobody adds objects');

INSERT INTO smartbox.services (service) VALUES ('booking');
INSERT INTO smartbox.detections (service, ts, is_anomaly, score) VALUES ('booking', '2024-01-15 10:00+00', true, -0.4);

SET LOCAL ROLE smartbox_test_nobody;
SELECT is(fingerprint_id('booking', 'x'), fingerprint_id('booking', 'x'), 'anybody may compute a fingerprint');
SELECT is(score_to_severity(-0.7)::text, 'critical', 'a severity');
SELECT is(time_period('2024-01-15 10:00+00', 'UTC'), 'business_hours', 'a period');
SELECT throws_ok($$ SELECT FROM smartbox.services $$, '42501', NULL, 'not read a service');
SELECT throws_ok($$ INSERT INTO smartbox.samples VALUES ('booking', now(), '{1}') $$, '42501', NULL, 'not write a sample');
SELECT throws_ok($$ SELECT FROM smartbox.active_incidents $$, '42501', NULL, 'not see an incident');
SELECT throws_ok($$ SELECT smartbox.guess_category('x') $$, '42501', NULL, 'not call the rest');
SELECT throws_ok($$ SELECT FROM smartbox.circuit_breaker_states() $$, '42501', 'permission denied for view circuit_breakers',
    'not see the endpoints');
SELECT throws_ok($$ CALL apply_retention() $$, '42501', NULL, 'not delete what is old');
SELECT throws_ok($$ SELECT FROM past_incident_coverage() $$, '42501', NULL, 'not ask what was caught');
SELECT throws_ok($$ SELECT reset_circuit_breaker() $$, '42501', NULL, 'not close a circuit breaker');
RESET ROLE;

-- Reading takes SELECT and nothing else, through the views too.
GRANT SELECT ON ALL TABLES IN SCHEMA smartbox TO smartbox_test_nobody;
SET LOCAL ROLE smartbox_test_nobody;
SELECT is((SELECT count(*) FROM smartbox.active_incidents), 1::bigint, 'a reader reads incidents');
SELECT is((SELECT count(*) FROM smartbox.incident_timeline), 1::bigint, 'events');
SELECT is((SELECT count(*) FROM smartbox.anomalies), 1::bigint, 'anomalies');
SELECT is((SELECT count(*) FROM smartbox.model_status), 5::bigint, 'and what the models are like');
SELECT is((SELECT count(*) FROM smartbox.service_health), 1::bigint, 'how the services are');
SELECT is((SELECT count(*) FROM smartbox.pattern_statistics), 1::bigint, 'and what is often wrong');
SELECT is((SELECT count(*) FROM smartbox.circuit_breakers), 0::bigint, 'the circuit breakers');
SELECT is((SELECT count(*) FROM smartbox.circuit_breaker_events), 0::bigint, 'and their history');
SELECT throws_ok($$ UPDATE smartbox.incidents SET description = '' $$, '42501', NULL, 'and changes nothing');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
