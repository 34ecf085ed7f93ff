-- Dependencies: which incident is suspected behind which, and where that is
-- written.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
\ir helpers/incidents.sql
SELECT plan(47);

-- What an edge may look like.
SELECT throws_ok($$ INSERT INTO smartbox.dependencies VALUES ('a', 'a') $$, '23514', NULL, 'nobody depends on himself');
SELECT throws_ok($$ INSERT INTO smartbox.dependencies VALUES ('a', '') $$, '23514', NULL, 'nor on nothing');
SELECT lives_ok($$ INSERT INTO smartbox.dependencies VALUES ('x', 'y'), ('y', 'x') $$, 'circles, and names that nobody watches, are allowed');
SELECT throws_ok($$ INSERT INTO smartbox.dependencies VALUES ('x', 'y') $$, '23505', NULL, 'once is enough');
DELETE FROM smartbox.dependencies;

-- The predecessor's fleet: booking calls search, search calls catalog, and so on.
SELECT pg_temp.new_service(name) FROM unnest('{booking,search,catalog,r2d2,vms,mobile}'::text[]) AS name;
INSERT INTO smartbox.dependencies VALUES ('mobile', 'vms'), ('booking', 'search'), ('booking', 'vms'), ('booking', 'r2d2'),
    ('booking', 'stripe'), ('search', 'catalog'), ('search', 'r2d2'), ('r2d2', 'catalog');

-- A service's active incidents and what is suspected of each.
CREATE FUNCTION pg_temp.suspected(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s: %s', i.anomaly_name,
               coalesce((SELECT format('%s %s', r.service, r.anomaly_name) FROM smartbox.incidents AS r
                         WHERE r.service = i.root_service AND r.incident_id = i.root_incident_id), 'none')), ', ' ORDER BY i.first_seen, i.anomaly_name)
    FROM smartbox.incidents AS i WHERE i.service = of_service AND i.status <> 'CLOSED'
$$;
CREATE FUNCTION pg_temp.path(of_service text, instant timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s', array_to_string(r.path, '>'), r.depth), ', ') FROM smartbox.root_cause(of_service, instant) AS r
$$;

SELECT is(smartbox.assign_root_causes(), 0, 'nothing is wrong, nothing is suspected');
SELECT is_empty($$ SELECT * FROM smartbox.root_cause('booking') $$, 'no incident, no row');
SELECT throws_ok($$ SELECT * FROM smartbox.root_cause('bookng') $$, '42704', 'service "bookng" is not known', 'nobody knows that service');
SELECT throws_ok($$ SELECT smartbox.assign_root_causes('{bookng}') $$, '42704', 'service "bookng" is not known', 'here neither');

SELECT pg_temp.cycle('booking', 0, 'slow');
SELECT is(smartbox.assign_root_causes(), 0, 'an incident alone has no other behind it');
SELECT is(pg_temp.path('booking'), 'booking 0', 'it is its own root');
SELECT pg_temp.cycle('catalog', 0, 'slow');
SELECT is(pg_temp.path('booking'), 'booking 0', 'what is two steps away with nothing wrong between is not behind it');
SELECT pg_temp.cycle('search', 5, 'slow');
SELECT is(smartbox.assign_root_causes('{booking}'), 1, 'with the service between');
SELECT is(pg_temp.suspected('booking'), 'slow: catalog slow', 'the end of the chain is suspected');
SELECT is(pg_temp.suspected('search'), 'slow: none', 'only of the services that were asked for');
SELECT is(smartbox.assign_root_causes(), 1, 'then of the others');
SELECT is(pg_temp.suspected('search'), 'slow: catalog slow', 'each has its own');
SELECT is(pg_temp.suspected('catalog'), 'slow: none', 'the root has none');
SELECT is(smartbox.assign_root_causes(), 0, 'and nothing is written twice');
SELECT results_eq($$ SELECT root_service, path, depth FROM smartbox.root_cause('booking') $$,
    $$ VALUES ('catalog', '{booking,search,catalog}'::text[], 2) $$, 'root_cause says the way');
SELECT is((SELECT why FROM smartbox.root_cause('booking')),
    'slow of catalog, high, since 2024-01-15T10:00:00+00:00; no incident further upstream explains it', 'and why');
SELECT is((SELECT incident_id FROM smartbox.root_cause('booking')),
    (SELECT incident_id FROM smartbox.incidents WHERE service = 'catalog'), 'and which incident');

-- Where it shows
SELECT is((SELECT details FROM smartbox.incident_events WHERE service = 'booking'),
    (SELECT jsonb_build_object('root_service', 'catalog', 'root_incident_id', incident_id) FROM smartbox.incidents WHERE service = 'catalog'),
    'the event of the cycle says it');
SELECT pg_temp.cycle('booking', 5, 'slow');
SELECT is((SELECT payload #> '{anomalies,0,metadata,suspected_root_cause}' FROM smartbox.alerts WHERE service = 'booking'),
    (SELECT jsonb_build_object('service', 'catalog', 'incident_id', incident_id) FROM smartbox.incidents WHERE service = 'catalog'),
    'the alert says it');
SELECT is((SELECT payload #> '{anomalies,0,metadata,suspected_root_cause,service}' FROM smartbox.detections
           WHERE service = 'booking' AND ts = '2024-01-15 10:05+00'), '"catalog"', 'so does the payload');
SELECT results_eq(
    $$ SELECT root_service, anomaly_name, services, incidents, open_incidents, worst_severity::text, first_seen, affected_services FROM smartbox.incident_groups $$,
    $$ VALUES ('catalog', 'slow', 3::bigint, 3::bigint, 1::bigint, 'high', '2024-01-15 10:00+00'::timestamptz, '{booking,catalog,search}'::text[]) $$,
    'one group instead of three incidents');
SELECT is((SELECT root_service FROM smartbox.active_incidents WHERE service = 'booking'), 'catalog', 'active_incidents has it');

-- A root that is found after the alert went out
SELECT pg_temp.cycle('mobile', 0, 'slow'), pg_temp.cycle('mobile', 5, 'slow');
SELECT is(pg_temp.suspected('mobile'), 'slow: none', 'mobile is alone');
SELECT pg_temp.no_data('vms', 5);
INSERT INTO smartbox.detections (service, ts, is_anomaly, no_data, severity) VALUES ('vms', '2024-01-15 10:10+00', true, true, 'high');
SELECT pg_temp.cycle('mobile', 10, 'slow');
SELECT is(smartbox.assign_root_causes(), 1, 'a dependency falls silent');
SELECT is(pg_temp.suspected('mobile'), 'slow: vms no_data', 'which counts');
SELECT is((SELECT payload #> '{anomalies,0,metadata,suspected_root_cause,service}' FROM smartbox.alerts WHERE service = 'mobile' AND alert_number = 1),
    '"vms"', 'the alert of this transaction says so');
SELECT is(pg_temp.suspected('booking'), 'slow: catalog slow', 'of two ends the one that was first stays');

-- As it was
SELECT is(pg_temp.path('booking', '2024-01-15 10:00+00'), 'booking 0', 'at ten it was alone');
SELECT is(pg_temp.path('booking', '2024-01-15 10:06+00'), 'booking>search>catalog 2', 'later not');
SELECT is(pg_temp.path('booking', '2024-01-15 09:59+00'), NULL, 'before it there was nothing');

-- The end: catalog recovers first.
SELECT pg_temp.cycle('catalog', 5, 'slow'), pg_temp.cycle('catalog', 10), pg_temp.cycle('catalog', 15), pg_temp.cycle('catalog', 20);
SELECT pg_temp.cycle('search', 10, 'slow'), pg_temp.cycle('search', 15, 'slow'), pg_temp.cycle('booking', 10, 'slow'), pg_temp.cycle('booking', 15, 'slow');
SELECT is((SELECT status::text FROM smartbox.incidents WHERE service = 'catalog'), 'CLOSED', 'catalog is well again');
INSERT INTO smartbox.dependencies VALUES ('catalog', 'vms');
DELETE FROM smartbox.dependencies WHERE service = 'booking' AND depends_on = 'vms';
SELECT is(smartbox.assign_root_causes(), 0, 'while those above recover');
SELECT is(pg_temp.suspected('booking') || ', ' || pg_temp.suspected('search'), 'slow: catalog slow, slow: catalog slow', 'it stays their root');
DELETE FROM smartbox.incidents WHERE service = 'catalog';
SELECT is(smartbox.assign_root_causes(), 2, 'until it is gone');
SELECT is(pg_temp.suspected('booking') || ', ' || pg_temp.suspected('search'), 'slow: search slow, slow: none', 'then the next one is suspected');
SELECT pg_temp.cycle('search', 20), pg_temp.cycle('search', 25), pg_temp.cycle('search', 30);
DELETE FROM smartbox.dependencies WHERE service = 'booking';
SELECT is(smartbox.assign_root_causes(), 0, 'a root that has closed does not need the edge any more');

-- A suspicion that came to nothing is nobody's root for long.
SELECT pg_temp.new_service(name) FROM unnest('{up,down}'::text[]) AS name;
INSERT INTO smartbox.dependencies VALUES ('up', 'down');
SELECT pg_temp.cycle('down', 0, 'odd'), pg_temp.cycle('up', 0, 'slow');
SELECT is(smartbox.assign_root_causes('{up,down}'), 1, 'a suspicion may be a root');
SELECT pg_temp.cycle('down', 5), pg_temp.cycle('down', 10), pg_temp.cycle('down', 15);
SELECT is(smartbox.assign_root_causes('{up,down}'), 1, 'when it expires');
SELECT is(pg_temp.suspected('up'), 'slow: none', 'it is none any more');

-- Deleting a service takes along whom it calls.
DELETE FROM smartbox.services WHERE service = 'search';
SELECT results_eq($$ SELECT service, depends_on FROM smartbox.dependencies ORDER BY 1, 2 $$,
    $$ VALUES ('catalog', 'vms'), ('mobile', 'vms'), ('r2d2', 'catalog'), ('up', 'down') $$, 'its edges go with a service');

-- Against the definition, in SQL: everything that can be reached from each.
DELETE FROM smartbox.services;
DELETE FROM smartbox.dependencies;
INSERT INTO smartbox.services (service, category) SELECT 's' || n, 'standard' FROM generate_series(1, 60) AS n;
INSERT INTO smartbox.dependencies
SELECT 's' || a, 's' || b FROM generate_series(1, 60) AS a, generate_series(1, 60) AS b WHERE a <> b AND hashint4extended(a * 97 + b, 5) % 25 = 0;
INSERT INTO smartbox.detections (service, ts, is_anomaly, severity)
SELECT 's' || n, '2024-01-15 10:00+00'::timestamptz + hashint4(n) % 3 * interval '5 min', true,
    CASE WHEN n % 3 = 0 THEN 'high' ELSE 'low' END::smartbox.severity
FROM generate_series(1, 60) AS n WHERE n % 5 <> 0;
SELECT smartbox.assign_root_causes() > 20 AS some \gset
SELECT ok(:'some', 'in a random graph many incidents have a root');
WITH RECURSIVE reach(source, target) AS (
    SELECT i.service, i.service FROM smartbox.incidents AS i
    UNION
    SELECT r.source, d.depends_on FROM reach AS r JOIN smartbox.dependencies AS d ON d.service = r.target
        JOIN smartbox.incidents AS i ON i.service = d.depends_on
), ends AS (
    SELECT i.* FROM smartbox.incidents AS i
    WHERE NOT EXISTS (SELECT FROM reach AS r WHERE r.source = i.service
                      AND NOT EXISTS (SELECT FROM reach AS b WHERE b.source = r.target AND b.target = i.service))
), expected AS (
    SELECT DISTINCT ON (i.service) i.service, nullif(e.service, i.service) AS root
    FROM smartbox.incidents AS i JOIN reach AS r ON r.source = i.service JOIN ends AS e ON e.service = r.target
    ORDER BY i.service, e.first_seen, e.severity DESC, e.service COLLATE "C"
)
SELECT is((SELECT array_agg(format('%s: %s, not %s', i.service, i.root_service, e.root)) FROM smartbox.incidents AS i JOIN expected AS e USING (service)
           WHERE i.root_service IS DISTINCT FROM e.root), NULL, 'exactly those that a naive search finds');

SELECT throws_ok($$ UPDATE smartbox.incidents SET root_service = service, root_incident_id = incident_id $$, '23514', NULL, 'nobody is his own root');

SELECT * FROM finish();
ROLLBACK;
