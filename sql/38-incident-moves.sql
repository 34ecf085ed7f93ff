-- The moves of an incident: to begin, to go on, to be missed, to end, and what
-- is written of each, the alerts included.  When they are made is decided by the
-- state machine of the next part; see its picture there.

-- ---------------------------------------------------------------------------
-- Writing what happened
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.record_event(
    incident smartbox.incidents, event smartbox.incident_event, at timestamptz,
    severity smartbox.severity, score double precision, details jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO smartbox.incident_events
        (service, incident_id, event_number, event, ts, status, severity, score, details)
    VALUES
        (incident.service, incident.incident_id,
         coalesce((SELECT e.event_number
                   FROM smartbox.incident_events AS e
                   WHERE e.service = incident.service AND e.incident_id = incident.incident_id
                   ORDER BY e.event_number DESC
                   LIMIT 1), 0) + 1,
         record_event.event, at, incident.status, record_event.severity, record_event.score, record_event.details);
END
$$;

COMMENT ON FUNCTION smartbox.record_event(smartbox.incidents, smartbox.incident_event, timestamptz, smartbox.severity, double precision, jsonb) IS
    'adds an event to an incident that is in its new state already';

CREATE FUNCTION smartbox.raise_alert(
    incident smartbox.incidents, alert_type text, at timestamptz,
    severity smartbox.severity, message jsonb, silence_id text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    next_number integer;
BEGIN
    SELECT a.alert_number INTO next_number
    FROM smartbox.alerts AS a
    WHERE a.service = incident.service AND a.incident_id = incident.incident_id
    ORDER BY a.alert_number DESC
    LIMIT 1;
    next_number := coalesce(next_number, 0) + 1;

    INSERT INTO smartbox.alerts
        (service, incident_id, alert_number, alert_type, severity, ts, payload, silence_id)
    VALUES
        (incident.service, incident.incident_id, next_number, raise_alert.alert_type,
         raise_alert.severity, at, message, raise_alert.silence_id);
    IF raise_alert.silence_id IS NOT NULL THEN
        RETURN;
    END IF;

    -- Who listens gets a name to look up: the message itself can be longer
    -- than a notification may be.
    PERFORM pg_notify('smartbox_alerts', json_build_object(
        'service', incident.service,
        'incident_id', incident.incident_id,
        'alert_number', next_number,
        'alert_type', raise_alert.alert_type)::text);
END
$$;

COMMENT ON FUNCTION smartbox.raise_alert(smartbox.incidents, text, timestamptz, smartbox.severity, jsonb, text) IS
    'writes a message about an incident and notifies smartbox_alerts; one that is silenced is written only';

CREATE FUNCTION smartbox.hold_alert(incident smartbox.incidents, held boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE smartbox.incidents AS i SET alert_held = held
    WHERE i.service = incident.service AND i.incident_id = incident.incident_id AND i.alert_held <> held;
END
$$;

COMMENT ON FUNCTION smartbox.hold_alert(smartbox.incidents, boolean) IS
    'notes whether an alert about the present state of an incident was held back';

CREATE FUNCTION smartbox.openings_since(
    of_service text, fingerprint_id text, since timestamptz, OUT openings integer, OUT said boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT count(*), (array_agg(i.flapping ORDER BY e.ts DESC))[1] INTO openings, said
    FROM smartbox.incidents AS i
        JOIN smartbox.incident_events AS e ON e.service = i.service AND e.incident_id = i.incident_id
    WHERE i.service = of_service AND i.fingerprint_id = openings_since.fingerprint_id
        AND (i.resolved_at > since OR i.resolved_at IS NULL)
        AND e.event IN ('CONFIRM', 'REOPEN') AND e.ts > since;
    said := coalesce(said, false);
END
$$;

COMMENT ON FUNCTION smartbox.openings_since(text, text, timestamptz) IS
    'how often incidents of a pattern were opened after an instant, and whether the last time it was said that they flap';

-- ---------------------------------------------------------------------------
-- The moves
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.create_incident(
    of_service text, anomaly smartbox.anomaly, at timestamptz, confirmation_cycles integer,
    flapping boolean DEFAULT false)
RETURNS smartbox.incidents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    confirmed CONSTANT boolean := confirmation_cycles <= 1;
    incident smartbox.incidents;
BEGIN
    INSERT INTO smartbox.fingerprints AS f
        (service, fingerprint_id, anomaly_name, first_seen, last_seen, incident_count)
    VALUES
        (of_service, anomaly.fingerprint_id, anomaly.name, at, at, 1)
    ON CONFLICT (service, fingerprint_id) DO UPDATE SET
        last_seen = greatest(f.last_seen, excluded.last_seen),
        incident_count = f.incident_count + 1;

    incident.service := of_service;
    incident.incident_id := smartbox.incident_id(anomaly.fingerprint_id, at);
    incident.status := 'SUSPECTED';
    INSERT INTO smartbox.incidents
        (service, incident_id, fingerprint_id, anomaly_name,
         status, confirmed_at, severity, score, confidence, first_seen, last_seen, last_evaluated,
         occurrence_count, consecutive_detections, missed_cycles, signals, description, pattern,
         opened_at, flapping)
    VALUES
        (of_service, incident.incident_id, anomaly.fingerprint_id, anomaly.name,
         CASE WHEN confirmed THEN 'OPEN' ELSE 'SUSPECTED' END::smartbox.incident_status,
         CASE WHEN confirmed THEN at END,
         anomaly.severity, anomaly.score, anomaly.confidence, at, at, at,
         1, 1, 0, anomaly.signals, anomaly.description, anomaly.pattern,
         CASE WHEN confirmed THEN at END, create_incident.flapping);

    PERFORM smartbox.record_event(incident, 'CREATE', at, anomaly.severity, anomaly.score,
        jsonb_strip_nulls(jsonb_build_object('pattern', anomaly.pattern)));
    SELECT i.* INTO incident
    FROM smartbox.incidents AS i
    WHERE i.service = incident.service AND i.incident_id = incident.incident_id;
    IF confirmed THEN
        PERFORM smartbox.record_event(incident, 'CONFIRM', at, anomaly.severity, anomaly.score,
            CASE WHEN incident.flapping THEN '{"flapping": true}' ELSE '{}' END::jsonb);
    END IF;
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.create_incident(text, smartbox.anomaly, timestamptz, integer, boolean) IS
    'begins an incident: SUSPECTED, or OPEN at once where one detection is enough';

CREATE FUNCTION smartbox.next_event(incident smartbox.incidents, confirmation_cycles integer)
RETURNS smartbox.incident_event
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN incident.status IS NULL THEN 'CREATE'
        WHEN incident.status = 'CLOSED' THEN 'REOPEN'
        WHEN incident.status = 'SUSPECTED'
            AND incident.consecutive_detections + 1 >= confirmation_cycles THEN 'CONFIRM'
        ELSE 'CONTINUE'
    END;
END
$$;

COMMENT ON FUNCTION smartbox.next_event(smartbox.incidents, integer) IS
    'what a detection does to an incident (NULL: to none): CREATE, CONFIRM, CONTINUE or REOPEN';

CREATE FUNCTION smartbox.continue_incident(
    incident smartbox.incidents, anomaly smartbox.anomaly, at timestamptz, action smartbox.incident_event)
RETURNS smartbox.incidents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    details jsonb := '{}';
BEGIN
    IF action IN ('CONFIRM', 'REOPEN') THEN
        incident.opened_at := at;
        incident.alert_held := false;
        IF incident.flapping THEN
            details := '{"flapping": true}';
        END IF;
    END IF;
    IF action = 'REOPEN' THEN
        incident.consecutive_detections := 0;
        incident.reopen_count := incident.reopen_count + 1;
        details := details || jsonb_build_object(
            'closed_at', smartbox.iso_timestamp(incident.resolved_at),
            'reason', incident.resolution_reason);
    END IF;
    IF action <> 'CONTINUE' OR incident.status = 'RECOVERING' THEN
        incident.status := 'OPEN';
    END IF;
    IF action = 'CONFIRM' THEN
        incident.confirmed_at := at;
    END IF;
    incident.resolved_at := NULL;
    incident.resolution_reason := NULL;
    incident.severity := greatest(incident.severity, anomaly.severity);
    incident.score := least(incident.score, anomaly.score);
    incident.confidence := coalesce(anomaly.confidence, incident.confidence);
    incident.last_seen := at;
    incident.last_evaluated := at;
    incident.occurrence_count := incident.occurrence_count + 1;
    incident.consecutive_detections := incident.consecutive_detections + 1;
    incident.missed_cycles := 0;
    incident.description := coalesce(nullif(anomaly.description, ''), incident.description);
    IF NOT incident.signals @> anomaly.signals THEN
        SELECT array_agg(DISTINCT s.signal) INTO incident.signals
        FROM unnest(incident.signals || anomaly.signals) AS s(signal);
    END IF;
    IF anomaly.name <> incident.anomaly_name THEN
        details := details || jsonb_build_object('anomaly_name', anomaly.name);
    END IF;
    IF anomaly.pattern <> incident.pattern OR incident.pattern IS NULL THEN
        details := details || jsonb_strip_nulls(jsonb_build_object('pattern', anomaly.pattern));
    END IF;
    incident.pattern := coalesce(anomaly.pattern, incident.pattern);

    UPDATE smartbox.incidents AS i SET
        status = incident.status,
        severity = incident.severity,
        score = incident.score,
        confidence = incident.confidence,
        last_seen = incident.last_seen,
        last_evaluated = incident.last_evaluated,
        confirmed_at = incident.confirmed_at,
        resolved_at = incident.resolved_at,
        resolution_reason = incident.resolution_reason,
        occurrence_count = incident.occurrence_count,
        consecutive_detections = incident.consecutive_detections,
        missed_cycles = incident.missed_cycles,
        signals = incident.signals,
        description = incident.description,
        pattern = incident.pattern,
        opened_at = incident.opened_at,
        reopen_count = incident.reopen_count,
        flapping = incident.flapping,
        alert_held = incident.alert_held
    WHERE i.service = incident.service AND i.incident_id = incident.incident_id;

    UPDATE smartbox.fingerprints AS f
    SET last_seen = greatest(f.last_seen, incident.last_seen)
    WHERE f.service = incident.service AND f.fingerprint_id = incident.fingerprint_id;

    PERFORM smartbox.record_event(incident, action, at, anomaly.severity, anomaly.score, details);
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.continue_incident(smartbox.incidents, smartbox.anomaly, timestamptz, smartbox.incident_event) IS
    'an incident was detected again: CONTINUE, CONFIRM or REOPEN, as next_event says';

CREATE FUNCTION smartbox.end_incident(
    incident smartbox.incidents, event smartbox.incident_event, reason text, at timestamptz,
    details jsonb DEFAULT '{}')
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told boolean;
    silence_id text;
    message jsonb;
BEGIN
    incident.status := 'CLOSED';
    incident.resolved_at := at;
    incident.resolution_reason := reason;

    UPDATE smartbox.incidents AS i SET
        status = incident.status,
        resolved_at = incident.resolved_at,
        resolution_reason = incident.resolution_reason,
        last_evaluated = incident.last_evaluated,
        consecutive_detections = incident.consecutive_detections,
        missed_cycles = incident.missed_cycles
    WHERE i.service = incident.service AND i.incident_id = incident.incident_id;

    PERFORM smartbox.record_event(incident, event, at, incident.severity, incident.score,
        jsonb_build_object('reason', reason) || details);

    -- Who was not told of it is not told that it is gone: a suspicion, what
    -- stayed within the service's objectives, and what flaps.  Of what was told
    -- before it was silenced, the end is told too.
    SELECT bool_or(a.silence_id IS NULL), max(a.silence_id) INTO told, silence_id
    FROM smartbox.alerts AS a
    WHERE a.service = incident.service AND a.incident_id = incident.incident_id
        AND a.alert_number > coalesce((
            SELECT max(b.alert_number)
            FROM smartbox.alerts AS b
            WHERE b.service = incident.service AND b.incident_id = incident.incident_id
                AND b.alert_type = 'incident_resolved'), 0);
    IF told IS NULL THEN
        RETURN NULL;
    ELSIF told THEN
        silence_id := NULL;
    END IF;

    message := jsonb_build_object(
        'alert_type', 'incident_resolved',
        'service', incident.service,
        'timestamp', smartbox.iso_timestamp(at),
        'incident_id', incident.incident_id,
        'fingerprint_id', incident.fingerprint_id,
        'anomaly_name', incident.anomaly_name,
        'resolution_details', jsonb_build_object(
            'final_severity', incident.severity,
            'total_occurrences', incident.occurrence_count,
            'incident_duration_minutes', smartbox.minutes_between(incident.first_seen, at),
            'first_seen', smartbox.iso_timestamp(incident.first_seen),
            'reason', reason));
    PERFORM smartbox.raise_alert(incident, 'incident_resolved', at, incident.severity, message, silence_id);
    RETURN CASE WHEN told THEN message END;
END
$$;

COMMENT ON FUNCTION smartbox.end_incident(smartbox.incidents, smartbox.incident_event, text, timestamptz, jsonb) IS
    'closes an incident; returns the resolution that went out, NULL for one of which nobody was told';

CREATE FUNCTION smartbox.miss_incident(
    incident smartbox.incidents, at timestamptz, resolution_grace_cycles integer)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    recovers boolean;
BEGIN
    incident.last_evaluated := at;
    incident.consecutive_detections := 0;
    incident.missed_cycles := incident.missed_cycles + 1;

    IF incident.missed_cycles >= resolution_grace_cycles THEN
        IF incident.status = 'SUSPECTED' THEN
            RETURN smartbox.end_incident(incident, 'EXPIRE', 'suspected_expired', at);
        END IF;
        RETURN smartbox.end_incident(incident, 'RESOLVE', 'resolved', at);
    END IF;

    recovers := incident.status = 'OPEN';
    IF recovers THEN
        incident.status := 'RECOVERING';
    END IF;
    UPDATE smartbox.incidents AS i SET
        status = incident.status,
        last_evaluated = incident.last_evaluated,
        consecutive_detections = incident.consecutive_detections,
        missed_cycles = incident.missed_cycles
    WHERE i.service = incident.service AND i.incident_id = incident.incident_id;
    IF recovers THEN
        PERFORM smartbox.record_event(incident, 'RECOVER', at, incident.severity, incident.score);
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION smartbox.miss_incident(smartbox.incidents, timestamptz, integer) IS
    'an active incident was not detected in this cycle: RECOVER, or the end after resolution_grace_cycles; returns the resolution that went out, if any';
