# The views of docs/reading-it-from-bi.md through ODBC, as the role that the page
# makes: each can be read, and its columns have the names and types that the
# page says.
use strict;
use warnings;
use IPC::Run ();
use Smartbox::Fleet;
use Test::More;

my $node = Smartbox::Fleet::launch('odbc');
my $page = do { local (@ARGV, $/) = 'docs/reading-it-from-bi.md'; <> };

# ---------------------------------------------------------------------------
# The page against the catalog
# ---------------------------------------------------------------------------

my @views = $page =~ /^\| `(\w+)` \| [^|]+ \|$/mg;
my %section = $page =~ /^### (\w+)\n\n\| Column \| Type \| Unit \|\n\|---\|---\|---\|\n((?:\|.*\n)+)/mg;
my %columns = map { my ($view, @columns) = split /\n/; ($view => \@columns) } split /\n\n/, $node->safe_psql('shop', q{
	SELECT c.relname || E'\n' || string_agg(a.attname || ' ' || CASE
			WHEN t.typtype = 'e' THEN 'text' WHEN t.typname = 'timestamptz' THEN 'timestamptz' ELSE format_type(t.oid, NULL) END, E'\n' ORDER BY a.attnum) || E'\n'
	FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid JOIN pg_type AS t ON t.oid = a.atttypid
	WHERE c.relnamespace = 'smartbox'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
	GROUP BY c.relname});

cmp_ok(scalar @views, '>', 20, 'the page names the views');
is_deeply([ sort keys %section ], [ sort @views ], '... and has the columns of each');
foreach my $view (@views)
{
	my @rows = map { [ /^\| `(\w+)` \| (.+?) \| (.+?) \|$/ ] } split /\n/, $section{$view};

	is_deeply([ map { "$_->[0] $_->[1]" } @rows ], $columns{$view}, "$view: the page has its columns, in their order, with their types");
	is_deeply([ map { $_->[0] } grep { $_->[2] !~ /\w/ } @rows ], [], "... and units");
	unlike("@{ $columns{$view} // [] }", qr/ jsonb?\b/, '... and none of them is jsonb');
}

# ---------------------------------------------------------------------------
# The same through ODBC
# ---------------------------------------------------------------------------

my ($role) = $page =~ /^```sql\n(.*?)^```$/ms;
is($node->psql('shop', $role, on_error_stop => 1), 0, 'the page makes a role');
my ($ini) = $page =~ /^```ini\n(.*?)^```$/ms;
my %here = (Servername => $node->host, Port => $node->port);
is($ini =~ s/^(Servername|Port) = .*$/$1 = $here{$1}/mg, 2, 'the page has a data source');
$ENV{ODBCINI} = $node->basedir . '/odbc.ini';
open my $file, '>', $ENV{ODBCINI} or die "$ENV{ODBCINI}: $!";
print $file $ini;
close $file;

# Rows of a statement, without the header; isql says nothing by its exit status.
sub isql
{
	my ($statement, @options) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'isql', 'smartbox', '-v', '-b', '-c', '-d|', @options ], '<', \"$statement\n", '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	return "$out$err" if $err ne '' || $out =~ /^\[(?:ISQL|\w{5})\]/m;
	return split /\n/, $out;
}

# As SQLColumns tells; the driver says of version 2 and 3 of ODBC what it is asked for.
my %odbc_types = (
	'text' => [ -1, 12, -9, -10 ], 'text[]' => [ 12, -9 ], 'boolean' => [ 12, -9, -7 ], 'interval' => [ 12, -9 ], 'uuid' => [ -11 ],
	'timestamptz' => [ 11, 93 ], 'integer' => [ 4 ], 'bigint' => [ -5 ], 'double precision' => [ 6, 8 ]);
my %looks = (
	'boolean' => qr/^[01]$/, 'interval' => qr/^(?:-?\d+ days? ?)?-?\d\d:\d\d:\d\d(?:\.\d+)?$|^-?\d+ days?$/, 'uuid' => qr/^[0-9A-Fa-f-]{36}$/,
	'timestamptz' => qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?$/, 'integer' => qr/^-?\d+$/, 'bigint' => qr/^-?\d+$/,
	'double precision' => qr/^-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?$/);

foreach my $view (@views)
{
	my @names = map { (split / /)[0] } @{ $columns{$view} };
	my @types = map { (split / /, $_, 2)[1] } @{ $columns{$view} };
	my (undef, @described) = isql("help $view");
	my %odbc_type = map { (split /\|/)[ 3, 4 ] } @described;

	is_deeply([ sort keys %odbc_type ], [ sort @names ], "$view: a tool finds its columns");
	is_deeply([ map { my $i = $_; my $type = $odbc_type{ $names[$i] } // 'none'; grep({ $_ eq $type } @{ $odbc_types{ $types[$i] } // [] }) ? () : "$names[$i] $types[$i] $type" } 0 .. $#names ],
		[], '... of the types that ODBC has for them');

	my ($header) = isql("SELECT * FROM $view LIMIT 0");
	is($header, join('|', @names), '... reads all of them');
	my @read = grep { $looks{ $types[$_] } } 0 .. $#names;
	my (undef, @rows) = isql('SELECT ' . join(', ', map { $names[$_] } @read) . " FROM $view LIMIT 50");
	my ($wrong, $values) = ('', 0);
	foreach my $row (@rows)
	{
		my @values = split /\|/, $row, -1;
		foreach my $i (0 .. $#read)
		{
			next if ($values[$i] // '') eq '';
			$values++;
			$wrong .= "$names[ $read[$i] ] is \"$values[$i]\"\n" if $values[$i] !~ $looks{ $types[ $read[$i] ] };
		}
	}
	is($wrong, '', '... and gets values that look like it');
	cmp_ok($values, '>', 0, '... of which there are some') if @read;
}

is_deeply([ (isql(q{SELECT service FROM service_health WHERE service LIKE 'it%'}))[1] ], [ q{it's "odd" {}} ], 'a name arrives as it is');
is_deeply([ (isql(q{SELECT max(ts) FROM metric_values WHERE service = 'booking'}))[1] ],
	[ $node->safe_psql('shop', q{SELECT (max(ts) AT TIME ZONE 'UTC')::text FROM smartbox.samples WHERE service = 'booking'}) ], 'an instant arrives in UTC');
is((isql(q{SELECT count(*) FROM metric_values WHERE ts > {ts '2020-01-01 00:00:00'}}))[1], 3 * 8640 * 5, '... and can be asked for as ODBC writes it');
like(join("\n", isql('DELETE FROM services')), qr/readonly|read-only/i, 'nothing is written');
like(join("\n", isql('SELECT nonsense FROM status')), qr/column "nonsense" does not exist/, 'an error arrives');

my ($command) = $page =~ /^```sh\n(.*?)^```$/ms;
my $answer = `$command 2>&1`;
like($answer, qr/\Aservice,status,alarms_7d\n(?:booking|search),critical,\d+\n/, 'the command of the page shows the worst service first');

done_testing();
