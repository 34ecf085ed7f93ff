# A throw-away Prometheus on a free port of the loopback interface, with the
# points of a file in OpenMetrics' text format.  Stopped when the object goes,
# and by test/run at last.
#
#   my $source = Smartbox::Prometheus->start($file);
#   $source->url
package Smartbox::Prometheus;

use strict;
use warnings;
use File::Temp qw(tempdir);

sub start
{
	my ($class, $openmetrics) = @_;
	my $folder = tempdir('prometheus.XXXXXX', DIR => $ENV{SMARTBOX_WORK});
	my $self = bless { folder => $folder, owner => $$ }, $class;

	system('promtool', 'tsdb', 'create-blocks-from', '-q', 'openmetrics', $openmetrics, "$folder/prometheus") == 0
	  or die "promtool does not take $openmetrics";
	system('bash', '-c', '. scripts/servers.sh; start_prometheus "$1"', '-', $folder) == 0
	  or die "Prometheus does not start";
	open my $file, '<', "$folder/prometheus.url" or die $!;
	chomp($self->{url} = <$file>);
	return $self;
}

sub url { return $_[0]{url} }

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	system('bash', '-c', '. scripts/servers.sh; stop_servers "$1"', '-', $self->{folder}) if $self->{owner} == $$;
	return;
}

1;
