# check_metric_source() says what a source has and what is wrong with a query:
# the same of VictoriaMetrics and Prometheus, in rows, holding nothing.
use strict;
use warnings;
use HTTP::Tiny;
use IPC::Run ();
use Test::More;
use Smartbox::Clock 'sample_time';
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::Prometheus;
use Smartbox::VictoriaMetrics;

my $now = sample_time(40);
my $begin = $now - 4 * 3600;

# Per minute: "search" has no database and is silent since an hour.
my (@points, $n_series);
sub series
{
	my ($name, $labels, $value_at, $minutes) = @_;
	my $text = "$name\{" . join(',', map { qq($_="$labels->{$_}") } sort keys %$labels) . '}';

	push @points, map { [ $text, $value_at->($_), $begin + 60 * $_ ] } 1 .. $minutes || 240;
	$n_series++ unless $minutes;
	return;
}
foreach my $service ('booking', 'search')
{
	my %labels = (service_name => $service, deployment_environment_name => 'production');
	my $minutes = $service eq 'search' ? 180 : 0;

	series('http_requests:count:rate_5m', \%labels, sub { 10 + $_[0] % 7 }, $minutes);
	series('http_requests_total', { %labels, pod => 'a' }, sub { 600 * $_[0] + $_[0] % 7 }, $minutes);
	series('http_request_seconds', { %labels, pod => 'a' }, sub { 0.1 + $_[0] % 3 / 100 }, $minutes);
	series('http_request_seconds', { %labels, pod => 'b' }, sub { 0.2 }, $minutes);
	series('error_percent', \%labels, sub { int($_[0] / 5) % 5 }, $minutes);
	series('cpu_difference', \%labels, sub { -1 }, $minutes);
	foreach my $kind ([ 'SERVER', '', 200 ], [ 'CLIENT', '', '' ], [ 'CLIENT', 'postgresql', '' ])
	{
		next if $kind->[1] && $service eq 'search';
		my %span = (%labels, span_kind => "SPAN_KIND_$kind->[0]");
		$span{db_system_name} = $kind->[1] if $kind->[1];
		$span{http_response_status_code} = $kind->[2] if $kind->[2];
		series('duration_milliseconds_count', \%span, sub { 100 * $_[0] }, $minutes);
		series('duration_milliseconds_sum', \%span, sub { 2500 * $_[0] }, $minutes);
	}
}

my $openmetrics = "$ENV{SMARTBOX_WORK}/tmp/check.$$.om";
open my $file, '>', $openmetrics or die "$openmetrics: $!";
print $file map({ "$_->[0] $_->[1] $_->[2]\n" } @points), "# EOF\n";
close $file;
my $prometheus = Smartbox::Prometheus->start($openmetrics);
my $victoria = Smartbox::VictoriaMetrics->start;
my $http = HTTP::Tiny->new(timeout => 60);
$http->post($victoria->url . '/api/v1/import/prometheus', { content => join('', map { "$_->[0] $_->[1] $_->[2]000\n" } @points) });
my $deadline = time + 60;
while (1)
{
	$http->get($victoria->url . '/internal/force_flush');
	my $result = $victoria->query("count(timestamp({__name__=~\".+\"}) == $now)", $now);
	last if @$result && $result->[0]{value}[1] == $n_series;
	die 'the points do not appear' if time > $deadline;
	select undef, undef, undef, 0.1;
}

my $node = Smartbox::Cluster->launch('check', 'smartbox_anomaly.vm_max_retries = 0');
my %url = (Prometheus => $prometheus->url, VictoriaMetrics => $victoria->url);
$node->safe_psql('shop', q{INSERT INTO smartbox.services (service) VALUES ('booking'), ('search')});

# The rows of a check, with settings; addresses are left out.
sub check
{
	my ($endpoint, $what, @settings) = @_;
	my $answer = $node->safe_psql('shop', join("\n", "SET smartbox_anomaly.vm_endpoint = '$endpoint';",
		map({ "SET $_;" } @settings), "SELECT metric, service, points, problem, hint FROM check_metric_source($what);"));
	$answer =~ s/127\.0\.0\.1:\d+/ADDRESS/g;
	return $answer;
}

# One metric of our own instead of those that are shipped.
sub only_metric
{
	my ($kind, $valid_max, $query) = @_;
	$query =~ s/'/''/g;
	$node->safe_psql('shop', qq{UPDATE smartbox.metrics SET enabled = false; DELETE FROM smartbox.metrics WHERE metric = 'mine';
		INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('mine', '$query', '$kind', $valid_max)});
	return;
}

# ---------- a source as it should be ----------

foreach my $name (sort keys %url)
{
	my @rows = split /\n/, check($url{$name}, q{NULL, '4 hours'});

	is(scalar @rows, 10, "$name: a row for each metric and service") or diag(join "\n", @rows);
	is(scalar(grep { /^\w+\|booking\|4[78]\|\|$/ } @rows), 5, "$name: nothing is wrong with what is complete") or diag(join "\n", @rows);
	is(scalar(grep { /^\w+\|search\|3[67]\|nothing has come for the last 1[12] intervals\|/ } @rows), 4, "$name: silence is told") or diag(join "\n", @rows);
	like(join("\n", @rows), qr/^database_latency\|search\|0\|no points\|That is as it should be/m, "$name: so is what a service does not have");
	is($node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '$url{$name}';
		SELECT first_ts > to_timestamp($begin), first_ts <= to_timestamp($begin + 900), last_ts = to_timestamp($now)
		FROM check_metric_source('{booking}', '4 hours') WHERE metric = 'request_rate'"), 't|t|t', "$name: from when until when");
}

# ---------- what is wrong with a query, from either ----------

my @wrong = (
	[ 'rate', 1000, 'sum(rate(http_requests_total{$selector}[$window)) by ($service_label)',
		qr/^mine\|\|\|could not fetch metric "mine" from "ADDRESS": HTTP status 4\d\d\.  The server said: .*(?:parse|unexpected)/, 'a syntax error, in the source\'s words' ],
	[ 'rate', 1000, 'sum(rate(http_request_total{$selector}[$window])) by ($service_label)',
		qr/^mine\|\|0\|the source has no metric "http_request_total", which the query asks for\|The nearest that it has is "http_requests_total"\./, 'a metric that is not there' ],
	[ 'rate', 1000, 'sum(rate(http_requests_total{$selector}[$window])) by ($service_label) + 0 * sum(nothing_at_all) or sum(rate(http_requests_total{$selector}[$window])) by ($service_label)',
		qr/^mine\|\|\d\d\|the source has no metric "nothing_at_all", which the query asks for\|See the column/, 'one that hides behind another' ],
	[ 'rate', 1000, 'sum(rate(http_requests_total{$selector,podd="a"}[$window])) by ($service_label)',
		qr/^mine\|\|0\|the source has no label "podd", which the query asks for\|The nearest that it has is "pod"\./, 'a label that is not there' ],
	[ 'rate', 1000, 'sum(rate(http_requests_total{$selector,pod="c"}[$window])) by ($service_label)',
		qr/^mine\|\|0\|the query brings nothing for any of the services\|Asked was: sum\(rate\(http_requests_total\{deployment/, 'an empty result' ],
	[ 'rate', 1000, 'sum(rate(http_requests_total{$selector}[$window]))',
		qr/^mine\|\|\|query of metric "mine" returned no series with the label "service_name"\.  .*\|Aggregate in the query with "by \(service_name\)"/, 'a result without the service' ],
	[ 'latency', 1000, 'http_request_seconds{$selector} * 1000',
		qr/^mine\|\|\|query of metric "mine" returned more than one series for service "booking"\|Aggregate/, 'several series of a service' ],
	[ 'latency', 1000, 'avg(http_request_seconds{$selector}) by ($service_label)',
		qr/^mine\|\|\d\d\|all values are below 1 ms\|Is the unit seconds\?/, 'seconds instead of milliseconds' ],
	[ 'latency', 1000, 'avg(http_request_seconds{$selector}) by ($service_label) * 1e9',
		qr/^mine\|booking\|(4[78])\|\1 of \1 values are above 1000 and taken as unknown, the largest is .*\|Is the unit microseconds or nanoseconds\?/m, 'nanoseconds instead of milliseconds' ],
	[ 'ratio', 1, 'avg(error_percent{$selector}) by ($service_label)',
		qr/^mine\|booking\|48\|\d+ of 48 values are above 1 and taken as unknown, the largest is 4\|Is it per cent\?/m, 'per cent instead of a ratio' ],
	[ 'rate', 1e9, 'sum(http_requests_total{$selector}) by ($service_label)',
		qr/^mine\|\|\d\d\|the values of all services only rise\|Is it a counter\?/, 'a counter instead of a rate' ],
	[ 'rate', 1000, 'sum(cpu_difference{$selector}) by ($service_label)',
		qr/^mine\|booking\|(4[78])\|\1 of \1 values are below 0 and taken as unknown\|/m, 'values that are negative' ]);
foreach my $case (@wrong)
{
	my ($kind, $valid_max, $query, $expected, $what) = @$case;

	only_metric($kind, $valid_max, $query);
	like(check($url{$_}, q{NULL, '4 hours'}), $expected, "$_: $what") foreach sort keys %url;
}

# What is wrong with one does not concern the others.
only_metric('rate', 1000, 'sum(');
$node->safe_psql('shop', q{UPDATE smartbox.metrics SET enabled = true});
like(check($url{Prometheus}, q{'{booking}'}), qr/^request_rate\|booking\|4[78]\|\|\n(?:.*\n){4}mine\|\|\|could not fetch/m, 'a bad metric beside five good ones');
$node->safe_psql('shop', q{DELETE FROM smartbox.metrics WHERE metric = 'mine'});

# ---------- what is wrong with the source or the settings ----------

foreach my $name (sort keys %url)
{
	like(check($url{$name}, '', "smartbox_anomaly.service_label = 'service_nam'"),
		qr/^\|\|0\|the source has no series with \{.*\}\|It has no label "service_nam": set smartbox_anomaly\.service_label to the label that names a service\.  The nearest that it has is "service_name"\./,
		"$name: the service label is another");
	like(check($url{$name}, '', "smartbox_anomaly.environment = 'test'"),
		qr/^\|\|0\|the source has no series with \{deployment_environment_name=~"test".*\}\|See smartbox_anomaly\.environment/, "$name: so is the environment");
	$node->safe_psql('shop', q{INSERT INTO smartbox.services (service) VALUES ('bookin')});
	like(check($url{$name}, ''), qr/^\|bookin\|0\|the source does not have this service\|The nearest that it has is "booking"\./m, "$name: a service that it does not have");
	$node->safe_psql('shop', q{DELETE FROM smartbox.services WHERE service = 'bookin'});
}
like(check('http://127.0.0.1:1', ''), qr/^\|\|\|could not fetch the list of services from "ADDRESS"\.  [^\n]*\|Check that the metric source is running[^\n]*$/, 'a source that does not answer is one row');
like($node->safe_psql('shop', q{SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:1'; SET smartbox_anomaly.circuit_breaker_failures = 1;
	SELECT count(*) FROM check_metric_source(); SELECT problem FROM check_metric_source()}),
	qr/^1\ncircuit breaker of "127\.0\.0\.1:1" is open until /, 'and so is an open circuit breaker');
foreach my $case ([ q{lookback => '-1 day'}, 'lookback must be at least' ], [ q{lookback => '2 years'}, 'at most 366 days' ],
	[ 'lookback => NULL', 'lookback must not be null' ], [ q{'{bookin}'}, 'The nearest known names are "booking"' ])
{
	isnt($node->psql('shop', "SELECT * FROM check_metric_source($case->[0])", stderr => \my $said), 0, "$case->[0] is refused");
	like($said, qr/\Q$case->[1]\E/, '... and the error says why');
}
$node->psql('shop', 'SELECT * FROM check_metric_source()', stderr => \my $said);
like($said, qr/no metric source is configured/, 'without a source there is nothing to check');

# ---------- answers that a real source does not give on request ----------

my $fake = Smartbox::FakeHttpServer->start;
my $long = 'x' x 3000;
only_metric('rate', 1000, 'odd{$selector}');
foreach my $case ([ 'names', '{"status":"success","data":["booking",17]}', qr/^\|\|\|could not read the answer for the list of services from "ADDRESS"\./, 'a list with a number in it' ],
	[ 'html', '<html><body>Welcome</body></html>', qr/^\|\|\|could not read the answer for the list of services/, 'a page in HTML' ],
	[ 'nans', '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"service_name":"booking"},"values":[[@start@,"NaN"],[@end@,"+Inf"]]}]}}',
		qr/^mine\|\|0\|all values are NaN or infinite\|Is something divided by zero\?$/m, 'nothing but NaN' ],
	[ 'future', '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"service_name":"booking"},"values":[[@start@,"1"],[99@end@,"2"]]}]}}',
		qr/^mine\|\|1\|of the points that came, 0 were before the time asked for and 1 after it\|Compare the clocks/m, 'points from the future' ],
	[ 'long', qq({"status":"success","data":["$long","booking"]}), qr/^\|search\|0\|the source does not have this service\|/m, 'a very long name' ])
{
	my ($name, $body, $expected, $what) = @$case;

	$fake->answer($name, body => $body);
	like(check($fake->url($name), ''), $expected, $what);
}

# ---------- what it holds while it waits, and how it ends ----------

my ($in, $out) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(120));
$in = "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'; SET smartbox_anomaly.vm_timeout = '60s';\nSELECT count(*) FROM check_metric_source();\n";
$session->pump_nb;
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%check_metric_source();' AND wait_event_type = 'Extension'}, '1', 60);
is($node->safe_psql('shop', q{SELECT backend_xid IS NULL, (SELECT count(*) FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype <> 'virtualxid')
	FROM pg_stat_activity AS a WHERE query LIKE '%check_metric_source();' AND pid <> pg_backend_pid()}), 't|0', 'a check that waits has no lock');
is($node->psql('shop', q{SET lock_timeout = '10s'; BEGIN; LOCK TABLE smartbox.metrics, smartbox.services IN ACCESS EXCLUSIVE MODE; COMMIT}), 0, 'so that nobody waits for it');
$node->safe_psql('shop', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%check_metric_source();' AND pid <> pg_backend_pid()});
$session->pump until $out =~ /canceling/;
$in .= "SET smartbox_anomaly.vm_endpoint = '$url{Prometheus}';\nSELECT 'rows ' || count(*) FROM check_metric_source();\n\\q\n";
$session->finish;
like($out, qr/canceling statement due to user request.*^rows \d/ms, 'a cancel ends it, and the session goes on');
is($node->safe_psql('shop', 'SELECT (SELECT count(*) FROM smartbox.samples), (SELECT count(*) FROM smartbox.backfill_runs)'), '0|0', 'nothing was stored');

done_testing();
