# A psql that is started anew when the server has gone, for tests in which it
# does.
#
#   my $session = Smartbox::SteadySession->new($node, 'watcher');
#   my $answer = $session->say('SELECT 1');    # undef: the server went away
#   $session->ask('SELECT pg_sleep(1)');       # does not wait
#   $answer = $session->answer;
#
# The name is its application_name.  What goes wrong is in the answer.
package Smartbox::SteadySession;

use strict;
use warnings;
use IPC::Open2 ();

sub new
{
	my ($class, $node, $name) = @_;
	return bless { connection => $node->connstr('shop') . " application_name=$name" }, $class;
}

sub connect
{
	my ($self) = @_;
	$self->{pid} = IPC::Open2::open2(my $out, my $in, 'sh', '-c', 'exec psql -XAtq -d "$1" 2>&1', '-', $self->{connection});
	$in->autoflush(1);
	@$self{qw(in out)} = ($in, $out);
	return;
}

sub ask
{
	my ($self, $statement) = @_;

	local $SIG{PIPE} = 'IGNORE';

	$self->connect unless $self->{pid};
	$self->{asked}++;
	print { $self->{in} } "$statement\n;\\echo answered\n";
	return;
}

# Of all that was asked; undef when nothing was, or the server went away.
sub answer
{
	my ($self) = @_;
	my $answer = '';

	return unless $self->{asked};
	while (defined(my $line = readline $self->{out}))
	{
		if ($line ne "answered\n")
		{
			$answer .= $line;
			next;
		}
		if (--$self->{asked} == 0)
		{
			chomp $answer;
			return $answer;
		}
	}
	close $self->{in};
	close $self->{out};
	waitpid $self->{pid}, 0;
	delete @$self{qw(pid asked)};
	return;
}

sub say
{
	my ($self, $statement) = @_;

	$self->ask($statement);
	return $self->answer;
}

1;
