/*
 * training.h
 *	  From a service's history to one model for each period of the week.
 */
#ifndef SBA_CORE_TRAINING_H
#define SBA_CORE_TRAINING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/metric.h"
#include "core/status.h"

/* With fewer samples in a period there is nothing to learn from. */
#define SBA_MIN_TRAINING_ROWS 100

/* The samples of one service, in ascending order of time. */
typedef struct SbaHistory
{
	size_t		n_rows;
	int			n_metrics;
	const int64_t *time_s;
	const int32_t *minute_of_week;	/* local; Monday 00:00 is 0 */
	const uint8_t *period;		/* 0 .. n_periods - 1 */
	const double *values;		/* [n_rows][n_metrics], NaN for missing */
} SbaHistory;

typedef struct SbaTrainingOptions
{
	int			n_periods;
	int			interval_s;		/* time between two samples */
	double		contamination;	/* at most this share of the history is taken
								 * for bad and left out of the calibration */
	double		budget_probability; /* for the validation */
	uint64_t	seed;
} SbaTrainingOptions;

/* How one metric's values lie in a period, for people to read. */
typedef struct SbaMetricSummary
{
	size_t		n_values;
	double		p05;
	double		median;
	double		p95;
	double		sigma;			/* of the deviation's scale z, without the
								 * part that few requests explain */
} SbaMetricSummary;

typedef enum SbaTrainingOutcome
{
	SBA_TRAINING_INSUFFICIENT,	/* too few rows: no model */
	SBA_TRAINING_REJECTED,		/* a model that failed the validation */
	SBA_TRAINING_ACCEPTED
} SbaTrainingOutcome;

typedef struct SbaTrainedPeriod
{
	SbaTrainingOutcome outcome;
	char		reason[SBA_MESSAGE_SIZE];	/* why not accepted; else empty */
	uint8_t    *bytes;			/* malloc'ed model, or NULL */
	size_t		length;
	size_t		n_rows;
	size_t		n_heldout;
	size_t		n_left_out;		/* rows taken for bad */
	double		flagged_share;	/* of the held-out rows */
	double		recall;			/* share of injected faults found */
	SbaMetricSummary metric[SBA_MAX_METRICS];
} SbaTrainedPeriod;

/*
 * Train and validate a model for each period; periods has n_periods entries,
 * which sba_free_trained_periods() frees, also after an error.
 *
 * In each period the first 80 % of the rows are learnt from, the last 20 %
 * calibrate and validate.  A model is rejected when it flags more of the
 * held-out rows than the contamination allows, or misses half of the faults
 * injected into them.  The same history and seed give the same bytes.
 */
extern SbaStatus sba_train_periods(const SbaMetric *metrics,
								   const SbaHistory *history,
								   const SbaTrainingOptions *options,
								   SbaTrainedPeriod *periods,
								   SbaError *error);

extern void sba_free_trained_periods(SbaTrainedPeriod *periods, int n_periods);

#endif							/* SBA_CORE_TRAINING_H */
