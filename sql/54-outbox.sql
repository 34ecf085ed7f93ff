-- Receivers of alerts, and the outbox: what is to be sent to whom.  How it is
-- sent is in the next part.

-- ---------------------------------------------------------------------------
-- Receivers
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.receivers (
    receiver text PRIMARY KEY
        CHECK (receiver ~ '^[a-z][a-z0-9_-]{0,62}$'),
    kind text NOT NULL
        CHECK (kind IN ('observability', 'alertmanager', 'webhook')),
    -- A password or a query in an address would be seen by who reads the row.
    url text NOT NULL
        CONSTRAINT receivers_url_check CHECK (url ~* '^https?://[^/@?#[:space:]]+(/[^?#[:space:]]*)?$'),
    min_severity smartbox.severity NOT NULL DEFAULT 'low',
    services text[],
    categories text[],
    max_per_minute integer DEFAULT 60
        CHECK (max_per_minute BETWEEN 1 AND 100000),
    resend_interval interval NOT NULL DEFAULT '1 minute'
        CHECK (resend_interval >= '1 second' AND resend_interval <= '1 day'),
    ends_after interval NOT NULL DEFAULT '15 minutes',
    bearer_token_file text CHECK (bearer_token_file ~ '^/'),
    user_name text CHECK (user_name ~ '^[^:[:cntrl:]]+$'),
    password_file text CHECK (password_file ~ '^/'),
    ca_file text CHECK (ca_file ~ '^/'),
    certificate_file text CHECK (certificate_file ~ '^/'),
    key_file text CHECK (key_file ~ '^/'),
    enabled boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    shipped boolean NOT NULL DEFAULT false,
    CONSTRAINT receivers_ends_after_check
        CHECK (ends_after >= 2 * resend_interval AND ends_after <= '7 days'),
    CONSTRAINT receivers_user_check CHECK ((user_name IS NULL) = (password_file IS NULL)),
    CONSTRAINT receivers_one_secret_check CHECK (bearer_token_file IS NULL OR user_name IS NULL),
    CONSTRAINT receivers_key_check CHECK (key_file IS NULL OR certificate_file IS NOT NULL)
);

COMMENT ON TABLE smartbox.receivers IS 'where alerts are sent to, once arm_delivery() was called in this database';
COMMENT ON COLUMN smartbox.receivers.receiver IS 'name, in lower case';
COMMENT ON COLUMN smartbox.receivers.kind IS 'observability: POST to /api/anomalies/batch and /api/incidents/resolve; alertmanager: POST to /api/v2/alerts, again and again while an incident is open; webhook: POST to the address itself';
COMMENT ON COLUMN smartbox.receivers.url IS 'base address, http or https, without a password; superusers set it';
COMMENT ON COLUMN smartbox.receivers.min_severity IS 'alerts below are not for it';
COMMENT ON COLUMN smartbox.receivers.services IS 'only alerts of these services; NULL: of all';
COMMENT ON COLUMN smartbox.receivers.categories IS 'only alerts of services of these categories; NULL: of all';
COMMENT ON COLUMN smartbox.receivers.max_per_minute IS 'messages in one minute; what is more is held back, and one message says so; NULL: no limit';
COMMENT ON COLUMN smartbox.receivers.resend_interval IS 'alertmanager: how often the alert of an open incident is sent again';
COMMENT ON COLUMN smartbox.receivers.ends_after IS 'alertmanager: how long an alert is valid without being sent again; longer than any pause between two calls of deliver_alerts()';
COMMENT ON COLUMN smartbox.receivers.bearer_token_file IS 'file on the server with the bearer token; superusers set it';
COMMENT ON COLUMN smartbox.receivers.user_name IS 'user for HTTP basic authentication';
COMMENT ON COLUMN smartbox.receivers.password_file IS 'file on the server with the user''s password; superusers set it';
COMMENT ON COLUMN smartbox.receivers.ca_file IS 'file with the authorities that its certificate is verified with; NULL: those of the system';
COMMENT ON COLUMN smartbox.receivers.certificate_file IS 'file with the certificate that is shown to it';
COMMENT ON COLUMN smartbox.receivers.key_file IS 'file with the key of this certificate; NULL: it is in the same file';
COMMENT ON COLUMN smartbox.receivers.enabled IS 'false: nothing is sent to it';
COMMENT ON COLUMN smartbox.receivers.description IS 'for people';
COMMENT ON COLUMN smartbox.receivers.shipped IS 'came with the extension and was never changed; such rows are not dumped';

CREATE FUNCTION smartbox.prepare_receiver() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = format('only superusers can say where receiver "%s" is and which files it is shown', NEW.receiver),
            DETAIL = 'The server itself connects to the address and reads the files.',
            HINT = 'Who may update smartbox.receivers can change the rest: min_severity, services, enabled and so on.';
    END IF;
    IF TG_OP = 'INSERT' AND NOT NEW.shipped THEN
        DELETE FROM smartbox.receivers AS r
        WHERE r.receiver = NEW.receiver AND r.shipped;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.prepare_receiver() IS
    'trigger: leaves addresses and names of files to superusers, and makes the shipped row of the same name give way';

INSERT INTO smartbox.receivers (receiver, kind, url, enabled, description, shipped)
VALUES ('observability', 'observability', 'http://localhost:8000', false, 'the observability service', true);

CREATE TRIGGER prepare BEFORE INSERT ON smartbox.receivers
    FOR EACH ROW EXECUTE FUNCTION smartbox.prepare_receiver();

CREATE TRIGGER prepare_address BEFORE UPDATE ON smartbox.receivers
    FOR EACH ROW WHEN ((NEW.url, NEW.kind, NEW.bearer_token_file, NEW.user_name, NEW.password_file, NEW.ca_file, NEW.certificate_file, NEW.key_file)
        IS DISTINCT FROM (OLD.url, OLD.kind, OLD.bearer_token_file, OLD.user_name, OLD.password_file, OLD.ca_file, OLD.certificate_file, OLD.key_file))
    EXECUTE FUNCTION smartbox.prepare_receiver();

CREATE TRIGGER own_changed BEFORE UPDATE ON smartbox.receivers
    FOR EACH ROW WHEN (OLD.shipped AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE TRIGGER keep_name BEFORE UPDATE ON smartbox.receivers
    FOR EACH ROW WHEN (OLD.shipped AND NEW.receiver <> OLD.receiver)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Insert a receiver of your own.');

CREATE TRIGGER keep_shipped BEFORE DELETE ON smartbox.receivers
    FOR EACH ROW WHEN (OLD.shipped AND pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.keep_shipped_row('It is disabled as it comes; leave it so.');

-- ---------------------------------------------------------------------------
-- Whether this database sends at all
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.database_identity() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_database_identity';

COMMENT ON FUNCTION smartbox.database_identity() IS
    'which database of which server this is; the copy that a dump is restored into has another one';

CREATE TABLE smartbox.delivery_arming (
    database_identity text PRIMARY KEY,
    armed_at timestamptz NOT NULL DEFAULT now(),
    armed_by text NOT NULL DEFAULT current_user
);

COMMENT ON TABLE smartbox.delivery_arming IS 'the database that sends alerts; a copy of this row in another database sends nothing there';
COMMENT ON COLUMN smartbox.delivery_arming.database_identity IS 'smartbox.database_identity() of it';
COMMENT ON COLUMN smartbox.delivery_arming.armed_at IS 'when arm_delivery() was called';
COMMENT ON COLUMN smartbox.delivery_arming.armed_by IS 'by whom';

CREATE FUNCTION smartbox.delivery_obstacle() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM smartbox.delivery_arming AS a WHERE a.database_identity = smartbox.database_identity()) THEN
        RETURN CASE WHEN NOT current_setting('smartbox_anomaly.deliver_alerts')::boolean
            THEN 'the setting smartbox_anomaly.deliver_alerts is off' END;
    ELSIF EXISTS (SELECT FROM smartbox.delivery_arming AS a) THEN
        RETURN 'delivery was armed in another database, of which this one is a copy: arm_delivery() makes this one send';
    END IF;
    RETURN 'delivery is not armed in this database: arm_delivery() makes it send';
END
$$;

COMMENT ON FUNCTION smartbox.delivery_obstacle() IS
    'why no alert is sent from this database, NULL when they are';

-- ---------------------------------------------------------------------------
-- The outbox
-- ---------------------------------------------------------------------------

-- Room in the pages, since each row is written three times.
CREATE TABLE smartbox.deliveries (
    service text NOT NULL,
    incident_id text NOT NULL,
    alert_number integer NOT NULL CHECK (alert_number >= 1),
    receiver text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    reason text,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz DEFAULT now(),
    leased_until timestamptz,
    last_error text,
    sent_at timestamptz,
    resend_at timestamptz,
    payload jsonb CHECK (jsonb_typeof(payload) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    give_up_at timestamptz NOT NULL DEFAULT now() + interval '1 day',
    PRIMARY KEY (service, incident_id, alert_number, receiver),
    CONSTRAINT deliveries_status_check
        CHECK (status IN ('pending', 'sending', 'sent', 'dead', 'held', 'skipped')),
    CONSTRAINT deliveries_next_attempt_check
        CHECK (CASE
            WHEN status IN ('pending', 'sending') THEN next_attempt_at IS NOT NULL
            WHEN status = 'held' THEN true
            ELSE next_attempt_at IS NULL END),
    CONSTRAINT deliveries_lease_check
        CHECK ((status = 'sending') = (leased_until IS NOT NULL)),
    CONSTRAINT deliveries_sent_check
        CHECK ((status = 'sent') = (sent_at IS NOT NULL) AND (resend_at IS NULL OR status = 'sent'))
) WITH (fillfactor = 70);

CREATE INDEX deliveries_due_idx ON smartbox.deliveries (receiver, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
CREATE INDEX deliveries_resend_idx ON smartbox.deliveries (receiver, resend_at)
    WHERE resend_at IS NOT NULL;
CREATE INDEX deliveries_sent_idx ON smartbox.deliveries (receiver, sent_at)
    WHERE sent_at IS NOT NULL;

COMMENT ON TABLE smartbox.deliveries IS 'the outbox: one row per alert and receiver, written in the transaction that wrote the alert; rows of service * tell a receiver what was held back';
COMMENT ON COLUMN smartbox.deliveries.service IS 'the service';
COMMENT ON COLUMN smartbox.deliveries.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.deliveries.alert_number IS 'the alert''s number within the incident';
COMMENT ON COLUMN smartbox.deliveries.receiver IS 'whom it is for';
COMMENT ON COLUMN smartbox.deliveries.status IS 'pending, sending, sent, dead (given up), held (the receiver''s cap is reached) or skipped (not to be sent)';
COMMENT ON COLUMN smartbox.deliveries.reason IS 'why it is held or skipped';
COMMENT ON COLUMN smartbox.deliveries.attempts IS 'how often it was tried';
COMMENT ON COLUMN smartbox.deliveries.next_attempt_at IS 'when it is tried next; NULL: never';
COMMENT ON COLUMN smartbox.deliveries.leased_until IS 'while it is being sent: when another session may try, should this one have died';
COMMENT ON COLUMN smartbox.deliveries.last_error IS 'why the last attempt failed';
COMMENT ON COLUMN smartbox.deliveries.sent_at IS 'when the receiver said that it has it';
COMMENT ON COLUMN smartbox.deliveries.resend_at IS 'alertmanager: when it is sent again, since it forgets an alert that is not';
COMMENT ON COLUMN smartbox.deliveries.payload IS 'the message, where it is no row of smartbox.alerts';
COMMENT ON COLUMN smartbox.deliveries.created_at IS 'when the row was written';
COMMENT ON COLUMN smartbox.deliveries.give_up_at IS 'when it becomes dead if it was not sent until then';

CREATE FUNCTION smartbox.queue_deliveries() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    resolution CONSTANT boolean := NEW.alert_type = 'incident_resolved';
    of_category text;
BEGIN
    SELECT s.category INTO of_category
    FROM smartbox.services AS s
    WHERE s.service = NEW.service;

    -- Who was to be told of an incident is to be told of its end, whatever has
    -- become of the filters since.
    INSERT INTO smartbox.deliveries
        (service, incident_id, alert_number, receiver, status, reason, next_attempt_at)
    SELECT NEW.service, NEW.incident_id, NEW.alert_number, r.receiver,
        CASE WHEN NEW.silence_id IS NULL THEN 'pending' ELSE 'skipped' END,
        'silenced by ' || NEW.silence_id,
        CASE WHEN NEW.silence_id IS NULL THEN now() END
    FROM smartbox.receivers AS r
    WHERE CASE WHEN resolution THEN EXISTS (
            SELECT FROM smartbox.deliveries AS d
            WHERE d.service = NEW.service AND d.incident_id = NEW.incident_id AND d.receiver = r.receiver)
        ELSE r.enabled
            AND NEW.severity >= r.min_severity
            AND (r.services IS NULL OR NEW.service = ANY (r.services))
            AND (r.categories IS NULL OR of_category = ANY (r.categories))
        END;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION smartbox.queue_deliveries() IS
    'trigger: a new alert is to be delivered to every receiver whose filters it passes';

-- A restored alert brings an older created_at, and its deliveries with it.
CREATE TRIGGER queue_deliveries AFTER INSERT ON smartbox.alerts
    FOR EACH ROW WHEN (NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.queue_deliveries();

SELECT pg_catalog.pg_extension_config_dump('smartbox.receivers', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('smartbox.delivery_arming', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.deliveries', '');
