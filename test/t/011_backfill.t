# Backfill in pieces: what is interrupted loses nothing that was stored, and
# what the source finds too much is asked for in smaller parts.
use strict;
use warnings;
use IPC::Run ();
use Test::More;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::VictoriaMetrics;

my $n_services = 40;
my $days = 24;
my $now = int(time / 300) * 300;
my $begin = $now - $days * 86400;

# One gauge for each service, every five minutes: its value tells which it is
# and when it was.
sub value_at { my ($number, $time) = @_; return $number + ($time % 86400) / 300 / 1000; }
my %file = map { $_ => "$ENV{SMARTBOX_WORK}/tmp/backfill.$$.$_.jsonl" } 8, $n_services;
my %handle;
open $handle{$_}, '>', $file{$_} or die "$file{$_}: $!" foreach keys %file;
foreach my $number (1 .. $n_services)
{
	my @times = map { $begin + 300 * $_ } 1 .. $days * 288;
	my $line = sprintf qq({"metric":{"__name__":"http_requests:count:rate_5m","service_name":"s%02d","deployment_environment_name":"production"},"values":[%s],"timestamps":[%s]}\n),
	  $number, join(',', map { value_at($number, $_) } @times), join(',', map { "${_}000" } @times);
	print { $handle{$_} } $line foreach grep { $number <= $_ } keys %handle;
}
close $_ foreach values %handle;

my $source = Smartbox::VictoriaMetrics->start;
$source->import_file($file{$n_services});
my $node = Smartbox::Cluster->launch('backfill', "smartbox_anomaly.vm_endpoint = '" . $source->url . "'",
	'smartbox_anomaly.vm_max_retries = 0', 'restart_after_crash = on', 'max_worker_processes = 8');

sub query { return $node->safe_psql('shop', $_[0]) }

# What the source carries on after the last value is no part of it: the next
# interval may begin before this ends.
my $ending_query = "sum(http_requests:count:rate_5m{\$selector}) by (\$service_label) and on() (vector(time()) <= $now)";
query(q{UPDATE smartbox.metrics SET enabled = false WHERE metric <> 'request_rate'});
query("UPDATE smartbox.metrics SET query = '$ending_query' WHERE enabled");
is(query('SELECT count(*) FROM discover_services()'), $n_services, 'the services are discovered');

# The samples as they must be in the end, whatever happened on the way.
my $complete = $n_services * $days * 288;
sub is_complete
{
	my ($what) = @_;
	is(query("SELECT count(*), count(*) FILTER (WHERE abs(metric_values[1] - (substr(service, 2)::int + extract(epoch FROM ts)::bigint % 86400 / 300 / 1000.0)) < 1e-9)
		FROM smartbox.samples"),
		"$complete|$complete", $what);
	return;
}

sub forget_everything
{
	query(q{TRUNCATE smartbox.samples, smartbox.backfill_runs; UPDATE smartbox.services SET backfilled = '{}'});
	return;
}

# A session that begins a backfill while another holds a service fast, so that
# it stands still with some pieces stored; returns both and the process.
sub begin_and_stall
{
	my ($in, $out, $stall_in, $stall_out) = ('') x 4;
	my $stall = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$stall_in, '>', \$stall_out, '2>&1', IPC::Run::timeout(300));
	$stall_in = "BEGIN; SELECT 'held by ' || pg_backend_pid() || ': ' || count(*) FROM (SELECT FROM smartbox.services WHERE service >= 's30' FOR UPDATE) AS s;\n";
	$stall->pump until $stall_out =~ /held by (\d+): /;
	my $holder = $1;

	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(300));
	$in = "SELECT 'done ' || count(*) FROM backfill_metrics();\n";
	$session->pump_nb;

	# not any lock: workers wait for each other too, and then go on
	$node->wait_for('shop', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'backfilling %' AND $holder = ANY (pg_blocking_pids(pid))", '2', 120);
	my $pid = query(q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT ''done%' AND backend_type = 'client backend'});
	return { session => $session, out => \$out, in => \$in, stall => $stall, stall_in => \$stall_in, pid => $pid, holder => $holder };
}

sub finish
{
	my ($run) = @_;
	foreach my $which (qw(stall session))
	{
		${ $run->{ $which eq 'stall' ? 'stall_in' : 'in' } } .= "\\q\n";
		eval { $run->{$which}->finish };
	}
	return ${ $run->{out} };
}

# ---------- a cancel in the middle ----------

my $run = begin_and_stall();
my $stored = query('SELECT count(*) FROM smartbox.samples');
cmp_ok($stored, '>', 0, "$stored samples are stored while it runs");
is(query(q{SELECT status, services, pieces_done > 0, pieces_done < pieces, pieces_failed, samples, expected_end > now(), last_error
	FROM smartbox.backfill_progress}), "running|$n_services|t|t|0|$stored|t|", 'its progress is visible');
is(query(q{SELECT service IN (SELECT service FROM smartbox.samples) = (pieces_done > 0) FROM smartbox.backfill_runs GROUP BY 1}),
	't', 'service by service');
query("SELECT pg_cancel_backend($run->{pid})");
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'backfilling %'}, '0', 60);
like(finish($run), qr/canceling statement due to user request/, 'it can be cancelled');
is(query('SELECT count(*) FROM smartbox.samples'), $stored, 'what was stored stays');
is(query('SELECT status FROM smartbox.backfill_progress'), 'interrupted', 'and it is seen to be interrupted');
is(query(q{SELECT bool_and((upper(s.backfilled) IS NOT NULL) = EXISTS (SELECT FROM smartbox.samples x WHERE x.service = s.service))
	FROM smartbox.services s}), 't', 'the services that are stored are marked, and no others');
is(query(q{SELECT sum(samples) FROM backfill_metrics()}), $complete - $stored, 'a second call fetches the rest');
is_complete('and then there is everything');
is(query(q{SELECT status || ' ' || (pieces_done = pieces) || ' ' || samples FROM smartbox.backfill_progress ORDER BY started_at DESC LIMIT 1}),
	'succeeded true ' . ($complete - $stored), 'it has succeeded');
is(query(q{SELECT sum(samples) FROM backfill_metrics()}), 0, 'a third has nothing to do');

# ---------- a sample that is there, among many that are not ----------

my $known = $begin + 300 * 288;
query("DELETE FROM smartbox.samples WHERE ts <> to_timestamp($known); UPDATE smartbox.samples SET metric_values = '{77}' WHERE service = 's07'");
query("UPDATE smartbox.services SET backfilled = '{}'");
is(query('SELECT sum(samples) FROM backfill_metrics()'), $complete - ($n_services - 1), 'what is there is fetched again, and what is not');
is_complete('so that all is as the source has it');
is(query('SELECT service, extract(epoch FROM ts)::bigint, warnings FROM smartbox.samples WHERE warnings IS NOT NULL'),
	"s07|$known|{\"request_rate: corrected, was 77 when it was first fetched\"}", 'one of them was corrected');

# ---------- kill -9 in the middle ----------

forget_everything();
$run = begin_and_stall();
$stored = query('SELECT count(*) FROM smartbox.samples');
cmp_ok($stored, '>', 0, "$stored samples are stored when it is killed");
kill 'KILL', $run->{pid};
my $deadline = time + 240;
# The lock is let go by the crash alone: let go by the session that holds it,
# workers that the server has not ended yet would go on.
while (kill 0, $run->{holder})
{
	die 'the server does not end its sessions' if time > $deadline;
	select undef, undef, undef, 0.02;
}
finish($run);
while ($node->psql('shop', 'SELECT 1') != 0)
{
	die 'the server does not come back' if time > $deadline;
	select undef, undef, undef, 0.1;
}
is(query('SELECT count(*) FROM smartbox.samples'), $stored, 'after kill -9 what was stored is there');
is(query(q{SELECT sum(samples) FROM backfill_metrics()}), $complete - $stored, 'and a second call fetches the rest');
is_complete('so that nothing is missing');

# ---------- in a transaction block ----------

forget_everything();
is(query(q{BEGIN; SELECT sum(samples) FROM backfill_metrics('{s01,s02}'); ROLLBACK; SELECT count(*) FROM smartbox.samples;}),
	2 * $days * 288 . "\n0", 'in a transaction block it is part of that');

# ---------- no transaction while the source is waited for ----------

my $fake = Smartbox::FakeHttpServer->start;
my ($in, $out) = ('', '');
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(300));
$in = "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'; SET smartbox_anomaly.vm_timeout = '60s'; SELECT count(*) FROM backfill_metrics();\n";
$waiting->pump_nb;
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'backfilling %' AND wait_event_type = 'Extension'}, '2', 60);
is(query(q{SELECT count(*) FILTER (WHERE xact_start IS NULL AND backend_xmin IS NULL AND backend_xid IS NULL), count(*)
	FROM pg_stat_activity WHERE query LIKE 'backfilling %'}), '2|2', 'a worker that waits for the source has no transaction');
is(query(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.query LIKE 'backfilling %'}),
	'0', 'and no lock');
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%backfill_metrics();%' AND pid <> pg_backend_pid()});
eval { $waiting->finish };
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'backfilling %'}, '0', 60);

# ---------- a source that does not answer ----------

my ($said, $status);
$status = $node->psql('shop', q{SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:1'; SELECT count(*) FROM backfill_metrics()}, stderr => \$said);
isnt($status, 0, 'a source that does not answer is an error');
like($said, qr/ERROR:  could not fetch metric "request_rate" from "127\.0\.0\.1:1"\nDETAIL:  /, 'that says why');
is(query(q{SELECT status, pieces_failed = pieces, last_error FROM smartbox.backfill_progress ORDER BY started_at DESC LIMIT 1}),
	'failed|t|could not fetch metric "request_rate" from "127.0.0.1:1"', 'and so does the progress');

# ---------- what is too much is asked for in smaller parts ----------

forget_everything();
is(query(q{SET smartbox_anomaly.max_response_size = '64kB'; SELECT sum(samples) FROM backfill_metrics('{s01,s02,s03}')}),
	3 * $days * 288, 'answers are kept below max_response_size');

# Each series of this answer has a label that nobody planned for.
my $label = 'x' x 2000;
query(qq{UPDATE smartbox.metrics SET query = 'label_set(sum(http_requests:count:rate_5m{\$selector}) by (\$service_label), "x", "$label")'});
forget_everything();
is(query(q{SET smartbox_anomaly.max_response_size = '64kB';
	SELECT count(*), sum(metrics_present) FROM collect_metrics()}), "$n_services|$n_services",
	'an answer that turns out too large is asked for in halves');
$status = $node->psql('shop', q{SET smartbox_anomaly.max_response_size = '64kB';
	UPDATE smartbox.metrics SET query = replace(query, 'xxx', repeat('x', 100));
	SELECT count(*) FROM collect_metrics()}, stderr => \$said, on_error_stop => 1);
like($said, qr/answer for metric "request_rate" from "\S+" is too large|too long query/, 'one that no smaller part helps is an error');
query("UPDATE smartbox.metrics SET query = '$ending_query' WHERE enabled");

foreach my $limit ('-search.maxPointsPerTimeseries=1000', '-search.maxUniqueTimeseries=5', '-search.maxSamplesPerQuery=20000')
{
	my $narrow = Smartbox::VictoriaMetrics->start($limit);
	$narrow->import_file($file{8});
	forget_everything();
	is(query("SET smartbox_anomaly.vm_endpoint = '" . $narrow->url . q{'; SELECT sum(samples) FROM backfill_metrics('{s01,s02,s03,s04,s05,s06,s07,s08}')}),
		8 * $days * 288, "VictoriaMetrics with $limit gives everything");
	$narrow->stop;
}

done_testing();
