/*
 * baseline.h
 *	  Learning how a service's metrics usually behave over the week.
 */
#ifndef SBA_CORE_BASELINE_H
#define SBA_CORE_BASELINE_H

#include <stdbool.h>

#include "core/features.h"
#include "core/status.h"
#include "core/training.h"

/* Fewer values than this are no behaviour. */
#define SBA_MIN_BASELINE_VALUES 50

/* What a row of the history is good for, in rising order. */
typedef enum SbaRowRole
{
	SBA_ROLE_NONE,				/* an incident or a maintenance: nothing */
	SBA_ROLE_HELDOUT,			/* to test what was learnt */
	SBA_ROLE_SHAPE,				/* a busy time: the usual course of the day */
	SBA_ROLE_LEARN				/* all */
} SbaRowRole;

/* Baselines of all metrics, with the memory of their profiles. */
typedef struct SbaBaselines
{
	SbaBaseline baseline[SBA_MAX_METRICS];
	uint8_t    *profiles;		/* n_metrics profiles, malloc'ed */
	bool	   *unsettled;		/* [n_rows], malloc'ed: so soon after a change
								 * of the level that it is not known yet */
	int			n_level_changes;	/* of the metric that has most */
	size_t		last_level_change;	/* row with which the last one begins */
} SbaBaselines;

/*
 * Features of every row of a history: arrays of [n_rows][n_metrics] doubles,
 * malloc'ed as one block that begins at deviation.
 */
typedef struct SbaFeatureTable
{
	double	   *deviation;
	double	   *expected_z;
	double	   *sigma;
	double	   *run;
} SbaFeatureTable;

/*
 * Learn offsets, profiles and noise from the rows, each in its role
 * (SbaRowRole), and compute the features of every row, each judged by the rows
 * before it.  The level is that of the last days, held-out ones included.
 * Errors: SBA_OUT_OF_MEMORY.  Free both with sba_baselines_free() and
 * sba_feature_table_free(), also after an error.
 */
extern SbaStatus sba_baselines_learn(const SbaMetric *metrics, const SbaHistory *history,
									 const uint8_t *role, int interval_s,
									 SbaBaselines *baselines, SbaFeatureTable *table,
									 SbaError *error);
extern void sba_baselines_free(SbaBaselines *baselines);
extern void sba_feature_table_free(SbaFeatureTable *table);

#endif							/* SBA_CORE_BASELINE_H */
