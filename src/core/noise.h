/*
 * noise.h
 *	  How far a metric lies from what is expected when nothing is wrong.
 */
#ifndef SBA_CORE_NOISE_H
#define SBA_CORE_NOISE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/baseline.h"

typedef struct SbaNoiseRows
{
	const SbaMetric *metrics;
	const SbaHistory *history;
	const uint8_t *role;		/* SbaRowRole of each row */
	const bool *unsettled;		/* rows whose level is not known yet */
	int			interval_s;
	const SbaFeatureTable *table;	/* deviation: z - expected_z */
	double	   *scratch;		/* [2 * n_rows] */
	uint64_t   *order;			/* [2 * n_rows] for sorting */
} SbaNoiseRows;

/*
 * Learn one metric's base and count variance.  Rows from current on belong to
 * the level that holds now: when there are enough of them, they alone count.
 */
extern void sba_learn_noise(const SbaNoiseRows *rows, int metric, size_t current,
							SbaBaseline *baselines);

#endif							/* SBA_CORE_NOISE_H */
