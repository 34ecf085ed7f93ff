# Every statement of docs/sources.md works as it stands there, and the problems
# that it explains are those that the check has words for.
use strict;
use warnings;
use Test::More;
use Smartbox::Cluster;
use Smartbox::VictoriaMetrics;

my $now = int(time / 300) * 300;
my $source = Smartbox::VictoriaMetrics->start;
$source->generate('--begin', $now - 86400, '--end', $now + 300, '--services', 'booking,search');

my $node = Smartbox::Cluster->launch('page');
open my $page, '<', 'docs/sources.md' or die "docs/sources.md: $!";
my $text = do { local $/; <$page> };
close $page;

my %answers;
my @blocks = $text =~ /^```sql\n(.*?)^```$/msg;
my $url = $source->url;
foreach my $block (@blocks)
{
	my ($first) = $block =~ /^(.*)/;
	my ($answer, $errors);
	my $sql = $block =~ s{http://127\.0\.0\.1:8428}{$url}gr;

	is($node->psql('shop', $sql, stdout => \$answer, stderr => \$errors, on_error_stop => 1), 0, $first) or diag($errors);
	unlike($errors, qr/WARNING|ERROR/, '... and without a warning') or diag($errors);
	$answers{$first} = $answer;
	# the next block is a session that has the settings
	$node->wait_for('shop', q{LOAD 'smartbox_anomaly'; SHOW smartbox_anomaly.vm_endpoint}, $url, 30);
}
is(scalar @blocks, 10, 'the page has statements');
is((grep { /^\w+\|\w+\|\d+\|.*\|\|$/ } split /\n/, $answers{'SELECT discover_services();'}), 10, 'the check finds nothing wrong')
  or diag($answers{'SELECT discover_services();'});
like($answers{q{SELECT * FROM backfill_metrics(NULL, '7 days');}}, qr/^booking\|.*\|2\d\d\|/m, 'the past is fetched');
like($answers{'SELECT status, services, pieces_done, pieces, samples, gaps, expected_end, last_error FROM smartbox.backfill_progress;'},
	qr/^succeeded\|2\|/m, 'and its progress is there');
like($answers{'CALL run_cycle();'}, qr/^\Q$url\E\|closed\|/m, 'so is the circuit breaker');

# The words in the table of problems are those of the sources.
my $sources = join '', map { open my $file, '<', $_ or die "$_: $!"; local $/; <$file> } glob 'src/sqlfn/source_check.c src/net/*.c';
my @problems = map { /^\| (`.*?) \|/ ? $1 =~ /`([^`]+)`/g : () } $text =~ /^## What the check says\n(.*?)^## /ms ? split /\n/, $1 : ();
cmp_ok(scalar @problems, '>', 16, 'the page explains problems');
foreach my $problem (grep { $_ ne 'problem' } @problems)
{
	my @parts = map { s/"/\\"/gr =~ s/has no (?:metric|label)\b/has no %s/r } grep { /\w/ } split /\s*\.\.\.\s*|"\.\.\."|\{\.\.\.\}/, $problem;
	is((grep { index($sources, $_) < 0 } @parts), 0, "there is: $problem");
}

done_testing();
