# The way to the metric source and back, with a server that does what real ones
# do not do on request, and once with a real VictoriaMetrics.
use strict;
use warnings;
use JSON::PP;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::VictoriaMetrics;

my $fake = Smartbox::FakeHttpServer->start;
my $host = $fake->host;
my $node = do
{
	# The server must not use these: it goes where its settings say.
	local @ENV{qw(http_proxy all_proxy)} = ('http://127.0.0.1:9') x 2;
	Smartbox::Cluster->launch('http', 'smartbox_anomaly.vm_max_retries = 1');
};

# One metric makes one request.
my $hostile = 'a"} or vector(1)#';
$node->safe_psql('shop', qq{
	UPDATE smartbox.metrics SET enabled = false WHERE metric <> 'request_rate';
	INSERT INTO smartbox.services (service) VALUES ('booking'), ('cart'), ('do.t|s\\'), ('$hostile')});

# Collect from what the name stands for; returns (what came, what was said).
sub collect
{
	my ($name, $settings, $services) = @_;
	my $endpoint = $name =~ /^http/ ? $name : $fake->url($name);
	my ($output, $said) = ('', '');

	$node->psql('shop', join("\n",
		'\set VERBOSITY verbose',
		"SET smartbox_anomaly.vm_endpoint = '$endpoint';",
		map({ "SET $_;" } @{ $settings || [] }),
		'DELETE FROM smartbox.samples;',
		'SELECT sum(metrics_present) FROM collect_metrics(' . ($services || q{'{booking}'}) . ');',
		q{SELECT service, metric_values[1], warnings[1] FROM smartbox.samples ORDER BY service;}),
		stdout => \$output, stderr => \$said, extra_params => ['-q']);
	return ($output, $said);
}

# The collection fails with this SQLSTATE, message, detail, and number of requests.
sub fails
{
	my ($name, $settings, $sqlstate, $message, $detail, $n_requests, $what) = @_;
	my $before = $fake->requests($name);
	my ($output, $said) = collect($name, $settings);

	subtest $what => sub {
		like($said, qr/ERROR:  $sqlstate: $message$/m, 'SQLSTATE and message');
		like($said, qr/^DETAIL:  $detail$/m, 'detail') if defined $detail;
		is($output, '', 'nothing is stored');
		is($fake->requests($name) - $before, $n_requests, 'requests') if defined $n_requests;
	};
	return $said;
}

sub until_true
{
	my ($what, $condition) = @_;
	my $deadline = time + 60;

	until ($condition->())
	{
		die "it does not come to this: $what" if time > $deadline;
		select undef, undef, undef, 0.02;
	}
	return;
}

my $works = Smartbox::FakeHttpServer::vector([ 'booking', '12.5' ], [ 'other', '99' ]);
my ($output, $said);

# ---------- what works ----------

$fake->answer('works', body => $works);
is_deeply([ collect('works') ], [ "1\nbooking|12.5|", '' ], 'a value arrives');
my ($request) = $fake->requests('works');
my $parameters = $request->{parameters};
is("$request->{method} $request->{path}", 'POST /works/api/v1/query', 'it is asked for with POST');
is($parameters->{query},
	'sum(http_requests:count:rate_5m{deployment_environment_name=~"production",service_name="booking"}) by (service_name)',
	'by the query of smartbox.metrics');
is($parameters->{time} % 300, 0, 'at the end of an interval');
is($parameters->{timeout}, '10000ms', 'the server is told how long it may take');
is($request->{headers}{'user-agent'}, 'smartbox_anomaly', 'by name');
is($request->{headers}{'accept-encoding'}, 'gzip', 'compressed');
is($request->{headers}{'content-type'}, 'application/x-www-form-urlencoded', 'as a form');
ok(!exists $request->{headers}{$_}, "without $_") foreach qw(expect authorization cookie);

$fake->answer('gzip', body => $works, gzip => 1);
is((collect('gzip'))[0], "1\nbooking|12.5|", 'a compressed answer');
$fake->answer('chunked', body => $works, chunk => 3);
is((collect('chunked'))[0], "1\nbooking|12.5|", 'an answer in chunks of three bytes');
$fake->answer('warned', body => $works =~ s/\{/{"isPartial":false,"warnings":["a",{"b":[]}],/r);
is((collect('warned'))[0], "1\nbooking|12.5|", 'an answer with keys of a newer server');
is((collect($fake->url('works') . '//'))[0], "1\nbooking|12.5|", 'an address that ends in slashes');

# One connection serves a session.
my $connections = $fake->connections;
$node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('works') . "';"
	  . "SELECT collect_metrics('{booking}');" x 5);
is($fake->connections - $connections, 1, 'connections are kept');

# ---------- values ----------

$fake->answer('values', body => Smartbox::FakeHttpServer::vector([ 'booking', 'NaN' ], [ 'cart', '+Inf' ], [ 'do.t|s\\', '9' x 309 ], [ $hostile, '-Inf' ]));
($output, $said) = collect('values', [], 'NULL');
is($said, '', 'NaN, infinite and very large values are no errors');
unlike($output, qr/^(?:booking|cart|a")/m, 'what is not finite is unknown');
like($output =~ s/^do\.t.*\|\|//mr, qr/^0$/m, 'and what is out of the range of the metric too');
$fake->answer('nothing', body => Smartbox::FakeHttpServer::vector());
is((collect('nothing'))[0], '0', 'an empty result is unknown');
$fake->answer('twice', body => Smartbox::FakeHttpServer::vector([ 'booking', '1' ], [ 'booking', '2' ]));
fails('twice', [], '21000', 'query of metric "request_rate" returned more than one series for service "booking"',
	undef, 1, 'two series for a service');
$fake->answer('nameless', body => $works =~ s/"service_name":"\w+"//gr);
fails('nameless', [], '42804', 'query of metric "request_rate" returned no series with the label "service_name"',
	undef, 1, 'series without the label');

# ---------- names of services are data ----------

collect('nothing', [], "ARRAY['$hostile']");
is(($fake->requests('nothing'))[-1]{parameters}{query},
	'sum(http_requests:count:rate_5m{deployment_environment_name=~"production",service_name="a\\"} or vector(1)#"}) by (service_name)',
	'a hostile name is quoted');
collect('nothing', [], "ARRAY['$hostile', 'do.t|s\\']");
is(($fake->requests('nothing'))[-1]{parameters}{query},
	'sum(http_requests:count:rate_5m{deployment_environment_name=~"production",'
	  . 'service_name=~"a\\"\\\\} or vector\\\\(1\\\\)#|do\\\\.t\\\\|s\\\\\\\\"}) by (service_name)',
	'several are a regular expression that matches just them');
collect('nothing', [ q{smartbox_anomaly.environment = ''}, q{smartbox_anomaly.extra_selector = 'cluster="eu-1"'},
		'smartbox_anomaly.service_label = svc' ], 'NULL');
is(($fake->requests('nothing'))[-1]{parameters}{query},
	'sum(http_requests:count:rate_5m{cluster="eu-1",svc!=""}) by (svc)', 'the settings make the selector');

# ---------- what fails ----------

my $request_rate = 'metric "request_rate" from "' . quotemeta($host) . '"';

like((collect(''))[1], qr/HTTP status 500/, 'an answer that the test did not prepare is seen');
($output, $said) = ('', '');
$node->psql('shop', "\\set VERBOSITY verbose\nSELECT collect_metrics()", stderr => \$said);
like($said, qr/ERROR:  55000: no metric source is configured\nHINT:  Set smartbox_anomaly.vm_endpoint/, 'no endpoint');

my $closed = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die $!;
my $closed_port = $closed->sockport;
$closed->close;
fails("http://127.0.0.1:$closed_port", [], '08006',
	qq{could not fetch metric "request_rate" from "127.0.0.1:$closed_port"},
	qr/Failed to connect to 127\.0\.0\.1 port $closed_port .*\.  Tried 2 times\./, undef, 'a refused connection');
fails('http://nosuchhost.invalid', [], '08006', 'could not fetch metric "request_rate" from "nosuchhost.invalid"',
	'Could not resolve host: nosuchhost.invalid.', undef, 'an unknown host');
fails('drop', [], '08006', "could not fetch $request_rate", qr/Empty reply from server\.  Tried 2 times\./, 2,
	'a connection that is closed instead of an answer');
fails('never', ['smartbox_anomaly.vm_timeout = 200'], '08006', "timed out while fetching $request_rate",
	qr/Operation timed out after 2\d\d milliseconds with 0 bytes received\.  Tried 2 times\./, 2, 'no answer');
$fake->answer('stalls', body => $works, stall => 70);
fails('stalls', ['smartbox_anomaly.vm_timeout = 200'], '08006', "timed out while fetching $request_rate",
	qr/Operation timed out after 2\d\d milliseconds with 70 out of \d+ bytes received\.  Tried 2 times\./, 2,
	'an answer that stalls');
fails('stalls', ['smartbox_anomaly.vm_timeout = 60000', 'smartbox_anomaly.vm_max_retries = 0'], '08006',
	"timed out while fetching $request_rate", 'Nothing arrived for 5000 ms in the middle of the answer.', 1,
	'an answer that stalls for long');
$fake->answer('cut', body => $works, truncate => 70);
fails('cut', [], '08006', "lost the connection while fetching $request_rate",
	qr/(?:Transfer closed with \d+ bytes remaining to read|End of response with \d+ bytes missing)\.  Tried 2 times\./, 2, 'an answer that is cut off');

sub refused
{
	my ($status, $answer, $detail, $hint, $n_requests) = @_;

	$fake->answer("status$status", status => $status, @$answer);
	my $message = fails("status$status", [], '38000', "could not fetch $request_rate: HTTP status $status",
		$detail, $n_requests, "HTTP status $status");
	like($message, qr/^HINT:  $hint/m, 'with a hint') if defined $hint;
	return;
}

refused(401, [], undef, 'The metric source asks for credentials', 1);
refused(403, [ body => "Not you.\n" ], 'The server said: Not you.', 'The metric source asks for credentials', 1);
refused(404, [ body => "<!DOCTYPE html>\n<html><head><style>h1 {}</style><title>404 Not\a Found</title></head>\n<body>..." ],
	'The server said: 404 Not Found', 'Set smartbox_anomaly.vm_endpoint to the base address', 1);
refused(422, [ body => '{"status":"error","errorType":"422","error":"unexpected token \"}\"\nin query"}' ],
	'The server said: unexpected token "}"', 'See the column "query"', 1);
refused(429, [ body => 'Slow down' ], 'The server said: Slow down', undef, 1);
refused(500, [ body => 'x' x 100_000 ], 'The server said: x{400}', undef, 2);
refused(503, [ body => '{"status":"error","errorType":"timeout","error":"expanding series"}' ],
	'The server said: expanding series', undef, 2);
refused(504, [], 'Tried 2 times.', undef, 2);
refused(302, [ headers => [ 'Location: ' . $fake->url('redirected') ] ], undef, 'Redirects are not followed\.', 1);
is(scalar $fake->requests('redirected'), 0, 'a redirect is not followed');
$fake->answer('error', body => '{"status":"error","error":"quota"}');
fails('error', [], '38000', "could not fetch $request_rate: HTTP status 200", 'The server said: quota', 1,
	'an error that comes as a success');

$fake->answer('no_json', body => '<html><body>Welcome</body></html>');
fails('no_json', [], '22032', "could not read the answer for $request_rate", 'Not JSON at byte 1: .*', 1, 'HTML for JSON');
$fake->answer('half', body => substr $works, 0, 80);
fails('half', [], '22032', "could not read the answer for $request_rate",
	'The text ends too early, after \d+ bytes\.', 1, 'half an answer that claims to be whole');
$fake->answer('empty', body => '');
fails('empty', [], '22032', "could not read the answer for $request_rate", 'The answer is empty\.', 1, 'an empty answer');
$fake->answer('deep', body => '{"a":' x 100_000);
fails('deep', [], '54000', "answer for $request_rate is too complex", 'Objects and arrays are nested more than 64 deep .*', 1, 'deep JSON');
foreach my $case ([ 'matrix', '{"resultType":"matrix","result":[{"metric":{},"values":[]}]}', 'a matrix' ],
	[ 'scalar', '{"resultType":"scalar","result":[1,"1"]}', 'a scalar' ],
	[ 'strings', '["booking"]', 'an array of strings' ])
{
	my ($name, $data, $type) = @$case;

	$fake->answer($name, body => qq({"status":"success","data":$data}));
	fails($name, [], '42804', "query of metric \"request_rate\" returned $type instead of a vector", undef, 1, "$type for a vector");
}

my @small = ('smartbox_anomaly.max_response_size = 256');
fails($_, \@small, '54000', "answer for $request_rate is too large", 'More than 256 kB arrived\.', 1, "a body without end: $_")
  foreach qw(endless bomb);
fails('headers', \@small, '54000', "answer for $request_rate is too large", 'More than 64 kB of headers arrived\.', 1,
	'headers without end');

# ---------- retries ----------

$fake->answer('flaky', status => 500, body => 'oops', times => 3, next => 'works');
is((collect('flaky', ['smartbox_anomaly.vm_max_retries = 3']))[0], "1\nbooking|12.5|", 'three times status 500, then a value');
is(scalar $fake->requests('flaky'), 4, 'after four requests');
$fake->answer('lossy', body => Smartbox::FakeHttpServer::vector([ 'booking', '7' ], [ 'x' x 100, '1' ]), truncate => 150, times => 1, next => 'nothing');
is_deeply([ collect('lossy') ], [ '0', '' ], 'what a broken answer began with is forgotten');

# A server that is away is not asked for one metric after the other.
$node->safe_psql('shop', q{INSERT INTO smartbox.metrics (metric, query, unit, kind, direction, valid_max)
	SELECT 'metric_' || i, 'm{$selector}', 'req/s', 'rate', 'both', 1e6 FROM generate_series(1, 20) i});
my $asked = $fake->requests('never');
collect('never', [ 'smartbox_anomaly.vm_timeout = 200', 'smartbox_anomaly.vm_max_retries = 0' ]);
cmp_ok($fake->requests('never') - $asked, '<=', 6, 'the other requests to a server without an answer are not sent');
$node->safe_psql('shop', q{DELETE FROM smartbox.metrics WHERE metric ~ '^metric_'});

# ---------- interrupts ----------

my $session = $node->background_psql('shop', on_error_stop => 0);
$session->query_safe("SET smartbox_anomaly.vm_timeout = '60s'");
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# What the session said since the last time.
sub complaint
{
	my $text = $session->{stderr};
	$session->{stderr} = '';
	return $text;
}

sub descriptors
{
	my @descriptors = glob "/proc/$pid/fd/*";
	return scalar @descriptors;
}

$session->query_safe("SET smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'");
$session->query_safe("SET statement_timeout = '300ms'");
my $began = clock_gettime(CLOCK_MONOTONIC);
$session->query("SELECT collect_metrics('{booking}')");
my $took = clock_gettime(CLOCK_MONOTONIC) - $began;
like(complaint(), qr/canceling statement due to statement timeout/, 'statement_timeout ends the wait');
cmp_ok($took, '<', 0.5, sprintf 'in less than half a second (%.3f s)', $took);
my $descriptors = descriptors();

$session->query_safe("SET smartbox_anomaly.vm_endpoint = '" . $fake->url('stalls') . "'");
$session->query("SELECT collect_metrics('{booking}')");
like(complaint(), qr/canceling statement due to statement timeout/, 'also in the middle of an answer');
$session->query_safe('SET statement_timeout = 0');

$session->query_safe("SET smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'");
my $before = $fake->requests('never');
$session->query_until(qr/waiting/, "\\echo waiting\nSELECT collect_metrics('{booking}');\n");
until_true('the request arrives', sub { $fake->requests('never') > $before });
$node->wait_for('shop', "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid",
	$node->pg_version >= 17 ? 'SmartboxHttp' : 'Extension', 30);
$node->safe_psql('shop', "SELECT pg_cancel_backend($pid)");
$session->query('SELECT 1');
like(complaint(), qr/canceling statement due to user request/, 'pg_cancel_backend ends the wait');

# A cancelled request is gone, also for who catches the error.
$session->query_safe(q{DO $$
	BEGIN
		FOR i IN 1..20 LOOP
			BEGIN
				PERFORM set_config('smartbox_anomaly.vm_timeout', '20', true);
				PERFORM collect_metrics('{booking}');
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
	END $$});
is(descriptors(), $descriptors, 'no descriptor is left behind');
$session->query_safe("SET smartbox_anomaly.vm_endpoint = '" . $fake->url('works') . "'");
is($session->query_safe(q{SELECT metrics_present FROM collect_metrics('{booking}')}), '1', 'the session goes on');

# ---------- the list of services ----------

sub discover
{
	my ($name) = @_;
	my ($found, $complaint) = ('', '');

	$node->psql('shop', "\\set VERBOSITY verbose\nSET smartbox_anomaly.vm_endpoint = '" . $fake->url($name) . "';\n"
		  . 'BEGIN; SELECT discover_services(); ROLLBACK', stdout => \$found, stderr => \$complaint, extra_params => ['-q']);
	return ($found, $complaint);
}

$fake->answer('services', body => encode_json({ status => 'success', data => [ 'search', 'booking', '', 'ho"st', 'search' ] }));
is_deeply([ discover('services') ], [ "ho\"st\nsearch", '' ], 'new services are found, each once');
($request) = $fake->requests('services');
is("$request->{method} $request->{path}", 'GET /services/api/v1/label/service_name/values', 'by the values of the label');
is($request->{parameters}{'match[]'}, '{deployment_environment_name=~"production",service_name!=""}', 'within the environment');
like((discover('matrix'))[1], qr/ERROR:  42804: query of the list of services returned a matrix instead of an array of strings/,
	'a list of a wrong type');
like((discover('status403'))[1], qr/ERROR:  38000: could not fetch the list of services from "\Q$host\E": HTTP status 403\nDETAIL:  The server said: Not you\./,
	'a list that is refused');

# ---------- a real server ----------

my $source = Smartbox::VictoriaMetrics->start;
my $now = int(time / 300) * 300;
my @times = map { $now + 300 * $_ } -24 .. 1;
my @imported = ([ 'booking', 1.0625 ], [ 'cart', 1e-7 ], [ 'do.t|s\\', 123456.789 ], [ $hostile, 0.333333333333333 ], [ 'dott|s', 5 ]);
my $lines = join '', map {
	my ($service, $value) = @$_;
	encode_json({ metric => { __name__ => 'http_requests:count:rate_5m', deployment_environment_name => 'production', service_name => $service },
		timestamps => [ map { $_ * 1000 } @times ], values => [ map { $value * (1 + ($_ / 300) % 7) } @times ] }) . "\n" } @imported;
is($source->{http}->post($source->url . '/api/v1/import', { content => $lines })->{status}, 204, 'metrics are imported');
until_true('the metrics can be queried', sub {
	$source->{http}->get($source->url . '/internal/force_flush');
	(collect($source->url, [], 'NULL'))[0] =~ /^4\n/;
});
($output) = collect($source->url, [], 'NULL');
my $slot = $node->safe_psql('shop', 'SELECT extract(epoch FROM max(ts))::bigint FROM smartbox.samples');
my %value = map { (split /\|(?=[^|]*\|[^|]*$)/)[0] => (split /\|/)[-2] } grep { /\|/ } map { "$_ " } split /\n/, $output;
cmp_ok(abs($value{ $_->[0] } / ($_->[1] * (1 + ($slot / 300) % 7)) - 1), '<', 1e-12, "instant query: $_->[0]")
  foreach @imported[ 0 .. 3 ];

$node->append_conf('postgresql.conf', "smartbox_anomaly.vm_endpoint = '" . $source->url . "'");
$node->reload;
foreach my $case (@imported[ 0 .. 3 ])
{
	my ($service, $value) = @$case;
	my $quoted = "ARRAY[\$s\$$service\$s\$]";

	$node->safe_psql('shop', "DELETE FROM smartbox.samples");
	is($node->safe_psql('shop', "SELECT samples, gaps FROM backfill_metrics($quoted, '1 hour')"), '12|0', "range query: $service");
	is($node->safe_psql('shop', "SELECT count(*) FROM smartbox.samples WHERE service = \$s\$$service\$s\$
		AND abs(metric_values[1] / ($value * (1 + (extract(epoch FROM ts)::bigint / 300) % 7)) - 1) < 1e-12"), '12', 'with the values that were imported');
}

# A query that fails beside others is a warning, and its metric unknown.
$node->safe_psql('shop', q{INSERT INTO smartbox.metrics (metric, query, unit, kind, direction, valid_max) VALUES ('broken', 'sum(', 'req/s', 'rate', 'both', 1e6)});
($output, $said) = collect($source->url);
like($said, qr/WARNING:  38000: could not fetch metric "broken" from "[^"]+": HTTP status 422\nDETAIL:  The server said: .*\nHINT:  See the column "query"/,
	'a broken query is a warning with the words of the server');
like($output, qr/^1\nbooking\|[\d.]+\|/, 'beside which the others arrive');

# ---------- shutdown ----------

# It has not answered twenty times.
$session->query_safe('SELECT reset_circuit_breaker()');
$session->query_safe("SET smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'");
$before = $fake->requests('never');
$session->query_until(qr/waiting/, "\\echo waiting\nSELECT collect_metrics('{booking}');\n");
until_true('the request arrives', sub { $fake->requests('never') > $before });
ok($node->stop('fast'), 'a fast shutdown does not wait for an answer');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP/, 'no process has crashed');
eval { $session->quit };

done_testing();
