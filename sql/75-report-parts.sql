-- What pages and terminals show a metric with: texts, lines of blocks, charts.
-- Nothing here reads a table but service_sparkline().

CREATE FUNCTION smartbox.html_text(of_text text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sba_html_text';

COMMENT ON FUNCTION smartbox.html_text(text) IS
    'a text as it can stand in HTML, between tags and in quoted attributes: ASCII, with references for what has a meaning there and for all other characters; controls, and what turns the direction of writing around, become U+FFFD';

CREATE FUNCTION smartbox.value_text(value double precision, unit text, kind text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    shown double precision := CASE kind WHEN 'ratio' THEN 100 * value ELSE value END;
BEGIN
    RETURN CASE
        WHEN shown IS NULL THEN 'unknown'
        WHEN abs(shown) BETWEEN 1e-4 AND 1e9
            THEN trim_scale(round(shown::numeric, greatest(0, 2 - floor(log(abs(shown)))::integer)))::text
        ELSE shown::text
    END || CASE WHEN shown IS NULL THEN '' WHEN kind = 'ratio' THEN ' %' WHEN unit <> '' THEN ' ' || unit ELSE '' END;
END
$$;

COMMENT ON FUNCTION smartbox.value_text(double precision, text, text) IS
    'a value of a metric as people read it: three digits and its unit, a ratio in percent';

CREATE FUNCTION smartbox.duration_text(of_span interval) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    minutes integer := round(extract(epoch FROM of_span) / 60);
BEGIN
    RETURN CASE
        WHEN minutes < 120 THEN format('%s min', minutes)
        WHEN minutes < 2880 THEN concat_ws(' ', minutes / 60 || ' h', nullif(minutes % 60, 0) || ' min')
        ELSE concat_ws(' ', minutes / 1440 || ' d', nullif(minutes % 1440 / 60, 0) || ' h')
    END;
END
$$;

COMMENT ON FUNCTION smartbox.duration_text(interval) IS 'a span of time as people read it, such as 45 min, 3 h 20 min, 2 d 4 h';

-- ---------------------------------------------------------------------------
-- Lines of a terminal
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.sparkline(points double precision[]) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH ends AS (
        SELECT min(p.point) AS lowest, max(p.point) AS highest FROM unnest(points) AS p(point)
    )
    SELECT string_agg(CASE
            WHEN p.point IS NULL THEN ' '
            WHEN getdatabaseencoding() = 'UTF8' THEN chr(9601 + l.level)
            ELSE substr('_.-~=+*#', l.level + 1, 1)
        END, '' ORDER BY p.place)
    FROM ends AS e
        CROSS JOIN unnest(points) WITH ORDINALITY AS p(point, place)
        CROSS JOIN LATERAL (
            -- halves, since the difference of two large numbers may be none
            SELECT CASE WHEN e.highest > e.lowest
                THEN least(7, floor(8 * ((p.point / 2 - e.lowest / 2) / (e.highest / 2 - e.lowest / 2))))::integer ELSE 3 END AS level
        ) AS l
    WHERE e.highest IS NOT NULL
$$;

COMMENT ON FUNCTION smartbox.sparkline(double precision[]) IS
    'numbers as a line of Unicode blocks, the lowest one a low block and the highest a full one; a blank for NULL, and NULL when there is no number; _.-~=+*# in a database that is not in UTF8';

CREATE FUNCTION @extschema@.service_sparkline(
    service text, metric text, span interval DEFAULT '24 hours', width integer DEFAULT 48, until timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked CONSTANT text := service_sparkline.metric;
    ends_at timestamptz := service_sparkline.until;
    shown smartbox.metrics;
    columns integer;
BEGIN
    PERFORM smartbox.service_time_period(service_sparkline.service, now());    -- complains of an unknown one
    IF span <= '0' OR span > '10 years' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'span must be positive and at most 10 years';
    END IF;
    IF width < 1 OR width > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'width must be between 1 and 1000';
    END IF;
    SELECT m.* INTO shown FROM smartbox.metrics AS m WHERE m.metric = asked;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('metric "%s" is not known', asked),
            HINT = (SELECT 'There are: ' || string_agg(m.metric, ', ' ORDER BY m.position) || '.' FROM smartbox.metrics AS m);
    END IF;
    IF ends_at IS NULL THEN
        SELECT max(s.ts) INTO ends_at FROM smartbox.samples AS s;
    END IF;
    -- a column narrower than the samples' distance would look like a gap
    columns := least(width, ceil(extract(epoch FROM span) / extract(epoch FROM smartbox.sample_interval())));
    RETURN (
        WITH bucket AS (
            SELECT ceil(extract(epoch FROM s.ts - (ends_at - span)) * columns / extract(epoch FROM span))::integer AS number,
                avg(s.metric_values[shown.position]) AS value
            FROM smartbox.samples AS s
            WHERE s.service = service_sparkline.service AND s.ts > ends_at - span AND s.ts <= ends_at
                AND s.metric_values[shown.position] BETWEEN shown.valid_min AND shown.valid_max
                AND NOT (shown.zero_is_normal AND s.metric_values[shown.position] = 0)
            GROUP BY 1
        )
        SELECT smartbox.sparkline(array_agg(b.value ORDER BY n.number))
        FROM generate_series(1, columns) AS n(number)
            LEFT JOIN bucket AS b ON b.number = n.number);
END
$$;

COMMENT ON FUNCTION @extschema@.service_sparkline(text, text, interval, integer, timestamptz) IS
'the course of a service''s metric as a line of blocks for psql: the last 24 hours, or another span, up to the
newest sample of any service or the instant until; a blank where there was no value, NULL when there was none
at all; as many blocks as width, or fewer where samples are farther apart';

-- ---------------------------------------------------------------------------
-- Charts
-- ---------------------------------------------------------------------------

CREATE FUNCTION smartbox.line_path(x double precision[], y double precision[], largest_step double precision) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    path text := '';
    last_x double precision;
BEGIN
    FOR i IN 1 .. coalesce(array_length(x, 1), 0) LOOP
        CONTINUE WHEN y[i] IS NULL;
        -- a point of its own is a line without length, which has round ends
        path := path || CASE WHEN i > 1 AND y[i - 1] IS NOT NULL AND x[i] - last_x <= largest_step THEN 'L' ELSE 'h0M' END
            || round(x[i]) || ' ' || round(y[i]);
        last_x := x[i];
    END LOOP;
    RETURN nullif(substr(path, 3) || CASE WHEN path <> '' THEN 'h0' ELSE '' END, '');
END
$$;

COMMENT ON FUNCTION smartbox.line_path(double precision[], double precision[], double precision) IS
    'points as the path of an SVG, broken where y is NULL or two points are farther apart than largest_step; NULL without any';

CREATE FUNCTION smartbox.band_path(x double precision[], lower double precision[], upper double precision[], largest_step double precision)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    path text := '';
    there text := '';
    back text := '';
BEGIN
    FOR i IN 1 .. coalesce(array_length(x, 1), 0) LOOP
        IF there <> '' AND (lower[i] IS NULL OR upper[i] IS NULL OR x[i] - x[i - 1] > largest_step) THEN
            path := path || 'M' || substr(there, 2) || back || 'Z';
            there := '';
            back := '';
        END IF;
        IF lower[i] IS NOT NULL AND upper[i] IS NOT NULL THEN
            there := there || 'L' || round(x[i]) || ' ' || round(upper[i]);
            back := 'L' || round(x[i]) || ' ' || round(lower[i]) || back;
        END IF;
    END LOOP;
    RETURN nullif(path || CASE WHEN there <> '' THEN 'M' || substr(there, 2) || back || 'Z' ELSE '' END, '');
END
$$;

COMMENT ON FUNCTION smartbox.band_path(double precision[], double precision[], double precision[], double precision) IS
    'the area between two lines as the path of an SVG, broken as in line_path()';

CREATE FUNCTION smartbox.nice_step(top double precision, steps integer) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    decade double precision := power(10.0, floor(log(top / steps)));
BEGIN
    RETURN decade * CASE WHEN top / steps <= decade THEN 1 WHEN top / steps <= 2 * decade THEN 2
        WHEN top / steps <= 5 * decade THEN 5 ELSE 10 END;
END
$$;

COMMENT ON FUNCTION smartbox.nice_step(double precision, integer) IS
    'the distance of the lines of an axis from 0 to top: 1, 2 or 5 times a power of ten, no more than so many steps';

CREATE FUNCTION smartbox.time_step(of_span interval) RETURNS interval
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(min(s.step) FILTER (WHERE of_span <= 6 * s.step), make_interval(days => ceil(extract(epoch FROM of_span) / 518400)::integer))
    FROM unnest('{10 min,30 min,1 h,2 h,3 h,6 h,12 h,24 h,48 h,168 h}'::interval[]) AS s(step)
$$;

COMMENT ON FUNCTION smartbox.time_step(interval) IS 'the distance of the marks of an axis of time: no more than six steps';

-- Shapes stretch with the page, texts do not: so they stand beside the SVG.
CREATE FUNCTION smartbox.metric_chart(
    chart_id text, title text, description text, unit text, kind text, since timestamptz, until timestamptz,
    at timestamptz[], value double precision[], expected double precision[], lower double precision[],
    upper double precision[], largest_gap interval, spans tstzrange[])
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    width CONSTANT double precision := extract(epoch FROM until - since);
    largest_step CONSTANT double precision := 1000 * extract(epoch FROM largest_gap) / width;
    highest CONSTANT double precision := greatest((SELECT max(v) FROM unnest(value || upper) AS v), 1e-9);
    step CONSTANT double precision := smartbox.nice_step(highest, 4);
    top CONSTANT double precision := step * ceil(highest / step);
    mark CONSTANT interval := smartbox.time_step(until - since);
    mark_s CONSTANT double precision := extract(epoch FROM mark);
    -- marks are at round times of the clocks on the wall
    first_mark CONSTANT timestamp := to_timestamp(ceil(extract(epoch FROM since AT TIME ZONE current_setting('TimeZone')) / mark_s) * mark_s)
        AT TIME ZONE 'UTC';
    x double precision[];
    shapes text := '';
    labels text := '';
    places double precision[];
BEGIN
    x := ARRAY(SELECT 1000 * extract(epoch FROM t.ts - since) / width FROM unnest(at) WITH ORDINALITY AS t(ts, n) ORDER BY t.n);
    SELECT coalesce(string_agg(format('<rect class="span" x="%s" y="0" width="%s" height="300"/>', round(b.begins),
            greatest(round(b.ends - b.begins), 2)), ''), '') INTO shapes
    FROM unnest(spans) AS s(span)
        CROSS JOIN LATERAL (SELECT 1000 * extract(epoch FROM greatest(lower(s.span), since) - since) / width AS begins,
            1000 * extract(epoch FROM least(upper(s.span), until) - since) / width AS ends) AS b
    WHERE s.span && tstzrange(since, until, '[]');
    SELECT shapes || format('<path class="grid" d="%s"/>', string_agg('M0 ' || round(300 * (1 - l.level / top)) || 'H1000', '')),
        string_agg(format('<span class="y" style="top:%s%%">%s</span>', round(100 * (1 - l.level / top)),
            smartbox.html_text(smartbox.value_text(l.level, unit, kind))), '')
    INTO shapes, labels
    FROM (SELECT n * step AS level FROM generate_series(0, round(top / step)::integer) AS n) AS l;
    SELECT labels || coalesce(string_agg(format('<span class="x" style="left:%s%%">%s</span>',
            round((100 * extract(epoch FROM m.ts - since) / width)::numeric, 1),
            to_char(m.ts, CASE WHEN to_char(m.ts, 'HH24:MI') = '00:00' THEN 'DD Mon' ELSE 'HH24:MI' END)), ''), '')
    INTO labels
    FROM (SELECT g.ts AT TIME ZONE current_setting('TimeZone') AS ts
        FROM generate_series(first_mark, first_mark + (until - since), mark) AS g(ts)) AS m
    WHERE m.ts BETWEEN since AND until;
    shapes := shapes || coalesce(format('<path class="band" d="%s"/>', smartbox.band_path(x,
            ARRAY(SELECT 300 * (1 - v / top) FROM unnest(lower) WITH ORDINALITY AS u(v, n) ORDER BY n),
            ARRAY(SELECT 300 * (1 - v / top) FROM unnest(upper) WITH ORDINALITY AS u(v, n) ORDER BY n), largest_step)), '');
    places := ARRAY(SELECT 300 * (1 - v / top) FROM unnest(expected) WITH ORDINALITY AS u(v, n) ORDER BY n);
    shapes := shapes || coalesce('<path class="expected" d="' || smartbox.line_path(x, places, largest_step) || '"/>', '');
    places := ARRAY(SELECT 300 * (1 - v / top) FROM unnest(value) WITH ORDINALITY AS u(v, n) ORDER BY n);
    shapes := shapes || coalesce('<path class="value" d="' || smartbox.line_path(x, places, largest_step) || '"/>', '');
    SELECT shapes || coalesce('<path class="outside" d="' || string_agg('M' || round(x[o.n]) || ' ' || round(places[o.n]) || 'h0', '') || '"/>', '')
    INTO shapes
    FROM unnest(value, lower, upper) WITH ORDINALITY AS o(v, l, u, n)
    WHERE o.v < o.l OR o.v > o.u;
    RETURN format('<div class="plot"><svg viewBox="0 0 1000 300" preserveAspectRatio="none" role="img" aria-labelledby="%1$s-t %1$s-d">'
        '<title id="%1$s-t">%2$s</title><desc id="%1$s-d">%3$s</desc>%4$s</svg><div aria-hidden="true">%5$s</div></div>',
        smartbox.html_text(chart_id), smartbox.html_text(title), smartbox.html_text(description), shapes, labels);
END
$$;

COMMENT ON FUNCTION smartbox.metric_chart(text, text, text, text, text, timestamptz, timestamptz, timestamptz[], double precision[], double precision[], double precision[], double precision[], interval, tstzrange[]) IS
'a metric from since to until as SVG with its scales beside it: what was usual as a band, what was expected as
a dashed line, the values as a line with a dot for each outside the band, and spans shaded; lines break where
the next point is later than largest_gap';

CREATE FUNCTION smartbox.sparkline_svg(points double precision[], title text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lowest double precision := (SELECT min(p) FROM unnest(points) AS p);
    half_height double precision := (SELECT max(p) FROM unnest(points) AS p) / 2 - lowest / 2;
BEGIN
    RETURN format('<svg class="spark" viewBox="0 0 %s 24" preserveAspectRatio="none" role="img"><title>%s</title><path class="value" d="%s"/></svg>',
        greatest(array_length(points, 1), 2), smartbox.html_text(title), smartbox.line_path(
            ARRAY(SELECT n FROM generate_subscripts(points, 1) AS n),
            ARRAY(SELECT CASE WHEN half_height > 0 THEN 22 - 20 * ((p / 2 - lowest / 2) / half_height) WHEN p IS NOT NULL THEN 12 END
                FROM unnest(points) WITH ORDINALITY AS u(p, n) ORDER BY n), 1));
END
$$;

COMMENT ON FUNCTION smartbox.sparkline_svg(double precision[], text) IS
    'numbers as a small line in SVG, from the lowest to the highest, with gaps for NULL';
