-- What the models of a service are learnt from, and what their cards say of it.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(26);
SET LOCAL TimeZone = 'UTC';

INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'UTC'), ('young', 'UTC'), ('new', 'UTC'), ('holidays', 'UTC');

-- Four weeks from a Monday on, with a deployment in the last one, errors in an
-- incident, and nonsense in a maintenance; no random numbers are needed.
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', ts, ARRAY[
    rate * (1 + 0.05 * sin(7.1 * n)),
    CASE WHEN ts >= '2024-01-22 12:00+00' THEN 160 ELSE 80 END * (1 + 0.05 * sin(3.3 * n)),
    NULL, NULL,
    CASE WHEN ts BETWEEN '2024-01-17 10:00+00' AND '2024-01-17 11:00+00' THEN 0.4
         WHEN ts > '2024-01-18 10:00+00' AND ts <= '2024-01-18 12:00+00' THEN 0.9
         ELSE 0.003 + 0.0005 * sin(5.7 * n) END]
FROM (SELECT n, '2024-01-01 00:00+00'::timestamptz + n * interval '5 min' AS ts,
             40 * (1.2 + sin(2 * pi() * ((n % 288) / 288.0 - 0.33))) AS rate
      FROM generate_series(1, 28 * 288) AS n) AS s;
DELETE FROM smartbox.samples WHERE service = 'booking' AND ts > '2024-01-10 12:00+00' AND ts <= '2024-01-10 15:00+00';
INSERT INTO smartbox.incidents (service, incident_id, fingerprint_id, anomaly_name, status, severity, first_seen, last_seen,
    last_evaluated, confirmed_at, resolved_at, resolution_reason) VALUES
    ('booking', 'incident_000000000001', 'anomaly_000000000001', 'errors', 'CLOSED', 'high', '2024-01-17 10:00+00',
     '2024-01-17 11:00+00', '2024-01-17 11:15+00', '2024-01-17 10:05+00', '2024-01-17 11:15+00', 'resolved'),
    ('booking', 'incident_000000000002', 'anomaly_000000000002', 'a wobble', 'CLOSED', 'low', '2024-01-16 10:00+00',
     '2024-01-16 10:00+00', '2024-01-16 10:15+00', NULL, '2024-01-16 10:15+00', 'suspected_expired');
INSERT INTO smartbox.calendar (service, kind, starts_at, ends_at) VALUES
    ('booking', 'maintenance', '2024-01-18 10:00', '2024-01-18 12:00'), ('*', 'busy', '2024-01-09 10:00', '2024-01-09 11:00');

SELECT set_eq($$ SELECT period, status FROM train_models(ARRAY['booking']) $$,
    $$ VALUES ('business_hours', 'accepted'), ('evening_hours', 'accepted'), ('night_hours', 'accepted'),
              ('weekend_day', 'accepted'), ('weekend_night', 'accepted') $$, 'five models are accepted');
CREATE TEMP VIEW card AS SELECT m.*, m.card -> 'left_out' AS left_out FROM smartbox.models AS m
    WHERE service = 'booking' AND time_period = 'business_hours' AND is_active;
SELECT is((SELECT left_out ->> 'incident' FROM card), '19', 'the incident: two samples before it, one after its end');
SELECT is((SELECT left_out ->> 'maintenance' FROM card), '24', 'the maintenance');
SELECT is((SELECT left_out ->> 'busy' FROM card), '12', 'the busy hour');
SELECT is((SELECT card ->> 'level_changes' FROM card), '1', 'the deployment');
SELECT is((SELECT card ->> 'last_level_change' FROM card), '2024-01-22T12:00:00+00:00', 'when it was');
SELECT ok((SELECT (left_out ->> 'change_of_level')::int > 50 FROM card), 'the hours after it');
SELECT is((SELECT samples + (left_out ->> 'incident')::int + (left_out ->> 'maintenance')::int + (left_out ->> 'busy')::int
               + (left_out ->> 'change_of_level')::int FROM card), 20 * 120 - 36, 'all that there are');
SELECT is((SELECT card -> 'gaps' FROM card), '{"count": 1, "longest_minutes": 185}', 'the gap');
SELECT is((SELECT card ->> 'based_on' FROM card), 'own samples', 'what it is based on');
SELECT ok((SELECT (card #>> '{metrics,application_latency,upper_threshold_sigma}')::float8 BETWEEN 1 AND 20 FROM card), 'thresholds');
SELECT ok((SELECT (card #>> '{metrics,error_rate,mad}')::float8 BETWEEN 0.0002 AND 0.0006 FROM card), 'robust statistics');
SELECT ok((SELECT abs((card #>> '{correlation,request_rate,application_latency}')::float8) < 0.2 FROM card), 'correlation of what is independent');
SELECT is((SELECT card #>> '{correlation,request_rate,database_latency}' FROM card), NULL, 'none with what is not there');
SELECT ok((SELECT seed IS NOT NULL AND feature_set IS NOT NULL AND duration_ms > 0 AND octet_length(model) < 200000 FROM card), 'and columns');
SELECT set_eq($$ SELECT time_period FROM smartbox.models WHERE service = 'booking' AND is_active AND card ? 'drift_baseline' $$,
    ARRAY['evening_hours'], 'a drift baseline where there are stretches enough since the deployment: two a day make nine');
SELECT is((detect_anomalies('booking', '2024-01-28 23:00+00')) ->> 'alert_type', 'no_anomaly', 'the new level is usual');

-- Two days, and an hour.
INSERT INTO smartbox.samples SELECT 'young', ts, metric_values FROM smartbox.samples
    WHERE service = 'booking' AND ts > '2024-01-02' AND ts <= '2024-01-04';
INSERT INTO smartbox.samples SELECT 'new', ts, metric_values FROM smartbox.samples
    WHERE service = 'booking' AND ts > '2024-01-02 10:00+00' AND ts <= '2024-01-02 11:00+00';
SELECT results_eq($$ SELECT status, reason FROM train_models(ARRAY['young']) WHERE period = 'business_hours' $$,
    $$ VALUES ('accepted', 'based on 240 samples and 336 of other periods; 760 more give full confidence') $$, 'two days are enough to begin with');
SELECT is((SELECT card ->> 'based_on' || ' ' || (card ->> 'borrowed') FROM smartbox.models WHERE service = 'young' AND time_period = 'business_hours'),
    'samples of other periods too 336', 'the card says so');
SELECT results_eq($$ SELECT status, reason FROM train_models(ARRAY['new']) WHERE period = 'business_hours' $$,
    $$ VALUES ('insufficient', '12 samples, at least 100 are needed: 88 are missing') $$, 'an hour is not');
SELECT ok((SELECT (detect_anomalies('young', '2024-01-03 12:00+00') #>> '{model,version}') = '1'), 'the young model judges');

-- A model that is rejected changes nothing.
INSERT INTO smartbox.samples SELECT 'young', ts + interval '2 days', ARRAY[metric_values[1] *
        CASE WHEN extract(epoch FROM ts)::int / 3600 % 5 = 0 AND ts > '2024-01-03' THEN 9 ELSE 1 END, metric_values[2], NULL, NULL, metric_values[5]]
    FROM smartbox.samples WHERE service = 'young';
SELECT ok((SELECT bool_or(status = 'rejected' AND reason LIKE 'flags % of the held-out samples%') FROM train_models(ARRAY['young'])),
    'samples that contradict each other give a model that is rejected');
SELECT is_empty($$ SELECT FROM smartbox.models AS m WHERE service = 'young' AND version = 2 AND status = 'rejected'
                   AND (is_active OR model IS NULL) $$, 'which is kept, and does not judge');
SELECT is_empty($$ SELECT FROM smartbox.models AS m WHERE service = 'young' AND version = 2 AND status = 'rejected'
                   AND NOT EXISTS (SELECT FROM smartbox.models AS o WHERE o.service = m.service AND o.time_period = m.time_period
                                   AND o.version = 1 AND o.is_active) $$, 'the one before it does');

-- A holiday teaches the weekend.
INSERT INTO smartbox.samples SELECT 'holidays', ts, metric_values FROM smartbox.samples
    WHERE service = 'booking' AND ts > '2024-01-08' AND ts <= '2024-01-15';
SELECT is((SELECT samples FROM train_models(ARRAY['holidays']) WHERE period = 'weekend_day'), 2 * 14 * 12, 'a week has two days of weekend');
INSERT INTO smartbox.calendar (service, kind, starts_at) VALUES ('holidays', 'holiday', '2024-01-11');
SELECT is((SELECT samples FROM train_models(ARRAY['holidays']) WHERE period = 'weekend_day'), 3 * 14 * 12, 'and three with a holiday');

SELECT * FROM finish();
ROLLBACK;
