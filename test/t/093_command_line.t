# smartbox-train and smartbox-inference: JSON on standard output, messages on
# standard error, exit statuses, signals, and docs/command-line.md.
use strict;
use warnings;
use IPC::Run ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::Session;
use Test::More;
use Time::HiRes ();

my $bindir = `$ENV{PG_CONFIG} --bindir`;
chomp $bindir;
$ENV{PATH} = "$ENV{SMARTBOX_WORK}/pg/install$bindir:$ENV{PATH}";
delete $ENV{TERM};

my $node = Smartbox::Cluster->launch('shell');
my $hostile = q{--it's "a\b"; \! touch hacked :'services' $(touch hacked) {,} %s é};
my $folder = $node->basedir;

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'shop';

# Run a command; returns its exit status, what it printed and what it said.
sub run_command
{
	my ($out, $err) = ('', '');
	IPC::Run::run([@_], '<', \'', '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	return ($? & 127 ? "signal " . ($? & 127) : $? >> 8, $out, $err);
}

# What jq makes of a text.
sub jq
{
	my ($filter, $text) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'jq', '-rc', $filter ], '<', \$text, '>', \$out, '2>', \$err);
	chomp $out;
	return $err ne '' ? $err : $out;
}

sub query
{
	return $node->safe_psql('shop', $_[0]);
}

# ---------------------------------------------------------------------------
# Without a database
# ---------------------------------------------------------------------------

foreach my $command ('smartbox-train', 'smartbox-inference')
{
	my ($status, $out, $err) = run_command($command, '--version');
	is("$status $out", "0 $command (smartbox_anomaly) $ENV{SMARTBOX_VERSION}\n", "$command is installed and says its version");
	($status, $out, $err) = run_command($command, '--help');
	like($out, qr/^Usage:\n  $command \[OPTION\]\.\.\. \[SERVICE\]\.\.\.$/m, '... and how it is used');
	is("$status$err", '0', '... which is no failure');
	foreach my $wrong ([qw(--no-such-option)], [qw(-p)], [ $command =~ /train/ ? qw(--lookback-days=-1) : '--jobs=2' ])
	{
		($status, $out, $err) = run_command($command, @$wrong);
		is("$status$out", '2', "wrong usage: $command @$wrong");
		like($err, qr/Try "$command --help"/, '... is said');
	}
	($status, $out, $err) = run_command($command, '-d', 'nowhere');
	is("$status$out", '2', "$command without a connection fails");
	like($err, qr/database "nowhere" does not exist/, '... and says why');
	($status, $out, $err) = run_command($command, '-d', 'postgres');
	is("$status$out", '2', "$command without the extension fails");
	is($err, "$command: database postgres has no extension smartbox_anomaly\n", '... and says so');
}

# ---------------------------------------------------------------------------
# Training and detection
# ---------------------------------------------------------------------------

my ($status, $out, $err) = run_command('smartbox-inference');
is("$status$out", "0[]\n", 'without a service the array is empty');
is($err, "smartbox-inference: there is no service\n", '... and it is said');

$node->psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking'), ('search'), (:'hostile');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT service, to_timestamp(floor(extract(epoch FROM now()) / 300) * 300) - (8640 - n) * interval '5 minutes',
		ARRAY[50 * exp(0.05 * sin(n * 12.9898) + 0.05 * sin(n * 78.233)), 120 * exp(0.05 * sin(n * 39.425) + 0.05 * sin(n * 11.135)), 40, 8, 0.002]
	FROM smartbox.services, generate_series(1, 8640) AS n},
	extra_params => [ '-v', "hostile=$hostile" ], on_error_die => 1);
is(query('SELECT count(*) FROM smartbox.services'), '3', 'there are three services, one of a hostile name');

($status, $out, $err) = run_command('smartbox-inference');
is($status, 3, 'without a model nothing is judged');
is(jq('[.[].alert_type] | join(" ")', $out), 'error error error', '... as the array says');
like($err, qr/\Asmartbox-inference: services: 3, with an anomaly: 0, without a fresh sample or a model: 3\n\z/, '... and a message');

($status, $out, $err) = run_command('smartbox-train');
is("$status$err", '0', 'a training of all services says nothing but its answer');
is(jq('group_by(.service)[] | [length, ([.[].status] | unique | join(" "))] | @tsv', $out), join("\n", ("5\taccepted") x 3), '... a JSON array');
($status, $out, $err) = run_command('smartbox-train', '--verbose', '--jobs', '0', '--lookback-days=20', '--', 'booking', $hostile);
is($status, 0, 'a training of two services');
is(jq('[.[].service] | unique | sort | join(" ")', $out), "$hostile booking", '... takes a name as it is');
cmp_ok(jq('[.[].samples] | add', $out), '<=', 2 * 20 * 288, '... learns from as many days as it was told');
like($err, qr/^smartbox-train: booking business_hours: accepted$/m, '... and says what became of each model');
is(query(q{SELECT DISTINCT count(DISTINCT pid) FROM smartbox.training_runs GROUP BY service HAVING count(*) > 1}), '2', '... without workers');
ok(!-e 'hacked', '... and runs nothing that a name says');

($status, $out, $err) = run_command('smartbox-train', 'booking', 'serach');
is("$status$out", '2', 'an unknown service is an error');
like($err, qr/ERROR:  service "serach" is not known\nDETAIL:  The nearest known names are "search"/, '... that the server explains');
($status, $out, $err) = run_command('smartbox-train', '--jobs=9999', 'booking');
is("$status$out", '2', 'so is an impossible number of workers');
like($err, qr/9999 is outside the valid range/, '... with the range');

($status, $out, $err) = run_command('smartbox-inference');
is("$status$err", '0', 'nothing is wrong');
is(jq('[.[].alert_type] | join(" ")', $out), 'no_anomaly no_anomaly no_anomaly', '... as the array says');

query(q{UPDATE smartbox.samples SET metric_values[4] = 8000 WHERE service <> 'search' AND ts = (SELECT max(ts) FROM smartbox.samples);
	DELETE FROM smartbox.detections});
($status, $out, $err) = run_command('smartbox-inference', '-v');
is($status, 1, 'an anomaly is a status of its own');
is(jq('.[] | select(.alert_type == "anomaly_detected") | .service', $out), "$hostile\nbooking", '... which jq finds');
isnt(jq('.[] | select(.service == "search") | .explanation // empty | length', $out), '', '... with the explanation that --verbose adds');
like($err, qr/^smartbox-inference: booking: high \w+, incident incident_[0-9a-f]{12} is SUSPECTED/m, '... and says in words');
($status, $out, $err) = run_command('smartbox-inference', '--exit-zero', '--', $hostile);
is($status, 0, '--exit-zero makes it none');
is(jq('.[].alert_type', $out), 'anomaly_detected', '... with the same answer');

# ---------------------------------------------------------------------------
# Whoever may do no more than this
# ---------------------------------------------------------------------------

query('CREATE ROLE caller LOGIN; GRANT EXECUTE ON FUNCTION run_inference(text[], boolean) TO caller');
($status, $out, $err) = run_command('smartbox-inference', '-U', 'caller', '-d', "dbname=shop host=$ENV{PGHOST}", 'search');
is("$status$out", '2', 'a role without the privileges gets an error');
like($err, qr/permission denied for table/, '... that the server explains');
is((run_command('smartbox-inference', '-p', $node->port, '-h', $node->host, '-U', 'postgres', '-w', 'search'))[0], 0, 'connection options are as of psql');

# ---------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------

sub page
{
	local $/;
	open my $file, '<', 'docs/command-line.md' or die "docs/command-line.md: $!";
	return <$file>;
}

query(q{DELETE FROM smartbox.services WHERE service NOT IN ('booking', 'search'); DELETE FROM smartbox.detections; DELETE FROM smartbox.incidents});
my @blocks = page() =~ /^```(\w*)\n(.*?)^```$/msg;
my ($runs, $last) = (0, '');
while (my ($kind, $text) = splice @blocks, 0, 2)
{
	if ($kind eq 'text') { next if $text =~ /^training \[/; is($last, $text, '... and prints what the page shows'); next }
	my ($environment, @commands) = ('', $text);
	if ($kind eq 'crontab')
	{
		$environment = join '', map { "export $_\n" } grep { !/^PATH=/ } $text =~ /^(\w+=.*)$/mg;
		@commands = map { "$environment$_" } $text =~ /^(?:[\d*\/-]+\s+){5}(.*)$/mg;
		is(scalar @commands, 2, 'the crontab has two jobs');
	}
	foreach my $command (@commands)
	{
		($status, $last, $err) = run_command('bash', '-c', "cd '$folder' && set -o pipefail\n$command");
		unlike($err, qr/ERROR|not found|jq: error|WARNING/, 'the page: ' . (grep { !/^export/ } split /\n/, $command)[0]) or diag($err);
		is($status, (split /\n/, $command)[-1] =~ /^smartbox-inference(?!.*(?:exit-zero|\|\|))/ ? 1 : 0, '... with its status');
		$runs++;
	}
}
cmp_ok($runs, '>=', 8, 'commands of the page were run');

# ---------------------------------------------------------------------------
# Trainings that do not go well
# ---------------------------------------------------------------------------

query(q{INSERT INTO smartbox.services (service) VALUES ('young');
	INSERT INTO smartbox.samples SELECT 'young', ts, metric_values FROM smartbox.samples WHERE service = 'search' ORDER BY ts DESC LIMIT 20});
($status, $out, $err) = run_command('smartbox-train', 'young');
is($status, 3, 'too few samples are a status of their own');
like(jq('[.[].status] | unique | join(" ")', $out), qr/insufficient/, '... as the array says');
query(q{ALTER TABLE smartbox.services DISABLE TRIGGER ALL;
	UPDATE smartbox.services SET time_zone = 'Mars/Olympus' WHERE service = 'young';
	ALTER TABLE smartbox.services ENABLE TRIGGER ALL;});
($status, $out, $err) = run_command('smartbox-train');
is($status, 1, 'a service that fails is one, too');
is(jq('.[] | select(.status == "failed") | .service', $out), 'young', '... which the array names');
like($err, qr/^smartbox-train: young: failed: time zone "Mars\/Olympus"/m, '... and a message');
query(q{DELETE FROM smartbox.services WHERE service = 'young'});

# ---------------------------------------------------------------------------
# Progress, and signals
# ---------------------------------------------------------------------------

# As long as somebody else holds it, the training of a service waits.
my $holder = Smartbox::Session->new($node, 'holder');
my $hold = q{BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('smartbox_anomaly training of search', 0));};
my $waiting = q{SELECT string_agg(service || ' ' || status, ', ' ORDER BY service) FROM smartbox.training_progress};
my $statements = q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%train\_models(%' AND pid <> pg_backend_pid() AND state = 'active'};

sub pump_until
{
	my ($run, $text, $pattern) = @_;
	my $deadline = Time::HiRes::time() + 120;

	while ($$text !~ $pattern)
	{
		if (Time::HiRes::time() > $deadline || !$run->pumpable)
		{
			diag($$text);
			die "$pattern was not shown";
		}
		$run->pump_nb;
		select(undef, undef, undef, 0.05);
	}
	return;
}

# Train on a terminal, and interrupt it when that shows a text.
sub interrupt_when
{
	my ($pattern, $name) = @_;
	local $ENV{TERM} = 'xterm';
	my ($keys, $screen) = ('', '');
	my $run = IPC::Run::start(['smartbox-train'], '<pty<', \$keys, '>pty>', \$screen);

	pump_until($run, \$screen, $pattern);
	like($screen, $pattern, $name);
	$keys .= "\cC";
	pump_until($run, \$screen, qr/canceling statement due to user request/);
	$run->finish;
	is($? & 127, 2, 'Ctrl-C ends the command');
	is($node->wait_for('shop', $statements, '0', 60), '0', '... and its work on the server');
	unlike($screen, qr/"status"/, '... without an answer');
	return;
}

$holder->say($hold);
interrupt_when(qr/training \[#{15}\.{15}\] 1 of 2 services/, 'a terminal shows how far the training is');
is(query($waiting), 'booking succeeded, search interrupted', 'what was over stays');
foreach my $signal (qw(TERM HUP))
{
	my ($said, $printed) = ('', '');
	my $run = IPC::Run::start(['smartbox-train'], '<', \'', '>', \$printed, '2>', \$said);

	$node->wait_for('shop', $waiting, 'booking succeeded, search running', 120);
	$run->signal($signal);
	$run->finish;
	is($? & 127, $signal eq 'TERM' ? 15 : 1, "SIG$signal ends the command");
	is($node->wait_for('shop', $statements, '0', 60), '0', '... and its work on the server');
	like($said, qr/\A(?:Cancel request sent\n)?ERROR:  canceling statement due to user request\n\z/, '... which says so; nothing is drawn that is no terminal');
}
$holder->say('COMMIT;');
query(q{INSERT INTO smartbox.services (service) SELECT 'empty' || n FROM generate_series(1, 60) AS n});
my $slow = Smartbox::FakeHttpServer->start;
$slow->answer('slow', body => '{"status": "success", "data": {"resultType": "matrix", "result": []}}', times => 10, next => 'held');
$slow->answer('held', body => '{}', hold => 1);
query("LOAD 'smartbox_anomaly'; ALTER SYSTEM SET smartbox_anomaly.vm_endpoint = '" . $slow->url('slow') . "'; SELECT pg_reload_conf()");
$node->wait_for('shop', q{LOAD 'smartbox_anomaly'; SHOW smartbox_anomaly.vm_endpoint}, $slow->url('slow'), 60);
interrupt_when(qr/fetching \[#*\.+\] \d+ of \d+ pieces of history/, '... or how much history was fetched');
$slow->release('held');
query("ALTER SYSTEM RESET smartbox_anomaly.vm_endpoint; SELECT pg_reload_conf()");
is(`ls '$ENV{TMPDIR}' | grep -c '^tmp\\.'` + 0, 0, 'no file is left behind');
is((run_command('smartbox-train', 'search'))[0], 0, 'the next training goes through');

done_testing();
