# What packagers read agrees with itself, and names files that are there.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils qw(slurp_file);
use Smartbox::Cluster;
use Test::More;

sub yaml
{
	my $json = `/usr/bin/python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)' <$_[0]`;

	return $? == 0 ? decode_json($json) : undef;
}

# ---------------------------------------------------------------------------
# META.json, by version 1 of PGXN's specification
# ---------------------------------------------------------------------------

my $version = $ENV{SMARTBOX_VERSION};
my $meta = decode_json(slurp_file('META.json'));

ok($meta->{$_}, "META.json has $_") foreach qw(name abstract maintainer license version provides meta-spec);
is($meta->{'meta-spec'}{version}, '1.0.0', 'its specification is the one that these tests know');
like($meta->{version}, qr/^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)$/, 'its version is a semantic one');
like($meta->{name}, qr{^[^\s/\\[:cntrl:]]{2,}$}, 'its name is a term');
my %licenses = map { $_ => 1 } qw(
	agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3 lgpl_2_1 lgpl_3_0
	mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib
	open_source restricted unrestricted unknown);
ok($licenses{ $meta->{license} }, 'its license is one of the words for one');
my %known = map { $_ => 1 } qw(
	name abstract description version maintainer license provides prereqs generated_by meta-spec tags
	no_index release_status resources);
is_deeply([ grep { !$known{$_} && !/^x_/i } sort keys %$meta ], [], 'it has no key of its own');
foreach my $phase (sort keys %{ $meta->{prereqs} })
{
	like($phase, qr/^(?:configure|build|test|runtime|develop)$/, "prerequisites of the phase $phase");
	like($_, qr/^(?:requires|recommends|suggests|conflicts)$/, "... that it $_") foreach sort keys %{ $meta->{prereqs}{$phase} };
}
ok(length $_ >= 1 && length $_ <= 256 && !m{[/\\[:cntrl:]]}, "the tag $_") foreach @{ $meta->{tags} };
my $provided = $meta->{provides}{smartbox_anomaly};
ok(-e $provided->{$_}, "it provides $provided->{$_}") foreach qw(file docfile);

# ---------------------------------------------------------------------------
# One version everywhere
# ---------------------------------------------------------------------------

is($meta->{version}, "$version.0", 'META.json has the version of the control file');
is($provided->{version}, $meta->{version}, '... and so has what it provides');
like(slurp_file('CHANGELOG.md'), qr/^# Changes\n\n## \Q$version\E /, 'CHANGELOG.md begins with it');
like(slurp_file('debian/changelog'), qr/^smartbox-anomaly \(\Q$version\E\) /, 'debian/changelog begins with it');
like(slurp_file('docs/installing.md'), qr/-smartbox-anomaly_\Q$version\E_amd64\.deb/, 'docs/installing.md names the package of it');

# ---------------------------------------------------------------------------
# debian/
# ---------------------------------------------------------------------------

foreach my $control ('debian/control', 'debian/tests/control')
{
	is(slurp_file($control), slurp_file("$control.in") =~ s/PGVERSION/15/gr, "$control is made from $control.in, for Debian 12");
}

# ---------------------------------------------------------------------------
# The container
# ---------------------------------------------------------------------------

my $dockerfile = slurp_file('Dockerfile') =~ s/\\\n\s*/ /gr;
my $context = PostgreSQL::Test::Utils::tempdir;

foreach my $line (grep { /^COPY (?!--from)/ } split /\n/, $dockerfile)
{
	my (undef, @files) = split ' ', $line;
	my $into = pop @files;

	foreach my $file (@files)
	{
		ok(-e $file, "Dockerfile copies $file");
		system('cp', '-r', $file, $into eq './' ? $context : "$context/" . ($into =~ m{^/} ? 'image' : $into)) == 0
		  or fail("... into $into");
	}
}
my $commands = `cd $context && rm -f sql/smartbox_anomaly--$version.sql && make -n -B -f Makefile all install DESTDIR=/nowhere 2>&1`;
is($?, 0, 'what it copies is enough to build and install') or diag($commands);
unlike($dockerfile, qr/smartbox_anomaly--(?!\Q$version\E)\d/, 'it knows of no other version');

my $compose = yaml('compose.yaml');
is(join(' ', sort keys %{ $compose->{services} }), 'grafana postgres victoriametrics', 'compose.yaml has three services');
foreach my $name (sort keys %{ $compose->{services} })
{
	my $service = $compose->{services}{$name};

	ok($service->{image} || -e "$service->{build}/Dockerfile", "$name has an image");
	foreach my $volume (@{ $service->{volumes} })
	{
		my ($source) = split /:/, $volume;
		ok($source =~ m{^\./} ? -e $source : exists $compose->{volumes}{$source}, "$name finds $source");
	}
	like($_, qr/^127\.0\.0\.1:\d+:\d+$/, "... and listens on loopback, $_") foreach @{ $service->{ports} };
	ok($compose->{services}{$_}, "... after $_") foreach @{ $service->{depends_on} };
}
my %database = (%{ $compose->{services}{postgres}{environment} }, command => join ' ', @{ $compose->{services}{postgres}{command} });
my $grafana = $compose->{services}{grafana}{environment};
is($grafana->{SMARTBOX_DB_NAME}, $database{POSTGRES_DB}, 'Grafana reads the database that is made');
is($grafana->{SMARTBOX_DB_PASSWORD}, $database{GRAFANA_PASSWORD}, '... with the password that its role is given');
like($database{command}, qr/smartbox_anomaly\.databases=\Q$database{POSTGRES_DB}\E(?: |$)/, 'the workers are for that database');
foreach my $file (glob 'dashboards/provisioning/*/*.yaml')
{
	my $text = slurp_file($file);

	ok(yaml($file), "$file can be read");
	ok(exists $grafana->{$_}, "... and $_ is given") foreach sort keys %{ { map { $_ => 1 } $text =~ /\$(SMARTBOX_\w+)/g } };
	foreach my $path ($text =~ /^\s*path: (\S+)$/mg)
	{
		ok((grep { /:\Q$path\E(?::ro)?$/ } @{ $compose->{services}{grafana}{volumes} }), "... and $path is mounted");
	}
}

# What the image runs in its new database.
my $node = Smartbox::Cluster->prepare('container');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE smartbox');
{
	local @ENV{qw(PGHOST PGPORT POSTGRES_USER POSTGRES_DB GRAFANA_PASSWORD)} =
	  ($node->host, $node->port, $node->safe_psql('postgres', 'SELECT current_user'), 'smartbox', q{it's "secret"});

	is(system('docker/create-extension.sh >/dev/null'), 0, 'the extension is made');
}
my ($role) = slurp_file('docs/grafana.md') =~ /^## A role for it\n.*?```sql\n(.*?)```/ms;
$node->safe_psql('smartbox', $role =~ s/\bgrafana\b/documented/gr);
my $allowed = q{
	SELECT string_agg(format('%s %s', c.oid::regclass, a.privilege_type), ',' ORDER BY c.oid, a.privilege_type)
	FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE a.grantee = 'WHO'::regrole
	UNION ALL SELECT string_agg(format('%s %s', p.oid::regprocedure, a.privilege_type), ',' ORDER BY p.oid)
	FROM pg_proc AS p, aclexplode(p.proacl) AS a WHERE a.grantee = 'WHO'::regrole
	UNION ALL SELECT rolconfig::text FROM pg_roles WHERE oid = 'WHO'::regrole};
my ($made, $documented) = map { $node->safe_psql('smartbox', $allowed =~ s/WHO/$_/gr) } qw(grafana documented);
is($made, $documented, 'the role is the one of docs/grafana.md');
like($made, qr/smartbox\.incidents SELECT/, '... which reads');
$node->stop;

done_testing();
