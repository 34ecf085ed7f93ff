/*
 * fuzz_model.c
 *	  Open anything as a stored model, and judge samples with what is accepted.
 *
 * The checksums are made right first, also those of the forests inside:
 * otherwise nothing behind them would be reached.  Whatever is accepted must
 * give verdicts and explanations that are numbers, within their limits.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/forest_internal.h"
#include "core/model.h"
#include "core/tracker.h"

#define INTERVAL_S	300
#define N_SAMPLES	7
#define MAX_SIZE	(64 * 1024)

/* Places of the model's own length and checksum; this counts as zero in it. */
#define MODEL_LENGTH_AT 12
#define MODEL_CRC_AT 16

int			LLVMFuzzerInitialize(int *argc, char ***argv);
int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static SbaMetric metrics[SBA_MAX_METRICS];
static double samples[N_SAMPLES][SBA_MAX_METRICS];

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const SbaMetric kinds[] = {
		{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e6, 0.05, 0.3, true, {0, 0}, {0, 0}},
		{"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
		{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false, {0, 0}, {0, 0}},
		{"free_space", SBA_KIND_RATE, SBA_DIRECTION_LOW, 0, 1e300, 0, 0, false, {0, 0}, {0, 0}},
	};
	static const double usual[][4] = {
		{40, 80, 0.002, 7}, {40, 80000, 0.5, 0.001}, {0, 0, 0, 0}, {1e6, NAN, 1, 1e300},
		{NAN, NAN, NAN, NAN}, {0x1p-1074, 1e-300, 0x1p-1074, 0x1p-1074}, {3, 3e5, 0.9, 1e18},
	};

	for (int m = 0; m < SBA_MAX_METRICS; m++)
	{
		metrics[m] = kinds[m % 4];
		metrics[m].counts_requests = m == 0;
		for (int s = 0; s < N_SAMPLES; s++)
			samples[s][m] = usual[s][m % 4];
	}
	return 0;
}

/* Wherever a forest begins, make its checksum right. */
static void
seal(uint8_t *bytes, size_t size)
{
	for (size_t at = 0; at + SBA_FOREST_HEADER_SIZE + SBA_FOREST_FOOTER_SIZE <= size; at++)
	{
		uint64_t	length;

		if (sba_load_u32(bytes + at + SBA_FOREST_AT_MAGIC) != SBA_FOREST_MAGIC)
			continue;
		length = sba_load_u64(bytes + at + SBA_FOREST_AT_LENGTH);
		if (length >= SBA_FOREST_HEADER_SIZE + SBA_FOREST_FOOTER_SIZE && length <= size - at)
			sba_forest_seal(bytes + at, (size_t) length);
	}
	if (size < MODEL_CRC_AT + 4)
		return;
	sba_store_u32(bytes + MODEL_LENGTH_AT, (uint32_t) size);
	sba_store_u32(bytes + MODEL_CRC_AT, 0);
	sba_store_u32(bytes + MODEL_CRC_AT, sba_crc32c(0, bytes, size));
}

static void
check_verdict(const SbaModel *model, const SbaVerdict *verdict)
{
	double		sum = 0;

	if (!(verdict->score >= -1 && verdict->score <= 1) || !(verdict->evidence >= 0) ||
		!isfinite(verdict->evidence) || !(verdict->forest_score >= 0 && verdict->forest_score <= 1) ||
		verdict->n_present > verdict->n_known || verdict->n_known > model->n_metrics)
		abort();
	for (int m = 0; m < model->n_metrics; m++)
	{
		const SbaMetricVerdict *metric = &verdict->metric[m];

		if (metric->present &&
			(!isfinite(metric->deviation_sigma) || !isfinite(metric->evidence) ||
			 !isfinite(metric->expected) || !isfinite(metric->lower) || !isfinite(metric->upper) ||
			 !(metric->percentile >= 0 && metric->percentile <= 100)))
			abort();
		if (!(metric->contribution >= 0 && metric->contribution <= 1))
			abort();
		sum += metric->contribution;
	}
	if (sum != 0 && !(fabs(sum - 1) < 1e-9))
		abort();
}

static void
use(const SbaModel *model)
{
	SbaBaseline baselines[SBA_MAX_METRICS];
	SbaFeatures features;
	SbaVerdict	verdict;
	SbaTracker	tracker;
	SbaDriftWindow recent = {0};
	SbaDrift	drift;
	double		standing[SBA_MAX_METRICS];
	void	   *memory = malloc(sba_level_window_size(model->n_metrics, N_SAMPLES));

	if (memory == NULL)
		abort();
	for (int m = 0; m < model->n_metrics; m++)
		baselines[m] = model->metric[m].baseline;
	sba_tracker_init(&tracker, metrics, baselines, model->n_metrics, INTERVAL_S, N_SAMPLES, memory);
	for (int s = 0; s < N_SAMPLES; s++)
	{
		sba_tracker_features(&tracker, (int64_t) s * INTERVAL_S, 600, samples[s], &features);
		sba_model_evaluate(model, metrics, samples[s], &features, 1e-3, &verdict);
		sba_model_explain(model, &features, &verdict);
		check_verdict(model, &verdict);
		sba_tracker_remember(&tracker, (int64_t) s * INTERVAL_S, features.deviation);
		sba_tracker_add(&tracker, (int64_t) s * INTERVAL_S, 600, features.z);
		for (int m = 0; m < model->n_metrics; m++)
			standing[m] = sba_drift_standing(metrics[m].kind, &baselines[m], 600, samples[s][m]);
		sba_drift_window_add(&recent, model->n_metrics, standing);
	}
	sba_drift_measure(&model->drift, model->n_metrics, &recent, &drift);
	if (!(drift.distance >= 0) || !(drift.effective_rows >= 0))
		abort();
	free(memory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t    *bytes;
	SbaModel	model;
	SbaError	error;

	if (size > MAX_SIZE)
		return 0;

	/* a copy that ends where the input ends, so that reading on is found */
	bytes = malloc(size + (size == 0));
	if (bytes == NULL)
		abort();
	if (size > 0)
		memcpy(bytes, data, size);
	seal(bytes, size);
	if (sba_model_open(bytes, size, &model, &error) == SBA_OK)
		use(&model);
	free(bytes);
	return 0;
}
