# Two sessions at once: one incident, one row, and nobody's close is lost.
use strict;
use warnings;
use IPC::Run ();
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('concurrency', 'autovacuum = off', 'deadlock_timeout = 100ms');

# A psql that stays.
sub session
{
	my ($name) = @_;
	my ($in, $out) = ('', '');
	my %session = (name => $name, in => \$in, out => \$out);

	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('shop') . " application_name=$name" ],
		'<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(60));
	return \%session;
}

# Send statements, which may have to wait for another session.
sub ask
{
	my ($session, $statements) = @_;
	${ $session->{in} } .= "$statements\n\\echo answered\n";
	$session->{run}->pump_nb;
	return;
}

# What came of them: rows, errors.
sub answer
{
	my ($session) = @_;
	$session->{run}->pump until ${ $session->{out} } =~ s/\A(.*?)^answered\n//ms;
	my $answer = $1;
	chomp $answer;
	return $answer;
}

sub say_to
{
	my ($session, $statements) = @_;
	ask($session, $statements);
	return answer($session);
}

sub waits_for_lock
{
	my ($session) = @_;
	$node->wait_for('shop', "SELECT count(*) FROM pg_stat_activity WHERE application_name = '$session->{name}' AND wait_event_type = 'Lock'", '1', 30);
	return 1;
}

sub detection
{
	my ($service, $minute, $name) = @_;
	my $anomalies = $name ? qq{[{"name": "$name", "score": -0.4}]} : '[]';
	return "INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('$service', '2024-01-15 10:00+00'::timestamptz + $minute * interval '1 min', "
	  . ($name ? 'true' : 'false') . qq{, '{"anomalies": $anomalies}') RETURNING payload #>> '{anomalies,0,metadata,incident_action}';};
}

sub incidents
{
	my ($service) = @_;
	return $node->safe_psql('shop', "SELECT anomaly_name, status, occurrence_count, missed_cycles FROM smartbox.incidents WHERE service = '$service' ORDER BY first_seen, anomaly_name");
}

my ($one, $two) = (session('one'), session('two'));

# Different instants of one service
$node->safe_psql('shop', "INSERT INTO smartbox.services (service) VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f')");
is(say_to($one, 'BEGIN; ' . detection('a', 0, 'x')), 'CREATE', 'one session begins an incident');
ask($two, detection('a', 5, 'x'));
ok(waits_for_lock($two), 'a second one waits');
say_to($one, 'COMMIT;');
is(answer($two), 'CONFIRM', 'and then continues what the first began');
is(incidents('a'), 'x|OPEN|2|0', 'there is one incident');

# Other services do not wait.
say_to($one, 'BEGIN; ' . detection('b', 0, 'x'));
is(say_to($two, detection('c', 0, 'x')), 'CREATE', 'another service does not wait');
say_to($one, 'ROLLBACK;');
is(incidents('b'), '', 'what is rolled back leaves nothing');
is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.fingerprints WHERE service = 'b'"), '0', 'not a fingerprint either');

# The first one rolls back
say_to($one, 'BEGIN; ' . detection('b', 0, 'x'));
ask($two, detection('b', 5, 'x'));
waits_for_lock($two);
say_to($one, 'ROLLBACK;');
is(answer($two), 'CREATE', 'when the first one rolls back the second begins the incident');
is(incidents('b'), 'x|SUSPECTED|1|0', 'which is the only one');

# The same instant
say_to($one, 'BEGIN; ' . detection('d', 0, 'x'));
ask($two, detection('d', 0, 'x'));
waits_for_lock($two);
say_to($one, 'COMMIT;');
is(answer($two), '', 'the same instant from two sessions: the second changes nothing, without an error');
is(incidents('d'), 'x|SUSPECTED|1|0', 'it counts once');
is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.detections WHERE service = 'd'"), '1', 'and is one row');

# Out of order: the later instant comes first
say_to($one, 'BEGIN; ' . detection('d', 10, 'x'));
ask($two, detection('d', 5));
waits_for_lock($two);
say_to($one, 'COMMIT;');
answer($two);
is(incidents('d'), 'x|OPEN|2|0', 'one that is overtaken while it waits moves nothing');

# A snapshot that is too old to see the other's incident
say_to($one, 'BEGIN; ' . detection('e', 0, 'x'));
say_to($two, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
ask($two, detection('e', 5, 'x'));
waits_for_lock($two);
say_to($one, 'COMMIT;');
like(answer($two), qr/could not serialize access|duplicate key/, 'with REPEATABLE READ it is an error, not a second incident');
say_to($two, 'ROLLBACK;');
is(incidents('e'), 'x|SUSPECTED|1|0', 'there is one incident');

# Somebody closes an incident while a detection continues it
$node->safe_psql('shop', detection('f', 0, 'x') . detection('f', 5, 'x'));
my $close = "UPDATE smartbox.incidents SET status = 'CLOSED', resolved_at = last_seen, resolution_reason = 'by hand' WHERE service = 'f' AND status <> 'CLOSED';";
say_to($one, "BEGIN; $close");
ask($two, detection('f', 10, 'x'));
waits_for_lock($two);
say_to($one, 'COMMIT;');
is(answer($two), 'REOPEN', 'a detection that waited for a close sees it');
is($node->safe_psql('shop', "SELECT string_agg(event::text, ' ' ORDER BY event_number) FROM smartbox.incident_events WHERE service = 'f'"),
	'CREATE CONFIRM REOPEN', 'and says so');
say_to($two, 'BEGIN; ' . detection('f', 15));
ask($one, $close);
waits_for_lock($one);
say_to($two, 'COMMIT;');
answer($one);
is(incidents('f'), 'x|CLOSED|3|1', 'a close that waited for a detection closes what it left');
say_to($one, "BEGIN; UPDATE smartbox.incidents SET description = 'looked at' WHERE service = 'f';");
ask($two, detection('f', 20));
is(answer($two), '', 'a closed incident is in the way of nobody');
say_to($one, 'COMMIT;');

# Whole cycles of many services, against each other, as the detector inserts
# them: in one order, so that nobody waits in a circle.
$node->safe_psql('shop', "INSERT INTO smartbox.services (service, category) SELECT 'fleet' || n, 'standard' FROM generate_series(1, 200) AS n");
my @cycles = map {
	my $minute = $_;
	"INSERT INTO smartbox.detections (service, ts, is_anomaly, severity) "
	  . "SELECT service, '2024-01-15 10:00+00'::timestamptz + $minute * interval '1 min', true, 'high' FROM smartbox.services WHERE service ~ '^fleet' ORDER BY service;"
} (1, 1, 2, 2);
ask($one, $cycles[0] . $cycles[2]);
ask($two, $cycles[1] . $cycles[3]);
is(answer($one), '', 'one session goes through two cycles');
is(answer($two), '', 'another goes through the same');
is($node->safe_psql('shop', q{SELECT count(*), count(DISTINCT service), min(status), max(status), min(occurrence_count), max(occurrence_count)
	FROM smartbox.incidents WHERE service ~ '^fleet'}), '200|200|OPEN|OPEN|2|2', 'every service has one incident, and each cycle counts once');

foreach my $session ($one, $two)
{
	${ $session->{in} } .= "\\q\n";
	$session->{run}->finish;
}
done_testing();
