# A database with something in every view, for what draws and reports: a fleet
# that was trained, a fault in two services of which one calls the other, alarms
# of last week, a source and a receiver that do not answer, a service that is
# new.
#
#   my $node = Smartbox::Fleet::launch('main');
#
# The database is "shop"; the fault is in the last 15 minutes of samples.
package Smartbox::Fleet;

use strict;
use warnings;
use Smartbox::Cluster;

my @statements = (
	q{INSERT INTO smartbox.services (service) VALUES ('booking'), ('search'), ('it''s "odd" {}');
	UPDATE smartbox.services SET created_at = now() - interval '40 days';
	INSERT INTO smartbox.dependencies VALUES ('booking', 'search');
	INSERT INTO smartbox.slos (service, metric, acceptable, warning, objective) VALUES ('*', 'application_latency', 200, 400, 600);
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT service, to_timestamp(floor(extract(epoch FROM now()) / 300) * 300) - (8640 - n) * interval '5 minutes',
		ARRAY[50 * exp(0.05 * sin(n * 12.9898) + 0.05 * sin(n * 78.233)), 120 * exp(0.05 * sin(n * 39.425) + 0.05 * sin(n * 11.135)), 40, 8, 0.002]
	FROM smartbox.services, generate_series(1, 8640) AS n},

	q{SELECT count(*) FROM train_models()},

	q{INSERT INTO smartbox.services (service) VALUES ('new');
	INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
	SELECT service, now() - day * interval '1 day' + minute * interval '1 minute', minute < 10,
		jsonb_build_object('anomalies', CASE WHEN minute < 10 THEN '[{"name": "error_rate_high", "score": -0.4}]'::jsonb ELSE '[]' END)
	FROM smartbox.services, unnest(ARRAY[6, 5, 4]) AS day, unnest(ARRAY[0, 5, 10, 15, 20]) AS minute
	WHERE service <> 'new'
	ORDER BY service, day DESC, minute;
	SELECT feedback(incident_id, 'not_anomaly') FROM smartbox.incidents WHERE service = 'search';
	UPDATE smartbox.receivers SET enabled = true;
	SELECT arm_delivery();
	UPDATE smartbox.samples SET metric_values[2] = 900, metric_values[4] = 200
	WHERE service IN ('booking', 'search') AND ts > (SELECT max(ts) FROM smartbox.samples) - interval '15 minutes'},

	q{SELECT count(detect_anomalies(service, ts)) FROM (
		SELECT service, ts FROM smartbox.samples WHERE ts > (SELECT max(ts) FROM smartbox.samples) - interval '2 hours'
		ORDER BY ts, service DESC) AS s},

	q{SELECT acknowledge_incident(incident_id) FROM smartbox.active_incidents;
	SELECT smartbox.assign_root_causes();
	SELECT status FROM smartbox.run_job('retention')},

	q{ALTER SYSTEM SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:1'; SELECT pg_reload_conf()});

sub launch
{
	my ($name) = @_;
	my $node = Smartbox::Cluster->launch($name, "shared_preload_libraries = 'smartbox_anomaly'", 'smartbox_anomaly.vm_max_retries = 0');

	$node->safe_psql('shop', $_) foreach @statements;
	$node->wait_for('shop', 'SHOW smartbox_anomaly.vm_endpoint', 'http://127.0.0.1:1', 60);
	# This fails, which is what it is for.
	$node->psql('shop', 'SELECT count(*) FROM collect_metrics()');
	return $node;
}

1;
