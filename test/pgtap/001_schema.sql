-- The shape of the schema: tables, keys, comments, and what distributing by
-- service asks of it.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(42);

-- Objects of the extension, whatever else there is in the database.
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'smartbox_anomaly';

CREATE TEMP VIEW relation AS
SELECT c.oid, c.oid::regclass::text AS name, c.relkind
FROM member AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid;

CREATE TEMP VIEW service_table AS
SELECT r.oid, r.name
FROM relation AS r
WHERE r.relkind = 'r' AND r.name NOT IN
    ('smartbox.service_categories', 'smartbox.metrics', 'smartbox.time_periods', 'smartbox.rules', 'smartbox.patterns',
     'smartbox.jobs', 'smartbox.job_history', 'smartbox.receivers', 'smartbox.delivery_arming');

SELECT set_eq(
    $$ SELECT name FROM relation WHERE relkind = 'r' $$,
    ARRAY['smartbox.service_categories', 'smartbox.metrics', 'smartbox.time_periods', 'smartbox.services',
          'smartbox.samples', 'smartbox.models', 'smartbox.training_runs', 'smartbox.backfill_runs', 'smartbox.detections',
          'smartbox.fingerprints', 'smartbox.incidents', 'smartbox.incident_events', 'smartbox.alerts',
          'smartbox.calendar', 'smartbox.silences', 'smartbox.feedback', 'smartbox.signal_bars', 'smartbox.dependencies', 'smartbox.slos', 'smartbox.rules', 'smartbox.patterns',
          'smartbox.jobs', 'smartbox.job_history', 'smartbox.past_incidents',
          'smartbox.receivers', 'smartbox.deliveries', 'smartbox.delivery_arming', 'smartbox.write_backs'],
    'the tables');
SELECT set_eq(
    $$ SELECT name FROM relation WHERE relkind = 'v' $$,
    ARRAY['smartbox.active_incidents', 'smartbox.active_silences', 'smartbox.incident_timeline', 'smartbox.anomalies',
          'smartbox.metric_values', 'smartbox.model_status', 'smartbox.pattern_statistics',
          'smartbox.training_progress', 'smartbox.backfill_progress', 'smartbox.incident_groups',
          'smartbox.circuit_breakers', 'smartbox.circuit_breaker_events', 'smartbox.slo_status', 'smartbox.status',
          'smartbox.sample_quality', 'smartbox.metric_quality', 'smartbox.anomaly_metrics',
          'smartbox.incident_facts', 'smartbox.open_incidents', 'smartbox.incident_days', 'smartbox.incident_statistics',
          'smartbox.service_weeks', 'smartbox.service_health', 'smartbox.noisy_patterns', 'smartbox.unknown_past_services',
          'smartbox.delivery_status'],
    'the views');
SELECT is_empty(
    $$ SELECT r.name FROM relation AS r JOIN pg_class AS c ON c.oid = r.oid
       WHERE r.relkind = 'v' AND NOT coalesce(c.reloptions @> ARRAY['security_invoker=true'], false) $$,
    'views show what the reader may see');
SELECT is_empty($$ SELECT name FROM relation WHERE relkind = 'S' $$, 'no sequences');
SELECT is_empty(
    $$ SELECT r.name, a.attname FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
       WHERE a.attidentity <> '' $$,
    'no identity columns');

SELECT is_empty(
    $$ SELECT t.name, i.indexrelid::regclass
       FROM service_table AS t
           JOIN pg_index AS i ON i.indrelid = t.oid AND (i.indisprimary OR i.indisunique)
           JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
       WHERE a.attname <> 'service' $$,
    'service comes first in every primary key and unique index');
SELECT is_empty(
    $$ SELECT t.name FROM service_table AS t
       WHERE NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = t.oid AND i.indisprimary) $$,
    'every table has a primary key');
SELECT is_empty(
    $$ SELECT c.conrelid::regclass, c.conname
       FROM pg_constraint AS c JOIN relation AS r ON r.oid = c.conrelid
       WHERE c.contype = 'f' $$,
    'no foreign keys: pg_restore with several jobs loads tables in any order');
SELECT is_empty(
    $$ SELECT t.name FROM service_table AS t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'service'
       WHERE a.atttypid <> 'text'::regtype OR NOT a.attnotnull OR a.attnum <> 1 $$,
    'service is a text that is always there, and the first column');
SELECT is_empty(
    $$ SELECT r.name, a.attname FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
       WHERE a.attnum > 0 AND a.atttypid = 'timestamp'::regtype AND r.name <> 'smartbox.calendar' $$,
    'no timestamp without its zone, but on the clock of each service');

-- What pg_dump takes.
SELECT is_empty(
    $$ SELECT name FROM relation WHERE relkind = 'r'
       EXCEPT
       SELECT unnest(x.extconfig)::regclass::text FROM pg_extension AS x WHERE x.extname = 'smartbox_anomaly' $$,
    'every table is dumped');
SELECT set_eq(
    $$ SELECT c.oid::regclass::text
       FROM pg_extension AS x, unnest(x.extconfig, x.extcondition) AS c(oid, condition)
       WHERE x.extname = 'smartbox_anomaly' AND c.condition = 'WHERE NOT shipped' $$,
    ARRAY['smartbox.service_categories', 'smartbox.metrics', 'smartbox.time_periods', 'smartbox.rules', 'smartbox.patterns',
          'smartbox.jobs', 'smartbox.receivers'],
    'the catalogs without their shipped rows');

-- What \d+ and \df+ show.
SELECT is_empty(
    $$ SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid)
       FROM pg_description AS d JOIN member AS m ON (m.classid, m.objid) = (d.classoid, d.objoid),
           regexp_split_to_table(d.description, E'\n') AS line
       WHERE length(line) > 240 $$,
    'no line of a comment is wider than psql shows well');
SELECT is_empty(
    $$ SELECT r.name FROM relation AS r WHERE r.relkind IN ('r', 'v') AND obj_description(r.oid, 'pg_class') IS NULL $$,
    'every table and view says what it is');
SELECT is_empty(
    $$ SELECT r.name, a.attname FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
       WHERE r.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
           AND col_description(r.oid, a.attnum) IS NULL $$,
    'every column says what it is');
SELECT is_empty(
    $$ SELECT m.objid::regprocedure FROM member AS m
       WHERE m.classid = 'pg_proc'::regclass AND obj_description(m.objid, 'pg_proc') IS NULL $$,
    'every function says what it does');
SELECT is_empty(
    $$ SELECT t.oid::regtype FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
       WHERE n.nspname = 'smartbox' AND t.typtype IN ('e', 'd', 'c')
           AND (t.typrelid = 0 OR (SELECT c.relkind FROM pg_class AS c WHERE c.oid = t.typrelid) = 'c')
           AND obj_description(t.oid, 'pg_type') IS NULL $$,
    'every type says what it is');

-- Functions cannot be led astray by somebody's search_path.  A procedure that
-- commits can have none of its own.
SELECT is_empty(
    $$ SELECT m.objid::regprocedure
       FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid JOIN pg_language AS l ON l.oid = p.prolang
       WHERE m.classid = 'pg_proc'::regclass AND l.lanname IN ('sql', 'plpgsql') AND p.prokind <> 'p'
           AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) $$,
    'every SQL function pins its search_path');
SELECT is_empty(
    $$ SELECT m.objid::regprocedure FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid
       WHERE m.classid = 'pg_proc'::regclass AND p.prosecdef $$,
    'no function runs with its owner''s rights');
SELECT is_empty(
    $$ SELECT m.objid::regprocedure FROM member AS m JOIN pg_proc AS p ON p.oid = m.objid
       WHERE m.classid = 'pg_proc'::regclass AND p.prorettype = 'trigger'::regtype
           AND p.prosrc ~* 'tg_(table_name|relid|table_schema)' $$,
    'no trigger asks for the name of its table');
SELECT is_empty(
    $$ SELECT t.tgrelid::regclass, t.tgname
       FROM pg_trigger AS t JOIN service_table AS s ON s.oid = t.tgrelid
       WHERE NOT t.tgisinternal AND (t.tgtype & 1 = 0 OR t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL) $$,
    'their triggers are row triggers without transition tables');

SELECT enum_has_labels('smartbox', 'severity', ARRAY['none', 'low', 'medium', 'high', 'critical'], 'severities rise');
SELECT enum_has_labels('smartbox', 'incident_status', ARRAY['SUSPECTED', 'OPEN', 'RECOVERING', 'CLOSED'], 'states');
SELECT enum_has_labels('smartbox', 'incident_event',
    ARRAY['CREATE', 'CONFIRM', 'CONTINUE', 'ESCALATE', 'RECOVER', 'REOPEN', 'RESOLVE', 'EXPIRE',
          'ACKNOWLEDGE', 'SILENCE', 'CLOSE'], 'events');
SELECT is((SELECT attstorage::text FROM pg_attribute
           WHERE attrelid = 'smartbox.models'::regclass AND attname = 'model'), 'e', 'models are stored uncompressed');

-- What a row may not look like.
SELECT lives_ok($$ INSERT INTO smartbox.services (service) VALUES (repeat('x', 200)) $$, 'a name of 200 characters');
SELECT throws_ok($$ INSERT INTO smartbox.services (service) VALUES (repeat('x', 201)) $$, '23514', NULL, 'not of 201');
SELECT throws_ok($$ INSERT INTO smartbox.services (service) VALUES ('') $$, '23514', NULL, 'not of none');
SELECT throws_ok($$ INSERT INTO smartbox.services (service) VALUES (E'a\tb') $$, '23514', NULL, 'no control characters');
SELECT lives_ok($$ INSERT INTO smartbox.services (service) VALUES ('paiement-été/α "x"') $$, 'any others');
SELECT throws_ok($$ INSERT INTO smartbox.samples VALUES ('a', 'infinity', '{1}') $$, '23514', NULL, 'no sample at the end of time');
SELECT throws_ok($$ INSERT INTO smartbox.samples VALUES ('a', now(), '{{1,2},{3,4}}') $$, '23514', NULL, 'metric_values is one list');
SELECT lives_ok($$ INSERT INTO smartbox.samples VALUES ('nobody-knows', now(), '{1,NULL}') $$, 'a sample needs no service');

INSERT INTO smartbox.services (service) VALUES ('booking');
SELECT throws_ok(
    $$ INSERT INTO smartbox.models (service, time_period, version, status, is_active, samples)
       VALUES ('booking', 'night_hours', 1, 'rejected', true, 10) $$, '23514', NULL, 'a rejected model is not active');
INSERT INTO smartbox.models (service, time_period, version, status, is_active, samples, model)
VALUES ('booking', 'night_hours', 1, 'accepted', true, 10, '\x01');
SELECT throws_ok(
    $$ INSERT INTO smartbox.models (service, time_period, version, status, is_active, samples, model)
       VALUES ('booking', 'night_hours', 2, 'accepted', true, 10, '\x01') $$, '23505', NULL, 'one model is active, not two');
SELECT throws_ok(
    $$ INSERT INTO smartbox.training_runs (service, status) VALUES ('booking', 'succeeded') $$,
    '23514', NULL, 'a run that is over has an end');
SELECT throws_ok(
    $$ INSERT INTO smartbox.detections (service, ts) VALUES ('bookng', now()) $$,
    '23503', 'service "bookng" is not known', 'no detection of a service that nobody knows');
SELECT throws_ok(
    $$ INSERT INTO smartbox.detections (service, ts, payload) VALUES ('booking', now(), '[]') $$,
    '23514', NULL, 'a payload is an object');

INSERT INTO smartbox.samples VALUES ('booking', now(), '{1}');
INSERT INTO smartbox.past_incidents (service, started_at, title) VALUES ('booking', now(), 'x');
INSERT INTO smartbox.training_runs (service) VALUES ('booking');
INSERT INTO smartbox.backfill_runs (service, run_id, started_at, updated_at, span, pieces, pid) VALUES ('booking', gen_random_uuid(), now(), now(), 'empty', 1, 1);
INSERT INTO smartbox.calendar (service, kind, starts_at) VALUES ('booking', 'busy', '2024-01-15');
INSERT INTO smartbox.dependencies (service, depends_on) VALUES ('booking', 'search');
INSERT INTO smartbox.slos (service, metric, acceptable, warning, objective) VALUES ('booking', 'error_rate', 0.002, 0.005, 0.01);
UPDATE smartbox.receivers SET enabled = true, min_severity = 'none';
INSERT INTO smartbox.detections (service, ts, is_anomaly) SELECT 'booking', now() + n * interval '1 min', true FROM generate_series(0, 1) AS n;
CREATE FUNCTION pg_temp.rows_of(of_service text) RETURNS TABLE (name text, rows bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR name IN SELECT t.name FROM service_table AS t LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE service = $1', name) INTO rows USING of_service;
        RETURN NEXT;
    END LOOP;
END
$$;
INSERT INTO smartbox.silences (service, silence_id, until) VALUES ('booking', 'silence_000000000000', 'tomorrow');
INSERT INTO smartbox.feedback (service, incident_id, feedback_number, verdict) SELECT service, incident_id, 1, 'not_anomaly' FROM smartbox.incidents WHERE service = 'booking';
INSERT INTO smartbox.signal_bars SELECT service, 'error_rate', 'high', incident_id, 0.1, 1 FROM smartbox.incidents WHERE service = 'booking';
INSERT INTO smartbox.write_backs (service, written_until) VALUES ('booking', now());
SELECT is_empty($$ SELECT name FROM pg_temp.rows_of('booking') WHERE rows = 0 $$, 'a service has rows everywhere');
DELETE FROM smartbox.services WHERE service = 'booking';
SELECT set_eq($$ SELECT name FROM pg_temp.rows_of('booking') WHERE rows > 0 $$, ARRAY['smartbox.samples', 'smartbox.past_incidents'],
    'all of them go with it but the samples and what people recorded elsewhere');
INSERT INTO smartbox.services (service) VALUES ('booking');
INSERT INTO smartbox.detections (service, ts, is_anomaly) SELECT 'booking', now() + n * interval '1 min', true FROM generate_series(0, 1) AS n;
INSERT INTO smartbox.feedback (service, incident_id, feedback_number, verdict) SELECT service, incident_id, 1, 'not_anomaly' FROM smartbox.incidents WHERE service = 'booking';
INSERT INTO smartbox.signal_bars SELECT service, 'error_rate', 'high', incident_id, 0.1, 1 FROM smartbox.incidents WHERE service = 'booking';
DELETE FROM smartbox.incidents WHERE service = 'booking';
SELECT set_eq($$ SELECT name FROM pg_temp.rows_of('booking') WHERE rows > 0 $$,
    ARRAY['smartbox.services', 'smartbox.samples', 'smartbox.detections', 'smartbox.fingerprints', 'smartbox.past_incidents'], 'events and alerts go with their incident');
SELECT throws_ok($$ UPDATE smartbox.services SET service = 'reservations' WHERE service = 'booking' $$, '0A000', NULL,
    'a service is not renamed under its rows');

SELECT * FROM finish();
ROLLBACK;
