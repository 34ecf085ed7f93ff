# The main job with a real VictoriaMetrics: what is imported arrives in the
# samples, is learnt, a fault becomes an incident, and the incident ends.
use strict;
use warnings;
use Test::More;
use Smartbox::Cluster;
use Smartbox::VictoriaMetrics;

my $zone = 'Europe/Paris';
$ENV{TZ} = $zone;

# The fault begins 50 minutes ago, so that it and the recovery lie in the past:
# the extension asks for nothing that is yet to come.
my $now = int(time / 300) * 300;
my $healthy_until = $now - 3000;
my $fault_until = $healthy_until + 900;
my $begin = $now - 30 * 86400 + 3600;
# Noise depends on the seed and the number of the sample only; this seed's last
# samples are unremarkable.
my @history = ('--begin', $begin, '--seed', 11, '--services', 'booking,search,vouchers');
my $gap_from = $begin + 20 * 86400;
my $gap_until = $gap_from + 7200;
my $csv = "$ENV{SMARTBOX_WORK}/tmp/imported.$$.csv";

my $source = Smartbox::VictoriaMetrics->start;
$source->generate(@history, '--end', $healthy_until, '--csv', $csv,
	'--gap', "search:$gap_from:$gap_until");
my $node = Smartbox::Cluster->launch('main',
	"smartbox_anomaly.vm_endpoint = '" . $source->url . "'",
	"smartbox_anomaly.time_zone = '$zone'");

sub query
{
	return $node->safe_psql('shop', $_[0]);
}

sub detect
{
	my ($service, $time, $path) = @_;
	return query("SELECT detect_anomalies('$service', to_timestamp($time)) #>> '$path'");
}

# Everything that a detection may touch, in one value.
sub state_of_everything
{
	return query("SELECT md5(concat(
		(SELECT string_agg(d::text, '|' ORDER BY service, ts) FROM smartbox.detections d),
		(SELECT string_agg(i::text, '|' ORDER BY service, incident_id) FROM smartbox.incidents i),
		(SELECT string_agg(e::text, '|' ORDER BY service, incident_id, event_number) FROM smartbox.incident_events e),
		(SELECT string_agg(a::text, '|' ORDER BY service, incident_id, alert_number) FROM smartbox.alerts a)))");
}

# Import the points up to an instant and fetch them.  They come later than the
# time they belong to, so what was fetched for that time is forgotten first.
my $imported_until = $healthy_until;
sub import_until
{
	my ($until) = @_;
	$source->generate(@history, '--from', $imported_until, '--end', $until,
		'--gap', "search:$gap_from:$gap_until",
		'--fault', "booking:database_latency:$healthy_until:$fault_until:8",
		'--fault', "booking:error_rate:$healthy_until:$fault_until:0.08");
	query("DELETE FROM smartbox.samples WHERE ts > to_timestamp($imported_until)");
	query("UPDATE smartbox.services SET backfilled = backfilled
		- tstzmultirange(tstzrange(to_timestamp($imported_until), NULL))");
	query('SELECT count(*) FROM backfill_metrics()');
	$imported_until = $until;
}

# --- discovery and backfill

is(query('SELECT * FROM discover_services() ORDER BY 1'), "booking\nsearch\nvouchers", 'services are discovered');
is(query('SELECT * FROM discover_services()'), '', 'known services are not discovered again');
is(query('SELECT count(*) FROM backfill_metrics()'), 3, 'backfill reports on each service');
is( query("SELECT count(DISTINCT cardinality(metric_values)) || ' ' || max(cardinality(metric_values)) FROM smartbox.samples"),
	'1 5', 'every sample has five values');

my %sample;
foreach my $line (split /\n/, query(
	"SELECT service, extract(epoch FROM ts)::bigint, array_to_string(metric_values, ',', '') FROM smartbox.samples
	 WHERE ts <= to_timestamp($healthy_until)"))
{
	my ($service, $time, $values) = split /\|/, $line;
	$sample{"$service $time"} = [ split /,/, $values, -1 ];
}

my ($compared, $without_value, @wrong) = (0, 0);
open my $file, '<', $csv or die "$csv: $!";
<$file>;
while (my $line = <$file>)
{
	chomp $line;
	my ($service, $time, @intended) = split /,/, $line, -1;
	my $values = $sample{"$service $time"};

	# The interval after the gap has no point to count from.
	next if $service eq 'search' && $time == $gap_until + 300;
	foreach my $i (0 .. 4)
	{
		my ($is, $should) = ($values ? $values->[$i] : '(no sample)', $intended[$i]);
		$compared++;
		$without_value++ if $should eq '';
		next if $should eq '' ? $is eq '' : $is =~ /^[0-9.e+-]+$/ && abs($is - $should) <= 5e-7 * abs($should);
		push @wrong, "$service at $time, metric $i: $is instead of $should";
	}
}
close $file;
cmp_ok($compared, '>', 3 * 5 * 8500, "$compared values were imported");
cmp_ok($without_value, '>', 8000, "$without_value of them are missing: vouchers calls no other service");
is(scalar @wrong, 0, 'the samples agree with what was imported to six digits')
  or diag(join("\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]));

# VictoriaMetrics carries the last value on for one step.
my @in_gap = map { @{ $sample{"search $_"} // [] } } map { $gap_from + 300 * $_ } 2 .. 24;
is(scalar(grep { $_ ne '' } @in_gap), 0, 'what was not reported has no value, not zero');
is(query("SELECT count(*) FROM smartbox.samples WHERE service = 'vouchers' AND metric_values[3] IS NOT NULL"),
	0, 'a metric that a service does not have has no value');

my $before = query('SELECT count(*) FROM smartbox.samples');
is(query('SELECT count(*) FROM backfill_metrics()'), 3, 'a second backfill reports again');
is(query('SELECT count(*) FROM smartbox.samples'), $before, 'and adds nothing');

# --- training

query("DELETE FROM smartbox.samples WHERE ts > to_timestamp($healthy_until)");
is( query("SELECT service, count(*) FILTER (WHERE status = 'accepted'), min(version), max(version)
		FROM train_models() GROUP BY service ORDER BY service"),
	"booking|5|1|1\nsearch|5|1|1\nvouchers|5|1|1", 'five models of each service are accepted');
is(query("SELECT count(*) FROM smartbox.models WHERE is_active AND status = 'accepted' AND model IS NOT NULL"),
	15, 'they are stored and active');
is(query("SELECT string_agg(DISTINCT status, ',') || ' ' || count(*) FROM smartbox.training_runs"),
	'succeeded 3', 'the runs are recorded');

# --- nothing is wrong

is(detect($_, $healthy_until, '{alert_type}'), 'no_anomaly', "$_ is healthy")
  foreach qw(booking search vouchers);
is(query('SELECT count(*) FROM smartbox.incidents'), 0, 'no incident');

# --- a fault

import_until($fault_until);
is(detect('booking', $healthy_until + 300, '{alert_type}'), 'anomaly_detected', 'the fault is seen at its first sample');
is(query('SELECT service, status FROM smartbox.incidents'), 'booking|SUSPECTED', 'the incident is suspected');
is(query('SELECT count(*) FROM smartbox.alerts'), 0, 'nobody is alerted yet');

my $state = state_of_everything();
my $answer = detect('booking', $healthy_until + 300, '{}');
is(state_of_everything(), $state, 'judging the same sample again changes nothing');
is(detect('booking', $healthy_until + 300, '{}'), $answer, 'and answers the same');

is(detect('booking', $healthy_until + 600, '{anomalies,0,metadata,status}'), 'OPEN', 'the second sample confirms it');
is(query('SELECT service, status, occurrence_count FROM smartbox.incidents'), 'booking|OPEN|2',
	'there is one incident, and it is open');
is( query("SELECT a.alert_type, a.payload ->> 'service', a.payload #>> '{anomalies,0,metadata,incident_id}' = i.incident_id
		FROM smartbox.alerts a JOIN smartbox.incidents i USING (service, incident_id)"),
	'anomaly_detected|booking|t', 'one alert, about this incident');
is(detect('booking', $healthy_until + 900, '{anomalies,0,metadata,incident_action}'), 'CONTINUE', 'it goes on');
cmp_ok(query("SELECT max(score) FROM smartbox.incidents"), '<', -0.1, 'a failing database is no trifle');
foreach my $service (qw(search vouchers))
{
	detect($service, $healthy_until + 300 * $_, '{}') foreach 1 .. 3;
	is(query("SELECT count(*) FROM smartbox.incidents WHERE service = '$service' AND confirmed_at IS NOT NULL"),
		0, "$service beside it has no incident");
}

# --- recovery

import_until($healthy_until + 2400);
is(detect('booking', $fault_until + 300, '{alert_type}'), 'no_anomaly', 'it is over');
is(query('SELECT status FROM smartbox.incidents WHERE service = \'booking\''), 'RECOVERING', 'the incident recovers');
detect('booking', $fault_until + 600, '{}');
is(query('SELECT status FROM smartbox.incidents WHERE service = \'booking\''), 'RECOVERING', 'not too fast');
is(detect('booking', $fault_until + 900, '{resolved_incidents,0,alert_type}'), 'incident_resolved',
	'the third quiet sample resolves it');
is( query("SELECT status, resolution_reason, extract(epoch FROM resolved_at)::bigint FROM smartbox.incidents
		WHERE service = 'booking'"),
	'CLOSED|resolved|' . ($fault_until + 900), 'the incident is closed at the time of that sample');
is(query("SELECT string_agg(alert_type, ',' ORDER BY alert_number) FROM smartbox.alerts
		WHERE alert_type <> 'anomaly_detected' OR alert_number = 1"),
	'anomaly_detected,incident_resolved', 'and the resolution is an alert');

done_testing();
