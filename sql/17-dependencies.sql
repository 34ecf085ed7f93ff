-- Who calls whom, and the incident that is behind others.

CREATE TABLE smartbox.dependencies (
    service text NOT NULL
        CHECK (length(service) BETWEEN 1 AND 200),
    depends_on text NOT NULL
        CHECK (length(depends_on) BETWEEN 1 AND 200),
    description text NOT NULL DEFAULT '',
    PRIMARY KEY (service, depends_on),
    CONSTRAINT dependencies_self_check CHECK (service <> depends_on)
);

COMMENT ON TABLE smartbox.dependencies IS
$$the call graph: INSERT INTO smartbox.dependencies (service, depends_on) VALUES ('booking', 'search'); circles are allowed, and so are names that are no watched service$$;
COMMENT ON COLUMN smartbox.dependencies.service IS 'the service that calls';
COMMENT ON COLUMN smartbox.dependencies.depends_on IS 'the service that it calls';
COMMENT ON COLUMN smartbox.dependencies.description IS 'for people';

CREATE FUNCTION smartbox.root_cause(
    service text, at timestamptz DEFAULT NULL,
    OUT root_service text, OUT incident_id text, OUT path text[], OUT depth integer, OUT why text)
RETURNS SETOF record
LANGUAGE c STABLE COST 1000 ROWS 1
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'sba_root_cause';

COMMENT ON FUNCTION smartbox.root_cause(text, timestamptz) IS
    'the most upstream incident behind those that a service has now, or had at an instant: itself at depth 0 when nothing that it depends on is anomalous, no row when it has no incident';

CREATE FUNCTION smartbox.assign_root_causes(services text[] DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'sba_assign_root_causes';

COMMENT ON FUNCTION smartbox.assign_root_causes(text[]) IS
    'writes the suspected root cause into the incidents of these services (NULL: all) that are not closed and returns how many have changed; each detection does so for the services that it judged';

SELECT pg_catalog.pg_extension_config_dump('smartbox.dependencies', '');
