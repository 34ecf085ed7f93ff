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

# Jobs start with the minute.  Two that want the same at the same time make two
# runs in one minute, and more of a test than one run in each of two.
$node->safe_psql('shop', "SELECT cron.schedule(name, '* * * * *', 'CALL run_cycle()') FROM unnest('{cycle,again}'::text[]) AS name");
my $outcome = $node->wait_for('shop',
	"SELECT string_agg(DISTINCT status, ' ') || ' ' || count(DISTINCT jobid) FROM cron.job_run_details WHERE status IN ('succeeded', 'failed') HAVING count(DISTINCT jobid) = 2",
	qr/./, 180);
is($outcome, 'succeeded 2', 'both jobs have run')
  or diag($node->safe_psql('shop', 'SELECT * FROM cron.job_run_details'));
is( $node->safe_psql('shop', "SELECT service, bool_and(metric_values[1] > 0), bool_and(metric_values[5] IS NOT NULL) FROM smartbox.samples GROUP BY service"),
	'booking|t|t', 'and has collected a sample');
$node->safe_psql('shop', "SELECT cron.unschedule(jobid) FROM cron.job");

done_testing();
