/*
 * detector.c
 *	  Judging samples and recording the verdicts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/tracker.h"
#include "core/validation.h"
#include "db/calendar.h"
#include "db/detector.h"
#include "db/judge.h"
#include "db/objectives.h"
#include "db/payload.h"
#include "db/root_causes.h"
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

static SbaQuery others_report_query = {
	.text = "SELECT 1 FROM smartbox.samples WHERE ts > $1 AND ts <= $2 LIMIT 1",
	.n_arguments = 2,
	.argument_types = {TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery stored_payload_query = {
	.text = "SELECT payload FROM smartbox.detections WHERE service = $1 AND ts = $2",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery record_query = {
	.text = "INSERT INTO smartbox.detections"
	" (service, ts, time_period, score, severity, is_anomaly, no_data, confidence, model_version, payload)"
	" SELECT n.service, n.ts, n.time_period, n.score, n.severity::smartbox.severity,"
	" n.is_anomaly, n.no_data, n.confidence, n.model_version, n.payload"
	" FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::timestamptz[]),"
	" pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::float8[]), pg_catalog.unnest($5::text[]),"
	" pg_catalog.unnest($6::bool[]), pg_catalog.unnest($7::bool[]), pg_catalog.unnest($8::float8[]),"
	" pg_catalog.unnest($9::int4[]), pg_catalog.unnest($10::jsonb[]))"
	" AS n(service, ts, time_period, score, severity, is_anomaly, no_data, confidence, model_version, payload)"
	" RETURNING service, payload",
	.n_arguments = 10,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID,
	BOOLARRAYOID, BOOLARRAYOID, FLOAT8ARRAYOID, INT4ARRAYOID, JSONBARRAYOID},
	.expected = SPI_OK_INSERT_RETURNING,
};

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

/*
 * Read the newest sample up to the cycle's instant in which anything is known;
 * false when there is none.
 */
static bool
read_sample(const SbaDetectionPass *detection, const SbaService *service, SbaReadSample *sample)
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

/* Find out which period an instant belongs to. */
static void
place_in_week(const SbaDetectionPass *detection, const SbaService *service, TimestampTz ts, SbaReadSample *sample)
{
	int			period;

	sample->calendar = sba_calendar_of_service(detection->calendar, service);
	sample->is_muted = sba_calendar_lookup(sample->calendar, SBA_CALENDAR_MAINTENANCE, ts);
	sample->minute_of_week = sba_calendar_minute_of_week(sample->calendar, service, ts);
	period = sba_period_of_minute(detection->periods, sample->minute_of_week);
	sample->time_period = detection->periods->name[period];
	sample->period_confidence = detection->periods->confidence[period];
}

/* The payload that was stored for this instant; 0 when there is none. */
static Datum
stored_payload(const SbaService *service, TimestampTz ts)
{
	Datum		arguments[2];
	bool		is_null;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(ts);
	sba_query_run(&stored_payload_query, arguments, NULL, 1);
	return SPI_processed == 0 ? (Datum) 0 : sba_result_datum(0, 1, &is_null);
}

/* Values that are out of range are no data either. */
static bool
any_value_is_usable(const SbaMetricCatalog *catalog, const SbaReadSample *sample)
{
	int			m;

	for (m = 0; m < catalog->n_metrics; m++)
		if (!isnan(sample->values[m]))
			return true;
	return false;
}

/* Objectives have the last word, and one when there is no model. */
static void
apply_objectives(const SbaDetectionPass *detection, const SbaService *service, const SbaReadSample *sample, SbaOutcome *outcome)
{
	SbaJudgement judgement = {outcome->is_anomaly, outcome->severity, outcome->payload};

	if (!sba_apply_objectives(detection->objectives, service, sample->ts, sample->values, &judgement))
		return;
	outcome->is_new = true;
	outcome->is_anomaly = judgement.is_anomaly;
	outcome->severity = judgement.severity;
	outcome->payload = judgement.payload;
}

static void
detect_one(const SbaDetectionPass *detection, const SbaService *service, SbaOutcome *outcome)
{
	SbaReadSample sample;
	bool		has_sample = read_sample(detection, service, &sample);
	bool		is_silent;
	Datum		stored;

	memset(outcome, 0, sizeof(*outcome));
	is_silent = !has_sample || sample.ts <= detection->silent_before;
	outcome->no_data = is_silent || sample.is_flat || !any_value_is_usable(detection->catalog, &sample);
	outcome->ts = is_silent ? detection->until : sample.ts;
	place_in_week(detection, service, outcome->ts, &sample);
	outcome->time_period = sample.time_period;

	stored = stored_payload(service, outcome->ts);
	outcome->is_new = stored == (Datum) 0;
	if (!outcome->no_data)
	{
		/* what a maintenance does neither begins nor ends an incident */
		outcome->no_data = sample.is_muted;
		if (outcome->is_new || detection->verbose)
			sba_judge_sample(detection, service, &sample, outcome);
		if (stored == (Datum) 0)
			apply_objectives(detection, service, &sample, outcome);
	}
	else if (outcome->is_new)
	{
		/* a service that never reported has not fallen silent */
		outcome->is_anomaly = has_sample && is_silent && detection->others_report && !sample.is_muted;
		outcome->is_new = has_sample;
		outcome->severity = outcome->is_anomaly ? SBA_NO_DATA_SEVERITY : SBA_SEVERITY_NONE;
		outcome->payload = sba_no_data_payload(service, outcome->ts, outcome->time_period,
											   !has_sample ? 0 : sample.is_flat ? sample.flat_since : sample.ts,
											   outcome->is_anomaly, sample.warnings);
	}
	if (stored != (Datum) 0)
	{
		outcome->is_new = false;
		outcome->payload = stored;
	}
}

/* An array for unnest(). */
static Datum
column_array(Datum *values, bool *nulls, int n, Oid type, int length, bool by_value, char align)
{
	int			one_dimension = 1;

	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &one_dimension,
											  type, length, by_value, align));
}

/*
 * Record what is new, in one statement, take the payloads as the triggers
 * completed them, and look for what is behind the incidents that they moved.
 */
static void
record(const SbaService *services, SbaOutcome *outcomes, int n_services)
{
	int			n = 0;
	Datum	   *columns[10];
	bool	   *no_model = palloc(sizeof(bool) * n_services);
	Datum	   *recorded = palloc(sizeof(Datum) * n_services);
	Datum		arguments[10];
	int			n_recorded;
	int			row;
	int			i;
	int			c;

	for (c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(Datum) * n_services);
	for (i = 0; i < n_services; i++)
	{
		const SbaOutcome *outcome = &outcomes[i];

		if (!outcome->is_new)
			continue;
		columns[0][n] = CStringGetTextDatum(services[i].name);
		columns[1][n] = TimestampTzGetDatum(outcome->ts);
		columns[2][n] = CStringGetTextDatum(outcome->time_period);
		columns[3][n] = Float8GetDatum(outcome->score);
		columns[4][n] = CStringGetTextDatum(sba_severity_name(outcome->severity));
		columns[5][n] = BoolGetDatum(outcome->is_anomaly);
		columns[6][n] = BoolGetDatum(outcome->no_data);
		columns[7][n] = Float8GetDatum(outcome->confidence);
		columns[8][n] = Int32GetDatum(outcome->model_version);
		columns[9][n] = outcome->payload;
		no_model[n++] = !outcome->has_model;
	}
	if (n == 0)
		return;

	arguments[0] = column_array(columns[0], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	arguments[1] = column_array(columns[1], NULL, n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	arguments[2] = column_array(columns[2], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	arguments[3] = column_array(columns[3], no_model, n, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	arguments[4] = column_array(columns[4], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	arguments[5] = column_array(columns[5], NULL, n, BOOLOID, 1, true, TYPALIGN_CHAR);
	arguments[6] = column_array(columns[6], NULL, n, BOOLOID, 1, true, TYPALIGN_CHAR);
	arguments[7] = column_array(columns[7], no_model, n, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	arguments[8] = column_array(columns[8], no_model, n, INT4OID, 4, true, TYPALIGN_INT);
	arguments[9] = column_array(columns[9], NULL, n, JSONBOID, -1, false, TYPALIGN_INT);
	sba_query_run(&record_query, arguments, NULL, 0);

	/* services and returned rows are in the same order */
	n_recorded = (int) SPI_processed;
	for (row = 0, i = 0; row < n_recorded; row++, i++)
	{
		char	   *name = sba_result_text(row, 1);
		bool		is_null;

		while (strcmp(services[i].name, name) != 0)
			i++;
		recorded[row] = CStringGetTextDatum(name);
		outcomes[i].payload = sba_result_datum(row, 2, &is_null);
		outcomes[i].is_new = false;
	}

	/* what another session recorded meanwhile stays as that one has it */
	for (i = 0; i < n_services; i++)
		if (outcomes[i].is_new)
			outcomes[i].payload = stored_payload(&services[i], outcomes[i].ts);

	if (n_recorded > 0)
		sba_write_root_causes(DatumGetArrayTypeP(column_array(recorded, NULL, n_recorded, TEXTOID, -1, false,
															  TYPALIGN_INT)));
}

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

Datum	   *
sba_detect(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
		   const SbaService *services, int n_services, TimestampTz at, bool verbose)
{
	SbaOutcome *outcomes = palloc(sizeof(SbaOutcome) * (n_services + 1));
	Datum	   *payloads = palloc(sizeof(Datum) * (n_services + 1));
	SbaDetectionPass detection;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly detection",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	Datum		arguments[2];
	int			i;

	detection.catalog = metrics;
	detection.periods = periods;
	detection.until = at;
	detection.verbose = verbose;
	if (at == 0)
		detection.until = newest_instant();
	detection.silent_before = sba_seconds_before(detection.until, (int64) sba_sample_interval_s *
												 (at == 0 ? SBA_SILENT_INTERVALS : 1));
	detection.calendar = sba_load_calendar(sba_seconds_before(detection.silent_before,
															  SBA_TRACKER_SPAN_S + SECS_PER_DAY), detection.until);
	arguments[0] = TimestampTzGetDatum(detection.silent_before);
	arguments[1] = TimestampTzGetDatum(detection.until);
	sba_query_run(&others_report_query, arguments, NULL, 1);
	detection.others_report = SPI_processed > 0;
	detection.objectives = sba_load_objectives(metrics, services, n_services,
											   detection.silent_before, detection.until);

	for (i = 0; i < n_services; i++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(scratch);
		detect_one(&detection, &services[i], &outcomes[i]);
		MemoryContextSwitchTo(caller);
		outcomes[i].payload = PointerGetDatum(PG_DETOAST_DATUM_COPY(outcomes[i].payload));
		if (outcomes[i].explanation != (Datum) 0)
			outcomes[i].explanation = PointerGetDatum(PG_DETOAST_DATUM_COPY(outcomes[i].explanation));
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	record(services, outcomes, n_services);
	for (i = 0; i < n_services; i++)
	{
		payloads[i] = outcomes[i].payload;
		if (outcomes[i].explanation != (Datum) 0)
			payloads[i] = DirectFunctionCall2(jsonb_concat, payloads[i], outcomes[i].explanation);
	}
	return payloads;
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
