# Nobody gets more by preparing something: not by objects that wait for the
# extension, not by names that shadow the server's, not by the name of a service.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils ();
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('attacks',
	"smartbox_anomaly.vm_endpoint = '" . $fake->url('source') . "'", "smartbox_anomaly.vm_bearer_token_file = '$folder/token'");

open my $token, '>', "$folder/token" or die $!;
print $token "the-secret\n";
close $token;
chmod 0600, "$folder/token";
$fake->answer($_) foreach qw(webhook observability oncall);

# What a session says on both channels, whatever fails in it.
sub say
{
	my ($statements) = @_;
	my ($answer, $errors) = ('', '');

	$node->psql('shop', $statements, stdout => \$answer, stderr => \$errors, on_error_stop => 0);
	return ($answer, $errors);
}

# Calls of all functions of the extension that a role may execute, with
# arguments of the right types.
sub calls
{
	my ($role) = @_;

	return $node->safe_psql('shop', qq{
		SELECT CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT x FROM ' END || p.pronamespace::regnamespace || '.' || quote_ident(p.proname) || '('
			|| coalesce((SELECT string_agg(CASE
				WHEN t.typname IN ('text', 'jsonb', 'json') THEN quote_literal(CASE t.typname WHEN 'text' THEN 'booking' ELSE '{}' END)
				WHEN t.typname = 'timestamptz' THEN quote_literal('2026-03-10 10:00+00')
				WHEN t.typname = 'interval' THEN quote_literal('1 day')
				WHEN t.typname = 'bytea' THEN quote_literal('\\x00')
				WHEN t.typname = 'tstzrange' THEN quote_literal('empty')
				WHEN t.typname = '_timestamptz' THEN quote_literal('{}')
				WHEN t.typcategory = 'A' THEN quote_literal('{1,2}')
				WHEN t.typcategory = 'B' THEN 'true'
				WHEN t.typcategory = 'N' THEN '1'
				WHEN t.typcategory = 'C' THEN 'NULL'
				ELSE quote_literal('low') END || '::pg_catalog.' || CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN quote_ident(t.typname)
					ELSE 'text::' || t.typnamespace::regnamespace || '.' || quote_ident(t.typname) END, ', ' ORDER BY a.n)
			FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, n) JOIN pg_type AS t ON t.oid = a.type), '') || ')'
			|| CASE p.prokind WHEN 'p' THEN '' ELSE ' AS x' END || ';'
		FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
			JOIN pg_proc AS p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
		WHERE d.deptype = 'e' AND x.extname = 'smartbox_anomaly' AND p.prokind IN ('f', 'p') AND p.prorettype <> 'trigger'::regtype
			AND NOT 'internal'::regtype = ANY (p.proargtypes) AND has_function_privilege('$role', p.oid, 'EXECUTE')
		ORDER BY p.oid::regprocedure::text} );
}

sub relations
{
	return split /\n/, $node->safe_psql('shop', q{
		SELECT d.objid::regclass FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
			JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'smartbox_anomaly' AND c.relkind IN ('r', 'v')});
}

# ---------- what waits for the extension ----------

$node->safe_psql('postgres', 'CREATE ROLE mallory; CREATE DATABASE trap');
foreach my $trap (
	[ 'CREATE SCHEMA smartbox AUTHORIZATION mallory', 'DROP SCHEMA smartbox', qr/ERROR:  schema "smartbox" already exists/ ],
	[ 'CREATE SCHEMA smartbox AUTHORIZATION mallory; SET ROLE mallory; CREATE TABLE smartbox.services (service text)', 'DROP SCHEMA smartbox CASCADE',
		qr/ERROR:  schema "smartbox" already exists/ ],
	[ 'SET ROLE mallory; CREATE FUNCTION public.detect_anomalies(text, timestamptz) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$',
		'DROP FUNCTION public.detect_anomalies', qr/ERROR:  function "detect_anomalies" already exists with same argument types/ ],
	[ 'SET ROLE mallory; CREATE PROCEDURE public.run_cycle() LANGUAGE sql AS $$ SELECT 1 $$',
		'DROP PROCEDURE public.run_cycle', qr/ERROR:  function "run_cycle" already exists with same argument types/ ])
{
	$node->safe_psql('trap', "GRANT CREATE ON SCHEMA public TO mallory; $trap->[0]");
	like(($node->psql('trap', 'CREATE EXTENSION smartbox_anomaly'))[2], $trap->[2], "not adopted: $trap->[0]");
	is($node->safe_psql('trap', q{SELECT count(*) FROM pg_extension WHERE extname = 'smartbox_anomaly'}), 0, '... and nothing is left of it');
	$node->safe_psql('trap', $trap->[1]);
}

# ---------- what a reader can reach ----------

$node->safe_psql('shop', q{
	CREATE ROLE reader;
	GRANT USAGE ON SCHEMA smartbox TO reader;
	GRANT SELECT ON ALL TABLES IN SCHEMA smartbox TO reader;
	INSERT INTO smartbox.services (service) VALUES ('booking');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT 'booking', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes',
		ARRAY[10 + sin(n * 12.9898), 100 + 5 * sin(n * 78.233), 50 + sin(n * 39.425), 5 + 0.1 * sin(n * 11.135), 0.001]
	FROM generate_series(1, 2000) AS n});
my @calls = split /\n/, calls('reader');
cmp_ok(scalar @calls, '>', 10, 'a reader may call some functions');
my ($answer, $errors) = say("SET ROLE reader; BEGIN READ ONLY;\n" . join("\n", map { "SAVEPOINT a; $_ ROLLBACK TO a;" } @calls) . "\nCOMMIT;");
unlike($errors, qr/read-only|does not exist|syntax error/, '... none of which writes')
  or diag($errors);
($answer, $errors) = say("SET ROLE reader;\n" . join "\n", map { "SELECT t::pg_catalog.text FROM $_ AS t;" } relations());
is($errors, '', 'it reads each table and view');
my $seen = $answer;
($answer, $errors) = say(qq{SET ROLE reader; SELECT score_to_severity(0);
	SELECT name, setting FROM pg_settings WHERE name LIKE 'smartbox%'; SELECT * FROM pg_stat_activity; SELECT pg_read_file('$folder/token')}) if $answer !~ /the-secret/;
unlike($seen . $answer . $errors, qr/the-secret/, '... none of which shows a secret');
like($errors, qr/permission denied for function pg_read_file/, '... nor does the file');
is(scalar $fake->requests, 0, 'no request has gone out');
foreach my $attempt ('CREATE TRIGGER t BEFORE INSERT ON smartbox.detections FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE POLICY p ON smartbox.samples USING (true)', 'CREATE RULE r AS ON INSERT TO smartbox.alerts DO INSTEAD NOTHING',
	'CREATE VIEW smartbox.own AS SELECT 1', 'CREATE TABLE smartbox.own ()', 'CREATE INDEX ON smartbox.samples (ts)',
	'CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION mine()', 'ALTER TABLE smartbox.services DISABLE TRIGGER ALL',
	'BEGIN; LOCK smartbox.jobs IN ACCESS EXCLUSIVE MODE', 'TRUNCATE smartbox.samples', 'COPY smartbox.samples FROM STDIN')
{
	like((say("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; SET ROLE reader; $attempt"))[1], qr/permission denied|must be owner/, "a reader may not: $attempt");
}

# ---------- names that shadow the server's ----------

$node->safe_psql('shop', q{
	CREATE SCHEMA evil AUTHORIZATION mallory;
	GRANT USAGE ON SCHEMA evil TO PUBLIC;
	SET ROLE mallory;
	DO $do$
	DECLARE
		types CONSTANT oid[] := ARRAY['text', 'name', 'smallint', 'integer', 'bigint', 'double precision', 'numeric', 'boolean', 'timestamptz', 'timestamp', 'time',
			'date', 'interval', 'jsonb', 'json', 'text[]', 'double precision[]', 'bytea', 'oid', '"char"', 'tstzrange', 'smartbox.severity', 'regproc', 'regclass']::regtype[]::oid[];
		it record;
	BEGIN
		FOR it IN
			SELECT p.proname, p.prorettype::regtype AS result, (SELECT string_agg(a.type::regtype::text, ', ' ORDER BY a.n) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, n)) AS arguments
			FROM pg_proc AS p
			WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
				AND p.prorettype = ANY (types) AND p.proargtypes::oid[] <@ types
			UNION ALL
			SELECT f, 'text', a FROM unnest('{format,concat}'::text[]) AS f,
				unnest('{"text, text","text, integer","text, bigint","text, text, text","text, bigint, bigint","text, bigint, bigint, bigint","text, bigint, bigint, timestamptz"}'::text[]) AS a
			UNION ALL
			SELECT 'jsonb_build_object', 'jsonb', a FROM unnest('{"text, text","text, bigint","text, text, text, bigint"}'::text[]) AS a
		LOOP
			EXECUTE format($$CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS 'BEGIN RAISE ''attacked by a function''; END'$$, it.proname, it.arguments, it.result);
		END LOOP;
		FOR it IN
			SELECT o.oprname, o.oprleft::regtype::text AS l, o.oprright::regtype::text AS r, o.oprresult::regtype::text AS result
			FROM pg_operator AS o
			WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft = ANY (types) AND o.oprright = ANY (types) AND o.oprresult = ANY (types)
			UNION ALL
			SELECT o, t::text, t::text, 'boolean' FROM unnest('{=,<>,<,>,<=,>=}'::text[]) AS o, unnest('{text[],double precision[],smartbox.severity}'::regtype[]) AS t
			UNION ALL
			SELECT '||', l, r, 'text' FROM (VALUES ('text', 'integer'), ('text', 'bigint'), ('text', 'double precision'), ('integer', 'text'), ('text', 'smartbox.severity')) AS v(l, r)
		LOOP
			EXECUTE format($$CREATE FUNCTION evil.operator_%s_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS 'BEGIN RAISE ''attacked by an operator''; END'$$,
				encode(it.oprname::text::bytea, 'hex'), md5(it.l || it.r), it.l, it.r, it.result);
			EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.operator_%s_%s)', it.oprname, it.l, it.r,
				encode(it.oprname::text::bytea, 'hex'), md5(it.l || it.r));
		END LOOP;
	END
	$do$});
cmp_ok($node->safe_psql('shop', q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace}), '>', 1000, 'a schema is full of traps');
like((say(q{SET search_path = evil, pg_catalog; SELECT 'a' || 1; SELECT lower('X')}))[1], qr/attacked by an operator(?s:.*)attacked by a function/, '... that spring');

# In front of that temporary tables and types, which any session looks at first.
my $shadows = join '', (map { "CREATE TEMP TABLE $_ ();\n" } qw(pg_extension pg_class pg_roles pg_database pg_proc pg_namespace), map { s/.*\.//r } relations()),
  (map { "CREATE DOMAIN pg_temp.$_ AS pg_catalog.int4 CONSTRAINT attacked_by_a_type CHECK (false);\n" } qw(text timestamptz jsonb interval severity));
$node->safe_psql('shop', q{INSERT INTO smartbox.receivers (receiver, kind, url) SELECT k, k, $$} . $fake->url('webhook') . q{$$ FROM unnest('{webhook}'::text[]) AS k; SELECT arm_delivery()});
($answer, $errors) = say("LOAD 'smartbox_anomaly'; SET smartbox_anomaly.vm_endpoint = '';\n$shadows SET search_path = evil, pg_catalog;\n" . join("\n", map { "SELECT t::pg_catalog.text FROM $_ AS t;" } relations()) . q{
	SELECT x FROM public.train_models('{booking}') AS x;
	INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES
		('booking', '2020-01-15 10:00+00', true, '{"anomalies": [{"name": "slow", "severity": "high"}]}'),
		('booking', '2020-01-15 10:05+00', true, '{"anomalies": [{"name": "slow", "severity": "high"}]}');
	SELECT x FROM public.acknowledge_incident((SELECT i.incident_id FROM smartbox.incidents AS i LIMIT 1)) AS x;
	SELECT x FROM public.silence('booking', until => '2100-01-01') AS x;
	CALL public.run_cycle();
	CALL public.deliver_alerts();
	CALL public.apply_retention();
	SELECT x FROM public.system_status() AS x;
	UPDATE smartbox.jobs SET at_local = '03:00' WHERE job OPERATOR(pg_catalog.=) 'train';
} . calls('postgres'));
unlike($errors, qr/transaction is aborted/, 'no function leaves a transaction behind when it fails');
unlike($errors, qr/attacked/, 'nothing that the extension does steps into one') or diag(grep { /attacked/ } split /^/, $errors);
cmp_ok($node->safe_psql('shop', q{SELECT count(*) FROM smartbox.models WHERE is_active}), '>', 0, '... although it has trained');
is($node->safe_psql('shop', q{SELECT string_agg(status::text, ' ') FROM smartbox.deliveries}), 'sent', '... and delivered');

done_testing();
