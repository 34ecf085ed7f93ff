/*
 * tracker.c
 *	  Following a service through time: what its metrics should be now.
 */
#include "core/tracker.h"

#include <math.h>
#include <string.h>

#include "core/statistics.h"

/* One weekday in twenty or so is like a weekend, and the other way round. */
#define PRIOR_LOG_ODDS		(-3.0)

/* Beyond these odds one kind of day is refuted. */
#define REFUTED_LOG_ODDS	4.0
#define MAX_LOG_ODDS		20.0

/*
 * A sample is not independent of the one before it, and one that neither
 * profile explains tells nothing: each counts for this share, and deviations
 * for no more than three sigma.
 */
#define INDEPENDENT_SHARE	0.16
#define MAX_SQUARE			9.0

/* Days do not change their kind at the stroke of midnight. */
#define MIDNIGHT_MINUTES	60

/* What makes a new level: how long, how many samples of that time at least, */
#define NEW_LEVEL_SPAN_S	7200
#define MIN_NEW_LEVEL_SAMPLES 8
#define MAX_NEW_LEVEL_SAMPLES 128
#define NEW_LEVEL_SHARE		0.75

/* how far at least and at most (twice or half), */
#define SIGMAS_ASIDE		2.0
#define MIN_SIGMAS_MOVED	1.5
#define MAX_LOG_MOVED		0.7

/* and how steady: scatter, and how far its halves lie apart. */
#define MAX_SCATTER_SIGMAS	2.0
#define MAX_HALVES_SIGMAS	1.5
#define MAX_HALVES_SHARE	0.2

/* No single sample makes a run. */
#define MAX_RUN_SIGMAS		6.0

static int
kind_of_day(int day)
{
	return day >= 5 ? 1 : 0;
}

static double
nearest(double z, double low, double high)
{
	return z < low ? low : z > high ? high : z;
}

void
sba_tracker_init(SbaTracker *tracker, const SbaMetric *metrics, const SbaBaseline *baselines,
				 int n_metrics, int interval_s, size_t capacity, void *memory)
{
	memset(tracker, 0, sizeof(*tracker));
	tracker->metrics = metrics;
	tracker->baselines = baselines;
	tracker->n_metrics = n_metrics;
	tracker->interval_s = interval_s;
	tracker->day = tracker->day_before = -1;
	tracker->other_kind_log_odds = PRIOR_LOG_ODDS;
	sba_level_window_init(&tracker->window, n_metrics, capacity, memory);
}

static bool
is_new_day(const SbaTracker *tracker, int64_t time_s, int day)
{
	return day != tracker->day || time_s - tracker->time_s >= 24 * 3600;
}

/* Whether a day of the other kind is so near that it shows. */
static bool
is_near_other_kind(const SbaTracker *tracker, int64_t time_s, int minute_of_week)
{
	int			day = minute_of_week / SBA_MINUTES_PER_DAY;
	int			minute = minute_of_week % SBA_MINUTES_PER_DAY;
	int			before = is_new_day(tracker, time_s, day) ? tracker->day : tracker->day_before;

	/* nobody knows what kind of day tomorrow will be */
	if (minute >= SBA_MINUTES_PER_DAY - MIDNIGHT_MINUTES)
		return true;
	if (minute >= MIDNIGHT_MINUTES)
		return false;
	if (before < 0)
		before = (day + 6) % 7;
	return kind_of_day(before) != kind_of_day(day) || kind_of_day(day) == 1;
}

/* The lowest and the highest z that the kind of day allows, without the level. */
static void
plausible_range(const SbaTracker *tracker, int metric, int64_t time_s, int minute_of_week,
				double *low, double *high)
{
	const SbaBaseline *baseline = &tracker->baselines[metric];
	int			day = minute_of_week / SBA_MINUTES_PER_DAY;
	int			slot = sba_profile_slot(minute_of_week);
	double		log_odds = is_new_day(tracker, time_s, day) ? PRIOR_LOG_ODDS : tracker->other_kind_log_odds;
	double		other = sba_profile_value(baseline, sba_other_kind_of_slot(slot));

	*low = *high = sba_usual_value(baseline, minute_of_week);
	if (log_odds > REFUTED_LOG_ODDS)
		*low = *high = other;
	else if (log_odds >= -REFUTED_LOG_ODDS || is_near_other_kind(tracker, time_s, minute_of_week))
	{
		*low = fmin(*low, other);
		*high = fmax(*high, other);
	}
}

void
sba_tracker_expect(const SbaTracker *tracker, int64_t time_s, int minute_of_week,
				   const double *z, double *expected_z)
{
	int			m;

	for (m = 0; m < tracker->n_metrics; m++)
	{
		const SbaNewLevel *new_level = &tracker->new_level[m];
		double		level;
		double		low;
		double		high;

		expected_z[m] = NAN;
		if (!tracker->baselines[m].known)
			continue;
		level = sba_level_window_level(&tracker->window, m);
		if (isnan(z[m]))
		{
			expected_z[m] = level + sba_usual_value(&tracker->baselines[m], minute_of_week);
			continue;
		}
		plausible_range(tracker, m, time_s, minute_of_week, &low, &high);
		low += level;
		high += level;
		if (new_level->holds)
		{
			low += fmin(new_level->level - level, 0);
			high += fmax(new_level->level - level, 0);
		}
		expected_z[m] = nearest(z[m], low, high);
	}
}

/* Weigh the two kinds of day against each other by what the rates say. */
static void
weigh_kinds_of_day(SbaTracker *tracker, int minute_of_week, const double *z)
{
	int			slot = sba_profile_slot(minute_of_week);
	int			m;

	for (m = 0; m < tracker->n_metrics; m++)
	{
		const SbaBaseline *baseline = &tracker->baselines[m];
		double		level;
		double		variance;
		double		by_calendar;
		double		by_other;

		if (tracker->metrics[m].kind != SBA_KIND_RATE || !baseline->known || isnan(z[m]))
			continue;
		level = sba_level_window_level(&tracker->window, m);
		variance = baseline->shape_variance + baseline->count_variance /
			fmax(tracker->interval_s * sba_inverse_transform(SBA_KIND_RATE, baseline->offset, z[m]), 1);
		by_calendar = z[m] - level - sba_usual_value(baseline, minute_of_week);
		by_other = z[m] - level - sba_profile_value(baseline, sba_other_kind_of_slot(slot));
		tracker->other_kind_log_odds += INDEPENDENT_SHARE / 2 *
			(fmin(by_calendar * by_calendar / variance, MAX_SQUARE) -
			 fmin(by_other * by_other / variance, MAX_SQUARE));
	}
	tracker->other_kind_log_odds = fmin(fmax(tracker->other_kind_log_odds, -MAX_LOG_ODDS), MAX_LOG_ODDS);
}

/*
 * How far the last two hours lie from the level, when they are as steady as a
 * new level is; else 0.
 */
static double
steady_move(const SbaTracker *tracker, int metric, double level, double sigma)
{
	const SbaLevelWindow *window = &tracker->window;
	size_t		wanted = (size_t) (NEW_LEVEL_SPAN_S / tracker->interval_s);
	double		moved[MAX_NEW_LEVEL_SAMPLES];
	double		scratch[MAX_NEW_LEVEL_SAMPLES];
	double		halves;
	double		median;
	size_t		n = 0;
	size_t		i;

	wanted = wanted < MIN_NEW_LEVEL_SAMPLES ? MIN_NEW_LEVEL_SAMPLES :
		wanted > MAX_NEW_LEVEL_SAMPLES ? MAX_NEW_LEVEL_SAMPLES : wanted;
	if (window->count < wanted)
		return 0;
	for (i = 0; i < wanted; i++)
	{
		size_t		at = (window->first + window->count - 1 - i) % window->capacity;
		float		residual = window->residual[at * (size_t) window->n_metrics + (size_t) metric];

		if (!isnan(residual))
			moved[n++] = residual - level;
	}
	if ((double) n < NEW_LEVEL_SHARE * (double) wanted)
		return 0;

	memcpy(scratch, moved, n * sizeof(double));
	halves = fabs(sba_median(scratch, n / 2) - sba_median(scratch + n / 2, n - n / 2));
	memcpy(scratch, moved, n * sizeof(double));
	median = sba_median(scratch, n);
	for (i = 0; i < n; i++)
		scratch[i] = fabs(moved[i] - median);
	if (fabs(median) < MIN_SIGMAS_MOVED * sigma || fabs(median) > MAX_LOG_MOVED ||
		SBA_MAD_TO_SIGMA * sba_median(scratch, n) > MAX_SCATTER_SIGMAS * sigma ||
		halves > fmin(MAX_HALVES_SIGMAS * sigma, MAX_HALVES_SHARE * fabs(median)))
		return 0;
	return median;
}

/*
 * Take note of a new level, and forget one that the 24 hours have caught up
 * with.  A share of errors has none: it is wrong however long it lasts.
 */
static void
watch_level(SbaTracker *tracker, int metric, int64_t time_s, double residual)
{
	SbaNewLevel *new_level = &tracker->new_level[metric];
	double		sigma = sqrt(tracker->baselines[metric].shape_variance);
	double		level = sba_level_window_level(&tracker->window, metric);
	double		moved;

	if (tracker->metrics[metric].kind == SBA_KIND_RATIO)
		return;
	if (new_level->holds && (time_s - new_level->since_s > SBA_LEVEL_SPAN_S ||
							 fabs(new_level->level - level) < sigma))
		new_level->holds = false;
	if (!(fabs(residual - level) > SIGMAS_ASIDE * sigma))
		return;
	moved = steady_move(tracker, metric, level, sigma);
	if (moved != 0)
	{
		new_level->holds = true;
		new_level->level = level + moved;
		new_level->since_s = time_s;
	}
}

void
sba_tracker_add(SbaTracker *tracker, int64_t time_s, int minute_of_week, const double *z)
{
	int			day = minute_of_week / SBA_MINUTES_PER_DAY;
	float		residual[SBA_MAX_METRICS];
	int			m;

	if (is_new_day(tracker, time_s, day))
	{
		tracker->day_before = tracker->day;
		tracker->day = day;
		tracker->other_kind_log_odds = PRIOR_LOG_ODDS;
	}
	tracker->time_s = time_s;
	weigh_kinds_of_day(tracker, minute_of_week, z);
	for (m = 0; m < tracker->n_metrics; m++)
	{
		double		level;
		double		low;
		double		high;

		residual[m] = NAN;
		if (!tracker->baselines[m].known || isnan(z[m]))
			continue;
		level = sba_level_window_level(&tracker->window, m);
		plausible_range(tracker, m, time_s, minute_of_week, &low, &high);
		residual[m] = (float) (z[m] + level - nearest(z[m], low + level, high + level));
		watch_level(tracker, m, time_s, residual[m]);
	}
	sba_level_window_push(&tracker->window, time_s, residual);
}

/* A deviation as it counts in a run: one sample alone decides nothing. */
static double
limit_of_run(double deviation)
{
	return isnan(deviation) ? NAN : fmax(fmin(deviation, MAX_RUN_SIGMAS), -MAX_RUN_SIGMAS);
}

void
sba_tracker_run(const SbaTracker *tracker, int64_t time_s, const double *deviation, double *run)
{
	int64_t		since_s = time_s - (int64_t) SBA_RUN_SAMPLES * tracker->interval_s;
	int			m;

	for (m = 0; m < tracker->n_metrics; m++)
	{
		double		sum = 0;
		int			n = 1;
		int			i;

		run[m] = NAN;
		if (isnan(deviation[m]))
			continue;
		for (i = 0; i < tracker->n_recent; i++)
		{
			double		one = tracker->recent[i].deviation[m];

			if (isnan(one) || tracker->recent[i].time_s < since_s)
				continue;
			sum += one;
			n++;
		}
		sum += limit_of_run(deviation[m]);
		if (2 * n > SBA_RUN_SAMPLES)
			run[m] = sum / n;
	}
}

void
sba_tracker_remember(SbaTracker *tracker, int64_t time_s, const double *deviation)
{
	SbaRecentDeviations *newest;
	int			m;

	if (tracker->n_recent == SBA_RUN_SAMPLES - 1)
		memmove(tracker->recent, tracker->recent + 1, sizeof(SbaRecentDeviations) * (size_t) --tracker->n_recent);
	newest = &tracker->recent[tracker->n_recent++];
	newest->time_s = time_s;
	for (m = 0; m < tracker->n_metrics; m++)
		newest->deviation[m] = limit_of_run(deviation[m]);
}

void
sba_tracker_transform(const SbaTracker *tracker, const double *values, double *z)
{
	int			m;

	for (m = 0; m < tracker->n_metrics; m++)
	{
		z[m] = NAN;
		if (tracker->baselines[m].known && !isnan(values[m]))
			z[m] = sba_transform(tracker->metrics[m].kind, tracker->baselines[m].offset, values[m]);
	}
}

void
sba_tracker_features(const SbaTracker *tracker, int64_t time_s, int minute_of_week,
					 const double *values, SbaFeatures *features)
{
	sba_tracker_transform(tracker, values, features->z);
	sba_tracker_expect(tracker, time_s, minute_of_week, features->z, features->expected_z);
	sba_compute_deviations(tracker->metrics, tracker->baselines, tracker->n_metrics,
						   tracker->interval_s, values, features);
	sba_tracker_run(tracker, time_s, features->deviation, features->run);
}
