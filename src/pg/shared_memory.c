/*
 * shared_memory.c
 *	  What all sessions share when the library is preloaded.
 *
 * One area with one lock: the circuit breakers, which pg/breaker_registry.c
 * looks after.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "pg/breaker_registry.h"
#include "pg/shared_memory.h"

#define AREA_NAME "smartbox_anomaly circuit breakers"

static shmem_request_hook_type next_request_hook = NULL;
static shmem_startup_hook_type next_startup_hook = NULL;

static void
request_memory(void)
{
	if (next_request_hook != NULL)
		next_request_hook();
	RequestAddinShmemSpace(sba_breakers_shared_size());
	RequestNamedLWLockTranche(AREA_NAME, 1);
}

static void
start_memory(void)
{
	void	   *memory;
	bool		found;

	if (next_startup_hook != NULL)
		next_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct(AREA_NAME, sba_breakers_shared_size(), &found);
	sba_breakers_attach(memory, !found, &GetNamedLWLockTranche(AREA_NAME)->lock);
	LWLockRelease(AddinShmemInitLock);
}

void
sba_request_shared_memory(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	next_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}
