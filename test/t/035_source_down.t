# While the source does not answer nothing is said of any service: incidents
# are held, and nobody is told that all is well.
use strict;
use warnings;
use Test::More;
use Smartbox::Clock 'sample_time';
use Smartbox::Cluster;

sample_time(40);

# Nothing listens on port 1.
my $node = Smartbox::Cluster->launch('down',
	"smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:1'", 'smartbox_anomaly.vm_max_retries = 0');

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking'), ('search');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT s, date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', '{10,100,50,5,0.001}'
	FROM unnest(ARRAY['booking', 'search']) AS s, generate_series(8, 10) AS n;
	INSERT INTO smartbox.detections (service, ts, is_anomaly, severity, score)
	SELECT 'booking', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', true, 'high', -0.5
	FROM generate_series(4, 3, -1) AS n;
});
is($node->safe_psql('shop', 'SELECT status FROM smartbox.incidents'), 'OPEN', 'there is an open incident');

my ($answer, $said);
is( $node->psql('shop', q{SELECT a->>'alert_type', a->>'anomaly_count', (a->>'timestamp')::timestamptz > now() - interval '5 minutes'
		FROM detect_anomalies('booking') AS a}, stdout => \$answer, stderr => \$said),
	0, 'detection goes on');
like($said, qr/WARNING:  could not fetch metric .*\nDETAIL:  .*[Cc]onnect/, 'and warns that the source does not answer');
is($answer, 'no_data|0|t', 'there is no data of now, and no anomaly');
is( $node->safe_psql('shop', q{SELECT status, missed_cycles, occurrence_count FROM smartbox.incidents}),
	'OPEN|0|2', 'the incident is held: no cycle is counted');
is( $node->safe_psql('shop', q{SELECT string_agg(DISTINCT a->>'alert_type', ',') FROM run_inference() AS a}),
	'no_data', 'none of the services is silent by itself');
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.incidents'), 1, 'and none has an incident for it');

# The others report: then one service's silence is its own.
$node->safe_psql('shop', q{
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'search', date_bin('5 minutes', now() + interval '5 minutes', 'epoch'), '{10,100,50,5,0.001}'});
is( $node->safe_psql('shop', q{SELECT a->>'alert_type', a#>>'{anomalies,0,name}', a#>>'{anomalies,0,metadata,status}'
		FROM detect_anomalies('booking', (SELECT max(ts) FROM smartbox.samples)) AS a}),
	'no_data|no_data|SUSPECTED', 'a service that falls silent while others report is suspected');
is( $node->safe_psql('shop', q{SELECT status, missed_cycles FROM smartbox.incidents WHERE anomaly_name = 'anomaly'}),
	'OPEN|0', 'its other incident is still held');

# The source is down for an hour in the middle of an incident: cycle by cycle
# there is nothing to judge.  Then the fault is still there.
$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('cart');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'cart', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', '{10,100,50,5,0.001}'
	FROM generate_series(40, 38, -1) AS n;
	INSERT INTO smartbox.detections (service, ts, is_anomaly, severity, score)
	SELECT 'cart', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', true, 'high', -0.5
	FROM generate_series(40, 38, -1) AS n});
is( $node->safe_psql('shop', q{
	SELECT count(*), string_agg(DISTINCT detect_anomalies('cart', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes')->>'alert_type', ',')
	FROM (SELECT * FROM generate_series(37, 26, -1) AS n ORDER BY n DESC) AS cycle}),
	'12|no_data', 'an hour of cycles without data');
is($node->safe_psql('shop', q{SELECT status, missed_cycles, occurrence_count FROM smartbox.incidents WHERE service = 'cart'}),
	'OPEN|0|3', 'the incident is held through it');
$node->safe_psql('shop', q{
	INSERT INTO smartbox.detections (service, ts, is_anomaly, severity, score)
	VALUES ('cart', date_bin('5 minutes', now(), 'epoch') - 25 * interval '5 minutes', true, 'high', -0.5)});
is($node->safe_psql('shop', q{SELECT status, missed_cycles, occurrence_count FROM smartbox.incidents WHERE service = 'cart'}),
	'OPEN|0|4', 'and goes on afterwards, the same incident');
is($node->safe_psql('shop', q{SELECT string_agg(alert_type, ',') FROM smartbox.alerts WHERE service = 'cart'}),
	'anomaly_detected', 'nobody was told that it was over');

# A sample in which nothing is known says nothing, whether its values are
# missing or out of range.
foreach my $values ('{NULL,NULL,NULL,NULL,NULL}', '{NaN,NaN,NaN,NaN,NaN}', '{-1,-1,-1,-1,7}')
{
	my $ts = $node->safe_psql('shop', q{SELECT max(ts) + interval '5 minutes' FROM smartbox.samples});
	$node->safe_psql('shop', "INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('booking', '$ts', '$values')");
	is( $node->safe_psql('shop', "SELECT detect_anomalies('booking', '$ts')->>'alert_type'"), 'no_data', "$values is no data");
}
is( $node->safe_psql('shop', q{SELECT status, missed_cycles FROM smartbox.incidents WHERE service = 'booking' AND anomaly_name = 'anomaly'}),
	'OPEN|0', 'and resolves no incident');

done_testing();
