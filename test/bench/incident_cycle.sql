-- The state changes of a large fleet.  record_cycle() writes the detections of
-- one cycle of some services, as a cycle does: in one statement, in the order of
-- their names, with payloads of a usual size.
--
-- Every twentieth service is anomalous in the first two cycles, and has an open
-- incident from then on.  In later ones half of these go on and half are quiet,
-- and in the third as many others begin.
CREATE FUNCTION grow_incident_fleet(size int) RETURNS void LANGUAGE sql AS
$$
    INSERT INTO smartbox.services (service, category)
    SELECT format('fleet-%s', to_char(n, 'FM00000')), 'standard' FROM generate_series(1, size) AS n
    ON CONFLICT DO NOTHING
$$;

CREATE FUNCTION record_cycle(first int, last int, cycle int) RETURNS bigint LANGUAGE sql AS
$$
    WITH recorded AS (
        INSERT INTO smartbox.detections (service, ts, time_period, score, severity, is_anomaly, confidence, model_version, payload)
        SELECT s.service, timestamptz '2026-02-16 10:00+00' + cycle * interval '5 minutes', 'business_hours',
            CASE WHEN s.is_anomaly THEN -0.4 ELSE 0.6 END,
            CASE WHEN s.is_anomaly THEN 'high' ELSE 'none' END::smartbox.severity, s.is_anomaly, 0.9, 1,
            jsonb_build_object(
                'alert_type', CASE WHEN s.is_anomaly THEN 'anomaly_detected' ELSE 'no_anomaly' END,
                'service', s.service,
                'current_metrics', '{"request_rate": 50.2, "application_latency": 702.5, "dependency_latency": 41.7, "database_latency": 8.1, "error_rate": 0.002}'::jsonb,
                'model', '{"version": 1, "fallback": null}'::jsonb,
                'anomalies', CASE WHEN s.is_anomaly THEN $json$[{
                    "type": "multivariate_enhanced_isolation_forest", "name": "application_latency_high", "severity": "high",
                    "score": -0.4, "confidence_score": 0.9, "description": "application_latency is 702.5 ms, where 95 to 145 ms are usual",
                    "contributions": {"application_latency": 0.93, "dependency_latency": 0.04, "error_rate": 0.03},
                    "comparison": {"application_latency": {"value": 702.5, "expected": 120, "lower": 95, "upper": 145, "deviation_sigma": 9.1, "percentile": 100}},
                    "possible_causes": ["a deployment", "a slow dependency"], "recommended_actions": ["look at the last deployment"],
                    "detection_signals": [{"name": "application_latency_high", "metric": "application_latency", "direction": "high",
                                           "method": "univariate_isolation_forest"}]}]$json$::jsonb ELSE '[]' END)
        FROM (
            SELECT format('fleet-%s', to_char(n, 'FM00000')) AS service,
                CASE WHEN cycle <= 2 THEN n % 20 = 0 ELSE n % 40 = 0 OR n % 40 = 10 END AS is_anomaly
            FROM generate_series(first, last) AS n
            ORDER BY n
        ) AS s
        RETURNING service
    )
    SELECT count(*) FROM recorded
$$;
