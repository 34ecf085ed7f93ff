/*
 * shared_memory.c
 *	  What all sessions share when the library is preloaded.
 *
 * Areas with one lock each: the circuit breakers, which pg/breaker_registry.c
 * looks after, and what workers know of each other, which
 * pg/worker_registry.c does.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "pg/breaker_registry.h"
#include "pg/shared_memory.h"
#include "pg/worker_registry.h"

typedef struct SharedArea
{
	const char *name;
	Size		(*size) (void);
	void		(*attach) (void *memory, bool is_new, LWLock *lock);
} SharedArea;

static const SharedArea areas[] = {
	{"smartbox_anomaly circuit breakers", sba_breakers_shared_size, sba_breakers_attach},
	{"smartbox_anomaly workers", sba_worker_registry_size, sba_worker_registry_attach},
};

static shmem_request_hook_type next_request_hook = NULL;
static shmem_startup_hook_type next_startup_hook = NULL;

static void
request_memory(void)
{
	int			i;

	if (next_request_hook != NULL)
		next_request_hook();
	for (i = 0; i < lengthof(areas); i++)
	{
		RequestAddinShmemSpace(areas[i].size());
		RequestNamedLWLockTranche(areas[i].name, 1);
	}
}

static void
start_memory(void)
{
	int			i;

	if (next_startup_hook != NULL)
		next_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (i = 0; i < lengthof(areas); i++)
	{
		bool		found;
		void	   *memory = ShmemInitStruct(areas[i].name, areas[i].size(), &found);

		areas[i].attach(memory, !found, &GetNamedLWLockTranche(areas[i].name)->lock);
	}
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
