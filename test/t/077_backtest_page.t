# Every statement of docs/backtesting.md works as it stands there.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('backtesting');
$node->safe_psql('shop', q{
	CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
	$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
	INSERT INTO smartbox.services (service) VALUES ('booking'), ('search');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT s.service, t.ts, ARRAY[100 * noise(k, 0.07),
		120 * noise(k + 1, 0.06) * CASE WHEN t.ts BETWEEN '2024-03-31 10:00+00' AND '2024-03-31 11:00+00' THEN 6 ELSE 1 END,
		40 * noise(k + 2, 0.08), 8 * noise(k + 3, 0.08), 0.002 * noise(k + 4, 0.2)]
	FROM (VALUES ('booking', 1), ('search', 2)) AS s(service, n),
		generate_series('2024-03-01 00:05+00'::timestamptz, '2024-04-01 00:00+00', '5 min') AS t(ts),
		LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + s.n * 7 AS k) AS seed;
});

open my $page, '<', 'docs/backtesting.md' or die "docs/backtesting.md: $!";
my @statements = do { local $/; <$page> } =~ /^```sql\n(.*?)^```$/msg;
close $page;
is(scalar @statements, 7, 'the page has its statements');

my %answers;
foreach my $statement (@statements)
{
	my $status = $node->psql('shop', $statement, stdout => \my $answer, stderr => \my $errors, on_error_stop => 1);

	is($status, 0, (split /\n/, $statement)[0]) or diag($errors);
	is($errors, '', '... and without a warning');
	$answers{$statement} = $answer;
}
like($answers{ $statements[0] }, qr/application_latency_high\|CONFIRM\|t$/m, 'the fault is confirmed');
like($answers{ $statements[1] }, qr/^application_latency_high\|critical\|/m, 'and is an incident');
like($answers{ $statements[2] }, qr/^\{"confirmation_cycles": 3\}\|\d+\|\d+$/m, 'there is a row for each set of options');
like($answers{ $statements[3] }, qr/^[1-9]\d*\|[1-9]\d*$/, 'a smaller budget still finds it');
is($answers{ $statements[5] }, '', 'a run has nothing that the same run has not');
is($node->safe_psql('shop', "SELECT confirmation_cycles FROM smartbox.services WHERE service = 'booking'"), '3', 'the change is made');

# What the page says of options is what there is.
my ($table) = do { open my $again, '<', 'docs/backtesting.md' or die $!; local $/; <$again> } =~ /^(\| Option .*?)\n\n/ms;
my %documented = map { $_ => 1 } map { /`([a-z_]+)`/g } map { (split /\|/)[1] } grep { /^\| `/ } split /\n/, $table;
my (undef, undef, $hint) = $node->psql('shop', q{SELECT backtest('booking', now(), now(), '{"tresh": 1}')});
my ($known) = $hint =~ /There are: (.*)\./;
is_deeply([ sort keys %documented ], [ sort split /, /, $known ], 'each option is on the page, and none more');

done_testing();
