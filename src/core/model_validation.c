/*
 * model_validation.c
 *	  Whether a trained model may judge: what it says of held-out rows, as they
 *	  are and with faults put into them.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/training_internal.h"

/* Faults injected into the held-out rows of each metric. */
#define INJECTED_PER_METRIC		40
#define INJECTED_SIGMAS			8.0
#define INJECTED_LOG_DISTANCE	1.4 /* four times the expected value */
#define INJECTED_RATIO_DISTANCE	0.3 /* from 0 to 9 % */
#define MIN_RECALL				0.5

/* Least share of held-out rows that a model may flag. */
#define MIN_ALLOWED_FLAGGED		0.05

/* Features of a row, as they were computed, for another look at it. */
static void
features_of_row(const SbaPeriodRows *period, size_t i, SbaFeatures *features)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		cell = period->rows[i] * n_metrics;
	size_t		m;

	for (m = 0; m < n_metrics; m++)
	{
		features->deviation[m] = period->table->deviation[cell + m];
		features->expected_z[m] = period->table->expected_z[cell + m];
		features->sigma[m] = period->table->sigma[cell + m];
		features->run[m] = period->table->run[cell + m];
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
injected_recall(const SbaPeriodRows *period, const SbaModel *model)
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
flagged_share(const SbaPeriodRows *period, const SbaModel *model)
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

void
sba_validate_period(const SbaPeriodRows *period, const SbaModel *model, SbaTrainedPeriod *result)
{
	double		allowed = fmax(period->options->contamination, MIN_ALLOWED_FLAGGED);

	result->flagged_share = flagged_share(period, model);
	result->recall = injected_recall(period, model);
	result->outcome = SBA_TRAINING_ACCEPTED;
	if (result->flagged_share > allowed || result->recall < MIN_RECALL)
	{
		result->outcome = SBA_TRAINING_REJECTED;
		result->reason[0] = '\0';
	}
	if (result->flagged_share > allowed)
		snprintf(result->reason, sizeof(result->reason),
				 "flags %.1f %% of the held-out samples, allowed are %.1f %%",
				 100 * result->flagged_share, 100 * allowed);
	if (result->recall < MIN_RECALL)
	{
		size_t		length = strlen(result->reason);

		snprintf(result->reason + length, sizeof(result->reason) - length,
				 "%sfinds %.0f %% of the injected faults, at least %.0f %% are asked for",
				 length > 0 ? "; " : "", 100 * result->recall, 100 * MIN_RECALL);
	}
}
