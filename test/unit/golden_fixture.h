/*
 * golden_fixture.h
 *	  The rows, forests and model that the files in test/golden were made of.
 *
 * Nothing here may change once a version of the format was released: what is
 * made from it must give the bytes of that version again.  No function of libm
 * has a part in it, as those differ in their last digits.
 */
#ifndef SBA_TEST_GOLDEN_FIXTURE_H
#define SBA_TEST_GOLDEN_FIXTURE_H

#include <math.h>

#include "core/model.h"
#include "forest_fixture.h"

#define GOLDEN_FOLDER		"test/golden"
#define GOLDEN_ROWS			400
#define GOLDEN_SEED			20240115
#define GOLDEN_PROBES		40
#define GOLDEN_METRICS		3
#define GOLDEN_SAMPLES		6
#define GOLDEN_MAX_BYTES	(1 << 20)

typedef struct GoldenForm
{
	const char *name;
	uint32_t	n_features;
	uint32_t	n_trees;
	uint32_t	sample_size;
} GoldenForm;

/* One of each form that sba_forest_fit() chooses by itself. */
static const GoldenForm golden_forms[] = {
	{"forest_heap", 5, 8, 64},
	{"forest_linked", 3, 1, 260},
	{"forest_table", 1, 20, 128},
};

#define N_GOLDEN_FORMS (sizeof(golden_forms) / sizeof(golden_forms[0]))

static const SbaMetric golden_metrics[GOLDEN_METRICS] = {
	{"request_rate", SBA_KIND_RATE, SBA_DIRECTION_BOTH, 0, 1e6, 0.05, 0.3, true, {0, 0}, {0, 0}},
	{"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}},
	{"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false, {0, 0}, {0, 0}},
};

/* Rows with everything that needs a rule: missing values, ties, far values. */
static inline double *
golden_rows(uint32_t n_features)
{
	double	   *rows = make_rows(GOLDEN_ROWS, n_features, GOLDEN_SEED);

	for (size_t i = 0; rows != NULL && i < (size_t) GOLDEN_ROWS * n_features; i++)
	{
		uint32_t	feature = (uint32_t) (i % n_features);

		if (feature == 1)
			rows[i] = (double) ((int) (rows[i] * 4)) / 4;
		if (feature == 2)
			rows[i] *= 0x1p40;
		if (i % 41 == 7)
			rows[i] = NAN;
		if (i % 97 == 11)
			rows[i] = INFINITY;
	}
	return rows;
}

/* Rows to be scored: some that were fitted, and some from far away. */
static inline double *
golden_probes(uint32_t n_features)
{
	static const double far[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0x1p-1070, 0, -0.0, 3};
	double	   *rows = make_rows(GOLDEN_PROBES, n_features, GOLDEN_SEED);

	for (size_t i = 0; rows != NULL && i < sizeof(far) / sizeof(far[0]); i++)
	{
		rows[i * n_features] = far[i];
		rows[i * n_features + n_features - 1] = far[i];
	}
	return rows;
}

static inline bool
golden_forest(const GoldenForm *form, TestForest *test)
{
	double	   *rows = golden_rows(form->n_features);
	bool		fitted = rows != NULL && fit(test, rows, GOLDEN_ROWS, form->n_features,
											 form->n_trees, form->sample_size, GOLDEN_SEED);

	free(rows);
	return fitted;
}

static inline void
golden_tail(SbaTail *tail, double first, double step)
{
	tail->reach = 2.5;
	tail->slope = 0.75;
	for (int i = 0; i <= SBA_TAIL_STEPS; i++)
		tail->quantile[i] = first + step * i;
}

/*
 * A model of two metrics that are known and one that is not; n_known of 1 makes
 * the second one unknown too.
 */
static inline bool
golden_model(int n_known, uint8_t **bytes, size_t *length)
{
	static uint8_t profile[SBA_PROFILE_VALUES * 4];
	static uint8_t inverse[GOLDEN_METRICS * GOLDEN_METRICS * 8];
	SbaModel	model;
	TestForest	forests[GOLDEN_METRICS];
	GoldenForm	multivariate = {"", GOLDEN_METRICS, 6, 32};
	GoldenForm	univariate = {"", 1, 8, 32};
	bool		made;

	memset(forests, 0, sizeof(forests));
	made = golden_forest(&multivariate, &forests[GOLDEN_METRICS - 1]);
	for (int i = 0; i < SBA_PROFILE_VALUES; i++)
		sba_store_f32(profile + 4 * i, (float) (i % SBA_SLOTS_PER_DAY) / 128);
	memset(&model, 0, sizeof(model));
	model.n_metrics = GOLDEN_METRICS;
	model.feature_set = sba_feature_set_hash(golden_metrics, GOLDEN_METRICS);
	model.seed = GOLDEN_SEED;
	model.n_rows = 8640;
	model.n_heldout = 1728;
	model.n_borrowed = 640;
	model.has_forest = true;
	model.forest = forests[GOLDEN_METRICS - 1].forest;
	model.drift.known = n_known > 1;
	model.drift.dependent_rows = 12.5;
	model.drift.n_blocks = 21;
	model.drift.mean[0] = 0.25;
	model.drift.inverse_covariance = inverse;
	for (int i = 0; i < n_known; i++)
		sba_store_f64(inverse + 8 * i * (GOLDEN_METRICS + 1), 0.5);
	golden_tail(&model.forest_tail, 0.375, 0.03125);
	golden_tail(&model.evidence_tail, 0, 0.25);
	for (int m = 0; m < GOLDEN_METRICS; m++)
	{
		SbaMetricModel *metric = &model.metric[m];

		strcpy(metric->name, golden_metrics[m].name);
		metric->kind = golden_metrics[m].kind;
		if (m >= n_known)
			continue;
		univariate.n_trees += (uint32_t) m;
		made = made && golden_forest(&univariate, &forests[m]);
		metric->baseline.known = true;
		metric->baseline.offset = 0.125;
		metric->baseline.base_variance = 0.0625;
		metric->baseline.count_variance = 0.5;
		metric->baseline.shape_variance = 0.125;
		metric->baseline.profile = profile;
		metric->has_forest = true;
		metric->forest = forests[m].forest;
		golden_tail(&metric->forest_tail, 0.375, 0.03125);
		golden_tail(&metric->high_tail, 0.5, 0.25);
		golden_tail(&metric->low_tail, 0.5, 0.3125);
		golden_tail(&metric->high_run_tail, 0.25, 0.125);
		golden_tail(&metric->low_run_tail, 0.25, 0.1875);
		for (int i = 0; i < SBA_DEVIATION_QUANTILES; i++)
			metric->quantile[i] = (float) (i - 16) / 4;
	}
	made = made && sba_model_encode(&model, bytes, length, NULL) == SBA_OK;
	for (int i = 0; i < GOLDEN_METRICS; i++)
		drop(&forests[i]);
	return made;
}

/* What the model is asked about: deviations of the three metrics. */
static const double golden_deviations[GOLDEN_SAMPLES][GOLDEN_METRICS] = {
	{0, 0, 0},
	{-1.25, 0.5, NAN},
	{-4, 1, 0.5},
	{NAN, 9, -2},
	{0.25, 40, 1},
	{NAN, NAN, NAN},
};

static inline void
golden_verdict(const SbaModel *model, int sample, SbaVerdict *verdict)
{
	SbaFeatures features;
	double		values[GOLDEN_METRICS];

	memset(&features, 0, sizeof(features));
	for (int m = 0; m < GOLDEN_METRICS; m++)
	{
		features.expected_z[m] = 0.75;
		features.sigma[m] = 0.25;
		features.deviation[m] = golden_deviations[sample][m];
		features.run[m] = 0.75 * golden_deviations[sample][m];
		features.z[m] = 0.75 + 0.25 * features.deviation[m];
		values[m] = 100 * features.deviation[m];
	}
	sba_model_evaluate(model, golden_metrics, values, &features, 0.001, verdict);
	sba_model_explain(model, &features, verdict);
}

/* Read a file of test/golden; NULL, with a note, if that is not possible. */
static inline uint8_t *
golden_read(const char *name, const char *suffix, size_t *length)
{
	uint8_t    *bytes = malloc(GOLDEN_MAX_BYTES);
	char		path[256];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s%s", GOLDEN_FOLDER, name, suffix);
	file = fopen(path, "rb");
	if (file == NULL || bytes == NULL)
	{
		fprintf(stderr, "#   cannot read %s\n", path);
		free(bytes);
		if (file != NULL)
			fclose(file);
		return NULL;
	}
	*length = fread(bytes, 1, GOLDEN_MAX_BYTES - 1, file);
	bytes[*length] = '\0';
	fclose(file);
	return bytes;
}

#endif							/* SBA_TEST_GOLDEN_FIXTURE_H */
