/*
 * metric_source.h
 *	  Values of metrics from a server that speaks the Prometheus HTTP API.
 */
#ifndef SBA_NET_METRIC_SOURCE_H
#define SBA_NET_METRIC_SOURCE_H

#include "core/status.h"

/*
 * Values on a regular grid of time, for known services and metrics.  Slot s
 * is the time first_time + s * step.  A value that the source does not have
 * is NaN.
 */
typedef struct SbaMetricGrid
{
	int			n_services;
	const char **services;		/* sorted by strcmp, unique */
	int			n_metrics;
	int64		first_time;		/* seconds since 1970 */
	int			step;			/* seconds */
	int			n_slots;
	double	   *values;			/* [service][slot][metric] */
} SbaMetricGrid;

/* One metric's query template, with what came of it. */
typedef struct SbaMetricQuery
{
	const char *metric;			/* name, for messages */
	int			column;			/* 0-based column of the grid */
	const char *query;			/* PromQL template */
	const char *list;			/* instead of a metric: what a list names */

	/* what came of it; failed is false when all went well */
	bool		failed;
	int			sqlstate;
	char	   *message;		/* primary message of an error report */
	char	   *detail;			/* or NULL */
	char	   *hint;			/* or NULL */

	/* points that were refused */
	int64		n_early;		/* before the time asked for */
	int64		n_late;			/* after it, as from a clock that is ahead */
	int64		n_twice;		/* of the same instant with another value,
								 * which counts */
	int64		n_not_finite;	/* that are NaN or infinite */
} SbaMetricQuery;

/* Index of grid cell (service, slot, metric) in values. */
#define SBA_GRID_INDEX(grid, service, slot, metric) \
	((((size_t) (service)) * (grid)->n_slots + (slot)) * (grid)->n_metrics + (metric))

/*
 * A palloc'ed grid with every value NaN.  services must be sorted and live as
 * long as the grid.
 */
extern SbaMetricGrid *sba_metric_grid_create(const char **services, int n_services,
											 int n_metrics, int64 first_time,
											 int step, int n_slots);

/*
 * Ask the source for all queries over the grid's times, in parallel, and fill
 * the grid.  One slot makes instant queries, more make range queries.
 * Services that the grid does not know are left out.  With only_these the
 * queries are narrowed to the grid's services, otherwise they ask for all.
 *
 * A query that fails is marked failed and leaves its column NaN.  Raises an
 * error itself when no endpoint is configured, and for cancel.
 */
extern void sba_source_fetch(SbaMetricQuery *queries, int n_queries,
							 SbaMetricGrid *grid, bool only_these);

/*
 * Raise the failure of a query at the given level (ERROR, WARNING).
 */
extern void sba_source_report(const SbaMetricQuery *query, int level);

/*
 * Warn of points that were refused, if there are any.
 */
extern void sba_source_report_refused(const SbaMetricQuery *query);

/*
 * The PromQL that a template stands for, palloc'ed.  $selector becomes the
 * label matchers of the settings (environment, extra selectors) and, when
 * services are given, a matcher for exactly these, quoted; $window and
 * $service_label are the settings of these names.
 */
extern char *sba_expand_query(const char *query, const char **services, int n_services);

#endif							/* SBA_NET_METRIC_SOURCE_H */
