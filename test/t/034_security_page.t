# Every statement of docs/security.md works as it stands there.
use strict;
use warnings;
use Smartbox::Certificates;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $folder = "$ENV{SMARTBOX_WORK}/page";
my $certificates = Smartbox::Certificates->new($folder);
my $right = $certificates->issue('right', san => 'IP:127.0.0.1');
my $fake = Smartbox::FakeHttpServer->start(tls => { SSL_cert_file => $right->{certificate}, SSL_key_file => $right->{key} });
my $node = Smartbox::Cluster->launch('page', "shared_preload_libraries = 'smartbox_anomaly'");
my $url = $fake->url('works');

$fake->answer('works', body => Smartbox::FakeHttpServer::vector([ 'booking', '0.5' ]));
$node->safe_psql('shop', q{INSERT INTO smartbox.services (service) VALUES ('booking')});
rename $certificates->authority, "$folder/ca.pem" or die $!;
foreach my $name (qw(token password))
{
	open my $file, '>', "$folder/$name" or die $!;
	print $file "secret-$name\n";
	close $file;
	chmod 0600, "$folder/$name";
}

open my $page, '<', 'docs/security.md' or die $!;
my @blocks = join('', <$page>) =~ /^```sql\n(.*?)^```$/msg;
close $page;
is(scalar @blocks, 4, 'the page has statements');

sub run_block
{
	my ($block) = @_;
	my $sql = $block =~ s{https://metrics\.example\.com:8427}{$url}gr =~ s{/etc/smartbox}{$folder}gr;
	my ($answer, $errors);

	# Each statement by itself, as psql does: ALTER SYSTEM runs in no transaction.
	is($node->psql('shop', $sql, stdout => \$answer, stderr => \$errors, on_error_stop => 1), 0, (split /\n/, $block)[0]) or diag($errors);
	return $answer;
}

sub authorization
{
	$node->wait_for('shop', 'SELECT metrics_present FROM collect_metrics()', '5', 30);
	return ($fake->requests('works'))[-1]{headers}{authorization};
}

run_block($blocks[$_]) foreach 0, 1;
is(authorization(), 'Bearer secret-token', 'the token is sent, to a server that is trusted');
run_block($blocks[2]);
$node->wait_for('shop', q{LOAD 'smartbox_anomaly'; SHOW smartbox_anomaly.vm_user}, 'reader', 30);
like(authorization(), qr/^Basic /, 'then the password');
like(run_block($blocks[3]), qr/^\Q$url\E\|closed\|0\|\|$/m, 'the circuit breaker is there');

done_testing();
