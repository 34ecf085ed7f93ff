-- All that the catalogs say of the extension, one line for each fact, in an order
-- and in words that do not depend on when an object was made: the same lines mean
-- the same extension.  To be run with psql -XAt.
SET search_path = pg_catalog, pg_temp;

CREATE TEMPORARY TABLE member AS
SELECT d.classid, d.objid
FROM pg_depend AS d
    JOIN pg_extension AS x ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
WHERE x.extname = 'smartbox_anomaly' AND d.deptype = 'e';

CREATE TEMPORARY TABLE relation AS
SELECT c.* FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid;

CREATE FUNCTION pg_temp.access(acl aclitem[]) RETURNS text
LANGUAGE sql
AS $$
    SELECT coalesce(string_agg(format('%s may %s%s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
        a.privilege_type, CASE WHEN a.is_grantable THEN ' and grant it' END), ', ' ORDER BY a.grantee, a.privilege_type),
        CASE WHEN acl IS NULL THEN 'as made' ELSE 'nobody' END)
    FROM aclexplode(acl) AS a
$$;

SELECT replace(fact, E'\n', '\n') FROM (
    SELECT format('member %s %s', i.type, i.identity) AS fact
    FROM member AS m, pg_identify_object(m.classid, m.objid, 0) AS i
UNION ALL
    SELECT format('schema %s: %s; %s', n.nspname, n.nspowner::regrole, pg_temp.access(n.nspacl))
    FROM pg_namespace AS n JOIN member AS m ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
UNION ALL
    SELECT format('relation %s: %s %s %s, row security %s %s, options %s; %s', c.oid::regclass, c.relkind, c.relpersistence,
        c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, pg_temp.access(c.relacl))
    FROM relation AS c
UNION ALL
    SELECT format('column %s %s %s: %s%s, default %s, generated "%s", storage %s, compression "%s", statistics %s, collation %s; %s',
        c.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' END,
        pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attstorage, a.attcompression, nullif(a.attstattarget, -1),
        a.attcollation::regcollation, pg_temp.access(a.attacl))
    FROM relation AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0
UNION ALL
    SELECT format('constraint %s on %s: %s, validated %s', k.conname,
        CASE WHEN k.conrelid <> 0 THEN k.conrelid::regclass::text ELSE k.contypid::regtype::text END,
        pg_get_constraintdef(k.oid), k.convalidated)
    FROM pg_constraint AS k
    WHERE k.conrelid IN (SELECT oid FROM relation)
        OR k.contypid IN (SELECT objid FROM member WHERE classid = 'pg_type'::regclass)
UNION ALL
    SELECT format('index %s, cluster %s, replica identity %s, valid %s, options %s',
        pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisreplident, i.indisvalid, c.reloptions)
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid IN (SELECT oid FROM relation)
UNION ALL
    SELECT format('trigger %s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM pg_trigger AS t
    WHERE t.tgrelid IN (SELECT oid FROM relation) AND NOT t.tgisinternal
UNION ALL
    SELECT format('view %s: %s', c.oid::regclass, pg_get_viewdef(c.oid)) FROM relation AS c WHERE c.relkind IN ('v', 'm')
UNION ALL
    SELECT format('policy %s on %s: %s %s %s %s %s', p.polname, p.polrelid::regclass, p.polcmd, p.polpermissive, p.polroles::regrole[],
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_policy AS p WHERE p.polrelid IN (SELECT oid FROM relation)
UNION ALL
    SELECT format('statistics %s', pg_get_statisticsobjdef(s.oid))
    FROM pg_statistic_ext AS s WHERE s.stxrelid IN (SELECT oid FROM relation)
UNION ALL
    SELECT format('routine %s: %s; %s; %s', p.oid::regprocedure, p.proowner::regrole, pg_temp.access(p.proacl),
        CASE WHEN p.prokind = 'a' THEN to_jsonb(a)::text ELSE pg_get_functiondef(p.oid) END)
    FROM pg_proc AS p
        JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        LEFT JOIN pg_aggregate AS a ON a.aggfnoid = p.oid
UNION ALL
    SELECT format('type %s: %s %s; %s; labels %s, attributes %s, base %s, not null %s, default %s', t.oid::regtype, t.typtype,
        t.typowner::regrole, pg_temp.access(t.typacl),
        (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid),
        (SELECT array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
         FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0),
        nullif(t.typbasetype, 0)::regtype, t.typnotnull, t.typdefault)
    FROM pg_type AS t JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
UNION ALL
    SELECT format('comment on %s %s: %s', i.type, i.identity, d.description)
    FROM pg_description AS d, pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
    WHERE (d.classoid, d.objoid) IN (SELECT classid, objid FROM member)
        OR (d.classoid, d.objoid) IN (
            SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM relation)
            UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid IN (SELECT oid FROM relation)
            UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM relation)
            UNION ALL SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE extname = 'smartbox_anomaly')
UNION ALL
    SELECT format('privileges at first, %s %s: %s', i.type, i.identity, pg_temp.access(p.initprivs))
    FROM pg_init_privs AS p, pg_identify_object(p.classoid, p.objoid, p.objsubid) AS i
    WHERE (p.classoid, p.objoid) IN (SELECT classid, objid FROM member)
UNION ALL
    SELECT format('dumped %s: %s', t.relation::regclass, t.condition)
    FROM pg_extension AS x, unnest(x.extconfig, x.extcondition) AS t(relation, condition)
    WHERE x.extname = 'smartbox_anomaly'
UNION ALL
    SELECT format('extension version %s in %s, %s', x.extversion, x.extnamespace::regnamespace,
        CASE WHEN x.extrelocatable THEN 'relocatable' ELSE 'fixed' END)
    FROM pg_extension AS x WHERE x.extname = 'smartbox_anomaly'
UNION ALL
    -- What ships as rows must be the same, too.
    SELECT format('row of %s: %s', c.oid::regclass, x.row)
    FROM relation AS c,
        XMLTABLE('//row' PASSING query_to_xml(format('SELECT (to_jsonb(t) - ''created_at'')::text AS fact FROM %s AS t WHERE t.shipped', c.oid::regclass),
            false, false, '') COLUMNS row text PATH 'fact') AS x
    WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'shipped' AND NOT a.attisdropped)
) AS facts ORDER BY fact COLLATE "C";
