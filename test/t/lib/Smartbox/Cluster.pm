# A throw-away PostgreSQL with the extension at hand: PostgreSQL::Test::Cluster
# that also finds what "make install DESTDIR=..." has put into the test's work
# directory.  Stopped when the test ends.
#
#   my $node = Smartbox::Cluster->launch('main', 'max_connections = 20', ...);
#   is($node->safe_psql('shop', 'SELECT 1'), '1');
#
# The database "shop" has the extension.
package Smartbox::Cluster;

use strict;
use warnings;
use Time::HiRes ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();

our @ISA = ('PostgreSQL::Test::Cluster');

sub launch
{
	my ($class, $name, @settings) = @_;
	my $node = $class->prepare($name, @settings);

	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	$node->safe_psql('shop', 'CREATE EXTENSION smartbox_anomaly');
	return $node;
}

# The same, but not started and without the database.
sub prepare
{
	my ($class, $name, @settings) = @_;
	my $node = $class->new($name);
	my @found_by = `bash -c '. scripts/servers.sh; installed_extension_settings "\$1"' - '$ENV{SMARTBOX_WORK}/pg/install'`;

	$node->init;
	chomp @found_by;
	$node->append_conf('postgresql.conf', $_) foreach @found_by, @settings;
	return $node;
}

# Start a server whose postmaster was killed.  It refuses as long as any process
# of the old one is there, so this tries until it works.
sub start_after_crash
{
	my ($self, $seconds) = @_;
	my $deadline = Time::HiRes::time() + $seconds;

	$self->{_pid} = undef;
	until ($self->start(fail_ok => 1))
	{
		die "the server does not start within $seconds s" if Time::HiRes::time() > $deadline;
		# that of the old one, if it has left its file
		$self->{_pid} = undef;
		select(undef, undef, undef, 0.1);
	}
	return;
}

# Poll until the query returns what is expected, a string or a pattern; dies
# with the last answer when the time is up.
sub wait_for
{
	my ($self, $database, $query, $expected, $seconds) = @_;
	my $patience = 4 * $seconds;    # on an idle machine seconds do; only a failure takes longer
	my $deadline = Time::HiRes::time() + $patience;
	my $answer;

	while (1)
	{
		$answer = $self->safe_psql($database, $query);
		return $answer if ref $expected ? $answer =~ $expected : $answer eq $expected;
		die "after $patience s \"$query\" still gives \"$answer\", not \"$expected\""
		  if Time::HiRes::time() > $deadline;
		select(undef, undef, undef, 0.1);
	}
}

1;
