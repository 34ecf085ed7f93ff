# Pages of docs/ whose statements need nothing but themselves, or a metric source
# with a month of two services: each in a database of its own, called shop.
use strict;
use warnings;
use Smartbox::Cluster;
use Smartbox::Page;
use Smartbox::VictoriaMetrics;
use Test::More;

my $now = int(time / 300) * 300;
my $source = Smartbox::VictoriaMetrics->start;
$source->generate('--begin', $now - 30 * 86400, '--end', $now + 300, '--services', 'booking,search');
my $node = Smartbox::Cluster->launch('pages');

my %needs_source = ('adding-a-metric' => 'booking', 'moving-from-the-python-pipeline' => undef);

foreach my $name ('periods-and-calendars', 'adding-a-metric', 'moving-from-the-python-pipeline')
{
	my $page = Smartbox::Page->open("docs/$name.md");

	$node->safe_psql('postgres', 'DROP DATABASE shop');
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	$node->safe_psql('shop', q{CREATE EXTENSION smartbox_anomaly});
	if ($needs_source{$name})
	{
		$node->safe_psql('shop', "LOAD 'smartbox_anomaly'; ALTER DATABASE shop SET smartbox_anomaly.vm_endpoint = '" . $source->url . "'");
		$node->safe_psql('shop', "INSERT INTO smartbox.services (service) VALUES ('$needs_source{$name}')");
	}
	$page->run($node, 'shop', 'http://127.0.0.1:8428' => $source->url);
}
is($node->safe_psql('shop', q{SELECT count(*) FROM smartbox.detections}), '2', 'the last page has run a cycle');

# Every page of docs/ is in the README, and what it links to is there.
my %links = map { $_ => 1 } links('README.md', '');
foreach my $file (sort glob 'docs/*.md')
{
	ok($links{$file}, "README.md speaks of $file");
	ok(-e $_, "$file links to $_") foreach links($file, 'docs/');
}
ok(-e $_, "README.md links to $_") foreach sort keys %links;

# What architecture.md speaks of is there.
my %files = map { $_ => 1 } text_of('docs/architecture.md') =~ /`((?:[\w-]+\/)*[\w-]+\.(?:[ch]|sql|pm|t))`/g;
cmp_ok(scalar keys %files, '>', 10, 'architecture.md names files');
foreach my $name (sort keys %files)
{
	ok(scalar(grep { -e } $name, "src/$name", "sql/$name", glob "src/*/$name"), "... and $name is one");
}

sub text_of
{
	my ($name) = @_;

	open my $file, '<', $name or die "$name: $!\n";
	local $/;
	return <$file>;
}

sub links
{
	my ($name, $folder) = @_;

	return map { "$folder$_" =~ s{[^/]+/\.\./}{}r } grep { $_ ne '' && !/^https?:/ } map { s/#.*//r } text_of($name) =~ /\]\(([^)\s]+)\)/g;
}

done_testing();
