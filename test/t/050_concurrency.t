# Two sessions at once: one incident, one row, and nobody's close is lost.
use strict;
use warnings;
use Smartbox::Cluster;
use Smartbox::Session;
use Test::More;

my $node = Smartbox::Cluster->launch('concurrency', 'autovacuum = off', 'deadlock_timeout = 100ms');

sub waits_for_lock
{
	my ($session) = @_;
	my $name = $session->name;

	$node->wait_for('shop', "SELECT count(*) FROM pg_stat_activity WHERE application_name = '$name' AND wait_event_type = 'Lock'", '1', 30);
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

my ($one, $two) = (Smartbox::Session->new($node, 'one'), Smartbox::Session->new($node, 'two'));

# Different instants of one service
$node->safe_psql('shop', "INSERT INTO smartbox.services (service) VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f')");
is($one->say('BEGIN; ' . detection('a', 0, 'x')), 'CREATE', 'one session begins an incident');
$two->ask(detection('a', 5, 'x'));
ok(waits_for_lock($two), 'a second one waits');
$one->say('COMMIT;');
is($two->answer, 'CONFIRM', 'and then continues what the first began');
is(incidents('a'), 'x|OPEN|2|0', 'there is one incident');

# Other services do not wait.
$one->say('BEGIN; ' . detection('b', 0, 'x'));
is($two->say(detection('c', 0, 'x')), 'CREATE', 'another service does not wait');
$one->say('ROLLBACK;');
is(incidents('b'), '', 'what is rolled back leaves nothing');
is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.fingerprints WHERE service = 'b'"), '0', 'not a fingerprint either');

# The first one rolls back
$one->say('BEGIN; ' . detection('b', 0, 'x'));
$two->ask(detection('b', 5, 'x'));
waits_for_lock($two);
$one->say('ROLLBACK;');
is($two->answer, 'CREATE', 'when the first one rolls back the second begins the incident');
is(incidents('b'), 'x|SUSPECTED|1|0', 'which is the only one');

# The same instant
$one->say('BEGIN; ' . detection('d', 0, 'x'));
$two->ask(detection('d', 0, 'x'));
waits_for_lock($two);
$one->say('COMMIT;');
is($two->answer, '', 'the same instant from two sessions: the second changes nothing, without an error');
is(incidents('d'), 'x|SUSPECTED|1|0', 'it counts once');
is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.detections WHERE service = 'd'"), '1', 'and is one row');

# Out of order: the later instant comes first
$one->say('BEGIN; ' . detection('d', 10, 'x'));
$two->ask(detection('d', 5));
waits_for_lock($two);
$one->say('COMMIT;');
$two->answer;
is(incidents('d'), 'x|OPEN|2|0', 'one that is overtaken while it waits moves nothing');

# A snapshot that is too old to see the other's incident
$one->say('BEGIN; ' . detection('e', 0, 'x'));
$two->say('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
$two->ask(detection('e', 5, 'x'));
waits_for_lock($two);
$one->say('COMMIT;');
like($two->answer, qr/could not serialize access|duplicate key/, 'with REPEATABLE READ it is an error, not a second incident');
$two->say('ROLLBACK;');
is(incidents('e'), 'x|SUSPECTED|1|0', 'there is one incident');

# Somebody closes an incident while a detection continues it
$node->safe_psql('shop', detection('f', 0, 'x') . detection('f', 5, 'x'));
my $close = "UPDATE smartbox.incidents SET status = 'CLOSED', resolved_at = last_seen, resolution_reason = 'by hand' WHERE service = 'f' AND status <> 'CLOSED';";
$one->say("BEGIN; $close");
$two->ask(detection('f', 10, 'x'));
waits_for_lock($two);
$one->say('COMMIT;');
is($two->answer, 'REOPEN', 'a detection that waited for a close sees it');
is($node->safe_psql('shop', "SELECT string_agg(event::text, ' ' ORDER BY event_number) FROM smartbox.incident_events WHERE service = 'f'"),
	'CREATE CONFIRM REOPEN', 'and says so');
$two->say('BEGIN; ' . detection('f', 15));
$one->ask($close);
waits_for_lock($one);
$two->say('COMMIT;');
$one->answer;
is(incidents('f'), 'x|CLOSED|3|1', 'a close that waited for a detection closes what it left');
$one->say("BEGIN; UPDATE smartbox.incidents SET description = 'looked at' WHERE service = 'f';");
$two->ask(detection('f', 20));
is($two->answer, '', 'a closed incident is in the way of nobody');
$one->say('COMMIT;');

# An operator closes while a detection continues
$node->safe_psql('shop', "INSERT INTO smartbox.services (service) VALUES ('g'), ('h'); " . join ' ', map { detection($_, 0, 'x') . ';' . detection($_, 5, 'x') . ';' } 'g', 'h');

sub close_of
{
	my ($service) = @_;
	return "SELECT close_incident(incident_id)->>'occurrence_count' FROM smartbox.incidents WHERE service = '$service';";
}
is($one->say('BEGIN; ' . close_of('g')), '2', 'an operator closes an incident');
$two->ask(detection('g', 10, 'x'));
waits_for_lock($two);
$one->say('COMMIT;');
is($two->answer, 'CLOSE', 'the detection that waited finds it closed, and leaves it so');
is(incidents('g'), 'x|CLOSED|2|0', 'nothing is opened beside it');
is($two->say('BEGIN; ' . detection('h', 10, 'x')), 'CONTINUE', 'a detection continues an incident');
$one->ask(close_of('h'));
waits_for_lock($one);
$two->say('COMMIT;');
is($one->answer, '3', 'the operator who waited closes what it left');
is($node->safe_psql('shop', "SELECT string_agg(event::text, ' ' ORDER BY event_number) FROM smartbox.incident_events WHERE service = 'h'"),
	'CREATE CONFIRM CONTINUE CLOSE', 'in that order');
$two->say('BEGIN; ' . detection('h', 15, 'y'));
$one->ask("SELECT silence('h', until => '2024-01-16')->>'silence_id' ~ '^silence_';");
is($one->answer, 't', 'a silence waits for nobody when there is nothing to note');
$two->say('COMMIT;');

# Whole cycles of many services, against each other, as the detector inserts
# them: in one order, so that nobody waits in a circle.
$node->safe_psql('shop', "INSERT INTO smartbox.services (service, category) SELECT 'fleet' || n, 'standard' FROM generate_series(1, 200) AS n");
my @cycles = map {
	my $minute = $_;
	"INSERT INTO smartbox.detections (service, ts, is_anomaly, severity) "
	  . "SELECT service, '2024-01-15 10:00+00'::timestamptz + $minute * interval '1 min', true, 'high' FROM smartbox.services WHERE service ~ '^fleet' ORDER BY service;"
} (1, 1, 2, 2);
$one->ask($cycles[0] . $cycles[2]);
$two->ask($cycles[1] . $cycles[3]);
is($one->answer, '', 'one session goes through two cycles');
is($two->answer, '', 'another goes through the same');
is($node->safe_psql('shop', q{SELECT count(*), count(DISTINCT service), min(status), max(status), min(occurrence_count), max(occurrence_count)
	FROM smartbox.incidents WHERE service ~ '^fleet'}), '200|200|OPEN|OPEN|2|2', 'every service has one incident, and each cycle counts once');

foreach my $session ($one, $two)
{
	${ $session->{in} } .= "\\q\n";
	$session->{run}->finish;
}
done_testing();
