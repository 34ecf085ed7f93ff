\echo Use "CREATE EXTENSION smartbox_anomaly" to load this file. \quit

-- Verbs go unqualified into the schema that the user chose for the extension,
-- nouns into this one.  A schema of that name that is there already is an
-- error on purpose: its owner could add objects to it later.
CREATE SCHEMA smartbox;

COMMENT ON SCHEMA smartbox IS 'tables and views of the smartbox_anomaly extension: services, samples, models, detections, incidents, alerts';
