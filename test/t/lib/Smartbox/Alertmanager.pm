# A throw-away Alertmanager on a free port of the loopback interface, in the
# test's work directory.  Stopped when the object goes, and by test/run at last.
#
#   my $alertmanager = Smartbox::Alertmanager->start;
#   my @alerts = $alertmanager->alerts;      # the active ones, as its API gives them
package Smartbox::Alertmanager;

use strict;
use warnings;
use File::Temp qw(tempdir);
use HTTP::Tiny;
use JSON::PP;

sub start
{
	my ($class) = @_;
	my $folder = tempdir('alertmanager.XXXXXX', DIR => $ENV{SMARTBOX_WORK});
	my $self = bless { folder => $folder, owner => $$, http => HTTP::Tiny->new(timeout => 60) }, $class;

	system('bash', '-c', '. scripts/servers.sh; start_alertmanager "$@"', '-', $folder) == 0
	  or die "Alertmanager does not start";
	open my $file, '<', "$folder/alertmanager.url" or die $!;
	chomp($self->{url} = <$file>);
	return $self;
}

sub url { return $_[0]{url} }

sub alerts
{
	my ($self) = @_;
	my $answer = $self->{http}->get("$self->{url}/api/v2/alerts");

	die "alerts: $answer->{status} $answer->{content}" unless $answer->{success};
	return @{ decode_json($answer->{content}) };
}

sub stop
{
	my ($self) = @_;

	return if $self->{stopped}++;
	system('bash', '-c', '. scripts/servers.sh; stop_servers "$1"', '-', $self->{folder});
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	$self->stop if $self->{owner} == $$;
	return;
}

1;
