# Dump, restore, dump: the same text, in every format, and no trigger has moved
# anything.  The database has catalogs that a user changed, incidents in every
# state, and alerts.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Smartbox::Cluster;
use Test::More;

my $node = Smartbox::Cluster->launch('dump', 'track_functions = all', 'autovacuum = off');
my $folder = PostgreSQL::Test::Utils::tempdir;

# ---------------------------------------------------------------------------
# A database that has been in use
# ---------------------------------------------------------------------------

$node->safe_psql('shop', <<'END');
-- Categories: one of the user's, one changed.
INSERT INTO smartbox.service_categories (category, contamination, false_alarms_per_week, name_pattern, description)
VALUES ('money', 0.02, 0.5, '^pay', E'tab\there, "quotes" and \\ too');
UPDATE smartbox.service_categories SET confirmation_cycles = 1, resolution_grace_cycles = 2, flapping_openings = 3 WHERE category = 'critical';

-- Metrics: one of the user's, two that changed places, one switched off.
INSERT INTO smartbox.metrics (metric, query, kind, valid_max) VALUES ('queue', 'sum(q{$selector}) by ($service_label)', 'rate', 1e6);
UPDATE smartbox.metrics SET position = 5 - position WHERE position IN (2, 3);
UPDATE smartbox.metrics SET enabled = false WHERE metric = 'database_latency';

-- The calendar: with an end and without.
INSERT INTO smartbox.calendar (service, kind, starts_at, ends_at, description) VALUES
    ('*', 'holiday', '2024-12-25', NULL, 'Noël'), ('booking', 'maintenance', '2024-01-15 22:00', '2024-01-15 23:30', '');

-- Rules and patterns: some of the user's, some changed; one speaks of a metric of theirs.
INSERT INTO smartbox.rules (service, metric, comparison, threshold, severity) VALUES ('booking', 'queue', 'above', 500, 'medium');
INSERT INTO smartbox.rules (metric, comparison, threshold, severity) VALUES ('queue', 'above', 900, 'high');
UPDATE smartbox.rules SET threshold = 0.07 WHERE metric = 'error_rate';
INSERT INTO smartbox.patterns (pattern, severity, conditions, message)
VALUES ('queue_full', 'high', '{"queue": "high"}', E'{queue} \\ "waiting" in {service}\t');
UPDATE smartbox.patterns SET enabled = false WHERE pattern = 'traffic_surge_healthy';

-- Periods: a new one in the middle of the day, a border that moved.
BEGIN;
UPDATE smartbox.time_periods SET start_hour = 19 WHERE time_period = 'evening_hours' AND start_hour = 18;
INSERT INTO smartbox.time_periods VALUES
    ('business_hours', 1, 5, 8, 12, 0.9), ('lunch', 1, 5, 12, 14, 0.5), ('business_hours', 1, 5, 14, 19, 0.9);
COMMIT;

INSERT INTO smartbox.services (service, time_zone, incident_separation, backfilled) VALUES
    ('booking', 'Europe/Paris', '45 min', '{[2024-01-01 00:00+00,2024-01-15 00:00+00)}'),
    ('payment', NULL, NULL, '{}'), ('mobile-api', 'UTC', NULL, '{}'), (E'd\u00e9j\u00e0 "vu" \\ it''s', NULL, NULL, '{}');
UPDATE smartbox.services SET enabled = false WHERE service = 'payment';

INSERT INTO smartbox.samples (service, ts, metric_values, warnings)
SELECT s.service, '2024-01-15 10:00+00'::timestamptz + n * interval '5 min',
    ARRAY[n / 3.0, NULL, 0, 1e-300, 0.1 + n * 1e-17, 5], CASE n WHEN 7 THEN ARRAY['error_rate: 1.2 is above 1'] END
FROM smartbox.services AS s, generate_series(1, 50) AS n;

INSERT INTO smartbox.models (service, time_period, version, status, is_active, model, samples, sample_range, coverage, seed,
    feature_set, duration_ms, card, reason)
SELECT service, 'night_hours', version, status, version = 2, CASE WHEN status = 'accepted' THEN decode(repeat('00ff5c27', 5000), 'hex') END,
    700, '[2024-01-01 00:00+00,2024-01-14 00:00+00)', 0.97, -9223372036854775808, 9223372036854775807, 12.5, '{"thresholds": [0.1, -1e-7]}',
    CASE status WHEN 'rejected' THEN 'flags 9 % of the held-out samples' END
FROM smartbox.services, (VALUES (1, 'accepted'), (2, 'accepted'), (3, 'rejected')) AS v(version, status);
INSERT INTO smartbox.training_runs (service, finished_at, status, samples, models_accepted, models_rejected, message)
SELECT service, now(), 'succeeded', 700, 4, 1, NULL FROM smartbox.services;
INSERT INTO smartbox.training_runs (service) VALUES ('booking');
INSERT INTO smartbox.backfill_runs (service, run_id, started_at, updated_at, span, pieces, pieces_done, samples, last_error, pid)
SELECT service, '00000000-0000-4000-8000-000000000001', now(), now(), '(2024-01-01 00:00+00,2024-01-15 00:00+00]', 3, 1, 700, E'a\nb', 1
FROM smartbox.services;

-- Objectives, of all and of one, of which one is switched off.
INSERT INTO smartbox.slos (service, metric, acceptable, warning, objective, min_requests, busy_factor, target, enabled) VALUES
    ('*', 'error_rate', 0.002, 0.005, 0.01, 30, 2, 0.999, true), ('booking', 'request_rate', 20, 10, 0.1, 0, 1, 0.9, true),
    ('mobile-api', 'error_rate', 0, 0, 0.01, 100, 1.5, 0.99, false);

-- Jobs: one changed, one of the user's that ran and failed.
UPDATE smartbox.jobs SET at_local = '03:30' WHERE job = 'train';
INSERT INTO smartbox.jobs (job, command, every) VALUES ('report', 'CALL public.report()', '1 day');
INSERT INTO smartbox.job_history VALUES ('report', '2024-01-15 00:00+00', '2024-01-15 00:01+00', 'failed', E'no such procedure\nHINT:  none', 1);
-- What people recorded elsewhere, of a service that is not known too.
INSERT INTO smartbox.past_incidents VALUES ('booking', '2024-01-15 10:00+00', NULL, E'tab\t"x"', 'sev 1', 'T-1'),
    ('nobody-knows', '2024-01-15 10:00+00', '2024-01-15 11:00+00', 'x', NULL, NULL);

-- Dependencies, in a circle and out of the fleet.
INSERT INTO smartbox.dependencies VALUES ('booking', 'payment'), ('payment', 'booking'), ('payment', 'bank');
INSERT INTO smartbox.dependencies VALUES ('mobile-api', 'booking', E'it''s "n\u00e9cessaire"');

-- Receivers: a shipped one that was changed, one of the user's; delivery is armed, one message was sent.
UPDATE smartbox.receivers SET enabled = true;
INSERT INTO smartbox.receivers (receiver, kind, url, min_severity, services, max_per_minute, bearer_token_file)
VALUES ('team', 'webhook', 'https://127.0.0.1:1/hook', 'low', '{booking,mobile-api}', NULL, '/etc/smartbox/token');
SELECT arm_delivery();

-- Incidents: x is resolved, reopened and CLOSED as stale, then SUSPECTED again; y OPEN and escalated; z CLOSED without ever being
-- confirmed; w RECOVERING.
INSERT INTO smartbox.detections (service, ts, is_anomaly, no_data, payload)
SELECT service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 min', names <> '{}', minute = 36,
    jsonb_build_object('current_metrics', '{"request_rate": 12.5}'::jsonb, 'anomalies',
        (SELECT coalesce(jsonb_agg(jsonb_build_object('name', split_part(name, '/', 1), 'score', -0.05 * minute,
             'description', E'\u00e9 \\n "q"', 'detection_signals', jsonb_build_array(name))), '[]')
         FROM unnest(names) AS name))
FROM (VALUES (0, '{x}'::text[]), (5, '{x,z}'), (10, '{x}'), (15, '{}'), (20, '{}'), (25, '{}'), (30, '{x}'),
             (31, '{x,y}'), (32, '{x,y}'), (33, '{x,y}'), (36, '{}'), (61, '{y}'), (90, '{x,y,w}'), (91, '{w,y}'), (92, '{y}')) AS v(minute, names),
    smartbox.services
ORDER BY service, minute;
SELECT smartbox.assign_root_causes();
SELECT smartbox.record_delivery(service, incident_id, alert_number, 'team', leased_until, 'sent', NULL, NULL, now())
FROM smartbox.claim_deliveries('team', now(), 1);
SELECT service FROM smartbox.claim_deliveries('team', now(), 1);

-- People: one incident acknowledged, one closed, silences, verdicts and a note.
SELECT acknowledge_incident(incident_id, E'it''s "me" \\ \u00e9') FROM smartbox.incidents WHERE status = 'OPEN' AND service <> 'payment';
SELECT close_incident(incident_id) FROM smartbox.incidents WHERE anomaly_name = 'w' AND service = 'payment';
SELECT silence('booking', 'y', until => now() + interval '1 day'), silence('payment', until => now() + interval '1 day', include_dependents => true);
SELECT unsilence(min(silence_id)) FROM smartbox.silences WHERE service = 'booking' AND pattern = 'y';
SELECT feedback(incident_id, 'not_anomaly', 'known') FROM smartbox.incidents WHERE anomaly_name = 'x';
SELECT add_note(incident_id, E'line\nline') FROM smartbox.incidents WHERE anomaly_name = 'z';
INSERT INTO smartbox.write_backs VALUES ('booking', now() - interval '1 hour', now(), now(), 7, E'it''s\\nfull', now());
INSERT INTO smartbox.signal_bars SELECT service, 'error_rate', 'high', incident_id, 0.1 + 1e-17, 1 FROM smartbox.incidents WHERE anomaly_name = 'x';
UPDATE smartbox.services SET team = 'sales', flapping_window = '90 minutes' WHERE service = 'booking';
END

is($node->safe_psql('shop', q{
	SELECT string_agg(anomaly_name || ' ' || status || ' ' || coalesce(resolution_reason, ''), ', ' ORDER BY first_seen, anomaly_name)
	FROM smartbox.incidents WHERE service = 'booking'}),
	'x CLOSED auto_stale, z CLOSED suspected_expired, y OPEN , w RECOVERING , x SUSPECTED ',
	'there are incidents in every state');
cmp_ok($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.alerts'), '>', 20, 'and alerts');
cmp_ok($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.incidents WHERE root_service IS NOT NULL'), '>', 2, 'and suspected root causes');

is($node->safe_psql('shop', q{SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM smartbox.deliveries}), 'pending sending sent',
	'and deliveries that wait');

# ---------------------------------------------------------------------------
# Looking at a database
# ---------------------------------------------------------------------------

# The dump as text, without what pg_dump makes up anew each time.
sub text_of
{
	my ($database, @options) = @_;
	my $file = "$folder/text.sql";

	$node->command_ok([ 'pg_dump', '--file', $file, @options, $database ], "$database can be dumped");
	return join '', grep { !/^\\(un)?restrict / } split /^/, slurp_file($file);
}

# All rows of all tables, shipped ones too.
sub rows_of
{
	my ($database) = @_;
	my @tables = split /\n/, $node->safe_psql($database, q{
		SELECT c::regclass FROM pg_extension AS x, unnest(x.extconfig) AS c
		WHERE x.extname = 'smartbox_anomaly' ORDER BY c::regclass::text});

	return join '', map { "$_\n" . $node->safe_psql($database, "SELECT t::text FROM $_ AS t ORDER BY t::text") . "\n" } @tables;
}

# Equal texts; says where the first difference is, since they are long.
sub is_text
{
	my ($have, $want, $name) = @_;
	my @have = split /\n/, $have;
	my @want = split /\n/, $want;
	my ($line) = grep { ($have[$_] // '') ne ($want[$_] // '') } 0 .. (@have > @want ? $#have : $#want);

	return ok($have eq $want, $name)
	  || diag("line $line: \"" . ($have[$line] // '') . '" instead of "' . ($want[$line] // '') . '"');
}

sub calls_of
{
	my ($database, $function) = @_;
	return $node->safe_psql($database,
		"SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE schemaname = 'smartbox' AND funcname ~ '$function'");
}

my $state_machine = '^(process_|hold_|announce_|openings_|rules_|record_|raise_|create_|continue_|end_|miss_|find_|guard_|queue_|read_|complete_|guess_|own_)';
cmp_ok(calls_of('shop', $state_machine), '>', 100, 'triggers that fire are counted');

my $text = text_of('shop');
my $rows = rows_of('shop');
unlike($text, qr/^(CREATE|ALTER|GRANT|REVOKE)\b(?! EXTENSION)/m, 'a dump has the extension and rows, nothing else')
  or diag(grep { /^(CREATE|ALTER|GRANT|REVOKE)/ } split /^/, $text);
unlike($text, qr/application_latency\t2\t/, 'no shipped rows');
like($text, qr/lunch\t1\t5\t12\t14/, 'but the rows of the user');

# ---------------------------------------------------------------------------
# There and back
# ---------------------------------------------------------------------------

my %way = (
	plain => [
		[ 'pg_dump', '--file', "$folder/plain", 'shop' ],
		sub { ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$folder/plain", '-d', $_[0]) } ],
	inserts => [
		[ 'pg_dump', '--inserts', '--file', "$folder/inserts", 'shop' ],
		sub { ('psql', '-Xq', '-1', '-v', 'ON_ERROR_STOP=1', '-f', "$folder/inserts", '-d', $_[0]) } ],
	custom => [
		[ 'pg_dump', '--format=custom', '--file', "$folder/custom", 'shop' ],
		sub { ('pg_restore', '--exit-on-error', '-d', $_[0], "$folder/custom") } ],
	parallel => [
		[ 'pg_dump', '--format=directory', '--jobs=4', '--file', "$folder/parallel", 'shop' ],
		sub { ('pg_restore', '--exit-on-error', '--jobs=4', '-d', $_[0], "$folder/parallel") } ]);

foreach my $name (sort keys %way)
{
	my ($dump, $restore) = @{ $way{$name} };
	my $copy = "copy_$name";

	$node->command_ok($dump, "$name: dumped");
	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	$node->command_ok([ $restore->($copy) ], "$name: restored");
	is_text(text_of($copy), $text, "$name: a dump of the copy is the same");
	is_text(rows_of($copy), $rows, "$name: the rows are the same, the shipped ones too");

	# The map of the week is checked when it is restored, so once that has
	# been counted the restore's other calls have been too.
	$node->wait_for($copy, q{SELECT sum(calls) > 0 FROM pg_stat_user_functions WHERE funcname = 'check_week_covered'}, 't', 30);
	is(calls_of($copy, $state_machine), '0', "$name: no trigger has moved anything");
}

# ---------------------------------------------------------------------------
# A copy is silent
# ---------------------------------------------------------------------------

is($node->safe_psql('shop', 'SELECT smartbox.delivery_obstacle()'), '', 'the original sends alerts');
like($node->safe_psql('copy_parallel', 'SELECT DISTINCT why_nothing_is_sent FROM smartbox.delivery_status'),
	qr/^delivery was armed in another database, of which this one is a copy/, 'a copy does not, and says why');
$node->safe_psql('copy_parallel', 'CALL deliver_alerts()');
is_text(rows_of('copy_parallel'), $rows, 'and has not tried');
$node->safe_psql('postgres', 'CREATE DATABASE copy_template TEMPLATE shop');
like($node->safe_psql('copy_template', 'SELECT smartbox.delivery_obstacle()'), qr/of which this one is a copy/, 'neither does a copy that the server has made');

# ---------------------------------------------------------------------------
# A copy goes on where the original was
# ---------------------------------------------------------------------------

foreach my $database ('shop', 'copy_parallel')
{
	$node->safe_psql($database, q{
		INSERT INTO smartbox.detections (service, ts, is_anomaly, detected_at, payload) VALUES
			('booking', '2024-01-15 11:33+00', true, '2024-01-15', '{"anomalies": [{"name": "y", "score": -9}, {"name": "x", "score": -0.2}]}'),
			('booking', '2024-01-15 11:34+00', false, '2024-01-15', '{}')});
}
my $incidents = q{
	SELECT i.*, (SELECT array_agg((e.event_number, e.event, e.ts, e.status, e.details)::text ORDER BY e.event_number)
	             FROM smartbox.incident_events AS e WHERE e.service = i.service AND e.incident_id = i.incident_id),
	    (SELECT max(a.alert_number) FROM smartbox.alerts AS a WHERE a.service = i.service AND a.incident_id = i.incident_id)
	FROM smartbox.incidents AS i ORDER BY service, incident_id};
is($node->safe_psql('copy_parallel', $incidents), $node->safe_psql('shop', $incidents), 'the next detections do the same in both');
is($node->safe_psql('copy_parallel', q{SELECT position FROM smartbox.metrics WHERE metric = 'dependency_latency'}), '2',
	'a metric is where the user put it');

done_testing();
