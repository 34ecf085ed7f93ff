# Background workers run the jobs of smartbox.jobs by themselves, and go on
# whatever happens to one of them.
use strict;
use warnings;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('workers',
	"shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop, elsewhere'",
	'smartbox_anomaly.sample_interval = 3600', 'restart_after_crash = on');

# Times that a line is in the server's log.
sub times_logged
{
	my ($on, $pattern) = @_;
	return scalar(() = PostgreSQL::Test::Utils::slurp_file($on->logfile) =~ /$pattern/g);
}

sub add_job
{
	my ($job, $command) = @_;
	$node->safe_psql('shop', "INSERT INTO smartbox.jobs (job, command, every) VALUES ('$job', \$\$$command\$\$, '1 s')");
	return;
}

sub pid_of
{
	my ($job) = @_;
	return $node->wait_for('shop', "SELECT running_pid FROM smartbox.jobs WHERE job = '$job' AND running_pid IS NOT NULL", qr/\d/, 60);
}

# ---------- finding the databases ----------

is($node->wait_for('shop', 'SELECT state FROM smartbox.worker_state()', 'working', 60), 'working', 'a worker has found the jobs');
is(times_logged($node, 'database "elsewhere" does not exist or takes no connections'), 1, 'a database that is missing is told');
is($node->safe_psql('shop', 'SELECT bool_and(next_run_at IS NOT NULL) FROM smartbox.jobs'), 't', 'each job knows when it is due');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'smartbox_anomaly launcher'"), 1, 'one launcher is there');
is($node->wait_for('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'smartbox_anomaly job worker'", 0, 60), 0, 'and no worker while nothing is due');

# ---------- the cycle ----------

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'booking', date_bin('1 hour', now(), 'epoch') - n * interval '1 hour',
		ARRAY[10 + sin(n * 12.9898), 100 + 5 * sin(n * 78.233), 50 + sin(n * 39.425), 5 + 0.1 * sin(n * 11.135), 0.001]
	FROM generate_series(0, 719) AS n;
	SELECT FROM train_models();
	UPDATE smartbox.jobs SET every = '1 s', delay = '0' WHERE job = 'collect_and_detect'});
is($node->wait_for('shop', 'SELECT count(*) FROM smartbox.detections', 1, 60), 1, 'a sample that was inserted is judged without anybody asking');
$node->wait_for('shop', "SELECT last_succeeded_at IS NOT NULL FROM smartbox.jobs WHERE job = 'collect_and_detect'", 't', 60);
is($node->safe_psql('shop', "SELECT runs > 0, failures, last_error IS NULL, last_duration > '0', last_started_at <= last_finished_at FROM smartbox.jobs WHERE job = 'collect_and_detect'"),
	't|0|t|t|t', 'its row says so');
is($node->safe_psql('shop', "SELECT DISTINCT status FROM smartbox.job_history"), 'succeeded', 'and the history');
$node->safe_psql('shop', "UPDATE smartbox.jobs SET every = NULL WHERE job = 'collect_and_detect'");
$node->wait_for('shop', "SELECT next_run_at > now() + interval '5 s' FROM smartbox.jobs WHERE job = 'collect_and_detect'", qr/[tf]/, 60);

# ---------- settings ----------

$node->append_conf('postgresql.conf', 'smartbox_anomaly.sample_interval = 10');
$node->reload;
is($node->wait_for('shop', "SELECT next_run_at < now() + interval '10 s' FROM smartbox.jobs WHERE job = 'collect_and_detect'", 't', 60),
	't', 'a shorter sample interval counts without a restart');
$node->append_conf('postgresql.conf', 'smartbox_anomaly.sample_interval = 3600');
$node->reload;
$node->safe_psql('shop', "UPDATE smartbox.jobs SET enabled = false");

$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
$node->safe_psql('elsewhere', 'CREATE EXTENSION smartbox_anomaly');
is($node->wait_for('elsewhere', 'SELECT state FROM smartbox.worker_state()', 'working', 60), 'working', 'a database that comes later is found');
$node->safe_psql('postgres', 'CREATE DATABASE third');
$node->safe_psql('third', 'CREATE EXTENSION smartbox_anomaly');
is($node->safe_psql('third', 'SELECT state FROM smartbox.worker_state()'), 'not listed', 'one that is not named is let alone');
$node->append_conf('postgresql.conf', "smartbox_anomaly.databases = 'shop, third'");
$node->reload;
is($node->wait_for('third', 'SELECT state FROM smartbox.worker_state()', 'working', 60), 'working', 'until the setting names it');
is($node->wait_for('elsewhere', 'SELECT state FROM smartbox.worker_state()', 'not listed', 60), 'not listed', 'and the other is left');
isnt($node->psql('postgres', "ALTER SYSTEM SET smartbox_anomaly.databases = 'a,,b'"), 0, 'what is no list of names is refused');

# ---------- errors ----------

$node->safe_psql('shop', q{
	CREATE TABLE done (job text, at timestamptz DEFAULT clock_timestamp());
	CREATE PROCEDURE half_done() LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.done VALUES ('half'); COMMIT;
		INSERT INTO public.done VALUES ('other half'); PERFORM 1 / 0; END $$});
add_job('good', "INSERT INTO public.done VALUES ('good')");
add_job('bad', 'CALL public.half_done()');
$node->wait_for('shop', "SELECT runs >= 3 FROM smartbox.jobs WHERE job = 'bad'", 't', 60);
$node->wait_for('shop', "SELECT runs >= 3 FROM smartbox.jobs WHERE job = 'good'", 't', 60);
like($node->safe_psql('shop', "SELECT last_error FROM smartbox.jobs WHERE job = 'bad'"),
	qr/\Adivision by zero \(SQLSTATE 22012\)\nCONTEXT:  (?s:.*)half_done\(\) line 3 at PERFORM\z/, 'an error is kept with where it happened');
is($node->safe_psql('shop', "SELECT count(*) >= 2, bool_and(status = 'failed' AND error ~ 'division') FROM smartbox.job_history WHERE job = 'bad'"),
	't|t', 'each one, and it is tried again');
is($node->safe_psql('shop', "SELECT failures_in_a_row >= 2, last_error_at IS NOT NULL, last_succeeded_at IS NULL FROM smartbox.jobs WHERE job = 'bad'"),
	't|t|t', 'the row counts them');
is($node->safe_psql('shop', "SELECT bool_or(job = 'half'), bool_or(job = 'other half'), bool_or(job = 'good') FROM done"),
	't|f|t', 'a procedure has committed what it had, and other jobs go on');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR:  division by zero\n.*CONTEXT: (?:.*\n)*.*smartbox_anomaly job "bad"/, 'the log names the job');
add_job('two', 'SELECT 1; SELECT 2');
like($node->wait_for('shop', "SELECT last_error FROM smartbox.jobs WHERE job = 'two'", qr/./, 60), qr/must be one statement/, 'two statements are none');
add_job('late', "SELECT pg_catalog.pg_sleep(600)");
$node->safe_psql('shop', "UPDATE smartbox.jobs SET timeout = '1 s' WHERE job = 'late'");
like($node->wait_for('shop', "SELECT error FROM smartbox.job_history WHERE job = 'late' LIMIT 1", qr/./, 60),
	qr/canceling statement due to statement timeout/, 'a job that takes too long is cancelled')
  or diag($node->safe_psql('shop', 'SELECT * FROM smartbox.jobs'));
$node->safe_psql('shop', "DELETE FROM smartbox.jobs WHERE job IN ('bad', 'two', 'late')");

# A lock is not waited for for ever.
add_job('limits', "INSERT INTO public.done (job) SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('search_path'))");
is($node->wait_for('shop', "SELECT job FROM done WHERE job ~ 'min' LIMIT 1", qr/./, 60), '1min pg_catalog, pg_temp', 'jobs have a limit for locks, and no search path of anybody');
$node->safe_psql('shop', "DELETE FROM smartbox.jobs WHERE job = 'limits'");

# ---------- not twice at once ----------

add_job('slow', "INSERT INTO public.done SELECT 'slow' FROM pg_catalog.pg_sleep(1.5)");
my $slow = pid_of('slow');
like(($node->psql('shop', "SELECT smartbox.run_job('slow')"))[2], qr/ERROR:  job "slow" is running already\nDETAIL:  Process \d+ runs it/, 'a job that runs is not started by hand')
  if $node->safe_psql('shop', "SELECT running_pid IS NOT NULL FROM smartbox.jobs WHERE job = 'slow'") eq 't';
$node->wait_for('shop', "SELECT count(*) >= 3 FROM smartbox.job_history WHERE job = 'slow'", 't', 60);
is($node->safe_psql('shop', q{
	SELECT count(*) FROM smartbox.job_history AS a JOIN smartbox.job_history AS b USING (job)
	WHERE job = 'slow' AND a.started_at < b.started_at AND a.finished_at > b.started_at}), 0, 'a job that overruns is not started twice');
is($node->safe_psql('shop', q{
	SELECT count(*) > 0 FROM smartbox.job_history AS a JOIN smartbox.job_history AS b
	ON b.job = 'good' AND b.started_at > a.started_at AND b.finished_at < a.finished_at WHERE a.job = 'slow'}), 't', 'meanwhile others run');
$node->safe_psql('shop', "DELETE FROM smartbox.jobs WHERE job = 'slow'");

# ---------- by hand ----------

is($node->safe_psql('shop', "SELECT status, error IS NULL, finished_at >= started_at FROM smartbox.run_job('train')"),
	'succeeded|t|t', 'a job that is switched off can be run by hand');
is($node->safe_psql('shop', "SELECT status FROM smartbox.run_job('retention')"), 'succeeded', 'a procedure with results, too');
add_job('broken', 'SELECT 1 / 0');
$node->safe_psql('shop', "UPDATE smartbox.jobs SET enabled = false WHERE job = 'broken'");
like($node->safe_psql('shop', "SELECT status, error FROM smartbox.run_job('broken')"), qr/^failed\|division by zero/, 'one that fails says why');
like(($node->psql('shop', "SELECT smartbox.run_job('trian')"))[2], qr/ERROR:  job "trian" does not exist\nHINT:  There are: broken, collect_and_detect, deliver, good, retention, train, write_back/, 'one that is not there');

# ---------- processes that end ----------

add_job('sleeper', 'SELECT pg_catalog.pg_sleep(600)');
my $pid = pid_of('sleeper');
is($node->safe_psql('shop', "SELECT backend_type, query FROM pg_stat_activity WHERE pid = $pid"),
	'smartbox_anomaly job worker|job sleeper: SELECT pg_catalog.pg_sleep(600)', 'pg_stat_activity says what a worker does');
$node->safe_psql('shop', "SELECT pg_cancel_backend($pid)");
like($node->wait_for('shop', "SELECT error FROM smartbox.job_history WHERE job = 'sleeper' AND status = 'failed'", qr/./, 60),
	qr/canceling statement due to user request/, 'a run can be cancelled');
$pid = pid_of('sleeper');
$node->safe_psql('shop', "SELECT pg_terminate_backend($pid)");
like($node->wait_for('shop', "SELECT error FROM smartbox.job_history WHERE job = 'sleeper' AND status = 'interrupted'", qr/./, 60),
	qr/the server process $pid that ran it has ended/, 'one whose worker is ended is noticed at once');

$pid = pid_of('sleeper');
kill 'KILL', $pid;
my $deadline = time + 60;
until ($node->psql('postgres', 'SELECT 1') == 0)
{
	die 'the server does not come back' if time > $deadline;
	select undef, undef, undef, 0.1;
}
like($node->wait_for('shop', "SELECT error FROM smartbox.job_history WHERE job = 'sleeper' AND pid = $pid", qr/./, 60),
	qr/has ended/, 'after kill -9 and the restart of the server, too');
isnt(pid_of('sleeper'), $pid, 'and the job is run again');
my $count = $node->safe_psql('shop', 'SELECT count(*) FROM done');
is($node->wait_for('shop', "SELECT count(*) > $count FROM done", 't', 60), 't', 'as are the others');

my $launcher = $node->safe_psql('shop', 'SELECT launcher_pid FROM smartbox.worker_state()');
$node->safe_psql('shop', "SELECT pg_terminate_backend($launcher)");
isnt($node->wait_for('shop', 'SELECT coalesce(launcher_pid, 0) FROM smartbox.worker_state()', qr/^(?!0$|$launcher$)/, 60), $launcher, 'a launcher that is ended comes back');
$count = $node->safe_psql('shop', 'SELECT count(*) FROM done');
$node->wait_for('shop', "SELECT count(*) > $count FROM done", 't', 60);
is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.jobs WHERE job = 'sleeper' AND running_pid IS NOT NULL"), 1, 'and runs what is due, leaving alone what runs');

# ---------- missed runs ----------

$node->safe_psql('shop', "DELETE FROM smartbox.jobs WHERE job IN ('sleeper', 'good')");
$node->stop('fast');
$node->start;
$node->safe_psql('shop', q{
	INSERT INTO smartbox.jobs (job, command, every, next_run_at) VALUES ('missed', 'SELECT 1', '1 hour', now() - interval '3 days')});
$node->wait_for('shop', "SELECT count(*) FROM smartbox.job_history WHERE job = 'missed'", 1, 60);
is($node->safe_psql('shop', "SELECT runs, next_run_at > now() FROM smartbox.jobs WHERE job = 'missed'"), '1|t', 'three days that were missed are one run');

# ---------- another version ----------

$node->safe_psql('third', "UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'smartbox_anomaly'");
foreach my $try (1, 2)
{
	my $checked = $node->safe_psql('third', 'SELECT checked_at FROM smartbox.worker_state()');
	$node->reload;
	$node->wait_for('third', "SELECT checked_at > '$checked' FROM smartbox.worker_state()", 't', 60);
}
is($node->safe_psql('third', 'SELECT state FROM smartbox.worker_state()'), 'other version', 'jobs of an extension of another version do not run');
is(times_logged($node, qr/jobs do not run in database "third": its extension has version 0\.0, the library is .*\n.*HINT:  Run ALTER EXTENSION smartbox_anomaly UPDATE/),
	1, 'which is told once');

# ---------- without ----------

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is($node->safe_psql('shop', 'SELECT preloaded, launcher_pid IS NULL, state IS NULL FROM smartbox.worker_state()'), 'f|t|t', 'without preloading there are no workers');
is($node->safe_psql('shop', "SELECT status FROM smartbox.run_job('collect_and_detect')"), 'succeeded', 'but jobs can be run by hand');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'smartbox_anomaly'");
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');    # the launchers'
$node->restart;
is($node->wait_for('shop', 'SELECT no_worker_free_since IS NOT NULL FROM smartbox.worker_state()', 't', 60), 't', 'where no worker is free, that is known');
is(times_logged($node, qr/LOG:  smartbox_anomaly launcher: no background worker is free, jobs have to wait\n.*HINT:  You may need to increase max_worker_processes/), 1, 'and told once');

done_testing();
