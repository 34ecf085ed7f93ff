# docs/how-detection-works.md: its statements run in the order in which they
# stand there, and what it says comes out does.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

open my $file, '<', 'docs/how-detection-works.md' or die "docs/how-detection-works.md: $!";
my $page = do { local $/; <$file> };
close $file;

my $node = Smartbox::Cluster->prepare('how_detection_works', 'autovacuum = off');
$node->start;

my @answers;
foreach my $block ($page =~ /^```sql\n(.*?)^```$/msg)
{
	my ($status, $out, $error) = $node->psql('postgres', $block, on_error_stop => 1);
	is($status, 0, 'runs: ' . (split /\n/, $block)[0]) or diag($error);
	push @answers, $out;
}
is(scalar @answers, 8, 'the page has eight blocks of statements');

is(scalar(grep { /\|accepted\|/ } split /\n/, $answers[0]), 5, 'five models are accepted');

# The rows of the answer that the page shows with these columns.
sub shown
{
	my ($column) = @_;
	my ($rows) = $page =~ /^```\n +$column .*?\n-.*?\n(.*?)^```$/ms;

	return [ map { join '|', map { s/^\s+|\s+$//gr } split /\|/ } split /\n/, $rows ];
}
is_deeply([ split /\n/, $answers[4] ], shown('anomaly_name'), 'the incidents are those that the page shows');
is_deeply([ split /\n/, $answers[7] ], shown('metric'), 'and so is the explanation');
like($answers[5], qr/\Adatabase_latency_high\|0\.\d+\|database_latency\n/, 'the culprit is named first');
like($answers[6], qr/^database_latency\|3[0-9.]+\|1[0-9.]+\|/m, 'and compared with what was expected');

# What the page says of samples that are no anomalies, and of pictures.
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM cycle, jsonb_to_recordset(payload #> '{explanation,metrics}') AS m (contribution float8)
	WHERE payload ->> 'alert_type' = 'no_anomaly' AND m.contribution <> 0}), '0', 'nobody is blamed when there is no anomaly');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM cycle WHERE payload ->> 'alert_type' = 'no_anomaly'}), '>', 700, 'most samples are none');
is($node->safe_psql('postgres', q{SELECT count(*) FROM smartbox.incidents WHERE first_seen > '2026-05-01 Europe/Paris' AND confirmed_at IS NOT NULL}),
	'0', 'a holiday that nobody told of is no incident');

# The severities, as score_to_severity() has them, at both ends of each band.
foreach my $score ([ -0.61, 'critical' ], [ -0.6, 'high' ], [ -0.31, 'high' ], [ -0.3, 'medium' ], [ -0.11, 'medium' ], [ -0.1, 'low' ])
{
	is($node->safe_psql('postgres', "SELECT score_to_severity($score->[0])"), $score->[1], "a score of $score->[0] is $score->[1]");
}
my @pictures = $page =~ /!\[[^\]]+\]\((images\/[\w-]+\.svg)\)/g;
is(scalar @pictures, 4, 'the page shows four pictures');
is_deeply([ grep { !-s "docs/$_" } @pictures ], [], 'and has them');

done_testing();
