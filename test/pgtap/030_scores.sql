-- Severity of a score, identity of a pattern.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(21);

SELECT is(score_to_severity(score), severity::smartbox.severity, format('%s is %s', score, severity))
FROM (VALUES
    (-1e300::float8, 'critical'), ('-infinity', 'critical'),
    (-0.6 - 1.2e-16, 'critical'), (-0.6::float8, 'high'), (-0.6 + 1.2e-16, 'high'),
    (-0.3 - 6e-17, 'high'), (-0.3::float8, 'medium'), (-0.3 + 6e-17, 'medium'),
    (-0.1 - 2e-17, 'medium'), (-0.1::float8, 'low'), (-0.1 + 2e-17, 'low'),
    (0::float8, 'low'), (1::float8, 'low')) AS v(score, severity);

-- The neighbours above are neighbours, not the borders themselves.
SELECT is(
    (SELECT count(*) FROM (VALUES (-0.6::float8, 1.2e-16::float8), (-0.3, 6e-17), (-0.1, 2e-17)) AS v(border, step)
     WHERE border - step < border AND border < border + step), 3::bigint, 'floats have neighbours there');
SELECT is(score_to_severity(NULL), NULL, 'an unknown score has no severity');

SELECT is(fingerprint_id('booking', 'latency_high'), 'anomaly_a87d1a995c38', 'a known fingerprint');
SELECT is(fingerprint_id('booking', 'latency_high'),
    'anomaly_' || left(encode(sha256('booking_latency_high'), 'hex'), 12), 'the same by hand');
SELECT matches(fingerprint_id('été', 'α'), '^anomaly_[0-9a-f]{12}$', 'whatever the letters');
SELECT is(fingerprint_id('été', 'α'),
    'anomaly_' || left(encode(sha256('\xc3a974c3a95fceb1'), 'hex'), 12), 'which are taken as UTF-8');
SELECT is(fingerprint_id('booking', NULL), NULL, 'nothing has no fingerprint');
SELECT volatility_is('fingerprint_id', ARRAY['text', 'text'], 'immutable', 'it can be indexed');

SELECT * FROM finish();
ROLLBACK;
