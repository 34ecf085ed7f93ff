-- What system-bench works on: 20 services with 30 days of samples, made up but
-- noisy, the same each time.
CREATE EXTENSION smartbox_anomaly;

CREATE FUNCTION noise(n bigint, sigma float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT exp(sigma * (hashint8extended(n, 1) / 9.3e18 + hashint8extended(n, 2) / 9.3e18 + hashint8extended(n, 3) / 9.3e18)) $$;

CREATE FUNCTION metrics_at(number int, ts timestamptz) RETURNS float8[] LANGUAGE sql STABLE AS
$$
    SELECT ARRAY[
        20 * number * (1.2 + sin(extract(epoch FROM ts) / 13751)) * noise(k, 0.07),
        120 * noise(k + 1, 0.06), 40 * noise(k + 2, 0.08), 8 * noise(k + 3, 0.08), 0.002 * noise(k + 4, 0.2)]
    FROM (SELECT extract(epoch FROM ts)::bigint / 300 * 100003 + number * 7 AS k) AS seed
$$;

INSERT INTO smartbox.services (service) SELECT 'service-' || n FROM generate_series(1, 20) AS n;

INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'service-' || n, ts, metrics_at(n, ts)
FROM generate_series(1, 20) AS n,
     generate_series(timestamptz '2026-01-01 00:05+00', timestamptz '2026-01-31 00:00+00', interval '5 minutes') AS ts;

VACUUM ANALYZE smartbox.samples;

-- One more sample of every service, as healthy as those before.
CREATE FUNCTION next_cycle() RETURNS void LANGUAGE sql AS
$$
    INSERT INTO smartbox.samples (service, ts, metric_values)
    SELECT s.service, n.ts, metrics_at((substr(s.service, length('service-') + 1)::int - 1) % 20 + 1, n.ts)
    FROM smartbox.services AS s, (SELECT max(ts) + interval '5 minutes' AS ts FROM smartbox.samples) AS n
    WHERE s.service LIKE 'service-%'
$$;

-- Let the fleet grow to that many services: the new ones take the models and
-- the last two days of the first twenty.
CREATE FUNCTION grow_fleet(size int) RETURNS void LANGUAGE sql AS
$$
    INSERT INTO smartbox.services (service) SELECT 'service-' || n FROM generate_series(21, size) AS n;
    INSERT INTO smartbox.models (service, time_period, version, status, is_active, model, samples)
    SELECT 'service-' || n, m.time_period, m.version, m.status, m.is_active, m.model, m.samples
    FROM generate_series(21, size) AS n
        JOIN smartbox.models AS m ON m.service = 'service-' || (n - 1) % 20 + 1 AND m.is_active;
    INSERT INTO smartbox.samples (service, ts, metric_values)
    SELECT 'service-' || n, x.ts, x.metric_values
    FROM generate_series(21, size) AS n
        JOIN smartbox.samples AS x ON x.service = 'service-' || (n - 1) % 20 + 1
            AND x.ts > (SELECT max(ts) - interval '2 days' FROM smartbox.samples);
$$;

-- Give the services that the fleet grew by the rest of their 30 days.
CREATE FUNCTION grow_history(size int) RETURNS void LANGUAGE sql AS
$$
    INSERT INTO smartbox.samples (service, ts, metric_values)
    SELECT 'service-' || n, x.ts, x.metric_values
    FROM generate_series(21, size) AS n
        JOIN smartbox.samples AS x ON x.service = 'service-' || (n - 1) % 20 + 1
    ORDER BY n, x.ts
    ON CONFLICT DO NOTHING;
$$;

-- Median and 95th percentile in ms of that many detections of new samples,
-- each in a transaction of its own.
CREATE PROCEDURE bench_detect(cycles int, OUT median float8, OUT p95 float8) LANGUAGE plpgsql AS
$$
DECLARE
    took float8[] := '{}';
    began timestamptz;
BEGIN
    FOR cycle IN 1 .. cycles LOOP
        PERFORM next_cycle();
        COMMIT;
        began := clock_timestamp();
        PERFORM detect_anomalies('service-1');
        COMMIT;
        took := took || extract(epoch FROM clock_timestamp() - began)::float8 * 1000;
    END LOOP;
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t), percentile_cont(0.95) WITHIN GROUP (ORDER BY t)
    INTO median, p95 FROM unnest(took) AS t;
END
$$;
