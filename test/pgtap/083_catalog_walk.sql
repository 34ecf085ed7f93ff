-- What holds for every object of the extension, whoever adds one.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(10);

CREATE FUNCTION pg_temp.members(catalog regclass) RETURNS SETOF oid LANGUAGE sql AS
    $$ SELECT d.objid FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
       WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'smartbox_anomaly' AND d.classid = catalog $$;

SELECT cmp_ok((SELECT count(*) FROM pg_temp.members('pg_proc')), '>', 140::bigint, 'there are functions to look at');
SELECT is_empty($$ SELECT m::regprocedure FROM pg_temp.members('pg_proc') AS m JOIN pg_proc AS p ON p.oid = m WHERE p.prosecdef $$,
    'none runs with the rights of another than its caller');
SELECT is_empty(
    $$ SELECT m::regprocedure FROM pg_temp.members('pg_proc') AS m JOIN pg_proc AS p ON p.oid = m JOIN pg_language AS l ON l.oid = p.prolang
       WHERE p.prokind = 'f' AND l.lanname <> 'c' AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) $$,
    'each function in SQL or PL/pgSQL has its search_path');
SELECT set_eq(
    $$ SELECT p.proname FROM pg_temp.members('pg_proc') AS m JOIN pg_proc AS p ON p.oid = m JOIN pg_language AS l ON l.oid = p.prolang
       WHERE p.prokind = 'f' AND l.lanname = 'c' AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) $$,
    ARRAY['isolation_forest_add', 'isolation_forest_combine', 'isolation_forest_serialize', 'isolation_forest_deserialize',
          'isolation_forest_finish', 'isolation_forest_score', 'isolation_forest_scores', 'isolation_forest_contributions',
          'isolation_forest_info', 'isolation_forest_trees', 'score_to_severity', 'retention', 'wake_workers']::name[],
    '... and each one in C, but those that run no statement');
SELECT set_eq(
    $$ SELECT m::regprocedure::text FROM pg_temp.members('pg_proc') AS m JOIN pg_proc AS p ON p.oid = m
       WHERE p.prokind = 'p' AND p.proconfig IS NULL $$,
    ARRAY['apply_retention(integer,bigint,bigint,bigint,bigint,bigint)', 'deliver_alerts()', 'run_cycle()',
          'smartbox.collect_and_detect()', 'smartbox.collect_for_cycle()', 'write_back_scores()'],
    'procedures that commit cannot have one: these qualify what they name, or set it themselves');
SELECT is_empty(
    $$ SELECT m::regprocedure FROM pg_temp.members('pg_proc') AS m JOIN pg_proc AS p ON p.oid = m
       WHERE p.pronamespace NOT IN ('smartbox'::regnamespace, (SELECT extnamespace FROM pg_extension WHERE extname = 'smartbox_anomaly')) $$,
    'functions are in the two schemas, and in no other');
SELECT is_empty(
    $$ SELECT v.oid::regclass, f.oid::regprocedure
       FROM pg_class AS v JOIN pg_rewrite AS r ON r.ev_class = v.oid
           JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_proc'::regclass
           JOIN pg_proc AS f ON f.oid = d.refobjid
       WHERE v.oid IN (SELECT * FROM pg_temp.members('pg_class')) AND f.oid IN (SELECT * FROM pg_temp.members('pg_proc'))
           AND NOT EXISTS (SELECT FROM aclexplode(f.proacl) AS a WHERE a.grantee = 0) $$,
    'who may read a view may call what it calls');
SELECT is_empty(
    $$ SELECT m::regclass FROM pg_temp.members('pg_class') AS m JOIN pg_class AS c ON c.oid = m
       WHERE c.relkind = 'v' AND NOT coalesce(c.reloptions @> ARRAY['security_invoker=true'], false) $$,
    'each view shows what its reader may see');
SELECT is_empty(
    $$ SELECT m::regclass, a.privilege_type FROM pg_temp.members('pg_class') AS m JOIN pg_class AS c ON c.oid = m,
           aclexplode(c.relacl) AS a WHERE a.grantee = 0 AND a.privilege_type <> 'SELECT' $$,
    'PUBLIC writes into no table');

-- What is bound when the extension is made is bound to the server's own, though
-- somebody has functions that suit the arguments better.
DROP EXTENSION smartbox_anomaly;
CREATE SCHEMA taken;
CREATE FUNCTION taken.format(text, bigint, bigint, bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE FUNCTION taken.format(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE FUNCTION taken.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION taken.append(text, bigint) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE OPERATOR taken.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = taken.append);
CREATE FUNCTION taken.multiply(bigint, interval) RETURNS interval LANGUAGE sql AS $$ SELECT NULL::interval $$;
CREATE OPERATOR taken.* (LEFTARG = bigint, RIGHTARG = interval, FUNCTION = taken.multiply);
CREATE EXTENSION smartbox_anomaly SCHEMA taken;
SELECT is_empty(
    $$ SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, 0)
       FROM pg_depend AS d LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
           LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
       WHERE 'taken'::regnamespace IN (p.pronamespace, o.oprnamespace) AND d.classid IN ('pg_rewrite'::regclass, 'pg_constraint'::regclass,
           'pg_attrdef'::regclass, 'pg_trigger'::regclass, 'pg_class'::regclass)
           AND NOT EXISTS (SELECT FROM pg_temp.members('pg_proc') AS m WHERE m = p.oid)
           AND pg_describe_object(d.classid, d.objid, d.objsubid) ~ 'smartbox' $$,
    'nothing of it calls what was there before');

SELECT * FROM finish();
ROLLBACK;
