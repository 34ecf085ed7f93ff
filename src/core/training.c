/*
 * training.c
 *	  From a service's history to one model for each period of the week.
 */
#include "core/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/training_internal.h"

#define TRAINING_SHARE 0.8

/* Whether anything is known of a row. */
static bool
has_value(const SbaHistory *history, size_t row)
{
	int			m;

	for (m = 0; m < history->n_metrics; m++)
		if (!isnan(history->values[row * (size_t) history->n_metrics + (size_t) m]))
			return true;
	return false;
}

static size_t
use_of(const SbaHistory *history, size_t row)
{
	return history->use == NULL ? SBA_USE_ALL : history->use[row];
}

/*
 * Give the rows of one period their roles: of those that teach, the first 80 %
 * are learnt from.
 */
static void
assign_roles(const SbaHistory *history, int number, uint8_t *role, SbaTrainedPeriod *result)
{
	size_t		n_training;
	size_t		n = 0;
	size_t		row;

	for (row = 0; row < history->n_rows; row++)
		if (history->period[row] == number && has_value(history, row))
			result->n_not_used[use_of(history, row)]++;
	result->n_rows = result->n_not_used[SBA_USE_ALL];
	result->n_not_used[SBA_USE_ALL] = 0;
	n_training = (size_t) (TRAINING_SHARE * (double) result->n_rows);

	for (row = 0; row < history->n_rows; row++)
	{
		SbaRowRole	role_in_time = n < n_training ? SBA_ROLE_LEARN : SBA_ROLE_HELDOUT;

		if (history->period[row] != number || !has_value(history, row))
			continue;
		switch (use_of(history, row))
		{
			case SBA_USE_ALL:
				role[row] = role_in_time;
				n++;
				break;
			case SBA_USE_BUSY:
				role[row] = role_in_time == SBA_ROLE_LEARN ? SBA_ROLE_SHAPE : SBA_ROLE_NONE;
				break;
			default:
				role[row] = SBA_ROLE_NONE;
		}
	}
}

/* Rows that a period can be fitted to, its own or another's. */
static bool
is_usable(const SbaPeriodRows *period, size_t row)
{
	return (period->role[row] == SBA_ROLE_LEARN || period->role[row] == SBA_ROLE_HELDOUT) &&
		!period->baselines->unsettled[row];
}

/*
 * Gather rows in one role: the period's own, and of every n_others usable rows of
 * other periods n_borrowed, evenly over time.  *seen counts the others.
 */
static void
gather_role(SbaPeriodRows *period, SbaRowRole role, size_t n_others, size_t n_borrowed,
			const uint32_t *others_before)
{
	size_t		n_metrics = (size_t) period->history->n_metrics;
	size_t		row;

	for (row = 0; row < period->history->n_rows; row++)
	{
		if (period->role[row] != role || !is_usable(period, row))
			continue;
		if (period->history->period[row] != period->number)
		{
			uint64_t	before = others_before[row];

			if (n_borrowed == 0 || before * n_borrowed / n_others == (before + 1) * n_borrowed / n_others)
				continue;
		}
		memcpy(period->deviations + period->n_rows * n_metrics,
			   period->table->deviation + row * n_metrics, n_metrics * sizeof(double));
		period->rows[period->n_rows++] = (uint32_t) row;
	}
}

/* Gather the rows that a period's model is made of. */
static void
gather_rows(SbaPeriodRows *period, uint32_t *others_before, SbaTrainedPeriod *result)
{
	size_t		n_others = 0;
	size_t		n_borrowed;
	size_t		row;

	period->n_own = 0;
	for (row = 0; row < period->history->n_rows; row++)
	{
		others_before[row] = (uint32_t) n_others;
		if (period->history->period[row] == period->number)
		{
			period->n_own += is_usable(period, row);
			result->n_unsettled += period->role[row] != SBA_ROLE_NONE && period->baselines->unsettled[row];
		}
		else
			n_others += is_usable(period, row);
	}
	n_borrowed = period->n_own < SBA_FULL_ROWS_MULTIVARIATE ? SBA_FULL_ROWS_MULTIVARIATE - period->n_own : 0;
	if (n_borrowed > n_others)
		n_borrowed = n_others;

	period->n_rows = 0;
	gather_role(period, SBA_ROLE_LEARN, n_others, n_borrowed, others_before);
	period->n_training = period->n_rows;
	gather_role(period, SBA_ROLE_HELDOUT, n_others, n_borrowed, others_before);

	/* where no forest is fitted, all rows may calibrate */
	result->basis = n_borrowed > 0 ? SBA_BASIS_SIBLINGS : SBA_BASIS_OWN;
	if (period->n_rows < SBA_FULL_ROWS_UNIVARIATE)
	{
		result->basis = SBA_BASIS_ROBUST;
		period->n_training = 0;
	}
	result->n_rows = period->n_own;
	result->n_borrowed = period->n_rows - period->n_own;
	result->n_heldout = period->n_rows - period->n_training;
}

/* Say what an accepted model lacks. */
static void
explain_basis(SbaTrainedPeriod *result)
{
	size_t		missing = SBA_FULL_ROWS_MULTIVARIATE - result->n_rows;

	if (result->basis == SBA_BASIS_SIBLINGS)
		snprintf(result->reason, sizeof(result->reason),
				 "based on %zu samples and %zu of other periods; %zu more give full confidence",
				 result->n_rows, result->n_borrowed, missing);
	else if (result->basis == SBA_BASIS_ROBUST)
		snprintf(result->reason, sizeof(result->reason),
				 "based on medians of %zu samples and %zu of other periods, which are too few for forests;"
				 " %zu more give full confidence",
				 result->n_rows, result->n_borrowed, missing);
}

static SbaStatus
train_period(SbaPeriodRows *period, SbaTrainedPeriod *result, SbaError *error)
{
	size_t		missing = 0;
	SbaModel	model;
	uint8_t    *forest_bytes[SBA_MAX_METRICS + 1] = {NULL};
	uint8_t		inverse[SBA_DRIFT_INVERSE_SIZE];
	SbaStatus	status;
	int			m;

	if (period->n_rows < SBA_MIN_TRAINING_ROWS)
		missing = SBA_MIN_TRAINING_ROWS - period->n_rows;
	if (period->n_own < SBA_MIN_OWN_ROWS && SBA_MIN_OWN_ROWS - period->n_own > missing)
		missing = SBA_MIN_OWN_ROWS - period->n_own;
	if (missing > 0)
	{
		snprintf(result->reason, sizeof(result->reason), "%zu samples, at least %zu are needed: %zu are missing",
				 period->n_own, period->n_own + missing, missing);
		return SBA_OK;
	}

	for (m = 0; m < period->history->n_metrics && !period->baselines->baseline[m].known; m++)
		continue;
	if (m == period->history->n_metrics)
	{
		snprintf(result->reason, sizeof(result->reason), "no metric has %d values to learn from",
				 SBA_MIN_BASELINE_VALUES);
		return SBA_OK;
	}

	status = sba_fit_period(period, &model, forest_bytes, inverse, result, error);
	if (status == SBA_OK)
	{
		explain_basis(result);
		sba_validate_period(period, &model, result);
		status = sba_model_encode(&model, &result->bytes, &result->length, error);
	}
	for (m = 0; m <= period->history->n_metrics; m++)
		free(forest_bytes[m]);
	result->drift.inverse_covariance = NULL;
	return status;
}

static SbaStatus
train_all(SbaPeriodRows *period, uint8_t *role, uint32_t *others_before,
		  SbaTrainedPeriod *results, SbaError *error)
{
	const SbaHistory *history = period->history;
	const SbaTrainingOptions *options = period->options;
	SbaBaselines baselines;
	SbaFeatureTable table = {0};
	SbaStatus	status;
	int			p;

	memset(role, SBA_ROLE_NONE, history->n_rows);
	for (p = 0; p < options->n_periods; p++)
		assign_roles(history, p, role, &results[p]);
	status = sba_baselines_learn(period->metrics, history, role, options->interval_s,
								 &baselines, &table, error);
	period->role = role;
	period->baselines = &baselines;
	period->table = &table;
	for (p = 0; p < options->n_periods && status == SBA_OK; p++)
	{
		SbaTrainedPeriod *result = &results[p];

		result->n_level_changes = baselines.n_level_changes;
		if (baselines.n_level_changes > 0)
			result->last_level_change_s = history->time_s[baselines.last_level_change];
		period->number = p;
		gather_rows(period, others_before, result);
		status = train_period(period, result, error);
	}
	period->baselines = NULL;
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
	SbaPeriodRows period;
	uint8_t    *role = malloc(n + 1);
	uint32_t   *others_before = malloc((n + 1) * sizeof(*others_before));
	SbaStatus	status;

	memset(periods, 0, (size_t) options->n_periods * sizeof(*periods));
	memset(&period, 0, sizeof(period));
	period.metrics = metrics;
	period.history = history;
	period.options = options;
	period.rows = malloc((n + 1) * sizeof(*period.rows));
	period.left_out = malloc((n + 1) * sizeof(*period.left_out));
	period.deviations = malloc((n * n_metrics + 1) * sizeof(*period.deviations));
	period.standings = malloc((n * n_metrics + 1) * sizeof(*period.standings));
	period.times = malloc((n + 1) * sizeof(*period.times));
	period.scratch = malloc((n + 1) * sizeof(*period.scratch));
	period.forest_scores = malloc((n + 1) * sizeof(*period.forest_scores));
	if (history->n_metrics < 1 || history->n_metrics > SBA_MAX_METRICS || n > UINT32_MAX)
		status = sba_fail(error, SBA_INVALID_ARGUMENT, "history has %zu rows of %d metrics", n, history->n_metrics);
	else if (role == NULL || others_before == NULL || period.rows == NULL || period.left_out == NULL ||
			 period.deviations == NULL || period.standings == NULL || period.times == NULL ||
			 period.scratch == NULL || period.forest_scores == NULL)
		status = sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
	else
		status = train_all(&period, role, others_before, periods, error);
	free(role);
	free(others_before);
	free(period.rows);
	free(period.left_out);
	free(period.deviations);
	free(period.standings);
	free(period.times);
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
