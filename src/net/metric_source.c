/*
 * metric_source.c
 *	  Values of metrics from a server that speaks the Prometheus HTTP API.
 *
 * All queries of a fetch are under way at once, and an answer's points go
 * straight from the JSON reader into the grid.  A range query that would
 * bring too large an answer, or more points than servers give, is cut by
 * services and by time into several requests.  Where the answer turns out too
 * large all the same, or the source has lower limits, the request is halved
 * and sent again.  To the caller it stays one query, which fails when one of
 * its requests does.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "net/http_pool.h"
#include "net/source_answer.h"
#include "net/source_query.h"
#include "pg/settings.h"

/* Prometheus refuses more than 11,000 points per series. */
#define MAX_RANGE_POINTS	10000

/* A point of an answer: [1700000000,"0.12345678901234567"], rounded up. */
#define BYTES_PER_POINT		40

/* Larger answers than this bring nothing but memory at the source. */
#define LARGEST_PLANNED_ANSWER (16 * 1024 * 1024)

/* VictoriaMetrics refuses queries of more than 16384 bytes. */
#define MAX_MATCHER_BYTES	12000

/*
 * A query of which so many parts are all too much at the same time does not
 * become acceptable by asking for less.
 */
#define HOPELESS_PARTS		32

/* ---------- planning ---------- */

/*
 * How many of the services from first on fit into the query's text, in which
 * their names are repeated wherever the template has $selector.
 */
static int
services_per_text(const SbaMetricQuery *query, const SbaMetricGrid *grid, int first)
{
	const char *c = query->query;
	size_t		limit = MAX_MATCHER_BYTES;
	size_t		length = 0;
	int			n_uses = 0;
	int			n = 0;

	while ((c = strstr(c, "$selector")) != NULL)
	{
		n_uses++;
		c++;
	}
	limit /= Max(n_uses, 1);
	while (first + n < grid->n_services)
	{
		/* room for the escapes of a usual name */
		length += strlen(grid->services[first + n]) + 8;
		if (length > limit && n > 0)
			break;
		n++;
	}
	return n;
}

/* How many slots and services one range request may ask for. */
static void
plan_ranges(const SbaMetricGrid *grid, bool only_these, int *n_slots, int *n_services)
{
	size_t		answer = Min((size_t) sba_max_response_size_kb * 1024 / 2,
							 LARGEST_PLANNED_ANSWER);
	int			n_points = answer / BYTES_PER_POINT;

	*n_slots = Min(grid->n_slots, MAX_RANGE_POINTS);
	*n_services = grid->n_services;
	if (only_these && (int64) *n_slots * grid->n_services > n_points)
		*n_services = Max(n_points / *n_slots, 1);
	if ((int64) *n_slots * *n_services > n_points)
		*n_slots = Max(n_points / *n_services, 1);
}

/* Write the form of a request for a part of the grid. */
static char *
make_form(const SbaSourceRequest *request, bool only_these)
{
	const SbaMetricGrid *grid = request->grid;
	int64		start = grid->first_time + (int64) request->first_slot * grid->step;
	StringInfoData form;
	char	   *query;

	query = sba_expand_query(request->query->query,
							 only_these ? grid->services + request->first_service : NULL,
							 request->n_services);
	initStringInfo(&form);
	appendStringInfoString(&form, "query=");
	sba_append_encoded(&form, query);
	if (request->expected == SBA_RESULT_VECTOR)
		appendStringInfo(&form, "&time=" INT64_FORMAT, start);
	else
		appendStringInfo(&form, "&start=" INT64_FORMAT "&end=" INT64_FORMAT "&step=%d",
						 start, start + (int64) (request->n_slots - 1) * grid->step,
						 grid->step);

	/*
	 * VictoriaMetrics moves start and end for its cache unless told not to;
	 * its cluster leaves out what it cannot reach unless told not to, and a
	 * sum over a part is a wrong number.
	 */
	appendStringInfo(&form, "&timeout=%dms&nocache=1&deny_partial_response=1",
					 sba_vm_timeout_ms);
	pfree(query);
	return form.data;
}

/* A part of a query: services from first_service on, slots from first_slot on. */
typedef struct Part
{
	SbaMetricQuery *query;
	int			first_service;
	int			n_services;
	int			first_slot;
	int			n_slots;
	bool		only_these;
} Part;

/* Cut the queries into parts of which each is one request. */
static List *
plan_parts(SbaMetricQuery *queries, int n_queries, const SbaMetricGrid *grid, bool only_these)
{
	List	   *parts = NIL;
	int			most_services;
	int			most_slots;
	int			i;

	plan_ranges(grid, only_these, &most_slots, &most_services);
	for (i = 0; i < n_queries; i++)
	{
		bool		narrow = only_these;
		int			service = 0;

		/*
		 * For one instant, one answer about all services costs less than
		 * several about some.
		 */
		if (grid->n_slots == 1 &&
			services_per_text(&queries[i], grid, 0) < grid->n_services)
			narrow = false;
		while (service < grid->n_services)
		{
			int			n_services = grid->n_services;
			int			slot;

			if (narrow)
				n_services = Min(most_services,
								 services_per_text(&queries[i], grid, service));
			n_services = Min(n_services, grid->n_services - service);
			for (slot = 0; slot < grid->n_slots; slot += most_slots)
			{
				Part	   *part = palloc(sizeof(Part));

				part->query = &queries[i];
				part->first_service = service;
				part->n_services = n_services;
				part->first_slot = slot;
				part->n_slots = Min(most_slots, grid->n_slots - slot);
				part->only_these = narrow;
				parts = lappend(parts, part);
			}
			service += n_services;
		}
	}
	return parts;
}

/* ---------- public functions ---------- */

SbaMetricGrid *
sba_metric_grid_create(const char **services, int n_services, int n_metrics,
					   int64 first_time, int step, int n_slots)
{
	SbaMetricGrid *grid = palloc0(sizeof(SbaMetricGrid));
	size_t		n_values = mul_size(mul_size(n_services, n_slots), n_metrics);
	size_t		i;

	grid->n_services = n_services;
	grid->services = services;
	grid->n_metrics = n_metrics;
	grid->first_time = first_time;
	grid->step = step;
	grid->n_slots = n_slots;
	grid->values = palloc_extended(Max(mul_size(n_values, sizeof(double)), 1),
								   MCXT_ALLOC_HUGE);
	for (i = 0; i < n_values; i++)
		grid->values[i] = get_float8_nan();
	return grid;
}

/* The grid's services by the names that the source knows them by. */
static SbaSourceService *
source_services(const SbaMetricGrid *grid)
{
	SbaSourceService *services = palloc(Max(grid->n_services, 1) * sizeof(SbaSourceService));
	int			i;

	for (i = 0; i < grid->n_services; i++)
	{
		services[i].name = pg_server_to_any(grid->services[i],
											strlen(grid->services[i]), PG_UTF8);
		services[i].index = i;
	}
	qsort(services, grid->n_services, sizeof(SbaSourceService), sba_compare_source_services);
	return services;
}

/* ---------- asking for less ---------- */

/*
 * What servers say of a query that is well-formed but asks for too much:
 * Prometheus of points and samples, VictoriaMetrics of its -search.max...
 * limits, and those that are made of either.
 */
static bool
says_too_much(const char *said)
{
	static const char *const complaints[] = {
		"too many points", "maximum resolution", "too many samples", "-search.max",
		"not enough memory", "timeseries exceeds", "exceeded the maximum", "exceeds the limit",
		"response too large", NULL
	};
	int			i;

	for (i = 0; complaints[i] != NULL; i++)
	{
		if (strstr(said, complaints[i]) != NULL)
			return true;
	}
	return false;
}

/* Whether a request may be answered when it asks for less. */
static bool
asked_too_much(const SbaSourceRequest *request)
{
	const SbaHttpRequest *http = request->http;
	const char *said;

	/* with a message it was the headers that were too large */
	if (http->outcome == SBA_HTTP_TOO_LARGE)
		return http->message[0] == '\0';
	if (http->outcome != SBA_HTTP_DONE)
		return false;
	if (http->status == 413)
		return true;
	if (http->status != 400 && http->status != 422)
		return false;
	said = request->reader == NULL ? NULL :
		sba_prometheus_reader_server_error(request->reader);
	return said != NULL && says_too_much(said);
}

/* Whether the complaint is about the points of a single series. */
static bool
asked_too_many_points(const SbaSourceRequest *request)
{
	const char *said = request->reader == NULL ? NULL :
	sba_prometheus_reader_server_error(request->reader);

	return said != NULL && (strstr(said, "points") != NULL || strstr(said, "resolution") != NULL);
}

/*
 * Add the halves of a part to a list; none when it cannot be cut.  The
 * services are cut first: a query over all of the time costs the source less
 * than two over half of it.
 */
static List *
add_halves(List *parts, const Part *whole, bool by_time)
{
	bool		cut_services = whole->n_services > 1 && !(by_time && whole->n_slots > 1);
	Part	   *first = palloc(sizeof(Part));
	Part	   *second;

	*first = *whole;
	first->only_these = true;
	if (!cut_services && whole->n_slots == 1)
		return whole->only_these ? parts : lappend(parts, first);
	second = palloc(sizeof(Part));
	*second = *first;
	if (cut_services)
	{
		first->n_services = whole->n_services / 2;
		second->first_service += first->n_services;
		second->n_services -= first->n_services;
	}
	else
	{
		first->n_slots = whole->n_slots / 2;
		second->first_slot += first->n_slots;
		second->n_slots -= first->n_slots;
	}
	return lappend(lappend(parts, first), second);
}

/* ---------- one fetch ---------- */

typedef struct Fetch
{
	SbaMetricGrid *grid;
	SbaSourceService *services;
	const SbaHttpEndpoint *endpoint;
	const char *url;
	MemoryContext caller;		/* for reports of failures */
	MemoryContext scratch;		/* for the parts */
} Fetch;

/* Make the requests for all parts, in the current memory context. */
static SbaSourceBatch *
make_batch(const Fetch *fetch, List *parts)
{
	SbaSourceBatch *batch = sba_source_batch_create(list_length(parts));
	int			i;

	for (i = 0; i < batch->n_requests; i++)
	{
		SbaSourceRequest *request = &batch->requests[i];
		Part	   *part = list_nth(parts, i);

		request->query = part->query;
		request->expected = fetch->grid->n_slots == 1 ? SBA_RESULT_VECTOR : SBA_RESULT_MATRIX;
		request->grid = fetch->grid;
		request->services = fetch->services;
		request->first_service = part->first_service;
		request->n_services = part->n_services;
		request->first_slot = part->first_slot;
		request->n_slots = part->n_slots;
		request->seen = palloc0(part->n_services * sizeof(bool));
		batch->http[i].url = fetch->url;
		batch->http[i].body = make_form(request, part->only_these);
	}
	return batch;
}

/* Whether one of the answers is for this query, and not too much. */
static bool
any_bearable(const SbaSourceBatch *batch, const SbaMetricQuery *query, int *n_parts)
{
	bool		found = false;
	int			i;

	*n_parts = 0;
	for (i = 0; i < batch->n_requests; i++)
	{
		if (batch->requests[i].query != query)
			continue;
		(*n_parts)++;
		found |= !asked_too_much(&batch->requests[i]);
	}
	return found;
}

/*
 * Ask for all parts at once.  Returns the parts to ask for next: the halves of
 * those that were too much.
 */
static List *
fetch_parts(const Fetch *fetch, List *parts)
{
	MemoryContext round = AllocSetContextCreate(fetch->scratch, "smartbox_anomaly requests",
												ALLOCSET_DEFAULT_SIZES);
	SbaSourceBatch *batch;
	List	   *next = NIL;
	int			i;

	MemoryContextSwitchTo(round);
	batch = make_batch(fetch, parts);
	sba_http_perform(fetch->endpoint, batch->http, batch->n_requests, sba_source_before_retry);

	for (i = 0; i < batch->n_requests; i++)
	{
		SbaSourceRequest *request = &batch->requests[i];
		List	   *before = next;
		int			n_before = list_length(next);
		int			n_parts;

		if (!request->query->failed && asked_too_much(request) &&
			(any_bearable(batch, request->query, &n_parts) || n_parts < HOPELESS_PARTS))
		{
			MemoryContextSwitchTo(fetch->scratch);
			next = add_halves(before, list_nth(parts, i), asked_too_many_points(request));
		}
		if (list_length(next) > n_before)
			sba_source_forget_values(request);
		else
		{
			MemoryContextSwitchTo(fetch->caller);
			sba_source_judge(request, fetch->endpoint->host);
		}
	}
	MemoryContextSwitchTo(fetch->scratch);
	MemoryContextDelete(round);
	return next;
}

void
sba_source_fetch(SbaMetricQuery *queries, int n_queries, SbaMetricGrid *grid, bool only_these)
{
	Fetch		fetch = {.grid = grid,.caller = CurrentMemoryContext};
	SbaSourceRequest column = {.grid = grid,.n_services = grid->n_services,.n_slots = grid->n_slots};
	List	   *parts;
	double		begin_ms = sba_now_ms();
	int			i;

	sba_require_endpoint();
	for (i = 0; i < n_queries; i++)
		queries[i].failed = false;
	if (n_queries == 0 || grid->n_services == 0 || grid->n_slots == 0)
		return;

	fetch.scratch = AllocSetContextCreate(fetch.caller, "smartbox_anomaly fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(fetch.scratch);
	fetch.endpoint = sba_source_endpoint();
	fetch.url = sba_endpoint_url(fetch.endpoint, grid->n_slots == 1 ? "/api/v1/query" : "/api/v1/query_range");
	fetch.services = source_services(grid);
	parts = plan_parts(queries, n_queries, grid, only_these);
	while (parts != NIL)
		parts = fetch_parts(&fetch, parts);

	for (i = 0; i < n_queries; i++)
	{
		column.query = &queries[i];
		if (queries[i].failed)
			sba_source_forget_values(&column);
	}
	MemoryContextSwitchTo(fetch.caller);
	MemoryContextDelete(fetch.scratch);
	elog(DEBUG1, "smartbox_anomaly: fetched %d metrics of %d services at %d instants in %.1f ms",
		 n_queries, grid->n_services, grid->n_slots, sba_now_ms() - begin_ms);
}

void
sba_source_report(const SbaMetricQuery *query, int level)
{
	ereport(level,
			(errcode(query->sqlstate),
			 errmsg_internal("%s", query->message),
			 query->detail != NULL ? errdetail_internal("%s", query->detail) : 0,
			 query->hint != NULL ? errhint("%s", query->hint) : 0));
}

void
sba_source_report_refused(const SbaMetricQuery *query)
{
	if (query->n_early > 0 || query->n_late > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("points of metric \"%s\" were refused because of their time", query->metric),
				 errdetail("%lld were before the time asked for, %lld after it.",
						   (long long) query->n_early, (long long) query->n_late),
				 errhint("Compare the clocks of the metric source and of this server.")));
	if (query->n_twice > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("metric \"%s\" has two values for one instant", query->metric),
				 errdetail("This happened %lld times; the later one in the answer counts.",
						   (long long) query->n_twice)));
}
