/*
 * http_pool.h
 *	  The session's connections: libcurl's multi handle, driven from one
 *	  descriptor that can be waited for beside the latch.
 */
#ifndef SBA_NET_HTTP_POOL_H
#define SBA_NET_HTTP_POOL_H

#include <curl/curl.h>
#include <signal.h>

/* VictoriaMetrics answers four queries at a time by default; more would queue. */
#define SBA_MAX_CONNECTIONS 6

/* Milliseconds of a clock that only goes forward. */
extern double sba_now_ms(void);

/*
 * Whoever calls libcurl blocks all signals meanwhile: it may start a thread
 * that resolves a name, and the thread would inherit the mask and run
 * PostgreSQL's signal handlers.
 */
extern void sba_block_signals(sigset_t *saved);
extern void sba_restore_signals(const sigset_t *saved);

/* Make the pool if there is none. */
extern void sba_http_pool_open(void);

/* Headers for every request. */
extern struct curl_slist *sba_http_pool_headers(void);

/*
 * The same with further lines, for curl_slist_free_all(); NULL when there is
 * no memory.
 */
extern struct curl_slist *sba_http_pool_headers_with(const char *const *lines);

/* Begin with a request. */
extern void sba_http_pool_add(CURL *easy);

/* Have no more to do with a request, whatever its state.  Raises no error. */
extern void sba_http_pool_remove(CURL *easy);

/* Let libcurl work on what is ready; false when there was nothing to do. */
extern bool sba_http_pool_drive(void);

/* The next request that has ended, or NULL. */
extern CURL *sba_http_pool_ended(CURLcode *result);

/* Wait for something to do, for the latch, or until the time has come. */
extern void sba_http_pool_wait(double until_ms);

#endif							/* SBA_NET_HTTP_POOL_H */
