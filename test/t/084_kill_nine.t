# kill -9 in the middle of a detection, a training and a delivery, once of the
# process that is at it and once of the postmaster: nothing is half done
# afterwards, the work goes on, and it ends as if nothing had happened.
use strict;
use warnings;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::SteadySession;
use Test::More;

my $receiver = Smartbox::FakeHttpServer->start;
$receiver->answer('hook', hold => 1, body => '{}');
my $node = Smartbox::Cluster->launch('kill_nine',
	"shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop'", 'smartbox_anomaly.delivery_timeout = 60s',
	'smartbox_anomaly.sample_interval = 1h', 'restart_after_crash = on', 'autovacuum = off');

# Whoever holds up the others is one of those who die.
my $blocker = Smartbox::SteadySession->new($node, 'blocker');

sub server_answers { return $node->psql('postgres', 'SELECT 1') == 0 }

# Until something is so; what is left of a server that was killed may take its
# time to go.
sub wait_until
{
	my ($what, $is_so) = @_;
	my $deadline = time + 120;

	until ($is_so->())
	{
		die "in vain: $what" if time > $deadline;
		select undef, undef, undef, 0.05;
	}
	return;
}

sub run_job
{
	my ($job) = @_;
	$node->safe_psql('shop', "UPDATE smartbox.jobs SET next_run_at = now() WHERE job = '$job'");
	return;
}

sub kill_nine
{
	my ($victim, $pid) = @_;

	if ($victim eq 'postmaster')
	{
		$node->kill9;
		wait_until('all processes end', sub { !defined $blocker->say('SELECT 1') });
		$node->start_after_crash(120);
	}
	else
	{
		kill 'KILL', $pid;
		wait_until('all processes end', sub { !defined $blocker->say('SELECT 1') });
		wait_until('the server is back', \&server_answers);
	}
	return;
}

# The job ends well, although it was interrupted before.
sub ends_well
{
	my ($job) = @_;
	$node->wait_for('shop', "SELECT running_pid IS NULL FROM smartbox.jobs WHERE job = '$job'", 't', 60);
	is($node->safe_psql('shop', "SELECT status FROM smartbox.job_history WHERE job = '$job' ORDER BY started_at DESC LIMIT 1"),
		'interrupted', "the interrupted run of $job is known");
	run_job($job);
	$node->wait_for('shop', "SELECT failures_in_a_row = 0 AND running_pid IS NULL FROM smartbox.jobs WHERE job = '$job'", 't', 120);
	return;
}

# Each index has exactly the rows of its table.
sub is_sound
{
	my ($when) = @_;
	$node->command_ok([ 'pg_amcheck', '--heapallindexed', '--schema', 'smartbox', '-d', 'shop' ], "tables and indexes are sound after $when");
	return;
}

sub content
{
	my ($query) = @_;
	return $node->safe_psql('shop', "SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM ($query) AS t");
}

# ---------- a fleet, and what becomes of it when nobody disturbs ----------

$node->safe_psql('shop', q{
	UPDATE smartbox.jobs SET every = NULL, delay = '0', at_local = (now() AT TIME ZONE 'UTC' + interval '12 hours')::time;
	CREATE EXTENSION amcheck;
	INSERT INTO smartbox.services (service, category, confirmation_cycles) SELECT 's' || n, 'standard', 1 FROM generate_series(1, 6) AS n;
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 's' || s, '2024-01-01 00:00+00'::timestamptz + n * interval '1 hour',
		ARRAY[10 + sin(n * 12.9898 * s), 100 + 5 * sin(n * 78.233 * s), 50 + sin(n * 39.425), 5 + 0.1 * sin(n * 11.135), CASE n WHEN 719 THEN 0.5 ELSE 0.001 END]
	FROM generate_series(1, 6) AS s, generate_series(0, 719) AS n;
	INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('hook', 'webhook', '} . $receiver->url('hook') . q{')});

my $models = 'SELECT service, time_period, status, samples, reason, model FROM smartbox.models WHERE is_active';
my $detections = q{SELECT service, ts, score, severity, is_anomaly, payload #- '{model}' FROM smartbox.detections};
my $incidents = 'SELECT service, incident_id, status, severity, score, first_seen, last_seen, occurrence_count FROM smartbox.incidents';
my $summary = "SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM (%s) AS t;";
my @undisturbed = split /\n/, $node->safe_psql('shop', join "\n",
	'BEGIN; SET LOCAL client_min_messages = error;',
	'DO $$ BEGIN PERFORM train_models(); END $$;', sprintf($summary, $models),
	'DO $$ BEGIN PERFORM run_inference(); END $$;', sprintf($summary, $detections), sprintf($summary, $incidents), 'ROLLBACK;');
is(scalar @undisturbed, 3, 'it is known how it should end') or BAIL_OUT(join "\n", @undisturbed);

# ---------- training ----------

foreach my $victim ('process', 'postmaster')
{
	# the last service's model waits for a row that may become the same
	$node->safe_psql('shop', 'TRUNCATE smartbox.models');
	like($blocker->say(q{
		BEGIN;
		INSERT INTO smartbox.models (service, time_period, version, status, samples)
		SELECT DISTINCT 's6', time_period, 1, 'insufficient', 0 FROM smartbox.time_periods;
		SELECT pg_backend_pid()}), qr/\A\d+\z/, 'somebody is in the way of a training');
	run_job('train');
	my $pid = $node->wait_for('shop', q{
		SELECT max(a.pid) FROM pg_stat_activity AS a WHERE a.wait_event_type = 'Lock' AND a.backend_type = 'smartbox_anomaly worker'
			AND (SELECT count(DISTINCT service) FROM smartbox.models) = 5}, qr/\d/, 120);
	kill_nine($victim, $pid);
	is($node->safe_psql('shop', "SELECT count(*) FILTER (WHERE service = 's6'), count(DISTINCT service) FROM smartbox.models"), '0|5',
		"kill -9 of the $victim: what was trained is there, and nothing of what was not");
	is_sound('that');
	ends_well('train');
	is(content($models), $undisturbed[0], 'then all models are as if nothing had happened, byte for byte');
	is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.models WHERE is_active GROUP BY service, time_period HAVING count(*) > 1'), '', 'one of each is active');
	is($node->safe_psql('shop', "SELECT count(*), max(message) FROM smartbox.training_runs WHERE status = 'failed' AND service = 's6'"),
		($victim eq 'process' ? 1 : 2) . '|interrupted: its process ended before the training did', 'the interrupted training is on record');
	is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.training_runs WHERE status = 'running'"), 0, 'and none seems to go on');
}

# ---------- detection ----------

foreach my $victim ('process', 'postmaster')
{
	$node->safe_psql('shop', 'TRUNCATE smartbox.detections, smartbox.incidents, smartbox.incident_events, smartbox.alerts, smartbox.deliveries, smartbox.fingerprints');
	like($blocker->say("BEGIN; SELECT pg_backend_pid() FROM smartbox.services WHERE service = 's6' FOR UPDATE"), qr/\A\d+\z/, 'somebody is in the way of a detection');
	run_job('collect_and_detect');
	my $pid = $node->wait_for('shop', q{
		SELECT max(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'smartbox_anomaly job worker'}, qr/\d/, 120);
	kill_nine($victim, $pid);
	is($node->safe_psql('shop', 'SELECT (SELECT count(*) FROM smartbox.detections), (SELECT count(*) FROM smartbox.incidents), (SELECT count(*) FROM smartbox.alerts)'),
		'0|0|0', "kill -9 of the $victim: of a detection of all nothing is there");
	is_sound('that');
	ends_well('collect_and_detect');
	is(content($detections), $undisturbed[1], 'then all detections are as if nothing had happened');
	is(content($incidents), $undisturbed[2], 'and all incidents');
}

# ---------- delivery ----------

is($node->safe_psql('shop', 'SELECT count(DISTINCT service), count(*) FROM smartbox.alerts'), '6|6', 'there are alerts to send');
foreach my $victim ('process', 'postmaster')
{
	my $before = () = $receiver->requests('hook');
	# Arming wakes the job; later the lease that its process had must end.
	$node->safe_psql('shop', $victim eq 'process' ? 'SELECT arm_delivery(true)' : q{
		UPDATE smartbox.deliveries SET next_attempt_at = now() - interval '1 second' WHERE status = 'sending';
		UPDATE smartbox.jobs SET next_run_at = now() WHERE job = 'deliver'});
	wait_until('the receiver has the alerts', sub { $receiver->requests('hook') >= $before + 6 });
	my $pid = $node->safe_psql('shop', "SELECT running_pid FROM smartbox.jobs WHERE job = 'deliver'");
	kill_nine($victim, $pid);
	is($node->safe_psql('shop', q{SELECT status, count(*), bool_and(leased_until > now()) FROM smartbox.deliveries GROUP BY status}),
		'sending|6|t', "kill -9 of the $victim: nobody knows whether the receiver has them, so they are leased");
}
$receiver->release('hook');
$node->safe_psql('shop', "UPDATE smartbox.deliveries SET next_attempt_at = now() - interval '1 second' WHERE status = 'sending'");
ends_well('deliver');
is($node->safe_psql('shop', 'SELECT status, count(*), min(attempts), max(attempts) FROM smartbox.deliveries GROUP BY status'), 'sent|6|3|3', 'at last all are sent');
my %times;
$times{ $_->{headers}{'idempotency-key'} }++ foreach $receiver->requests('hook');
is_deeply([ values %times ], [ (3) x 6 ], 'each was sent three times, under the same key');
is_sound('all that');

done_testing();
