/*
 * task_pool.c
 *	  Work of one SQL function on many items: the caller's side.
 *
 * The caller puts the items into a dynamic shared memory segment, starts the
 * workers and waits on its latch for what they send, each through a queue of
 * its own.  Whatever way the caller ends, the segment is detached, and that
 * terminates the workers.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shm_toc.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "pg/compat.h"
#include "pg/settings.h"
#include "pg/task_internal.h"

/* Processes that are looked at for who waits for whom. */
#define MAX_WAITING_PROCESSES 64

typedef struct PoolWorker
{
	BackgroundWorkerHandle *handle;
	shm_mq_handle *queue;		/* NULL after the worker detached from it */
	ErrorData	last_error;		/* that it sent; message NULL: none */
} PoolWorker;

/* In TopTransactionContext: it is used when the transaction is aborted. */
typedef struct TaskPool
{
	dsm_segment *segment;
	SbaTaskState *state;
	TupleDesc	row_type;
	SbaTaskResult *results;
	bool	   *is_done;		/* [n_items] */
	int			n_workers;
	PoolWorker	worker[SBA_MAX_TASK_WORKERS];
} TaskPool;

TupleDesc
sba_task_row_type(const Oid *types, int n_columns)
{
	TupleDesc	row_type = CreateTemplateTupleDesc(n_columns);
	int			i;

	for (i = 0; i < n_columns; i++)
		TupleDescInitEntry(row_type, (AttrNumber) (i + 1), NULL, types[i], -1, 0);
	return row_type;
}

void
sba_task_add_row(SbaTask *task, Datum *values, bool *nulls)
{
	MemoryContext caller = MemoryContextSwitchTo(task->memory);

	task->rows = lappend(task->rows, heap_form_minimal_tuple(task->row_type, values, nulls));
	MemoryContextSwitchTo(caller);
}

/* ---- working in the caller ---- */

static void
begin_subtransaction(SbaTask *task)
{
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(task->memory);
}

void
sba_task_commit(SbaTask *task)
{
	if (task->in_worker)
		sba_task_commit_in_worker(task);
	else
	{
		ReleaseCurrentSubTransaction();
		begin_subtransaction(task);
	}
}

void
sba_task_leave_transaction(SbaTask *task)
{
	if (task->in_worker)
		sba_task_leave_transaction_in_worker(task);
	else
		sba_task_commit(task);
}

void
sba_task_enter_transaction(SbaTask *task)
{
	if (task->in_worker)
		sba_task_enter_transaction_in_worker(task);
}

/* Returns NULL, or why it failed; a cancel is an error of the caller. */
static ErrorData *
run_in_subtransaction(const SbaTaskKind *kind, SbaTask *task, const ErrorData * failure)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	begin_subtransaction(task);
	PG_TRY();
	{
		if (failure == NULL)
			kind->run(task);
		else
			kind->failed(task, failure);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(task->memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		task->rows = NIL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}

static void
add_result_row(SbaTaskResult *result, TupleDesc row_type, MinimalTuple stored)
{
	SbaTaskRow *row = palloc0(sizeof(SbaTaskRow));
	HeapTuple	tuple = heap_tuple_from_minimal_tuple(stored);

	heap_deform_tuple(tuple, row_type, row->values, row->nulls);
	result->rows = lappend(result->rows, row);
}

static void
keep_failure(SbaTaskResult *result, const ErrorData * error)
{
	result->failed = true;
	result->sqlstate = error->sqlerrcode;
	result->message = pstrdup(error->message != NULL ? error->message : "missing error text");
	result->detail = error->detail != NULL ? pstrdup(error->detail) : NULL;
	result->hint = error->hint != NULL ? pstrdup(error->hint) : NULL;
}

/*
 * Work on an item here.  With a failure given, which ended a worker, only note
 * that.
 */
static void
work_here(const SbaTaskRequest *request, int item, TupleDesc row_type,
		  const ErrorData * failure, SbaTaskResult *result)
{
	SbaTask		task = {0};
	const		ErrorData *error = failure;
	ListCell   *cell;

	task.item = request->items[item];
	task.parameters = request->parameters;
	task.row_type = row_type;
	task.memory = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly task", ALLOCSET_DEFAULT_SIZES);
	if (failure == NULL)
		error = run_in_subtransaction(request->kind, &task, NULL);
	if (error != NULL && request->kind->failed != NULL)
		run_in_subtransaction(request->kind, &task, error);
	if (error != NULL)
		keep_failure(result, error);
	else
	{
		foreach(cell, task.rows)
			add_result_row(result, row_type, lfirst(cell));
	}
	MemoryContextDelete(task.memory);
}

/* ---- working with workers ---- */

bool
sba_may_use_workers(int n_items)
{
	return sba_max_workers > 0 && n_items >= 2 &&
		!IsTransactionBlock() && GetCurrentTransactionNestLevel() == 1 &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		XactIsoLevel == XACT_READ_COMMITTED && !XactReadOnly &&
		!RecoveryInProgress() && !IsInParallelMode() && !InSecurityRestrictedOperation();
}

/* Runs whenever the segment is detached, be it because the caller dies. */
static void
terminate_workers(dsm_segment * segment, Datum argument)
{
	TaskPool   *pool = (TaskPool *) DatumGetPointer(argument);
	int			i;

	for (i = 0; i < pool->n_workers; i++)
		TerminateBackgroundWorker(pool->worker[i].handle);
}

static Size
items_size(const SbaTaskRequest *request)
{
	Size		size = mul_size(sizeof(Size), request->n_items);
	int			i;

	for (i = 0; i < request->n_items; i++)
		size = add_size(size, strlen(request->items[i]) + 1);
	return size;
}

/* An array of offsets, and the items at these. */
static void
write_items(const SbaTaskRequest *request, Size *offsets)
{
	Size		offset = sizeof(Size) * request->n_items;
	int			i;

	for (i = 0; i < request->n_items; i++)
	{
		offsets[i] = offset;
		strcpy((char *) offsets + offset, request->items[i]);
		offset += strlen(request->items[i]) + 1;
	}
}

static void
write_state(const SbaTaskRequest *request, SbaTaskState *state)
{
	int			i;

	memset(state, 0, sizeof(SbaTaskState));
	state->identity.database = MyDatabaseId;
	state->identity.authenticated_user = GetAuthenticatedUserId();
	state->identity.session_user = GetSessionUserId();
	state->identity.role = GetCurrentRoleId();
	GetUserIdAndSecContext(&state->identity.current_user, &state->identity.security_context);
	strlcpy(state->kind, request->kind->name, sizeof(state->kind));
	state->n_items = request->n_items;
	state->n_columns = request->n_columns;
	memcpy(state->row_types, request->row_types, sizeof(Oid) * request->n_columns);
	pg_atomic_init_u32(&state->next_item, 0);
	for (i = 0; i < SBA_MAX_TASK_WORKERS; i++)
		pg_atomic_init_u32(&state->current_item[i], 0);
}

/* Fill a segment for that many workers; NULL when there can be none. */
static shm_toc *
create_segment(const SbaTaskRequest *request, int n_workers, TaskPool *pool)
{
	shm_toc_estimator estimator;
	shm_toc    *contents;
	Size		settings_size = EstimateGUCStateSpace();
	Size		size;
	void	   *place;
	int			i;

	shm_toc_initialize_estimator(&estimator);
	shm_toc_estimate_chunk(&estimator, sizeof(SbaTaskState));
	shm_toc_estimate_chunk(&estimator, items_size(request));
	shm_toc_estimate_chunk(&estimator, request->parameters_size);
	shm_toc_estimate_chunk(&estimator, settings_size);
	for (i = 0; i < n_workers; i++)
		shm_toc_estimate_chunk(&estimator, SBA_TASK_QUEUE_SIZE);
	shm_toc_estimate_keys(&estimator, 4 + n_workers);
	size = shm_toc_estimate(&estimator);

	pool->segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (pool->segment == NULL)
		return NULL;
	contents = shm_toc_create(SBA_TASK_MAGIC, dsm_segment_address(pool->segment), size);
	pool->state = shm_toc_allocate(contents, sizeof(SbaTaskState));
	write_state(request, pool->state);
	shm_toc_insert(contents, SBA_TASK_STATE, pool->state);
	place = shm_toc_allocate(contents, items_size(request));
	write_items(request, place);
	shm_toc_insert(contents, SBA_TASK_ITEMS, place);
	place = shm_toc_allocate(contents, request->parameters_size);
	if (request->parameters_size > 0)
		memcpy(place, request->parameters, request->parameters_size);
	shm_toc_insert(contents, SBA_TASK_PARAMETERS, place);
	place = shm_toc_allocate(contents, settings_size);
	SerializeGUCState(settings_size, place);
	shm_toc_insert(contents, SBA_TASK_SETTINGS, place);
	return contents;
}

/* Returns false when the server has no worker to spare. */
static bool
start_worker(const SbaTaskRequest *request, TaskPool *pool, shm_toc * contents)
{
	PoolWorker *started = &pool->worker[pool->n_workers];
	BackgroundWorker worker = {0};
	shm_mq	   *queue;

	snprintf(worker.bgw_name, BGW_MAXLEN, "smartbox_anomaly %s, for PID %d", request->kind->name, MyProcPid);
	strlcpy(worker.bgw_type, "smartbox_anomaly worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION | SBA_BGWORKER_INTERRUPTIBLE;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "smartbox_anomaly", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sba_task_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(pool->segment));
	memcpy(worker.bgw_extra, &pool->n_workers, sizeof(pool->n_workers));
	worker.bgw_notify_pid = MyProcPid;

	queue = shm_mq_create(shm_toc_allocate(contents, SBA_TASK_QUEUE_SIZE), SBA_TASK_QUEUE_SIZE);
	shm_toc_insert(contents, SBA_TASK_QUEUES + pool->n_workers, queue);
	shm_mq_set_receiver(queue, MyProc);
	started->queue = shm_mq_attach(queue, pool->segment, NULL);
	if (!RegisterDynamicBackgroundWorker(&worker, &started->handle))
		return false;
	shm_mq_set_handle(started->queue, started->handle);
	pool->n_workers++;
	return true;
}

/* Returns NULL when there is no worker. */
static TaskPool *
start_pool(const SbaTaskRequest *request, SbaTaskResult *results, bool *is_done)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	TaskPool   *pool = palloc0(sizeof(TaskPool));
	int			n_wanted = Min(Min(sba_max_workers, SBA_MAX_TASK_WORKERS), request->n_items);
	shm_toc    *contents = create_segment(request, n_wanted, pool);

	if (contents != NULL)
	{
		on_dsm_detach(pool->segment, terminate_workers, PointerGetDatum(pool));
		while (pool->n_workers < n_wanted && start_worker(request, pool, contents))
			;
		if (pool->n_workers == 0)
			dsm_detach(pool->segment);
	}
	MemoryContextSwitchTo(caller);
	if (pool->n_workers == 0)
	{
		ereport(DEBUG1,
				(errmsg_internal("no background worker is free, %s without", request->kind->name),
				 errhint("You may need to increase max_worker_processes.")));
		return NULL;
	}
	pool->results = results;
	pool->is_done = is_done;
	return pool;
}

static const char *
read_text(StringInfo message)
{
	return pq_getmsgbyte(message) ? pq_getmsgrawstring(message) : NULL;
}

static void
read_success(const TaskPool *pool, StringInfo message)
{
	int			item = (int) pq_getmsgint(message, 4);
	int			n_rows = (int) pq_getmsgint(message, 4);

	for (; n_rows > 0; n_rows--)
	{
		Size		size = pq_getmsgint(message, 4);
		MinimalTuple row = palloc(size);

		memcpy(row, pq_getmsgbytes(message, (int) size), size);
		add_result_row(&pool->results[item], pool->row_type, row);
		pfree(row);
	}
	pool->is_done[item] = true;
}

static void
read_failure(const TaskPool *pool, StringInfo message)
{
	int			item = (int) pq_getmsgint(message, 4);
	ErrorData	error = {0};

	error.sqlerrcode = (int) pq_getmsgint(message, 4);
	error.message = unconstify(char *, read_text(message));
	error.detail = unconstify(char *, read_text(message));
	error.hint = unconstify(char *, read_text(message));
	keep_failure(&pool->results[item], &error);
	pool->is_done[item] = true;
}

/* Take what a worker sent; returns whether there was something. */
static bool
read_worker(TaskPool *pool, PoolWorker *worker)
{
	StringInfoData message;
	ErrorData	notice;
	shm_mq_result status;
	Size		size;
	void	   *data;

	if (worker->queue == NULL)
		return false;
	status = shm_mq_receive(worker->queue, &size, &data, true);
	if (status == SHM_MQ_WOULD_BLOCK)
		return false;
	if (status == SHM_MQ_DETACHED)
	{
		worker->queue = NULL;
		return true;
	}
	initStringInfo(&message);
	appendBinaryStringInfo(&message, data, (int) size);
	switch (pq_getmsgbyte(&message))
	{
		case SBA_TASK_SUCCEEDED:
			read_success(pool, &message);
			break;
		case SBA_TASK_FAILED:
			read_failure(pool, &message);
			break;
		case 'N':
			pq_parse_errornotice(&message, &notice);
			ThrowErrorData(&notice);
			break;
		case 'E':
			pq_parse_errornotice(&message, &worker->last_error);
			break;
		default:
			break;				/* of no interest here */
	}
	pfree(message.data);
	return true;
}

/*
 * Whether one of these processes waits, over any number of others, for this
 * one, which the server's deadlock detection cannot see.
 */
static bool
is_waited_for(int *pids, int n_pids)
{
	int			i;
	int			j;
	int			k;

	for (i = 0; i < n_pids; i++)
	{
		ArrayType  *blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pids[i])));
		int		   *blocker = (int *) ARR_DATA_PTR(blockers);
		int			n_blockers = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));

		for (j = 0; j < n_blockers; j++)
		{
			if (blocker[j] == MyProcPid)
				return true;
			for (k = 0; k < n_pids && pids[k] != blocker[j]; k++)
				;
			if (k == n_pids && n_pids < MAX_WAITING_PROCESSES + SBA_MAX_TASK_WORKERS)
				pids[n_pids++] = blocker[j];
		}
		pfree(blockers);
	}
	return false;
}

static void
check_for_deadlock(const TaskPool *pool)
{
	int			pids[MAX_WAITING_PROCESSES + SBA_MAX_TASK_WORKERS];
	int			n_pids = 0;
	int			i;
	pid_t		pid;

	for (i = 0; i < pool->n_workers; i++)
		if (GetBackgroundWorkerPid(pool->worker[i].handle, &pid) == BGWH_STARTED)
			pids[n_pids++] = (int) pid;
	if (is_waited_for(pids, n_pids))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
				 errmsg("deadlock detected"),
				 errdetail("A background worker of this statement waits for a lock that the statement itself holds, or for someone who waits for that."),
				 errhint("Call the function in a statement of its own, or set smartbox_anomaly.max_workers to 0.")));
}

/* Read what workers send until all of them have gone. */
static void
listen_to_workers(TaskPool *pool)
{
	while (true)
	{
		bool		something = false;
		bool		anyone = false;
		int			i;

		for (i = 0; i < pool->n_workers; i++)
		{
			something |= read_worker(pool, &pool->worker[i]);
			anyone |= pool->worker[i].queue != NULL;
		}
		if (!anyone)
			return;
		CHECK_FOR_INTERRUPTS();
		if (something)
			continue;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, DeadlockTimeout,
					  PG_WAIT_EXTENSION) & WL_TIMEOUT)
			check_for_deadlock(pool);
		ResetLatch(MyLatch);
	}
}

/* Detaching terminates workers that still run. */
static void
end_pool(TaskPool *pool)
{
	int			i;

	dsm_detach(pool->segment);
	for (i = 0; i < pool->n_workers; i++)
		WaitForBackgroundWorkerShutdown(pool->worker[i].handle);
}

/* Items that a worker was at when it died have failed. */
static void
note_deaths(const SbaTaskRequest *request, TaskPool *pool, ErrorData * *deaths)
{
	uint32		n_claimed = pg_atomic_read_u32(&pool->state->next_item);
	int			item;
	int			i;

	for (item = 0; item < request->n_items && (uint32) item < n_claimed; item++)
	{
		if (pool->is_done[item])
			continue;
		deaths[item] = palloc0(sizeof(ErrorData));
		deaths[item]->sqlerrcode = ERRCODE_CONNECTION_FAILURE;
		deaths[item]->message = "the background worker ended unexpectedly";
	}
	for (i = 0; i < pool->n_workers; i++)
	{
		uint32		current = pg_atomic_read_u32(&pool->state->current_item[i]);

		if (current > 0 && deaths[current - 1] != NULL && pool->worker[i].last_error.message != NULL)
			*deaths[current - 1] = pool->worker[i].last_error;
		else if (pool->worker[i].last_error.message != NULL)
			ereport(DEBUG1,
					(errmsg_internal("a background worker ended: %s", pool->worker[i].last_error.message)));
	}
}

SbaTaskResult *
sba_run_tasks(const SbaTaskRequest *request)
{
	SbaTaskResult *results = palloc0(sizeof(SbaTaskResult) * (request->n_items + 1));
	bool	   *is_done = palloc0(request->n_items + 1);
	ErrorData **deaths = palloc0(sizeof(ErrorData *) * (request->n_items + 1));
	TupleDesc	row_type = sba_task_row_type(request->row_types, request->n_columns);
	TaskPool   *pool = NULL;
	int			item;

	if (sba_may_use_workers(request->n_items))
		pool = start_pool(request, results, is_done);
	if (pool != NULL)
	{
		pool->row_type = row_type;
		PG_TRY();
		{
			listen_to_workers(pool);
			note_deaths(request, pool, deaths);
		}
		PG_CATCH();
		{
			end_pool(pool);
			PG_RE_THROW();
		}
		PG_END_TRY();
		end_pool(pool);
	}

	/* what no worker began, or could finish */
	for (item = 0; item < request->n_items; item++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_done[item])
			work_here(request, item, row_type, deaths[item], &results[item]);
	}
	return results;
}
