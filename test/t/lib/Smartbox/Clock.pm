# The clock that samples go by.
package Smartbox::Clock;
use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = ('sample_time');

my $interval = 300;

# The beginning of the interval between samples that we are in, in seconds since
# 1970.  At least so many seconds of it are left: a test that needs them would
# otherwise see its last sample become the one before the last.
sub sample_time
{
	my ($seconds_left) = @_;
	my $left = $interval - time % $interval;

	sleep $left if $left < $seconds_left;
	return time - time % $interval;
}

1;
