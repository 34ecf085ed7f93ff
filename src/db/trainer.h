/*
 * trainer.h
 *	  Training one service: from its samples to rows of smartbox.models.
 */
#ifndef SBA_DB_TRAINER_H
#define SBA_DB_TRAINER_H

#include "db/model_store.h"

/* What became of one period, for the caller to show. */
typedef struct SbaTrainingReport
{
	const char *time_period;
	int			version;
	const char *status;			/* as in smartbox.models */
	int			samples;
	const char *reason;			/* NULL when there is nothing to say */
} SbaTrainingReport;

/*
 * Train the models of all periods from the service's samples with
 * since < ts <= until, store them and a row of smartbox.training_runs.
 * Returns an array of one report for each period of the map.  Inside
 * SPI_connect.
 */
extern SbaTrainingReport *sba_train_service(const SbaMetricCatalog *metrics,
											const SbaPeriodMap *periods,
											const SbaService *service,
											TimestampTz since, TimestampTz until);

#endif							/* SBA_DB_TRAINER_H */
