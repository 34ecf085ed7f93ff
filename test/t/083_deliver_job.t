# Alerts are delivered by a job of their own: at once, and without holding up
# anything else.
use strict;
use warnings;
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;
use Time::HiRes ();

my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('deliver',
	"shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop'",
	"smartbox_anomaly.delivery_timeout = '60s'");
my $minute = 0;

# An incident of the service, confirmed by an ordinary session.
sub confirm
{
	my ($service) = @_;

	$minute += 5;
	$node->safe_psql('shop', qq{
		INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
		SELECT '$service', '2024-01-15 10:00+00'::timestamptz + ($minute + n) * interval '1 min', true,
		    '{"anomalies": [{"name": "slow", "severity": "high"}]}' FROM generate_series(1, 2) AS n});
}

# The services of which the receiver was told, once it was of that many.
sub told
{
	my ($name, $n) = @_;
	my $deadline = Time::HiRes::time() + 60;
	my @requests;

	while ((@requests = $fake->requests($name)) < $n && Time::HiRes::time() < $deadline)
	{
		select(undef, undef, undef, 0.05);
	}
	return join ' ', map { decode_json($_->{body})->{service} } @requests;
}

sub job
{
	my ($columns) = @_;
	return $node->safe_psql('shop', "SELECT $columns FROM smartbox.jobs WHERE job = 'deliver'");
}

$fake->answer('works');
$fake->answer('fails', status => 503);
$fake->answer('hangs', hold => 1);
$node->wait_for('shop', 'SELECT state FROM smartbox.worker_state()', 'working', 60);

# Seven days from Thursday to Thursday, an hour later if that is now: no clock
# has anything to do with what follows.
my $url = $fake->url;
$node->safe_psql('shop', qq{
	UPDATE smartbox.jobs SET enabled = job = 'deliver';
	UPDATE smartbox.jobs SET every = '7 days',
		delay = CASE WHEN smartbox.next_run('7 days', '0', NULL, 'UTC', now()) < now() + interval '10 minutes' THEN '1 hour' ELSE '0' END::interval
	WHERE job = 'deliver';
	INSERT INTO smartbox.services (service) VALUES ('s1'), ('s2'), ('s3'), ('s4'), ('s5');
	INSERT INTO smartbox.receivers (receiver, kind, url, enabled) SELECT r, 'webhook', '$url/' || r, r = 'works' FROM unnest('{works,fails,hangs}'::text[]) AS r});

# ---------- woken by what is committed ----------

confirm('s1');
$node->wait_for('shop', q{SELECT count(*) FROM smartbox.job_history WHERE job = 'deliver' AND started_at > (SELECT max(created_at) FROM smartbox.alerts)}, qr/[1-9]/, 60);
is($node->safe_psql('shop', 'SELECT status FROM smartbox.deliveries'), 'pending', 'a database that is not armed sends nothing');
$node->safe_psql('shop', 'SELECT arm_delivery(send_queued => true)');
is(told('works', 1), 's1', 'arming it sends what waits');
confirm('s2');
is(told('works', 2), 's1 s2', 'an alert is delivered without anybody asking');
$node->wait_for('shop', q{SELECT count(*) FROM smartbox.deliveries WHERE status = 'sent'}, 2, 60);
$node->wait_for('shop', q{SELECT count(*) FROM smartbox.jobs WHERE running_pid IS NOT NULL}, 0, 60);
is(job(q{failures, next_run_at > now() + interval '1 minute'}), '0|t', 'and no polling is to come before the clock says so');

# ---------- tried again ----------

$node->safe_psql('shop', q{UPDATE smartbox.receivers SET enabled = receiver = 'fails'});
confirm('s3');
is(told('fails', 1), 's3', 'a receiver that fails');
$node->wait_for('shop', q{SELECT status FROM smartbox.deliveries WHERE receiver = 'fails'}, 'pending', 60);
is($node->wait_for('shop', q{SELECT next_run_at <= now() + interval '1 minute' FROM smartbox.jobs WHERE job = 'deliver'}, 't', 60), 't',
	'is tried again after the pause, not when the clock says so');

# ---------- a receiver that hangs ----------

$node->safe_psql('shop', q{
	UPDATE smartbox.receivers SET enabled = receiver IN ('hangs', 'works');
	UPDATE smartbox.jobs SET every = '1 s', delay = '0', enabled = true WHERE job = 'collect_and_detect'});
confirm('s4');
is(told('hangs', 1), 's4', 'a receiver takes a message and says nothing');
my $run = $node->wait_for('shop', q{SELECT runs FROM smartbox.jobs WHERE job = 'deliver' AND running_pid IS NOT NULL}, qr/./, 60);
my $cycles = $node->safe_psql('shop', q{SELECT count(*) FROM smartbox.job_history WHERE job = 'collect_and_detect' AND status = 'succeeded'});
$node->safe_psql('shop', q{INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('s1', now(), '{10,100,50,5,0.001}')});
is($node->wait_for('shop', q{SELECT count(*) FROM smartbox.detections WHERE ts > '2025-01-01' AND service = 's1'}, qr/[1-9]/, 60), 1,
	'a sample is judged meanwhile');
$node->wait_for('shop', qq{SELECT count(*) > $cycles + 1 FROM smartbox.job_history WHERE job = 'collect_and_detect' AND status = 'succeeded'}, 't', 60);
is(job('runs, running_pid IS NOT NULL'), "$run|t", 'cycle after cycle, while the message is still out');
is($node->psql('shop', 'CALL run_cycle()'), 0, 'a cycle by hand finds nothing that nobody is at');
confirm('s5');
$fake->release('hangs');
like(told('hangs', 2), qr/^s4 s5$/, 'what came meanwhile follows as soon as the receiver answers');
$node->wait_for('shop', q{SELECT count(*) FROM smartbox.deliveries WHERE receiver IN ('works', 'hangs') AND status <> 'sent'}, 0, 60);
is(join(' ', sort map { $_->{headers}{'idempotency-key'} } map { $fake->requests($_) } qw(works hangs)),
	join(' ', split /\n/, $node->safe_psql('shop', q{SELECT smartbox.idempotency_key(service, incident_id, alert_number, receiver) COLLATE "C"
		FROM smartbox.deliveries WHERE receiver IN ('works', 'hangs') ORDER BY 1})), 'each message exactly once');

done_testing();
