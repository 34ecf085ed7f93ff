/*
 * http_client.h
 *	  Several HTTP requests at once over libcurl's multi interface, waiting on
 *	  the process latch.
 *
 * Every wait can be ended by a query cancel, statement_timeout or a shutdown;
 * all handles belong to the current memory context and go with it.
 */
#ifndef SBA_NET_HTTP_CLIENT_H
#define SBA_NET_HTTP_CLIENT_H

#include "core/status.h"
#include "net/http_endpoint.h"

typedef struct SbaHttpRequest
{
	/* what to ask */
	const char *url;
	const char *body;			/* of a POST; NULL means GET */
	const char *const *headers; /* further lines, ended by NULL; or NULL */

	/*
	 * Called for each piece of the decoded body of an answer; status is known
	 * by then.  Of an answer that is no success, only the first 16 kB come.
	 * Runs inside libcurl: must not raise errors nor use palloc.  Returning
	 * false ends this request (outcome = SBA_HTTP_STOPPED).
	 */
	bool		(*on_body) (void *context, const char *data, size_t length);
	void	   *context;

	/* what came of it */
	long		status;			/* HTTP status, 0 when there was no answer */
	enum
	{
		SBA_HTTP_DONE = 0,		/* an answer arrived, whatever it says */
		SBA_HTTP_FAILED,		/* no answer, or not all of it: see message */
		SBA_HTTP_TIMEOUT,
		SBA_HTTP_TOO_LARGE,
		SBA_HTTP_STOPPED,
		SBA_HTTP_REFUSED		/* not sent at all: see problem */
	}			outcome;
	char		message[SBA_MESSAGE_SIZE];	/* libcurl's words; no secrets */
	const SbaProblem *problem;	/* palloc'ed in the context of the call */
	size_t		body_bytes;		/* decoded bytes handed to on_body */
	int			attempts;
	double		retry_after_s;	/* for how long the last answer asks to wait */
	bool		out_of_time;	/* which is longer than there is time */
} SbaHttpRequest;

/*
 * Perform all requests, which go to one endpoint, and return when each has an
 * outcome.  Raises an error only for cancel, shutdown and want of memory: a
 * failing request is for the caller to judge.  before_retry(context) is called
 * before a request is sent again so that the caller can forget what it had
 * read; may be NULL.
 *
 * Timeouts and retries are the endpoint's, size limits come from the settings.
 * Sent again,
 * after a growing pause or the one that the server asks for, is what met status
 * 500, 502, 503 or 504, a timeout, or a connection that was refused or broke.
 * While not one request was answered, those that were not sent yet fail with
 * the first that gets no answer.
 *
 * If the endpoint has a circuit breaker, the call counts once with it: as answered when
 * any request was, as failed when the server did not answer or answered with
 * nothing but 5xx.  While the breaker is open every request is refused; when it
 * lets a probe out, the first request is sent alone and once.
 */
extern void sba_http_perform(const SbaHttpEndpoint *endpoint,
							 SbaHttpRequest *requests, int n_requests,
							 void (*before_retry) (void *context));

#endif							/* SBA_NET_HTTP_CLIENT_H */
