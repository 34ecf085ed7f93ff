# A call to a source that misbehaves ends, soon and without much memory.
use strict;
use warnings;
use POSIX ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $fake = Smartbox::FakeHttpServer->start;
my $other = Smartbox::FakeHttpServer->start;
my $host = $fake->host;
my $node = Smartbox::Cluster->launch('limits');
my $works = Smartbox::FakeHttpServer::vector([ 'booking', '12.5' ]);

$node->safe_psql('shop', q{UPDATE smartbox.metrics SET enabled = false WHERE metric <> 'request_rate';
	INSERT INTO smartbox.services (service) VALUES ('booking')});
$fake->answer('works', body => $works);

# One session for all, which must stay small.
my $session = $node->background_psql('shop', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# Most memory that the session ever had of its own, in MB.
sub peak_mb
{
	open my $status, '<', "/proc/$pid/status" or die $!;
	my ($kb) = join('', <$status>) =~ /^VmHWM:\s*(\d+) kB/m;
	return $kb / 1024;
}

# Collect in the session: returns (value, what was said, seconds).
sub collect
{
	my ($name, %settings) = @_;
	my %set = (vm_endpoint => $fake->url($name), %settings);

	$session->query_safe('SELECT reset_circuit_breaker()');
	$session->query_safe("SET smartbox_anomaly.$_ = '$set{$_}'") foreach sort keys %set;
	$session->{stderr} = '';
	my $began = clock_gettime(CLOCK_MONOTONIC);
	my $value = $session->query('SELECT metrics_present FROM collect_metrics()');
	my $took = clock_gettime(CLOCK_MONOTONIC) - $began;
	my $said = $session->{stderr};
	$session->{stderr} = '';
	$session->query_safe("RESET smartbox_anomaly.$_") foreach sort keys %set;
	return ($value, $said, $took);
}

# ---------- Retry-After ----------

my ($value, $said, $took);
$fake->answer('busy', status => 503, headers => ['Retry-After: 1'], times => 1, next => 'works');
($value, $said, $took) = collect('busy');
is($value, '1', '503 with Retry-After, then a value');
cmp_ok($took, '>=', 1, 'which came when the server had asked for');
is(scalar $fake->requests('busy'), 2, 'in two requests');

my $date = POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + 3));
$fake->answer('dated', status => 503, headers => ["Retry-After: $date"], times => 1, next => 'works');
($value, $said, $took) = collect('dated');
is($value, '1', 'Retry-After as a date');
cmp_ok($took, '>=', 1, 'is waited for');

foreach my $wait (3600, POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + 3600)))
{
	my $name = $wait =~ /GMT/ ? 'later_date' : 'later';
	$fake->answer($name, status => 503, headers => ["Retry-After: $wait"], body => 'Later.');
	($value, $said) = collect($name);
	like($said, qr/ERROR:  could not fetch metric "request_rate" from "\Q$host\E": HTTP status 503\nDETAIL:  The server said: Later\.\nHINT:  The server asks to wait for 3\d\d\d s, which is longer than smartbox_anomaly\.vm_total_timeout allows\./,
		'a wait that is too long is not begun, and shown');
	is(scalar $fake->requests($name), 1, 'and the server is left alone');
}
$fake->answer('nonsense', status => 503, headers => ['Retry-After: soon'], times => 1, next => 'works');
is((collect('nonsense'))[0], '1', 'a Retry-After that makes no sense is no harm');
$fake->answer('limited', status => 429, headers => ['Retry-After: 0']);
collect('limited');
is(scalar $fake->requests('limited'), 1, 'status 429 is not sent again, whatever it says');

# ---------- the time of a call ----------

$fake->answer('failing', status => 500);
($value, $said) = collect('failing');
is(scalar $fake->requests('failing'), 4, 'a request is sent again three times by default');
($value, $said) = collect('never', vm_timeout => '300ms', vm_total_timeout => '700ms', vm_max_retries => 10);
like($said, qr/ERROR:  timed out .*\nDETAIL:  .*  Tried [23] times\.\nHINT:  .*vm_total_timeout/, 'all attempts together have an end');
($value, $said) = collect('never', vm_timeout => '300ms', vm_total_timeout => '1ms');
like($said, qr/DETAIL:  Operation timed out after 3\d\d milliseconds.*received\.$/m, 'the first one has its own time in any case');
is(scalar $fake->requests('never') <= 5, 1, 'and there is no other after that');

# A dead source holds a call for the time of one request, not of hundreds.
$node->safe_psql('shop', q{INSERT INTO smartbox.metrics (metric, query, unit, kind, direction, valid_max)
	SELECT 'metric_' || i, 'm{$selector}', 'req/s', 'rate', 'both', 1e6 FROM generate_series(1, 40) i});
$fake->answer('stalls', body => $works, stall => 20);
my $before = $fake->requests('stalls');
collect('stalls', vm_timeout => '300ms', vm_max_retries => 0);
cmp_ok($fake->requests('stalls') - $before, '<=', 6, 'when nothing but beginnings of answers come, the other requests are not sent');
$node->safe_psql('shop', q{DELETE FROM smartbox.metrics WHERE metric ~ '^metric_'});

# ---------- where it goes ----------

$fake->answer('moved', status => 302, headers => [ 'Location: ' . $other->url('works') ]);
($value, $said) = collect('moved');
like($said, qr/HTTP status 302\nHINT:  Redirects are not followed\./, 'a redirect to another host is not followed');
is($other->connections, 0, 'which is not even connected to');

# ---------- memory ----------

my $peak = peak_mb();
$fake->answer('deep', body => '{"a":' x 200_000);
my %large = (two_gb => 'A body of 2 GB', endless => 'a body without end', bomb => 'a body that expands a thousandfold',
	headers => 'headers without end', deep => 'objects within objects');
foreach my $name (sort keys %large)
{
	($value, $said, $took) = collect($name, max_response_size => '64MB');
	like($said, qr/ERROR:  answer for metric "request_rate" from "\Q$host\E" is too (?:large|complex)\nDETAIL:  .*\./, $large{$name});
	diag(sprintf '%s: %.2f s, peak %.1f MB', $large{$name}, $took, peak_mb() - $peak);
}
my $grown = peak_mb() - $peak;
cmp_ok($grown, '<', 16, sprintf 'a session has not grown by a quarter of the largest answer it accepts (%.1f MB)', $grown);

# An answer of many series that nobody asked for.
$fake->answer('many', body => Smartbox::FakeHttpServer::vector(map { [ "service-$_", '1' ] } 1 .. 20_000));
is((collect('many', max_response_size => '64MB'))[0], '0', 'an answer of 20,000 series');
cmp_ok(peak_mb() - $peak, '<', 16, 'is read without being kept');
is((collect('works'))[0], '1', 'the session goes on');
$session->quit;

done_testing();
