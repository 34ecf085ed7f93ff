/*
 * current_sample.c
 *	  The sample that a detection is about: which one, and what is believed of it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/tracker.h"
#include "core/validation.h"
#include "db/current_sample.h"
#include "db/payload.h"
#include "db/samples.h"
#include "pg/query.h"
#include "pg/settings.h"

static SbaQuery newest_time_query = {
	.text = "SELECT pg_catalog.max(ts) FROM smartbox.samples WHERE ts <= $1",
	.n_arguments = 1,
	.argument_types = {TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery newest_sample_query = {
	.text = "SELECT ts, metric_values, warnings FROM smartbox.samples"
	" WHERE service = $1 AND ts <= $2"
	" AND EXISTS (SELECT FROM pg_catalog.unnest(metric_values) AS v WHERE v < 'NaN')"
	" ORDER BY ts DESC LIMIT 2",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

/*
 * The instant that a cycle is about: that of the newest sample of any service.
 * With a metric source that brought nothing for some time it is now, and
 * nothing can be said of anyone.
 */
static TimestampTz
newest_instant(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz interval = (TimestampTz) sba_sample_interval_s * USECS_PER_SEC;
	TimestampTz newest;
	Datum		argument;
	bool		is_null;

	/* a sample from the future says nothing about who is silent now */
	argument = TimestampTzGetDatum(now + interval);
	sba_query_run(&newest_time_query, &argument, NULL, 1);
	newest = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	if (is_null || (sba_has_source() && newest < now - (SBA_SILENT_INTERVALS + 1) * interval))
		return now - now % interval;
	return newest;
}

void
sba_begin_pass(SbaDetectionPass *pass, const SbaMetricCatalog *catalog, const SbaPeriodMap *periods,
			   const SbaService *services, int n_services, TimestampTz at)
{
	int			n_intervals = at == 0 ? SBA_SILENT_INTERVALS : 1;

	memset(pass, 0, sizeof(*pass));
	pass->catalog = catalog;
	pass->periods = periods;
	pass->until = at != 0 ? at : newest_instant();
	pass->silent_before = sba_seconds_before(pass->until, (int64) sba_sample_interval_s * n_intervals);
	pass->calendar = sba_load_calendar(sba_seconds_before(pass->silent_before, SBA_TRACKER_SPAN_S + SECS_PER_DAY),
									   pass->until);
	pass->bars = sba_load_signal_bars(services, n_services);
}

/* Find out since when a sample that equals the one before is repeated. */
static void
check_repetition(const SbaDetectionPass *detection, const SbaService *service, SbaReadSample *sample)
{
	int			n_repeats = sba_count_repeats(detection->catalog, detection->periods, service,
											  sample->ts, &sample->flat_since);

	if (n_repeats == 0)
		return;
	sample->is_flat = n_repeats + 1 >= SBA_FLAT_LINE_SAMPLES;
	sample->warnings = lappend(sample->warnings,
							   psprintf("every metric repeats its value of %s exactly, %d %s in a row%s",
										sba_iso_timestamp(sample->flat_since), n_repeats,
										n_repeats == 1 ? "time" : "times",
										sample->is_flat ? ": this is no data" : ""));
}

bool
sba_read_current_sample(const SbaDetectionPass *detection, const SbaService *service, SbaReadSample *sample)
{
	Datum		arguments[2];
	Datum		value;
	bool		is_null;
	bool		is_repeat = false;

	memset(sample, 0, sizeof(*sample));
	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(detection->until);
	sba_query_run(&newest_sample_query, arguments, NULL, 2);
	if (SPI_processed == 0)
		return false;
	sample->ts = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	value = sba_result_datum(0, 3, &is_null);
	if (!is_null)
	{
		Datum	   *texts;
		bool	   *nulls;
		int			n;
		int			i;

		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
		for (i = 0; i < n; i++)
			if (!nulls[i])
				sample->warnings = lappend(sample->warnings, TextDatumGetCString(texts[i]));
	}
	value = sba_result_datum(0, 2, &is_null);
	sba_read_metric_values(detection->catalog, DatumGetArrayTypeP(value), sample->values,
						   sample->idle, &sample->warnings);
	if (SPI_processed > 1)
	{
		double		earlier[SBA_MAX_METRICS];

		value = sba_result_datum(1, 2, &is_null);
		sba_read_metric_values(detection->catalog, DatumGetArrayTypeP(value), earlier, NULL, NULL);
		is_repeat = sba_is_repeat(sample->values, earlier, detection->catalog->n_metrics);
	}
	SPI_freetuptable(SPI_tuptable);
	if (is_repeat)
		check_repetition(detection, service, sample);
	return true;
}

void
sba_place_in_week(const SbaDetectionPass *detection, const SbaService *service, TimestampTz ts, SbaReadSample *sample)
{
	int			period;

	sample->calendar = sba_calendar_of_service(detection->calendar, service);
	sample->is_muted = sba_calendar_lookup(sample->calendar, SBA_CALENDAR_MAINTENANCE, ts);
	sample->minute_of_week = sba_calendar_minute_of_week(sample->calendar, service, ts);
	period = sba_period_of_minute(detection->periods, sample->minute_of_week);
	sample->time_period = detection->periods->name[period];
	sample->period_confidence = detection->periods->confidence[period];
}

bool
sba_sample_is_believed(const SbaMetricCatalog *catalog, const SbaReadSample *sample)
{
	int			m;

	if (sample->is_flat)
		return false;
	for (m = 0; m < catalog->n_metrics; m++)
		if (!isnan(sample->values[m]))
			return true;
	return false;
}

bool
sba_has_fresh_sample(const SbaService *service, TimestampTz now)
{
	Datum		arguments[2];
	bool		is_null;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(now);
	sba_query_run(&newest_sample_query, arguments, NULL, 1);
	return SPI_processed > 0 &&
		DatumGetTimestampTz(sba_result_datum(0, 1, &is_null)) > sba_seconds_before(now, sba_sample_interval_s);
}
