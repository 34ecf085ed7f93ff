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

#include "net/http_client.h"
#include "net/http_pool.h"
#include "pg/settings.h"

#define FIRST_BACKOFF_MS	100
#define LONGEST_BACKOFF_MS	5000
#define STALL_MS			5000	/* silence in the middle of an answer */
#define MAX_HEADER_BYTES	65536
#define MAX_ERROR_BODY		16384	/* of an answer that is no success */

typedef struct Transfer
{
	SbaHttpRequest *request;
	CURL	   *easy;			/* NULL when not started, or done with */
	enum
	{
		TRANSFER_WAITING = 0,	/* to be sent at not_before_ms */
		TRANSFER_RUNNING,
		TRANSFER_FINISHED
	}			state;
	double		not_before_ms;
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

#define SET_OPTION(easy, option, value) \
	do { \
		CURLcode	set_option_code = curl_easy_setopt(easy, option, value); \
		if (set_option_code != CURLE_OK) \
			ereport(ERROR, \
					(errcode(set_option_code == CURLE_OUT_OF_MEMORY ? \
							 ERRCODE_OUT_OF_MEMORY : ERRCODE_INTERNAL_ERROR), \
					 errmsg("could not set libcurl option %s: %s", #option, \
							curl_easy_strerror(set_option_code)))); \
	} while (0)

/*
 * Set up the handle of a transfer.  Whatever libcurl would take from the
 * environment or from files (proxy, netrc, cookies) is off, and the answer
 * decides nothing about where the server connects to.
 */
static void
prepare_transfer(Transfer *transfer)
{
	SbaHttpRequest *request = transfer->request;
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not create an HTTP request")));
	transfer->easy = easy;

	SET_OPTION(easy, CURLOPT_PRIVATE, transfer);
	SET_OPTION(easy, CURLOPT_URL, request->url);
	if (request->form != NULL)
	{
		SET_OPTION(easy, CURLOPT_POSTFIELDS, request->form);
		SET_OPTION(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(request->form));
	}
	SET_OPTION(easy, CURLOPT_HTTPHEADER, sba_http_pool_headers());
	SET_OPTION(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET_OPTION(easy, CURLOPT_USERAGENT, "smartbox_anomaly");
	SET_OPTION(easy, CURLOPT_ACCEPT_ENCODING, "gzip");

#if LIBCURL_VERSION_NUM >= 0x075500
	SET_OPTION(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET_OPTION(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET_OPTION(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET_OPTION(easy, CURLOPT_PROXY, "");
	SET_OPTION(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET_OPTION(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	SET_OPTION(easy, CURLOPT_SSL_VERIFYHOST, 2L);

	SET_OPTION(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* a cancel does not wait for the thread that resolves the name */
	SET_OPTION(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	SET_OPTION(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) sba_vm_connect_timeout_ms);
	SET_OPTION(easy, CURLOPT_TIMEOUT_MS, (long) sba_vm_timeout_ms);

	SET_OPTION(easy, CURLOPT_ERRORBUFFER, transfer->curl_message);
	SET_OPTION(easy, CURLOPT_HEADERFUNCTION, on_header);
	SET_OPTION(easy, CURLOPT_HEADERDATA, transfer);
	SET_OPTION(easy, CURLOPT_WRITEFUNCTION, on_write);
	SET_OPTION(easy, CURLOPT_WRITEDATA, transfer);
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
	sba_restore_signals(&saved);
	transfer->easy = NULL;
}

static void
start_transfer(Batch *batch, Transfer *transfer)
{
	SbaHttpRequest *request = transfer->request;

	if (transfer->easy == NULL)
		prepare_transfer(transfer);
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

/*
 * Keep libcurl's words about a failure, unless they quote the password that
 * the URL may carry.
 */
static void
keep_message(SbaHttpRequest *request, const char *words)
{
	const char *begin = strstr(request->url, "://");
	const char *end;

	if (begin != NULL)
	{
		begin += 3;
		end = begin + strcspn(begin, "/?#");
		while (end > begin && *end != '@')
			end--;
		if (end > begin)
		{
			char	   *userinfo = pnstrdup(begin, end - begin);
			char	   *password = strchr(userinfo, ':');

			if (strstr(words, userinfo) != NULL ||
				(password != NULL && password[1] != '\0' &&
				 strstr(words, password + 1) != NULL))
				words = "the request failed";
			pfree(userinfo);
		}
	}
	strlcpy(request->message, words, sizeof(request->message));
}

/* Judge how a transfer ended. */
static void
note_outcome(Transfer *transfer, CURLcode code)
{
	SbaHttpRequest *request = transfer->request;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
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
		keep_message(request, transfer->curl_message[0] != '\0' ?
					 transfer->curl_message : curl_easy_strerror(code));
	}
}

/*
 * Whether the same request may go well a moment later.  Reading metrics
 * changes nothing at the source, so that a connection that broke half-way
 * counts too.
 */
static bool
worth_retrying(const SbaHttpRequest *request, CURLcode code)
{
	switch (request->outcome)
	{
		case SBA_HTTP_DONE:
			return request->status == 500 || request->status == 502 ||
				request->status == 503 || request->status == 504;
		case SBA_HTTP_TIMEOUT:
			return true;
		case SBA_HTTP_FAILED:
			return code == CURLE_COULDNT_CONNECT || code == CURLE_GOT_NOTHING ||
				code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
				code == CURLE_PARTIAL_FILE;
		default:
			return false;
	}
}

/*
 * When a server did not answer one request in spite of all retries, do not
 * make the others of this call wait for it as long, one after the other.
 */
static void
give_up_server(Batch *batch, const SbaHttpRequest *failed)
{
	int			i;

	for (i = 0; i < batch->n_transfers; i++)
	{
		Transfer   *transfer = &batch->transfers[i];
		SbaHttpRequest *request = transfer->request;

		if (transfer->state != TRANSFER_WAITING || request->attempts > 0 ||
			strcmp(request->url, failed->url) != 0)
			continue;
		request->outcome = failed->outcome;
		strlcpy(request->message, failed->message, sizeof(request->message));
		transfer->state = TRANSFER_FINISHED;
		batch->n_finished++;
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
	if (request->attempts > sba_vm_max_retries || !worth_retrying(request, code))
	{
		release_transfer(transfer);
		transfer->state = TRANSFER_FINISHED;
	}
	batch->n_running--;

	if (transfer->state == TRANSFER_FINISHED)
	{
		batch->n_finished++;
		if (request->status == 0)
			give_up_server(batch, request);
	}
	else
	{
		double		backoff_ms = FIRST_BACKOFF_MS * pow(2, request->attempts - 1);

		/* the jitter keeps many clients of a server that recovers apart */
		backoff_ms = Min(backoff_ms, LONGEST_BACKOFF_MS) *
			(0.5 + pg_prng_double(&pg_global_prng_state));
		transfer->not_before_ms = sba_now_ms() + backoff_ms;
		if (batch->before_retry != NULL)
			batch->before_retry(request->context);
	}
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

/* Start what is due, as far as the number of connections allows. */
static void
start_due(Batch *batch)
{
	double		now = sba_now_ms();
	int			i;

	for (i = 0; i < batch->n_transfers && batch->n_running < SBA_MAX_CONNECTIONS; i++)
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

		if (transfer->state == TRANSFER_WAITING && batch->n_running < SBA_MAX_CONNECTIONS)
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

/* Free what is left of a batch: nothing after success, all after an error. */
static void
release_batch(void *arg)
{
	Batch	   *batch = arg;
	int			i;

	for (i = 0; i < batch->n_transfers; i++)
		release_transfer(&batch->transfers[i]);
	busy = false;
}

void
sba_http_perform(SbaHttpRequest *requests, int n_requests,
				 void (*before_retry) (void *context))
{
	MemoryContext context;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContextCallback *cleanup;
	Batch	   *batch;
	int			i;

	if (n_requests == 0)
		return;
	if (busy)
		elog(ERROR, "HTTP requests are already being performed");

	context = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly HTTP requests",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	batch = palloc0(sizeof(Batch));
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
		requests[i].body_bytes = 0;
		requests[i].attempts = 0;
	}
	cleanup = palloc0(sizeof(MemoryContextCallback));
	cleanup->func = release_batch;
	cleanup->arg = batch;

	PG_TRY();
	{
		sba_http_pool_open();
		busy = true;
		MemoryContextRegisterResetCallback(context, cleanup);
		run_batch(batch);
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
