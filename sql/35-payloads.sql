-- Identities of patterns and incidents, and reading the payload of a detection:
-- what the state machine needs to know before it moves anything.

CREATE FUNCTION @extschema@.fingerprint_id(service text, anomaly_name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN 'anomaly_' || left(encode(sha256(convert_to(service || '_' || anomaly_name, 'UTF8')), 'hex'), 12);
END
$$;

COMMENT ON FUNCTION @extschema@.fingerprint_id(text, text) IS
    'identity of what is wrong with a service: anomaly_ and the first 12 hex digits of the SHA-256 of service_name; the same each time it comes back';

CREATE FUNCTION smartbox.incident_id(fingerprint_id text, first_seen timestamptz) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN 'incident_' || left(encode(sha256(convert_to(
        fingerprint_id || '_' || extract(epoch FROM first_seen)::text, 'UTF8')), 'hex'), 12);
END
$$;

COMMENT ON FUNCTION smartbox.incident_id(text, timestamptz) IS
    'identity of one occurrence of a pattern; made of the pattern and its first instant, so that a replay gives the same';

CREATE FUNCTION smartbox.iso_timestamp(ts timestamptz) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS') || '+00:00';
END
$$;

COMMENT ON FUNCTION smartbox.iso_timestamp(timestamptz) IS
    'an instant as the payloads write it, whatever the session''s zone: 2024-01-15T10:30:00+00:00';

CREATE FUNCTION smartbox.minutes_between(since timestamptz, until timestamptz) RETURNS integer
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN round(extract(epoch FROM until - since) / 60);
END
$$;

COMMENT ON FUNCTION smartbox.minutes_between(timestamptz, timestamptz) IS
    'whole minutes from one instant to another, rounded';

-- ---------------------------------------------------------------------------
-- Reading what a detection says
-- ---------------------------------------------------------------------------

CREATE TYPE smartbox.anomaly AS (
    name text,
    fingerprint_id text,
    severity smartbox.severity,
    score double precision,
    confidence double precision,
    description text,
    signals text[],
    pattern text
);

COMMENT ON TYPE smartbox.anomaly IS 'one thing that is wrong in a detection, as the state machine sees it';

CREATE FUNCTION smartbox.read_anomaly(of_service text, element jsonb, detection_severity smartbox.severity)
RETURNS smartbox.anomaly
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result smartbox.anomaly;
BEGIN
    result.name := coalesce(nullif(element->>'name', ''), 'anomaly');
    result.fingerprint_id := @extschema@.fingerprint_id(of_service, result.name);
    result.score := element->>'score';
    result.confidence := element->>'confidence_score';
    result.description := coalesce(element->>'description', '');
    result.pattern := nullif(element->>'pattern', '');
    result.severity := coalesce((element->>'severity')::smartbox.severity,
                                @extschema@.score_to_severity(result.score),
                                detection_severity);
    IF jsonb_typeof(element->'detection_signals') = 'array' THEN
        SELECT array_agg(DISTINCT named.signal) INTO result.signals
        FROM (
            SELECT result.name AS signal
            UNION ALL
            SELECT CASE jsonb_typeof(s.value) WHEN 'object' THEN s.value->>'name' ELSE s.value #>> '{}' END
            FROM jsonb_array_elements(element->'detection_signals') AS s
        ) AS named
        WHERE named.signal <> '';
    ELSE
        result.signals := ARRAY[result.name];
    END IF;
    RETURN result;
END
$$;

COMMENT ON FUNCTION smartbox.read_anomaly(text, jsonb, smartbox.severity) IS
    'reads one element of a payload''s anomalies; a missing severity comes from the score, or else from the detection';

CREATE FUNCTION smartbox.complete_payload(
    payload jsonb, of_service text, at timestamptz, time_period text,
    severity smartbox.severity, score double precision, confidence double precision, no_data boolean)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    anomalies jsonb := payload->'anomalies';
BEGIN
    IF jsonb_typeof(anomalies) IS DISTINCT FROM 'array'
        OR jsonb_array_length(anomalies) = 0
        OR jsonb_path_exists(anomalies, '$[*] ? (@.type() != "object")')
    THEN
        anomalies := jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
            'type', CASE WHEN no_data THEN 'no_data' ELSE 'rule' END,
            'name', CASE WHEN no_data THEN 'no_data' ELSE 'anomaly' END,
            'severity', nullif(severity, 'none'),
            'score', score,
            'confidence_score', confidence)));
    END IF;
    IF severity = 'none' THEN
        SELECT max(a.severity) INTO severity
        FROM jsonb_array_elements(anomalies) AS e
            CROSS JOIN LATERAL smartbox.read_anomaly(of_service, e.value, 'none') AS a;
    END IF;
    RETURN jsonb_build_object(
            'alert_type', CASE WHEN no_data THEN 'no_data' ELSE 'anomaly_detected' END,
            'service', of_service,
            'timestamp', smartbox.iso_timestamp(at),
            'time_period', time_period,
            'overall_severity', severity,
            'anomaly_count', jsonb_array_length(anomalies))
        || payload
        || jsonb_build_object('anomalies', anomalies);
END
$$;

COMMENT ON FUNCTION smartbox.complete_payload(jsonb, text, timestamptz, text, smartbox.severity, double precision, double precision, boolean) IS
    'what a detection''s payload must have at least; a row that was inserted by hand without any gets one anomaly made of its columns';
