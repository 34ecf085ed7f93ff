/*
 * expectations.h
 *	  What was expected of a service at each sample, normal ones included.
 */
#ifndef SBA_DB_EXPECTATIONS_H
#define SBA_DB_EXPECTATIONS_H

#include "datatype/timestamp.h"

#include "db/catalog.h"

/* One metric of one sample; NaN for what is not known. */
typedef struct SbaExpectation
{
	double		value;			/* as it is judged */
	double		expected;
	double		lower;			/* band of what is usual */
	double		upper;
	double		deviation_sigma;
} SbaExpectation;

/* Takes what there is to say of one sample, by metric of the catalog. */
typedef void (*SbaExpectationSink) (void *context, TimestampTz ts, const SbaExpectation *by_metric);

/*
 * Go through the samples of a service with since <= ts <= until in order of
 * time, and hand out what the models that are active now expect of each, judged
 * by the samples before it as detection does.  Writes nothing.  Inside
 * SPI_connect.
 */
extern void sba_expect_values(const SbaMetricCatalog *catalog, const SbaService *service,
							  TimestampTz since, TimestampTz until,
							  SbaExpectationSink add_sample, void *context);

#endif							/* SBA_DB_EXPECTATIONS_H */
