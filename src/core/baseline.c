/*
 * baseline.c
 *	  Learning how a service's metrics usually behave over the week.
 */
#include "core/baseline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/noise.h"
#include "core/regimes.h"
#include "core/statistics.h"
#include "core/tracker.h"

/* The logarithm's offset, as a share of the usual value. */
#define OFFSET_SHARE 0.01
#define SMALLEST_OFFSET 1e-6

/*
 * A slot's profile is the median over its own and its neighbours' values: as
 * few neighbours as give enough values, which keeps edges of batch windows sharp.
 */
#define MIN_NEIGHBOUR_SLOTS 1
#define MAX_NEIGHBOUR_SLOTS 12
#define MIN_PROFILE_VALUES	9

/*
 * The level takes half of its 24 hours to follow a change; what is computed
 * until then says nothing about the noise.
 */
#define SETTLING_S (13 * 3600)

/* Noise around the profile is never taken for less than 1 %. */
#define MIN_SHAPE_SIGMA 0.01

/*
 * A habit has to show in this many weeks, always in the same direction.  The
 * level that it is measured from is looked up anew so often.
 */
#define MIN_HABIT_WEEKS 3
#define MIN_HABIT_VALUES 3
#define HABIT_LEVEL_S	(6 * 3600)
#define MIN_LEVEL_VALUES 48
#define MAX_HABIT_VALUES 64

/* Looks at a history whose level changes, each with the profile of the one before. */
#define LEVEL_PASSES 3

/* What learning works on. */
typedef struct Learning
{
	const SbaMetric *metrics;
	const SbaHistory *history;
	const uint8_t *role;		/* SbaRowRole of each row */
	int			interval_s;
	double	   *z;				/* [n_metrics][n_rows], NaN for missing */
	uint16_t   *slot;			/* of the profile, for each row */
	uint32_t   *slot_rows;		/* rows ordered by slot */
	uint64_t   *order;			/* [2 * n_rows] */
	double	   *scratch;		/* [2 * n_rows] */
	double	   *shift;			/* [n_rows] what the level lay above today's */
	SbaRegimes	regimes[SBA_MAX_METRICS];
	uint32_t	slot_start[SBA_PROFILE_SLOTS + 1];
} Learning;

static double
value_at(const SbaHistory *history, size_t row, int metric)
{
	return history->values[row * (size_t) history->n_metrics + (size_t) metric];
}

static double *
column(const Learning *learning, int metric)
{
	return learning->z + (size_t) metric * learning->history->n_rows;
}

/*
 * A value to add before the logarithm: small against the usual, so that zero
 * has a place, and far from it.
 */
static double
learn_offset(const Learning *learning, int metric, size_t *n_values)
{
	size_t		row;
	size_t		n_positive = 0;

	*n_values = 0;
	for (row = 0; row < learning->history->n_rows; row++)
	{
		double		value = value_at(learning->history, row, metric);

		if (learning->role[row] != SBA_ROLE_LEARN || isnan(value))
			continue;
		(*n_values)++;
		if (value > 0)
			learning->scratch[n_positive++] = value;	/* NOLINT: never NULL */
	}
	if (n_positive == 0)
		return 1.0;
	return fmax(OFFSET_SHARE * sba_median(learning->scratch, n_positive), SMALLEST_OFFSET);
}

/* Transform a metric's values, once for all that follows. */
static void
transform_column(const Learning *learning, int metric, double offset)
{
	double	   *z = column(learning, metric);
	size_t		row;

	for (row = 0; row < learning->history->n_rows; row++)
	{
		double		value = value_at(learning->history, row, metric);

		z[row] = isnan(value) ? NAN : sba_transform(learning->metrics[metric].kind, offset, value);
	}
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

/* Neighbours on either side that a slot needs, of a day type with n values. */
static int
neighbours_needed(size_t n)
{
	int			neighbours = MIN_NEIGHBOUR_SLOTS;

	while (neighbours < MAX_NEIGHBOUR_SLOTS &&
		   n * (size_t) (2 * neighbours + 1) < (size_t) MIN_PROFILE_VALUES * SBA_SLOTS_PER_DAY)
		neighbours++;
	return neighbours;
}

/*
 * The usual z in each slot: the median over days of the slot and its
 * neighbours, at the level that holds now.
 */
static void
learn_profile(const Learning *learning, int metric, bool has_shift, uint8_t *bytes)
{
	const double *z = column(learning, metric);
	double	   *ordered = learning->scratch;
	double	   *selected = learning->scratch + learning->history->n_rows;
	uint32_t	start[SBA_PROFILE_SLOTS + 1];
	double		profile[SBA_PROFILE_SLOTS];
	int			day_type;
	int			slot;
	uint32_t	n = 0;
	uint32_t	i;

	/* the values by slot, so that a slot and its neighbours are one run */
	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
	{
		start[slot] = n;
		for (i = learning->slot_start[slot]; i < learning->slot_start[slot + 1]; i++)
		{
			uint32_t	row = learning->slot_rows[i];

			if (learning->role[row] >= SBA_ROLE_SHAPE && !isnan(z[row]))
				ordered[n++] = has_shift ? z[row] - learning->shift[row] : z[row];
		}
	}
	start[SBA_PROFILE_SLOTS] = n;

	for (day_type = 0; day_type < SBA_DAY_TYPES; day_type++)
	{
		const uint32_t *day_start = start + day_type * SBA_SLOTS_PER_DAY;
		int			neighbours = neighbours_needed(day_start[SBA_SLOTS_PER_DAY] - day_start[0]);

		for (slot = 0; slot < SBA_SLOTS_PER_DAY; slot++)
		{
			size_t		n_selected = 0;
			int			neighbour;

			for (neighbour = slot - neighbours; neighbour <= slot + neighbours; neighbour++)
			{
				int			other = (neighbour + SBA_SLOTS_PER_DAY) % SBA_SLOTS_PER_DAY;

				for (i = day_start[other]; i < day_start[other + 1]; i++)
					selected[n_selected++] = ordered[i];
			}
			profile[day_type * SBA_SLOTS_PER_DAY + slot] = sba_median(selected, n_selected);
		}
		fill_empty_slots(profile + day_type * SBA_SLOTS_PER_DAY);
	}
	for (day_type = 0; day_type < SBA_DAY_TYPES; day_type++)
		if (start[day_type * SBA_SLOTS_PER_DAY] == start[(day_type + 1) * SBA_SLOTS_PER_DAY])
			memcpy(profile + day_type * SBA_SLOTS_PER_DAY, profile + (1 - day_type) * SBA_SLOTS_PER_DAY,
				   SBA_SLOTS_PER_DAY * sizeof(double));
	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
		sba_store_f32(bytes + 4 * slot, (float) profile[slot]);
}

/* Order rows by slot of the profile: a counting sort. */
static void
sort_rows_by_slot(Learning *learning)
{
	const SbaHistory *history = learning->history;
	uint32_t	next[SBA_PROFILE_SLOTS];
	size_t		row;
	int			slot;

	memset(learning->slot_start, 0, sizeof(learning->slot_start));
	for (row = 0; row < history->n_rows; row++)
	{
		learning->slot[row] = (uint16_t) sba_profile_slot(history->minute_of_week[row]);
		learning->slot_start[learning->slot[row] + 1]++;
	}
	for (slot = 0; slot < SBA_PROFILE_SLOTS; slot++)
	{
		learning->slot_start[slot + 1] += learning->slot_start[slot];
		next[slot] = learning->slot_start[slot];
	}
	for (row = 0; row < history->n_rows; row++)
		learning->slot_rows[next[learning->slot[row]]++] = (uint32_t) row;
}

/* Remember which rows come so soon after a change that the level is not there yet. */
static void
mark_unsettled(const SbaHistory *history, const SbaRegimes *regimes, bool *unsettled)
{
	int			i;

	/*
	 * the level begins at that of the last regime, so the first one settles
	 * too
	 */
	for (i = 0; i < regimes->n; i++)
	{
		size_t		row = regimes->first_row[i];
		int64_t		since = history->time_s[row];

		for (; row < history->n_rows && history->time_s[row] < since + SETTLING_S; row++)
			unsettled[row] = true;
	}
}

/*
 * A metric whose level changed for good keeps the shape of its old days, at
 * the level of the last ones.
 */
static void
follow_level(Learning *learning, int metric, SbaBaselines *baselines, uint8_t *profile)
{
	const SbaHistory *history = learning->history;
	SbaRegimes *regimes = &learning->regimes[metric];
	const double *z = column(learning, metric);
	size_t		row;
	int			pass;
	int			i;

	/* the first profile mixes the levels; the next ones are clean */
	for (pass = 0; pass < LEVEL_PASSES; pass++)
	{
		for (row = 0; row < history->n_rows; row++)
			learning->shift[row] = learning->role[row] == SBA_ROLE_NONE ? NAN :
				z[row] - sba_profile_value(&baselines->baseline[metric], learning->slot[row]);
		sba_find_regimes(learning->metrics[metric].kind, history->time_s, learning->shift,
						 history->n_rows, learning->scratch, regimes);
		if (regimes->n == 1 && pass == 0)
			return;
		for (i = 0, row = 0; row < history->n_rows; row++)
		{
			while (i + 1 < regimes->n && row >= regimes->first_row[i + 1])
				i++;
			learning->shift[row] = regimes->level[i] - regimes->level[regimes->n - 1];
		}
		learn_profile(learning, metric, true, profile);
	}
	if (regimes->n == 1)
		return;
	mark_unsettled(history, regimes, baselines->unsettled);
	if (regimes->n - 1 > baselines->n_level_changes)
		baselines->n_level_changes = regimes->n - 1;
	row = regimes->first_row[regimes->n - 1];
	if (row > baselines->last_level_change)
		baselines->last_level_change = row;
}

/*
 * What lies around the profile, at the level of its time, of the rows that
 * teach the shape of the day; NaN for others.
 */
static void
collect_residuals(const Learning *learning, int metric, const SbaBaseline *baseline, double *residual)
{
	const double *z = column(learning, metric);
	bool		has_shift = learning->regimes[metric].n > 1;
	size_t		row;

	for (row = 0; row < learning->history->n_rows; row++)
	{
		residual[row] = NAN;
		if (learning->role[row] >= SBA_ROLE_SHAPE)
			residual[row] = z[row] - sba_profile_value(baseline, learning->slot[row]) -
				(has_shift ? learning->shift[row] : 0);
	}
}

static void
learn_shape_variance(const double *residual, size_t n_rows, double *scratch, SbaBaseline *baseline)
{
	double		sigma = MIN_SHAPE_SIGMA;
	size_t		n = 0;
	size_t		row;

	for (row = 0; row < n_rows; row++)
		if (!isnan(residual[row]))
			scratch[n++] = residual[row];
	if (n > 0)
		sigma = fmax(sba_robust_sigma(scratch, n), sigma);
	baseline->shape_variance = sigma * sigma;
}

/* What one half hour of the week has shown so far, week by week. */
typedef struct Habit
{
	int			n_weeks;
	bool		agrees;			/* all weeks have the same sign */
	double		least;			/* of the weeks' medians, by size */
} Habit;

static void
see_habit(Habit *habit, double *values, size_t n)
{
	double		median;

	if (n < MIN_HABIT_VALUES)
		return;
	median = sba_median(values, n);
	if (habit->n_weeks == 0)
		habit->agrees = true;
	else if ((median > 0) != (habit->least > 0))
		habit->agrees = false;
	if (habit->n_weeks++ == 0 || fabs(median) < fabs(habit->least))
		habit->least = median;
}

/*
 * Habits of the week: what each half hour adds to the profile and the level of
 * the 24 hours before it.  The least of the weeks counts, so that noise, which
 * rarely agrees with itself for weeks, adds next to nothing.
 */
static void
learn_habits(const Learning *learning, const double *residual, double *scratch, uint8_t *bytes)
{
	const SbaHistory *history = learning->history;
	Habit		habits[SBA_HABIT_SLOTS];
	double		values[MAX_HABIT_VALUES];
	size_t		n_values = 0;
	int			current = -1;
	double		level = NAN;
	int64_t		level_until_s = INT64_MIN;
	size_t		oldest = 0;
	size_t		row;
	int			i;

	memset(habits, 0, sizeof(habits));
	for (row = 0; row < history->n_rows; row++)
	{
		int			half_hour = history->minute_of_week[row] / (SBA_MINUTES_PER_WEEK / SBA_HABIT_SLOTS);

		if (history->time_s[row] >= level_until_s)
		{
			size_t		n = 0;
			size_t		before;

			while (history->time_s[oldest] < history->time_s[row] - SBA_LEVEL_SPAN_S)
				oldest++;
			for (before = oldest; before < row; before++)
				if (!isnan(residual[before]))
					scratch[n++] = residual[before];
			level = n < MIN_LEVEL_VALUES ? NAN : sba_median(scratch, n);
			level_until_s = history->time_s[row] + HABIT_LEVEL_S;
		}
		if (half_hour != current && current >= 0)
		{
			see_habit(&habits[current], values, n_values);
			n_values = 0;
		}
		current = half_hour;
		if (!isnan(residual[row]) && !isnan(level) && n_values < MAX_HABIT_VALUES)
			values[n_values++] = residual[row] - level;
	}
	if (current >= 0)
		see_habit(&habits[current], values, n_values);
	for (i = 0; i < SBA_HABIT_SLOTS; i++)
		sba_store_f32(bytes + 4 * (SBA_PROFILE_SLOTS + i),
					  habits[i].n_weeks >= MIN_HABIT_WEEKS && habits[i].agrees ? (float) habits[i].least : 0);
}

/* What is expected in each row, and how far it lies from it; no noise yet. */
static SbaStatus
build_feature_table(const Learning *learning, const SbaBaselines *baselines,
					SbaFeatureTable *table, SbaError *error)
{
	const SbaHistory *history = learning->history;
	size_t		n_metrics = (size_t) history->n_metrics;
	size_t		cells = history->n_rows * n_metrics;
	size_t		capacity = sba_level_window_capacity(history->time_s, history->n_rows);
	void	   *memory = malloc(sba_level_window_size(history->n_metrics, capacity));
	SbaTracker	tracker;
	size_t		row;

	table->deviation = malloc((4 * cells + 1) * sizeof(double));
	if (memory == NULL || table->deviation == NULL)
	{
		free(memory);
		return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
	}
	table->expected_z = table->deviation + cells;
	table->sigma = table->expected_z + cells;
	table->run = table->sigma + cells;

	sba_tracker_init(&tracker, learning->metrics, baselines->baseline, history->n_metrics,
					 learning->interval_s, capacity, memory);
	for (row = 0; row < history->n_rows; row++)
	{
		double	   *expected_z = table->expected_z + row * n_metrics;
		double		z[SBA_MAX_METRICS];
		size_t		m;

		for (m = 0; m < n_metrics; m++)
			z[m] = baselines->baseline[m].known ? column(learning, (int) m)[row] : NAN;
		sba_tracker_expect(&tracker, history->time_s[row], history->minute_of_week[row], z, expected_z);
		for (m = 0; m < n_metrics; m++)
			table->deviation[row * n_metrics + m] = z[m] - expected_z[m];
		sba_tracker_add(&tracker, history->time_s[row], history->minute_of_week[row], z);
	}
	free(memory);
	return SBA_OK;
}

/* Take the residuals in the table in units of the noise, now that it is known. */
static void
standardize_table(const Learning *learning, const SbaBaselines *baselines, SbaFeatureTable *table)
{
	const SbaHistory *history = learning->history;
	size_t		n_metrics = (size_t) history->n_metrics;
	SbaTracker	tracker;
	size_t		row;

	sba_tracker_init(&tracker, learning->metrics, baselines->baseline, history->n_metrics,
					 learning->interval_s, 0, NULL);
	for (row = 0; row < history->n_rows; row++)
	{
		size_t		cell = row * n_metrics;
		SbaFeatures features;
		size_t		m;

		for (m = 0; m < n_metrics; m++)
			features.z[m] = column(learning, (int) m)[row];
		memcpy(features.expected_z, table->expected_z + cell, n_metrics * sizeof(double));
		sba_compute_deviations(learning->metrics, baselines->baseline, history->n_metrics,
							   learning->interval_s, history->values + cell, &features);
		memcpy(table->deviation + cell, features.deviation, n_metrics * sizeof(double));
		memcpy(table->sigma + cell, features.sigma, n_metrics * sizeof(double));
		sba_tracker_run(&tracker, history->time_s[row], features.deviation, table->run + cell);
		sba_tracker_remember(&tracker, history->time_s[row], features.deviation);
	}
}

static void
learn_shapes(Learning *learning, SbaBaselines *baselines)
{
	int			m;

	sort_rows_by_slot(learning);
	for (m = 0; m < learning->history->n_metrics; m++)
	{
		SbaBaseline *baseline = &baselines->baseline[m];
		uint8_t    *profile = baselines->profiles + (size_t) m * SBA_PROFILE_VALUES * 4;
		size_t		n_values;

		baseline->offset = learn_offset(learning, m, &n_values);
		baseline->known = n_values >= SBA_MIN_BASELINE_VALUES;
		baseline->profile = profile;
		learning->regimes[m].n = 1;
		if (!baseline->known)
			continue;
		transform_column(learning, m, baseline->offset);
		learn_profile(learning, m, false, profile);
		follow_level(learning, m, baselines, profile);
		collect_residuals(learning, m, baseline, learning->scratch);
		learn_shape_variance(learning->scratch, learning->history->n_rows,
							 learning->scratch + learning->history->n_rows, baseline);
		learn_habits(learning, learning->scratch, learning->scratch + learning->history->n_rows, profile);
	}
}

static void
learn_noises(const Learning *learning, const SbaFeatureTable *table, SbaBaselines *baselines)
{
	SbaNoiseRows rows = {learning->metrics, learning->history, learning->role,
		baselines->unsettled, learning->interval_s, table,
	learning->scratch, learning->order};
	int			m;

	for (m = 0; m < learning->history->n_metrics; m++)
		if (baselines->baseline[m].known)
			sba_learn_noise(&rows, m, learning->regimes[m].first_row[learning->regimes[m].n - 1],
							baselines->baseline);
}

SbaStatus
sba_baselines_learn(const SbaMetric *metrics, const SbaHistory *history,
					const uint8_t *role, int interval_s, SbaBaselines *baselines,
					SbaFeatureTable *table, SbaError *error)
{
	size_t		n = history->n_rows;
	size_t		n_metrics = (size_t) history->n_metrics;
	Learning   *learning = calloc(1, sizeof(Learning));
	double	   *numbers = malloc((n * (n_metrics + 3) + 1) * sizeof(double));
	uint32_t   *rows = malloc((n + 1) * sizeof(uint32_t));
	uint64_t   *order = malloc((2 * n + 1) * sizeof(uint64_t));
	uint16_t   *slots = malloc((n + 1) * sizeof(uint16_t));
	SbaStatus	status = SBA_OK;

	memset(baselines, 0, sizeof(*baselines));
	memset(table, 0, sizeof(*table));
	baselines->profiles = malloc(n_metrics * SBA_PROFILE_VALUES * 4);
	baselines->unsettled = calloc(n + 1, sizeof(bool));
	if (learning == NULL || numbers == NULL || rows == NULL || order == NULL || slots == NULL ||
		baselines->profiles == NULL || baselines->unsettled == NULL)
		status = sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");
	else
	{
		learning->metrics = metrics;
		learning->history = history;
		learning->role = role;
		learning->interval_s = interval_s;
		learning->z = numbers;
		learning->shift = numbers + n * n_metrics;
		learning->scratch = learning->shift + n;
		learning->slot_rows = rows;
		learning->order = order;
		learning->slot = slots;
		learn_shapes(learning, baselines);
		status = build_feature_table(learning, baselines, table, error);
		if (status == SBA_OK)
		{
			learn_noises(learning, table, baselines);
			standardize_table(learning, baselines, table);
		}
	}
	free(slots);
	free(order);
	free(rows);
	free(numbers);
	free(learning);
	return status;
}

void
sba_baselines_free(SbaBaselines *baselines)
{
	free(baselines->profiles);
	free(baselines->unsettled);
	baselines->profiles = NULL;
	baselines->unsettled = NULL;
}

void
sba_feature_table_free(SbaFeatureTable *table)
{
	free(table->deviation);
	table->deviation = NULL;
}
