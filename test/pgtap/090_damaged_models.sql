-- Whatever is stored as a model, detection answers or says that it is damaged.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(29);

-- Three weeks of a service, with noise from a fixed recurrence.
INSERT INTO smartbox.services (service) VALUES ('booking');
CREATE FUNCTION pg_temp.noise(i bigint, salt bigint) RETURNS float8 LANGUAGE sql IMMUTABLE AS
    $$ SELECT sum((((i + k) * 7919 + salt * 104729) * 48271 + (i + k) * (i + k) * 31) % 10007)::float8 / (4 * 10006) - 0.5
       FROM generate_series(0, 30000, 10000) AS k $$;
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', ts, ARRAY[40 * load * (1 + 0.2 * pg_temp.noise(i, 1)), (60 + 25 * load) * (1 + 0.1 * pg_temp.noise(i, 2)),
    50 * (1 + 0.15 * pg_temp.noise(i, 3)), 5 * (1 + 0.15 * pg_temp.noise(i, 4)), 0.002 * (1 + 0.5 * pg_temp.noise(i, 5))]
FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-22 10:00+00', '5 min') AS ts,
    LATERAL (SELECT extract(epoch FROM ts)::bigint / 300 AS i,
                    1.2 - cos(extract(epoch FROM ts)::bigint % 86400 / 86400.0 * 2 * pi()) AS load) AS at;
SELECT is((SELECT array_agg(DISTINCT status::text) FROM train_models()), ARRAY['accepted'], 'all models are accepted');

-- 10:00 on a Monday
CREATE TEMP TABLE sound AS
SELECT model, time_period, octet_length(model) AS length FROM smartbox.models
WHERE service = 'booking' AND is_active AND time_period = time_period('2024-01-22 10:00+00', 'UTC');
SELECT is((SELECT count(*) FROM sound), 1::bigint, 'one of them is in use at the time');

-- A session keeps a model that it found sound until another one takes its
-- place, so each damaged one is trained a minute later than the one before.
CREATE FUNCTION pg_temp.store(damaged bytea) RETURNS void LANGUAGE sql AS
    $$ UPDATE smartbox.models SET model = damaged, trained_at = trained_at + interval '1 minute'
       WHERE service = 'booking' AND is_active AND time_period = (SELECT time_period FROM sound) $$;
CREATE FUNCTION pg_temp.flipped(model bytea, place int) RETURNS bytea LANGUAGE sql IMMUTABLE AS
    $$ SELECT set_byte(model, place, get_byte(model, place) # 255) $$;
CREATE FUNCTION pg_temp.refused(damaged bytea, state text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.store(damaged);
    RETURN NEXT throws_ok($q$ SELECT detect_anomalies('booking', '2024-01-22 10:00+00') $q$, state::char(5), NULL, what);
END $$;

SELECT is(detect_anomalies('booking', '2024-01-22 10:00+00') ->> 'alert_type', 'no_anomaly', 'the sound model is used');
DELETE FROM smartbox.detections;

-- One byte in 16 places, from the first to the last
SELECT pg_temp.refused(pg_temp.flipped(model, place), 'XX001', format('byte %s of 16 shares is flipped', i))
FROM sound, generate_series(0, 15) AS i, LATERAL (SELECT i * (length - 1) / 15 AS place) AS at;

SELECT pg_temp.refused(substr(model, 1, length - 1), 'XX001', 'the last byte is missing') FROM sound;
SELECT pg_temp.refused(substr(model, 1, length / 2), 'XX001', 'the second half is missing') FROM sound;
SELECT pg_temp.refused(substr(model, 1, 20), 'XX001', 'the header is cut') FROM sound;
SELECT pg_temp.refused('', 'XX001', 'nothing is left') FROM sound;
SELECT pg_temp.refused(model || '\x00', 'XX001', 'there is a byte too many') FROM sound;
SELECT pg_temp.refused(string_agg(sha256(i::text::bytea), '' ORDER BY i), 'XX001', 'it is other bytes altogether')
FROM generate_series(1, 1000) AS i;
SELECT pg_temp.refused(set_byte(model, 8, 2), '0A000', 'it has a format version that is not known') FROM sound;

SELECT throws_like($$ SELECT detect_anomalies('booking', '2024-01-22 10:00+00') $$,
    '%version 1 of the model of service "booking" for %', 'the message says which model');
SELECT is((SELECT count(*) FROM smartbox.detections), 0::bigint, 'nothing was detected by a damaged model');

SELECT pg_temp.store(model) FROM sound;
SELECT is(detect_anomalies('booking', '2024-01-22 10:00+00') ->> 'alert_type', 'no_anomaly',
    'and the session goes on with the sound one');

SELECT * FROM finish();
ROLLBACK;
