/*
 * regimes.h
 *	  Lasting changes of a metric's level inside its history, as a deployment
 *	  brings them.
 */
#ifndef SBA_CORE_REGIMES_H
#define SBA_CORE_REGIMES_H

#include <stddef.h>
#include <stdint.h>

#include "core/metric.h"

#define SBA_MAX_REGIMES 8

/* Days that a level must have held before and after a change. */
#define SBA_REGIME_MIN_DAYS 2

/* Parts of a history, in each of which a metric keeps its level. */
typedef struct SbaRegimes
{
	int			n;				/* at least 1 */
	size_t		first_row[SBA_MAX_REGIMES]; /* ascending; 0 for the first */
	double		level[SBA_MAX_REGIMES]; /* median of the residuals */
} SbaRegimes;

/*
 * Find the regimes of one metric.  residual is what it lies above its usual
 * course, on the transformed scale, NaN for rows that do not count; scratch has
 * room for n_rows values.  A change counts when the median of days moves at once
 * by a factor of about 1.2 (an error rate: by about the step from 0.5 to 0.9 %)
 * and by several times what it moves between ordinary days.
 */
extern void sba_find_regimes(SbaMetricKind kind, const int64_t *time_s,
							 const double *residual, size_t n_rows,
							 double *scratch, SbaRegimes *regimes);

#endif							/* SBA_CORE_REGIMES_H */
