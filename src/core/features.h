/*
 * features.h
 *	  From a sample and the history before it to what the forests see.
 *
 * The same functions serve training and scoring.  A metric's value x becomes
 *
 *	  z = log(x + offset) for rates and latencies, asin(sqrt(x)) for ratios,
 *		  so that the noise no longer depends on the level;
 *	  expected = what it should be now: see tracker.h;
 *	  sigma = sqrt(base variance + count variance / requests), since a mean or
 *		  a ratio over few requests is noisy by nature;
 *	  deviation = (z - expected) / sigma, the feature;
 *	  run = mean deviation of the last half hour, since several weak samples
 *		  can say more than one strong one.
 *
 * The profile is the usual value by time of day for weekdays and for
 * weekends.  A habit is what a half hour of the week adds to it each week, such
 * as a backup on Sunday mornings.
 */
#ifndef SBA_CORE_FEATURES_H
#define SBA_CORE_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/metric.h"

/* Raise it when the same sample would give other features than before. */
#define SBA_FEATURE_VERSION 2

#define SBA_MINUTES_PER_DAY		(24 * 60)
#define SBA_MINUTES_PER_WEEK	(7 * SBA_MINUTES_PER_DAY)
#define SBA_SLOTS_PER_DAY		288
#define SBA_DAY_TYPES			2	/* Monday to Friday; Saturday and Sunday */
#define SBA_PROFILE_SLOTS		(SBA_DAY_TYPES * SBA_SLOTS_PER_DAY)
#define SBA_HABIT_SLOTS			(7 * 48)	/* half hours of the week */
#define SBA_PROFILE_VALUES		(SBA_PROFILE_SLOTS + SBA_HABIT_SLOTS)
#define SBA_LEVEL_SPAN_S		(24 * 3600)

/* How one metric of one service usually behaves. */
typedef struct SbaBaseline
{
	bool		known;			/* false: the service does not have the metric */
	double		offset;			/* added before the logarithm */
	double		base_variance;	/* of z, with any number of requests */
	double		count_variance; /* of z, for one request */
	double		shape_variance; /* of z around the profile, the level's
								 * wandering included */
	const uint8_t *profile;		/* SBA_PROFILE_VALUES little-endian float32:
								 * the profile, then the weekly habits */
} SbaBaseline;

/* What one sample looks like; NaN where the metric has no value. */
typedef struct SbaFeatures
{
	double		z[SBA_MAX_METRICS];
	double		expected_z[SBA_MAX_METRICS];
	double		sigma[SBA_MAX_METRICS];
	double		deviation[SBA_MAX_METRICS];
	double		run[SBA_MAX_METRICS];	/* mean deviation of the last samples */
} SbaFeatures;

/* Rolling window over the residuals z - profile of the last 24 hours. */
typedef struct SbaLevelWindow
{
	int			n_metrics;
	size_t		capacity;		/* samples */
	size_t		first;			/* oldest sample in the ring */
	size_t		count;
	int64_t    *time_s;			/* [capacity] */
	float	   *residual;		/* [capacity][n_metrics], NaN for missing */
	float	   *sorted;			/* [n_metrics][capacity] */
	size_t		n_sorted[SBA_MAX_METRICS];
} SbaLevelWindow;

/* Identity of the feature set: which metrics, of which kind, which version. */
extern uint64_t sba_feature_set_hash(const SbaMetric *metrics, int n_metrics);

/* The transform and its inverse. */
extern double sba_transform(SbaMetricKind kind, double offset, double value);
extern double sba_inverse_transform(SbaMetricKind kind, double offset, double z);

/*
 * The value that z stands for, and the band of three sigma around it: what is
 * usual, in the metric's unit.
 */
extern void sba_expected_band(SbaMetricKind kind, double offset, double expected_z, double sigma,
							  double *expected, double *lower, double *upper);

/* Slot of the profile for a local minute of the week (Monday 00:00 is 0). */
extern int	sba_profile_slot(int minute_of_week);

/* Most samples that any 24 hours of ascending times hold; at least 1. */
extern size_t sba_level_window_capacity(const int64_t *time_s, size_t n);

/* Bytes that a window for this many samples in 24 hours takes. */
extern size_t sba_level_window_size(int n_metrics, size_t capacity);

/*
 * Lay out an empty window in caller's memory of that size, aligned for
 * int64_t.  capacity is at least one.
 */
extern void sba_level_window_init(SbaLevelWindow *window, int n_metrics,
								  size_t capacity, void *memory);

/*
 * Given z and expected_z, fill in sigma and deviation.  values has NaN for
 * what is missing or invalid; interval_s is the time that they describe.
 */
extern void sba_compute_deviations(const SbaMetric *metrics,
								   const SbaBaseline *baselines, int n_metrics,
								   int interval_s, const double *values,
								   SbaFeatures *features);

/*
 * Add a sample's residuals, NaN for missing, and drop those that are more than
 * 24 hours older.  Times must not decrease.
 */
extern void sba_level_window_push(SbaLevelWindow *window, int64_t time_s,
								  const float *residual);

/* Median of the window's residuals of a metric, drawn to 0 when there are few. */
extern double sba_level_window_level(const SbaLevelWindow *window, int metric);

/* The usual z of a metric in a slot of the profile. */
extern double sba_profile_value(const SbaBaseline *baseline, int slot);

/* The same time of day in the profile of the other kind of day. */
extern int	sba_other_kind_of_slot(int slot);

/* The usual z at a local minute of the week, weekly habit included. */
extern double sba_usual_value(const SbaBaseline *baseline, int minute_of_week);

#endif							/* SBA_CORE_FEATURES_H */
