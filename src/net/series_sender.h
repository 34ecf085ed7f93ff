/*
 * series_sender.h
 *	  Series to where other programs look for metrics.
 */
#ifndef SBA_NET_SERIES_SENDER_H
#define SBA_NET_SERIES_SENDER_H

#include "net/http_endpoint.h"

/* Where the settings say that series are written; NULL: nowhere. */
extern SbaHttpEndpoint *sba_series_endpoint(void);

/*
 * Send lines of Prometheus' text format, in the server's encoding, once.
 * Returns why that failed, palloc'ed, or NULL when they were taken.  Holds
 * nothing of a transaction.  Raises an error only for cancel, shutdown and
 * want of memory.
 */
extern const char *sba_send_series(const SbaHttpEndpoint *endpoint, const char *lines);

#endif							/* SBA_NET_SERIES_SENDER_H */
