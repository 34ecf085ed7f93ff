-- How the objectives have been kept.

CREATE VIEW smartbox.slo_status AS
WITH declared AS (
    SELECT
        s.service,
        m.metric,
        m.position,
        m.unit,
        o.acceptable,
        o.warning,
        o.objective,
        o.target,
        o.min_requests,
        o.busy_factor,
        o.acceptable > o.objective OR (o.acceptable = o.objective AND m.direction = 'low') AS is_low,
        (SELECT r.position FROM smartbox.metrics AS r WHERE r.metric = 'request_rate') AS rate_position,
        (SELECT coalesce(range_agg(tstzrange(c.starts_at AT TIME ZONE z.zone, c.ends_at AT TIME ZONE z.zone, '(]')), '{}')
         FROM smartbox.calendar AS c
         WHERE c.kind = 'busy' AND c.service IN (s.service, '*')) AS busy
    FROM smartbox.services AS s
        CROSS JOIN LATERAL (
            SELECT coalesce(s.time_zone, nullif(current_setting('smartbox_anomaly.time_zone', true), ''), 'UTC') AS zone
        ) AS z
        CROSS JOIN smartbox.metrics AS m
        CROSS JOIN LATERAL (
            SELECT x.*
            FROM smartbox.slos AS x
            WHERE x.metric = m.metric AND x.service IN (s.service, '*')
            ORDER BY x.service = '*'
            LIMIT 1
        ) AS o
    WHERE s.enabled AND m.enabled AND o.enabled
)
SELECT
    d.service,
    d.metric,
    d.unit,
    d.objective,
    d.target,
    kept.samples,
    kept.breaches,
    1 - kept.breaches::double precision / nullif(kept.samples, 0) AS attainment,
    1 - kept.breaches / ((1 - d.target) * nullif(kept.samples, 0)) AS budget_left,
    kept.breaches / ((1 - d.target) * nullif(kept.samples, 0)) AS burn_rate,
    kept.breaches_6h / ((1 - d.target) * nullif(kept.samples_6h, 0)) AS burn_rate_6h,
    kept.breaches_1h / ((1 - d.target) * nullif(kept.samples_1h, 0)) AS burn_rate_1h,
    kept.last_breach
FROM declared AS d
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS samples,
            count(*) FILTER (WHERE v.is_breach) AS breaches,
            count(*) FILTER (WHERE v.ts > now() - interval '6 hours') AS samples_6h,
            count(*) FILTER (WHERE v.is_breach AND v.ts > now() - interval '6 hours') AS breaches_6h,
            count(*) FILTER (WHERE v.ts > now() - interval '1 hour') AS samples_1h,
            count(*) FILTER (WHERE v.is_breach AND v.ts > now() - interval '1 hour') AS breaches_1h,
            max(v.ts) FILTER (WHERE v.is_breach) AS last_breach
        FROM (
            SELECT
                x.ts,
                CASE WHEN d.is_low
                    THEN x.metric_values[d.position] < d.objective / f.factor
                    ELSE x.metric_values[d.position] > d.objective * f.factor
                END AS is_breach
            FROM smartbox.samples AS x
                CROSS JOIN LATERAL (SELECT CASE WHEN x.ts <@ d.busy THEN d.busy_factor ELSE 1 END AS factor) AS f
            WHERE x.service = d.service
                AND x.ts > now() - interval '30 days' AND x.ts <= now()
                AND x.metric_values[d.position] < 'NaN'
                AND (d.is_low OR coalesce(x.metric_values[d.rate_position] * extract(epoch FROM
                        coalesce(nullif(current_setting('smartbox_anomaly.sample_interval', true), '')::interval, '5 minutes'))
                    >= d.min_requests, true))
        ) AS v
    ) AS kept;

COMMENT ON VIEW smartbox.slo_status IS 'how each objective was kept in the last 30 days, one row per service and metric; give it a service when there are many';
COMMENT ON COLUMN smartbox.slo_status.service IS 'the service';
COMMENT ON COLUMN smartbox.slo_status.metric IS 'the metric';
COMMENT ON COLUMN smartbox.slo_status.unit IS 'its unit';
COMMENT ON COLUMN smartbox.slo_status.objective IS 'the limit beyond which it is a breach, outside busy times';
COMMENT ON COLUMN smartbox.slo_status.target IS 'share of samples that must be within it';
COMMENT ON COLUMN smartbox.slo_status.samples IS 'samples with a value and enough requests';
COMMENT ON COLUMN smartbox.slo_status.breaches IS 'of these, beyond the objective';
COMMENT ON COLUMN smartbox.slo_status.attainment IS 'share of samples within the objective, 0 to 1; NULL: there are none';
COMMENT ON COLUMN smartbox.slo_status.budget_left IS 'share of the error budget that is left: 1 is all of it, below 0 the target is missed';
COMMENT ON COLUMN smartbox.slo_status.burn_rate IS 'how fast the budget went over the 30 days: at 1 it is just used up';
COMMENT ON COLUMN smartbox.slo_status.burn_rate_6h IS 'the same over the last 6 hours';
COMMENT ON COLUMN smartbox.slo_status.burn_rate_1h IS 'the same over the last hour: at 14.4 an hour takes 2 % of the budget of 30 days';
COMMENT ON COLUMN smartbox.slo_status.last_breach IS 'instant of the last sample beyond the objective';
