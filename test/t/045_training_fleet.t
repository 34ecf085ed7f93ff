# Training by background workers: progress, cancel, death, failing services.
use strict;
use warnings;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Smartbox::Session;
use Test::More;

my $node = Smartbox::Cluster->launch('fleet', 'restart_after_crash = on', 'autovacuum = off', 'deadlock_timeout = 100ms');

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('shop', $sql);
}

my $load_samples = q{
INSERT INTO smartbox.services (service) SELECT 's' || n FROM generate_series(1, 6) AS n;
CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 's' || n, ts, ARRAY[100 * noise(k, 0.07), 120 * noise(k + 1, 0.06), 40 * noise(k + 2, 0.08), 8 * noise(k + 3, 0.08), 0.002 * noise(k + 4, 0.2)]
FROM generate_series(1, 6) AS n,
	generate_series('2024-01-01 00:05+00'::timestamptz, '2024-01-22 00:00+00', '5 min') AS ts,
	LATERAL (SELECT extract(epoch FROM ts)::bigint * 1003 + n * 7 AS k) AS seed;
};
query($load_samples);

my $summary = 'SELECT service, status, count(*) FROM train_models() GROUP BY 1, 2 ORDER BY 1;';
my $all_accepted = join("\n", map { "s$_|accepted|5" } 1 .. 6);
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'smartbox_anomaly worker'";
my $progress = "SELECT string_agg(service || ' ' || status, ', ' ORDER BY service) FROM smartbox.training_progress";
my $two_active = 'SELECT count(*) FROM (SELECT FROM smartbox.models WHERE is_active GROUP BY service, time_period HAVING count(*) > 1) AS x';
my ($trainer, $holder) = map { Smartbox::Session->new($node, $_) } qw(trainer holder);

# As long as somebody else holds it, the training of that service waits.
sub hold
{
	my ($service) = @_;
	$holder->say("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('smartbox_anomaly training of $service', 0));");
	return;
}

sub let_go
{
	$holder->say('COMMIT;');
	return;
}

sub no_workers
{
	my ($name) = @_;
	is($node->wait_for('shop', $workers, '0', 60), '0', $name);
	return;
}

# Alone in a statement
is($trainer->say($summary), $all_accepted, 'workers train all services');
is(query("SELECT bool_and(pid NOT IN (SELECT pid FROM pg_stat_activity)), count(DISTINCT pid) <= 2 FROM smartbox.training_runs"),
	't|t', 'at most two, who are gone');
is(query('SELECT count(*), sum(models_accepted), sum(models_rejected) FROM smartbox.training_runs'), '6|30|0', 'each service has its run');
is($trainer->say('SELECT service, count(*) FROM train_models(ARRAY[\'s1\']) GROUP BY 1;'), 's1|5', 'one service needs none');

# Progress
hold('s3');
$trainer->ask($summary);
is($node->wait_for('shop', $progress, qr/s1 succeeded, s2 succeeded, s3 running, s4 succeeded, s5 succeeded, s6 succeeded/, 60),
	's1 succeeded, s2 succeeded, s3 running, s4 succeeded, s5 succeeded, s6 succeeded', 'others see how far it is');
is(query("SELECT a.backend_type, a.query, a.usename FROM smartbox.training_progress AS t JOIN pg_stat_activity AS a USING (pid) WHERE t.service = 's3'"),
	'smartbox_anomaly worker|training s3|' . query('SELECT current_user'), 'and who is at it');
let_go();
is($trainer->answer, $all_accepted, 'in the end all are trained');

# Cancel
hold('s3');
my $finished = "SELECT count(*) FROM smartbox.training_runs WHERE service <> 's3' AND status = 'succeeded'";
my $all_others = query($finished) + 5;
$trainer->ask($summary);
$node->wait_for('shop', $finished, qr/^$all_others$/, 60);
my $before = query("SELECT max(version) FROM smartbox.models WHERE service = 's3'");
query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'trainer'");
like($trainer->answer, qr/ERROR:  canceling statement due to user request/, 'the statement can be cancelled');
no_workers('which ends its workers');
like(query($progress), qr/s2 succeeded, s3 interrupted, s4 succeeded/, 'the view tells what was interrupted');
is(query("SELECT max(version) FROM smartbox.models WHERE service = 's3'"), $before, 'which left no model');
is($trainer->say("SET statement_timeout = '1s'; SELECT count(*) FROM train_models(ARRAY['s3', 's4']); RESET statement_timeout;"),
	'ERROR:  canceling statement due to statement timeout', 'statement_timeout ends it');
no_workers('and its workers');
let_go();
is($trainer->say($summary), $all_accepted, 'the next training goes through');
is(query("SELECT DISTINCT status, message FROM smartbox.training_runs WHERE service = 's3' AND message IS NOT NULL"),
	'failed|interrupted: its process ended before the training did', 'and says of the interrupted ones that they were');

# A worker that dies
hold('s3');
$trainer->ask('SELECT service, period, version, status, reason FROM train_models() WHERE status <> \'accepted\';');
$node->wait_for('shop', $progress, qr/s3 running, s4 succeeded, s5 succeeded, s6 succeeded/, 60);
query("SELECT pg_terminate_backend(pid) FROM smartbox.training_progress WHERE service = 's3' AND status = 'running'");
my $died = $trainer->answer;
like($died, qr/^s3\|\|\|failed\|terminating background worker "smartbox_anomaly worker" due to administrator command$/, 'the service of a worker that died has failed');
is(query("SELECT message LIKE 'terminating background worker%' FROM smartbox.training_progress WHERE service = 's3' AND status = 'failed'"), 't', 'its run says why');
let_go();

# The caller dies
hold('s3');
$trainer->ask($summary);
$node->wait_for('shop', $progress, qr/s3 running, s4 succeeded, s5 succeeded, s6 succeeded/, 60);
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trainer'");
no_workers('a caller that is terminated leaves no worker');
$trainer->end;
$trainer = Smartbox::Session->new($node, 'trainer');
$trainer->ask($summary);
$node->wait_for('shop', $progress, qr/s3 running, s4 succeeded, s5 succeeded, s6 succeeded/, 60);
my $pid = query("SELECT pid FROM pg_stat_activity WHERE application_name = 'trainer'");
PostgreSQL::Test::Utils::system_log('pg_ctl', 'kill', 'KILL', $pid);
$trainer->end;
$holder->end;
$node->poll_query_until('shop', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
no_workers('neither does one that is killed');
like(query($progress), qr/s3 interrupted/, 'what it left unfinished is told');
($trainer, $holder) = map { Smartbox::Session->new($node, $_) } qw(trainer holder);
is($trainer->say($summary), $all_accepted, 'and made good by the next training');

# Services that fail
query(q{ALTER TABLE smartbox.services DISABLE TRIGGER ALL;
	UPDATE smartbox.services SET time_zone = 'Mars/Olympus' WHERE service = 's2';
	ALTER TABLE smartbox.services ENABLE TRIGGER ALL;});
foreach my $max_workers (2, 0)
{
	is($trainer->say("SET smartbox_anomaly.max_workers = $max_workers; $summary"),
		$all_accepted =~ s/s2\|accepted\|5/s2|failed|1/r, "one that fails is noted, with $max_workers workers, and the others are trained");
	is($trainer->say("SELECT service, status, message FROM smartbox.training_progress WHERE service = 's2';"),
		's2|failed|time zone "Mars/Olympus" of service "s2" is not known', 'its run says why');
}
$trainer->say('RESET smartbox_anomaly.max_workers;');
query(q{UPDATE smartbox.services SET time_zone = NULL WHERE service = 's2'});
like($trainer->say(q{SELECT * FROM train_models(ARRAY['s1', 'x2', 's3']);}),
	qr/ERROR:  service "x2" is not known\nDETAIL:  The nearest known names are "s2"/, 'a name that is not known is an error at once');

# The user and the settings of the caller
query('CREATE ROLE reader; GRANT USAGE ON SCHEMA smartbox TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA smartbox TO reader;
	GRANT EXECUTE ON FUNCTION train_models(text[], interval) TO reader;');
is($trainer->say("SET ROLE reader; SELECT service, status, reason FROM train_models(ARRAY['s1', 's2']); RESET ROLE;"),
	"s1|failed|permission denied for table training_runs\ns2|failed|permission denied for table training_runs",
	'workers may do what the role of the caller may');
$trainer->say("SET smartbox_anomaly.model_versions_kept = 1; $summary RESET smartbox_anomaly.model_versions_kept;");
is(query('SELECT DISTINCT count(*) FROM smartbox.models GROUP BY service, time_period'), '2', 'they have its settings');

# Two at once
my $other = Smartbox::Session->new($node, 'other');
$trainer->ask($summary);
$other->ask($summary);
is($trainer->answer, $all_accepted, 'of two trainings at once, one');
is($other->answer, $all_accepted, 'and the other go through');
is(query($two_active), '0', 'and leave one active version each');

# A rollback serves all sessions
my $judged_by = sub { $other->say("SELECT detect_anomalies('s1', '2024-01-21 23:$_[0]+00') #>> '{model,version}';") };
my $newest = query("SELECT version FROM smartbox.models WHERE service = 's1' AND is_active AND time_period = 'weekend_night'");
is($judged_by->('00'), $newest, 'a session that judges by the newest model');
is($trainer->say("SELECT rollback_model('s1', 'weekend_night');"), $newest - 1, 'goes back');
is($judged_by->('05'), $newest - 1, 'when another one rolls it back');

# In a transaction
$before = query('SELECT count(*), max(version) FROM smartbox.models');
my $runs = query('SELECT count(*) FROM smartbox.training_runs');
is($trainer->say("BEGIN; $summary"), $all_accepted, 'a transaction block trains without workers');
is($trainer->say('SELECT count(DISTINCT pid), bool_and(pid = pg_backend_pid()) FROM smartbox.training_progress;'), '1|t', 'by itself');
$trainer->say('ROLLBACK;');
is(query('SELECT count(*), max(version) FROM smartbox.models'), $before, 'and rolls back');
is(query('SELECT count(*) FROM smartbox.training_runs'), $runs, 'wholly');
like($trainer->say('BEGIN READ ONLY; SELECT * FROM train_models(); ROLLBACK;'),
	qr/ERROR:  cannot execute train_models\(\) in a read-only transaction/, 'not in a transaction that may not write');
like($trainer->say('DO $$ BEGIN LOCK TABLE smartbox.models IN SHARE MODE; PERFORM train_models(); END $$;'),
	qr/ERROR:  deadlock detected.*HINT:  Call the function in a statement of its own/s, 'a statement that locks its workers out ends');
no_workers('with its workers');

# Nobody to spare
my $small = Smartbox::Cluster->launch('small', 'max_worker_processes = 0');
$small->safe_psql('shop', $load_samples);
is($small->safe_psql('shop', $summary), $all_accepted, 'without free workers the session trains');
is($small->safe_psql('shop', 'SELECT count(DISTINCT pid) FROM smartbox.training_runs'), '1', 'all by itself');

done_testing();
