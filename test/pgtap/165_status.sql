-- What an operator looks at.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(12);

CREATE FUNCTION pg_temp.of(wanted text) RETURNS text LANGUAGE sql
AS $$ SELECT severity || ': ' || message FROM smartbox.status WHERE thing = wanted $$;
SELECT is(pg_temp.of('workers'), 'warning: the library is not preloaded: nothing runs by itself', 'without preloading');
SELECT is(pg_temp.of('samples'), 'warning: no service is watched', 'without services');
INSERT INTO smartbox.services (service) VALUES ('booking'), ('search');
SELECT matches(pg_temp.of('samples'), '^error: 2 of 2 services have no sample', 'without samples');
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('booking', now(), '{1}');
SELECT matches(pg_temp.of('samples'), '^warning: 1 of 2 services', 'with some');
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('search', now(), '{1}');
SELECT matches(pg_temp.of('samples'), '^ok: 0 of 2', 'with all');
SELECT matches(pg_temp.of('models'), '^warning: 2 of 2 services have no model', 'models');
SELECT matches(pg_temp.of('job train'), '^ok: ', 'a job that has nothing to say');
UPDATE smartbox.jobs SET next_run_at = now() - interval '1 hour' WHERE job = 'train';
SELECT matches(pg_temp.of('job train'), '^error: has been due since', 'one that nobody runs');
UPDATE smartbox.jobs SET failures_in_a_row = 3, last_error = E'disk "full"\nDETAIL:  x' WHERE job = 'train';
SELECT is(pg_temp.of('job train'), 'error: has failed 3 times in a row: disk "full"', 'one that fails');
SELECT is((SELECT count(*) FROM smartbox.status WHERE severity <> 'ok' AND what_to_do IS NULL), 0::bigint, 'whatever is wrong says what to do');
SELECT is(system_status() #> '{available_services}', '["booking", "search"]', 'system_status() has the services');
SELECT matches(smartbox.prometheus_metrics(), E'# TYPE smartbox_status gauge\n(.*\n)*smartbox_status\\{thing="job train"\\} 2\n', 'and the metrics say it, too');

SELECT * FROM finish();
ROLLBACK;
