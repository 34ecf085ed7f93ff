/*
 * left_out.c
 *	  Which samples of a history do not teach, and why.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/left_out.h"
#include "pg/query.h"
#include "pg/settings.h"

/* Samples before the first detection that the fault may have begun in. */
#define SAMPLES_BEFORE_INCIDENT 2

/*
 * Incidents that somebody was told of, unless people said that they were none or
 * how it is to be; and those that people said were one.
 */
static SbaQuery incidents_query = {
	.text = "SELECT i.first_seen, coalesce(i.resolved_at, i.last_seen) FROM smartbox.incidents AS i"
	" WHERE i.service = $1 AND i.first_seen <= $3 AND coalesce(i.resolved_at, i.last_seen) >= $2"
	" AND coalesce((SELECT f.verdict = 'anomaly' FROM smartbox.feedback AS f"
	" WHERE f.service = i.service AND f.incident_id = i.incident_id AND f.verdict IS NOT NULL"
	" ORDER BY f.feedback_number DESC LIMIT 1), i.confirmed_at IS NOT NULL)"
	" ORDER BY i.first_seen",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

/* First row that is not before an instant. */
static size_t
first_row_from(const SbaSampleSeries *series, TimestampTz at)
{
	size_t		low = 0;
	size_t		high = series->n_rows;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (series->ts[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
mark_incidents(const SbaService *service, const SbaSampleSeries *series, uint8_t *use)
{
	TimestampTz interval = (TimestampTz) sba_sample_interval_s * USECS_PER_SEC;
	Datum		arguments[3];
	uint64		incident;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(series->ts[0] - interval);
	arguments[2] = TimestampTzGetDatum(series->ts[series->n_rows - 1] + SAMPLES_BEFORE_INCIDENT * interval);
	sba_query_run(&incidents_query, arguments, NULL, 0);
	for (incident = 0; incident < SPI_processed; incident++)
	{
		bool		is_null;
		TimestampTz first_seen = DatumGetTimestampTz(sba_result_datum(incident, 1, &is_null));
		TimestampTz last_seen = DatumGetTimestampTz(sba_result_datum(incident, 2, &is_null));
		size_t		row = first_row_from(series, first_seen - SAMPLES_BEFORE_INCIDENT * interval);

		for (; row < series->n_rows && series->ts[row] <= last_seen + interval; row++)
			use[row] = SBA_USE_INCIDENT;
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
mark_spans(const SbaServiceCalendar *calendar, SbaCalendarKind kind, const SbaSampleSeries *series,
		   SbaRowUse as, uint8_t *use)
{
	size_t		row;

	if (calendar->n_spans[kind] == 0)
		return;
	for (row = 0; row < series->n_rows; row++)
		if (sba_calendar_lookup(calendar, kind, series->ts[row]))
			use[row] = (uint8_t) as;
}

uint8_t    *
sba_row_uses(const SbaService *service, const SbaSampleSeries *series, const SbaServiceCalendar *calendar)
{
	uint8_t    *use = palloc0(series->n_rows + 1);

	StaticAssertStmt(SBA_USE_ALL == 0, "rows teach unless something speaks against it");
	if (series->n_rows == 0)
		return use;
	mark_spans(calendar, SBA_CALENDAR_BUSY, series, SBA_USE_BUSY, use);
	mark_incidents(service, series, use);
	mark_spans(calendar, SBA_CALENDAR_MAINTENANCE, series, SBA_USE_MAINTENANCE, use);
	return use;
}
