/*
 * baseline.c
 *	  Learning how a service's metrics usually behave over the week.
 */
#include "core/baseline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/statistics.h"

/* The logarithm's offset, as a share of the usual value. */
#define OFFSET_SHARE 0.01
#define SMALLEST_OFFSET 1e-6

/* A slot's profile is the median over its own and its neighbours' values. */
#define NEIGHBOUR_SLOTS 1

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

/* Rows, and which column of them, that one metric is learnt from. */
typedef struct MetricRows
{
	const SbaMetric *metric;
	const SbaHistory *history;
	const bool *learn;
	int			column;
	double	   *scratch;		/* [n_rows] */
} MetricRows;

static double
value_at(const MetricRows *rows, size_t row)
{
	return rows->history->values[row * (size_t) rows->history->n_metrics + (size_t) rows->column];
}

static bool
row_counts(const MetricRows *rows, size_t row)
{
	return rows->learn[row] && !isnan(value_at(rows, row));
}

/*
 * A value to add before the logarithm: small against the usual, so that zero
 * has a place, and far from it.
 */
static double
learn_offset(const MetricRows *rows, size_t *n_values)
{
	size_t		row;
	size_t		n_positive = 0;

	*n_values = 0;
	for (row = 0; row < rows->history->n_rows; row++)
	{
		if (!row_counts(rows, row))
			continue;
		(*n_values)++;
		if (value_at(rows, row) > 0)
			rows->scratch[n_positive++] = value_at(rows, row);	/* NOLINT: never NULL */
	}
	if (n_positive == 0)
		return 1.0;
	return fmax(OFFSET_SHARE * sba_median(rows->scratch, n_positive), SMALLEST_OFFSET);
}

/* Give slots of a day that have no values their nearest neighbours' mean. */
static void
fill_empty_slots(double *profile)
{
	double		filled[SBA_SLOTS_PER_DAY];
	int			slot;

	for (slot = 0; slot < SBA_SLOTS_PER_DAY; slot++)
	{
		int			back = 0;
		int			ahead = 0;
		double		before;
		double		after;

		filled[slot] = profile[slot];
		if (!isnan(profile[slot]))
			continue;
		do
		{
			back++;
			before = profile[(slot - back + SBA_SLOTS_PER_DAY) % SBA_SLOTS_PER_DAY];
		} while (isnan(before) && back < SBA_SLOTS_PER_DAY);
		do
		{
			ahead++;
			after = profile[(slot + ahead) % SBA_SLOTS_PER_DAY];
		} while (isnan(after) && ahead < SBA_SLOTS_PER_DAY);
		if (!isnan(before))
			filled[slot] = (before * ahead + after * back) / (back + ahead);
	}
	memcpy(profile, filled, sizeof(filled));
}

/*
 * The usual z in each slot: the median over days of the slot and its
 * neighbours, which keeps the edges of batch windows sharp.  slot_rows holds
 * the rows ordered by slot, slot_start where each slot's rows begin.
 */
static void
learn_profile(const MetricRows *rows, double offset, const uint32_t *slot_rows,
			  const uint32_t *slot_start, uint8_t *bytes)
{
	double		profile[SBA_PROFILE_SLOTS];
	bool		day_type_known[SBA_DAY_TYPES] = {false, false};
	int			slot;

	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
	{
		int			day_type = slot / SBA_SLOTS_PER_DAY;
		size_t		n = 0;
		int			neighbour;

		for (neighbour = -NEIGHBOUR_SLOTS; neighbour <= NEIGHBOUR_SLOTS; neighbour++)
		{
			int			other = day_type * SBA_SLOTS_PER_DAY +
			(slot % SBA_SLOTS_PER_DAY + neighbour + SBA_SLOTS_PER_DAY) % SBA_SLOTS_PER_DAY;
			uint32_t	i;

			for (i = slot_start[other]; i < slot_start[other + 1]; i++)
				if (row_counts(rows, slot_rows[i]))
					rows->scratch[n++] = sba_transform(rows->metric->kind, offset,
													   value_at(rows, slot_rows[i]));
		}
		profile[slot] = sba_median(rows->scratch, n);
		day_type_known[day_type] |= n > 0;
	}

	for (slot = 0; slot < SBA_DAY_TYPES; slot++)
		fill_empty_slots(profile + slot * SBA_SLOTS_PER_DAY);
	for (slot = 0; slot < SBA_DAY_TYPES; slot++)
		if (!day_type_known[slot])
			memcpy(profile + slot * SBA_SLOTS_PER_DAY, profile + (1 - slot) * SBA_SLOTS_PER_DAY,
				   SBA_SLOTS_PER_DAY * sizeof(double));
	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
		sba_store_f32(bytes + 4 * slot, (float) profile[slot]);
}

/* Order rows by slot of the profile: a counting sort. */
static void
sort_rows_by_slot(const SbaHistory *history, uint32_t *slot_rows, uint32_t *slot_start)
{
	uint32_t	next[SBA_PROFILE_SLOTS];
	size_t		row;
	int			slot;

	memset(slot_start, 0, (SBA_PROFILE_SLOTS + 1) * sizeof(*slot_start));
	for (row = 0; row < history->n_rows; row++)
		slot_start[sba_profile_slot(history->minute_of_week[row]) + 1]++;
	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
	{
		slot_start[slot + 1] += slot_start[slot];
		next[slot] = slot_start[slot];
	}
	for (row = 0; row < history->n_rows; row++)
		slot_rows[next[sba_profile_slot(history->minute_of_week[row])]++] = (uint32_t) row;
}

typedef struct NoisePoint
{
	double		share;			/* of one request in the sample: 1 / requests */
	double		residual;
} NoisePoint;

static int
compare_noise_points(const void *a, const void *b)
{
	double		x = ((const NoisePoint *) a)->share;
	double		y = ((const NoisePoint *) b)->share;

	return (x > y) - (x < y);
}

/*
 * Fit variance = base + count * share to the robust variance of the residuals
 * in groups of rows with similar request counts.  Without a known count
 * variance the line is fitted by weighted least squares, kept non-negative.
 */
static void
fit_noise(const SbaMetric *metric, NoisePoint *points, size_t n, double *scratch,
		  SbaBaseline *baseline)
{
	double		variance[NOISE_GROUPS];
	double		share[NOISE_GROUPS];
	double		min_sigma = metric->kind == SBA_KIND_RATIO ? MIN_SIGMA_OF_RATIO : MIN_SIGMA_OF_LOG;
	double		sw = 0,
				sx = 0,
				sy = 0,
				sxx = 0,
				sxy = 0;
	int			g;

	qsort(points, n, sizeof(*points), compare_noise_points);
	for (g = 0; g < NOISE_GROUPS; g++)
	{
		size_t		begin = n * (size_t) g / NOISE_GROUPS;
		size_t		end = n * (size_t) (g + 1) / NOISE_GROUPS;
		double		sigma;
		double		weight;
		size_t		i;

		share[g] = 0;
		for (i = begin; i < end; i++)
		{
			scratch[i - begin] = points[i].residual;
			share[g] += points[i].share / (double) (end - begin);
		}
		sigma = sba_robust_sigma(scratch, end - begin);
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
		scratch[g] = variance[g] - baseline->count_variance * share[g];
	baseline->base_variance = fmax(sba_median(scratch, NOISE_GROUPS), min_sigma * min_sigma);
}

/* Most samples that any 24 hours of the history hold. */
static size_t
level_window_capacity(const SbaHistory *history)
{
	size_t		largest = 1;
	size_t		first = 0;
	size_t		row;

	for (row = 0; row < history->n_rows; row++)
	{
		while (history->time_s[first] <= history->time_s[row] - SBA_LEVEL_SPAN_S)
			first++;
		if (row - first + 1 > largest)
			largest = row - first + 1;
	}
	return largest;
}

/* Features of all rows, with the noise as far as it is known. */
static SbaStatus
build_feature_table(const SbaMetric *metrics, const SbaHistory *history,
					const SbaBaselines *baselines, int interval_s,
					SbaFeatureTable *table, SbaError *error)
{
	size_t		n_metrics = (size_t) history->n_metrics;
	size_t		cells = history->n_rows * n_metrics;
	size_t		capacity = level_window_capacity(history);
	void	   *memory = malloc(sba_level_window_size(history->n_metrics, capacity));
	SbaLevelWindow window;
	size_t		row;

	table->deviation = malloc((3 * cells + 1) * sizeof(double));
	if (memory == NULL || table->deviation == NULL)
	{
		free(memory);
		return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
	}
	table->expected_z = table->deviation + cells;
	table->sigma = table->expected_z + cells;

	sba_level_window_init(&window, history->n_metrics, capacity, memory);
	for (row = 0; row < history->n_rows; row++)
	{
		const double *values = history->values + row * n_metrics;
		SbaFeatures features;

		sba_compute_features(metrics, baselines->baseline, &window, history->minute_of_week[row],
							 interval_s, values, &features);
		memcpy(table->deviation + row * n_metrics, features.deviation, n_metrics * sizeof(double));
		memcpy(table->expected_z + row * n_metrics, features.expected_z, n_metrics * sizeof(double));
		memcpy(table->sigma + row * n_metrics, features.sigma, n_metrics * sizeof(double));
		sba_level_window_add(&window, metrics, baselines->baseline, history->time_s[row],
							 history->minute_of_week[row], values);
	}
	free(memory);
	return SBA_OK;
}

/*
 * Learn one metric's noise from the residuals in the table, which were taken
 * with the level of the 24 hours before each row.  rate is the metric that
 * counts requests, or -1.
 */
static void
learn_noise(const MetricRows *rows, const SbaFeatureTable *table, int rate, int interval_s,
			NoisePoint *points, SbaBaselines *baselines)
{
	const SbaHistory *history = rows->history;
	SbaBaseline *baseline = &baselines->baseline[rows->column];
	size_t		n = 0;
	size_t		row;

	for (row = 0; row < history->n_rows; row++)
	{
		size_t		first = row * (size_t) history->n_metrics;
		size_t		cell = first + (size_t) rows->column;
		double		requests = INFINITY;

		if (!row_counts(rows, row))
			continue;
		if (rate == rows->column)
			requests = interval_s * sba_inverse_transform(rows->metric->kind, baseline->offset,
														  table->expected_z[cell]);
		else if (rate >= 0 && !isnan(history->values[first + (size_t) rate]))
			requests = interval_s * history->values[first + (size_t) rate];
		points[n].share = 1 / fmax(requests, 1);
		points[n++].residual = table->deviation[cell];
	}
	if (n >= NOISE_GROUPS)
		fit_noise(rows->metric, points, n, rows->scratch, baseline);
}

/* Take the residuals in the table in units of the noise, now that it is known. */
static void
standardize_table(const SbaMetric *metrics, const SbaHistory *history,
				  const SbaBaselines *baselines, int interval_s, SbaFeatureTable *table)
{
	size_t		n_metrics = (size_t) history->n_metrics;
	size_t		row;

	for (row = 0; row < history->n_rows; row++)
	{
		size_t		cell = row * n_metrics;
		SbaFeatures features;

		memcpy(features.expected_z, table->expected_z + cell, n_metrics * sizeof(double));
		sba_compute_deviations(metrics, baselines->baseline, history->n_metrics, interval_s,
							   history->values + cell, &features);
		memcpy(table->deviation + cell, features.deviation, n_metrics * sizeof(double));
		memcpy(table->sigma + cell, features.sigma, n_metrics * sizeof(double));
	}
}

SbaStatus
sba_baselines_learn(const SbaMetric *metrics, const SbaHistory *history,
					const bool *learn, int interval_s, SbaBaselines *baselines,
					SbaFeatureTable *table, SbaError *error)
{
	size_t		n = history->n_rows;
	double	   *scratch = malloc((n + NOISE_GROUPS) * sizeof(double));
	uint32_t   *slot_rows = malloc((n + 1) * sizeof(uint32_t));
	NoisePoint *points = malloc((n + 1) * sizeof(NoisePoint));
	uint32_t	slot_start[SBA_PROFILE_SLOTS + 1];
	int			rate = -1;
	SbaStatus	status = SBA_OK;
	int			m;

	memset(baselines, 0, sizeof(*baselines));
	memset(table, 0, sizeof(*table));
	baselines->profiles = malloc((size_t) history->n_metrics * SBA_PROFILE_SLOTS * 4);
	if (scratch == NULL || slot_rows == NULL || points == NULL || baselines->profiles == NULL)
		status = sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");

	if (status == SBA_OK)
	{
		sort_rows_by_slot(history, slot_rows, slot_start);
		for (m = 0; m < history->n_metrics; m++)
		{
			MetricRows	rows = {&metrics[m], history, learn, m, scratch};
			SbaBaseline *baseline = &baselines->baseline[m];
			uint8_t    *profile = baselines->profiles + (size_t) m * SBA_PROFILE_SLOTS * 4;
			size_t		n_values;

			baseline->offset = learn_offset(&rows, &n_values);
			baseline->known = n_values >= SBA_MIN_BASELINE_VALUES;
			baseline->profile = profile;
			baseline->base_variance = 1;	/* until the residuals are known */
			if (!baseline->known)
				continue;
			learn_profile(&rows, baseline->offset, slot_rows, slot_start, profile);
			if (metrics[m].counts_requests)
				rate = m;
		}
		status = build_feature_table(metrics, history, baselines, interval_s, table, error);
	}
	if (status == SBA_OK)
	{
		for (m = 0; m < history->n_metrics; m++)
		{
			MetricRows	rows = {&metrics[m], history, learn, m, scratch};

			if (baselines->baseline[m].known)
				learn_noise(&rows, table, rate, interval_s, points, baselines);
		}
		standardize_table(metrics, history, baselines, interval_s, table);
	}
	free(points);
	free(slot_rows);
	free(scratch);
	return status;
}

void
sba_baselines_free(SbaBaselines *baselines)
{
	free(baselines->profiles);
	baselines->profiles = NULL;
}

void
sba_feature_table_free(SbaFeatureTable *table)
{
	free(table->deviation);
	table->deviation = NULL;
}
