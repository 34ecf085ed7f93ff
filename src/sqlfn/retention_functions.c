/*
 * retention_functions.c
 *	  What the settings say about how long rows are kept.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "pg/compat.h"
#include "pg/settings.h"

SBA_FUNCTION(sba_retention);

typedef struct
{
	const char *kind;
	int		   *retention_min;
} SbaRetention;

static const SbaRetention retentions[] = {
	{"samples", &sba_samples_retention_min},
	{"detections", &sba_detections_retention_min},
	{"incidents", &sba_incidents_retention_min},
	{"training_runs", &sba_training_runs_retention_min},
};

/*
 * smartbox.retention(kind text) returns interval
 *
 * NULL: such rows are kept for ever.
 */
Datum
sba_retention(PG_FUNCTION_ARGS)
{
	const char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Interval   *interval;
	int			i;

	for (i = 0; i < lengthof(retentions); i++)
	{
		if (strcmp(kind, retentions[i].kind) != 0)
			continue;
		if (*retentions[i].retention_min == 0)
			PG_RETURN_NULL();
		interval = palloc0(sizeof(Interval));
		interval->time = *retentions[i].retention_min * USECS_PER_MINUTE;
		PG_RETURN_INTERVAL_P(interval);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no retention of \"%s\"", kind),
			 errhint("There are: samples, detections, incidents, training_runs.")));
}
