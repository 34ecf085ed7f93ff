# How good the detection is, on small fleets: what "make eval" reports of large
# ones, with bars that are as much lower as small numbers vary more.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Smartbox::Cluster;
use Test::More;

my $python = '/usr/bin/python3';
my $folder = PostgreSQL::Test::Utils::tempdir();

sub write_file
{
	my ($path, @lines) = @_;

	open my $file, '>', $path or die "$path: $!\n";
	print $file "$_\n" foreach @lines;
	close $file;
}

sub score
{
	my @arguments = @_;
	my $json = `test/eval/score --json @arguments`;

	die "test/eval/score @arguments failed\n" if $? != 0;
	return decode_json($json);
}

# The scorer first, on a day of one service that is counted by hand.  Instant n
# is the end of the n-th five minutes.
mkdir "$folder/counted";
write_file("$folder/counted/meta.json", '{"step": 300, "tz": "UTC", "eval_start": 300, "eval_end": 86400}');
write_file("$folder/counted/services.csv", 'service', 'a');
write_file("$folder/counted/labels.csv", 'service,kind,start_ts,end_ts,strength,effect,label,culprit',
	map { my ($kind, $from, $to, $label, $culprit) = @$_; join ',', 'a', $kind, 300 * $from, 300 * $to, 'easy', 1, $label, $culprit }
	  [ 'found', 20, 30, 'incident', 'error_rate' ], [ 'late', 60, 61, 'incident', 'error_rate' ], [ 'missed', 100, 110, 'incident', '' ],
	[ 'gap', 150, 155, 'ignore', '' ]);
write_file("$folder/counted.csv", 'service,ts,is_anomaly,severity,score,culprit,category',
	map { my ($at, $severity, $culprit) = @$_; join ',', 'a', 300 * $at, $severity eq 'none' ? 0 : 1, $severity, '', $culprit, 'standard' }
	  [ 22, 'high', 'error_rate' ], [ 26, 'critical', 'error_rate' ],	# three quiet samples between: one episode
	[ 31, 'none', '' ], [ 42, 'low', 'error_rate' ],	# within the hour after it: another one, right too
	[ 63, 'high', 'request_rate' ],	# two samples after its end
	[ 123, 'medium', 'error_rate' ],	# more than an hour after: wrong
	[ 148, 'low', 'error_rate' ],	# within two samples of a gap: neither
	[ 200, 'low', 'error_rate' ], [ 205, 'low', 'error_rate' ]);	# four quiet samples between: two wrong ones
my $counted = score("$folder/counted", "$folder/counted.csv");
is_deeply([ @$counted{qw(incidents found episodes_right episodes_wrong delay_median delay_p90)} ], [ 3, 2, 3, 3, 3, 3 ], 'episodes and incidents are counted');
is(sprintf('%.3f %.3f %.3f', @$counted{qw(precision recall f1)}), '0.500 0.667 0.571', 'and give precision, recall and F1');
is_deeply($counted->{severities}{critical}, { right => 1, wrong => 0 }, 'an episode has its worst severity');
is_deeply($counted->{culprits}, { found => { found => 1, of => 1 }, late => { found => 0, of => 1 } }, 'culprits are compared');
is($counted->{categories}{standard}{per_service_week}, 21, 'three in a day are 21 in a week');

# The generator gives the same fleet for the same seed.
my @generate = ('test/eval/generate_fleet', '--services', '6', '--days', '26', '--eval-days', '5', '--seed', '4');
foreach my $name ('first', 'again')
{
	system(@generate, '--out', "$folder/$name", '--services', 1) == 0 or die "generate_fleet failed\n";
}
is(system('cmp', '-s', "$folder/first/metrics.csv", "$folder/again/metrics.csv"), 0, 'a seed means one fleet');

my $node = Smartbox::Cluster->prepare('eval', 'autovacuum = off');
$node->start;
local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;

# What was detected in a fleet.
sub judge
{
	my ($name, @options) = @_;

	is(system("test/eval/judge @options $folder/$name > $folder/$name.csv"), 0, "$name is judged") or return;
	my $result = score("$folder/$name", "$folder/$name.csv");
	note(`test/eval/score $folder/$name $folder/$name.csv`);
	return $result;
}

# Bars for a fleet with incidents.
sub check_fleet
{
	my ($name, @options) = @_;
	my $result = judge($name, @options);
	my ($named, $of) = (0, 0);

	cmp_ok($result->{incidents}, '>=', 30, "$name: there is enough to find");
	cmp_ok($result->{f1}, '>=', 0.88, "$name: F1");
	cmp_ok($result->{precision}, '>=', 0.85, "$name: precision");
	cmp_ok($result->{recall}, '>=', 0.88, "$name: recall");
	cmp_ok($result->{false_alarms_per_service_week}, '<=', 1, "$name: false alarms");
	cmp_ok($result->{delay_median}, '<=', 2, "$name: median delay");
	foreach my $kind (values %{ $result->{culprits} })
	{
		$named += $kind->{found};
		$of += $kind->{of};
	}
	cmp_ok($of, '>=', 10, "$name: incidents of a single metric are found");
	cmp_ok($named, '>=', 0.9 * $of, "$name: and it is named first");

	# what is called critical is so, and what is wrong is seldom called that
	my $critical = $result->{severities}{critical};
	cmp_ok($critical->{right}, '>=', 10, "$name: there are critical incidents");
	cmp_ok($critical->{right}, '>=', 19 * $critical->{wrong}, "$name: and they are right");
}

system(@generate, '--out', "$folder/own") == 0 or die "generate_fleet failed\n";
check_fleet('own');
system(@generate, '--out', "$folder/quiet", '--incidents', '0') == 0 or die "generate_fleet failed\n";
my $quiet = judge('quiet', '--holidays');
is($quiet->{incidents}, 0, 'a fleet without incidents');
cmp_ok($quiet->{false_alarms_per_service_week}, '<=', 1, 'hardly wakes anyone');
is(join(' ', sort keys %{ $quiet->{categories} }), 'background critical standard', 'it has services of three categories');
foreach my $name (sort keys %{ $quiet->{categories} })
{
	my $category = $quiet->{categories}{$name};
	cmp_ok($category->{per_service_week}, '<=', $category->{budget}, "$name services stay within their budget");
}

SKIP:
{
	my $other = '../shared/eval/gen_services.py';
	skip('there is no other generator', 1) if !-e $other;
	system($python, $other, @generate[1 .. $#generate], '--out', "$folder/other") == 0 or die "$other failed\n";
	check_fleet('other', '--holidays');
}

done_testing();
