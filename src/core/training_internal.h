/*
 * training_internal.h
 *	  What the parts of training share: the rows of one period.
 */
#ifndef SBA_CORE_TRAINING_INTERNAL_H
#define SBA_CORE_TRAINING_INTERNAL_H

#include "core/baseline.h"
#include "core/model.h"

/*
 * What the training of one period works on: its own rows and, when these are
 * few, some of other periods.  Rows that are learnt from come first, then those
 * held out, both in order of time.
 */
typedef struct SbaPeriodRows
{
	const SbaMetric *metrics;
	const SbaHistory *history;
	const SbaBaselines *baselines;
	const SbaFeatureTable *table;
	const SbaTrainingOptions *options;
	int			number;			/* of the period */
	const uint8_t *role;		/* SbaRowRole of each row of the history */
	uint32_t   *rows;			/* indexes into the history */
	size_t		n_rows;
	size_t		n_own;			/* of these, rows of the period itself */
	size_t		n_training;		/* the first ones, which are learnt from */
	bool	   *left_out;		/* [n_rows] taken for bad */
	double	   *deviations;		/* [n_rows][n_metrics] */
	double	   *scratch;		/* [n_rows] */
	double	   *standings;		/* [n_rows][n_metrics] */
	int64_t    *times;			/* [n_rows] */
	double	   *forest_scores;	/* [n_rows] of the multivariate forest, for
								 * held-out rows */
} SbaPeriodRows;

/*
 * Fit and calibrate the period's model and its card; bytes gets the malloc'ed
 * forests, n_metrics + 1 of them or NULL, and inverse the matrix that
 * model->drift points to.
 */
extern SbaStatus sba_fit_period(SbaPeriodRows *period, SbaModel *model, uint8_t **bytes,
								uint8_t *inverse, SbaTrainedPeriod *result, SbaError *error);

/* Accept or reject the model by the held-out rows. */
extern void sba_validate_period(const SbaPeriodRows *period, const SbaModel *model,
								SbaTrainedPeriod *result);

#endif							/* SBA_CORE_TRAINING_INTERNAL_H */
