# Parallel workers share the scan of isolation_forest() and of the scores: what
# comes out is as good a forest, and exactly the same scores.
use strict;
use warnings;
use Smartbox::Cluster;
use Test::More;

my $rows = 300_000;
my $planted = 300;
my $node = Smartbox::Cluster->launch('forest_parallel',
	'autovacuum = off', 'max_worker_processes = 8', 'synchronize_seqscans = off');

# With the leader kept out, everything comes from the workers.
my $serial = 'SET max_parallel_workers_per_gather = 0; SET enable_indexscan = off;';
my $parallel = 'SET max_parallel_workers_per_gather = 2; SET min_parallel_table_scan_size = 0; '
  . 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET parallel_leader_participation = off; '
  . 'SET enable_indexscan = off;';

sub ask
{
	my ($settings, $query) = @_;
	return $node->safe_psql('shop', "$settings $query");
}

# The planted rows are spread over the table; "place" grows along it.
ask('', <<"SQL");
SELECT setseed(0.25);
CREATE TABLE measurement (id int, place float8, a float8, b float8, c float8, kind int);
INSERT INTO measurement
SELECT i, i / $rows.0, r.a * 10, r.b * 10, r.a + r.b, i % 5
FROM generate_series(1, $rows) AS i,
    LATERAL (SELECT random() + random() + random() + i * 0 AS a, random() + random() + random() + i * 0 AS b) AS r;
UPDATE measurement SET place = 2, a = 200 + id / 1000.0, b = -90, c = 45 WHERE id % ($rows / $planted) = 7;
VACUUM FULL ANALYZE measurement;
SQL

my $aggregate = 'SELECT isolation_forest(ARRAY[place, a, b, c]) AS forest FROM measurement';
unlike(ask($serial, "EXPLAIN $aggregate"), qr/Gather|Partial/, 'one process reads the table');
my $plan = ask($parallel, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) $aggregate");
like($plan, qr/Finalize Aggregate.*Gather.*Partial Aggregate.*Parallel Seq Scan/s, 'several processes read the table');
like($plan, qr/Workers Launched: 2/, 'two of them') or diag($plan);

ask($serial, "CREATE TABLE forests AS SELECT 'serial' AS made, forest FROM ($aggregate) AS x");
# A table that is written to is not read in parallel in CREATE TABLE's INSERT.
ask($parallel, "CREATE TABLE parallel_forest AS $aggregate; INSERT INTO forests SELECT 'parallel', forest FROM parallel_forest");
is(ask($serial, "SELECT forest = ($aggregate) FROM forests WHERE made = 'serial'"), 't', 'in one process the same rows give the same forest');
is(ask('', 'SELECT count(DISTINCT forest) FROM forests'), 2, 'several processes see the rows in another order');

foreach my $made (qw(serial parallel))
{
	my $forest = "(SELECT forest FROM forests WHERE made = '$made')";

	is(ask('', "SELECT i ->> 'trees', i ->> 'sample_size', i ->> 'features' FROM isolation_forest_info($forest) AS i"),
		'100|256|4', "$made: a whole forest");
	# The median of 512 rows from all of the table; more than 6 standard errors.
	cmp_ok(abs(ask('', "SELECT isolation_forest_info($forest) #>> '{feature,0,centre}'") - 0.5), '<', 0.14,
		"$made: the sample is from all of the table");
	# An ordinary row in the corner of the cloud may come before the last of them.
	cmp_ok(ask($serial, "SELECT count(*) FROM (SELECT b FROM measurement "
		  . "ORDER BY isolation_forest_score($forest, ARRAY[place, a, b, c]) DESC LIMIT $planted) AS x WHERE b = -90"),
		'>=', 0.95 * $planted, "$made: the planted rows are the strangest");
}

# How far both forests are apart is how far any two are that differ in the seed.
my $apart = ask($serial, <<"SQL");
SELECT avg(abs(isolation_forest_score(s.forest, p) - isolation_forest_score(m.forest, p)))
     / avg(abs(isolation_forest_score(s.forest, p) - isolation_forest_score(o.forest, p)))
FROM forests AS s, forests AS m, (SELECT isolation_forest(ARRAY[place, a, b, c], 100, 256, 1) AS forest FROM measurement) AS o,
    (SELECT ARRAY[place, a, b, c] AS p FROM measurement WHERE id % 100 = 0) AS points
WHERE s.made = 'serial' AND m.made = 'parallel'
SQL
cmp_ok($apart, '<', 1.5, 'the forest of several processes is as near as one of another seed');
cmp_ok($apart, '>', 0.5, '... and as far');

# Groups, each with a forest of its own.
my $groups = 'SELECT kind, isolation_forest(ARRAY[a, b, c], 20, 64) AS forest FROM measurement GROUP BY kind';
$plan = ask($parallel, "EXPLAIN $groups");
like($plan, qr/Finalize.*Gather.*Partial/s, 'groups, too') or diag($plan);
is( ask($parallel, "SELECT count(*), min(length(forest)) > 1000, bool_and(isolation_forest_score(forest, '{250,-90,45}') > isolation_forest_score(forest, '{15,15,3}') + 0.2) FROM ($groups) AS g"),
	'5|t|t',
	'... have good forests');

# Rows that do not fit together meet in the leader at the latest.
my ($status, $errors) = (0, '');
$status = $node->psql('shop', "$parallel SELECT isolation_forest(CASE WHEN place < 0.5 THEN ARRAY[a] ELSE ARRAY[a, b] END) FROM measurement",
	stderr => \$errors);
isnt($status, 0, 'points of different lengths are refused');
like($errors, qr/different numbers of features/, '... by name');

# Scores.
my $scores = 'SELECT id, isolation_forest_score((SELECT forest FROM forests WHERE made = \'serial\'), ARRAY[place, a, b, c]) AS score FROM measurement';
my $digest = "SELECT count(*), md5(string_agg(score::text, ' ' ORDER BY id)) FROM ($scores) AS s";
$plan = ask($parallel, "EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF) $scores");
like($plan, qr/Gather.*Workers Launched: 2.*Parallel Seq Scan[^\n]*\n\s+Output: [^\n]*isolation_forest_score/s, 'the workers score') or diag($plan);
my $answer = ask($serial, $digest);
like($answer, qr/^$rows\|/, 'all rows have a score');
is(ask($parallel, $digest), $answer, 'scores of several processes are those of one');

done_testing();
