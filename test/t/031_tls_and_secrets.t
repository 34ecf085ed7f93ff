# The way to the metric source is nobody else's: certificates are verified,
# and passwords and tokens are seen by the source alone.
use strict;
use warnings;
use IO::Socket::INET;
use MIME::Base64;
use POSIX ();
use Smartbox::Certificates;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $certificates = Smartbox::Certificates->new("$ENV{SMARTBOX_WORK}/tls");
my $right = $certificates->issue('right', san => 'IP:127.0.0.1');
my $other_name = $certificates->issue('other_name', san => 'DNS:metrics.example.com');
my $expired = $certificates->issue('expired', san => 'IP:127.0.0.1', expired => 1);
my $self_signed = $certificates->self_signed('self_signed', san => 'IP:127.0.0.1');
my $client = $certificates->issue('client', san => 'DNS:postgres');

my $works = Smartbox::FakeHttpServer::vector([ 'booking', '12.5' ]);

sub tls_server
{
	my ($certificate, @options) = @_;
	my $fake = Smartbox::FakeHttpServer->start(
		tls => { SSL_cert_file => $certificate->{certificate}, SSL_key_file => $certificate->{key}, @options });
	$fake->answer('works', body => $works);
	return $fake;
}

# What must not be seen anywhere; the tests look for each.
my $token = 'tok-3nReCk0ning-Zq';
my $password = 'pw-Un9uessable-Xw';
my $folder = "$ENV{SMARTBOX_WORK}/secrets";
mkdir $folder or die $!;

sub write_secret
{
	my ($name, $text, $mode) = @_;
	unlink "$folder/$name";
	open my $file, '>', "$folder/$name" or die $!;
	print $file $text;
	close $file;
	chmod defined $mode ? $mode : 0600, "$folder/$name" or die $!;
	return "$folder/$name";
}

my $token_file = write_secret('token', "$token\n");
my $password_file = write_secret('password', $password);

my $node = do
{
	# The server must not use these: it goes where its settings say.
	my $home = "$ENV{SMARTBOX_WORK}/home";
	mkdir $home;
	open my $netrc, '>', "$home/.netrc" or die $!;
	print $netrc "machine 127.0.0.1 login netrc password from-netrc\n";
	close $netrc;
	local @ENV{qw(http_proxy https_proxy all_proxy ALL_PROXY)} = ('http://127.0.0.1:9') x 4;
	local @ENV{qw(HOME NETRC)} = ($home, "$home/.netrc");
	Smartbox::Cluster->launch('tls', 'smartbox_anomaly.vm_max_retries = 1', "smartbox_anomaly.vm_timeout = '5s'",
		'log_min_messages = debug5', 'log_statement = all', 'log_min_error_statement = debug5', 'log_connections = on',
		'log_duration = on', 'log_line_prefix = ' . q{'%m [%p] %a %c %i '}, 'debug_print_plan = on', 'log_parser_stats = on');
};
$node->safe_psql('shop', q{UPDATE smartbox.metrics SET enabled = false WHERE metric <> 'request_rate';
	INSERT INTO smartbox.services (service) VALUES ('booking')});

my $everything_said = '';

# Collect with settings; returns the value or the error.
sub collect
{
	my ($url, %settings) = @_;
	my ($output, $said) = ('', '');

	$node->psql('shop', join("\n", '\set VERBOSITY verbose', "SET client_min_messages = debug5;", "SET smartbox_anomaly.vm_endpoint = '$url';",
			map({ "SET smartbox_anomaly.$_ = '$settings{$_}';" } sort keys %settings), 'SELECT metrics_present FROM collect_metrics();',
			'SELECT endpoint, last_error FROM smartbox.circuit_breakers;', 'SELECT query, wait_event FROM pg_stat_activity;'),
		stdout => \$output, stderr => \$said, extra_params => ['-q']);
	$everything_said .= $output . $said;
	$said =~ s/^psql:<stdin>:\d+: //mg;
	return ($said =~ /^(ERROR:.*(?:\n(?:DETAIL|HINT):.*)*)/m)[0] || ($output =~ /^(\d+)/)[0];
}

# ---------- certificates ----------

my %fake = (
	right => tls_server($right),
	other_name => tls_server($other_name),
	expired => tls_server($expired),
	self_signed => tls_server($self_signed),
	asks => tls_server($right, SSL_verify_mode => 3, SSL_ca_file => $certificates->authority),
	old => tls_server($right, SSL_version => 'TLSv1_1', SSL_cipher_list => 'ALL:@SECLEVEL=0'));
my @trusted = (vm_ca_file => $certificates->authority);

is(collect($fake{right}->url('works'), @trusted), '1', 'a right certificate');
sub not_trusted
{
	my ($name, $detail, $what, @settings) = @_;
	my $host = $fake{$name}->host;

	like(collect($fake{$name}->url('works'), @settings),
		qr/^ERROR:  08006: could not fetch metric "request_rate" from "\Q$host\E"\nDETAIL:  $detail/, $what);
	is(scalar $fake{$name}->requests, 0, '... and nothing is sent');
	return;
}
my $asked = $fake{right}->requests;
like(collect($fake{right}->url('works')), qr/DETAIL:  SSL certificate problem: unable to get local issuer certificate\./,
	'an unknown authority');
is(scalar $fake{right}->requests, $asked, '... and nothing is sent');
not_trusted('other_name', qr/SSL: no alternative certificate subject name matches target (?:host name|ipv4 address) '127\.0\.0\.1'\./, 'a certificate for another name', @trusted);
not_trusted('expired', qr/SSL certificate problem: certificate has expired\./, 'an expired certificate', @trusted);
not_trusted('self_signed', qr/SSL certificate problem: self-signed certificate\./, 'a self-signed certificate', @trusted);
not_trusted('old', qr/.*(?:SSL|TLS|error|alert|Connection reset).*/i, 'a protocol older than TLS 1.2', @trusted);
like(collect($fake{right}->url('works'), vm_ca_file => '/nonexistent/ca.pem'),
	qr/DETAIL:  Error setting certificate file: \/nonexistent\/ca\.pem\./, 'a CA file that is not there');

like(collect($fake{asks}->url('works'), @trusted), qr/^ERROR:  08006: /, 'a server that asks for a certificate and gets none');
is(collect($fake{asks}->url('works'), @trusted, vm_certificate_file => $client->{certificate}, vm_key_file => $client->{key}),
	'1', 'a server that asks for a certificate');
chmod 0644, $client->{key};
like(collect($fake{asks}->url('works'), @trusted, vm_certificate_file => $client->{certificate}, vm_key_file => $client->{key}),
	qr/^ERROR:  F0000: file ".*" has group or world access\nDETAIL:  File must have permissions u=rw \(0600\)/, 'a key that others can read');

# ---------- tokens and passwords ----------

my $fake = Smartbox::FakeHttpServer->start;
$fake->answer('works', body => $works);
$fake->answer('redirects', status => 302, headers => [ 'Location: ' . $fake{right}->url('works') ]);
$fake->answer('refuses', status => 401, headers => ['WWW-Authenticate: Basic realm="metrics"'], body => 'Who are you?');

sub authorization
{
	my @requests = $fake->requests('works');
	return $requests[-1]{headers}{authorization};
}
is(collect($fake->url('works')), '1', 'without credentials');
is(authorization(), undef, '... none are sent, whatever .netrc says');
is(collect($fake->url('works'), vm_bearer_token_file => $token_file), '1', 'a bearer token');
is(authorization(), "Bearer $token", '... is sent as it is in the file, without the line\'s end');
my @basic = (vm_user => 'reader', vm_password_file => $password_file);
is(collect($fake->url('works'), @basic), '1', 'a user with a password');
is(authorization(), 'Basic ' . encode_base64("reader:$password", ''), '... is sent');

# A proxy gets the whole address.
$fake->answer('http:', body => $works);
is(collect('http://metrics.invalid/prometheus', vm_proxy => $fake->url), '1', 'a proxy is used when it is asked for');
is(($fake->requests('http:'))[-1]{path}, 'http://metrics.invalid/prometheus/api/v1/query', '... for the address of the source');

# A session sees a changed file at once.
my $session = $node->background_psql('shop');
$session->query_safe("SET smartbox_anomaly.$_") foreach "vm_endpoint = '" . $fake->url('works') . "'", "vm_bearer_token_file = '$folder/rotated'";
foreach my $text ("${token}1\n", "${token}2\r\n", "${token}3")
{
	write_secret('rotated', $text);
	$session->query_safe('SELECT collect_metrics()');
	is(authorization(), 'Bearer ' . $text =~ s/\s+$//r, 'a changed token counts from the next call on');
}
$session->quit;

# The hint names the setting.
sub refused
{
	my ($file, $message, $what) = @_;
	my $before = $fake->requests;

	like(collect($fake->url('works'), vm_bearer_token_file => $file),
		qr/^ERROR:  F0000: $message\n(?:DETAIL:.*\n)?HINT:  The file is named in smartbox_anomaly\.vm_bearer_token_file\./, $what);
	is(scalar $fake->requests, $before, '... and nothing is sent');
	return;
}
refused("$folder/none", qr/could not read file ".*none": No such file or directory/, 'a file that is not there');
refused(write_secret('world', $token, $_), qr/file ".*world" has group or world access/, sprintf 'a file with mode %o', $_)
  foreach 0644, 0640, 0604, 0620;
refused(write_secret('empty', "\n"), qr/file ".*empty" does not consist of one line of text/, 'an empty file');
refused(write_secret('lines', "$token\nX-Header: y\n"), qr/file ".*lines" does not consist of one line of text/, 'a file with two lines');
refused(write_secret('large', 'x' x 16385), qr/file ".*large" is larger than 16384 bytes/, 'a large file');
refused($folder, qr/file ".*" is not a regular file/, 'a directory');
POSIX::mkfifo("$folder/pipe", 0600) or die $!;
refused("$folder/pipe", qr/file ".*pipe" is not a regular file/, 'a pipe that nobody writes to');
like(collect($fake->url('works'), @basic, vm_bearer_token_file => $token_file), qr/^ERROR:  F0000: both a bearer token and a user are configured/, 'a token and a user');
like(collect($fake->url('works'), vm_user => 'reader'), qr/^ERROR:  F0000: a user for the metric source takes a password file/, 'a user without a password');

my ($output, $said) = ('', '');
$node->psql('shop', "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('works') . "';SET smartbox_anomaly.vm_bearer_token_file = '$folder/none'; CALL run_cycle()",
	stdout => \$output, stderr => \$said);
like($said, qr/\A\S*\s?WARNING:  metrics were not collected: could not read file/, 'a cycle goes on without a secret, and says so');

# ---------- every kind of failure, and who sees the secrets ----------

my $closed = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die $!;
my $closed_port = $closed->sockport;
$closed->close;
foreach my $credentials ([ vm_bearer_token_file => $token_file ], \@basic)
{
	foreach my $url ((map { $fake->url($_) } qw(refuses redirects drop endless bomb headers unknown)), "http://127.0.0.1:$closed_port",
		'http://nosuchhost.invalid', $fake{expired}->url('works'), $fake{other_name}->url('works'))
	{
		like(collect($url, @$credentials, max_response_size => '256kB'), qr/^ERROR:/, "fails: $url");
	}
	like(collect($fake->url('never'), @$credentials, vm_timeout => '100'), qr/^ERROR:  08006: timed out/, 'fails: no answer');
	like(collect($fake->url('works'), @$credentials, vm_proxy => "http://127.0.0.1:$closed_port"), qr/^ERROR:/, 'fails: the proxy');
}
is(scalar grep({ ($_->{headers}{authorization} || '') =~ /Bearer \Q$token\E$/ } $fake->requests('refuses')), 1, 'the tests did use the token');
is(scalar grep({ ($_->{headers}{authorization} || '') =~ /Basic/ } $fake->requests('refuses')), 1, 'and the password');

$node->stop('fast');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
like($log, qr/DEBUG:/, 'the log is as talkative as it can be');
like($log, qr/could not fetch metric/, 'and has the failures');
foreach my $secret ($token, $password, encode_base64("reader:$password", ''), 'from-netrc')
{
	is(() = $log =~ /\Q$secret\E/g, 0, 'a secret is not in the log');
	is(() = $everything_said =~ /\Q$secret\E/g, 0, 'nor in any message, view or activity');
}

done_testing();
