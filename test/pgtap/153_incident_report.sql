-- incident_report() and service_sparkline(): what they show, and that whatever
-- they show is text.  How a browser takes it is test/t/090_incident_report.t.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(85);
SET LOCAL TimeZone = 'UTC';

-- Values as people read them
SELECT is(smartbox.value_text(v, u, k), t, format('%s %s is shown as %s', v, u, t))
FROM (VALUES (0.0302::float8, 'ratio', 'ratio', '3.02 %'), (171.77, 'ms', 'latency', '172 ms'), (0, 'ms', 'latency', '0 ms'),
    (1234567, 'req/s', 'rate', '1234567 req/s'), (0.00123, '', 'rate', '0.00123'), (-2.5, 'ms', 'latency', '-2.5 ms'),
    (NULL, 'ms', 'latency', 'unknown'), (1e-9, 'ms', 'latency', '1e-09 ms')) AS x(v, u, k, t);
SELECT is(smartbox.duration_text(s::interval), t, format('%s is shown as %s', s, t))
FROM (VALUES ('45 min', '45 min'), ('3 h 20 min', '3 h 20 min'), ('0', '0 min'), ('2 d 4 h', '2 d 4 h'), ('3 h', '3 h'), ('14 d', '14 d')) AS x(s, t);
SELECT is(smartbox.html_text(E'<a href="x">\'&\' \u202e\u00e9\x01'), '&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39; &#65533;&#233;&#65533;', 'text is text');
SELECT is(smartbox.html_text(''), '', 'nothing stays nothing');

-- Lines and areas
SELECT is(smartbox.sparkline(p), t, format('%s as blocks', p::text))
FROM (VALUES ('{1,2,3,4,5,6,7,8}'::float8[], U&'\2581\2582\2583\2584\2585\2586\2587\2588'), ('{0,NULL,10}', U&'\2581 \2588'),
    ('{5,5,5}', U&'\2584\2584\2584'), ('{NULL,NULL}', NULL), ('{}', NULL), ('{0,1e308,-1e308}', U&'\2585\2588\2581')) AS x(p, t);
SELECT is(smartbox.line_path('{0,10,20,30,70}', '{1,2,NULL,4,5}', 20), 'M0 1L10 2h0M30 4h0M70 5h0', 'a line breaks at a gap and at a missing value');
SELECT is(smartbox.line_path('{0,10}', '{NULL,NULL}', 20), NULL, 'a line of nothing');
SELECT is(smartbox.band_path('{0,10,20,30,70}', '{1,2,NULL,4,5}', '{6,7,8,9,10}', 20), 'M0 6L10 7L10 2L0 1ZM30 9L30 4ZM70 10L70 5Z', 'so does an area');
SELECT is(smartbox.nice_step(t, 4), s::float8, format('an axis to %s has steps of %s', t, s))
FROM (VALUES (100, 50), (30, 10), (8, 2), (0.004, 0.001), (7.9, 2), (90, 50)) AS x(t, s);
SELECT is(smartbox.time_step(s::interval), t::interval, format('%s is marked each %s', s, t))
FROM (VALUES ('1 h', '10 min'), ('5 h', '1 h'), ('24 h', '6 h'), ('14 d', '7 d'), ('365 d', '61 d')) AS x(s, t);

-- Nothing to tell
CREATE FUNCTION shows(page text, part text, what text) RETURNS text LANGUAGE sql AS $$ SELECT ok(position(part IN page) > 0, what) $$;
CREATE FUNCTION lacks(page text, part text, what text) RETURNS text LANGUAGE sql AS $$ SELECT ok(position(part IN page) = 0, what) $$;
SELECT shows(incident_report(), 'No service is watched.', 'without services it says so');

INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'UTC'), ('search', 'UTC'), (E'<script>alert("x")</script>\u202e', 'UTC');
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT s, t, ARRAY[50 + 10 * sin(extract(epoch FROM t) / 13750), CASE WHEN s = 'booking' AND t > '2024-01-15 11:30+00' THEN 900 ELSE 100 END
        + 3 * sin(extract(epoch FROM t) / 700), NULL, 8 + 0.3 * sin(extract(epoch FROM t) / 900), 0.002]
FROM unnest(ARRAY['booking', 'search']) AS s, generate_series('2024-01-05 00:00+00'::timestamptz, '2024-01-15 12:00+00', '5 min') AS t
WHERE NOT (s = 'search' AND t > '2024-01-15 02:00+00' AND t <= '2024-01-15 04:00+00');
SELECT count(*) AS trained FROM train_models(ARRAY['booking', 'search']) \gset
SELECT lacks(incident_report(), '<article', 'nothing is wrong: nothing in detail');
SELECT shows(incident_report(), '<p class="verdict">No open incident</p>', 'and that is what it says');
SELECT shows(incident_report(), '>booking</bdi></th>', 'services are listed');
SELECT shows(incident_report('booking'), '<b>application_latency</b>', 'a service has its charts');

-- One incident
CREATE TEMP TABLE found AS SELECT detect_anomalies('booking', t) AS payload
FROM generate_series('2024-01-15 11:00+00'::timestamptz, '2024-01-15 12:00+00', '5 min') AS t;
SELECT incident_id AS id FROM smartbox.active_incidents WHERE service = 'booking' \gset
CREATE TEMP TABLE page AS SELECT incident_report() AS fleet, incident_report('booking') AS service, incident_report(incident_id => :'id') AS one,
    incident_report('search') AS other;
SELECT shows(fleet, '<p class="verdict">1 open incident</p>', 'an incident is what is wrong now') FROM page;
SELECT shows(p, format('<article id="%s"', :'id'), 'told of in detail on the page of ' || w)
FROM page, LATERAL (VALUES (fleet, 'all'), (service, 'the service'), (one, 'the incident')) AS v(p, w);
SELECT lacks(other, '<article', 'and not on that of another service') FROM page;
SELECT shows(one, smartbox.html_text(a), 'what to do: ' || a)
FROM page, jsonb_array_elements_text((SELECT payload->'anomalies'->0->'recommended_actions'->0 FROM found ORDER BY payload->>'timestamp' DESC LIMIT 1)
    || (SELECT payload->'anomalies'->0->'description' FROM found ORDER BY payload->>'timestamp' DESC LIMIT 1)) AS a;
SELECT matches(one, '<th scope="row">application_latency</th><td class="n">\d+ ms</td><td class="n">\d+(\.\d+)? ms</td>', 'the metric beside what was expected') FROM page;
SELECT matches(one, '<path class="band" d="M[^"]+"/><path class="expected" d="M[^"]+"/><path class="value" d="M[^"]+"/><path class="outside" d="M', 'and its chart') FROM page;
SELECT matches(one, '<th scope="row">CONFIRM</th><td>open</td>', 'its events') FROM page;
SELECT is(count(*), (SELECT count(*) FROM page, regexp_matches(one, '<svg [^>]*role="img" aria-labelledby="[^"]+"><title', 'g')), 'each chart has a title')
FROM page, regexp_matches(one, '<div class="plot"', 'g');
SELECT lacks(fleet, '<script', 'a name that looks like a script does not become one') FROM page;
SELECT shows(fleet, '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&#65533;', 'it is shown') FROM page;
SELECT lacks(fleet || service || one, f, 'nothing is fetched: no ' || f)
FROM page, unnest(ARRAY['http://', 'https://', ' src=', '@import', 'url(']) AS f;
SELECT ok(fleet ~ '^[\x01-\x7f]*$', 'the page is ASCII, whatever it is sent as') FROM page;

-- Hostile texts, many incidents
INSERT INTO smartbox.detections (service, ts, is_anomaly, severity, payload)
SELECT 'search', '2024-01-15 11:00+00'::timestamptz + m * interval '5 min', true, 'high', jsonb_build_object('anomalies', (
    SELECT jsonb_agg(jsonb_build_object('name', format('n%s"onload="x', n), 'severity', 'high', 'description', '</svg><img src=x>',
        'recommended_actions', jsonb_build_array('<b>do</b>'), 'possible_causes', 'not an array', 'contributions', '{"</td>": 1}'::jsonb))
    FROM generate_series(1, 129) AS n))
FROM generate_series(1, 2) AS m;
UPDATE page SET fleet = incident_report();
SELECT lacks(fleet, f, 'never ' || f) FROM page, unnest(ARRAY['"onload=', '<img', '<b>do']) AS f;
SELECT shows(fleet, '130 open incidents', 'all are counted') FROM page;
SELECT is(count(*), 20::bigint, 'twenty are told of in detail') FROM page, regexp_matches(fleet, '<article ', 'g');
SELECT shows(fleet, 'and 30 more', 'a hundred are listed') FROM page;
SELECT cmp_ok(length(fleet), '<', 500000, 'the page stays small') FROM page;

-- What is over
SELECT close_incident(:'id', 'restarted <now>') IS NOT NULL AS closed \gset
SELECT matches(incident_report('booking'), 'Confirmed incidents, the last one first.*closed by person', 'a closed incident is over');
SELECT shows(incident_report(incident_id => :'id'), 'note: restarted &lt;now&gt;', 'its page tells what people said');
UPDATE smartbox.models SET model = set_byte(model, 200, 255 - get_byte(model, 200)), trained_at = trained_at + interval '1 s'
WHERE service = 'booking';
SELECT matches(incident_report(incident_id => :'id'), 'No charts: cannot use version 1 of the model.*<h4>What to do</h4>', 'it stands with a damaged model');
DELETE FROM smartbox.samples WHERE service = 'booking';
DELETE FROM smartbox.detections WHERE service = 'booking';
SELECT shows(incident_report(incident_id => :'id'), 'no samples of that time any more', 'and stands without samples and detections');

-- What is refused
SELECT throws_ok(format('SELECT incident_report(incident_id => %L)', 'incident_x'), 'P0002', 'incident "incident_x" is not known', 'an unknown incident');
SELECT throws_ok(format('SELECT incident_report(%L, %L)', 'search', :'id'), 'P0002', NULL, 'an incident of another service');
SELECT throws_ok($$ SELECT incident_report('bookin') $$, '42704', 'service "bookin" is not known', 'an unknown service');
SELECT throws_ok($$ SELECT service_sparkline('bookin', 'request_rate') $$, '42704', 'service "bookin" is not known', 'an unknown service');
SELECT throws_ok($$ SELECT service_sparkline('search', 'rate') $$, '42704', 'metric "rate" is not known', 'an unknown metric');
SELECT throws_ok($$ SELECT service_sparkline('search', 'request_rate', '-1 h') $$, '22023', NULL, 'a span that is none');
SELECT throws_ok($$ SELECT service_sparkline('search', 'request_rate', '1 h', 0) $$, '22023', NULL, 'no width');

-- In a terminal
SELECT is(length(service_sparkline('search', 'request_rate')), 48, 'a day is 48 blocks');
SELECT is(substr(service_sparkline('search', 'request_rate', until => '2024-01-15 12:00+00'), 28, 5) ~ '^[^ ]    $|^[^ ]{0,2} {3,4}[^ ]{0,2}$', true, 'a gap is blank');
SELECT is(length(service_sparkline('search', 'request_rate', '2 h')), 24, 'no more blocks than samples');
SELECT is(service_sparkline('booking', 'request_rate'), NULL, 'nothing of a service without samples');

-- As a reader
CREATE ROLE smartbox_test_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA smartbox TO smartbox_test_reader;
GRANT EXECUTE ON FUNCTION incident_report, expected_values, service_sparkline TO smartbox_test_reader;
SET LOCAL ROLE smartbox_test_reader;
SET LOCAL transaction_read_only = on;
SELECT shows(incident_report('search'), '129 open incidents', 'a reader has the page');
SELECT shows(incident_report(), 'open incidents', 'of all services');
SELECT is(length(service_sparkline('search', 'error_rate')), 48, 'and the lines');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
