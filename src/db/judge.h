/*
 * judge.h
 *	  The verdict on one sample: its model, its features, rules and patterns.
 */
#ifndef SBA_DB_JUDGE_H
#define SBA_DB_JUDGE_H

#include "core/model.h"
#include "core/severity.h"
#include "db/calendar.h"
#include "db/diagnosis.h"
#include "db/model_store.h"
#include "db/objectives.h"
#include "db/signal_bars.h"

/* What is to be recorded for one service, and what it returns. */
typedef struct SbaOutcome
{
	TimestampTz ts;
	const char *time_period;
	bool		is_new;			/* to be recorded */
	bool		is_anomaly;
	bool		no_data;
	bool		has_model;		/* score, confidence and model_version hold */
	double		score;
	SbaSeverity severity;
	double		confidence;
	int			model_version;
	Datum		payload;
	Datum		explanation;	/* 0 when not asked for */
} SbaOutcome;

/* A sample as it was read. */
typedef struct SbaReadSample
{
	TimestampTz ts;
	int			minute_of_week;
	const char *time_period;
	double		period_confidence;
	double		values[SBA_MAX_METRICS];	/* in the catalog's order */
	bool		idle[SBA_MAX_METRICS];	/* known: nothing happened */
	bool		is_flat;		/* only repeats the one at flat_since */
	TimestampTz flat_since;
	const SbaServiceCalendar *calendar;
	bool		is_muted;		/* of a maintenance: nothing is wrong with it */
	List	   *warnings;
} SbaReadSample;

typedef struct SbaDetectionPass
{
	const SbaMetricCatalog *catalog;
	const SbaPeriodMap *periods;
	const SbaCalendar *calendar;
	const SbaSignalBars *bars;
	const SbaObjectives *objectives;
	TimestampTz until;			/* the cycle's instant */
	TimestampTz silent_before;	/* no sample after this one: silent */
	bool		others_report;
	bool		verbose;
} SbaDetectionPass;

/*
 * A sample held against the period's model or the one that serves instead, and
 * against the rules; without any model, against the rules alone.  Its parts
 * point to each other.
 */
typedef struct SbaEvaluation
{
	const SbaActiveModel *active;	/* NULL without a model */
	const char *fallback_period;	/* whose model serves instead; or NULL */
	double		budget;
	SbaMetric	metrics[SBA_MAX_METRICS];
	const char *units[SBA_MAX_METRICS];
	int			catalog_index[SBA_MAX_METRICS]; /* -1: no longer watched */
	double		values[SBA_MAX_METRICS];
	SbaFeatures features;
	SbaVerdict	verdict;
	SbaEvaluatedSample sample;
	SbaDiagnosis diagnosis;		/* rules alone */
} SbaEvaluation;

static inline TimestampTz
sba_seconds_before(TimestampTz ts, int64 seconds)
{
	return ts - seconds * USECS_PER_SEC;
}

/* Hold a sample against what is known of its service.  Inside SPI_connect. */
extern void sba_evaluate_sample(const SbaDetectionPass *detection, const SbaService *service,
								const SbaReadSample *sample, SbaEvaluation *evaluation);

/* Evaluate a sample and say what that means.  Inside SPI_connect. */
extern void sba_judge_sample(const SbaDetectionPass *detection, const SbaService *service,
							 SbaReadSample *sample, SbaOutcome *outcome);

/*
 * The period's model, or the one that serves instead, with its period's name;
 * NULL without any.  Valid as long as that of sba_active_model().
 */
extern const SbaActiveModel *sba_find_model(const SbaService *service, const char *time_period,
											const char **fallback_period);

/*
 * Describe the model's metrics in the model's order, and where the catalog has
 * them; -1 for a metric that is no longer watched.
 */
extern void sba_match_metrics(const SbaMetricCatalog *catalog, const SbaModel *model,
							  SbaMetric *metrics, const char **units, int *catalog_index);

/*
 * How far a verdict can be trusted, 0 to 1, for a period of this confidence.
 * metrics_share: of the metrics that the service usually has, how many are
 * there.  is_fallback: by another period's model.
 */
extern double sba_verdict_confidence(const SbaModel *model, const SbaVerdict *verdict,
									 double period_confidence, double metrics_share,
									 bool is_fallback);

/*
 * In busy times more is usual: a metric has to deviate twice as far to matter,
 * and to be ten times rarer.  Returns the budget for them.
 */
extern double sba_relax(SbaMetric *metrics, int n_metrics, double budget);

#endif							/* SBA_DB_JUDGE_H */
