/*
 * collector.h
 *	  The current values from the metric source into smartbox.samples.
 */
#ifndef SBA_SQLFN_COLLECTOR_H
#define SBA_SQLFN_COLLECTOR_H

#include "datatype/timestamp.h"

#include "db/catalog.h"
#include "db/samples.h"
#include "net/metric_source.h"

/*
 * The end of the warning of a sample that lacks a metric because its query
 * failed; a backfill asks for such a sample again.
 */
#define SBA_NOT_FETCHED ": could not be fetched"

/* What one cycle brought for a service. */
typedef struct SbaCollected
{
	const char *service;
	TimestampTz ts;
	int			metrics_present;
	List	   *warnings;		/* of strings */
} SbaCollected;

/*
 * Fetch the current values of the services and store them.  Returns one entry
 * for each service.  When no query succeeds the first failure is raised at the
 * given level; a query that fails beside others that do not is a warning.
 * only_these asks the source for these services alone.  Inside SPI_connect.
 */
extern SbaCollected *sba_collect(const SbaMetricCatalog *metrics, const SbaService *services,
								 int n_services, bool only_these, int failure_level);

/*
 * The two halves of it.  The first touches no table; it returns NULL when there
 * is nothing to store.
 */
extern SbaMetricGrid *sba_fetch_current(const SbaMetricCatalog *metrics, SbaMetricQuery *queries,
										const SbaService *services, int n_services,
										bool only_these, int failure_level);
extern SbaCollected *sba_store_current(const SbaMetricCatalog *metrics, const SbaMetricQuery *queries,
									   const SbaMetricGrid *grid, const SbaService *services, int n_services);

/* One warning for each query that failed, for a sample that lacks its metric. */
extern List *sba_warn_of_failed_queries(const SbaMetricQuery *queries, int n_queries);

/* Seconds since 1970, as the source counts, from and to timestamps. */
extern TimestampTz sba_time_of_unix(int64 seconds);
extern int64 sba_unix_of_time(TimestampTz ts);

/* End of the last full interval, in seconds since 1970. */
extern int64 sba_current_slot(void);

/* The queries of all metrics, in the order of the catalog; palloc'ed. */
extern SbaMetricQuery *sba_make_metric_queries(const SbaMetricCatalog *metrics);

#endif							/* SBA_SQLFN_COLLECTOR_H */
