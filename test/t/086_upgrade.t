# From one release to the next.  As long as there is only one release, the next one
# is made here: the tree with a few changes of the usual kinds (a column, a table,
# a view, functions, a comment, a shipped row), its library, and the script that
# brings a database there.  An upgraded database must be what a fresh one is, keep
# its data and go on; and whatever statement the script forgets must be noticed.
use strict;
use warnings;
use PostgreSQL::Test::Utils qw(slurp_file append_to_file);
use Smartbox::Cluster;
use Test::More;

my $old = $ENV{SMARTBOX_VERSION};
my $new = $old =~ s/(\d+)$/$1 + 1/er;
my $folder = PostgreSQL::Test::Utils::tempdir;
my ($tree, $install) = ("$folder/tree", "$folder/install");

sub run
{
	my $output = `$_[0] 2>&1`;

	die "$_[0]: $output" if $? != 0;
	chomp $output;
	return $output;
}

sub write_file
{
	my ($path, $content) = @_;

	open my $file, '>', $path or die "$path: $!\n";
	print $file $content;
	close $file or die "$path: $!\n";
}

# The statements of a file; they are separated by an empty line.
sub statements
{
	my ($path) = @_;

	return map { s/^(?:--.*\n)*//r } split /\n\n+/, slurp_file($path) =~ s/\n+\z//r;
}

# ---------------------------------------------------------------------------
# The next release
# ---------------------------------------------------------------------------

sub change
{
	my ($path, $pattern, $replacement) = @_;
	my $content = slurp_file("$tree/$path");

	$content =~ s/$pattern/$replacement->()/e or die "$path has nothing like $pattern to be changed in the rehearsal\n";
	write_file("$tree/$path", $content);
}

mkdir $tree or die $!;
run("cp -a Makefile smartbox_anomaly.control src sql bin $tree");
change('smartbox_anomaly.control', qr/default_version = '\Q$old\E'/, sub { "default_version = '$new'" });
change('sql/00-guard.sql', qr/(COMMENT ON SCHEMA smartbox IS) '[^']*'/, sub { "$1 'tables and views of the next release'" });
change('sql/10-catalogs.sql', qr/'small helper of other services'/, sub { "'small helper of others'" });
change('sql/20-data.sql', qr/(CREATE TABLE smartbox\.services \(.*?)\n\);/s, sub { "$1,\n    on_call text CHECK (on_call <> '')\n);" });
change('sql/60-verbs.sql', qr/(CREATE FUNCTION \S*score_to_severity\(.*?PARALLEL SAFE)/s, sub { "$1 COST 7" });
run("cp test/upgrade/next.sql $tree/sql/89-next.sql");

my @statements = (statements('test/upgrade/upgrade.sql'), statements('test/upgrade/next.sql'));
# Privileges are taken from what is there.
@statements = ((grep { !/^REVOKE/ } @statements), (grep { /^REVOKE/ } @statements));

sub upgrade_script { return join("\n\n", @_) . "\n" }
write_file("$tree/sql/smartbox_anomaly--$old--$new.sql", upgrade_script(@statements));

# Only what knows the version is compiled anew.
my $flags = '-DUSE_ASSERT_CHECKING' . ($ENV{COVERAGE} ? ' -O1 --coverage' : '');
my $versioned = join ' ', map { "-W $_" } split /\n/, run("cd $tree && grep -l SBA_VERSION src/*/*.c");
run("make -s -C $tree -f Makefile -o smartbox_anomaly.control $versioned COPT='$flags' all install DESTDIR=$install");
my $extension = $install . run("$ENV{PG_CONFIG} --sharedir") . '/extension';
run("cp sql/smartbox_anomaly--$old.sql $extension/");

# ---------------------------------------------------------------------------
# A database in use, with the release that there is
# ---------------------------------------------------------------------------

my $node = Smartbox::Cluster->launch('upgrade', 'autovacuum = off');
my ($example) = slurp_file('README.md') =~ /^## Five minutes without a metrics server\n(.*?)^## /ms;
my @example = $example =~ /^```sql\n(.*?)^```/gms;

$node->safe_psql('shop', "INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('team', 'webhook', 'http://127.0.0.1:9/')");
$node->safe_psql('shop', 'SELECT arm_delivery()');
$node->safe_psql('shop', $_) foreach @example;
$node->safe_psql('shop', q{
	SELECT acknowledge_incident(incident_id, 'seen') FROM smartbox.incidents;
	UPDATE smartbox.service_categories SET description = 'ours' WHERE category = 'core';
	CREATE ROLE watcher; GRANT SELECT ON smartbox.incidents TO watcher});

my @tables = split /\n/, $node->safe_psql('shop',
	q{SELECT unnest(extconfig)::regclass FROM pg_extension WHERE extname = 'smartbox_anomaly' ORDER BY 1});

# What the tables hold, but for what the next release changes.
sub contents
{
	return join "\n", map {
		my $row = "(to_jsonb(t) - 'on_call')::text COLLATE \"C\"";
		my $which = $_ =~ /service_categories$/ ? q{WHERE category <> 'micro'} : '';
		"$_ " . $node->safe_psql('shop', "SELECT count(*), md5(string_agg($row, ';' ORDER BY $row)) FROM $_ AS t $which")
	} @tables;
}

my $contents = contents();
like($contents, qr/^smartbox\.$_ [1-9]/m, "there are $_")
  foreach qw(samples models detections incidents incident_events alerts deliveries receivers);

# ---------------------------------------------------------------------------
# The upgrade, as docs/installing.md has it
# ---------------------------------------------------------------------------

sub documented
{
	my ($heading) = @_;
	my ($section) = slurp_file('docs/installing.md') =~ /^## \Q$heading\E\n(.*?)(?:^## |\z)/ms;
	my @blocks = ($section // '') =~ /^```sql\n(.*?)^```/gms;

	ok(scalar @blocks, "docs/installing.md has statements under \"$heading\"");
	return join "\n", @blocks;
}

$node->stop;
$node->append_conf('postgresql.conf', $_)
  foreach split /\n/, run("bash -c '. scripts/servers.sh; installed_extension_settings $install'");
$node->start;

my $judge = q{SELECT detect_anomalies('search', max(ts)) ->> 'alert_type' FROM smartbox.samples};
is($node->safe_psql('shop', $judge), 'no_anomaly', 'the new library works with the old tables');
$node->safe_psql('shop', documented('Upgrade'));
is($node->safe_psql('shop', q{SELECT extversion FROM pg_extension WHERE extname = 'smartbox_anomaly'}), $new, 'the release is the new one');
is(contents(), $contents, 'all rows are as they were');
is($node->safe_psql('shop', q{
	SELECT category, description, shipped FROM smartbox.service_categories WHERE category IN ('core', 'micro') ORDER BY 1}),
	"core|ours|f\nmicro|small helper of others|t", 'a shipped row is the new one, and one that somebody changed is theirs');
is($node->safe_psql('shop', q{SELECT has_table_privilege('watcher', 'smartbox.incidents', 'SELECT')}), 't', 'what was granted still is');

# The next cycle goes on with the incident that was open.
$node->safe_psql('shop', q{
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT service, ts + interval '5 minutes', metric_values FROM smartbox.samples WHERE service = 'booking' ORDER BY ts DESC LIMIT 1;
	SELECT detect_anomalies('booking', max(ts)) FROM smartbox.samples});
is($node->safe_psql('shop', 'SELECT anomaly_name, status, occurrence_count, acknowledged_at IS NOT NULL FROM smartbox.incidents'),
	'database_latency_high|OPEN|3|t', 'the open incident goes on');

# ---------------------------------------------------------------------------
# An upgraded extension is a fresh one
# ---------------------------------------------------------------------------

sub catalog
{
	my ($database) = @_;
	my $facts = '';

	$node->psql($database, slurp_file('test/upgrade/catalog.sql'), stdout => \$facts, on_error_die => 1);
	return [ split /\n/, $facts ];
}

# What one catalog has and the other one has not.
sub difference
{
	my ($here, $there) = @_;
	my %there = map { $_ => 1 } @$there;
	my %here = map { $_ => 1 } @$here;

	return ((map { "- $_" } grep { !$there{$_} } @$here), (map { "+ $_" } grep { !$here{$_} } @$there));
}

$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION smartbox_anomaly');
$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', "CREATE EXTENSION smartbox_anomaly VERSION '$old'");
my $fresh = catalog('fresh');
cmp_ok(scalar @$fresh, '>', 1000, 'the catalogs say much');
ok((grep { /^row of smartbox\.service_categories: .*small helper of others/ } @$fresh), '... and which rows ship');

# Upgrade a copy of the old database by these statements; returns what is wrong.
sub upgraded_by
{
	my (@which) = @_;
	my $errors;

	write_file("$extension/smartbox_anomaly--$old--$new.sql", upgrade_script(@which));
	$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE old');
	my $status = $node->psql('copy', 'ALTER EXTENSION smartbox_anomaly UPDATE', stderr => \$errors);
	my @wrong = $status == 0 ? difference(catalog('copy'), $fresh) : ($errors);
	$node->safe_psql('postgres', 'DROP DATABASE copy');
	return @wrong;
}

is_deeply([ upgraded_by(@statements) ], [], 'the upgraded extension is what a fresh one is');
foreach my $forgotten (0 .. $#statements)
{
	my ($name) = $statements[$forgotten] =~ /^(.*)/;
	my @wrong = upgraded_by(@statements[ grep { $_ != $forgotten } 0 .. $#statements ]);

	# Whoever forgets that leaves the rest of the script in that role, but nothing else.
	next if $name =~ /^RESET/;
	ok(scalar @wrong, "forgotten and noticed: $name");
}

# ---------------------------------------------------------------------------
# Removal
# ---------------------------------------------------------------------------

$node->safe_psql('shop', documented('Remove'));
is($node->safe_psql('shop', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'smartbox'}), '0', 'nothing of it is left');

$node->stop;
done_testing();
