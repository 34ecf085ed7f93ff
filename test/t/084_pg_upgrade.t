# pg_upgrade takes everything along, and no worker is in its way; afterwards the
# work goes on.
use strict;
use warnings;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Test::More;

my @settings = ("shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop'", 'smartbox_anomaly.sample_interval = 1h');
my $old = Smartbox::Cluster->launch('old', @settings);
my $new = Smartbox::Cluster->prepare('new', @settings);

# Everything that there is in the extension's tables.
sub content
{
	my ($node) = @_;
	my @tables = split /\n/, $node->safe_psql('shop', "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'smartbox'::regnamespace AND relkind = 'r' ORDER BY 1");

	return { map { $_ => $node->safe_psql('shop', "SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM $_ AS t") } @tables };
}

# What the extension consists of, by name.
sub objects
{
	my ($node) = @_;
	return $node->safe_psql('shop', q{
		SELECT extversion FROM pg_extension WHERE extname = 'smartbox_anomaly';
		SELECT pg_describe_object(classid, objid, 0) COLLATE "C" FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
			AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'smartbox_anomaly')
		ORDER BY 1});
}

# A fleet with models, incidents, alerts and settings of its own; a job that
# would be at it for ten minutes.
$old->safe_psql('shop', q{
	INSERT INTO smartbox.services (service, confirmation_cycles) SELECT 's' || n, 1 FROM generate_series(1, 3) AS n;
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 's' || s, '2024-01-01 00:00+00'::timestamptz + n * interval '1 hour',
		ARRAY[10 + sin(n * 12.9898 * s), 100 + 5 * sin(n * 78.233 * s), 50 + sin(n * 39.425), 5 + 0.1 * sin(n * 11.135), CASE n WHEN 719 THEN 0.5 ELSE 0.001 END]
	FROM generate_series(1, 3) AS s, generate_series(0, 719) AS n;
	INSERT INTO smartbox.receivers (receiver, kind, url, enabled) VALUES ('nobody', 'webhook', 'http://127.0.0.1:1', true);
	SELECT FROM train_models();
	SELECT arm_delivery();
	SELECT FROM run_inference();
	SELECT FROM acknowledge_incident((SELECT min(incident_id) FROM smartbox.incidents), 'seen');
	UPDATE smartbox.metrics SET valid_max = 500000 WHERE metric = 'request_rate';
	INSERT INTO smartbox.jobs (job, command, every) VALUES ('sleeper', 'SELECT pg_catalog.pg_sleep(600)', '1 s')});
$old->wait_for('shop', q{SELECT count(*) FROM smartbox.jobs AS j JOIN pg_stat_activity AS a ON a.pid = j.running_pid WHERE job = 'sleeper' AND a.wait_event = 'PgSleep'}, 1, 60);
$old->stop;

# Nothing may change between the two counts.
sub without_workers
{
	my ($node, $do) = @_;
	$node->append_conf('postgresql.conf', "smartbox_anomaly.databases = ''");
	$node->start;
	my @result = $do->($node);
	$node->stop;
	$node->append_conf('postgresql.conf', "smartbox_anomaly.databases = 'shop'");
	return @result;
}

my ($content, $objects) = without_workers($old, sub { (content($_[0]), objects($_[0])) });
cmp_ok(scalar(grep { !/^0\|/ } values %$content), '>', 15, 'there is something in most tables');

my $bin = `$ENV{PG_CONFIG} --bindir`;
chomp $bin;
chdir $ENV{TESTDIR} or die "$ENV{TESTDIR}: $!";
PostgreSQL::Test::Utils::command_ok([
		'timeout', '300', 'pg_upgrade', '--old-bindir', $bin, '--new-bindir', $bin, '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
		'--old-port', $old->port, '--new-port', $new->port, '--socketdir', $new->host, '--username', (getpwuid $>)[0] ],
	'pg_upgrade works with the library preloaded in both clusters');
foreach my $node ($old, $new)
{
	ok(!-e $node->data_dir . '/postmaster.pid', 'nothing of ' . $node->name . ' is left running');
}
my ($content_after, $objects_after) = without_workers($new, sub { (content($_[0]), objects($_[0])) });
is_deeply($content_after, $content, 'each table has the same rows');
is($objects_after, $objects, 'the extension has the same objects');

$new->start;
is($new->wait_for('shop', 'SELECT state FROM smartbox.worker_state()', 'working', 60), 'working', 'the workers go on');
$new->wait_for('shop', "SELECT count(*) > 0 FROM smartbox.job_history WHERE job = 'sleeper' AND status = 'interrupted'", 't', 60);
is($new->wait_for('shop', "SELECT running_pid IS NOT NULL FROM smartbox.jobs WHERE job = 'sleeper'", 't', 120), 't', 'the job that was interrupted is run again');
is($new->safe_psql('shop', "SELECT detect_anomalies('s1') ->> 'alert_type'"), 'anomaly_detected', 'what was judged is known');
is($new->safe_psql('shop', "INSERT INTO smartbox.samples VALUES ('s1', '2024-01-31 00:00+00', '{10,100,50,5,0.001}'); SELECT detect_anomalies('s1') ->> 'alert_type'"),
	'no_anomaly', 'the models judge what is new');
is($new->safe_psql('shop', "SELECT why_nothing_is_sent FROM smartbox.delivery_status WHERE receiver = 'nobody'"),
	'delivery was armed in another database, of which this one is a copy: arm_delivery() makes this one send', 'delivery waits to be armed, and says so');

done_testing();
