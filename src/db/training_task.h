/*
 * training_task.h
 *	  Training one service of many, with a row of smartbox.training_runs.
 */
#ifndef SBA_DB_TRAINING_TASK_H
#define SBA_DB_TRAINING_TASK_H

#include "datatype/timestamp.h"

#include "pg/task_pool.h"

/*
 * The item is the service, the parameters are an SbaTrainingParameters.  Gives
 * one row for each period: sba_training_columns.
 */
extern const SbaTaskKind sba_training_task;

typedef struct SbaTrainingParameters
{
	Interval	lookback;
} SbaTrainingParameters;

/* service, period, version, status, samples, reason */
#define SBA_TRAINING_COLUMNS 6
extern const Oid sba_training_columns[SBA_TRAINING_COLUMNS];

#endif							/* SBA_DB_TRAINING_TASK_H */
