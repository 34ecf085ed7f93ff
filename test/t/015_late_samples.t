# What really arrives from a VictoriaMetrics: late, corrected, carried on,
# marked as stale, with holes, and from a clock that is ahead.
use strict;
use warnings;
use Test::More;
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::VictoriaMetrics;

my $source = Smartbox::VictoriaMetrics->start;
# With an hour between samples the current one was due some minutes ago, and
# what comes in now comes late.
my $node = Smartbox::Cluster->launch('late',
	"smartbox_anomaly.vm_endpoint = '" . $source->url . "'", "smartbox_anomaly.sample_interval = '1h'");

sub query
{
	return $node->safe_psql('shop', $_[0]);
}

# The test begins well within an hour, so that it ends in the same one.
my $slot = query(q{SELECT extract(epoch FROM date_trunc('hour', now()))::bigint});
if ($slot + 3600 - time < 120)
{
	$slot = $node->wait_for('shop', q{SELECT extract(epoch FROM date_trunc('hour', now()))::bigint}, qr/^(?!$slot$)/, 180);
}

query(q{
	UPDATE smartbox.metrics SET enabled = false WHERE metric NOT IN ('request_rate', 'application_latency');
	UPDATE smartbox.metrics SET query = 'sum(late_' || metric || '{$selector}) by ($service_label)' WHERE enabled;
	INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'UTC'), ('search', 'UTC')});

sub labels
{
	my ($name, $service, $instance) = @_;
	return { __name__ => "late_$name", service_name => $service, instance => $instance,
		deployment_environment_name => 'production' };
}

# Points of one series: time => value.
my $n_files = 0;
sub import_points
{
	my ($labels, %points) = @_;
	my $path = "$ENV{SMARTBOX_WORK}/tmp/late.$$." . $n_files++;
	my @times = sort { $a <=> $b } keys %points;

	open my $file, '>', $path or die "$path: $!";
	printf $file "{\"metric\":%s,\"values\":[%s],\"timestamps\":[%s]}\n", JSON::PP->new->canonical->encode($labels),
	  join(',', map { $points{$_} } @times), join(',', map { $_ * 1000 } @times);
	close $file or die "$path: $!";
	$source->import_file($path);
}

sub collect
{
	my ($output, $said);
	is($node->psql('shop', 'SELECT service, metrics_present FROM collect_metrics() WHERE metrics_present > 0',
		stdout => \$output, stderr => \$said), 0, 'metrics are collected') or diag($said);
	is($said, '', '... without a complaint');
	return $output;
}

sub sample
{
	my ($service) = @_;
	return query("SELECT array_to_string(metric_values, ',', '?') || coalesce(' ' || array_to_string(warnings, ';'), '')
		FROM smartbox.samples WHERE service = '$service' AND ts = to_timestamp($slot)");
}

# --- late values

import_points(labels('request_rate', 'booking', 'a'), $slot - 60 => 10.5);
is(collect(), 'booking|1', 'one metric of one service is there in time');
is(sample('booking'), '10.5,?,?,?,?', 'what is not there is unknown');
query("INSERT INTO smartbox.detections (service, ts, payload) VALUES ('booking', to_timestamp($slot), '{\"alert_type\": \"no_anomaly\", \"as\": \"judged\"}')");

import_points(labels('application_latency', 'booking', 'a'), $slot - 30 => 80);
import_points(labels('request_rate', 'search', 'a'), $slot - 30 => 3);
is(collect(), "booking|2\nsearch|1", 'more comes late');
is(sample('booking'), '10.5,80,?,?,?', 'and completes the sample, without a warning');

import_points(labels('request_rate', 'booking', 'b'), $slot - 20 => 4.5);
collect();
is(sample('booking'), '15,80,?,?,? request_rate: corrected, was 10.5 when it was first fetched', 'a value that comes out different corrects it');
is(query("SELECT detect_anomalies('booking', to_timestamp($slot))->>'as'"), 'judged', 'the judgement stays as it was');

import_points(labels('request_rate', 'booking', 'c'), $slot - 10 => 5);
collect();
is(sample('booking'), '20,80,?,?,? request_rate: corrected, was 10.5 when it was first fetched', 'the last value counts, and the warning is kept once');

import_points(labels('request_rate', 'booking', 'd'), $slot - 10 => 1e-12);
collect();
like(sample('booking'), qr/^20,80,/, 'a difference in the last digits is none');

# Unknown never takes the place of what is known.
query(q{UPDATE smartbox.metrics SET query = 'late_nothing{$selector}' WHERE metric = 'application_latency'});
collect();
like(sample('booking'), qr/^20,80,/, 'a value that is gone at the source is kept');
query(q{UPDATE smartbox.metrics SET query = 'sum(late_application_latency{$selector}) by ($service_label)' WHERE metric = 'application_latency'});

# A query that fails beside others that do not leaves a hole, which is filled.
query(q{UPDATE smartbox.metrics SET query = 'nonsense(late_application_latency{$selector})' WHERE metric = 'application_latency'});
query("DELETE FROM smartbox.samples WHERE service = 'booking'");
$node->psql('shop', 'SELECT FROM collect_metrics()', stderr => \my $failure);
like($failure, qr/WARNING:  could not fetch metric "application_latency"/, 'a query that fails is a warning');
like(sample('booking'), qr/^20[.\d]*,\?,\?,\?,\? application_latency: could not be fetched$/, 'the others are stored');
query(q{UPDATE smartbox.metrics SET query = 'sum(late_application_latency{$selector}) by ($service_label)' WHERE metric = 'application_latency'});
is(query("SELECT sum(samples) FROM backfill_metrics('{booking}', '1 hour')"), 1, 'a backfill asks for the sample again');
like(sample('booking'), qr/^20[.\d]*,80,/, 'and completes it');
is(query("SELECT sum(samples) FROM backfill_metrics('{booking}', '1 hour')"), 0, 'once');

# --- values that cannot be

import_points(labels('request_rate', 'search', 'b'), $slot - 10 => -50);
collect();
is(sample('search'), '3,?,?,?,?', 'a value that cannot be does not take the place of one that can');
query("DELETE FROM smartbox.samples WHERE service = 'search'");
import_points(labels('application_latency', 'search', 'a'), $slot - 10 => 70);
collect();
is(sample('search'), '?,70,?,?,? request_rate: -47 is below 0, taken as unknown', 'it is refused, and said');
query(q{UPDATE smartbox.metrics SET query = 'sum(late_request_rate{$selector}) by ($service_label) / 0' WHERE metric = 'request_rate'});
query('DELETE FROM smartbox.samples');
collect();
is(sample('booking'), '?,80,?,?,? request_rate: infinite, taken as unknown', 'so is one that is infinite');
query(q{UPDATE smartbox.metrics SET query = '0 * sum(late_request_rate{$selector}) by ($service_label) / 0' WHERE metric = 'request_rate'});
query('DELETE FROM smartbox.samples');
collect();
is(sample('booking'), '?,80,?,?,?', 'no requests are no infinity: that value is just unknown');
query(q{UPDATE smartbox.metrics SET query = 'sum(late_request_rate{$selector}) by ($service_label)' WHERE metric = 'request_rate'});

# --- stale: a target went away and the scraper said so

# A remote write of one point: Snappy of one literal around a protocol buffer.
sub varint
{
	my ($n) = @_;
	my $bytes = '';
	while ($n > 127) { $bytes .= chr($n & 127 | 128); $n >>= 7 }
	return $bytes . chr($n);
}
sub field { return chr($_[0] << 3 | 2) . varint(length $_[1]) . $_[1] }
sub remote_write
{
	my ($labels, $time, $value_bytes) = @_;
	my $series = join '', map { field(1, field(1, $_) . field(2, $labels->{$_})) } sort keys %$labels;
	my $message = field(1, $series . field(2, "\x09$value_bytes\x10" . varint($time * 1000)));
	my $answer = $source->{http}->post($source->url . '/api/v1/write', { headers => { 'Content-Encoding' => 'snappy' },
		content => varint(length $message) . chr(61 << 2) . pack('v', length($message) - 1) . $message });
	is($answer->{status}, 204, 'remote write') or diag($answer->{content});
}
my $stale = pack 'L<L<', 2, 0x7ff00000;

query("INSERT INTO smartbox.services (service) VALUES ('gone'), ('there')");
foreach my $service (qw(gone there))
{
	import_points(labels('request_rate', $service, 'a'), $slot - 120 => 7);
}
remote_write(labels('request_rate', 'gone', 'a'), $slot - 60, $stale);
# A point of another series that is visible says that the one before it is.
remote_write(labels('application_latency', 'gone', 'marker'), $slot - 55, pack('d<', 1));
$source->wait_until_visible({ JSON::PP->new->canonical->encode(labels('application_latency', 'gone', 'marker')) => $slot - 55 });
query('DELETE FROM smartbox.samples');
collect();
is(sample('there'), '7,?,?,?,?', 'a last value is carried on for five minutes');
is(sample('gone'), '?,1,?,?,?', 'unless it is marked as stale');

# --- holes, and what the source puts into them

query("ALTER SYSTEM SET smartbox_anomaly.sample_interval = '5min'");
query('SELECT pg_reload_conf()');
$node->wait_for('shop', 'SHOW smartbox_anomaly.sample_interval', '5min', 30);
my $end = $slot - 3600;
my @present = grep { $_ < 20 || $_ > 31 } 0 .. 60;
foreach my $name (qw(request_rate application_latency))
{
	my $base = $name eq 'request_rate' ? 10 : 80;
	import_points(labels($name, 'holes', 'a'), map { $end - 300 * (60 - $_) => sprintf '%.6f', $base + sin($_ * $base) } @present);
}
query("INSERT INTO smartbox.services (service) VALUES ('holes')");
query("DELETE FROM smartbox.samples; SELECT count(*) FROM backfill_metrics('{holes}', '8 hours')");
query("DELETE FROM smartbox.samples WHERE ts > to_timestamp($end)");
my $first_missing = $end - 300 * 40;
is(query("SELECT count(*) FROM smartbox.samples WHERE ts > to_timestamp($first_missing) AND ts <= to_timestamp($end - 300 * 29)"),
	0, 'what was not reported is not there');
is(query("SELECT (SELECT metric_values FROM smartbox.samples WHERE ts = to_timestamp($first_missing))
		= (SELECT metric_values FROM smartbox.samples WHERE ts = to_timestamp($first_missing - 300))"),
	't', 'but the source carries the last value on, once');
is(query("SELECT detect_anomalies('holes', to_timestamp($first_missing))->>'error_code'"), 'MODEL_NOT_FOUND', 'which is data');
is(query("SELECT samples, gaps, longest_gap FROM smartbox.sample_quality WHERE service = 'holes' AND days = 1"),
	'50|1|01:00:00', 'the hole is a gap of an hour');

# --- the future

import_points(labels('request_rate', 'booking', 'future'), time + 3600 => 999);
query("DELETE FROM smartbox.samples WHERE service = 'booking'; SELECT count(*) FROM collect_metrics('{booking}')");
is(query("SELECT count(*) FROM smartbox.samples WHERE ts > now() OR metric_values[1] > 900"), 0, 'nothing comes from the future');

my $fake = Smartbox::FakeHttpServer->start;
my $ahead = time + 7200;
$fake->answer('ahead', body => qq({"status":"success","data":{"resultType":"vector","result":[
	{"metric":{"service_name":"booking"},"value":[$ahead,"5"]}]}}));
query('DELETE FROM smartbox.samples');
my ($output, $said);
$node->psql('shop', "SET smartbox_anomaly.vm_endpoint = '" . $fake->url('ahead') . "';
	UPDATE smartbox.metrics SET enabled = false WHERE metric <> 'request_rate';
	SELECT sum(metrics_present) FROM collect_metrics()", stdout => \$output, stderr => \$said);
is($output, '0', 'a source whose clock is ahead has no values of now');
like($said, qr/WARNING:  points of metric "request_rate" were refused because of their time\nDETAIL:  0 were before the time asked for, 1 after it\.\nHINT:  .*clocks/,
	'and that is said');

# Rows that are inserted by hand may lie there; a judgement without an instant
# goes by the present.
query("DELETE FROM smartbox.detections; INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('booking', now() + interval '1 day', '{1}')");
is(query("SET smartbox_anomaly.vm_endpoint = ''; SELECT (detect_anomalies('booking')->>'timestamp')::timestamptz <= now()"), 't',
	'a sample from the future is not what is judged now');

done_testing();
