-- How good the samples are, in numbers and in words.  Both views look at the
-- last 1, 7 and 30 days before the newest sample of any service.  Each service
-- and span is one walk along the primary key, so that a query for one service,
-- or for one span, reads nothing else.

CREATE VIEW smartbox.metric_quality AS
WITH instant AS MATERIALIZED (
    SELECT max(x.ts) AS as_of
    FROM smartbox.samples AS x
    WHERE x.ts <= now() + smartbox.sample_interval()
), measured AS (
    SELECT s.service, w.days, i.as_of, q.*
    FROM smartbox.services AS s
        CROSS JOIN (VALUES (1), (7), (30)) AS w(days)
        CROSS JOIN instant AS i
        CROSS JOIN LATERAL (
            WITH sample AS MATERIALIZED (
                SELECT x.ts, x.metric_values AS new, lag(x.metric_values) OVER by_time AS old,
                    row_number() OVER by_time AS number
                FROM smartbox.samples AS x
                WHERE x.service = s.service
                    AND x.ts > i.as_of - w.days * interval '24 hours' AND x.ts <= i.as_of
                WINDOW by_time AS (ORDER BY x.ts)
            )
            SELECT m.metric, m.kind, m.zero_is_normal, m.position, counted.*,
                CASE WHEN counted.repeats > 0 THEN (
                    SELECT max(line.n) + 1
                    FROM (
                        SELECT count(*) AS n
                        FROM (
                            SELECT x.number - row_number() OVER (ORDER BY x.number) AS island
                            FROM sample AS x
                            WHERE x.new[m.position] = x.old[m.position] AND x.new[m.position] <> 0
                        ) AS repeat
                        GROUP BY repeat.island
                    ) AS line)
                END AS longest_flat_line
            FROM smartbox.metrics AS m
                CROSS JOIN LATERAL (
                    SELECT count(*) AS samples,
                        count(*) FILTER (WHERE x.is_known) AS known,
                        count(*) FILTER (WHERE NOT x.is_known) AS refused,
                        count(*) FILTER (WHERE x.value = x.earlier AND x.value <> 0) AS repeats,
                        count(*) FILTER (WHERE x.value < x.earlier) AS falls,
                        max(x.ts) FILTER (WHERE x.is_known) AS last_known
                    FROM (
                        -- OFFSET keeps the arrays from being searched for each of the above.
                        SELECT v.*, v.value BETWEEN m.valid_min AND m.valid_max AS is_known
                        FROM (SELECT x.ts, x.new[m.position] AS value, x.old[m.position] AS earlier FROM sample AS x OFFSET 0) AS v
                    ) AS x
                ) AS counted
            WHERE m.enabled
        ) AS q
    WHERE s.enabled
), judged AS (
    SELECT d.*,
        CASE
            WHEN d.samples = 0 THEN NULL
            WHEN d.known = 0 AND earlier.ts IS NULL THEN NULL
            WHEN d.known = 0 AND NOT d.zero_is_normal THEN
                format('%s has no value any more, the last one was at %s UTC', d.metric,
                       to_char(earlier.ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'))
            WHEN d.refused > 0.01 * d.samples THEN
                format('%s has %s values that are no numbers or out of range: check its query', d.metric, d.refused)
            WHEN d.known < 0.95 * d.samples AND NOT d.zero_is_normal THEN
                format('%s is missing in %s %% of the samples: check its query', d.metric,
                       round(100 * (1 - d.known::numeric / d.samples)))
            WHEN d.kind = 'rate' AND d.known >= 100 AND d.falls = 0 AND d.repeats < 0.5 * d.known THEN
                format('%s only ever rises: is its query a counter without rate()?', d.metric)
            -- A metric that never moves does not stand still.
            WHEN d.longest_flat_line >= 12 AND d.longest_flat_line < 0.5 * d.known THEN
                format('%s had the same value %s times in a row: does its source stand still?', d.metric, d.longest_flat_line)
        END AS problem,
        coalesce(d.last_known, earlier.ts) AS last_value
    FROM measured AS d
        LEFT JOIN LATERAL (
            SELECT x.ts
            FROM smartbox.samples AS x
            WHERE d.known = 0 AND x.service = d.service
                AND x.ts > d.as_of - interval '720 hours' AND x.ts <= d.as_of
                AND x.metric_values[d.position] < 'NaN'
            ORDER BY x.ts DESC
            LIMIT 1
        ) AS earlier ON true
)
SELECT
    j.service,
    j.metric,
    j.days,
    j.as_of,
    j.samples,
    j.known AS known_values,
    j.refused AS refused_values,
    (1 - j.known::double precision / nullif(j.samples, 0)) AS missing_share,
    coalesce(j.longest_flat_line, 0) AS longest_flat_line,
    j.last_value,
    j.problem IS NOT NULL AS needs_attention,
    CASE
        WHEN j.problem IS NOT NULL THEN j.problem
        WHEN j.samples = 0 THEN 'no samples'
        WHEN j.known = 0 THEN format('the service does not have %s', j.metric)
        ELSE 'good'
    END AS verdict
FROM judged AS j;

COMMENT ON VIEW smartbox.metric_quality IS 'one row per enabled service, metric and span of the last 1, 7 and 30 days: what is missing, refused or stands still';
COMMENT ON COLUMN smartbox.metric_quality.service IS 'the service';
COMMENT ON COLUMN smartbox.metric_quality.metric IS 'the metric';
COMMENT ON COLUMN smartbox.metric_quality.days IS '1, 7 or 30: how far back it looks';
COMMENT ON COLUMN smartbox.metric_quality.as_of IS 'the newest sample of any service: the end of the span';
COMMENT ON COLUMN smartbox.metric_quality.samples IS 'samples of the service in the span';
COMMENT ON COLUMN smartbox.metric_quality.known_values IS 'of these, samples in which the metric has a value that is used';
COMMENT ON COLUMN smartbox.metric_quality.refused_values IS 'stored values that are not used: no numbers or out of range';
COMMENT ON COLUMN smartbox.metric_quality.missing_share IS 'share of the samples in which the metric is unknown, 0 to 1; NULL: no samples';
COMMENT ON COLUMN smartbox.metric_quality.longest_flat_line IS 'the most samples in a row with exactly the same value other than zero; 0: none repeats';
COMMENT ON COLUMN smartbox.metric_quality.last_value IS 'newest sample of the last 30 days with a value; NULL: none has one';
COMMENT ON COLUMN smartbox.metric_quality.needs_attention IS 'the verdict is about something to look at';
COMMENT ON COLUMN smartbox.metric_quality.verdict IS 'in words';

CREATE VIEW smartbox.sample_quality AS
WITH instant AS MATERIALIZED (
    SELECT max(x.ts) AS as_of, smartbox.sample_interval() AS step
    FROM smartbox.samples AS x
    WHERE x.ts <= now() + smartbox.sample_interval()
), measured AS (
    SELECT s.service, w.days, i.as_of, i.step, ever.first_ts, ever.last_ts, q.*,
        -- Instants after the last sample; a span without any lacks all of them.
        greatest(round(extract(epoch FROM i.as_of - coalesce(q.last_sample, span.begins)) / extract(epoch FROM i.step)), 0) AS missing_at_end,
        greatest(round(extract(epoch FROM i.as_of - span.begins) / extract(epoch FROM i.step)), 1) AS expected
    FROM smartbox.services AS s
        CROSS JOIN (VALUES (1), (7), (30)) AS w(days)
        CROSS JOIN instant AS i
        CROSS JOIN LATERAL (
            SELECT min(x.ts) AS first_ts, max(x.ts) AS last_ts
            FROM smartbox.samples AS x
            WHERE x.service = s.service AND x.ts <= i.as_of
        ) AS ever
        -- Nothing is expected of a service before its first sample.
        CROSS JOIN LATERAL (
            SELECT greatest(i.as_of - w.days * interval '24 hours', ever.first_ts - i.step) AS begins
        ) AS span
        CROSS JOIN LATERAL (
            SELECT count(*) AS samples,
                min(d.ts) AS first_sample,
                max(d.ts) AS last_sample,
                count(*) FILTER (WHERE d.distance > 1.5 * i.step) AS gaps,
                coalesce(sum(round(extract(epoch FROM d.distance) / extract(epoch FROM i.step)) - 1)
                    FILTER (WHERE d.distance > 1.5 * i.step), 0) AS missing,
                max(d.distance) FILTER (WHERE d.distance > 1.5 * i.step) AS longest_gap,
                max(d.ts) FILTER (WHERE d.distance > 1.5 * i.step) AS gap_end,
                count(*) FILTER (WHERE d.is_repeat) AS repeated_samples,
                coalesce(sum(cardinality(d.warnings)), 0) AS warnings
            FROM (
                SELECT x.ts, x.warnings,
                    x.ts - lag(x.ts, 1, span.begins) OVER by_time AS distance,
                    x.metric_values = lag(x.metric_values) OVER by_time AS is_repeat
                FROM smartbox.samples AS x
                WHERE x.service = s.service AND x.ts > span.begins AND x.ts <= i.as_of
                WINDOW by_time AS (ORDER BY x.ts)
            ) AS d
        ) AS q
    WHERE s.enabled
), judged AS (
    SELECT m.*,
        1 - least((m.missing + m.missing_at_end) / m.expected, 1) AS coverage,
        greatest(m.longest_gap, CASE WHEN m.missing_at_end > 0 THEN m.as_of - m.last_ts END) AS longest,
        concat_ws('; ',
            CASE
                WHEN m.first_ts IS NULL THEN 'no sample yet'
                WHEN m.missing_at_end > 2 THEN
                    format('no sample since %s UTC, while others report', to_char(m.last_ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'))
            END,
            CASE WHEN m.samples > 0 AND m.missing + m.missing_at_end > 0.05 * m.expected THEN
                format('%s %% of the expected samples are missing, the longest gap is %s h',
                       round(100 * least((m.missing + m.missing_at_end) / m.expected, 1)),
                       round(extract(epoch FROM greatest(m.longest_gap, m.as_of - m.last_ts)) / 3600, 1))
            END,
            CASE WHEN m.samples > 0 THEN (
                SELECT string_agg(q.verdict, '; ' ORDER BY q.metric)
                FROM smartbox.metric_quality AS q
                WHERE q.service = m.service AND q.days = m.days AND q.needs_attention)
            END,
            CASE WHEN m.warnings > 0.05 * m.samples THEN
                format('%s warnings in %s samples: see smartbox.samples.warnings', m.warnings, m.samples)
            END,
            CASE WHEN m.as_of < now() - 3 * m.step THEN
                format('no service has a sample since %s UTC', to_char(m.as_of AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'))
            END) AS problems
    FROM measured AS m
)
SELECT
    j.service,
    j.days,
    j.as_of,
    j.expected::bigint AS expected_samples,
    j.samples,
    j.coverage::double precision AS coverage,
    j.gaps + (j.samples > 0 AND j.missing_at_end > 0)::integer AS gaps,
    j.longest AS longest_gap,
    CASE WHEN j.missing_at_end > 0 THEN j.as_of ELSE j.gap_end END AS last_gap_until,
    j.repeated_samples,
    j.warnings::bigint AS warnings,
    j.first_sample,
    j.last_sample,
    now() - j.last_ts AS lag,
    j.problems <> '' AS needs_attention,
    coalesce(nullif(j.problems, ''), 'good') AS verdict
FROM judged AS j;

COMMENT ON VIEW smartbox.sample_quality IS 'one row per enabled service and span of the last 1, 7 and 30 days: how complete its samples are, and what is wrong with them';
COMMENT ON COLUMN smartbox.sample_quality.service IS 'the service';
COMMENT ON COLUMN smartbox.sample_quality.days IS '1, 7 or 30: how far back it looks';
COMMENT ON COLUMN smartbox.sample_quality.as_of IS 'the newest sample of any service: the end of the span';
COMMENT ON COLUMN smartbox.sample_quality.expected_samples IS 'samples that one per sample_interval makes, from the service''s first sample on';
COMMENT ON COLUMN smartbox.sample_quality.samples IS 'samples that are there';
COMMENT ON COLUMN smartbox.sample_quality.coverage IS 'share of the expected instants that have a sample, 0 to 1';
COMMENT ON COLUMN smartbox.sample_quality.gaps IS 'times that one or more expected samples in a row are missing';
COMMENT ON COLUMN smartbox.sample_quality.longest_gap IS 'time from the sample before the longest gap to the one after it; NULL: there is no gap';
COMMENT ON COLUMN smartbox.sample_quality.last_gap_until IS 'when the last gap ended; as_of: it has not; NULL: there is none';
COMMENT ON COLUMN smartbox.sample_quality.repeated_samples IS 'samples in which no metric differs from the sample before';
COMMENT ON COLUMN smartbox.sample_quality.warnings IS 'warnings that were kept with the samples';
COMMENT ON COLUMN smartbox.sample_quality.first_sample IS 'the first sample in the span';
COMMENT ON COLUMN smartbox.sample_quality.last_sample IS 'the last sample in the span';
COMMENT ON COLUMN smartbox.sample_quality.lag IS 'time since the service''s newest sample, in the span or not';
COMMENT ON COLUMN smartbox.sample_quality.needs_attention IS 'the verdict is about something to look at';
COMMENT ON COLUMN smartbox.sample_quality.verdict IS 'in words: good, or what is wrong';
