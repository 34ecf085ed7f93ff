/*
 * drift.c
 *	  Whether what comes in still looks like what a model was trained on.
 */
#include "core/drift.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"

/* One wild sample must not move a mean. */
#define LARGEST_STANDING 10.0

/* A block ends where this much time has no sample, or after a day. */
#define BLOCK_GAP_S		(2 * 3600)
#define BLOCK_SPAN_S	(24 * 3600)

/* Blocks that a reference needs beyond one for each metric. */
#define SPARE_BLOCKS	4

/* A metric that fewer of the rows have is not compared. */
#define MIN_SHARE_OF_ROWS 0.9
#define MIN_SHARE_OF_WINDOW 0.5

/* Added to the correlation's diagonal, so that it can be inverted. */
#define RIDGE			1e-3

/*
 * A drift is both significant and large: normal quantile of 1e-5, and a
 * distance in sigma.  A severe one is beyond twice of each.
 */
#define SIGNIFICANT_QUANTILE 4.264890793922825
#define MODERATE_DISTANCE	1.0

const double sba_drift_confidence[3] = {1.0, 0.85, 0.7};
const char *const sba_drift_names[3] = {"none", "moderate", "severe"};

double
sba_drift_standing(SbaMetricKind kind, const SbaBaseline *baseline, int minute_of_week, double value)
{
	double		standing;

	if (!baseline->known || isnan(value))
		return NAN;
	standing = (sba_transform(kind, baseline->offset, value) -
				sba_profile_value(baseline, sba_profile_slot(minute_of_week))) / sqrt(baseline->base_variance);
	return fmax(fmin(standing, LARGEST_STANDING), -LARGEST_STANDING);
}

void
sba_drift_window_add(SbaDriftWindow *window, int n_metrics, const double *standing)
{
	int			m;

	window->n_rows++;
	for (m = 0; m < n_metrics; m++)
	{
		if (isnan(standing[m]))
			continue;
		window->n_values[m]++;
		window->sum[m] += standing[m];
	}
}

/* Chi-square quantile by the cube of a normal one (Wilson and Hilferty 1931). */
static double
significant_statistic(int n_metrics)
{
	double		ninth = 2.0 / (9.0 * n_metrics);
	double		root = 1 - ninth + SIGNIFICANT_QUANTILE * sqrt(ninth);

	return n_metrics * root * root * root;
}

void
sba_drift_measure(const SbaDriftReference *reference, int n_metrics,
				  const SbaDriftWindow *window, SbaDrift *drift)
{
	double		moved[SBA_MAX_METRICS] = {0};
	double		square = 0;
	double		threshold;
	int			i;
	int			j;

	memset(drift, 0, sizeof(*drift));
	if (!reference->known || window->n_rows == 0)
		return;
	for (i = 0; i < n_metrics; i++)
	{
		if (sba_load_f64(reference->inverse_covariance + 8 * (size_t) (i * n_metrics + i)) <= 0 ||
			(double) window->n_values[i] < MIN_SHARE_OF_WINDOW * (double) window->n_rows)
			continue;
		drift->n_metrics++;
		moved[i] = window->sum[i] / (double) window->n_values[i] - reference->mean[i];
	}
	if (drift->n_metrics == 0)
		return;
	for (i = 0; i < n_metrics; i++)
		for (j = 0; j < n_metrics; j++)
			square += moved[i] * moved[j] *
				sba_load_f64(reference->inverse_covariance + 8 * (size_t) (i * n_metrics + j));
	square = fmax(square, 0);
	drift->distance = sqrt(square);
	drift->effective_rows = fmax((double) window->n_rows / reference->dependent_rows, 1);

	/* the training's mean is that of few independent rows too */
	drift->statistic = square / (1 / drift->effective_rows + 1 / reference->n_blocks);
	threshold = significant_statistic(drift->n_metrics) * reference->n_blocks /
		fmax(reference->n_blocks - drift->n_metrics, 1);
	if (drift->statistic > 2 * threshold && drift->distance >= 2 * MODERATE_DISTANCE)
		drift->level = SBA_DRIFT_SEVERE;
	else if (drift->statistic > threshold && drift->distance >= MODERATE_DISTANCE)
		drift->level = SBA_DRIFT_MODERATE;
}

/* Sums over the rows, and over the means of their blocks. */
typedef struct Moments
{
	size_t		n[SBA_MAX_METRICS];
	double		mean[SBA_MAX_METRICS];
	double		variance[SBA_MAX_METRICS];
	size_t		n_blocks;
	double		rows_of_block;
} Moments;

static void
take_moments(const double *standings, size_t n_rows, int n_metrics, Moments *moments)
{
	size_t		row;
	int			m;

	for (row = 0; row < n_rows; row++)
		for (m = 0; m < n_metrics; m++)
		{
			double		standing = standings[row * (size_t) n_metrics + (size_t) m];

			if (isnan(standing))
				continue;
			moments->n[m]++;
			moments->mean[m] += standing;
			moments->variance[m] += standing * standing;
		}
	for (m = 0; m < n_metrics; m++)
	{
		if (moments->n[m] == 0)
			continue;
		moments->mean[m] /= (double) moments->n[m];
		moments->variance[m] = moments->variance[m] / (double) moments->n[m] -
			moments->mean[m] * moments->mean[m];
	}
}

/*
 * How many rows say as much as one independent row: the variance of the means
 * of blocks against what independent rows would give, in the metric where this
 * is most.
 */
static double
count_dependent_rows(const int64_t *time_s, const double *standings, size_t n_rows,
					 int n_metrics, Moments *moments)
{
	double		squares[SBA_MAX_METRICS] = {0};
	double		largest = 1;
	size_t		begin = 0;
	size_t		row;
	int			m;

	for (row = 1; row <= n_rows; row++)
	{
		if (row < n_rows && time_s[row] - time_s[row - 1] < BLOCK_GAP_S &&
			time_s[row] - time_s[begin] < BLOCK_SPAN_S)
			continue;
		for (m = 0; m < n_metrics; m++)
		{
			double		sum = 0;
			size_t		n = 0;
			size_t		i;

			for (i = begin; i < row; i++)
			{
				double		standing = standings[i * (size_t) n_metrics + (size_t) m];

				if (isnan(standing))
					continue;
				sum += standing - moments->mean[m];
				n++;
			}
			/* long blocks count more: n times the square of the mean */
			if (n > 0)
				squares[m] += sum * sum / (double) n;
		}
		moments->n_blocks++;
		begin = row;
	}
	for (m = 0; m < n_metrics && moments->n_blocks > 1; m++)
		if (moments->variance[m] > 0)
			largest = fmax(largest, squares[m] / (double) (moments->n_blocks - 1) / moments->variance[m]);
	return largest;
}

/*
 * Invert a symmetric positive definite matrix in place (Gauss and Jordan,
 * without pivots, which it does not need).
 */
static void
invert(double *matrix, int n)
{
	int			p;

	for (p = 0; p < n; p++)
	{
		double		pivot = matrix[p * n + p];
		int			i;
		int			j;

		matrix[p * n + p] = 1;
		for (j = 0; j < n; j++)
			matrix[p * n + j] /= pivot;
		for (i = 0; i < n; i++)
		{
			double		factor = matrix[i * n + p];

			if (i == p)
				continue;
			matrix[i * n + p] = 0;
			for (j = 0; j < n; j++)
				matrix[i * n + j] -= factor * matrix[p * n + j];
		}
	}
}

void
sba_drift_learn(const int64_t *time_s, const double *standings, size_t n_rows,
				int n_metrics, uint8_t *inverse, SbaDriftReference *reference)
{
	double		matrix[SBA_MAX_METRICS * SBA_MAX_METRICS];
	double		scale[SBA_MAX_METRICS];
	int			compared[SBA_MAX_METRICS];
	Moments		moments;
	int			n = 0;
	size_t		row;
	int			i;
	int			j;

	memset(reference, 0, sizeof(*reference));
	memset(inverse, 0, SBA_DRIFT_INVERSE_SIZE);
	memset(&moments, 0, sizeof(moments));
	memset(matrix, 0, sizeof(matrix));
	reference->inverse_covariance = inverse;
	take_moments(standings, n_rows, n_metrics, &moments);
	reference->dependent_rows = count_dependent_rows(time_s, standings, n_rows, n_metrics, &moments);
	reference->n_blocks = (double) moments.n_blocks;
	for (i = 0; i < n_metrics; i++)
		if ((double) moments.n[i] >= MIN_SHARE_OF_ROWS * (double) n_rows && moments.variance[i] > 0)
			compared[n++] = i;
	if (n == 0 || moments.n_blocks < (size_t) n + SPARE_BLOCKS)
		return;
	reference->known = true;
	for (i = 0; i < n; i++)
	{
		reference->mean[compared[i]] = moments.mean[compared[i]];
		scale[i] = sqrt(moments.variance[compared[i]]);
	}

	/*
	 * the correlation, which is inverted more safely; a missing value is
	 * usual
	 */
	for (row = 0; row < n_rows; row++)
	{
		double		standing[SBA_MAX_METRICS];

		for (i = 0; i < n; i++)
		{
			double		value = standings[row * (size_t) n_metrics + (size_t) compared[i]];

			standing[i] = isnan(value) ? 0 : (value - moments.mean[compared[i]]) / scale[i];
			for (j = 0; j <= i; j++)
				matrix[i * n + j] += standing[i] * standing[j] / (double) n_rows;
		}
	}
	for (i = 0; i < n; i++)
	{
		matrix[i * n + i] = 1 + RIDGE;
		for (j = 0; j < i; j++)
			matrix[j * n + i] = matrix[i * n + j];
	}
	invert(matrix, n);
	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++)
			sba_store_f64(inverse + 8 * (compared[i] * n_metrics + compared[j]),
						  matrix[i * n + j] / (scale[i] * scale[j]));
}
