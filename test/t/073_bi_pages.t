# docs/reading-it-from-bi.md and docs/past-incidents.md: every statement runs as
# it stands there, and what the page shows comes out.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('pages');

sub page
{
	my ($name) = @_;
	open my $file, '<', "docs/$name" or die "docs/$name: $!";
	local $/;
	return <$file>;
}

sub run_page
{
	my ($name) = @_;
	my @blocks = page($name) =~ /^```(\w*)\n(.*?)^```$/msg;
	my ($answer, $runs) = ('', 0);

	while (my ($kind, $text) = splice @blocks, 0, 2)
	{
		if ($kind eq 'sql')
		{
			my $status = $node->psql('shop', $text, stdout => \$answer, stderr => \my $errors, on_error_stop => 1);
			is($status, 0, "$name: " . (split /\n/, $text)[0]) or diag($errors);
			$runs++;
		}
		elsif ($kind eq '')
		{
			my (undef, undef, @rows) = split /\n/, $text;
			my @shown = map { join '|', map { s/^\s+|\s+$//gr } split /\|/, "$_ " } @rows;
			is($answer, join("\n", @shown), '... with the rows that the page shows');
		}
	}
	return $runs;
}

$node->safe_psql('shop', q{
	CREATE FUNCTION pg_temp.noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
	$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'booking', t.ts, ARRAY[100 * pg_temp.noise(k, 0.07),
		120 * pg_temp.noise(k + 1, 0.06) * CASE WHEN t.ts BETWEEN '2024-01-15 10:20+00' AND '2024-01-15 11:20+00' THEN 6 ELSE 1 END,
		40 * pg_temp.noise(k + 2, 0.08), 8 * pg_temp.noise(k + 3, 0.08), 0.002 * pg_temp.noise(k + 4, 0.2)]
	FROM generate_series('2023-12-16 00:05+00'::timestamptz, '2024-01-22 00:00+00', '5 min') AS t(ts),
		LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + 7 AS k) AS seed;
	INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
	SELECT 'booking', '2024-01-15 10:00+00'::timestamptz + minute * interval '1 min', minute IN (20, 25),
		jsonb_build_object('anomalies', CASE WHEN minute IN (20, 25) THEN '[{"name": "application_latency_high", "score": -0.4}]'::jsonb ELSE '[]' END)
	FROM unnest(ARRAY[20, 25, 30, 35, 40]) AS minute ORDER BY minute});
cmp_ok(run_page('past-incidents.md'), '==', 5, 'all statements about past incidents');
cmp_ok(run_page('reading-it-from-bi.md'), '>=', 9, 'all statements for BI');
is($node->safe_psql('shop', 'SET ROLE bi_reader; SELECT count(*) FROM smartbox.service_health'), '1', 'the reader can read');
done_testing();
