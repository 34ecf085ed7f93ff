# Every statement of docs/incidents-and-people.md works as it stands there, in
# order, and what it says comes out does; the roles that it makes may do what it
# says, and nothing else.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('people');
open my $page, '<', 'docs/incidents-and-people.md' or die "docs/incidents-and-people.md: $!";
my @blocks = do { local $/; <$page> } =~ /^```(\w*)\n(.*?)^```$/msg;
close $page;

# A printed table as psql -At gives it.
sub rows_of
{
	my (undef, undef, @rows) = split /\n/, $_[0];
	return join "\n", map { join '|', map { s/^\s+|\s+$//gr } split /\|/, "$_ " } @rows;
}

# Run a statement as a role; returns what it says, or its error.
sub as_role
{
	my ($role, $statement) = @_;
	my $status = $node->psql('shop', "SET ROLE $role;\n$statement", stdout => \my $answer, stderr => \my $errors, on_error_stop => 1);
	return $status == 0 ? $answer : $errors =~ /ERROR:\s+(.*)/ ? $1 : $errors;
}

sub may_not
{
	my ($role, $statement, $name) = @_;
	return like(as_role($role, $statement), qr/permission denied|must be superuser|violates row-level security/, $name);
}

my ($statements, $tables, $answer, $policies) = (0, 0, '', '');
while (my ($kind, $text) = splice @blocks, 0, 2)
{
	next if $kind eq 'text';
	if ($kind eq 'sql')
	{
		roles_are_right() if $text =~ /^CREATE ROLE team_booking/;
		$policies = $text if $text =~ /CREATE POLICY/;
		my ($first) = $text =~ /^(.*)/;
		my $status = $node->psql('shop', $text, stdout => \$answer, stderr => \my $errors, on_error_stop => 1);

		is($status, 0, $first) or diag($errors);
		unlike($errors, qr/WARNING|ERROR/, '... and without a warning') or diag($errors);
		$statements++;
	}
	else
	{
		my $shown = rows_of($text);

		ok(index("$answer\n", "$shown\n") >= 0, '... with the rows that the page shows') or diag("it shows\n$shown\nand comes out\n$answer");
		$tables++;
	}
}
cmp_ok($statements, '>', 9, 'the page has statements');
cmp_ok($tables, '>', 4, '... and says what comes out');

sub roles_are_right
{
	my @relations = split /\n/, $node->safe_psql('shop', q{
		SELECT d.objid::regclass FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
			JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'smartbox_anomaly' AND c.relkind IN ('r', 'v')
		ORDER BY 1});

	cmp_ok(scalar @relations, '>', 25, 'there are tables and views');
	is(as_role('smartbox_reader', join ' ', map { "SELECT count(r::text) >= 0 FROM $_ AS r;" } @relations), join("\n", ('t') x @relations),
		'a reader reads each of their columns');
	is($node->safe_psql('shop', q{
		SELECT string_agg(p.proname, ' ' ORDER BY p.proname) FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
			JOIN pg_proc AS p ON p.oid = d.objid, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
		WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
			AND x.extname = 'smartbox_anomaly' AND a.grantee = 'smartbox_reader'::regrole}),
		'expected_values explain_anomaly', 'a reader may call what everybody may, and what explains');
	is($node->safe_psql('shop', q{
		SELECT string_agg(d.objid::regprocedure::text, ' ') FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
			JOIN pg_proc AS p ON p.oid = d.objid
		WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
			AND x.extname = 'smartbox_anomaly' AND p.provolatile = 'v' AND p.prorettype <> 'trigger'::regtype
			AND has_function_privilege('smartbox_reader', p.oid, 'EXECUTE')}),
		'smartbox.circuit_breaker_states() smartbox.worker_state()', '... none of which can write: those that are not stable show what is in memory');
	is(as_role('smartbox_reader', "SELECT count(*) FROM explain_anomaly('search'); SELECT count(*) FROM expected_values('search', now(), now());"), "0\n0",
		'a reader asks why');
	may_not('smartbox_reader', $_, "a reader may not: $_") foreach
		"SELECT acknowledge_incident('x')", "SELECT close_incident('x')", "SELECT silence('search', until => 'tomorrow')",
		"SELECT feedback('x', 'anomaly')", "SELECT add_note('x', 'y')", "SELECT unsilence('x')", "SELECT detect_anomalies('search')",
		'SELECT collect_metrics()', 'SELECT train_models()', 'CALL run_cycle()', 'DELETE FROM smartbox.silences',
		"INSERT INTO smartbox.calendar (kind, starts_at) VALUES ('busy', '2026-12-02')", 'UPDATE smartbox.incidents SET description = $$x$$';

	# Thirty days of samples, of which the last is slow.
	$node->safe_psql('shop', q{
		INSERT INTO smartbox.services (service) VALUES ('cart');
		INSERT INTO smartbox.samples (service, ts, metric_values)
		SELECT 'cart', to_timestamp(floor(extract(epoch FROM now()) / 300) * 300) - (8640 - n) * interval '5 minutes',
			ARRAY[50 * exp(0.05 * sin(n * 12.9898) + 0.05 * sin(n * 78.233)), 120 * exp(0.05 * sin(n * 39.425) + 0.05 * sin(n * 11.135)), 40, 8, 0.002]
		FROM generate_series(1, 8640) AS n;
		UPDATE smartbox.samples SET metric_values[2] = 900 WHERE service = 'cart' AND ts = (SELECT max(ts) FROM smartbox.samples)});
	like(as_role('ada', q{SELECT DISTINCT status FROM train_models('{cart}')}), qr/^accepted$/m, 'an operator trains');
	like(as_role('ada', q{SELECT DISTINCT status FROM train_models('{cart}'); SELECT count(*) > 0 FROM smartbox.training_runs WHERE status = 'succeeded'}),
		qr/^t$/m, '... again');
	is(as_role('ada', q{SELECT detect_anomalies('cart')->>'alert_type'}), 'anomaly_detected', '... detects');
	is(as_role('ada', q{SELECT rollback_model('cart', 'business_hours')}), '1', '... goes back to the model before');
	is(as_role('ada', q{SELECT close_incident(incident_id)->>'status' FROM smartbox.active_incidents WHERE service = 'cart'}), 'CLOSED', '... closes an incident');
	is(as_role('ada', q{DELETE FROM smartbox.calendar WHERE service = 'search' RETURNING kind}), 'maintenance', '... keeps the calendar');
	is(as_role('ada', q{SELECT jsonb_array_length(unsilence(silence_id)->'services') FROM smartbox.active_silences}), '1', '... and ends silences');
	like(as_role('ada', q{SET smartbox_anomaly.vm_endpoint = 'http://example.com'; SELECT score_to_severity(0); RESET ROLE; SELECT current_setting('smartbox_anomaly.vm_endpoint') = ''}),
		qr/^t$/m, 'an endpoint that is set before the library is there is dropped');
	may_not('ada', $_, "an operator may not: $_") foreach
		"SELECT score_to_severity(0); SET smartbox_anomaly.vm_endpoint = 'http://example.com'", "ALTER SYSTEM SET smartbox_anomaly.vm_endpoint = 'http://example.com'",
		'SELECT reset_circuit_breaker()', 'DELETE FROM smartbox.services', "UPDATE smartbox.services SET team = 'mine'",
		"INSERT INTO smartbox.services (service) VALUES ('mine')", 'UPDATE smartbox.metrics SET enabled = false', 'DELETE FROM smartbox.incidents',
		'DELETE FROM smartbox.alerts', 'UPDATE smartbox.incident_events SET details = $${}$$', 'DELETE FROM smartbox.samples',
		(map { "DELETE FROM $_" } grep { /\.(receivers|deliveries|rules|patterns|slos|dependencies|time_periods|service_categories)$/ } @relations);
	return;
}

# Teams
is(as_role('ada', 'SELECT string_agg(DISTINCT service, $$ $$ ORDER BY service) FROM smartbox.active_incidents'), 'search', 'views show a team its own');
is(as_role('ada', q{SELECT string_agg(service, ' ' ORDER BY service) FROM smartbox.services}), 'cart database search', '... and what is nobody\'s');
$node->safe_psql('shop', q{INSERT INTO smartbox.detections (service, ts, is_anomaly, severity) SELECT 'booking', now(), true, 'critical';
	INSERT INTO smartbox.dependencies VALUES ('booking', 'search')});
my $booking = $node->safe_psql('shop', q{SELECT incident_id FROM smartbox.active_incidents WHERE service = 'booking' LIMIT 1});
like($booking, qr/^incident_/, 'another team has an incident');
is(as_role('ada', "SELECT close_incident('$booking')"), "incident \"$booking\" is not known", '... which nobody else closes');
is(as_role('ada', q{SELECT silence('booking', until => 'tomorrow')}), 'service "booking" is not known', '... or silences');
is(as_role('ada', q{SELECT silence('search', until => 'tomorrow', include_dependents => true)->'services'}), '["search"]', '... on account of a service that it depends on either');
may_not('ada', q{SELECT silence('*', until => 'tomorrow')}, 'nor does a team silence everybody');
is(as_role('ada', q{SELECT acknowledge_incident(incident_id)->>'service' FROM smartbox.active_incidents}), 'search', 'it acts on its own');
is(as_role('ada', q{SELECT count(*) FROM run_inference()}), '3', '... and judges its own');

$node->command_ok([ 'pg_dump', '--file', $node->basedir . '/teams.sql', 'shop' ], 'the database is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $node->basedir . '/teams.sql', '-d', 'copy' ], '... restored');
my $seen = 'SET ROLE ada; SELECT DISTINCT service FROM smartbox.incidents WHERE service IN ($$booking$$, $$search$$) ORDER BY service';
is($node->safe_psql('copy', $seen), "booking\nsearch", '... with the grants, without the policies');
$node->safe_psql('copy', $policies);
is($node->safe_psql('copy', $seen), 'search', '... which hold there when they are made anew');

done_testing();
