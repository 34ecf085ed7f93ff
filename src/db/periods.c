/*
 * periods.c
 *	  The parts of the week: which one an instant belongs to.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "db/periods.h"
#include "pg/query.h"

#define UNASSIGNED 255

static SbaQuery periods_query = {
	.text = "SELECT time_period, first_day::int4, last_day::int4, start_hour::int4, end_hour::int4, confidence"
	" FROM smartbox.time_periods ORDER BY time_period COLLATE \"C\", first_day, start_hour",
	.expected = SPI_OK_SELECT,
};

SbaPeriodMap *
sba_load_periods(void)
{
	SbaPeriodMap *map = palloc0(sizeof(SbaPeriodMap));
	uint64		row;
	int			hour;

	memset(map->of_hour, UNASSIGNED, sizeof(map->of_hour));
	sba_query_run(&periods_query, NULL, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		char	   *name = sba_result_text(row, 1);
		int			period = sba_period_by_name(map, name);
		int			day;

		if (period < 0)
		{
			if (map->n_periods == SBA_MAX_PERIODS)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("smartbox.time_periods has more than %d periods", SBA_MAX_PERIODS)));
			period = map->n_periods++;
			map->name[period] = name;
			map->confidence[period] = sba_result_float8(row, 6, 1);
		}
		for (day = sba_result_int4(row, 2, 1); day <= sba_result_int4(row, 3, 0); day++)
			for (hour = sba_result_int4(row, 4, 0); hour < sba_result_int4(row, 5, 0); hour++)
				map->of_hour[(day - 1) * 24 + hour] = (uint8) period;
	}

	/* inside a transaction that is changing the map it may have holes */
	for (hour = 0; hour < SBA_HOURS_PER_WEEK; hour++)
		if (map->of_hour[hour] == UNASSIGNED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("smartbox.time_periods has no period for hour %d of day %d of the week",
							hour % 24, hour / 24 + 1)));
	return map;
}

int
sba_minute_of_week(TimestampTz at, pg_tz *time_zone)
{
	struct pg_tm local;
	fsec_t		fraction;
	int			offset;
	int			monday_based;

	if (TIMESTAMP_NOT_FINITE(at) ||
		timestamp2tm(at, &offset, &local, &fraction, NULL, time_zone) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	monday_based = (j2day(date2j(local.tm_year, local.tm_mon, local.tm_mday)) + 6) % 7;
	return (monday_based * 24 + local.tm_hour) * 60 + local.tm_min;
}

int
sba_period_of_minute(const SbaPeriodMap *map, int minute_of_week)
{
	return map->of_hour[minute_of_week / 60];
}

int
sba_period_by_name(const SbaPeriodMap *map, const char *name)
{
	int			period;

	for (period = 0; period < map->n_periods; period++)
		if (strcmp(map->name[period], name) == 0)
			return period;
	return -1;
}
