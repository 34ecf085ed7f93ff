/*
 * task_kinds.c
 *	  What background workers can be asked to do.
 */
#include "postgres.h"

#include "db/training_task.h"
#include "pg/task_pool.h"
#include "sqlfn/backfill.h"

const SbaTaskKind *const sba_task_kinds[] = {
	&sba_backfill_task,
	&sba_training_task,
	NULL,
};
