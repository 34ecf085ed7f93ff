# Who may include whom.  db/ and net/ never meet except in sqlfn/ (and worker/),
# which is what keeps HTTP and transactions apart.
use strict;
use warnings;
use Test::More;

my %allowed = (
	core => [qw(core)],
	pg => [qw(core pg)],
	db => [qw(core pg db)],
	net => [qw(core pg net)],
	worker => [qw(core pg db net worker)],
	sqlfn => [qw(core pg db net sqlfn)]);

my @files = glob('src/*/*.[ch]');
cmp_ok(scalar @files, '>', 10, 'there are sources');
is_deeply([ grep { !m{^src/(\w+)/} || !$allowed{$1} } @files ], [], 'every folder has its rule');

my (@crossing, @server_in_core, @curl_outside_net, @postgres_not_first, @long);
foreach my $file (@files)
{
	my ($folder) = $file =~ m{^src/(\w+)/};
	open my $source, '<', $file or die "$file: $!";
	my @lines = <$source>;
	my @includes = map { /^\s*#\s*include\s*([<"][^>"]+)/ ? $1 : () } @lines;

	foreach my $include (@includes)
	{
		my ($name) = $include =~ /^.(.*)/;
		my ($target) = $name =~ m{^(\w+)/};

		if ($include =~ /^"/ && $target && $allowed{$target})
		{
			push @crossing, "$file: $name" unless grep { $_ eq $target } @{ $allowed{$folder} };
		}
		push @curl_outside_net, "$file: $name" if $name =~ m{^curl/} && $folder ne 'net';
		# core/ has its own headers, the C library's and yajl's.
		push @server_in_core, "$file: $name"
		  if $folder eq 'core' && $include =~ /^"/ && ($target // '') ne 'core';
	}
	push @postgres_not_first, $file
	  if $file =~ /\.c$/ && $folder ne 'core' && ($includes[0] // '') ne '"postgres.h';
	push @long, "$file: " . @lines if @lines > 700;
}

is_deeply(\@crossing, [], 'nobody includes across a wall');
is_deeply(\@server_in_core, [], 'core knows no server');
is_deeply(\@curl_outside_net, [], 'only net knows libcurl');
is_deeply(\@postgres_not_first, [], 'postgres.h comes first outside core');
is_deeply(\@long, [], 'no file is two things');

done_testing();
