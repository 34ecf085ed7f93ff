-- The detections of a fleet by backtest(), as CSV on standard output.  psql's
-- variables: since and until, in seconds since 1970.
SET eval.since = :'since';
SET eval.until = :'until';

COPY (
    SELECT s.service, extract(epoch FROM b.ts)::bigint AS ts, b.alerting::int AS is_anomaly, b.severity, b.score,
        CASE WHEN b.alerting THEN regexp_replace(b.anomaly_name, '_(high|low)$', '') END AS culprit, s.category,
        coalesce(s.false_alarms_per_week, k.false_alarms_per_week) AS budget
    FROM smartbox.services AS s
    JOIN smartbox.service_categories AS k USING (category)
    CROSS JOIN LATERAL backtest(s.service, to_timestamp(current_setting('eval.since')::bigint),
        to_timestamp(current_setting('eval.until')::bigint)) AS b
    ORDER BY s.service, b.ts
) TO STDOUT WITH (FORMAT csv, HEADER);
