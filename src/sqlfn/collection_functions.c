/*
 * collection_functions.c
 *	  collect_metrics(), backfill_metrics(), discover_services().
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rangetypes.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "net/source_names.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "sqlfn/backfill.h"
#include "sqlfn/collector.h"

SBA_FUNCTION(sba_collect_metrics);
SBA_FUNCTION(sba_collect_for_cycle);
SBA_FUNCTION(sba_backfill_metrics);
SBA_FUNCTION(sba_discover_services);

/* What the check of smartbox.services takes: one odd name is no reason to lose the others. */
#define IS_NAME	"pg_catalog.length(n.service) BETWEEN 1 AND 200 AND n.service !~ '[\\u0001-\\u001f\\u007f]'"

static SbaQuery odd_names_query = {
	.text = "SELECT pg_catalog.count(*)::pg_catalog.int4 FROM pg_catalog.unnest($1::text[]) AS n(service) WHERE NOT (" IS_NAME ")",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery add_services_query = {
	.text = "INSERT INTO smartbox.services (service)"
	" SELECT n.service FROM pg_catalog.unnest($1::text[]) AS n(service)"
	" WHERE " IS_NAME " AND NOT EXISTS (SELECT FROM smartbox.services s WHERE s.service = n.service)"
	" ORDER BY n.service ON CONFLICT (service) DO NOTHING RETURNING service",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_INSERT_RETURNING,
};

static SbaQuery sampled_services_query = {
	.text = "SELECT DISTINCT service FROM smartbox.samples ORDER BY service",
	.expected = SPI_OK_SELECT,
};

/* An array of texts from a list of strings, or null for an empty one. */
static Datum
text_array_of_list(List *strings, bool *is_null)
{
	Datum	   *elements = palloc(sizeof(Datum) * (list_length(strings) + 1));
	ListCell   *cell;
	int			n = 0;

	*is_null = strings == NIL;
	foreach(cell, strings)
		elements[n++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * collect_metrics(services text[])
 *		returns setof (service, ts, metrics_present, warnings)
 */
Datum
sba_collect_metrics(PG_FUNCTION_ARGS)
{
	ArrayType  *names = sba_text_array_argument(fcinfo, 0);
	SbaMetricCatalog *metrics;
	SbaService *services;
	SbaCollected *collected;
	int			n_services;
	int			i;

	sba_begin_rows(fcinfo);
	SPI_connect();
	metrics = sba_load_metrics();
	services = sba_load_services(names, &n_services);
	collected = sba_collect(metrics, services, n_services, names != NULL, ERROR);
	for (i = 0; i < n_services; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = CStringGetTextDatum(collected[i].service);
		values[1] = TimestampTzGetDatum(collected[i].ts);
		values[2] = Int32GetDatum(collected[i].metrics_present);
		values[3] = text_array_of_list(collected[i].warnings, &nulls[3]);
		sba_add_row(fcinfo, values, nulls);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/*
 * Fetch what a cycle needs.  Whatever goes wrong is a warning, except for a
 * cancel or shutdown; nothing is stored then.
 */
static SbaMetricGrid *
fetch_or_warn(const SbaMetricCatalog *metrics, SbaMetricQuery *queries,
			  const SbaService *services, int n_services)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	SbaMetricGrid *volatile grid = NULL;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		grid = sba_fetch_current(metrics, queries, services, n_services, false, ERROR);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		grid = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (error == NULL)
		return grid;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("metrics were not collected: %s", error->message),
			 error->detail == NULL ? 0 : errdetail_internal("%s", error->detail)));
	return NULL;
}

/*
 * smartbox.collect_for_cycle(), a procedure: collect_metrics() for all enabled
 * services, with no snapshot and no lock while the source is waited for.  A
 * source that does not answer is a warning.
 */
Datum
sba_collect_for_cycle(PG_FUNCTION_ARGS)
{
	CallContext *call = castNode(CallContext, fcinfo->context);
	SbaMetricCatalog *metrics;
	SbaMetricQuery *queries;
	SbaMetricGrid *grid;
	SbaService *services;
	int			n_services;
	int			level;

	if (!sba_has_source())
		PG_RETURN_VOID();
	SPI_connect_ext(call->atomic ? 0 : SPI_OPT_NONATOMIC);
	level = sba_pin_search_path();
	metrics = sba_load_metrics();
	services = sba_load_services(NULL, &n_services);
	AtEOXact_GUC(true, level);
	if (!call->atomic)
		SPI_commit();

	queries = sba_make_metric_queries(metrics);
	grid = fetch_or_warn(metrics, queries, services, n_services);

	level = sba_pin_search_path();
	if (grid != NULL)
		sba_store_current(metrics, queries, grid, services, n_services);
	AtEOXact_GUC(true, level);
	SPI_finish();
	PG_RETURN_VOID();
}

static Datum
make_time_range(TimestampTz since, TimestampTz until)
{
	TypeCacheEntry *type = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
	RangeBound	lower = {TimestampTzGetDatum(since), false, false, true};
	RangeBound	upper = {TimestampTzGetDatum(until), false, true, false};

	return RangeTypePGetDatum(SBA_MAKE_RANGE(type, &lower, &upper, since == until));
}

/*
 * backfill_metrics(services text[], lookback interval)
 *		returns setof (service, range, samples, gaps)
 */
Datum
sba_backfill_metrics(PG_FUNCTION_ARGS)
{
	ArrayType  *names = sba_text_array_argument(fcinfo, 0);
	SbaMetricCatalog *metrics;
	SbaService *services;
	SbaBackfilled *backfilled;
	int			n_services;
	int			i;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lookback must not be null")));
	sba_begin_rows(fcinfo);
	SPI_connect();
	metrics = sba_load_metrics();
	services = sba_load_services(names, &n_services);
	backfilled = sba_backfill(metrics, services, n_services, PG_GETARG_INTERVAL_P(1));
	for (i = 0; i < n_services; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = CStringGetTextDatum(backfilled[i].service);
		values[1] = make_time_range(backfilled[i].since, backfilled[i].until);
		values[2] = Int64GetDatum(backfilled[i].n_samples);
		values[3] = Int64GetDatum(backfilled[i].n_gaps);
		sba_add_row(fcinfo, values, nulls);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* Names of all services that have samples, as text datums. */
static Datum *
services_with_samples(int *n)
{
	Datum	   *names;
	int			i;

	sba_query_run(&sampled_services_query, NULL, NULL, 0);
	*n = (int) SPI_processed;
	names = palloc(sizeof(Datum) * (*n + 1));
	for (i = 0; i < *n; i++)
		names[i] = CStringGetTextDatum(sba_result_text(i, 1));
	return names;
}

/*
 * discover_services() returns setof text, the names that are new
 */
Datum
sba_discover_services(PG_FUNCTION_ARGS)
{
	Datum	   *names;
	Datum		argument;
	int			n = 0;
	int			n_odd;
	uint64		row;

	sba_begin_rows(fcinfo);
	SPI_connect();
	if (sba_has_source())
	{
		const char **found = sba_source_services(&n);
		int			i;

		names = palloc(sizeof(Datum) * (n + 1));
		for (i = 0; i < n; i++)
			names[i] = CStringGetTextDatum(found[i]);
	}
	else
		names = services_with_samples(&n);
	argument = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	sba_query_run(&odd_names_query, &argument, NULL, 0);
	n_odd = sba_result_int4(0, 1, 0);
	if (n_odd > 0)
		ereport(WARNING,
				(errmsg_plural("%d name that was found is no name of a service",
							   "%d names that were found are no names of services", n_odd, n_odd),
				 errdetail("A name has 1 to 200 characters, and no control characters.")));
	sba_query_run(&add_services_query, &argument, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		Datum		value = CStringGetTextDatum(sba_result_text(row, 1));
		bool		is_null = false;

		sba_add_row(fcinfo, &value, &is_null);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
