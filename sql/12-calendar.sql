-- The calendar: days and hours on which the usual is not to be expected.

CREATE TABLE smartbox.calendar (
    service text NOT NULL DEFAULT '*'
        CHECK (length(service) BETWEEN 1 AND 200),
    kind text NOT NULL
        CHECK (kind IN ('holiday', 'maintenance', 'busy')),
    starts_at timestamp NOT NULL
        CHECK (isfinite(starts_at)),
    ends_at timestamp NOT NULL
        CHECK (isfinite(ends_at)),
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, kind, starts_at),
    CONSTRAINT calendar_order_check CHECK (starts_at < ends_at)
);

COMMENT ON TABLE smartbox.calendar IS
$$holidays, maintenance and busy times.
A public holiday of all services:
INSERT INTO smartbox.calendar (kind, starts_at, description) VALUES ('holiday', '2026-12-25', 'Christmas Day');
an hour of maintenance of one:
INSERT INTO smartbox.calendar (service, kind, starts_at, ends_at) VALUES ('booking', 'maintenance', '2026-12-02 22:00', '2026-12-02 23:00');
a sale:
INSERT INTO smartbox.calendar (kind, starts_at, ends_at, description) VALUES ('busy', '2026-11-27', '2026-12-01', 'Black Friday')$$;
COMMENT ON COLUMN smartbox.calendar.service IS 'the service, or * for all of them';
COMMENT ON COLUMN smartbox.calendar.kind IS
    'holiday: counts as a Sunday; maintenance: nothing is learnt from it; busy: it teaches the usual course of the day, but neither how much the metrics vary nor what is rare';
COMMENT ON COLUMN smartbox.calendar.starts_at IS 'beginning, on the clock of the service''s own time zone: one entry for all services begins at each one''s midnight';
COMMENT ON COLUMN smartbox.calendar.ends_at IS 'end, on the same clock, no longer part of it; left out: midnight at the end of the day on which it starts';
COMMENT ON COLUMN smartbox.calendar.description IS 'for people';
COMMENT ON COLUMN smartbox.calendar.created_at IS 'when it was entered';

CREATE FUNCTION smartbox.end_calendar_entry() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.ends_at := date_trunc('day', NEW.starts_at) + interval '1 day';
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.end_calendar_entry() IS
    'trigger: an entry of the calendar that has no end ends with its day';

CREATE TRIGGER end_entry BEFORE INSERT OR UPDATE ON smartbox.calendar
    FOR EACH ROW WHEN (NEW.ends_at IS NULL)
    EXECUTE FUNCTION smartbox.end_calendar_entry();

CREATE FUNCTION smartbox.calendar_kinds(service text, at timestamptz) RETURNS text[]
LANGUAGE c STABLE STRICT COST 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_calendar_kinds';

COMMENT ON FUNCTION smartbox.calendar_kinds(text, timestamptz) IS
    'what the calendar says of a service''s sample at an instant: holiday, maintenance, busy, several or none; a sample describes the time before it, so that the one at the very end of a maintenance still belongs to it';

CREATE FUNCTION smartbox.service_time_period(service text, at timestamptz) RETURNS text
LANGUAGE c STABLE STRICT COST 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_service_time_period';

COMMENT ON FUNCTION smartbox.service_time_period(text, timestamptz) IS
    'the part of the week that an instant belongs to for a service: in its time zone, a holiday being a Sunday';

SELECT pg_catalog.pg_extension_config_dump('smartbox.calendar', '');
