/*
 * trainer.h
 *	  Training one service: from its samples to rows of smartbox.models.
 */
#ifndef SBA_DB_TRAINER_H
#define SBA_DB_TRAINER_H

#include "db/model_store.h"

/* What became of one period, for the caller to show. */
typedef struct SbaPeriodReport
{
	const char *time_period;
	int			version;
	const char *status;			/* as in smartbox.models */
	int			samples;
	const char *reason;			/* NULL when there is nothing to say */
} SbaPeriodReport;

typedef struct SbaTrainingReport
{
	size_t		n_samples;		/* that were read */
	int			n_accepted;
	int			n_rejected;
	SbaPeriodReport period[SBA_MAX_PERIODS];	/* in the order of the map */
} SbaTrainingReport;

/*
 * What a service's models are learnt from, and how: *history points into
 * series and use.
 */
extern void sba_describe_training(const SbaService *service, const SbaPeriodMap *periods,
								  const SbaSampleSeries *series, const uint8_t *use,
								  SbaHistory *history, SbaTrainingOptions *options);

/*
 * Train the models of all periods from the service's samples with
 * since < ts <= until, and store them.  Inside SPI_connect.
 */
extern SbaTrainingReport *sba_train_service(const SbaMetricCatalog *metrics,
											const SbaPeriodMap *periods,
											const SbaService *service,
											TimestampTz since, TimestampTz until);

#endif							/* SBA_DB_TRAINER_H */
