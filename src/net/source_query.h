/*
 * source_query.h
 *	  Addresses and queries of the metric source, as they go over the wire.
 */
#ifndef SBA_NET_SOURCE_QUERY_H
#define SBA_NET_SOURCE_QUERY_H

#include "lib/stringinfo.h"

#include "net/http_endpoint.h"

/* Raise an error when no endpoint is configured. */
extern void sba_require_endpoint(void);

/* The metric source as the settings describe it, palloc'ed. */
extern SbaHttpEndpoint *sba_source_endpoint(void);

/* Another server that is spoken to as the metric source is. */
extern SbaHttpEndpoint *sba_endpoint_at(const char *address);

/* The address of a part of the API. */
extern char *sba_endpoint_url(const SbaHttpEndpoint *endpoint, const char *path);

/* Append a text as it has to be written in a URL or form, in UTF-8. */
extern void sba_append_encoded(StringInfo form, const char *text);

#endif							/* SBA_NET_SOURCE_QUERY_H */
