/*
 * objectives.h
 *	  smartbox.slos: what was promised of each service's metrics.
 */
#ifndef SBA_DB_OBJECTIVES_H
#define SBA_DB_OBJECTIVES_H

#include "core/objectives.h"
#include "db/catalog.h"

/* The objectives of some services, as they were read for one pass. */
typedef struct SbaObjectives SbaObjectives;

/* A verdict on a sample, before and after objectives had their say. */
typedef struct SbaJudgement
{
	bool		is_anomaly;
	SbaSeverity severity;
	Datum		payload;		/* jsonb */
} SbaJudgement;

/*
 * Read the objectives that hold for these services, and the busy times that
 * may concern samples from since to until.  Inside SPI_connect; palloc'ed.
 */
extern SbaObjectives *sba_load_objectives(const SbaMetricCatalog *catalog, const SbaService *services,
										  int n_services, TimestampTz since, TimestampTz until);

/*
 * Judge each metric of a sample that has an objective; false when none holds
 * now.  values and verdicts are in the catalog's order.
 */
extern bool sba_judge_objectives(const SbaObjectives *objectives, const SbaService *service,
								 TimestampTz ts, const double *values, SbaObjectiveVerdict *verdicts);

/*
 * Let the objectives of a service have their say about one of its samples:
 * they move the severity of its first anomaly and say so in it, or make an
 * anomaly of a breach that nobody else has found.  values are in the catalog's
 * order, NaN for what is missing.  Returns whether they changed anything.
 * Inside SPI_connect.
 */
extern bool sba_apply_objectives(const SbaObjectives *objectives, const SbaService *service,
								 TimestampTz ts, const double *values, SbaJudgement *judgement);

#endif							/* SBA_DB_OBJECTIVES_H */
