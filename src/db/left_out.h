/*
 * left_out.h
 *	  Which samples of a history do not teach, and why.
 */
#ifndef SBA_DB_LEFT_OUT_H
#define SBA_DB_LEFT_OUT_H

#include "db/calendar.h"

/*
 * The use (SbaRowUse) of each row of a series; palloc'ed.  A row of a
 * maintenance is that, whatever else was going on.  Inside SPI_connect.
 */
extern uint8_t *sba_row_uses(const SbaService *service, const SbaSampleSeries *series,
							 const SbaServiceCalendar *calendar);

#endif							/* SBA_DB_LEFT_OUT_H */
