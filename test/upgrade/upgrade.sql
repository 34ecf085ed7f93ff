-- What brings a database to the release that test/t/086_upgrade.t rehearses,
-- beside the statements of next.sql.
ALTER TABLE smartbox.services ADD COLUMN on_call text CHECK (on_call <> '');

COMMENT ON SCHEMA smartbox IS 'tables and views of the next release';

CREATE OR REPLACE FUNCTION @extschema@.score_to_severity(score double precision) RETURNS smartbox.severity
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 7
AS 'MODULE_PATHNAME', 'sba_score_to_severity';

SET LOCAL session_replication_role = replica;

UPDATE smartbox.service_categories SET description = 'small helper of others' WHERE category = 'micro' AND shipped;

RESET session_replication_role;

REVOKE ALL ON smartbox.rehearsals FROM PUBLIC;

REVOKE ALL ON smartbox.last_rehearsals FROM PUBLIC;

REVOKE ALL ON FUNCTION smartbox.trim_note() FROM PUBLIC;
