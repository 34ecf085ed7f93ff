/*
 * test_training.c
 *	  What training makes of histories that are short, broken or changing.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/baseline.h"
#include "core/model.h"
#include "core/regimes.h"
#include "core/tracker.h"
#include "core/training.h"
#include "tap.h"

#define N_METRICS	3
#define N_PERIODS	3			/* working hours, other hours, weekend */
#define STEP_S		300
#define DAY_ROWS	288
#define DAYS		30
#define N_ROWS		(DAYS * DAY_ROWS)
#define LEVEL_ROWS	DAY_ROWS

static const SbaMetric metrics[N_METRICS] = {
	{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e6, 0.05, 0.3, true, {0, 0}, {0, 0}},
	{"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
	{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false, {0, 0}, {0, 0}},
};

static const SbaTrainingOptions options = {N_PERIODS, STEP_S, 0.05, 1e-3, 7, false};

static int64_t time_s[N_ROWS];
static int32_t minute_of_week[N_ROWS];
static uint8_t period[N_ROWS];
static uint8_t use[N_ROWS];
static double values[N_ROWS][N_METRICS];
static SbaTrainedPeriod trained[N_PERIODS];

static uint32_t random_state;

/* The sum of twelve uniform numbers is nearly normal. */
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

/* Days of an ordinary service that is busier by day, from a Monday on. */
static SbaHistory
make_history(int n_rows)
{
	SbaHistory	history = {(size_t) n_rows, N_METRICS, time_s, minute_of_week, period, &values[0][0], NULL};
	double		drifting = 0;
	int			i;

	random_state = 5;
	memset(use, SBA_USE_ALL, sizeof(use));
	for (i = 0; i < n_rows; i++)
	{
		double		hour = i % DAY_ROWS / 12.0;

		drifting = 0.8 * drifting + 0.6 * normal();
		time_s[i] = (int64_t) i * STEP_S;
		minute_of_week[i] = i * 5 % SBA_MINUTES_PER_WEEK;
		period[i] = minute_of_week[i] >= 5 * SBA_MINUTES_PER_DAY ? 2 : hour >= 8 && hour < 18 ? 0 : 1;
		values[i][0] = 40 * (1.2 + sin((hour - 8) / 24 * 2 * 3.14159265)) * exp(0.05 * drifting);
		values[i][1] = 80 * exp(0.04 * drifting + 0.04 * normal());
		values[i][2] = fabs(0.003 + 0.0005 * normal());
	}
	return history;
}

static bool
train(const SbaHistory *history)
{
	SbaError	error;

	return sba_train_periods(metrics, history, &options, trained, &error) == SBA_OK;
}

/*
 * Judge the rows from first on as if they came now, each by the two days before it;
 * factor is what one metric is multiplied with.  Returns how many are anomalies.
 */
static size_t
count_anomalies(const SbaModel *model, size_t first, size_t n, int metric, double factor)
{
	SbaBaseline baselines[N_METRICS];
	SbaTracker	tracker;
	void	   *memory = malloc(sba_level_window_size(N_METRICS, LEVEL_ROWS));
	size_t		n_anomalies = 0;
	size_t		row;
	int			m;

	for (m = 0; m < N_METRICS; m++)
		baselines[m] = model->metric[m].baseline;
	sba_tracker_init(&tracker, metrics, baselines, N_METRICS, STEP_S, LEVEL_ROWS, memory);
	for (row = first < 2 * LEVEL_ROWS ? 0 : first - 2 * LEVEL_ROWS; row < first + n; row++)
	{
		SbaFeatures usual;

		if (row >= first)
		{
			double		sample[N_METRICS];
			SbaFeatures features;
			SbaVerdict	verdict;

			memcpy(sample, values[row], sizeof(sample));
			sample[metric] *= factor;
			sba_tracker_features(&tracker, time_s[row], minute_of_week[row], sample, &features);
			sba_model_evaluate(model, metrics, sample, &features, options.budget_probability, &verdict);
			n_anomalies += verdict.is_anomaly;
		}
		sba_tracker_features(&tracker, time_s[row], minute_of_week[row], values[row], &usual);
		sba_tracker_remember(&tracker, time_s[row], usual.deviation);
		sba_tracker_add(&tracker, time_s[row], minute_of_week[row], usual.z);
	}
	free(memory);
	return n_anomalies;
}

static bool
open_period(int number, SbaModel *model)
{
	SbaError	error;

	return trained[number].bytes != NULL &&
		sba_model_open(trained[number].bytes, trained[number].length, model, &error) == SBA_OK;
}

/* A month is learnt from; the days after it come as generated. */
static void
test_few_rows(void)
{
	SbaHistory	history = make_history(4 * DAY_ROWS);
	SbaModel	model;
	size_t		full_bytes;

	history.n_rows = 2 * DAY_ROWS;
	ok(train(&history), "two days can be trained");
	ok(trained[0].outcome == SBA_TRAINING_ACCEPTED && trained[0].basis == SBA_BASIS_SIBLINGS,
	   "working hours are based on other hours too: %s", trained[0].reason);
	is_uint(trained[0].n_rows, 240, "of their own they have two times ten hours");
	is_uint(trained[0].n_borrowed, 336, "the rest is borrowed");
	ok(trained[2].outcome == SBA_TRAINING_INSUFFICIENT && strstr(trained[2].reason, "12 are missing") != NULL,
	   "a period without a sample has no model: %s", trained[2].reason);
	if (ok(open_period(0, &model), "the model opens"))
	{
		is_double(sba_model_confidence(&model, true), (240 + 336 / 2) / 1000.0, 1e-9, "a borrowed sample counts half");
		is_double(sba_model_confidence(&model, false), (240 + 336 / 2) / 500.0, 1e-9, "of fewer for one metric");
		is_uint(count_anomalies(&model, 2 * DAY_ROWS + 96, 120, 1, 1), 0, "the next working day is quiet");
		ok(count_anomalies(&model, 2 * DAY_ROWS + 96, 120, 1, 4) >= 110, "a fourfold latency is found");
		ok(count_anomalies(&model, 2 * DAY_ROWS + 96, 120, 0, 0.1) >= 110, "so is traffic that breaks away");
	}
	full_bytes = trained[0].length;
	sba_free_trained_periods(trained, N_PERIODS);

	history.n_rows = DAY_ROWS;
	ok(train(&history) && trained[0].outcome == SBA_TRAINING_ACCEPTED && trained[0].basis == SBA_BASIS_ROBUST,
	   "one day gives thresholds: %s", trained[0].reason);
	if (ok(open_period(0, &model) && !model.has_forest && trained[0].length < full_bytes, "without forests"))
	{
		SbaVerdict	verdict;
		SbaFeatures features;

		memset(&features, 0, sizeof(features));
		features.sigma[0] = features.sigma[1] = features.sigma[2] = 0.1;
		sba_model_evaluate(&model, metrics, values[0], &features, options.budget_probability, &verdict);
		sba_model_explain(&model, &features, &verdict);
		is_double(verdict.forest_score, 0, 0, "a sample has no score of a forest");
		is_uint(count_anomalies(&model, DAY_ROWS + 96, 120, 1, 1), 0, "the next day is quiet");
		ok(count_anomalies(&model, DAY_ROWS + 96, 120, 1, 4) >= 100, "a fourfold latency is found");
	}
	sba_free_trained_periods(trained, N_PERIODS);

	history.n_rows = 12;
	ok(train(&history) && trained[1].outcome == SBA_TRAINING_INSUFFICIENT && trained[1].bytes == NULL,
	   "an hour gives no model");
	ok(strstr(trained[1].reason, "88 are missing") != NULL, "it says how many samples are missing: %s", trained[1].reason);
	sba_free_trained_periods(trained, N_PERIODS);
}

static void
test_use(void)
{
	SbaHistory	history = make_history(N_ROWS);
	SbaModel	model;
	uint8_t    *clean;
	size_t		length;
	int			i;

	/*
	 * four hours of a fault on each day of the last week, and a busy week
	 * before it
	 */
	history.use = use;
	for (i = N_ROWS - 7 * DAY_ROWS; i < N_ROWS; i++)
		if (i % DAY_ROWS >= 120 && i % DAY_ROWS < 168)
			use[i] = i % DAY_ROWS < 144 ? SBA_USE_INCIDENT : SBA_USE_MAINTENANCE;
	for (i = N_ROWS - 16 * DAY_ROWS; i < N_ROWS - 14 * DAY_ROWS; i++)
		use[i] = SBA_USE_BUSY;
	ok(train(&history) && open_period(0, &model), "a history with incidents can be trained");
	is_uint(trained[0].n_not_used[SBA_USE_INCIDENT] + trained[2].n_not_used[SBA_USE_INCIDENT], 7 * 24, "they are counted");
	is_uint(trained[0].n_not_used[SBA_USE_MAINTENANCE] + trained[2].n_not_used[SBA_USE_MAINTENANCE], 7 * 24, "so is maintenance");
	is_uint(trained[0].n_not_used[SBA_USE_BUSY] + trained[1].n_not_used[SBA_USE_BUSY] +
			trained[2].n_not_used[SBA_USE_BUSY], 2 * DAY_ROWS, "and what is busy");
	is_uint(trained[0].n_not_used[SBA_USE_ALL], 0, "samples that teach are not counted there");
	clean = malloc(trained[0].length);
	length = trained[0].length;
	memcpy(clean, trained[0].bytes, length);
	sba_free_trained_periods(trained, N_PERIODS);

	/*
	 * the level is a median of all samples; a fault of four hours hardly
	 * moves it
	 */
	for (i = 0; i < N_ROWS; i++)
		if (use[i] == SBA_USE_INCIDENT || use[i] == SBA_USE_MAINTENANCE)
			values[i][2] = 0.6;
	ok(train(&history) && open_period(0, &model), "the same with faults in them");
	is_uint(count_anomalies(&model, N_ROWS - 8 * DAY_ROWS + 96, 24, 2, 1), 0, "what is usual is no anomaly");
	is_uint(count_anomalies(&model, N_ROWS - 8 * DAY_ROWS + 96, 24, 2, 20), 24, "the fault is one: it was not learnt");
	ok(trained[0].outcome == SBA_TRAINING_ACCEPTED && trained[0].flagged_share < 0.01,
	   "a fault in the held-out part rejects nothing: %s", trained[0].reason);
	sba_free_trained_periods(trained, N_PERIODS);

	history.use = NULL;
	ok(train(&history) && (trained[0].length != length || memcmp(trained[0].bytes, clean, length) != 0),
	   "without the marks it would be another model");
	free(clean);
	sba_free_trained_periods(trained, N_PERIODS);
}

/* The level changes at that row by that factor, for good. */
static void
shift_level(int metric, int from, double factor)
{
	int			i;

	for (i = from; i < N_ROWS; i++)
		values[i][metric] *= factor;
}

static void
test_level_shift(int days_ago, double factor)
{
	SbaHistory	history = make_history(N_ROWS);
	int			from = N_ROWS - days_ago * DAY_ROWS - 100;
	SbaModel	model;

	shift_level(1, from, factor);
	history.n_rows = N_ROWS - 2 * DAY_ROWS;
	ok(train(&history), "latency times %g, %d days ago, can be trained", factor, days_ago - 2);
	ok(trained[0].outcome == SBA_TRAINING_ACCEPTED, "and is accepted: %s", trained[0].reason);
	ok(trained[0].n_level_changes == 1 && llabs(trained[0].last_level_change_s - time_s[from]) <= 3600,
	   "the change is found within an hour");
	if (ok(open_period(1, &model), "it opens"))
	{
		double		sigma = sqrt(model.metric[1].baseline.base_variance);

		ok(sigma > 0.04 && sigma < 0.09, "the noise is what it was: %.3f", sigma);
		is_double(sba_inverse_transform(SBA_KIND_LATENCY, model.metric[1].baseline.offset,
										sba_profile_value(&model.metric[1].baseline, 30)), 80 * factor, 4 * factor,
				  "the profile is at the level that holds now");
		ok(count_anomalies(&model, N_ROWS - 2 * DAY_ROWS, 2 * DAY_ROWS, 1, 1) <= 1, "the next two days are quiet");
		ok(count_anomalies(&model, N_ROWS - 2 * DAY_ROWS, 2 * DAY_ROWS, 1, 2.5) >= 2 * DAY_ROWS - 10,
		   "and a fault is found in them");
	}
	sba_free_trained_periods(trained, N_PERIODS);
}

static void
test_no_shift(void)
{
	SbaHistory	history = make_history(N_ROWS);
	int			i;

	ok(train(&history) && trained[0].n_level_changes == 0, "an ordinary month has no change of level");
	sba_free_trained_periods(trained, N_PERIODS);

	for (i = 0; i < N_ROWS; i++)
		values[i][1] *= exp(0.7 * i / N_ROWS);
	ok(train(&history) && trained[0].n_level_changes == 0, "neither has growth");
	sba_free_trained_periods(trained, N_PERIODS);

	history = make_history(N_ROWS);
	for (i = N_ROWS / 2; i < N_ROWS / 2 + DAY_ROWS; i++)
		values[i][1] *= 3;
	ok(train(&history) && trained[0].n_level_changes == 0, "nor has one bad day");
	sba_free_trained_periods(trained, N_PERIODS);
}

static void
test_odd_metrics(void)
{
	SbaHistory	history = make_history(N_ROWS);
	SbaModel	model;
	int			i;

	for (i = 0; i < N_ROWS; i++)
	{
		values[i][1] = 25;
		values[i][2] = i % 50 == 0 ? 0.004 : 0;
	}
	ok(train(&history) && trained[0].outcome == SBA_TRAINING_ACCEPTED && open_period(0, &model),
	   "a constant metric and one that is mostly zero: %s", trained[0].reason);
	is_uint(count_anomalies(&model, N_ROWS - DAY_ROWS, DAY_ROWS, 0, 1), 0, "both are quiet");
	is_uint(count_anomalies(&model, N_ROWS - DAY_ROWS, DAY_ROWS, 1, 2), DAY_ROWS, "a constant that doubles is found");
	for (i = N_ROWS - DAY_ROWS; i < N_ROWS; i++)
		values[i][2] = 0.1;
	ok(count_anomalies(&model, N_ROWS - DAY_ROWS, 60, 2, 1) >= 58, "so are errors where there were hardly any");
	sba_free_trained_periods(trained, N_PERIODS);

	history = make_history(N_ROWS);
	for (i = 0; i < N_ROWS; i++)
		values[i][1] = values[i][0] = values[i][2] = NAN;
	ok(train(&history) && trained[0].outcome != SBA_TRAINING_ACCEPTED, "a service without a value has no model: %s",
	   trained[0].reason);
	sba_free_trained_periods(trained, N_PERIODS);
}

/* A third of the rows missing, a week in one piece; a metric that comes late. */
static void
test_gaps(void)
{
	SbaHistory	history = make_history(N_ROWS);
	SbaModel	model;
	size_t		n = 0;
	int			i;

	for (i = 0; i < N_ROWS; i++)
	{
		if (i % 3 == 1 || (i >= 7 * DAY_ROWS && i < 14 * DAY_ROWS))
			continue;
		time_s[n] = time_s[i];
		minute_of_week[n] = minute_of_week[i];
		period[n] = period[i];
		memcpy(values[n], values[i], sizeof(values[n]));
		if (i < 20 * DAY_ROWS)
			values[n][1] = NAN;
		n++;
	}
	history.n_rows = n;
	ok(train(&history) && trained[0].outcome == SBA_TRAINING_ACCEPTED && open_period(0, &model),
	   "a history full of gaps is enough: %s", trained[0].reason);
	is_uint(count_anomalies(&model, n - 300, 300, 1, 1), 0, "it is quiet");
	ok(count_anomalies(&model, n - 300, 300, 1, 4) >= 290, "and finds a fault");
	sba_free_trained_periods(trained, N_PERIODS);
}

/* Noise only in the held-out part, and metrics where no fault can be seen. */
static void
test_rejection(void)
{
	SbaHistory	history = make_history(N_ROWS);
	SbaMetric	blind[N_METRICS];
	SbaError	error;
	int			i;

	for (i = N_ROWS * 4 / 5; i < N_ROWS; i++)
		values[i][1] *= i / 12 % 5 == 0 ? 8 : 1;
	ok(train(&history) && trained[0].outcome == SBA_TRAINING_REJECTED && strstr(trained[0].reason, "flags") != NULL &&
	   strstr(trained[0].reason, "finds") == NULL, "a model that flags too much is rejected: %s", trained[0].reason);
	ok(trained[0].bytes != NULL, "and kept, to be looked at");
	sba_free_trained_periods(trained, N_PERIODS);

	/* what cannot fall below the usual can have no fault there */
	history = make_history(N_ROWS);
	memcpy(blind, metrics, sizeof(blind));
	for (int m = 0; m < N_METRICS; m++)
	{
		for (i = 0; i < N_ROWS; i++)
			values[i][m] = m == 0 ? NAN : i % 3 == 0 ? 10 : 90000;
		blind[m].kind = SBA_KIND_LATENCY;
		blind[m].direction = SBA_DIRECTION_LOW;
	}
	ok(sba_train_periods(blind, &history, &options, trained, &error) == SBA_OK &&
	   trained[0].outcome == SBA_TRAINING_REJECTED && strncmp(trained[0].reason, "finds", 5) == 0,
	   "a model that finds no fault is rejected: %s", trained[0].reason);
	sba_free_trained_periods(trained, N_PERIODS);

	history = make_history(N_ROWS);
	blind[0] = metrics[0];
	for (i = 0; i < N_ROWS; i++)
	{
		values[i][1] = values[i][2] = i % 2 == 0 ? 10 : 90000;
		values[i][0] *= i >= N_ROWS * 4 / 5 && i / 12 % 5 == 0 ? 8 : 1;
	}
	ok(sba_train_periods(blind, &history, &options, trained, &error) == SBA_OK &&
	   trained[0].outcome == SBA_TRAINING_REJECTED && strstr(trained[0].reason, "flags") != NULL &&
	   strstr(trained[0].reason, "finds") != NULL, "one that fails both ways says so: %s", trained[0].reason);
	sba_free_trained_periods(trained, N_PERIODS);
}

int
main(void)
{
	plan_tests(0);
	test_few_rows();
	test_use();
	test_level_shift(6, 2);
	test_level_shift(12, 1.5);
	test_level_shift(20, 0.5);
	test_no_shift();
	test_odd_metrics();
	test_gaps();
	test_rejection();
	return done();
}
