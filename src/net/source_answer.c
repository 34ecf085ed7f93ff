/*
 * source_answer.c
 *	  A request to the metric source, and what its answer holds.
 *
 * What runs inside libcurl (on_body and the reader's callbacks) raises no
 * errors and allocates nothing from PostgreSQL: it notes what it found in the
 * request, and sba_source_judge() makes the report of it afterwards.
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "core/validation.h"
#include "net/readable_line.h"
#include "net/source_answer.h"
#include "pg/settings.h"

/* ---------- inside libcurl: no errors, no palloc ---------- */

int
sba_compare_source_services(const void *a, const void *b)
{
	return strcmp(((const SbaSourceService *) a)->name, ((const SbaSourceService *) b)->name);
}

/* Find the grid's row of a series by its labels. */
static bool
on_series(void *context, const SbaLabel *labels, size_t n_labels)
{
	SbaSourceRequest *request = context;
	SbaResultType type = sba_prometheus_reader_type(request->reader);
	SbaSourceService wanted = {NULL, 0};
	const SbaSourceService *found;
	size_t		i;

	request->service = -1;
	/* the type may also come after the series */
	if (type != SBA_RESULT_UNKNOWN && type != request->expected)
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
					sizeof(SbaSourceService), sba_compare_source_services);
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

/*
 * Put a point into the grid's nearest slot.  The grid ends before the present,
 * so that what does not fit into it may come from a clock that is ahead.
 */
static bool
on_point(void *context, double time, double value)
{
	SbaSourceRequest *request = context;
	SbaMetricGrid *grid = request->grid;
	double		first_time = (double) grid->first_time + (double) request->first_slot * grid->step;
	int			slot = 0;
	double	   *cell;

	if (request->service < 0)
		return true;
	switch (sba_slot_of_time(first_time, grid->step, request->n_slots, time, &slot))
	{
		case SBA_TIME_GOOD:
			break;
		case SBA_TIME_EARLY:
			request->n_early++;
			return true;
		case SBA_TIME_LATE:
			request->n_late++;
			return true;
	}
	cell = &grid->values[SBA_GRID_INDEX(grid, request->service, request->first_slot + slot,
										request->query->column)];
	request->n_not_finite += !isfinite(value);
	if (isnan(value))
		return true;
	request->n_twice += !isnan(*cell) && *cell != value;
	*cell = value;
	return true;
}

/* Keep a name; their sum is bounded by the largest answer that is accepted. */
static bool
on_name(void *context, const char *name)
{
	SbaSourceRequest *request = context;
	size_t		length = strlen(name) + 1;

	if (request->expected != SBA_RESULT_STRINGS)
	{
		request->wrong_type = true;
		return false;
	}
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
	SbaSourceRequest *request = context;
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
		size_t		kept = Min(length, SBA_ERROR_TEXT_BYTES - request->error_length);

		memcpy(request->error_text + request->error_length, data, kept);
		request->error_length += kept;
	}
	return sba_prometheus_reader_feed(request->reader, data, length, NULL) == SBA_OK ||
		!success;
}

/* ---------- the requests of a fetch ---------- */

void
sba_source_forget_values(const SbaSourceRequest *request)
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

void
sba_source_before_retry(void *context)
{
	SbaSourceRequest *request = context;

	sba_prometheus_reader_destroy(request->reader);
	request->reader = NULL;
	request->service = -1;
	request->out_of_memory = false;
	request->wrong_type = false;
	request->duplicate = -1;
	request->any_service = false;
	request->any_nameless = false;
	request->n_early = 0;
	request->n_late = 0;
	request->n_twice = 0;
	request->names_length = 0;
	request->error_length = 0;
	request->n_not_finite = 0;
	if (request->grid != NULL)
	{
		memset(request->seen, 0, request->n_services * sizeof(bool));
		sba_source_forget_values(request);
	}
}

static void
release_requests(void *arg)
{
	SbaSourceBatch *batch = arg;
	int			i;

	for (i = 0; i < batch->n_requests; i++)
	{
		sba_prometheus_reader_destroy(batch->requests[i].reader);
		free(batch->requests[i].names);
	}
}

SbaSourceBatch *
sba_source_batch_create(int n_requests)
{
	SbaSourceBatch *batch = palloc0(sizeof(SbaSourceBatch));
	MemoryContextCallback *cleanup = palloc0(sizeof(MemoryContextCallback));
	int			i;

	batch->requests = palloc_extended(mul_size(n_requests, sizeof(SbaSourceRequest)),
									  MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	batch->http = palloc_extended(mul_size(n_requests, sizeof(SbaHttpRequest)),
								  MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	batch->n_requests = n_requests;
	for (i = 0; i < n_requests; i++)
	{
		SbaSourceRequest *request = &batch->requests[i];

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

/* ---------- what came of it ---------- */

/* What a request was for, for messages. */
static char *
request_subject(const SbaMetricQuery *query)
{
	return query->metric == NULL ? psprintf("the list of %s", query->list) :
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

/* Note that a request was not sent. */
static void
fail_refusal(SbaMetricQuery *query, const SbaProblem *problem)
{
	fail_query(query, problem->sqlstate, pstrdup(problem->message),
			   problem->detail == NULL ? NULL : pstrdup(problem->detail), problem->hint);
}

/* Note an answer with an HTTP status that is no success, or an API error. */
static void
fail_refused(SbaSourceRequest *request, const char *subject, const char *host)
{
	const SbaHttpRequest *http = request->http;
	const char *said = request->reader == NULL ? NULL :
	sba_prometheus_reader_server_error(request->reader);
	char	   *line;
	char	   *detail = NULL;
	const char *hint = NULL;

	line = said != NULL ? sba_readable_line(said, strlen(said)) :
		sba_readable_line(request->error_text, request->error_length);
	if (line[0] != '\0')
		detail = psprintf("The server said: %s", line);
	else if (http->attempts > 1)
		detail = psprintf("Tried %d times.", http->attempts);
	if (http->out_of_time)
		hint = psprintf("The server asks to wait for %.0f s, which is longer than smartbox_anomaly.vm_total_timeout allows.",
						http->retry_after_s);
	else if (http->status >= 300 && http->status < 400)
		hint = "Redirects are not followed.  Set smartbox_anomaly.vm_endpoint to the address that the server redirects to.";
	else if (http->status == 401 || http->status == 403)
		hint = "The metric source asks for credentials, or does not accept the ones it got.  See smartbox_anomaly.vm_bearer_token_file, and smartbox_anomaly.vm_user with smartbox_anomaly.vm_password_file.";
	else if (said == NULL && (http->status == 400 || http->status == 404))
		hint = "Set smartbox_anomaly.vm_endpoint to the base address of the API, without \"/api/v1\".";
	else if (http->status < 500 && request->query->metric != NULL)
		hint = "See the column \"query\" of the metric's row in smartbox.metrics.";
	fail_query(request->query, ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
			   psprintf("could not fetch %s from \"%s\": HTTP status %ld",
						subject, host, http->status),
			   detail, hint);
}

/* Words of a library as a sentence of an error's detail. */
static char *
sentence(const char *words)
{
	char	   *text = sba_readable_line(words, strlen(words));
	size_t		length = strlen(text);

	while (length > 0 && text[length - 1] == '.')
		text[--length] = '\0';
	text[0] = pg_toupper((unsigned char) text[0]);
	return psprintf("%s.", text);
}

/* Note that there was no answer, or not all of it. */
static void
fail_unanswered(SbaSourceRequest *request, const char *subject, const char *host)
{
	const SbaHttpRequest *http = request->http;
	char	   *detail = sentence(http->message);

	if (http->attempts > 1)
		detail = psprintf("%s  Tried %d times.", detail, http->attempts);
	if (http->outcome == SBA_HTTP_TIMEOUT)
		fail_query(request->query, ERRCODE_CONNECTION_FAILURE,
				   psprintf("timed out while fetching %s from \"%s\"", subject, host),
				   detail,
				   "The time allowed is in smartbox_anomaly.vm_timeout, smartbox_anomaly.vm_total_timeout and smartbox_anomaly.vm_connect_timeout.");
	else if (http->status != 0)
		fail_query(request->query, ERRCODE_CONNECTION_FAILURE,
				   psprintf("lost the connection while fetching %s from \"%s\"", subject, host),
				   detail, NULL);
	else
		fail_query(request->query, ERRCODE_CONNECTION_FAILURE,
				   psprintf("could not fetch %s from \"%s\"", subject, host),
				   detail,
				   "Check that the metric source is running and that smartbox_anomaly.vm_endpoint is its address.");
}

static void
fail_too_large(SbaSourceRequest *request, const char *subject, const char *host)
{
	const SbaHttpRequest *http = request->http;

	fail_query(request->query, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   psprintf("answer for %s from \"%s\" is too large", subject, host),
			   http->message[0] != '\0' ? sentence(http->message) :
			   psprintf("More than %d kB arrived.", sba_max_response_size_kb),
			   "The limit is smartbox_anomaly.max_response_size.  Does the query aggregate by service?");
}

/* Note that an answer is not of the form that it should have. */
static void
fail_unreadable(SbaSourceRequest *request, const SbaError *error,
				const char *subject, const char *host)
{
	if (error->status == SBA_OUT_OF_MEMORY)
		fail_query(request->query, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
				   psprintf("answer for %s from \"%s\" is too complex", subject, host),
				   sentence(error->message), NULL);
	else
		fail_query(request->query, ERRCODE_INVALID_JSON_TEXT,
				   psprintf("could not read the answer for %s from \"%s\"", subject, host),
				   sentence(error->message),
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
judge_contents(SbaSourceRequest *request, const char *subject, const char *host)
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

/* Count what was refused of an answer that is good as a whole. */
static void
count_refused(const SbaSourceRequest *request)
{
	SbaMetricQuery *query = request->query;

	query->n_early += request->n_early;
	query->n_late += request->n_late;
	query->n_twice += request->n_twice;
}

void
sba_source_judge(SbaSourceRequest *request, const char *host)
{
	const SbaHttpRequest *http = request->http;
	bool		success = http->status >= 200 && http->status < 300;
	char	   *subject = request_subject(request->query);
	SbaError	error = {SBA_OK, ""};

	request->query->n_not_finite += request->n_not_finite;
	if (request->out_of_memory)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed while reading the answer for %s.", subject)));
	if (http->outcome == SBA_HTTP_REFUSED)
		fail_refusal(request->query, http->problem);
	else if (http->outcome == SBA_HTTP_FAILED || http->outcome == SBA_HTTP_TIMEOUT)
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
	count_refused(request);
	pfree(subject);
}
