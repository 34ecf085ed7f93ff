-- Samples whose arrays are not as they should be: what can be read is, and what
-- cannot be there fails the training of that service alone.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(11);

INSERT INTO smartbox.services (service) VALUES ('empty'), ('good'), ('long'), ('none'), ('short'), ('square'), ('unknown');
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT service, ts, ARRAY[40 * load, 60 + 25 * load, 50, 5, 0.002]
FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-29 10:00+00', '5 min') AS ts,
    unnest('{empty,good,long,none,short,square,unknown}'::text[]) AS service,
    LATERAL (SELECT hashint8extended(extract(epoch FROM ts)::bigint, 1) / 9.3e18 AS noise) AS n,
    LATERAL (SELECT 1.2 - cos(extract(epoch FROM ts)::bigint % 86400 / 86400.0 * 2 * pi()) + 0.1 * noise AS load) AS l;

SELECT throws_ok($$ UPDATE smartbox.samples SET metric_values = '{{1,2},{3,4}}' WHERE service = 'square' $$, '23514', NULL,
    'an array of two dimensions is refused');
SELECT throws_ok($$ UPDATE smartbox.samples SET metric_values = '[0:1]={1,2}' WHERE service = 'square' $$, '23514', NULL,
    'so is one that begins elsewhere');
SELECT throws_ok($$ UPDATE smartbox.samples SET metric_values = NULL WHERE service = 'none' $$, '23502', NULL,
    'and none at all');

-- What the table allows.
UPDATE smartbox.samples SET metric_values = '{}' WHERE service = 'empty';
UPDATE smartbox.samples SET metric_values = metric_values[1:2] WHERE service = 'short';
UPDATE smartbox.samples SET metric_values = metric_values || ARRAY[7, 8, 9]::float8[] WHERE service = 'long';
UPDATE smartbox.samples SET metric_values = ARRAY[NULL, NULL, NULL, NULL, NULL]::float8[] WHERE service = 'unknown';
-- And what it does not, unless somebody has altered it.
ALTER TABLE smartbox.samples ALTER COLUMN metric_values DROP NOT NULL, DROP CONSTRAINT samples_metric_values_check;
UPDATE smartbox.samples SET metric_values = NULL WHERE service = 'none' AND ts = '2024-01-20 10:00+00';
UPDATE smartbox.samples SET metric_values = '{{1,2},{3,4}}' WHERE service = 'square' AND ts = '2024-01-20 10:00+00';

CREATE TEMP TABLE trained AS SELECT * FROM train_models();
SELECT is((SELECT count(*) FROM trained WHERE service = 'good' AND status = 'accepted'), 5::bigint, 'a good service is trained');
SELECT is((SELECT count(*) FROM trained WHERE service = 'long' AND status = 'accepted'), 5::bigint,
    'so is one whose arrays are too long');
SELECT is((SELECT count(*) FROM trained WHERE service = 'short' AND status = 'accepted'), 5::bigint,
    'and one whose arrays are too short');
SELECT is((SELECT count(*) FROM trained WHERE service IN ('empty', 'unknown') AND status = 'accepted'), 0::bigint,
    'nothing is learnt from nothing');
SELECT is((SELECT string_agg(reason, ', ') FROM trained WHERE service = 'none' AND status = 'failed'),
    'a sample of service "none" has no metric_values', 'a missing array fails that service');
SELECT is((SELECT string_agg(reason, ', ') FROM trained WHERE service = 'square' AND status = 'failed'),
    'metric_values of a sample has 2 dimensions, it must have one', 'so does one of two dimensions');
SELECT is((SELECT count(*) FROM smartbox.models WHERE service IN ('none', 'square')), 0::bigint, 'which have no models');
SELECT throws_ok($$ SELECT detect_anomalies('square', '2024-01-20 10:00+00') $$, 'XX001', NULL,
    'an array of two dimensions is an error when it is judged, too');

SELECT * FROM finish();
ROLLBACK;
