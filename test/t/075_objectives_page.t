# Every statement of docs/objectives-and-dependencies.md works as it stands
# there, in order, and what it says comes out does.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('objectives');
open my $page, '<', 'docs/objectives-and-dependencies.md' or die "docs/objectives-and-dependencies.md: $!";
my @blocks = do { local $/; <$page> } =~ /^```(\w*)\n(.*?)^```$/msg;
close $page;

# A printed table as psql -At gives it.
sub rows_of
{
	my (undef, undef, @rows) = split /\n/, $_[0];
	return join "\n", map { join '|', map { s/^\s+|\s+$//gr } split /\|/, "$_ " } @rows;
}

my ($statements, $tables, $answer) = (0, 0, '');
while (my ($kind, $text) = splice @blocks, 0, 2)
{
	if ($kind eq 'sql')
	{
		my ($first) = $text =~ /^(.*)/;
		my $status = $node->psql('shop', $text, stdout => \$answer, stderr => \my $errors, on_error_stop => 1);

		is($status, 0, $first) or diag($errors);
		unlike($errors, qr/WARNING|ERROR/, '... and without a warning') or diag($errors);
		$statements++;
	}
	else
	{
		my $shown = rows_of($text);

		ok(index("$answer\n", "$shown\n") >= 0, '... with the rows that the page shows') or diag("it shows\n$shown\nand comes out\n$answer");
		$tables++;
	}
}
cmp_ok($statements, '>', 8, 'the page has statements');
cmp_ok($tables, '>', 5, '... and says what comes out');

is($node->safe_psql('shop', q{SELECT payload #>> '{anomalies,0,metadata,suspected_root_cause,service}' FROM smartbox.alerts WHERE service = 'search'}),
	'catalog', 'the alert says the suspected root cause');
is($node->safe_psql('shop', q{SELECT string_agg(alert_type || ' ' || severity, ', ' ORDER BY alert_number) FROM smartbox.alerts WHERE service = 'booking'}),
	'anomaly_detected critical', 'nobody was told of what was acceptable');

done_testing();
