# The shared library exports nothing but what PostgreSQL looks for by name:
# it loads modules with global scope, where another module's function of the
# same name would be taken for ours.
use strict;
use warnings;
use Test::More;

plan skip_all => 'the coverage build exports the names of its counters' if $ENV{COVERAGE};

my $pkglibdir = `$ENV{PG_CONFIG} --pkglibdir`;
chomp $pkglibdir;
my $library = "$ENV{SMARTBOX_WORK}/pg/install$pkglibdir/smartbox_anomaly.so";

my @symbols = map { (split)[2] } `nm -D --defined-only '$library'`;
my @magic = qw(Pg_magic_func _PG_init);
my %exported = map { $_ => 1 } @symbols;

ok($exported{$_}, "$_ is exported") foreach @magic;

my @functions = grep { !/^(?:Pg_magic_func|_PG_init)$/ } @symbols;
is_deeply([ grep { !/^(?:pg_finfo_)?sba_/ } @functions ], [], 'all other exported names begin with sba_');

# What is exported is what SQL can call, a function and its description, and
# where background workers begin.
my @workers = grep { /^sba_\w+_worker_main$/ } @functions;
my @callable = grep { /^sba_/ && !/_worker_main$/ } @functions;
cmp_ok(scalar @workers, '>', 0, 'there are background workers');
cmp_ok(scalar @callable, '>', 0, 'there are functions for SQL');
is_deeply([ grep { !$exported{"pg_finfo_$_"} } @callable ], [], 'nothing is exported that SQL does not call');

# Every C function that the install script names is there.
open my $script, '<', "sql/smartbox_anomaly--$ENV{SMARTBOX_VERSION}.sql" or die $!;
my %named = map { $_ => 1 } join('', <$script>) =~ /'MODULE_PATHNAME'\s*,\s*'(\w+)'/g;
is_deeply([ sort grep { !$exported{$_} } keys %named ], [], 'every function that the script names is exported');
is_deeply([ sort grep { !$named{$_} } @callable ], [], 'every exported function is named in the script');

done_testing();
