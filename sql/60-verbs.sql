-- The verbs: what people call.  They live in the schema of the extension.

CREATE FUNCTION @extschema@.time_period(at timestamptz, time_zone text DEFAULT NULL) RETURNS text
LANGUAGE c STABLE PARALLEL SAFE COST 50
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_time_period';

COMMENT ON FUNCTION @extschema@.time_period(timestamptz, text) IS
    'the part of the week that an instant belongs to, in a time zone (NULL: the setting smartbox_anomaly.time_zone); see smartbox.time_periods';

CREATE FUNCTION @extschema@.score_to_severity(score double precision) RETURNS smartbox.severity
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'sba_score_to_severity';

COMMENT ON FUNCTION @extschema@.score_to_severity(double precision) IS
    'severity of an anomaly with this score: below -0.6 critical, below -0.3 high, below -0.1 medium, else low';

CREATE FUNCTION @extschema@.discover_services() RETURNS SETOF text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_discover_services';

COMMENT ON FUNCTION @extschema@.discover_services() IS
    'asks the metric source which services there are, adds the new ones to smartbox.services and returns their names; without a source, those that have samples';

CREATE FUNCTION @extschema@.collect_metrics(
    services text[] DEFAULT NULL,
    OUT service text, OUT ts timestamptz, OUT metrics_present integer, OUT warnings text[])
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_collect_metrics';

COMMENT ON FUNCTION @extschema@.collect_metrics(text[]) IS
    'fetches the current values of these services (NULL: all enabled ones) into smartbox.samples, one request per metric; one row per service with how many of its metrics have a value';

CREATE FUNCTION @extschema@.backfill_metrics(
    services text[] DEFAULT NULL, lookback interval DEFAULT '30 days',
    OUT service text, OUT range tstzrange, OUT samples bigint, OUT gaps bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_backfill_metrics';

COMMENT ON FUNCTION @extschema@.backfill_metrics(text[], interval) IS
    'fetches what smartbox.samples does not have yet of the last lookback; one row per service with the span asked for, the samples stored and the instants for which the source has nothing';

CREATE FUNCTION @extschema@.check_metric_source(
    services text[] DEFAULT NULL, lookback interval DEFAULT '1 day',
    OUT metric text, OUT service text, OUT points bigint,
    OUT first_ts timestamptz, OUT last_ts timestamptz, OUT problem text, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_check_metric_source';

COMMENT ON FUNCTION @extschema@.check_metric_source(text[], interval) IS
'asks the metric source, storing nothing, how many points it has of each metric and service (NULL: all enabled
ones), and says what is wrong: without a service it is about the query, without a metric about the service,
without both about the source; a failure is a row, not an error';

CREATE FUNCTION @extschema@.train_models(
    services text[] DEFAULT NULL, lookback interval DEFAULT '30 days',
    OUT service text, OUT period text, OUT version integer, OUT status text, OUT samples integer, OUT reason text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_train_models';

COMMENT ON FUNCTION @extschema@.train_models(text[], interval) IS
    'backfills and then trains the models of these services (NULL: all enabled ones) from the lookback before their last sample; one row per service and period; accepted versions serve at once';

-- The plans of the detection are made once in a session, perhaps while the
-- tables are still empty; each of them has an index to go by.
CREATE FUNCTION @extschema@.detect_anomalies(service text, at timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'sba_detect_anomalies';

COMMENT ON FUNCTION @extschema@.detect_anomalies(text, timestamptz) IS
    'evaluates the service''s newest sample (or the one at an instant), records the detection, moves incidents and returns the payload; evaluating a sample again changes nothing';

CREATE FUNCTION @extschema@.run_inference(services text[] DEFAULT NULL, verbose boolean DEFAULT false) RETURNS SETOF jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'sba_run_inference';

COMMENT ON FUNCTION @extschema@.run_inference(text[], boolean) IS
    'detect_anomalies() for many services (NULL: all enabled ones) in one pass; verbose adds what each metric was expected to be, also where nothing is wrong';

CREATE FUNCTION @extschema@.explain_anomaly(
    service text, at timestamptz DEFAULT NULL,
    OUT metric text, OUT value double precision, OUT expected double precision, OUT lower double precision,
    OUT upper double precision, OUT deviation double precision, OUT percentile double precision,
    OUT contribution double precision, OUT direction text, OUT unit text, OUT stands_out boolean,
    OUT description text, OUT ts timestamptz, OUT time_period text, OUT model_period text, OUT model_version integer)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE COST 10000 ROWS 5
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'sba_explain_anomaly';

COMMENT ON FUNCTION @extschema@.explain_anomaly(text, timestamptz) IS
$$why the service's newest sample (or the one at an instant) is an anomaly or none: one row per metric of
smartbox.metrics, in the order of position, judged as detect_anomalies() judges a new sample, and recorded
nowhere. value, expected and the band from lower to upper are in unit; deviation: in sigma; percentile: 0 to
100, among the samples learnt from; contribution: the share in what is wrong, they sum to 1, and are all 0
when nothing stands out; direction: on which side of expected; description: in words. NULL is what is not
known, such as all that a model says while there is none. model_period: the period whose model serves. No rows
when there is no sample, or one that is no data. Objectives (smartbox.slos) have no say here.
What a detection said at its time, by the model of that time,
is in smartbox.detections$$;

-- A cycle has asked the source already: a service without a fresh sample is
-- one that the source has nothing for, or the source does not answer.
CREATE FUNCTION smartbox.judge_samples() RETURNS SETOF jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS 'MODULE_PATHNAME', 'sba_judge_samples';

COMMENT ON FUNCTION smartbox.judge_samples() IS
    'run_inference() for all enabled services, from the samples that are there: nothing is fetched';

CREATE PROCEDURE smartbox.collect_for_cycle()
LANGUAGE c
AS 'MODULE_PATHNAME', 'sba_collect_for_cycle';

COMMENT ON PROCEDURE smartbox.collect_for_cycle() IS
    'collect_metrics() for all enabled services, holding no snapshot and no lock while the source is waited for; a source that does not answer is a warning';

-- A procedure that commits cannot have a search_path of its own: every name
-- in it is qualified.
CREATE PROCEDURE smartbox.collect_and_detect()
LANGUAGE plpgsql
AS $$
BEGIN
    CALL smartbox.collect_for_cycle();
    COMMIT;
    PERFORM smartbox.judge_samples();
    COMMIT;
END
$$;

COMMENT ON PROCEDURE smartbox.collect_and_detect() IS
    'one cycle without delivery: collects, commits, detects, commits; for background workers, where delivery is a job of its own';

CREATE PROCEDURE @extschema@.run_cycle()
LANGUAGE plpgsql
AS $$
BEGIN
    CALL smartbox.collect_and_detect();
    IF smartbox.delivery_obstacle() IS NULL THEN
        CALL @extschema@.deliver_alerts();
    END IF;
    IF smartbox.has_series_endpoint() THEN
        CALL @extschema@.write_back_scores();
    END IF;
END
$$;

COMMENT ON PROCEDURE @extschema@.run_cycle() IS
    'one cycle: collects, commits, detects, commits, delivers if arm_delivery() was called, and writes scores back if an endpoint for them is set; for pg_cron, once per sample interval';
