/*
 * fuzz_model.c
 *	  Damage a stored model and use what is still accepted.
 *
 * A model is trained at the start.  The input is a list of edits of four
 * bytes each: where (three bytes) and the new byte.  Its length, when no
 * multiple of four, cuts the model short.  The checksums are made right
 * again, also those of the forests inside: otherwise nothing behind them would
 * be reached.  Whatever is accepted must give verdicts that are numbers, and
 * contributions that sum to 1 or to nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/model.h"
#include "core/random.h"
#include "core/training.h"

#define N_METRICS	3
#define N_ROWS		1200
#define INTERVAL_S	300

/* Place of the model's own checksum, which counts as zero for itself. */
#define MODEL_CRC_AT 16

static const SbaMetric metrics[N_METRICS] = {
	{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e6, 0.05, 0.3, true},
	{"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false},
	{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false},
};

static uint8_t *sound_model;
static size_t sound_length;
static SbaModel sound;

int			LLVMFuzzerInitialize(int *argc, char ***argv);
int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Something between -1 and 1 that looks like noise. */
static double
noise(unsigned int *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state / 2147483648.0 - 1.0;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static int64_t time_s[N_ROWS];
	static int32_t minute_of_week[N_ROWS];
	static uint8_t period[N_ROWS];
	static double values[N_ROWS][N_METRICS];
	SbaHistory	history = {N_ROWS, N_METRICS, time_s, minute_of_week, period, &values[0][0]};
	SbaTrainingOptions options = {1, INTERVAL_S, 0.05, 1e-3, 1};
	SbaTrainedPeriod trained;
	SbaError	error;
	unsigned int state = 1;
	int			i;

	for (i = 0; i < N_ROWS; i++)
	{
		time_s[i] = (int64_t) i * INTERVAL_S;
		minute_of_week[i] = i * (INTERVAL_S / 60) % SBA_MINUTES_PER_WEEK;
		values[i][0] = 40 + 8 * noise(&state);
		values[i][1] = 80 + 9 * noise(&state);
		values[i][2] = 0.002 + 0.001 * noise(&state);
	}
	if (sba_train_periods(metrics, &history, &options, &trained, &error) != SBA_OK ||
		trained.bytes == NULL ||
		sba_model_open(trained.bytes, trained.length, &sound, &error) != SBA_OK)
	{
		fprintf(stderr, "there is no model to begin with: %s\n", error.message);
		abort();
	}
	sound_model = trained.bytes;
	sound_length = trained.length;
	return 0;
}

/* A forest's checksum is its last four bytes. */
static void
seal_forest(uint8_t *bytes, size_t length, const SbaForest *forest)
{
	size_t		at = (size_t) (forest->bytes - sound_model);

	if (at + forest->length <= length)
		sba_store_u32(bytes + at + forest->length - 4,
					  sba_crc32c(0, bytes + at, forest->length - 4));
}

static void
seal(uint8_t *bytes, size_t length)
{
	int			m;

	seal_forest(bytes, length, &sound.forest);
	for (m = 0; m < sound.n_metrics; m++)
	{
		if (sound.metric[m].has_forest)
			seal_forest(bytes, length, &sound.metric[m].forest);
	}
	if (length < MODEL_CRC_AT + 4)
		return;
	sba_store_u32(bytes + MODEL_CRC_AT, 0);
	sba_store_u32(bytes + MODEL_CRC_AT, sba_crc32c(0, bytes, length));
}

static void
use(const SbaModel *model)
{
	static const double samples[][N_METRICS] = {
		{40, 80, 0.002}, {40, 80000, 0.5}, {0, 0, 0}, {1e6, NAN, 1}, {NAN, NAN, NAN},
	};
	SbaBaseline baselines[N_METRICS];
	SbaFeatures features;
	SbaVerdict	verdict;
	SbaLevelWindow window;
	void	   *memory = malloc(sba_level_window_size(N_METRICS, 4));
	double		sum;
	size_t		s;
	int			m;

	if (memory == NULL)
		abort();
	for (m = 0; m < N_METRICS; m++)
		baselines[m] = model->metric[m].baseline;
	sba_level_window_init(&window, N_METRICS, 4, memory);
	for (s = 0; s < sizeof(samples) / sizeof(samples[0]); s++)
	{
		sba_compute_features(metrics, baselines, &window, 600, INTERVAL_S, samples[s], &features);
		sba_model_evaluate(model, metrics, samples[s], &features, 1e-3, &verdict);
		sba_model_explain(model, &features, &verdict);
		if (!isfinite(verdict.score) || !isfinite(verdict.evidence) ||
			verdict.n_present > N_METRICS)
			abort();
		for (m = 0, sum = 0; m < N_METRICS; m++)
			sum += verdict.metric[m].contribution;
		if (sum != 0 && !(fabs(sum - 1) < 1e-9))
			abort();
		sba_level_window_add(&window, metrics, baselines, (int64_t) s * INTERVAL_S, 600, samples[s]);
	}
	free(memory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		length = sound_length;
	uint8_t    *bytes = malloc(length);
	SbaModel	model;
	SbaError	error;

	if (bytes == NULL)
		abort();
	memcpy(bytes, sound_model, length);
	while (size >= 4)
	{
		size_t		at = data[0] | (size_t) data[1] << 8 | (size_t) data[2] << 16;

		bytes[at % length] = data[3];
		data += 4;
		size -= 4;
	}
	if (size > 0)
		length = (length * data[0]) >> 8;
	seal(bytes, length);
	if (sba_model_open(bytes, length, &model, &error) == SBA_OK && model.n_metrics == N_METRICS)
		use(&model);
	free(bytes);
	return 0;
}
