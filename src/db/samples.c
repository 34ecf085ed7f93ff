/*
 * samples.c
 *	  smartbox.samples: reading a service's history, storing what was fetched.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "core/validation.h"
#include "db/samples.h"
#include "pg/query.h"
#include "pg/settings.h"

/*
 * Samples that one INSERT stores: cutting an array with nulls apart costs the
 * square of its length.
 */
#define SAMPLES_PER_INSERT 256

static SbaQuery samples_query = {
	.text = "SELECT ts, metric_values FROM smartbox.samples"
	" WHERE service = $1 AND ts > $2 AND ts <= $3 ORDER BY ts",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

/* Of the last samples up to $2 that are equal: the first one, and how many. */
static SbaQuery equal_samples_query = {
	.text = "SELECT pg_catalog.min(r.ts), pg_catalog.count(*)::int4"
	" FROM (SELECT b.ts FROM smartbox.samples b WHERE b.service = $1 AND b.ts < $2"
	" AND b.metric_values IS DISTINCT FROM"
	" (SELECT l.metric_values FROM smartbox.samples l WHERE l.service = $1 AND l.ts = $2)"
	" ORDER BY b.ts DESC LIMIT 1) AS other"
	" JOIN smartbox.samples r ON r.service = $1 AND r.ts > other.ts AND r.ts <= $2"
	" HAVING pg_catalog.count(*) > 0",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

/*
 * A value that was stored before and one that was fetched for the same instant:
 * the fetched one corrects it, unless it is unknown or differs by no more than
 * the order in which the source adds up may explain.
 */
#define IS_CORRECTED \
	"(v.old > '-Infinity' AND v.old < 'Infinity'" \
	" AND pg_catalog.abs(v.new - v.old) > 1e-9 * greatest(pg_catalog.abs(v.old), pg_catalog.abs(v.new)))"

#define MERGED_VALUES \
	"(SELECT pg_catalog.array_agg(CASE WHEN v.old > '-Infinity' AND v.old < 'Infinity' AND " \
	IS_CORRECTED " IS NOT TRUE THEN v.old ELSE coalesce(v.new, v.old) END ORDER BY v.position)" \
	" FROM ROWS FROM (pg_catalog.unnest(excluded.metric_values), pg_catalog.unnest(s.metric_values))" \
	" WITH ORDINALITY AS v(new, old, position))"

/*
 * The warnings of both, each once, and one more for each metric that is
 * corrected for the first time.
 */
#define MERGED_WARNINGS \
	"(SELECT pg_catalog.array_agg(w.warning ORDER BY w.source, w.position) FROM (" \
	"SELECT 1 AS source, o.position, o.warning" \
	" FROM pg_catalog.unnest(s.warnings) WITH ORDINALITY AS o(warning, position)" \
	" UNION ALL SELECT 2, n.position, n.warning" \
	" FROM pg_catalog.unnest(excluded.warnings) WITH ORDINALITY AS n(warning, position)" \
	" WHERE n.warning <> ALL (coalesce(s.warnings, '{}'))" \
	" UNION ALL SELECT 3, v.position, pg_catalog.format('%s: corrected, was %s when it was first fetched', m.metric, v.old)" \
	" FROM ROWS FROM (pg_catalog.unnest(excluded.metric_values), pg_catalog.unnest(s.metric_values))" \
	" WITH ORDINALITY AS v(new, old, position)" \
	" JOIN smartbox.metrics AS m ON m.position = v.position" \
	" WHERE " IS_CORRECTED \
	" AND NOT EXISTS (SELECT FROM pg_catalog.unnest(s.warnings) AS o(warning)" \
	" WHERE pg_catalog.starts_with(o.warning, m.metric || ': corrected, '))) AS w)"

/*
 * The values of all samples come as one flat array, n_positions for each, and
 * the warnings as one text for each sample, lines of it being warnings.
 */
#define INSERT_SAMPLES \
	"INSERT INTO smartbox.samples AS s (service, ts, metric_values, warnings)" \
	" SELECT n.service, n.ts, ($3::float8[])[(n.number - 1) * $5 + 1 : n.number * $5]," \
	" pg_catalog.string_to_array(n.warnings, E'\\n')" \
	" FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::timestamptz[])," \
	" pg_catalog.unnest($4::text[])) WITH ORDINALITY AS n(service, ts, warnings, number)"

static SbaQuery insert_query = {
	.text = INSERT_SAMPLES,
	.n_arguments = 5,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID, INT4OID},
	.expected = SPI_OK_INSERT,
};

static SbaQuery merge_query = {
	.text = INSERT_SAMPLES
	" ON CONFLICT (service, ts) DO UPDATE SET metric_values = " MERGED_VALUES ","
	" warnings = " MERGED_WARNINGS
	" WHERE s.metric_values IS DISTINCT FROM " MERGED_VALUES,
	.n_arguments = 5,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID, INT4OID},
	.expected = SPI_OK_INSERT,
};

/* Refuse a faulty value: it becomes NaN, and is complained about. */
static double
refuse_faulty(const SbaMetric *metric, double value, List **warnings)
{
	SbaValueFault fault = sba_value_fault(metric, value);

	if (fault == SBA_VALUE_GOOD)
		return value;
	if (warnings != NULL)
	{
		char		text[SBA_FAULT_TEXT_SIZE];

		sba_describe_value_fault(metric, value, fault, text);
		*warnings = lappend(*warnings, pstrdup(text));
	}
	return NAN;
}

double
sba_accept_value(const SbaMetric *metric, double value, List **warnings)
{
	return isnan(value) ? NAN : refuse_faulty(metric, value, warnings);
}

void
sba_read_metric_values(const SbaMetricCatalog *metrics, ArrayType *metric_values,
					   double *values, bool *idle, List **warnings)
{
	bool		has_nulls = ARR_HASNULL(metric_values);
	Datum	   *elements = NULL;
	bool	   *nulls = NULL;
	double	   *plain = NULL;
	int			n = ArrayGetNItems(ARR_NDIM(metric_values), ARR_DIMS(metric_values));
	int			m;

	/* the table's constraints forbid it, until somebody alters them */
	if (ARR_NDIM(metric_values) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("metric_values of a sample has %d dimensions, it must have one", ARR_NDIM(metric_values))));
	if (has_nulls)
		deconstruct_array(metric_values, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  &elements, &nulls, &n);
	else
		plain = (double *) ARR_DATA_PTR(metric_values);

	for (m = 0; m < metrics->n_metrics; m++)
	{
		int			i = metrics->position[m] - 1;

		values[m] = NAN;
		if (i < n && !(has_nulls && nulls[i]))
			values[m] = refuse_faulty(&metrics->metric[m],
									  has_nulls ? DatumGetFloat8(elements[i]) : plain[i], warnings);
		if (idle != NULL)
			idle[m] = metrics->zero_is_normal[m] && values[m] == 0;
		if (metrics->zero_is_normal[m] && values[m] == 0)
			values[m] = NAN;
	}
	if (has_nulls)
	{
		pfree(elements);
		pfree(nulls);
	}
}

SbaSampleSeries *
sba_load_samples(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
				 const SbaService *service, TimestampTz since, TimestampTz until)
{
	SbaSampleSeries *series = sba_load_received_samples(metrics, periods, service, since, until);

	sba_forget_flat_lines(series->values, series->n_rows, metrics->n_metrics);
	return series;
}

SbaSampleSeries *
sba_load_received_samples(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
						  const SbaService *service, TimestampTz since, TimestampTz until)
{
	SbaSampleSeries *series = palloc0(sizeof(SbaSampleSeries));
	Datum		arguments[3];
	uint64		row;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(since);
	arguments[2] = TimestampTzGetDatum(until);
	sba_query_run(&samples_query, arguments, NULL, 0);

	series->n_rows = SPI_processed;
	series->n_metrics = metrics->n_metrics;
	series->ts = palloc(sizeof(TimestampTz) * (series->n_rows + 1));
	series->time_s = palloc(sizeof(int64_t) * (series->n_rows + 1));
	series->minute_of_week = palloc(sizeof(int32_t) * (series->n_rows + 1));
	series->period = palloc(series->n_rows + 1);
	series->values = palloc_extended(sizeof(double) * (series->n_rows * metrics->n_metrics + 1), MCXT_ALLOC_HUGE);
	series->idle = palloc0(sizeof(uint32_t) * (series->n_rows + 1));
	for (row = 0; row < series->n_rows; row++)
	{
		bool		idle[SBA_MAX_METRICS];
		bool		is_null;
		Datum		values;
		int			m;

		if (row % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		series->ts[row] = DatumGetTimestampTz(sba_result_datum(row, 1, &is_null));
		series->time_s[row] = series->ts[row] / USECS_PER_SEC;
		series->minute_of_week[row] = sba_minute_of_week(series->ts[row], service->time_zone);
		series->period[row] = (uint8_t) sba_period_of_minute(periods, series->minute_of_week[row]);
		values = sba_result_datum(row, 2, &is_null);
		if (is_null)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a sample of service \"%s\" has no metric_values", service->name)));
		sba_read_metric_values(metrics, DatumGetArrayTypeP(values),
							   series->values + row * metrics->n_metrics, idle, NULL);
		for (m = 0; m < metrics->n_metrics; m++)
			series->idle[row] |= (uint32_t) idle[m] << m;
	}
	SPI_freetuptable(SPI_tuptable);
	return series;
}

size_t
sba_first_row_after(const SbaSampleSeries *series, TimestampTz at)
{
	size_t		low = 0;
	size_t		high = series->n_rows;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (series->ts[middle] <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

SbaSampleSeries
sba_part_of_series(const SbaSampleSeries *series, size_t first, size_t end)
{
	SbaSampleSeries part = *series;

	part.n_rows = end - first;
	part.ts += first;
	part.time_s += first;
	part.minute_of_week += first;
	part.period += first;
	part.values += first * series->n_metrics;
	part.idle += first;
	return part;
}

int
sba_count_repeats(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
				  const SbaService *service, TimestampTz ts, TimestampTz *since)
{
	Datum		arguments[2];
	TimestampTz history;
	SbaSampleSeries *series;
	bool		is_null;
	int			n_equal;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(ts);
	sba_query_run(&equal_samples_query, arguments, NULL, 1);
	if (SPI_processed == 0)
		return 0;
	*since = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	n_equal = sba_result_int4(0, 2, 0);
	SPI_freetuptable(SPI_tuptable);

	history = *since - (int64) SBA_FLAT_LINE_HISTORY * sba_sample_interval_s * USECS_PER_SEC;
	series = sba_load_samples(metrics, periods, service, history, *since);
	return sba_values_move(series->values, series->n_rows, series->n_metrics) ? n_equal - 1 : 0;
}

/* Warnings of a sample as one text, a line each. */
static Datum
join_warnings(List *warnings)
{
	StringInfoData lines;
	ListCell   *cell;

	initStringInfo(&lines);
	foreach(cell, warnings)
		appendStringInfo(&lines, "%s%s", lines.len > 0 ? "\n" : "", (char *) lfirst(cell));
	return CStringGetTextDatum(lines.data);
}

static uint64
store_batch(SbaQuery *query, const SbaMetricCatalog *metrics, const SbaNewSample *samples, int n_samples)
{
	int			n_values = n_samples * metrics->n_positions;
	Datum	   *services = palloc(sizeof(Datum) * n_samples);
	Datum	   *times = palloc(sizeof(Datum) * n_samples);
	Datum	   *values = palloc0(sizeof(Datum) * n_values);
	bool	   *value_nulls = palloc(n_values);
	Datum	   *warnings = palloc0(sizeof(Datum) * n_samples);
	bool	   *warning_nulls = palloc(n_samples);
	Datum		arguments[5];
	int			one_dimension = 1;
	int			i;
	int			m;

	memset(value_nulls, true, n_values);
	for (i = 0; i < n_samples; i++)
	{
		services[i] = CStringGetTextDatum(samples[i].service);
		times[i] = TimestampTzGetDatum(samples[i].ts);
		warning_nulls[i] = samples[i].warnings == NIL;
		if (!warning_nulls[i])
			warnings[i] = join_warnings(samples[i].warnings);
		for (m = 0; m < metrics->n_metrics; m++)
		{
			int			cell = i * metrics->n_positions + metrics->position[m] - 1;

			value_nulls[cell] = isnan(samples[i].values[m]);
			if (!value_nulls[cell])
				values[cell] = Float8GetDatum(samples[i].values[m]);
		}
	}
	arguments[0] = PointerGetDatum(construct_array(services, n_samples, TEXTOID, -1, false, TYPALIGN_INT));
	arguments[1] = PointerGetDatum(construct_array(times, n_samples, TIMESTAMPTZOID, sizeof(int64),
												   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	arguments[2] = PointerGetDatum(construct_md_array(values, value_nulls, 1, &n_values, &one_dimension,
													  FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	arguments[3] = PointerGetDatum(construct_md_array(warnings, warning_nulls, 1, &n_samples, &one_dimension,
													  TEXTOID, -1, false, TYPALIGN_INT));
	arguments[4] = Int32GetDatum(metrics->n_positions);
	sba_query_run(query, arguments, NULL, 0);
	return SPI_processed;
}

static uint64
store_in_batches(SbaQuery *query, const SbaMetricCatalog *metrics, const SbaNewSample *samples, int n_samples,
				 MemoryContext batch)
{
	MemoryContext caller = MemoryContextSwitchTo(batch);
	uint64		n_stored = 0;
	int			i;

	for (i = 0; i < n_samples; i += SAMPLES_PER_INSERT)
	{
		n_stored += store_batch(query, metrics, samples + i, Min(SAMPLES_PER_INSERT, n_samples - i));
		MemoryContextReset(batch);
	}
	MemoryContextSwitchTo(caller);
	return n_stored;
}

/*
 * Store samples none of which is there yet, which spares looking for each one
 * first.  Returns 0, and has stored nothing, when one is there.
 */
static uint64
store_new(const SbaMetricCatalog *metrics, const SbaNewSample *samples, int n_samples, MemoryContext batch)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	volatile uint64 n_stored = 0;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		n_stored = store_in_batches(&insert_query, metrics, samples, n_samples, batch);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		n_stored = 0;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error != NULL && error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
		ReThrowError(error);
	MemoryContextReset(batch);
	return n_stored;
}

uint64
sba_store_samples(const SbaMetricCatalog *metrics, const SbaNewSample *samples, int n_samples)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly samples",
												ALLOCSET_DEFAULT_SIZES);
	uint64		n_stored = 0;

	/* a past that is fetched is new but for its ends, a cycle seldom is */
	if (n_samples > SAMPLES_PER_INSERT)
		n_stored = store_new(metrics, samples, n_samples, batch);
	if (n_stored == 0)
		n_stored = store_in_batches(&merge_query, metrics, samples, n_samples, batch);
	MemoryContextDelete(batch);
	return n_stored;
}
