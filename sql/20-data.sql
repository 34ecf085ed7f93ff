-- Services, what was measured, what was learnt.  Every table that belongs to
-- a service has the service first in its keys, and none has a sequence, so
-- that the tables can be distributed by service.
--
-- There are no foreign keys: pg_restore with several jobs loads the tables of
-- an extension in any order, each in its own transaction.  Triggers check what
-- comes in and delete what hangs on a service.  They know a row that is
-- restored by its time: it brings the one at which it was written.

-- ---------------------------------------------------------------------------
-- Services
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.services (
    service text PRIMARY KEY
        CHECK (length(service) BETWEEN 1 AND 200 AND service !~ '[\u0001-\u001f\u007f]'),
    category text NOT NULL,
    time_zone text,
    enabled boolean NOT NULL DEFAULT true,
    contamination double precision
        CHECK (contamination > 0 AND contamination < 0.5),
    false_alarms_per_week double precision
        CHECK (false_alarms_per_week > 0 AND false_alarms_per_week <= 1000),
    confirmation_cycles integer
        CHECK (confirmation_cycles BETWEEN 1 AND 1000),
    resolution_grace_cycles integer
        CHECK (resolution_grace_cycles BETWEEN 1 AND 1000),
    incident_separation interval
        CHECK (incident_separation > '0' AND incident_separation <= '365 days'),
    flapping_openings integer
        CHECK (flapping_openings BETWEEN 2 AND 1000),
    flapping_window interval
        CHECK (flapping_window > '0' AND flapping_window <= '365 days'),
    backfilled tstzmultirange NOT NULL DEFAULT '{}',
    team text CHECK (team <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    description text NOT NULL DEFAULT ''
);

COMMENT ON TABLE smartbox.services IS 'the services that are watched; an INSERT of the name alone is enough';
COMMENT ON COLUMN smartbox.services.service IS 'name, as the label in the metrics says it; 1 to 200 characters';
COMMENT ON COLUMN smartbox.services.category IS 'left out: guessed from the name, see service_categories.name_pattern';
COMMENT ON COLUMN smartbox.services.time_zone IS 'zone of its working day, such as Europe/Paris; NULL: the setting smartbox_anomaly.time_zone';
COMMENT ON COLUMN smartbox.services.enabled IS 'false: not collected, trained or judged when all services are';
COMMENT ON COLUMN smartbox.services.contamination IS 'share of the history that may be bad; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.false_alarms_per_week IS 'wrong incidents per week that are tolerated; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.confirmation_cycles IS 'detections in a row that open an incident; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.resolution_grace_cycles IS 'quiet cycles in a row that close an incident; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.incident_separation IS 'how far apart two incidents of the same fault must be; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.flapping_openings IS 'openings of one fault within flapping_window that are flapping; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.flapping_window IS 'the time before an opening in which earlier ones count; NULL: as its category says';
COMMENT ON COLUMN smartbox.services.backfilled IS 'the spans of time that the source was already asked for, whether it had values or not';
COMMENT ON COLUMN smartbox.services.team IS 'who looks after it; a policy of yours can go by it';
COMMENT ON COLUMN smartbox.services.created_at IS 'when the service became known here';
COMMENT ON COLUMN smartbox.services.description IS 'for people';

CREATE FUNCTION smartbox.guess_category(service text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.category
    FROM smartbox.service_categories AS c
    WHERE lower(regexp_replace(service, '([a-z0-9])([A-Z])', '\1-\2', 'g')) ~ c.name_pattern
    ORDER BY c.priority, c.category
    LIMIT 1
$$;

COMMENT ON FUNCTION smartbox.guess_category(text) IS
    'the category whose name_pattern matches the name, smallest priority first: shop-fr-adm is admin, mobile-api and mobileApi are critical, capital is standard';

CREATE FUNCTION smartbox.guess_service_category() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.category := smartbox.guess_category(NEW.service);
    IF NEW.category IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'not_null_violation',
            MESSAGE = format('no category is known for service "%s"', NEW.service),
            DETAIL = 'None of the patterns in smartbox.service_categories matches its name.',
            HINT = 'Name a category in the INSERT, or give a category an empty name_pattern and a high priority to catch the rest.';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.guess_service_category() IS
    'trigger: a service that is inserted without a category gets one by its name';

-- pg_timezone_names reads hundreds of files, and AT TIME ZONE takes
-- abbreviations such as CEST that stand still all year; the setting takes
-- exactly what the period of an instant can be computed with.  The clause of
-- the function puts the session's zone back.
CREATE FUNCTION smartbox.is_time_zone(name text) RETURNS boolean
LANGUAGE plpgsql STRICT
SET search_path = pg_catalog, pg_temp
SET TimeZone = 'UTC'
AS $$
BEGIN
    -- Numbers and intervals are offsets to the setting, not zones.
    IF name !~ '^[A-Za-z]' OR name ~* '^(interval|(nan|inf|infinity)$)' THEN
        RETURN false;
    END IF;
    PERFORM set_config('TimeZone', name, true);
    RETURN true;
EXCEPTION
    WHEN invalid_parameter_value THEN
        RETURN false;
END
$$;

COMMENT ON FUNCTION smartbox.is_time_zone(text) IS
    'whether PostgreSQL knows a time zone of that name';

CREATE FUNCTION smartbox.check_service_time_zone() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT smartbox.is_time_zone(NEW.time_zone) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('time zone "%s" of service "%s" is not known', NEW.time_zone, NEW.service),
            HINT = 'Use a name of pg_timezone_names, such as Europe/Paris, or NULL for the setting smartbox_anomaly.time_zone.',
            SCHEMA = 'smartbox',
            TABLE = 'services',
            COLUMN = 'time_zone';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.check_service_time_zone() IS
    'trigger: the time zone of a service must be one that PostgreSQL knows';

CREATE FUNCTION smartbox.check_service_category() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM smartbox.service_categories AS c WHERE c.category = NEW.category) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'foreign_key_violation',
            MESSAGE = format('category "%s" of service "%s" does not exist', NEW.category, NEW.service),
            HINT = (SELECT format('There are: %s. Leave it out to have it guessed from the name.',
                                  string_agg(c.category, ', ' ORDER BY c.priority, c.category))
                    FROM smartbox.service_categories AS c),
            SCHEMA = 'smartbox',
            TABLE = 'services',
            COLUMN = 'category';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.check_service_category() IS
    'trigger: the category of a service must exist';

CREATE FUNCTION smartbox.keep_service_name() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'feature_not_supported',
        MESSAGE = format('service "%s" cannot be renamed', OLD.service),
        DETAIL = 'Its samples, models and incidents go by its name.',
        HINT = 'Insert the new one, and disable the old one.';
END
$$;

COMMENT ON FUNCTION smartbox.keep_service_name() IS 'trigger: refuses to rename a service';

CREATE TRIGGER guess_category BEFORE INSERT ON smartbox.services
    FOR EACH ROW WHEN (NEW.category IS NULL)
    EXECUTE FUNCTION smartbox.guess_service_category();

CREATE TRIGGER insert_category BEFORE INSERT ON smartbox.services
    FOR EACH ROW WHEN (NEW.category IS NOT NULL AND NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.check_service_category();

CREATE TRIGGER update_category BEFORE UPDATE OF category ON smartbox.services
    FOR EACH ROW WHEN (NEW.category <> OLD.category)
    EXECUTE FUNCTION smartbox.check_service_category();

CREATE TRIGGER insert_time_zone BEFORE INSERT ON smartbox.services
    FOR EACH ROW WHEN (NEW.time_zone IS NOT NULL AND NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.check_service_time_zone();

CREATE TRIGGER update_time_zone BEFORE UPDATE OF time_zone ON smartbox.services
    FOR EACH ROW WHEN (NEW.time_zone IS DISTINCT FROM OLD.time_zone AND NEW.time_zone IS NOT NULL)
    EXECUTE FUNCTION smartbox.check_service_time_zone();

CREATE TRIGGER keep_name BEFORE UPDATE OF service ON smartbox.services
    FOR EACH ROW WHEN (NEW.service <> OLD.service)
    EXECUTE FUNCTION smartbox.keep_service_name();

-- ---------------------------------------------------------------------------
-- Samples
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.samples (
    service text NOT NULL CHECK (length(service) BETWEEN 1 AND 200),
    ts timestamptz NOT NULL CHECK (isfinite(ts)),
    metric_values double precision[] NOT NULL
        CHECK (array_ndims(metric_values) = 1 AND array_lower(metric_values, 1) = 1),
    warnings text[],
    PRIMARY KEY (service, ts)
);

CREATE INDEX samples_ts_idx ON smartbox.samples (ts);

COMMENT ON TABLE smartbox.samples IS 'the metrics of one service at one instant; insert your own rows here to work without a metrics server';
COMMENT ON COLUMN smartbox.samples.service IS 'the service';
COMMENT ON COLUMN smartbox.samples.ts IS 'end of the interval that the values describe';
COMMENT ON COLUMN smartbox.samples.metric_values IS 'values in the order of metrics.position; NULL is unknown, which is not zero';
COMMENT ON COLUMN smartbox.samples.warnings IS 'values that were refused when they were collected, and why';

-- ---------------------------------------------------------------------------
-- Models
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.models (
    service text NOT NULL,
    time_period text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    status text NOT NULL CHECK (status IN ('accepted', 'rejected', 'insufficient')),
    is_active boolean NOT NULL DEFAULT false,
    model bytea,
    trained_at timestamptz NOT NULL DEFAULT now(),
    samples integer NOT NULL CHECK (samples >= 0),
    sample_range tstzrange,
    coverage double precision CHECK (coverage >= 0 AND coverage <= 1),
    seed bigint,
    feature_set bigint,
    duration_ms double precision CHECK (duration_ms >= 0),
    card jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(card) = 'object'),
    reason text,
    rolled_back_at timestamptz,
    PRIMARY KEY (service, time_period, version),
    CHECK (NOT is_active OR (status = 'accepted' AND model IS NOT NULL))
);

-- A forest does not compress, and part of one can be read without the rest.
ALTER TABLE smartbox.models ALTER COLUMN model SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX models_active_idx ON smartbox.models (service, time_period) WHERE is_active;

COMMENT ON TABLE smartbox.models IS 'what was learnt for each service and period, one row per training; at most one version is active';
COMMENT ON COLUMN smartbox.models.service IS 'the service';
COMMENT ON COLUMN smartbox.models.time_period IS 'the part of the week';
COMMENT ON COLUMN smartbox.models.version IS 'number of the training, from 1 within service and period';
COMMENT ON COLUMN smartbox.models.status IS 'accepted, rejected by the validation, or insufficient: too few samples to learn from';
COMMENT ON COLUMN smartbox.models.is_active IS 'this version judges new samples';
COMMENT ON COLUMN smartbox.models.model IS 'the forests and what belongs to them, checksummed; the same rows and seed give the same bytes';
COMMENT ON COLUMN smartbox.models.trained_at IS 'when it was trained';
COMMENT ON COLUMN smartbox.models.samples IS 'samples of the period that it was trained on';
COMMENT ON COLUMN smartbox.models.sample_range IS 'first to last of these samples';
COMMENT ON COLUMN smartbox.models.coverage IS 'share of the period''s expected samples that were there, 0 to 1';
COMMENT ON COLUMN smartbox.models.seed IS 'seed of the random numbers';
COMMENT ON COLUMN smartbox.models.feature_set IS 'identity of the features: a model is not used with other ones';
COMMENT ON COLUMN smartbox.models.duration_ms IS 'how long the training took, in ms';
COMMENT ON COLUMN smartbox.models.card IS
$$the model's card. based_on: own samples, samples of other periods too (borrowed: how many), or medians, which
too few samples for a forest are left with; held_out: samples that tested what the others taught; left_out:
samples that did not teach, by reason: in an incident, in a maintenance, in a busy time, just after a change
of level, or suspicious by themselves (no more than contamination allows); gaps: times without samples;
level_changes and last_level_change: deployments and the like, after which the level stayed another;
held_out_flagged and injected_faults_found: what the validation found, as shares; metrics: for each one
quantiles, median absolute deviation (mad), noise (sigma, on the transformed scale) and the deviations in
sigma beyond which it alone uses up the budget of false alarms; correlation of the metrics' deviations;
drift_baseline: mean standing of each metric, samples that say as much as one, and stretches of samples, the
inverse covariance being in the model. Rows, range, coverage, seed, feature set and duration are columns$$;
COMMENT ON COLUMN smartbox.models.reason IS 'why it was rejected, or what it is based on and what is missing; NULL when there is nothing to say';
COMMENT ON COLUMN smartbox.models.rolled_back_at IS 'when somebody went back from this version to an earlier one; a rollback does not come back to it';

CREATE TABLE smartbox.training_runs (
    service text NOT NULL,
    run_id uuid NOT NULL DEFAULT gen_random_uuid(),
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'failed')),
    samples integer CHECK (samples >= 0),
    models_accepted integer CHECK (models_accepted >= 0),
    models_rejected integer CHECK (models_rejected >= 0),
    message text,
    pid integer,
    PRIMARY KEY (service, run_id),
    CHECK ((status = 'running') = (finished_at IS NULL))
);

CREATE INDEX training_runs_started_at_idx ON smartbox.training_runs (service, started_at);

COMMENT ON TABLE smartbox.training_runs IS 'one row per training of a service';
COMMENT ON COLUMN smartbox.training_runs.service IS 'the service';
COMMENT ON COLUMN smartbox.training_runs.run_id IS 'identity of the run';
COMMENT ON COLUMN smartbox.training_runs.started_at IS 'when it began';
COMMENT ON COLUMN smartbox.training_runs.finished_at IS 'when it ended; NULL while it runs';
COMMENT ON COLUMN smartbox.training_runs.status IS 'running, succeeded or failed';
COMMENT ON COLUMN smartbox.training_runs.samples IS 'samples that were read';
COMMENT ON COLUMN smartbox.training_runs.models_accepted IS 'models that became active';
COMMENT ON COLUMN smartbox.training_runs.models_rejected IS 'models that did not pass validation or had too few samples';
COMMENT ON COLUMN smartbox.training_runs.message IS 'what went wrong, or what is worth knowing';
COMMENT ON COLUMN smartbox.training_runs.pid IS 'the server process that trains or trained it';

SELECT pg_catalog.pg_extension_config_dump('smartbox.services', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.samples', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.models', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.training_runs', '');
