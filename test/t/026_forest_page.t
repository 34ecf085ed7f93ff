# docs/isolation-forest.md shows what test/sql/forest.sql runs, and what comes
# out of it.
use strict;
use warnings;
use Test::More;

sub read_file
{
	my ($path) = @_;
	open my $file, '<', $path or die "$path: $!";
	local $/;
	return scalar <$file>;
}

# Blank lines and spaces at the end of lines do not matter.
sub squeeze
{
	my ($text) = @_;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\n+/\n/g;
	$text =~ s/\A\n//;
	return $text;
}

my $page = read_file('docs/isolation-forest.md');
my ($run) = read_file('test/sql/forest.sql') =~ /^-- docs\/isolation-forest\.md: begin\n(.*?)^-- docs\/isolation-forest\.md: end$/ms;
my $answers = squeeze(read_file('expected/forest.out'));
my @blocks = $page =~ /^```(\w*)\n(.*?)^```$/msg;
my (%statements, @outputs);

while (my ($kind, $text) = splice @blocks, 0, 2)
{
	if ($kind eq 'sql') { $statements{$_}++ foreach split /(?<=;)\n/, squeeze($text) }
	else { push @outputs, squeeze($text) }
}

my @run = split /(?<=;)\n/, squeeze($run);
cmp_ok(scalar @run, '>', 10, 'the test runs the statements of the page');
is_deeply([ grep { !$statements{$_} } @run ], [], 'all that is run is on the page');
delete @statements{@run};
is_deeply([ keys %statements ], [], 'all that is on the page is run');
cmp_ok(scalar @outputs, '>', 3, 'the page shows what comes out');
ok(index($answers, $_) >= 0, '... as it does: ' . (split /\n/, $_)[0]) foreach @outputs;

done_testing();
