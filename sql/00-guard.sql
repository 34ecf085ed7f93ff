\echo Use "CREATE EXTENSION smartbox_anomaly" to load this file. \quit

-- Whoever may create objects in the schema of the verbs could otherwise have a
-- function there that suits the arguments in a view, a check or a default better
-- than the server's own, and would be called by whoever uses that.  Without a
-- schema to create in, a name that is not qualified is an error.
SET LOCAL search_path = '';

-- Verbs go into the schema that the user chose for the extension, nouns into
-- this one.  A schema of that name that is there already is an error on purpose:
-- its owner could add objects to it later.
CREATE SCHEMA smartbox;

COMMENT ON SCHEMA smartbox IS 'tables and views of the smartbox_anomaly extension: services, samples, models, detections, incidents, alerts';
