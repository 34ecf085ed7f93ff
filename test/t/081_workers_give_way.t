# Workers hold up nobody: not who drops, copies or renames a database, not who
# drops or updates the extension, not a shutdown, although a job is in the
# middle of something or waits for a source that does not answer.
use strict;
use warnings;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('giving_way',
	"shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop, renamed, copy'", 'max_worker_processes = 20',
	"smartbox_anomaly.vm_endpoint = '" . $fake->url('never') . "'", 'smartbox_anomaly.vm_timeout = 600s', 'smartbox_anomaly.vm_total_timeout = 600s');

# In time for a person who waits: the workers would be at it for ten minutes.
my $in_time = 'SET statement_timeout = 10000;';

# Both jobs run in a database.
sub busy
{
	my ($database) = @_;
	return $node->wait_for($database, q{
		SELECT count(*) FROM smartbox.jobs AS j JOIN pg_stat_activity AS a ON a.pid = j.running_pid
		WHERE a.datname = current_database()
			AND (job = 'sleeper' AND a.wait_event = 'PgSleep' OR job = 'collect_and_detect' AND a.wait_event_type = 'Extension')}, 2, 90);
}

# How many databases of a name there are.
sub databases
{
	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$_[0]'");
}

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.jobs (job, command, every) VALUES ('sleeper', 'WITH locked AS (INSERT INTO smartbox.services (service) VALUES (''x'') RETURNING 1) SELECT pg_catalog.pg_sleep(600) FROM locked', '1 s');
	UPDATE smartbox.jobs SET every = '1 s', delay = '0' WHERE job = 'collect_and_detect'});
busy('shop');
is($node->safe_psql('shop', "SELECT backend_xid IS NULL, backend_xmin IS NULL FROM pg_stat_activity WHERE query LIKE 'job collect_and_detect%'"),
	't|t', 'a job that waits for the source holds no transaction id and no snapshot');
is($node->safe_psql('shop', "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid = (SELECT running_pid FROM smartbox.jobs WHERE job = 'collect_and_detect')"),
	0, 'and no table');

$node->safe_psql('postgres', "$in_time CREATE DATABASE copy TEMPLATE shop");
is(busy('shop') . busy('copy'), '22', 'a busy database can be copied');
$node->safe_psql('postgres', "$in_time DROP DATABASE copy");
is(databases('copy'), 0, 'and the copy, which is as busy, dropped');
$node->safe_psql('postgres', "$in_time ALTER DATABASE shop RENAME TO renamed");
is(busy('renamed'), 2, 'it can be renamed, and goes on');
$node->safe_psql('postgres', "$in_time ALTER DATABASE renamed RENAME TO shop");
busy('shop');

$node->safe_psql('postgres', "$in_time CREATE DATABASE other");
$node->safe_psql('postgres', "$in_time DROP DATABASE other");
is(databases('other'), 0, 'other databases come and go, since the workers answer the server');

is($node->safe_psql('shop', "BEGIN; $in_time DROP EXTENSION smartbox_anomaly; ROLLBACK; SELECT count(*) FROM pg_extension WHERE extname = 'smartbox_anomaly'"),
	1, 'the extension can be dropped, and taken back');
busy('shop');
$node->safe_psql('shop', "$in_time ALTER EXTENSION smartbox_anomaly UPDATE");
is(busy('shop'), 2, 'and updated');

$node->safe_psql('shop', "$in_time DROP EXTENSION smartbox_anomaly");
$node->safe_psql('shop', 'CREATE EXTENSION smartbox_anomaly');
is($node->wait_for('shop', 'SELECT state FROM smartbox.worker_state()', 'working', 60), 'working', 'one that is made anew is found');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR:  (?:relation|schema|function|type) "?smartbox/, 'nobody has missed the old one');

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.jobs (job, command, every) VALUES ('sleeper', 'SELECT pg_catalog.pg_sleep(600)', '1 s');
	UPDATE smartbox.jobs SET every = '1 s', delay = '0' WHERE job = 'collect_and_detect'});
busy('shop');

# Nor do those who work for a job: of a training, they ask the source for the past.
sub trains
{
	return $node->wait_for('shop', q{
		SELECT count(*) > 1 FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'smartbox_anomaly worker' AND wait_event_type = 'Extension'}, 't', 90);
}
$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) SELECT 's' || n FROM generate_series(1, 30) AS n;
	UPDATE smartbox.jobs SET every = '1 s', at_local = NULL WHERE job = 'train'});
trains();
$node->safe_psql('postgres', "$in_time CREATE DATABASE copy TEMPLATE shop");
is(databases('copy') . trains(), '1t', 'a database that trains can be copied, and trains on');
is($node->safe_psql('shop', "BEGIN; $in_time DROP EXTENSION smartbox_anomaly; ROLLBACK; SELECT 'back'"), 'back', 'the extension can be dropped, and taken back');
trains();
PostgreSQL::Test::Utils::command_ok([ 'pg_ctl', 'stop', '-D', $node->data_dir, '-m', 'fast', '-t', '10' ], 'a fast shutdown is fast');
$node->_update_pid(0);
$node->start;
is(busy('shop') . trains(), '2t', 'afterwards the work goes on');
$node->safe_psql('postgres', "$in_time DROP DATABASE shop");
is(databases('shop'), 0, 'a busy database can be dropped');

done_testing();
