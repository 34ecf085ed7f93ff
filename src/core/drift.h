/*
 * drift.h
 *	  Whether what comes in still looks like what a model was trained on.
 *
 * A sample's standing in a metric is how far it lies above the profile, in
 * units of the noise and without following the level: a model that still
 * works because the level follows may have drifted all the same.  The mean of a
 * window of standings is compared with the training's by its Mahalanobis
 * distance.  Neighbouring samples say much the same, so that a window counts as
 * many rows as are independent, by what the means of the training's days did.
 */
#ifndef SBA_CORE_DRIFT_H
#define SBA_CORE_DRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/features.h"

typedef enum SbaDriftLevel
{
	SBA_DRIFT_NONE,
	SBA_DRIFT_MODERATE,
	SBA_DRIFT_SEVERE
} SbaDriftLevel;

/* Confidence that is left when a service has drifted this far. */
extern const double sba_drift_confidence[3];
extern const char *const sba_drift_names[3];

/* What a period's standings were like in training. */
typedef struct SbaDriftReference
{
	bool		known;			/* false: there were too few days to tell */
	double		dependent_rows; /* rows that say as much as one; at least 1 */
	double		n_blocks;		/* stretches of rows, such as days */
	double		mean[SBA_MAX_METRICS];
	const uint8_t *inverse_covariance;	/* n_metrics x n_metrics little-endian
										 * float64; rows and columns of zeros
										 * for metrics that are not compared */
} SbaDriftReference;

#define SBA_DRIFT_INVERSE_SIZE (SBA_MAX_METRICS * SBA_MAX_METRICS * 8)

/* Standings of a window of samples. */
typedef struct SbaDriftWindow
{
	size_t		n_rows;
	size_t		n_values[SBA_MAX_METRICS];
	double		sum[SBA_MAX_METRICS];
} SbaDriftWindow;

typedef struct SbaDrift
{
	SbaDriftLevel level;
	double		distance;		/* Mahalanobis distance of the mean, in sigma */
	double		statistic;		/* its square times the independent rows: as a
								 * chi-square of so many degrees of freedom */
	double		effective_rows;
	int			n_metrics;		/* metrics that were compared */
} SbaDrift;

/*
 * Standing of a value in a metric that the baseline knows, within +-10; NaN
 * for a missing value or an unknown metric.
 */
extern double sba_drift_standing(SbaMetricKind kind, const SbaBaseline *baseline,
								 int minute_of_week, double value);

/* Begin with memset(0), then add each sample's [n_metrics] standings. */
extern void sba_drift_window_add(SbaDriftWindow *window, int n_metrics, const double *standing);

/* Compare a window with the training. */
extern void sba_drift_measure(const SbaDriftReference *reference, int n_metrics,
							  const SbaDriftWindow *window, SbaDrift *drift);

/*
 * Learn a reference from standings [n_rows][n_metrics] in order of time.
 * inverse has SBA_DRIFT_INVERSE_SIZE bytes, which the reference points to.
 */
extern void sba_drift_learn(const int64_t *time_s, const double *standings, size_t n_rows,
							int n_metrics, uint8_t *inverse, SbaDriftReference *reference);

#endif							/* SBA_CORE_DRIFT_H */
