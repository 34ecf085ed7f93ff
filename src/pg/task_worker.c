/*
 * task_worker.c
 *	  The background worker of a task pool: claims items until none is left.
 *
 * Everything it needs is in the caller's dynamic shared memory segment.  The
 * caller terminates its workers whatever way it ends itself.
 */
#include "postgres.h"

#include "access/xact.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shm_toc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "pg/task_internal.h"

extern PGDLLEXPORT void sba_task_worker_main(Datum main_argument);

static SbaTaskIdentity identity;
static Oid	session_user_id;
static int	session_security_context;

/* A transaction as the caller's user, with a snapshot for reading. */
static void
begin_transaction(SbaTask *task)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	GetUserIdAndSecContext(&session_user_id, &session_security_context);
	SetUserIdAndSecContext(identity.current_user, identity.security_context);
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(task->memory);
}

static void
commit_transaction(void)
{
	PopActiveSnapshot();
	SetUserIdAndSecContext(session_user_id, session_security_context);
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

void
sba_task_commit_in_worker(SbaTask *task)
{
	commit_transaction();
	begin_transaction(task);
}

/*
 * Texts are converted by functions of the catalog, so where the source's
 * encoding is not the database's a transaction has to stay, without a snapshot.
 */
static bool
needs_conversions(void)
{
	return GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;
}

void
sba_task_leave_transaction_in_worker(SbaTask *task)
{
	commit_transaction();
	if (needs_conversions())
	{
		begin_transaction(task);
		PopActiveSnapshot();
		InvalidateCatalogSnapshot();
	}
	MemoryContextSwitchTo(task->memory);
}

void
sba_task_enter_transaction_in_worker(SbaTask *task)
{
	if (needs_conversions())
		PushActiveSnapshot(GetTransactionSnapshot());
	else
		begin_transaction(task);
}

/* Returns NULL, or why it failed. */
static ErrorData *
run_in_transaction(const SbaTaskKind *kind, SbaTask *task, const ErrorData * failure)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		begin_transaction(task);
		if (failure == NULL)
			kind->run(task);
		else
			kind->failed(task, failure);
		commit_transaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(task->memory);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		task->rows = NIL;
	}
	PG_END_TRY();
	return error;
}

static void
append_text(StringInfo message, const char *text)
{
	pq_sendbyte(message, text != NULL);
	if (text != NULL)
		appendBinaryStringInfo(message, text, strlen(text) + 1);
}

static void
send_result(const SbaTask *task, int item, const ErrorData * error)
{
	StringInfoData message;
	ListCell   *cell;

	pq_beginmessage(&message, error == NULL ? SBA_TASK_SUCCEEDED : SBA_TASK_FAILED);
	pq_sendint32(&message, item);
	if (error != NULL)
	{
		pq_sendint32(&message, error->sqlerrcode);
		append_text(&message, error->message);
		append_text(&message, error->detail);
		append_text(&message, error->hint);
	}
	else
	{
		pq_sendint32(&message, list_length(task->rows));
		foreach(cell, task->rows)
		{
			MinimalTuple row = lfirst(cell);

			pq_sendint32(&message, row->t_len);
			appendBinaryStringInfo(&message, (char *) row, row->t_len);
		}
	}
	pq_endmessage(&message);
}

static void
work_on_item(const SbaTaskKind *kind, SbaTask *task, int item)
{
	char	   *activity;
	ErrorData  *error;

	MemoryContextSwitchTo(task->memory);
	task->rows = NIL;
	activity = psprintf("%s %s", kind->name, task->item);
	pgstat_report_activity(STATE_RUNNING, activity);
	error = run_in_transaction(kind, task, NULL);
	if (error != NULL && kind->failed != NULL)
		run_in_transaction(kind, task, error);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(task->memory);
	send_result(task, item, error);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(task->memory);
}

/*
 * Take over the caller's settings and become its user.  Returns the type of
 * rows that it wants.
 */
static TupleDesc
become_caller(void *settings, const SbaTaskState *state)
{
	TupleDesc	row_type;

	StartTransactionCommand();
	RestoreGUCState(settings);
	SetSessionAuthorization(identity.session_user, superuser_arg(identity.session_user));
	SetCurrentRoleId(identity.role, OidIsValid(identity.role) && superuser_arg(identity.role));
	SetConfigOption("application_name", psprintf("smartbox_anomaly %s", state->kind),
					PGC_USERSET, PGC_S_SESSION);
	MemoryContextSwitchTo(TopMemoryContext);
	row_type = sba_task_row_type(state->row_types, state->n_columns);
	CommitTransactionCommand();

	/* the caller converts what it passes on */
	SetClientEncoding(GetDatabaseEncoding());
	return row_type;
}

static const SbaTaskKind *
find_kind(const char *name)
{
	int			i;

	for (i = 0; sba_task_kinds[i] != NULL; i++)
		if (strcmp(sba_task_kinds[i]->name, name) == 0)
			return sba_task_kinds[i];
	elog(ERROR, "there is no task \"%s\"", name);
}

void
sba_task_worker_main(Datum main_argument)
{
	dsm_segment *segment;
	shm_toc    *contents;
	shm_mq	   *queue;
	SbaTaskState *state;
	const SbaTaskKind *kind;
	const Size *item_offsets;
	SbaTask		task = {0};
	int			number;
	uint32		item;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	segment = dsm_attach(DatumGetUInt32(main_argument));
	if (segment == NULL)
		proc_exit(0);			/* the caller did not wait */
	contents = shm_toc_attach(SBA_TASK_MAGIC, dsm_segment_address(segment));
	if (contents == NULL)
		elog(ERROR, "bad magic number in dynamic shared memory segment");
	state = shm_toc_lookup(contents, SBA_TASK_STATE, false);
	identity = state->identity;
	memcpy(&number, MyBgworkerEntry->bgw_extra, sizeof(number));

	/* from here on the caller gets to know of errors */
	queue = shm_toc_lookup(contents, SBA_TASK_QUEUES + number, false);
	shm_mq_set_sender(queue, MyProc);
	pq_redirect_to_shm_mq(segment, shm_mq_attach(queue, segment, NULL));

	BackgroundWorkerInitializeConnectionByOid(identity.database, identity.authenticated_user, 0);
	task.row_type = become_caller(shm_toc_lookup(contents, SBA_TASK_SETTINGS, false), state);
	kind = find_kind(state->kind);

	task.parameters = shm_toc_lookup(contents, SBA_TASK_PARAMETERS, false);
	task.in_worker = true;
	task.memory = AllocSetContextCreate(TopMemoryContext, "smartbox_anomaly task", ALLOCSET_DEFAULT_SIZES);
	item_offsets = shm_toc_lookup(contents, SBA_TASK_ITEMS, false);
	while ((item = pg_atomic_fetch_add_u32(&state->next_item, 1)) < (uint32) state->n_items)
	{
		pg_atomic_write_u32(&state->current_item[number], item + 1);
		CHECK_FOR_INTERRUPTS();
		task.item = (const char *) item_offsets + item_offsets[item];
		work_on_item(kind, &task, (int) item);
		pg_atomic_write_u32(&state->current_item[number], 0);
	}

	/* the statistics go before the process does */
	pgstat_report_stat(true);
	dsm_detach(segment);
}
