/*
 * noise.c
 *	  How far a metric lies from what is expected when nothing is wrong.
 */
#include "core/noise.h"

#include <math.h>
#include <string.h>

#include "core/statistics.h"

/* Groups of equal size, by requests, in which the noise is measured. */
#define NOISE_GROUPS 8

/* Noise is never taken for less: 1 % of a rate or latency. */
#define MIN_SIGMA_OF_LOG 0.01
#define MIN_SIGMA_OF_RATIO 0.002

/*
 * Variance of z that one request brings with it: of the logarithm of a
 * Poisson count, and of asin(sqrt()) of a binomial share (Anscombe 1948).
 */
#define COUNT_VARIANCE_OF_RATE 1.0
#define COUNT_VARIANCE_OF_RATIO 0.25

/* Rows at the level that holds now that are enough to know its noise. */
#define ENOUGH_CURRENT_ROWS 576

/*
 * A profile of few days follows their noise.  With less than a week to learn
 * from, rows that were held out say how much there is, if it is more.
 */
#define SHORT_HISTORY_S (7 * 24 * 3600)
#define MIN_HELDOUT_VALUES 30
#define MAX_VARIANCE_FACTOR 16.0

/*
 * Which rows count: those that are learnt from, or those at the level that
 * holds now, held-out ones too.
 */
typedef struct Selection
{
	SbaRowRole	role;			/* this one or more */
	size_t		first_row;
} Selection;

static bool
is_selected(const SbaNoiseRows *rows, const Selection *selection, int metric, size_t row)
{
	SbaRowRole	role = (SbaRowRole) rows->role[row];

	return row >= selection->first_row && !rows->unsettled[row] &&
		(role == SBA_ROLE_LEARN || role == selection->role) &&
		!isnan(rows->table->deviation[row * (size_t) rows->history->n_metrics + (size_t) metric]);
}

/* One request's share of those behind a row; 0 when nobody counts them. */
static double
request_share(const SbaNoiseRows *rows, int metric, int rate, size_t row, const SbaBaseline *baselines)
{
	size_t		first = row * (size_t) rows->history->n_metrics;
	double		requests;

	if (rate < 0)
		return 0;
	if (rate == metric)
		requests = sba_inverse_transform(rows->metrics[rate].kind, baselines[rate].offset,
										 rows->table->expected_z[first + (size_t) rate]);
	else
		requests = rows->history->values[first + (size_t) rate];
	return isnan(requests) ? 0 : 1 / fmax(rows->interval_s * requests, 1);
}

/*
 * Fit variance = base + count * share to the robust variance of the residuals
 * in groups of rows with similar request counts.  Without a known count
 * variance the line is fitted by weighted least squares, kept non-negative.
 */
static void
fit_noise(const SbaMetric *metric, const double *share_of, double *residual, size_t n,
		  SbaBaseline *baseline)
{
	double		variance[NOISE_GROUPS];
	double		share[NOISE_GROUPS];
	double		base[NOISE_GROUPS];
	double		min_sigma = metric->kind == SBA_KIND_RATIO ? MIN_SIGMA_OF_RATIO : MIN_SIGMA_OF_LOG;
	double		sw = 0,
				sx = 0,
				sy = 0,
				sxx = 0,
				sxy = 0;
	int			g;

	for (g = 0; g < NOISE_GROUPS; g++)
	{
		size_t		begin = n * (size_t) g / NOISE_GROUPS;
		size_t		end = n * (size_t) (g + 1) / NOISE_GROUPS;
		double		sigma;
		double		weight;
		size_t		i;

		share[g] = 0;
		for (i = begin; i < end; i++)
			share[g] += share_of[i] / (double) (end - begin);
		sigma = sba_robust_sigma(residual + begin, end - begin);
		variance[g] = fmax(sigma * sigma, min_sigma * min_sigma);
		weight = 1 / (variance[g] * variance[g]);
		sw += weight;
		sx += weight * share[g];
		sy += weight * variance[g];
		sxx += weight * share[g] * share[g];
		sxy += weight * share[g] * variance[g];
	}

	if (metric->kind == SBA_KIND_RATE)
		baseline->count_variance = COUNT_VARIANCE_OF_RATE;
	else if (metric->kind == SBA_KIND_RATIO)
		baseline->count_variance = COUNT_VARIANCE_OF_RATIO;
	else if (sw * sxx - sx * sx > 1e-12 * sw * sxx)
		baseline->count_variance = fmax((sw * sxy - sx * sy) / (sw * sxx - sx * sx), 0);
	else
		baseline->count_variance = 0;

	for (g = 0; g < NOISE_GROUPS; g++)
		base[g] = variance[g] - baseline->count_variance * share[g];
	baseline->base_variance = fmax(sba_median(base, NOISE_GROUPS), min_sigma * min_sigma);
}

/* Raise the noise to that of the rows that were held out, if it is more. */
static void
allow_for_heldout(const SbaNoiseRows *rows, int metric, int rate, SbaBaseline *baselines)
{
	size_t		n_metrics = (size_t) rows->history->n_metrics;
	SbaBaseline *baseline = &baselines[metric];
	double		sigma;
	size_t		n = 0;
	size_t		row;

	for (row = 0; row < rows->history->n_rows; row++)
	{
		double		residual = rows->table->deviation[row * n_metrics + (size_t) metric];

		if (rows->role[row] != SBA_ROLE_HELDOUT || rows->unsettled[row] || isnan(residual))
			continue;
		rows->scratch[n++] = residual / sqrt(baseline->base_variance + baseline->count_variance *
											 request_share(rows, metric, rate, row, baselines));
	}
	if (n < MIN_HELDOUT_VALUES)
		return;
	sigma = sba_robust_sigma(rows->scratch, n);
	baseline->base_variance *= fmin(fmax(sigma * sigma, 1), MAX_VARIANCE_FACTOR);
}

void
sba_learn_noise(const SbaNoiseRows *rows, int metric, size_t current, SbaBaseline *baselines)
{
	const SbaHistory *history = rows->history;
	size_t		n_metrics = (size_t) history->n_metrics;
	Selection	learnt = {SBA_ROLE_LEARN, 0};
	Selection	at_level = {SBA_ROLE_HELDOUT, current};
	const Selection *selection = &learnt;
	double	   *share = rows->scratch;
	double	   *residual = rows->scratch + history->n_rows;
	int			rate = -1;
	size_t		n = 0;
	size_t		row;
	size_t		i;
	int			m;

	for (m = 0; m < history->n_metrics; m++)
		if (rows->metrics[m].counts_requests && baselines[m].known)
			rate = m;
	for (row = current; row < history->n_rows && current > 0; row++)
		n += is_selected(rows, &at_level, metric, row);
	if (n >= ENOUGH_CURRENT_ROWS)
		selection = &at_level;

	n = 0;
	for (row = 0; row < history->n_rows; row++)
	{
		if (!is_selected(rows, selection, metric, row))
			continue;
		rows->order[n++] = sba_sortable(request_share(rows, metric, rate, row, baselines), (uint32_t) row);
	}
	baselines[metric].base_variance = 1;
	if (n < NOISE_GROUPS)
		return;
	sba_sort_sortable(rows->order, rows->order + history->n_rows, n);
	for (i = 0; i < n; i++)
	{
		row = sba_sortable_row(rows->order[i]);
		share[i] = request_share(rows, metric, rate, row, baselines);
		residual[i] = rows->table->deviation[row * n_metrics + (size_t) metric];
	}
	fit_noise(&rows->metrics[metric], share, residual, n, &baselines[metric]);
	if (n * (size_t) rows->interval_s < SHORT_HISTORY_S)
		allow_for_heldout(rows, metric, rate, baselines);
}
