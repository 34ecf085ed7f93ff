/*
 * http_client.c
 *	  Several HTTP requests at once over libcurl's multi interface, waiting on
 *	  the process latch.
 *
 * Rules that the code below keeps:
 *	- Interrupts are served between calls into libcurl, never inside.
 *	- Callbacks neither raise errors nor allocate from PostgreSQL.
 *	- The handles of a call are freed by a callback of a memory context that
 *	  is deleted when the call ends, in whatever way.
 */
#include "postgres.h"

#include <math.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "net/http_client.h"
#include "net/http_pool.h"
#include "pg/breaker_registry.h"
#include "pg/settings.h"

#define FIRST_BACKOFF_MS	100
#define LONGEST_BACKOFF_MS	5000
#define SHORTEST_ATTEMPT_MS 1000	/* what a last attempt is worth making for */
#define STALL_MS			5000	/* silence in the middle of an answer */
#define LEASE_MARGIN_MS		2000	/* of a probe, beside its timeout */
#define MAX_HEADER_BYTES	65536
#define MAX_ERROR_BODY		16384	/* of an answer that is no success */

typedef struct Transfer
{
	SbaHttpRequest *request;
	CURL	   *easy;			/* NULL when not started, or done with */
	struct curl_slist *headers; /* of this one alone; NULL: the usual ones */
	enum
	{
		TRANSFER_WAITING = 0,	/* to be sent at not_before_ms */
		TRANSFER_RUNNING,
		TRANSFER_FINISHED
	}			state;
	double		not_before_ms;
	double		deadline_ms;	/* of the last attempt; set by the first */
	double		last_data_ms;	/* when something of the body last arrived */
	size_t		header_bytes;
	bool		too_large;
	bool		stopped;		/* on_body had enough */
	bool		truncated;		/* enough of an error answer was read */
	char		curl_message[CURL_ERROR_SIZE];
} Transfer;

/* One call of sba_http_perform. */
typedef struct Batch
{
	Transfer   *transfers;
	int			n_transfers;
	int			n_running;
	int			n_finished;
	void		(*before_retry) (void *context);
	SbaHttpAccess access;

	/* for the circuit breaker */
	SbaBreakerPolicy policy;
	SbaBreakerPermit permit;
	bool		admitted;		/* and the outcome is not reported yet */
	int			n_answered;		/* requests that the server gave an answer to */
	const char *failure;		/* why the first one without failed, or NULL */
} Batch;

/* Whether a batch is under way. */
static bool busy = false;

/* ---------- callbacks of libcurl ---------- */

/* Count the bytes of the headers; the answer's size limit is for its body. */
static size_t
on_header(char *data, size_t size, size_t n, void *context)
{
	Transfer   *transfer = context;

	transfer->header_bytes += size * n;
	if (transfer->header_bytes > MAX_HEADER_BYTES)
	{
		transfer->too_large = true;
		return 0;
	}
	return size * n;
}

/* Hand on a piece of the decoded body. */
static size_t
on_write(char *data, size_t size, size_t n, void *context)
{
	Transfer   *transfer = context;
	SbaHttpRequest *request = transfer->request;
	size_t		length = size * n;
	bool		success;

	transfer->last_data_ms = sba_now_ms();
	if (request->body_bytes == 0)
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	success = request->status >= 200 && request->status < 300;
	if (success &&
		length > (size_t) sba_max_response_size_kb * 1024 - request->body_bytes)
	{
		transfer->too_large = true;
		return 0;
	}
	if (!success && length > MAX_ERROR_BODY - request->body_bytes)
	{
		/* the beginning of an error's text is enough */
		transfer->truncated = true;
		length = MAX_ERROR_BODY - request->body_bytes;
	}
	request->body_bytes += length;
	if (length > 0 && request->on_body != NULL &&
		!request->on_body(request->context, data, length))
	{
		transfer->stopped = true;
		return 0;
	}
	return transfer->truncated ? 0 : length;
}

/* ---------- one transfer ---------- */

/* The headers of every request, and those that the caller adds. */
static void
set_headers(Transfer *transfer)
{
	const char *const *line = transfer->request->headers;

	if (line == NULL)
	{
		SBA_SET_OPTION(transfer->easy, CURLOPT_HTTPHEADER, sba_http_pool_headers());
		return;
	}
	transfer->headers = sba_http_pool_headers_with(line);
	if (transfer->headers == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create an HTTP request")));
	SBA_SET_OPTION(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
}

/* Set up the handle of a transfer. */
static void
prepare_transfer(const Batch *batch, Transfer *transfer)
{
	SbaHttpRequest *request = transfer->request;
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create an HTTP request")));
	transfer->easy = easy;

	SBA_SET_OPTION(easy, CURLOPT_PRIVATE, transfer);
	SBA_SET_OPTION(easy, CURLOPT_URL, request->url);
	if (request->body != NULL)
	{
		SBA_SET_OPTION(easy, CURLOPT_POSTFIELDS, request->body);
		SBA_SET_OPTION(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(request->body));
	}
	set_headers(transfer);
	SBA_SET_OPTION(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SBA_SET_OPTION(easy, CURLOPT_USERAGENT, "smartbox_anomaly");
	SBA_SET_OPTION(easy, CURLOPT_ACCEPT_ENCODING, "gzip");

	sba_http_access_apply(&batch->access, easy);

	SBA_SET_OPTION(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* a cancel does not wait for the thread that resolves the name */
	SBA_SET_OPTION(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	SBA_SET_OPTION(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) batch->access.endpoint->connect_timeout_ms);

	SBA_SET_OPTION(easy, CURLOPT_ERRORBUFFER, transfer->curl_message);
	SBA_SET_OPTION(easy, CURLOPT_HEADERFUNCTION, on_header);
	SBA_SET_OPTION(easy, CURLOPT_HEADERDATA, transfer);
	SBA_SET_OPTION(easy, CURLOPT_WRITEFUNCTION, on_write);
	SBA_SET_OPTION(easy, CURLOPT_WRITEDATA, transfer);
}

/* Give a transfer's handle back to libcurl. */
static void
release_transfer(Transfer *transfer)
{
	sigset_t	saved;

	if (transfer->easy == NULL)
		return;
	if (transfer->state == TRANSFER_RUNNING)
		sba_http_pool_remove(transfer->easy);
	sba_block_signals(&saved);
	curl_easy_cleanup(transfer->easy);
	curl_slist_free_all(transfer->headers);
	sba_restore_signals(&saved);
	transfer->easy = NULL;
	transfer->headers = NULL;
}

static void
start_transfer(Batch *batch, Transfer *transfer)
{
	const SbaHttpEndpoint *endpoint = batch->access.endpoint;
	SbaHttpRequest *request = transfer->request;
	double		now = sba_now_ms();

	if (transfer->easy == NULL)
		prepare_transfer(batch, transfer);
	if (request->attempts == 0)
		transfer->deadline_ms = now + Max(endpoint->timeout_ms, endpoint->total_timeout_ms);
	SBA_SET_OPTION(transfer->easy, CURLOPT_TIMEOUT_MS,
				   (long) Max(Min(endpoint->timeout_ms, transfer->deadline_ms - now), 1));
	request->status = 0;
	request->body_bytes = 0;
	request->attempts++;
	transfer->header_bytes = 0;
	transfer->too_large = false;
	transfer->stopped = false;
	transfer->truncated = false;
	transfer->last_data_ms = 0;
	transfer->curl_message[0] = '\0';

	sba_http_pool_add(transfer->easy);
	transfer->state = TRANSFER_RUNNING;
	batch->n_running++;
}

/* Judge how a transfer ended. */
static void
note_outcome(Transfer *transfer, CURLcode code)
{
	SbaHttpRequest *request = transfer->request;
	curl_off_t	retry_after_s = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
	request->retry_after_s = retry_after_s;
	request->message[0] = '\0';
	if (transfer->stopped)
		request->outcome = SBA_HTTP_STOPPED;
	else if (transfer->too_large)
	{
		request->outcome = SBA_HTTP_TOO_LARGE;
		if (transfer->header_bytes > MAX_HEADER_BYTES)
			strlcpy(request->message, "more than 64 kB of headers arrived",
					sizeof(request->message));
	}
	else if (code == CURLE_OK || transfer->truncated)
		request->outcome = SBA_HTTP_DONE;
	else
	{
		request->outcome = code == CURLE_OPERATION_TIMEDOUT ?
			SBA_HTTP_TIMEOUT : SBA_HTTP_FAILED;
		strlcpy(request->message, transfer->curl_message[0] != '\0' ?
				transfer->curl_message : curl_easy_strerror(code),
				sizeof(request->message));
	}
}

/* Whether there was no answer for a reason that may be gone a moment later. */
static bool
is_unanswered(const SbaHttpRequest *request, CURLcode code)
{
	if (request->outcome == SBA_HTTP_TIMEOUT)
		return true;
	return request->outcome == SBA_HTTP_FAILED &&
		(code == CURLE_COULDNT_CONNECT || code == CURLE_GOT_NOTHING ||
		 code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
		 code == CURLE_PARTIAL_FILE);
}

/*
 * Whether the same request may go well a moment later.  Reading metrics
 * changes nothing at the source, so that a connection that broke half-way
 * counts too.
 */
static bool
worth_retrying(const SbaHttpRequest *request, CURLcode code)
{
	if (request->outcome == SBA_HTTP_DONE)
		return request->status == 500 || request->status == 502 ||
			request->status == 503 || request->status == 504;
	return is_unanswered(request, code);
}

/*
 * When a transfer that has just ended is sent again, or 0 when it is not: it
 * has had its attempts, or the time is not enough for one more.
 */
static double
time_of_retry(const Batch *batch, Transfer *transfer, CURLcode code)
{
	SbaHttpRequest *request = transfer->request;
	const SbaHttpEndpoint *endpoint = batch->access.endpoint;
	double		shortest_ms = Min(SHORTEST_ATTEMPT_MS, endpoint->timeout_ms / 2.0);
	double		pause_ms = FIRST_BACKOFF_MS * pow(2, request->attempts - 1);
	double		asked_ms = 0;
	double		at_ms;

	if (!worth_retrying(request, code) || request->attempts > endpoint->max_retries ||
		batch->permit.verdict == SBA_BREAKER_PROBE)
		return 0;
	/* the jitter keeps many clients of a server that recovers apart */
	pause_ms = Min(pause_ms, LONGEST_BACKOFF_MS) *
		(0.5 + pg_prng_double(&pg_global_prng_state));
	if (request->outcome == SBA_HTTP_DONE)
		asked_ms = request->retry_after_s * 1000.0;
	at_ms = sba_now_ms() + Max(pause_ms, asked_ms);
	if (at_ms + shortest_ms <= transfer->deadline_ms)
		return at_ms;
	request->out_of_time = asked_ms > 0;
	return 0;
}

/*
 * When a server gives no answer in spite of all retries, do not make the
 * requests of this call that were not sent yet wait for it as long.
 */
static void
give_up_server(Batch *batch, const SbaHttpRequest *failed)
{
	int			i;

	for (i = 0; i < batch->n_transfers; i++)
	{
		Transfer   *transfer = &batch->transfers[i];
		SbaHttpRequest *request = transfer->request;

		if (transfer->state != TRANSFER_WAITING || request->attempts > 0)
			continue;
		request->status = failed->status;
		request->outcome = failed->outcome;
		strlcpy(request->message, failed->message, sizeof(request->message));
		transfer->state = TRANSFER_FINISHED;
		batch->n_finished++;
	}
}

/* Report to the circuit breaker what came of the call; once. */
static void
settle(Batch *batch)
{
	SbaBreakerOutcome outcome = SBA_BREAKER_UNDECIDED;

	if (!batch->admitted)
		return;
	batch->admitted = false;
	if (batch->n_answered > 0)
		outcome = SBA_BREAKER_ANSWERED;
	else if (batch->failure != NULL)
		outcome = SBA_BREAKER_FAILED;
	sba_breaker_settle(batch->access.endpoint->address, &batch->policy, &batch->permit,
					   outcome, batch->failure);
}

/* Note what the end of a request says of the server. */
static void
weigh_outcome(Batch *batch, const SbaHttpRequest *request, CURLcode code)
{
	bool		arrived = request->outcome != SBA_HTTP_FAILED && request->outcome != SBA_HTTP_TIMEOUT;
	bool		probing = batch->permit.verdict == SBA_BREAKER_PROBE;

	if (arrived && request->status < 500)
		batch->n_answered++;
	else if (batch->failure == NULL &&
			 (arrived || is_unanswered(request, code) || code == CURLE_COULDNT_RESOLVE_HOST))
		batch->failure = arrived ? psprintf("HTTP status %ld", request->status) :
			pstrdup(request->message);
	/* the others of a probe's call go the way of its first request */
	if (batch->n_answered == 0 ? probing || !arrived : request->status == 0)
		give_up_server(batch, request);
	if (probing)
	{
		settle(batch);
		batch->permit.verdict = SBA_BREAKER_GO;
	}
}

/* A running transfer has ended: finish it, or have it sent again later. */
static void
end_transfer(Batch *batch, Transfer *transfer, CURLcode code)
{
	SbaHttpRequest *request = transfer->request;

	note_outcome(transfer, code);
	sba_http_pool_remove(transfer->easy);
	transfer->state = TRANSFER_WAITING;
	batch->n_running--;
	transfer->not_before_ms = time_of_retry(batch, transfer, code);
	if (transfer->not_before_ms > 0)
	{
		if (batch->before_retry != NULL)
			batch->before_retry(request->context);
		return;
	}
	release_transfer(transfer);
	transfer->state = TRANSFER_FINISHED;
	batch->n_finished++;
	weigh_outcome(batch, request, code);
}

/* ---------- the loop ---------- */

/* End transfers that fell silent in the middle of an answer. */
static void
end_stalled(Batch *batch)
{
	double		now = sba_now_ms();
	int			i;

	for (i = 0; i < batch->n_transfers; i++)
	{
		Transfer   *transfer = &batch->transfers[i];

		if (transfer->state == TRANSFER_RUNNING && transfer->last_data_ms > 0 &&
			now - transfer->last_data_ms >= STALL_MS)
		{
			snprintf(transfer->curl_message, sizeof(transfer->curl_message),
					 "Nothing arrived for %d ms in the middle of the answer",
					 STALL_MS);
			end_transfer(batch, transfer, CURLE_OPERATION_TIMEDOUT);
		}
	}
}

/* How many requests may be under way. */
static int
most_running(const Batch *batch)
{
	return batch->permit.verdict == SBA_BREAKER_PROBE ? 1 : SBA_MAX_CONNECTIONS;
}

/* Start what is due, as far as the number of connections allows. */
static void
start_due(Batch *batch)
{
	double		now = sba_now_ms();
	int			most = most_running(batch);
	int			i;

	for (i = 0; i < batch->n_transfers && batch->n_running < most; i++)
	{
		Transfer   *transfer = &batch->transfers[i];

		if (transfer->state == TRANSFER_WAITING && transfer->not_before_ms <= now)
			start_transfer(batch, transfer);
	}
}

/* Finish what libcurl says has ended. */
static void
collect_ended(Batch *batch)
{
	CURL	   *easy;
	CURLcode	result;

	while ((easy = sba_http_pool_ended(&result)) != NULL)
	{
		char	   *transfer;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
		end_transfer(batch, (Transfer *) transfer, result);
	}
}

/* Wait for libcurl, the latch, or the next thing to do. */
static void
wait_for_something(const Batch *batch)
{
	double		until_ms = sba_now_ms() + 60000;
	int			i;

	for (i = 0; i < batch->n_transfers; i++)
	{
		const Transfer *transfer = &batch->transfers[i];

		if (transfer->state == TRANSFER_WAITING && batch->n_running < most_running(batch))
			until_ms = Min(until_ms, transfer->not_before_ms);
		else if (transfer->state == TRANSFER_RUNNING && transfer->last_data_ms > 0)
			until_ms = Min(until_ms, transfer->last_data_ms + STALL_MS);
	}
	sba_http_pool_wait(until_ms);
}

static void
run_batch(Batch *batch)
{
	while (batch->n_finished < batch->n_transfers)
	{
		CHECK_FOR_INTERRUPTS();
		start_due(batch);
		if (!sba_http_pool_drive())
			wait_for_something(batch);
		collect_ended(batch);
		end_stalled(batch);
	}
}

/*
 * Free what is left of a batch: nothing after success, all after an error.
 * A call that was cancelled says nothing of the server.
 */
static void
release_batch(void *arg)
{
	Batch	   *batch = arg;
	int			i;

	for (i = 0; i < batch->n_transfers; i++)
		release_transfer(&batch->transfers[i]);
	sba_http_access_close(&batch->access);
	if (batch->admitted)
	{
		batch->admitted = false;
		sba_breaker_settle(batch->access.endpoint->address, &batch->policy,
						   &batch->permit, SBA_BREAKER_UNDECIDED, NULL);
	}
	busy = false;
}

/* The report of a call that the circuit breaker refuses. */
static void
describe_refusal(const SbaHttpEndpoint *endpoint, const SbaBreakerPermit *permit,
				 SbaProblem *problem)
{
	const char *until = timestamptz_to_str(permit->until_us);

	problem->sqlstate = ERRCODE_CONNECTION_FAILURE;
	if (permit->probe_under_way)
		problem->message = psprintf("circuit breaker of \"%s\" is half-open: another session's probe is under way, for %s at most",
									endpoint->host, until);
	else
		problem->message = psprintf("circuit breaker of \"%s\" is open until %s",
									endpoint->host, until);
	problem->detail = pstrdup("The server did not answer the calls before this one, so it is not asked now.");
	problem->hint = pstrdup("See smartbox.circuit_breakers; when the server works again, reset_circuit_breaker() ends the wait.");
}

/*
 * Whether a call may go out: its secrets can be read, and the circuit breaker
 * lets it.
 */
static bool
may_begin(Batch *batch, const SbaHttpEndpoint *endpoint, SbaProblem *problem)
{
	if (!sba_http_access_open(&batch->access, endpoint, problem))
		return false;
	batch->permit.verdict = SBA_BREAKER_GO;
	if (!endpoint->has_breaker)
		return true;
	batch->policy.failures = sba_circuit_breaker_failures;
	batch->policy.open_us = (int64) sba_circuit_breaker_timeout_ms * 1000;
	batch->policy.lease_us = ((int64) endpoint->timeout_ms + LEASE_MARGIN_MS) * 1000;
	batch->permit = sba_breaker_admit(endpoint->address, &batch->policy);
	batch->admitted = batch->permit.verdict != SBA_BREAKER_REFUSED;
	if (!batch->admitted)
		describe_refusal(endpoint, &batch->permit, problem);
	return batch->admitted;
}

/* A batch in the current memory context, whose end frees what it holds. */
static Batch *
make_batch(SbaHttpRequest *requests, int n_requests, void (*before_retry) (void *context))
{
	MemoryContextCallback *cleanup = palloc0(sizeof(MemoryContextCallback));
	Batch	   *batch = palloc0(sizeof(Batch));
	int			i;

	batch->transfers = palloc_extended(mul_size(n_requests, sizeof(Transfer)),
									   MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	batch->n_transfers = n_requests;
	batch->before_retry = before_retry;
	for (i = 0; i < n_requests; i++)
	{
		batch->transfers[i].request = &requests[i];
		requests[i].status = 0;
		requests[i].outcome = SBA_HTTP_FAILED;
		requests[i].message[0] = '\0';
		requests[i].problem = NULL;
		requests[i].body_bytes = 0;
		requests[i].attempts = 0;
		requests[i].retry_after_s = 0;
		requests[i].out_of_time = false;
	}
	cleanup->func = release_batch;
	cleanup->arg = batch;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, cleanup);
	busy = true;
	return batch;
}

void
sba_http_perform(const SbaHttpEndpoint *endpoint, SbaHttpRequest *requests,
				 int n_requests, void (*before_retry) (void *context))
{
	MemoryContext context;
	MemoryContext caller = CurrentMemoryContext;
	SbaProblem *problem;
	Batch	   *batch;
	int			i;

	if (n_requests == 0)
		return;
	if (busy)
		elog(ERROR, "HTTP requests are already being performed");

	problem = palloc0(sizeof(SbaProblem));
	sba_http_pool_open();
	context = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly HTTP requests",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	batch = make_batch(requests, n_requests, before_retry);
	MemoryContextSwitchTo(caller);

	PG_TRY();
	{
		if (may_begin(batch, endpoint, problem))
		{
			MemoryContextSwitchTo(context);
			run_batch(batch);
			settle(batch);
		}
		else
		{
			for (i = 0; i < n_requests; i++)
			{
				requests[i].outcome = SBA_HTTP_REFUSED;
				requests[i].problem = problem;
			}
		}
	}
	PG_FINALLY();
	{
		/*
		 * At once, also after an error: who catches it in a subtransaction
		 * may call again before the context goes by itself, and the handles
		 * of this call must not be driven any more.
		 */
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(context);
	}
	PG_END_TRY();
}
