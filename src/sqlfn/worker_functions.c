/*
 * worker_functions.c
 *	  What SQL has to do with background workers: smartbox.run_job(),
 *	  smartbox.worker_state(), the trigger that wakes them, and the version that
 *	  they and the sessions run.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pg/compat.h"
#include "pg/query.h"
#include "pg/worker_registry.h"

SBA_FUNCTION(sba_library_version);
SBA_FUNCTION(sba_run_job);
SBA_FUNCTION(sba_wake_workers);
SBA_FUNCTION(sba_worker_state);

static SbaQuery job_query = {
	.text = "SELECT CASE WHEN smartbox.process_runs(j.running_pid, j.running_process) THEN j.running_pid END"
	" FROM smartbox.jobs AS j WHERE j.job = $1",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery names_query = {
	.text = "SELECT pg_catalog.string_agg(j.job, ', ' ORDER BY j.job) FROM smartbox.jobs AS j",
	.expected = SPI_OK_SELECT,
};

static SbaQuery run_query = {
	.text = "SELECT h.started_at, h.finished_at, h.status, h.error FROM smartbox.job_history AS h"
	" WHERE h.job = $1 AND h.pid = $2 AND h.started_at >= $3 ORDER BY h.started_at DESC LIMIT 1",
	.n_arguments = 3,
	.argument_types = {TEXTOID, INT4OID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

/* Raise what is known beforehand to be wrong. */
static void
check_job(const char *job)
{
	Datum		name = CStringGetTextDatum(job);
	int			pid;

	sba_query_run(&job_query, &name, NULL, 0);
	if (SPI_processed == 0)
	{
		sba_query_run(&names_query, NULL, NULL, 0);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("job \"%s\" does not exist", job),
				 errhint("There are: %s.", sba_result_text(0, 1))));
	}
	pid = sba_result_int4(0, 1, 0);
	if (pid != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("job \"%s\" is running already", job),
				 errdetail("Process %d runs it.", pid)));
}

static BackgroundWorkerHandle *
start_worker(const char *job)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	snprintf(worker.bgw_name, BGW_MAXLEN, "smartbox_anomaly job worker, for PID %d", MyProcPid);
	strlcpy(worker.bgw_type, "smartbox_anomaly job worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION | SBA_BGWORKER_INTERRUPTIBLE;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "smartbox_anomaly", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sba_job_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_extra, job, sizeof(worker.bgw_extra));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start a background worker for job \"%s\"", job),
				 errhint("You may need to increase max_worker_processes.")));
	return handle;
}

/*
 * smartbox.run_job(job text) returns (started_at, finished_at, status, error)
 */
Datum
sba_run_job(PG_FUNCTION_ARGS)
{
	char	   *job = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TimestampTz asked_at = GetCurrentTimestamp();
	BackgroundWorkerHandle *handle;
	TupleDesc	row_type;
	HeapTuple	row;
	Datum		arguments[3];
	Datum		values[4];
	bool		nulls[4];
	pid_t		pid = 0;
	int			i;

	if (get_call_result_type(fcinfo, NULL, &row_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PreventCommandDuringRecovery("run_job()");
	SPI_connect();
	check_job(job);
	handle = start_worker(job);
	PG_TRY();
	{
		(void) WaitForBackgroundWorkerStartup(handle, &pid);
		(void) WaitForBackgroundWorkerShutdown(handle);
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();

	arguments[0] = CStringGetTextDatum(job);
	arguments[1] = Int32GetDatum((int32) pid);
	arguments[2] = TimestampTzGetDatum(asked_at);
	sba_query_run(&run_query, arguments, NULL, 0);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("job \"%s\" was not run", job),
				 errdetail("Somebody has begun it meanwhile, its row is locked, or the worker could not begin."),
				 errhint("See smartbox.jobs and the server's log.")));
	for (i = 0; i < 4; i++)
	{
		values[i] = sba_result_datum(0, i + 1, &nulls[i]);
		if (!nulls[i])
			values[i] = SPI_datumTransfer(values[i], i >= 2 ? false : true, i >= 2 ? -1 : 8);
	}
	SPI_finish();
	row = heap_form_tuple(BlessTupleDesc(row_type), values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(row));
}

/*
 * smartbox.wake_workers(), a trigger.  Workers look at the jobs after each run
 * themselves, so what they do to them wakes nobody.
 */
Datum
sba_wake_workers(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		is_alert;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function can only be called as a trigger")));
	is_alert = trigger->tg_trigger->tgnargs > 0 && strcmp(trigger->tg_trigger->tgargs[0], "alert") == 0;
	if (is_alert || MyBgworkerEntry == NULL)
		sba_wake_for_jobs_at_commit(is_alert);
	return PointerGetDatum(NULL);
}

static const char *
state_name(SbaDatabaseState state)
{
	switch (state)
	{
		case SBA_DATABASE_STARTING:
			return "starting";
		case SBA_DATABASE_WORKING:
			return "working";
		case SBA_DATABASE_WITHOUT_EXTENSION:
			return "no extension";
		case SBA_DATABASE_OTHER_VERSION:
			return "other version";
	}
	return NULL;
}

static Datum
time_or_null(TimestampTz at, bool *is_null)
{
	*is_null = at == 0;
	return TimestampTzGetDatum(at);
}

/*
 * smartbox.worker_state() returns (preloaded, launcher_pid, state, checked_at,
 *		next_due, workers, no_worker_free_since)
 */
Datum
sba_worker_state(PG_FUNCTION_ARGS)
{
	TupleDesc	row_type;
	Datum		values[7] = {0};
	bool		nulls[7] = {false, true, true, true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &row_type) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = BoolGetDatum(sba_has_worker_registry());
	if (sba_has_worker_registry())
	{
		SbaWorkerRegistry *registry = sba_lock_worker_registry(LW_SHARED);
		SbaWorkedDatabase *found = sba_find_worked_database(registry, MyDatabaseId);
		SbaWorkedDatabase entry = {0};
		pid_t		launcher_pid = registry->launcher_pid;
		TimestampTz no_worker_free_since = registry->no_worker_free_since;
		int			n_workers = sba_count_job_workers(registry, MyDatabaseId);

		if (found != NULL)
			entry = *found;
		sba_unlock_worker_registry();
		values[1] = Int32GetDatum((int32) launcher_pid);
		nulls[1] = launcher_pid == 0;
		values[2] = CStringGetTextDatum(found == NULL ? "not listed" : state_name(entry.state));
		values[3] = time_or_null(entry.checked_at, &nulls[3]);
		values[4] = time_or_null(entry.next_due, &nulls[4]);
		values[5] = Int32GetDatum(n_workers);
		values[6] = time_or_null(no_worker_free_since, &nulls[6]);
		nulls[2] = nulls[5] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row_type), values, nulls)));
}

/*
 * smartbox.library_version() returns text
 */
Datum
sba_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(SBA_VERSION));
}
