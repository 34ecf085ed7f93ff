/*
 * period_fit.c
 *	  Fitting and calibrating the model of one period.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/statistics.h"
#include "core/training_internal.h"

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
#define MIN_SLOPE_PER_RUN_SIGMA	0.5
#define MAX_SLOPE_PER_RUN_SIGMA	1.1
#define MIN_SLOPE_PER_SCORE		2.0
#define MAX_SLOPE_PER_SCORE		40.0
#define MIN_SLOPE_PER_DECADE	0.6
#define MAX_SLOPE_PER_DECADE	1.3

/* The largest deviation that is taken at its word in a correlation. */
#define LARGEST_CORRELATED 6.0

/* Rows after the last change of level that a drift reference needs. */
#define MIN_DRIFT_ROWS 100

/*
 * Thresholds without forests: the normal quantiles at which the evidence is 0,
 * 1/4, ..., 3 decades, that of 0 being where a tail may well begin, made wider,
 * since no metric is normal.
 */
#define ROBUST_WIDTH 1.5
#define ROBUST_REACH 3.0
static const double normal_quantile[SBA_TAIL_STEPS + 1] = {
	-3.0, -0.157, 0.478, 0.924, 1.282, 1.587, 1.857, 2.102, 2.326, 2.535, 2.731, 2.915, 3.090
};

static double
largest_deviation(const SbaPeriodRows *period, size_t i)
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
leave_out_bad_rows(SbaPeriodRows *period)
{
	size_t		allowed = (size_t) (period->options->contamination * (double) period->n_rows);
	double		limit;
	size_t		n_left_out = 0;
	size_t		i;

	for (i = 0; i < period->n_rows; i++)
		period->scratch[i] = largest_deviation(period, i);
	limit = fmax(SUSPICIOUS_SIGMAS, sba_select(period->scratch, period->n_rows, period->n_rows - 1 - allowed));
	for (i = 0; i < period->n_rows; i++)
	{
		period->left_out[i] = largest_deviation(period, i) > limit;
		n_left_out += period->left_out[i];
	}
	return n_left_out;
}

/*
 * Whether a row speaks of a metric alone: borrowed ones do where the period's
 * own are too few for that.
 */
static bool
is_univariate_row(const SbaPeriodRows *period, size_t i)
{
	return !period->left_out[i] &&
		(period->n_own < SBA_FULL_ROWS_UNIVARIATE ||
		 period->history->period[period->rows[i]] == period->number);
}

/* Collect one metric's deviations, of the first so many rows. */
static size_t
collect_deviations(const SbaPeriodRows *period, int metric, size_t n_rows)
{
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < n_rows; i++)
	{
		double		deviation = period->deviations[i * (size_t) period->history->n_metrics + (size_t) metric];

		if (is_univariate_row(period, i) && !isnan(deviation))
			period->scratch[n++] = deviation;
	}
	return n;
}

/* Each forest of a model has a seed of its own. */
static uint64_t
forest_seed(uint64_t seed, int forest)
{
	return seed + UINT64_C(0x9E3779B97F4A7C15) * (uint64_t) (forest + 1);
}

/* Thresholds from median and median absolute deviation; sign turns them round. */
static void
robust_tail(SbaTail *tail, double center, double sigma)
{
	int			i;

	tail->reach = ROBUST_REACH;
	tail->slope = MIN_SLOPE_PER_SIGMA;
	for (i = 0; i <= SBA_TAIL_STEPS; i++)
		tail->quantile[i] = center + ROBUST_WIDTH * fmax(sigma, 1) * normal_quantile[i];
}

/* The tails of a metric's deviations, which are sorted in scratch. */
static void
fit_deviation_tails(const SbaPeriodRows *period, size_t n, bool has_forests, SbaMetricModel *metric)
{
	double	   *sorted = period->scratch;
	double	   *reversed = period->forest_scores;
	size_t		i;

	for (i = 0; i < SBA_DEVIATION_QUANTILES; i++)
		metric->quantile[i] = (float) sba_quantile_of_sorted(sorted, n,
															 (double) i / (SBA_DEVIATION_QUANTILES - 1));
	for (i = 0; i < n; i++)
		reversed[i] = -sorted[n - 1 - i];
	if (has_forests)
	{
		sba_tail_fit(&metric->high_tail, sorted, n, MIN_SLOPE_PER_SIGMA, MAX_SLOPE_PER_SIGMA);
		sba_tail_fit(&metric->low_tail, reversed, n, MIN_SLOPE_PER_SIGMA, MAX_SLOPE_PER_SIGMA);
	}
	else
	{
		double		center = sba_quantile_of_sorted(sorted, n, 0.5);
		double		sigma;

		memcpy(reversed, sorted, n * sizeof(double));
		sigma = sba_robust_sigma(reversed, n);
		robust_tail(&metric->high_tail, center, sigma);
		robust_tail(&metric->low_tail, -center, sigma);
	}
}

/* The tails of a metric's runs. */
static void
fit_run_tails(const SbaPeriodRows *period, int m, bool has_forests, SbaMetricModel *metric)
{
	double	   *sorted = period->scratch;
	double	   *reversed = period->forest_scores;
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < period->n_rows; i++)
	{
		double		run = period->table->run[period->rows[i] * (size_t) period->history->n_metrics + (size_t) m];

		if (is_univariate_row(period, i) && !isnan(run))
			sorted[n++] = run;
	}
	if (!has_forests || n < MIN_PERIOD_VALUES)
	{
		/* no run is likelier than one deviation as large */
		metric->high_run_tail = metric->high_tail;
		metric->low_run_tail = metric->low_tail;
		return;
	}
	sba_sort(sorted, n);
	for (i = 0; i < n; i++)
		reversed[i] = -sorted[n - 1 - i];
	sba_tail_fit(&metric->high_run_tail, sorted, n, MIN_SLOPE_PER_RUN_SIGMA, MAX_SLOPE_PER_RUN_SIGMA);
	sba_tail_fit(&metric->low_run_tail, reversed, n, MIN_SLOPE_PER_RUN_SIGMA, MAX_SLOPE_PER_RUN_SIGMA);
}

static SbaStatus
fit_metric(const SbaPeriodRows *period, int m, uint64_t seed, bool has_forests,
		   SbaMetricModel *metric, uint8_t **bytes, SbaError *error)
{
	SbaForestParameters parameters = {1, UNIVARIATE_TREES, SAMPLE_SIZE, seed};
	size_t		length;
	size_t		n = collect_deviations(period, m, period->n_training);
	SbaStatus	status;

	if (has_forests && !period->options->without_forests && n >= MIN_PERIOD_VALUES)
	{
		status = sba_forest_fit(period->scratch, n, &parameters, bytes, &length, error);
		if (status == SBA_OK)
			status = sba_forest_open(*bytes, length, &metric->forest, error);
		if (status != SBA_OK)
			return status;
		metric->has_forest = true;
	}
	n = collect_deviations(period, m, period->n_rows);
	sba_sort(period->scratch, n);
	fit_deviation_tails(period, n, has_forests, metric);
	if (metric->has_forest)
	{
		sba_forest_score(&metric->forest, period->scratch, n, period->forest_scores);
		sba_sort(period->forest_scores, n);
		sba_tail_fit(&metric->forest_tail, period->forest_scores, n, MIN_SLOPE_PER_SCORE, MAX_SLOPE_PER_SCORE);
	}
	fit_run_tails(period, m, has_forests, metric);
	return SBA_OK;
}

/* Held-out rows' scores calibrate the multivariate forest. */
static SbaStatus
fit_multivariate(const SbaPeriodRows *period, uint64_t seed, SbaModel *model,
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
	model->has_forest = true;

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
calibrate_evidence(const SbaPeriodRows *period, SbaModel *model)
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
		{
			evidence[m] = 0;
			if (isnan(deviation[m]) || !model->metric[m].baseline.known)
				continue;
			evidence[m] = fmax(sba_metric_evidence(&model->metric[m], deviation[m], &metric_score),
							   sba_run_evidence(&model->metric[m], deviation[m],
												period->table->run[period->rows[i] * n_metrics + m]));
		}
		period->scratch[n++] = sba_sample_evidence(period->metrics, (int) n_metrics, deviation, evidence,
												   model->has_forest ?
												   sba_tail_evidence(&model->forest_tail, period->forest_scores[i]) : 0,
												   NULL);
	}
	if (n == 0)
		period->scratch[n++] = 0;
	sba_sort(period->scratch, n);
	sba_tail_fit(&model->evidence_tail, period->scratch, n, MIN_SLOPE_PER_DECADE, MAX_SLOPE_PER_DECADE);
}

/* The values themselves, of the period's own rows, for people to read. */
static void
summarize_metric(const SbaPeriodRows *period, int m, const SbaBaseline *baseline, SbaMetricSummary *summary)
{
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < period->n_rows; i++)
	{
		double		value = period->history->values[period->rows[i] * (size_t) period->history->n_metrics + (size_t) m];

		if (!isnan(value) && period->history->period[period->rows[i]] == period->number)
			period->scratch[n++] = value;
	}
	summary->n_values = n;
	summary->p05 = sba_quantile(period->scratch, n, 0.05);
	summary->p95 = sba_quantile(period->scratch, n, 0.95);
	summary->median = sba_median(period->scratch, n);
	summary->mad = sba_robust_sigma(period->scratch, n) / SBA_MAD_TO_SIGMA;
	summary->sigma = baseline->known ? sqrt(baseline->base_variance) : NAN;
	summary->upper_sigma = summary->lower_sigma = NAN;
}

/* From how far on a metric alone uses the budget up, in its sigma. */
static void
summarize_thresholds(const SbaPeriodRows *period, const SbaMetricModel *metric, SbaMetricSummary *summary)
{
	double		evidence = -log10(period->options->budget_probability);

	summary->upper_sigma = sba_tail_value(&metric->high_tail, evidence);
	summary->lower_sigma = -sba_tail_value(&metric->low_tail, evidence);
}

/* Correlation of the deviations, of rows that were not taken for bad. */
static void
correlate(const SbaPeriodRows *period, SbaTrainedPeriod *result)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		a;
	size_t		b;
	size_t		i;

	for (a = 0; a < n_metrics; a++)
		for (b = 0; b < a; b++)
		{
			double		sa = 0,
						sb = 0,
						saa = 0,
						sab = 0,
						sbb = 0;
			size_t		n = 0;

			for (i = 0; i < period->n_rows; i++)
			{
				double		x = period->deviations[i * n_metrics + a];
				double		y = period->deviations[i * n_metrics + b];

				if (isnan(x) || isnan(y) || period->left_out[i])
					continue;
				x = x > LARGEST_CORRELATED ? LARGEST_CORRELATED : x < -LARGEST_CORRELATED ? -LARGEST_CORRELATED : x;
				y = y > LARGEST_CORRELATED ? LARGEST_CORRELATED : y < -LARGEST_CORRELATED ? -LARGEST_CORRELATED : y;
				sa += x;
				sb += y;
				saa += x * x;
				sab += x * y;
				sbb += y * y;
				n++;
			}
			saa = (double) n * saa - sa * sa;
			sbb = (double) n * sbb - sb * sb;
			sab = (double) n * sab - sa * sb;
			result->correlation[a][b] = saa > 0 && sbb > 0 ? (float) (sab / sqrt(saa * sbb)) : NAN;
		}
}

/* What the period's own rows at the level that holds now are like. */
static void
learn_drift(const SbaPeriodRows *period, uint8_t *inverse, SbaModel *model)
{
	const SbaHistory *history = period->history;
	size_t		n_metrics = (size_t) history->n_metrics;
	size_t		n = 0;
	size_t		row;

	for (row = period->baselines->last_level_change; row < history->n_rows; row++)
	{
		size_t		m;

		if (history->period[row] != period->number || period->role[row] < SBA_ROLE_HELDOUT ||
			period->role[row] == SBA_ROLE_SHAPE)
			continue;
		for (m = 0; m < n_metrics; m++)
			period->standings[n * n_metrics + m] =
				sba_drift_standing(period->metrics[m].kind, &model->metric[m].baseline,
								   history->minute_of_week[row], history->values[row * n_metrics + m]);
		period->times[n++] = history->time_s[row];
	}
	if (n >= MIN_DRIFT_ROWS)
		sba_drift_learn(period->times, period->standings, n, (int) n_metrics, inverse, &model->drift);
}

SbaStatus
sba_fit_period(SbaPeriodRows *period, SbaModel *model, uint8_t **bytes, uint8_t *inverse,
			   SbaTrainedPeriod *result, SbaError *error)
{
	int			n_metrics = period->history->n_metrics;
	uint64_t	seed = period->options->seed + (uint64_t) period->number * 1000003;
	bool		has_forests = period->n_training > 0;
	SbaStatus	status = SBA_OK;
	int			m;

	memset(model, 0, sizeof(*model));
	model->n_metrics = n_metrics;
	model->feature_set = sba_feature_set_hash(period->metrics, n_metrics);
	model->seed = period->options->seed;
	model->n_rows = (uint32_t) period->n_rows;
	model->n_heldout = (uint32_t) (period->n_rows - period->n_training);
	model->n_borrowed = (uint32_t) (period->n_rows - period->n_own);
	result->n_left_out = leave_out_bad_rows(period);

	for (m = 0; m < n_metrics && status == SBA_OK; m++)
	{
		SbaMetricModel *metric = &model->metric[m];

		summarize_metric(period, m, &period->baselines->baseline[m], &result->metric[m]);
		snprintf(metric->name, sizeof(metric->name), "%s", period->metrics[m].name);
		metric->kind = period->metrics[m].kind;
		metric->baseline = period->baselines->baseline[m];
		if (collect_deviations(period, m, period->n_rows) < MIN_PERIOD_VALUES)
		{
			metric->baseline.known = false;
			continue;
		}
		status = fit_metric(period, m, forest_seed(seed, m), has_forests, metric, &bytes[m], error);
		summarize_thresholds(period, metric, &result->metric[m]);
	}
	if (status == SBA_OK && has_forests && !period->options->without_forests)
		status = fit_multivariate(period, forest_seed(seed, n_metrics), model, &bytes[n_metrics], error);
	if (status != SBA_OK)
		return status;
	calibrate_evidence(period, model);
	correlate(period, result);
	learn_drift(period, inverse, model);
	result->drift = model->drift;
	return SBA_OK;
}
