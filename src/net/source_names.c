/*
 * source_names.c
 *	  What the metric source has: its services, metrics and labels.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "net/source_answer.h"
#include "net/source_names.h"
#include "net/source_query.h"
#include "pg/settings.h"

/* Services that have reported within this time exist. */
#define SERVICES_LOOKBACK_S (24 * 60 * 60)

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Make a sorted array of the names that a request has read, each once. */
static const char **
sorted_names(const SbaSourceRequest *request, int *n_names)
{
	const char *end = request->names + request->names_length;
	const char *name;
	const char **names;
	int			n = 0;
	int			n_unique = 0;
	int			i;

	for (name = request->names; name < end; name += strlen(name) + 1)
		n++;
	names = palloc_extended(mul_size(Max(n, 1), sizeof(char *)), MCXT_ALLOC_HUGE);
	n = 0;
	for (name = request->names; name < end; name += strlen(name) + 1)
	{
		char	   *converted = pg_any_to_server(name, strlen(name), PG_UTF8);

		/* the same pointer comes back when nothing is to be converted */
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

static char *
list_url(const SbaHttpEndpoint *endpoint, SbaSourceListKind kind, int64 since, int64 until)
{
	const char *path = kind == SBA_LIST_SERVICES ? psprintf("/api/v1/label/%s/values", sba_service_label) :
	kind == SBA_LIST_METRICS ? "/api/v1/label/__name__/values" : "/api/v1/labels";
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfo(&url, "%s?start=" INT64_FORMAT "&end=" INT64_FORMAT
					 "&timeout=%dms&deny_partial_response=1",
					 sba_endpoint_url(endpoint, path), since, until, sba_vm_timeout_ms);
	if (kind == SBA_LIST_SERVICES)
	{
		appendStringInfoString(&url, "&match%5B%5D=");
		sba_append_encoded(&url, sba_expand_query("{$selector}", NULL, 0));
	}
	return url.data;
}

void
sba_source_lists(SbaSourceList *lists, int n_lists, int64 since, int64 until)
{
	static const char *const subjects[] = {"services", "metrics", "labels"};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch;
	SbaHttpEndpoint *endpoint;
	SbaSourceBatch *batch;
	int			i;

	sba_require_endpoint();
	scratch = AllocSetContextCreate(caller, "smartbox_anomaly lists of names", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	endpoint = sba_source_endpoint();
	batch = sba_source_batch_create(n_lists);
	for (i = 0; i < n_lists; i++)
	{
		lists[i].query = (SbaMetricQuery)
		{
			.list = subjects[lists[i].kind]
		};
		batch->requests[i].query = &lists[i].query;
		batch->requests[i].expected = SBA_RESULT_STRINGS;
		batch->http[i].url = list_url(endpoint, lists[i].kind, since, until);
	}
	sba_http_perform(endpoint, batch->http, n_lists, sba_source_before_retry);

	MemoryContextSwitchTo(caller);
	for (i = 0; i < n_lists; i++)
	{
		sba_source_judge(&batch->requests[i], endpoint->host);
		lists[i].n_names = 0;
		if (!lists[i].query.failed)
			lists[i].names = sorted_names(&batch->requests[i], &lists[i].n_names);
	}
	MemoryContextDelete(scratch);
}

const char **
sba_source_services(int *n_services)
{
	SbaSourceList list = {.kind = SBA_LIST_SERVICES};
	pg_time_t	now = timestamptz_to_time_t(GetCurrentTimestamp());

	sba_source_lists(&list, 1, (int64) now - SERVICES_LOOKBACK_S, (int64) now);
	if (list.query.failed)
		sba_source_report(&list.query, ERROR);
	*n_services = list.n_names;
	return list.names;
}

bool
sba_source_list_has(const SbaSourceList *list, const char *name)
{
	return list->n_names > 0 &&
		bsearch(&name, list->names, list->n_names, sizeof(char *), compare_names) != NULL;
}
