-- Endpoints that do not answer are left alone for a while.

CREATE FUNCTION smartbox.circuit_breaker_states(
    OUT endpoint text, OUT state text, OUT failures integer, OUT opened_at timestamptz,
    OUT next_probe_at timestamptz, OUT last_error text, OUT last_failure timestamptz,
    OUT last_success timestamptz, OUT scope text, OUT history jsonb)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 2
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_circuit_breakers';

COMMENT ON FUNCTION smartbox.circuit_breaker_states() IS
    'what smartbox.circuit_breakers shows; takes the privilege to read that view';

CREATE VIEW smartbox.circuit_breakers AS
SELECT
    b.endpoint,
    b.state,
    b.failures,
    b.opened_at,
    b.next_probe_at,
    b.last_error,
    b.last_failure,
    b.last_success,
    b.scope,
    b.history
FROM smartbox.circuit_breaker_states() AS b;

COMMENT ON VIEW smartbox.circuit_breakers IS
    'endpoints that were asked since the server started (without preloading: since the session did), and whether calls to them go out';
COMMENT ON COLUMN smartbox.circuit_breakers.endpoint IS 'its address';
COMMENT ON COLUMN smartbox.circuit_breakers.state IS
    'closed: calls go out; open: they fail at once; half-open: the next one is a probe, or one is under way';
COMMENT ON COLUMN smartbox.circuit_breakers.failures IS 'failed calls in a row';
COMMENT ON COLUMN smartbox.circuit_breakers.opened_at IS 'when it was opened; NULL: it is closed';
COMMENT ON COLUMN smartbox.circuit_breakers.next_probe_at IS
    'when the next call may go out; while a probe is under way, when it is given up at the latest; NULL: it is closed';
COMMENT ON COLUMN smartbox.circuit_breakers.last_error IS 'why the last failed call failed';
COMMENT ON COLUMN smartbox.circuit_breakers.last_failure IS 'when that was';
COMMENT ON COLUMN smartbox.circuit_breakers.last_success IS 'when a call was last answered';
COMMENT ON COLUMN smartbox.circuit_breakers.scope IS
    'server: all sessions share it; session: each has its own, since the library is not preloaded';
COMMENT ON COLUMN smartbox.circuit_breakers.history IS
    'its last 16 changes of state, newest first; smartbox.circuit_breaker_events has them as rows';

CREATE VIEW smartbox.circuit_breaker_events AS
SELECT
    b.endpoint,
    h.event_number,
    h.ts,
    h.state,
    h.failures,
    h.reason
FROM smartbox.circuit_breakers AS b,
    LATERAL pg_catalog.jsonb_to_recordset(b.history)
        AS h(event_number integer, ts timestamptz, state text, failures integer, reason text);

COMMENT ON VIEW smartbox.circuit_breaker_events IS
    'the last 16 changes of state of each circuit breaker since the server started; all of them are in the server''s log';
COMMENT ON COLUMN smartbox.circuit_breaker_events.endpoint IS 'the address';
COMMENT ON COLUMN smartbox.circuit_breaker_events.event_number IS 'counts from 1';
COMMENT ON COLUMN smartbox.circuit_breaker_events.ts IS 'when it happened';
COMMENT ON COLUMN smartbox.circuit_breaker_events.state IS 'from then on: closed, open or half-open';
COMMENT ON COLUMN smartbox.circuit_breaker_events.failures IS 'failed calls in a row, by then';
COMMENT ON COLUMN smartbox.circuit_breaker_events.reason IS 'why';

CREATE FUNCTION @extschema@.reset_circuit_breaker(endpoint text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_reset_circuit_breaker';

COMMENT ON FUNCTION @extschema@.reset_circuit_breaker(text) IS
    'closes the circuit breaker of an endpoint (NULL: all), so that it is asked again at once; returns how many were not closed';
