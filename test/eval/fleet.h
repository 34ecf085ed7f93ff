/*
 * fleet.h
 *	  A fleet that generate_fleet wrote, in memory, and how well alarms fit its
 *	  labels.
 */
#ifndef TEST_EVAL_FLEET_H
#define TEST_EVAL_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/metric.h"

#define FLEET_METRICS 5
#define FLEET_PERIODS 5
#define FLEET_INTERVAL_S 300

extern const SbaMetric fleet_metrics[FLEET_METRICS];

/* Both ends included. */
typedef struct SbaEvalSpan
{
	int64_t		start_s;
	int64_t		end_s;
} SbaEvalSpan;

typedef struct SbaEvalService
{
	char		name[64];
	size_t		n_rows;
	size_t		n_training;		/* the first of them */
	int64_t    *time_s;
	int32_t    *minute_of_week;
	uint8_t    *period;
	double	   *values;			/* [n_rows][FLEET_METRICS] */
	size_t		n_incidents;
	SbaEvalSpan *incident;
	size_t		n_ignored;
	SbaEvalSpan *ignored;
} SbaEvalService;

typedef struct SbaEvalFleet
{
	size_t		n_services;
	SbaEvalService *service;
	int64_t		first_s;		/* of the judged samples */
	size_t		n_judged;		/* instants, five minutes apart */
	bool	   *reported;		/* [n_judged] whether any service did */
} SbaEvalFleet;

/* What became of the incidents of some fleets. */
typedef struct SbaEvalTally
{
	double		service_weeks;
	size_t		n_incidents;
	size_t		n_found;
	size_t		n_right;		/* episodes */
	size_t		n_wrong;
} SbaEvalTally;

/*
 * Read a folder.  holidays is a file of lines that begin with month-day; on
 * these days the weekend's models hold.  NULL: there are none.  Ends the
 * program when a file cannot be read.
 */
extern SbaEvalFleet *fleet_read(const char *folder, const char *holidays);

/* Number of an instant among those judged; < 0 or >= n_judged: not judged. */
static inline int64_t
fleet_instant(const SbaEvalFleet *fleet, int64_t time_s)
{
	return (time_s - fleet->first_s) / FLEET_INTERVAL_S;
}

/*
 * Add up how well alarms fit a service's labels, by the rules that the script
 * "score" describes.  alarms has an entry for each judged instant.
 */
extern void fleet_tally(const SbaEvalFleet *fleet, const SbaEvalService *service,
						const bool *alarms, SbaEvalTally *tally);

#endif							/* TEST_EVAL_FLEET_H */
