/*
 * backfill.h
 *	  The past from the metric source into smartbox.samples.
 */
#ifndef SBA_SQLFN_BACKFILL_H
#define SBA_SQLFN_BACKFILL_H

#include "datatype/timestamp.h"

#include "db/catalog.h"
#include "pg/task_pool.h"

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
 * Fetch what smartbox.samples lacks of the time since then, and store it.
 * Returns one entry for each service.  Inside SPI_connect.
 *
 * The work is cut into pieces, tasks of the pool: where that may use workers,
 * each piece is stored in a transaction of its own, and no transaction is open
 * while one waits for the source.  A piece that fails is a warning; it is an
 * error when all do.
 */
extern SbaBackfilled *sba_backfill(const SbaMetricCatalog *metrics, const SbaService *services,
								   int n_services, Interval *lookback);

extern const SbaTaskKind sba_backfill_task;

#endif							/* SBA_SQLFN_BACKFILL_H */
