-- What the release that test/t/086_upgrade.t rehearses has anew.
CREATE TABLE smartbox.rehearsals (
    service text NOT NULL,
    ts timestamptz NOT NULL DEFAULT now(),
    note text NOT NULL CHECK (note <> ''),
    PRIMARY KEY (service, ts)
);

COMMENT ON TABLE smartbox.rehearsals IS 'a table that the next release brings';

CREATE INDEX rehearsals_ts ON smartbox.rehearsals USING brin (ts);

SELECT pg_catalog.pg_extension_config_dump('smartbox.rehearsals', '');

CREATE FUNCTION smartbox.trim_note() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.note := btrim(NEW.note);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION smartbox.trim_note() IS 'trigger: no blanks around a note';

CREATE TRIGGER trim_note BEFORE INSERT ON smartbox.rehearsals
    FOR EACH ROW EXECUTE FUNCTION smartbox.trim_note();

CREATE VIEW smartbox.last_rehearsals WITH (security_invoker = true) AS
SELECT r.service, max(r.ts) AS ts FROM smartbox.rehearsals AS r GROUP BY r.service;

COMMENT ON VIEW smartbox.last_rehearsals IS 'a view that the next release brings';
