/*
 * period_functions.c
 *	  time_period() and score_to_severity().
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "core/severity.h"
#include "db/periods.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/settings.h"

SBA_FUNCTION(sba_time_period);
SBA_FUNCTION(sba_score_to_severity);

/*
 * time_period(at timestamptz, time_zone text) returns text
 */
Datum
sba_time_period(PG_FUNCTION_ARGS)
{
	const char *zone_name;
	pg_tz	   *zone;
	SbaPeriodMap *map;
	const char *period;
	text	   *result;
	MemoryContext caller = CurrentMemoryContext;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	zone_name = PG_ARGISNULL(1) ? sba_time_zone : text_to_cstring(PG_GETARG_TEXT_PP(1));
	zone = pg_tzset(zone_name);
	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" is not known", zone_name),
				 errhint("See the view pg_timezone_names.")));
	SPI_connect();
	map = sba_load_periods();
	period = map->name[sba_period_of_minute(map, sba_minute_of_week(PG_GETARG_TIMESTAMPTZ(0), zone))];
	MemoryContextSwitchTo(caller);
	result = cstring_to_text(period);
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}

/*
 * score_to_severity(score float8) returns smartbox.severity
 */
Datum
sba_score_to_severity(PG_FUNCTION_ARGS)
{
	double		score = PG_GETARG_FLOAT8(0);

	if (isnan(score))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a score must be a number"),
				 errhint("A sample that was not scored has a null score.")));
	return DirectFunctionCall2(enum_in,
							   CStringGetDatum(sba_severity_name(sba_severity_of_score(score))),
							   ObjectIdGetDatum(get_func_rettype(fcinfo->flinfo->fn_oid)));
}
