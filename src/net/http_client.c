/*
 * http_client.c
 *	  Several HTTP requests at once over libcurl's multi interface, waiting on
 *	  the process latch.
 *
 * libcurl says which sockets it waits for (CURLMOPT_SOCKETFUNCTION) and until
 * when (CURLMOPT_TIMERFUNCTION).  The sockets are gathered in one epoll
 * descriptor, which WaitLatchOrSocket can watch beside the latch; so a cancel,
 * statement_timeout or shutdown ends the wait at once.
 *
 * Rules that the code below keeps:
 *	- Interrupts are served between calls into libcurl, never inside.
 *	- Callbacks neither raise errors nor allocate from PostgreSQL.
 *	- All signals are blocked while libcurl runs: it may start a thread that
 *	  resolves a name, and the thread would inherit the mask and run
 *	  PostgreSQL's signal handlers.
 *	- The handles of a call are freed by a callback of a memory context that
 *	  is deleted when the call ends, in whatever way.
 *
 * The pool of connections lives as long as the session and is used by this
 * process only; nothing here is shared, so there are no locks.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <math.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "net/http_client.h"
#include "pg/compat.h"
#include "pg/settings.h"

/* VictoriaMetrics answers four queries at a time by default; more would queue. */
#define MAX_RUNNING			6

/* A connection may need two sockets while it tries IPv6 and IPv4, plus epoll. */
#define RESERVED_FDS		(2 * MAX_RUNNING + 1)

#define FIRST_BACKOFF_MS	100
#define LONGEST_BACKOFF_MS	5000
#define STALL_MS			5000	/* silence in the middle of an answer */
#define MAX_HEADER_BYTES	65536
#define MAX_ERROR_BODY		16384	/* of an answer that is no success */
#define MAX_EVENTS			16

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

/* What the session keeps; multi is NULL until the first use. */
static struct
{
	CURLM	   *multi;
	struct curl_slist *headers;
	int			epoll_fd;
	int			n_reserved;		/* descriptors accounted for with fd.c */
	bool		has_timer;
	double		timer_ms;		/* when libcurl wants to be called */
	bool		broken;			/* to be made anew */
	bool		busy;
}			client;

static double
now_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MILLISEC(now);
}

static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* ---------- callbacks of libcurl ---------- */

/* Watch a socket in the epoll descriptor as libcurl asks. */
static int
on_socket(CURL *easy, curl_socket_t socket, int what, void *context, void *unused)
{
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		/* fails when the socket is closed already, which removes it as well */
		(void) epoll_ctl(client.epoll_fd, EPOLL_CTL_DEL, socket, NULL);
		return 0;
	}
	event.data.fd = socket;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(client.epoll_fd, EPOLL_CTL_MOD, socket, &event) == 0)
		return 0;
	if (errno == ENOENT &&
		epoll_ctl(client.epoll_fd, EPOLL_CTL_ADD, socket, &event) == 0)
		return 0;
	client.broken = true;
	return -1;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *context)
{
	client.has_timer = timeout_ms >= 0;
	client.timer_ms = now_ms() + timeout_ms;
	return 0;
}

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

	transfer->last_data_ms = now_ms();
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

/* ---------- the session's client ---------- */

/* Take down the pool; its handles are out of it already. */
static void
close_client(void)
{
	sigset_t	saved;

	block_signals(&saved);
	if (client.multi != NULL)
		curl_multi_cleanup(client.multi);
	curl_slist_free_all(client.headers);
	if (client.epoll_fd >= 0)
		close(client.epoll_fd);
	restore_signals(&saved);
	for (; client.n_reserved > 0; client.n_reserved--)
		ReleaseExternalFD();
	memset(&client, 0, sizeof(client));
	client.epoll_fd = -1;
}

/*
 * Make the pool if there is none.  A failure half-way leaves what was made in
 * the client, marked broken for the next call to clear away.
 */
static void
open_client(void)
{
	static bool libcurl_ready = false;
	sigset_t	saved;
	bool		ok;

	if (client.broken)
		close_client();
	if (client.multi != NULL)
		return;

	client.broken = true;
	client.epoll_fd = -1;
	while (client.n_reserved < RESERVED_FDS)
	{
		if (!AcquireExternalFD())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not reserve file descriptors for HTTP requests: %m"),
					 errhint("Consider increasing \"max_files_per_process\".")));
		client.n_reserved++;
	}
	client.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client.epoll_fd < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create an epoll descriptor: %m")));

	block_signals(&saved);
	if (!libcurl_ready)
		libcurl_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	if (libcurl_ready)
	{
		client.multi = curl_multi_init();
		/* for a large POST curl would first ask whether it is welcome */
		client.headers = curl_slist_append(NULL, "Expect:");
	}
	ok = client.multi != NULL && client.headers != NULL &&
		curl_multi_setopt(client.multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
		curl_multi_setopt(client.multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
		curl_multi_setopt(client.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) MAX_RUNNING) == CURLM_OK &&
		curl_multi_setopt(client.multi, CURLMOPT_MAXCONNECTS, (long) MAX_RUNNING) == CURLM_OK;
	restore_signals(&saved);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl")));
	client.broken = false;
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
	SET_OPTION(easy, CURLOPT_HTTPHEADER, client.headers);
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
	if (transfer->easy == NULL)
		return;
	if (transfer->state == TRANSFER_RUNNING)
		curl_multi_remove_handle(client.multi, transfer->easy);
	curl_easy_cleanup(transfer->easy);
	transfer->easy = NULL;
}

/* Whether a multi call went well; otherwise the pool is not used again. */
static void
check_multi(CURLMcode code)
{
	if (code == CURLM_OK)
		return;
	client.broken = true;
	ereport(ERROR,
			(errcode(code == CURLM_OUT_OF_MEMORY ?
					 ERRCODE_OUT_OF_MEMORY : ERRCODE_INTERNAL_ERROR),
			 errmsg("could not perform HTTP requests: %s", curl_multi_strerror(code))));
}

static void
start_transfer(Batch *batch, Transfer *transfer)
{
	SbaHttpRequest *request = transfer->request;
	sigset_t	saved;
	CURLMcode	code;

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

	block_signals(&saved);
	code = curl_multi_add_handle(client.multi, transfer->easy);
	restore_signals(&saved);
	check_multi(code);
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
	sigset_t	saved;

	note_outcome(transfer, code);
	block_signals(&saved);
	curl_multi_remove_handle(client.multi, transfer->easy);
	transfer->state = TRANSFER_WAITING;
	if (request->attempts > sba_vm_max_retries || !worth_retrying(request, code))
	{
		release_transfer(transfer);
		transfer->state = TRANSFER_FINISHED;
	}
	restore_signals(&saved);
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
		transfer->not_before_ms = now_ms() + backoff_ms;
		if (batch->before_retry != NULL)
			batch->before_retry(request->context);
	}
}

/* ---------- the loop ---------- */

/* End transfers that fell silent in the middle of an answer. */
static void
end_stalled(Batch *batch)
{
	double		now = now_ms();
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
	double		now = now_ms();
	int			i;

	for (i = 0; i < batch->n_transfers && batch->n_running < MAX_RUNNING; i++)
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
	CURLMsg    *message;
	int			n_left;

	while ((message = curl_multi_info_read(client.multi, &n_left)) != NULL)
	{
		char	   *transfer;

		if (message->msg == CURLMSG_DONE &&
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer) == CURLE_OK)
			end_transfer(batch, (Transfer *) transfer, message->data.result);
	}
}

/* Let libcurl work on what is ready; false when there was nothing to do. */
static bool
drive(void)
{
	struct epoll_event events[MAX_EVENTS];
	sigset_t	saved;
	CURLMcode	code = CURLM_OK;
	int			n_events;
	int			n_running;
	int			i;
	bool		due = client.has_timer && client.timer_ms <= now_ms();

	n_events = epoll_wait(client.epoll_fd, events, MAX_EVENTS, 0);
	if (n_events <= 0 && !due)
		return false;

	block_signals(&saved);
	if (due)
	{
		client.has_timer = false;
		code = curl_multi_socket_action(client.multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
	}
	for (i = 0; i < n_events && code == CURLM_OK; i++)
	{
		int			mask = 0;

		if (events[i].events & EPOLLIN)
			mask |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			mask |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			mask |= CURL_CSELECT_ERR;
		code = curl_multi_socket_action(client.multi, events[i].data.fd, mask, &n_running);
	}
	restore_signals(&saved);
	check_multi(code);
	return true;
}

/* Wait for the sockets, the latch, or the next thing to do. */
static void
wait_for_something(const Batch *batch)
{
	static uint32 wait_event = 0;
	double		now = now_ms();
	double		until = now + 60000;
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | WL_SOCKET_READABLE;
	int			i;

	if (client.has_timer)
		until = Min(until, client.timer_ms);
	for (i = 0; i < batch->n_transfers; i++)
	{
		const Transfer *transfer = &batch->transfers[i];

		if (transfer->state == TRANSFER_WAITING && batch->n_running < MAX_RUNNING)
			until = Min(until, transfer->not_before_ms);
		else if (transfer->state == TRANSFER_RUNNING && transfer->last_data_ms > 0)
			until = Min(until, transfer->last_data_ms + STALL_MS);
	}

	/* rounded up, so that the thing is due when the wait is over */
	if (WaitLatchOrSocket(MyLatch, events, client.epoll_fd,
						  until <= now ? 0 : (long) (until - now) + 1,
						  SBA_WAIT_EVENT_HTTP(wait_event)) & WL_LATCH_SET)
		ResetLatch(MyLatch);
}

static void
run_batch(Batch *batch)
{
	while (batch->n_finished < batch->n_transfers)
	{
		CHECK_FOR_INTERRUPTS();
		start_due(batch);
		if (!drive())
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
	sigset_t	saved;
	int			i;

	block_signals(&saved);
	for (i = 0; i < batch->n_transfers; i++)
		release_transfer(&batch->transfers[i]);
	restore_signals(&saved);
	client.busy = false;
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
	if (client.busy)
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
		open_client();
		client.busy = true;
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
