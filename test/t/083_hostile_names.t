# The name of a service comes from outside.  Whatever is in it, it is a name and
# nothing else: in statements, queries, messages, notifications and pages.
use strict;
use warnings;
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $name = q~x'; DROP TABLE smartbox.services; --"}</script><script>alert(1)</script>\\\\{service}{request_rate}$selector%s%n&amp;:'name'~;
my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('names');
my $services = "ARRAY[\$q\$$name\$q\$]";

$fake->answer($_) foreach qw(webhook observability oncall);
$node->safe_psql('shop', qq{
	INSERT INTO smartbox.services (service) VALUES (\$q\$$name\$q\$), ('booking');
	INSERT INTO smartbox.dependencies (service, depends_on) VALUES (\$q\$$name\$q\$, 'booking');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT \$q\$$name\$q\$, date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes',
		ARRAY[10 + sin(n * 12.9898), 100 + 5 * sin(n * 78.233), 50 + sin(n * 39.425), 5 + 0.1 * sin(n * 11.135), CASE WHEN n < 3 THEN 0.5 ELSE 0.001 END]
	FROM generate_series(1, 1500) AS n;
	INSERT INTO smartbox.receivers (receiver, kind, url) VALUES
		('webhook', 'webhook', '} . $fake->url('webhook') . q{'), ('oncall', 'alertmanager', '} . $fake->url('oncall') . q{');
	UPDATE smartbox.receivers SET enabled = true, url = '} . $fake->url('observability') . q{' WHERE receiver = 'observability';
	SELECT arm_delivery()});

# ---------- training, in workers and in the session ----------

is($node->safe_psql('shop', "SELECT count(*) > 0, bool_and(service = \$q\$$name\$q\$) FROM train_models($services) WHERE status = 'accepted'"), 't|t', 'it is trained');

# ---------- detection, the notification and the messages ----------

my $said = $node->safe_psql('shop', qq{
	LISTEN smartbox_alerts;
	SELECT detect_anomalies(s.service, s.ts)->>'service' FROM smartbox.samples AS s
	WHERE s.service = \$q\$$name\$q\$ AND s.ts > now() - interval '16 minutes' ORDER BY s.ts;
	SELECT status FROM smartbox.incidents WHERE status = 'OPEN' LIMIT 1});
like($said, qr/^\Q$name\E$/m, 'it is judged');
like($said, qr/^OPEN$/m, '... and has an incident');
like($said, qr/Asynchronous notification "smartbox_alerts"/, '... which is announced');
my ($payload) = $said =~ /with payload "(.*)" received/;
is(decode_json($payload)->{service}, $name, '... under its name');
is($node->psql('shop', 'CALL deliver_alerts()'), 0, 'the alert is delivered');

# Each text of a message that has part of the name has all of it.
sub torn
{
	my ($value) = @_;

	return map { torn($_) } ref $value eq 'HASH' ? (keys %$value, values %$value) : @$value if ref $value eq 'HASH' || ref $value eq 'ARRAY';
	return defined $value && $value =~ /DROP TABLE/ && index($value, $name) < 0 ? $value : ();
}

foreach my $receiver (qw(webhook observability oncall))
{
	my ($request) = $fake->requests($receiver);
	my $message = decode_json($request->{body});
	my $first = ref $message eq 'ARRAY' ? $message->[0] : $message;

	is($receiver eq 'oncall' ? $first->{labels}{service} : $first->{service}, $name, "$receiver is told of it");
	is_deeply([ torn($message) ], [], '... nowhere in parts, or with anything filled in');
}

# ---------- pages and views ----------

my @relations = split /\n/, $node->safe_psql('shop', q{
	SELECT d.objid::regclass FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
		JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'smartbox_anomaly' AND c.relkind IN ('r', 'v')});
my ($answer, $errors);
$node->psql('shop', join("\n", map { "SELECT t::text FROM $_ AS t;" } @relations), stdout => \$answer, stderr => \$errors);
is($errors, '', 'each table and view can be read');
unlike($node->safe_psql('shop', 'SELECT incident_report()'), qr/<script>alert/, 'the page of incidents does not run it');
is($node->psql('shop', $_), 0, "a proposed statement: $_") foreach split /\n/, $node->safe_psql('shop', q{SELECT statement FROM smartbox.noisy_patterns WHERE statement IS NOT NULL});
is($node->safe_psql('shop', q{SELECT count(*) FROM smartbox.services}), 2, 'all services are there');

# ---------- the source ----------

foreach my $bad ("line\nLOG:  forged", "bell\a", "delete\x7f", '', 'y' x 201)
{
	isnt($node->psql('shop', 'INSERT INTO smartbox.services (service) VALUES ($q$' . $bad . '$q$)', stderr => \$errors), 0, 'no name: ' . JSON::PP->new->allow_nonref->encode($bad));
	like($errors, qr/violates check constraint/, '... which is said');
}
$fake->answer('source', body => JSON::PP->new->encode({ status => 'success', data => [ 'cart', "line\nLOG:  forged", "bell\a", '', 'y' x 201 ] }));
is($node->psql('shop', q{SET smartbox_anomaly.vm_endpoint = '} . $fake->url('source') . q{'; SELECT * FROM discover_services()}, stdout => \$answer, stderr => \$errors), 0,
	'a source that has such names') or diag($errors);
like($errors, qr/WARNING:  3 names that were found are no names of services\n/, '... which is told');
is($answer, 'cart', '... is taken at its word for the others');

done_testing();
