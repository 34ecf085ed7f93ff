/*
 * test_model.c
 *	  Training, the model's bytes and the verdict, on a service that is made up.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/model.h"
#include "core/tracker.h"
#include "core/training.h"
#include "tap.h"

#define N_METRICS	4
#define STEP_S		300
#define DAYS		30
#define N_ROWS		(DAYS * 288)
#define CHECKSUM_AT 16

static const SbaMetric metrics[N_METRICS] = {
	{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e6, 0.05, 0.3, true, {0, 0}, {0, 0}},
	{"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
	{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false, {0, 0}, {0, 0}},
	{"absent_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
};

static int64_t time_s[N_ROWS];
static int32_t minute_of_week[N_ROWS];
static uint8_t period[N_ROWS];
static double values[N_ROWS][N_METRICS];

static uint32_t random_state = 1;

static double
uniform(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) / 16777216.0;
}

/* The sum of twelve uniform numbers is nearly normal. */
static double
normal(void)
{
	double		sum = -6;
	int			i;

	for (i = 0; i < 12; i++)
		sum += uniform();
	return sum;
}

/* Thirty days of a service that is busier by day; period 1 is the weekend. */
static SbaHistory
make_history(void)
{
	SbaHistory	history = {N_ROWS, N_METRICS, time_s, minute_of_week, period, &values[0][0], NULL};
	int			i;

	random_state = 1;
	for (i = 0; i < N_ROWS; i++)
	{
		double		hour = i % 288 / 12.0;
		double		usual = 40 * (1.2 + sin((hour - 8) / 24 * 2 * 3.14159265));

		time_s[i] = (int64_t) i * STEP_S;
		minute_of_week[i] = i * 5 % SBA_MINUTES_PER_WEEK;
		period[i] = minute_of_week[i] >= 5 * SBA_MINUTES_PER_DAY;
		values[i][0] = usual * exp(0.06 * normal());
		values[i][1] = 80 * exp(0.05 * normal());
		values[i][2] = fabs(0.003 + 0.0005 * normal());
		values[i][3] = NAN;
	}
	return history;
}

static const SbaTrainingOptions options = {2, STEP_S, 0.05, 1e-3, 7, false};

/* Judge the row after the history's last with the given values. */
static SbaVerdict
judge(const SbaModel *model, const SbaHistory *history, const double *sample)
{
	SbaBaseline baselines[N_METRICS];
	SbaTracker	tracker;
	SbaFeatures features;
	SbaVerdict	verdict;
	void	   *memory = malloc(sba_level_window_size(N_METRICS, 288));
	size_t		row;
	int			m;

	for (m = 0; m < N_METRICS; m++)
		baselines[m] = model->metric[m].baseline;
	sba_tracker_init(&tracker, metrics, baselines, N_METRICS, STEP_S, 288, memory);
	for (row = history->n_rows - 576; row < history->n_rows; row++)
	{
		sba_tracker_features(&tracker, history->time_s[row], history->minute_of_week[row],
							 history->values + row * N_METRICS, &features);
		sba_tracker_remember(&tracker, history->time_s[row], features.deviation);
		sba_tracker_add(&tracker, history->time_s[row], history->minute_of_week[row], features.z);
	}
	sba_tracker_features(&tracker, history->time_s[row - 1] + STEP_S,
						 (int) (history->n_rows * 5 % SBA_MINUTES_PER_WEEK), sample, &features);
	sba_model_evaluate(model, metrics, sample, &features, options.budget_probability, &verdict);
	sba_model_explain(model, &features, &verdict);
	free(memory);
	return verdict;
}

static void
test_verdicts(const SbaModel *model, const SbaHistory *history)
{
	double		usual[N_METRICS] = {values[N_ROWS - 288][0], 80, 0.003, NAN};
	double		sample[N_METRICS];
	SbaVerdict	verdict;
	double		score_of_three;
	double		sum;
	int			m;

	verdict = judge(model, history, usual);
	ok(!verdict.is_anomaly && verdict.score >= 0, "a usual sample is no anomaly");
	ok(verdict.n_known == 3 && verdict.n_present == 3, "a metric that the service does not have is not missed");

	memcpy(sample, usual, sizeof(sample));
	sample[1] *= 3;
	verdict = judge(model, history, sample);
	score_of_three = verdict.score;
	ok(verdict.is_anomaly && verdict.metric[1].is_signal, "three times the latency is an anomaly");
	ok(fabs(verdict.metric[1].expected - 80) < 4, "what was expected is what is usual");
	ok(verdict.metric[1].lower < 80 && verdict.metric[1].upper > 80 && verdict.metric[1].upper < 240, "the band lies around it");
	ok(verdict.metric[1].percentile > 99, "it is beyond what was learnt");
	for (m = 0, sum = 0; m < N_METRICS; m++)
		sum += verdict.metric[m].contribution;
	ok(fabs(sum - 1) < 1e-9, "contributions sum to 1");
	ok(verdict.metric[1].contribution > 0.5, "the culprit contributes most");

	sample[1] = usual[1] * 1000;
	verdict = judge(model, history, sample);
	ok(verdict.score < score_of_three && verdict.score > -1, "a thousandfold latency scores worse than a threefold one");

	memcpy(sample, usual, sizeof(sample));
	sample[1] /= 10;
	verdict = judge(model, history, sample);
	ok(!verdict.is_anomaly, "a latency that falls does not hurt");
	for (m = 0, sum = 0; m < N_METRICS; m++)
		sum += verdict.metric[m].contribution;
	is_double(sum, 0, 0, "and is not blamed");

	memcpy(sample, usual, sizeof(sample));
	sample[2] = 0.009;
	verdict = judge(model, history, sample);
	ok(!verdict.is_anomaly, "a rare but small rise stays silent");

	memcpy(sample, usual, sizeof(sample));
	sample[0] *= 0.2;
	verdict = judge(model, history, sample);
	ok(verdict.is_anomaly && verdict.metric[0].deviation_sigma < 0, "traffic that breaks away is an anomaly");

	memcpy(sample, usual, sizeof(sample));
	sample[1] = NAN;
	verdict = judge(model, history, sample);
	ok(!verdict.is_anomaly && verdict.n_present == 2, "a missing value is not zero");
}

/* A changed byte and a cut must be refused: all places of the records, many behind. */
static void
test_damage(const uint8_t *bytes, size_t length)
{
	uint8_t    *damaged = malloc(length);
	SbaModel	model;
	SbaError	error;
	size_t		accepted = 0;
	size_t		i;

	memcpy(damaged, bytes, length);
	for (i = 0; i < length; i += i < 4096 ? 1 : 61)
	{
		damaged[i] ^= 0x10;
		accepted += sba_model_open(damaged, length, &model, &error) == SBA_OK;
		damaged[i] ^= 0x10;
	}
	is_uint(accepted, 0, "no model with a changed byte is accepted");

	accepted = 0;
	for (i = 0; i < length; i += i < 4096 ? 1 : 97)
	{
		uint8_t    *cut = malloc(i + 1);

		memcpy(cut, bytes, i);
		accepted += sba_model_open(cut, i, &model, &error) == SBA_OK;
		free(cut);
	}
	is_uint(accepted, 0, "no model that is cut off is accepted");
	free(damaged);
}

/* The same with a checksum that fits: what is accepted must be usable. */
static void
test_forged(const uint8_t *bytes, size_t length, const SbaHistory *history)
{
	uint8_t    *forged = malloc(length);
	double		usual[N_METRICS] = {40, 80, 0.003, NAN};
	size_t		n_refused = 0;
	int			n_tried = 4000;
	int			i;

	for (i = 0; i < n_tried; i++)
	{
		size_t		at = i < 2000 ? (size_t) i : (size_t) (uniform() * (double) length);
		SbaModel	model;
		SbaError	error;

		memcpy(forged, bytes, length);
		forged[at % length] ^= (uint8_t) (1 << (i % 8));
		sba_store_u32(forged + CHECKSUM_AT, 0);
		sba_store_u32(forged + CHECKSUM_AT, sba_crc32c(0, forged, length));
		if (sba_model_open(forged, length, &model, &error) != SBA_OK)
			n_refused++;
		else
			judge(&model, history, usual);
	}
	ok(n_refused > 0 && n_refused < (size_t) n_tried, "forged models are refused or evaluated, and nothing breaks");
	free(forged);
}

int
main(void)
{
	SbaHistory	history = make_history();
	SbaHistory	small = history;
	SbaTrainedPeriod periods[2];
	SbaTrainedPeriod again[2];
	SbaModel	model;
	SbaError	error;

	plan_tests(0);
	ok(sba_train_periods(metrics, &history, &options, periods, &error) == SBA_OK, "training succeeds");
	ok(periods[0].outcome == SBA_TRAINING_ACCEPTED, "the weekdays' model is accepted %s", periods[0].reason);
	ok(periods[1].outcome == SBA_TRAINING_ACCEPTED, "the weekend's model is accepted %s", periods[1].reason);
	is_uint(periods[0].n_rows + periods[1].n_rows, N_ROWS, "every row belongs to a period");
	ok(periods[0].n_heldout * 5 >= periods[0].n_rows && periods[0].n_heldout * 5 <= periods[0].n_rows + 5,
	   "a fifth of them is held out");
	ok(periods[0].flagged_share < 0.01, "hardly any held-out row is flagged");
	ok(periods[0].recall > 0.95, "injected faults are found");

	ok(sba_train_periods(metrics, &history, &options, again, &error) == SBA_OK &&
	   again[0].length == periods[0].length && memcmp(again[0].bytes, periods[0].bytes, again[0].length) == 0,
	   "the same history and seed give the same bytes");
	sba_free_trained_periods(again, 2);

	ok(sba_model_open(periods[0].bytes, periods[0].length, &model, &error) == SBA_OK, "the model opens");
	is_uint(model.feature_set, sba_feature_set_hash(metrics, N_METRICS), "it knows its features");
	ok(strcmp(model.metric[1].name, "application_latency") == 0 && !model.metric[3].baseline.known,
	   "it knows its metrics, and which one the service lacks");
	ok(periods[0].length <= 200 * 1024, "it takes %zu bytes", periods[0].length);
	test_verdicts(&model, &history);
	test_damage(periods[1].bytes, periods[1].length);
	test_forged(periods[0].bytes, periods[0].length, &history);
	sba_free_trained_periods(periods, 2);

	small.n_rows = SBA_MIN_TRAINING_ROWS - 1;
	ok(sba_train_periods(metrics, &small, &options, periods, &error) == SBA_OK &&
	   periods[0].outcome == SBA_TRAINING_INSUFFICIENT && periods[0].bytes == NULL && periods[0].reason[0] != '\0',
	   "too few rows give no model, and a reason");
	sba_free_trained_periods(periods, 2);
	small.n_rows = 0;
	ok(sba_train_periods(metrics, &small, &options, periods, &error) == SBA_OK &&
	   periods[1].outcome == SBA_TRAINING_INSUFFICIENT, "no rows give no model");
	sba_free_trained_periods(periods, 2);
	return done();
}
