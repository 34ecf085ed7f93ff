/*
 * breaker_registry.h
 *	  The circuit breakers of the server, one for each endpoint.
 *
 * All sessions share them when the library is preloaded; otherwise each
 * session has its own.
 */
#ifndef SBA_PG_BREAKER_REGISTRY_H
#define SBA_PG_BREAKER_REGISTRY_H

#include "storage/lwlock.h"

#include "core/circuit_breaker.h"

#define SBA_MAX_BREAKERS 32

/* Longer endpoints are told apart, but shown cut. */
#define SBA_BREAKER_ENDPOINT_SIZE 256

typedef struct SbaBreakerEntry
{
	uint64		key;			/* hash of the endpoint */
	int64		used_us;		/* 0: the entry is free */
	char		endpoint[SBA_BREAKER_ENDPOINT_SIZE];	/* as ASCII */
	SbaBreaker	breaker;
} SbaBreakerEntry;

/* For who provides the shared memory: its size, and where it is. */
extern Size sba_breakers_shared_size(void);
extern void sba_breakers_attach(void *memory, bool is_new, LWLock *lock);

/* Whether all sessions share the breakers. */
extern bool sba_breakers_are_shared(void);

/*
 * Ask whether a call to the endpoint may go out.  When it may, its outcome is
 * reported with sba_breaker_settle(), which also says a change of state in the
 * server's log.  The endpoint is an address without credentials.
 */
extern SbaBreakerPermit sba_breaker_admit(const char *endpoint, const SbaBreakerPolicy *policy);
extern void sba_breaker_settle(const char *endpoint, const SbaBreakerPolicy *policy,
							   const SbaBreakerPermit *permit, SbaBreakerOutcome outcome,
							   const char *reason);

/* A palloc'ed copy of all breakers, ordered by endpoint. */
extern SbaBreakerEntry *sba_breakers_copy(int *n_entries);

/*
 * Close the breaker of an endpoint, or all when it is NULL.  Returns how many
 * were not closed, or -1 when the endpoint has no breaker.
 */
extern int	sba_breakers_reset(const char *endpoint);

#endif							/* SBA_PG_BREAKER_REGISTRY_H */
