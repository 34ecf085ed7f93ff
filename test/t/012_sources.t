# Prometheus and VictoriaMetrics with the same data give the same samples,
# whatever services are called and whatever the settings say; and a cycle holds
# nothing while it waits for either.
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
my $begin = $now - 6 * 3600;
my @services = ('booking', 'a"} or vector(1)#', 'do.t|s\\(x)', "d\x{e9}j\x{e0} vu");

# Everything is there a second time in another environment, and under another
# label, with other values: whatever is mixed shows.
my (@points, $n_series);
sub series
{
	my ($name, $labels, $value_at) = @_;
	my $text = "$name\{" . join(',', map { my $value = $labels->{$_} =~ s/([\\"])/\\$1/gr; qq($_="$value") } sort keys %$labels) . '}';

	utf8::encode($text);
	push @points, map { [ $text, $value_at->(($_ - $begin) / 60), $_ ] } map { $begin + 60 * $_ } 1 .. 360;
	$n_series++;
	return;
}
foreach my $environment ('production', 'staging')
{
	foreach my $number (0 .. $#services)
	{
		foreach my $label ('service_name', 'job')
		{
			my $factor = ($number + 1) * ($environment eq 'staging' ? 100 : 1) * ($label eq 'job' ? 7 : 1);
			my %labels = ($label => $services[$number], deployment_environment_name => $environment, cluster => $number % 2 ? 'eu' : 'us');

			series('http_requests:count:rate_5m', \%labels, sub { $factor * (10 + $_[0] % 13) });
			foreach my $kind ([ 'SERVER', '', 200 ], [ 'SERVER', '', 500 ], [ 'CLIENT', '', '' ], [ 'CLIENT', 'postgresql', '' ])
			{
				my %span = (%labels, span_kind => "SPAN_KIND_$kind->[0]");
				$span{db_system_name} = $kind->[1] if $kind->[1];
				$span{http_response_status_code} = $kind->[2] if $kind->[2];
				my $share = $kind->[2] eq '500' ? 0.01 : 1;
				series('duration_milliseconds_count', \%span, sub { int($share * $factor * (100 * $_[0] + $_[0] % 7)) });
				series('duration_milliseconds_sum', \%span, sub { $share * $factor * (2500 * $_[0] + ($_[0] % 11) * 30) });
			}
		}
	}
}

# What Prometheus makes of a name with dots.
series('http_server_request_duration', { service_name => 'booking', deployment_environment_name => 'production' }, sub { 2 * $_[0] });

my $openmetrics = "$ENV{SMARTBOX_WORK}/tmp/sources.$$.om";
open my $file, '>:raw', $openmetrics or die "$openmetrics: $!";
print $file map({ "$_->[0] $_->[1] $_->[2]\n" } @points), "# EOF\n";
close $file;
my $prometheus = Smartbox::Prometheus->start($openmetrics);

my $victoria = Smartbox::VictoriaMetrics->start;
my $http = HTTP::Tiny->new(timeout => 60);
my $answer = $http->post($victoria->url . '/api/v1/import/prometheus', { content => join('', map { "$_->[0] $_->[1] $_->[2]000\n" } @points) });
is($answer->{status}, 204, 'VictoriaMetrics takes the points') or diag($answer->{content});
my $deadline = time + 60;
while (1)
{
	$http->get($victoria->url . '/internal/force_flush');
	my $result = $victoria->query("count(timestamp({__name__=~\".+\"}) == $now)", $now);
	last if @$result && $result->[0]{value}[1] == $n_series;
	die 'the points do not appear' if time > $deadline;
	select undef, undef, undef, 0.1;
}

my $node = Smartbox::Cluster->launch('sources', 'smartbox_anomaly.vm_max_retries = 0');
my %url = (Prometheus => $prometheus->url, VictoriaMetrics => $victoria->url);

# All samples that a source gives with these settings.
sub samples_of
{
	my ($url, @settings) = @_;
	return $node->safe_psql('shop', join("\n",
		"SET smartbox_anomaly.vm_endpoint = '$url';", map({ "SET $_;" } @settings),
		q{TRUNCATE smartbox.samples; DELETE FROM smartbox.services;},
		q{DO $$ BEGIN PERFORM discover_services(); PERFORM backfill_metrics(NULL, '5 hours'); END $$;},
		q{SELECT service, ts, array_to_string(metric_values, ',', 'unknown') FROM smartbox.samples ORDER BY service COLLATE "C", ts;}));
}

# Compare to a billionth.
sub is_same
{
	my ($have, $want, $what) = @_;
	my @have = map { split /[|,]/, $_, -1 } split /\n/, $have =~ s/\|s/!s/gr;
	my @want = map { split /[|,]/, $_, -1 } split /\n/, $want =~ s/\|s/!s/gr;
	my @wrong = grep {
		my ($x, $y) = ($have[$_] // 'nothing', $want[$_] // 'nothing');
		!($x eq $y || ($x =~ /^[0-9.e+-]+$/ && $y =~ /^[0-9.e+-]+$/ && abs($x - $y) <= 1e-9 * abs($y)))
	} 0 .. ($#have > $#want ? $#have : $#want);

	is(scalar @wrong, 0, $what) or diag(join "\n", map { "$_: $have[$_] instead of $want[$_]" } @wrong[ 0 .. ($#wrong < 5 ? $#wrong : 5) ]);
	return;
}

foreach my $settings ([],
	["smartbox_anomaly.environment = 'stag.*'"],
	["smartbox_anomaly.service_label = 'job'"],
	["smartbox_anomaly.extra_selector = 'cluster=\"eu\"'"],
	["smartbox_anomaly.rate_window = '10m'", "smartbox_anomaly.sample_interval = '10min'"])
{
	my $name = join(', ', @$settings) || 'the default settings';
	my %samples = map { $_ => samples_of($url{$_}, @$settings) } keys %url;
	my $n_services = $name =~ /cluster/ ? 2 : 4;
	my $n_instants = $name =~ /10min/ ? 30 : 60;

	cmp_ok(scalar(split /\n/, $samples{Prometheus}), '>=', $n_services * ($n_instants - 2), "$name: there are samples");
	unlike($samples{Prometheus}, qr/unknown/, "$name: with all values");
	is_same($samples{VictoriaMetrics}, $samples{Prometheus}, "$name: both sources give the same");
}

# What the numbers are, of one: the first service's rate is 10 to 22, the
# second's twice that, and nothing of the other environment is in it.
samples_of($url{Prometheus});
is($node->safe_psql('shop', q{SELECT service, min(metric_values[1]), max(metric_values[1]) FROM smartbox.samples GROUP BY 1 ORDER BY 2}),
	join("\n", map { my $name = $services[ $_ - 1 ]; utf8::encode($name); "$name|" . 10 * $_ . '|' . 22 * $_ } 1 .. 4),
	'each service has its own values, whatever it is called');
foreach my $name (sort keys %url)
{
	is($node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '$url{$name}'; SELECT count(*), min(metrics_present), max(metrics_present) FROM collect_metrics()"),
		'4|5|5', "$name: a cycle brings all metrics of all services");
}

# Names with dots, as OpenTelemetry has them.  Prometheus before version 3 does
# not store them, but takes the query, and in a pattern a dot is any character.
my $dotted = "$ENV{SMARTBOX_WORK}/tmp/sources.$$.jsonl";
open $file, '>', $dotted or die "$dotted: $!";
printf $file qq({"metric":{"__name__":"http.server.request.duration","service_name":"booking","deployment_environment_name":"production"},"values":[%s],"timestamps":[%s]}\n),
  join(',', 1 .. 360), join(',', map { $begin + 60 * $_ . '000' } 1 .. 360);
close $file;
$victoria->import_file($dotted);
$node->safe_psql('shop', q{INSERT INTO smartbox.metrics (metric, query, unit, kind, valid_max)
	VALUES ('duration', 'avg({__name__="http.server.request.duration",$selector}) by ($service_label)', 'ms', 'latency', 10000)});
is($node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '$url{VictoriaMetrics}'; TRUNCATE smartbox.samples; UPDATE smartbox.services SET backfilled = '{}'; "
	  . q{DO $$ BEGIN PERFORM backfill_metrics('{booking}', '1 hour'); END $$; SELECT count(metric_values[6]), max(metric_values[6]) FROM smartbox.samples}),
	'12|360', 'a metric with dots in its name');
is($node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '$url{Prometheus}'; SELECT metrics_present, warnings FROM collect_metrics('{booking}')"),
	'5|', 'Prometheus takes the query, and the metric is missing');
$node->safe_psql('shop', q{UPDATE smartbox.metrics SET query = replace(query, '__name__="http.server', '__name__=~"http.server') WHERE metric = 'duration'});
is($node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '$url{Prometheus}'; TRUNCATE smartbox.samples; UPDATE smartbox.services SET backfilled = '{}'; "
	  . q{DO $$ BEGIN PERFORM backfill_metrics('{booking}', '1 hour'); END $$; SELECT count(metric_values[6]), max(metric_values[6]) FROM smartbox.samples}),
	'12|720', 'a pattern finds the name with underscores');
$node->safe_psql('shop', q{DELETE FROM smartbox.metrics WHERE metric = 'duration'});

# ---------- what newer servers add to an answer ----------

my $fake = Smartbox::FakeHttpServer->start;
my %added = (
	'VictoriaMetrics 1.112' => [ '"isPartial":false,', '"stats":{"seriesFetched":"3","executionTimeMsec":2},', '"trace":{"duration_msec":0.1,"message":"x","children":[{"duration_msec":0,"message":"{}"}]}' ],
	'Prometheus 3' => [ '', '"warnings":["PromQL warning: x"],', '"infos":["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \\"x\\""]' ],
	'Prometheus with statistics' => [ '', '', '"data2":{},"stats":{"timings":{"evalTotalTime":0.1},"samples":{"totalQueryableSamplesPerStep":[[1700000000,3]],"peakSamples":1}}' ]);
foreach my $name (sort keys %added)
{
	my ($first, $middle, $last) = @{ $added{$name} };

	$fake->answer('newer', body => qq({"status":"success",$first"data":{"resultType":"vector",)
		  . qq("result":[{"metric":{"service_name":"booking"},"value":[\@time\@,"0.25"],"histogram":[1,{"count":"2","buckets":[[0,"1","2","3"]]}]}],)
		  . qq("stats":{"seriesFetched":"1"}},$middle$last}));
	is($node->safe_psql('shop', "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('newer') . "'; SELECT metrics_present, warnings FROM collect_metrics('{booking}')"),
		'5|', "what $name adds to an answer is no trouble");
}

# ---------- a cycle holds nothing while it waits ----------

my ($in, $out) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(120));
$in = "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'; SET smartbox_anomaly.vm_timeout = '60s';\nCALL run_cycle();\n";
$session->pump_nb;
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL run_cycle%' AND wait_event_type = 'Extension'}, '1', 60);
is($node->safe_psql('shop', q{SELECT backend_xmin IS NULL, backend_xid IS NULL,
	(SELECT count(*) FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype <> 'virtualxid')
	FROM pg_stat_activity AS a WHERE query LIKE 'CALL run_cycle%'}), 't|t|0', 'a cycle that waits for the source holds no snapshot and no lock');
$node->safe_psql('shop', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL run_cycle%'});
$session->pump until $out =~ /canceling/;
$in .= "SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:1';\nTRUNCATE smartbox.samples;\nCALL run_cycle();\nSET smartbox_anomaly.vm_endpoint = '$url{Prometheus}';\nCALL run_cycle();\nSELECT 'cycle ' || count(*) FROM smartbox.samples;\n\\q\n";
$session->finish;
like($out, qr/WARNING:  metrics were not collected: could not fetch metric/, 'a source that is down is a warning');
like($out, qr/cycle 4$/m, 'and the next cycle collects');

done_testing();
