-- Driving incidents and reading what became of them, for the tests beside.
-- What a test does before it looks prints nothing: such functions return no rows.

-- One cycle of a service, minutes after 10:00: quiet, or with anomalies that
-- are named "name" or "name/severity".
CREATE FUNCTION pg_temp.cycle(of_service text, minute int, VARIADIC names text[] DEFAULT '{}') RETURNS SETOF void LANGUAGE sql AS $$
    INSERT INTO smartbox.detections (service, ts, time_period, is_anomaly, payload)
    SELECT of_service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 minute', 'business_hours',
        cardinality(names) > 0,
        jsonb_build_object('anomalies', coalesce(jsonb_agg(jsonb_build_object(
            'name', split_part(name, '/', 1),
            'severity', coalesce(nullif(split_part(name, '/', 2), ''), 'high'),
            'score', CASE split_part(name, '/', 2) WHEN 'critical' THEN -0.8 WHEN 'medium' THEN -0.2 ELSE -0.4 END)), '[]'))
    FROM unnest(names) AS name;
    SELECT NULL::void WHERE false
$$;

CREATE FUNCTION pg_temp.no_data(of_service text, minute int) RETURNS SETOF void LANGUAGE sql AS $$
    INSERT INTO smartbox.detections (service, ts, no_data)
    VALUES (of_service, '2024-01-15 10:00+00'::timestamptz + minute * interval '1 minute', true);
    SELECT NULL::void WHERE false
$$;

-- Each incident of a service in the order in which they began: status,
-- occurrences/in a row/missed, and severity.
CREATE FUNCTION pg_temp.incidents(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s/%s/%s %s%s', status, occurrence_count, consecutive_detections, missed_cycles, severity,
                             ' (' || resolution_reason || ')'), ', ' ORDER BY first_seen, anomaly_name)
    FROM smartbox.incidents WHERE service = of_service
$$;

-- What happened to each: the event, the state after it, the minute.
CREATE FUNCTION pg_temp.events(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(story, ' | ' ORDER BY first_seen, anomaly_name)
    FROM (SELECT i.first_seen, i.anomaly_name, string_agg(
              format('%s %s@%s', e.event, e.status, extract(epoch FROM e.ts - '2024-01-15 10:00+00')::int / 60),
              ', ' ORDER BY e.event_number) AS story
          FROM smartbox.incidents AS i JOIN smartbox.incident_events AS e USING (service, incident_id)
          WHERE i.service = of_service GROUP BY i.first_seen, i.anomaly_name, i.incident_id) AS stories
$$;

-- The messages that went out.
CREATE FUNCTION pg_temp.alerts(of_service text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s %s@%s', alert_type, severity, extract(epoch FROM ts - '2024-01-15 10:00+00')::int / 60),
                               ', ' ORDER BY ts, alert_number), 'none')
    FROM smartbox.alerts WHERE service = of_service
$$;

CREATE FUNCTION pg_temp.new_service(of_service text, confirmation int DEFAULT NULL, grace int DEFAULT NULL, separation interval DEFAULT NULL)
RETURNS SETOF void LANGUAGE sql AS $$
    INSERT INTO smartbox.services (service, category, confirmation_cycles, resolution_grace_cycles, incident_separation)
    VALUES (of_service, 'standard', confirmation, grace, separation);
    SELECT NULL::void WHERE false
$$;

CREATE FUNCTION pg_temp.ends(have text, want text, name text) RETURNS text LANGUAGE sql AS $$
    SELECT is(right(have, length(want)), want, name)
$$;
