/*
 * circuit_breaker.h
 *	  When to leave a server alone that does not answer.
 *
 *	            failures in a row                   open_us over
 *	  CLOSED ----------------------------> OPEN ------------------> HALF_OPEN
 *	    ^  ^                                ^                        |    |
 *	    |  +------- the probe is answered --|------------------------+    |
 *	    |                                   +---- the probe fails --------+
 *	    +-- reset by hand
 *
 * In HALF_OPEN one call goes out, the probe; the others are refused until it
 * is decided.  A probe whose process never says what came of it holds the
 * others off for its lease, then the next one may try.
 *
 * A breaker is plain memory without pointers: it may lie where several
 * processes see it, and who calls holds the lock.  All zeroes is a closed one.
 * Time is an argument, in microseconds of any clock; a clock that was set back
 * before the opening ends the wait.
 */
#ifndef SBA_CORE_CIRCUIT_BREAKER_H
#define SBA_CORE_CIRCUIT_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

/* Transitions that a breaker remembers. */
#define SBA_BREAKER_HISTORY 16

/* Room for why, with the final zero; longer texts are cut. */
#define SBA_BREAKER_REASON_SIZE 160

typedef enum SbaBreakerState
{
	SBA_BREAKER_CLOSED = 0,
	SBA_BREAKER_OPEN,
	SBA_BREAKER_HALF_OPEN
} SbaBreakerState;

typedef struct SbaBreakerTransition
{
	int64_t		at_us;
	SbaBreakerState state;		/* from then on */
	uint32_t	failures;		/* in a row, by then */
	char		reason[SBA_BREAKER_REASON_SIZE];
} SbaBreakerTransition;

typedef struct SbaBreaker
{
	SbaBreakerState state;		/* OPEN also when a probe is due: see
								 * sba_breaker_state() */
	uint32_t	failures;		/* in a row */
	uint64_t	generation;		/* grows with each transition and probe */
	int64_t		opened_us;		/* 0: never */
	int64_t		probe_due_us;	/* OPEN: when the next probe may go out */
	int64_t		lease_end_us;	/* HALF_OPEN: how long the probe may take */
	int64_t		last_success_us;	/* 0: none yet */
	int64_t		last_failure_us;	/* 0: none yet */
	char		last_error[SBA_BREAKER_REASON_SIZE];
	uint32_t	n_transitions;	/* since it exists; the last ones are kept */
	SbaBreakerTransition history[SBA_BREAKER_HISTORY];	/* number modulo size */
} SbaBreaker;

typedef struct SbaBreakerPolicy
{
	uint32_t	failures;		/* in a row, which open it; at least 1 */
	int64_t		open_us;		/* from the opening to the probe */
	int64_t		lease_us;		/* what a probe may take */
} SbaBreakerPolicy;

/* What a call may do, and the ticket that its outcome is reported with. */
typedef struct SbaBreakerPermit
{
	enum
	{
		SBA_BREAKER_GO = 0,
		SBA_BREAKER_PROBE,		/* go, with one request and no second try */
		SBA_BREAKER_REFUSED
	}			verdict;
	uint64_t	generation;
	int64_t		until_us;		/* REFUSED: when it is worth asking again */
	bool		probe_under_way;	/* REFUSED: for that reason */
} SbaBreakerPermit;

typedef enum SbaBreakerOutcome
{
	SBA_BREAKER_ANSWERED,		/* the server works, whatever it said */
	SBA_BREAKER_FAILED,
	SBA_BREAKER_UNDECIDED		/* cancelled, or ended by something else that
								 * says nothing of the server */
} SbaBreakerOutcome;

/* Ask whether a call may go out. */
extern SbaBreakerPermit sba_breaker_ask(SbaBreaker *breaker, const SbaBreakerPolicy *policy,
										int64_t now_us);

/*
 * Say what came of a call that was let out.  What began before the breaker's
 * last transition decides nothing any more.  reason is kept for a failure, as
 * ASCII; NULL otherwise.  Returns whether the state has changed.
 */
extern bool sba_breaker_report(SbaBreaker *breaker, const SbaBreakerPolicy *policy,
							   const SbaBreakerPermit *permit, SbaBreakerOutcome outcome,
							   const char *reason, int64_t now_us);

/* Close it by hand; returns whether the state has changed. */
extern bool sba_breaker_reset(SbaBreaker *breaker, int64_t now_us);

/* The state now: an open breaker whose time is over is half-open. */
extern SbaBreakerState sba_breaker_state(const SbaBreaker *breaker, int64_t now_us);

/* "closed", "open", "half-open" */
extern const char *sba_breaker_state_name(SbaBreakerState state);

#endif							/* SBA_CORE_CIRCUIT_BREAKER_H */
