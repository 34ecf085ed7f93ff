-- When jobs are due, and what is recorded of their runs, at times that the
-- test makes up.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL TimeZone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
LOAD 'smartbox_anomaly';
SET LOCAL smartbox_anomaly.time_zone = 'Europe/Paris';
SELECT plan(51);

-- The clock.
CREATE FUNCTION pg_temp.at(after timestamptz, every interval, delay interval = '0') RETURNS timestamptz LANGUAGE sql
AS $$ SELECT smartbox.next_run(every, delay, NULL, 'UTC', after) $$;
CREATE FUNCTION pg_temp.daily(after timestamptz, at_local time, zone text) RETURNS timestamptz LANGUAGE sql
AS $$ SELECT smartbox.next_run(NULL, '0', at_local, zone, after) $$;
SELECT is(pg_temp.at('2026-03-10 10:02:30+00', '5 min'), '2026-03-10 10:05+00', 'every five minutes is on the clock');
SELECT is(pg_temp.at('2026-03-10 10:05:00+00', '5 min'), '2026-03-10 10:10+00', 'what is due now is not due again now');
SELECT is(pg_temp.at('2026-03-10 10:05:00+00', '5 min', '35 s'), '2026-03-10 10:05:35+00', 'a delay comes after the clock');
SELECT is(pg_temp.at('2026-03-10 10:05:35+00', '5 min', '35 s'), '2026-03-10 10:10:35+00', 'each time');
SELECT is(pg_temp.at('2026-03-10 10:05:07+00', '10 s', '35 s'), '2026-03-10 10:05:15+00', 'also one that is longer than the interval');
SELECT is(pg_temp.at('2026-03-28 12:00+00', '1 day'), '2026-03-29 00:00+00', 'days begin at midnight UTC');
SELECT is(pg_temp.daily('2026-03-10 00:59+00', '02:00', 'Europe/Paris'), '2026-03-10 01:00+00', 'two o''clock in Paris in winter');
SELECT is(pg_temp.daily('2026-03-10 01:00+00', '02:00', 'Europe/Paris'), '2026-03-11 01:00+00', 'the next day''s');
SELECT is(pg_temp.daily('2026-07-10 01:00+00', '02:00', 'Europe/Paris'), '2026-07-11 00:00+00', 'in summer');
SELECT is(pg_temp.daily('2026-03-28 12:00+00', '02:30', 'Europe/Paris'), '2026-03-29 01:30+00', 'on the day without 02:30 it is 03:30');
SELECT is(pg_temp.daily('2026-03-29 01:30+00', '02:30', 'Europe/Paris'), '2026-03-30 00:30+00', 'once');
SELECT is(
    (WITH RECURSIVE run(at, n) AS (
        SELECT '2026-10-24 12:00+00'::timestamptz, 0
        UNION ALL SELECT pg_temp.daily(at, '02:30', 'Europe/Paris'), n + 1 FROM run WHERE n < 3)
     SELECT array_agg(at ORDER BY n) FROM run WHERE n > 0),
    ARRAY['2026-10-25 01:30+00', '2026-10-26 01:30+00', '2026-10-27 01:30+00']::timestamptz[], 'on the day with 02:30 twice, too');
SELECT is(pg_temp.daily('2026-03-10 11:00+00', '00:30', 'Pacific/Kiritimati'), '2026-03-11 10:30+00', 'far from Greenwich in the east');
SELECT is(pg_temp.daily('2026-03-10 11:00+00', '23:30', 'Pacific/Pago_Pago'), '2026-03-11 10:30+00', 'and in the west');

-- The jobs that come with the extension.
SELECT is((SELECT array_agg(job ORDER BY job) FROM smartbox.jobs WHERE enabled AND shipped AND job IN ('collect_and_detect', 'train')),
    ARRAY['collect_and_detect', 'train'], 'the cycle and the training are there');
CREATE FUNCTION pg_temp.claim(at timestamptz, wanted text = NULL) RETURNS text LANGUAGE sql
AS $$ SELECT job FROM smartbox.claim_job(at, wanted) $$;
UPDATE smartbox.jobs SET enabled = false WHERE job NOT IN ('collect_and_detect', 'train');
SELECT is(pg_temp.claim('2026-03-10 10:02+00'), NULL, 'nothing is due at once');
SELECT is((SELECT array_agg(next_run_at ORDER BY job) FROM smartbox.jobs WHERE job IN ('collect_and_detect', 'train')),
    ARRAY['2026-03-10 10:05:35+00', '2026-03-11 01:00+00']::timestamptz[], 'but when is known');
SELECT is(smartbox.next_job_due(), '2026-03-10 10:05:35+00'::timestamptz, 'the first of them');

-- A run.
SELECT is(pg_temp.claim('2026-03-10 10:05:35+00'), 'collect_and_detect', 'it is due to the second');
SELECT is((SELECT running_pid FROM smartbox.jobs WHERE job = 'collect_and_detect'), pg_backend_pid(), 'and is this session''s');
SELECT is(pg_temp.claim('2026-03-10 10:10:40+00'), NULL, 'while it runs it is not started again');
SELECT is(pg_temp.claim('2026-03-10 10:10:40+00', 'collect_and_detect'), NULL, 'by hand neither');
SELECT is(smartbox.next_job_due(), '2026-03-11 01:00+00'::timestamptz, 'nor is anybody needed for it');
SELECT lives_ok($$ SELECT smartbox.finish_job('collect_and_detect', '2026-03-10 10:11+00', NULL) $$, 'it ends');
SELECT is(pg_temp.claim('2026-03-10 10:11+00'), 'collect_and_detect', 'one that overran into its next time is run for that');
SELECT smartbox.finish_job('collect_and_detect', '2026-03-10 10:11:30+00', NULL);
SELECT results_eq(
    $$ SELECT runs, failures, last_started_at, last_succeeded_at, last_duration, running_pid, next_run_at
       FROM smartbox.jobs WHERE job = 'collect_and_detect' $$,
    $$ VALUES (2::bigint, 0::bigint, '2026-03-10 10:11+00'::timestamptz, '2026-03-10 10:11:30+00'::timestamptz, '30 s'::interval,
               NULL::integer, '2026-03-10 10:15:35+00'::timestamptz) $$, 'the row says what became of it, and when it is due again');

-- Missed.
SELECT is(pg_temp.claim('2026-03-13 10:00+00'), 'collect_and_detect', 'after three days without a server it is run');
SELECT smartbox.finish_job('collect_and_detect', '2026-03-13 10:00:01+00', NULL);
SELECT is(pg_temp.claim('2026-03-13 10:00:01+00'), 'train', 'and what else was missed');
SELECT smartbox.finish_job('train', '2026-03-13 10:00:02+00', NULL);
SELECT is(pg_temp.claim('2026-03-13 10:00:02+00'), NULL, 'each once');

-- Failures.
SELECT is(pg_temp.claim('2026-03-14 01:00+00', 'train'), 'train', 'the training of a night');
SELECT smartbox.finish_job('train', '2026-03-14 01:10+00', 'disk full');
SELECT is((SELECT next_run_at FROM smartbox.jobs WHERE job = 'train'), '2026-03-14 01:11+00', 'that fails is tried again after a minute');
SELECT is(pg_temp.claim('2026-03-14 01:11+00', 'train'), 'train', 'again');
SELECT smartbox.finish_job('train', '2026-03-14 01:20+00', 'disk still full');
SELECT is((SELECT next_run_at FROM smartbox.jobs WHERE job = 'train'), '2026-03-14 01:22+00', 'then two');
UPDATE smartbox.jobs SET failures_in_a_row = 1000000 WHERE job = 'train';
SELECT is(pg_temp.claim('2026-03-14 01:22+00', 'train'), 'train', 'and again');
SELECT smartbox.finish_job('train', '2026-03-14 01:30+00', 'disk full for ever');
SELECT is((SELECT next_run_at FROM smartbox.jobs WHERE job = 'train'), '2026-03-14 02:30+00', 'never after more than an hour');
SELECT results_eq($$ SELECT error, status FROM smartbox.job_history WHERE job = 'train' ORDER BY started_at $$,
    $$ VALUES (NULL, 'succeeded'), ('disk full', 'failed'), ('disk still full', 'failed'), ('disk full for ever', 'failed') $$,
    'the history has each error');
SELECT is(pg_temp.claim('2026-03-28 03:00+00', 'train'), 'train', 'two weeks later');
SELECT smartbox.finish_job('train', '2026-03-28 03:00:05+00', NULL);
SELECT is((SELECT count(*) FROM smartbox.job_history WHERE job = 'train'), 1::bigint, 'it has forgotten them');

-- Delivering.
UPDATE smartbox.jobs SET enabled = job = 'deliver';
SELECT is(pg_temp.claim('2026-03-28 03:05:10+00'), NULL, 'no alert is there');
SELECT is(smartbox.next_job_due(), '2026-03-28 03:06+00'::timestamptz, 'delivery has its clock');
SELECT smartbox.wake_jobs_for_alerts('2026-03-28 03:05:20+00');
SELECT is(pg_temp.claim('2026-03-28 03:05:20+00'), 'deliver', 'but an alert makes it due at once');
SELECT smartbox.wake_jobs_for_alerts('2026-03-28 03:05:21+00');
SELECT smartbox.finish_job('deliver', '2026-03-28 03:05:25+00', NULL);
SELECT is(pg_temp.claim('2026-03-28 03:05:25+00'), 'deliver', 'one that came while it ran, when that has ended');
INSERT INTO smartbox.deliveries (service, incident_id, alert_number, receiver, status, next_attempt_at, sent_at, resend_at) VALUES
    ('booking', 'incident_1', 1, 'past', 'pending', '2026-03-28 03:05+00', NULL, NULL),
    ('booking', 'incident_1', 1, 'retry', 'pending', '2026-03-28 03:05:41.5+00', NULL, NULL),
    ('booking', 'incident_1', 1, 'resend', 'sent', NULL, '2026-03-28 03:05+00', '2026-03-28 03:05:44+00');
SELECT smartbox.finish_job('deliver', '2026-03-28 03:05:27+00', NULL);
SELECT is(pg_temp.claim('2026-03-28 03:05:27+00'), NULL, 'what could not be sent');
SELECT is(smartbox.next_job_due(), '2026-03-28 03:05:41.5+00'::timestamptz, 'is tried again when its pause is over, before the clock says so');
SELECT is(smartbox.next_delivery('2026-03-28 03:05:41.5+00'), '2026-03-28 03:05:46.5+00'::timestamptz, 'what is to be repeated soon after waits for five seconds');
UPDATE smartbox.jobs SET enabled = true;

-- A process that is gone: no backend ever has the id 0.
UPDATE smartbox.jobs SET running_pid = 0, running_process = now(), last_started_at = '2026-03-28 03:10+00' WHERE job = 'train';
SELECT is(pg_temp.claim('2026-03-28 03:15+00', 'train'), 'train', 'a run whose process is gone is over');
SELECT is((SELECT status FROM smartbox.job_history WHERE job = 'train' AND started_at = '2026-03-28 03:10+00'), 'interrupted', 'and recorded as that');
SELECT smartbox.finish_job('train', '2026-03-28 03:16+00', NULL);

-- Changing.
UPDATE smartbox.jobs SET at_local = '05:00' WHERE job = 'train';
SELECT is(pg_temp.claim('2026-03-28 03:17+00') IS DISTINCT FROM 'train', true, 'a job that is changed');
SELECT results_eq($$ SELECT next_run_at, shipped FROM smartbox.jobs WHERE job = 'train' $$,
    $$ VALUES ('2026-03-28 04:00+00'::timestamptz, false) $$, 'has its new time, and is the user''s');
CREATE ROLE smartbox_test_operator;
GRANT USAGE ON SCHEMA smartbox TO smartbox_test_operator;
GRANT SELECT, INSERT, UPDATE ON smartbox.jobs TO smartbox_test_operator;
SET LOCAL ROLE smartbox_test_operator;
SELECT lives_ok($$ UPDATE smartbox.jobs SET enabled = false WHERE job = 'collect_and_detect' $$, 'an operator may switch a job off');
SELECT throws_ok($$ UPDATE smartbox.jobs SET command = 'SELECT 1' WHERE job = 'train' $$, '42501',
    'permission denied to set the command of job "train"', 'but not say what runs with the rights of another');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
