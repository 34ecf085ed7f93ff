# docs/patterns.md: its statements run, and its tables are what the catalogs say.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

open my $file, '<', 'docs/patterns.md' or die "docs/patterns.md: $!";
my $page = do { local $/; <$file> };
close $file;

my $node = Smartbox::Cluster->launch('patterns', 'autovacuum = off');

# The tables first: the statements change rows.
my %shown = map { my ($priority, $pattern, $severity, $description) = @$_; ($pattern => "$priority|$severity|$description") }
  map { [/^\| (\d+) \| `(\w+)` \| (\w+) \| (.+?) \|$/] } grep { /^\| \d+ \| `/ } split /\n/, $page;
my %there = map { my ($pattern, $rest) = split /\|/, $_, 2; ($pattern => $rest) }
  split /\n/, $node->safe_psql('shop', 'SELECT pattern, priority, severity, description FROM smartbox.patterns');
is_deeply(\%shown, \%there, 'the page has the patterns that come with the extension');
cmp_ok(scalar keys %there, '>=', 23, 'which are many');

my @rules = map { s/,(?=\d{3})//gr } $page =~ /^(\| `\w+` \| (?:above|below) .*\|)$/mg;
is_deeply(\@rules, [ split /\n/, $node->safe_psql('shop', q{
	SELECT format('| `%s` | %s %s | %s | %s |', metric, CASE comparison WHEN 'above' THEN 'above' ELSE 'below' END,
		CASE WHEN comparison = 'below_expected_share' THEN threshold * 100 || ' % of what is expected now'
			WHEN metric = 'error_rate' THEN threshold * 100 || ' %' ELSE threshold || ' ms' END,
		severity, min_requests || CASE comparison WHEN 'above' THEN '' ELSE ' expected' END)
	FROM smartbox.rules ORDER BY array_position(ARRAY['error_rate', 'application_latency', 'request_rate'], metric), severity}) ],
	'and the rules');

foreach my $words (
	[ 'conditions', 'level', qw(very_low low normal high very_high not_low not_high absent) ],
	[ 'trends', 'trend', qw(steady rising falling sudden_rise sudden_fall) ],
	[ 'states', 'dependencies', qw(healthy anomalous chain) ])
{
	my ($what, $key, @all) = @$words;
	my (undef, undef, $error) = $node->psql('shop', 'INSERT INTO smartbox.patterns (pattern, severity, conditions, message) VALUES '
		  . ($key eq 'dependencies' ? q{('x', 'low', '{"dependencies": "?"}', 'x')} : qq{('x', 'low', '{"error_rate": {"$key": "?"}}', 'x')}));
	my ($hint) = $error =~ /There are: (.*)\./;
	is_deeply([ sort split /, /, $hint ], [ sort @all ], "$what: the hint has all words");
	is_deeply([ grep { $page !~ /`$_`/ } @all ], [], "$what: and so has the page");
}

my @blocks = $page =~ /^```sql\n(.*?)^```$/msg;
cmp_ok(scalar @blocks, '>=', 3, 'the page shows statements');
foreach my $block (@blocks)
{
	my ($status, $out, $error) = $node->psql('shop', $block, on_error_stop => 1);
	is($status, 0, 'runs: ' . (split /\n/, $block)[0]) or diag($error);
	like($out, qr/^1\|slow_reports\|shop waits for reports: 850 ms instead of 30 ms$/m, 'the pattern that was added is the best')
	  if $block =~ /try_patterns/;
}
is($node->safe_psql('shop', q{SELECT count(*) FROM smartbox.rules WHERE NOT shipped}), '4', 'the rules are the user\'s now');

# A session that has read the tables notices what another one commits.
my ($in, $out) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(60));
my $best = sub {
	$in .= q{SELECT pattern FROM smartbox.try_patterns('{"request_rate": "very_low"}') WHERE rank = 1;} . "\n\\echo answered\n";
	$session->pump until $out =~ s/\A(.*?)^answered\n//ms;
	return $1 =~ s/\n//r;
};
is($best->(), 'traffic_cliff', 'a session keeps the patterns');
$node->safe_psql('shop', q{UPDATE smartbox.patterns SET enabled = false WHERE pattern = 'traffic_cliff'});
is($best->(), 'request_rate_low', 'until another one changes them');
$in .= "BEGIN ISOLATION LEVEL REPEATABLE READ;\n";
is($best->(), 'request_rate_low', 'a transaction with a snapshot of its own');
$node->safe_psql('shop', q{UPDATE smartbox.patterns SET enabled = true WHERE pattern = 'traffic_cliff'});
is($best->(), 'request_rate_low', 'sees what it saw');
$in .= "COMMIT;\n";
is($best->(), 'traffic_cliff', 'and what is there after it');
$in .= "\\q\n";
$session->finish;

done_testing();
