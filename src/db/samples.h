/*
 * samples.h
 *	  smartbox.samples: reading a service's history, storing what was fetched.
 */
#ifndef SBA_DB_SAMPLES_H
#define SBA_DB_SAMPLES_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "core/training.h"
#include "db/catalog.h"
#include "db/periods.h"

/* Samples of one service as core/ takes them; palloc'ed. */
typedef struct SbaSampleSeries
{
	size_t		n_rows;
	int			n_metrics;
	TimestampTz *ts;
	int64_t    *time_s;			/* seconds since 2000; only differences count */
	int32_t    *minute_of_week;
	uint8_t    *period;
	double	   *values;			/* [n_rows][n_metrics], NaN for unknown */
	uint32_t   *idle;			/* by metric: known that nothing happened */
} SbaSampleSeries;

/*
 * Read the samples of a service with since < ts <= until, in order of time.
 * Values that are NULL, not finite or outside the metric's valid range are
 * NaN, and so are the zero of a metric for which zero means that nothing
 * happened, and all values of a sample that only continues a flat line.
 * Inside SPI_connect.
 */
extern SbaSampleSeries *sba_load_samples(const SbaMetricCatalog *metrics,
										 const SbaPeriodMap *periods,
										 const SbaService *service,
										 TimestampTz since, TimestampTz until);

/* The same with flat lines as they were received. */
extern SbaSampleSeries *sba_load_received_samples(const SbaMetricCatalog *metrics,
												  const SbaPeriodMap *periods,
												  const SbaService *service,
												  TimestampTz since, TimestampTz until);

/* First row of a series that is later than an instant. */
extern size_t sba_first_row_after(const SbaSampleSeries *series, TimestampTz at);

/* Rows of a series from first up to end, as a series. */
extern SbaSampleSeries sba_part_of_series(const SbaSampleSeries *series, size_t first, size_t end);

/*
 * The value of each metric in samples.metric_values as it is used.  idle, when
 * not NULL, says of which metrics it is known that nothing happened; what was
 * refused is added to *warnings, a list of palloc'ed strings, when that is not
 * NULL.
 */
extern void sba_read_metric_values(const SbaMetricCatalog *metrics,
								   ArrayType *metric_values, double *values,
								   bool *idle, List **warnings);

/*
 * How many of the last samples up to the one at ts repeat the one before, of a
 * service that moved before; *since is then the instant of the first of them.
 * 0: none, or the service never moves.  Inside SPI_connect.
 */
extern int	sba_count_repeats(const SbaMetricCatalog *metrics,
							  const SbaPeriodMap *periods,
							  const SbaService *service, TimestampTz ts,
							  TimestampTz *since);

/* One sample to store. */
typedef struct SbaNewSample
{
	const char *service;
	TimestampTz ts;
	const double *values;		/* [n_metrics], NaN for unknown */
	List	   *warnings;		/* of strings */
} SbaNewSample;

/*
 * Store samples, all or none.  A sample that is there already gets the values
 * that are newly known or have changed, and a warning for each of the latter.
 * Returns how many rows were new or changed.  Inside SPI_connect.
 */
extern uint64 sba_store_samples(const SbaMetricCatalog *metrics,
								const SbaNewSample *samples, int n_samples);

/*
 * Refuse a fetched value that is infinite or out of range: it becomes NaN, and
 * a sentence about it is added to *warnings.  NaN is what a query says of a
 * service that had no requests, and needs none.
 */
extern double sba_accept_value(const SbaMetric *metric, double value, List **warnings);

#endif							/* SBA_DB_SAMPLES_H */
