/*
 * test_drift.c
 *	  Drift: quiet on what only wanders, loud on what moved.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/drift.h"
#include "tap.h"

#define N_METRICS	3
#define STEP_S		300
#define DAY_ROWS	288
#define DAYS		30
#define LATER_DAYS	30
#define N_SERVICES	40
#define N_LEARNT	(DAYS * DAY_ROWS)
#define N_ROWS		((DAYS + LATER_DAYS) * DAY_ROWS)

static int64_t time_s[N_ROWS];
static double standings[N_ROWS][N_METRICS];
static uint8_t inverse[SBA_DRIFT_INVERSE_SIZE];
static uint32_t random_state;

static double
normal(void)
{
	double		sum = -6;
	int			i;

	for (i = 0; i < 12; i++)
	{
		random_state = random_state * 1664525u + 1013904223u;
		sum += (random_state >> 8) / 16777216.0;
	}
	return sum;
}

/*
 * Metrics that hang together and of which each sample is much like the one
 * before: stationary processes with that correlation of neighbours.
 */
static void
make_standings(uint32_t seed, double memory)
{
	double		state[N_METRICS] = {0};
	int			i;
	int			m;

	random_state = seed;
	for (i = -DAY_ROWS; i < N_ROWS; i++)
	{
		double		common = normal();

		for (m = 0; m < N_METRICS; m++)
		{
			state[m] = memory * state[m] + sqrt(1 - memory * memory) * (0.6 * common + 0.8 * normal());
			if (i >= 0)
				standings[i][m] = state[m];
		}
		if (i >= 0)
			time_s[i] = (int64_t) i * STEP_S;
	}
}

/* The day that begins with that row, moved by that many sigma in one metric. */
static SbaDrift
measure_day(const SbaDriftReference *reference, int first, int metric, double moved)
{
	SbaDriftWindow window = {0};
	SbaDrift	drift;
	int			row;

	for (row = first; row < first + DAY_ROWS; row++)
	{
		double		standing[N_METRICS];

		memcpy(standing, standings[row], sizeof(standing));
		standing[metric] += moved;
		sba_drift_window_add(&window, N_METRICS, standing);
	}
	sba_drift_measure(reference, N_METRICS, &window, &drift);
	return drift;
}

static void
test_quiet(double memory)
{
	SbaDriftReference reference;
	int			n_cries = 0;
	int			n_found = 0;
	int			n_days = 0;
	int			service;

	for (service = 0; service < N_SERVICES; service++)
	{
		make_standings((uint32_t) service + 1, memory);
		sba_drift_learn(time_s, &standings[0][0], N_LEARNT, N_METRICS, inverse, &reference);
		for (int first = N_LEARNT; first + DAY_ROWS <= N_ROWS; first += DAY_ROWS)
		{
			n_days++;
			n_cries += measure_day(&reference, first, 0, 0).level != SBA_DRIFT_NONE;
			n_found += measure_day(&reference, first, 1, 5).level != SBA_DRIFT_NONE;
		}
	}
	ok(n_cries * 1000 <= n_days, "neighbours alike by %g: %d of %d ordinary days are called drift", memory, n_cries, n_days);
	ok(n_found * 10 >= n_days * 9, "five sigma are, on %d days", n_found);
}

static void
test_measure(void)
{
	SbaDriftReference reference;
	SbaDriftWindow empty = {0};
	SbaDrift	drift;
	double		rows[2] = {0};
	int			i;

	make_standings(1, 0);
	sba_drift_learn(time_s, &standings[0][0], N_LEARNT, N_METRICS, inverse, &reference);
	ok(reference.known, "a month is enough");
	is_double(reference.dependent_rows, 1, 1, "independent samples each say something");
	is_double(reference.n_blocks, DAYS, 0, "it has as many stretches as days");
	for (i = 0; i < 2; i++)
	{
		drift = measure_day(&reference, N_LEARNT, i, 2);
		rows[i] = drift.distance;
		is_uint((size_t) drift.n_metrics, N_METRICS, "all metrics are compared");
	}
	ok(rows[0] > 2 && rows[0] < 3, "two sigma against the correlation are more than two: %.2f", rows[0]);
	ok(measure_day(&reference, N_LEARNT, 0, 0.5).level == SBA_DRIFT_NONE, "what is certain but small is no drift");
	ok(measure_day(&reference, N_LEARNT, 0, 1.2).level == SBA_DRIFT_MODERATE, "what is larger is moderate");

	make_standings(1, 0.95);
	sba_drift_learn(time_s, &standings[0][0], N_LEARNT, N_METRICS, inverse, &reference);
	ok(reference.dependent_rows > 15 && reference.dependent_rows < 120,
	   "neighbours alike by 0.95: %.0f samples say as much as one (in theory 39)", reference.dependent_rows);
	sba_drift_measure(&reference, N_METRICS, &empty, &drift);
	ok(drift.level == SBA_DRIFT_NONE && drift.n_metrics == 0, "nothing is no drift");

	for (i = 0; i < N_ROWS; i++)
		standings[i][1] = NAN;
	sba_drift_learn(time_s, &standings[0][0], N_LEARNT, N_METRICS, inverse, &reference);
	drift = measure_day(&reference, N_LEARNT, 0, 4);
	ok(reference.known && drift.n_metrics == 2 && drift.level != SBA_DRIFT_NONE, "a metric that is missing is not compared");
	for (i = 0; i < N_ROWS; i++)
		standings[i][1] = standings[i][0];
	sba_drift_learn(time_s, &standings[0][0], N_LEARNT, N_METRICS, inverse, &reference);
	drift = measure_day(&reference, N_LEARNT, 2, 4);
	ok(isfinite(drift.distance) && drift.distance > 3 && drift.distance < 8, "two metrics that are one can be inverted: %.2f", drift.distance);

	sba_drift_learn(time_s, &standings[0][0], 3 * DAY_ROWS, N_METRICS, inverse, &reference);
	ok(!reference.known && measure_day(&reference, N_LEARNT, 0, 9).level == SBA_DRIFT_NONE, "three days are too few to tell");
}

static void
test_standing(void)
{
	uint8_t		profile[SBA_PROFILE_VALUES * 4];
	SbaBaseline baseline = {true, 1, 0.25, 0, 0.25, profile};
	int			slot;

	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
		sba_store_f32(profile + 4 * slot, 2);
	is_double(sba_drift_standing(SBA_KIND_RATE, &baseline, 0, exp(3) - 1), 2, 1e-9, "one above the profile at noise 1/2 is two");
	is_double(sba_drift_standing(SBA_KIND_RATE, &baseline, 0, 1e300), 10, 0, "nothing stands higher than ten");
	ok(isnan(sba_drift_standing(SBA_KIND_RATE, &baseline, 0, NAN)), "a missing value has no standing");
	baseline.known = false;
	ok(isnan(sba_drift_standing(SBA_KIND_RATE, &baseline, 0, 1)), "nor has an unknown metric");
}

int
main(void)
{
	plan_tests(0);
	test_quiet(0);
	test_quiet(0.9);
	test_quiet(0.99);
	test_measure();
	test_standing();
	return done();
}
