-- Rules and patterns: what is refused when it is inserted, and what each
-- shipped pattern says of a situation.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT no_plan();

CREATE FUNCTION pg_temp.best(situation jsonb) RETURNS text LANGUAGE sql AS
    $$ SELECT pattern FROM smartbox.try_patterns(situation) WHERE rank = 1 $$;

-- Of each pattern a situation in which it is the best, and a near miss in
-- which it does not match.  What is "normal" here is normal, the rest absent.
CREATE TEMP TABLE example (pattern text PRIMARY KEY, matches jsonb NOT NULL, misses jsonb NOT NULL);
CREATE FUNCTION pg_temp.usual(changes jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT '{"request_rate": "normal", "application_latency": "normal", "dependency_latency": "normal",
                "database_latency": "normal", "error_rate": "normal"}'::jsonb || changes $$;
INSERT INTO example VALUES
    ('traffic_surge_failing',
     '{"request_rate": "high", "application_latency": "very_high", "error_rate": "high"}',
     '{"request_rate": "normal", "application_latency": "very_high", "error_rate": "high"}'),
    ('reduced_traffic_with_errors',
     '{"request_rate": "low", "application_latency": "low", "error_rate": "very_high"}',
     '{"request_rate": "low", "application_latency": "normal", "error_rate": "very_high"}'),
    ('fast_rejection',
     '{"application_latency": "very_low", "error_rate": "very_high"}',
     '{"application_latency": "very_low", "error_rate": "high"}'),
    ('fast_failure',
     '{"application_latency": "low", "error_rate": "very_high"}',
     '{"application_latency": "normal", "error_rate": "very_high"}'),
    ('partial_fast_fail',
     '{"application_latency": "low", "error_rate": "high"}',
     '{"application_latency": "low", "error_rate": "normal"}'),
    ('partial_outage',
     '{"error_rate": "very_high"}',
     '{"error_rate": "high"}'),
    ('traffic_cliff',
     '{"request_rate": "very_low"}',
     '{"request_rate": "low"}'),
    ('traffic_surge_degrading',
     '{"request_rate": "high", "application_latency": "high"}',
     '{"request_rate": "high", "application_latency": "high", "error_rate": "high"}'),
    ('flapping_service',
     '{"application_latency": "high", "state_changes": 4}',
     '{"application_latency": "high", "state_changes": 3}'),
    ('recovery_in_progress',
     '{"application_latency": {"level": "high", "trend": "falling"}}',
     '{"application_latency": {"level": "high", "trend": "falling"}, "error_rate": "high"}'),
    ('dependency_chain_degradation',
     '{"application_latency": "high", "dependency_latency": "high", "dependencies": "chain"}',
     '{"application_latency": "normal", "dependency_latency": "high", "dependencies": "chain"}'),
    ('upstream_cascade',
     '{"application_latency": "high", "dependency_latency": "high", "dependencies": "anomalous"}',
     '{"application_latency": "high", "dependency_latency": "high", "dependencies": "healthy"}'),
    ('database_bottleneck',
     '{"application_latency": {"level": "high", "value": 400, "expected": 200}, "database_latency": {"level": "high", "value": 300, "expected": 20}}',
     '{"application_latency": {"level": "high", "value": 400, "expected": 200}, "database_latency": {"level": "high", "value": 90, "expected": 20}}'),
    ('downstream_cascade',
     '{"application_latency": {"level": "high", "value": 900, "expected": 500}, "dependency_latency": {"level": "high", "value": 350, "expected": 100}}',
     '{"application_latency": {"level": "high", "value": 900, "expected": 500}, "dependency_latency": {"level": "high", "value": 250, "expected": 100}}'),
    ('resource_contention',
     '{"application_latency": "high", "error_rate": "high"}',
     '{"application_latency": "high", "error_rate": "high", "request_rate": "high"}'),
    ('gradual_degradation',
     '{"application_latency": {"level": "high", "trend": "rising"}}',
     '{"application_latency": {"level": "normal", "trend": "rising"}, "request_rate": "high"}'),
    ('elevated_errors',
     '{"error_rate": "high"}',
     '{"error_rate": "high", "application_latency": "high"}'),
    ('isolated_service_issue',
     '{"application_latency": "high", "dependencies": "healthy"}',
     '{"application_latency": "high", "dependencies": "healthy", "database_latency": "high"}'),
    ('recent_degradation',
     '{"application_latency": {"level": "high", "trend": "sudden_rise"}}',
     '{"application_latency": {"level": "high", "trend": "steady"}}'),
    ('internal_bottleneck',
     '{"application_latency": "high"}',
     '{"application_latency": "high", "request_rate": "low"}'),
    ('database_degradation',
     '{"database_latency": "high"}',
     '{"database_latency": "high", "error_rate": "high"}'),
    ('performance_degradation',
     '{"application_latency": "high", "request_rate": "low"}',
     '{"application_latency": "low", "request_rate": "low"}'),
    ('traffic_surge_healthy',
     '{"request_rate": "high"}',
     '{"request_rate": "high", "error_rate": "high"}'),
    ('error_rate_high',
     '{"error_rate": "high", "request_rate": "high"}',
     '{"error_rate": "low", "request_rate": "high"}'),
    ('request_rate_low',
     '{"request_rate": "low"}',
     '{"request_rate": "high"}'),
    ('request_rate_high',
     '{"request_rate": "high", "database_latency": "high", "error_rate": "high", "application_latency": {"level": "absent"}}',
     '{"request_rate": "normal", "error_rate": "high"}'),
    ('database_latency_high',
     '{"database_latency": "high", "error_rate": "low", "dependency_latency": "high", "application_latency": "high", "request_rate": "low"}',
     '{"database_latency": "low", "error_rate": "high"}'),
    ('dependency_latency_high',
     '{"dependency_latency": "high"}',
     '{"dependency_latency": "low"}');
-- These say what nothing better is known of: they match, and are not always the best.
CREATE TEMP TABLE fallback (pattern text PRIMARY KEY);
INSERT INTO fallback VALUES ('error_rate_high'), ('request_rate_high'), ('database_latency_high');

SELECT set_eq('SELECT pattern FROM example', 'SELECT pattern FROM smartbox.patterns', 'there is an example of each pattern');
SELECT is(pg_temp.best(pg_temp.usual(e.matches)), e.pattern, e.pattern || ' is the best')
FROM example AS e WHERE pattern NOT IN (SELECT f.pattern FROM fallback AS f) ORDER BY pattern COLLATE "C";
SELECT ok(EXISTS (SELECT FROM smartbox.try_patterns(pg_temp.usual(e.matches)) AS t WHERE t.pattern = e.pattern), e.pattern || ' matches')
FROM example AS e ORDER BY pattern COLLATE "C";
SELECT ok(NOT EXISTS (SELECT FROM smartbox.try_patterns(pg_temp.usual(e.misses)) AS t WHERE t.pattern = e.pattern), e.pattern || ' is missed narrowly')
FROM example AS e ORDER BY pattern COLLATE "C";
SELECT is_empty($$ SELECT e.pattern, text FROM example AS e, smartbox.try_patterns(e.matches) AS t,
        LATERAL unnest(t.message || t.interpretation || t.possible_causes || t.recommended_actions) AS text
    WHERE text ~ '[{}]' OR text = '' $$, 'no placeholder is left where nothing is known');
SELECT matches((SELECT message FROM smartbox.try_patterns('{"service": "shop", "dependency": "search", "dependencies": "chain",
    "application_latency": {"level": "high", "value": 900, "expected": 120}}') WHERE rank = 1),
    '^answers take 900 ms instead of 120 ms, .* down to search$', 'what is known is said');

-- ---------------------------------------------------------------------------
-- What is refused
-- ---------------------------------------------------------------------------
CREATE FUNCTION pg_temp.refused(conditions jsonb, message text DEFAULT 'x') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    INSERT INTO smartbox.patterns (pattern, severity, conditions, message) VALUES ('mine', 'low', conditions, message);
    RAISE EXCEPTION 'taken';
EXCEPTION WHEN raise_exception OR check_violation OR foreign_key_violation THEN
    GET STACKED DIAGNOSTICS said = MESSAGE_TEXT;
    RETURN regexp_replace(said, '^conditions of pattern "mine" cannot be read: ', '');
END
$$;
SELECT is(pg_temp.refused(conditions), said, coalesce(said, 'null'))
FROM (VALUES
    ('{"error_rate": "high"}'::jsonb, 'taken'),
    ('{"error_rate": ["high", "absent"], "any_of": [{"dependencies": "healthy"}, {"state_changes": {"at_least": 2}}]}', 'taken'),
    ('{"error_rate": {"above": 0.1, "below": 0.5, "above_expected": 2, "below_expected": 9, "trend": ["rising", "sudden_rise"]}}', 'taken'),
    ('{"database_latency": {"share": {"of": "application_latency", "below": 0.5}, "share_of_rise": {"of": "application_latency", "above": 0.1, "below": 1}}}', 'taken'),
    ('{}', '"conditions" says nothing'),
    ('[]', '"conditions" is not an object'),
    ('5', '"conditions" is not an object'),
    ('{"error_rate": "hihg"}', '"hihg" is not a word for "level"'),
    ('{"error_rate": 5}', '"level" is neither a word nor a list of words'),
    ('{"error_rate": []}', 'the list of "level" is empty'),
    ('{"error_rate": ["high", 5]}', 'the list of "level" has an element that is no word'),
    ('{"error_rate": {}}', '"error_rate" says nothing'),
    ('{"error_rate": {"over": 5}}', '"over" is not a condition on a metric'),
    ('{"error_rate": {"above": "5"}}', '"above" is not a number'),
    ('{"error_rate": {"above": -5}}', '"above" is not a number from 0 on'),
    ('{"error_rate": {"trend": "up"}}', '"up" is not a word for "trend"'),
    ('{"error_rate": {"share": 0.5}}', '"share" is not an object'),
    ('{"error_rate": {"share": {"above": 0.5}}}', '"share" does not say of what'),
    ('{"error_rate": {"share": {"of": "request_rate"}}}', '"share" cannot be read'),
    ('{"error_rate": {"share": {"of": "request_rate", "above": 1, "more": 2}}}', '"share" cannot be read'),
    ('{"state_changes": 4}', '"state_changes" is not an object'),
    ('{"state_changes": {"above": 4}}', '"above" is not a condition on state_changes'),
    ('{"dependencies": "ill"}', '"ill" is not a word for "dependencies"'),
    ('{"any_of": {"error_rate": "high"}}', '"any_of" is not a list'),
    ('{"any_of": []}', '"any_of" is empty'),
    ('{"any_of": ["high"]}', 'an element of "any_of" is not an object'),
    ('{"any_of": [{"any_of": [{"error_rate": "high"}]}]}', 'there is an "any_of" within "any_of"'),
    ('{"eror_rate": "high"}', 'pattern "mine" speaks of metric "eror_rate", which is not known'),
    ('{"error_rate": {"share": {"of": "nothing", "above": 1}}}', 'pattern "mine" speaks of metric "nothing", which is not known')
) AS v (conditions, said);
SELECT is(pg_temp.refused('{"error_rate": "high"}', text), said, coalesce(said, 'null'))
FROM (VALUES
    ('{service} {category} {time_period} {dependency} {duration} {requests} {state_changes}', 'taken'),
    ('{error_rate} {error_rate.expected} {error_rate.lower} {error_rate.upper} {error_rate.sigma} {error_rate.percentile} {error_rate.times}', 'taken'),
    ('{eror_rate}', 'pattern "mine" speaks of metric "eror_rate", which is not known'),
    ('{error_rate.usual}', 'message of pattern "mine" cannot be read: placeholder {error_rate.usual} is not known'),
    ('{service', 'message of pattern "mine" cannot be read: a brace in "{service" belongs to no placeholder'),
    ('{} is', 'message of pattern "mine" cannot be read: a brace in "{} is" belongs to no placeholder'),
    ('{{service}}', 'message of pattern "mine" cannot be read: a brace in "{{service}}" belongs to no placeholder')
) AS v (text, said);
SELECT throws_ok($$ UPDATE smartbox.patterns SET recommended_actions = ARRAY['{who}'] WHERE pattern = 'traffic_cliff' $$, '23503',
    'pattern "traffic_cliff" speaks of metric "who", which is not known', 'a change is checked too, in every text');
SELECT throws_ok($$ UPDATE smartbox.patterns SET recommended_actions = '{a,b,c,d,e,f}' WHERE pattern = 'traffic_cliff' $$, '23514', NULL, 'five actions at most');
SELECT throws_ok($$ INSERT INTO smartbox.rules (metric, comparison, threshold, severity) VALUES ('eror_rate', 'above', 1, 'low') $$, '23503',
    'metric "eror_rate" is not known', 'a rule is about a metric that exists');
SELECT throws_ok($$ INSERT INTO smartbox.rules (metric, comparison, threshold, severity) VALUES ('error_rate', 'over', 1, 'low') $$, '23514', NULL, 'compares in a way that exists');
SELECT throws_ok($$ INSERT INTO smartbox.rules (metric, comparison, threshold, severity) VALUES ('error_rate', 'above', 'NaN', 'low') $$, '23514', NULL, 'with a number');
SELECT throws_ok($$ SELECT smartbox.try_patterns('{"error_rate": "hihg"}') $$, '22023', NULL, 'a situation has the same words');

-- ---------------------------------------------------------------------------
-- Shipped rows
-- ---------------------------------------------------------------------------
SELECT throws_ok($$ DELETE FROM smartbox.patterns WHERE pattern = 'traffic_cliff' $$, '55000', NULL, 'a shipped pattern stays');
SELECT throws_ok($$ DELETE FROM smartbox.rules $$, '55000', NULL, 'and a shipped rule');
SELECT throws_ok($$ UPDATE smartbox.patterns SET pattern = 'cliff' WHERE pattern = 'traffic_cliff' $$, '55000', NULL, 'by its name');
SELECT throws_ok($$ UPDATE smartbox.rules SET metric = 'request_rate' WHERE metric = 'error_rate' $$, '55000', NULL, 'by its key');
UPDATE smartbox.patterns SET priority = 1 WHERE pattern = 'traffic_cliff';
UPDATE smartbox.rules SET threshold = 0.1 WHERE metric = 'error_rate';
SELECT results_eq($$ SELECT shipped FROM smartbox.patterns WHERE pattern = 'traffic_cliff' UNION ALL SELECT shipped FROM smartbox.rules WHERE metric = 'error_rate' $$,
    ARRAY[false, false], 'one that was changed is the user''s');
INSERT INTO smartbox.rules (metric, comparison, threshold, severity) VALUES ('application_latency', 'above', 1500, 'high');
INSERT INTO smartbox.patterns (pattern, severity, conditions, message) VALUES ('partial_outage', 'high', '{"error_rate": {"above": 0.2}}', 'x');
SELECT results_eq($$ SELECT threshold FROM smartbox.rules WHERE metric = 'application_latency' AND severity = 'high' $$, ARRAY[1500::float8], 'a row of the same key takes a shipped one''s place');
SELECT results_eq($$ SELECT message FROM smartbox.patterns WHERE pattern = 'partial_outage' $$, ARRAY['x'], 'a pattern of the same name too');
SELECT is(pg_temp.best('{"error_rate": {"level": "high", "value": 0.3, "expected": 0.01}}'), 'partial_outage', 'and is used');
UPDATE smartbox.patterns SET enabled = false WHERE pattern = 'partial_outage';
SELECT is(pg_temp.best('{"error_rate": {"level": "high", "value": 0.3, "expected": 0.01}}'), 'elevated_errors', 'until it is switched off');

SELECT * FROM finish();
ROLLBACK;
