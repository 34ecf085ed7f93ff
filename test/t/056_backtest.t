# backtest() against the real thing: a generated fleet goes through live cycles
# of run_inference(), then the same span through the replay, and no number may
# differ; and rows of replays with random rules go through the triggers, and no
# incident may differ.
#
# SMARTBOX_SEED=N repeats a run.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my $seed = $ENV{SMARTBOX_SEED} // time ^ $$;
srand($seed);
note("seed $seed");

my $node = Smartbox::Cluster->launch('backtest', 'autovacuum = off');

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('shop', $sql);
}

# Three services, 40 days around the change of clocks on 31 March 2024, faults
# in the last days.  One service has no database, one falls silent, one repeats
# a stuck sample.
query(q{
	CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
	$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;
	CREATE TABLE fleet AS
	SELECT s.service, t.ts,
		CASE WHEN s.n = 3 AND t.ts BETWEEN '2024-04-01 06:00+00' AND '2024-04-01 07:30+00' THEN '{40,130,41,8,0.002}'
		ELSE ARRAY[
			100 * (1 + 0.6 * sin(extract(hour FROM t.ts AT TIME ZONE 'Europe/Berlin') / 24 * 6.28)) * noise(k, 0.07)
				* CASE WHEN s.n = 1 AND t.ts BETWEEN '2024-03-31 13:00+00' AND '2024-03-31 14:00+00' THEN 0.2 ELSE 1 END,
			120 * noise(k + 1, 0.06)
				* CASE WHEN s.n = 2 AND t.ts BETWEEN '2024-03-31 20:00+00' AND '2024-03-31 21:15+00' THEN 5 ELSE 1 END
				* CASE WHEN k % 97 = 0 THEN 2 ELSE 1 END,
			40 * noise(k + 2, 0.08) * CASE WHEN s.n = 2 AND t.ts BETWEEN '2024-03-31 20:00+00' AND '2024-03-31 21:15+00' THEN 12 ELSE 1 END,
			CASE WHEN s.n <> 3 THEN 8 * noise(k + 3, 0.08) END,
			0.002 * noise(k + 4, 0.2)
				* CASE WHEN s.n = 3 AND t.ts BETWEEN '2024-03-31 01:00+00' AND '2024-03-31 01:40+00' THEN 50 ELSE 1 END]
		END AS metric_values
	FROM (VALUES ('api-gateway', 1), ('booking', 2), ('mail-worker', 3)) AS s(service, n),
		generate_series('2024-02-22 00:05+00'::timestamptz, '2024-04-01 12:00+00', '5 min') AS t(ts),
		LATERAL (SELECT extract(epoch FROM t.ts)::bigint * 1003 + s.n * 7 AS k) AS seed
	WHERE NOT (s.n = 2 AND t.ts BETWEEN '2024-04-01 03:00+00' AND '2024-04-01 05:00+00')
		AND (t.ts < '2024-03-31 00:00+00' OR k % 23 > 0);
	INSERT INTO smartbox.services (service, time_zone) SELECT DISTINCT service, 'Europe/Berlin' FROM fleet;
	INSERT INTO smartbox.samples (service, ts, metric_values) SELECT * FROM fleet WHERE ts < '2024-03-31 00:00+00';
	INSERT INTO smartbox.signal_bars (service, metric, direction, incident_id, absolute_deviation, relative_deviation)
	VALUES ('api-gateway', 'application_latency', 'high', 'incident_000000000000', 0, 1.2);
	ANALYZE;
	SELECT train_models();
});

my $since = "'2024-03-31 00:00+00'";
my $until = "'2024-04-01 12:00+00'";
query(qq{
	DO \$\$
	DECLARE
		instant timestamptz;
	BEGIN
		FOR instant IN SELECT DISTINCT ts FROM fleet WHERE ts >= $since ORDER BY ts
		LOOP
			INSERT INTO smartbox.samples (service, ts, metric_values) SELECT * FROM fleet WHERE ts = instant;
			PERFORM run_inference();
		END LOOP;
	END \$\$;
	CREATE TABLE replay AS SELECT s.service, b.* FROM smartbox.services AS s, backtest(s.service, $since, $until) AS b;
	CREATE TABLE replayed_incidents AS
	SELECT s.service, b.* FROM smartbox.services AS s, backtest_incidents(s.service, $since, $until) AS b;
	CREATE VIEW live AS
	SELECT d.service, d.ts, d.time_period, d.score, d.severity, d.is_anomaly, d.no_data, d.confidence,
		a ->> 'name' AS anomaly_name, a #>> '{metadata,incident_id}' AS incident_id, a #>> '{metadata,status}' AS incident_status,
		a #>> '{metadata,incident_action}' AS incident_action, (a #>> '{metadata,occurrence_count}')::int AS occurrence_count
	FROM smartbox.detections AS d, LATERAL (SELECT d.payload #> '{anomalies,0}') AS x(a);
});

my $columns = 'service, ts, time_period, score, severity, is_anomaly, no_data, anomaly_name, incident_id';
my $moves = 'incident_status::text, incident_action::text, occurrence_count';
my $incident_columns = 'service, incident_id, fingerprint_id, anomaly_name, status, severity, round(score::numeric, 4), first_seen,'
  . ' last_seen, confirmed_at, resolved_at, resolution_reason, occurrence_count, missed_cycles,'
  . ' (SELECT array_agg(s ORDER BY s) FROM unnest(signals) AS s) AS signals';

sub differences
{
	my ($these, $those) = @_;
	return query("(SELECT '-', * FROM ($these EXCEPT ALL $those) AS a) UNION ALL (SELECT '+', * FROM ($those EXCEPT ALL $these) AS b) ORDER BY 3, 2, 1 LIMIT 6");
}

is(differences("SELECT $columns, $moves FROM live", "SELECT $columns, $moves FROM replay"), '',
	'the replay says what the live cycles said, to the bit');
is(differences("SELECT $incident_columns FROM smartbox.incidents", "SELECT $incident_columns FROM replayed_incidents"), '',
	'and has the same incidents');

# That was not for nothing.
cmp_ok(query('SELECT count(*) FROM live'), '>', 1200, 'there were many cycles');
cmp_ok(query('SELECT count(DISTINCT anomaly_name) FROM live'), '>=', 4, 'and faults of several kinds');
cmp_ok(query('SELECT count(*) FROM live WHERE no_data AND is_anomaly'), '>', 10, 'a service was silent');
cmp_ok(query('SELECT count(*) FROM live WHERE no_data AND NOT is_anomaly'), '>', 5, 'and one was stuck');
cmp_ok(query("SELECT count(*) FROM smartbox.incidents WHERE resolution_reason = 'resolved'"), '>', 2, 'incidents came and went');
is(query("SELECT bool_and(alerting = (is_anomaly AND incident_status = 'OPEN')) FROM replay WHERE is_anomaly"), 't',
	'alerting is an anomaly of an open incident');
is(query('SELECT count(*) FROM replay WHERE alerting AND NOT is_anomaly'), '0', 'and nothing else');

# What is known only later changes nothing: not even when the models are asked
# for again with the incidents of the span in the tables, as here all along.
is(differences("SELECT $columns FROM replay WHERE ts <= '2024-03-31 15:00+00'",
	"SELECT $columns FROM smartbox.services AS s, backtest(s.service, $since, '2024-03-31 15:00+00') AS b"),
	'', 'a shorter replay is the beginning of a longer one');

# ---------------------------------------------------------------------------
# The same detections through the triggers and through the replay
# ---------------------------------------------------------------------------

my %went;
foreach my $round (1 .. 12)
{
	my $service = ('api-gateway', 'booking', 'mail-worker')[ rand 3 ];
	my $confirmation = 1 + int rand 3;
	my $grace = 1 + int rand 4;
	my $separation = (5, 10, 30, 120)[ rand 4 ] . ' min';
	my $options = sprintf q('{"confirmation_cycles": %d, "resolution_grace_cycles": %d, "incident_separation": "%s", "threshold": %.2f, "false_alarms_per_week": %d}'),
	  $confirmation, $grace, $separation, rand(0.4), 50 + int rand 900;
	my $left_out = 1 + int rand 5;

	query(qq{
		TRUNCATE smartbox.detections, smartbox.incidents, smartbox.incident_events, smartbox.alerts, smartbox.fingerprints;
		DROP TABLE IF EXISTS replay_rows;
		UPDATE smartbox.services SET confirmation_cycles = $confirmation, resolution_grace_cycles = $grace,
			incident_separation = '$separation' WHERE service = '$service';
		CREATE TABLE replay_rows AS SELECT '$service' AS service, * FROM backtest('$service', $since, $until, $options);
		INSERT INTO smartbox.detections (service, ts, time_period, score, severity, is_anomaly, no_data, confidence, payload)
		SELECT service, ts, time_period, score, severity, is_anomaly, no_data, confidence, CASE WHEN is_anomaly
			THEN jsonb_build_object('anomalies', jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
				'name', anomaly_name, 'severity', severity, 'score', score, 'confidence_score', confidence,
				'detection_signals', (SELECT jsonb_agg(jsonb_build_object('name', s)) FROM unnest(signals) AS s))))) ELSE '{}' END
		FROM replay_rows ORDER BY ts;
	});
	my $same = "round $round: $service with $options";
	is(differences("SELECT $columns, $moves FROM live", "SELECT $columns, $moves FROM replay_rows"), '', "$same: the same moves");
	is(differences("SELECT $incident_columns FROM smartbox.incidents",
		"SELECT $incident_columns FROM (SELECT '$service' AS service, * FROM backtest_incidents('$service', $since, $until, $options)) AS b"),
		'', '... and the same incidents');
	$went{$_}++ foreach split /\n/, query('SELECT DISTINCT event FROM smartbox.incident_events');
	$went{$_}++ foreach split /\n/, query('SELECT DISTINCT resolution_reason FROM smartbox.incidents WHERE resolution_reason IS NOT NULL');
}
cmp_ok($went{$_} // 0, '>', 0, "there was $_") foreach qw(CREATE CONFIRM CONTINUE RECOVER RESOLVE EXPIRE resolved suspected_expired);

# ---------------------------------------------------------------------------
# It writes nothing
# ---------------------------------------------------------------------------

is(query("BEGIN READ ONLY; SELECT count(*) > 100 FROM backtest('booking', $since, $until); COMMIT"), 't',
	'it works in a read-only transaction');

done_testing();
