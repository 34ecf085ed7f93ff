# Scores and bands as series in a real VictoriaMetrics: what arrives is what was
# found, and nothing is lost, held up or sent twice for want of an answer.  The
# statements of docs/score-write-back.md work as they stand there.
use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Smartbox::Page;
use Smartbox::Session;
use Smartbox::VictoriaMetrics;
use Test::More;

my $now = int(time / 300) * 300;
my $source = Smartbox::VictoriaMetrics->start('-dedup.minScrapeInterval=1ms');
my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('write_back');
my $hostile = qq{a"b\\nc{x="y"} 1 # \x{e9}\x{1f408}\\};

# All points of our series in the source: {"name service metric ts_ms" => value}.
sub points
{
	my ($metric_source) = @_;
	my %points;
	my $http = HTTP::Tiny->new(timeout => 60);

	$http->get($metric_source->url . '/internal/force_flush');
	my $answer = $http->get($metric_source->url . '/api/v1/export?match[]=%7B__name__%3D~%22smartbox_.*%22%7D');
	die "export: $answer->{status}" unless $answer->{success};
	foreach my $series (map { decode_json($_) } split /\n/, $answer->{content})
	{
		my $labels = $series->{metric};

		foreach my $i (0 .. $#{ $series->{values} })
		{
			my $key = join "\t", $labels->{__name__}, $labels->{service_name}, $labels->{metric} // '', $series->{timestamps}[$i];
			$points{$key} = [ @{ $points{$key} // [] }, $series->{values}[$i] ];
		}
		is(scalar(keys %$labels), defined $labels->{metric} ? 3 : 2, 'no other labels') unless $points{seen}++;
	}
	delete $points{seen};
	return \%points;
}

# The same as the database has them.
sub found
{
	my ($since) = @_;
	my %found;
	my $rows = $node->safe_psql('shop', qq{
		SELECT jsonb_agg(jsonb_build_array(name, service, metric, floor(extract(epoch FROM ts) * 1000)::bigint, value)) FROM (
			SELECT 'smartbox_score' AS name, service, '' AS metric, ts, score AS value FROM smartbox.detections WHERE score IS NOT NULL
			UNION ALL SELECT 'smartbox_anomaly', service, '', ts, is_anomaly::integer FROM smartbox.detections
			UNION ALL SELECT v.name, d.service, e.metric, d.ts, v.value
			FROM smartbox.detections AS d, expected_values(d.service, d.ts, d.ts) AS e,
				LATERAL (VALUES ('smartbox_expected', expected), ('smartbox_lower', lower), ('smartbox_upper', upper)) AS v(name, value)
			WHERE v.value IS NOT NULL) AS p
		WHERE ts > to_timestamp($since)});

	$found{ join "\t", @$_[ 0 .. 3 ] } = [ $_->[4] ] foreach @{ decode_json($rows) };
	return \%found;
}

# A band depends a little on where the samples begin that it is computed from.
sub is_same
{
	my ($got, $expected, $name) = @_;
	my @wrong = grep {
		my $tolerance = /^smartbox_(?:score|anomaly)/ ? 1e-9 : 0.05 * abs $expected->{$_}[0];
		@{ $got->{$_} } != 1 || abs($got->{$_}[0] - $expected->{$_}[0]) > $tolerance
	} grep { $expected->{$_} } keys %$got;

	is(join("\n", sort keys %$got), join("\n", sort keys %$expected), "$name: the points");
	return is_deeply([ map { "$_: @{ $got->{$_} }, not $expected->{$_}[0]" } @wrong ], [], "$name: each once, with its value");
}

sub endpoint
{
	my ($url) = @_;

	$node->safe_psql('shop', "LOAD 'smartbox_anomaly'; ALTER SYSTEM SET smartbox_anomaly.write_back_endpoint = '$url'; SELECT pg_reload_conf()");
	$node->wait_for('shop', q{LOAD 'smartbox_anomaly'; SHOW smartbox_anomaly.write_back_endpoint}, $url, 60);
}

sub write_back
{
	my ($status, undef, $error) = $node->psql('shop', 'CALL write_back_scores()');
	return $status == 0 ? 'written' : $error;
}

# Three hours of cycles are still to come.
$node->safe_psql('shop', qq{
	CREATE TABLE clock AS SELECT to_timestamp($now) AS ts;
	INSERT INTO smartbox.services (service) VALUES ('booking'), ('search');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT s.service, c.ts - (8640 - n) * interval '5 minutes', ARRAY[50 * (1.2 + sin(n * 2 * pi() / 288)) * noise1, 120 * noise2, 40 * noise1, 8 * noise2, 0.002 * noise1]
	FROM clock AS c, (VALUES ('booking'), ('search')) AS s(service), generate_series(1, 8640) AS n,
		LATERAL (SELECT exp(0.05 * sin(n * 12.9898) + 0.05 * sin(n * 78.233)) AS noise1, exp(0.05 * sin(n * 39.425) + 0.05 * sin(n * 11.135)) AS noise2) AS w;
	UPDATE smartbox.samples SET metric_values[2] = 900 WHERE service = 'booking' AND ts > (SELECT ts FROM clock) - interval '20 minutes';
	SELECT count(*) FROM train_models();
	CREATE FUNCTION judge(since interval, until interval) RETURNS bigint LANGUAGE sql AS \$\$
		SELECT count(detect_anomalies(s.service, s.ts)) FROM (SELECT s.service, s.ts FROM smartbox.samples AS s, clock AS c
			WHERE s.ts > c.ts - since AND s.ts <= c.ts - until ORDER BY s.ts, s.service) AS s \$\$;
	SELECT judge('3 hours', '2 hours')});
like(($node->psql('shop', 'CALL write_back_scores()'))[2], qr/NOTICE:  no series are written: smartbox_anomaly.write_back_endpoint is empty/,
	'nothing is written by default');
is($node->safe_psql('shop', q{SELECT smartbox.label_value(E'a\\\\b"\\n')}), q{"a\\\\b\\"\\n"}, 'what ends a label or a line is escaped');
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.write_backs'), '0', '... nor noted');

Smartbox::Page->open('docs/score-write-back.md')->run($node, 'shop', 'http://127.0.0.1:8428' => $source->url);
my $written = points($source);
is_same($written, found($now - 86400), 'the page');
cmp_ok(scalar keys %$written, '>', 300, 'which are many');

# Nothing new, nothing sent; then what is new, and hostile names.
my $points = $node->safe_psql('shop', 'SELECT sum(points) FROM smartbox.write_backs');
is(write_back(), 'written', 'a second time');
is($node->safe_psql('shop', 'SELECT sum(points) FROM smartbox.write_backs'), $points, '... sends nothing');
my $hostile_sql = join ' || ', map { 'chr(' . ord($_) . ')' } split //, $hostile;
$node->safe_psql('shop', qq{
	INSERT INTO smartbox.services (service) SELECT $hostile_sql;
	INSERT INTO smartbox.samples SELECT $hostile_sql, ts, metric_values FROM smartbox.samples WHERE service = 'booking';
	SELECT count(*) FROM train_models(ARRAY[$hostile_sql]);
	SELECT judge('2 hours', '115 minutes')});
is(write_back(), 'written', 'a new service, and one more cycle');
is_same(points($source), found($now - 86400), 'names that need escapes');
is(scalar(grep { index($_, "smartbox_score\t$hostile\t") == 0 } keys %{ points($source) }), 1, 'a service begins with its newest detection');

# The endpoint is not there, or says no: detection goes on, and nothing is lost.
foreach my $case (
	[ 'http://127.0.0.1:1', qr/could not write scores to "127.0.0.1:1"/ ],
	[ $fake->url('full'), qr/DETAIL:  HTTP status 503: disk full\nHINT:  They are sent again/ ],
	[ $fake->url('moved'), qr/redirects are not followed/ ])
{
	my ($url, $words) = @$case;

	$fake->answer('full', status => 503, body => "disk full\n");
	$fake->answer('moved', status => 302, headers => [ 'Location: ' . $source->url ]);
	endpoint($url);
	$node->safe_psql('shop', q{SELECT judge(s, s - interval '10 minutes') FROM (SELECT '2 hours'::interval
		- (max(d.ts) - (c.ts - interval '2 hours')) AS s FROM smartbox.detections AS d, clock AS c GROUP BY c.ts) AS s});
	like(write_back(), $words, "$url: an error that says why");
	is($node->safe_psql('shop', q{SELECT count(*) FROM smartbox.write_backs WHERE last_error IS NOT NULL AND leased_until IS NULL}), 3, '... noted');
}
my ($status, undef, $error) = $node->psql('shop', 'CALL run_cycle()');
like($error, qr/could not write scores/, 'a cycle fails with it');
cmp_ok($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.detections AS d, clock AS c WHERE d.ts = c.ts'), '>=', 2, '... after it has judged');
is($node->safe_psql('shop', "SELECT status FROM smartbox.run_job('write_back')"), 'failed', 'and so does the job');
like($node->safe_psql('shop', "SELECT severity, message FROM smartbox.status WHERE thing = 'job write_back'"), qr/^error\|has failed 1 times.*could not write/, '... which the status says');
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.circuit_breakers'), '0', 'no circuit breaker has a part in it');

# Two at once: what one sends, the other leaves alone, and nothing is held open.
$fake->answer('slow', status => 204, hold => 1);
endpoint($fake->url('slow'));
$node->safe_psql('shop', "LOAD 'smartbox_anomaly'; ALTER SYSTEM SET smartbox_anomaly.vm_timeout = '5min'; SELECT pg_reload_conf()");
$node->wait_for('shop', q{LOAD 'smartbox_anomaly'; SHOW smartbox_anomaly.vm_timeout}, '5min', 60);
my $one = Smartbox::Session->new($node, 'writer');
$one->ask('CALL write_back_scores();');
$node->wait_for('shop', 'SELECT count(*) FROM smartbox.write_backs WHERE leased_until > now()', 3, 60);
is(write_back(), 'written', 'a second session has nothing to do');
is($node->safe_psql('shop', q{SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE application_name = 'writer'}), 't',
	'while the endpoint is waited for, no snapshot is held');
is($node->safe_psql('shop', q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE a.application_name = 'writer' AND l.locktype <> 'virtualxid'}), '0',
	'... and no lock');

# It dies: when its lease is over, everything is sent again.
$node->safe_psql('shop', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'});
$node->wait_for('shop', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'writer'}, 0, 60);
$fake->release('slow');
endpoint($source->url . '/');
is(write_back(), 'written', 'while its lease runs, nobody');
cmp_ok(scalar keys %{ points($source) }, '<', scalar keys %{ found($now - 86400) }, '... sends what it had');
$node->safe_psql('shop', q{UPDATE smartbox.write_backs SET leased_until = now() - interval '1 second'});
is(write_back(), 'written', 'when it is over, another does');
is_same(points($source), found($now - 86400), 'nothing is lost');

like(($node->psql('shop', 'BEGIN; CALL write_back_scores()'))[2], qr/cannot run inside a transaction block/, 'not in a transaction block');
$node->safe_psql('shop', 'DELETE FROM smartbox.services');
is($node->safe_psql('shop', 'SELECT count(*) FROM smartbox.write_backs'), '0', 'a service takes its row along');

done_testing();
