/*
 * model_store.h
 *	  smartbox.models: storing trained models, and the active ones in memory.
 */
#ifndef SBA_DB_MODEL_STORE_H
#define SBA_DB_MODEL_STORE_H

#include "datatype/timestamp.h"

#include "core/model.h"
#include "db/samples.h"

/* A metric with values in less than this share of the samples is sporadic. */
#define SBA_USUAL_SHARE 0.9

/* An active model, ready to judge. */
typedef struct SbaActiveModel
{
	int			version;
	TimestampTz trained_at;
	SbaModel	model;
	bool		is_sporadic[SBA_MAX_METRICS];	/* often missing, in the
												 * model's order */
} SbaActiveModel;

/*
 * The active model of a service in a period, or NULL when there is none.
 * Valid until the next call, which may drop it from memory.  A damaged model
 * is an error with SQLSTATE data_corrupted.  Inside SPI_connect.
 */
extern const SbaActiveModel *sba_active_model(const char *service, const char *time_period);

/* A training's outcome for one period, as it is stored. */
typedef struct SbaNewModel
{
	const char *service;
	const char *time_period;
	const SbaTrainedPeriod *trained;
	const char *status;
	TimestampTz first_sample;	/* of the period's rows; 0 when there are none */
	TimestampTz last_sample;
	double		coverage;
	uint64		seed;
	uint64		feature_set;
	double		duration_ms;
	const char *card;			/* JSON */
} SbaNewModel;

/*
 * Store a model as the next version, active when it was accepted, and drop
 * versions that are no longer kept; the active one and the one that a rollback
 * goes to always are.  Returns the version.  Inside SPI_connect.
 */
extern int	sba_store_model(const SbaNewModel *model);

/*
 * Make the accepted version before the active one active again, and return its
 * number.  An error when there is none.  Inside SPI_connect.
 */
extern int	sba_roll_back_model(const char *service, const char *time_period);

/* Keep other sessions from training the service until the transaction ends. */
extern void sba_lock_training(const char *service);

#endif							/* SBA_DB_MODEL_STORE_H */
