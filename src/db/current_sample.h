/*
 * current_sample.h
 *	  The sample that a detection is about: which one, and what is believed of it.
 */
#ifndef SBA_DB_CURRENT_SAMPLE_H
#define SBA_DB_CURRENT_SAMPLE_H

#include "db/judge.h"

/* Intervals without a sample after which a service is silent. */
#define SBA_SILENT_INTERVALS 2

/*
 * Prepare to look at the newest samples of these services, or those at an
 * instant when at is not 0, with what is read once for all of them.  Inside
 * SPI_connect; palloc'ed.
 */
extern void sba_begin_pass(SbaDetectionPass *pass, const SbaMetricCatalog *catalog,
						   const SbaPeriodMap *periods, const SbaService *services,
						   int n_services, TimestampTz at);

/*
 * Read a service's newest sample up to the pass's instant in which anything is
 * known; false when there is none.  Inside SPI_connect.
 */
extern bool sba_read_current_sample(const SbaDetectionPass *pass, const SbaService *service,
									SbaReadSample *sample);

/* Find out which period an instant belongs to, and what the calendar says of it. */
extern void sba_place_in_week(const SbaDetectionPass *pass, const SbaService *service,
							  TimestampTz ts, SbaReadSample *sample);

/* Whether a sample is data: no flat line, and some value is within its range. */
extern bool sba_sample_is_believed(const SbaMetricCatalog *catalog, const SbaReadSample *sample);

/*
 * Whether the service has a sample of the last interval before now.  Inside
 * SPI_connect.
 */
extern bool sba_has_fresh_sample(const SbaService *service, TimestampTz now);

#endif							/* SBA_DB_CURRENT_SAMPLE_H */
