/*
 * test_circuit_breaker.c
 *	  The breaker opens, lets one probe out, and closes, whatever the order in
 *	  which calls end.
 */
#include <string.h>

#include "core/circuit_breaker.h"

#include "tap.h"

#define SECOND INT64_C(1000000)

static const SbaBreakerPolicy policy = {5, 300 * SECOND, 12 * SECOND};

static SbaBreakerOutcome
outcome_of(const char *reason)
{
	return reason == NULL ? SBA_BREAKER_ANSWERED : SBA_BREAKER_FAILED;
}

/* A call that begins and ends at one time; an answer when reason is NULL. */
static int
call(SbaBreaker *breaker, const char *reason, int64_t now_us)
{
	SbaBreakerPermit permit = sba_breaker_ask(breaker, &policy, now_us);

	if (permit.verdict != SBA_BREAKER_REFUSED)
		sba_breaker_report(breaker, &policy, &permit, outcome_of(reason), reason, now_us);
	return permit.verdict;
}

/* One that has been open since time at_us. */
static SbaBreaker
opened(int64_t at_us)
{
	SbaBreaker	breaker = {0};

	for (int i = 0; i < 5; i++)
		call(&breaker, "refused", at_us);
	return breaker;
}

static void
test_opening(void)
{
	SbaBreaker	breaker = {0};
	SbaBreakerPermit permit;

	ok(sba_breaker_state(&breaker, 0) == SBA_BREAKER_CLOSED, "a new one is closed");
	for (int i = 0; i < 4; i++)
		call(&breaker, "refused", i * SECOND);
	ok(breaker.state == SBA_BREAKER_CLOSED, "four failures leave it closed");
	call(&breaker, NULL, 4 * SECOND);
	for (int i = 0; i < 4; i++)
		call(&breaker, "refused", (5 + i) * SECOND);
	ok(breaker.state == SBA_BREAKER_CLOSED, "an answer between them begins the count anew");
	call(&breaker, "timed out", 9 * SECOND);
	ok(breaker.state == SBA_BREAKER_OPEN, "the fifth in a row opens it");
	is_uint(breaker.failures, 5, "after five failures");
	ok(strcmp(breaker.last_error, "timed out") == 0, "it keeps why");

	permit = sba_breaker_ask(&breaker, &policy, 10 * SECOND);
	ok(permit.verdict == SBA_BREAKER_REFUSED && !permit.probe_under_way, "calls are refused");
	is_uint(permit.until_us, 309 * SECOND, "until the time is over");
	ok(call(&breaker, NULL, 309 * SECOND - 1) == SBA_BREAKER_REFUSED, "to the last microsecond");
	ok(sba_breaker_state(&breaker, 309 * SECOND - 1) == SBA_BREAKER_OPEN, "it is open until then");
	ok(sba_breaker_state(&breaker, 309 * SECOND) == SBA_BREAKER_HALF_OPEN, "and half-open from then on");
}

static void
test_probe(void)
{
	SbaBreaker	breaker = opened(SECOND);
	SbaBreakerPermit probe = sba_breaker_ask(&breaker, &policy, 301 * SECOND);
	SbaBreakerPermit other;
	int			n_probes = 1;

	ok(probe.verdict == SBA_BREAKER_PROBE, "the first call after that is a probe");
	for (int i = 0; i < 1000; i++)
		n_probes += sba_breaker_ask(&breaker, &policy, 302 * SECOND).verdict != SBA_BREAKER_REFUSED;
	is_uint(n_probes, 1, "the next thousand are refused");
	other = sba_breaker_ask(&breaker, &policy, 302 * SECOND);
	ok(other.probe_under_way, "for the probe");
	is_uint(other.until_us, 313 * SECOND, "until its lease ends");

	ok(sba_breaker_report(&breaker, &policy, &probe, SBA_BREAKER_FAILED, "refused", 303 * SECOND),
	   "a failed probe changes the state");
	ok(call(&breaker, NULL, 602 * SECOND) == SBA_BREAKER_REFUSED, "to open, for the whole time again");
	is_uint(breaker.failures, 6, "with one failure more");
	probe = sba_breaker_ask(&breaker, &policy, 603 * SECOND);
	ok(sba_breaker_report(&breaker, &policy, &probe, SBA_BREAKER_ANSWERED, NULL, 604 * SECOND),
	   "an answered probe changes the state");
	ok(call(&breaker, "refused", 605 * SECOND) == SBA_BREAKER_GO, "to closed");
	is_uint(breaker.failures, 1, "and the count begins anew");
	is_uint(breaker.last_success_us, 604 * SECOND, "the last answer is the probe's");
}

static void
test_lost_probe(void)
{
	SbaBreaker	breaker = opened(SECOND);
	SbaBreakerPermit lost = sba_breaker_ask(&breaker, &policy, 301 * SECOND);
	SbaBreakerPermit next;

	ok(call(&breaker, NULL, 313 * SECOND - 1) == SBA_BREAKER_REFUSED, "a probe is waited for during its lease");
	next = sba_breaker_ask(&breaker, &policy, 313 * SECOND);
	ok(next.verdict == SBA_BREAKER_PROBE, "then another goes out");
	ok(call(&breaker, NULL, 314 * SECOND) == SBA_BREAKER_REFUSED, "one only");
	ok(!sba_breaker_report(&breaker, &policy, &lost, SBA_BREAKER_FAILED, "late", 315 * SECOND) &&
	   breaker.state == SBA_BREAKER_HALF_OPEN, "what the lost one says later decides nothing");
	sba_breaker_report(&breaker, &policy, &next, SBA_BREAKER_UNDECIDED, NULL, 316 * SECOND);
	ok(call(&breaker, NULL, 316 * SECOND) == SBA_BREAKER_PROBE, "after a cancelled probe the next call is one, at once");
	ok(breaker.state == SBA_BREAKER_CLOSED, "and closes it");
}

static void
test_late_reports(void)
{
	SbaBreaker	breaker = {0};
	SbaBreakerPermit early = sba_breaker_ask(&breaker, &policy, 0);
	SbaBreakerPermit cancelled = sba_breaker_ask(&breaker, &policy, 0);

	breaker = opened(SECOND);
	sba_breaker_report(&breaker, &policy, &early, SBA_BREAKER_ANSWERED, NULL, 2 * SECOND);
	ok(breaker.state == SBA_BREAKER_OPEN, "an answer to a call from before does not close it");
	is_uint(breaker.last_success_us, 2 * SECOND, "but is noted");
	call(&breaker, NULL, 301 * SECOND);
	sba_breaker_report(&breaker, &policy, &early, SBA_BREAKER_FAILED, "late", 302 * SECOND);
	is_uint(breaker.failures, 0, "a failure from before does not count");

	for (int i = 0; i < 100; i++)
		sba_breaker_report(&breaker, &policy, &cancelled, SBA_BREAKER_UNDECIDED, NULL, 303 * SECOND);
	cancelled = sba_breaker_ask(&breaker, &policy, 303 * SECOND);
	for (int i = 0; i < 100; i++)
		sba_breaker_report(&breaker, &policy, &cancelled, SBA_BREAKER_UNDECIDED, NULL, 303 * SECOND);
	ok(breaker.state == SBA_BREAKER_CLOSED && breaker.failures == 0, "cancelled calls do not count");
}

static void
test_reset_and_clock(void)
{
	SbaBreaker	breaker = opened(1000 * SECOND);

	ok(sba_breaker_reset(&breaker, 1001 * SECOND), "it can be closed by hand");
	ok(call(&breaker, NULL, 1001 * SECOND) == SBA_BREAKER_GO, "then calls go out");
	ok(!sba_breaker_reset(&breaker, 1001 * SECOND), "a closed one stays so");

	breaker = opened(1000 * SECOND);
	ok(call(&breaker, NULL, 999 * SECOND) == SBA_BREAKER_PROBE, "a clock that was set back does not keep it open");
}

static void
test_history(void)
{
	SbaBreaker	breaker = {0};
	char		long_reason[1000];
	int64_t		now_us = 0;

	memset(long_reason, 'x', sizeof(long_reason));
	memcpy(long_reason, "h\303\266st\n", 6);
	long_reason[sizeof(long_reason) - 1] = '\0';
	for (int i = 0; i < 5; i++)
		call(&breaker, long_reason, 1);
	ok(strncmp(breaker.history[0].reason, "h??st?x", 7) == 0, "what is not ASCII is not kept");
	is_uint(strlen(breaker.history[0].reason), SBA_BREAKER_REASON_SIZE - 1, "a long reason is cut");

	for (int i = 0; i < 20; i++)
	{
		now_us += 1000 * SECOND;
		call(&breaker, "refused", now_us);
	}
	is_uint(breaker.n_transitions, 41, "twenty failed probes are forty transitions");
	is_uint(breaker.history[40 % SBA_BREAKER_HISTORY].at_us, now_us, "the last ones are kept");
	ok(breaker.history[40 % SBA_BREAKER_HISTORY].state == SBA_BREAKER_OPEN, "with the state");
	is_uint(breaker.history[40 % SBA_BREAKER_HISTORY].failures, 25, "and the failures by then");
	ok(strcmp(sba_breaker_state_name(SBA_BREAKER_CLOSED), "closed") == 0 &&
	   strcmp(sba_breaker_state_name(SBA_BREAKER_OPEN), "open") == 0 &&
	   strcmp(sba_breaker_state_name(SBA_BREAKER_HALF_OPEN), "half-open") == 0, "states have names");
}

int
main(void)
{
	plan_tests(0);
	test_opening();
	test_probe();
	test_lost_probe();
	test_late_reports();
	test_reset_and_clock();
	test_history();
	return done();
}
