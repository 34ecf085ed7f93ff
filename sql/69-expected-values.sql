-- What was expected, at every sample: for charts.

CREATE FUNCTION @extschema@.expected_values(
    service text, since timestamptz, until timestamptz, metrics text[] DEFAULT NULL,
    OUT ts timestamptz, OUT metric text, OUT value double precision, OUT expected double precision,
    OUT lower double precision, OUT upper double precision, OUT deviation_sigma double precision, OUT unit text)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE COST 10000 ROWS 1000
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_expected_values';

COMMENT ON FUNCTION @extschema@.expected_values(text, timestamptz, timestamptz, text[]) IS
$$what was expected of a service at each of its samples from since to until, normal ones included: one row per
sample and metric, in the order of time and of smartbox.metrics.position. value is the value as it is judged:
NULL where it is unknown or refused, repeats a flat line, or is a zero that only says that nothing happened.
expected and the band from lower to upper are what the models that are active now say, each sample judged by
the samples before it; NULL without a model that knows the metric. metrics: only these. Writes nothing$$;
