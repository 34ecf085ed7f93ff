-- What people do: take an incident on, close it, silence what they know of, and
-- say what an incident was.  Everything runs with the caller's own rights, and
-- locks the service's row first, as the state machine does.

-- ---------------------------------------------------------------------------
-- Silences
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.silences (
    service text NOT NULL
        CHECK (length(service) BETWEEN 1 AND 200),
    silence_id text NOT NULL CHECK (silence_id ~ '^silence_[0-9a-f]{12}$'),
    metric text,
    pattern text,
    starts_at timestamptz NOT NULL DEFAULT now(),
    until timestamptz NOT NULL CHECK (isfinite(until)),
    note text,
    included_with text,
    created_by text NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    lifted_at timestamptz,
    lifted_by text,
    PRIMARY KEY (service, silence_id),
    CONSTRAINT silences_what_check CHECK (metric IS NULL OR pattern IS NULL),
    CONSTRAINT silences_order_check CHECK (starts_at < until),
    CONSTRAINT silences_lifted_check CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);

COMMENT ON TABLE smartbox.silences IS 'what nobody is to be told of for a time; incidents move all the same, and their alerts are written and not sent';
COMMENT ON COLUMN smartbox.silences.service IS 'the service, or * for all of them';
COMMENT ON COLUMN smartbox.silences.silence_id IS 'identity, the same for all services that were silenced together';
COMMENT ON COLUMN smartbox.silences.metric IS 'only what no other metric has a part in; NULL: whatever it is';
COMMENT ON COLUMN smartbox.silences.pattern IS 'only the anomaly of this name, or the incident that this pattern explains; NULL: whatever it is';
COMMENT ON COLUMN smartbox.silences.starts_at IS 'from when on it counts';
COMMENT ON COLUMN smartbox.silences.until IS 'end, no longer part of it: samples before it are silenced';
COMMENT ON COLUMN smartbox.silences.note IS 'why, for people';
COMMENT ON COLUMN smartbox.silences.included_with IS 'the service that it depends on and was silenced together with; NULL: it was silenced itself';
COMMENT ON COLUMN smartbox.silences.created_by IS 'who silenced it';
COMMENT ON COLUMN smartbox.silences.created_at IS 'when that was';
COMMENT ON COLUMN smartbox.silences.lifted_at IS 'when somebody ended it before its time; NULL: nobody did';
COMMENT ON COLUMN smartbox.silences.lifted_by IS 'who did';

CREATE VIEW smartbox.active_silences AS
SELECT s.service, s.silence_id, s.metric, s.pattern, s.starts_at, s.until, s.note, s.included_with,
    s.created_by, s.created_at
FROM smartbox.silences AS s
WHERE s.lifted_at IS NULL AND s.until > now();

COMMENT ON VIEW smartbox.active_silences IS 'silences that are not over, those that begin later included';
COMMENT ON COLUMN smartbox.active_silences.service IS 'the service, or * for all of them';
COMMENT ON COLUMN smartbox.active_silences.silence_id IS 'identity: what unsilence() takes';
COMMENT ON COLUMN smartbox.active_silences.metric IS 'only what no other metric has a part in; NULL: whatever it is';
COMMENT ON COLUMN smartbox.active_silences.pattern IS 'only the anomaly of this name, or the incident that this pattern explains; NULL: whatever it is';
COMMENT ON COLUMN smartbox.active_silences.starts_at IS 'from when on it counts';
COMMENT ON COLUMN smartbox.active_silences.until IS 'its end';
COMMENT ON COLUMN smartbox.active_silences.note IS 'why';
COMMENT ON COLUMN smartbox.active_silences.included_with IS 'the service that it depends on and was silenced together with; NULL: it was silenced itself';
COMMENT ON COLUMN smartbox.active_silences.created_by IS 'who silenced it';
COMMENT ON COLUMN smartbox.active_silences.created_at IS 'when that was';

CREATE FUNCTION smartbox.silence_covers(metric text, pattern text, names text[], signals text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN metric IS NOT NULL THEN signals <@ ARRAY[metric, metric || '_high', metric || '_low']
        WHEN pattern IS NOT NULL THEN coalesce(pattern = ANY (names), false)
        ELSE true
    END;
END
$$;

COMMENT ON FUNCTION smartbox.silence_covers(text, text, text[], text[]) IS
    'whether a silence of a metric, a pattern or neither covers an anomaly with these names and signals: of a metric, when all signals are that metric''s';

CREATE FUNCTION smartbox.find_silence(of_service text, names text[], signals text[], at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_id text;
BEGIN
    SELECT s.silence_id INTO found_id
    FROM smartbox.silences AS s
    WHERE s.service IN (of_service, '*') AND s.until > at AND s.lifted_at IS NULL
        AND s.starts_at <= greatest(at, now())
        AND smartbox.silence_covers(s.metric, s.pattern, names, signals)
    ORDER BY s.until DESC, s.silence_id
    LIMIT 1;
    RETURN found_id;
END
$$;

COMMENT ON FUNCTION smartbox.find_silence(text, text[], text[], timestamptz) IS
    'the silence that covers an anomaly of a sample, the longest one; NULL: none does';

-- ---------------------------------------------------------------------------
-- Feedback
-- ---------------------------------------------------------------------------

CREATE TABLE smartbox.feedback (
    service text NOT NULL,
    incident_id text NOT NULL,
    feedback_number integer NOT NULL CHECK (feedback_number >= 1),
    verdict text CHECK (verdict IN ('anomaly', 'expected', 'not_anomaly', 'new_trend')),
    note text,
    given_by text NOT NULL DEFAULT session_user,
    given_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, incident_id, feedback_number),
    CONSTRAINT feedback_something_check CHECK (verdict IS NOT NULL OR note IS NOT NULL)
);

COMMENT ON TABLE smartbox.feedback IS 'what people say of incidents; the newest verdict counts';
COMMENT ON COLUMN smartbox.feedback.service IS 'the service';
COMMENT ON COLUMN smartbox.feedback.incident_id IS 'the incident';
COMMENT ON COLUMN smartbox.feedback.feedback_number IS 'number within the incident, from 1';
COMMENT ON COLUMN smartbox.feedback.verdict IS
'anomaly: a fault, its samples do not teach; expected: rightly detected, but known and harmless; not_anomaly:
should not have been detected, takes more to be from now on; new_trend: how it is from now on; the samples of
the last three teach. NULL: a note';
COMMENT ON COLUMN smartbox.feedback.note IS 'for people';
COMMENT ON COLUMN smartbox.feedback.given_by IS 'who said it';
COMMENT ON COLUMN smartbox.feedback.given_at IS 'when that was';

CREATE TABLE smartbox.signal_bars (
    service text NOT NULL,
    metric text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('high', 'low')),
    incident_id text NOT NULL,
    absolute_deviation double precision NOT NULL CHECK (absolute_deviation >= 0 AND absolute_deviation < 'Infinity'),
    relative_deviation double precision NOT NULL CHECK (relative_deviation >= 0 AND relative_deviation < 'Infinity'),
    PRIMARY KEY (service, metric, direction, incident_id)
);

COMMENT ON TABLE smartbox.signal_bars IS 'how far a metric may go from what is expected before the model takes it for a signal, from incidents that were not_anomaly; the highest bar counts';
COMMENT ON COLUMN smartbox.signal_bars.service IS 'the service';
COMMENT ON COLUMN smartbox.signal_bars.metric IS 'the metric';
COMMENT ON COLUMN smartbox.signal_bars.direction IS 'high: above what is expected, low: below it';
COMMENT ON COLUMN smartbox.signal_bars.incident_id IS 'the incident that the bar comes from';
COMMENT ON COLUMN smartbox.signal_bars.absolute_deviation IS 'what is nearer to the expected value than this, in the metric''s unit, is no signal';
COMMENT ON COLUMN smartbox.signal_bars.relative_deviation IS 'what deviates by less than this share of the expected value is no signal';

-- A quarter beyond what was seen, since the next time is never the same: a
-- metric that went to 4 times the usual must go beyond 5 times, one that fell
-- to a fifth below a sixth and a bit.
CREATE FUNCTION smartbox.bars_beyond(
    of_service text, of_incident text,
    OUT metric text, OUT direction text, OUT absolute_deviation double precision, OUT relative_deviation double precision)
RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT v.metric, v.direction,
        max(abs(v.bar - v.expected)),
        coalesce(max(abs(v.bar - v.expected) / nullif(v.expected, 0)), 0)
    FROM (
        SELECT s.signal->>'metric' AS metric, s.signal->>'direction' AS direction, c.expected,
            CASE s.signal->>'direction' WHEN 'high' THEN 1.25 * c.value ELSE c.value / 1.25 END AS bar
        FROM smartbox.incidents AS i
            JOIN smartbox.detections AS d
                ON d.service = i.service AND d.ts BETWEEN i.first_seen AND i.last_seen AND d.is_anomaly
            CROSS JOIN LATERAL jsonb_path_query(d.payload, '$.anomalies[*] ? (@.metadata.incident_id == $id)',
                                                jsonb_build_object('id', of_incident)) AS a(anomaly)
            CROSS JOIN LATERAL jsonb_path_query(a.anomaly,
                '$.detection_signals[*] ? (@.metric.type() == "string" && (@.direction == "high" || @.direction == "low")
                    && @.method == "univariate_isolation_forest")') AS s(signal)
            CROSS JOIN LATERAL jsonb_to_record(a.anomaly->'comparison'->(s.signal->>'metric'))
                AS c(value double precision, expected double precision)
        WHERE i.service = of_service AND i.incident_id = of_incident
            AND c.value >= 0 AND c.expected >= 0
    ) AS v
    GROUP BY v.metric, v.direction;
END
$$;

COMMENT ON FUNCTION smartbox.bars_beyond(text, text) IS
    'the bars that not_anomaly sets for an incident: a quarter beyond what its detections saw, for each metric and direction that was a signal of the model';

CREATE FUNCTION smartbox.set_signal_bars(of_service text, of_incident text, verdict text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM smartbox.signal_bars AS b
    WHERE b.service = of_service AND b.incident_id = of_incident;
    IF verdict = 'not_anomaly' THEN
        INSERT INTO smartbox.signal_bars (service, metric, direction, incident_id, absolute_deviation, relative_deviation)
        SELECT of_service, b.metric, b.direction, of_incident, b.absolute_deviation, b.relative_deviation
        FROM smartbox.bars_beyond(of_service, of_incident) AS b;
    END IF;
END
$$;

COMMENT ON FUNCTION smartbox.set_signal_bars(text, text, text) IS
    'raises the bar for the signals of an incident that was not_anomaly to a quarter beyond what its detections saw, and takes it away when it was something else';

-- ---------------------------------------------------------------------------
-- What the verbs have in common
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.acting_person() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN session_user = current_user THEN session_user::text
        ELSE format('%s (%s)', current_user, session_user) END;
END
$$;

COMMENT ON FUNCTION smartbox.acting_person() IS
    'who acts: the role, with the one that logged in behind it when that is another';

CREATE FUNCTION smartbox.service_clock(of_service text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    newest timestamptz;
BEGIN
    SELECT d.ts INTO newest
    FROM smartbox.detections AS d
    WHERE d.service = of_service
    ORDER BY d.ts DESC
    LIMIT 1;
    RETURN newest;
END
$$;

COMMENT ON FUNCTION smartbox.service_clock(text) IS
    'instant of the last sample that a service was judged by: the time at which a person acts for the incidents of that service';

CREATE FUNCTION smartbox.refuse_unknown_incident(id text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'no_data_found',
        MESSAGE = CASE WHEN id IS NULL THEN 'the id of the incident must not be null'
            ELSE format('incident "%s" is not known', id) END,
        HINT = (
            SELECT coalesce('Active now: ' || string_agg(
                    format('%s (%s of %s)', n.incident_id, n.anomaly_name, n.service), ', ' ORDER BY n.nearness, n.incident_id)
                    || '.',
                'No incident is active now; smartbox.incidents has them all.')
            FROM (
                SELECT i.incident_id, i.anomaly_name, i.service,
                    row_number() OVER (ORDER BY i.service = id DESC, left(i.incident_id, 13) = left(id, 13) DESC,
                        i.status = 'SUSPECTED', i.severity DESC, i.last_seen DESC, i.incident_id) AS nearness
                FROM smartbox.incidents AS i
                WHERE i.status <> 'CLOSED'
            ) AS n
            WHERE n.nearness <= 5);
END
$$;

COMMENT ON FUNCTION smartbox.refuse_unknown_incident(text) IS
    'the error for an id that no incident has, with those that are active';

CREATE FUNCTION smartbox.lock_incident(id text) RETURNS smartbox.incidents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_service text;
    incident smartbox.incidents;
BEGIN
    SELECT i.service INTO of_service
    FROM smartbox.incidents AS i
    WHERE i.incident_id = id
    ORDER BY i.status, i.service
    LIMIT 1;
    IF FOUND THEN
        PERFORM FROM smartbox.services AS s WHERE s.service = of_service FOR NO KEY UPDATE;
        SELECT i.* INTO incident
        FROM smartbox.incidents AS i
        WHERE i.service = of_service AND i.incident_id = id
        FOR NO KEY UPDATE;
    END IF;
    IF incident.incident_id IS NULL THEN
        PERFORM smartbox.refuse_unknown_incident(id);
    END IF;
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.lock_incident(text) IS
    'the incident of that id, which nobody else moves until the end of the transaction';

CREATE FUNCTION smartbox.lock_active_incident(id text) RETURNS smartbox.incidents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents := smartbox.lock_incident(id);
BEGIN
    IF incident.status = 'CLOSED' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('incident %s of service "%s" is closed', incident.incident_id, incident.service),
            DETAIL = format('It ended at %s (%s).', smartbox.iso_timestamp(incident.resolved_at), incident.resolution_reason),
            HINT = 'feedback() and add_note() still take it.';
    END IF;
    RETURN incident;
END
$$;

COMMENT ON FUNCTION smartbox.lock_active_incident(text) IS
    'the same for one that is not closed; an error for one that is';

CREATE FUNCTION smartbox.record_action(
    incident smartbox.incidents, event smartbox.incident_event, note text, details jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM smartbox.record_event(incident, event,
        greatest(smartbox.service_clock(incident.service), incident.last_evaluated),
        incident.severity, incident.score,
        jsonb_strip_nulls(jsonb_build_object('by', smartbox.acting_person(), 'note', note)) || details);
END
$$;

COMMENT ON FUNCTION smartbox.record_action(smartbox.incidents, smartbox.incident_event, text, jsonb) IS
    'adds what a person did to the events of an incident';

CREATE FUNCTION smartbox.show_incident(of_service text, id text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT to_jsonb(i) FROM smartbox.incidents AS i WHERE i.service = of_service AND i.incident_id = id);
END
$$;

COMMENT ON FUNCTION smartbox.show_incident(text, text) IS 'an incident as it is now, as the verbs of people return it';

-- ---------------------------------------------------------------------------
-- The verbs
-- ---------------------------------------------------------------------------

CREATE FUNCTION @extschema@.acknowledge_incident(id text, note text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents := smartbox.lock_active_incident(id);
    person CONSTANT text := smartbox.acting_person();
    seen_at CONSTANT timestamptz := clock_timestamp();
BEGIN
    UPDATE smartbox.incidents AS i SET
        acknowledged_at = coalesce(i.acknowledged_at, seen_at),
        acknowledged_by = person
    WHERE i.service = incident.service AND i.incident_id = incident.incident_id;
    PERFORM smartbox.record_action(incident, 'ACKNOWLEDGE', note);
    RETURN smartbox.show_incident(incident.service, incident.incident_id);
END
$$;

COMMENT ON FUNCTION @extschema@.acknowledge_incident(text, text) IS
    'says that somebody is on an incident, and returns it; its alerts go on as before';

CREATE FUNCTION @extschema@.close_incident(id text, note text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents := smartbox.lock_active_incident(id);
BEGIN
    PERFORM smartbox.end_incident(incident, 'CLOSE', 'closed_by_person',
        greatest(smartbox.service_clock(incident.service), incident.last_evaluated),
        jsonb_strip_nulls(jsonb_build_object('by', smartbox.acting_person(), 'note', note)));
    RETURN smartbox.show_incident(incident.service, incident.incident_id);
END
$$;

COMMENT ON FUNCTION @extschema@.close_incident(text, text) IS
    'ends an incident by hand, and returns it; for incident_separation it is not reopened by a fault that goes on, unless that gets worse';

CREATE FUNCTION @extschema@.silence(
    service text, metric text DEFAULT NULL, until timestamptz DEFAULT NULL, note text DEFAULT NULL,
    include_dependents boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id CONSTANT text := 'silence_' || left(replace(gen_random_uuid()::text, '-', ''), 12);
    of_metric text;
    of_pattern text;
    covered text[] := ARRAY[silence.service];
    candidate record;
    incident smartbox.incidents;
    silenced text[] := '{}';
BEGIN
    IF silence.service IS NULL OR silence.until IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'null_value_not_allowed',
            MESSAGE = CASE WHEN silence.service IS NULL THEN 'service must not be null' ELSE 'until must not be null' END,
            HINT = 'Say what is silenced and until when: silence(''booking'', until => now() + interval ''2 hours''); the service * is all of them.';
    END IF;
    IF silence.service <> '*' THEN
        -- An error for a service that nobody knows, with the nearest names.
        PERFORM smartbox.service_time_period(silence.service, now());
    END IF;
    IF silence.until <= least(now(), smartbox.service_clock(silence.service)) OR NOT isfinite(silence.until) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('until must be a time that is still to come, not %s', silence.until),
            HINT = 'A silence has an end, such as now() + interval ''2 hours''. To end one, call unsilence().';
    END IF;

    SELECT m.metric INTO of_metric FROM smartbox.metrics AS m WHERE m.metric = silence.metric;
    IF of_metric IS NULL THEN
        of_pattern := silence.metric;
    END IF;
    IF of_pattern IS NOT NULL AND NOT (of_pattern = 'no_data'
        OR EXISTS (SELECT FROM smartbox.patterns AS p WHERE p.pattern = of_pattern)
        OR EXISTS (SELECT FROM smartbox.metrics AS m WHERE of_pattern IN (m.metric || '_high', m.metric || '_low'))
        OR EXISTS (SELECT FROM smartbox.fingerprints AS f
                   WHERE f.anomaly_name = of_pattern AND silence.service IN (f.service, '*')))
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('"%s" is no metric, pattern or anomaly that is known', of_pattern),
            HINT = (SELECT format('Metrics are: %s; anomalies are named after them, such as %s_high. smartbox.patterns and smartbox.fingerprints have the other names.',
                                  string_agg(m.metric, ', ' ORDER BY m.position), min(m.metric))
                    FROM smartbox.metrics AS m);
    END IF;

    IF include_dependents THEN
        WITH RECURSIVE dependents AS (
            SELECT silence.service AS service
            UNION
            SELECT d.service
            FROM dependents AS r JOIN smartbox.dependencies AS d ON d.depends_on = r.service
        )
        SELECT array_agg(s.service ORDER BY s.service <> silence.service, s.service) INTO covered
        FROM dependents AS r JOIN smartbox.services AS s ON s.service = r.service;
    END IF;
    covered := coalesce(covered, ARRAY[silence.service]);
    INSERT INTO smartbox.silences (service, silence_id, metric, pattern, until, note, included_with, starts_at, created_by)
    SELECT c.service, id, of_metric, of_pattern, silence.until, silence.note,
        nullif(silence.service, c.service), least(now(), silence.until - interval '1 microsecond'), smartbox.acting_person()
    FROM unnest(covered) AS c(service);

    FOR candidate IN
        SELECT i.service, i.incident_id
        FROM smartbox.incidents AS i
        WHERE i.status <> 'CLOSED' AND (i.service = ANY (covered) OR silence.service = '*')
            AND smartbox.silence_covers(of_metric, of_pattern, ARRAY[i.anomaly_name, i.pattern], i.signals)
        ORDER BY i.service COLLATE "C", i.incident_id
    LOOP
        incident := smartbox.lock_incident(candidate.incident_id);
        IF incident.status <> 'CLOSED' THEN
            PERFORM smartbox.record_action(incident, 'SILENCE', silence.note, jsonb_build_object(
                'silence_id', id, 'until', smartbox.iso_timestamp(silence.until)));
            silenced := silenced || incident.incident_id;
        END IF;
    END LOOP;

    RETURN jsonb_build_object(
        'silence_id', id,
        'services', to_jsonb(covered),
        'metric', of_metric,
        'pattern', of_pattern,
        'until', smartbox.iso_timestamp(silence.until),
        'incidents', to_jsonb(silenced));
END
$$;

COMMENT ON FUNCTION @extschema@.silence(text, text, timestamptz, text, boolean) IS
    'nobody is told of a service (* is every one), or of one metric or anomaly of it, until a time; with include_dependents not of the services either that depend on it; returns the silence and the incidents that it covers now';

CREATE FUNCTION @extschema@.unsilence(silence_id text, note text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    person CONSTANT text := smartbox.acting_person();
    ended_at CONSTANT timestamptz := clock_timestamp();
    candidate record;
    incident smartbox.incidents;
    lifted text[];
    incidents text[] := '{}';
BEGIN
    WITH ended AS (
        UPDATE smartbox.silences AS s SET lifted_at = ended_at, lifted_by = person
        WHERE s.silence_id = unsilence.silence_id AND s.lifted_at IS NULL
        RETURNING s.service
    )
    SELECT array_agg(e.service ORDER BY e.service) INTO lifted FROM ended AS e;
    IF lifted IS NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'no_data_found',
            MESSAGE = CASE WHEN unsilence.silence_id IS NULL THEN 'the id of the silence must not be null'
                ELSE format('there is no silence "%s" to end', unsilence.silence_id) END,
            HINT = (SELECT coalesce('There are: ' || string_agg(format('%s (%s)', n.silence_id, n.service), ', ' ORDER BY n.created_at DESC, n.silence_id) || '.',
                                    'Nothing is silenced now.')
                    FROM (SELECT s.silence_id, s.service, s.created_at
                          FROM smartbox.active_silences AS s
                          WHERE s.included_with IS NULL
                          ORDER BY s.created_at DESC, s.silence_id LIMIT 5) AS n);
    END IF;

    FOR candidate IN
        SELECT i.service, i.incident_id
        FROM smartbox.incidents AS i
            JOIN smartbox.silences AS s ON s.service IN (i.service, '*') AND s.silence_id = unsilence.silence_id
        WHERE i.status <> 'CLOSED' AND (i.service = ANY (lifted) OR lifted = '{*}')
            AND smartbox.silence_covers(s.metric, s.pattern, ARRAY[i.anomaly_name, i.pattern], i.signals)
        ORDER BY i.service COLLATE "C", i.incident_id
    LOOP
        incident := smartbox.lock_incident(candidate.incident_id);
        IF incident.status <> 'CLOSED' THEN
            PERFORM smartbox.record_action(incident, 'SILENCE', note,
                jsonb_build_object('silence_id', unsilence.silence_id, 'lifted', true));
            incidents := incidents || incident.incident_id;
        END IF;
    END LOOP;
    RETURN jsonb_build_object(
        'silence_id', unsilence.silence_id, 'services', to_jsonb(lifted), 'incidents', to_jsonb(incidents));
END
$$;

COMMENT ON FUNCTION @extschema@.unsilence(text, text) IS
    'ends a silence before its time; an incident that is open then is told of at its next detection';

CREATE FUNCTION smartbox.give_feedback(incident smartbox.incidents, verdict text, note text) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given smartbox.feedback;
BEGIN
    SELECT coalesce(max(f.feedback_number), 0) + 1 INTO given.feedback_number
    FROM smartbox.feedback AS f
    WHERE f.service = incident.service AND f.incident_id = incident.incident_id;

    INSERT INTO smartbox.feedback AS f (service, incident_id, feedback_number, verdict, note, given_by)
    VALUES (incident.service, incident.incident_id, given.feedback_number, give_feedback.verdict, give_feedback.note,
        smartbox.acting_person())
    RETURNING f.* INTO given;
    RETURN to_jsonb(given);
END
$$;

COMMENT ON FUNCTION smartbox.give_feedback(smartbox.incidents, text, text) IS
    'adds a verdict or a note to an incident, and returns the row';

CREATE FUNCTION @extschema@.feedback(id text, verdict text, note text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    incident smartbox.incidents;
BEGIN
    IF verdict IS NULL OR verdict NOT IN ('anomaly', 'expected', 'not_anomaly', 'new_trend') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE WHEN verdict IS NULL THEN 'verdict must not be null'
                ELSE format('"%s" is no verdict', verdict) END,
            HINT = 'There are: anomaly, expected, not_anomaly and new_trend. For a note alone, call add_note().';
    END IF;
    incident := smartbox.lock_incident(id);
    PERFORM smartbox.set_signal_bars(incident.service, incident.incident_id, verdict);
    RETURN smartbox.give_feedback(incident, verdict, note);
END
$$;

COMMENT ON FUNCTION @extschema@.feedback(text, text, text) IS
    'says what an incident was: anomaly, expected, not_anomaly or new_trend; the newest verdict counts for the next training, and not_anomaly for the next detection already';

CREATE FUNCTION @extschema@.add_note(id text, note text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF note IS NULL OR note = '' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'note must not be empty';
    END IF;
    RETURN smartbox.give_feedback(smartbox.lock_incident(id), NULL, note);
END
$$;

COMMENT ON FUNCTION @extschema@.add_note(text, text) IS
    'adds a note to an incident, closed ones too, and returns it';

SELECT pg_catalog.pg_extension_config_dump('smartbox.silences', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.feedback', '');
SELECT pg_catalog.pg_extension_config_dump('smartbox.signal_bars', '');
