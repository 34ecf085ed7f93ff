-- Trying before changing: what would have been detected in the past.

CREATE FUNCTION @extschema@.backtest(
    service text, since timestamptz, until timestamptz, options jsonb DEFAULT '{}',
    OUT ts timestamptz, OUT time_period text, OUT score double precision, OUT severity smartbox.severity,
    OUT is_anomaly boolean, OUT alerting boolean, OUT no_data boolean, OUT anomaly_name text,
    OUT incident_id text, OUT incident_status smartbox.incident_status,
    OUT incident_action smartbox.incident_event, OUT occurrence_count integer,
    OUT confidence double precision, OUT evidence double precision, OUT signals text[],
    OUT deviations double precision[])
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 10000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_backtest';

COMMENT ON FUNCTION @extschema@.backtest(text, timestamptz, timestamptz, jsonb) IS
$$what would have been detected: replays the service's samples from since to until, each judged only by what
came before it, with models trained on the 30 days before since; one row per judged instant, those included at
which the service was silent while others reported. Writes nothing.
alerting: anomalous, and its incident is OPEN. deviations: in sigma, by smartbox.metrics.position, NaN for unknown.
options, each with what it is by default:
threshold (0): scores below it are anomalies
false_alarms_per_week, contamination, confirmation_cycles, resolution_grace_cycles, incident_separation (as the service has them)
lookback ("30 days"): what models learn from
retrain (never): an interval, train anew so often
periods (true); false: one model for the whole week
forests (true); false: without the forests' evidence
calendar (true); false: as if it were empty
metrics (all): an array of names, as if only these were watched
min_absolute_deviation, min_relative_deviation: objects of metric and number
rules, signal_bars (true): arrays of objects like rows of the tables, as if these were there too; false: none at all$$;

CREATE FUNCTION @extschema@.backtest_incidents(
    service text, since timestamptz, until timestamptz, options jsonb DEFAULT '{}',
    OUT incident_id text, OUT fingerprint_id text, OUT anomaly_name text,
    OUT status smartbox.incident_status, OUT severity smartbox.severity, OUT score double precision,
    OUT confidence double precision, OUT first_seen timestamptz, OUT last_seen timestamptz,
    OUT confirmed_at timestamptz, OUT resolved_at timestamptz, OUT resolution_reason text,
    OUT occurrence_count integer, OUT missed_cycles integer, OUT signals text[])
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE COST 1000000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_backtest_incidents';

COMMENT ON FUNCTION @extschema@.backtest_incidents(text, timestamptz, timestamptz, jsonb) IS
$$the incidents of a backtest() with the same arguments, in the order of their beginning, as smartbox.incidents would have them at its end; confirmed_at is NULL for a suspicion that nobody would have been told of$$;
