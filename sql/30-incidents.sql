-- Detections, and the incidents that the state machine of a later part makes of
-- them.  CHECKs here say what a row may look like by itself; how it may change
-- is the triggers' matter, so that a restored row fires nothing.

CREATE TYPE smartbox.incident_status AS ENUM ('SUSPECTED', 'OPEN', 'RECOVERING', 'CLOSED');

COMMENT ON TYPE smartbox.incident_status IS
    'SUSPECTED: detected, not yet often enough; OPEN: confirmed, somebody was told; RECOVERING: open, but not seen in the last cycle; CLOSED: over';

CREATE TYPE smartbox.incident_event AS ENUM (
    'CREATE', 'CONFIRM', 'CONTINUE', 'ESCALATE', 'RECOVER', 'REOPEN', 'RESOLVE', 'EXPIRE',
    'ACKNOWLEDGE', 'SILENCE', 'CLOSE');

COMMENT ON TYPE smartbox.incident_event IS 'what happened to an incident';

CREATE TABLE smartbox.detections (
    service text NOT NULL,
    ts timestamptz NOT NULL CHECK (isfinite(ts)),
    time_period text,
    score double precision CHECK (score > '-Infinity' AND score < 'Infinity'),
    severity smartbox.severity NOT NULL DEFAULT 'none',
    is_anomaly boolean NOT NULL DEFAULT false,
    no_data boolean NOT NULL DEFAULT false,
    confidence double precision CHECK (confidence >= 0 AND confidence <= 1),
    model_version integer,
    payload jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(payload) = 'object'),
    detected_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    PRIMARY KEY (service, ts)
);

CREATE INDEX detections_ts_idx ON smartbox.detections (ts);

COMMENT ON TABLE smartbox.detections IS 'the verdict on each sample; an INSERT moves the incidents of the service, in the same transaction';
COMMENT ON COLUMN smartbox.detections.service IS 'the service';
COMMENT ON COLUMN smartbox.detections.ts IS 'instant of the sample; a second detection of the same instant changes nothing';
COMMENT ON COLUMN smartbox.detections.time_period IS 'part of the week; left out: computed from ts and the service''s time zone';
COMMENT ON COLUMN smartbox.detections.score IS 'calibrated score: 0 is the edge of the false-alarm budget, lower is stranger';
COMMENT ON COLUMN smartbox.detections.severity IS 'worst severity of the detection''s anomalies';
COMMENT ON COLUMN smartbox.detections.is_anomaly IS 'something is wrong';
COMMENT ON COLUMN smartbox.detections.no_data IS 'there was nothing to judge: incidents are held, not resolved';
COMMENT ON COLUMN smartbox.detections.confidence IS 'how far to trust the verdict, 0 to 1';
COMMENT ON COLUMN smartbox.detections.model_version IS 'version of the model that judged';
COMMENT ON COLUMN smartbox.detections.payload IS 'the verdict in full, as detect_anomalies returns it';
COMMENT ON COLUMN smartbox.detections.detected_at IS 'when the row was written';
COMMENT ON COLUMN smartbox.detections.processed_at IS 'when incidents were moved by it; a row that comes with a value (from a dump, say) moves nothing';

CREATE TABLE smartbox.fingerprints (
    service text NOT NULL,
    fingerprint_id text NOT NULL CHECK (fingerprint_id ~ '^anomaly_[0-9a-f]{12}$'),
    anomaly_name text NOT NULL CHECK (anomaly_name <> ''),
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    incident_count integer NOT NULL DEFAULT 0 CHECK (incident_count >= 0),
    PRIMARY KEY (service, fingerprint_id),
    CHECK (first_seen <= last_seen)
) WITH (fillfactor = 80);

COMMENT ON TABLE smartbox.fingerprints IS 'the patterns that were ever seen: one row per service and name of what is wrong';
COMMENT ON COLUMN smartbox.fingerprints.service IS 'the service';
COMMENT ON COLUMN smartbox.fingerprints.fingerprint_id IS 'identity of the pattern, the same each time it comes back: fingerprint_id(service, anomaly_name)';
COMMENT ON COLUMN smartbox.fingerprints.anomaly_name IS 'what is wrong';
COMMENT ON COLUMN smartbox.fingerprints.first_seen IS 'instant of the first detection';
COMMENT ON COLUMN smartbox.fingerprints.last_seen IS 'instant of the last detection';
COMMENT ON COLUMN smartbox.fingerprints.incident_count IS 'incidents so far, suspicions that came to nothing included';

-- Room in the pages, so that a cycle that continues an incident rewrites its
-- row in place.
CREATE TABLE smartbox.incidents (
    service text NOT NULL,
    incident_id text NOT NULL CHECK (incident_id ~ '^incident_[0-9a-f]{12}$'),
    fingerprint_id text NOT NULL,
    anomaly_name text NOT NULL CHECK (anomaly_name <> ''),
    status smartbox.incident_status NOT NULL,
    severity smartbox.severity NOT NULL,
    score double precision,
    confidence double precision,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    last_evaluated timestamptz NOT NULL,
    confirmed_at timestamptz,
    resolved_at timestamptz,
    resolution_reason text,
    occurrence_count integer NOT NULL DEFAULT 1 CHECK (occurrence_count >= 1),
    consecutive_detections integer NOT NULL DEFAULT 1 CHECK (consecutive_detections >= 0),
    missed_cycles integer NOT NULL DEFAULT 0 CHECK (missed_cycles >= 0),
    signals text[] NOT NULL DEFAULT '{}',
    description text NOT NULL DEFAULT '',
    root_service text,
    root_incident_id text,
    pattern text,
    opened_at timestamptz,
    reopen_count integer NOT NULL DEFAULT 0 CHECK (reopen_count >= 0),
    flapping boolean NOT NULL DEFAULT false,
    alert_held boolean NOT NULL DEFAULT false,
    acknowledged_at timestamptz,
    acknowledged_by text,
    PRIMARY KEY (service, incident_id),
    CONSTRAINT incidents_root_check
        CHECK ((root_service IS NULL) = (root_incident_id IS NULL) AND root_service <> service),
    CONSTRAINT incidents_acknowledged_check
        CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    CONSTRAINT incidents_seen_check
        CHECK (first_seen <= last_seen AND last_seen <= last_evaluated),
    CONSTRAINT incidents_confirmed_check
        CHECK (confirmed_at IS NOT NULL OR status IN ('SUSPECTED', 'CLOSED')),
    CONSTRAINT incidents_suspected_check
        CHECK (confirmed_at IS NULL OR status <> 'SUSPECTED'),
    CONSTRAINT incidents_resolved_check
        CHECK ((status = 'CLOSED') = (resolved_at IS NOT NULL)
            AND (status = 'CLOSED') = (resolution_reason IS NOT NULL))
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX incidents_active_idx ON smartbox.incidents (service, fingerprint_id)
    WHERE status <> 'CLOSED';
CREATE INDEX incidents_fingerprint_idx ON smartbox.incidents (service, fingerprint_id, resolved_at);
CREATE INDEX incidents_first_seen_idx ON smartbox.incidents (service, first_seen);
CREATE INDEX incidents_id_idx ON smartbox.incidents (incident_id);
CREATE INDEX incidents_closed_by_person_idx ON smartbox.incidents (service, resolved_at)
    WHERE resolution_reason = 'closed_by_person';

COMMENT ON TABLE smartbox.incidents IS 'one row per occurrence of a fault, from the first suspicion to the resolution';
COMMENT ON COLUMN smartbox.incidents.service IS 'the service';
COMMENT ON COLUMN smartbox.incidents.incident_id IS 'identity, the same when the same detections are replayed';
COMMENT ON COLUMN smartbox.incidents.fingerprint_id IS 'the pattern that it is an occurrence of';
COMMENT ON COLUMN smartbox.incidents.anomaly_name IS 'what is wrong, as it was called first';
COMMENT ON COLUMN smartbox.incidents.status IS 'SUSPECTED, OPEN, RECOVERING or CLOSED';
COMMENT ON COLUMN smartbox.incidents.severity IS 'the worst so far';
COMMENT ON COLUMN smartbox.incidents.score IS 'the worst (lowest) so far';
COMMENT ON COLUMN smartbox.incidents.confidence IS 'of the last detection, 0 to 1';
COMMENT ON COLUMN smartbox.incidents.first_seen IS 'instant of the first detection';
COMMENT ON COLUMN smartbox.incidents.last_seen IS 'instant of the last detection';
COMMENT ON COLUMN smartbox.incidents.last_evaluated IS 'instant of the last cycle that counted, detected or not';
COMMENT ON COLUMN smartbox.incidents.confirmed_at IS 'instant at which it became OPEN; NULL: it never did';
COMMENT ON COLUMN smartbox.incidents.resolved_at IS 'instant of the cycle that closed it';
COMMENT ON COLUMN smartbox.incidents.resolution_reason IS 'resolved; suspected_expired: was never confirmed; auto_stale: came back too late to be the same; closed_by_person';
COMMENT ON COLUMN smartbox.incidents.occurrence_count IS 'cycles in which it was detected';
COMMENT ON COLUMN smartbox.incidents.consecutive_detections IS 'of these, the last ones in a row';
COMMENT ON COLUMN smartbox.incidents.missed_cycles IS 'quiet cycles in a row since';
COMMENT ON COLUMN smartbox.incidents.signals IS 'all names and signals under which it was detected; a new name with one of these is the same fault';
COMMENT ON COLUMN smartbox.incidents.description IS 'in words, of the last detection';
COMMENT ON COLUMN smartbox.incidents.root_service IS 'the service whose incident is suspected to be behind this one, by smartbox.dependencies; NULL: none is';
COMMENT ON COLUMN smartbox.incidents.root_incident_id IS 'that incident';
COMMENT ON COLUMN smartbox.incidents.opened_at IS 'instant at which it became OPEN the last time: confirmed or reopened';
COMMENT ON COLUMN smartbox.incidents.reopen_count IS 'how often it was reopened';
COMMENT ON COLUMN smartbox.incidents.flapping IS 'when it was opened the last time, the same fault had been opened so often before that its alerts say so once and then wait';
COMMENT ON COLUMN smartbox.incidents.alert_held IS 'an alert about its present state was held back, since it is silenced or flapping; it is raised by a later detection when the reason is gone';
COMMENT ON COLUMN smartbox.incidents.acknowledged_at IS 'when somebody first said to be on it; NULL: nobody has';
COMMENT ON COLUMN smartbox.incidents.acknowledged_by IS 'who said so last';
COMMENT ON COLUMN smartbox.incidents.pattern IS 'the pattern that explained it best in the last detection that one did; it changes as the fault develops, which is an event and never another incident';

CREATE TABLE smartbox.incident_events (
    service text NOT NULL,
    incident_id text NOT NULL,
    event_number integer NOT NULL CHECK (event_number >= 1),
    event smartbox.incident_event NOT NULL,
    ts timestamptz NOT NULL,
    status smartbox.incident_status NOT NULL,
    severity smartbox.severity NOT NULL,
    score double precision,
    details jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, incident_id, event_number)
);

COMMENT ON TABLE smartbox.incident_events IS 'what happened to each incident, in order';
COMMENT ON COLUMN smartbox.incident_events.service IS 'the service';
COMMENT ON COLUMN smartbox.incident_events.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.incident_events.event_number IS 'number within the incident, from 1';
COMMENT ON COLUMN smartbox.incident_events.event IS 'what happened';
COMMENT ON COLUMN smartbox.incident_events.ts IS 'instant of the sample that made it happen; of what people do, the last one that the service was judged by';
COMMENT ON COLUMN smartbox.incident_events.status IS 'status of the incident afterwards';
COMMENT ON COLUMN smartbox.incident_events.severity IS 'severity in this cycle; of the whole incident when it was not detected';
COMMENT ON COLUMN smartbox.incident_events.score IS 'score in this cycle; of the whole incident when it was not detected';
COMMENT ON COLUMN smartbox.incident_events.details IS 'what else there is to say: another anomaly_name or pattern, severities of an escalation, the reason of an end, who acted and the note, that it flaps';
COMMENT ON COLUMN smartbox.incident_events.recorded_at IS 'when the row was written';

CREATE TABLE smartbox.alerts (
    service text NOT NULL,
    incident_id text NOT NULL,
    alert_number integer NOT NULL CHECK (alert_number >= 1),
    alert_type text NOT NULL CHECK (alert_type IN ('anomaly_detected', 'incident_resolved', 'no_data')),
    severity smartbox.severity NOT NULL,
    ts timestamptz NOT NULL,
    payload jsonb NOT NULL CHECK (jsonb_typeof(payload) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    silence_id text,
    PRIMARY KEY (service, incident_id, alert_number)
);

COMMENT ON TABLE smartbox.alerts IS 'messages about confirmed incidents, written in the transaction that moved the incident; NOTIFY smartbox_alerts names each';
COMMENT ON COLUMN smartbox.alerts.service IS 'the service';
COMMENT ON COLUMN smartbox.alerts.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.alerts.alert_number IS 'number within the incident, from 1; the order in which to send';
COMMENT ON COLUMN smartbox.alerts.alert_type IS 'anomaly_detected, no_data or incident_resolved';
COMMENT ON COLUMN smartbox.alerts.severity IS 'severity now; of the whole incident when it is over';
COMMENT ON COLUMN smartbox.alerts.ts IS 'instant of the sample';
COMMENT ON COLUMN smartbox.alerts.payload IS 'the message';
COMMENT ON COLUMN smartbox.alerts.created_at IS 'when the row was written';
COMMENT ON COLUMN smartbox.alerts.silence_id IS 'the silence that keeps it from being sent; NULL: it is sent';

-- ---------------------------------------------------------------------------
-- What goes with what
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.delete_with_service() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.write_backs AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.signal_bars AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.feedback AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.silences AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.deliveries AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.alerts AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.incident_events AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.incidents AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.fingerprints AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.detections AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.training_runs AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.backfill_runs AS b WHERE b.service = OLD.service;
    DELETE FROM smartbox.models AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.calendar AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.slos AS t WHERE t.service = OLD.service;
    DELETE FROM smartbox.dependencies AS t WHERE t.service = OLD.service;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION smartbox.delete_with_service() IS
    'trigger: what was learnt and found goes with the service; its samples stay until they are too old';

CREATE TRIGGER delete_with_service AFTER DELETE ON smartbox.services
    FOR EACH ROW EXECUTE FUNCTION smartbox.delete_with_service();

CREATE FUNCTION smartbox.delete_with_incident() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.signal_bars AS t WHERE t.service = OLD.service AND t.incident_id = OLD.incident_id;
    DELETE FROM smartbox.feedback AS t WHERE t.service = OLD.service AND t.incident_id = OLD.incident_id;
    DELETE FROM smartbox.deliveries AS t WHERE t.service = OLD.service AND t.incident_id = OLD.incident_id;
    DELETE FROM smartbox.alerts AS t WHERE t.service = OLD.service AND t.incident_id = OLD.incident_id;
    DELETE FROM smartbox.incident_events AS t WHERE t.service = OLD.service AND t.incident_id = OLD.incident_id;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION smartbox.delete_with_incident() IS
    'trigger: the events, alerts, deliveries and feedback of an incident go with it';

CREATE TRIGGER delete_with_incident AFTER DELETE ON smartbox.incidents
    FOR EACH ROW EXECUTE FUNCTION smartbox.delete_with_incident();

SELECT pg_catalog.pg_extension_config_dump('smartbox.detections', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.fingerprints', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.incidents', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.incident_events', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.alerts', '');
