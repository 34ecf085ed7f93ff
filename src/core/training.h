/*
 * training.h
 *	  From a service's history to one model for each period of the week.
 */
#ifndef SBA_CORE_TRAINING_H
#define SBA_CORE_TRAINING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/drift.h"
#include "core/metric.h"
#include "core/status.h"

/*
 * With fewer samples, borrowed ones included, there is nothing to learn from,
 * and with fewer of its own nothing of a period.
 */
#define SBA_MIN_TRAINING_ROWS 100
#define SBA_MIN_OWN_ROWS 12

/* What a sample may be used for. */
typedef enum SbaRowUse
{
	SBA_USE_ALL,
	SBA_USE_INCIDENT,			/* nothing: something was wrong */
	SBA_USE_MAINTENANCE,		/* nothing */
	SBA_USE_BUSY				/* the usual course of the day, but not what
								 * is rare */
} SbaRowUse;

#define SBA_ROW_USES 4

/* The samples of one service, in ascending order of time. */
typedef struct SbaHistory
{
	size_t		n_rows;
	int			n_metrics;
	const int64_t *time_s;
	const int32_t *minute_of_week;	/* local; Monday 00:00 is 0 */
	const uint8_t *period;		/* 0 .. n_periods - 1 */
	const double *values;		/* [n_rows][n_metrics], NaN for missing */
	const uint8_t *use;			/* SbaRowUse of each row; NULL: all of them
								 * for all */
} SbaHistory;

typedef struct SbaTrainingOptions
{
	int			n_periods;
	int			interval_s;		/* time between two samples */
	double		contamination;	/* at most this share of the history is taken
								 * for bad and left out of the calibration */
	double		budget_probability; /* for the validation */
	uint64_t	seed;
	bool		without_forests;	/* tails of the deviations alone */
} SbaTrainingOptions;

/* How one metric's values lie in a period, for people to read. */
typedef struct SbaMetricSummary
{
	size_t		n_values;
	double		p05;
	double		median;
	double		p95;
	double		mad;			/* median absolute deviation from the median */
	double		sigma;			/* of the deviation's scale z, without the
								 * part that few requests explain */
	double		lower_sigma;	/* deviations from which on the metric alone */
	double		upper_sigma;	/* uses the budget of false alarms up */
} SbaMetricSummary;

typedef enum SbaTrainingOutcome
{
	SBA_TRAINING_INSUFFICIENT,	/* too few rows: no model */
	SBA_TRAINING_REJECTED,		/* a model that failed the validation */
	SBA_TRAINING_ACCEPTED
} SbaTrainingOutcome;

/* What a model is based on; with fewer rows of its own, on what there is. */
typedef enum SbaTrainingBasis
{
	SBA_BASIS_OWN,				/* the period's own samples */
	SBA_BASIS_SIBLINGS,			/* those of other periods too */
	SBA_BASIS_ROBUST			/* too few for forests: medians and their
								 * deviations */
} SbaTrainingBasis;

typedef struct SbaTrainedPeriod
{
	SbaTrainingOutcome outcome;
	SbaTrainingBasis basis;
	char		reason[SBA_MESSAGE_SIZE];	/* why not accepted, or what is
											 * missing; else empty */
	uint8_t    *bytes;			/* malloc'ed model, or NULL */
	size_t		length;
	size_t		n_rows;			/* the period's own */
	size_t		n_borrowed;		/* of other periods */
	size_t		n_heldout;		/* of both */
	size_t		n_left_out;		/* of both, taken for bad */
	size_t		n_not_used[SBA_ROW_USES];	/* of the period, by SbaRowUse */
	size_t		n_unsettled;	/* of the period, just after a change of level */
	int			n_level_changes;	/* in the whole history */
	int64_t		last_level_change_s;	/* its time, when there is one */
	double		flagged_share;	/* of the held-out rows */
	double		recall;			/* share of injected faults found */
	SbaMetricSummary metric[SBA_MAX_METRICS];
	float		correlation[SBA_MAX_METRICS][SBA_MAX_METRICS];	/* of the deviations, a
																 * > b; NaN: there is
																 * none */
	SbaDriftReference drift;	/* its matrix is in bytes alone */
} SbaTrainedPeriod;

/*
 * Train and validate a model for each period; periods has n_periods entries,
 * which sba_free_trained_periods() frees, also after an error.
 *
 * In each period the first 80 % of the rows are learnt from, the last 20 %
 * calibrate and validate.  A period with few rows borrows deviations of others,
 * which are free of the level and of the course of the day.  A model is rejected when it flags more of the
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
