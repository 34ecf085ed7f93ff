-- From an alarm that was of no use to the change that stops it, with what else
-- that would have changed: each remedy is tried on the past before it is made.

CREATE FUNCTION smartbox.limits_beyond(
    of_service text, of_incident text,
    OUT metric text, OUT comparison text, OUT threshold numeric, OUT severity smartbox.severity, OUT min_requests double precision)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT l.metric, l.comparison,
        CASE WHEN l.needed > 0 THEN round(l.needed::numeric, 2 - floor(log(l.needed))::integer) ELSE 0 END,
        l.severity, l.min_requests
    FROM (
        SELECT r.metric, r.comparison, r.severity, r.min_requests, r.threshold,
            CASE r.comparison
                WHEN 'above' THEN 1.25 * max(b.value)
                WHEN 'below' THEN min(b.value) / 1.25
                WHEN 'above_expected_share' THEN 1.25 * max(b.value / nullif(b.expected, 0))
                ELSE min(b.value / nullif(b.expected, 0)) / 1.25
            END AS needed
        FROM (
            SELECT s.signal->>'metric' AS metric, s.signal->>'direction' AS direction,
                c.value, c.expected
            FROM smartbox.incidents AS i
                JOIN smartbox.detections AS d
                    ON d.service = i.service AND d.ts BETWEEN i.first_seen AND i.last_seen AND d.is_anomaly
                CROSS JOIN LATERAL jsonb_path_query(d.payload, '$.anomalies[*] ? (@.metadata.incident_id == $id)',
                                                    jsonb_build_object('id', of_incident)) AS a(anomaly)
                CROSS JOIN LATERAL jsonb_path_query(a.anomaly, '$.detection_signals[*] ? (@.method == "rule")') AS s(signal)
                CROSS JOIN LATERAL jsonb_to_record(a.anomaly->'comparison'->(s.signal->>'metric'))
                    AS c(value double precision, expected double precision)
            WHERE i.service = of_service AND i.incident_id = of_incident
        ) AS b
            JOIN smartbox.rules AS r
                ON r.metric = b.metric AND starts_with(r.comparison, CASE b.direction WHEN 'high' THEN 'above' ELSE 'below' END)
        WHERE r.enabled AND (r.service = of_service OR r.service = '*' AND NOT EXISTS (
            SELECT FROM smartbox.rules AS o
            WHERE o.service = of_service AND (o.metric, o.comparison, o.severity) = (r.metric, r.comparison, r.severity)))
        GROUP BY r.service, r.metric, r.comparison, r.severity, r.min_requests, r.threshold
    ) AS l
    WHERE CASE WHEN starts_with(l.comparison, 'above') THEN l.needed > l.threshold ELSE l.needed < l.threshold END
    ORDER BY l.metric, l.comparison, l.severity;
END
$$;

COMMENT ON FUNCTION smartbox.limits_beyond(text, text) IS
    'the rules that an incident broke, with the limit a quarter beyond what its detections saw';

CREATE FUNCTION smartbox.possible_remedies(
    incident smartbox.incidents, OUT remedy text, OUT options jsonb, OUT statement text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bars CONSTANT jsonb := (
        SELECT jsonb_agg(to_jsonb(b)) FROM smartbox.bars_beyond(incident.service, incident.incident_id) AS b);
    limits CONSTANT jsonb := (
        SELECT jsonb_agg(to_jsonb(l)) FROM smartbox.limits_beyond(incident.service, incident.incident_id) AS l);
    rules record;
BEGIN
    SELECT coalesce(s.confirmation_cycles, c.confirmation_cycles, 2) AS confirmation_cycles,
        coalesce(s.false_alarms_per_week, c.false_alarms_per_week) AS budget
    INTO rules
    FROM smartbox.services AS s
        LEFT JOIN smartbox.service_categories AS c ON c.category = s.category
    WHERE s.service = incident.service;

    remedy := 'as it is';
    options := '{}';
    RETURN NEXT;

    IF bars IS NOT NULL OR limits IS NOT NULL THEN
        remedy := CASE WHEN limits IS NULL THEN 'say that it is nothing: the bar rises'
            ELSE 'say that it is nothing: the bar rises, and the limit of the rule' END;
        options := jsonb_strip_nulls(jsonb_build_object('signal_bars', bars, 'rules', limits));
        statement := format('SELECT @extschema@.feedback(%L, ''not_anomaly'')', incident.incident_id)
            || coalesce((
                SELECT '; INSERT INTO smartbox.rules (service, metric, comparison, threshold, severity, min_requests) VALUES '
                    || string_agg(format('(%L, %L, %L, %s, %L, %s)',
                        incident.service, l->>'metric', l->>'comparison', l->>'threshold', l->>'severity', l->>'min_requests'), ', ')
                    || ' ON CONFLICT (service, metric, comparison, severity) DO UPDATE SET threshold = excluded.threshold'
                FROM jsonb_array_elements(limits) AS l), '');
        RETURN NEXT;
    END IF;

    -- Half an hour is as long as anybody waits to be told.
    remedy := 'wait for more cycles before anybody is told';
    options := jsonb_build_object('confirmation_cycles',
        greatest(rules.confirmation_cycles + 1, least(incident.occurrence_count + 1, 6)));
    statement := format('UPDATE smartbox.services SET confirmation_cycles = %s WHERE service = %L',
        options->>'confirmation_cycles', incident.service);
    RETURN NEXT;

    IF rules.budget > 0 AND incident.anomaly_name <> 'no_data' THEN
        remedy := 'ask for what is ten times as rare';
        options := jsonb_build_object('false_alarms_per_week', rules.budget / 10);
        statement := format('UPDATE smartbox.services SET false_alarms_per_week = %s WHERE service = %L',
            rules.budget / 10, incident.service);
        RETURN NEXT;
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.possible_remedies(smartbox.incidents) IS
    'what could be done about an incident that was of no use, as options of a backtest() and as a statement; the first is to leave everything as it is';

CREATE FUNCTION @extschema@.try_remedies(
    id text, since timestamptz DEFAULT NULL,
    OUT remedy text, OUT stops_it boolean, OUT alarms bigint, OUT others_stopped bigint, OUT faults_missed bigint,
    OUT others_new bigint, OUT longest_delay interval, OUT tried_since timestamptz, OUT options jsonb, OUT statement text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 1000000 ROWS 4
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents;
    oldest timestamptz;
    newest timestamptz;
    it_names text[];
    it_span tstzrange;
BEGIN
    SELECT i.* INTO incident FROM smartbox.incidents AS i WHERE i.incident_id = id ORDER BY i.service LIMIT 1;
    IF NOT FOUND THEN
        PERFORM smartbox.refuse_unknown_incident(id);
    END IF;
    SELECT min(s.ts), max(s.ts) INTO oldest, newest FROM smartbox.samples AS s WHERE s.service = incident.service;
    tried_since := coalesce(since,
        least(incident.first_seen - interval '1 hour',
              greatest(newest - interval '336 hours', oldest + interval '336 hours')));
    IF newest IS NULL OR tried_since > newest THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('service "%s" has no samples since %s to try anything on', incident.service, tried_since),
            HINT = 'A remedy is tried on smartbox.samples; see smartbox_anomaly.samples_retention.';
    END IF;

    it_names := incident.signals || incident.anomaly_name;
    it_span := tstzrange(incident.first_seen, incident.last_seen, '[]');

    -- An alarm is the same one when it is there at the same time and has a
    -- signal or the name in common.
    RETURN QUERY
    WITH remedies AS MATERIALIZED (
        SELECT row_number() OVER () AS place, r.remedy, r.options, r.statement
        FROM smartbox.possible_remedies(incident) AS r
    ), alarm AS MATERIALIZED (
        SELECT r.place, b.incident_id, b.confirmed_at, b.signals || b.anomaly_name AS names,
            tstzrange(b.first_seen, b.last_seen, '[]') AS span
        FROM remedies AS r
            CROSS JOIN LATERAL @extschema@.backtest_incidents(incident.service, tried_since, newest, r.options) AS b
        WHERE b.confirmed_at IS NOT NULL
    ), as_it_is AS MATERIALIZED (
        SELECT a.incident_id, a.confirmed_at, a.names, a.span, a.names && it_names AND a.span && it_span AS is_it,
            EXISTS (SELECT FROM smartbox.incident_facts AS f
                    WHERE f.service = incident.service AND f.verdict = 'anomaly'
                        AND a.span && tstzrange(f.first_seen, f.resolved_at, '[]'))
                OR EXISTS (SELECT FROM smartbox.past_incidents AS p
                           WHERE p.service = incident.service
                               AND a.span && tstzrange(p.started_at, coalesce(p.ended_at, p.started_at), '[]')) AS is_fault
        FROM alarm AS a
        WHERE a.place = 1
    ), other AS (
        SELECT r.place, o.is_fault, min(a.confirmed_at) - o.confirmed_at AS delay
        FROM remedies AS r
            CROSS JOIN as_it_is AS o
            LEFT JOIN alarm AS a ON a.place = r.place AND a.names && o.names AND a.span && o.span
        WHERE NOT o.is_it
        GROUP BY r.place, o.incident_id, o.is_fault, o.confirmed_at
    )
    SELECT r.remedy,
        NOT EXISTS (SELECT FROM alarm AS a WHERE a.place = r.place AND a.names && it_names AND a.span && it_span),
        (SELECT count(*) FROM alarm AS a WHERE a.place = r.place),
        (SELECT count(*) FROM other AS o WHERE o.place = r.place AND o.delay IS NULL),
        (SELECT count(*) FROM other AS o WHERE o.place = r.place AND o.delay IS NULL AND o.is_fault),
        (SELECT count(*) FROM alarm AS a
         WHERE a.place = r.place
             AND NOT EXISTS (SELECT FROM as_it_is AS o WHERE a.names && o.names AND a.span && o.span)),
        (SELECT max(o.delay) FROM other AS o WHERE o.place = r.place),
        tried_since, r.options, r.statement
    FROM remedies AS r
    ORDER BY r.place;
END
$$;

COMMENT ON FUNCTION @extschema@.try_remedies(text, timestamptz) IS
$$what would stop an alarm that was of no use, and what else that would change: one row per remedy, each tried
by a backtest since an instant (NULL: two weeks, or the incident's beginning), the first with everything as it
is. stops_it: this alarm would not come. alarms: how many would. others_stopped: other alarms that come as it
is and would not; faults_missed: of these, that were faults by feedback or smartbox.past_incidents.
others_new: alarms that do not come as it is. longest_delay: by how much others would come later. options: for
backtest(). statement: makes it so. Writes nothing$$;
