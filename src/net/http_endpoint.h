/*
 * http_endpoint.h
 *	  A server that requests go to, and how the session proves who it is.
 */
#ifndef SBA_NET_HTTP_ENDPOINT_H
#define SBA_NET_HTTP_ENDPOINT_H

#include <curl/curl.h>

#include "pg/problem.h"

/*
 * Where it is, names of files and the like ("" or NULL where there is none),
 * and how patient to be.
 */
typedef struct SbaHttpEndpoint
{
	const char *what;			/* for messages: "the metric source" */
	const char *settings;		/* what the names of its settings begin with */
	const char *address;		/* without credentials; the circuit breaker's
								 * key */
	const char *host;			/* of it, for messages */
	const char *ca_file;		/* trusted instead of the system's */
	const char *certificate_file;	/* of the client */
	const char *key_file;		/* of this certificate; may be in its file */
	const char *bearer_token_file;
	const char *user;
	const char *password_file;
	const char *proxy;
	int			connect_timeout_ms;
	int			timeout_ms;		/* of each attempt */
	int			total_timeout_ms;	/* of all; the first has its own in any
									 * case */
	int			max_retries;
	bool		has_breaker;	/* it is left alone when it does not answer */
} SbaHttpEndpoint;

/* An endpoint whose secrets have been read. */
typedef struct SbaHttpAccess
{
	const SbaHttpEndpoint *endpoint;
	char	   *bearer_token;	/* or NULL */
	char	   *password;		/* or NULL */
} SbaHttpAccess;

/* Read the endpoint's secrets; false with *problem set when that fails. */
extern bool sba_http_access_open(SbaHttpAccess *access, const SbaHttpEndpoint *endpoint,
								 SbaProblem *problem);
extern void sba_http_access_close(SbaHttpAccess *access);

/* Have a request use it. */
extern void sba_http_access_apply(const SbaHttpAccess *access, CURL *easy);

/* Set an option of a request, or raise an error. */
#define SBA_SET_OPTION(easy, option, value) \
	do { \
		CURLcode	set_option_code = curl_easy_setopt(easy, option, value); \
		if (set_option_code != CURLE_OK) \
			ereport(ERROR, \
					(errcode(set_option_code == CURLE_OUT_OF_MEMORY ? \
							 ERRCODE_OUT_OF_MEMORY : ERRCODE_INTERNAL_ERROR), \
					 errmsg("could not set libcurl option %s: %s", #option, \
							curl_easy_strerror(set_option_code)))); \
	} while (0)

#endif							/* SBA_NET_HTTP_ENDPOINT_H */
