/*
 * http_pool.c
 *	  The session's connections: libcurl's multi handle, driven from one
 *	  descriptor that can be waited for beside the latch.
 *
 * libcurl says which sockets it waits for (CURLMOPT_SOCKETFUNCTION) and until
 * when (CURLMOPT_TIMERFUNCTION).  The sockets are gathered in one epoll
 * descriptor, which WaitLatchOrSocket can watch; so a cancel, statement_timeout
 * or shutdown ends the wait at once.
 *
 * The pool lives as long as the session and is used by this process only;
 * nothing here is shared, so there are no locks.
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"

#include "net/http_pool.h"
#include "pg/compat.h"

/* A socket for each connection, and epoll. */
#define RESERVED_FDS		(SBA_MAX_CONNECTIONS + 1)

#define MAX_EVENTS			16

/* For a large POST curl would first ask whether it is welcome. */
#define NO_EXPECT			"Expect:"

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
}			pool;

double
sba_now_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MILLISEC(now);
}

void
sba_block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

void
sba_restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* Watch a socket in the epoll descriptor as libcurl asks. */
static int
on_socket(CURL *easy, curl_socket_t socket, int what, void *context, void *unused)
{
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		/* fails when the socket is closed already, which removes it as well */
		(void) epoll_ctl(pool.epoll_fd, EPOLL_CTL_DEL, socket, NULL);
		return 0;
	}
	event.data.fd = socket;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(pool.epoll_fd, EPOLL_CTL_MOD, socket, &event) == 0)
		return 0;
	if (errno == ENOENT &&
		epoll_ctl(pool.epoll_fd, EPOLL_CTL_ADD, socket, &event) == 0)
		return 0;
	pool.broken = true;
	return -1;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *context)
{
	pool.has_timer = timeout_ms >= 0;
	pool.timer_ms = sba_now_ms() + timeout_ms;
	return 0;
}

/* Take everything down; the handles are out of it already. */
static void
close_pool(void)
{
	sigset_t	saved;

	sba_block_signals(&saved);
	if (pool.multi != NULL)
		curl_multi_cleanup(pool.multi);
	curl_slist_free_all(pool.headers);
	if (pool.epoll_fd >= 0)
		close(pool.epoll_fd);
	sba_restore_signals(&saved);
	for (; pool.n_reserved > 0; pool.n_reserved--)
		ReleaseExternalFD();
	memset(&pool, 0, sizeof(pool));
	pool.epoll_fd = -1;
}

/*
 * A failure half-way leaves what was made in the pool, marked broken for the
 * next call to clear away.
 */
void
sba_http_pool_open(void)
{
	static bool libcurl_ready = false;
	sigset_t	saved;
	bool		ok;

	if (pool.broken)
		close_pool();
	if (pool.multi != NULL)
		return;

	pool.broken = true;
	pool.epoll_fd = -1;
	while (pool.n_reserved < RESERVED_FDS)
	{
		if (!AcquireExternalFD())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("could not reserve file descriptors for HTTP requests: %m"),
					 errhint("Consider increasing \"max_files_per_process\".")));
		pool.n_reserved++;
	}
	pool.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (pool.epoll_fd < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create an epoll descriptor: %m")));

	sba_block_signals(&saved);
	if (!libcurl_ready)
		libcurl_ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	if (libcurl_ready)
	{
		pool.multi = curl_multi_init();
		pool.headers = curl_slist_append(NULL, NO_EXPECT);
	}
	ok = pool.multi != NULL && pool.headers != NULL &&
		curl_multi_setopt(pool.multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
		curl_multi_setopt(pool.multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
		curl_multi_setopt(pool.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) SBA_MAX_CONNECTIONS) == CURLM_OK &&
		curl_multi_setopt(pool.multi, CURLMOPT_MAXCONNECTS, (long) SBA_MAX_CONNECTIONS) == CURLM_OK;
	sba_restore_signals(&saved);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl")));
	pool.broken = false;
}

struct curl_slist *
sba_http_pool_headers(void)
{
	return pool.headers;
}

struct curl_slist *
sba_http_pool_headers_with(const char *const *lines)
{
	struct curl_slist *headers = curl_slist_append(NULL, NO_EXPECT);

	for (; headers != NULL && *lines != NULL; lines++)
	{
		struct curl_slist *longer = curl_slist_append(headers, *lines);

		if (longer == NULL)
			curl_slist_free_all(headers);
		headers = longer;
	}
	return headers;
}

/* Whether a multi call went well; otherwise the pool is not used again. */
static void
check_multi(CURLMcode code)
{
	if (code == CURLM_OK)
		return;
	pool.broken = true;
	ereport(ERROR,
			(errcode(code == CURLM_OUT_OF_MEMORY ?
					 ERRCODE_OUT_OF_MEMORY : ERRCODE_INTERNAL_ERROR),
			 errmsg("could not perform HTTP requests: %s", curl_multi_strerror(code))));
}

void
sba_http_pool_add(CURL *easy)
{
	sigset_t	saved;
	CURLMcode	code;

	sba_block_signals(&saved);
	code = curl_multi_add_handle(pool.multi, easy);
	sba_restore_signals(&saved);
	check_multi(code);
}

void
sba_http_pool_remove(CURL *easy)
{
	sigset_t	saved;

	sba_block_signals(&saved);
	if (curl_multi_remove_handle(pool.multi, easy) != CURLM_OK)
		pool.broken = true;
	sba_restore_signals(&saved);
}

bool
sba_http_pool_drive(void)
{
	struct epoll_event events[MAX_EVENTS];
	sigset_t	saved;
	CURLMcode	code = CURLM_OK;
	int			n_events;
	int			n_running;
	int			i;
	bool		due = pool.has_timer && pool.timer_ms <= sba_now_ms();

	n_events = epoll_wait(pool.epoll_fd, events, MAX_EVENTS, 0);
	if (n_events <= 0 && !due)
		return false;

	sba_block_signals(&saved);
	if (due)
	{
		pool.has_timer = false;
		code = curl_multi_socket_action(pool.multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
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
		code = curl_multi_socket_action(pool.multi, events[i].data.fd, mask, &n_running);
	}
	sba_restore_signals(&saved);
	check_multi(code);
	return true;
}

CURL	   *
sba_http_pool_ended(CURLcode *result)
{
	CURLMsg    *message;
	int			n_left;

	while ((message = curl_multi_info_read(pool.multi, &n_left)) != NULL)
	{
		if (message->msg != CURLMSG_DONE)
			continue;
		*result = message->data.result;
		return message->easy_handle;
	}
	return NULL;
}

void
sba_http_pool_wait(double until_ms)
{
	static uint32 wait_event = 0;
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | WL_SOCKET_READABLE;
	double		left_ms;

	if (pool.has_timer)
		until_ms = Min(until_ms, pool.timer_ms);
	left_ms = until_ms - sba_now_ms();

	/* rounded up, so that the thing is due when the wait is over */
	if (WaitLatchOrSocket(MyLatch, events, pool.epoll_fd,
						  left_ms <= 0 ? 0 : (long) left_ms + 1,
						  SBA_WAIT_EVENT_HTTP(wait_event)) & WL_LATCH_SET)
		ResetLatch(MyLatch);
}
