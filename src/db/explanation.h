/*
 * explanation.h
 *	  What each metric of one sample says, without recording anything.
 */
#ifndef SBA_DB_EXPLANATION_H
#define SBA_DB_EXPLANATION_H

#include "datatype/timestamp.h"

#include "db/catalog.h"

/* One metric of a sample; NaN for what is not known. */
typedef struct SbaMetricExplanation
{
	const char *metric;
	const char *unit;
	double		value;			/* as it is judged */
	double		expected;
	double		lower;
	double		upper;
	double		deviation_sigma;
	double		percentile;
	double		contribution;
	const char *direction;		/* high or low, NULL without a deviation */
	bool		stands_out;
	char	   *description;	/* for people */
} SbaMetricExplanation;

typedef struct SbaExplanation
{
	TimestampTz ts;
	const char *time_period;
	const char *model_period;	/* whose model judged it, NULL for none */
	int			model_version;
	int			n_metrics;		/* those of the catalog, in its order */
	SbaMetricExplanation metric[SBA_MAX_METRICS];
} SbaExplanation;

/*
 * Explain a service's newest sample, or the one at an instant when at is not 0,
 * as it is judged now; NULL when there is none, or it is no data.  Inside
 * SPI_connect; palloc'ed.
 */
extern SbaExplanation *sba_explain_sample(const SbaMetricCatalog *catalog,
										  const SbaService *service, TimestampTz at);

#endif							/* SBA_DB_EXPLANATION_H */
