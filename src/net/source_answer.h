/*
 * source_answer.h
 *	  A request to the metric source, and what its answer holds.
 */
#ifndef SBA_NET_SOURCE_ANSWER_H
#define SBA_NET_SOURCE_ANSWER_H

#include "core/prometheus_json.h"
#include "net/http_client.h"
#include "net/metric_source.h"

/* Of the text of an error, so much is kept. */
#define SBA_ERROR_TEXT_BYTES 1024

/* A service of the grid, by the name that the source knows it by. */
typedef struct SbaSourceService
{
	const char *name;			/* UTF-8 */
	int			index;
} SbaSourceService;

/* One HTTP request, with what its answer holds. */
typedef struct SbaSourceRequest
{
	SbaMetricQuery *query;
	const char *service_label;
	SbaResultType expected;

	/* the part of the grid that is asked for; no grid for a list of names */
	SbaMetricGrid *grid;
	const SbaSourceService *services;	/* sorted by name; all of the grid */
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
	int64		n_early;		/* points before the time asked for */
	int64		n_late;			/* after it */
	int64		n_twice;		/* of the same instant with another value */
	int64		n_not_finite;	/* points that are NaN or infinite */
	char	   *names;			/* malloc'ed, with a zero after each */
	size_t		names_length;
	size_t		names_size;
	char		error_text[SBA_ERROR_TEXT_BYTES];	/* its begin */
	size_t		error_length;
} SbaSourceRequest;

/* The requests of one fetch, freed when their memory context goes. */
typedef struct SbaSourceBatch
{
	int			n_requests;
	SbaSourceRequest *requests;
	SbaHttpRequest *http;
} SbaSourceBatch;

/* Order of the services that answers are looked up in: by name. */
extern int	sba_compare_source_services(const void *a, const void *b);

/*
 * Make room for requests in the current memory context.  What the answers
 * take beside it is freed when the context is reset or deleted.
 */
extern SbaSourceBatch *sba_source_batch_create(int n_requests);

/* Forget what was read of an answer: the request is sent again. */
extern void sba_source_before_retry(void *context);

/* Set the part of the grid that a request asks for to unknown. */
extern void sba_source_forget_values(const SbaSourceRequest *request);

/*
 * Mark the request's query as failed, with a report palloc'ed in the current
 * context, unless all went well.  host is the server's name for messages.
 */
extern void sba_source_judge(SbaSourceRequest *request, const char *host);

#endif							/* SBA_NET_SOURCE_ANSWER_H */
