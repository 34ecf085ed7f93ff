/*
 * series_sender.c
 *	  Series to where other programs look for metrics, by VictoriaMetrics'
 *	  import API.
 *
 * The source's circuit breaker has no part in it: an endpoint that does not
 * take series may well be one that answers queries.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "net/answer_note.h"
#include "net/series_sender.h"
#include "net/source_query.h"
#include "pg/settings.h"

#define IMPORT_PATH "/api/v1/import/prometheus"

SbaHttpEndpoint *
sba_series_endpoint(void)
{
	SbaHttpEndpoint *endpoint;

	if (sba_write_back_endpoint == NULL || sba_write_back_endpoint[0] == '\0')
		return NULL;
	endpoint = sba_endpoint_at(sba_write_back_endpoint);
	endpoint->what = "the endpoint for series";
	endpoint->max_retries = 0;	/* the next cycle sends it again */
	endpoint->has_breaker = false;
	return endpoint;
}

const char *
sba_send_series(const SbaHttpEndpoint *endpoint, const char *lines)
{
	static const char *const headers[] = {"Content-Type: text/plain; version=0.0.4", NULL};
	SbaHttpRequest request = {0};

	request.url = sba_endpoint_url(endpoint, IMPORT_PATH);
	request.body = pg_server_to_any(lines, strlen(lines), PG_UTF8);
	request.headers = headers;
	sba_keep_answer(&request);
	sba_http_perform(endpoint, &request, 1, NULL);
	return sba_answer_error(&request);
}
