# The state changes of a cycle go by indexes, each service by its own rows, and
# what they read grows with the number of services and no faster.
use strict;
use warnings;
use JSON::PP;
use Smartbox::Cluster;
use Test::More;

my ($few, $many) = (1000, 10000);
my $node = Smartbox::Cluster->launch('plans', 'autovacuum = off', 'shared_buffers = 256MB', 'max_wal_size = 1GB');
my $analyze = 'ANALYZE smartbox.services, smartbox.detections, smartbox.incidents, smartbox.incident_events, smartbox.fingerprints, smartbox.alerts';

$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-f', 'test/bench/incident_cycle.sql' ], 'the fleet of the benchmark');

# All nodes of a plan.
sub nodes_of
{
	my ($plan) = @_;
	return ($plan, map { nodes_of($_) } @{ $plan->{Plans} || [] });
}

sub describe
{
	my ($scan) = @_;
	return join ' ', map { $scan->{$_} // () } 'Node Type', 'Relation Name', 'Index Name', 'Index Cond', 'Filter';
}

# What a statement reads, in pages, when it is not the first one of its session.
sub pages_read
{
	my ($before, $statement) = @_;
	my $plan = decode_json($node->safe_psql('shop', "$before\nEXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) $statement") =~ s/\A[^\[]*//r)->[0]{Plan};
	return $plan->{'Shared Hit Blocks'} + $plan->{'Shared Read Blocks'};
}

# The plans of all statements that one has run, those in functions too.
sub plans_of
{
	my ($before, $statement) = @_;
	my ($out, $said);

	$node->psql('shop', qq{
		\\set VERBOSITY terse
		$before
		LOAD 'auto_explain';
		SET auto_explain.log_nested_statements = on;
		SET auto_explain.log_analyze = on;
		SET auto_explain.log_timing = off;
		SET auto_explain.log_verbose = off;
		SET auto_explain.log_format = json;
		SET auto_explain.log_level = notice;
		SET auto_explain.log_min_duration = 0;
		$statement;}, stdout => \$out, stderr => \$said, on_error_die => 1);
	return map { decode_json($_) } $said =~ /NOTICE:  duration: [\d.]+ ms  plan:\n(\{.*?^\})$/msg;
}

$node->safe_psql('shop', q{INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('hook', 'webhook', 'http://127.0.0.1:1')});

# ---------------------------------------------------------------------------
# A fleet, and ten times as many
# ---------------------------------------------------------------------------

my (%cycle_pages, %root_pages);
foreach my $size ($few, $many)
{
	$node->safe_psql('shop', qq{
		TRUNCATE smartbox.detections, smartbox.incidents, smartbox.incident_events, smartbox.fingerprints, smartbox.alerts, smartbox.deliveries, smartbox.dependencies;
		SELECT grow_incident_fleet($size);
		INSERT INTO smartbox.dependencies (service, depends_on)
		SELECT format('fleet-%s', to_char(n, 'FM00000')), format('fleet-%s', to_char(n + 20, 'FM00000')) FROM generate_series(1, $size - 20) AS n WHERE n % 400 <> 0;
		SELECT record_cycle(1, $size, 1);
		SELECT record_cycle(1, $size, 2);
		$analyze});
	is($node->safe_psql('shop', q{SELECT status, count(*) FROM smartbox.incidents GROUP BY status}), 'OPEN|' . $size / 20, $size / 20 . " open incidents in $size services");
	$cycle_pages{$size} = pages_read("SELECT record_cycle(1, $size, 3);", "SELECT record_cycle(1, $size, 4)");
	is($node->safe_psql('shop', q{SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM smartbox.incidents GROUP BY status) AS s}),
		join(', ', 'OPEN ' . $size / 20, 'RECOVERING ' . $size / 40), 'of which some went on, some recover, and others were opened');
	$root_pages{$size} = pages_read('', 'SELECT smartbox.assign_root_causes()');
	note("$size services: $cycle_pages{$size} pages for a cycle, $root_pages{$size} for root causes");
}
cmp_ok($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.incidents WHERE root_service IS NOT NULL'), '>', 300, 'and some have a suspected root cause');

# An index may have a level more; what is quadratic would be a hundred times as many.
cmp_ok($cycle_pages{$few}, '>', 5 * $few, 'a cycle reads pages');
cmp_ok($cycle_pages{$many} / $cycle_pages{$few}, '<', 12, 'the cycle of ten times as many services reads no more than twelve times as many pages');
cmp_ok($root_pages{$many} / $root_pages{$few}, '<', 12, 'neither does the search for root causes');

# ---------------------------------------------------------------------------
# The plans, as a session has them that has seen many services
# ---------------------------------------------------------------------------

my $some = 200;
my $grown = $many + $some;
my $new = $many + 1;
$node->safe_psql('shop', "SELECT grow_incident_fleet($grown)");
my @plans = grep { $_->{'Query Text'} !~ /^\s*(WITH recorded|SELECT record_cycle|LOAD|SET)/ } plans_of(
	"BEGIN; SELECT record_cycle(1, $few, 5); ROLLBACK;",
	"SELECT record_cycle(1, $some, 5); SELECT record_cycle($new, $grown, 1); SELECT record_cycle($new, $grown, 2)");
my %statements = map { ($_->{'Query Text'} =~ s/\s+/ /gr) => 1 } @plans;

cmp_ok(scalar(grep { $_->{'Query Text'} =~ /FOR NO KEY UPDATE/ } @plans), '>=', 3 * $some, 'each service was locked');
foreach my $kind ('FROM smartbox.detections', 'FROM smartbox.silences', 'INSERT INTO smartbox.incidents', 'UPDATE smartbox.incidents', 'INSERT INTO smartbox.incident_events',
	'UPDATE smartbox.fingerprints', 'INSERT INTO smartbox.alerts', 'INSERT INTO smartbox.deliveries')
{
	ok((grep { /\Q$kind\E/ } keys %statements), "there is a statement: $kind");
}

my (%bad, $n_scans);
foreach my $plan (@plans)
{
	foreach my $scan (grep { $_->{'Relation Name'} && $_->{'Node Type'} =~ /Scan/ } nodes_of($plan->{Plan}))
	{
		my $read = ($scan->{'Actual Rows'} + ($scan->{'Rows Removed by Filter'} // 0)) * $scan->{'Actual Loops'};

		next if $scan->{'Relation Name'} eq 'service_categories' || $scan->{'Relation Name'} eq 'receivers';
		$n_scans++;
		$bad{ describe($scan) } = 'is not by an index' if $scan->{'Node Type'} !~ /^(Index (Only )?|Bitmap Heap )Scan$/;
		$bad{ describe($scan) } = 'is not of one service or incident'
		  if ($scan->{'Index Cond'} // $scan->{'Recheck Cond'} // '') !~ /\b(service|incident_id) = /;
		$bad{ describe($scan) } = "reads $read rows" if $read > 10;
	}
}
cmp_ok($n_scans, '>', 2 * $some, 'the plans have scans');
is_deeply(\%bad, {}, 'each is by an index, of one service or incident, and reads a few rows') or diag(join "\n", sort keys %statements);

# Root causes are looked for once in a cycle: tables may be read, but each once.
@plans = plans_of('', 'SELECT smartbox.assign_root_causes()');
cmp_ok(scalar(@plans), '>', 3, 'the search for root causes has plans');
my @repeated;
foreach my $plan (@plans)
{
	foreach my $scan (grep { $_->{'Relation Name'} && $_->{'Actual Loops'} > 1 } nodes_of($plan->{Plan}))
	{
		my $read = $scan->{'Actual Rows'} + ($scan->{'Rows Removed by Filter'} // 0);
		push @repeated, describe($scan) if $scan->{'Node Type'} !~ /^Index (Only )?Scan$|^Bitmap/ || $read > 10;
	}
}
is_deeply(\@repeated, [], 'none reads a table in a loop');

done_testing();
