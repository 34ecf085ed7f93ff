# docs/tuning-noise.md: its three statements stop the alert that was of no use,
# and what is really wrong is told of all the same.
use strict;
use warnings;
use Smartbox::Cluster;
use Smartbox::Page;
use Test::More;

my $node = Smartbox::Cluster->launch('noise');

# Six weeks of a service that end with a Monday, with three reports that
# somebody ran and a fault in the last two.
$node->safe_psql('shop', q{
	CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
	$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;

	-- taken once, whatever the clock does meanwhile
	CREATE TABLE monday AS SELECT date_trunc('week', now(), 'UTC') AS ts;
	CREATE FUNCTION monday() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT ts FROM monday';

	CREATE TABLE event (starts_at timestamptz, lasts interval, factor float8);
	INSERT INTO event
	SELECT monday() + s.starts_at, s.lasts, s.factor
	FROM (VALUES (interval '-310 hours', interval '20 minutes', 3.0), ('-255 hours', '20 minutes', 3.2), ('-97 hours', '20 minutes', 3.1),
		('-170 hours', '40 minutes', 9)) AS s(starts_at, lasts, factor);

	CREATE FUNCTION make_samples(since timestamptz, until timestamptz) RETURNS void LANGUAGE sql AS $$
		INSERT INTO smartbox.samples (service, ts, metric_values)
		SELECT 'booking', ts, ARRAY[60 * daily * noise(n, 0.07), 90 * noise(n + 1, 0.06) + 3 * base, 30 * noise(n + 2, 0.08), base,
			0.002 * noise(n + 3, 0.2)]
		FROM generate_series(since + interval '5 minutes', until, '5 minutes') AS ts,
			LATERAL (SELECT extract(epoch FROM ts - monday())::bigint * 1003 AS n,
			    1.5 + sin(2 * pi() * extract(epoch FROM ts) / 86400) AS daily) AS t,
			LATERAL (SELECT 10 * noise(n + 4, 0.08) * coalesce((
			    SELECT max(e.factor) FROM event AS e WHERE ts > e.starts_at AND ts <= e.starts_at + e.lasts), 1) AS base) AS b
	$$;

	INSERT INTO smartbox.services (service) VALUES ('booking');
	SELECT make_samples(monday() - interval '42 days', monday() - interval '14 days');
	SELECT count(*) FROM train_models();
	SELECT make_samples(monday() - interval '14 days', monday());
	SELECT count(detect_anomalies('booking', s.ts))
	FROM (SELECT s.ts FROM smartbox.samples AS s JOIN event AS e ON s.ts > e.starts_at - interval '10 minutes' AND s.ts <= e.starts_at + e.lasts + interval '20 minutes'
		  ORDER BY s.ts) AS s;
	SELECT count(feedback(incident_id, 'anomaly', 'a disk was full')) FROM smartbox.incidents WHERE last_seen - first_seen > '30 minutes';
});
my @heard = split /\n/, $node->safe_psql('shop', 'SELECT confirmed_at IS NOT NULL, occurrence_count FROM smartbox.incidents ORDER BY first_seen');
is_deeply(\@heard, [ 't|4', 't|4', 't|9', 't|4' ], 'reports and fault are alarms');

my $page = Smartbox::Page->open('docs/tuning-noise.md');
is(scalar(grep { $_->[0] eq 'sql' } $page->blocks), 3, 'it takes three statements');
$page->run($node, 'shop');

# The next week: a report, and later another fault while a report runs.
my $alarms = $node->safe_psql('shop', q{
	INSERT INTO event
	SELECT monday() + s.starts_at, s.lasts, s.factor
	FROM (VALUES (interval '10 hours', interval '20 minutes', 3.1), ('30 hours', '20 minutes', 3.2), ('30 hours 10 minutes', '20 minutes', 9)) AS s(starts_at, lasts, factor);
	SELECT make_samples(monday(), monday() + interval '31 hours');
	SELECT detect_anomalies('booking', s.ts) #>> '{anomalies,0,metadata,incident_action}'
	FROM (SELECT s.ts FROM smartbox.samples AS s WHERE s.ts > monday() + interval '9 hours' ORDER BY s.ts) AS s;
	SELECT string_agg(alert_type || ' ' || (ts - monday()), ', ' ORDER BY ts) FROM smartbox.alerts
	WHERE ts > monday() AND ts <= monday() + interval '30 hours 30 minutes'});
is((split /\n/, $alarms)[-1], 'anomaly_detected 1 day 06:20:00', 'the report wakes nobody, the fault does as soon as ever');

done_testing();
