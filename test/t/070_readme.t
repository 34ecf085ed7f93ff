# Every statement in README.md works as it stands there, in the order in which
# a reader meets them, and what it says comes out does.
use strict;
use warnings;
use Test::More;
use Smartbox::Cluster;
use Smartbox::VictoriaMetrics;

my $now = int(time / 300) * 300;
my $source = Smartbox::VictoriaMetrics->start;
$source->generate('--begin', $now - 30 * 86400, '--end', $now + 300, '--services', 'booking,search');

# The blocks of one kind under each heading.
my (%blocks, $heading, $kind, $text);
open my $readme, '<', 'README.md' or die "README.md: $!\n";
while (my $line = <$readme>)
{
	if (defined $kind && $line =~ /^```/)
	{
		push @{ $blocks{$heading}{$kind} }, $text;
		undef $kind;
	}
	elsif (defined $kind) { $text .= $line }
	elsif ($line =~ /^```(\w*)/) { ($kind, $text) = ($1 || 'output', '') }
	elsif ($line =~ /^## (.*)/) { $heading = $1 }
}
close $readme;

my $node = Smartbox::Cluster->prepare('readme',
	"shared_preload_libraries = 'pg_cron'", "cron.database_name = 'postgres'");
$node->start;

# Run all blocks of SQL under a heading, each in a session of its own.
sub run_heading
{
	my ($title) = @_;
	my @answers;

	ok($blocks{$title}{sql}, "README.md has statements under \"$title\"") or return;
	foreach my $block (@{ $blocks{$title}{sql} })
	{
		my ($answer, $errors) = ('', '');
		my $sql = $block;
		my ($first) = $block =~ /^(.*)/;
		my $url = $source->url;

		$sql =~ s{http://127\.0\.0\.1:8428}{$url}g;
		my $status = $node->psql('postgres', $sql, stdout => \$answer, stderr => \$errors, on_error_stop => 1);
		is($status, 0, "$title: $first") or diag($errors);
		unlike($errors, qr/WARNING|ERROR/, '... and without a warning') or diag($errors);
		push @answers, $answer;
	}
	return @answers;
}

run_heading('Install');

my @answers = run_heading('Five minutes without a metrics server');
my @trained = grep { /\|accepted\|/ } split /\n/, $answers[0];
is(scalar @trained, 10, 'two services have five models each') or diag($answers[0]);
like($answers[1], qr/"incident_action": "CREATE"/, 'the first cycle suspects');
like($answers[1], qr/"status": "OPEN"/, 'the second cycle opens the incident');
like($answers[1], qr/"alert_type": "no_anomaly"/, 'the neighbour is healthy');

# The table that is printed in the README.
my ($header, undef, @rows) = split /\n/, $blocks{'Five minutes without a metrics server'}{output}[0];
is(scalar @rows, 1, 'README.md shows one incident');
my $shown = join '|', map { s/^\s+|\s+$//gr } split /\|/, $rows[0];
is((split /\n/, $answers[1])[-1], $shown, 'the incident is as README.md shows it');

$node->safe_psql('postgres', 'TRUNCATE smartbox.samples, smartbox.models, smartbox.detections');
@answers = run_heading('Your own metrics');
like($answers[1], qr/^booking\|.*\|5\|/m, 'five metrics of a service are collected') or diag($answers[1]);
like($answers[1], qr/^booking\|business_hours\|1\|accepted\|/m, 'its models are trained');
like($answers[1], qr/"service": "search"/, 'its newest sample is judged');
unlike($answers[2], qr/^(?!(?:booking|search)\|\w+\|(?:low|medium|high|critical)\|2)./m, 'the past has incidents, or none');

@answers = run_heading('Train a fleet');
is($answers[0], '', 'all models are accepted') or diag($answers[0]);
like($answers[1], qr/^succeeded\|2\|/, 'the view tells of two trainings');
is($answers[2], '1', 'the first version is active again');

$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
run_heading('Run it on schedule');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), 2, 'two jobs are scheduled');

run_heading('Read it from psql, Grafana or a BI tool');
foreach my $view ($blocks{'Read it from psql, Grafana or a BI tool'} ? map { /`(smartbox\.\w+)`/g } read_lines('Read it') : ())
{
	my $status = $node->psql('postgres', "SET ROLE smartbox_reader; SELECT * FROM $view LIMIT 1",
		stdout => \my $answer, stderr => \my $errors, on_error_stop => 1);
	is($status, 0, "a reader can read $view") or diag($errors);
}
run_heading('How bad is it');
@answers = run_heading('When something is not as expected');
like($answers[0], qr/^workers\|warning\|the library is not preloaded/m, 'the status says what is wrong');
like($answers[0], qr/^error_rate\|booking\|[1-9]\d*\|\|$/m, 'the source is in order');
like($answers[0], qr/^observability\|the receiver is disabled\|/m, 'and the receiver says why nothing is sent');

# The reference is what there is: each setting with its default and with who may
# set it, each function, table and view.
my (%settings, %who);
foreach my $line (read_lines('Settings'))
{
	my ($setting, $default, $set_by) = $line =~ /^\| `(smartbox_anomaly\.\w+)` \| ([^|]*?) \| ([^|]*?) \|/ or next;
	my ($boot, $context) = split /\|/, $node->safe_psql('postgres', "LOAD 'smartbox_anomaly'; SELECT boot_val, context FROM pg_settings WHERE name = '$setting'"), -1;
	my $is_right = $default =~ /^empty/ ? $boot eq ''
	  : $node->safe_psql('postgres', "LOAD 'smartbox_anomaly'; SELECT set_config('$setting', '$default', true) = set_config('$setting', '$boot', true)") eq 't';

	ok($is_right, "$setting is $default by default") or diag($boot);
	is($set_by, { superuser => 'superuser', user => 'anyone', sighup => 'file, then reload' }->{$context}, "... and set by: $set_by");
	$settings{$setting} = 1;
}
is(join("\n", sort keys %settings),
	$node->safe_psql('postgres', q{LOAD 'smartbox_anomaly'; SELECT name FROM pg_settings WHERE name LIKE 'smartbox_anomaly.%' ORDER BY name COLLATE "C"}),
	'the table has every setting');

my $members = q{FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid AND x.extname = 'smartbox_anomaly'
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'};
my %functions = map { $_ => 1 } map { /^\| (`.*?) \|/ ? $1 =~ /`(?:CALL )?(\w+)\(/g : () } read_lines('Functions');
is(join("\n", sort keys %functions), $node->safe_psql('postgres', qq{SELECT DISTINCT p.proname COLLATE "C" FROM pg_proc AS p
	WHERE p.pronamespace = 'public'::regnamespace AND p.proname !~ '^isolation_forest' AND p.oid IN (SELECT objid $members AND classid = 'pg_proc'::regclass) ORDER BY 1}),
	'the table has every function');
my %relations = map { /^\| `(\w+)` \|/ ? ($1 => 1) : () } read_lines('Tables and views');
is(join("\n", sort keys %relations), $node->safe_psql('postgres', qq{SELECT c.relname COLLATE "C" FROM pg_class AS c
	WHERE c.relkind IN ('r', 'v') AND c.oid IN (SELECT objid $members AND classid = 'pg_class'::regclass) ORDER BY 1}),
	'the tables have every table and view');

# The lines of the section whose heading begins so.
sub read_lines
{
	my ($title) = @_;
	my ($in, @lines);

	open my $file, '<', 'README.md' or die "README.md: $!\n";
	while (my $line = <$file>)
	{
		$in = $line =~ /^## \Q$title\E/ if $line =~ /^## /;
		push @lines, $line if $in;
	}
	close $file;
	return @lines;
}

done_testing();
