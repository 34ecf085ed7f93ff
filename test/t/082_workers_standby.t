# A standby has no workers, but scores; after its promotion it goes on where the
# primary stopped.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my @settings = ("shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop'");
my $primary = Smartbox::Cluster->prepare('primary', @settings);

$primary->append_conf('postgresql.conf', $_) foreach 'wal_level = replica', 'max_wal_senders = 4', 'hot_standby = on';
$primary->set_replication_conf;
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE shop');
$primary->safe_psql('shop', 'CREATE EXTENSION smartbox_anomaly');
$primary->safe_psql('shop', q{
	CREATE TABLE done (at timestamptz DEFAULT clock_timestamp());
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('booking', '2024-01-15 10:00+00', '{100,2500,NULL,NULL,NULL}');
	INSERT INTO smartbox.jobs (job, command, every) VALUES ('tick', 'INSERT INTO public.done DEFAULT VALUES', '1 s')});
$primary->wait_for('shop', 'SELECT count(*) > 0 FROM done', 't', 60);

$primary->backup('copy');
my $standby = Smartbox::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
my $count = $primary->safe_psql('shop', 'SELECT count(*) FROM done');
is($standby->wait_for('shop', "SELECT count(*) > $count FROM done", 't', 60), 't', 'the standby follows');
is($standby->safe_psql('shop', 'SELECT pg_is_in_recovery(), launcher_pid IS NULL FROM smartbox.worker_state()'), 't|t', 'it has no launcher');
is($standby->safe_psql('shop', "SELECT severity FROM smartbox.status WHERE thing = 'workers'"), 'ok', 'which is as it should be');
is($standby->safe_psql('shop', q{
	SELECT isolation_forest_score(isolation_forest(ARRAY[sin(n), cos(n)]), '{9,9}') > 0.6 FROM generate_series(1, 1000) AS n}), 't', 'it scores');
is($standby->safe_psql('shop', "SELECT string_agg(description, ' ') FROM explain_anomaly('booking')"),
	'nothing to compare with beyond what a rule allows unknown unknown unknown', 'and explains');
like($standby->safe_psql('shop', q{SELECT incident_report() || incident_report('booking')}), qr/<b>application_latency<\/b>.*<\/html>/s,
	'and the page of incidents is made');
like(($standby->psql('shop', "SELECT smartbox.run_job('tick')"))[2], qr/cannot execute run_job\(\) during recovery/, 'and runs no job');

$primary->stop('immediate');
$standby->promote;
$count = $standby->safe_psql('shop', 'SELECT count(*) FROM done');
is($standby->wait_for('shop', "SELECT count(*) > $count FROM done", 't', 60), 't', 'after the promotion the jobs go on');
is($standby->safe_psql('shop', 'SELECT launcher_pid IS NOT NULL FROM smartbox.worker_state()'), 't', 'with a launcher of its own');

done_testing();
