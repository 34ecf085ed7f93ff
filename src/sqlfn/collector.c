/*
 * collector.c
 *	  From the metric source into smartbox.samples.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "net/metric_source.h"
#include "pg/query.h"
#include "pg/settings.h"
#include "sqlfn/collector.h"

/* Seconds between the epochs of Unix and of PostgreSQL. */
#define EPOCH_DIFFERENCE ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/* Instants that one range query may ask for: Prometheus answers 11,000. */
#define MAX_SLOTS_PER_QUERY 10000

/* Services that one query names, so that it stays of a size servers accept. */
#define MAX_SERVICES_PER_QUERY 100

/* Roughly what one point takes in an answer. */
#define BYTES_PER_POINT 40

/* Values that are held in memory at once. */
#define MAX_GRID_VALUES (4 * 1024 * 1024)

/* Ranges nearer to each other than this are asked for in one. */
#define MERGE_RANGES_S (6 * 3600)

/*
 * What is newer than this may still arrive at the source, and holes in it are
 * asked for again.
 */
#define SETTLED_AFTER_S (6 * 3600)

/*
 * What is missing: the span asked for, less what the source was asked for
 * before, less the intervals that samples lie in.
 */
static SbaQuery missing_query = {
	.text = "SELECT a.service, pg_catalog.lower(r.missing), pg_catalog.upper(r.missing)"
	" FROM (SELECT s.service, pg_catalog.tstzmultirange(pg_catalog.tstzrange($2, $3, '(]')) - s.backfilled AS need"
	" FROM smartbox.services s WHERE s.service = ANY ($1)) a,"
	" LATERAL (SELECT coalesce(pg_catalog.range_agg(pg_catalog.tstzrange(x.ts - $4, x.ts, '(]')), '{}') AS have"
	" FROM smartbox.samples x WHERE x.service = a.service"
	" AND x.ts > pg_catalog.lower(a.need) AND x.ts <= pg_catalog.upper(a.need)) h,"
	" LATERAL pg_catalog.unnest(a.need - h.have) AS r(missing)"
	" ORDER BY a.service COLLATE \"C\", 2",
	.n_arguments = 4,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery mark_query = {
	.text = "UPDATE smartbox.services SET backfilled = backfilled +"
	" pg_catalog.tstzmultirange(pg_catalog.tstzrange($2, $3, '(]'))"
	" WHERE service = ANY ($1)",
	.n_arguments = 3,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_UPDATE,
};

/* A span of time that one service's samples are missing in. */
typedef struct MissingSpan
{
	int			service;		/* index */
	TimestampTz since;			/* exclusive */
	TimestampTz until;			/* inclusive */
} MissingSpan;

static TimestampTz
time_of_unix(int64 seconds)
{
	return (seconds - EPOCH_DIFFERENCE) * USECS_PER_SEC;
}

static int64
unix_of_time(TimestampTz ts)
{
	return ts / USECS_PER_SEC + EPOCH_DIFFERENCE;
}

/* The last full interval's end, in seconds of Unix. */
static int64
current_slot(void)
{
	int64		now = unix_of_time(GetCurrentTimestamp());

	return now - now % sba_sample_interval_s;
}

static SbaMetricQuery *
make_queries(const SbaMetricCatalog *metrics)
{
	SbaMetricQuery *queries = palloc0(sizeof(SbaMetricQuery) * metrics->n_metrics);
	int			m;

	for (m = 0; m < metrics->n_metrics; m++)
	{
		queries[m].metric = metrics->metric[m].name;
		queries[m].column = m;
		queries[m].query = metrics->query[m];
	}
	return queries;
}

/*
 * Say which queries failed.  When none succeeded that is a failure of the
 * whole, of the given level; returns whether any succeeded.
 */
static bool
report_failures(const SbaMetricQuery *queries, int n_queries, int level_of_all)
{
	int			n_failed = 0;
	int			q;

	for (q = 0; q < n_queries; q++)
		n_failed += queries[q].failed;
	for (q = 0; q < n_queries; q++)
	{
		if (!queries[q].failed)
			continue;
		sba_source_report(&queries[q], n_failed == n_queries ? level_of_all : WARNING);
		if (n_failed == n_queries)
			return false;
	}
	return true;
}

static const char **
service_names(const SbaService *services, int n_services)
{
	const char **names = palloc(sizeof(char *) * (n_services + 1));
	int			i;

	for (i = 0; i < n_services; i++)
		names[i] = services[i].name;
	return names;
}

SbaCollected *
sba_collect(const SbaMetricCatalog *metrics, const SbaService *services,
			int n_services, bool only_these, int failure_level)
{
	SbaCollected *collected = palloc0(sizeof(SbaCollected) * (n_services + 1));
	SbaNewSample *samples = palloc0(sizeof(SbaNewSample) * (n_services + 1));
	SbaMetricQuery *queries = make_queries(metrics);
	SbaMetricGrid *grid;
	int			n_samples = 0;
	int			i;
	int			m;

	if (n_services == 0)
		return collected;
	grid = sba_metric_grid_create(service_names(services, n_services), n_services, metrics->n_metrics,
								  current_slot(), sba_sample_interval_s, 1);
	sba_source_fetch(queries, metrics->n_metrics, grid, only_these);
	if (!report_failures(queries, metrics->n_metrics, failure_level))
		return collected;

	for (i = 0; i < n_services; i++)
	{
		double	   *values = grid->values + SBA_GRID_INDEX(grid, i, 0, 0);

		collected[i].service = services[i].name;
		collected[i].ts = time_of_unix(grid->first_time);
		for (m = 0; m < metrics->n_metrics; m++)
		{
			values[m] = sba_accept_value(&metrics->metric[m], values[m], &collected[i].warnings);
			collected[i].metrics_present += !isnan(values[m]);
			if (queries[m].failed)
				collected[i].warnings = lappend(collected[i].warnings,
												psprintf("%s: could not be fetched", metrics->metric[m].name));
		}
		if (collected[i].metrics_present == 0)
			continue;
		samples[n_samples].service = services[i].name;
		samples[n_samples].ts = collected[i].ts;
		samples[n_samples].values = values;
		samples[n_samples++].warnings = collected[i].warnings;
	}
	sba_store_samples(metrics, samples, n_samples);
	return collected;
}

/* Read the missing spans of all services, near ones merged into one. */
static MissingSpan *
find_missing(const SbaService *services, int n_services, Datum names,
			 TimestampTz since, TimestampTz until, int *n_missing)
{
	Interval	step = {0};
	Datum		arguments[4];
	MissingSpan *missing;
	int			n = 0;
	int			service = 0;
	uint64		row;

	step.time = (int64) sba_sample_interval_s * USECS_PER_SEC;
	arguments[0] = names;
	arguments[1] = TimestampTzGetDatum(since);
	arguments[2] = TimestampTzGetDatum(until);
	arguments[3] = IntervalPGetDatum(&step);
	sba_query_run(&missing_query, arguments, NULL, 0);
	missing = palloc(sizeof(MissingSpan) * (SPI_processed + 1));
	for (row = 0; row < SPI_processed; row++)
	{
		char	   *name = sba_result_text(row, 1);
		bool		is_null;
		MissingSpan span;

		while (strcmp(services[service].name, name) != 0)
			service++;
		span.service = service;
		span.since = DatumGetTimestampTz(sba_result_datum(row, 2, &is_null));
		span.until = DatumGetTimestampTz(sba_result_datum(row, 3, &is_null));
		if (n > 0 && missing[n - 1].service == service &&
			span.since - missing[n - 1].until <= MERGE_RANGES_S * USECS_PER_SEC)
			missing[n - 1].until = span.until;
		else
			missing[n++] = span;
	}
	SPI_freetuptable(SPI_tuptable);
	*n_missing = n;
	return missing;
}

static int
compare_spans(const void *a, const void *b)
{
	const MissingSpan *x = a;
	const MissingSpan *y = b;

	if (x->since != y->since)
		return x->since < y->since ? -1 : 1;
	if (x->until != y->until)
		return x->until < y->until ? -1 : 1;
	return x->service - y->service;
}

static Datum
names_array(const SbaService *services, const MissingSpan *spans, int n)
{
	Datum	   *names = palloc(sizeof(Datum) * n);
	int			i;

	for (i = 0; i < n; i++)
		names[i] = CStringGetTextDatum(services[spans == NULL ? i : spans[i].service].name);
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Turn a filled grid into samples, and count what is in it. */
static void
store_grid(const SbaMetricCatalog *metrics, SbaMetricGrid *grid, const MissingSpan *spans,
		   SbaBackfilled *backfilled)
{
	SbaNewSample *samples = palloc_extended(sizeof(SbaNewSample) * grid->n_services * grid->n_slots,
											MCXT_ALLOC_HUGE);
	int			i;
	int			slot;
	int			m;

	for (i = 0; i < grid->n_services; i++)
	{
		SbaBackfilled *of_service = &backfilled[spans[i].service];
		int			n_samples = 0;

		for (slot = 0; slot < grid->n_slots; slot++)
		{
			double	   *values = grid->values + SBA_GRID_INDEX(grid, i, slot, 0);
			List	   *warnings = NIL;
			bool		present = false;

			for (m = 0; m < metrics->n_metrics; m++)
			{
				values[m] = sba_accept_value(&metrics->metric[m], values[m], &warnings);
				present |= !isnan(values[m]);
			}
			of_service->n_gaps += !present;
			if (!present)
				continue;
			samples[n_samples].service = grid->services[i];
			samples[n_samples].ts = time_of_unix(grid->first_time + (int64) slot * grid->step);
			samples[n_samples].values = values;
			samples[n_samples++].warnings = warnings;
		}
		of_service->n_samples += sba_store_samples(metrics, samples, n_samples);
	}
}

/*
 * Fetch one span for services that all miss it, cut in time so that no answer
 * grows too large.
 */
static void
backfill_span(const SbaMetricCatalog *metrics, const SbaService *services,
			  const MissingSpan *spans, int n, SbaBackfilled *backfilled, TimestampTz settled)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly backfill",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	int64		step = sba_sample_interval_s;
	int64		last = unix_of_time(spans[0].until) / step * step;
	int64		first = (unix_of_time(spans[0].since) / step + 1) * step;
	int64		max_slots = Min(MAX_SLOTS_PER_QUERY, MAX_GRID_VALUES / n / metrics->n_metrics);
	int			i;

	max_slots = Min(max_slots, (int64) sba_max_response_size_kb * 1024 / BYTES_PER_POINT / n);
	max_slots = Max(max_slots, 1);
	for (i = 0; i < n; i++)
	{
		SbaBackfilled *of_service = &backfilled[spans[i].service];

		if (of_service->since == 0 || spans[i].since < of_service->since)
			of_service->since = spans[i].since;
		of_service->until = Max(of_service->until, spans[i].until);
	}

	while (first <= last)
	{
		int			n_slots = (int) Min(max_slots, (last - first) / step + 1);
		const char **names = palloc(sizeof(char *) * n);
		SbaMetricQuery *queries;
		SbaMetricGrid *grid;
		Datum		arguments[3];
		TimestampTz asked_since = time_of_unix(first - step);
		TimestampTz asked_until = Min(time_of_unix(first + (int64) (n_slots - 1) * step), settled);

		MemoryContextSwitchTo(scratch);
		for (i = 0; i < n; i++)
			names[i] = services[spans[i].service].name;
		queries = make_queries(metrics);
		grid = sba_metric_grid_create(names, n, metrics->n_metrics, first, (int) step, n_slots);
		sba_source_fetch(queries, metrics->n_metrics, grid, true);
		report_failures(queries, metrics->n_metrics, ERROR);
		store_grid(metrics, grid, spans, backfilled);

		/* a span that one metric is missing in is asked for again */
		for (i = 0; i < metrics->n_metrics && !queries[i].failed; i++)
			;
		arguments[0] = names_array(services, spans, n);
		arguments[1] = TimestampTzGetDatum(asked_since);
		arguments[2] = TimestampTzGetDatum(asked_until);
		if (i == metrics->n_metrics && asked_since < asked_until)
			sba_query_run(&mark_query, arguments, NULL, 0);
		first += (int64) n_slots * step;
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scratch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextDelete(scratch);
}

SbaBackfilled *
sba_backfill(const SbaMetricCatalog *metrics, const SbaService *services,
			 int n_services, Interval *lookback)
{
	SbaBackfilled *backfilled = palloc0(sizeof(SbaBackfilled) * (n_services + 1));
	TimestampTz until = time_of_unix(current_slot());
	TimestampTz since = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
																TimestampTzGetDatum(until),
																IntervalPGetDatum(lookback)));
	TimestampTz settled = until - SETTLED_AFTER_S * USECS_PER_SEC;
	MissingSpan *missing;
	int			n_missing;
	int			begin;
	int			end;
	int			i;

	for (i = 0; i < n_services; i++)
		backfilled[i].service = services[i].name;
	if (since >= until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lookback must be positive")));
	missing = find_missing(services, n_services, names_array(services, NULL, n_services),
						   since, until, &n_missing);

	/* services that miss the same span are asked for together */
	qsort(missing, n_missing, sizeof(MissingSpan), compare_spans);
	for (begin = 0; begin < n_missing; begin = end)
	{
		for (end = begin + 1; end < n_missing && end - begin < MAX_SERVICES_PER_QUERY; end++)
			if (missing[end].since != missing[begin].since || missing[end].until != missing[begin].until)
				break;
		backfill_span(metrics, services, missing + begin, end - begin, backfilled, settled);
	}
	return backfilled;
}
