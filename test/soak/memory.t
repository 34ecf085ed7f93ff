# A session that runs cycle after cycle does not grow: what PostgreSQL counts in
# its memory contexts, and what the system counts for the process, which has
# libcurl's and the forest's memory too.
#
#   CYCLES=10000
#
# Each cycle has new samples, every fiftieth begins or ends incidents, with
# alerts that are delivered.  As many again ask a source.
use strict;
use warnings;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::SteadySession;
use Test::More;

my $n_cycles = $ENV{CYCLES} || 10_000;
my $n_services = 3;

my $fake = Smartbox::FakeHttpServer->start;
$fake->answer('hook', body => '{}');
$fake->answer('source', body => Smartbox::FakeHttpServer::vector(map { [ "s$_", "4$_" ] } 1 .. $n_services));
my $node = Smartbox::Cluster->launch('memory', 'smartbox_anomaly.sample_interval = 1h', 'autovacuum = off');
my $session = Smartbox::SteadySession->new($node, 'cycles');

$node->safe_psql('shop', qq{
	INSERT INTO smartbox.services (service, confirmation_cycles, resolution_grace_cycles) SELECT 's' || n, 1, 1 FROM generate_series(1, $n_services) AS n;
	CREATE FUNCTION public.add_samples(n integer) RETURNS void LANGUAGE sql AS \$\$
		INSERT INTO smartbox.samples (service, ts, metric_values)
		SELECT 's' || s, '2020-01-01 00:00+00'::timestamptz + n * interval '1 hour',
			ARRAY[10 + sin(n * 12.9898 * s), 100 + 5 * sin(n * 78.233 * s), 50 + sin(n * 39.425), 5 + 0.1 * sin(n * 11.135), CASE WHEN n % 50 = 0 THEN 0.5 ELSE 0.001 END]
		FROM generate_series(1, $n_services) AS s \$\$;
	SELECT FROM generate_series(1, 720) AS n, LATERAL public.add_samples(n);
	SELECT FROM train_models();
	INSERT INTO smartbox.receivers (receiver, kind, url, max_per_minute) VALUES ('hook', 'webhook', '} . $fake->url('hook') . q{', NULL);
	SELECT arm_delivery()});

# Bytes in contexts, and kB of the process.
my $pid = $session->say('SELECT pg_backend_pid()');
sub size
{
	my $bytes = $session->say('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
	my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/;
	return ($bytes, $kb);
}

# Run a number of them; dies when one says anything but NOTICEs.
my $n = 720;
sub cycle
{
	my ($how_many, $with_source) = @_;
	while ($how_many > 0)
	{
		my $portion = $how_many > 50 ? 50 : $how_many;
		my $said = $session->say(join "\n", map { $n++; ($with_source ? '' : "SELECT FROM public.add_samples($n);") . ' CALL run_cycle();' } 1 .. $portion);
		die 'the session has ended' unless defined $said;
		$said =~ s/^\n?//mg;
		die $said if $said =~ /\S/;
		$how_many -= $portion;
	}
	return;
}

sub does_not_grow
{
	my ($what, $with_source) = @_;
	# in a week of samples each model was used
	my $n_warm = $n_cycles > 2000 ? int($n_cycles / 10) : 200;

	cycle($n_warm, $with_source);
	my ($bytes, $kb) = size();
	cycle($n_cycles - $n_warm, $with_source);
	my ($bytes_after, $kb_after) = size();
	note("$what: $bytes bytes and $kb kB after $n_warm cycles, $bytes_after bytes and $kb_after kB after $n_cycles");
	# plans are made, and made anew, until each statement has run some times
	cmp_ok($bytes_after, '<=', $bytes + 256 * 1024, "$what: memory contexts do not grow");
	cmp_ok($kb_after, '<=', $kb + 2048, "$what: the process does not grow");
	return;
}

does_not_grow('new samples', 0);
cmp_ok($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.detections'), '==', $n_services * $n_cycles, 'each was judged');
cmp_ok($node->safe_psql('shop', "SELECT count(*) FROM smartbox.deliveries WHERE status = 'sent'"), '>=', 2 * $n_services * int($n_cycles / 50) - 2 * $n_services, 'alerts were delivered');

$node->safe_psql('shop', "LOAD 'smartbox_anomaly'; ALTER SYSTEM SET smartbox_anomaly.vm_endpoint = '" . $fake->url('source') . "'; SELECT pg_reload_conf()");
$node->safe_psql('shop', 'DELETE FROM smartbox.samples');
$session->say("SELECT 'reloaded'");
is($session->say('SHOW smartbox_anomaly.vm_endpoint'), $fake->url('source'), 'then there is a source');
does_not_grow('a source', 1);
is($node->safe_psql('shop', "SELECT count(DISTINCT service) FROM smartbox.samples WHERE ts > now() - interval '1 day'"), $n_services, 'it was asked');
my $n_requests = () = $fake->requests('source');
cmp_ok($n_requests, '>=', 5 * $n_cycles, 'each time');

done_testing();
1;
