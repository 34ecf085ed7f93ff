/*
 * periods.h
 *	  The parts of the week: which one an instant belongs to.
 */
#ifndef SBA_DB_PERIODS_H
#define SBA_DB_PERIODS_H

#include "datatype/timestamp.h"
#include "pgtime.h"

#define SBA_MAX_PERIODS 16
#define SBA_HOURS_PER_WEEK (7 * 24)

/* The rows of smartbox.time_periods as a table of the week's hours. */
typedef struct SbaPeriodMap
{
	int			n_periods;
	const char *name[SBA_MAX_PERIODS];
	double		confidence[SBA_MAX_PERIODS];
	uint8		of_hour[SBA_HOURS_PER_WEEK];	/* Monday 00:00 is hour 0 */
} SbaPeriodMap;

/* Read the map; inside SPI_connect. */
extern SbaPeriodMap *sba_load_periods(void);

/* Local minute of the week, Monday 00:00 is 0. */
extern int	sba_minute_of_week(TimestampTz at, pg_tz *time_zone);

/* The map's entry for a local minute of the week. */
extern int	sba_period_of_minute(const SbaPeriodMap *map, int minute_of_week);

/* Entry of this name, or -1. */
extern int	sba_period_by_name(const SbaPeriodMap *map, const char *name);

#endif							/* SBA_DB_PERIODS_H */
