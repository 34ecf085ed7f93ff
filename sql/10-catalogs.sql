-- The small catalogs: what a user changes with INSERT, UPDATE and DELETE
-- instead of changing code.  Rows that come with the extension have shipped =
-- true and are not dumped; as soon as a user changes one it is the user's.

CREATE TYPE smartbox.severity AS ENUM ('none', 'low', 'medium', 'high', 'critical');

COMMENT ON TYPE smartbox.severity IS 'how bad an anomaly is, in rising order';

-- ---------------------------------------------------------------------------
-- Shipped rows
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.own_changed_row() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.shipped := false;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.own_changed_row() IS
    'trigger of the catalogs: a shipped row that somebody changes becomes theirs, and is dumped from then on';

CREATE FUNCTION smartbox.keep_shipped_row() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- pg_dump leaves shipped rows out, so CREATE EXTENSION brings a deleted
    -- one back on restore; saying no is better than a deletion that does not last.
    RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = 'a row that comes with the extension can be neither deleted nor renamed',
        DETAIL = 'CREATE EXTENSION would bring it back when a dump is restored.',
        HINT = TG_ARGV[0];
END
$$;

COMMENT ON FUNCTION smartbox.keep_shipped_row() IS
    'trigger of the catalogs: refuses to delete or rename a shipped row, and says what to do instead (its argument)';

-- ---------------------------------------------------------------------------
-- Categories of services
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.service_categories (
    category text PRIMARY KEY
        CHECK (category ~ '^[a-z][a-z0-9_]{0,62}$'),
    contamination double precision NOT NULL
        CHECK (contamination > 0 AND contamination < 0.5),
    false_alarms_per_week double precision NOT NULL
        CHECK (false_alarms_per_week > 0 AND false_alarms_per_week <= 1000),
    confirmation_cycles integer NOT NULL DEFAULT 2
        CHECK (confirmation_cycles BETWEEN 1 AND 1000),
    resolution_grace_cycles integer NOT NULL DEFAULT 3
        CHECK (resolution_grace_cycles BETWEEN 1 AND 1000),
    incident_separation interval NOT NULL DEFAULT '30 minutes'
        CHECK (incident_separation > '0' AND incident_separation <= '365 days'),
    flapping_openings integer NOT NULL DEFAULT 4
        CHECK (flapping_openings BETWEEN 2 AND 1000),
    flapping_window interval NOT NULL DEFAULT '6 hours'
        CHECK (flapping_window > '0' AND flapping_window <= '365 days'),
    -- Matching a pattern against nothing makes a bad one fail here and not at
    -- the next INSERT of a service.
    name_pattern text
        CHECK (name_pattern IS NULL OR ('' ~ name_pattern) IS NOT NULL),
    priority integer NOT NULL DEFAULT 0,
    description text NOT NULL DEFAULT '',
    shipped boolean NOT NULL DEFAULT false
);

COMMENT ON TABLE smartbox.service_categories IS 'kinds of services and what a service of that kind gets unless it says otherwise';
COMMENT ON COLUMN smartbox.service_categories.category IS 'name, in lower case';
COMMENT ON COLUMN smartbox.service_categories.contamination IS 'prior: the share of the history that may be bad, 0 to 0.5';
COMMENT ON COLUMN smartbox.service_categories.false_alarms_per_week IS 'budget: wrong incidents per service and week that are tolerated';
COMMENT ON COLUMN smartbox.service_categories.confirmation_cycles IS 'detections in a row that make a suspicion an open incident';
COMMENT ON COLUMN smartbox.service_categories.resolution_grace_cycles IS 'quiet cycles in a row that close an incident';
COMMENT ON COLUMN smartbox.service_categories.incident_separation IS 'a fault that comes back sooner than this reopens its incident; one that was not seen for longer is a new incident';
COMMENT ON COLUMN smartbox.service_categories.flapping_openings IS 'a fault that is opened so often within flapping_window flaps: its alerts say so once and then wait';
COMMENT ON COLUMN smartbox.service_categories.flapping_window IS 'the time before an opening in which earlier ones of the same fault count';
COMMENT ON COLUMN smartbox.service_categories.name_pattern IS 'regular expression that guesses the category from a service''s name (in lower case, camelCase split by -); NULL: never guessed';
COMMENT ON COLUMN smartbox.service_categories.priority IS 'order in which patterns are tried, smallest first; your own come before the shipped ones unless you say otherwise';
COMMENT ON COLUMN smartbox.service_categories.description IS 'what belongs here';
COMMENT ON COLUMN smartbox.service_categories.shipped IS 'came with the extension and was never changed; such rows are not dumped';

CREATE FUNCTION smartbox.replace_shipped_category() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.service_categories AS c
    WHERE c.category = NEW.category AND c.shipped;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.replace_shipped_category() IS
    'trigger: the shipped row gives way to a row of the same name, such as the one in a dump';

-- A word is a part of the name between anything that is no letter: "api" is
-- in mobile-api, api2 and paymentsAPI, not in capital.
INSERT INTO smartbox.service_categories
    (category, contamination, false_alarms_per_week, name_pattern, priority, description, shipped)
VALUES
    ('critical', 0.03, 1, '(^|[^a-z])(api|gateway|proxy|auth|login)s?([^a-z]|$)', 100,
     'users notice at once when it fails', true),
    ('admin', 0.06, 2, '(^|[^a-z])(admin|adm|mgmt)s?([^a-z]|$)', 200,
     'back office', true),
    ('background', 0.08, 3, '(^|[^a-z])(worker|job|task|queue|processor)s?([^a-z]|$)', 300,
     'does its work in its own time', true),
    ('micro', 0.08, 3, '(^|[^a-z])(micro|util|helper|tool)s?([^a-z]|$)', 400,
     'small helper of other services', true),
    ('core', 0.04, 1.5, '(^|[^a-z])(core|platform|db|cache)s?([^a-z]|$)', 500,
     'what other services are built on', true),
    ('standard', 0.05, 2, '', 1000,
     'everything else', true);

CREATE TRIGGER replace_shipped BEFORE INSERT ON smartbox.service_categories
    FOR EACH ROW WHEN (NOT NEW.shipped)
    EXECUTE FUNCTION smartbox.replace_shipped_category();

CREATE TRIGGER own_changed BEFORE UPDATE ON smartbox.service_categories
    FOR EACH ROW WHEN (OLD.shipped AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE TRIGGER keep_name BEFORE UPDATE ON smartbox.service_categories
    FOR EACH ROW WHEN (OLD.shipped AND NEW.category <> OLD.category)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Insert a category of your own.');

CREATE TRIGGER keep_shipped BEFORE DELETE ON smartbox.service_categories
    FOR EACH ROW WHEN (OLD.shipped AND pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set its name_pattern to NULL, and no service is put into it by its name.');

-- ---------------------------------------------------------------------------
-- Metrics
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.metrics (
    metric text PRIMARY KEY
        CHECK (metric ~ '^[a-z][a-z0-9_]{0,62}$'),
    -- Deferred, so that two metrics can change places, and a dump in which
    -- they did can be loaded.
    position integer NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED
        CHECK (position BETWEEN 1 AND 1000),
    query text NOT NULL CHECK (query <> ''),
    unit text NOT NULL DEFAULT '',
    kind text NOT NULL CHECK (kind IN ('rate', 'latency', 'ratio')),
    direction text NOT NULL DEFAULT 'high' CHECK (direction IN ('high', 'low', 'both')),
    zero_is_normal boolean NOT NULL DEFAULT false,
    valid_min double precision NOT NULL DEFAULT 0,
    valid_max double precision NOT NULL,
    min_absolute_deviation double precision NOT NULL DEFAULT 0
        CHECK (min_absolute_deviation >= 0 AND min_absolute_deviation < 'Infinity'),
    min_relative_deviation double precision NOT NULL DEFAULT 0
        CHECK (min_relative_deviation >= 0 AND min_relative_deviation < 'Infinity'),
    enabled boolean NOT NULL DEFAULT true,
    description text NOT NULL DEFAULT '',
    shipped boolean NOT NULL DEFAULT false,
    CHECK (valid_min > '-Infinity' AND valid_min < valid_max AND valid_max < 'Infinity'),
    CHECK (kind <> 'ratio' OR (valid_min >= 0 AND valid_max <= 1))
);

COMMENT ON TABLE smartbox.metrics IS 'what is collected, learnt and judged; a new metric is a new row';
COMMENT ON COLUMN smartbox.metrics.metric IS 'name, in lower case';
COMMENT ON COLUMN smartbox.metrics.position IS 'place in samples.metric_values, from 1; left out: the next free one. Do not change it once there are samples';
COMMENT ON COLUMN smartbox.metrics.query IS 'PromQL for all services at once; $selector is replaced by label matchers, $window by the rate window, $service_label by the label that names the service';
COMMENT ON COLUMN smartbox.metrics.unit IS 'unit of the values, for people';
COMMENT ON COLUMN smartbox.metrics.kind IS 'rate (per second), latency (ms) or ratio (0 to 1): decides how values are transformed';
COMMENT ON COLUMN smartbox.metrics.direction IS 'the direction that hurts: high, low or both';
COMMENT ON COLUMN smartbox.metrics.zero_is_normal IS 'zero says that nothing happened, not that something is wrong';
COMMENT ON COLUMN smartbox.metrics.valid_min IS 'values below are unknown (NULL), with a warning';
COMMENT ON COLUMN smartbox.metrics.valid_max IS 'values above are unknown (NULL), with a warning';
COMMENT ON COLUMN smartbox.metrics.min_absolute_deviation IS 'a deviation from what is expected that is smaller than this, in the metric''s unit, stays silent';
COMMENT ON COLUMN smartbox.metrics.min_relative_deviation IS 'a deviation that is smaller than this share of what is expected stays silent';
COMMENT ON COLUMN smartbox.metrics.enabled IS 'false: no longer collected, learnt or judged; its place in the samples stays';
COMMENT ON COLUMN smartbox.metrics.description IS 'what it measures';
COMMENT ON COLUMN smartbox.metrics.shipped IS 'came with the extension and was never changed; such rows are not dumped';

CREATE FUNCTION smartbox.prepare_metric() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT NEW.shipped THEN
        DELETE FROM smartbox.metrics AS m
        WHERE m.metric = NEW.metric AND m.shipped;
    END IF;
    IF NEW.position IS NULL THEN
        SELECT coalesce(max(m.position), 0) + 1 INTO NEW.position
        FROM smartbox.metrics AS m;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.prepare_metric() IS
    'trigger: gives a new metric the next position, and makes the shipped row of the same name give way';

INSERT INTO smartbox.metrics
    (metric, position, query, unit, kind, direction, zero_is_normal, valid_min, valid_max,
     min_absolute_deviation, min_relative_deviation, description, shipped)
VALUES
    ('request_rate', 1,
     'sum(http_requests:count:rate_5m{$selector}) by ($service_label)',
     'req/s', 'rate', 'both', false, 0, 1000000, 0.05, 0.3,
     'requests per second, from the recorded rule http_requests:count:rate_5m', true),
    ('application_latency', 2,
     'sum(rate(duration_milliseconds_sum{$selector,span_kind="SPAN_KIND_SERVER"}[$window])) by ($service_label)'
     ' / sum(rate(duration_milliseconds_count{$selector,span_kind="SPAN_KIND_SERVER"}[$window])) by ($service_label)',
     'ms', 'latency', 'high', false, 0, 300000, 5, 0.25,
     'mean time to answer a request', true),
    ('dependency_latency', 3,
     'sum(rate(duration_milliseconds_sum{$selector,span_kind="SPAN_KIND_CLIENT",db_system_name=""}[$window])) by ($service_label)'
     ' / sum(rate(duration_milliseconds_count{$selector,span_kind="SPAN_KIND_CLIENT",db_system_name=""}[$window])) by ($service_label)',
     'ms', 'latency', 'high', true, 0, 300000, 5, 0.25,
     'mean time that calls to other services take', true),
    ('database_latency', 4,
     'sum(rate(duration_milliseconds_sum{$selector,span_kind="SPAN_KIND_CLIENT",db_system_name!=""}[$window])) by ($service_label)'
     ' / sum(rate(duration_milliseconds_count{$selector,span_kind="SPAN_KIND_CLIENT",db_system_name!=""}[$window])) by ($service_label)',
     'ms', 'latency', 'high', true, 0, 300000, 5, 0.25,
     'mean time that calls to databases take', true),
    -- A service without a single failed request has no series with a 5..
    -- status; its error rate is zero, not unknown, as long as it has requests.
    ('error_rate', 5,
     '(sum(rate(duration_milliseconds_count{$selector,span_kind="SPAN_KIND_SERVER",http_response_status_code=~"5.."}[$window])) by ($service_label)'
     ' or 0 * sum(rate(duration_milliseconds_count{$selector,span_kind="SPAN_KIND_SERVER"}[$window])) by ($service_label))'
     ' / sum(rate(duration_milliseconds_count{$selector,span_kind="SPAN_KIND_SERVER"}[$window])) by ($service_label)',
     'ratio', 'ratio', 'high', false, 0, 1, 0.01, 0.5,
     'share of requests that were answered with a 5xx status', true);

CREATE TRIGGER prepare BEFORE INSERT ON smartbox.metrics
    FOR EACH ROW EXECUTE FUNCTION smartbox.prepare_metric();

CREATE TRIGGER own_changed BEFORE UPDATE ON smartbox.metrics
    FOR EACH ROW WHEN (OLD.shipped AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE TRIGGER keep_name BEFORE UPDATE ON smartbox.metrics
    FOR EACH ROW WHEN (OLD.shipped AND NEW.metric <> OLD.metric)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Disable it and insert a metric of your own.');

CREATE TRIGGER keep_shipped BEFORE DELETE ON smartbox.metrics
    FOR EACH ROW WHEN (OLD.shipped AND pg_catalog.pg_trigger_depth() = 0)
    EXECUTE FUNCTION smartbox.keep_shipped_row('Set enabled to false instead: the metric is no longer collected, learnt or judged.');

-- ---------------------------------------------------------------------------
-- Periods of the week
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.time_periods (
    time_period text NOT NULL
        CHECK (time_period ~ '^[a-z][a-z0-9_]{0,62}$'),
    first_day smallint NOT NULL,
    last_day smallint NOT NULL,
    start_hour smallint NOT NULL,
    end_hour smallint NOT NULL,
    confidence double precision NOT NULL
        CHECK (confidence > 0 AND confidence <= 1),
    shipped boolean NOT NULL DEFAULT false,
    PRIMARY KEY (time_period, first_day, start_hour),
    CHECK (first_day >= 1 AND last_day <= 7 AND first_day <= last_day),
    CHECK (start_hour >= 0 AND end_hour <= 24 AND start_hour < end_hour)
);

COMMENT ON TABLE smartbox.time_periods IS 'the parts of the week that get a model each; together the rows cover every hour of the week exactly once, in the service''s time zone';
COMMENT ON COLUMN smartbox.time_periods.time_period IS 'name; a period may have several rows';
COMMENT ON COLUMN smartbox.time_periods.first_day IS 'first day of the week, 1 is Monday and 7 is Sunday';
COMMENT ON COLUMN smartbox.time_periods.last_day IS 'last day of the week, included';
COMMENT ON COLUMN smartbox.time_periods.start_hour IS 'first hour on each of these days, 0 to 23; a night takes two rows, since days are calendar days';
COMMENT ON COLUMN smartbox.time_periods.end_hour IS 'the hour at which it ends, not included, 1 to 24';
COMMENT ON COLUMN smartbox.time_periods.confidence IS 'how regular this part of the week is, 0 to 1; scales the confidence of detections';
COMMENT ON COLUMN smartbox.time_periods.shipped IS 'came with the extension and was never changed; such rows are not dumped';

INSERT INTO smartbox.time_periods
    (time_period, first_day, last_day, start_hour, end_hour, confidence, shipped)
VALUES
    ('business_hours', 1, 5,  8, 18, 0.9,  true),
    ('evening_hours',  1, 5,  6,  8, 0.8,  true),
    ('evening_hours',  1, 5, 18, 22, 0.8,  true),
    ('night_hours',    1, 5,  0,  6, 0.95, true),
    ('night_hours',    1, 5, 22, 24, 0.95, true),
    ('weekend_day',    6, 7,  8, 22, 0.7,  true),
    ('weekend_night',  6, 7,  0,  8, 0.6,  true),
    ('weekend_night',  6, 7, 22, 24, 0.6,  true);

CREATE FUNCTION smartbox.replace_shipped_periods() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A complete map covers each hour once, so a shipped row that overlaps a
    -- row of the user's cannot have been in the map that was dumped.
    DELETE FROM smartbox.time_periods AS p
    WHERE p.shipped
        AND p.first_day <= NEW.last_day AND p.last_day >= NEW.first_day
        AND p.start_hour < NEW.end_hour AND p.end_hour > NEW.start_hour;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.replace_shipped_periods() IS
    'trigger: shipped rows give way to a new row that covers some of their hours, such as one in a dump';

CREATE FUNCTION smartbox.check_week_covered() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    days CONSTANT text[] := ARRAY['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
    wrong record;
BEGIN
    SELECT day, hour, count(p.time_period) AS times,
        string_agg(p.time_period, ', ' ORDER BY p.time_period) AS periods
    INTO wrong
    FROM generate_series(1, 7) AS day
        CROSS JOIN generate_series(0, 23) AS hour
        LEFT JOIN smartbox.time_periods AS p
            ON day BETWEEN p.first_day AND p.last_day
            AND hour >= p.start_hour AND hour < p.end_hour
    GROUP BY day, hour
    HAVING count(p.time_period) <> 1
    ORDER BY day, hour
    LIMIT 1;

    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'check_violation',
            MESSAGE = CASE wrong.times
                WHEN 0 THEN format('time periods do not cover %s %s:00',
                                   days[wrong.day], lpad(wrong.hour::text, 2, '0'))
                ELSE format('time periods cover %s %s:00 %s times',
                            days[wrong.day], lpad(wrong.hour::text, 2, '0'), wrong.times)
            END,
            DETAIL = CASE wrong.times
                WHEN 0 THEN 'Every hour of the week must belong to one period.'
                ELSE format('It belongs to: %s.', wrong.periods)
            END,
            HINT = 'Make all changes in one transaction. A new row takes the place of every shipped row that it overlaps, so UPDATE those first that are to keep some hours.',
            SCHEMA = 'smartbox',
            TABLE = 'time_periods';
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION smartbox.check_week_covered() IS
    'constraint trigger, checked at commit: every one of the 168 hours of the week belongs to exactly one row of time_periods';

CREATE TRIGGER replace_shipped BEFORE INSERT ON smartbox.time_periods
    FOR EACH ROW WHEN (NOT NEW.shipped)
    EXECUTE FUNCTION smartbox.replace_shipped_periods();

CREATE TRIGGER own_changed BEFORE UPDATE ON smartbox.time_periods
    FOR EACH ROW WHEN (OLD.shipped AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION smartbox.own_changed_row();

CREATE CONSTRAINT TRIGGER week_covered AFTER INSERT OR UPDATE OR DELETE ON smartbox.time_periods
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION smartbox.check_week_covered();

CREATE FUNCTION smartbox.fallback_periods(time_period text) RETURNS text[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(p.time_period ORDER BY array_position(known.others, p.time_period), p.time_period), '{}')
    FROM (SELECT DISTINCT q.time_period FROM smartbox.time_periods AS q) AS p
        LEFT JOIN (VALUES
            ('business_hours', ARRAY['evening_hours', 'weekend_day', 'night_hours', 'weekend_night']),
            ('evening_hours',  ARRAY['business_hours', 'weekend_day', 'night_hours', 'weekend_night']),
            ('night_hours',    ARRAY['weekend_night', 'evening_hours', 'weekend_day', 'business_hours']),
            ('weekend_day',    ARRAY['evening_hours', 'business_hours', 'weekend_night', 'night_hours']),
            ('weekend_night',  ARRAY['night_hours', 'weekend_day', 'evening_hours', 'business_hours'])
        ) AS known(time_period, others) ON known.time_period = fallback_periods.time_period
    WHERE p.time_period <> fallback_periods.time_period
$$;

COMMENT ON FUNCTION smartbox.fallback_periods(text) IS
    'the other periods, in the order in which their models serve when a period has none: the nearest in kind first, periods of your own last, by name';

CREATE FUNCTION smartbox.sample_interval() RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    -- The setting is unknown in a session that has not loaded the library.
    SELECT coalesce(nullif(current_setting('smartbox_anomaly.sample_interval', true), '')::interval, '5 minutes')
$$;

COMMENT ON FUNCTION smartbox.sample_interval() IS
    'the setting smartbox_anomaly.sample_interval: the time between two samples of a service';

SELECT pg_catalog.pg_extension_config_dump('smartbox.service_categories', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('smartbox.metrics', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('smartbox.time_periods', 'WHERE NOT shipped');
