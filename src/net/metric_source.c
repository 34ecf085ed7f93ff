/*
 * metric_source.c
 *	  Values of metrics from a server that speaks the Prometheus HTTP API.
 *
 * All queries of a fetch are under way at once, and an answer's points go
 * straight from the JSON reader into the grid.  A range query that would
 * bring too large an answer, or more points than servers give, is cut by
 * services and by time into several requests; to the caller it stays one
 * query, which fails when one of its requests does.
 *
 * What runs inside libcurl (on_body and the reader's callbacks) raises no
 * errors and allocates nothing from PostgreSQL: it notes what it found in the
 * SourceRequest, and judge_request() makes the report of it afterwards.
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/prometheus_json.h"
#include "net/http_client.h"
#include "net/metric_source.h"
#include "pg/settings.h"

/* Prometheus refuses more than 11,000 points per series. */
#define MAX_RANGE_POINTS	10000

/* A point of an answer: [1700000000,"0.12345678901234567"], rounded up. */
#define BYTES_PER_POINT		40

/* Larger answers than this bring nothing but memory at the source. */
#define LARGEST_PLANNED_ANSWER (16 * 1024 * 1024)

/* VictoriaMetrics refuses queries of more than 16384 bytes. */
#define MAX_MATCHER_BYTES	12000

/* Services that have reported within this time exist. */
#define SERVICES_LOOKBACK_S (24 * 60 * 60)

#define ERROR_TEXT_BYTES	1024
#define ERROR_LINE_BYTES	200

/* A service of the grid, by the name that the source knows it by. */
typedef struct SourceService
{
	const char *name;			/* UTF-8 */
	int			index;
} SourceService;

/* One HTTP request, with what its answer holds. */
typedef struct SourceRequest
{
	SbaMetricQuery *query;
	const char *service_label;
	SbaResultType expected;

	/* the part of the grid that is asked for; no grid for a list of names */
	SbaMetricGrid *grid;
	const SourceService *services;	/* sorted by name; all of the grid */
	int			first_service;
	int			n_services;
	int			first_slot;
	int			n_slots;

	/* what is being read */
	const SbaHttpRequest *http;
	SbaPrometheusReader *reader;	/* malloc'ed; NULL before the first byte */
	int			service;		/* grid index of the series, or -1 */
	bool	   *seen;			/* by service, from first_service on */

	/* what was found */
	bool		out_of_memory;
	bool		wrong_type;
	int			duplicate;		/* grid index, or -1 */
	bool		any_service;	/* a series has the service label */
	bool		any_nameless;	/* a series lacks it */
	char	   *names;			/* malloc'ed, zero-terminated one after the other */
	size_t		names_length;
	size_t		names_size;
	char		error_text[ERROR_TEXT_BYTES];	/* begin of an error's body */
	size_t		error_length;
} SourceRequest;

/* The requests of one fetch, freed when their memory context goes. */
typedef struct SourceBatch
{
	int			n_requests;
	SourceRequest *requests;
	SbaHttpRequest *http;
} SourceBatch;

/* ---------- inside libcurl: no errors, no palloc ---------- */

static int
compare_services(const void *a, const void *b)
{
	return strcmp(((const SourceService *) a)->name, ((const SourceService *) b)->name);
}

/* Find the grid's row of a series by its labels. */
static bool
on_series(void *context, const SbaLabel *labels, size_t n_labels)
{
	SourceRequest *request = context;
	SourceService wanted = {NULL, 0};
	const SourceService *found;
	size_t		i;

	request->service = -1;
	if (sba_prometheus_reader_type(request->reader) != request->expected)
	{
		request->wrong_type = true;
		return false;
	}
	for (i = 0; i < n_labels; i++)
	{
		if (strcmp(labels[i].name, request->service_label) == 0)
			wanted.name = labels[i].value;
	}
	if (wanted.name == NULL)
	{
		request->any_nameless = true;
		return true;
	}
	request->any_service = true;
	found = bsearch(&wanted, request->services, request->grid->n_services,
					sizeof(SourceService), compare_services);
	if (found == NULL || found->index < request->first_service ||
		found->index >= request->first_service + request->n_services)
		return true;
	if (request->seen[found->index - request->first_service])
	{
		request->duplicate = found->index;
		return false;
	}
	request->seen[found->index - request->first_service] = true;
	request->service = found->index;
	return true;
}

/* Put a point into the grid's nearest slot.  What is not finite is unknown. */
static bool
on_point(void *context, double time, double value)
{
	SourceRequest *request = context;
	SbaMetricGrid *grid = request->grid;
	double		slot;

	if (request->service < 0 || !isfinite(value))
		return true;
	slot = floor((time - (double) grid->first_time) / grid->step + 0.5);
	if (slot >= request->first_slot && slot < request->first_slot + request->n_slots)
		grid->values[SBA_GRID_INDEX(grid, request->service, (int) slot,
									request->query->column)] = value;
	return true;
}

/* Keep a name; their sum is bounded by the largest answer that is accepted. */
static bool
on_name(void *context, const char *name)
{
	SourceRequest *request = context;
	size_t		length = strlen(name) + 1;

	if (length > request->names_size - request->names_length)
	{
		size_t		size = 2 * request->names_size + length + 1024;
		char	   *larger = realloc(request->names, size);

		if (larger == NULL)
		{
			request->out_of_memory = true;
			return false;
		}
		request->names = larger;
		request->names_size = size;
	}
	memcpy(request->names + request->names_length, name, length);
	request->names_length += length;
	return true;
}

/* Read a piece of an answer. */
static bool
on_body(void *context, const char *data, size_t length)
{
	SourceRequest *request = context;
	bool		success = request->http->status >= 200 && request->http->status < 300;

	if (request->reader == NULL)
	{
		SbaResultSink sink = {request, on_series, on_point, on_name};

		if (request->grid == NULL)
			sink.series = NULL, sink.point = NULL;
		request->reader = sba_prometheus_reader_create(&sink);
		if (request->reader == NULL)
		{
			request->out_of_memory = true;
			return false;
		}
	}
	if (!success)
	{
		size_t		kept = Min(length, ERROR_TEXT_BYTES - request->error_length);

		memcpy(request->error_text + request->error_length, data, kept);
		request->error_length += kept;
	}
	return sba_prometheus_reader_feed(request->reader, data, length, NULL) == SBA_OK ||
		!success;
}

/* ---------- the requests of a fetch ---------- */

/* Set the part of the grid that a request asks for to unknown. */
static void
forget_values(const SourceRequest *request)
{
	SbaMetricGrid *grid = request->grid;
	int			service;
	int			slot;

	for (service = request->first_service;
		 service < request->first_service + request->n_services; service++)
	{
		for (slot = request->first_slot; slot < request->first_slot + request->n_slots; slot++)
			grid->values[SBA_GRID_INDEX(grid, service, slot, request->query->column)] =
				get_float8_nan();
	}
}

/* Forget what was read of an answer: the request is sent again. */
static void
before_retry(void *context)
{
	SourceRequest *request = context;

	sba_prometheus_reader_destroy(request->reader);
	request->reader = NULL;
	request->service = -1;
	request->out_of_memory = false;
	request->wrong_type = false;
	request->duplicate = -1;
	request->any_service = false;
	request->any_nameless = false;
	request->names_length = 0;
	request->error_length = 0;
	if (request->grid != NULL)
	{
		memset(request->seen, 0, request->n_services * sizeof(bool));
		forget_values(request);
	}
}

static void
release_requests(void *arg)
{
	SourceBatch *batch = arg;
	int			i;

	for (i = 0; i < batch->n_requests; i++)
	{
		sba_prometheus_reader_destroy(batch->requests[i].reader);
		free(batch->requests[i].names);
	}
}

/* Make room for the requests of a fetch in the current memory context. */
static SourceBatch *
create_batch(int n_requests)
{
	SourceBatch *batch = palloc0(sizeof(SourceBatch));
	MemoryContextCallback *cleanup = palloc0(sizeof(MemoryContextCallback));
	int			i;

	batch->requests = palloc_extended(mul_size(n_requests, sizeof(SourceRequest)),
									  MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	batch->http = palloc_extended(mul_size(n_requests, sizeof(SbaHttpRequest)),
								  MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	batch->n_requests = n_requests;
	for (i = 0; i < n_requests; i++)
	{
		SourceRequest *request = &batch->requests[i];

		request->service_label = sba_service_label;
		request->service = -1;
		request->duplicate = -1;
		request->http = &batch->http[i];
		batch->http[i].on_body = on_body;
		batch->http[i].context = request;
	}
	cleanup->func = release_requests;
	cleanup->arg = batch;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, cleanup);
	return batch;
}

/* ---------- addresses and queries ---------- */

static void
require_endpoint(void)
{
	if (sba_vm_endpoint == NULL || sba_vm_endpoint[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no metric source is configured"),
				 errhint("Set smartbox_anomaly.vm_endpoint to the address of VictoriaMetrics, for example \"http://127.0.0.1:8428\".")));
}

/* The endpoint's host and port for messages, without user and password. */
static char *
endpoint_host(void)
{
	const char *begin = strstr(sba_vm_endpoint, "://");
	const char *end;
	const char *c;

	begin = begin == NULL ? sba_vm_endpoint : begin + 3;
	end = begin + strcspn(begin, "/?#");
	for (c = begin; c < end; c++)
	{
		if (*c == '@')
			begin = c + 1;
	}
	return pnstrdup(begin, end - begin);
}

/* The address of a part of the API. */
static char *
endpoint_url(const char *path)
{
	int			length = strlen(sba_vm_endpoint);

	while (length > 0 && sba_vm_endpoint[length - 1] == '/')
		length--;
	return psprintf("%.*s%s", length, sba_vm_endpoint, path);
}

/* Append a text as it has to be written in a URL or form, in UTF-8. */
static void
append_encoded(StringInfo form, const char *text)
{
	const char *c = pg_server_to_any(text, strlen(text), PG_UTF8);

	for (; *c != '\0'; c++)
	{
		if (isalnum((unsigned char) *c) && !IS_HIGHBIT_SET(*c))
			appendStringInfoChar(form, *c);
		else if (strchr("-._~", *c) != NULL)
			appendStringInfoChar(form, *c);
		else
			appendStringInfo(form, "%%%02X", (unsigned char) *c);
	}
}

/* Append a text as a quoted string of PromQL. */
static void
append_quoted(StringInfo query, const char *text)
{
	appendStringInfoChar(query, '"');
	for (; *text != '\0'; text++)
	{
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			appendStringInfo(query, "\\%c", c);
		else if (c == '\n')
			appendStringInfoString(query, "\\n");
		else if (c < 0x20 || c == 0x7F)
			appendStringInfo(query, "\\x%02x", c);
		else
			appendStringInfoChar(query, c);
	}
	appendStringInfoChar(query, '"');
}

/* Append the matcher for the given services, or for series that have any. */
static void
append_service_matcher(StringInfo selector, const char **services, int n_services)
{
	StringInfoData pattern;
	const char *c;
	int			i;

	appendStringInfoString(selector, sba_service_label);
	if (services == NULL)
	{
		appendStringInfoString(selector, "!=\"\"");
		return;
	}
	if (n_services == 1)
	{
		appendStringInfoChar(selector, '=');
		append_quoted(selector, services[0]);
		return;
	}
	initStringInfo(&pattern);
	for (i = 0; i < n_services; i++)
	{
		if (i > 0)
			appendStringInfoChar(&pattern, '|');
		for (c = services[i]; *c != '\0'; c++)
		{
			if (strchr("\\.+*?()|[]{}^$", *c) != NULL)
				appendStringInfoChar(&pattern, '\\');
			appendStringInfoChar(&pattern, *c);
		}
	}
	appendStringInfoString(selector, "=~");
	append_quoted(selector, pattern.data);
	pfree(pattern.data);
}

/*
 * The label matchers that $selector stands for.  There is always one, so
 * that a template may go on after $selector with a comma.
 */
static char *
make_selector(const char **services, int n_services)
{
	StringInfoData selector;

	initStringInfo(&selector);
	if (sba_environment != NULL && sba_environment[0] != '\0')
	{
		appendStringInfoString(&selector, "deployment_environment_name=~");
		append_quoted(&selector, sba_environment);
		appendStringInfoChar(&selector, ',');
	}
	if (sba_extra_selector != NULL && sba_extra_selector[0] != '\0')
		appendStringInfo(&selector, "%s,", sba_extra_selector);
	append_service_matcher(&selector, services, n_services);
	return selector.data;
}

/* Whether the text at c is the given variable, and not a longer name. */
static bool
is_variable(const char *c, const char *name)
{
	size_t		length = strlen(name);

	return strncmp(c, name, length) == 0 &&
		!isalnum((unsigned char) c[length]) && c[length] != '_';
}

char *
sba_expand_query(const char *query, const char **services, int n_services)
{
	char	   *selector = make_selector(services, n_services);
	StringInfoData expanded;
	const char *c = query;

	initStringInfo(&expanded);
	while (*c != '\0')
	{
		if (is_variable(c, "$selector"))
		{
			appendStringInfoString(&expanded, selector);
			c += strlen("$selector");
		}
		else if (is_variable(c, "$window"))
		{
			appendStringInfoString(&expanded, sba_rate_window);
			c += strlen("$window");
		}
		else if (is_variable(c, "$service_label"))
		{
			appendStringInfoString(&expanded, sba_service_label);
			c += strlen("$service_label");
		}
		else
			appendStringInfoChar(&expanded, *c++);
	}
	pfree(selector);
	return expanded.data;
}

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
make_form(const SourceRequest *request, bool only_these)
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
	append_encoded(&form, query);
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

/* ---------- what came of it ---------- */

/* What a request was for, for messages. */
static char *
request_subject(const SbaMetricQuery *query)
{
	return query->metric == NULL ? pstrdup("the list of services") :
		psprintf("metric \"%s\"", query->metric);
}

/*
 * Note a failure.  The texts are palloc'ed in the current context, which is
 * the caller's; the first failure of a query is kept.
 */
static void
fail_query(SbaMetricQuery *query, int sqlstate, char *message, char *detail, const char *hint)
{
	if (query->failed)
		return;
	query->failed = true;
	query->sqlstate = sqlstate;
	query->message = message;
	query->detail = detail;
	query->hint = hint == NULL ? NULL : pstrdup(hint);
}

/*
 * A text of the source as it may be shown: the first line that says
 * something, without HTML tags and control characters, not too long.
 */
static char *
readable_line(const char *text, size_t length)
{
	StringInfoData line;
	bool		in_tag = false;
	bool		in_hidden = false;
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	size_t		i;

	initStringInfo(&line);
	for (i = 0; i < length && line.len < ERROR_LINE_BYTES; i++)
	{
		unsigned char c = text[i];
		bool		separates = c == '\n' || c == '\r';

		if (c == '<')
		{
			const char *tag = text + i + 1;

			in_tag = true;
			in_hidden = length - i > 6 &&
				(pg_strncasecmp(tag, "style", 5) == 0 ||
				 pg_strncasecmp(tag, "script", 5) == 0);
			separates = true;
		}
		if (separates && line.len > 0)
			break;
		if (c == '>' && in_tag)
			in_tag = false;
		else if (!in_tag && !in_hidden && c >= 0x20 && c != 0x7F && (c != ' ' || line.len > 0))
			appendStringInfoChar(&line, (utf8 || c < 0x80) ? c : '?');
	}
	while (line.len > 0 && line.data[line.len - 1] == ' ')
		line.data[--line.len] = '\0';
	if (utf8 && !pg_verify_mbstr(PG_UTF8, line.data, line.len, true))
		line.data[pg_encoding_verifymbstr(PG_UTF8, line.data, line.len)] = '\0';
	return line.data;
}

/* Note an answer with an HTTP status that is no success, or an API error. */
static void
fail_refused(SourceRequest *request, const char *subject, const char *host)
{
	const SbaHttpRequest *http = request->http;
	const char *said = request->reader == NULL ? NULL :
		sba_prometheus_reader_server_error(request->reader);
	char	   *line;
	char	   *detail = NULL;
	const char *hint = NULL;

	line = said != NULL ? readable_line(said, strlen(said)) :
		readable_line(request->error_text, request->error_length);
	if (line[0] != '\0')
		detail = psprintf("The server said: %s", line);
	if (http->status >= 300 && http->status < 400)
		hint = "Redirects are not followed.  Set smartbox_anomaly.vm_endpoint to the address that the server redirects to.";
	else if (http->status == 401 || http->status == 403)
		hint = "The metric source asks for credentials, or does not accept the ones it got.";
	else if (http->status == 404)
		hint = "Set smartbox_anomaly.vm_endpoint to the base address of the API, without \"/api/v1\".";
	else if (http->status < 500 && request->query->metric != NULL)
		hint = "See the column \"query\" of the metric's row in smartbox.metrics.";
	fail_query(request->query, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
			   psprintf("could not fetch %s from \"%s\": HTTP status %ld",
						subject, host, http->status),
			   detail, hint);
}

/* Note that there was no answer. */
static void
fail_unanswered(SourceRequest *request, const char *subject, const char *host)
{
	const SbaHttpRequest *http = request->http;
	char	   *words = readable_line(http->message, strlen(http->message));
	char	   *detail;

	if (http->attempts > 1)
		detail = psprintf("%s.  Tried %d times.", words, http->attempts);
	else
		detail = psprintf("%s.", words);
	if (http->outcome == SBA_HTTP_TIMEOUT)
		fail_query(request->query, ERRCODE_CONNECTION_FAILURE,
				   psprintf("timed out while fetching %s from \"%s\"", subject, host),
				   detail,
				   "The time allowed is in smartbox_anomaly.vm_timeout and smartbox_anomaly.vm_connect_timeout.");
	else
		fail_query(request->query, ERRCODE_CONNECTION_FAILURE,
				   psprintf("could not fetch %s from \"%s\"", subject, host),
				   detail,
				   "Check that the metric source is running and that smartbox_anomaly.vm_endpoint is its address.");
}

static void
fail_too_large(SourceRequest *request, const char *subject, const char *host)
{
	fail_query(request->query, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   psprintf("answer for %s from \"%s\" is too large", subject, host),
			   psprintf("More than %d kB arrived.", sba_max_response_size_kb),
			   "The limit is smartbox_anomaly.max_response_size.  Does the query aggregate by service?");
}

/* Note that an answer is not of the form that it should have. */
static void
fail_unreadable(SourceRequest *request, const SbaError *error,
				const char *subject, const char *host)
{
	if (error->status == SBA_OUT_OF_MEMORY)
		fail_query(request->query, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
				   psprintf("answer for %s from \"%s\" is too complex", subject, host),
				   psprintf("The reader said: %s.", error->message), NULL);
	else
		fail_query(request->query, ERRCODE_INVALID_JSON_TEXT,
				   psprintf("could not read the answer for %s from \"%s\"", subject, host),
				   psprintf("The reader said: %s.", error->message),
				   "Is smartbox_anomaly.vm_endpoint the address of a server with the Prometheus HTTP API?");
}

static const char *
result_type_name(SbaResultType type)
{
	switch (type)
	{
		case SBA_RESULT_VECTOR:
			return "a vector";
		case SBA_RESULT_MATRIX:
			return "a matrix";
		case SBA_RESULT_SCALAR:
			return "a scalar";
		case SBA_RESULT_STRING:
			return "a string";
		case SBA_RESULT_STRINGS:
			return "an array of strings";
		case SBA_RESULT_UNKNOWN:
			break;
	}
	return "something unknown";
}

/* Judge an answer that is well-formed, or was given up for what it holds. */
static void
judge_contents(SourceRequest *request, const char *subject, const char *host)
{
	SbaMetricQuery *query = request->query;
	SbaResultType type = sba_prometheus_reader_type(request->reader);

	if (request->duplicate >= 0)
		fail_query(query, ERRCODE_CARDINALITY_VIOLATION,
				   psprintf("query of %s returned more than one series for service \"%s\"",
							subject, request->grid->services[request->duplicate]),
				   NULL,
				   psprintf("Aggregate in the query with \"by (%s)\".", request->service_label));
	else if (type != request->expected)
		fail_query(query, ERRCODE_DATATYPE_MISMATCH,
				   psprintf("query of %s returned %s instead of %s", subject,
							result_type_name(type), result_type_name(request->expected)),
				   psprintf("Asked was \"%s\".", host),
				   query->metric == NULL ? NULL :
				   "The query has to be an instant vector with one series per service.");
	else if (request->any_nameless && !request->any_service)
		fail_query(query, ERRCODE_DATATYPE_MISMATCH,
				   psprintf("query of %s returned no series with the label \"%s\"",
							subject, request->service_label),
				   psprintf("Asked was \"%s\".", host),
				   psprintf("Aggregate in the query with \"by (%s)\".", request->service_label));
}

/* Report what came of a request, unless all went well. */
static void
judge_request(SourceRequest *request, const char *host)
{
	const SbaHttpRequest *http = request->http;
	bool		success = http->status >= 200 && http->status < 300;
	char	   *subject = request_subject(request->query);
	SbaError	error = {SBA_OK, ""};

	if (request->out_of_memory)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed while reading the answer for %s.", subject)));
	if (http->outcome == SBA_HTTP_FAILED || http->outcome == SBA_HTTP_TIMEOUT)
		fail_unanswered(request, subject, host);
	else if (http->outcome == SBA_HTTP_TOO_LARGE)
		fail_too_large(request, subject, host);
	else if (!success)
		fail_refused(request, subject, host);
	else if (request->reader == NULL)
	{
		sba_fail(&error, SBA_SYNTAX, "the answer is empty");
		fail_unreadable(request, &error, subject, host);
	}
	else if (request->duplicate >= 0 || request->wrong_type)
		judge_contents(request, subject, host);
	else if (sba_prometheus_reader_finish(request->reader, &error) != SBA_OK)
		fail_unreadable(request, &error, subject, host);
	else if (sba_prometheus_reader_server_error(request->reader) != NULL)
		fail_refused(request, subject, host);
	else
		judge_contents(request, subject, host);
	pfree(subject);
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
static SourceService *
source_services(const SbaMetricGrid *grid)
{
	SourceService *services = palloc(Max(grid->n_services, 1) * sizeof(SourceService));
	int			i;

	for (i = 0; i < grid->n_services; i++)
	{
		services[i].name = pg_server_to_any(grid->services[i],
											strlen(grid->services[i]), PG_UTF8);
		services[i].index = i;
	}
	qsort(services, grid->n_services, sizeof(SourceService), compare_services);
	return services;
}

void
sba_source_fetch(SbaMetricQuery *queries, int n_queries, SbaMetricGrid *grid, bool only_these)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch;
	SourceService *services;
	SourceBatch *batch;
	List	   *parts;
	char	   *host;
	char	   *url;
	int			i;

	require_endpoint();
	for (i = 0; i < n_queries; i++)
		queries[i].failed = false;
	if (n_queries == 0 || grid->n_services == 0 || grid->n_slots == 0)
		return;

	scratch = AllocSetContextCreate(caller, "smartbox_anomaly fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	host = endpoint_host();
	url = endpoint_url(grid->n_slots == 1 ? "/api/v1/query" : "/api/v1/query_range");
	services = source_services(grid);
	parts = plan_parts(queries, n_queries, grid, only_these);
	batch = create_batch(list_length(parts));
	for (i = 0; i < batch->n_requests; i++)
	{
		SourceRequest *request = &batch->requests[i];
		Part	   *part = list_nth(parts, i);

		request->query = part->query;
		request->expected = grid->n_slots == 1 ? SBA_RESULT_VECTOR : SBA_RESULT_MATRIX;
		request->grid = grid;
		request->services = services;
		request->first_service = part->first_service;
		request->n_services = part->n_services;
		request->first_slot = part->first_slot;
		request->n_slots = part->n_slots;
		request->seen = palloc0(part->n_services * sizeof(bool));
		batch->http[i].url = url;
		batch->http[i].form = make_form(request, part->only_these);
	}
	sba_http_perform(batch->http, batch->n_requests, before_retry);

	MemoryContextSwitchTo(caller);
	for (i = 0; i < batch->n_requests; i++)
		judge_request(&batch->requests[i], host);
	for (i = 0; i < batch->n_requests; i++)
	{
		if (batch->requests[i].query->failed)
			forget_values(&batch->requests[i]);
	}
	MemoryContextDelete(scratch);
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

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Make a sorted array of the names that a request has read, each once. */
static const char **
sorted_names(const SourceRequest *request, int *n_names)
{
	const char *end = request->names + request->names_length;
	const char *name;
	const char **names;
	int			n = 0;
	int			n_unique = 0;
	int			i;

	for (name = request->names; name < end; name += strlen(name) + 1)
		n++;
	names = palloc(Max(n, 1) * sizeof(char *));
	n = 0;
	for (name = request->names; name < end; name += strlen(name) + 1)
	{
		char	   *converted = pg_any_to_server(name, strlen(name), PG_UTF8);

		/* pg_any_to_server gives back its argument when there is nothing to do */
		if (name[0] != '\0')
			names[n++] = converted == name ? pstrdup(name) : converted;
	}
	qsort(names, n, sizeof(char *), compare_names);
	for (i = 0; i < n; i++)
	{
		if (n_unique == 0 || strcmp(names[n_unique - 1], names[i]) != 0)
			names[n_unique++] = names[i];
	}
	*n_names = n_unique;
	return names;
}

const char **
sba_source_services(int *n_services)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch;
	SbaMetricQuery query = {0};
	SourceBatch *batch;
	StringInfoData url;
	pg_time_t	now = timestamptz_to_time_t(GetCurrentTimestamp());
	const char **names;

	require_endpoint();
	scratch = AllocSetContextCreate(caller, "smartbox_anomaly list of services",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	batch = create_batch(1);
	batch->requests[0].query = &query;
	batch->requests[0].expected = SBA_RESULT_STRINGS;

	initStringInfo(&url);
	appendStringInfo(&url, "%s/%s/values?match%%5B%%5D=",
					 endpoint_url("/api/v1/label"), sba_service_label);
	append_encoded(&url, sba_expand_query("{$selector}", NULL, 0));
	appendStringInfo(&url, "&start=" INT64_FORMAT "&end=" INT64_FORMAT
					 "&timeout=%dms&deny_partial_response=1",
					 (int64) now - SERVICES_LOOKBACK_S, (int64) now, sba_vm_timeout_ms);
	batch->http[0].url = url.data;
	sba_http_perform(batch->http, 1, before_retry);

	judge_request(&batch->requests[0], endpoint_host());
	if (query.failed)
		sba_source_report(&query, ERROR);

	MemoryContextSwitchTo(caller);
	names = sorted_names(&batch->requests[0], n_services);
	MemoryContextDelete(scratch);
	return names;
}
