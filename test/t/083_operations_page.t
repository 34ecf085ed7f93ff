# Every statement and rule of docs/operations.md works as it stands there, and
# everything that its table of symptoms names is seen once for its cause.
use strict;
use warnings;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('operations',
	"shared_preload_libraries = 'smartbox_anomaly'",
	"smartbox_anomaly.databases = 'shop, nowhere'",
	"smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:1'", 'smartbox_anomaly.vm_max_retries = 0');
my $seen = '';

# The page: its blocks by kind, and the first cells of its last table.
my $page = PostgreSQL::Test::Utils::slurp_file('docs/operations.md');
my %blocks;
while ($page =~ /^```(\w+)\n(.*?)^```$/msg)
{
	push @{ $blocks{$1} }, $2;
}
my @symptoms = $page =~ /^## Symptoms\n(.*)/ms ? $1 =~ /^\| `(.*?)` \|/mg : ();

sub run_block
{
	my ($block) = @_;
	my ($answer, $errors) = ('', '');

	is($node->psql('shop', $block, stdout => \$answer, stderr => \$errors, on_error_stop => 1), 0, (split /\n/, $block)[0]) or diag($errors);
	unlike($errors, qr/WARNING|ERROR/, '... without a complaint') or diag($errors);
	return $answer;
}

# Wait until the status has such a row, and remember what it says.
sub see
{
	my ($thing, $message, $database) = @_;

	my $row = $node->wait_for($database // 'shop',
		"SELECT severity || '|' || message || '|' || coalesce(what_to_do, '') FROM smartbox.status WHERE thing = '$thing'", qr/$message/, 60);
	unlike($row, qr/^ok/, "$thing: $message");
	like($row, qr/\|.+\.\z/, '... with what to do');
	$seen .= "$row\n";
	return;
}

sub add_job
{
	my ($job, $command) = @_;

	$node->safe_psql('shop', "INSERT INTO smartbox.jobs (job, command, every) VALUES ('$job', '$command', '1 s')");
	return;
}

is(scalar @{ $blocks{sql} }, 4, 'the page has statements');
cmp_ok(scalar @symptoms, '>', 15, 'and symptoms');
is($node->wait_for('shop', 'SELECT state FROM smartbox.worker_state()', 'working', 60), 'working', 'workers run');

# ---------- jobs, and what becomes of them ----------

is(join(' ', sort(($page =~ /^## Jobs\n(.*?)^A changed row/ms)[0] =~ /^\| `(\w+)` \|/mg)),
	$node->safe_psql('shop', q{SELECT string_agg(job, ' ' ORDER BY job COLLATE "C") FROM smartbox.jobs WHERE shipped}), 'the page names the jobs that come with the extension');
is(join(' ', sort(($page =~ /^## What to look at\n(.*?)^`system_status/ms)[0] =~ /^\| `(\w+)(?: \.\.\.)?` \|/mg)),
	join(' ', sort $node->safe_psql('shop', q{SELECT col_description('smartbox.status'::regclass, 1)}) =~ /(\w+)/g), '... and all that the status is about');

$node->safe_psql('shop', q{UPDATE smartbox.jobs SET enabled = false});
see('job train', 'is switched off');
add_job('broken', 'SELECT 1 / 0');
see('job broken', 'has failed \d+ times in a row: division by zero');
$node->safe_psql('shop', q{DELETE FROM smartbox.jobs WHERE job = 'broken'});
add_job('slow', 'SELECT pg_catalog.pg_sleep(600)');
my $pid = $node->wait_for('shop', q{SELECT running_pid FROM smartbox.jobs WHERE running_pid IS NOT NULL}, qr/\d/, 60);
$node->safe_psql('shop', q{UPDATE smartbox.jobs SET next_run_at = now() - interval '5 minutes' WHERE job = 'slow'});
see('job slow', 'has been running since .*, and is due again since');
my @answers = map { run_block($_) } $blocks{sql}[1];
like($answers[0], qr/^deliver\|f\|/m, 'the jobs');
like($answers[0], qr/^broken\|.*\|failed\|division by zero \(SQLSTATE 22012\)$/m, '... their errors');
like($answers[0], qr/^$pid\|smartbox_anomaly job worker\|PgSleep\|job slow: SELECT pg_catalog\.pg_sleep\(600\)$/m, '... and what they do now');
like($answers[0], qr/^\d+\|smartbox_anomaly launcher\|/m, '... beside the launcher');
$node->safe_psql('shop', "SELECT pg_terminate_backend($pid)");
$seen .= $node->wait_for('shop', q{SELECT error FROM smartbox.job_history WHERE status = 'interrupted'}, qr/ has ended/, 60) . "\n";
$node->wait_for('shop', "SELECT running_pid <> $pid FROM smartbox.jobs WHERE job = 'slow'", 't', 60);
$node->safe_psql('shop', q{UPDATE smartbox.jobs SET timeout = '1 s' WHERE job = 'slow'; SELECT pg_cancel_backend(running_pid) FROM smartbox.jobs WHERE job = 'slow'});
$seen .= $node->wait_for('shop', q{SELECT error FROM smartbox.job_history WHERE error ~ 'timeout' LIMIT 1}, qr/./, 90) . "\n";
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR:  division by zero\n.*CONTEXT:  smartbox_anomaly job "broken"/, 'the log names the job');
$node->safe_psql('shop', q{UPDATE smartbox.jobs SET timeout = '1 h' WHERE job = 'slow'});
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE shop');
like(run_block($blocks{sql}[2]), qr/^succeeded\|$/m, 'a job that is switched off can be run');
is($node->safe_psql('shop', q{DELETE FROM smartbox.jobs WHERE job = 'slow'; SELECT at_local, (SELECT enabled FROM smartbox.jobs WHERE job = 'retention')
	FROM smartbox.jobs WHERE job = 'train'}), '03:30:00|f', 'and changed');

# ---------- the source, and what comes of it ----------

$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service) VALUES ('booking');
	UPDATE smartbox.jobs SET every = '1 s', delay = '0', enabled = true WHERE job = 'collect_and_detect'});
see('samples', '1 of 1 services have no sample of the last three intervals');
see('source http://127.0.0.1:1', 'circuit breaker open after \d+ failed calls');
is($node->safe_psql('shop', q{SELECT failures FROM smartbox.jobs WHERE job = 'collect_and_detect'}), 0, 'the job itself has not failed');
$node->safe_psql('shop', q{
	UPDATE smartbox.jobs SET enabled = false WHERE job = 'collect_and_detect'});
$node->wait_for('shop', q{SELECT count(*) FROM smartbox.jobs WHERE running_pid IS NOT NULL}, 0, 60);
$node->safe_psql('shop', q{
	DELETE FROM smartbox.detections;
	INSERT INTO smartbox.samples (service, ts, metric_values) VALUES ('booking', now(), '{10,100,50,5,0.001}');
	INSERT INTO smartbox.models (service, time_period, version, samples, status, is_active, model) VALUES ('booking', 'weekend_day', 1, 1000, 'accepted', true, '')});
see('detections', '1 of 1 services have new samples that are not judged');
like(run_block($blocks{sql}[0]), qr/^detections\|error\|.*\|See the line of the job/m, 'the first statement of the page says so, too');

# ---------- alarms ----------

my $textfile = "$folder/smartbox.prom";
my $command = $blocks{sh}[0] =~ s{/var/lib/prometheus/node-exporter/smartbox\.prom}{$textfile}r =~ s{psql }{"psql -h " . $node->host . ' -p ' . $node->port . ' '}er;
is(system($command), 0, 'the metrics are written');
is(`promtool check metrics < $textfile 2>&1`, '', '... as Prometheus likes them');
like(PostgreSQL::Test::Utils::slurp_file($textfile), qr/^smartbox_status\{thing="detections"\} 2$/m, '... with what the status says');
PostgreSQL::Test::Utils::append_to_file("$folder/rules.yml", $blocks{yaml}[0]);
like(`promtool check rules $folder/rules.yml 2>&1`, qr/SUCCESS: 4 rules found/, 'the rules are right');
PostgreSQL::Test::Utils::append_to_file("$folder/test.yml", <<'END');
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'smartbox_last_detection_timestamp_seconds', values: '0 300 300 300 300 600 600 600 600 600 900x60'}
      - {series: 'smartbox_status{thing="detections"}', values: '0x30 2x60'}
      - {series: 'smartbox_job_failures_total{job="train"}', values: '0x40 1 2 3x60'}
    alert_rule_test:
      - {eval_time: 30m, alertname: SmartboxDetectionHasStopped}
      - eval_time: 40m
        alertname: SmartboxDetectionHasStopped
        exp_alerts: [{exp_annotations: {summary: "No sample of the last 20 minutes was judged"}}]
      - {eval_time: 30m, alertname: SmartboxNeedsAttention}
      - eval_time: 50m
        alertname: SmartboxNeedsAttention
        exp_alerts: [{exp_labels: {thing: detections}, exp_annotations: {summary: "smartbox.status has an error: detections"}}]
      - {eval_time: 30m, alertname: SmartboxJobFails}
      - eval_time: 50m
        alertname: SmartboxJobFails
        exp_alerts: [{exp_labels: {job: train}, exp_annotations: {summary: "A job fails again and again: train"}}]
      - {eval_time: 60m, alertname: SmartboxIsSilent}
      - eval_time: 120m
        alertname: SmartboxIsSilent
        exp_alerts: [{exp_annotations: {summary: "The server says nothing about its anomaly detection"}}]
END
like(`promtool test rules $folder/test.yml 2>&1`, qr/SUCCESS/, 'and fire when they should');

# ---------- delivery ----------

my $url = $fake->url('fails');
$fake->answer('fails', status => 503);
$node->safe_psql('shop', qq{DELETE FROM smartbox.models; INSERT INTO smartbox.receivers (receiver, kind, url) VALUES ('chat', 'webhook', '$url')});
see('delivery', 'delivery is not armed in this database');
$node->safe_psql('shop', q{
	SELECT arm_delivery(); UPDATE smartbox.jobs SET enabled = true WHERE job = 'deliver';
	INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) SELECT 'booking', now() + n * interval '1 s', true,
		'{"anomalies": [{"name": "slow", "severity": "high"}]}' FROM generate_series(1, 2) AS n});
see('receiver chat', '1 alerts wait since .*, 0 are held back, 0 were given up in the last 7 days: HTTP status 503');

# ---------- databases ----------

is($node->safe_psql('copy', q{SELECT state FROM smartbox.worker_state()}), 'not listed', 'a copy is not worked on');
see('workers', 'smartbox_anomaly.databases does not name this database', 'copy');
$node->safe_psql('copy', q{UPDATE smartbox.jobs SET enabled = true, next_run_at = now() - interval '1 hour' WHERE job = 'train'});
see('job train', 'has been due since', 'copy');
$node->safe_psql('postgres', 'DROP DATABASE copy; CREATE DATABASE copy TEMPLATE shop');
see('delivery', 'delivery was armed in another database, of which this one is a copy', 'copy');
$node->safe_psql('shop', q{UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'smartbox_anomaly'});
see('library', 'the extension has version 0\.9, the library ');
$node->reload;
see('workers', "the extension's version is not the library's");
$node->safe_psql('shop', qq{UPDATE pg_extension SET extversion = '$ENV{SMARTBOX_VERSION}' WHERE extname = 'smartbox_anomaly'});

# ---------- too few workers, and none ----------

$node->append_conf('postgresql.conf', 'max_worker_processes = 2');    # the launchers'
$node->restart;
see('workers', 'no background worker has been free since');
$node->append_conf('postgresql.conf', $_) foreach "shared_preload_libraries = 'pg_cron'", "cron.database_name = 'shop'", 'cron.launch_active_jobs = off', "smartbox_anomaly.vm_endpoint = ''";
$node->restart;
$node->safe_psql('shop', 'CREATE EXTENSION pg_cron');
see('workers', 'the library is not preloaded');
like(run_block($blocks{sql}[3]), qr{^smartbox cycle\|\*/5 \* \* \* \*\|CALL run_cycle\(\)\nsmartbox training\|.*\nsmartbox retention\|}m, 'pg_cron can do the work');
is($node->psql('shop', $_), 0, "... $_") foreach split /\n/, $node->safe_psql('shop', 'SELECT command FROM cron.job ORDER BY jobid');

# ---------- each of the page's symptoms was seen ----------

$seen .= PostgreSQL::Test::Utils::slurp_file($node->logfile);
foreach my $symptom (@symptoms)
{
	my $pattern = join '.*', map { quotemeta } split /\.\.\./, $symptom, -1;

	like($seen, qr/$pattern/, $symptom);
}

done_testing();
