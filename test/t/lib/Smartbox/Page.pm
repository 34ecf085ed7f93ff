# A page of docs/ as its reader uses it: every statement runs in the order in
# which it stands there, each block in a session of its own, and what the page
# shows below it comes out.
#
#   my $page = Smartbox::Page->open('docs/tuning-noise.md');
#   $page->run($node, 'shop', 'http://127.0.0.1:8428' => $source->url);
#
# In what a page shows, "..." stands for whatever comes out there.
package Smartbox::Page;

use strict;
use warnings;
use Test::More;

sub open ## no critic (ProhibitBuiltinHomonyms)
{
	my ($class, $name) = @_;

	CORE::open(my $file, '<', $name) or die "$name: $!\n";
	my $text = do { local $/; <$file> };
	close $file;
	return bless { name => $name, text => $text }, $class;
}

# Pairs of kind and text: sql, sh, conf, ..., or output where none is written.
sub blocks
{
	my ($self) = @_;
	my @blocks = $self->{text} =~ /^```(\w*)\n(.*?)^```$/msg;

	return map { [ $blocks[ 2 * $_ ] || 'output', $blocks[ 2 * $_ + 1 ] ] } 0 .. $#blocks / 2;
}

# Run all statements; the pairs say what is put in the place of what.  Returns
# the answers, one for each block of statements.
sub run
{
	my ($self, $node, $database, @replacements) = @_;
	my @answers;

	foreach my $block ($self->blocks)
	{
		my ($kind, $text) = @$block;

		if ($kind eq 'sql')
		{
			for (my $i = 0; $i < @replacements; $i += 2)
			{
				$text =~ s/\Q$replacements[$i]\E/$replacements[$i + 1]/g;
			}
			my $status = $node->psql($database, $text, stdout => \my $answer, stderr => \my $errors, on_error_stop => 1);
			my ($first) = grep { !/^--/ } split /\n/, $text;

			is($status, 0, "$self->{name}: $first") or diag($errors);
			unlike($errors, qr/WARNING|ERROR/, '... and without a warning') or diag($errors);
			push @answers, $answer;
		}
		elsif ($kind eq 'output')
		{
			my $pattern = rows_of($text);

			like($answers[-1], qr/^$pattern$/m, '... with what the page shows')
			  or diag("the page shows\n$text");
		}
	}
	cmp_ok(scalar @answers, '>', 0, "$self->{name} has statements");
	return @answers;
}

# A pattern for what psql -At says where a page shows a table.
sub rows_of
{
	my (undef, undef, @rows) = grep { !/^\(\d+ rows?\)$/ } split /\n/, $_[0];

	return join '\n', map {
		join '\|', map { s/^\s+|\s+$//gr =~ s/(\.\.\.)|([^.]+|\.)/$1 ? '.*' : quotemeta $2/ger } split /\|/, "$_ "
	} @rows;
}

1;
