# A fleet runs by itself for a long time, while everything around it fails: the
# source and the receiver (world.py), the server and each of its processes.  At
# the end nothing may be lost, done twice, or have grown.
#
#   SERVICES=200 DAYS=60 SEED=1 DISTURBANCES=6 make soak
#
# Time is virtual (virtual_clock.c): when nothing is due the clock jumps to when
# something is.  Everything is done by the background workers.  Disturbances are
# so many a day.
use strict;
use warnings;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(time);
use HTTP::Tiny;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Smartbox::SteadySession;
use Test::More;

my $n_services = $ENV{SERVICES} || 200;
my $n_days = $ENV{DAYS} || 60;
my $seed = $ENV{SEED} || 1 + int(rand 1_000_000);
my $disturbances_per_day = $ENV{DISTURBANCES} || 6;

# A Monday that no samples of anybody lie in; and a stuck server is not waited
# for longer than this.
use constant { BEGINS_AT => 1_803_859_200, STEP => 300, DAY => 86_400, PATIENCE_S => 180 };

note("$n_services services, $n_days days, SEED=$seed");
srand $seed;

# ---------- the clock and the world ----------

my $folder = "$ENV{SMARTBOX_WORK}/soak.$$";
mkdir $folder or die "$folder: $!";
my $library = "$folder/virtual_clock.so";
system('cc', '-std=c11', '-O2', '-shared', '-fPIC', '-o', $library, 'test/soak/virtual_clock.c', '-ldl') == 0
  or die 'the virtual clock does not build';

my $ahead;

sub virtual_now { return time + $ahead }

sub set_clock
{
	my ($at) = @_;
	$ahead = $at - time;
	open my $file, -e "$folder/clock" ? '+<' : '>', "$folder/clock" or die "$folder/clock: $!";
	syswrite $file, pack 'q', $ahead * 1e6;
	close $file or die "$folder/clock: $!";
	return;
}

set_clock(BEGINS_AT);
my $world = fork;
die "fork: $!" unless defined $world;
if ($world == 0)
{
	exec '/usr/bin/python3', 'test/soak/world.py', $seed, $n_services, "$folder/clock", $folder or POSIX::_exit(1);
}
PostgreSQL::Test::Utils::append_to_file("$folder/world.pid", "$world\n");
END { kill 'TERM', $world if $world }
my $give_up = time + 30;
until (-s "$folder/world.port")
{
	die 'the world does not begin' if time > $give_up;
	Time::HiRes::sleep(0.05);
}
my $address = 'http://127.0.0.1:' . (PostgreSQL::Test::Utils::slurp_file("$folder/world.port") =~ /(\d+)/)[0];
my $http = HTTP::Tiny->new(timeout => 120);

sub ask_world
{
	my ($what) = @_;
	my $answer = $http->get("$address/$what");
	die "the world says to $what: $answer->{status} $answer->{content}" unless $answer->{success};
	return decode_json($answer->{content});
}

# ---------- the server ----------

my $node = Smartbox::Cluster->prepare('soak',
	"shared_preload_libraries = 'smartbox_anomaly'", "smartbox_anomaly.databases = 'shop'",
	"smartbox_anomaly.vm_endpoint = '$address'",
	'smartbox_anomaly.delivery_timeout = 1s', 'restart_after_crash = on', 'dynamic_shared_memory_type = mmap',
	'shared_buffers = 256MB', 'max_wal_size = 4GB', 'max_worker_processes = 16');

sub start_server
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{VIRTUAL_CLOCK} = "$folder/clock";
	$node->start_after_crash(PATIENCE_S);
	return;
}

sub server_lives { return $node->{_pid} && kill 0, $node->{_pid} }

start_server();
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION smartbox_anomaly; CREATE EXTENSION amcheck');

my $watcher = Smartbox::SteadySession->new($node, 'watcher');
my $person = Smartbox::SteadySession->new($node, 'person');

# An answer, however often the server goes away before it has come.
sub query
{
	my ($statement) = @_;
	my $deadline = time + PATIENCE_S;

	while (1)
	{
		my $answer = $watcher->say($statement);
		if (defined $answer)
		{
			return $answer unless $answer =~ /^(?:ERROR|FATAL|PANIC): /m;
			die "$statement\n$answer" unless $answer =~ /terminating connection|starting up|shutting down|recovery mode/;
		}
		die "no answer to: $statement" if time > $deadline;
		start_server() unless server_lives();
		Time::HiRes::sleep(0.05);
	}
}

# The source is asked by these queries; categories differ in how patient they are.
query(q{UPDATE smartbox.metrics SET query = 'soak_' || metric || '{$selector}'});
query(qq{
	INSERT INTO smartbox.services (service, category)
	SELECT 'service-' || to_char(n, 'FM000'), ('{critical,core,standard,micro,background}'::text[])[1 + n % 5]
	FROM generate_series(0, $n_services - 1) AS n});
query(qq{
	INSERT INTO smartbox.receivers (receiver, kind, url, max_per_minute) VALUES ('hook', 'webhook', '$address/hook', NULL);
	SELECT arm_delivery()});
# Alerts wake it, and repetitions; each minute of its clock is more than all else.
query(q{UPDATE smartbox.jobs SET every = '5 minutes' WHERE job = 'deliver'});
query(q{CREATE TABLE public.truth (service text, ts bigint, at_last float8[], at_first float8[])});
query(q{CREATE TABLE public.received (number serial, key text, answer text)});

# How long the source is waited for: what is stalled should not hold up the run,
# but the whole history takes it a while.
sub be_patient
{
	my ($seconds) = @_;
	query("ALTER SYSTEM SET smartbox_anomaly.vm_timeout = '${seconds}s'");
	query("ALTER SYSTEM SET smartbox_anomaly.vm_total_timeout = '" . 3 * $seconds . "s'");
	query('SELECT pg_reload_conf()');
	return;
}

# ---------- disturbances ----------

my (%disturbed, $disturb_at);
my $n_slots_away = 0;
my @disturbances = (
	[ 'kill -9 of a job worker' => sub { kill_one("backend_type = 'smartbox_anomaly job worker'") } ],
	[ 'kill -9 of a training worker' => sub { kill_one("backend_type = 'smartbox_anomaly worker'") } ],
	[ 'kill -9 of a session' => sub { kill_one("application_name = 'person'") } ],
	[ 'kill -9 of the launcher' => sub { kill_one("backend_type = 'smartbox_anomaly launcher'") } ],
	[ 'kill -9 of another process' => sub { kill_one("backend_type IN ('checkpointer', 'background writer', 'walwriter')") } ],
	[ 'kill -9 of the postmaster' => sub { $node->kill9; start_server(); return 1 } ],
	[ 'immediate shutdown' => sub { $node->stop('immediate'); start_server(); return 1 } ],
	[ 'fast shutdown' => sub { $node->stop('fast'); start_server(); return 1 } ],
	[ 'hours without server' => \&stay_away ],
	[ 'end of a worker' => sub { signal_one('pg_terminate_backend') } ],
	[ 'cancel of a worker' => sub { signal_one('pg_cancel_backend') } ]);

sub stay_away
{
	my $n_slots = 1 + int rand 30;

	$node->stop('fast');
	set_clock(virtual_now() + STEP * $n_slots);
	$n_slots_away += $n_slots;
	start_server();
	return 1;
}

sub one_process
{
	my ($condition) = @_;
	return query("SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY random() LIMIT 1");
}

sub kill_one
{
	my $pid = one_process($_[0]);
	return $pid ne '' && kill 'KILL', $pid;
}

sub signal_one
{
	my ($function) = @_;
	my $pid = one_process("backend_type LIKE 'smartbox_anomaly%worker'");
	return $pid ne '' && query("SELECT $function($pid)") eq 't';
}

sub disturb
{
	my ($name, $do) = @{ $disturbances[ rand @disturbances ] };
	$disturbed{$name}++ if $do->();
	return;
}

# What people do meanwhile.
sub act
{
	my $service = sprintf 'service-%03d', rand $n_services;
	my $incident = "(SELECT incident_id FROM smartbox.incidents WHERE status <> 'CLOSED' ORDER BY random() LIMIT 1)";
	my @acts = (
		'SELECT count(*) FROM run_inference();', 'SELECT count(*) FROM run_inference(verbose => true);',
		"SELECT count(detect_anomalies('$service'));", 'CALL run_cycle();', 'CALL deliver_alerts();',
		"SELECT count(acknowledge_incident($incident));", "SELECT count(close_incident($incident, 'soak'));",
		"SELECT count(silence('$service', until => now() + interval '2 hours'));",
		"SELECT count(feedback($incident, 'not_anomaly'));", "SELECT count(rollback_model('$service', 'night_hours'));");
	$person->ask($acts[ rand @acts ]);
	return;
}

# ---------- time goes on ----------

my ($n_slots, $last_slot, $unjudged) = (0, 0, 0);
my $duration = 1;

sub jobs
{
	my ($running, $due, $launcher, $next) = split /\|/, query(q{
		SELECT count(*) FILTER (WHERE running_pid IS NOT NULL),
			count(*) FILTER (WHERE enabled AND running_pid IS NULL AND coalesce(next_run_at <= clock_timestamp(), true)),
			(SELECT coalesce(launcher_pid, 0) FROM smartbox.worker_state()),
			extract(epoch FROM min(next_run_at) FILTER (WHERE enabled))
		FROM smartbox.jobs});
	return ($running + $due, $launcher, $next);
}

# Wait until nothing runs and nothing is due; returns when something will be.
sub wait_until_idle
{
	my $began = time;

	while (1)
	{
		my ($busy, $launcher, $next) = jobs();
		if (defined $disturb_at && time >= $disturb_at)
		{
			undef $disturb_at;
			disturb();
			$began = time;
			next;
		}
		unless ($busy || defined $disturb_at)
		{
			$duration = 0.9 * $duration + 0.1 * (time - $began);
			return $next;
		}
		die 'jobs are stuck: ' . query('SELECT * FROM smartbox.jobs') if time - $began > PATIENCE_S;
		# it sleeps by the machine's clock
		kill 'USR1', $launcher if $launcher;
		Time::HiRes::sleep(0.02);
	}
}

# Was each sample of this slot judged, if a cycle ended well in it?
sub check_slot
{
	my $slot = int(virtual_now() / STEP) * STEP;
	my ($judged, $missing) = split /\|/, query(qq{
		SELECT coalesce(j.last_succeeded_at >= j.last_started_at AND j.last_started_at >= to_timestamp($slot), false)
				AND NOT EXISTS (SELECT FROM smartbox.jobs AS t WHERE t.job = 'train' AND t.last_started_at >= to_timestamp($slot)),
			(SELECT count(*) FROM smartbox.samples AS s WHERE s.ts = to_timestamp($slot)
				AND NOT EXISTS (SELECT FROM smartbox.detections AS d WHERE d.service = s.service AND d.ts = s.ts))
		FROM smartbox.jobs AS j WHERE j.job = 'collect_and_detect'});
	return unless $judged eq 't';
	$n_slots += $slot != $last_slot;
	$last_slot = $slot;
	$unjudged += $missing;
	diag("$missing samples of slot $slot were not judged") if $missing;
	return;
}

# ---------- what must hold ----------

# Compare samples with what the source says; returns a problem for each kind.
my $n_compared = 0;

sub compare_samples
{
	my ($since, $until) = @_;
	my $file = "$folder/truth";

	ask_world("truth?since=$since&until=$until&file=$file");
	query("TRUNCATE public.truth; COPY public.truth FROM '$file'");
	my ($n, $missing, $added, $different) = split /\|/, query(qq{
		SELECT count(t.ts), count(*) FILTER (WHERE s.service IS NULL), count(*) FILTER (WHERE t.service IS NULL),
			count(*) FILTER (WHERE EXISTS (
				SELECT FROM unnest(s.metric_values, t.at_last, t.at_first) AS v(stored, at_last, at_first)
				WHERE v.stored IS DISTINCT FROM v.at_last AND v.stored IS DISTINCT FROM v.at_first)
				AND s.service IS NOT NULL AND t.service IS NOT NULL)
		FROM public.truth AS t
			FULL JOIN (SELECT * FROM smartbox.samples WHERE ts > to_timestamp($since) AND ts <= to_timestamp($until)) AS s
			ON s.service = t.service AND s.ts = to_timestamp(t.ts)});
	$n_compared += $n;
	return "$missing missing, $added that the source has not, $different different";
}

my $nothing = '0 missing, 0 that the source has not, 0 different';

# What grows when something is not given back, by processes that stay.
my (%at_first, %at_most);

sub measure
{
	my %now = (
		'files of the postmaster' => scalar(() = glob "/proc/$node->{_pid}/fd/*"),
		'segments of shared memory' => scalar(() = glob $node->data_dir . '/pg_dynshmem/*'),
		'temporary files' => scalar(() = glob $node->data_dir . '/base/pgsql_tmp/*'),
		'sessions' => query('SELECT count(*) FROM pg_stat_activity WHERE backend_type <> $$autovacuum worker$$'),
		'connections to the source' => ask_world('figures')->{connections});
	my $launcher = (jobs())[1];
	if ($launcher)
	{
		$now{'files of the launcher'} = () = glob "/proc/$launcher/fd/*";
		($now{'kB of the launcher'}) = PostgreSQL::Test::Utils::slurp_file("/proc/$launcher/status") =~ /RssAnon:\s+(\d+)/;
	}
	foreach my $what (keys %now)
	{
		$at_first{$what} = $now{$what} unless defined $at_first{$what};
		$at_most{$what} = $now{$what} if !defined $at_most{$what} || $now{$what} > $at_most{$what};
	}
	return;
}

# ---------- the run ----------

my $began = time;
be_patient(100);
my $status = query(q{SELECT status FROM smartbox.run_job('train')});
is(query(q{SELECT count(DISTINCT service) FROM smartbox.models WHERE is_active}), $n_services, 'each service has learnt from its history');
note(sprintf 'history and first training: %s, %.0f s', $status, time - $began);
ask_world('storm');
be_patient(3);

my $end = BEGINS_AT + $n_days * DAY;
my $next = wait_until_idle();
my $compared_until = BEGINS_AT;
my $day = 0;
my $loop_began = time;
while ($next < $end)
{
	set_clock($next + 0.05) if $next > virtual_now();
	$disturb_at = time + rand $duration if rand() < $disturbances_per_day / (DAY / STEP);
	act() if rand() < 0.1;
	my $slot = int(virtual_now() / STEP);
	$next = wait_until_idle();
	my $said = $person->answer;
	# there may be no incident, or it ends at the same time
	diag("a person was told: $said") if defined $said && $said =~ /ERROR/
	  && $said !~ /the id of the incident must not be null|is not active|is closed|no accepted model|terminating connection|starting up|shutting down/;
	check_slot() if $slot == int(virtual_now() / STEP);

	next unless virtual_now() >= BEGINS_AT + ($day + 1) * DAY;
	$day = int((virtual_now() - BEGINS_AT) / DAY);
	measure();
	# what was asked for in two nights is there
	my $until = BEGINS_AT + ($day - 2) * DAY;
	if ($until > $compared_until)
	{
		my $problems = compare_samples($compared_until, $until);
		is($problems, $nothing, "samples up to day $day less two are those of the source");
		$compared_until = $until;
	}
	note(sprintf 'day %d after %.0f s: %s', $day, time - $began, query(q{
		SELECT format('%s detections, %s incidents, %s alerts, %s runs of jobs, %s failed',
			(SELECT count(*) FROM smartbox.detections), (SELECT count(*) FROM smartbox.incidents),
			(SELECT count(*) FROM smartbox.alerts), (SELECT sum(runs) FROM smartbox.jobs), (SELECT sum(failures) FROM smartbox.jobs))}));
}
my $loop_s = time - $loop_began;

# ---------- a calm end ----------

ask_world('calm');
be_patient(100);
my $calm_until = virtual_now() + 4 * 3600;
while ($next < $calm_until)
{
	set_clock($next + 0.05) if $next > virtual_now();
	$next = wait_until_idle();
}
query(q{SELECT count(*) FROM backfill_metrics(NULL, '20 days')});
measure();

is(compare_samples($compared_until, $end), $nothing, 'samples of the last days are those of the source');
is($unjudged, 0, 'each sample was judged in its time');
cmp_ok($n_slots, '>', 0.8 * ($n_days * DAY / STEP - $n_slots_away), 'most slots in which there was a server had a cycle');
is(query(q{
	SELECT count(*) FROM smartbox.detections AS d
	WHERE NOT d.no_data AND NOT EXISTS (SELECT FROM smartbox.samples AS s WHERE s.service = d.service AND s.ts = d.ts)}),
	0, 'no judgement without a sample');
is(query(q{SELECT count(*) FROM smartbox.detections WHERE processed_at IS NULL}), 0, 'each judgement has moved the incidents');

# Each event leads from a state to another; the last is the incident's.
is(query(q{
	WITH moves AS (
		SELECT e.*, lag(e.status) OVER w AS before, row_number() OVER w AS place
		FROM smartbox.incident_events AS e
		WINDOW w AS (PARTITION BY e.service, e.incident_id ORDER BY e.event_number))
	SELECT count(*) FROM moves AS m
	WHERE m.place <> m.event_number OR CASE m.event
		WHEN 'CREATE' THEN m.before IS NOT NULL OR m.status <> 'SUSPECTED'
		WHEN 'CONFIRM' THEN m.before <> 'SUSPECTED' OR m.status <> 'OPEN'
		WHEN 'CONTINUE' THEN m.status <> CASE m.before WHEN 'RECOVERING' THEN 'OPEN' WHEN 'CLOSED' THEN NULL ELSE m.before END
		WHEN 'ESCALATE' THEN m.before <> 'OPEN' OR m.status <> 'OPEN'
		WHEN 'RECOVER' THEN m.before <> 'OPEN' OR m.status <> 'RECOVERING'
		WHEN 'REOPEN' THEN m.before <> 'CLOSED' OR m.status <> 'OPEN'
		WHEN 'RESOLVE' THEN m.before NOT IN ('OPEN', 'RECOVERING') OR m.status <> 'CLOSED'
		WHEN 'EXPIRE' THEN m.before = 'CLOSED' OR m.status <> 'CLOSED'
		WHEN 'CLOSE' THEN m.before = 'CLOSED' OR m.status <> 'CLOSED'
		ELSE m.before <> m.status END IS NOT FALSE}), 0, 'each move of an incident is legal');
is(query(q{
	SELECT count(*) FROM smartbox.incidents AS i
		CROSS JOIN LATERAL (
			SELECT (array_agg(e.status ORDER BY e.event_number DESC))[1] AS status,
				count(DISTINCT e.ts) FILTER (WHERE e.event IN ('CREATE', 'CONFIRM', 'CONTINUE', 'REOPEN')) AS occurrences,
				min(e.ts) AS first_seen, max(e.ts) FILTER (WHERE e.event IN ('CREATE', 'CONFIRM', 'CONTINUE', 'REOPEN')) AS last_seen,
				max(e.ts) FILTER (WHERE e.status = 'CLOSED' AND e.event IN ('RESOLVE', 'EXPIRE', 'CLOSE')) AS closed_at
			FROM smartbox.incident_events AS e
			WHERE e.service = i.service AND e.incident_id = i.incident_id) AS replayed
	WHERE (i.status, i.occurrence_count, i.first_seen, i.last_seen, i.resolved_at) IS DISTINCT FROM
		(replayed.status, replayed.occurrences, replayed.first_seen, replayed.last_seen,
		 CASE WHEN i.status = 'CLOSED' THEN replayed.closed_at END)}), 0, 'the events of each incident lead to its state');
is(query(q{
	WITH told AS (
		SELECT d.service, a.metadata ->> 'incident_id' AS incident_id, count(DISTINCT d.ts) AS detections
		FROM smartbox.detections AS d, LATERAL jsonb_to_recordset(d.payload -> 'anomalies') AS a(metadata jsonb)
		WHERE d.is_anomaly AND a.metadata ->> 'incident_action' <> 'CLOSE'
		GROUP BY 1, 2)
	SELECT count(*) FROM smartbox.incidents AS i LEFT JOIN told AS t USING (service, incident_id)
	WHERE i.first_seen > (SELECT min(ts) + interval '1 day' FROM smartbox.detections)
		AND i.occurrence_count IS DISTINCT FROM t.detections}), 0, 'each incident has counted each of its detections once');

# Alerts: each at least once, in order, and always by the same key.
query("COPY public.received (key, answer) FROM '$folder/received'");
query(q{
	CREATE TABLE public.message AS
	SELECT d.*, smartbox.idempotency_key(d.service, d.incident_id, d.alert_number, d.receiver) AS key FROM smartbox.deliveries AS d;
	CREATE INDEX ON public.message (key); ANALYZE public.message, public.received});
is(query(q{SELECT count(*) FROM smartbox.alerts AS a WHERE NOT EXISTS (
	SELECT FROM public.message AS m WHERE m.service = a.service AND m.incident_id = a.incident_id AND m.alert_number = a.alert_number)}),
	0, 'each alert is to be delivered');
is(query(q{SELECT count(*) FROM public.message WHERE status NOT IN ('sent', 'skipped')}), 0, 'nothing is left to be delivered');
is(query(q{SELECT count(*) - count(DISTINCT key) FROM public.message}), 0, 'each message has a key of its own');
is(query(q{SELECT count(*) FROM public.message AS m WHERE m.status = 'sent' AND NOT EXISTS (SELECT FROM public.received AS r WHERE r.key = m.key)}),
	0, 'what was sent was received');
is(query(q{SELECT count(*) FROM public.received AS r WHERE NOT EXISTS (SELECT FROM public.message AS m WHERE m.key = r.key AND m.attempts > 0)}),
	0, 'what was received was sent');
is(query(q{
	SELECT count(*) FROM (
		SELECT m.alert_number, max(m.alert_number) OVER (PARTITION BY m.service, m.incident_id ORDER BY r.number) AS highest
		FROM public.received AS r JOIN public.message AS m USING (key)) AS x
	WHERE x.alert_number < x.highest}), 0, 'the messages about an incident came in order');
# a small fleet may have had nothing to tell
cmp_ok(query(q{SELECT count(*) FROM public.received}), '>=', int($n_services * $n_days / 40), 'there were messages');

is(query(q{
	SELECT count(*) FROM (
		SELECT bt_index_check(c.oid, true) FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
		WHERE c.relnamespace = 'smartbox'::regnamespace AND c.relkind = 'i' OFFSET 0) AS checked}) > 0, 1, 'each index fits its table');
is(query(q{SELECT count(*) FROM smartbox.jobs WHERE failures_in_a_row > 0 OR last_succeeded_at IS NULL}), 0, 'each job has ended well at last');

# A server that was started anew has more or fewer files open by some.
foreach my $what (sort keys %at_most)
{
	my $allowed = $what =~ /^kB/ ? 4096 : 10;
	cmp_ok($at_most{$what}, '<=', $at_first{$what} + $allowed, "$what: $at_first{$what} at first, at most $at_most{$what}");
}

# ---------- figures ----------

my $world_counts = ask_world('figures');
note("disturbances: " . join ', ', map { "$disturbed{$_} $_" } sort keys %disturbed);
note("the world: " . join ', ', map { "$world_counts->{$_} $_" } sort keys %$world_counts);
note(query(q{
	SELECT format('%s samples, %s services, %s detections, %s incidents, %s events, %s models; %s alerts, %s messages received, of which %s more than once; %s',
		(SELECT count(*) FROM smartbox.samples), (SELECT count(*) FROM smartbox.services), (SELECT count(*) FROM smartbox.detections),
		(SELECT count(*) FROM smartbox.incidents), (SELECT count(*) FROM smartbox.incident_events), (SELECT count(*) FROM smartbox.models),
		(SELECT count(*) FROM smartbox.alerts), (SELECT count(*) FROM public.received),
		(SELECT count(*) - count(DISTINCT key) FROM public.received), pg_size_pretty(pg_database_size(current_database())))}));
note($_) foreach split /\n/, query(q{
	SELECT format('%s: %s runs, %s failed; of the last 14 days: median %s ms, longest %s ms', j.job, j.runs, j.failures,
		round(1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM h.finished_at - h.started_at))::numeric),
		round(1000 * max(extract(epoch FROM h.finished_at - h.started_at)) FILTER (WHERE h.status = 'succeeded')))
	FROM smartbox.jobs AS j LEFT JOIN smartbox.job_history AS h USING (job) GROUP BY j.job, j.runs, j.failures ORDER BY j.job});
note(sprintf '%d slots with a cycle, %d samples compared; %.0f s in all, %.1f s for a day', $n_slots, $n_compared, time - $began, $loop_s / $n_days);
note(sprintf '%s', query(q{SELECT string_agg(DISTINCT h.job || ': ' || h.status || ': ' || split_part(h.error, E'\n', 1), E'\n') FROM smartbox.job_history AS h WHERE h.error IS NOT NULL}));

done_testing();
