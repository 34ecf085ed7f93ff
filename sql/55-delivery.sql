-- Sending what is in the outbox, and what becomes of it.
--
--   pending -- claimed --> sending -- answered with 2xx --> sent
--      ^  |                   |
--      |  +-- cap --> held    +-- the message is refused, or it is a day old --> dead
--      +----- backoff --------+
--
-- A row is to be tried as long as next_attempt_at is set; while it is being
-- sent that is the end of the lease, so a sender that died gives it back by
-- itself.  An alert of an incident is not tried before the one before it.
-- Claiming and recording are two transactions, and the request is between them.

-- ---------------------------------------------------------------------------
-- What is sent
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.idempotency_key(service text, incident_id text, alert_number integer, receiver text) RETURNS text
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN 'smartbox-' || left(encode(sha256(convert_to(jsonb_build_array(
        smartbox.database_identity(), service, incident_id, alert_number, receiver)::text, 'UTF8')), 'hex'), 32);
END
$$;

COMMENT ON FUNCTION smartbox.idempotency_key(text, text, integer, text) IS
    'the name of a message, the same each time it is sent; a receiver that has seen it already can ignore it';

CREATE FUNCTION smartbox.alertmanager_alert(
    payload jsonb, incident smartbox.incidents, ends_at timestamptz)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    annotations jsonb;
BEGIN
    -- Alertmanager knows an alert by its labels: what may change is none.
    IF incident.incident_id IS NULL THEN
        RETURN jsonb_build_object(
            'labels', jsonb_build_object(
                'alertname', 'smartbox_alerts_held', 'receiver', payload->>'receiver', 'source', 'smartbox_anomaly'),
            'annotations', jsonb_build_object(
                'summary', payload->>'description', 'severity', payload->>'overall_severity'),
            'startsAt', payload->>'timestamp',
            'endsAt', smartbox.iso_timestamp(ends_at));
    END IF;
    annotations := jsonb_strip_nulls(jsonb_build_object(
        'summary', incident.service || ': ' || incident.anomaly_name,
        'description', nullif(incident.description, ''),
        'severity', incident.severity,
        'status', incident.status,
        'occurrence_count', incident.occurrence_count::text,
        'last_seen', smartbox.iso_timestamp(incident.last_seen),
        'suspected_root_cause', incident.root_service || ' ' || incident.root_incident_id));
    RETURN jsonb_build_object(
        'labels', jsonb_build_object(
            'alertname', incident.anomaly_name,
            'service', incident.service,
            'incident_id', incident.incident_id,
            'fingerprint_id', incident.fingerprint_id,
            'source', 'smartbox_anomaly'),
        'annotations', annotations,
        'startsAt', smartbox.iso_timestamp(incident.first_seen),
        'endsAt', smartbox.iso_timestamp(ends_at));
END
$$;

COMMENT ON FUNCTION smartbox.alertmanager_alert(jsonb, smartbox.incidents, timestamptz) IS
    'an alert as Alertmanager''s API v2 takes it: labels that stay the same from first to last, the rest as annotations';

CREATE FUNCTION smartbox.delivery_body(
    kind text, payload jsonb, incident smartbox.incidents, at timestamptz, ends_after interval)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind = 'alertmanager' THEN
        RETURN jsonb_build_array(smartbox.alertmanager_alert(payload, incident,
            CASE WHEN payload->>'alert_type' = 'incident_resolved' THEN least(incident.resolved_at, at)
                ELSE at + ends_after END))::text;
    END IF;
    IF incident.root_incident_id IS NOT NULL THEN
        payload := payload || jsonb_build_object('suspected_root_cause', jsonb_build_object(
            'service', incident.root_service, 'incident_id', incident.root_incident_id));
    END IF;
    RETURN CASE WHEN kind = 'webhook' THEN payload ELSE jsonb_build_array(payload) END::text;
END
$$;

COMMENT ON FUNCTION smartbox.delivery_body(text, jsonb, smartbox.incidents, timestamptz, interval) IS
    'what a kind of receiver is sent';

-- ---------------------------------------------------------------------------
-- Claiming
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.expire_deliveries(at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    UPDATE smartbox.deliveries AS d SET
        status = 'dead',
        next_attempt_at = NULL,
        leased_until = NULL,
        reason = 'it could not be sent for too long'
    WHERE d.next_attempt_at <= at AND d.give_up_at <= at;

    DELETE FROM smartbox.deliveries AS d
    WHERE d.service = '*' AND d.next_attempt_at IS NULL AND d.created_at < at - interval '30 days';
END
$$;

COMMENT ON FUNCTION smartbox.expire_deliveries(timestamptz) IS
    'gives up what is too old, also where the receiver is disabled or gone';

CREATE FUNCTION smartbox.settle_deliveries(of_receiver text, at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    -- What nobody was told of needs no end.
    UPDATE smartbox.deliveries AS d SET
        status = 'skipped',
        next_attempt_at = NULL,
        reason = CASE a.alert_type WHEN 'incident_resolved' THEN 'nobody was told of the incident'
            ELSE 'the incident was over before it could be sent' END
    FROM smartbox.alerts AS a
    WHERE d.receiver = of_receiver AND d.next_attempt_at <= at AND d.status IN ('pending', 'held')
        AND a.service = d.service AND a.incident_id = d.incident_id AND a.alert_number = d.alert_number
        AND CASE WHEN a.alert_type = 'incident_resolved' THEN d.attempts = 0 AND NOT EXISTS (
                SELECT FROM smartbox.deliveries AS e
                WHERE e.service = d.service AND e.incident_id = d.incident_id AND e.receiver = d.receiver
                    AND e.alert_number < d.alert_number
                    AND (e.next_attempt_at IS NOT NULL OR e.status IN ('sent', 'dead')))
            ELSE d.status = 'held' AND d.attempts = 0 AND EXISTS (
                SELECT FROM smartbox.incidents AS i
                WHERE i.service = d.service AND i.incident_id = d.incident_id AND i.status = 'CLOSED')
            END;
END
$$;

COMMENT ON FUNCTION smartbox.settle_deliveries(text, timestamptz) IS
    'leaves out what has become needless: ends of incidents that nobody was told of, and what was over while it was held';

CREATE FUNCTION smartbox.hold_deliveries(of_receiver text, cap integer, at timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    minute CONSTANT timestamptz := date_trunc('minute', at);
    summary_id CONSTANT text := 'held_' || to_char(minute AT TIME ZONE 'UTC', 'YYYYMMDDHH24MI');
    held record;
BEGIN
    -- One message in a minute says what was held back.  What comes after it
    -- waits, and is told of by the next one.
    IF EXISTS (
        SELECT FROM smartbox.deliveries AS d
        WHERE d.service = '*' AND d.incident_id = summary_id AND d.receiver = of_receiver)
    THEN
        UPDATE smartbox.deliveries AS d
        SET next_attempt_at = minute + interval '1 minute'
        WHERE d.receiver = of_receiver AND d.next_attempt_at <= at AND d.status IN ('pending', 'held')
            AND d.service <> '*';
        RETURN;
    END IF;

    WITH due AS (
        SELECT d.service, d.incident_id, d.alert_number, d.status, a.alert_type, a.severity,
            i.root_service, i.root_incident_id
        FROM smartbox.deliveries AS d
            JOIN smartbox.alerts AS a
                ON a.service = d.service AND a.incident_id = d.incident_id AND a.alert_number = d.alert_number
            LEFT JOIN smartbox.incidents AS i
                ON i.service = d.service AND i.incident_id = d.incident_id
        WHERE d.receiver = of_receiver AND d.next_attempt_at <= at AND d.status IN ('pending', 'held')
            AND d.service <> '*'
        FOR NO KEY UPDATE OF d SKIP LOCKED
    ), grouped AS (
        SELECT due.*, due.alert_type <> 'incident_resolved' AND EXISTS (
            SELECT FROM smartbox.deliveries AS r
            WHERE r.service = due.root_service AND r.incident_id = due.root_incident_id
                AND r.receiver = of_receiver AND r.status IN ('sending', 'sent')) AS is_told_by_root
        FROM due
    ), changed AS (
        UPDATE smartbox.deliveries AS d SET
            status = 'held',
            leased_until = NULL,
            next_attempt_at = CASE WHEN NOT g.is_told_by_root THEN minute + interval '1 minute' END,
            reason = CASE WHEN g.is_told_by_root
                THEN format('more than %s messages in a minute, and %s of %s is suspected to be behind it',
                            cap, g.root_incident_id, g.root_service)
                ELSE format('more than %s messages in a minute', cap) END
        FROM grouped AS g
        WHERE d.service = g.service AND d.incident_id = g.incident_id
            AND d.alert_number = g.alert_number AND d.receiver = of_receiver
        RETURNING d.service, g.severity, g.is_told_by_root, g.status = 'pending' AS is_new
    )
    SELECT count(*) FILTER (WHERE c.is_new) AS new, count(*) AS alerts, count(DISTINCT c.service) AS services,
        count(*) FILTER (WHERE c.is_told_by_root) AS grouped, max(c.severity) AS severity,
        (array_agg(DISTINCT c.service ORDER BY c.service))[1:20] AS names
    INTO held
    FROM changed AS c;
    IF held.new = 0 THEN
        RETURN;
    END IF;

    INSERT INTO smartbox.deliveries (service, incident_id, alert_number, receiver, payload)
    VALUES ('*', summary_id, 1, of_receiver, jsonb_build_object(
        'alert_type', 'alerts_held',
        'service', '*',
        'receiver', of_receiver,
        'timestamp', smartbox.iso_timestamp(minute),
        'overall_severity', held.severity,
        'anomaly_count', 0,
        'anomalies', '[]'::jsonb,
        'held_count', held.alerts,
        'grouped_count', held.grouped,
        'service_count', held.services,
        'services', to_jsonb(held.names),
        'description', format('%s alerts of %s services are held back, since there are more than %s in a minute; %s of them have a suspected root cause that was told of, the others follow',
                              held.alerts, held.services, cap, held.grouped)));
END
$$;

COMMENT ON FUNCTION smartbox.hold_deliveries(text, integer, timestamptz) IS
    'the receiver''s cap for this minute is reached: holds back what is due, and queues the message that says so';

CREATE FUNCTION smartbox.claim_resends(of_receiver text, at timestamptz, most integer)
RETURNS TABLE (service text, incident_id text, alert_number integer, leased_until timestamptz, idempotency_key text, path text, body text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target record;
    claimed record;
    incident smartbox.incidents;
BEGIN
    SELECT r.kind, r.resend_interval, r.ends_after INTO target
    FROM smartbox.receivers AS r
    WHERE r.receiver = of_receiver AND r.enabled AND r.kind = 'alertmanager';
    IF NOT FOUND THEN
        RETURN;
    END IF;

    FOR claimed IN
        SELECT d.service, d.incident_id, d.alert_number, d.sent_at, a.alert_type, a.payload
        FROM smartbox.deliveries AS d
            JOIN smartbox.alerts AS a
                ON a.service = d.service AND a.incident_id = d.incident_id AND a.alert_number = d.alert_number
        WHERE d.receiver = of_receiver AND d.resend_at <= at
        ORDER BY d.resend_at
        LIMIT most
        FOR NO KEY UPDATE OF d SKIP LOCKED
    LOOP
        SELECT i.* INTO incident
        FROM smartbox.incidents AS i
        WHERE i.service = claimed.service AND i.incident_id = claimed.incident_id;

        -- An end is repeated for five minutes, an open incident as long as it
        -- is open and nothing else about it is on its way.
        UPDATE smartbox.deliveries AS d SET
            resend_at = CASE WHEN claimed.alert_type = 'incident_resolved'
                    THEN CASE WHEN at < claimed.sent_at + interval '5 minutes' THEN at + target.resend_interval END
                WHEN incident.status IN ('OPEN', 'RECOVERING') THEN at + target.resend_interval END
        WHERE d.service = claimed.service AND d.incident_id = claimed.incident_id
            AND d.alert_number = claimed.alert_number AND d.receiver = of_receiver;
        CONTINUE WHEN coalesce((claimed.alert_type = 'incident_resolved') <> (incident.status = 'CLOSED'), true)
            OR EXISTS (
                SELECT FROM smartbox.deliveries AS d
                WHERE d.service = claimed.service AND d.incident_id = claimed.incident_id AND d.receiver = of_receiver
                    AND d.alert_number > claimed.alert_number AND d.next_attempt_at IS NOT NULL);

        service := claimed.service;
        incident_id := claimed.incident_id;
        alert_number := claimed.alert_number;
        idempotency_key := smartbox.idempotency_key(service, incident_id, alert_number, of_receiver);
        path := '/api/v2/alerts';
        body := smartbox.delivery_body(target.kind, claimed.payload, incident, at, target.ends_after);
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION smartbox.claim_resends(text, timestamptz, integer) IS
    'alerts that a receiver forgets unless they are sent to it again; leased_until is NULL, since one that fails is just sent again the next time';

CREATE FUNCTION smartbox.claim_deliveries(of_receiver text, at timestamptz, most integer)
RETURNS TABLE (service text, incident_id text, alert_number integer, leased_until timestamptz, idempotency_key text, path text, body text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    lease CONSTANT timestamptz := at + interval '2 minutes';
    target record;
    claimed record;
    incident smartbox.incidents;
    room integer;
    n_claimed integer := 0;
BEGIN
    -- Two sessions that count against one cap wait for each other here.
    SELECT r.kind, r.ends_after, r.max_per_minute INTO target
    FROM smartbox.receivers AS r
    WHERE r.receiver = of_receiver AND r.enabled
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    PERFORM smartbox.settle_deliveries(of_receiver, at);
    IF target.max_per_minute IS NOT NULL THEN
        -- The message about what is held back does not count.
        SELECT greatest(0, target.max_per_minute - count(*) FILTER (WHERE d.service <> '*' AND (d.sent_at IS NOT NULL OR d.next_attempt_at > at)))
            + count(*) FILTER (WHERE d.service = '*' AND d.next_attempt_at <= at)
        INTO room
        FROM smartbox.deliveries AS d
        WHERE d.receiver = of_receiver
            AND (d.sent_at >= date_trunc('minute', at) OR d.status = 'sending' OR (d.service = '*' AND d.next_attempt_at <= at));
    END IF;

    FOR claimed IN
        WITH due AS (
            SELECT d.service, d.incident_id, d.alert_number
            FROM smartbox.deliveries AS d
                LEFT JOIN smartbox.alerts AS a
                    ON a.service = d.service AND a.incident_id = d.incident_id AND a.alert_number = d.alert_number
                LEFT JOIN smartbox.incidents AS i
                    ON i.service = d.service AND i.incident_id = d.incident_id
            WHERE d.receiver = of_receiver AND d.next_attempt_at <= at
                AND (a.payload IS NOT NULL OR d.payload IS NOT NULL)
                AND NOT EXISTS (
                    SELECT FROM smartbox.deliveries AS e
                    WHERE e.service = d.service AND e.incident_id = d.incident_id AND e.receiver = d.receiver
                        AND e.alert_number < d.alert_number AND e.next_attempt_at IS NOT NULL)
            ORDER BY d.service = '*' DESC, i.root_incident_id IS NOT NULL, a.severity DESC, d.created_at
            LIMIT least(most, room)
            FOR NO KEY UPDATE OF d SKIP LOCKED
        )
        UPDATE smartbox.deliveries AS d SET
            status = 'sending',
            reason = NULL,
            attempts = d.attempts + 1,
            next_attempt_at = lease,
            leased_until = lease
        FROM due
        WHERE d.service = due.service AND d.incident_id = due.incident_id
            AND d.alert_number = due.alert_number AND d.receiver = of_receiver
        RETURNING d.service, d.incident_id, d.alert_number, d.payload
    LOOP
        n_claimed := n_claimed + 1;
        SELECT i.* INTO incident
        FROM smartbox.incidents AS i
        WHERE i.service = claimed.service AND i.incident_id = claimed.incident_id;
        IF claimed.payload IS NULL THEN
            SELECT a.payload INTO claimed.payload
            FROM smartbox.alerts AS a
            WHERE a.service = claimed.service AND a.incident_id = claimed.incident_id
                AND a.alert_number = claimed.alert_number;
        END IF;

        service := claimed.service;
        incident_id := claimed.incident_id;
        alert_number := claimed.alert_number;
        leased_until := lease;
        idempotency_key := smartbox.idempotency_key(service, incident_id, alert_number, of_receiver);
        path := CASE target.kind
            WHEN 'alertmanager' THEN '/api/v2/alerts'
            WHEN 'webhook' THEN ''
            ELSE CASE claimed.payload->>'alert_type'
                WHEN 'incident_resolved' THEN '/api/incidents/resolve' ELSE '/api/anomalies/batch' END
            END;
        body := smartbox.delivery_body(target.kind, claimed.payload, incident, at, target.ends_after);
        RETURN NEXT;
    END LOOP;

    IF n_claimed >= room THEN                   -- never, without a cap
        PERFORM smartbox.hold_deliveries(of_receiver, target.max_per_minute, at);
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.claim_deliveries(text, timestamptz, integer) IS
    'leases what is to be sent to a receiver now, the most important first, at most one alert of each incident; what its cap has no room for is held back';

CREATE FUNCTION smartbox.record_delivery(
    of_service text, of_incident_id text, of_alert_number integer, of_receiver text, lease timestamptz,
    outcome text, error text, wait interval, at timestamptz)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target record;
    attempts integer;
    backoff interval;
BEGIN
    SELECT d.attempts INTO attempts
    FROM smartbox.deliveries AS d
    WHERE d.service = of_service AND d.incident_id = of_incident_id
        AND d.alert_number = of_alert_number AND d.receiver = of_receiver
        AND d.status = 'sending' AND d.leased_until = lease
    FOR NO KEY UPDATE;
    -- The lease ended meanwhile: another session has it now.
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT r.kind, r.resend_interval INTO target
    FROM smartbox.receivers AS r
    WHERE r.receiver = of_receiver;

    -- The jitter keeps many messages for a receiver that recovers apart.
    backoff := greatest(wait, (0.5 + random()) * least(interval '10 seconds' * 2 ^ least(attempts - 1, 10), interval '15 minutes'));
    UPDATE smartbox.deliveries AS d SET
        status = CASE outcome WHEN 'retry' THEN 'pending' ELSE outcome END,
        next_attempt_at = CASE WHEN outcome = 'retry' THEN at + backoff END,
        leased_until = NULL,
        last_error = CASE WHEN outcome <> 'sent' THEN error END,
        sent_at = CASE WHEN outcome = 'sent' THEN at END,
        resend_at = CASE WHEN outcome = 'sent' AND target.kind = 'alertmanager' AND of_service <> '*'
            THEN at + target.resend_interval END
    WHERE d.service = of_service AND d.incident_id = of_incident_id
        AND d.alert_number = of_alert_number AND d.receiver = of_receiver;

    -- From now on this message is the one to repeat.
    IF outcome = 'sent' AND target.kind = 'alertmanager' THEN
        UPDATE smartbox.deliveries AS d SET resend_at = NULL
        WHERE d.service = of_service AND d.incident_id = of_incident_id AND d.receiver = of_receiver
            AND d.alert_number < of_alert_number AND d.resend_at IS NOT NULL;
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.record_delivery(text, text, integer, text, timestamptz, text, text, interval, timestamptz) IS
    'writes what became of a message: sent, dead, or retry after a growing pause and not before the receiver allows';

-- ---------------------------------------------------------------------------
-- Verbs
-- ---------------------------------------------------------------------------

CREATE FUNCTION @extschema@.arm_delivery(send_queued boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    identity CONSTANT text := smartbox.database_identity();
    skipped integer := 0;
BEGIN
    IF EXISTS (SELECT FROM smartbox.delivery_arming AS a WHERE a.database_identity = identity) THEN
        RETURN 0;
    END IF;
    DELETE FROM smartbox.delivery_arming;
    INSERT INTO smartbox.delivery_arming (database_identity) VALUES (identity);
    IF send_queued IS NOT TRUE THEN
        UPDATE smartbox.deliveries AS d SET
            status = 'skipped',
            next_attempt_at = NULL,
            leased_until = NULL,
            reason = 'it was queued before delivery was armed'
        WHERE d.next_attempt_at IS NOT NULL;
        GET DIAGNOSTICS skipped = ROW_COUNT;
        UPDATE smartbox.deliveries AS d SET resend_at = NULL
        WHERE d.resend_at IS NOT NULL;
    END IF;
    RETURN skipped;
END
$$;

COMMENT ON FUNCTION @extschema@.arm_delivery(boolean) IS
    'makes this database send alerts, from now on; what is queued already, as in a copy of another database, is sent only with send_queued; returns how many were left out';

CREATE FUNCTION @extschema@.disarm_delivery() RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.delivery_arming;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION @extschema@.disarm_delivery() IS
    'ends the sending of alerts from this database; returns whether it was armed';

CREATE FUNCTION @extschema@.redeliver_alerts(receiver text, status text DEFAULT 'dead') RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    changed integer;
BEGIN
    IF redeliver_alerts.status IS NULL OR redeliver_alerts.status NOT IN ('dead', 'held') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('deliveries with status "%s" cannot be sent again', redeliver_alerts.status),
            HINT = 'It is "dead" or "held".';
    END IF;
    IF NOT EXISTS (SELECT FROM smartbox.receivers AS r WHERE r.receiver = redeliver_alerts.receiver) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('receiver "%s" is not known', redeliver_alerts.receiver),
            HINT = 'See smartbox.receivers.';
    END IF;

    -- What was overtaken by a later alert would bring back an old state.
    UPDATE smartbox.deliveries AS d SET
        status = 'pending',
        reason = NULL,
        attempts = 0,
        next_attempt_at = now(),
        give_up_at = now() + interval '1 day'
    WHERE d.receiver = redeliver_alerts.receiver AND d.status = redeliver_alerts.status
        AND NOT EXISTS (
            SELECT FROM smartbox.deliveries AS e
            WHERE e.service = d.service AND e.incident_id = d.incident_id AND e.receiver = d.receiver
                AND e.alert_number > d.alert_number AND e.status IN ('sending', 'sent'));
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

COMMENT ON FUNCTION @extschema@.redeliver_alerts(text, text) IS
    'has the dead or the held deliveries of a receiver tried anew, except those that a later alert of their incident has overtaken; returns how many';

CREATE PROCEDURE @extschema@.deliver_alerts()
LANGUAGE c
AS 'MODULE_PATHNAME', 'sba_deliver_alerts';

COMMENT ON PROCEDURE @extschema@.deliver_alerts() IS
    'sends the alerts that are due to their receivers; commits before and after, and holds nothing while it waits for them';

-- ---------------------------------------------------------------------------
-- What is going on
-- ---------------------------------------------------------------------------

CREATE VIEW smartbox.delivery_status WITH (security_invoker = true) AS
SELECT
    r.receiver,
    r.kind,
    r.url,
    CASE WHEN NOT r.enabled THEN 'the receiver is disabled' ELSE o.obstacle END AS why_nothing_is_sent,
    coalesce(d.pending, 0) AS pending,
    coalesce(d.sending, 0) AS sending,
    coalesce(d.sent, 0) AS sent,
    coalesce(d.held, 0) AS held,
    coalesce(d.skipped, 0) AS skipped,
    coalesce(d.dead, 0) AS dead,
    d.oldest_pending_at,
    d.last_sent_at,
    e.last_error
FROM smartbox.receivers AS r
    CROSS JOIN (SELECT smartbox.delivery_obstacle() AS obstacle) AS o
    LEFT JOIN (
        SELECT
            t.receiver,
            count(*) FILTER (WHERE t.status = 'pending') AS pending,
            count(*) FILTER (WHERE t.status = 'sending') AS sending,
            count(*) FILTER (WHERE t.status = 'sent') AS sent,
            count(*) FILTER (WHERE t.status = 'held') AS held,
            count(*) FILTER (WHERE t.status = 'skipped') AS skipped,
            count(*) FILTER (WHERE t.status = 'dead') AS dead,
            min(t.created_at) FILTER (WHERE t.next_attempt_at IS NOT NULL) AS oldest_pending_at,
            max(t.sent_at) AS last_sent_at
        FROM smartbox.deliveries AS t
        GROUP BY t.receiver
    ) AS d ON d.receiver = r.receiver
    LEFT JOIN LATERAL (
        SELECT t.last_error
        FROM smartbox.deliveries AS t
        WHERE t.receiver = r.receiver AND t.next_attempt_at IS NOT NULL AND t.last_error IS NOT NULL
        ORDER BY t.next_attempt_at DESC
        LIMIT 1
    ) AS e ON true;

COMMENT ON VIEW smartbox.delivery_status IS 'one row per receiver: whether alerts are sent to it, and how many wait or were given up';
COMMENT ON COLUMN smartbox.delivery_status.receiver IS 'the receiver';
COMMENT ON COLUMN smartbox.delivery_status.kind IS 'observability, alertmanager or webhook';
COMMENT ON COLUMN smartbox.delivery_status.url IS 'its address';
COMMENT ON COLUMN smartbox.delivery_status.why_nothing_is_sent IS 'what to do first; NULL: alerts are sent to it';
COMMENT ON COLUMN smartbox.delivery_status.pending IS 'deliveries that wait';
COMMENT ON COLUMN smartbox.delivery_status.sending IS 'deliveries that are being sent';
COMMENT ON COLUMN smartbox.delivery_status.sent IS 'deliveries that it has';
COMMENT ON COLUMN smartbox.delivery_status.held IS 'deliveries that its cap holds back';
COMMENT ON COLUMN smartbox.delivery_status.skipped IS 'deliveries that are not to be sent';
COMMENT ON COLUMN smartbox.delivery_status.dead IS 'deliveries that were given up; redeliver_alerts() tries them anew';
COMMENT ON COLUMN smartbox.delivery_status.oldest_pending_at IS 'since when the oldest of those that are to be sent waits';
COMMENT ON COLUMN smartbox.delivery_status.last_sent_at IS 'when it last took one';
COMMENT ON COLUMN smartbox.delivery_status.last_error IS 'why those that wait have failed so far';
