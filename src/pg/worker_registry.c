/*
 * worker_registry.c
 *	  What the launcher, its workers and the sessions know of each other.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "pg/compat.h"
#include "pg/worker_registry.h"

/* A statement that pauses workers waits no longer than this for their end. */
#define PAUSE_WAIT_MS 5000

/* Databases that one transaction can keep workers away from. */
#define MAX_PAUSED 16

/* NULL without shared memory. */
static SbaWorkerRegistry *shared = NULL;
static LWLock *shared_lock = NULL;

/* What to do when the transaction ends. */
static bool callback_is_registered = false;
static bool wake_for_jobs = false;
static bool wake_for_alerts = false;
static bool wake_for_databases = false;
static int	n_paused = 0;
static Oid	paused[MAX_PAUSED];

Size
sba_worker_registry_size(void)
{
	return sizeof(SbaWorkerRegistry);
}

void
sba_worker_registry_attach(void *memory, bool is_new, LWLock *lock)
{
	shared = memory;
	shared_lock = lock;
	if (is_new)
		memset(shared, 0, sizeof(SbaWorkerRegistry));
}

bool
sba_has_worker_registry(void)
{
	return shared != NULL;
}

SbaWorkerRegistry *
sba_lock_worker_registry(LWLockMode mode)
{
	LWLockAcquire(shared_lock, mode);
	return shared;
}

void
sba_unlock_worker_registry(void)
{
	LWLockRelease(shared_lock);
}

SbaWorkedDatabase *
sba_find_worked_database(SbaWorkerRegistry *registry, Oid database)
{
	int			i;

	for (i = 0; i < SBA_MAX_WORKED_DATABASES; i++)
	{
		if (registry->databases[i].database == database)
			return &registry->databases[i];
	}
	return NULL;
}

int
sba_count_job_workers(const SbaWorkerRegistry *registry, Oid database)
{
	int			n = 0;
	int			i;

	for (i = 0; i < SBA_MAX_JOB_WORKERS; i++)
		n += registry->workers[i].pid != 0 && registry->workers[i].database == database;
	return n;
}

void
sba_wake_launcher(void)
{
	PGPROC	   *launcher;

	if (shared == NULL)
		return;
	launcher = shared->launcher_pid == 0 ? NULL : BackendPidGetProc(shared->launcher_pid);
	if (launcher != NULL)
		SetLatch(&launcher->procLatch);
}

/* Nothing in here may fail: the transaction has ended already. */
static void
end_of_transaction(XactEvent event, void *argument)
{
	bool		is_committed = event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE;
	bool		wake = n_paused > 0;
	SbaWorkedDatabase *entry;

	if (event != XACT_EVENT_ABORT && !is_committed)
		return;
	if (n_paused == 0 && !wake_for_jobs && !wake_for_alerts && !wake_for_databases)
		return;

	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	while (n_paused > 0)
	{
		entry = sba_find_worked_database(shared, paused[--n_paused]);
		if (entry != NULL && entry->pauses > 0)
		{
			entry->pauses--;
			entry->next_due = 0;
		}
	}
	entry = sba_find_worked_database(shared, MyDatabaseId);
	if (is_committed && entry != NULL && (wake_for_jobs || wake_for_alerts))
	{
		entry->has_new_alerts |= wake_for_alerts;
		entry->next_due = 0;
		wake = true;
	}
	if (is_committed && wake_for_databases)
		shared->databases_changed = wake = true;
	LWLockRelease(shared_lock);
	wake_for_jobs = wake_for_alerts = wake_for_databases = false;
	if (wake)
		sba_wake_launcher();
}

static void
watch_transaction(void)
{
	if (!callback_is_registered)
		RegisterXactCallback(end_of_transaction, NULL);
	callback_is_registered = true;
}

void
sba_wake_for_jobs_at_commit(bool has_new_alerts)
{
	if (shared == NULL)
		return;
	watch_transaction();
	wake_for_jobs = true;
	wake_for_alerts |= has_new_alerts;
}

void
sba_wake_for_databases_at_commit(void)
{
	if (shared == NULL)
		return;
	watch_transaction();
	wake_for_databases = true;
}

/* Returns how many there were. */
static int
end_job_workers(Oid database)
{
	int			n = 0;
	int			i;

	LWLockAcquire(shared_lock, LW_SHARED);
	for (i = 0; i < SBA_MAX_JOB_WORKERS; i++)
	{
		if (shared->workers[i].pid == 0 || shared->workers[i].database != database ||
			shared->workers[i].pid == MyProcPid)
			continue;
		kill(shared->workers[i].pid, SIGTERM);
		n++;
	}
	LWLockRelease(shared_lock);
	return n;
}

void
sba_pause_workers(Oid database)
{
	static uint32 wait_event = 0;
	SbaWorkedDatabase *entry;
	TimestampTz deadline;

	if (shared == NULL || n_paused == MAX_PAUSED)
		return;
	watch_transaction();
	LWLockAcquire(shared_lock, LW_EXCLUSIVE);
	entry = sba_find_worked_database(shared, database);
	if (entry != NULL)
	{
		entry->pauses++;
		paused[n_paused++] = database;
	}
	LWLockRelease(shared_lock);

	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PAUSE_WAIT_MS);
	while (end_job_workers(database) > 0 && GetCurrentTimestamp() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 SBA_WAIT_EVENT(wait_event, "SmartboxPauseWorkers"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
