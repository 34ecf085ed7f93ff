-- One page of HTML that says what is wrong: no script, nothing to fetch.

CREATE FUNCTION smartbox.time_html(ts timestamptz) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<time datetime="%s">%s</time>', smartbox.iso_timestamp(ts), to_char(ts, 'YYYY-MM-DD HH24:MI'))
$$;

COMMENT ON FUNCTION smartbox.time_html(timestamptz) IS 'an instant in HTML, on the clock of the session';

CREATE FUNCTION smartbox.word_html(severity text, word text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<span class="word %s">%s</span>', translate(severity, ' ', '-'), smartbox.html_text(word))
$$;

COMMENT ON FUNCTION smartbox.word_html(text, text) IS 'a word in the colour of a severity or a state';

CREATE FUNCTION smartbox.list_html(tag text, items jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<%1$s>%2$s</%1$s>', tag, string_agg('<li>' || smartbox.html_text(i.item) || '</li>', '' ORDER BY i.place))
    FROM jsonb_array_elements_text(CASE jsonb_typeof(items) WHEN 'array' THEN items END) WITH ORDINALITY AS i(item, place)
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.list_html(text, jsonb) IS 'an array of texts as a list of HTML, ol or ul; NULL when it is empty';

CREATE FUNCTION smartbox.metrics_of_anomaly(contributions jsonb, signals text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((array_agg(m.metric ORDER BY c.share DESC, m.position)
            FILTER (WHERE c.share >= 0.05 OR ARRAY[m.metric || '_high', m.metric || '_low'] && signals))[1:3],
        (array_agg(m.metric ORDER BY m.position))[1:1])
    FROM smartbox.metrics AS m
        CROSS JOIN LATERAL (SELECT coalesce((contributions->>m.metric)::double precision, 0) AS share) AS c
    WHERE m.enabled
$$;

COMMENT ON FUNCTION smartbox.metrics_of_anomaly(jsonb, text[]) IS
    'the metrics to show of an anomaly: up to three that contribute to it or are among its signals, the largest share first; else the first metric that is watched';

CREATE FUNCTION smartbox.charts_html(
    of_service text, since timestamptz, until timestamptz, metrics text[], spans tstzrange[], id_prefix text)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        WITH sampling AS (
            -- no more than 240 points, each time the one that lies farthest out
            SELECT greatest(smartbox.sample_interval(), (charts_html.until - charts_html.since) / 240) AS step
        ), point AS (
            SELECT DISTINCT ON (e.metric, b.bucket) e.*
            FROM @extschema@.expected_values(of_service, since, until, metrics) AS e
                CROSS JOIN sampling AS p
                CROSS JOIN LATERAL (SELECT floor(extract(epoch FROM e.ts - since) / extract(epoch FROM p.step)) AS bucket) AS b
            ORDER BY e.metric, b.bucket, abs(e.deviation_sigma) DESC NULLS LAST, e.ts
        ), chart AS (
            SELECT m.metric, m.unit, m.kind, min(m.description) AS description, array_position(metrics, m.metric) AS place,
                array_agg(p.ts ORDER BY p.ts) AS ts, array_agg(p.value ORDER BY p.ts) AS value,
                array_agg(p.expected ORDER BY p.ts) AS expected, array_agg(p.lower ORDER BY p.ts) AS lower,
                array_agg(p.upper ORDER BY p.ts) AS upper,
                min(p.value) AS lowest, max(p.value) AS highest, min(p.lower) AS band_from, max(p.upper) AS band_to,
                count(*) FILTER (WHERE p.value < p.lower OR p.value > p.upper) AS outside, count(p.value) AS known
            FROM point AS p JOIN smartbox.metrics AS m ON m.metric = p.metric
            GROUP BY m.metric, m.unit, m.kind
            HAVING count(p.value) > 0
        )
        SELECT string_agg(format('<figure><figcaption><b>%s</b> %s</figcaption>%s</figure>',
                smartbox.html_text(c.metric), smartbox.html_text(c.description),
                smartbox.metric_chart(id_prefix || c.place, format('%s of %s', c.metric, of_service),
                    format('From %s to %s: between %s and %s; %s.', to_char(since, 'YYYY-MM-DD HH24:MI'), to_char(until, 'YYYY-MM-DD HH24:MI'),
                        smartbox.value_text(c.lowest, c.unit, c.kind), smartbox.value_text(c.highest, c.unit, c.kind),
                        CASE WHEN c.band_to IS NULL THEN 'no model knows what is usual'
                            ELSE format('usual is from %s to %s, and %s of %s values are outside what was usual at their time',
                                smartbox.value_text(c.band_from, c.unit, c.kind), smartbox.value_text(c.band_to, c.unit, c.kind),
                                c.outside, c.known) END),
                    c.unit, c.kind, since, until, c.ts, c.value, c.expected, c.lower, c.upper, 1.9 * s.step, spans)), '' ORDER BY c.place)
        FROM chart AS c CROSS JOIN sampling AS s);
EXCEPTION
    -- the rest of the page can be told without a damaged model
    WHEN data_corrupted THEN
        RETURN format('<p class="note">No charts: %s.</p>', smartbox.html_text(SQLERRM));
END
$$;

COMMENT ON FUNCTION smartbox.charts_html(text, timestamptz, timestamptz, text[], tstzrange[], text) IS
    'charts of metrics of a service against what was expected, one figure each; NULL when there are no values, and the reason when a model is damaged';

-- ---------------------------------------------------------------------------
-- One incident
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.comparison_html(of_service text, of_incident text, at timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<div class="scroll" tabindex="0" role="region" aria-label="Metrics of %s"><table class="narrow"><caption>Metrics at %s</caption><thead><tr>'
            '<th scope="col">metric</th><th scope="col" class="n">value</th><th scope="col" class="n">expected</th>'
            '<th scope="col" class="n">usual</th><th scope="col" class="n">deviation</th><th scope="col">share</th></tr></thead><tbody>%s</tbody></table></div>',
        smartbox.html_text(of_incident), smartbox.time_html(at),
        string_agg(format('<tr%s><th scope="row">%s</th><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td>%s</td></tr>',
            CASE WHEN c.contribution >= 0.05 THEN ' class="out"' ELSE '' END, smartbox.html_text(c.metric),
            smartbox.html_text(smartbox.value_text(c.value, m.unit, m.kind)),
            CASE WHEN c.expected IS NULL THEN '' ELSE smartbox.html_text(smartbox.value_text(c.expected, m.unit, m.kind)) END,
            CASE WHEN c.lower IS NULL THEN '' ELSE format('%s&#8239;&ndash;&#8239;%s', smartbox.html_text(split_part(smartbox.value_text(c.lower, m.unit, m.kind), ' ', 1)),
                smartbox.html_text(smartbox.value_text(c.upper, m.unit, m.kind))) END,
            CASE WHEN c.deviation_sigma IS NULL THEN '' ELSE to_char(c.deviation_sigma, 'SFM99990.0') || ' &sigma;' END,
            CASE WHEN c.contribution > 0.005 THEN format('<span class="bar" style="width:%sem"></span> %s&nbsp;%%',
                round((5 * c.contribution)::numeric, 2), round(100 * c.contribution)) ELSE '' END),
            '' ORDER BY c.contribution DESC NULLS LAST, m.position, c.metric))
    FROM smartbox.anomaly_metrics AS c
        LEFT JOIN smartbox.metrics AS m ON m.metric = c.metric
    WHERE c.service = of_service AND c.ts = at AND c.incident_id = of_incident
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.comparison_html(text, text, timestamptz) IS
    'the metrics of an incident in the detection of an instant, as a table; NULL when nothing was compared';

CREATE FUNCTION smartbox.events_html(of_service text, of_incident text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH event AS (
        SELECT e.*, count(*) OVER () AS n,
            -- that it goes on is worth a line only where it says more
            row_number() OVER (PARTITION BY e.event = 'CONTINUE' AND e.details = '{}' ORDER BY e.event_number DESC) AS age
        FROM smartbox.incident_events AS e
        WHERE e.service = of_service AND e.incident_id = of_incident
    )
    SELECT format('<details><summary>%s event%s</summary><div class="scroll"><table class="narrow"><thead><tr><th scope="col">time</th><th scope="col">event</th>'
            '<th scope="col">then</th><th scope="col">severity</th><th scope="col">what else</th></tr></thead><tbody>%s</tbody></table></div>%s</details>',
        max(e.n), CASE WHEN max(e.n) = 1 THEN '' ELSE 's' END,
        string_agg(format('<tr><td>%s</td><th scope="row">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>', smartbox.time_html(e.ts),
                e.event, lower(e.status::text), e.severity, coalesce((
                    SELECT string_agg(smartbox.html_text(replace(d.key, '_', ' ') || ': ' || d.value), '; ' ORDER BY d.key)
                    FROM jsonb_each_text(e.details) AS d WHERE d.value <> ''), '')), '' ORDER BY e.event_number)
            FILTER (WHERE e.age <= CASE WHEN e.event = 'CONTINUE' AND e.details = '{}' THEN 1 ELSE 50 END),
        CASE WHEN max(e.n) > count(*) FILTER (WHERE e.age <= CASE WHEN e.event = 'CONTINUE' AND e.details = '{}' THEN 1 ELSE 50 END)
            THEN '<p class="note">Of events that only continue it, the last one is shown, of others the last 50.</p>' ELSE '' END)
    FROM event AS e
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.events_html(text, text) IS 'the events of an incident as a table to unfold';

CREATE FUNCTION smartbox.incident_html(incident smartbox.incidents, data_until timestamptz, on_page text[]) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id CONSTANT text := incident.incident_id;
    seen_for CONSTANT interval := coalesce(incident.resolved_at, incident.last_seen) - incident.first_seen;
    until CONSTANT timestamptz := least(greatest(data_until, incident.last_evaluated),
        coalesce(incident.resolved_at, incident.last_evaluated) + greatest(interval '1 hour', seen_for / 4));
    since CONSTANT timestamptz := incident.first_seen - least(greatest(interval '3 hours', seen_for), interval '2 days');
    anomaly jsonb;
    facts text;
    charts text;
BEGIN
    SELECT a.value INTO anomaly
    FROM smartbox.detections AS d
        CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(d.payload->'anomalies') WHEN 'array' THEN d.payload->'anomalies' END) AS a
    WHERE d.service = incident.service AND d.ts = incident.last_seen AND a.value->'metadata'->>'incident_id' = id
    LIMIT 1;

    SELECT string_agg(format('<div><dt>%s</dt><dd>%s</dd></div>', f.name, f.value), '' ORDER BY f.place) INTO facts
    FROM (VALUES
        (1, 'first seen', smartbox.time_html(incident.first_seen)),
        (2, 'last seen', smartbox.time_html(incident.last_seen)),
        (3, 'over since', CASE WHEN incident.resolved_at IS NOT NULL THEN smartbox.time_html(incident.resolved_at) || ', '
            || smartbox.html_text(replace(incident.resolution_reason, '_', ' ')) END),
        (4, 'duration', smartbox.duration_text(seen_for)),
        (5, 'detected', format('%s time%s', incident.occurrence_count, CASE WHEN incident.occurrence_count = 1 THEN '' ELSE 's' END)
            || CASE WHEN incident.missed_cycles > 0 THEN format(', not in the last %s', incident.missed_cycles) ELSE '' END),
        (6, 'score', round(incident.score::numeric, 2)::text),
        (7, 'confidence', round(100 * incident.confidence) || '&nbsp;%'),
        (8, 'taken on', CASE WHEN incident.acknowledged_by IS NOT NULL THEN smartbox.html_text(incident.acknowledged_by) || ', '
            || smartbox.time_html(incident.acknowledged_at) WHEN incident.status IN ('OPEN', 'RECOVERING') THEN 'by nobody' END),
        (9, 'suspected cause', CASE WHEN incident.root_incident_id = ANY (on_page)
            THEN format('<a href="#%s"><bdi>%s</bdi></a>', smartbox.html_text(incident.root_incident_id), smartbox.html_text(incident.root_service))
            ELSE '<bdi>' || smartbox.html_text(incident.root_service) || '</bdi>, <code>' || smartbox.html_text(incident.root_incident_id) || '</code>' END),
        (10, 'identity', '<code>' || smartbox.html_text(id) || '</code>')
    ) AS f(place, name, value)
    WHERE f.value IS NOT NULL;

    charts := smartbox.charts_html(incident.service, since, until,
        smartbox.metrics_of_anomaly(anomaly->'contributions', incident.signals),
        ARRAY[tstzrange(incident.first_seen, coalesce(incident.resolved_at, incident.last_seen), '[]')], id || '-');

    RETURN format('<article id="%1$s" class="%2$s" aria-labelledby="%1$s-h"><h3 id="%1$s-h"><bdi>%3$s</bdi>: %4$s</h3><p class="words">%5$s</p>',
            smartbox.html_text(id), incident.severity, smartbox.html_text(incident.service),
            smartbox.html_text(replace(coalesce(incident.pattern, incident.anomaly_name), '_', ' ')),
            concat_ws(' ', smartbox.word_html(incident.severity::text, incident.severity::text),
                smartbox.word_html('state', lower(incident.status::text)),
                CASE WHEN incident.flapping THEN smartbox.word_html('state', 'flapping') END,
                CASE WHEN incident.acknowledged_by IS NOT NULL THEN smartbox.word_html('state', 'taken on') END))
        || coalesce('<p class="lead">' || smartbox.html_text(nullif(incident.description, '')) || '</p>', '')
        || coalesce('<p>' || smartbox.html_text(concat_ws(' ', anomaly->>'interpretation', anomaly->>'business_impact')) || '</p>', '')
        || '<dl>' || facts || '</dl>'
        || coalesce('<div class="charts">' || charts || '</div>', '<p class="note">There are no samples of that time any more.</p>')
        || '<div class="columns">'
        || coalesce('<section><h4>What to do</h4>' || smartbox.list_html('ol', anomaly->'recommended_actions') || '</section>', '')
        || coalesce('<section><h4>What may be behind it</h4>' || smartbox.list_html('ul', anomaly->'possible_causes') || '</section>', '')
        || '</div>'
        || coalesce(smartbox.comparison_html(incident.service, id, incident.last_seen), '')
        || coalesce(smartbox.events_html(incident.service, id), '')
        || '</article>';
END
$$;

COMMENT ON FUNCTION smartbox.incident_html(smartbox.incidents, timestamptz, text[]) IS
    'an incident as an article of HTML: what it is, its metrics against what was expected, what to do, its events; data_until: the newest sample, on_page: the incidents that can be linked to';

CREATE FUNCTION smartbox.incidents_html(incidents smartbox.incidents[], caption text, on_page text[]) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<div class="scroll" tabindex="0" role="region" aria-label="%1$s"><table class="lines"><caption>%1$s</caption><thead><tr><th scope="col">severity</th>'
            '<th scope="col">service</th><th scope="col">what</th><th scope="col">state</th><th scope="col">suspected cause</th><th scope="col">first seen</th><th scope="col" class="n">duration</th></tr></thead><tbody>%2$s</tbody></table></div>',
        smartbox.html_text(caption),
        string_agg(format('<tr><td>%s</td><th scope="row"><bdi>%s</bdi></th><td>%s</td><td>%s</td>%s<td>%s</td><td class="n">%s</td></tr>',
            smartbox.word_html(i.severity::text, i.severity::text), smartbox.html_text(i.service),
            CASE WHEN i.incident_id = ANY (on_page) THEN format('<a href="#%s">%s</a>', smartbox.html_text(i.incident_id), w.what) ELSE w.what END,
            smartbox.html_text(replace(coalesce(i.resolution_reason, lower(i.status::text)), '_', ' ')),
            coalesce('<td class="cause"><bdi>' || smartbox.html_text(i.root_service) || '</bdi></td>', '<td></td>'), smartbox.time_html(i.first_seen),
            smartbox.duration_text(coalesce(i.resolved_at, i.last_seen) - i.first_seen)), '' ORDER BY i.ordinality))
    FROM unnest(incidents) WITH ORDINALITY AS i
        CROSS JOIN LATERAL (SELECT smartbox.html_text(replace(coalesce(i.pattern, i.anomaly_name), '_', ' ')) AS what) AS w
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.incidents_html(smartbox.incidents[], text, text[]) IS
    'incidents as a table, one line each, with links to their articles; NULL without any';

-- ---------------------------------------------------------------------------
-- The fleet
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.fleet_html(of_services text[], until timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH metric AS (
        SELECT m.*, row_number() OVER (ORDER BY m.position) AS place
        FROM smartbox.metrics AS m
        WHERE m.enabled
        ORDER BY m.position
        LIMIT 6
    ), sample AS MATERIALIZED (
        SELECT s.service, s.metric_values, ceil(extract(epoch FROM s.ts - (until - interval '24 hours')) / 1200)::integer AS number
        FROM smartbox.samples AS s
        WHERE s.service = ANY (of_services) AND s.ts > until - interval '24 hours' AND s.ts <= until
    ), bucket AS (
        SELECT s.service, m.metric, s.number, avg(s.metric_values[m.position]) AS value
        FROM sample AS s
            CROSS JOIN metric AS m
        WHERE s.metric_values[m.position] BETWEEN m.valid_min AND m.valid_max
            AND NOT (m.zero_is_normal AND s.metric_values[m.position] = 0)
        GROUP BY 1, 2, 3
    ), line AS (
        SELECT b.service, b.metric, min(b.value) AS lowest, max(b.value) AS highest,
            ARRAY(SELECT p.value FROM generate_series(1, 72) AS n
                LEFT JOIN unnest(array_agg(b.number), array_agg(b.value)) AS p(number, value) ON p.number = n ORDER BY n) AS points
        FROM bucket AS b
        GROUP BY b.service, b.metric
    ), signal AS (
        SELECT i.service, array_agg(DISTINCT u.signal) AS signals
        FROM smartbox.incidents AS i CROSS JOIN unnest(i.signals) AS u(signal)
        WHERE i.service = ANY (of_services) AND i.status <> 'CLOSED'
        GROUP BY i.service
    ), cell AS (
        SELECT s.service, string_agg(format('<td%s data-metric="%s">%s<span class="now">%s</span></td>',
            CASE WHEN ARRAY[m.metric || '_high', m.metric || '_low'] && g.signals THEN ' class="out"' ELSE '' END,
            smartbox.html_text(m.metric),
            CASE WHEN l.points IS NULL THEN '' ELSE smartbox.sparkline_svg(l.points, format('%s, 24 hours: from %s to %s', m.metric,
                smartbox.value_text(l.lowest, m.unit, m.kind), smartbox.value_text(l.highest, m.unit, m.kind))) END,
            CASE WHEN l.points IS NULL THEN '' WHEN n.value IS NULL THEN '&ndash;'
                ELSE smartbox.html_text(smartbox.value_text(n.value, m.unit, m.kind)) END), '' ORDER BY m.place) AS cells
        FROM unnest(of_services) AS s(service)
            CROSS JOIN metric AS m
            LEFT JOIN line AS l ON l.service = s.service AND l.metric = m.metric
            LEFT JOIN signal AS g ON g.service = s.service
            LEFT JOIN LATERAL (
                SELECT CASE WHEN x.metric_values[m.position] BETWEEN m.valid_min AND m.valid_max
                        AND NOT (m.zero_is_normal AND x.metric_values[m.position] = 0) THEN x.metric_values[m.position] END AS value
                FROM smartbox.samples AS x
                WHERE x.service = s.service AND x.ts > until - 3 * smartbox.sample_interval() AND x.ts <= until
                ORDER BY x.ts DESC
                LIMIT 1
            ) AS n ON true
        GROUP BY s.service
    )
    SELECT format('<div class="scroll" tabindex="0" role="region" aria-label="Services"><table class="fleet"><thead><tr><th scope="col">service</th>'
            '<th scope="col">state</th>%s</tr></thead><tbody>%s</tbody></table></div>',
        (SELECT string_agg('<th scope="col">' || smartbox.html_text(replace(m.metric, '_', ' ')) || '</th>', '' ORDER BY m.place) FROM metric AS m),
        string_agg(format('<tr><th scope="row"><bdi>%s</bdi></th><td>%s</td>%s</tr>', smartbox.html_text(h.service),
            smartbox.word_html(h.status, h.status), c.cells), '' ORDER BY h.status_rank, h.service COLLATE "C"))
    FROM smartbox.service_health AS h
        JOIN cell AS c ON c.service = h.service
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.fleet_html(text[], timestamptz) IS
    'services as a table, one line each: state, and the first six metrics over the 24 hours before an instant with their values now; worst first';

CREATE FUNCTION smartbox.watch_html() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('<details%s><summary>The watch itself: %s</summary><div class="scroll"><table><tbody>%s</tbody></table></div></details>',
        CASE WHEN count(*) FILTER (WHERE s.severity = 'error') > 0 THEN ' open' ELSE '' END,
        concat_ws(', ', nullif(count(*) FILTER (WHERE s.severity = 'error'), 0) || ' wrong', nullif(count(*) FILTER (WHERE s.severity = 'warning'), 0) || ' to look at'),
        string_agg(format('<tr><td>%s</td><th scope="row">%s</th><td>%s</td><td>%s</td></tr>',
            smartbox.word_html(CASE s.severity WHEN 'error' THEN 'critical' ELSE 'medium' END, s.severity),
            smartbox.html_text(s.thing), smartbox.html_text(s.message), coalesce(smartbox.html_text(s.what_to_do), '')), '' ORDER BY s.severity, s.thing))
    FROM smartbox.status AS s
    WHERE s.severity <> 'ok'
    HAVING count(*) > 0
$$;

COMMENT ON FUNCTION smartbox.watch_html() IS 'what smartbox.status has to complain of, as a table to unfold; unfolded when it is more than a warning, NULL when there is nothing';

CREATE FUNCTION smartbox.report_style() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT $css$
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1b1f24; --quiet: #57606a; --line: #d8dee4; --link: #0550ae;
  --value: #0b57a4; --band: #d3e4f6; --expected: #57606a; --span: #fbe3d6; --outside: #c0262d;
  --critical: #a8071a; --high: #b33c00; --medium: #7d5700; --low: #3d5a80; --ok: #116329; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1216; --card: #171b21; --text: #e6e9ed; --quiet: #9aa5b1; --line: #303842;
  --link: #79b8ff; --value: #79b8ff; --band: #1f3550; --expected: #9aa5b1; --span: #43261c; --outside: #ff7b72;
  --critical: #ff7b72; --high: #ffa657; --medium: #e3b341; --low: #a5c3e8; --ok: #6fdd8b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 1.25rem; }
footer { padding-bottom: 2rem; }
h1, h3, p, dd, li, summary { overflow-wrap: anywhere; }
h1 { font-size: 1.15rem; font-weight: 600; margin: 0; color: var(--quiet); }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 0; }
h4 { font-size: .9rem; margin: 0 0 .25rem; }
p { margin: .4rem 0; max-width: 52rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99em; }
.skip:focus { left: 1rem; top: .5rem; }
.verdict { font-size: 1.6rem; line-height: 1.25; font-weight: 600; margin: .2rem 0; }
.note, footer, caption, figcaption { color: var(--quiet); font-size: .85rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .6rem 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-top: 1px solid var(--line); font-size: .9rem; }
thead th { border-top: 0; color: var(--quiet); font-weight: 500; font-size: .8rem; vertical-align: bottom; }
tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 6rem; }
.n { text-align: right; white-space: nowrap; }
time { white-space: nowrap; }
.scroll { overflow-x: auto; }
.card, article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; }
article { border-left: 4px solid var(--low); margin: 0 0 1rem; }
article.critical { border-left-color: var(--critical); }
article.high { border-left-color: var(--high); }
article.medium { border-left-color: var(--medium); }
.word { font-weight: 600; font-size: .85rem; color: var(--quiet); white-space: nowrap; }
.word::before { content: ""; display: inline-block; width: .6em; height: .6em; border-radius: 50%; background: currentColor; margin-right: .4em; }
.state::before { display: none; }
.state { font-weight: 400; border: 1px solid var(--line); border-radius: 1em; padding: 0 .6em; }
.critical.word { color: var(--critical); }
.high.word, .silent.word { color: var(--high); }
.medium.word, .not-judged.word { color: var(--medium); }
.low.word, .suspected.word { color: var(--low); }
.ok.word { color: var(--ok); }
.words { margin: .15rem 0 .5rem; }
.lead { font-size: 1.05rem; }
.lead::first-letter { text-transform: uppercase; }
.narrow { max-width: 60rem; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; margin: .7rem 0; }
dt { color: var(--quiet); font-size: .8rem; }
dd { margin: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: .6rem 1.5rem; margin: .8rem 0; }
figure { margin: 0; min-width: 0; display: flex; flex-direction: column; justify-content: flex-end; }
figcaption b { color: var(--text); font-size: .9rem; }
.plot { position: relative; height: 9.5rem; margin: .7rem .8rem 1.5rem 5rem; }
.plot svg { position: absolute; width: 100%; height: 100%; overflow: visible; }
.x, .y { position: absolute; font-size: .75rem; line-height: 1; color: var(--quiet); white-space: nowrap; font-variant-numeric: tabular-nums; }
.y { right: calc(100% + .5rem); transform: translateY(-50%); }
.x { top: calc(100% + .45rem); transform: translateX(-50%); }
path { fill: none; vector-effect: non-scaling-stroke; stroke-linecap: round; stroke-linejoin: round; }
.grid { stroke: var(--line); stroke-width: 1; }
.band { fill: var(--band); }
.span { fill: var(--span); }
.expected { stroke: var(--expected); stroke-width: 1; stroke-dasharray: 3 3; }
.value { stroke: var(--value); stroke-width: 1.6; }
.outside { stroke: var(--outside); stroke-width: 5; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .5rem 2rem; margin: .8rem 0; }
.columns ol, .columns ul { margin: 0; padding-left: 1.3rem; }
.bar { display: inline-block; height: .6em; background: var(--outside); border-radius: 2px; }
tr.out th, td.out .now { color: var(--outside); font-weight: 600; }
td.out .value { stroke: var(--outside); }
.spark { display: inline-block; width: 5rem; height: 1.4rem; margin-right: .5rem; vertical-align: middle; }
.fleet td { white-space: nowrap; }
.spark .value { stroke-width: 1.2; }
.now { font-size: .8rem; color: var(--quiet); white-space: nowrap; }
details { margin: .6rem 0 0; }
summary { cursor: pointer; color: var(--link); font-size: .9rem; }
.key { display: inline-block; width: 1.4em; height: .7em; vertical-align: baseline; margin: 0 .3em 0 .8em; }
.key.band { background: var(--band); }
.key.span { background: var(--span); }
.key.line { height: 0; border-top: 2px solid var(--value); vertical-align: middle; }
.key.dashes { height: 0; border-top: 1px dashed var(--expected); vertical-align: middle; }
.key.dot { width: .5em; height: .5em; border-radius: 50%; background: var(--outside); }
@media (max-width: 40rem) {
  header, main, footer { padding-left: .8rem; padding-right: .8rem; }
  .card, article { padding: .7rem .8rem; }
  .verdict { font-size: 1.3rem; }
  .fleet thead { position: absolute; left: -99em; }
  .fleet, .fleet tbody { display: block; }
  .fleet tr { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; border-top: 1px solid var(--line); padding: .5rem 0; }
  .fleet tr:first-child { border-top: 0; }
  .fleet th, .fleet td { border: 0; padding: .1rem 0; }
  .fleet td:nth-child(2) { text-align: right; }
  .fleet td[data-metric]::before { content: attr(data-metric); display: block; font-size: .7rem; color: var(--quiet); }
  .spark { width: 55%; }
  .lines thead { position: absolute; left: -99em; }
  .lines, .lines tbody, .lines caption { display: block; }
  .lines tr { display: flex; flex-wrap: wrap; gap: 0 .9rem; border-top: 1px solid var(--line); padding: .4rem 0; }
  .lines tr:first-child { border-top: 0; }
  .lines th, .lines td { border: 0; padding: 0; min-width: 0; }
  .lines td:empty { display: none; }
  .lines .cause::before { content: "cause: "; color: var(--quiet); }
}
@media print { body { background: none; } article, .card { break-inside: avoid; } }
$css$
$$;

COMMENT ON FUNCTION smartbox.report_style() IS 'the style sheet of incident_report(): light and dark, wide and narrow';

-- ---------------------------------------------------------------------------
-- The page
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.page_html(title text, verdict text, note text, body text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat('<!DOCTYPE html>', E'\n', '<html lang="en"><head><meta charset="utf-8"><title>', smartbox.html_text(title), '</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''; img-src data:; base-uri ''none''; form-action ''none''">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,"><style>', smartbox.report_style(), '</style></head>', E'\n',
        '<body><a class="skip" href="#content">To the content</a><header><h1>', smartbox.html_text(title), '</h1><p class="verdict">', verdict,
        '</p><p class="note">', note, '</p></header>', E'\n', '<main id="content">', body, '</main>', E'\n',
        '<footer><h2>How to read the charts</h2><p><span class="key line"></span>the value, <span class="key dashes"></span>what was expected,'
        ' <span class="key band"></span>what is usual (three standard deviations), <span class="key dot"></span>a value outside it,'
        ' <span class="key span"></span>the incident. Lines break where there was no value. What is expected is what the models that are active now say of'
        ' that time; tables have what was said when it was detected.</p></footer></body></html>', E'\n')
$$;

COMMENT ON FUNCTION smartbox.page_html(text, text, text, text) IS 'a whole page around a body of HTML; verdict and note are HTML too';

CREATE FUNCTION @extschema@.incident_report(service text DEFAULT NULL, incident_id text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_service CONSTANT text := incident_report.service;
    only_id CONSTANT text := incident_report.incident_id;
    articles_limit CONSTANT integer := 20;
    lines_limit CONSTANT integer := 100;
    data_until CONSTANT timestamptz := (SELECT max(s.ts) FROM smartbox.samples AS s);
    one smartbox.incidents;
    active smartbox.incidents[];
    over smartbox.incidents[];
    on_page text[];
    fleet text[];
    n_open integer;
    n_suspected integer;
    title text := coalesce('Incidents of ' || of_service, 'Incidents');
    note text := format('Database %s, made %s (%s), samples up to %s', smartbox.html_text(current_database()), smartbox.time_html(now()),
        smartbox.html_text(current_setting('TimeZone')), coalesce(smartbox.time_html(data_until), 'never'));
    body text;
BEGIN
    IF of_service IS NOT NULL THEN
        PERFORM smartbox.service_time_period(of_service, now());    -- complains of an unknown one
    END IF;
    IF only_id IS NOT NULL THEN
        SELECT i.* INTO one
        FROM smartbox.incidents AS i
        WHERE i.incident_id = only_id AND i.service = coalesce(of_service, i.service)
        ORDER BY i.status, i.service
        LIMIT 1;
        IF one.incident_id IS NULL THEN
            PERFORM smartbox.refuse_unknown_incident(only_id);
        END IF;
        RETURN smartbox.page_html('Incident of ' || one.service,
            format('<bdi>%s</bdi>: %s', smartbox.html_text(one.service), smartbox.html_text(replace(coalesce(one.pattern, one.anomaly_name), '_', ' '))),
            note, '<section aria-labelledby="detail"><h2 id="detail">In detail</h2>' || smartbox.incident_html(one, data_until, '{}') || '</section>');
    END IF;

    SELECT array_agg(i ORDER BY i.confirmed_at IS NULL, i.severity DESC, i.root_incident_id IS NOT NULL, i.first_seen DESC, i.incident_id),
        count(*) FILTER (WHERE i.confirmed_at IS NOT NULL), count(*) FILTER (WHERE i.confirmed_at IS NULL)
    INTO active, n_open, n_suspected
    FROM smartbox.incidents AS i
    WHERE i.status <> 'CLOSED' AND i.service = coalesce(of_service, i.service);
    on_page := ARRAY(SELECT a.incident_id FROM unnest(active[1:articles_limit]) AS a);

    body := coalesce(format('<nav aria-label="On this page"><ul><li><a href="#now">Now</a></li>%s%s<li><a href="#over">Over</a></li></ul></nav>',
        CASE WHEN of_service IS NULL THEN '<li><a href="#services">Services</a></li>' ELSE '<li><a href="#day">The last 24 hours</a></li>' END,
        CASE WHEN active IS NULL THEN '' ELSE '<li><a href="#incidents">In detail</a></li>' END), '')
        || '<section aria-labelledby="now"><h2 id="now">Now</h2>'
        || coalesce('<div class="card">' || smartbox.incidents_html(active[1:lines_limit], 'Incidents that are not over', on_page)
            || CASE WHEN n_open + n_suspected > lines_limit THEN format('<p class="note">and %s more</p>', n_open + n_suspected - lines_limit) ELSE '' END
            || '</div>', '<p>No incident is open.</p>')
        || CASE WHEN of_service IS NULL THEN coalesce(smartbox.watch_html(), '') ELSE '' END
        || '</section>' || E'\n';

    IF of_service IS NULL THEN
        SELECT array_agg(h.service ORDER BY h.status_rank, h.service COLLATE "C") INTO fleet FROM smartbox.service_health AS h;
        body := body || '<section aria-labelledby="services"><h2 id="services">Services, the last 24 hours</h2>'
            || coalesce('<div class="card">' || smartbox.fleet_html(fleet[1:lines_limit], data_until)
                || CASE WHEN array_length(fleet, 1) > lines_limit THEN format('<p class="note">and %s more, none of them worse</p>',
                    array_length(fleet, 1) - lines_limit) ELSE '' END || '</div>', '<p>No service is watched.</p>')
            || '</section>' || E'\n';
    ELSE
        body := body || '<section aria-labelledby="day"><h2 id="day">The last 24 hours</h2>'
            || coalesce('<div class="card charts">' || smartbox.charts_html(of_service, data_until - interval '24 hours', data_until,
                    ARRAY(SELECT m.metric FROM smartbox.metrics AS m WHERE m.enabled ORDER BY m.position LIMIT 12),
                    ARRAY(SELECT tstzrange(i.first_seen, coalesce(i.resolved_at, i.last_seen), '[]') FROM smartbox.incidents AS i
                        WHERE i.service = of_service AND i.last_seen > data_until - interval '24 hours' AND i.confirmed_at IS NOT NULL), 'day-')
                || '</div>', '<p>There are no samples.</p>') || '</section>' || E'\n';
    END IF;

    body := body || coalesce('<section aria-labelledby="incidents"><h2 id="incidents">In detail</h2>'
        || (SELECT string_agg(smartbox.incident_html(a, data_until, on_page), E'\n' ORDER BY array_position(on_page, a.incident_id))
            FROM unnest(active[1:articles_limit]) AS a)
        || CASE WHEN n_open + n_suspected > articles_limit THEN format(
            '<p class="note">The worst %s of %s; <code>SELECT incident_report(incident_id =&gt; ''incident_...'')</code> shows another one.</p>',
            articles_limit, n_open + n_suspected) ELSE '' END
        || '</section>' || E'\n', '');

    over := ARRAY(SELECT i FROM smartbox.incidents AS i
        WHERE i.status = 'CLOSED' AND i.confirmed_at IS NOT NULL AND i.service = coalesce(of_service, i.service)
            AND i.resolved_at > data_until - CASE WHEN of_service IS NULL THEN interval '24 hours' ELSE interval '30 days' END
        ORDER BY i.resolved_at DESC, i.service, i.incident_id LIMIT lines_limit);
    body := body || format('<section aria-labelledby="over"><h2 id="over">Over in the last %s</h2>',
            CASE WHEN of_service IS NULL THEN '24 hours' ELSE '30 days' END)
        || coalesce('<div class="card">' || smartbox.incidents_html(over, 'Confirmed incidents, the last one first', '{}') || '</div>',
            '<p>None.</p>') || '</section>';
    RETURN smartbox.page_html(title,
        CASE WHEN n_open > 0 THEN format('%s open incident%s', n_open, CASE WHEN n_open = 1 THEN '' ELSE 's' END)
            ELSE 'No open incident' END
        || CASE WHEN n_suspected > 0 THEN format(', %s suspected', n_suspected) ELSE '' END, note, body);
END
$$;

COMMENT ON FUNCTION @extschema@.incident_report(text, text) IS
'one page of HTML that needs nothing else: what is wrong now, the services over the last 24 hours, each
incident with its metrics against what was expected, what to do and its events, and what is over; of all
services, of one, or one incident alone. The 20 worst incidents are shown in detail, 100 in lists. Times are
on the clock of the session. Writes nothing';
