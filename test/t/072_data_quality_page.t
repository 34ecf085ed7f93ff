# Every statement in docs/data-quality.md works, and what it says comes out does.
use strict;
use warnings;
use Test::More;
use Smartbox::Cluster;

my $page = do
{
	local $/;
	open my $file, '<', 'docs/data-quality.md' or die "docs/data-quality.md: $!";
	<$file>;
};
my @blocks = $page =~ /^```(\w*)\n(.*?)^```$/msg;
my $node = Smartbox::Cluster->launch('quality');

# Yesterday and today of a service, of one that reports in part, and of one that has stopped.
$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking'), ('search'), ('vouchers');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT s, date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes',
		ARRAY[CASE WHEN s = 'search' AND n % 5 < 2 THEN NULL ELSE 10 + sin(n) END, 80 + sin(n * 2), 50 + sin(n * 3), 5 + sin(n * 5), 0.001]
	FROM unnest(ARRAY['booking', 'search', 'vouchers']) AS s, generate_series(1, 8500) AS n
	WHERE s <> 'vouchers' OR n > 40;
	SELECT count(*) FROM train_models('{booking}')});

my @answers;
while (my ($kind, $text) = splice @blocks, 0, 2)
{
	if ($kind eq 'sql')
	{
		my ($answer, $said) = ('', '');
		my ($first) = $text =~ /^(.*)/;

		is($node->psql('shop', $text, stdout => \$answer, stderr => \$said, on_error_stop => 1), 0, $first) or diag($said);
		is($said, '', '... without a complaint');
		push @answers, $answer;
		next;
	}
	my @shown = split /\n/, $text;
	is($answers[-1], join("\n", @shown), 'it answers what the page shows: ' . $shown[0]), next if $shown[0] ne 'good';

	# Verdicts, with numbers and names of their own.
	my $source = do { local $/; open my $file, '<', 'sql/72-quality.sql' or die $!; <$file> };
	my @patterns = map { my $words = quotemeta; $words =~ s/\\%s/.+/g; $words =~ s/\\%\\%/%/g; qr/^$words$/ }
	  'good', $source =~ /format\('([^']*)'/g;
	foreach my $verdict (@shown)
	{
		ok(scalar(grep { $verdict =~ $_ } @patterns), "there is such a verdict: $verdict");
	}
}
is(scalar @answers, 4, 'the page has statements');
like($answers[1], qr/^vouchers\|0\.8.*no sample since .* UTC, while others report; 1[3-6] % of the expected samples are missing/m, 'a service has stopped');
like($answers[1], qr/^search\|.*request_rate is missing in 40 % of the samples: check its query$/m, 'a metric is missing');
unlike($answers[1], qr/^booking/m, 'and one is good');
like($answers[1], qr/^search\|request_rate\|0\.4/m, 'which is the metric');
like($answers[2], qr/^booking\|night_hours\|\d+\|own samples\|0\|/m, 'it has models');

done_testing();
