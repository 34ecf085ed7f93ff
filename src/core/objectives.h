/*
 * objectives.h
 *	  What was promised of a service's metrics, and what that makes of an
 *	  anomaly.
 */
#ifndef SBA_CORE_OBJECTIVES_H
#define SBA_CORE_OBJECTIVES_H

#include <stdbool.h>

#include "core/metric.h"
#include "core/severity.h"

/* In rising order. */
typedef enum SbaObjectiveState
{
	SBA_OBJECTIVE_UNKNOWN,		/* none, or no value, or too few requests */
	SBA_OBJECTIVE_WITHIN,
	SBA_OBJECTIVE_APPROACHING,	/* beyond acceptable */
	SBA_OBJECTIVE_WARNING,
	SBA_OBJECTIVE_BREACH
} SbaObjectiveState;

/* One row of smartbox.slos.  The limits themselves belong to the better side. */
typedef struct SbaObjective
{
	bool		is_low;			/* low values hurt: the limits descend */
	double		acceptable;
	double		warning;
	double		objective;
	double		min_requests;	/* in the interval of a sample; for limits
								 * that ascend */
	double		busy_factor;	/* how much wider the limits are when busy */
} SbaObjective;

/* What an objective says of one value. */
typedef struct SbaObjectiveVerdict
{
	SbaObjectiveState state;
	bool		is_low;
	bool		is_busy;
	double		threshold;		/* the limit that was passed; within, the one
								 * that was not */
} SbaObjectiveVerdict;

/* Its name in payloads: within, approaching, warning, breach. */
extern const char *sba_objective_state_name(SbaObjectiveState state);

/*
 * Judge a value, NaN when it is missing.  requests are those in the interval
 * that the value describes, NaN when nobody knows: they are not held to be too
 * few then.
 */
extern SbaObjectiveVerdict sba_judge_objective(const SbaObjective *objective, double value,
											   double requests, bool is_busy);

/* Which way a metric is strange. */
typedef enum SbaSignal
{
	SBA_SIGNAL_LOW = -1,
	SBA_SIGNAL_NONE = 0,
	SBA_SIGNAL_HIGH = 1
} SbaSignal;

/* What objectives make of an anomaly, or of a sample without one. */
typedef struct SbaObjectiveOutcome
{
	SbaSeverity severity;
	bool		is_informational;	/* all of it is within what is acceptable */
	int			metric;			/* whose objective decided; -1: none did */
} SbaObjectiveOutcome;

/*
 * Weigh an anomaly, whose severity is none when there is none, and whose
 * signals say which metrics are strange, by the objectives' verdicts.
 *
 *	any metric in breach	critical, with or without an anomaly
 *	a signal at warning		high
 *	a signal approaching	medium or high, as the anomaly is
 *	all signals within		low, and informational
 *
 * An anomaly is only ever made milder when an objective speaks for each of its
 * signals.  The one of the application's latency speaks for those of what it
 * waits for, too.
 */
extern SbaObjectiveOutcome sba_weigh_objectives(const SbaMetric *metrics, int n_metrics,
												const SbaObjectiveVerdict *verdicts,
												const SbaSignal *signals, SbaSeverity severity);

#endif							/* SBA_CORE_OBJECTIVES_H */
