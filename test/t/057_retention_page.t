# Every statement of docs/retention.md runs as it stands there, and its answer
# is what the page shows.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

open my $file, '<', 'docs/retention.md' or die "docs/retention.md: $!";
my $page = do { local $/; <$file> };
close $file;

my $node = Smartbox::Cluster->launch('retention_page');
my $rows = q{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'booking', date_trunc('day', now(), 'UTC') - interval '2160 hours' - n * interval '5 min', '{1}' FROM generate_series(1, 120) AS n;
	INSERT INTO smartbox.detections (service, ts, time_period, processed_at)
	SELECT 'booking', date_trunc('day', now(), 'UTC') - interval '720 hours' - n * interval '5 min', 'night_hours', now() FROM generate_series(1, 60) AS n;
	INSERT INTO smartbox.detections (service, ts, time_period, processed_at) VALUES ('booking', now(), 'night_hours', now())};
$node->safe_psql('shop', $rows);

my @blocks = $page =~ /^```(\w*)\n(.*?)^```$/msg;
my ($answer, $runs) = ('', 0);
while (my ($kind, $text) = splice @blocks, 0, 2)
{
	if ($kind eq 'sql')
	{
		my $status = $node->psql('shop', $text, stdout => \$answer, stderr => \my $errors, on_error_stop => 1);
		is($status, 0, 'runs: ' . (split /\n/, $text)[0]) or diag($errors);
		$runs++;
	}
	else
	{
		my @shown = map { join '|', map { s/^\s+|\s+$//gr } split /\|/ } grep { /\d/ } split /\n/, $text;
		is($answer, join("\n", @shown), '... with the rows that the page shows');
	}
}
cmp_ok($runs, '>=', 3, 'the page has statements');

foreach my $setting (split /\n/, $node->safe_psql('postgres', q{
	LOAD 'smartbox_anomaly';
	SELECT format('| `%s` | %s |', name, CASE boot_val::int % 1440 WHEN 0 THEN boot_val::int / 1440 || 'd' END)
	FROM pg_settings WHERE name LIKE 'smartbox_anomaly.%_retention'}))
{
	like($page, qr/\Q$setting\E/, "the page has $setting");
}
done_testing();
