# A real Alertmanager shows an alert from the confirmation to the end of its
# incident, under the same labels, and as long as it is sent again.
use strict;
use warnings;
use Smartbox::Alertmanager;
use Smartbox::Cluster;
use Test::More;
use Time::HiRes ();

my $alertmanager = Smartbox::Alertmanager->start;
my $node = Smartbox::Cluster->launch('alertmanager');
my $url = $alertmanager->url;
my $minute = 0;

sub detect
{
	my ($severity) = @_;

	$minute += 5;
	$node->safe_psql('shop', qq{
		INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
		SELECT 'booking', date_trunc('minute', now()) - interval '2 hours' + $minute * interval '1 min', '$severity' <> 'none',
		    CASE '$severity' WHEN 'none' THEN '{}' ELSE jsonb_build_object('anomalies', jsonb_build_array(jsonb_build_object(
		        'name', 'slow', 'severity', '$severity', 'description', 'slow, "very" slöw', 'score', -0.1 * $minute))) END});
}

sub deliver { $node->safe_psql('shop', 'CALL deliver_alerts()') }

# Poll until what Alertmanager shows is right; it takes an alert before it shows it.
sub wait_for_alert
{
	my ($is_right, $name, $on_each) = @_;
	my $deadline = Time::HiRes::time() + 60;
	my @alerts;

	while (Time::HiRes::time() < $deadline)
	{
		@alerts = $alertmanager->alerts;
		return pass($name) if $is_right->(@alerts);
		$on_each->() if $on_each;
		select(undef, undef, undef, 0.1);
	}
	return ok(0, $name) || diag(explain(\@alerts));
}

$node->safe_psql('shop', qq{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	UPDATE smartbox.service_categories SET resolution_grace_cycles = 2;
	INSERT INTO smartbox.receivers (receiver, kind, url, resend_interval, ends_after) VALUES ('am', 'alertmanager', '$url', '1 s', '4 s');
	SELECT arm_delivery()});

detect('medium');
deliver();
is(scalar($alertmanager->alerts), 0, 'a suspicion is not there');
detect('medium');
deliver();
wait_for_alert(sub { @_ == 1 }, 'a confirmed incident is');
my ($first) = $alertmanager->alerts;
my $incident_id = $node->safe_psql('shop', 'SELECT incident_id FROM smartbox.incidents');
is_deeply($first->{labels},
	{ alertname => 'slow', service => 'booking', incident_id => $incident_id, source => 'smartbox_anomaly',
	  fingerprint_id => $node->safe_psql('shop', 'SELECT fingerprint_id FROM smartbox.incidents') },
	'the labels say which, not how bad');
is($first->{annotations}{description}, "slow, \"very\" sl\x{f6}w", 'the annotations say what');
is($first->{annotations}{severity}, 'medium', 'and how bad');
is($first->{status}{state}, 'active', 'it is active');

# Without a new event it outlives its end many times over, since it is sent again.
my $last_number = $node->safe_psql('shop', 'SELECT max(event_number) FROM smartbox.incident_events');
my $until = Time::HiRes::time() + 9;
wait_for_alert(sub { Time::HiRes::time() > $until || @_ != 1 }, 'two ends later', \&deliver);
my ($later) = $alertmanager->alerts;
is($later->{status}{state}, 'active', 'it is active still');
is($later->{startsAt}, $first->{startsAt}, 'since the same instant');
cmp_ok($later->{endsAt}, 'gt', $first->{endsAt}, 'its end has moved on');
is($node->safe_psql('shop', 'SELECT max(event_number) FROM smartbox.incident_events'), $last_number, 'nothing else has happened');
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.alerts'), '1', 'no alert was written for that');

detect('critical');
deliver();
wait_for_alert(sub { @_ == 1 && $_[0]{annotations}{severity} eq 'critical' }, 'an escalation is the same alert');
is_deeply(($alertmanager->alerts)[0]{labels}, $first->{labels}, 'with the same labels');
is(($alertmanager->alerts)[0]{fingerprint}, $first->{fingerprint}, 'and the same identity');

detect('none');
is($node->safe_psql('shop', 'SELECT status FROM smartbox.incidents'), 'RECOVERING', 'recovering');
$until = Time::HiRes::time() + 5;
wait_for_alert(sub { Time::HiRes::time() > $until || @_ != 1 }, 'an end later', \&deliver);
is(scalar($alertmanager->alerts), 1, 'it is still active');

detect('none');
is($node->safe_psql('shop', 'SELECT status FROM smartbox.incidents'), 'CLOSED', 'over');
deliver();
is(scalar($alertmanager->alerts), 0, 'gone with the resolution');

# A fault that comes back is the same incident, and the same alert.
detect('high');
deliver();
wait_for_alert(sub { @_ == 1 }, 'it is back');
is_deeply(($alertmanager->alerts)[0]{labels}, $first->{labels}, 'with the same labels');

# What is not sent again ends by itself: nobody is left with an alert of a
# database that has gone.
wait_for_alert(sub { @_ == 0 }, 'and ends by itself');

done_testing();
