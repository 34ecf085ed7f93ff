# A psql that stays, so that two can be at it at once:
#
#   my $one = Smartbox::Session->new($node, 'one');
#   is($one->say('SELECT 1;'), '1');
#   $one->ask('SELECT pg_sleep(1);');    # does not wait
#   is($one->answer, '');
#
# The name is its application_name.
package Smartbox::Session;

use strict;
use warnings;
use IPC::Run ();

sub new
{
	my ($class, $node, $name) = @_;
	my ($in, $out) = ('', '');
	my $self = bless { name => $name, in => \$in, out => \$out }, $class;

	$self->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('shop') . " application_name=$name" ],
		'<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(180));
	return $self;
}

sub name
{
	my ($self) = @_;

	return $self->{name};
}

# Send statements, which may have to wait for another session.
sub ask
{
	my ($self, $statements) = @_;

	${ $self->{in} } .= "$statements\n\\echo answered\n";
	$self->{run}->pump_nb;
	return;
}

# What came of them: rows, errors.
sub answer
{
	my ($self) = @_;

	$self->{run}->pump until ${ $self->{out} } =~ s/\A(.*?)^answered\n//ms;
	my $answer = $1;
	chomp $answer;
	return $answer;
}

sub say
{
	my ($self, $statements) = @_;

	$self->ask($statements);
	return $self->answer;
}

# Its server process has gone: psql ends, too.
sub end
{
	my ($self) = @_;

	$self->{run}->kill_kill;
	return;
}

1;
