/*
 * task_pool.h
 *	  Work of one SQL function on many items, by background workers.
 *
 * A kind of task says what to do with one item, for example with one service.
 * sba_run_tasks() has it done for a list of items: by up to
 * smartbox_anomaly.max_workers dynamic background workers when the calling
 * statement may be committed in pieces, by the caller itself otherwise.  The
 * task does not need to know which: in a worker each item is a transaction, in
 * the caller a subtransaction, so an item that fails leaves nothing behind and
 * the others go on.
 *
 * Workers are used only outside of transaction blocks, in READ COMMITTED, as
 * long as the caller has not written anything, for two items or more.  They
 * work as the caller's user with all of its settings, and they end when the
 * caller is cancelled, fails or dies.  Their notices and warnings become the
 * caller's.
 *
 *	  static void count_rows(SbaTask *task) { ... sba_task_add_row(task, ...); }
 *	  const SbaTaskKind sba_count_task = {.name = "counting", .run = count_rows};
 *	  [and a line in sqlfn/task_kinds.c]
 *
 *	  request.kind = &sba_count_task; ...
 *	  results = sba_run_tasks(&request);
 */
#ifndef SBA_PG_TASK_POOL_H
#define SBA_PG_TASK_POOL_H

#include "access/tupdesc.h"
#include "nodes/pg_list.h"

#define SBA_MAX_TASK_COLUMNS 16

/* One item, while it is worked on. */
typedef struct SbaTask
{
	const char *item;
	const void *parameters;		/* the caller's, read only; aligned to
								 * MAXALIGN */
	bool		in_worker;		/* sba_task_commit() really commits */
	MemoryContext memory;		/* lives until the item is done, over commits */

	/* the rest belongs to task_pool.c */
	TupleDesc	row_type;
	List	   *rows;
} SbaTask;

/*
 * What to do with an item.  run() raises an error when it fails; failed(), if
 * there is one, is called afterwards in a transaction of its own, to note it
 * in tables; what it cannot note is lost.  Both are called inside a transaction with an active
 * snapshot, outside of SPI_connect, in the memory context task->memory.
 * parameters and items are copied byte by byte into other processes: nothing
 * in them may be a pointer.
 */
typedef struct SbaTaskKind
{
	const char *name;			/* unique; shown in pg_stat_activity before
								 * the item */
	void		(*run) (SbaTask *task);
	void		(*failed) (SbaTask *task, const ErrorData * error);
} SbaTaskKind;

/* All kinds, ended by NULL: a worker finds its own by name. */
extern const SbaTaskKind *const sba_task_kinds[];

/* Add a row to what the caller gets for this item, if the item succeeds. */
extern void sba_task_add_row(SbaTask *task, Datum *values, bool *nulls);

/*
 * Make what was done so far for the item permanent (in the caller: as far as
 * the caller's transaction will be).  A later error undoes only what came
 * after it.  Not inside SPI_connect; switches to the context task->memory.
 */
extern void sba_task_commit(SbaTask *task);

/*
 * The same for a while without a transaction, in which nothing that needs one
 * may be done: other servers are waited for there.  (In the caller its
 * transaction goes on.)
 */
extern void sba_task_leave_transaction(SbaTask *task);
extern void sba_task_enter_transaction(SbaTask *task);

typedef struct SbaTaskRequest
{
	const SbaTaskKind *kind;
	const char *const *items;
	int			n_items;
	const void *parameters;
	Size		parameters_size;
	const Oid  *row_types;		/* types of the columns that tasks return */
	int			n_columns;
} SbaTaskRequest;

/* One row that a task added. */
typedef struct SbaTaskRow
{
	Datum		values[SBA_MAX_TASK_COLUMNS];
	bool		nulls[SBA_MAX_TASK_COLUMNS];
} SbaTaskRow;

/* What became of one item. */
typedef struct SbaTaskResult
{
	bool		failed;
	int			sqlstate;		/* of the failure, as is the rest */
	const char *message;
	const char *detail;			/* or NULL */
	const char *hint;			/* or NULL */
	List	   *rows;			/* of SbaTaskRow; none when it failed */
} SbaTaskResult;

/*
 * Run the tasks and return one result for each item, in their order, palloc'ed
 * in the calling context.  Returns only when no worker of it runs any more.
 * Failures of items are results; a cancelled or failing caller is an error,
 * as usual, and ends the workers.  May be called inside SPI_connect.
 */
extern SbaTaskResult *sba_run_tasks(const SbaTaskRequest *request);

/*
 * Whether workers would be used for that many items here and now.  Whatever
 * writes before sba_run_tasks() in the same transaction rules them out.
 */
extern bool sba_may_use_workers(int n_items);

#endif							/* SBA_PG_TASK_POOL_H */
