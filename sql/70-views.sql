-- What people and BI tools read: one row per thing, timestamptz, no jsonb
-- needed to answer a question.

CREATE VIEW smartbox.active_incidents AS
SELECT
    i.service,
    s.category,
    i.incident_id,
    i.fingerprint_id,
    i.anomaly_name,
    i.status,
    i.severity,
    i.score,
    i.confidence,
    i.first_seen,
    i.confirmed_at,
    i.last_seen,
    i.last_evaluated,
    smartbox.minutes_between(i.first_seen, i.last_seen) AS duration_minutes,
    i.occurrence_count,
    i.consecutive_detections,
    i.missed_cycles,
    i.signals,
    i.description,
    i.root_service,
    i.root_incident_id,
    i.pattern
FROM smartbox.incidents AS i
    JOIN smartbox.services AS s ON s.service = i.service
WHERE i.status <> 'CLOSED';

COMMENT ON VIEW smartbox.active_incidents IS 'incidents that are not closed: suspected, open and recovering';
COMMENT ON COLUMN smartbox.active_incidents.service IS 'the service';
COMMENT ON COLUMN smartbox.active_incidents.category IS 'what kind of service';
COMMENT ON COLUMN smartbox.active_incidents.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.active_incidents.fingerprint_id IS 'the pattern that it is an occurrence of';
COMMENT ON COLUMN smartbox.active_incidents.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.active_incidents.status IS 'SUSPECTED, OPEN or RECOVERING';
COMMENT ON COLUMN smartbox.active_incidents.severity IS 'the worst so far';
COMMENT ON COLUMN smartbox.active_incidents.score IS 'the worst (lowest) so far';
COMMENT ON COLUMN smartbox.active_incidents.confidence IS 'of the last detection, 0 to 1';
COMMENT ON COLUMN smartbox.active_incidents.first_seen IS 'instant of the first detection';
COMMENT ON COLUMN smartbox.active_incidents.confirmed_at IS 'instant at which it became OPEN; NULL: still suspected';
COMMENT ON COLUMN smartbox.active_incidents.last_seen IS 'instant of the last detection';
COMMENT ON COLUMN smartbox.active_incidents.last_evaluated IS 'instant of the last cycle that counted, detected or not';
COMMENT ON COLUMN smartbox.active_incidents.duration_minutes IS 'minutes from the first to the last detection';
COMMENT ON COLUMN smartbox.active_incidents.occurrence_count IS 'cycles in which it was detected';
COMMENT ON COLUMN smartbox.active_incidents.consecutive_detections IS 'of these, the last ones in a row';
COMMENT ON COLUMN smartbox.active_incidents.missed_cycles IS 'quiet cycles in a row since';
COMMENT ON COLUMN smartbox.active_incidents.signals IS 'all names and signals under which it was detected';
COMMENT ON COLUMN smartbox.active_incidents.description IS 'in words, of the last detection';
COMMENT ON COLUMN smartbox.active_incidents.root_service IS 'the service whose incident is suspected to be behind this one; NULL: none is';
COMMENT ON COLUMN smartbox.active_incidents.root_incident_id IS 'that incident';
COMMENT ON COLUMN smartbox.active_incidents.pattern IS 'the pattern that explained it best in the last detection that one did';

CREATE VIEW smartbox.incident_timeline AS
SELECT
    e.service,
    e.incident_id,
    e.event_number,
    e.ts,
    e.event,
    e.status,
    e.severity,
    e.score,
    coalesce(e.details->>'anomaly_name', i.anomaly_name) AS anomaly_name,
    e.details->>'pattern' AS pattern,
    e.details->>'reason' AS reason,
    smartbox.minutes_between(i.first_seen, e.ts) AS minutes_since_first_seen,
    e.recorded_at
FROM smartbox.incident_events AS e
    JOIN smartbox.incidents AS i ON i.service = e.service AND i.incident_id = e.incident_id;

COMMENT ON VIEW smartbox.incident_timeline IS 'what happened to each incident; order by service, incident_id, event_number';
COMMENT ON COLUMN smartbox.incident_timeline.service IS 'the service';
COMMENT ON COLUMN smartbox.incident_timeline.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.incident_timeline.event_number IS 'number within the incident, from 1';
COMMENT ON COLUMN smartbox.incident_timeline.ts IS 'instant of the sample that made it happen';
COMMENT ON COLUMN smartbox.incident_timeline.event IS 'what happened';
COMMENT ON COLUMN smartbox.incident_timeline.status IS 'status of the incident afterwards';
COMMENT ON COLUMN smartbox.incident_timeline.severity IS 'severity in this cycle';
COMMENT ON COLUMN smartbox.incident_timeline.score IS 'score in this cycle';
COMMENT ON COLUMN smartbox.incident_timeline.anomaly_name IS 'what was wrong, by the name that it had in this cycle';
COMMENT ON COLUMN smartbox.incident_timeline.pattern IS 'the pattern that explains it best, where that is new';
COMMENT ON COLUMN smartbox.incident_timeline.reason IS 'why the incident ended; of a REOPEN, why it had ended before';
COMMENT ON COLUMN smartbox.incident_timeline.minutes_since_first_seen IS 'minutes since the first detection';
COMMENT ON COLUMN smartbox.incident_timeline.recorded_at IS 'when the event was written';

CREATE VIEW smartbox.anomalies AS
SELECT
    d.service,
    d.ts,
    a.anomaly_number::integer AS anomaly_number,
    d.time_period,
    a.anomaly->>'name' AS anomaly_name,
    a.anomaly->>'type' AS anomaly_type,
    a.anomaly->>'pattern' AS pattern,
    (a.anomaly->>'severity')::smartbox.severity AS severity,
    (a.anomaly->>'score')::double precision AS score,
    (a.anomaly->>'confidence_score')::double precision AS confidence,
    a.anomaly->>'description' AS description,
    a.anomaly->>'interpretation' AS interpretation,
    a.anomaly->'metadata'->>'fingerprint_id' AS fingerprint_id,
    a.anomaly->'metadata'->>'incident_id' AS incident_id,
    (a.anomaly->'metadata'->>'status')::smartbox.incident_status AS incident_status,
    (a.anomaly->'metadata'->>'incident_action')::smartbox.incident_event AS incident_action,
    (a.anomaly->'metadata'->>'occurrence_count')::integer AS occurrence_count
FROM smartbox.detections AS d
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(d.payload->'anomalies') WHEN 'array' THEN d.payload->'anomalies' END)
        WITH ORDINALITY AS a(anomaly, anomaly_number)
WHERE d.is_anomaly;

COMMENT ON VIEW smartbox.anomalies IS 'one row per anomaly of each detection';
COMMENT ON COLUMN smartbox.anomalies.service IS 'the service';
COMMENT ON COLUMN smartbox.anomalies.ts IS 'instant of the sample';
COMMENT ON COLUMN smartbox.anomalies.anomaly_number IS 'number within the detection, from 1, worst first as the detector ranked them';
COMMENT ON COLUMN smartbox.anomalies.time_period IS 'part of the week';
COMMENT ON COLUMN smartbox.anomalies.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.anomalies.anomaly_type IS 'what found it';
COMMENT ON COLUMN smartbox.anomalies.pattern IS 'the pattern that explains it best; NULL: none matches';
COMMENT ON COLUMN smartbox.anomalies.severity IS 'how bad it is';
COMMENT ON COLUMN smartbox.anomalies.score IS 'calibrated score, lower is stranger';
COMMENT ON COLUMN smartbox.anomalies.confidence IS 'how far to trust it, 0 to 1';
COMMENT ON COLUMN smartbox.anomalies.description IS 'in words';
COMMENT ON COLUMN smartbox.anomalies.interpretation IS 'what it means';
COMMENT ON COLUMN smartbox.anomalies.fingerprint_id IS 'the pattern of its incident; NULL for a detection that came too late to move one';
COMMENT ON COLUMN smartbox.anomalies.incident_id IS 'the incident that it belongs to; NULL for a detection that came too late to move one';
COMMENT ON COLUMN smartbox.anomalies.incident_status IS 'status of the incident after this detection';
COMMENT ON COLUMN smartbox.anomalies.incident_action IS 'what this detection did to the incident: CREATE, CONFIRM, CONTINUE or REOPEN';
COMMENT ON COLUMN smartbox.anomalies.occurrence_count IS 'cycles in which the incident was detected so far';

CREATE VIEW smartbox.anomaly_metrics AS
SELECT
    d.service,
    d.ts,
    a.anomaly_number::integer AS anomaly_number,
    a.anomaly->>'name' AS anomaly_name,
    a.anomaly->'metadata'->>'incident_id' AS incident_id,
    c.metric,
    (c.comparison->>'value')::double precision AS value,
    (c.comparison->>'expected')::double precision AS expected,
    (c.comparison->>'lower')::double precision AS lower,
    (c.comparison->>'upper')::double precision AS upper,
    (c.comparison->>'deviation_sigma')::double precision AS deviation_sigma,
    (c.comparison->>'percentile')::double precision AS percentile,
    (a.anomaly->'contributions'->>c.metric)::double precision AS contribution,
    m.unit
FROM smartbox.detections AS d
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(d.payload->'anomalies') WHEN 'array' THEN d.payload->'anomalies' END)
        WITH ORDINALITY AS a(anomaly, anomaly_number)
    CROSS JOIN LATERAL jsonb_each(
        CASE jsonb_typeof(a.anomaly->'comparison') WHEN 'object' THEN a.anomaly->'comparison' END)
        AS c(metric, comparison)
    LEFT JOIN smartbox.metrics AS m ON m.metric = c.metric
WHERE d.is_anomaly;

COMMENT ON VIEW smartbox.anomaly_metrics IS 'one row per anomaly and metric: what it was and what it was expected to be';
COMMENT ON COLUMN smartbox.anomaly_metrics.service IS 'the service';
COMMENT ON COLUMN smartbox.anomaly_metrics.ts IS 'instant of the sample';
COMMENT ON COLUMN smartbox.anomaly_metrics.anomaly_number IS 'number of the anomaly within the detection, from 1';
COMMENT ON COLUMN smartbox.anomaly_metrics.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.anomaly_metrics.incident_id IS 'the incident that it belongs to; NULL for a detection that came too late to move one';
COMMENT ON COLUMN smartbox.anomaly_metrics.metric IS 'the metric';
COMMENT ON COLUMN smartbox.anomaly_metrics.value IS 'its value, in its unit';
COMMENT ON COLUMN smartbox.anomaly_metrics.expected IS 'what was expected, in its unit; NULL: nothing was, without a model';
COMMENT ON COLUMN smartbox.anomaly_metrics.lower IS 'lower end of what is usual, in its unit';
COMMENT ON COLUMN smartbox.anomaly_metrics.upper IS 'upper end of what is usual, in its unit';
COMMENT ON COLUMN smartbox.anomaly_metrics.deviation_sigma IS 'how far it is from what was expected, in standard deviations of the usual noise';
COMMENT ON COLUMN smartbox.anomaly_metrics.percentile IS 'where it stands among the values that were learnt, 0 to 100';
COMMENT ON COLUMN smartbox.anomaly_metrics.contribution IS 'its share in the anomaly, 0 to 1';
COMMENT ON COLUMN smartbox.anomaly_metrics.unit IS 'unit of the values; NULL: the metric is no more';

CREATE VIEW smartbox.metric_values AS
SELECT
    s.service,
    s.ts,
    m.metric,
    s.metric_values[m.position] AS value,
    m.unit
FROM smartbox.samples AS s
    CROSS JOIN smartbox.metrics AS m;

COMMENT ON VIEW smartbox.metric_values IS 'one row per service, metric and instant; give it a service and a range of ts';
COMMENT ON COLUMN smartbox.metric_values.service IS 'the service';
COMMENT ON COLUMN smartbox.metric_values.ts IS 'end of the interval that the value describes';
COMMENT ON COLUMN smartbox.metric_values.metric IS 'the metric';
COMMENT ON COLUMN smartbox.metric_values.value IS 'the value; NULL is unknown';
COMMENT ON COLUMN smartbox.metric_values.unit IS 'its unit';

-- Which model serves, and how far it is trusted, is decided in the detection;
-- a test compares both.
CREATE VIEW smartbox.model_status AS
WITH periods AS MATERIALIZED (
    SELECT p.time_period, max(p.confidence) AS confidence,
        sum((p.last_day - p.first_day + 1) * (p.end_hour - p.start_hour)) * interval '1 hour' AS hours_per_week,
        smartbox.fallback_periods(p.time_period) AS others,
        smartbox.sample_interval() AS sample_interval
    FROM smartbox.time_periods AS p
    GROUP BY p.time_period
)
SELECT
    s.service,
    p.time_period,
    active.version IS NOT NULL AS is_active,
    active.version AS active_version,
    active.trained_at,
    active.samples,
    CASE WHEN active.version IS NOT NULL THEN coalesce(active.card->>'based_on', 'own samples') END AS based_on,
    fallback.time_period AS fallback_period,
    fallback.version AS fallback_version,
    p.confidence * least(coalesce(active.samples, fallback.samples) / 1000.0, 1)
        * CASE WHEN fallback.version IS NULL THEN 1 ELSE 0.85 END AS confidence,
    latest.version AS latest_version,
    latest.status AS latest_status,
    latest.trained_at AS latest_trained_at,
    latest.samples AS latest_samples,
    CASE WHEN latest.samples IS NOT NULL THEN greatest(500 - latest.samples, 0) END AS missing_univariate_samples,
    CASE WHEN latest.samples IS NOT NULL THEN greatest(1000 - latest.samples, 0) END AS missing_samples,
    latest.trained_at + interval '1 week'
        * (greatest(1000 - latest.samples, 0) * extract(epoch FROM p.sample_interval)
           / extract(epoch FROM p.hours_per_week) / coalesce(nullif(latest.coverage, 0), 1))::double precision AS complete_at,
    CASE
        WHEN latest.version IS NULL THEN 'never trained'
        WHEN latest.reason IS NOT NULL THEN latest.reason
        WHEN latest.samples < 1000 THEN format('%s more samples give full confidence', 1000 - latest.samples)
    END AS remark
FROM smartbox.services AS s
    CROSS JOIN periods AS p
    LEFT JOIN smartbox.models AS active
        ON active.service = s.service AND active.time_period = p.time_period AND active.is_active
    LEFT JOIN LATERAL (
        SELECT m.time_period, m.version, m.samples
        FROM smartbox.models AS m
        WHERE m.service = s.service AND m.is_active AND active.version IS NULL
            AND m.time_period = ANY (p.others)
        ORDER BY array_position(p.others, m.time_period)
        LIMIT 1
    ) AS fallback ON true
    LEFT JOIN LATERAL (
        SELECT m.version, m.status, m.trained_at, m.samples, m.coverage, m.reason
        FROM smartbox.models AS m
        WHERE m.service = s.service AND m.time_period = p.time_period
        ORDER BY m.version DESC
        LIMIT 1
    ) AS latest ON true
WHERE s.enabled;

COMMENT ON VIEW smartbox.model_status IS 'one row per enabled service and period: the model that judges, what it is based on, and what is missing';
COMMENT ON COLUMN smartbox.model_status.service IS 'the service';
COMMENT ON COLUMN smartbox.model_status.time_period IS 'the part of the week';
COMMENT ON COLUMN smartbox.model_status.is_active IS 'there is a model that judges';
COMMENT ON COLUMN smartbox.model_status.active_version IS 'its version';
COMMENT ON COLUMN smartbox.model_status.trained_at IS 'when it was trained';
COMMENT ON COLUMN smartbox.model_status.samples IS 'samples that it was trained on';
COMMENT ON COLUMN smartbox.model_status.based_on IS 'what it learnt from: own samples, or what its card says';
COMMENT ON COLUMN smartbox.model_status.fallback_period IS 'without a model of its own: the period whose model judges meanwhile; NULL: none does';
COMMENT ON COLUMN smartbox.model_status.fallback_version IS 'version of that model';
COMMENT ON COLUMN smartbox.model_status.confidence IS 'the most that an anomaly of several metrics is trusted with the model that judges now, 0 to 1; NULL: no model judges';
COMMENT ON COLUMN smartbox.model_status.latest_version IS 'the last version that was trained, active or not';
COMMENT ON COLUMN smartbox.model_status.latest_status IS 'what became of it: accepted, rejected or insufficient';
COMMENT ON COLUMN smartbox.model_status.latest_trained_at IS 'when it was trained';
COMMENT ON COLUMN smartbox.model_status.latest_samples IS 'samples that the last version was trained on';
COMMENT ON COLUMN smartbox.model_status.missing_univariate_samples IS 'samples short of the 500 that give full confidence in anomalies of one metric; NULL: never trained';
COMMENT ON COLUMN smartbox.model_status.missing_samples IS 'samples short of the 1,000 that give full confidence; NULL: never trained';
COMMENT ON COLUMN smartbox.model_status.complete_at IS 'when they will be there, at the sample interval of now and the share of samples that arrived before the last training; the past: train again';
COMMENT ON COLUMN smartbox.model_status.remark IS 'why there is no model, or a weak one; NULL: nothing is wrong';
