-- Service objectives: what was promised of a service's metrics.  None is
-- shipped: a limit that nobody has agreed on is an alarm that nobody wants.

CREATE TABLE smartbox.slos (
    service text NOT NULL DEFAULT '*'
        CHECK (length(service) BETWEEN 1 AND 200),
    metric text NOT NULL,
    acceptable double precision NOT NULL
        CHECK (acceptable >= 0 AND acceptable < 'Infinity'),
    warning double precision NOT NULL
        CHECK (warning >= 0 AND warning < 'Infinity'),
    objective double precision NOT NULL
        CHECK (objective >= 0 AND objective < 'Infinity'),
    min_requests double precision NOT NULL DEFAULT 100
        CHECK (min_requests >= 0 AND min_requests < 'Infinity'),
    busy_factor double precision NOT NULL DEFAULT 1.5
        CHECK (busy_factor >= 1 AND busy_factor <= 100),
    target double precision NOT NULL DEFAULT 0.99
        CHECK (target > 0 AND target < 1),
    enabled boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, metric),
    CONSTRAINT slos_order_check
        CHECK ((acceptable <= warning AND warning <= objective)
            OR (acceptable >= warning AND warning >= objective))
);

COMMENT ON TABLE smartbox.slos IS
$$service objectives: up to 300 ms is acceptable, from 400 it gets serious, more than 500 breaks the promise: INSERT INTO smartbox.slos (service, metric, acceptable, warning, objective) VALUES ('booking', 'application_latency', 300, 400, 500)$$;
COMMENT ON COLUMN smartbox.slos.service IS 'the service; * is every service that has no row of its own for the metric';
COMMENT ON COLUMN smartbox.slos.metric IS 'the metric; the direction that hurts is the metric''s, and where that is both, the one in which the limits go';
COMMENT ON COLUMN smartbox.slos.acceptable IS 'up to here an anomaly is only informational, in the metric''s unit';
COMMENT ON COLUMN smartbox.slos.warning IS 'beyond it an anomaly is high';
COMMENT ON COLUMN smartbox.slos.objective IS 'what was promised: beyond it is a breach, which is critical with or without an anomaly';
COMMENT ON COLUMN smartbox.slos.min_requests IS 'requests in the interval of a sample below which it says nothing; of no account for a limit from below';
COMMENT ON COLUMN smartbox.slos.busy_factor IS 'at busy times of the calendar the limits are wider by this factor';
COMMENT ON COLUMN smartbox.slos.target IS 'share of samples that must be within the objective; the rest is the error budget of smartbox.slo_status';
COMMENT ON COLUMN smartbox.slos.enabled IS 'false: not in force; a service''s own row with false switches the one for all off for it';
COMMENT ON COLUMN smartbox.slos.description IS 'who agreed on it, and why';
COMMENT ON COLUMN smartbox.slos.created_at IS 'when it was written';

CREATE FUNCTION smartbox.check_slo() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    metric record;
BEGIN
    IF NEW.service <> '*' AND NOT EXISTS (SELECT FROM smartbox.services AS s WHERE s.service = NEW.service) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'foreign_key_violation',
            MESSAGE = format('service "%s" is not known', NEW.service),
            HINT = 'Add it first: INSERT INTO smartbox.services (service) VALUES (...), or SELECT discover_services(). An objective of all services has the service *.',
            SCHEMA = 'smartbox',
            TABLE = 'slos',
            COLUMN = 'service';
    END IF;
    SELECT m.direction, m.valid_min, m.valid_max, m.unit INTO metric
    FROM smartbox.metrics AS m
    WHERE m.metric = NEW.metric;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'foreign_key_violation',
            MESSAGE = format('metric "%s" is not known', NEW.metric),
            HINT = format('There are: %s.', (SELECT string_agg(m.metric, ', ' ORDER BY m.position) FROM smartbox.metrics AS m)),
            SCHEMA = 'smartbox',
            TABLE = 'slos',
            COLUMN = 'metric';
    END IF;
    IF least(NEW.acceptable, NEW.objective) < metric.valid_min
        OR greatest(NEW.acceptable, NEW.objective) > metric.valid_max
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'numeric_value_out_of_range',
            MESSAGE = format('limits of %s are outside of its valid range, %s to %s', NEW.metric, metric.valid_min, metric.valid_max),
            HINT = CASE metric.unit
                WHEN 'ratio' THEN 'It is a share between 0 and 1: one per cent is 0.01.'
                ELSE format('They are in %s.', coalesce(nullif(metric.unit, ''), 'the unit of the metric'))
            END,
            SCHEMA = 'smartbox',
            TABLE = 'slos';
    END IF;
    IF (metric.direction = 'high' AND NEW.acceptable > NEW.objective)
        OR (metric.direction = 'low' AND NEW.acceptable < NEW.objective)
        OR (metric.direction = 'both' AND NEW.acceptable = NEW.objective)
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'check_violation',
            MESSAGE = CASE metric.direction
                WHEN 'both' THEN format('the limits of %s do not say which way hurts', NEW.metric)
                ELSE format('the limits of %s go the wrong way: its %s values hurt', NEW.metric, metric.direction)
            END,
            HINT = CASE metric.direction
                WHEN 'high' THEN 'acceptable is the smallest of the three, objective the largest.'
                WHEN 'low' THEN 'acceptable is the largest of the three, objective the smallest.'
                ELSE 'Let them ascend from acceptable to objective when high values hurt, and descend when low ones do.'
            END,
            SCHEMA = 'smartbox',
            TABLE = 'slos';
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.check_slo() IS
    'trigger: an objective is of a known service and metric, in its unit, and goes the way that hurts';

CREATE TRIGGER check_row BEFORE INSERT ON smartbox.slos
    FOR EACH ROW WHEN (NEW.created_at = pg_catalog.now())
    EXECUTE FUNCTION smartbox.check_slo();

CREATE TRIGGER check_change BEFORE UPDATE ON smartbox.slos
    FOR EACH ROW WHEN ((NEW.service, NEW.metric, NEW.acceptable, NEW.objective)
                       IS DISTINCT FROM (OLD.service, OLD.metric, OLD.acceptable, OLD.objective))
    EXECUTE FUNCTION smartbox.check_slo();

SELECT pg_catalog.pg_extension_config_dump('smartbox.slos', '');
