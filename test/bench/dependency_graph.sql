-- 1,000 services that call five others each, 500 of them with an incident that
-- began within the same 20 minutes.
INSERT INTO smartbox.services (service) SELECT 'graph-' || n FROM generate_series(1, 1000) AS n;

INSERT INTO smartbox.dependencies (service, depends_on)
SELECT 'graph-' || n, 'graph-' || (n + k * 7 + (hashint4extended(n, k) & 1023) % 7 + (k - 1) * 180) % 1000 + 1
FROM generate_series(1, 1000) AS n, generate_series(1, 5) AS k;

INSERT INTO smartbox.detections (service, ts, is_anomaly, severity)
SELECT 'graph-' || n, '2026-02-15 10:00+00'::timestamptz + n % 5 * interval '5 minutes', true, 'high'
FROM generate_series(1, 1000, 2) AS n;

VACUUM ANALYZE smartbox.incidents, smartbox.dependencies;
