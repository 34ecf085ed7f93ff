# Retention: what goes and what stays, in pieces that are kept when it is
# interrupted, and without being in anybody's way.
use strict;
use warnings;
use Smartbox::Cluster;
use Smartbox::Session;
use Test::More;

my $node = Smartbox::Cluster->launch('retention', 'autovacuum = off', 'deadlock_timeout = 10s');

sub sql { return $node->safe_psql('shop', $_[0]) }

sub fails
{
	my ($statement, $error, $name) = @_;
	my (undef, undef, $said) = $node->psql('shop', $statement);
	return like($said, $error, $name);
}

# ---------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------

is(sql(q{SELECT string_agg(kind || ' ' || smartbox.retention(kind), ', ' ORDER BY kind)
	FROM unnest(ARRAY['samples', 'detections', 'incidents', 'training_runs']) AS kind}),
	'detections 720:00:00, incidents 4320:00:00, samples 1440:00:00, training_runs 4320:00:00', '60, 30 and 180 days unless set otherwise');
is(sql(q{SET smartbox_anomaly.samples_retention = '7d'; SELECT smartbox.retention('samples'), smartbox.kept_since('samples') = date_trunc('day', now() - interval '168 hours', 'UTC')}),
	'168:00:00|t', 'a setting counts, in whole days');
is(sql(q{SET smartbox_anomaly.samples_retention = 0; SELECT smartbox.retention('samples') IS NULL, smartbox.kept_since('samples') IS NULL}), 't|t', '0 is for ever');
fails(q{LOAD 'smartbox_anomaly'; SET smartbox_anomaly.samples_retention = '23h'}, qr/Nothing is deleted that is younger than a day/, 'no hours');
fails(q{LOAD 'smartbox_anomaly'; SET smartbox_anomaly.samples_retention = '-1d'}, qr/outside the valid range/, 'nothing negative');
fails(q{LOAD 'smartbox_anomaly'; SET smartbox_anomaly.samples_retention = 'long'}, qr/invalid value for parameter/, 'no words');
fails(q{SELECT smartbox.retention('alerts')}, qr/there is no retention of "alerts".*samples, detections, incidents, training_runs/s, 'nor another kind');
fails('CALL apply_retention(0)', qr/a batch cannot have 0 rows.*1 to 100000/s, 'a batch has rows');

# ---------------------------------------------------------------------------
# What goes and what stays
# ---------------------------------------------------------------------------

# Days are counted back from the begin of today (UTC): row N is N days old and
# an hour, so that none is at an edge but where a test wants it there.
sql(<<'END');
CREATE FUNCTION day(n int) RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT date_trunc('day', now(), 'UTC') - n * interval '24 hours' $$;
INSERT INTO smartbox.services (service) VALUES ('old'), ('open'), ('above'), ('gone');
INSERT INTO smartbox.samples (service, ts, metric_values) SELECT service, day(n), '{1}' FROM smartbox.services, generate_series(0, 99) AS n;
DELETE FROM smartbox.services WHERE service = 'gone';
UPDATE smartbox.services SET backfilled = tstzmultirange(tstzrange(day(99), day(0)));
INSERT INTO smartbox.detections (service, ts, time_period, processed_at)
SELECT service, day(n), 'night_hours', now() FROM smartbox.services, generate_series(1, 99) AS n;
INSERT INTO smartbox.training_runs (service, started_at, finished_at, status)
SELECT service, day(n * 10), day(n * 10), 'succeeded' FROM smartbox.services, generate_series(20, 30) AS n;
INSERT INTO smartbox.training_runs (service, started_at, finished_at, status) VALUES ('old', day(1), day(1), 'succeeded');

CREATE FUNCTION incident(of_service text, number int, first_day int, last_day int, of_status smartbox.incident_status) RETURNS void LANGUAGE sql AS $$
	INSERT INTO smartbox.incidents (service, incident_id, fingerprint_id, anomaly_name, status, severity, first_seen, last_seen,
		last_evaluated, confirmed_at, resolved_at, resolution_reason)
	VALUES (of_service, 'incident_' || lpad(number::text, 12, '0'), fingerprint_id(of_service, number::text), number::text, of_status, 'high', day(first_day), day(last_day),
		day(last_day), day(first_day), CASE of_status WHEN 'CLOSED' THEN day(last_day) END, CASE of_status WHEN 'CLOSED' THEN 'resolved' END);
	INSERT INTO smartbox.incident_events (service, incident_id, event_number, event, ts, status, severity)
	VALUES (of_service, 'incident_' || lpad(number::text, 12, '0'), 1, 'CREATE', day(first_day), 'SUSPECTED', 'high');
	INSERT INTO smartbox.alerts (service, incident_id, alert_number, alert_type, severity, ts, payload)
	VALUES (of_service, 'incident_' || lpad(number::text, 12, '0'), 1, 'anomaly_detected', 'high', day(first_day), '{}');
$$;
-- closed on the first day that goes, and on the last one that stays
SELECT incident('old', 1, 190, 181, 'CLOSED'), incident('old', 2, 190, 180, 'CLOSED'), incident('old', 3, 300, 250, 'CLOSED');
SELECT incident('open', 4, 80, 1, 'OPEN'), incident('above', 5, 250, 249, 'CLOSED'), incident('above', 6, 250, 249, 'CLOSED');
UPDATE smartbox.incidents SET root_service = 'above', root_incident_id = 'incident_000000000005' WHERE service = 'open';
END

is(sql('CALL apply_retention()'), '136|157|3|31|0', 'it says what went');
is(sql(q{SELECT service, count(*), min(ts) = day(60) FROM smartbox.samples GROUP BY service ORDER BY service}),
	"above|61|t\ngone|61|t\nold|61|t\nopen|81|f", 'samples of 60 days stay, of a service that is no more too');
is(sql(q{SELECT min(ts) = day(80) FROM smartbox.samples WHERE service = 'open'}), 't', 'and those since an open incident began');
is(sql(q{SELECT service, lower(backfilled) = min(ts) FROM smartbox.services JOIN smartbox.samples USING (service) GROUP BY service, backfilled ORDER BY service}),
	"above|t\nold|t\nopen|t", 'what went counts no longer as fetched');
is(sql(q{SELECT service, count(*) FROM smartbox.detections GROUP BY service ORDER BY service}),
	"above|30\nold|30\nopen|80", 'detections of 30 days stay, and those since an open incident began');
is(sql(q{SELECT string_agg(anomaly_name, ' ' ORDER BY anomaly_name) FROM smartbox.incidents}), '2 4 5',
	'incidents that were closed in the last 180 days stay, open ones, and what is behind these');
is(sql(q{SELECT (SELECT count(*) FROM smartbox.incident_events), (SELECT count(*) FROM smartbox.alerts)}), '3|3', 'events and alerts go with them');
is(sql(q{SELECT service, count(*) FROM smartbox.training_runs GROUP BY service ORDER BY service}), "above|1\nold|1\nopen|1",
	'trainings of 180 days stay, and the newest of each service');
is(sql('CALL apply_retention()'), '0|0|0|0|0', 'the next time there is nothing');
sql('DELETE FROM smartbox.incidents WHERE service IN (\'open\')');
is(sql('CALL apply_retention()'), '20|50|1|0|0', 'what an open incident needed goes when it is over');
sql(q{INSERT INTO smartbox.services (service) VALUES ('silent');
	INSERT INTO smartbox.detections (service, ts, time_period, processed_at) SELECT 'silent', day(n), 'night_hours', now() FROM generate_series(50, 59) AS n});
is(sql('CALL apply_retention()'), '0|9|0|0|0', 'the newest detection of a silent service stays');
is(sql(q{INSERT INTO smartbox.detections (service, ts, is_anomaly, severity) VALUES ('silent', day(55), true, 'high'); SELECT count(*) FROM smartbox.incidents WHERE service = 'silent'}),
	'0', 'so that a late one moves nothing');
is(sql(q{SET smartbox_anomaly.samples_retention = 0; SET smartbox_anomaly.detections_retention = 0;
	SET smartbox_anomaly.incidents_retention = 0; SET smartbox_anomaly.training_runs_retention = 0;
	UPDATE smartbox.incidents SET first_seen = '1999-01-01', last_seen = '1999-01-01', last_evaluated = '1999-01-01', resolved_at = '1999-01-01';
	INSERT INTO smartbox.samples VALUES ('old', '1999-01-01', '{1}'); CALL apply_retention()}), '0|0|0|0|0', '0: nothing goes');
is(sql('CALL apply_retention()'), '1|1|1|0|0', 'but with the defaults');

# ---------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------

sub fill
{
	my ($rows) = @_;
	sql(qq{INSERT INTO smartbox.samples (service, ts, metric_values) SELECT 'old', day(70) + n * interval '1 second', '{1}' FROM generate_series(1, $rows) AS n});
	return;
}

# Each transaction that deleted leaves its number with what it deleted.
sql(q{CREATE TABLE deleted (xid xid8, ts timestamptz);
	CREATE FUNCTION note_deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.deleted VALUES (pg_current_xact_id(), OLD.ts); RETURN NULL; END $$;
	CREATE TRIGGER note_deleted AFTER DELETE ON smartbox.samples FOR EACH ROW EXECUTE FUNCTION note_deleted()});
foreach my $case ([ 99, '99' ], [ 100, '100' ], [ 101, '100 1' ], [ 250, '100 100 50' ])
{
	my ($rows, $pieces) = @$case;
	fill($rows);
	is(sql('CALL apply_retention(100)'), "$rows|0|0|0|0", "$rows rows in batches of 100");
	is(sql(q{SELECT string_agg(n::text, ' ' ORDER BY first) FROM (SELECT count(*) AS n, min(ts) AS first FROM deleted GROUP BY xid) AS x}), $pieces, "... are $pieces to a transaction");
	sql('TRUNCATE deleted');
}

# ---------------------------------------------------------------------------
# Others
# ---------------------------------------------------------------------------

my ($one, $two) = (Smartbox::Session->new($node, 'one'), Smartbox::Session->new($node, 'two'));

# A row that somebody has locked is left, the others go.
fill(10);
$one->say(q{BEGIN; SELECT FROM smartbox.samples WHERE service = 'old' AND ts = day(70) + interval '3 seconds' FOR UPDATE;});
is($two->say('CALL apply_retention();'), '9|0|0|0|0', 'a row that another session has locked is left');
$one->say('COMMIT;');
is($two->say('CALL apply_retention();'), '1|0|0|0|0', 'until the next time');

# A table that somebody has locked is given up.
fill(10);
$one->say('BEGIN; LOCK TABLE smartbox.samples IN SHARE MODE;');
is($two->say('CALL apply_retention();'), '0|0|0|0|1', 'a locked table is postponed');
$one->say('COMMIT;');
is($two->say('CALL apply_retention();'), '10|0|0|0|0', 'until the next time, too');
sql(q{SELECT incident('old', 7, 250, 249, 'CLOSED')});
$one->say(q{BEGIN; SELECT FROM smartbox.incident_events WHERE incident_id = 'incident_000000000007' FOR UPDATE;});
is($two->say('CALL apply_retention();'), '0|0|0|0|1', 'an incident of which an event is locked is postponed');
is(sql(q{SELECT count(*) FROM smartbox.alerts WHERE incident_id = 'incident_000000000007'}), '1', '... as a whole');
$one->say('COMMIT;');
is($two->say('CALL apply_retention();'), '0|0|1|0|0', '... and goes the next time');

# It stops in the middle of the third piece: an advisory lock holds it there.
sql(q{TRUNCATE deleted;
	CREATE FUNCTION wait_at_row() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN OLD; END $$;
	CREATE TRIGGER wait_at_row BEFORE DELETE ON smartbox.samples FOR EACH ROW WHEN (OLD.metric_values = '{3}') EXECUTE FUNCTION wait_at_row()});
fill(250);
sql(q{UPDATE smartbox.samples SET metric_values = '{3}' WHERE service = 'old' AND ts = day(70) + interval '250 seconds'});
$one->say('SELECT pg_advisory_lock(1);');
$two->ask('CALL apply_retention(100);');
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'two' AND wait_event = 'advisory'}, '1', 30);
is(sql(q{SELECT count(*) FROM smartbox.samples WHERE service = 'old' AND ts < day(60)}), '50', 'others see the pieces that are done');

# Nobody waits for it meanwhile: not to write where it is at work, not to judge.
is(sql(q{SET lock_timeout = '5s'; INSERT INTO smartbox.samples VALUES ('old', day(0) + interval '1 second', '{1}');
	UPDATE smartbox.samples SET metric_values = '{2}' WHERE service = 'old' AND ts = day(59);
	INSERT INTO smartbox.detections (service, ts, is_anomaly, severity) VALUES ('old', day(0) + interval '1 second', true, 'high');
	SELECT count(*) FROM smartbox.incidents WHERE service = 'old' AND status = 'SUSPECTED'}), '1', 'a cycle of the service goes on beside it');
is(sql(q{SET lock_timeout = '5s'; CALL apply_retention(100)}), '0|0|0|0|0', 'and a second one leaves it what it is at');
is(sql(q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE a.application_name = 'two' AND l.locktype = 'relation' AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')}),
	'0', 'it has no lock on a table that is in the way of reading or writing');

sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'two'});
like($two->answer, qr/canceling statement due to user request/, 'it can be cancelled');
is(sql(q{SELECT count(*) FROM smartbox.samples WHERE service = 'old' AND ts < day(60)}), '50', 'what was done is kept');
$one->say('SELECT pg_advisory_unlock(1);');
is($two->say('CALL apply_retention(100);'), '50|0|0|0|0', 'and the rest goes the next time');

like($two->say('BEGIN; CALL apply_retention();'), qr/invalid transaction termination/, 'within a transaction it cannot commit, and says so');
$two->say('ROLLBACK;');

foreach my $session ($one, $two)
{
	${ $session->{in} } .= "\\q\n";
	$session->{run}->finish;
}
done_testing();
