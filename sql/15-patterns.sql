-- Hard rules, and the patterns that say what signals mean together.  Both are
-- rows: a limit or a situation of one's own is an INSERT, checked there.
--
-- Sessions keep what they read of both tables until a row of either changes:
-- the triggers called forget_patterns tell them.

CREATE FUNCTION smartbox.forget_patterns() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_forget_patterns';

COMMENT ON FUNCTION smartbox.forget_patterns() IS
    'trigger of rules and patterns: tells every session to read both again, once the change is committed';

-- ---------------------------------------------------------------------------
-- Rules
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.rules (
    service text NOT NULL DEFAULT '*'
        CHECK (length(service) BETWEEN 1 AND 200),
    metric text NOT NULL,
    comparison text NOT NULL
        CHECK (comparison IN ('above', 'below', 'above_expected_share', 'below_expected_share')),
    threshold double precision NOT NULL
        CHECK (threshold >= 0 AND threshold < 'Infinity'),
    severity smartbox.severity NOT NULL CHECK (severity <> 'none'),
    min_requests double precision NOT NULL DEFAULT 0
        CHECK (min_requests >= 0 AND min_requests < 'Infinity'),
    enabled boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    shipped boolean NOT NULL DEFAULT false,
    PRIMARY KEY (service, metric, comparison, severity),
    CHECK (NOT shipped OR service = '*')
);

COMMENT ON TABLE smartbox.rules IS 'limits that hold whatever a model has learnt, and without any model; a service''s own row takes the place of the one for all with the same metric, comparison and severity';
COMMENT ON COLUMN smartbox.rules.service IS 'the service; * is every service';
COMMENT ON COLUMN smartbox.rules.metric IS 'the metric';
COMMENT ON COLUMN smartbox.rules.comparison IS 'when it is broken: value above or below the threshold, or above or below that share of what is expected now';
COMMENT ON COLUMN smartbox.rules.threshold IS 'in the metric''s unit; of a share, 0.3 is 30 %';
COMMENT ON COLUMN smartbox.rules.severity IS 'of the anomaly that it makes, at least';
COMMENT ON COLUMN smartbox.rules.min_requests IS 'requests in the interval of a sample (expected ones, for a rule against low values) below which it says nothing';
COMMENT ON COLUMN smartbox.rules.enabled IS 'false: not in force; a service''s own row with false switches the one for all off for it';
COMMENT ON COLUMN smartbox.rules.description IS 'why it is there';
COMMENT ON COLUMN smartbox.rules.created_at IS 'when it was written; -infinity: came with the extension';
COMMENT ON COLUMN smartbox.rules.shipped IS 'came with the extension and was never changed; such rows are not dumped';

CREATE FUNCTION smartbox.check_rule() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM smartbox.metrics AS m WHERE m.metric = NEW.metric) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'foreign_key_violation',
            MESSAGE = format('metric "%s" is not known', NEW.metric),
            HINT = format('There are: %s.', (SELECT string_agg(m.metric, ', ' ORDER BY m.position) FROM smartbox.metrics AS m)),
            SCHEMA = 'smartbox',
            TABLE = 'rules',
            COLUMN = 'metric';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.check_rule() IS
    'trigger: a new rule is about a metric that exists';

CREATE FUNCTION smartbox.replace_shipped_rule() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.rules AS r
    WHERE r.service = NEW.service AND r.metric = NEW.metric
        AND r.comparison = NEW.comparison AND r.severity = NEW.severity AND r.shipped;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.replace_shipped_rule() IS
    'trigger: the shipped row gives way to a row of the same key, such as the one in a dump';

INSERT INTO smartbox.rules (metric, comparison, threshold, severity, min_requests, description, created_at, shipped)
VALUES
    ('error_rate', 'above', 0.05, 'critical', 10, 'one request in twenty fails', '-infinity', true),
    ('application_latency', 'above', 1000, 'high', 20, 'users wait for a second', '-infinity', true),
    ('application_latency', 'above', 2000, 'critical', 20, 'users wait for two seconds', '-infinity', true),
    ('request_rate', 'below_expected_share', 0.3, 'high', 30, 'most of the traffic is missing', '-infinity', true);

CREATE TRIGGER check_row BEFORE INSERT ON smartbox.rules
    FOR EACH ROW WHEN (NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.check_rule();

CREATE TRIGGER check_metric BEFORE UPDATE OF metric ON smartbox.rules
    FOR EACH ROW WHEN (NEW.metric <> OLD.metric)
    EXECUTE FUNCTION smartbox.check_rule();

CREATE TRIGGER replace_shipped BEFORE INSERT ON smartbox.rules
    FOR EACH ROW WHEN (NOT NEW.shipped AND NEW.service = '*')
    EXECUTE FUNCTION smartbox.replace_shipped_rule();

CREATE TRIGGER own_changed BEFORE UPDATE ON smartbox.rules
    FOR EACH ROW WHEN (OLD.shipped AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE TRIGGER keep_name BEFORE UPDATE ON smartbox.rules
    FOR EACH ROW WHEN (OLD.shipped AND (NEW.service, NEW.metric, NEW.comparison, NEW.severity)
                       IS DISTINCT FROM (OLD.service, OLD.metric, OLD.comparison, OLD.severity))
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set enabled to false and insert a rule of your own.');

CREATE TRIGGER keep_shipped BEFORE DELETE ON smartbox.rules
    FOR EACH ROW WHEN (OLD.shipped AND pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set enabled to false instead.');

CREATE TRIGGER forget_patterns AFTER INSERT OR UPDATE OR DELETE ON smartbox.rules
    FOR EACH ROW EXECUTE FUNCTION smartbox.forget_patterns();

-- ---------------------------------------------------------------------------
-- Patterns
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.patterns (
    pattern text PRIMARY KEY
        CHECK (pattern ~ '^[a-z][a-z0-9_]{0,62}$'),
    priority integer NOT NULL DEFAULT 0,
    severity smartbox.severity NOT NULL CHECK (severity <> 'none'),
    conditions jsonb NOT NULL,
    message text NOT NULL CHECK (message <> ''),
    interpretation text NOT NULL DEFAULT '',
    possible_causes text[] NOT NULL DEFAULT '{}'
        CHECK (cardinality(possible_causes) <= 5 AND array_position(possible_causes, NULL) IS NULL),
    recommended_actions text[] NOT NULL DEFAULT '{}'
        CHECK (cardinality(recommended_actions) <= 5 AND array_position(recommended_actions, NULL) IS NULL),
    enabled boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    shipped boolean NOT NULL DEFAULT false
);

COMMENT ON TABLE smartbox.patterns IS 'what signals mean together: the first pattern that matches an anomaly says so in words';
COMMENT ON COLUMN smartbox.patterns.pattern IS 'name, in lower case';
COMMENT ON COLUMN smartbox.patterns.priority IS 'order among those that match, smallest first; your own come before the shipped ones unless you say otherwise';
COMMENT ON COLUMN smartbox.patterns.severity IS 'how bad such a situation is: the severity of the anomaly is at most one step away from it';
COMMENT ON COLUMN smartbox.patterns.conditions IS 'what must hold, all of it: levels, limits, shares and trends of metrics, changes of state, the state of dependencies';
COMMENT ON COLUMN smartbox.patterns.message IS 'the description of the anomaly; {application_latency}, {request_rate.expected}, {service} and the like stand for what they name, in all texts of the row';
COMMENT ON COLUMN smartbox.patterns.interpretation IS 'what it means';
COMMENT ON COLUMN smartbox.patterns.possible_causes IS 'what may be behind it, likeliest first, at most 5';
COMMENT ON COLUMN smartbox.patterns.recommended_actions IS 'what to do, in order, at most 5';
COMMENT ON COLUMN smartbox.patterns.enabled IS 'false: never matches';
COMMENT ON COLUMN smartbox.patterns.description IS 'when it matches, for people';
COMMENT ON COLUMN smartbox.patterns.created_at IS 'when it was written; -infinity: came with the extension';
COMMENT ON COLUMN smartbox.patterns.shipped IS 'came with the extension and was never changed; such rows are not dumped';

CREATE FUNCTION smartbox.check_pattern() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_check_pattern';

COMMENT ON FUNCTION smartbox.check_pattern() IS
    'trigger: a new or changed pattern has conditions that can be read, and placeholders and metrics that exist';

CREATE FUNCTION smartbox.replace_shipped_pattern() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.patterns AS p
    WHERE p.pattern = NEW.pattern AND p.shipped;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.replace_shipped_pattern() IS
    'trigger: the shipped row gives way to a row of the same name, such as the one in a dump';

INSERT INTO smartbox.patterns
    (pattern, priority, severity, conditions, message, interpretation,
     possible_causes, recommended_actions, description, created_at, shipped)
VALUES
    ('traffic_surge_failing', 100, 'critical',
     '{"request_rate": "high", "application_latency": "high", "error_rate": "high"}',
     'traffic is {request_rate.times} ({request_rate}), and {service} answers slowly ({application_latency}) and fails {error_rate} of its requests',
     'More requests arrive than {service} can serve: it is past its capacity, and users see errors.',
     ARRAY['a campaign, an event or a viral link',
           'clients that retry in a storm',
           'an attack or a crawler gone wild',
           'capacity that was taken away'],
     ARRAY['Add instances of {service} now, or raise its limits.',
           'Shed or rate-limit the least important traffic.',
           'Look at who sends the additional requests: clients, addresses, endpoints.',
           'Keep the last deployment ready to be rolled back if it came shortly before.'],
     'more traffic than it can take: slow and failing', '-infinity', true),
    ('reduced_traffic_with_errors', 110, 'critical',
     '{"request_rate": "low", "application_latency": "low", "error_rate": "high"}',
     'only {request_rate} arrive ({request_rate.expected} expected), and {error_rate} of them fail within {application_latency}',
     'Few requests reach {service}, and those that do are turned away at once: something in front of it or at its door is broken.',
     ARRAY['a load balancer or an ingress with a wrong configuration',
           'name resolution or certificates',
           'an outage of a service that calls this one',
           'a start that only some instances survived'],
     ARRAY['Check load balancer, ingress and health checks.',
           'Try to reach {service} from outside, by name and by address.',
           'See which instances are up, and read why the others are not.',
           'Compare with the change log of network and certificates.',
           'Ask the owners of the callers what they see.'],
     'little traffic, quick failures', '-infinity', true),
    ('fast_rejection', 120, 'critical',
     '{"application_latency": "very_low", "error_rate": "very_high"}',
     '{error_rate} of the requests fail, within {application_latency} instead of {application_latency.expected}',
     'Requests are rejected before any work is done for them.',
     ARRAY['a circuit breaker that is open',
           'a rate limiter with too small a limit',
           'rejected credentials',
           'an instance that answers before it is ready'],
     ARRAY['Split the errors by status code: 401, 403, 429, 500, 503.',
           'Look at circuit breakers and rate limiters on the way.',
           'Check whether tokens or certificates have expired.',
           'See what was deployed or configured last.'],
     'most requests are turned away at once', '-infinity', true),
    ('fast_failure', 130, 'critical',
     '{"application_latency": "low", "error_rate": "very_high"}',
     '{error_rate} of the requests fail, and answers take {application_latency} instead of {application_latency.expected}',
     'Requests fail early in their processing, so that answers are quicker than usual.',
     ARRAY['a dependency that refuses connections',
           'an exception at the start of the processing',
           'an empty connection pool',
           'a deployment with a fault'],
     ARRAY['Read the most frequent exception in the logs.',
           'Split the errors by status code and endpoint.',
           'Check that dependencies accept connections.',
           'Roll the last deployment back if it fits in time.'],
     'requests fail early', '-infinity', true),
    ('partial_fast_fail', 140, 'high',
     '{"application_latency": "low", "error_rate": "high"}',
     '{error_rate} of the requests fail ({error_rate.expected} expected), and answers take {application_latency} instead of {application_latency.expected}',
     'Some kinds of requests are rejected early, while others are served.',
     ARRAY['one endpoint or one client that is refused',
           'requests that no longer validate',
           'a permission or a token that ended',
           'a feature that was switched off'],
     ARRAY['Find out which endpoints and which clients fail.',
           'Look at 400, 401 and 403 in particular.',
           'Compare with recent changes of clients and permissions.'],
     'some requests are rejected early', '-infinity', true),
    ('partial_outage', 150, 'critical',
     '{"request_rate": ["normal", "absent"], "application_latency": ["normal", "absent"], "error_rate": "very_high"}',
     '{error_rate} of the requests fail ({error_rate.expected} expected), at normal traffic and latency',
     'A part of {service} is out of order: some requests fail, and the others are served as usual.',
     ARRAY['one code path or feature with a fault',
           'one of several instances is broken',
           'a dependency that only some requests need',
           'a deployment that is half rolled out'],
     ARRAY['Group the failing requests by endpoint and by instance.',
           'Read the error that is new.',
           'Take a broken instance out of the rotation.',
           'Roll the last deployment back if it fits in time.'],
     'one part fails, the rest works', '-infinity', true),
    ('traffic_cliff', 160, 'critical',
     '{"request_rate": "very_low"}',
     'traffic is down to {request_rate}, {request_rate.expected} is expected now',
     'Most requests that should arrive at this time of the week do not.',
     ARRAY['a load balancer, an ingress or name resolution',
           'a caller that is down or was switched over',
           'a planned event that nobody entered',
           'metrics that are lost on their way'],
     ARRAY['Check that {service} can be reached from outside.',
           'Look at load balancer and name resolution.',
           'Ask whether its callers are up, and see their own incidents.',
           'Check for a planned event or a holiday.',
           'Make sure that the metrics are complete.'],
     'most of the traffic is missing', '-infinity', true),
    ('traffic_surge_degrading', 170, 'high',
     '{"request_rate": "high", "application_latency": "high", "error_rate": "not_high"}',
     'traffic is {request_rate.times} ({request_rate}), and answers take {application_latency} instead of {application_latency.expected}',
     '{service} comes near its capacity: it slows down but does not fail yet.',
     ARRAY['more users than planned for',
           'a batch or a crawler',
           'retries of a caller',
           'capacity that was taken away'],
     ARRAY['Add instances before errors begin.',
           'Look at processor, memory and connection pools for the resource that ends first.',
           'Find out where the additional traffic comes from.',
           'Slow down what can wait.'],
     'more traffic, slower answers', '-infinity', true),
    ('flapping_service', 180, 'high',
     '{"state_changes": {"at_least": 4}}',
     '{service} went back and forth between normal and not normal {state_changes} times within the last hour or so',
     'It is neither well nor down: something recovers and fails again.',
     ARRAY['instances that restart in a loop',
           'a resource right at its limit',
           'health checks that take instances in and out',
           'a dependency that comes and goes'],
     ARRAY['Look for restarts and failing health checks.',
           'Check memory and connection limits.',
           'See whether a dependency has the same rhythm.',
           'Do not trust a short recovery: watch for an hour.'],
     'changes between well and unwell again and again', '-infinity', true),
    ('recovery_in_progress', 190, 'low',
     '{"any_of": [{"application_latency": {"level": "high", "trend": "falling"}, "error_rate": {"level": "not_high"}}, {"error_rate": {"level": "high", "trend": "falling"}, "application_latency": {"level": "not_high"}}, {"application_latency": {"level": "high", "trend": "falling"}, "error_rate": {"level": "high", "trend": "falling"}}]}',
     '{service} is on its way back: answers take {application_latency} ({application_latency.expected} expected), {error_rate} of the requests fail',
     'What was wrong gets better, and is not over yet.',
     ARRAY['somebodys fix begins to work',
           'a backlog that is worked off',
           'load that goes down again'],
     ARRAY['Confirm with who works on it that the fix is in.',
           'Watch until the values are back in their band.',
           'Write down what helped.'],
     'still unusual, and getting better', '-infinity', true),
    ('dependency_chain_degradation', 200, 'high',
     '{"application_latency": "high", "dependencies": "chain"}',
     'answers take {application_latency} instead of {application_latency.expected}, with several services in the chain below affected, down to {dependency}',
     'The trouble comes from further down the chain of calls; {dependency} is the service furthest down that is not well.',
     ARRAY['a fault in a service that many build on',
           'a network segment that they share',
           'retries that multiply along the chain'],
     ARRAY['Begin with {dependency}; the rest follows from it.',
           'Look for a network or platform event that they share.',
           'Stop retries that add load to the chain.',
           'Let circuit breakers cut it off if it takes longer.'],
     'several services in a row are unwell', '-infinity', true),
    ('upstream_cascade', 210, 'high',
     '{"application_latency": "high", "dependency_latency": "high", "dependencies": "anomalous"}',
     'answers take {application_latency} instead of {application_latency.expected}, and calls to other services {dependency_latency}; {dependency} has an incident of its own',
     '{service} waits for {dependency}, which is where the trouble seems to come from.',
     ARRAY['{dependency} is slow or overloaded',
           'the network between the two',
           'timeouts and retries that are too generous'],
     ARRAY['Look at the incident of {dependency} first.',
           'Shorten timeouts or open the circuit breaker towards it.',
           'Serve a reduced answer without it, if there is one.',
           'Watch {service} while {dependency} recovers.'],
     'slow because a service it calls is', '-infinity', true),
    ('database_bottleneck', 220, 'high',
     '{"application_latency": "high", "database_latency": "high", "any_of": [{"database_latency": {"share": {"of": "application_latency", "above": 0.7}}}, {"database_latency": {"share_of_rise": {"of": "application_latency", "above": 0.5}}}]}',
     'answers take {application_latency} instead of {application_latency.expected}, with database calls at {database_latency} instead of {database_latency.expected}',
     'The database accounts for most of the time that requests take, or of what they take more than usual.',
     ARRAY['a query without a suitable index, or a plan that changed',
           'locks that wait for each other',
           'an exhausted connection pool',
           'processor or storage of the database at its limit',
           'a migration, a backup or a batch'],
     ARRAY['List the slowest and the longest waiting queries.',
           'Check the waits for connections in the pool.',
           'Look at processor and storage of the database.',
           'See whether a plan, a tables size or a deployment changed.',
           'Stop a batch or migration that runs now.'],
     'the database takes most of the time', '-infinity', true),
    ('downstream_cascade', 230, 'high',
     '{"application_latency": "high", "dependency_latency": "high", "any_of": [{"dependency_latency": {"share": {"of": "application_latency", "above": 0.6}}}, {"dependency_latency": {"share_of_rise": {"of": "application_latency", "above": 0.5}}}]}',
     'answers take {application_latency} instead of {application_latency.expected}, with calls to other services at {dependency_latency} instead of {dependency_latency.expected}',
     '{service} spends its time waiting for other services.',
     ARRAY['a service that it calls is slow',
           'an external provider with trouble',
           'the network on the way',
           'timeouts and retries that are too generous'],
     ARRAY['Find the call that takes longest.',
           'Look at the state of that service or provider.',
           'Shorten the timeout or open the circuit breaker.',
           'Use a cache or a fallback until it is well again.'],
     'waits for other services', '-infinity', true),
    ('resource_contention', 240, 'high',
     '{"application_latency": "high", "error_rate": "high", "request_rate": "not_high"}',
     'answers take {application_latency} instead of {application_latency.expected} and {error_rate} of them are errors, without more traffic than usual',
     '{service} is slow and fails at a load that it usually serves: something that it needs has run short.',
     ARRAY['processor that is throttled or taken by a neighbour',
           'memory at its limit, and long garbage collections',
           'threads, connections or file descriptors used up',
           'a deployment that needs more than before'],
     ARRAY['Compare processor, memory and pool usage with yesterday.',
           'Look for throttling and restarts.',
           'See what else runs on the same machines.',
           'Roll the last deployment back if it fits in time.'],
     'slow and failing at usual traffic', '-infinity', true),
    ('gradual_degradation', 250, 'medium',
     '{"any_of": [{"application_latency": {"level": "high", "trend": "rising"}}, {"error_rate": {"level": "high", "trend": "rising"}}]}',
     '{service} has been getting worse step by step: answers take {application_latency} ({application_latency.expected} expected), {error_rate} of the requests fail',
     'Nothing broke at once; something fills up, grows or leaks.',
     ARRAY['a memory leak',
           'a table or an index that outgrew its cache',
           'a queue that is filled faster than it is emptied',
           'a disk that is nearly full'],
     ARRAY['Look for what rises in the same way: memory, queue length, table size, disk.',
           'Restart one instance and see whether it is better.',
           'Work out when it becomes critical at this pace.',
           'Add capacity if that is soon.'],
     'worse step by step', '-infinity', true),
    ('elevated_errors', 260, 'high',
     '{"request_rate": ["normal", "absent"], "application_latency": ["normal", "absent"], "error_rate": "high"}',
     '{error_rate} of the requests fail, {error_rate.expected} is expected, at normal traffic and latency',
     'More requests fail than usual; {service} is well otherwise.',
     ARRAY['a fault in one feature',
           'input that it does not expect',
           'a dependency that fails now and then',
           'a recent deployment'],
     ARRAY['Group the errors by type and by endpoint.',
           'Compare with what was deployed or configured last.',
           'Check the dependencies of the endpoints that fail.'],
     'more errors than usual', '-infinity', true),
    ('isolated_service_issue', 270, 'high',
     '{"application_latency": "high", "dependency_latency": "not_high", "database_latency": "not_high", "dependencies": "healthy"}',
     'answers take {application_latency} instead of {application_latency.expected}, while everything that {service} calls is well',
     'The cause is within {service} itself.',
     ARRAY['processor or memory at its limit',
           'long garbage collections',
           'lock contention or a full thread pool',
           'a deployment'],
     ARRAY['Look at processor, memory and garbage collection.',
           'Take a profile or a thread dump of a slow instance.',
           'Compare instances with each other.',
           'Roll the last deployment back if it fits in time.'],
     'slow by itself, what it calls is well', '-infinity', true),
    ('recent_degradation', 280, 'high',
     '{"request_rate": ["normal", "absent"], "application_latency": {"level": "high", "trend": "sudden_rise"}, "error_rate": "not_high"}',
     'answers take {application_latency} all of a sudden, {application_latency.expected} is expected, without more traffic',
     'Something changed within the last few samples.',
     ARRAY['a deployment or a configuration',
           'a cache that was emptied',
           'a query plan that changed',
           'a neighbour on the same machine'],
     ARRAY['See what was deployed or configured in the last half hour.',
           'Check caches and their hit rates.',
           'Compare a slow trace with one from before.'],
     'slower all of a sudden', '-infinity', true),
    ('internal_bottleneck', 290, 'high',
     '{"request_rate": ["normal", "absent"], "application_latency": "high", "dependency_latency": "not_high", "database_latency": "not_high", "error_rate": "not_high"}',
     'answers take {application_latency} instead of {application_latency.expected}, and neither traffic, nor the database, nor other services explain it',
     '{service} itself takes the time.',
     ARRAY['processor that is throttled',
           'long garbage collections',
           'too few threads, or locks',
           'code that became slower'],
     ARRAY['Look at processor throttling and garbage collection.',
           'Take a profile or a thread dump.',
           'Follow a slow request in the traces.',
           'Compare with what was deployed last.'],
     'the service itself is slow', '-infinity', true),
    ('database_degradation', 300, 'medium',
     '{"database_latency": "high", "application_latency": "not_high", "error_rate": "not_high"}',
     'database calls take {database_latency} instead of {database_latency.expected}; answers still take {application_latency}',
     'The database is slow, and {service} makes up for it so far: an early warning.',
     ARRAY['queries without a suitable index',
           'storage or processor of the database near its limit',
           'replication that lags behind',
           'a batch, a backup or a migration'],
     ARRAY['Read the log of slow queries.',
           'Look at processor, storage and connections of the database.',
           'Check the replication lag.',
           'See whether a batch or backup runs.'],
     'the database is slow, users do not notice yet', '-infinity', true),
    ('performance_degradation', 310, 'medium',
     '{"application_latency": "high"}',
     'answers take {application_latency}, {application_latency.expected} is expected',
     '{service} is slower than it should be.',
     ARRAY['load that is spread unevenly',
           'a dependency or the database',
           'resources near their limit',
           'a recent deployment'],
     ARRAY['Follow slow requests in the traces.',
           'Compare processor, memory and pools with yesterday.',
           'Check the services and databases that it calls.',
           'See what was deployed last.'],
     'slow, for no reason that another pattern knows', '-infinity', true),
    ('traffic_surge_healthy', 320, 'low',
     '{"request_rate": "high", "application_latency": "not_high", "error_rate": "not_high"}',
     'traffic is {request_rate.times} ({request_rate}), and {service} serves it as well as ever',
     'More load than usual, which {service} takes.',
     ARRAY['a campaign or an event',
           'a batch or a crawler',
           'a caller that retries'],
     ARRAY['Watch latency and errors while it lasts.',
           'Find out where it comes from.',
           'Think of more capacity if it is to stay.'],
     'more traffic, served well', '-infinity', true),
    ('error_rate_high', 400, 'high',
     '{"error_rate": "high"}',
     '{error_rate} of the requests fail, {error_rate.expected} is expected',
     'More requests fail than should.',
     ARRAY['a deployment or a configuration',
           'a dependency that fails',
           'input that it does not expect',
           'resources at their limit'],
     ARRAY['Read the most frequent new error in the logs.',
           'Group the errors by status code and endpoint.',
           'Check dependencies and databases.',
           'Roll the last deployment back if it fits in time.'],
     'errors, when no other pattern knows more', '-infinity', true),
    ('request_rate_low', 410, 'high',
     '{"request_rate": "low"}',
     'only {request_rate} arrive, {request_rate.expected} is expected now',
     'Some of the requests that should arrive at this time of the week do not.',
     ARRAY['a caller with trouble of its own',
           'a route or a client that was switched off',
           'a planned event or a holiday'],
     ARRAY['See whether the callers have incidents.',
           'Find out which endpoint or client is missing.',
           'Enter planned events, so that they are expected.'],
     'less traffic, when no other pattern knows more', '-infinity', true),
    ('request_rate_high', 420, 'medium',
     '{"request_rate": "high"}',
     'traffic is {request_rate.times}: {request_rate} instead of {request_rate.expected}',
     'More requests arrive than usual at this time of the week.',
     ARRAY['a campaign or an event',
           'a batch or a crawler',
           'a caller that retries'],
     ARRAY['Find out where the traffic comes from.',
           'Watch latency, errors and capacity.'],
     'more traffic, when no other pattern knows more', '-infinity', true),
    ('database_latency_high', 430, 'medium',
     '{"database_latency": "high"}',
     'database calls take {database_latency}, {database_latency.expected} is expected',
     'The database answers slower than usual at this time of the week.',
     ARRAY['queries that became slower',
           'resources of the database near their limit',
           'a batch, a backup or a migration'],
     ARRAY['Read the log of slow queries.',
           'Look at processor, storage and connections of the database.'],
     'a slow database, when no other pattern knows more', '-infinity', true),
    ('dependency_latency_high', 440, 'medium',
     '{"dependency_latency": "high"}',
     'calls to other services take {dependency_latency}, {dependency_latency.expected} is expected',
     'A service that {service} calls answers slower than usual.',
     ARRAY['a service that it calls is slow',
           'an external provider with trouble',
           'the network on the way'],
     ARRAY['Find the call that takes longest.',
           'Look at the state of that service or provider.'],
     'slow calls, when no other pattern knows more', '-infinity', true);

CREATE TRIGGER check_row BEFORE INSERT ON smartbox.patterns
    FOR EACH ROW WHEN (NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.check_pattern();

CREATE TRIGGER check_change BEFORE UPDATE ON smartbox.patterns
    FOR EACH ROW EXECUTE FUNCTION smartbox.check_pattern();

CREATE TRIGGER replace_shipped BEFORE INSERT ON smartbox.patterns
    FOR EACH ROW WHEN (NOT NEW.shipped)
    EXECUTE FUNCTION smartbox.replace_shipped_pattern();

CREATE TRIGGER own_changed BEFORE UPDATE ON smartbox.patterns
    FOR EACH ROW WHEN (OLD.shipped AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE TRIGGER keep_name BEFORE UPDATE ON smartbox.patterns
    FOR EACH ROW WHEN (OLD.shipped AND NEW.pattern <> OLD.pattern)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set enabled to false and insert a pattern of your own.');

CREATE TRIGGER keep_shipped BEFORE DELETE ON smartbox.patterns
    FOR EACH ROW WHEN (OLD.shipped AND pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set enabled to false instead.');

CREATE TRIGGER forget_patterns AFTER INSERT OR UPDATE OR DELETE ON smartbox.patterns
    FOR EACH ROW EXECUTE FUNCTION smartbox.forget_patterns();

CREATE FUNCTION smartbox.try_patterns(
    situation jsonb,
    OUT rank integer, OUT pattern text, OUT severity smartbox.severity, OUT message text,
    OUT interpretation text, OUT possible_causes text[], OUT recommended_actions text[])
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000 ROWS 5
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_try_patterns';

COMMENT ON FUNCTION smartbox.try_patterns(jsonb) IS
    'the patterns that match a situation, best first, with their texts: {"application_latency": {"level": "high", "value": 900, "expected": 120, "trend": "rising"}, "error_rate": "normal"}; a metric that is left out has no value';

SELECT pg_catalog.pg_extension_config_dump('smartbox.rules', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('smartbox.patterns', 'WHERE NOT shipped');
