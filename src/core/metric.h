/*
 * metric.h
 *	  What is known about a metric before any of its values: one row of
 *	  smartbox.metrics.
 */
#ifndef SBA_CORE_METRIC_H
#define SBA_CORE_METRIC_H

#include <math.h>
#include <stdbool.h>

#define SBA_MAX_METRICS 32
#define SBA_METRIC_NAME_SIZE 64

typedef enum SbaMetricKind
{
	SBA_KIND_RATE,				/* events per second; a count over time */
	SBA_KIND_LATENCY,			/* a mean over requests */
	SBA_KIND_RATIO				/* a count over a count, 0..1 */
} SbaMetricKind;

/* The direction that hurts. */
typedef enum SbaDirection
{
	SBA_DIRECTION_BOTH,
	SBA_DIRECTION_HIGH,
	SBA_DIRECTION_LOW
} SbaDirection;

/* A deviation that people said is nothing; 0 when they said nothing. */
typedef struct SbaDeviationBar
{
	double		absolute;
	double		relative;
} SbaDeviationBar;

typedef struct SbaMetric
{
	const char *name;
	SbaMetricKind kind;
	SbaDirection direction;
	double		valid_min;
	double		valid_max;
	double		min_absolute_deviation; /* both must be reached for a */
	double		min_relative_deviation; /* deviation to matter */
	bool		counts_requests;	/* the rate that tells how many requests
									 * stand behind the other metrics */
	SbaDeviationBar bar_above;	/* what else a deviation must exceed, above */
	SbaDeviationBar bar_below;	/* and below what is expected */
} SbaMetric;

#endif							/* SBA_CORE_METRIC_H */
