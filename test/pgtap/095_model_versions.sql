-- Going back to an earlier model, and which versions are kept.
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT plan(25);

INSERT INTO smartbox.services (service) VALUES ('booking'), ('search');
INSERT INTO smartbox.samples (service, ts, metric_values)
SELECT 'booking', ts, ARRAY[40 * load, 60 + 25 * load, 50, 5, 0.002]
FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2024-01-29 10:00+00', '5 min') AS ts,
    LATERAL (SELECT hashint8extended(extract(epoch FROM ts)::bigint, 1) / 9.3e18 AS noise) AS n,
    LATERAL (SELECT 1.2 - cos(extract(epoch FROM ts)::bigint % 86400 / 86400.0 * 2 * pi()) + 0.1 * noise AS load) AS l;

CREATE FUNCTION pg_temp.train(OUT version int) LANGUAGE sql AS
    $$ SELECT t.version FROM train_models(ARRAY['booking']) AS t WHERE t.period = 'business_hours' AND t.status = 'accepted' $$;
CREATE FUNCTION pg_temp.versions() RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(version || CASE WHEN is_active THEN '*' ELSE '' END, ' ' ORDER BY version)
       FROM smartbox.models WHERE service = 'booking' AND time_period = 'business_hours' $$;
CREATE FUNCTION pg_temp.judged_by(at timestamptz) RETURNS text LANGUAGE sql AS
    $$ SELECT detect_anomalies('booking', at) #>> '{model,version}' $$;

-- What cannot be done
SELECT throws_ok($$ SELECT rollback_model('booking', 'business_hours') $$, '55000',
    'service "booking" has no active model for business_hours', 'without a model');
SELECT is(pg_temp.train(), 1, 'a first training');
SELECT throws_ok($$ SELECT rollback_model('booking', 'business_hours') $$, '55000',
    'there is no accepted model of service "booking" for business_hours before version 1', 'without an earlier one');
SELECT throws_ok($$ SELECT rollback_model('bookin', 'business_hours') $$, '42704',
    'service "bookin" is not known', 'of an unknown service');
SELECT throws_ok($$ SELECT rollback_model('booking', 'lunch') $$, '42704', 'period "lunch" is not known', 'for an unknown period');
SELECT throws_ok($$ SELECT rollback_model(NULL, 'business_hours') $$, '22004', 'service must not be null', 'of no service');
SELECT throws_ok($$ SELECT rollback_model('booking', NULL) $$, '22004', 'period must not be null', 'for no period');
SELECT is(pg_temp.versions(), '1*', 'nothing has changed');

DO $$
DECLARE
    hint text;
BEGIN
    PERFORM rollback_model('booking', 'lunch');
EXCEPTION WHEN undefined_object THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    PERFORM set_config('test.hint', hint, true);
END
$$;
SELECT is(current_setting('test.hint'), 'There are: business_hours, evening_hours, night_hours, weekend_day, weekend_night.',
    'the hint names the periods');

-- Back once
SELECT is(pg_temp.train(), 2, 'a second training');
SELECT is(pg_temp.judged_by('2024-01-29 09:30+00'), '2', 'judges');
SELECT is(rollback_model('booking', 'business_hours'), 1, 'back to the first version');
SELECT is(pg_temp.versions(), '1* 2', 'which is active');
SELECT is(pg_temp.judged_by('2024-01-29 09:35+00'), '1', 'and judges in a session that knew the second');
SELECT is((SELECT count(*) FROM smartbox.models WHERE service = 'booking' AND version = 2 AND is_active), 4::bigint,
    'other periods keep their model');
SELECT isnt((SELECT rolled_back_at FROM smartbox.models WHERE service = 'booking' AND time_period = 'business_hours' AND version = 2),
    NULL, 'the second one is marked');
SELECT throws_ok($$ SELECT rollback_model('booking', 'business_hours') $$, '55000', NULL, 'there is nothing before the first');

-- A version that somebody went back from is not come back to.
SELECT is(pg_temp.train(), 3, 'a third training');
SELECT is(pg_temp.versions(), '1 2 3*', 'is active');
SELECT is(rollback_model('booking', 'business_hours'), 1, 'and goes back to the first');

-- What is kept
SET LOCAL smartbox_anomaly.model_versions_kept = 1;
SELECT is(pg_temp.train(), 4, 'a fourth training');
SELECT is(pg_temp.versions(), '1 4*', 'with one version to be kept, so is the one that a rollback goes to');
SELECT is(pg_temp.train(), 5, 'a fifth training');
SELECT is(pg_temp.versions(), '4 5*', 'moves both on');
SELECT is(rollback_model('booking', 'business_hours'), 4, 'the rollback finds its version');

SELECT * FROM finish();
ROLLBACK;
