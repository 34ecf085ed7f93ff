/*
 * calendar.c
 *	  smartbox.calendar: holidays, maintenance and busy times.
 *
 * The table has the time on the wall of each service, so that one entry makes
 * a holiday of the whole day wherever a service works.  What is read for a span
 * of time is turned into instants once per service; looking one up is a binary
 * search.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "core/features.h"
#include "db/calendar.h"
#include "pg/query.h"

#define ALL_SERVICES "*"

/* No zone is farther from UTC. */
#define FARTHEST_ZONE_US (16 * USECS_PER_HOUR)

#define MINUTE_OF_SUNDAY (6 * SBA_MINUTES_PER_DAY)

const char *const sba_calendar_kind_names[SBA_CALENDAR_KINDS] = {
	[SBA_CALENDAR_HOLIDAY] = "holiday",
	[SBA_CALENDAR_MAINTENANCE] = "maintenance",
	[SBA_CALENDAR_BUSY] = "busy",
};

static SbaQuery calendar_query = {
	.text = "SELECT service, kind, starts_at, ends_at FROM smartbox.calendar"
	" WHERE ends_at >= $1 AND starts_at <= $2"
	" ORDER BY service COLLATE \"C\", starts_at",
	.n_arguments = 2,
	.argument_types = {TIMESTAMPOID, TIMESTAMPOID},
	.expected = SPI_OK_SELECT,
};

static SbaCalendarKind
kind_by_name(const char *name)
{
	int			kind;

	for (kind = 0; kind < SBA_CALENDAR_KINDS; kind++)
		if (strcmp(name, sba_calendar_kind_names[kind]) == 0)
			return (SbaCalendarKind) kind;
	elog(ERROR, "smartbox.calendar has an entry of kind \"%s\"", name);
}

SbaCalendar *
sba_load_calendar(TimestampTz since, TimestampTz until)
{
	SbaCalendar *calendar = palloc0(sizeof(SbaCalendar));
	Datum		arguments[2];
	uint64		row;

	arguments[0] = TimestampGetDatum(since - FARTHEST_ZONE_US);
	arguments[1] = TimestampGetDatum(until + FARTHEST_ZONE_US);
	sba_query_run(&calendar_query, arguments, NULL, 0);
	calendar->n_entries = (int) SPI_processed;
	calendar->entries = palloc(sizeof(SbaCalendarEntry) * (SPI_processed + 1));
	for (row = 0; row < SPI_processed; row++)
	{
		SbaCalendarEntry *entry = &calendar->entries[row];
		bool		is_null;

		entry->service = sba_result_text(row, 1);
		entry->kind = kind_by_name(sba_result_text(row, 2));
		entry->starts_at = DatumGetTimestamp(sba_result_datum(row, 3, &is_null));
		entry->ends_at = DatumGetTimestamp(sba_result_datum(row, 4, &is_null));
	}
	SPI_freetuptable(SPI_tuptable);
	return calendar;
}

/*
 * The instant at which a zone's clocks show a time.  One that they skip in
 * spring counts as if they had not, one that they show twice in autumn is the
 * second.
 */
static TimestampTz
instant_of_local(Timestamp local, pg_tz *zone)
{
	struct pg_tm parts;
	fsec_t		fraction;

	if (timestamp2tm(local, NULL, &parts, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return local + DetermineTimeZoneOffset(&parts, zone) * USECS_PER_SEC;
}

/* First entry of that service or of a later one. */
static int
first_entry(const SbaCalendar *calendar, const char *service)
{
	int			low = 0;
	int			high = calendar->n_entries;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (strcmp(calendar->entries[middle].service, service) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
compare_spans(const void *a, const void *b)
{
	TimestampTz x = ((const SbaTimeSpan *) a)->starts_at;
	TimestampTz y = ((const SbaTimeSpan *) b)->starts_at;

	return (x > y) - (x < y);
}

/* Sort spans and make one of those that touch. */
static int
unite_spans(SbaTimeSpan *spans, int n)
{
	int			n_united = 0;
	int			i;

	qsort(spans, n, sizeof(SbaTimeSpan), compare_spans);
	for (i = 0; i < n; i++)
	{
		if (n_united > 0 && spans[i].starts_at <= spans[n_united - 1].ends_at)
			spans[n_united - 1].ends_at = Max(spans[n_united - 1].ends_at, spans[i].ends_at);
		else
			spans[n_united++] = spans[i];
	}
	return n_united;
}

static void
add_entries(const SbaCalendar *calendar, const char *name, pg_tz *zone, SbaServiceCalendar *result)
{
	int			i;

	for (i = first_entry(calendar, name);
		 i < calendar->n_entries && strcmp(calendar->entries[i].service, name) == 0; i++)
	{
		const SbaCalendarEntry *entry = &calendar->entries[i];
		int			n = result->n_spans[entry->kind];

		if (n == 0)
			result->spans[entry->kind] = palloc(sizeof(SbaTimeSpan) * calendar->n_entries);
		result->spans[entry->kind][n].starts_at = instant_of_local(entry->starts_at, zone);
		result->spans[entry->kind][n].ends_at = instant_of_local(entry->ends_at, zone);
		result->n_spans[entry->kind]++;
	}
}

SbaServiceCalendar *
sba_calendar_of_service(const SbaCalendar *calendar, const SbaService *service)
{
	SbaServiceCalendar *result = palloc0(sizeof(SbaServiceCalendar));
	int			kind;

	add_entries(calendar, ALL_SERVICES, service->time_zone, result);
	if (strcmp(service->name, ALL_SERVICES) != 0)
		add_entries(calendar, service->name, service->time_zone, result);
	for (kind = 0; kind < SBA_CALENDAR_KINDS; kind++)
		if (result->n_spans[kind] > 1)
			result->n_spans[kind] = unite_spans(result->spans[kind], result->n_spans[kind]);
	return result;
}

bool
sba_calendar_lookup(const SbaServiceCalendar *calendar, SbaCalendarKind kind, TimestampTz at)
{
	const SbaTimeSpan *spans = calendar->spans[kind];
	TimestampTz covered = kind == SBA_CALENDAR_HOLIDAY ? at : at - 1;
	int			low = 0;
	int			high = calendar->n_spans[kind];

	/* the first span that begins later */
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (spans[middle].starts_at <= covered)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && covered < spans[low - 1].ends_at;
}

static int
minute_of_sunday(int minute_of_week)
{
	return MINUTE_OF_SUNDAY + minute_of_week % SBA_MINUTES_PER_DAY;
}

int
sba_calendar_minute_of_week(const SbaServiceCalendar *calendar, const SbaService *service, TimestampTz at)
{
	int			minute = sba_minute_of_week(at, service->time_zone);

	return sba_calendar_lookup(calendar, SBA_CALENDAR_HOLIDAY, at) ? minute_of_sunday(minute) : minute;
}

void
sba_calendar_apply_holidays(const SbaServiceCalendar *calendar, const SbaPeriodMap *periods,
							SbaSampleSeries *series)
{
	size_t		row;

	if (calendar->n_spans[SBA_CALENDAR_HOLIDAY] == 0)
		return;
	for (row = 0; row < series->n_rows; row++)
	{
		if (!sba_calendar_lookup(calendar, SBA_CALENDAR_HOLIDAY, series->ts[row]))
			continue;
		series->minute_of_week[row] = minute_of_sunday(series->minute_of_week[row]);
		series->period[row] = (uint8_t) sba_period_of_minute(periods, series->minute_of_week[row]);
	}
}
