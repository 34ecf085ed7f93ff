/*
 * left_out.h
 *	  Which samples of a history do not teach, and why.
 */
#ifndef SBA_DB_LEFT_OUT_H
#define SBA_DB_LEFT_OUT_H

#include "db/calendar.h"

/* The use (SbaRowUse) of each row of a series by the calendar; palloc'ed. */
extern uint8_t *sba_calendar_uses(const SbaSampleSeries *series, const SbaServiceCalendar *calendar);

/*
 * Mark the rows of an incident, and with _incidents those of the service's
 * that were confirmed before an instant.  A row of a maintenance stays that.
 * The latter inside SPI_connect.
 */
extern void sba_leave_out_incident(const SbaSampleSeries *series, TimestampTz first_seen,
								   TimestampTz last_seen, uint8_t *use);
extern void sba_leave_out_incidents(const SbaService *service, const SbaSampleSeries *series,
									TimestampTz known_before, uint8_t *use);

#endif							/* SBA_DB_LEFT_OUT_H */
