/*
 * breaker_registry.c
 *	  The circuit breakers of the server, one for each endpoint.
 *
 * The entries lie in shared memory, under one lock that is held for a few
 * assignments only, or in the session's own memory without a lock.  When all
 * are taken, the one that was used least recently makes room, a closed one if
 * there is any.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pg/breaker_registry.h"

/* NULL without shared memory. */
static LWLock *registry_lock = NULL;

/* NULL before the first use. */
static SbaBreakerEntry *entries = NULL;

Size
sba_breakers_shared_size(void)
{
	return mul_size(SBA_MAX_BREAKERS, sizeof(SbaBreakerEntry));
}

void
sba_breakers_attach(void *memory, bool is_new, LWLock *lock)
{
	entries = memory;
	registry_lock = lock;
	if (is_new)
		memset(entries, 0, sba_breakers_shared_size());
}

bool
sba_breakers_are_shared(void)
{
	return registry_lock != NULL;
}

static void
lock_registry(LWLockMode mode)
{
	if (registry_lock != NULL)
		LWLockAcquire(registry_lock, mode);
	else if (entries == NULL)
		entries = MemoryContextAllocZero(TopMemoryContext, sba_breakers_shared_size());
}

static void
unlock_registry(void)
{
	if (registry_lock != NULL)
		LWLockRelease(registry_lock);
}

static uint64
key_of(const char *endpoint)
{
	return hash_bytes_extended((const unsigned char *) endpoint, strlen(endpoint), 0);
}

static SbaBreakerEntry *
find_entry(uint64 key)
{
	int			i;

	for (i = 0; i < SBA_MAX_BREAKERS; i++)
	{
		if (entries[i].used_us != 0 && entries[i].key == key)
			return &entries[i];
	}
	return NULL;
}

/* Whether a makes room before b does. */
static bool
is_less_needed(const SbaBreakerEntry *a, const SbaBreakerEntry *b)
{
	bool		a_closed = a->used_us == 0 || a->breaker.state == SBA_BREAKER_CLOSED;
	bool		b_closed = b->used_us == 0 || b->breaker.state == SBA_BREAKER_CLOSED;

	return a_closed != b_closed ? a_closed : a->used_us < b->used_us;
}

static SbaBreakerEntry *
make_entry(uint64 key, const char *endpoint)
{
	SbaBreakerEntry *entry = &entries[0];
	int			i;

	for (i = 1; i < SBA_MAX_BREAKERS; i++)
	{
		if (is_less_needed(&entries[i], entry))
			entry = &entries[i];
	}
	memset(entry, 0, sizeof(SbaBreakerEntry));
	entry->key = key;
	strlcpy(entry->endpoint, endpoint, SBA_BREAKER_ENDPOINT_SIZE);
	/* databases of several encodings may look at it */
	for (i = 0; entry->endpoint[i] != '\0'; i++)
	{
		if (IS_HIGHBIT_SET(entry->endpoint[i]))
			entry->endpoint[i] = '?';
	}
	return entry;
}

SbaBreakerPermit
sba_breaker_admit(const char *endpoint, const SbaBreakerPolicy *policy)
{
	uint64		key = key_of(endpoint);
	int64		now_us = GetCurrentTimestamp();
	SbaBreakerEntry *entry;
	SbaBreakerPermit permit;

	lock_registry(LW_EXCLUSIVE);
	entry = find_entry(key);
	if (entry == NULL)
		entry = make_entry(key, endpoint);
	entry->used_us = now_us;
	permit = sba_breaker_ask(&entry->breaker, policy, now_us);
	unlock_registry();
	return permit;
}

/* Say in the server's log what outlives it: the breakers forget at a restart. */
static void
log_transition(const SbaBreakerEntry *entry)
{
	const SbaBreaker *breaker = &entry->breaker;

	if (breaker->state == SBA_BREAKER_CLOSED)
		ereport(LOG,
				(errmsg("circuit breaker of \"%s\" is closed again", entry->endpoint),
				 errhidestmt(true), errhidecontext(true)));
	else
		ereport(LOG,
				(errmsg("circuit breaker of \"%s\" is open until %s", entry->endpoint,
						timestamptz_to_str(breaker->probe_due_us)),
				 errdetail("%u calls in a row failed, the last one with: %s",
						   breaker->failures, breaker->last_error),
				 errhidestmt(true), errhidecontext(true)));
}

void
sba_breaker_settle(const char *endpoint, const SbaBreakerPolicy *policy,
				   const SbaBreakerPermit *permit, SbaBreakerOutcome outcome,
				   const char *reason)
{
	uint64		key = key_of(endpoint);
	int64		now_us = GetCurrentTimestamp();
	SbaBreakerEntry changed;
	SbaBreakerEntry *entry;
	bool		has_changed = false;

	lock_registry(LW_EXCLUSIVE);
	entry = find_entry(key);
	if (entry != NULL &&
		sba_breaker_report(&entry->breaker, policy, permit, outcome, reason, now_us))
	{
		changed = *entry;
		has_changed = true;
	}
	unlock_registry();
	if (has_changed)
		log_transition(&changed);
}

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const SbaBreakerEntry *) a)->endpoint,
				  ((const SbaBreakerEntry *) b)->endpoint);
}

SbaBreakerEntry *
sba_breakers_copy(int *n_entries)
{
	SbaBreakerEntry *copy = palloc(sba_breakers_shared_size());
	int			n = 0;
	int			i;

	lock_registry(LW_SHARED);
	for (i = 0; i < SBA_MAX_BREAKERS; i++)
	{
		if (entries[i].used_us != 0)
			copy[n++] = entries[i];
	}
	unlock_registry();
	qsort(copy, n, sizeof(SbaBreakerEntry), compare_entries);
	*n_entries = n;
	return copy;
}

int
sba_breakers_reset(const char *endpoint)
{
	uint64		key = endpoint == NULL ? 0 : key_of(endpoint);
	int64		now_us = GetCurrentTimestamp();
	int			n_reset = 0;
	bool		found = endpoint == NULL;
	int			i;

	lock_registry(LW_EXCLUSIVE);
	for (i = 0; i < SBA_MAX_BREAKERS; i++)
	{
		if (entries[i].used_us == 0 || (endpoint != NULL && entries[i].key != key))
			continue;
		found = true;
		n_reset += sba_breaker_reset(&entries[i].breaker, now_us);
	}
	unlock_registry();
	return found ? n_reset : -1;
}
