-- The state machine of incidents.  One BEFORE INSERT row trigger on detections
-- drives it: the row is completed and stored once, and everything else that it
-- causes is in the same transaction.
--
--                  detected, confirmation_cycles in a row
--    (CREATE) --> SUSPECTED ------------- CONFIRM -------------> OPEN <--+ CONTINUE,
--                     |                                         | ^ |    | ESCALATE
--              EXPIRE | quiet for             not detected:     | | +----+
--                     | resolution_grace_     RECOVER           v | detected: CONTINUE
--                     v cycles                             RECOVERING
--                  CLOSED <--- RESOLVE, quiet for ---------------+
--                     |        resolution_grace_cycles
--                     +--- REOPEN: was confirmed, less than incident_separation ago ---> OPEN
--
-- An active incident that was not seen for longer than incident_separation and
-- is detected again is closed (EXPIRE, auto_stale), and a new one begins.
-- A person may close an active incident at any time (CLOSE); it then stays closed
-- for incident_separation unless the fault gets worse than it was.
-- A cycle without data holds every incident as it is, and the time that it
-- stands for does not count towards incident_separation.
--
-- Everything is one service's own: the trigger locks the service's row first,
-- reads catalogs and touches rows of that service only, so it runs where the
-- service's rows are.  Rows are never passed to functions as NEW or as a row
-- of a query with its table's type, since tables may be shards by other names.

-- ---------------------------------------------------------------------------
-- One detection
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.find_active_incident(
    of_service text, anomaly smartbox.anomaly, moved text[], reserved text[])
RETURNS smartbox.incidents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents;
BEGIN
    SELECT i.* INTO incident
    FROM smartbox.incidents AS i
    WHERE i.service = of_service AND i.status <> 'CLOSED'
        AND i.incident_id <> ALL (moved)
        AND (i.fingerprint_id = anomaly.fingerprint_id
            OR (i.signals && anomaly.signals AND i.incident_id <> ALL (reserved)))
    ORDER BY (i.fingerprint_id = anomaly.fingerprint_id) DESC, i.first_seen, i.incident_id
    LIMIT 1
    FOR NO KEY UPDATE;
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.find_active_incident(text, smartbox.anomaly, text[], text[]) IS
    'the incident that an anomaly belongs to: the active one of the same pattern, else the oldest one that shares a signal with it and is not reserved for another';

CREATE FUNCTION smartbox.find_reopenable_incident(
    of_service text, anomaly smartbox.anomaly, closed_after timestamptz)
RETURNS smartbox.incidents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents;
BEGIN
    SELECT i.* INTO incident
    FROM smartbox.incidents AS i
    WHERE i.service = of_service AND i.fingerprint_id = anomaly.fingerprint_id
        AND i.status = 'CLOSED' AND i.confirmed_at IS NOT NULL
        AND i.resolved_at > closed_after
        AND i.resolution_reason <> 'auto_stale'
    ORDER BY i.resolved_at DESC, i.incident_id
    LIMIT 1
    FOR NO KEY UPDATE;
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.find_reopenable_incident(text, smartbox.anomaly, timestamptz) IS
    'the last incident of the same pattern, if it was confirmed and closed after an instant; never one that was closed for being stale';

CREATE FUNCTION smartbox.find_incident_closed_by_person(
    of_service text, anomaly smartbox.anomaly, closed_after timestamptz)
RETURNS smartbox.incidents
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents;
BEGIN
    SELECT i.* INTO incident
    FROM smartbox.incidents AS i
    WHERE i.service = of_service AND i.resolution_reason = 'closed_by_person'
        AND i.resolved_at > closed_after
        AND (i.fingerprint_id = anomaly.fingerprint_id OR i.signals && anomaly.signals)
    ORDER BY (i.fingerprint_id = anomaly.fingerprint_id) DESC, i.resolved_at DESC, i.incident_id
    LIMIT 1;
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.find_incident_closed_by_person(text, smartbox.anomaly, timestamptz) IS
    'the last incident of the same fault that a person closed after an instant';

CREATE TYPE smartbox.incident_rules AS (
    confirmation_cycles integer,
    resolution_grace_cycles integer,
    incident_separation interval,
    flapping_openings integer,
    flapping_window interval
);

COMMENT ON TYPE smartbox.incident_rules IS 'the numbers that the incidents of a service go by, as the service or else its category has them';

CREATE FUNCTION smartbox.rules_of_service(of_service text) RETURNS smartbox.incident_rules
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rules smartbox.incident_rules;
BEGIN
    -- A category that was deleted under its services stops nobody's cycle.  In
    -- seconds, as of held_time.
    SELECT coalesce(s.confirmation_cycles, c.confirmation_cycles, 2),
        coalesce(s.resolution_grace_cycles, c.resolution_grace_cycles, 3),
        make_interval(secs => extract(epoch FROM coalesce(s.incident_separation, c.incident_separation, '30 minutes'))::double precision),
        coalesce(s.flapping_openings, c.flapping_openings, 4),
        make_interval(secs => extract(epoch FROM coalesce(s.flapping_window, c.flapping_window, '6 hours'))::double precision)
    INTO rules
    FROM smartbox.services AS s
        LEFT JOIN smartbox.service_categories AS c ON c.category = s.category
    WHERE s.service = of_service;
    RETURN rules;
END
$$;

COMMENT ON FUNCTION smartbox.rules_of_service(text) IS
    'the numbers that the incidents of a service go by; intervals are in hours, of which a day has 24';

CREATE FUNCTION smartbox.held_time(of_service text, since timestamptz, until timestamptz)
RETURNS interval
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held interval;
BEGIN
    -- In seconds: added to an instant, a day is 23 or 25 hours where the session's
    -- clock changes.
    SELECT make_interval(secs => sum(extract(epoch FROM c.ts) - extract(epoch FROM c.previous))::double precision) INTO held
    FROM (
        SELECT d.ts, d.no_data, lag(d.ts, 1, since) OVER (ORDER BY d.ts) AS previous
        FROM smartbox.detections AS d
        WHERE d.service = of_service AND d.ts > since AND d.ts < until
    ) AS c
    WHERE c.no_data;
    RETURN coalesce(held, '0');
END
$$;

COMMENT ON FUNCTION smartbox.held_time(text, timestamptz, timestamptz) IS
    'for how long nothing was known of a service between two instants: each cycle without data stands for the time since the cycle before it';

CREATE FUNCTION smartbox.incident_metadata(
    incident smartbox.incidents, action smartbox.incident_event, at timestamptz)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    metadata jsonb := jsonb_build_object(
        'fingerprint_id', incident.fingerprint_id,
        'incident_id', incident.incident_id,
        'status', incident.status,
        'incident_action', action,
        'occurrence_count', incident.occurrence_count,
        'first_seen', smartbox.iso_timestamp(incident.first_seen),
        'duration_minutes', smartbox.minutes_between(incident.first_seen, at));
BEGIN
    IF incident.root_service IS NOT NULL THEN
        metadata := metadata || jsonb_build_object('suspected_root_cause', jsonb_build_object(
            'service', incident.root_service,
            'incident_id', incident.root_incident_id));
    END IF;
    IF incident.flapping THEN
        metadata := metadata || '{"flapping": true}';
    END IF;
    RETURN metadata;
END
$$;

COMMENT ON FUNCTION smartbox.incident_metadata(smartbox.incidents, smartbox.incident_event, timestamptz) IS
    'what a payload says of the incident of an anomaly, and of what the detection did to it';

CREATE FUNCTION smartbox.announce_incident(
    incident smartbox.incidents, anomaly smartbox.anomaly, alert_type text, at timestamptz,
    payload jsonb, element jsonb)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    silence_id CONSTANT text := smartbox.find_silence(
        incident.service, ARRAY[anomaly.name, incident.anomaly_name, incident.pattern], anomaly.signals, at);
BEGIN
    -- One that waits for the end of its silence was written when it began.
    IF silence_id IS NULL OR NOT incident.alert_held THEN
        PERFORM smartbox.raise_alert(incident, alert_type, at, anomaly.severity,
            payload || jsonb_build_object(
                'alert_type', alert_type,
                'overall_severity', anomaly.severity,
                'anomaly_count', 1,
                'anomalies', jsonb_build_array(element)),
            silence_id);
        PERFORM smartbox.hold_alert(incident, silence_id IS NOT NULL);
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.announce_incident(smartbox.incidents, smartbox.anomaly, text, timestamptz, jsonb, jsonb) IS
    'raises the alert about an incident, or holds it back while a silence covers it';

CREATE FUNCTION smartbox.process_anomalies(
    of_service text, at timestamptz, INOUT payload jsonb,
    detection_severity smartbox.severity, no_data boolean, rules smartbox.incident_rules,
    OUT moved text[], OUT resolved jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    alert_type CONSTANT text := CASE WHEN no_data THEN 'no_data' ELSE 'anomaly_detected' END;
    elements jsonb[];
    anomalies smartbox.anomaly[];
    anomaly smartbox.anomaly;
    fingerprints text[] := '{}';
    reserved text[] := '{}';
    incident smartbox.incidents;
    action smartbox.incident_event;
    previous_severity smartbox.severity;
    escalated boolean;
    opens boolean;
    earlier_openings integer;
    flapping_was_said boolean;
    flaps boolean;
    announces boolean;
    metadata jsonb[] := '{}';
    same integer;
    message jsonb;
BEGIN
    moved := '{}';
    resolved := '[]';
    FOR n IN 1 .. jsonb_array_length(payload->'anomalies') LOOP
        elements[n] := payload->'anomalies'->(n - 1);
        anomaly := smartbox.read_anomaly(of_service, elements[n], detection_severity);
        anomalies[n] := anomaly;
        fingerprints[n] := anomaly.fingerprint_id;
        elements[n] := elements[n]
            || jsonb_build_object('name', anomaly.name, 'severity', anomaly.severity);
    END LOOP;

    -- An incident whose own pattern is in this detection is not another's.
    IF cardinality(elements) > 1 THEN
        SELECT coalesce(array_agg(i.incident_id), '{}') INTO reserved
        FROM smartbox.incidents AS i
        WHERE i.service = of_service AND i.status <> 'CLOSED'
            AND i.fingerprint_id = ANY (fingerprints);
    END IF;

    FOR n IN 1 .. cardinality(elements) LOOP
        anomaly := anomalies[n];

        -- The same name twice in one detection is one fault.
        same := array_position(fingerprints, anomaly.fingerprint_id);
        IF same < n THEN
            metadata[n] := metadata[same];
            elements[n] := elements[n] || jsonb_build_object('metadata', metadata[n]);
            CONTINUE;
        END IF;

        incident := smartbox.find_active_incident(of_service, anomaly, moved, reserved);
        IF incident.incident_id IS NULL THEN
            -- What a person closed stays closed, unless it gets worse.
            incident := smartbox.find_incident_closed_by_person(of_service, anomaly, at - rules.incident_separation);
            IF anomaly.severity <= incident.severity THEN
                metadata[n] := coalesce(elements[n]->'metadata', '{}') || smartbox.incident_metadata(incident, 'CLOSE', at);
                elements[n] := elements[n] || jsonb_build_object('metadata', metadata[n]);
                CONTINUE;
            END IF;
            incident := smartbox.find_reopenable_incident(of_service, anomaly, at - rules.incident_separation);
        ELSIF incident.last_seen < at - rules.incident_separation
            AND incident.last_seen + smartbox.held_time(of_service, incident.last_seen, at) < at - rules.incident_separation
        THEN
            moved := moved || incident.incident_id;
            message := smartbox.end_incident(incident, 'EXPIRE', 'auto_stale', at);
            IF message IS NOT NULL THEN
                resolved := resolved || message;
            END IF;
            incident := NULL;
        END IF;

        action := smartbox.next_event(incident, rules.confirmation_cycles);
        opens := action IN ('CONFIRM', 'REOPEN') OR (action = 'CREATE' AND rules.confirmation_cycles <= 1);
        IF opens THEN
            SELECT o.openings, o.said INTO earlier_openings, flapping_was_said
            FROM smartbox.openings_since(of_service, coalesce(incident.fingerprint_id, anomaly.fingerprint_id),
                                         at - rules.flapping_window) AS o;
            flaps := earlier_openings + 1 >= rules.flapping_openings;
            incident.flapping := flaps;
        END IF;
        previous_severity := CASE WHEN incident.status IN ('OPEN', 'RECOVERING') THEN incident.severity END;
        escalated := coalesce(anomaly.severity > previous_severity, false);
        IF action = 'CREATE' THEN
            incident := smartbox.create_incident(of_service, anomaly, at, rules.confirmation_cycles, opens AND flaps);
        ELSE
            incident := smartbox.continue_incident(incident, anomaly, at, action);
        END IF;
        IF escalated THEN
            PERFORM smartbox.record_event(incident, 'ESCALATE', at, anomaly.severity, anomaly.score,
                jsonb_build_object('from', previous_severity, 'to', anomaly.severity));
        END IF;
        moved := moved || incident.incident_id;

        metadata[n] := coalesce(elements[n]->'metadata', '{}') || smartbox.incident_metadata(incident, action, at);
        elements[n] := elements[n] || jsonb_build_object('metadata', metadata[n]);

        -- That a fault flaps is said once; it is told again when it stays, and
        -- when it gets worse.
        announces := CASE
            WHEN escalated THEN true
            WHEN opens THEN NOT (flaps AND flapping_was_said)
            WHEN incident.status = 'OPEN' AND incident.alert_held
                THEN NOT incident.flapping OR at - incident.opened_at >= rules.incident_separation
            ELSE false
        END;
        -- What is within the service's objectives wakes nobody.
        IF announces AND elements[n]->'informational' IS DISTINCT FROM 'true' THEN
            incident.alert_held := incident.alert_held AND NOT escalated;
            PERFORM smartbox.announce_incident(incident, anomaly, alert_type, at, payload, elements[n]);
        ELSIF opens AND NOT announces THEN
            PERFORM smartbox.hold_alert(incident, true);
        END IF;
    END LOOP;

    payload := payload || jsonb_build_object('anomalies', to_jsonb(elements));
END
$$;

COMMENT ON FUNCTION smartbox.process_anomalies(text, timestamptz, jsonb, smartbox.severity, boolean, smartbox.incident_rules) IS
    'finds or begins the incident of each anomaly of a detection and moves it; returns the payload with what became of each, the incidents that were moved, and the resolutions that went out';

CREATE FUNCTION smartbox.process_detection() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    zone text;
    newest timestamptz;
    active text[];
    rules smartbox.incident_rules;
    outcome record;
    moved text[] := '{}';
    resolved jsonb := '[]';
    incident smartbox.incidents;
    message jsonb;
BEGIN
    -- Two detections of one service wait for each other here; what comes
    -- after sees what the other one did.
    SELECT s.time_zone INTO zone
    FROM smartbox.services AS s
    WHERE s.service = NEW.service
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'foreign_key_violation',
            MESSAGE = format('service "%s" is not known', NEW.service),
            HINT = 'Add it first: INSERT INTO smartbox.services (service) VALUES (...), or SELECT discover_services().',
            SCHEMA = 'smartbox',
            TABLE = 'detections',
            COLUMN = 'service';
    END IF;

    -- Most services are quiet and have no incident: this is all that is read
    -- for them, so it is one statement.
    SELECT (
            SELECT d.ts
            FROM smartbox.detections AS d
            WHERE d.service = NEW.service
            ORDER BY d.ts DESC
            LIMIT 1
        ), ARRAY(
            SELECT i.incident_id
            FROM smartbox.incidents AS i
            WHERE i.service = NEW.service AND i.status <> 'CLOSED')
    INTO newest, active;
    IF newest >= NEW.ts THEN
        PERFORM FROM smartbox.detections AS d WHERE d.service = NEW.service AND d.ts = NEW.ts;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;

    NEW.processed_at := clock_timestamp();
    IF NEW.time_period IS NULL THEN
        NEW.time_period := @extschema@.time_period(NEW.ts, zone);
    END IF;
    IF NEW.is_anomaly THEN
        NEW.payload := smartbox.complete_payload(
            NEW.payload, NEW.service, NEW.ts, NEW.time_period,
            NEW.severity, NEW.score, NEW.confidence, NEW.no_data);
        NEW.severity := greatest(NEW.severity, (NEW.payload->>'overall_severity')::smartbox.severity);
    END IF;

    -- Time only goes forward: a late detection is kept and moves nothing.
    -- What could not be read is refused all the same.
    IF newest > NEW.ts THEN
        IF NEW.is_anomaly THEN
            PERFORM smartbox.read_anomaly(NEW.service, e.value, NEW.severity)
            FROM jsonb_array_elements(NEW.payload->'anomalies') AS e;
        END IF;
        RETURN NEW;
    END IF;
    IF NOT NEW.is_anomaly AND (NEW.no_data OR active = '{}') THEN
        RETURN NEW;
    END IF;

    rules := smartbox.rules_of_service(NEW.service);
    IF NEW.is_anomaly THEN
        outcome := smartbox.process_anomalies(NEW.service, NEW.ts, NEW.payload, NEW.severity, NEW.no_data, rules);
        NEW.payload := outcome.payload;
        moved := outcome.moved;
        resolved := outcome.resolved;
    END IF;

    -- Without data nothing can be said about the other incidents.
    IF NOT NEW.no_data AND NOT active <@ moved THEN
        FOR incident IN
            SELECT i.*
            FROM smartbox.incidents AS i
            WHERE i.service = NEW.service AND i.status <> 'CLOSED'
                AND i.incident_id <> ALL (moved)
            ORDER BY i.first_seen, i.incident_id
            FOR NO KEY UPDATE
        LOOP
            message := smartbox.miss_incident(incident, NEW.ts, rules.resolution_grace_cycles);
            IF message IS NOT NULL THEN
                resolved := resolved || message;
            END IF;
        END LOOP;
    END IF;

    IF resolved <> '[]' THEN
        NEW.payload := NEW.payload || jsonb_build_object('resolved_incidents', resolved);
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.process_detection() IS
    'trigger: what a new detection does to the incidents of its service; completes the row''s payload with it';

CREATE TRIGGER process_detection BEFORE INSERT ON smartbox.detections
    FOR EACH ROW WHEN (NEW.processed_at IS NULL)
    EXECUTE FUNCTION smartbox.process_detection();

-- ---------------------------------------------------------------------------
-- What nobody may do, by hand neither
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.guard_incident_transition() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    allowed smartbox.incident_status[] := CASE OLD.status
        WHEN 'SUSPECTED' THEN '{OPEN,CLOSED}'
        WHEN 'OPEN' THEN '{RECOVERING,CLOSED}'
        WHEN 'RECOVERING' THEN '{OPEN,CLOSED}'
        WHEN 'CLOSED' THEN CASE WHEN OLD.confirmed_at IS NULL THEN '{}' ELSE '{OPEN}' END
    END;
BEGIN
    IF NEW.status <> ALL (allowed) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'check_violation',
            MESSAGE = format('incident %s of service "%s" cannot go from %s to %s',
                             OLD.incident_id, OLD.service, OLD.status, NEW.status),
            HINT = CASE
                WHEN OLD.status = 'CLOSED' AND OLD.confirmed_at IS NULL
                    THEN 'It was closed without ever being confirmed, and stays closed.'
                ELSE format('From %s it can go to %s.', OLD.status, array_to_string(allowed, ' or '))
            END,
            SCHEMA = 'smartbox',
            TABLE = 'incidents',
            COLUMN = 'status';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.guard_incident_transition() IS
    'trigger: refuses a change of an incident''s status that the state machine does not have';

CREATE TRIGGER guard_transition BEFORE UPDATE ON smartbox.incidents
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION smartbox.guard_incident_transition();
