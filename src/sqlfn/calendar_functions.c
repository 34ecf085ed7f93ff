/*
 * calendar_functions.c
 *	  smartbox.calendar_kinds() and smartbox.service_time_period().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/calendar.h"
#include "pg/compat.h"
#include "pg/query.h"

SBA_FUNCTION(sba_calendar_kinds);
SBA_FUNCTION(sba_service_time_period);

/* The calendar of the service named by the first argument, around the second. */
static SbaServiceCalendar *
calendar_argument(FunctionCallInfo fcinfo, SbaService **service)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);

	*service = sba_load_service(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return sba_calendar_of_service(sba_load_calendar(at, at), *service);
}

/*
 * smartbox.calendar_kinds(service text, at timestamptz) returns text[]
 */
Datum
sba_calendar_kinds(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	SbaServiceCalendar *calendar;
	SbaService *service;
	Datum		names[SBA_CALENDAR_KINDS];
	ArrayType  *result;
	int			n = 0;
	int			kind;

	SPI_connect();
	calendar = calendar_argument(fcinfo, &service);
	for (kind = 0; kind < SBA_CALENDAR_KINDS; kind++)
		if (sba_calendar_lookup(calendar, (SbaCalendarKind) kind, PG_GETARG_TIMESTAMPTZ(1)))
			names[n++] = CStringGetTextDatum(sba_calendar_kind_names[kind]);
	MemoryContextSwitchTo(caller);
	result = construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT);
	SPI_finish();
	PG_RETURN_ARRAYTYPE_P(result);
}

/*
 * smartbox.service_time_period(service text, at timestamptz) returns text
 */
Datum
sba_service_time_period(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	SbaServiceCalendar *calendar;
	SbaService *service;
	SbaPeriodMap *map;
	int			minute;
	text	   *result;

	SPI_connect();
	calendar = calendar_argument(fcinfo, &service);
	map = sba_load_periods();
	minute = sba_calendar_minute_of_week(calendar, service, PG_GETARG_TIMESTAMPTZ(1));
	MemoryContextSwitchTo(caller);
	result = cstring_to_text(map->name[sba_period_of_minute(map, minute)]);
	SPI_finish();
	PG_RETURN_TEXT_P(result);
}
