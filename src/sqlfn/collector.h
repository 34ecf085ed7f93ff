/*
 * collector.h
 *	  From the metric source into smartbox.samples.
 */
#ifndef SBA_SQLFN_COLLECTOR_H
#define SBA_SQLFN_COLLECTOR_H

#include "datatype/timestamp.h"

#include "db/catalog.h"
#include "db/samples.h"

/* What one cycle brought for a service. */
typedef struct SbaCollected
{
	const char *service;
	TimestampTz ts;
	int			metrics_present;
	List	   *warnings;		/* of strings */
} SbaCollected;

/* What a backfill brought for a service. */
typedef struct SbaBackfilled
{
	const char *service;
	TimestampTz since;			/* span that was asked for; both 0: none */
	TimestampTz until;
	int64		n_samples;		/* stored, new or changed */
	int64		n_gaps;			/* instants that the source has nothing for */
} SbaBackfilled;

/*
 * Fetch the current values of the services and store them.  Returns one entry
 * for each service.  When no query succeeds the first failure is raised at the
 * given level; a query that fails beside others that do not is a warning.
 * only_these asks the source for these services alone.  Inside SPI_connect.
 */
extern SbaCollected *sba_collect(const SbaMetricCatalog *metrics, const SbaService *services,
								 int n_services, bool only_these, int failure_level);

/*
 * Fetch what smartbox.samples lacks of the time since then, and store it.
 * Returns one entry for each service.  Inside SPI_connect.
 */
extern SbaBackfilled *sba_backfill(const SbaMetricCatalog *metrics, const SbaService *services,
								   int n_services, Interval *lookback);

#endif							/* SBA_SQLFN_COLLECTOR_H */
