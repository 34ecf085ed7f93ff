/*
 * objectives.c
 *	  What was promised of a service's metrics, and what that makes of an
 *	  anomaly.
 */
#include "core/objectives.h"

#include <string.h>

/* The latency that those who call the service see; others are parts of it. */
#define SERVED_LATENCY "application_latency"

#define NO_METRIC (-1)

const char *
sba_objective_state_name(SbaObjectiveState state)
{
	static const char *const names[] = {"unknown", "within", "approaching", "warning", "breach"};

	return names[state];
}

SbaObjectiveVerdict
sba_judge_objective(const SbaObjective *objective, double value, double requests, bool is_busy)
{
	SbaObjectiveVerdict verdict = {SBA_OBJECTIVE_UNKNOWN, objective->is_low, is_busy, NAN};
	double		factor = !is_busy ? 1 : objective->is_low ? 1 / objective->busy_factor : objective->busy_factor;
	double		limits[] = {objective->acceptable * factor, objective->warning * factor, objective->objective * factor};
	int			state;

	/* few requests are what an objective against low values is about */
	if (isnan(value) || (!objective->is_low && requests < objective->min_requests))
		return verdict;
	verdict.state = SBA_OBJECTIVE_WITHIN;
	verdict.threshold = limits[0];
	for (state = SBA_OBJECTIVE_APPROACHING; state <= SBA_OBJECTIVE_BREACH; state++)
	{
		double		limit = limits[state - SBA_OBJECTIVE_APPROACHING];

		if (objective->is_low ? value < limit : value > limit)
		{
			verdict.state = (SbaObjectiveState) state;
			verdict.threshold = limit;
		}
	}
	return verdict;
}

/* The metric whose objective speaks for a signal of this one, or NO_METRIC. */
static int
spokesman(const SbaMetric *metrics, int n_metrics, const SbaObjectiveVerdict *verdicts, int m, SbaSignal signal)
{
	int			i;

	if (verdicts[m].state == SBA_OBJECTIVE_UNKNOWN && metrics[m].kind == SBA_KIND_LATENCY)
	{
		for (i = 0; i < n_metrics; i++)
			if (strcmp(metrics[i].name, SERVED_LATENCY) == 0)
				m = i;
	}
	if (verdicts[m].state == SBA_OBJECTIVE_UNKNOWN || verdicts[m].is_low != (signal == SBA_SIGNAL_LOW))
		return NO_METRIC;
	return m;
}

/* The metric in breach, one that is a signal before others; or NO_METRIC. */
static int
find_breach(int n_metrics, const SbaObjectiveVerdict *verdicts, const SbaSignal *signals)
{
	int			found = NO_METRIC;
	int			m;

	for (m = 0; m < n_metrics; m++)
		if (verdicts[m].state == SBA_OBJECTIVE_BREACH &&
			(found == NO_METRIC || (signals[m] != SBA_SIGNAL_NONE && signals[found] == SBA_SIGNAL_NONE)))
			found = m;
	return found;
}

SbaObjectiveOutcome
sba_weigh_objectives(const SbaMetric *metrics, int n_metrics, const SbaObjectiveVerdict *verdicts,
					 const SbaSignal *signals, SbaSeverity severity)
{
	SbaObjectiveOutcome outcome = {severity, false, find_breach(n_metrics, verdicts, signals)};
	SbaSeverity mildest = SBA_SEVERITY_NONE;
	SbaSeverity worst = SBA_SEVERITY_CRITICAL;
	bool		speaks_for_all = true;
	int			m;

	if (outcome.metric != NO_METRIC)
	{
		outcome.severity = SBA_SEVERITY_CRITICAL;
		return outcome;
	}
	if (severity == SBA_SEVERITY_NONE)
		return outcome;

	for (m = 0; m < n_metrics; m++)
	{
		int			speaker;

		if (signals[m] == SBA_SIGNAL_NONE)
			continue;
		speaker = spokesman(metrics, n_metrics, verdicts, m, signals[m]);
		if (speaker == NO_METRIC)
			speaks_for_all = false;
		else if (outcome.metric == NO_METRIC || verdicts[speaker].state > verdicts[outcome.metric].state)
			outcome.metric = speaker;
	}
	if (outcome.metric == NO_METRIC)
		return outcome;

	switch (verdicts[outcome.metric].state)
	{
		case SBA_OBJECTIVE_WARNING:
			mildest = worst = SBA_SEVERITY_HIGH;
			break;
		case SBA_OBJECTIVE_APPROACHING:
			mildest = SBA_SEVERITY_MEDIUM;
			worst = SBA_SEVERITY_HIGH;
			break;
		default:
			worst = SBA_SEVERITY_LOW;
			outcome.is_informational = speaks_for_all;
			break;
	}
	if (outcome.severity < mildest)
		outcome.severity = mildest;
	if (speaks_for_all && outcome.severity > worst)
		outcome.severity = worst;
	if (outcome.severity == severity && !outcome.is_informational && verdicts[outcome.metric].state == SBA_OBJECTIVE_WITHIN)
		outcome.metric = NO_METRIC;
	return outcome;
}
