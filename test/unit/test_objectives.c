/*
 * test_objectives.c
 *	  Limits, busy times, few requests, and the matrix of severities.
 */
#include "core/objectives.h"
#include "tap.h"

enum
{
	RATE, LATENCY, DATABASE, ERRORS, N_METRICS
};

static const SbaMetric metrics[N_METRICS] = {
	{.name = "request_rate",.kind = SBA_KIND_RATE},
	{.name = "application_latency",.kind = SBA_KIND_LATENCY},
	{.name = "database_latency",.kind = SBA_KIND_LATENCY},
	{.name = "error_rate",.kind = SBA_KIND_RATIO},
};

static void
test_limits(void)
{
	SbaObjective latency = {false, 300, 400, 500, 100, 1.5};
	SbaObjective traffic = {true, 20, 10, 5, 100, 2};
	const double values[] = {0, 300, 300.001, 400, 401, 500, 501};
	const SbaObjectiveState states[] = {
		SBA_OBJECTIVE_WITHIN, SBA_OBJECTIVE_WITHIN, SBA_OBJECTIVE_APPROACHING, SBA_OBJECTIVE_APPROACHING,
		SBA_OBJECTIVE_WARNING, SBA_OBJECTIVE_WARNING, SBA_OBJECTIVE_BREACH
	};
	const double thresholds[] = {300, 300, 300, 300, 400, 400, 500};
	SbaObjectiveVerdict verdict;
	int			i;

	for (i = 0; i < 7; i++)
	{
		verdict = sba_judge_objective(&latency, values[i], 1000, false);
		ok(verdict.state == states[i] && verdict.threshold == thresholds[i], "%g ms is %s", values[i],
		   sba_objective_state_name(states[i]));
	}
	ok(sba_judge_objective(&latency, 900, 99, false).state == SBA_OBJECTIVE_UNKNOWN, "99 requests are too few");
	ok(sba_judge_objective(&latency, 900, 100, false).state == SBA_OBJECTIVE_BREACH, "100 are enough");
	ok(sba_judge_objective(&latency, 900, NAN, false).state == SBA_OBJECTIVE_BREACH, "an unknown number is");
	ok(sba_judge_objective(&latency, NAN, 1000, false).state == SBA_OBJECTIVE_UNKNOWN, "no value, no verdict");

	verdict = sba_judge_objective(&latency, 501, 1000, true);
	ok(verdict.state == SBA_OBJECTIVE_APPROACHING && verdict.threshold == 450 && verdict.is_busy,
	   "at busy times 501 ms is not far beyond 450");
	ok(sba_judge_objective(&latency, 751, 1000, true).state == SBA_OBJECTIVE_BREACH, "751 is beyond 750");

	ok(sba_judge_objective(&traffic, 20, 0, false).state == SBA_OBJECTIVE_WITHIN, "low values hurt: 20 is within");
	ok(sba_judge_objective(&traffic, 19, 0, false).state == SBA_OBJECTIVE_APPROACHING, "19 approaches");
	ok(sba_judge_objective(&traffic, 9, 0, false).state == SBA_OBJECTIVE_WARNING, "9 warns");
	ok(sba_judge_objective(&traffic, 0, 0, false).state == SBA_OBJECTIVE_BREACH, "no requests at all are a breach, not too few");
	ok(sba_judge_objective(&traffic, 4, 0, true).state == SBA_OBJECTIVE_WARNING, "at busy times the limit is lower");
}

static SbaObjectiveVerdict verdicts[N_METRICS];
static SbaSignal signals[N_METRICS];

static void
begin(void)
{
	const SbaObjectiveVerdict unknown = {SBA_OBJECTIVE_UNKNOWN, false, false, NAN};
	int			m;

	for (m = 0; m < N_METRICS; m++)
	{
		verdicts[m] = unknown;
		signals[m] = SBA_SIGNAL_NONE;
	}
}

static bool
gives(SbaSeverity before, SbaSeverity after, bool is_informational, int metric)
{
	SbaObjectiveOutcome outcome = sba_weigh_objectives(metrics, N_METRICS, verdicts, signals, before);

	return outcome.severity == after && outcome.is_informational == is_informational && outcome.metric == metric;
}

static void
test_matrix(void)
{
	static const SbaSeverity matrix[5][5] = {
		/* none, low, medium, high, critical */
		[SBA_OBJECTIVE_UNKNOWN] = {0, 1, 2, 3, 4},
		[SBA_OBJECTIVE_WITHIN] = {0, 1, 1, 1, 1},
		[SBA_OBJECTIVE_APPROACHING] = {0, 2, 2, 3, 3},
		[SBA_OBJECTIVE_WARNING] = {0, 3, 3, 3, 3},
		[SBA_OBJECTIVE_BREACH] = {4, 4, 4, 4, 4},
	};
	int			state;
	int			before;

	for (state = SBA_OBJECTIVE_UNKNOWN; state <= SBA_OBJECTIVE_BREACH; state++)
		for (before = SBA_SEVERITY_NONE; before <= SBA_SEVERITY_CRITICAL; before++)
		{
			bool		decides = state == SBA_OBJECTIVE_BREACH || (state > SBA_OBJECTIVE_UNKNOWN && before > SBA_SEVERITY_NONE);

			begin();
			verdicts[LATENCY].state = (SbaObjectiveState) state;
			signals[LATENCY] = before > SBA_SEVERITY_NONE ? SBA_SIGNAL_HIGH : SBA_SIGNAL_NONE;
			ok(gives((SbaSeverity) before, matrix[state][before], before > SBA_SEVERITY_NONE && state == SBA_OBJECTIVE_WITHIN,
					 decides ? LATENCY : -1),
			   "%s, %s: %s", sba_objective_state_name((SbaObjectiveState) state), sba_severity_name((SbaSeverity) before),
			   sba_severity_name(matrix[state][before]));
		}
}

static void
test_several(void)
{
	begin();
	verdicts[LATENCY].state = SBA_OBJECTIVE_WITHIN;
	signals[DATABASE] = SBA_SIGNAL_HIGH;
	ok(gives(SBA_SEVERITY_CRITICAL, SBA_SEVERITY_LOW, true, LATENCY),
	   "a slow database that nobody feels is informational");
	signals[RATE] = SBA_SIGNAL_LOW;
	ok(gives(SBA_SEVERITY_CRITICAL, SBA_SEVERITY_CRITICAL, false, -1), "missing traffic is not, of which nothing was said");
	verdicts[LATENCY].state = SBA_OBJECTIVE_APPROACHING;
	ok(gives(SBA_SEVERITY_CRITICAL, SBA_SEVERITY_CRITICAL, false, LATENCY), "nor does what approaches make it milder");
	ok(gives(SBA_SEVERITY_LOW, SBA_SEVERITY_MEDIUM, false, LATENCY), "it only makes it worse");

	begin();
	verdicts[RATE].state = SBA_OBJECTIVE_WITHIN;
	verdicts[RATE].is_low = true;
	signals[RATE] = SBA_SIGNAL_HIGH;
	ok(gives(SBA_SEVERITY_HIGH, SBA_SEVERITY_HIGH, false, -1), "a limit from below says nothing of a surge");
	signals[RATE] = SBA_SIGNAL_LOW;
	ok(gives(SBA_SEVERITY_HIGH, SBA_SEVERITY_LOW, true, RATE), "but of a drop");

	begin();
	verdicts[DATABASE].state = SBA_OBJECTIVE_WARNING;
	verdicts[LATENCY].state = SBA_OBJECTIVE_WITHIN;
	signals[DATABASE] = signals[LATENCY] = SBA_SIGNAL_HIGH;
	ok(gives(SBA_SEVERITY_LOW, SBA_SEVERITY_HIGH, false, DATABASE), "the worst of several decides");
	signals[DATABASE] = SBA_SIGNAL_NONE;
	ok(gives(SBA_SEVERITY_HIGH, SBA_SEVERITY_LOW, true, LATENCY), "of those that are strange");
	verdicts[ERRORS].state = SBA_OBJECTIVE_BREACH;
	ok(gives(SBA_SEVERITY_LOW, SBA_SEVERITY_CRITICAL, false, ERRORS), "a breach counts wherever it is");
	verdicts[LATENCY].state = SBA_OBJECTIVE_BREACH;
	ok(gives(SBA_SEVERITY_LOW, SBA_SEVERITY_CRITICAL, false, LATENCY), "the one that is strange comes first");
}

int
main(void)
{
	plan_tests(0);
	test_limits();
	test_matrix();
	test_several();
	return done();
}
