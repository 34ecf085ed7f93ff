# Alerts reach their receivers at least once, in order and under one key each,
# whatever dies on the way.  The receivers are fake ones that fail, stall and
# die in the middle.
use strict;
use warnings;
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::Session;
use Test::More;
use Time::HiRes ();

my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('delivery', "smartbox_anomaly.delivery_timeout = '500ms'", 'restart_after_crash = on');
my $minute = 0;

# What the receivers were told under a name: [path, key, message].
sub told
{
	my ($name) = @_;
	return map { [ $_->{path}, $_->{headers}{'idempotency-key'}, decode_json($_->{body}) ] } $fake->requests($name);
}

# The same in short: "service alert_type".
sub told_of
{
	my ($name) = @_;
	return map { my $m = ref $_->[2] eq 'ARRAY' ? $_->[2][0] : $_->[2]; "$m->{service} $m->{alert_type}" } told($name);
}

sub receiver
{
	my ($name, $kind, %columns) = @_;
	my @names = sort keys %columns;
	my $url = $fake->url($name);

	$node->safe_psql('shop', "UPDATE smartbox.receivers SET enabled = false; INSERT INTO smartbox.receivers (receiver, kind, url"
		  . join('', map { ", $_" } @names) . ") VALUES ('$name', '$kind', '$url'" . join('', map { ", $columns{$_}" } @names) . ')');
}

# Two cycles confirm an incident of these services; one without ends it.
sub detect
{
	my ($severity, @services) = @_;
	my $list = join ',', @services;

	$minute += 5;
	$node->safe_psql('shop', qq{
		INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
		SELECT s, '2024-01-15 10:00+00'::timestamptz + $minute * interval '1 min', '$severity' <> 'none', CASE '$severity' WHEN 'none' THEN '{}'
		    ELSE jsonb_build_object('anomalies', jsonb_build_array(jsonb_build_object('name', 'slow', 'severity', '$severity'))) END
		FROM unnest('{$list}'::text[]) AS s});
}

sub confirm { detect(@_) for 1, 2 }

sub deliver
{
	my $notices;
	is($node->psql('shop', 'CALL deliver_alerts()', stderr => \$notices), 0, 'delivers') or diag($notices);
	return $notices;
}

# As if the pauses after failures, or the leases of the dead, were over.
sub pass_time
{
	$node->safe_psql('shop', q{UPDATE smartbox.deliveries SET next_attempt_at = now() - interval '1 s',
		leased_until = CASE WHEN status = 'sending' THEN now() - interval '1 s' END WHERE next_attempt_at IS NOT NULL});
}

sub states
{
	my ($receiver) = @_;
	return $node->safe_psql('shop', qq{SELECT coalesce(string_agg(s, ', ' ORDER BY s), '') FROM (
		SELECT status || ' ' || count(*) AS s FROM smartbox.deliveries WHERE receiver = '$receiver' GROUP BY status) AS t});
}

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) SELECT 's' || n FROM generate_series(1, 9) AS n;
	UPDATE smartbox.service_categories SET resolution_grace_cycles = 1});
$fake->answer('works');

# ---------------------------------------------------------------------------
# Nothing is sent unasked
# ---------------------------------------------------------------------------

receiver('works', 'observability');
confirm('high', 's1');
like(deliver(), qr/NOTICE:  no alerts are sent: delivery is not armed in this database/, 'not armed: nothing is sent');
is(scalar told('works'), 0, 'nothing at all');
is($node->safe_psql('shop', 'SELECT arm_delivery()'), '1', 'what was queued before is left out');
deliver();
is(scalar told('works'), 0, 'and stays so');
is(states('works'), 'skipped 1', 'with a reason');
$node->safe_psql('shop', q{LOAD 'smartbox_anomaly'; ALTER SYSTEM SET smartbox_anomaly.deliver_alerts = off});
$node->reload;
detect('critical', 's1');
like(deliver(), qr/deliver_alerts is off/, 'nothing is sent while the setting is off');
$node->safe_psql('shop', q{LOAD 'smartbox_anomaly'; ALTER SYSTEM RESET smartbox_anomaly.deliver_alerts});
$node->reload;
$node->wait_for('shop', 'SELECT smartbox.delivery_obstacle() IS NULL', 't', 30);

# ---------------------------------------------------------------------------
# Both endpoints of the observability service
# ---------------------------------------------------------------------------

detect('high', 's2');
deliver();
is_deeply([ told_of('works') ], ['s1 anomaly_detected'], 'an escalation is sent, a suspicion is not');
detect('high', 's2');
detect('none', 's1', 's2');
deliver();
is_deeply([ sort(told_of('works')) ], [ 's1 anomaly_detected', 's1 incident_resolved', 's2 anomaly_detected', 's2 incident_resolved' ], 'incidents and their ends');
my @told = told('works');
is_deeply([ map { "$_->[0] " . @{ $_->[2] } } grep { $_->[2][0]{alert_type} eq 'anomaly_detected' } @told ], [ ('/works/api/anomalies/batch 1') x 2 ],
	'anomalies as an array to one endpoint');
is_deeply([ map { "$_->[0] " . @{ $_->[2] } } grep { $_->[2][0]{alert_type} eq 'incident_resolved' } @told ], [ ('/works/api/incidents/resolve 1') x 2 ],
	'ends as an array to the other');
is(encode_json($told[0][2][0]{anomalies}[0]{metadata}{status}) , '"OPEN"', 'the payload is that of smartbox.alerts');
deliver();
is(scalar told('works'), 4, 'each is sent once');

# ---------------------------------------------------------------------------
# Receivers that fail
# ---------------------------------------------------------------------------

# 503, nothing within the time, half an answer, and a closed connection.
$fake->answer('trouble', status => 503, headers => ['Retry-After: 3000'], body => 'Later', times => 1, next => 'half');
$fake->answer('half', body => 'x' x 100, truncate => 10, times => 1, next => 'half2');
$fake->answer('half2', body => 'x' x 100, stall => 10, times => 1, next => 'works');
receiver('trouble', 'webhook');
confirm('high', 's3');
detect('critical', 's3');
detect('none', 's3');
deliver();
is($node->safe_psql('shop', q{SELECT status, attempts, last_error, next_attempt_at > now() + interval '45 min'
	FROM smartbox.deliveries WHERE receiver = 'trouble' AND alert_number = 1}), 'pending|1|HTTP status 503: Later|t', 'a pause that is asked for is made');
deliver();
is(scalar told('trouble'), 1, 'and nothing is sent meanwhile');
for (1 .. 3) { pass_time(); deliver() }
is(states('trouble'), 'sent 3', 'in the end all is sent');
@told = told('trouble');
is_deeply([ map { $_->[2]{alert_type} . ' ' . ($_->[2]{overall_severity} || '') } @told ],
	[ ('anomaly_detected high') x 4, 'anomaly_detected critical', 'incident_resolved ' ], 'in order');
is(scalar(keys %{ { map { $_->[1] => 1 } @told[0 .. 3] } }), 1, 'one message has one key');
is(scalar(keys %{ { map { $_->[1] => 1 } @told } }), 3, 'three messages have three');

$fake->answer('bad', status => 422, body => 'no such field');
receiver('bad', 'webhook');
confirm('high', 's9');
deliver();
is($node->safe_psql('shop', q{SELECT status, last_error FROM smartbox.deliveries WHERE receiver = 'bad'}),
	'dead|HTTP status 422: no such field', 'a message that is refused is dead at once');
$fake->answer('bad', status => 401);
detect('critical', 's9');
deliver();
is($node->safe_psql('shop', q{SELECT status, last_error FROM smartbox.deliveries WHERE receiver = 'bad' AND alert_number > 1 AND status <> 'dead'}),
	'pending|HTTP status 401', 'a receiver that wants to know who it is may be told later');
detect('none', 's9');

# A receiver that says nothing holds up no other.
receiver('never', 'webhook');
$node->safe_psql('shop', q{UPDATE smartbox.receivers SET enabled = true WHERE receiver = 'works'});
confirm('high', map { "s$_" } 4 .. 8);
deliver();
is(states('never'), 'pending 5', 'all wait');
is($node->safe_psql('shop', q{SELECT string_agg(DISTINCT last_error, ',') FROM smartbox.deliveries WHERE receiver = 'never'}) =~ /timed out|timeout/i, 1, 'timed out');
is(scalar(grep { /^s[4-8] anomaly/ } told_of('works')), 5, 'the other receiver has its messages');
detect('none', map { "s$_" } 4 .. 8);

# ---------------------------------------------------------------------------
# Nothing is held while a receiver is waited for; kill -9
# ---------------------------------------------------------------------------

$node->safe_psql('shop', q{LOAD 'smartbox_anomaly'; ALTER SYSTEM SET smartbox_anomaly.delivery_timeout = '60s'});
$node->reload;
$fake->answer('slow', hold => 1);
receiver('slow', 'observability');
confirm('high', 's1', 's2');
detect('critical', 's1', 's2');
detect('none', 's2');

# A session that delivers and is waiting for the receiver.
sub start_delivery
{
	my ($n_before) = @_;
	my $session = Smartbox::Session->new($node, 'sender');

	$node->wait_for('shop', q{SELECT current_setting('smartbox_anomaly.delivery_timeout') FROM smartbox.delivery_obstacle() AS o}, '1min', 30);
	$session->ask('CALL deliver_alerts();');
	my $deadline = Time::HiRes::time() + 60;
	until (scalar(told('slow')) > $n_before)
	{
		die 'nothing is sent' if Time::HiRes::time() > $deadline;
		select(undef, undef, undef, 0.05);
	}
	return $session;
}

my $sender = start_delivery(1);
is($node->safe_psql('shop', q{SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE application_name = 'sender'}), 't',
	'no transaction id and no snapshot while it waits');
is($node->safe_psql('shop', q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
	WHERE a.application_name = 'sender' AND l.locktype <> 'virtualxid'}), '0', 'and no lock');
is(states('slow'), 'pending 3, sending 2', 'what it has claimed is leased');

# Two at once: the other one finds nothing to do.
deliver();
is(scalar told('slow'), 2, 'a second session sends nothing twice');

# The whole server goes down with the session that is sending.
my $pid = $node->safe_psql('shop', q{SELECT pid FROM pg_stat_activity WHERE application_name = 'sender'});
kill 'KILL', $pid;
$sender->end;
$node->poll_query_until('shop', 'SELECT true') or die 'the server does not come back';
is(states('slow'), 'pending 3, sending 2', 'killed: nothing is lost');
deliver();
is(scalar told('slow'), 2, 'and nothing is sent again before the lease is over');
pass_time();
$sender = start_delivery(3);
$node->stop('immediate');
$sender->end;
$node->start;
is(states('slow'), 'pending 3, sending 2', 'the same with the whole server');
pass_time();
$fake->release('slow');
deliver();
is(states('slow'), 'sent 5', 'then everything arrives');
my (%order, %key);
foreach my $one (told('slow'))
{
	my $message = $one->[2][0];
	my $what = $message->{alert_type} eq 'incident_resolved' ? 'end' : $message->{overall_severity};
	push @{ $order{ $message->{service} } }, $what;
	$key{"$message->{service} $what"}{ $one->[1] }++;
}
is_deeply(\%order, { s1 => [ ('high') x 3, 'critical' ], s2 => [ ('high') x 3, 'critical', 'end' ] }, 'in order, at least once');
is_deeply([ map { scalar keys %$_ } values %key ], [ (1) x 5 ], 'each under one key');

# ---------------------------------------------------------------------------
# Two sessions at once
# ---------------------------------------------------------------------------

receiver('both', 'webhook', max_per_minute => 'NULL');
$fake->answer('both');
$node->safe_psql('shop', q{INSERT INTO smartbox.services (service) SELECT 'm' || n FROM generate_series(1, 150) AS n});
confirm('high', map { "m$_" } 1 .. 150);
detect('critical', map { "m$_" } 1 .. 150);
my @sessions = map { Smartbox::Session->new($node, "both$_") } 1, 2;
$_->ask('CALL deliver_alerts();') foreach @sessions;
is($_->answer, '', 'a session has delivered') foreach @sessions;
deliver();
is(states('both'), 'sent 300', 'everything is sent');
my %times;
$times{ $_->[1] }++ foreach told('both');
is_deeply([ scalar(keys %times), scalar(grep { $_ != 1 } values %times) ], [ 300, 0 ], 'and everything once');
my %worst;
my $backward = 0;
foreach my $one (told('both'))
{
	my $message = $one->[2];
	$backward++ if $message->{overall_severity} eq 'high' && $worst{ $message->{service} };
	$worst{ $message->{service} } = 1 if $message->{overall_severity} eq 'critical';
}
is($backward, 0, 'in the order of each incident');

# ---------------------------------------------------------------------------
# Who calls it, and how
# ---------------------------------------------------------------------------

my $error;
$node->psql('shop', 'BEGIN; CALL deliver_alerts(); COMMIT', stderr => \$error);
like($error, qr/deliver_alerts\(\) cannot run inside a transaction block/, 'not inside of a transaction, which it would hold open');
detect('none', 'm1');
is($node->psql('shop', 'CALL run_cycle()', stderr => \$error), 0, 'a cycle') or diag($error);
is((told_of('both'))[-1], 'm1 incident_resolved', 'delivers, too');
is($node->safe_psql('shop', 'SELECT disarm_delivery()'), 't', 'until it is disarmed');
detect('none', 'm2');
is($node->psql('shop', 'CALL run_cycle()', stderr => \$error), 0, 'the next cycle');
unlike((told_of('both'))[-1], qr/^m2 incident/, 'does not');

done_testing();
