-- How often, how long, how right: statistics of incidents for BI tools.  One row
-- per thing, timestamptz, no jsonb.

CREATE VIEW smartbox.incident_facts AS
SELECT
    i.service,
    i.incident_id,
    i.fingerprint_id,
    i.anomaly_name,
    i.pattern,
    i.status,
    i.severity,
    i.first_seen,
    i.confirmed_at,
    i.acknowledged_at,
    i.resolved_at,
    i.resolution_reason,
    i.occurrence_count,
    i.reopen_count,
    i.confirmed_at IS NOT NULL AS is_confirmed,
    i.status IN ('OPEN', 'RECOVERING') AS is_open,
    CASE WHEN i.acknowledged_at IS NOT NULL THEN
        (extract(epoch FROM greatest(i.acknowledged_at, i.confirmed_at) - i.confirmed_at) / 60)::double precision
    END AS minutes_to_acknowledge,
    (extract(epoch FROM i.resolved_at - i.first_seen) / 60)::double precision AS minutes_to_resolve,
    (extract(epoch FROM coalesce(i.resolved_at, i.last_evaluated) - i.first_seen) / 60)::double precision AS minutes_active,
    f.verdict,
    f.verdict = 'not_anomaly' AS is_false_alarm
FROM smartbox.incidents AS i
    LEFT JOIN LATERAL (
        SELECT g.verdict
        FROM smartbox.feedback AS g
        WHERE g.service = i.service AND g.incident_id = i.incident_id AND g.verdict IS NOT NULL
        ORDER BY g.feedback_number DESC
        LIMIT 1
    ) AS f ON true;

COMMENT ON VIEW smartbox.incident_facts IS 'one row per incident that is kept, with what is counted of it: the ground of the statistics';
COMMENT ON COLUMN smartbox.incident_facts.service IS 'the service';
COMMENT ON COLUMN smartbox.incident_facts.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.incident_facts.fingerprint_id IS 'identity of what is wrong';
COMMENT ON COLUMN smartbox.incident_facts.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.incident_facts.pattern IS 'the pattern that explained it best; NULL: none did';
COMMENT ON COLUMN smartbox.incident_facts.status IS 'SUSPECTED, OPEN, RECOVERING or CLOSED';
COMMENT ON COLUMN smartbox.incident_facts.severity IS 'the worst so far';
COMMENT ON COLUMN smartbox.incident_facts.first_seen IS 'instant of the first detection';
COMMENT ON COLUMN smartbox.incident_facts.confirmed_at IS 'instant at which people were told; NULL: it never was more than a suspicion';
COMMENT ON COLUMN smartbox.incident_facts.acknowledged_at IS 'when somebody first said to be on it; NULL: nobody has';
COMMENT ON COLUMN smartbox.incident_facts.resolved_at IS 'instant of its end; NULL: it is not over';
COMMENT ON COLUMN smartbox.incident_facts.resolution_reason IS 'why it ended';
COMMENT ON COLUMN smartbox.incident_facts.occurrence_count IS 'cycles in which it was detected';
COMMENT ON COLUMN smartbox.incident_facts.reopen_count IS 'how often it was reopened';
COMMENT ON COLUMN smartbox.incident_facts.is_confirmed IS 'it was more than a suspicion: an alarm';
COMMENT ON COLUMN smartbox.incident_facts.is_open IS 'confirmed and not over';
COMMENT ON COLUMN smartbox.incident_facts.minutes_to_acknowledge IS 'minutes from its confirmation until somebody was on it; NULL: nobody was';
COMMENT ON COLUMN smartbox.incident_facts.minutes_to_resolve IS 'minutes from the first detection to the end; NULL: it is not over';
COMMENT ON COLUMN smartbox.incident_facts.minutes_active IS 'minutes from the first detection to the end, or to the last cycle so far';
COMMENT ON COLUMN smartbox.incident_facts.verdict IS 'the newest verdict by feedback: anomaly, expected, not_anomaly or new_trend; NULL: nobody judged it';
COMMENT ON COLUMN smartbox.incident_facts.is_false_alarm IS 'the verdict is not_anomaly; NULL: nobody judged it';

CREATE VIEW smartbox.pattern_statistics AS
SELECT
    f.service,
    f.anomaly_name,
    f.fingerprint_id,
    count(i.incident_id) AS incidents,
    count(*) FILTER (WHERE i.is_confirmed) AS confirmed_incidents,
    count(*) FILTER (WHERE i.status <> 'CLOSED') AS active_incidents,
    count(*) FILTER (WHERE i.is_open) AS open_incidents,
    count(*) FILTER (WHERE NOT i.is_confirmed AND i.status = 'CLOSED') AS expired_suspicions,
    max(i.severity) AS worst_severity,
    avg(i.minutes_to_acknowledge) FILTER (WHERE i.is_confirmed) AS mean_minutes_to_acknowledge,
    avg(i.minutes_to_resolve) FILTER (WHERE i.is_confirmed) AS mean_minutes_to_resolve,
    max(i.minutes_active) FILTER (WHERE i.is_confirmed) AS longest_minutes,
    (array_agg(i.incident_id ORDER BY i.minutes_active DESC, i.first_seen DESC) FILTER (WHERE i.is_confirmed))[1] AS longest_incident_id,
    count(i.is_false_alarm) FILTER (WHERE i.is_confirmed) AS judged,
    count(*) FILTER (WHERE i.is_false_alarm AND i.is_confirmed) AS false_alarms,
    1 - count(*) FILTER (WHERE i.is_false_alarm AND i.is_confirmed)
        / nullif(count(i.is_false_alarm) FILTER (WHERE i.is_confirmed), 0)::double precision AS precision_by_feedback,
    f.first_seen,
    f.last_seen
FROM smartbox.fingerprints AS f
    LEFT JOIN smartbox.incident_facts AS i
        ON i.service = f.service AND i.fingerprint_id = f.fingerprint_id
GROUP BY f.service, f.fingerprint_id, f.anomaly_name, f.first_seen, f.last_seen;

COMMENT ON VIEW smartbox.pattern_statistics IS 'one row per service and name of what is wrong: how often it came, how long it stayed, what people said of it';
COMMENT ON COLUMN smartbox.pattern_statistics.service IS 'the service';
COMMENT ON COLUMN smartbox.pattern_statistics.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.pattern_statistics.fingerprint_id IS 'its identity, the same each time it comes back';
COMMENT ON COLUMN smartbox.pattern_statistics.incidents IS 'incidents that are still kept, suspicions that came to nothing included';
COMMENT ON COLUMN smartbox.pattern_statistics.confirmed_incidents IS 'of these, alarms: they were confirmed';
COMMENT ON COLUMN smartbox.pattern_statistics.active_incidents IS 'of these, not closed';
COMMENT ON COLUMN smartbox.pattern_statistics.open_incidents IS 'of these, open or recovering';
COMMENT ON COLUMN smartbox.pattern_statistics.expired_suspicions IS 'suspicions that were never confirmed';
COMMENT ON COLUMN smartbox.pattern_statistics.worst_severity IS 'the worst of its incidents';
COMMENT ON COLUMN smartbox.pattern_statistics.mean_minutes_to_acknowledge IS 'mean minutes from the confirmation until somebody was on it, of confirmed incidents that somebody acknowledged';
COMMENT ON COLUMN smartbox.pattern_statistics.mean_minutes_to_resolve IS 'mean minutes from the first detection to the end, of confirmed incidents that are over';
COMMENT ON COLUMN smartbox.pattern_statistics.longest_minutes IS 'minutes of the longest confirmed incident, over or not';
COMMENT ON COLUMN smartbox.pattern_statistics.longest_incident_id IS 'that incident';
COMMENT ON COLUMN smartbox.pattern_statistics.judged IS 'alarms that somebody gave a verdict on';
COMMENT ON COLUMN smartbox.pattern_statistics.false_alarms IS 'of these, not_anomaly';
COMMENT ON COLUMN smartbox.pattern_statistics.precision_by_feedback IS 'share of the judged alarms that were none of these, 0 to 1; NULL: none was judged';
COMMENT ON COLUMN smartbox.pattern_statistics.first_seen IS 'instant of the first detection ever';
COMMENT ON COLUMN smartbox.pattern_statistics.last_seen IS 'instant of the last detection';

CREATE VIEW smartbox.open_incidents AS
SELECT
    i.service,
    i.severity,
    count(*) AS incidents,
    count(*) FILTER (WHERE i.acknowledged_at IS NOT NULL) AS acknowledged,
    min(i.first_seen) AS oldest_first_seen
FROM smartbox.incidents AS i
WHERE i.status <> 'CLOSED' AND i.confirmed_at IS NOT NULL
GROUP BY i.service, i.severity;

COMMENT ON VIEW smartbox.open_incidents IS 'how many incidents are open now: one row per service and severity that has any';
COMMENT ON COLUMN smartbox.open_incidents.service IS 'the service';
COMMENT ON COLUMN smartbox.open_incidents.severity IS 'the worst severity so far';
COMMENT ON COLUMN smartbox.open_incidents.incidents IS 'incidents that are open or recovering';
COMMENT ON COLUMN smartbox.open_incidents.acknowledged IS 'of these, somebody is on it';
COMMENT ON COLUMN smartbox.open_incidents.oldest_first_seen IS 'instant of the first detection of the oldest';

CREATE VIEW smartbox.incident_days AS
SELECT
    c.service,
    date_trunc('day', c.ts, 'UTC') AS day,
    count(*) FILTER (WHERE c.change = 'created') AS created,
    count(*) FILTER (WHERE c.change = 'confirmed') AS confirmed,
    count(*) FILTER (WHERE c.change = 'resolved') AS resolved,
    count(*) FILTER (WHERE c.change = 'expired') AS expired
FROM (
    SELECT i.service, i.first_seen AS ts, 'created' AS change
    FROM smartbox.incidents AS i
    UNION ALL
    SELECT i.service, i.confirmed_at, 'confirmed'
    FROM smartbox.incidents AS i
    WHERE i.confirmed_at IS NOT NULL
    UNION ALL
    SELECT i.service, i.resolved_at, CASE WHEN i.confirmed_at IS NULL THEN 'expired' ELSE 'resolved' END
    FROM smartbox.incidents AS i
    WHERE i.resolved_at IS NOT NULL
) AS c
GROUP BY c.service, date_trunc('day', c.ts, 'UTC');

COMMENT ON VIEW smartbox.incident_days IS 'one row per service and day (UTC) on which an incident began or ended: created against resolved';
COMMENT ON COLUMN smartbox.incident_days.service IS 'the service';
COMMENT ON COLUMN smartbox.incident_days.day IS 'begin of the day, UTC';
COMMENT ON COLUMN smartbox.incident_days.created IS 'incidents that were first seen, suspicions included';
COMMENT ON COLUMN smartbox.incident_days.confirmed IS 'incidents that were confirmed: alarms';
COMMENT ON COLUMN smartbox.incident_days.resolved IS 'confirmed incidents that ended';
COMMENT ON COLUMN smartbox.incident_days.expired IS 'suspicions that came to nothing';

CREATE VIEW smartbox.incident_statistics AS
SELECT
    i.service,
    count(*) AS incidents,
    count(*) FILTER (WHERE i.is_confirmed) AS confirmed_incidents,
    count(*) FILTER (WHERE i.is_open) AS open_incidents,
    count(*) FILTER (WHERE i.is_confirmed AND i.acknowledged_at IS NOT NULL) AS acknowledged_incidents,
    avg(i.minutes_to_acknowledge) FILTER (WHERE i.is_confirmed) AS mean_minutes_to_acknowledge,
    avg(i.minutes_to_resolve) FILTER (WHERE i.is_confirmed) AS mean_minutes_to_resolve,
    max(i.minutes_active) FILTER (WHERE i.is_confirmed) AS longest_minutes,
    count(i.is_false_alarm) FILTER (WHERE i.is_confirmed) AS judged,
    count(*) FILTER (WHERE i.is_false_alarm AND i.is_confirmed) AS false_alarms,
    1 - count(*) FILTER (WHERE i.is_false_alarm AND i.is_confirmed)
        / nullif(count(i.is_false_alarm) FILTER (WHERE i.is_confirmed), 0)::double precision AS precision_by_feedback,
    min(i.first_seen) AS first_seen,
    max(i.first_seen) AS last_first_seen
FROM smartbox.incident_facts AS i
GROUP BY i.service;

COMMENT ON VIEW smartbox.incident_statistics IS 'one row per service with incidents, of all that are kept: how many, how long, how right';
COMMENT ON COLUMN smartbox.incident_statistics.service IS 'the service';
COMMENT ON COLUMN smartbox.incident_statistics.incidents IS 'incidents that are kept, suspicions included';
COMMENT ON COLUMN smartbox.incident_statistics.confirmed_incidents IS 'of these, confirmed: alarms';
COMMENT ON COLUMN smartbox.incident_statistics.open_incidents IS 'of these, open or recovering';
COMMENT ON COLUMN smartbox.incident_statistics.acknowledged_incidents IS 'of these, somebody was on it';
COMMENT ON COLUMN smartbox.incident_statistics.mean_minutes_to_acknowledge IS 'mean minutes from the confirmation until somebody was on it, of confirmed incidents that somebody acknowledged';
COMMENT ON COLUMN smartbox.incident_statistics.mean_minutes_to_resolve IS 'mean minutes from the first detection to the end, of confirmed incidents that are over';
COMMENT ON COLUMN smartbox.incident_statistics.longest_minutes IS 'minutes of the longest confirmed incident, over or not';
COMMENT ON COLUMN smartbox.incident_statistics.judged IS 'alarms that somebody gave a verdict on';
COMMENT ON COLUMN smartbox.incident_statistics.false_alarms IS 'of these, not_anomaly';
COMMENT ON COLUMN smartbox.incident_statistics.precision_by_feedback IS 'share of the judged alarms that were none of these, 0 to 1; NULL: none was judged';
COMMENT ON COLUMN smartbox.incident_statistics.first_seen IS 'when the oldest that is kept began';
COMMENT ON COLUMN smartbox.incident_statistics.last_first_seen IS 'when the newest began';

CREATE VIEW smartbox.service_weeks AS
SELECT
    s.service,
    w.week,
    count(i.incident_id) AS alarms,
    count(i.is_false_alarm) AS judged,
    count(*) FILTER (WHERE i.is_false_alarm) AS false_alarms,
    coalesce(s.false_alarms_per_week, c.false_alarms_per_week) AS false_alarm_budget,
    coalesce(count(*) FILTER (WHERE i.is_false_alarm) > coalesce(s.false_alarms_per_week, c.false_alarms_per_week), false)
        AS is_over_budget
FROM smartbox.services AS s
    LEFT JOIN smartbox.service_categories AS c ON c.category = s.category
    CROSS JOIN LATERAL (
        SELECT least(s.created_at, min(x.first_seen)) AS known_since
        FROM smartbox.incidents AS x
        WHERE x.service = s.service
    ) AS k
    CROSS JOIN LATERAL generate_series(
        date_trunc('week', now(), 'UTC') - interval '1848 hours', date_trunc('week', now(), 'UTC'), interval '168 hours')
        AS w(week)
    LEFT JOIN smartbox.incident_facts AS i
        ON i.service = s.service AND i.is_confirmed
            AND i.confirmed_at >= w.week AND i.confirmed_at < w.week + interval '168 hours'
WHERE s.enabled AND w.week + interval '168 hours' > k.known_since
GROUP BY s.service, w.week, c.false_alarms_per_week;

COMMENT ON VIEW smartbox.service_weeks IS 'alarms per service and week of the last 12 weeks, weeks without any included: one row per enabled service and week in which it was known';
COMMENT ON COLUMN smartbox.service_weeks.service IS 'the service';
COMMENT ON COLUMN smartbox.service_weeks.week IS 'begin of the week: Monday, UTC';
COMMENT ON COLUMN smartbox.service_weeks.alarms IS 'incidents that were confirmed in it';
COMMENT ON COLUMN smartbox.service_weeks.judged IS 'of these, alarms that somebody gave a verdict on';
COMMENT ON COLUMN smartbox.service_weeks.false_alarms IS 'of these, not_anomaly';
COMMENT ON COLUMN smartbox.service_weeks.false_alarm_budget IS 'false alarms per week that are tolerated, by the service or its category';
COMMENT ON COLUMN smartbox.service_weeks.is_over_budget IS 'there were more of them';

CREATE VIEW smartbox.service_health AS
SELECT
    s.service,
    s.category,
    h.status,
    array_position(ARRAY['critical', 'high', 'medium', 'low', 'silent', 'not judged', 'suspected', 'ok', 'disabled'], h.status) AS status_rank,
    n.worst_severity,
    n.open_critical,
    n.open_high,
    n.open_medium,
    n.open_low,
    n.suspected,
    n.unacknowledged,
    r.alarms_7d,
    r.false_alarms_7d,
    x.ts AS last_sample,
    d.ts AS last_detection,
    d.score AS last_score,
    m.active_models,
    m.last_trained_at,
    -- Not joined, so that it costs nothing where nobody asks for it.
    (SELECT q.verdict FROM smartbox.sample_quality AS q WHERE q.service = s.service AND q.days = 1) AS data_quality
FROM smartbox.services AS s
    CROSS JOIN LATERAL (
        SELECT
            max(i.severity) FILTER (WHERE i.confirmed_at IS NOT NULL) AS worst_severity,
            count(*) FILTER (WHERE i.confirmed_at IS NOT NULL AND i.severity = 'critical') AS open_critical,
            count(*) FILTER (WHERE i.confirmed_at IS NOT NULL AND i.severity = 'high') AS open_high,
            count(*) FILTER (WHERE i.confirmed_at IS NOT NULL AND i.severity = 'medium') AS open_medium,
            count(*) FILTER (WHERE i.confirmed_at IS NOT NULL AND i.severity <= 'low') AS open_low,
            count(*) FILTER (WHERE i.confirmed_at IS NULL) AS suspected,
            count(*) FILTER (WHERE i.confirmed_at IS NOT NULL AND i.acknowledged_at IS NULL) AS unacknowledged
        FROM smartbox.incidents AS i
        WHERE i.service = s.service AND i.status <> 'CLOSED'
    ) AS n
    CROSS JOIN LATERAL (
        SELECT count(*) AS alarms_7d, count(*) FILTER (WHERE i.is_false_alarm) AS false_alarms_7d
        FROM smartbox.incident_facts AS i
        WHERE i.service = s.service AND i.confirmed_at > now() - interval '168 hours'
    ) AS r
    LEFT JOIN LATERAL (
        SELECT x.ts
        FROM smartbox.samples AS x
        WHERE x.service = s.service
        ORDER BY x.ts DESC
        LIMIT 1
    ) AS x ON true
    LEFT JOIN LATERAL (
        SELECT d.ts, d.score, d.no_data
        FROM smartbox.detections AS d
        WHERE d.service = s.service
        ORDER BY d.ts DESC
        LIMIT 1
    ) AS d ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS active_models, max(m.trained_at) AS last_trained_at
        FROM smartbox.models AS m
        WHERE m.service = s.service AND m.is_active
    ) AS m
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN NOT s.enabled THEN 'disabled'
            WHEN n.worst_severity > 'none' THEN n.worst_severity::text
            WHEN n.worst_severity = 'none' THEN 'low'
            WHEN d.no_data THEN 'silent'
            WHEN d.ts IS NULL OR d.ts < x.ts - 3 * smartbox.sample_interval() THEN 'not judged'
            WHEN n.suspected > 0 THEN 'suspected'
            ELSE 'ok'
        END AS status
    ) AS h;

COMMENT ON VIEW smartbox.service_health IS 'one row per service, how it is now; in the order of status_rank the worst come first';
COMMENT ON COLUMN smartbox.service_health.service IS 'the service';
COMMENT ON COLUMN smartbox.service_health.category IS 'what kind of service';
COMMENT ON COLUMN smartbox.service_health.status IS 'the worst severity of what is open (critical, high, medium, low); else silent: no data in the last cycle; not judged: no detection of its last samples; suspected; ok; or disabled';
COMMENT ON COLUMN smartbox.service_health.status_rank IS 'the same as a number to order by: 1 critical to 4 low, 5 silent, 6 not judged, 7 suspected, 8 ok, 9 disabled';
COMMENT ON COLUMN smartbox.service_health.worst_severity IS 'worst severity of the incidents that are open; NULL: none is';
COMMENT ON COLUMN smartbox.service_health.open_critical IS 'critical incidents that are open or recovering';
COMMENT ON COLUMN smartbox.service_health.open_high IS 'high ones';
COMMENT ON COLUMN smartbox.service_health.open_medium IS 'medium ones';
COMMENT ON COLUMN smartbox.service_health.open_low IS 'low ones';
COMMENT ON COLUMN smartbox.service_health.suspected IS 'incidents that nobody was told of yet';
COMMENT ON COLUMN smartbox.service_health.unacknowledged IS 'open incidents that nobody said to be on';
COMMENT ON COLUMN smartbox.service_health.alarms_7d IS 'incidents that were confirmed in the last 7 days (168 hours)';
COMMENT ON COLUMN smartbox.service_health.false_alarms_7d IS 'of these, not_anomaly by feedback';
COMMENT ON COLUMN smartbox.service_health.last_sample IS 'instant of the newest sample; NULL: there is none';
COMMENT ON COLUMN smartbox.service_health.last_detection IS 'instant of the newest sample that was judged; NULL: none was';
COMMENT ON COLUMN smartbox.service_health.last_score IS 'its score: below 0 is an anomaly';
COMMENT ON COLUMN smartbox.service_health.active_models IS 'parts of the week with a model of their own';
COMMENT ON COLUMN smartbox.service_health.last_trained_at IS 'when the newest of them was trained';
COMMENT ON COLUMN smartbox.service_health.data_quality IS 'smartbox.sample_quality of the last day in words; NULL: of a disabled service';

CREATE VIEW smartbox.noisy_patterns AS
SELECT
    row_number() OVER (ORDER BY p.alarms DESC, p.service, p.anomaly_name) AS rank,
    p.service,
    p.anomaly_name,
    p.alarms,
    p.judged,
    p.false_alarms,
    p.short_alarms,
    p.reopenings,
    p.newest_incident_id,
    r.remedy,
    r.statement
FROM (
    SELECT
        i.service,
        i.anomaly_name,
        count(*) AS alarms,
        count(i.is_false_alarm) AS judged,
        count(*) FILTER (WHERE i.is_false_alarm) AS false_alarms,
        count(*) FILTER (WHERE i.occurrence_count <= t.confirmation_cycles + 1 AND i.status = 'CLOSED') AS short_alarms,
        sum(i.reopen_count) AS reopenings,
        (array_agg(i.incident_id ORDER BY i.confirmed_at DESC))[1] AS newest_incident_id,
        t.confirmation_cycles,
        t.resolution_grace_cycles
    FROM smartbox.incident_facts AS i
        JOIN smartbox.services AS s ON s.service = i.service
        LEFT JOIN smartbox.service_categories AS c ON c.category = s.category
        CROSS JOIN LATERAL (
            SELECT coalesce(s.confirmation_cycles, c.confirmation_cycles, 2) AS confirmation_cycles,
                coalesce(s.resolution_grace_cycles, c.resolution_grace_cycles, 3) AS resolution_grace_cycles
        ) AS t
    WHERE i.confirmed_at > now() - interval '672 hours'
    GROUP BY i.service, i.anomaly_name, t.confirmation_cycles, t.resolution_grace_cycles
    HAVING count(*) > 1
) AS p
    LEFT JOIN smartbox.metrics AS m ON m.metric = regexp_replace(p.anomaly_name, '_(high|low)$', '')
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN p.reopenings >= p.alarms AND p.resolution_grace_cycles < 1000 THEN 'wait longer before it counts as over'
            WHEN 2 * p.short_alarms >= p.alarms AND p.confirmation_cycles < 1000 THEN 'wait for one more cycle before anybody is told'
            WHEN p.false_alarms > 1 AND m.metric IS NOT NULL THEN 'let smaller deviations of the metric be, for all services'
            WHEN p.false_alarms > 1 THEN 'silence it until it is understood'
            ELSE 'say what it was: not_anomaly raises the bar'
        END AS remedy,
        CASE
            WHEN p.reopenings >= p.alarms AND p.resolution_grace_cycles < 1000 THEN
                format('UPDATE smartbox.services SET resolution_grace_cycles = %s WHERE service = %L',
                       least(2 * p.resolution_grace_cycles, 1000), p.service)
            WHEN 2 * p.short_alarms >= p.alarms AND p.confirmation_cycles < 1000 THEN
                format('UPDATE smartbox.services SET confirmation_cycles = %s WHERE service = %L',
                       p.confirmation_cycles + 1, p.service)
            WHEN p.false_alarms > 1 AND m.metric IS NOT NULL THEN
                format('UPDATE smartbox.metrics SET min_relative_deviation = %s WHERE metric = %L',
                       round((1.5 * greatest(m.min_relative_deviation, 0.1))::numeric, 3), m.metric)
            WHEN p.false_alarms > 1 THEN
                format('SELECT @extschema@.silence(%L, %L, now() + interval ''7 days'', %L)', p.service, p.anomaly_name, 'noisy')
            ELSE
                format('SELECT @extschema@.feedback(%L, %L)', p.newest_incident_id, 'not_anomaly')
        END AS statement
    ) AS r;

COMMENT ON VIEW smartbox.noisy_patterns IS 'what gave more than one alarm in the last 4 weeks (672 hours), one row per service and name, with a statement that would make it quieter';
COMMENT ON COLUMN smartbox.noisy_patterns.rank IS '1 has the most alarms';
COMMENT ON COLUMN smartbox.noisy_patterns.service IS 'the service';
COMMENT ON COLUMN smartbox.noisy_patterns.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.noisy_patterns.alarms IS 'incidents that were confirmed';
COMMENT ON COLUMN smartbox.noisy_patterns.judged IS 'of these, somebody gave a verdict on';
COMMENT ON COLUMN smartbox.noisy_patterns.false_alarms IS 'of these, not_anomaly';
COMMENT ON COLUMN smartbox.noisy_patterns.short_alarms IS 'alarms that were detected in at most one cycle more than it took to confirm them';
COMMENT ON COLUMN smartbox.noisy_patterns.reopenings IS 'times that one of them came back and was reopened';
COMMENT ON COLUMN smartbox.noisy_patterns.newest_incident_id IS 'the last of them: what try_remedies() takes';
COMMENT ON COLUMN smartbox.noisy_patterns.remedy IS 'what may make it quieter, in words';
COMMENT ON COLUMN smartbox.noisy_patterns.statement IS 'the statement that does it; only a proposal: look at the incidents first';
