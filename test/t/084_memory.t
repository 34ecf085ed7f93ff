# The memory of a session over some hundred cycles; "make soak" has ten thousand.
use strict;
use warnings;
# its INIT blocks run only when the program begins
use Smartbox::Cluster;
use Test::More;

$ENV{CYCLES} = 400;
do './test/soak/memory.t' or die $@ || $!;
