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
	" WHERE i.service = $1 AND i.first_seen <= $3 AND i.first_seen < $4 AND coalesce(i.resolved_at, i.last_seen) >= $2"
	" AND coalesce((SELECT f.verdict = 'anomaly' FROM smartbox.feedback AS f"
	" WHERE f.service = i.service AND f.incident_id = i.incident_id AND f.verdict IS NOT NULL"
	" ORDER BY f.feedback_number DESC LIMIT 1), i.confirmed_at < $4)"
	" ORDER BY i.first_seen",
	.n_arguments = 4,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

void
sba_leave_out_incident(const SbaSampleSeries *series, TimestampTz first_seen, TimestampTz last_seen,
					   uint8_t *use)
{
	TimestampTz interval = (TimestampTz) sba_sample_interval_s * USECS_PER_SEC;
	size_t		row = sba_first_row_after(series, first_seen - SAMPLES_BEFORE_INCIDENT * interval - 1);

	for (; row < series->n_rows && series->ts[row] <= last_seen + interval; row++)
		if (use[row] != SBA_USE_MAINTENANCE)
			use[row] = SBA_USE_INCIDENT;
}

void
sba_leave_out_incidents(const SbaService *service, const SbaSampleSeries *series,
						TimestampTz known_before, uint8_t *use)
{
	TimestampTz interval = (TimestampTz) sba_sample_interval_s * USECS_PER_SEC;
	Datum		arguments[4];
	uint64		incident;

	if (series->n_rows == 0)
		return;
	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(series->ts[0] - interval);
	arguments[2] = TimestampTzGetDatum(series->ts[series->n_rows - 1] + SAMPLES_BEFORE_INCIDENT * interval);
	arguments[3] = TimestampTzGetDatum(known_before);
	sba_query_run(&incidents_query, arguments, NULL, 0);
	for (incident = 0; incident < SPI_processed; incident++)
	{
		bool		is_null;
		TimestampTz first_seen = DatumGetTimestampTz(sba_result_datum(incident, 1, &is_null));
		TimestampTz last_seen = DatumGetTimestampTz(sba_result_datum(incident, 2, &is_null));

		sba_leave_out_incident(series, first_seen, last_seen, use);
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
sba_calendar_uses(const SbaSampleSeries *series, const SbaServiceCalendar *calendar)
{
	uint8_t    *use = palloc0(series->n_rows + 1);

	StaticAssertStmt(SBA_USE_ALL == 0, "rows teach unless something speaks against it");
	mark_spans(calendar, SBA_CALENDAR_BUSY, series, SBA_USE_BUSY, use);
	mark_spans(calendar, SBA_CALENDAR_MAINTENANCE, series, SBA_USE_MAINTENANCE, use);
	return use;
}
