/*
 * tracker.h
 *	  Following a service through time: what its metrics should be now.
 *
 *	  expected = profile(kind of day, time of day) + habit(time of week) + level
 *
 * The level is the median of what the last 24 hours lay above the rest.  Two
 * things are not on any clock and are told by the samples themselves:
 *
 * - What kind of day it is.  A bank holiday looks like the service's own
 *	 weekend.  Since midnight, each rate weighs both kinds against each other;
 *	 as long as the other kind has not been refuted, a value anywhere between
 *	 the two profiles is as expected.
 * - A new level.  When most of two hours lie steadily beside the old level,
 *	 as after a deployment, both levels hold, and what lies between them, until
 *	 the 24 hours have caught up.  A slow rise is not steady.
 *
 * Training and detection follow the same samples with the same functions.
 */
#ifndef SBA_CORE_TRACKER_H
#define SBA_CORE_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/features.h"
#include "core/metric.h"

/* A tracker that has seen this much knows all that it can know. */
#define SBA_TRACKER_SPAN_S (2 * 24 * 3600)

/* Samples that a run goes over, the newest one included. */
#define SBA_RUN_SAMPLES 6

/* A level that the last two hours have taken on, beside that of the day. */
typedef struct SbaNewLevel
{
	bool		holds;
	double		level;
	int64_t		since_s;
} SbaNewLevel;

typedef struct SbaRecentDeviations
{
	int64_t		time_s;
	double		deviation[SBA_MAX_METRICS]; /* as they count in a run */
} SbaRecentDeviations;

typedef struct SbaTracker
{
	const SbaMetric *metrics;
	const SbaBaseline *baselines;
	int			n_metrics;
	int			interval_s;
	SbaLevelWindow window;
	int64_t		time_s;			/* of the newest sample */
	int			day;			/* of the week, 0 is Monday; -1: no sample yet */
	int			day_before;		/* the one that was seen before it; or -1 */
	double		other_kind_log_odds;	/* that the day is of the other kind
										 * than the calendar says */
	SbaNewLevel new_level[SBA_MAX_METRICS];
	SbaRecentDeviations recent[SBA_RUN_SAMPLES - 1];	/* oldest first */
	int			n_recent;
} SbaTracker;

/*
 * Lay out a tracker that has seen nothing.  memory has
 * sba_level_window_size(n_metrics, capacity) bytes, capacity being the most
 * samples that 24 hours hold.  metrics and baselines must outlive it.
 */
extern void sba_tracker_init(SbaTracker *tracker, const SbaMetric *metrics,
							 const SbaBaseline *baselines, int n_metrics,
							 int interval_s, size_t capacity, void *memory);

/*
 * The expected z of each metric of a sample, judged by earlier samples; the
 * one that is nearest to z where several are plausible, NaN for a metric
 * that is not known.  z has NaN for what is missing.
 */
extern void sba_tracker_expect(const SbaTracker *tracker, int64_t time_s,
							   int minute_of_week, const double *z,
							   double *expected_z);

/* Learn from a sample.  Times must not decrease. */
extern void sba_tracker_add(SbaTracker *tracker, int64_t time_s,
							int minute_of_week, const double *z);

/*
 * The run of each metric: the mean deviation of the last samples up to this
 * one, each taken for no more than a few sigma; NaN when most are missing.
 */
extern void sba_tracker_run(const SbaTracker *tracker, int64_t time_s,
							const double *deviation, double *run);

/* Remember a sample's deviations for the runs of the next ones. */
extern void sba_tracker_remember(SbaTracker *tracker, int64_t time_s,
								 const double *deviation);

/*
 * All features of a sample, judged by earlier ones.  values has NaN for what
 * is missing or invalid.
 */
extern void sba_tracker_features(const SbaTracker *tracker, int64_t time_s,
								 int minute_of_week, const double *values,
								 SbaFeatures *features);

/* z of each metric of a sample, NaN where it is missing or not known. */
extern void sba_tracker_transform(const SbaTracker *tracker, const double *values, double *z);

#endif							/* SBA_CORE_TRACKER_H */
