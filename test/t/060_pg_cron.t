# pg_cron can do the cycle's work: CALL run_cycle() from a job.
use strict;
use warnings;
use Test::More;
use Smartbox::Cluster;
use Smartbox::VictoriaMetrics;

my $now = int(time / 300) * 300;
my $source = Smartbox::VictoriaMetrics->start;
# Metrics go on into the next hour, for the job runs when its minute comes.
$source->generate('--begin', $now - 7200, '--end', $now + 3600, '--services', 'booking');

my $node = Smartbox::Cluster->launch('cron',
	"shared_preload_libraries = 'pg_cron'",
	"cron.database_name = 'shop'",
	'cron.use_background_workers = on',
	"smartbox_anomaly.vm_endpoint = '" . $source->url . "'");
$node->safe_psql('shop', 'CREATE EXTENSION pg_cron');
is($node->safe_psql('shop', 'SELECT * FROM discover_services()'), 'booking', 'the service is discovered');
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.samples'), 0, 'no sample yet');

$node->safe_psql('shop', "SELECT cron.schedule('cycle', '* * * * *', 'CALL run_cycle()')");
# Jobs start with the minute.
my $outcome = $node->wait_for('shop',
	"SELECT status FROM cron.job_run_details WHERE status IN ('succeeded', 'failed') ORDER BY runid LIMIT 1",
	qr/./, 75);
is($outcome, 'succeeded', 'the job has run')
  or diag($node->safe_psql('shop', 'SELECT * FROM cron.job_run_details'));
is( $node->safe_psql('shop', "SELECT service, bool_and(metric_values[1] > 0), bool_and(metric_values[5] IS NOT NULL) FROM smartbox.samples GROUP BY service"),
	'booking|t|t', 'and has collected a sample');
$node->safe_psql('shop', "SELECT cron.unschedule('cycle')");

done_testing();
