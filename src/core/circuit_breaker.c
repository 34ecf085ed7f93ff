/*
 * circuit_breaker.c
 *	  When to leave a server alone that does not answer.
 */
#include "core/circuit_breaker.h"

#include <string.h>

/*
 * Databases of several encodings may look at a breaker, so that it keeps what
 * reads the same in all of them.
 */
static void
keep_reason(char *kept, const char *reason)
{
	size_t		length = strnlen(reason, SBA_BREAKER_REASON_SIZE - 1);
	size_t		i;

	for (i = 0; i < length; i++)
		kept[i] = reason[i] >= 0x20 && reason[i] < 0x7F ? reason[i] : '?';
	kept[i] = '\0';
}

static void
move(SbaBreaker *breaker, SbaBreakerState state, const char *reason, int64_t now_us)
{
	SbaBreakerTransition *transition =
	&breaker->history[breaker->n_transitions % SBA_BREAKER_HISTORY];

	breaker->state = state;
	breaker->generation++;
	breaker->n_transitions++;
	transition->at_us = now_us;
	transition->state = state;
	transition->failures = breaker->failures;
	keep_reason(transition->reason, reason);
}

static void
open_breaker(SbaBreaker *breaker, const SbaBreakerPolicy *policy, const char *reason,
			 int64_t now_us)
{
	breaker->opened_us = now_us;
	breaker->probe_due_us = now_us + policy->open_us;
	move(breaker, SBA_BREAKER_OPEN, reason, now_us);
}

/* Whether a wait is over; a clock before the opening has been set back. */
static bool
is_over(const SbaBreaker *breaker, int64_t end_us, int64_t now_us)
{
	return now_us >= end_us || now_us < breaker->opened_us;
}

SbaBreakerState
sba_breaker_state(const SbaBreaker *breaker, int64_t now_us)
{
	if (breaker->state == SBA_BREAKER_OPEN &&
		is_over(breaker, breaker->probe_due_us, now_us))
		return SBA_BREAKER_HALF_OPEN;
	return breaker->state;
}

/* Let a probe out, for as long as its lease says. */
static void
begin_probe(SbaBreaker *breaker, const SbaBreakerPolicy *policy,
			SbaBreakerPermit *permit, int64_t now_us)
{
	breaker->lease_end_us = now_us + policy->lease_us;
	breaker->generation++;
	permit->verdict = SBA_BREAKER_PROBE;
	permit->generation = breaker->generation;
}

SbaBreakerPermit
sba_breaker_ask(SbaBreaker *breaker, const SbaBreakerPolicy *policy, int64_t now_us)
{
	SbaBreakerPermit permit = {SBA_BREAKER_GO, breaker->generation, 0, false};

	switch (breaker->state)
	{
		case SBA_BREAKER_CLOSED:
			break;
		case SBA_BREAKER_OPEN:
			if (sba_breaker_state(breaker, now_us) == SBA_BREAKER_HALF_OPEN)
			{
				move(breaker, SBA_BREAKER_HALF_OPEN, "a probe goes out", now_us);
				begin_probe(breaker, policy, &permit, now_us);
				break;
			}
			permit.verdict = SBA_BREAKER_REFUSED;
			permit.until_us = breaker->probe_due_us;
			break;
		case SBA_BREAKER_HALF_OPEN:
			/* whoever had the probe has given it back, or has not come back */
			if (is_over(breaker, breaker->lease_end_us, now_us))
			{
				begin_probe(breaker, policy, &permit, now_us);
				break;
			}
			permit.verdict = SBA_BREAKER_REFUSED;
			permit.until_us = breaker->lease_end_us;
			permit.probe_under_way = true;
			break;
	}
	return permit;
}

bool
sba_breaker_report(SbaBreaker *breaker, const SbaBreakerPolicy *policy,
				   const SbaBreakerPermit *permit, SbaBreakerOutcome outcome,
				   const char *reason, int64_t now_us)
{
	if (outcome == SBA_BREAKER_ANSWERED)
		breaker->last_success_us = now_us;
	else if (outcome == SBA_BREAKER_FAILED)
	{
		breaker->last_failure_us = now_us;
		keep_reason(breaker->last_error, reason != NULL ? reason : "");
	}
	if (permit->generation != breaker->generation)
		return false;

	if (breaker->state == SBA_BREAKER_HALF_OPEN)
	{
		switch (outcome)
		{
			case SBA_BREAKER_ANSWERED:
				breaker->failures = 0;
				move(breaker, SBA_BREAKER_CLOSED, "the probe was answered", now_us);
				return true;
			case SBA_BREAKER_FAILED:
				breaker->failures++;
				open_breaker(breaker, policy, breaker->last_error, now_us);
				return true;
			case SBA_BREAKER_UNDECIDED:
				/* the next call is the probe, at once */
				breaker->lease_end_us = now_us;
				return false;
		}
	}
	else if (breaker->state == SBA_BREAKER_CLOSED)
	{
		if (outcome == SBA_BREAKER_ANSWERED)
			breaker->failures = 0;
		else if (outcome == SBA_BREAKER_FAILED &&
				 ++breaker->failures >= policy->failures)
		{
			open_breaker(breaker, policy, breaker->last_error, now_us);
			return true;
		}
	}
	return false;
}

bool
sba_breaker_reset(SbaBreaker *breaker, int64_t now_us)
{
	breaker->failures = 0;
	if (breaker->state == SBA_BREAKER_CLOSED)
		return false;
	move(breaker, SBA_BREAKER_CLOSED, "reset by hand", now_us);
	return true;
}

const char *
sba_breaker_state_name(SbaBreakerState state)
{
	switch (state)
	{
		case SBA_BREAKER_CLOSED:
			return "closed";
		case SBA_BREAKER_OPEN:
			return "open";
		case SBA_BREAKER_HALF_OPEN:
			return "half-open";
	}
	return "unknown";
}
