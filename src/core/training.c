/*
 * training.c
 *	  From a service's history to one model for each period of the week.
 */
#include "core/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/baseline.h"
#include "core/model.h"
#include "core/statistics.h"

#define TRAINING_SHARE 0.8

/*
 * One-dimensional forests settle with fewer trees than multivariate ones; the
 * deviation's tail carries what lies beyond both.
 */
#define UNIVARIATE_TREES	50
#define MULTIVARIATE_TREES	100
#define SAMPLE_SIZE			256

/* A metric with fewer values in a period is not judged there. */
#define MIN_PERIOD_VALUES 30

/* Rows whose largest deviation is beyond this may be taken for bad. */
#define SUSPICIOUS_SIGMAS 6.0

/* Bounds of tail slopes, in decades: per sigma, per unit of a forest's score
 * (which lies in 0..1), and per decade of nominal evidence. */
#define MIN_SLOPE_PER_SIGMA		0.4
#define MAX_SLOPE_PER_SIGMA		1.2
#define MIN_SLOPE_PER_SCORE		2.0
#define MAX_SLOPE_PER_SCORE		40.0
#define MIN_SLOPE_PER_DECADE	0.6
#define MAX_SLOPE_PER_DECADE	1.3

/* Faults injected into the held-out rows of each metric. */
#define INJECTED_PER_METRIC		40
#define INJECTED_SIGMAS			8.0
#define INJECTED_LOG_DISTANCE	1.4 /* four times the expected value */
#define INJECTED_RATIO_DISTANCE	0.3 /* from 0 to 9 % */
#define MIN_RECALL				0.5

/* Least share of held-out rows that a model may flag. */
#define MIN_ALLOWED_FLAGGED		0.05

/* What the training of one period works on. */
typedef struct PeriodRows
{
	const SbaMetric *metrics;
	const SbaHistory *history;
	const SbaFeatureTable *table;
	const SbaTrainingOptions *options;
	uint32_t   *rows;			/* indexes into the history, ascending */
	size_t		n_rows;
	size_t		n_training;
	bool	   *left_out;		/* [n_rows] taken for bad */
	double	   *deviations;		/* [n_rows][n_metrics] */
	double	   *scratch;		/* [n_rows] */
	double	   *forest_scores;	/* [n_rows] of the multivariate forest, for
								 * held-out rows */
} PeriodRows;

static double
largest_deviation(const PeriodRows *period, size_t i)
{
	const double *deviation = period->deviations + i * (size_t) period->history->n_metrics;
	double		largest = 0;
	int			m;

	for (m = 0; m < period->history->n_metrics; m++)
		if (!isnan(deviation[m]))
			largest = fmax(largest, fabs(deviation[m]));
	return largest;
}

/*
 * Take the strangest rows for bad: those beyond all reason, and no more of
 * them than the prior says there may be.
 */
static size_t
leave_out_bad_rows(PeriodRows *period)
{
	size_t		allowed = (size_t) (period->options->contamination * (double) period->n_rows);
	double		limit;
	size_t		n_left_out = 0;
	size_t		i;

	for (i = 0; i < period->n_rows; i++)
		period->scratch[i] = largest_deviation(period, i);
	sba_sort(period->scratch, period->n_rows);
	limit = fmax(SUSPICIOUS_SIGMAS, period->scratch[period->n_rows - 1 - allowed]);
	for (i = 0; i < period->n_rows; i++)
	{
		period->left_out[i] = largest_deviation(period, i) > limit;
		n_left_out += period->left_out[i];
	}
	return n_left_out;
}

/* Collect one metric's deviations, times sign, sorted, without bad rows. */
static size_t
collect_deviations(const PeriodRows *period, int metric, double sign)
{
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < period->n_rows; i++)
	{
		double		deviation = period->deviations[i * (size_t) period->history->n_metrics + (size_t) metric];

		if (!period->left_out[i] && !isnan(deviation))
			period->scratch[n++] = sign * deviation;
	}
	sba_sort(period->scratch, n);
	return n;
}

/* Each forest of a model has a seed of its own. */
static uint64_t
forest_seed(uint64_t seed, int forest)
{
	return seed + UINT64_C(0x9E3779B97F4A7C15) * (uint64_t) (forest + 1);
}

static SbaStatus
fit_metric(const PeriodRows *period, int m, uint64_t seed, SbaMetricModel *metric,
		   uint8_t **bytes, SbaError *error)
{
	SbaForestParameters parameters = {1, UNIVARIATE_TREES, SAMPLE_SIZE, seed};
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		length;
	size_t		n;
	size_t		i;
	SbaStatus	status;

	n = collect_deviations(period, m, -1);
	sba_tail_fit(&metric->low_tail, period->scratch, n, MIN_SLOPE_PER_SIGMA, MAX_SLOPE_PER_SIGMA);
	n = collect_deviations(period, m, 1);
	sba_tail_fit(&metric->high_tail, period->scratch, n, MIN_SLOPE_PER_SIGMA, MAX_SLOPE_PER_SIGMA);
	for (i = 0; i < SBA_DEVIATION_QUANTILES; i++)
		metric->quantile[i] = (float) sba_quantile_of_sorted(period->scratch, n,
															 (double) i / (SBA_DEVIATION_QUANTILES - 1));

	n = 0;
	for (i = 0; i < period->n_training; i++)
	{
		double		deviation = period->deviations[i * n_metrics + (size_t) m];

		if (!period->left_out[i] && !isnan(deviation))
			period->scratch[n++] = deviation;
	}
	if (n < MIN_PERIOD_VALUES)
		return SBA_OK;
	status = sba_forest_fit(period->scratch, n, &parameters, bytes, &length, error);
	if (status == SBA_OK)
		status = sba_forest_open(*bytes, length, &metric->forest, error);
	if (status != SBA_OK)
		return status;
	metric->has_forest = true;

	n = collect_deviations(period, m, 1);
	sba_forest_score(&metric->forest, period->scratch, n, period->forest_scores);
	memcpy(period->scratch, period->forest_scores, n * sizeof(double));
	sba_sort(period->scratch, n);
	sba_tail_fit(&metric->forest_tail, period->scratch, n, MIN_SLOPE_PER_SCORE, MAX_SLOPE_PER_SCORE);
	return SBA_OK;
}

/* Held-out rows' scores calibrate the multivariate forest. */
static SbaStatus
fit_multivariate(const PeriodRows *period, uint64_t seed, SbaModel *model,
				 uint8_t **bytes, SbaError *error)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	SbaForestParameters parameters = {(uint32_t) n_metrics, MULTIVARIATE_TREES, SAMPLE_SIZE, seed};
	double	   *rows = malloc((period->n_training * n_metrics + 1) * sizeof(double));
	size_t		n = 0;
	size_t		length;
	size_t		i;
	SbaStatus	status;

	if (rows == NULL)
		return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
	for (i = 0; i < period->n_training; i++)
		if (!period->left_out[i])
			memcpy(rows + n++ * n_metrics, period->deviations + i * n_metrics, n_metrics * sizeof(double));
	status = sba_forest_fit(rows, n, &parameters, bytes, &length, error);
	free(rows);
	if (status == SBA_OK)
		status = sba_forest_open(*bytes, length, &model->forest, error);
	if (status != SBA_OK)
		return status;

	sba_forest_score(&model->forest, period->deviations + period->n_training * n_metrics,
					 period->n_rows - period->n_training, period->forest_scores + period->n_training);
	n = 0;
	for (i = period->n_training; i < period->n_rows; i++)
		if (!period->left_out[i])
			period->scratch[n++] = period->forest_scores[i];
	if (n == 0)
		period->scratch[n++] = 0.5;
	sba_sort(period->scratch, n);
	sba_tail_fit(&model->forest_tail, period->scratch, n, MIN_SLOPE_PER_SCORE, MAX_SLOPE_PER_SCORE);
	return SBA_OK;
}

/*
 * How often a sample has this much evidence in any of its metrics: several
 * looks at one sample are more likely to find something than one.
 */
static void
calibrate_evidence(const PeriodRows *period, SbaModel *model)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		n = 0;
	size_t		i;

	for (i = period->n_training; i < period->n_rows; i++)
	{
		const double *deviation = period->deviations + i * n_metrics;
		double		evidence[SBA_MAX_METRICS];
		double		metric_score;
		size_t		m;

		if (period->left_out[i])
			continue;
		for (m = 0; m < n_metrics; m++)
			evidence[m] = isnan(deviation[m]) || !model->metric[m].baseline.known ? 0 :
				sba_metric_evidence(&model->metric[m], deviation[m], &metric_score);
		period->scratch[n++] = sba_sample_evidence(period->metrics, (int) n_metrics, deviation, evidence,
												   sba_tail_evidence(&model->forest_tail, period->forest_scores[i]),
												   NULL);
	}
	if (n == 0)
		period->scratch[n++] = 0;
	sba_sort(period->scratch, n);
	sba_tail_fit(&model->evidence_tail, period->scratch, n, MIN_SLOPE_PER_DECADE, MAX_SLOPE_PER_DECADE);
}

/* Features of a row, as they were computed, for another look at it. */
static void
features_of_row(const PeriodRows *period, size_t i, SbaFeatures *features)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		cell = period->rows[i] * n_metrics;
	size_t		m;

	for (m = 0; m < n_metrics; m++)
	{
		features->deviation[m] = period->table->deviation[cell + m];
		features->expected_z[m] = period->table->expected_z[cell + m];
		features->sigma[m] = period->table->sigma[cell + m];
		features->z[m] = features->expected_z[m] + features->deviation[m] * features->sigma[m];
	}
}

/*
 * The value that a metric would have in a fault: well away from what is
 * expected, and from what the noise of few requests can explain.
 */
static double
faulty_value(const SbaMetric *metric, const SbaFeatures *features, int m, double offset)
{
	double		distance = fmax(INJECTED_LOG_DISTANCE, INJECTED_SIGMAS * features->sigma[m]);

	if (metric->kind == SBA_KIND_RATIO)
		distance = fmax(INJECTED_RATIO_DISTANCE, INJECTED_SIGMAS * features->sigma[m]);
	if (metric->direction == SBA_DIRECTION_LOW)
		distance = -distance;
	return sba_inverse_transform(metric->kind, offset, features->expected_z[m] + distance);
}

/*
 * Share of faults found that are put into single metrics of held-out rows,
 * where the fault is large enough to matter; 1 when there was none.
 */
static double
injected_recall(const PeriodRows *period, const SbaModel *model)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		n_heldout = period->n_rows - period->n_training;
	size_t		stride = n_heldout / INJECTED_PER_METRIC + 1;
	size_t		n_injected = 0;
	size_t		n_found = 0;
	size_t		m;

	for (m = 0; m < n_metrics; m++)
	{
		const SbaMetric *metric = &period->metrics[m];
		size_t		i;

		for (i = period->n_training; i < period->n_rows && model->metric[m].baseline.known; i += stride)
		{
			double		values[SBA_MAX_METRICS];
			SbaFeatures features;
			SbaVerdict	verdict;
			double		expected;

			features_of_row(period, i, &features);
			if (isnan(features.deviation[m]))
				continue;
			memcpy(values, period->history->values + period->rows[i] * n_metrics, n_metrics * sizeof(double));
			values[m] = faulty_value(metric, &features, (int) m, model->metric[m].baseline.offset);
			features.z[m] = sba_transform(metric->kind, model->metric[m].baseline.offset, values[m]);
			features.deviation[m] = (features.z[m] - features.expected_z[m]) / features.sigma[m];
			expected = sba_inverse_transform(metric->kind, model->metric[m].baseline.offset, features.expected_z[m]);
			if (fabs(values[m] - expected) < metric->min_absolute_deviation ||
				fabs(values[m] - expected) < metric->min_relative_deviation * expected)
				continue;
			n_injected++;
			sba_model_evaluate(model, period->metrics, values, &features,
							   period->options->budget_probability, &verdict);
			n_found += verdict.is_anomaly;
		}
	}
	return n_injected == 0 ? 1 : (double) n_found / (double) n_injected;
}

static double
flagged_share(const PeriodRows *period, const SbaModel *model)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		n_flagged = 0;
	size_t		i;

	for (i = period->n_training; i < period->n_rows; i++)
	{
		SbaFeatures features;
		SbaVerdict	verdict;

		features_of_row(period, i, &features);
		sba_model_evaluate(model, period->metrics, period->history->values + period->rows[i] * n_metrics,
						   &features, period->options->budget_probability, &verdict);
		n_flagged += verdict.is_anomaly;
	}
	return (double) n_flagged / (double) (period->n_rows - period->n_training);
}

static void
validate(const PeriodRows *period, const SbaModel *model, SbaTrainedPeriod *result)
{
	double		allowed = fmax(period->options->contamination, MIN_ALLOWED_FLAGGED);

	result->flagged_share = flagged_share(period, model);
	result->recall = injected_recall(period, model);
	result->outcome = SBA_TRAINING_ACCEPTED;
	if (result->flagged_share > allowed)
	{
		result->outcome = SBA_TRAINING_REJECTED;
		snprintf(result->reason, sizeof(result->reason),
				 "flags %.1f %% of the held-out samples, allowed are %.1f %%",
				 100 * result->flagged_share, 100 * allowed);
	}
	else if (result->recall < MIN_RECALL)
	{
		result->outcome = SBA_TRAINING_REJECTED;
		snprintf(result->reason, sizeof(result->reason),
				 "finds %.0f %% of the injected faults, at least %.0f %% are asked for",
				 100 * result->recall, 100 * MIN_RECALL);
	}
}

/* The values themselves, for people to read. */
static void
summarize_metric(const PeriodRows *period, int m, const SbaBaseline *baseline, SbaMetricSummary *summary)
{
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < period->n_rows; i++)
	{
		double		value = period->history->values[period->rows[i] * (size_t) period->history->n_metrics + (size_t) m];

		if (!isnan(value))
			period->scratch[n++] = value;
	}
	sba_sort(period->scratch, n);
	summary->n_values = n;
	summary->p05 = sba_quantile_of_sorted(period->scratch, n, 0.05);
	summary->median = sba_quantile_of_sorted(period->scratch, n, 0.5);
	summary->p95 = sba_quantile_of_sorted(period->scratch, n, 0.95);
	summary->sigma = baseline->known ? sqrt(baseline->base_variance) : NAN;
}

static SbaStatus
train_period(PeriodRows *period, const SbaBaselines *baselines, int period_number,
			 SbaTrainedPeriod *result, SbaError *error)
{
	int			n_metrics = period->history->n_metrics;
	uint64_t	seed = period->options->seed + (uint64_t) period_number * 1000003;
	SbaModel	model;
	uint8_t    *forest_bytes[SBA_MAX_METRICS + 1] = {NULL};
	SbaStatus	status = SBA_OK;
	int			m;

	memset(&model, 0, sizeof(model));
	model.n_metrics = n_metrics;
	model.feature_set = sba_feature_set_hash(period->metrics, n_metrics);
	model.seed = period->options->seed;
	model.n_rows = (uint32_t) period->n_rows;
	model.n_heldout = (uint32_t) (period->n_rows - period->n_training);
	result->n_left_out = leave_out_bad_rows(period);

	for (m = 0; m < n_metrics && status == SBA_OK; m++)
	{
		summarize_metric(period, m, &baselines->baseline[m], &result->metric[m]);
		snprintf(model.metric[m].name, sizeof(model.metric[m].name), "%s", period->metrics[m].name);
		model.metric[m].kind = period->metrics[m].kind;
		model.metric[m].baseline = baselines->baseline[m];
		if (collect_deviations(period, m, 1) < MIN_PERIOD_VALUES)
			model.metric[m].baseline.known = false;
		else
			status = fit_metric(period, m, forest_seed(seed, m), &model.metric[m], &forest_bytes[m], error);
	}
	if (status == SBA_OK)
		status = fit_multivariate(period, forest_seed(seed, n_metrics), &model, &forest_bytes[n_metrics], error);
	if (status == SBA_OK)
	{
		calibrate_evidence(period, &model);
		validate(period, &model, result);
		status = sba_model_encode(&model, &result->bytes, &result->length, error);
	}
	for (m = 0; m <= n_metrics; m++)
		free(forest_bytes[m]);
	return status;
}

/* Gather the rows of one period; the first 80 % of them are learnt from. */
static void
gather_rows(PeriodRows *period, int period_number, SbaTrainedPeriod *result)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		row;

	period->n_rows = 0;
	for (row = 0; row < period->history->n_rows; row++)
	{
		if (period->history->period[row] != period_number)
			continue;
		if (period->table != NULL)
			memcpy(period->deviations + period->n_rows * n_metrics,
				   period->table->deviation + row * n_metrics, n_metrics * sizeof(double));
		period->rows[period->n_rows++] = (uint32_t) row;
	}
	period->n_training = (size_t) (TRAINING_SHARE * (double) period->n_rows);
	result->n_rows = period->n_rows;
	result->n_heldout = period->n_rows - period->n_training;
}

static SbaStatus
train_all(PeriodRows *period, bool *learn, SbaTrainedPeriod *results, SbaError *error)
{
	const SbaTrainingOptions *options = period->options;
	SbaBaselines baselines;
	SbaFeatureTable table = {NULL, NULL, NULL};
	SbaStatus	status;
	int			p;

	memset(learn, 0, period->history->n_rows * sizeof(*learn));
	for (p = 0; p < options->n_periods; p++)
	{
		size_t		i;

		gather_rows(period, p, &results[p]);
		for (i = 0; i < period->n_training; i++)
			learn[period->rows[i]] = true;	/* NOLINT: gather_rows() has
											 * filled it */
	}

	status = sba_baselines_learn(period->metrics, period->history, learn, options->interval_s,
								 &baselines, &table, error);
	period->table = &table;
	for (p = 0; p < options->n_periods && status == SBA_OK; p++)
	{
		gather_rows(period, p, &results[p]);
		if (period->n_rows < SBA_MIN_TRAINING_ROWS)
			snprintf(results[p].reason, sizeof(results[p].reason),
					 "%zu samples, at least %d are needed", period->n_rows, SBA_MIN_TRAINING_ROWS);
		else
			status = train_period(period, &baselines, p, &results[p], error);
	}
	period->table = NULL;
	sba_feature_table_free(&table);
	sba_baselines_free(&baselines);
	return status;
}

SbaStatus
sba_train_periods(const SbaMetric *metrics, const SbaHistory *history,
				  const SbaTrainingOptions *options, SbaTrainedPeriod *periods, SbaError *error)
{
	size_t		n = history->n_rows;
	size_t		n_metrics = (size_t) history->n_metrics;
	PeriodRows	period;
	bool	   *learn = malloc(n + 1);
	SbaStatus	status;

	memset(periods, 0, (size_t) options->n_periods * sizeof(*periods));
	memset(&period, 0, sizeof(period));
	period.metrics = metrics;
	period.history = history;
	period.options = options;
	period.rows = malloc((n + 1) * sizeof(*period.rows));
	period.left_out = malloc((n + 1) * sizeof(*period.left_out));
	period.deviations = malloc((n * n_metrics + 1) * sizeof(*period.deviations));
	period.scratch = malloc((n + 1) * sizeof(*period.scratch));
	period.forest_scores = malloc((n + 1) * sizeof(*period.forest_scores));
	if (history->n_metrics < 1 || history->n_metrics > SBA_MAX_METRICS || n > UINT32_MAX)
		status = sba_fail(error, SBA_INVALID_ARGUMENT, "history has %zu rows of %d metrics", n, history->n_metrics);
	else if (learn == NULL || period.rows == NULL || period.left_out == NULL ||
			 period.deviations == NULL || period.scratch == NULL || period.forest_scores == NULL)
		status = sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
	else
		status = train_all(&period, learn, periods, error);
	free(learn);
	free(period.rows);
	free(period.left_out);
	free(period.deviations);
	free(period.scratch);
	free(period.forest_scores);
	return status;
}

void
sba_free_trained_periods(SbaTrainedPeriod *periods, int n_periods)
{
	int			p;

	for (p = 0; p < n_periods; p++)
	{
		free(periods[p].bytes);
		periods[p].bytes = NULL;
	}
}
