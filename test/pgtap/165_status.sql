-- What an operator looks at: each thing that can be wrong is wrong here once
-- (workers and sources are in test/t/083_operations_page.t).
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(43);

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
UPDATE smartbox.jobs SET failures_in_a_row = 0, running_pid = pg_backend_pid(), last_started_at = now() - interval '2 hours',
    running_process = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) WHERE job = 'train';
SELECT matches(pg_temp.of('job train'), '^warning: has been running since .*, and is due again since', 'one that overruns');
UPDATE smartbox.jobs SET running_pid = 0 WHERE job = 'train';
SELECT matches(pg_temp.of('job train'), '^error: has been due since', 'one whose process has gone does not run');
UPDATE smartbox.jobs SET enabled = false WHERE job = 'train';
SELECT is(pg_temp.of('job train'), 'warning: is switched off', 'one that is switched off');

SELECT matches(pg_temp.of('detections'), '^ok: 0 of 2', 'samples of services without a model');
INSERT INTO smartbox.models (service, time_period, version, trained_at, samples, seed, status, is_active, model)
    SELECT s, 'business_hours', 1, now() - interval '9 days', 1000, 1, 'accepted', true, '\x00' FROM unnest('{booking,search}'::text[]) AS s;
SELECT matches(pg_temp.of('detections'), '^error: 2 of 2 services have new samples that are not judged; the last one that was: never', 'samples that nobody judges');
INSERT INTO smartbox.detections (service, ts, is_anomaly) VALUES ('booking', now(), false);
SELECT matches(pg_temp.of('detections'), '^warning: 1 of 2', 'some');
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('search', now(), false, '{"drift": {"level": "severe"}}');
SELECT matches(pg_temp.of('detections'), '^ok: 0 of 2', 'all are judged');
SELECT is(pg_temp.of('drift'), 'warning: 1 of 2 services have drifted far from what their models know', 'drift');
SELECT matches(pg_temp.of('training'), '^ok: the last training of 0 of 2', 'no training has failed');
INSERT INTO smartbox.training_runs (service, started_at, finished_at, status) VALUES ('booking', now() - interval '2 days', now(), 'failed');
SELECT matches(pg_temp.of('training'), '^warning: the last training of 1 of 2', 'one has');
INSERT INTO smartbox.training_runs (service, started_at, finished_at, status) VALUES ('booking', now(), now(), 'succeeded');
SELECT matches(pg_temp.of('training'), '^ok: ', 'until one succeeds');
SELECT is(pg_temp.of('models'), 'warning: 0 of 2 services have no model, 2 only models of more than 8 days ago', 'models that nobody renews');
UPDATE smartbox.models SET trained_at = now();
SELECT matches(pg_temp.of('models'), '^ok: ', 'new ones');
INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('search', now() - interval '70 days', '{1}');
SELECT is(pg_temp.of('retention'), 'warning: 1 of 2 services have samples that are two days older than they should be', 'what nobody deletes');
INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
    VALUES ('search', now() + interval '1 minute', true, '{"anomalies": [{"name": "slow", "severity": "high"}]}');
SELECT matches(pg_temp.of('retention'), '^ok: 0 of 2', 'what an open incident needs is not too old');

SELECT matches(pg_temp.of('delivery'), '^ok: no receiver is enabled', 'nobody is to be told');
SELECT arm_delivery();
SELECT matches(pg_temp.of('delivery'), '^warning: no receiver is enabled', 'armed, and nobody to tell');
SELECT disarm_delivery();
INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('chat', 'webhook', 'http://127.0.0.1:1');
SELECT matches(pg_temp.of('delivery'), '^warning: delivery is not armed', 'somebody to tell, and not armed');
INSERT INTO smartbox.delivery_arming (database_identity) VALUES ('another/1');
SELECT matches(pg_temp.of('delivery'), '^warning: delivery was armed in another database', 'a copy');
SELECT arm_delivery();
SELECT is(pg_temp.of('delivery'), 'ok: alerts are sent to 1 receivers', 'armed');
SELECT is(pg_temp.of('receiver chat'), 'ok: 0 alerts wait, 0 are held back, 0 were given up in the last 7 days', 'a receiver that has everything');
INSERT INTO smartbox.deliveries (service, incident_id, alert_number, receiver, created_at) VALUES ('booking', 'incident_1', 1, 'chat', now() - interval '1 hour');
SELECT matches(pg_temp.of('receiver chat'), '^error: 1 alerts wait since ', 'one that nobody delivers to');
SELECT matches((SELECT what_to_do FROM smartbox.status WHERE thing = 'receiver chat'), '^Nobody has tried', '... is told');
UPDATE smartbox.deliveries SET created_at = now(), last_error = E'HTTP status 503\nfor a while';
SELECT matches(pg_temp.of('receiver chat'), '^warning: 1 alerts wait since .* 7 days: HTTP status 503$', 'one that fails');
UPDATE smartbox.deliveries SET status = 'dead', next_attempt_at = NULL;
SELECT is(pg_temp.of('receiver chat'), 'warning: 0 alerts wait, 0 are held back, 1 were given up in the last 7 days: HTTP status 503', 'what was given up');
UPDATE smartbox.deliveries SET status = 'held', last_error = NULL;
SELECT matches(pg_temp.of('receiver chat'), '^warning: 0 alerts wait, 1 are held back', 'what is held back');
SELECT matches((SELECT what_to_do FROM smartbox.status WHERE thing = 'receiver chat'), 'max_per_minute', '... by its cap');

SELECT matches(pg_temp.of('library'), '^ok: ', 'the library is the extension''s');
UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'smartbox_anomaly';
SELECT matches(pg_temp.of('library'), '^error: the extension has version 0.9, the library ', 'or not');
SELECT is((SELECT count(*) FROM smartbox.status WHERE severity <> 'ok' AND what_to_do IS NULL), 0::bigint, 'whatever is wrong says what to do');
SELECT is(system_status() #> '{available_services}', '["booking", "search"]', 'system_status() has the services');
SELECT matches(smartbox.prometheus_metrics(), E'# TYPE smartbox_status gauge\n(.*\n)*smartbox_status\\{thing="library"\\} 2\n', 'and the metrics say it, too');
SELECT matches(smartbox.prometheus_metrics(), E'\nsmartbox_deliveries\\{receiver="chat",status="held"\\} 1\n', '... and what waits');
SELECT set_eq($$ SELECT split_part(thing, ' ', 1) FROM smartbox.status UNION SELECT 'source' $$,
    regexp_split_to_array(replace(col_description('smartbox.status'::regclass, 1), ' ...', ''), ', '), 'the column''s comment says which things there are');

SELECT * FROM finish();
ROLLBACK;
