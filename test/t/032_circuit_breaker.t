# A server that does not answer is left alone for a while, by all sessions when
# the library is preloaded, and by each for itself when it is not.
use strict;
use warnings;
use IPC::Run ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $fake = Smartbox::FakeHttpServer->start;
my $host = $fake->host;
my @settings = ('smartbox_anomaly.vm_max_retries = 0', 'log_min_messages = log', 'restart_after_crash = on');
my $node = Smartbox::Cluster->launch('breaker', "shared_preload_libraries = 'smartbox_anomaly'", @settings);
my $works = Smartbox::FakeHttpServer::vector([ 'booking', '0.5' ]);

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'booking', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', '{10,100,50,5,0.001}'
	FROM generate_series(3, 10) AS n;
	INSERT INTO smartbox.detections (service, ts, is_anomaly, severity, score)
	SELECT 'booking', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', true, 'high', -0.5
	FROM generate_series(4, 3, -1) AS n});

# Lines for a session of its own, with the endpoint and settings set.
sub statements
{
	my ($name, $statements, @set) = @_;
	return '\set VERBOSITY verbose', "SET smartbox_anomaly.vm_endpoint = '" . $fake->url($name) . "';",
	  map({ "SET smartbox_anomaly.$_;" } @set), $statements;
}

sub ask
{
	my ($on, $name, $statements, @set) = @_;
	my ($output, $said) = ('', '');

	$on->psql('shop', join("\n", statements($name, $statements, @set)), stdout => \$output, stderr => \$said, extra_params => ['-q'], on_error_stop => 0);
	return ($output, $said);
}

my $collect = 'SELECT max(metrics_present) FROM collect_metrics()';

sub state_of
{
	my ($on, $name) = @_;
	return $on->safe_psql('shop', "SELECT state, failures FROM smartbox.circuit_breakers WHERE endpoint = '" . $fake->url($name) . "'");
}

# psql that runs beside the others.
sub begin
{
	my ($name, $statements, @set) = @_;
	my $out = '';
	my @commands = map { ('-c', $_) } map { split /(?<=;) / } statements($name, $statements, @set);
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop'), @commands ], '>', \$out, '2>&1', IPC::Run::timeout(60));
	return { run => $run, out => \$out };
}

sub end_of
{
	my ($session) = @_;
	$session->{run}->finish;
	return ${ $session->{out} };
}

sub until_true
{
	my ($what, $condition) = @_;
	my $deadline = time + 60;

	until ($condition->())
	{
		die "it does not come to this: $what" if time > $deadline;
		select undef, undef, undef, 0.02;
	}
	return;
}

# ---------- opening ----------

my ($output, $said);
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.circuit_breakers'), '0', 'at first no endpoint is known');
for my $i (1 .. 5)
{
	is(state_of($node, 'flaky'), 'closed|' . ($i - 1), 'closed after ' . ($i - 1) . ' failures') if $i > 1;
	$fake->answer('flaky', status => 503, body => 'No.');
	(undef, $said) = ask($node, 'flaky', $collect);
	like($said, qr/ERROR:  38000: could not fetch metric "\w+" from "\Q$host\E": HTTP status 503/, "call $i goes out and fails");
}
is(state_of($node, 'flaky'), 'open|5', 'open after five calls of different sessions, each of five requests');
is(scalar $fake->requests('flaky'), 25, 'all of these were sent');
(undef, $said) = ask($node, 'flaky', $collect);
like($said, qr/ERROR:  08006: circuit breaker of "\Q$host\E" is open until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\S*$/m, 'the sixth call fails with the time until when');
like($said, qr/^HINT:  See smartbox\.circuit_breakers; .*reset_circuit_breaker\(\)/m, 'and a hint');
is(scalar $fake->requests('flaky'), 25, 'and nothing is sent');
is($node->safe_psql('shop', q{SELECT next_probe_at - opened_at, last_error, last_failure = opened_at, last_success, scope FROM smartbox.circuit_breakers}),
	'00:05:00|HTTP status 503|t||server', 'the view says since when, until when and why');
is($node->safe_psql('shop', q{SELECT history->0->>'state', history->0->>'reason' FROM smartbox.circuit_breakers}), 'open|HTTP status 503', 'with its history');
is($node->safe_psql('shop', q{SELECT event_number, ts = opened_at, e.state, e.failures, reason
		FROM smartbox.circuit_breaker_events e JOIN smartbox.circuit_breakers b USING (endpoint)}),
	'1|t|open|5|HTTP status 503', 'which is there as rows too');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile),
	qr/LOG:  circuit breaker of "\Q${\$fake->url('flaky')}\E" is open until 20.*\n.*DETAIL:  5 calls in a row failed, the last one with: HTTP status 503/,
	'and in the log of the server, which outlives it');
is((ask($node, 'other', $collect))[1] =~ /HTTP status 500/, 1, 'another endpoint is asked as before');

# ---------- the cycle goes on ----------

($output, $said) = ask($node, 'flaky', 'CALL run_cycle()');
is(() = $said =~ /WARNING/g, 1, 'a cycle warns once') or diag($said);
like($said, qr/WARNING:  08006: metrics were not collected: circuit breaker of "\Q$host\E" is open until/, 'that the source is not asked');
is($node->safe_psql('shop', 'SELECT status, missed_cycles FROM smartbox.incidents'), 'OPEN|0', 'and incidents are held');
($output, $said) = ask($node, 'flaky', q{SELECT detect_anomalies('booking')->>'alert_type'});
like($output, qr/no_data/, 'a detection goes on with what is there');

# ---------- by hand ----------

is((ask($node, 'flaky', q{SELECT reset_circuit_breaker('http://nobody')}))[1] =~ /ERROR:  42704: endpoint "http:\/\/nobody" has no circuit breaker/, 1, 'an endpoint that nobody knows');
is($node->safe_psql('shop', "SELECT reset_circuit_breaker('" . $fake->url('flaky') . "')"), '1', 'it can be closed by hand');
is(state_of($node, 'flaky'), 'closed|0', 'then it is');
is($node->safe_psql('shop', 'SELECT reset_circuit_breaker()'), '0', 'nothing else was open');

# ---------- exactly one probe ----------

my @short = ('circuit_breaker_timeout = 200');
ask($node, 'probed', $collect, @short) for 1 .. 5;
like(state_of($node, 'probed'), qr/^(?:open|half-open)\|5$/, 'an endpoint whose breaker has opened');
$node->wait_for('shop', "SELECT state FROM smartbox.circuit_breakers WHERE endpoint ~ 'probed'", 'half-open', 30);
$fake->answer('probed', body => $works, hold => 1);
my $before = $fake->requests('probed');
my @sessions = map { begin('probed', $collect, @short) } 1 .. 12;
until_true('one request arrives', sub { $fake->requests('probed') > $before });
sub said_by_all
{
	my (@sessions) = @_;
	$_->{run}->pump_nb foreach @sessions;
	return join '', map { ${ $_->{out} } } @sessions;
}
until_true('the others are refused', sub { 11 == (() = said_by_all(@sessions) =~ /^HINT/mg) });
is($fake->requests('probed') - $before, 1, 'of twelve sessions one sends one request');
is(() = join('', map { ${ $_->{out} } } @sessions) =~ /ERROR:  08006: circuit breaker of "\Q$host\E" is half-open: another session's probe is under way, for 20/g, 11,
	'the others are told about the probe');
is(state_of($node, 'probed'), 'half-open|5', 'meanwhile it is half-open');
$fake->release('probed');
like(join('', map { end_of($_) } @sessions), qr/^5$/m, 'when the probe is answered, the other requests of its call go out');
is($fake->requests('probed') - $before, 5, 'which were four');
is(state_of($node, 'probed'), 'closed|0', 'and the breaker is closed');
is((ask($node, 'probed', $collect))[0], '5', 'for all sessions');
is($node->safe_psql('shop', q{SELECT string_agg(state, ',' ORDER BY event_number) FROM smartbox.circuit_breaker_events WHERE endpoint ~ 'probed'}),
	'open,half-open,closed', 'as the history says');

# A probe that fails.
$fake->answer('probed', status => 503);
ask($node, 'probed', $collect, @short) for 1 .. 5;
$node->wait_for('shop', "SELECT state FROM smartbox.circuit_breakers WHERE endpoint ~ 'probed'", 'half-open', 30);
$before = $fake->requests('probed');
(undef, $said) = ask($node, 'probed', $collect, 'vm_max_retries = 3');
like($said, qr/HTTP status 503/, 'a probe that fails says why');
is($fake->requests('probed') - $before, 1, 'after one request, without a retry');
is(state_of($node, 'probed'), 'open|6', 'and the breaker is open again');

# ---------- a probe that ends without an outcome ----------

sub probing_session
{
	my @set = @_;
	$node->wait_for('shop', "SELECT state FROM smartbox.circuit_breakers WHERE endpoint ~ 'probed'", 'half-open', 30);
	$fake->hold('probed');
	$fake->answer('probed', body => $works, hold => 1);
	my $requests = $fake->requests('probed');
	my $session = begin('probed', "SET application_name = 'probe'; $collect", @short, @set);
	until_true('the probe arrives', sub { $fake->requests('probed') > $requests });
	return $session;
}

# Have it open again, for a short time.
sub open_again
{
	$fake->answer('probed', status => 503);
	$node->safe_psql('shop', 'SELECT reset_circuit_breaker()');
	ask($node, 'probed', $collect, @short) for 1 .. 5;
	return;
}

open_again();
foreach my $how (qw(pg_cancel_backend pg_terminate_backend))
{
	my $session = probing_session();
	$node->safe_psql('shop', "SELECT $how(pid) FROM pg_stat_activity WHERE application_name = 'probe'");
	end_of($session);
	like(state_of($node, 'probed'), qr/^half-open\|\d+$/, "$how: decides nothing");
	$fake->release('probed');
	is((ask($node, 'probed', $collect, @short))[0], '5', 'and the next call is the probe');
	open_again();
}

# One that never comes back holds the others off for its lease only.
my $stuck = probing_session('vm_timeout = 3000');
my ($pid) = $node->safe_psql('shop', "SELECT pid FROM pg_stat_activity WHERE application_name = 'probe'");
kill 'STOP', $pid;
$fake->release('probed');
like((ask($node, 'probed', $collect, @short))[1], qr/another session's probe is under way/, 'a stopped process has the probe');
until_true('the lease ends', sub { (ask($node, 'probed', $collect, @short))[0] eq '5' });
is(state_of($node, 'probed'), 'closed|0', 'when its lease is over another session has closed the breaker');
kill 'CONT', $pid;
end_of($stuck);
is(state_of($node, 'probed'), 'closed|0', 'what the late one says does not open it');

# ---------- what does not count ----------

foreach my $case ([ 404, 'an address without an API' ], [ 401, 'want of a password' ], [ 422, 'a bad query' ], [ 429, 'too many requests' ])
{
	my ($status, $what) = @$case;
	$fake->answer("status$status", status => $status);
	ask($node, "status$status", $collect) for 1 .. 6;
	is(state_of($node, "status$status"), 'closed|0', "$what is an answer");
}
$fake->answer('unreadable', body => '<html>');
ask($node, 'unreadable', $collect) for 1 .. 6;
is(state_of($node, 'unreadable'), 'closed|0', 'what cannot be read is an answer');
ask($node, 'never', "SET statement_timeout = '50ms'; $collect") for 1 .. 6;
is(state_of($node, 'never'), 'closed|0', 'a cancelled call does not count');
ask($node, 'never', $collect, 'vm_timeout = 50') for 1 .. 5;
is(state_of($node, 'never'), 'open|5', 'five that timed out do');
$fake->answer('half', status => 500, times => 3, next => 'whole');
$fake->answer('whole', body => $works);
ask($node, 'half', $collect);
is(state_of($node, 'half'), 'closed|0', 'a call of which something was answered does not count');

# ---------- crash and no preloading ----------

$node->safe_psql('shop', 'SELECT reset_circuit_breaker()');
my $session = begin('never', "SET application_name = 'killed'; $collect");
$node->wait_for('shop', "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'killed' AND wait_event_type = 'Extension'", '1', 30);
kill 'KILL', $node->safe_psql('shop', "SELECT pid FROM pg_stat_activity WHERE application_name = 'killed'");
end_of($session);
until_true('the server is up again', sub { $node->psql('shop', 'SELECT 1') == 0 });
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.circuit_breakers'), '0', 'after kill -9 of a session all is forgotten');
is((ask($node, 'whole', $collect))[0], '5', 'and works');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
($output, $said) = ask($node, 'never', "$collect;\n" x 6 . 'SELECT state, failures, scope FROM smartbox.circuit_breakers', 'vm_timeout = 20');
like($output, qr/^open\|5\|session$/m, 'without preloading a session has its own');
is(() = $said =~ /circuit breaker of/g, 1, 'which refuses its calls');
like((ask($node, 'never', $collect, 'vm_timeout = 20'))[1], qr/timed out/, 'and no other session\'s');

done_testing();
