/*
 * test_tracker.c
 *	  What should be expected now: kinds of day, new levels, runs.
 *
 * One rate whose profile is 0 on weekends and 1 at noon hours of weekdays, and
 * one latency that is always the same, both with a noise of a tenth.
 */
#include "core/tracker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/random.h"
#include "tap.h"

#define N_METRICS	3
#define STEP_S		300
#define DAY			288			/* samples */
#define NOISE		0.1

static const SbaMetric metrics[N_METRICS] = {
	{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e9, 0, 0, true, {0, 0}, {0, 0}},
	{"latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 1e9, 0, 0, false, {0, 0}, {0, 0}},
	{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0, 0, false, {0, 0}, {0, 0}},
};

static uint8_t rate_profile[SBA_PROFILE_VALUES * 4];
static uint8_t flat_profile[SBA_PROFILE_VALUES * 4];
static SbaBaseline baselines[N_METRICS];
static SbaRandom random_state;
static uint8_t memory[(DAY + 1) * (8 + 2 * 4 * N_METRICS)];

static double
noise(void)
{
	double		sum = 0;
	int			i;

	for (i = 0; i < 12; i++)
		sum += sba_random_unit(&random_state);
	return NOISE * (sum - 6);
}

/* Where a weekday is busy: from 07:00 to 19:00. */
static double
weekday_z(int minute)
{
	return minute >= 7 * 60 && minute < 19 * 60 ? 1 : 0;
}

static void
set_up(SbaTracker *tracker)
{
	int			slot;
	int			m;

	for (slot = 0; slot < SBA_SLOTS_PER_DAY; slot++)
		sba_store_f32(rate_profile + 4 * slot, (float) weekday_z(slot * 5));
	for (m = 0; m < N_METRICS; m++)
	{
		memset(&baselines[m], 0, sizeof(baselines[m]));
		baselines[m].known = true;
		baselines[m].offset = 1e-6;
		baselines[m].base_variance = NOISE * NOISE;
		baselines[m].shape_variance = NOISE * NOISE;
		baselines[m].profile = m == 0 ? rate_profile : flat_profile;
	}
	sba_random_start(&random_state, 7, 0);
	sba_tracker_init(tracker, metrics, baselines, N_METRICS, STEP_S, DAY, memory);
}

/*
 * Follow samples from one to another, counted from a Monday's midnight; z is
 * that of the day's kind plus the metric's shift.  Returns how many lie more
 * than five sigma beside what was expected of the metric.
 */
static int
follow(SbaTracker *tracker, int from, int to, bool like_weekend, int metric, double shift)
{
	int			n_beside = 0;
	int			i;

	for (i = from; i < to; i++)
	{
		int			minute_of_week = i * 5 % SBA_MINUTES_PER_WEEK;
		bool		is_weekend = minute_of_week >= 5 * SBA_MINUTES_PER_DAY;
		double		z[N_METRICS] = {noise(), noise(), 0.1 + noise() / 10};
		double		expected[N_METRICS];

		if (!is_weekend && !like_weekend)
			z[0] += weekday_z(minute_of_week % SBA_MINUTES_PER_DAY);
		z[metric] += shift;
		sba_tracker_expect(tracker, (int64_t) i * STEP_S, minute_of_week, z, expected);
		n_beside += fabs(z[metric] - expected[metric]) > 5 * NOISE;
		sba_tracker_add(tracker, (int64_t) i * STEP_S, minute_of_week, z);
	}
	return n_beside;
}

static void
test_kinds_of_day(void)
{
	SbaTracker	tracker;

	set_up(&tracker);
	ok(follow(&tracker, 0, DAY, false, 0, 0) == 0, "an ordinary Monday is as expected");
	ok(tracker.other_kind_log_odds < -4, "and by its end it is known for a weekday");
	ok(follow(&tracker, DAY, 2 * DAY, true, 0, 0) == 0, "a Tuesday like a weekend is as expected all day");
	ok(tracker.other_kind_log_odds > 4, "and known for one");
	ok(follow(&tracker, 2 * DAY, 3 * DAY, false, 0, 0) == 0, "the Wednesday after it is not compared with it");
	ok(follow(&tracker, 3 * DAY, 3 * DAY + 144, false, 0, 0) == 0 &&
	   follow(&tracker, 3 * DAY + 144, 3 * DAY + 156, true, 0, 0) == 12,
	   "a fall to the weekend's rate in the middle of a weekday is not");
	ok(follow(&tracker, 3 * DAY + 156, 5 * DAY, false, 0, 0) == 0, "nor does it leave anything behind");
	ok(follow(&tracker, 5 * DAY, 6 * DAY, false, 0, 0) == 0, "a Saturday");
	ok(follow(&tracker, 6 * DAY + 120, 6 * DAY + 124, false, 0, 2.5) == 4,
	   "what neither kind of day explains is beside what was expected");
}

static void
test_midnight(void)
{
	SbaTracker	tracker;
	double		z[N_METRICS] = {0.5, 0, 0.1};
	double		expected[N_METRICS];
	int			slot;

	/* a rate that is higher on weekdays, at midnight too */
	set_up(&tracker);
	for (slot = 0; slot < SBA_SLOTS_PER_DAY; slot++)
		sba_store_f32(rate_profile + 4 * slot, 1);
	follow(&tracker, 4 * DAY, 5 * DAY, false, 1, 0);
	sba_tracker_expect(&tracker, (int64_t) 5 * DAY * STEP_S, 5 * SBA_MINUTES_PER_DAY, z, expected);
	ok(expected[0] == z[0], "just after Friday's midnight a rate may still be between the two days'");
	sba_tracker_expect(&tracker, (int64_t) 4 * DAY * STEP_S + 12 * 3600, 4 * SBA_MINUTES_PER_DAY + 720, z, expected);
	ok(fabs(expected[0] - z[0]) > 0.2, "but not at noon");
}

static void
test_new_levels(void)
{
	SbaTracker	tracker;
	int			i;
	int			n;

	set_up(&tracker);
	follow(&tracker, 0, 2 * DAY, false, 1, 0);
	n = follow(&tracker, 2 * DAY, 2 * DAY + 30, false, 1, 0.6);
	ok(n >= 12 && n <= 24, "a new level is beside the old one for an hour or two: %d samples", n);
	ok(tracker.new_level[1].holds, "and then it holds");
	ok(follow(&tracker, 2 * DAY + 30, 3 * DAY, false, 1, 0.6) == 0, "a day at the new level is as expected");
	ok(follow(&tracker, 3 * DAY, 4 * DAY, false, 1, 0.6) == 0 && !tracker.new_level[1].holds,
	   "by which the level of the day has caught up");

	set_up(&tracker);
	follow(&tracker, 0, 2 * DAY, false, 1, 0);
	ok(follow(&tracker, 2 * DAY, 2 * DAY + 40, false, 1, 1.5) == 40, "what is more than twice the level is no level");
	follow(&tracker, 2 * DAY + 40, 4 * DAY, false, 1, 0);
	ok(follow(&tracker, 4 * DAY, 4 * DAY + 40, false, 2, 0.6) == 40, "a share of errors has no new level");

	set_up(&tracker);
	follow(&tracker, 0, 2 * DAY, false, 1, 0);
	for (i = 0, n = 0; i < 36; i++)
		n += follow(&tracker, 2 * DAY + i, 2 * DAY + i + 1, false, 1, 0.05 * i);
	ok(!tracker.new_level[1].holds && n >= 20, "a slow rise is none either: %d samples beside", n);
}

static void
test_runs(void)
{
	SbaTracker	tracker;
	double		deviation[N_METRICS] = {2, NAN, 100};
	double		run[N_METRICS];
	int			i;

	set_up(&tracker);
	for (i = 0; i < 2; i++)
		sba_tracker_remember(&tracker, i * STEP_S, deviation);
	sba_tracker_run(&tracker, 2 * STEP_S, deviation, run);
	ok(isnan(run[0]), "three samples are no run");
	for (; i < 9; i++)
		sba_tracker_remember(&tracker, i * STEP_S, deviation);
	sba_tracker_run(&tracker, i * STEP_S, deviation, run);
	ok(run[0] == 2, "six weak samples are one, of their mean");
	ok(isnan(run[1]), "a metric without values has none");
	ok(run[2] == 6, "no sample counts for more than six sigma");
	sba_tracker_run(&tracker, (i + 20) * STEP_S, deviation, run);
	ok(isnan(run[0]), "samples from before a gap do not belong to it");
}

static void
test_expectations(void)
{
	SbaTracker	tracker;
	double		z[N_METRICS] = {NAN, NAN, NAN};
	double		expected[N_METRICS];
	int			habit = SBA_PROFILE_SLOTS + 2 * 48 + 6;

	set_up(&tracker);
	sba_tracker_expect(&tracker, 0, 600, z, expected);
	ok(expected[0] == 1, "without a value the calendar says what is expected");
	sba_store_f32(rate_profile + 4 * habit, 0.75F);
	sba_tracker_expect(&tracker, 0, 2 * SBA_MINUTES_PER_DAY + 180, z, expected);
	ok(expected[0] == 0.75, "a habit of Wednesdays at three is added");
	sba_tracker_expect(&tracker, 0, 3 * SBA_MINUTES_PER_DAY + 180, z, expected);
	ok(expected[0] == 0, "on Wednesdays only");
	sba_store_f32(rate_profile + 4 * habit, 0);
	baselines[1].known = false;
	sba_tracker_expect(&tracker, 0, 600, z, expected);
	ok(isnan(expected[1]), "nothing is expected of a metric that is not known");
}

int
main(void)
{
	plan_tests(0);
	test_kinds_of_day();
	test_midnight();
	test_new_levels();
	test_runs();
	test_expectations();
	return done();
}
