/*
 * calendar.h
 *	  smartbox.calendar: holidays, maintenance and busy times.
 */
#ifndef SBA_DB_CALENDAR_H
#define SBA_DB_CALENDAR_H

#include "datatype/timestamp.h"

#include "db/catalog.h"
#include "db/periods.h"
#include "db/samples.h"

typedef enum SbaCalendarKind
{
	SBA_CALENDAR_HOLIDAY,
	SBA_CALENDAR_MAINTENANCE,
	SBA_CALENDAR_BUSY
} SbaCalendarKind;

#define SBA_CALENDAR_KINDS 3

/* One row of the table, in local time. */
typedef struct SbaCalendarEntry
{
	const char *service;		/* "*" for all */
	SbaCalendarKind kind;
	Timestamp	starts_at;
	Timestamp	ends_at;
} SbaCalendarEntry;

/* Entries of all services in a span of time, sorted by service. */
typedef struct SbaCalendar
{
	int			n_entries;
	SbaCalendarEntry *entries;
} SbaCalendar;

/* Time from starts_at up to ends_at. */
typedef struct SbaTimeSpan
{
	TimestampTz starts_at;
	TimestampTz ends_at;
} SbaTimeSpan;

/* What holds for one service: ascending spans of each kind, without overlap. */
typedef struct SbaServiceCalendar
{
	int			n_spans[SBA_CALENDAR_KINDS];
	SbaTimeSpan *spans[SBA_CALENDAR_KINDS];
} SbaServiceCalendar;

/* Names of the kinds, as the table has them. */
extern const char *const sba_calendar_kind_names[SBA_CALENDAR_KINDS];

/*
 * Read the entries of all services that touch the time from since to until,
 * with one query.  Inside SPI_connect; palloc'ed.
 */
extern SbaCalendar *sba_load_calendar(TimestampTz since, TimestampTz until);

/* The entries of one service and those of all, on its clock; palloc'ed. */
extern SbaServiceCalendar *sba_calendar_of_service(const SbaCalendar *calendar,
												   const SbaService *service);

/*
 * Whether a sample at that instant is of that kind.  A sample describes the
 * interval that ends with it: a maintenance covers the sample at its end and
 * not the one at its beginning.  A holiday is a matter of the calendar day,
 * like the periods of the week, and covers its midnight.
 */
extern bool sba_calendar_lookup(const SbaServiceCalendar *calendar,
								SbaCalendarKind kind, TimestampTz at);

/*
 * The local minute of the week that counts at that instant: on a holiday, the
 * one of a Sunday.
 */
extern int	sba_calendar_minute_of_week(const SbaServiceCalendar *calendar,
										const SbaService *service, TimestampTz at);

/* Make Sundays of the holidays in a series of samples. */
extern void sba_calendar_apply_holidays(const SbaServiceCalendar *calendar,
										const SbaPeriodMap *periods,
										SbaSampleSeries *series);

#endif							/* SBA_DB_CALENDAR_H */
