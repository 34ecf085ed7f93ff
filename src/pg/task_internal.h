/*
 * task_internal.h
 *	  What the caller of a task pool and its workers share.
 */
#ifndef SBA_PG_TASK_INTERNAL_H
#define SBA_PG_TASK_INTERNAL_H

#include "access/htup.h"
#include "port/atomics.h"

#include "pg/task_pool.h"

/* Keys of the segment's table of contents; queue of worker n: SBA_TASK_QUEUES + n. */
#define SBA_TASK_MAGIC		0x5ba7a5c5
#define SBA_TASK_STATE		1
#define SBA_TASK_ITEMS		2
#define SBA_TASK_PARAMETERS 3
#define SBA_TASK_SETTINGS	4
#define SBA_TASK_QUEUES		100

#define SBA_TASK_QUEUE_SIZE 65536
#define SBA_TASK_NAME_SIZE	64
#define SBA_MAX_TASK_WORKERS 64

/*
 * Types of messages from a worker, beside PostgreSQL's own 'E' and 'N'.  Both
 * begin with the item's number.
 */
#define SBA_TASK_SUCCEEDED	's'
#define SBA_TASK_FAILED		'f'

/* Who the caller is; a worker becomes the same. */
typedef struct SbaTaskIdentity
{
	Oid			database;
	Oid			authenticated_user;
	Oid			session_user;
	Oid			role;			/* of SET ROLE, or invalid */
	Oid			current_user;	/* differs in a SECURITY DEFINER function */
	int			security_context;
} SbaTaskIdentity;

/*
 * Set up by the caller before any worker starts; only the atomics change
 * afterwards.
 */
typedef struct SbaTaskState
{
	SbaTaskIdentity identity;
	char		kind[SBA_TASK_NAME_SIZE];
	int			n_items;
	int			n_columns;
	Oid			row_types[SBA_MAX_TASK_COLUMNS];
	pg_atomic_uint32 next_item; /* to be claimed by adding 1 */
	pg_atomic_uint32 current_item[SBA_MAX_TASK_WORKERS];	/* + 1; 0: none */
} SbaTaskState;

/* What the functions of similar names do in a worker. */
extern void sba_task_commit_in_worker(SbaTask *task);
extern void sba_task_leave_transaction_in_worker(SbaTask *task);
extern void sba_task_enter_transaction_in_worker(SbaTask *task);

extern TupleDesc sba_task_row_type(const Oid *types, int n_columns);

#endif							/* SBA_PG_TASK_INTERNAL_H */
