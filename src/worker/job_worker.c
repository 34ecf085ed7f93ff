/*
 * job_worker.c
 *	  The background worker that runs the jobs of one database.
 *
 * It claims a job that is due, commits, runs it, records what became of it, and
 * looks for the next; when nothing is due it writes down when something will be
 * and ends.  Several may be at it, since a claim is a row of smartbox.jobs.  A
 * run whose worker dies is noticed by the next worker that looks.
 *
 * The launcher starts workers, and smartbox.run_job() one for the job that is
 * named in bgw_extra.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "pg/compat.h"
#include "pg/query.h"
#include "pg/worker_registry.h"

extern PGDLLEXPORT void sba_job_worker_main(Datum main_argument);

/* A job that this process has claimed; texts live in the context of the run. */
typedef struct ClaimedJob
{
	char	   *name;
	char	   *command;
	int			timeout_ms;
} ClaimedJob;

static SbaQuery extension_query = {
	.text = "SELECT x.extversion, x.extowner FROM pg_catalog.pg_extension AS x WHERE x.extname = 'smartbox_anomaly'",
	.expected = SPI_OK_SELECT,
};

static SbaQuery wake_query = {
	.text = "SELECT smartbox.wake_jobs_for_alerts($1)",
	.n_arguments = 1,
	.argument_types = {TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery claim_query = {
	.text = "SELECT c.job, c.command, least(c.timeout_ms, 2147483647)::pg_catalog.int4 FROM smartbox.claim_job($1, $2) AS c",
	.n_arguments = 2,
	.argument_types = {TIMESTAMPTZOID, TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery due_query = {
	.text = "SELECT smartbox.next_job_due()",
	.expected = SPI_OK_SELECT,
};

static SbaQuery finish_query = {
	.text = "SELECT smartbox.finish_job($1, $2, $3)",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TEXTOID},
	.expected = SPI_OK_SELECT,
};

/* ---- the registry ---- */

/* The database is looked at again soon, in case something was left undone. */
static void
leave_registry(int code, Datum argument)
{
	SbaJobWorker *slot = (SbaJobWorker *) DatumGetPointer(argument);
	SbaWorkerRegistry *registry = sba_lock_worker_registry(LW_EXCLUSIVE);
	SbaWorkedDatabase *entry = sba_find_worked_database(registry, slot->database);

	if (code != 0 && slot->has_checked_in && entry != NULL)
		entry->next_due = 0;
	slot->pid = 0;
	sba_unlock_worker_registry();
	sba_wake_launcher();
}

/* Returns false when no worker is wanted in the database now. */
static bool
enter_registry(Oid database)
{
	SbaWorkerRegistry *registry;
	SbaWorkedDatabase *entry;
	SbaJobWorker *slot = NULL;
	int			i;

	if (!sba_has_worker_registry())
		return true;
	registry = sba_lock_worker_registry(LW_EXCLUSIVE);
	entry = sba_find_worked_database(registry, database);
	for (i = 0; i < SBA_MAX_JOB_WORKERS && slot == NULL; i++)
	{
		if (registry->workers[i].pid == 0)
			slot = &registry->workers[i];
	}
	if (slot != NULL && (entry == NULL || entry->pauses == 0))
	{
		slot->pid = MyProcPid;
		slot->database = database;
		slot->has_checked_in = false;
	}
	else
		slot = NULL;
	sba_unlock_worker_registry();

	/* registered first, runs last: when the transaction's locks are gone */
	if (slot != NULL)
		before_shmem_exit(leave_registry, PointerGetDatum(slot));
	return slot != NULL;
}

/* Say when somebody is needed next, and that this worker has looked. */
static void
check_in(SbaDatabaseState state, TimestampTz next_due)
{
	SbaWorkerRegistry *registry;
	SbaWorkedDatabase *entry;
	int			i;

	if (!sba_has_worker_registry())
		return;
	registry = sba_lock_worker_registry(LW_EXCLUSIVE);
	entry = sba_find_worked_database(registry, MyDatabaseId);
	if (entry != NULL)
	{
		entry->state = state;
		entry->checked_at = GetCurrentTimestamp();
		entry->next_due = next_due;
		entry->check_ins++;
	}
	for (i = 0; i < SBA_MAX_JOB_WORKERS; i++)
	{
		if (registry->workers[i].pid == MyProcPid)
			registry->workers[i].has_checked_in = true;
	}
	sba_unlock_worker_registry();
	sba_wake_launcher();
}

/* Whether there are alerts that no worker has looked after; there are none now. */
static bool
take_new_alerts(void)
{
	SbaWorkerRegistry *registry;
	SbaWorkedDatabase *entry;
	bool		has_new_alerts = false;

	if (!sba_has_worker_registry())
		return false;
	registry = sba_lock_worker_registry(LW_EXCLUSIVE);
	entry = sba_find_worked_database(registry, MyDatabaseId);
	if (entry != NULL)
	{
		has_new_alerts = entry->has_new_alerts;
		entry->has_new_alerts = false;
	}
	sba_unlock_worker_registry();
	return has_new_alerts;
}

static SbaDatabaseState
last_state(void)
{
	SbaWorkerRegistry *registry;
	SbaWorkedDatabase *entry;
	SbaDatabaseState state = SBA_DATABASE_STARTING;

	if (!sba_has_worker_registry())
		return state;
	registry = sba_lock_worker_registry(LW_SHARED);
	entry = sba_find_worked_database(registry, MyDatabaseId);
	if (entry != NULL)
		state = entry->state;
	sba_unlock_worker_registry();
	return state;
}

/* ---- transactions ---- */

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_transaction(void)
{
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

/*
 * What holds for everything that a worker runs.  Its own bookkeeping never
 * waits for a standby, and nobody's lock holds it up for ever.
 */
static void
set_up_session(void)
{
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", "60s", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("application_name", "smartbox_anomaly jobs", PGC_USERSET, PGC_S_SESSION);
}

/*
 * Become the owner of the extension.  Returns false when the extension is not
 * there, or not of this library's version, which is told once.
 */
static bool
become_owner(void)
{
	SbaDatabaseState state = SBA_DATABASE_WORKING;
	char	   *version = NULL;
	Oid			owner = InvalidOid;
	bool		is_null;

	begin_transaction();
	sba_query_run(&extension_query, NULL, NULL, 0);
	if (SPI_processed == 0)
		state = SBA_DATABASE_WITHOUT_EXTENSION;
	else
	{
		version = sba_result_text(0, 1);
		owner = DatumGetObjectId(sba_result_datum(0, 2, &is_null));
		if (strcmp(version, SBA_VERSION) != 0)
			state = SBA_DATABASE_OTHER_VERSION;
	}
	if (state == SBA_DATABASE_OTHER_VERSION && last_state() != state)
		ereport(LOG,
				(errmsg("smartbox_anomaly jobs do not run in database \"%s\": its extension has version %s, the library is %s",
						get_database_name(MyDatabaseId), version, SBA_VERSION),
				 errhint("Run ALTER EXTENSION smartbox_anomaly UPDATE there, and restart the server if it still has the older library loaded.")));
	if (state == SBA_DATABASE_WORKING)
	{
		SetSessionAuthorization(owner, superuser_arg(owner));
		SetCurrentRoleId(InvalidOid, false);
	}
	commit_transaction();
	if (state != SBA_DATABASE_WORKING)
		check_in(state, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 60000));
	return state == SBA_DATABASE_WORKING;
}

/* Returns false when nothing is due. */
static bool
claim_job(const char *wanted, ClaimedJob *job, MemoryContext memory)
{
	bool		has_new_alerts = take_new_alerts();
	TimestampTz next_due = DT_NOEND;
	Datum		arguments[2];
	bool		is_null;
	bool		found;

	pgstat_report_activity(STATE_RUNNING, "looking for jobs that are due");
	begin_transaction();
	arguments[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	arguments[1] = CStringGetTextDatum(wanted);
	if (has_new_alerts)
		sba_query_run(&wake_query, arguments, NULL, 0);
	sba_query_run(&claim_query, arguments, wanted[0] != '\0' ? NULL : " n", 0);
	found = SPI_processed > 0;
	if (found)
	{
		MemoryContext caller = MemoryContextSwitchTo(memory);

		job->name = sba_result_text(0, 1);
		job->command = sba_result_text(0, 2);
		job->timeout_ms = sba_result_int4(0, 3, 0);
		MemoryContextSwitchTo(caller);
	}
	sba_query_run(&due_query, NULL, NULL, 0);
	next_due = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	commit_transaction();
	check_in(SBA_DATABASE_WORKING, is_null ? DT_NOEND : next_due);
	return found;
}

/* ---- running ---- */

/*
 * Run one statement as a client would, so that a procedure may commit.  In the
 * memory context of the run, which outlives its transactions.
 */
static void
execute_statement(const char *command)
{
	List	   *parsed = pg_parse_query(command);
	RawStmt    *statement;
	List	   *planned;
	Portal		portal;
	QueryCompletion completion;
	CommandTag	tag;

	if (list_length(parsed) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the command of a job must be one statement"),
				 errhint("Put several into a procedure.")));
	statement = linitial_node(RawStmt, parsed);
	tag = CreateCommandTag(statement->stmt);
	if (IsA(statement->stmt, TransactionStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("the command of a job cannot be %s", GetCommandTagName(tag)),
				 errhint("A procedure may commit.")));
	PushActiveSnapshot(GetTransactionSnapshot());
	planned = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(statement, command, NULL, 0, NULL),
							  command, CURSOR_OPT_PARALLEL_OK, NULL);
	PopActiveSnapshot();
	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, command, tag, planned, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	(void) SBA_PORTAL_RUN(portal, None_Receiver, &completion);
	PortalDrop(portal, false);
}

/* Tell which job it was that wrote into the log. */
static void
add_context(void *argument)
{
	const ClaimedJob *job = argument;

	errcontext("smartbox_anomaly job \"%s\"", job->name);
}

/* What is kept of an error, without what add_context() says. */
static char *
describe_error(const ErrorData * error)
{
	StringInfoData text;
	const char *last_line = error->context == NULL ? NULL : strrchr(error->context, '\n');

	initStringInfo(&text);
	appendStringInfo(&text, "%s (SQLSTATE %s)", error->message != NULL ? error->message : "missing error text",
					 unpack_sql_state(error->sqlerrcode));
	if (error->detail != NULL)
		appendStringInfo(&text, "\nDETAIL:  %s", error->detail);
	if (error->hint != NULL)
		appendStringInfo(&text, "\nHINT:  %s", error->hint);
	if (last_line != NULL)
		appendStringInfo(&text, "\nCONTEXT:  %.*s", (int) (last_line - error->context), error->context);
	return text.data;
}

/* Returns NULL, or why it failed. */
static char *
run_command(const ClaimedJob *job, MemoryContext memory)
{
	char	   *volatile reason = NULL;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		MemoryContextSwitchTo(memory);
		enable_timeout_after(STATEMENT_TIMEOUT, job->timeout_ms);
		execute_statement(job->command);
		disable_timeout(STATEMENT_TIMEOUT, false);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		disable_timeout(STATEMENT_TIMEOUT, false);
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		reason = describe_error(error);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		PortalErrorCleanup();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	return reason;
}

static void
record_end(const ClaimedJob *job, const char *reason)
{
	Datum		arguments[3];

	begin_transaction();
	arguments[0] = CStringGetTextDatum(job->name);
	arguments[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	arguments[2] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	sba_query_run(&finish_query, arguments, reason == NULL ? "  n" : NULL, 0);
	commit_transaction();
}

static void
run_job(ClaimedJob *job, MemoryContext memory)
{
	ErrorContextCallback callback;
	char	   *reason;

	MemoryContextSwitchTo(memory);
	callback.callback = add_context;
	callback.arg = job;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	debug_query_string = job->command;
	pgstat_report_activity(STATE_RUNNING, psprintf("job %s: %s", job->name, job->command));
	reason = run_command(job, memory);
	debug_query_string = NULL;
	pgstat_report_activity(STATE_RUNNING, "recording what became of a job");
	record_end(job, reason);
	error_context_stack = callback.previous;
}

void
sba_job_worker_main(Datum main_argument)
{
	const char *wanted = MyBgworkerEntry->bgw_extra;
	MemoryContext memory;
	ClaimedJob	job;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!enter_registry(DatumGetObjectId(main_argument)))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_argument), InvalidOid, 0);
	memory = AllocSetContextCreate(TopMemoryContext, "smartbox_anomaly job", ALLOCSET_DEFAULT_SIZES);
	set_up_session();
	if (!become_owner())
		proc_exit(0);
	while (claim_job(wanted, &job, memory))
	{
		run_job(&job, memory);
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(memory);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (wanted[0] != '\0')
			break;
	}
	pgstat_report_stat(true);
	proc_exit(0);
}
