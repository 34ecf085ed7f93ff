/*
 * launcher.c
 *	  The process that starts workers when jobs are due.
 *
 * It is connected to no database, only to the shared catalogs, and sleeps until
 * the first time at which a job of some database is due, which the last worker
 * there has written down, or until somebody wakes it: a transaction with new
 * alerts or other jobs, a worker that ends, a reload of the configuration.
 * Workers (job_worker.c) live as long as there is something due.
 *
 * The postmaster restarts the launcher, the launcher its workers.  It begins
 * when recovery is over, so a standby has none until it is promoted.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "pg/compat.h"
#include "pg/settings.h"
#include "pg/worker_registry.h"
#include "worker/launcher.h"

#define RESTART_SECONDS 5

/* Databases are looked at this often, whatever else happens. */
#define LONGEST_SLEEP_MS 60000

/* A worker that has not come up after this long never will. */
#define STARTING_MS 30000

/* After workers that could not be started or did not get to the jobs. */
#define FIRST_BACKOFF_MS 1000
#define LONGEST_BACKOFF_MS 60000

extern PGDLLEXPORT void sba_launcher_worker_main(Datum main_argument);

/* A worker that was started, until it has ended. */
typedef struct StartedWorker
{
	BackgroundWorkerHandle *handle; /* NULL: the entry is free */
	Oid			database;
	TimestampTz started_at;
	int			check_ins;		/* of its database, before it */
} StartedWorker;

/* What the launcher itself knows of a database. */
typedef struct Target
{
	Oid			database;
	int			failures;		/* workers in a row that did not get to the
								 * jobs */
	TimestampTz not_before;
} Target;

static StartedWorker started[SBA_MAX_JOB_WORKERS];
static Target targets[SBA_MAX_WORKED_DATABASES];
static int	n_targets = 0;

static int64
milliseconds_until(TimestampTz at)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), at);
}

static void
forget_launcher(int code, Datum argument)
{
	SbaWorkerRegistry *registry = sba_lock_worker_registry(LW_EXCLUSIVE);

	if (registry->launcher_pid == MyProcPid)
		registry->launcher_pid = 0;
	sba_unlock_worker_registry();
}

/* ---- which databases ---- */

static void
add_target(Oid database, Target *found, int *n_found)
{
	int			i;

	for (i = 0; i < *n_found; i++)
	{
		if (found[i].database == database)
			return;
	}
	if (*n_found == SBA_MAX_WORKED_DATABASES)
		return;
	memset(&found[*n_found], 0, sizeof(Target));
	found[*n_found].database = database;
	for (i = 0; i < n_targets; i++)
	{
		if (targets[i].database == database)
			found[*n_found] = targets[i];
	}
	(*n_found)++;
}

/* Returns which of the wanted names there are; the list loses these. */
static int
read_databases(List *wanted, Target *found, List **missing)
{
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;
	int			n_found = 0;
	ListCell   *cell;

	*missing = list_copy(wanted);
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		foreach(cell, wanted)
		{
			if (strcmp(lfirst(cell), NameStr(row->datname)) != 0 || !row->datallowconn || row->datistemplate)
				continue;
			add_target(row->oid, found, &n_found);
			*missing = list_delete_ptr(*missing, lfirst(cell));
		}
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	return n_found;
}

/*
 * Make the registry's databases those that there are now, and have their jobs
 * looked at if that is asked for.
 */
static void
publish_targets(bool look_at_jobs)
{
	SbaWorkerRegistry *registry = sba_lock_worker_registry(LW_EXCLUSIVE);
	int			i;
	int			t;

	registry->databases_changed = false;
	for (i = 0; i < SBA_MAX_WORKED_DATABASES; i++)
	{
		for (t = 0; t < n_targets && targets[t].database != registry->databases[i].database; t++)
			;
		if (t == n_targets)
			memset(&registry->databases[i], 0, sizeof(SbaWorkedDatabase));
		if (look_at_jobs)
			registry->databases[i].next_due = 0;
	}
	for (t = 0; t < n_targets; t++)
	{
		if (sba_find_worked_database(registry, targets[t].database) == NULL)
			sba_find_worked_database(registry, InvalidOid)->database = targets[t].database;
	}
	sba_unlock_worker_registry();
}

/*
 * Find the databases of the setting.  When it may have changed, so may the
 * others that jobs go by, and those that are missing are told.
 */
static void
find_targets(bool is_reloaded, MemoryContext scratch)
{
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	Target		found[SBA_MAX_WORKED_DATABASES];
	List	   *wanted = NIL;
	List	   *missing = NIL;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(sba_databases), ',', &wanted))
		wanted = NIL;
	n_targets = read_databases(wanted, found, &missing);
	memcpy(targets, found, sizeof(Target) * n_targets);
	MemoryContextSwitchTo(scratch);
	foreach(cell, missing)
	{
		if (is_reloaded)
			ereport(LOG,
					(errmsg("smartbox_anomaly launcher: database \"%s\" does not exist or takes no connections", (char *) lfirst(cell)),
					 errhint("It is named in smartbox_anomaly.databases.  Workers are started when it is there.")));
	}
	publish_targets(is_reloaded);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(scratch);
}

/* ---- workers ---- */

static void
back_off(Target *target)
{
	int64		wait_ms = FIRST_BACKOFF_MS;

	wait_ms = Min(wait_ms << Min(target->failures, 10), LONGEST_BACKOFF_MS);
	target->failures++;
	target->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
}

/* Say it once for each time that workers run short. */
static void
note_whether_free(bool is_free)
{
	SbaWorkerRegistry *registry = sba_lock_worker_registry(LW_EXCLUSIVE);
	bool		is_new = !is_free && registry->no_worker_free_since == 0;

	if (is_free)
		registry->no_worker_free_since = 0;
	else if (is_new)
		registry->no_worker_free_since = GetCurrentTimestamp();
	sba_unlock_worker_registry();
	if (is_new)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("smartbox_anomaly launcher: no background worker is free, jobs have to wait"),
				 errhint("You may need to increase max_worker_processes.")));
}

static void
start_worker(Target *target, int check_ins)
{
	BackgroundWorker worker = {0};
	int			i;

	for (i = 0; i < SBA_MAX_JOB_WORKERS && started[i].handle != NULL; i++)
		;
	if (i == SBA_MAX_JOB_WORKERS)
		return;
	strlcpy(worker.bgw_name, "smartbox_anomaly job worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "smartbox_anomaly job worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION | SBA_BGWORKER_INTERRUPTIBLE;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "smartbox_anomaly", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sba_job_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(target->database);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &started[i].handle))
	{
		started[i].handle = NULL;
		note_whether_free(false);
		back_off(target);
		return;
	}
	note_whether_free(true);
	started[i].database = target->database;
	started[i].started_at = GetCurrentTimestamp();
	started[i].check_ins = check_ins;
}

static Target *
find_target(Oid database)
{
	int			t;

	for (t = 0; t < n_targets && targets[t].database != database; t++)
		;
	return t < n_targets ? &targets[t] : NULL;
}

/* A worker has ended: did it get to the jobs? */
static void
note_end(const StartedWorker *worker)
{
	Target	   *target = find_target(worker->database);
	SbaWorkerRegistry *registry;
	SbaWorkedDatabase *entry;
	bool		has_checked_in;

	if (target == NULL)
		return;
	registry = sba_lock_worker_registry(LW_SHARED);
	entry = sba_find_worked_database(registry, worker->database);
	has_checked_in = entry != NULL && (entry->check_ins != worker->check_ins || entry->pauses > 0);
	sba_unlock_worker_registry();
	if (has_checked_in)
		target->failures = 0;
	else
		back_off(target);
}

static void
reap_workers(void)
{
	int			i;

	for (i = 0; i < SBA_MAX_JOB_WORKERS; i++)
	{
		BgwHandleStatus status;
		pid_t		pid;

		if (started[i].handle == NULL)
			continue;
		status = GetBackgroundWorkerPid(started[i].handle, &pid);
		if (status == BGWH_STARTED)
			continue;
		if (status == BGWH_NOT_YET_STARTED)
		{
			/* a worker that could not be forked stays like this */
			if (!TimestampDifferenceExceeds(started[i].started_at, GetCurrentTimestamp(), STARTING_MS))
				continue;
			TerminateBackgroundWorker(started[i].handle);
		}
		note_end(&started[i]);
		pfree(started[i].handle);
		started[i].handle = NULL;
	}
}

/* Whether a worker of the database is on its way to the jobs. */
static bool
is_starting(const SbaWorkerRegistry *registry, Oid database)
{
	int			i;
	int			w;

	for (i = 0; i < SBA_MAX_JOB_WORKERS; i++)
	{
		pid_t		pid;
		BgwHandleStatus status;

		if (started[i].handle == NULL || started[i].database != database)
			continue;
		status = GetBackgroundWorkerPid(started[i].handle, &pid);
		if (status == BGWH_NOT_YET_STARTED)
			return true;
		if (status != BGWH_STARTED)
			continue;
		for (w = 0; w < SBA_MAX_JOB_WORKERS && registry->workers[w].pid != pid; w++)
			;
		if (w == SBA_MAX_JOB_WORKERS || !registry->workers[w].has_checked_in)
			return true;
	}
	return false;
}

/*
 * Start a worker where one is needed.  Returns for how long to sleep when
 * nothing happens.
 */
static int64
start_due_workers(void)
{
	int64		sleep_ms = LONGEST_SLEEP_MS;
	int			t;

	for (t = 0; t < n_targets; t++)
	{
		SbaWorkerRegistry *registry = sba_lock_worker_registry(LW_SHARED);
		SbaWorkedDatabase *entry = sba_find_worked_database(registry, targets[t].database);
		bool		can_start;
		int			check_ins = 0;
		TimestampTz due = 0;

		/* whatever changes the first three of these wakes us */
		can_start = entry != NULL && entry->pauses == 0 &&
			sba_count_job_workers(registry, targets[t].database) < SBA_JOB_WORKERS_PER_DATABASE &&
			!is_starting(registry, targets[t].database);
		if (can_start)
		{
			check_ins = entry->check_ins;
			due = Max(entry->has_new_alerts ? 0 : entry->next_due, targets[t].not_before);
		}
		sba_unlock_worker_registry();
		if (!can_start)
			continue;
		if (milliseconds_until(due) <= 0)
			start_worker(&targets[t], check_ins);
		if (milliseconds_until(Max(due, targets[t].not_before)) > 0)
			sleep_ms = Min(sleep_ms, milliseconds_until(Max(due, targets[t].not_before)));
	}
	return sleep_ms;
}

static bool
databases_have_changed(void)
{
	bool		have_changed = sba_lock_worker_registry(LW_SHARED)->databases_changed;

	sba_unlock_worker_registry();
	return have_changed;
}

void
sba_launcher_worker_main(Datum main_argument)
{
	static uint32 wait_event = 0;
	MemoryContext scratch;
	TimestampTz looked_at = 0;
	bool		is_reloaded = true;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	scratch = AllocSetContextCreate(TopMemoryContext, "smartbox_anomaly launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(TopMemoryContext);
	before_shmem_exit(forget_launcher, 0);
	sba_lock_worker_registry(LW_EXCLUSIVE)->launcher_pid = MyProcPid;
	sba_unlock_worker_registry();

	/* a reload may have passed before the handler was there */
	ProcessConfigFile(PGC_SIGHUP);
	while (true)
	{
		int64		sleep_ms;

		if (is_reloaded || databases_have_changed() ||
			TimestampDifferenceExceeds(looked_at, GetCurrentTimestamp(), LONGEST_SLEEP_MS))
		{
			pgstat_report_activity(STATE_RUNNING, "looking for databases");
			find_targets(is_reloaded, scratch);
			looked_at = GetCurrentTimestamp();
			is_reloaded = false;
		}
		reap_workers();
		sleep_ms = start_due_workers();
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, sleep_ms,
						 SBA_WAIT_EVENT(wait_event, "SmartboxLauncherMain"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			is_reloaded = true;
		}
	}
}

void
sba_register_launcher(void)
{
	BackgroundWorker worker = {0};

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	strlcpy(worker.bgw_name, "smartbox_anomaly launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "smartbox_anomaly launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, "smartbox_anomaly", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sba_launcher_worker_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
