/*
 * alert_sender.h
 *	  Messages to a receiver of alerts.
 */
#ifndef SBA_NET_ALERT_SENDER_H
#define SBA_NET_ALERT_SENDER_H

#include "net/http_endpoint.h"

typedef struct SbaAlertMessage
{
	/* what to send */
	const char *path;			/* after the endpoint's address */
	const char *body;			/* JSON, in the server's encoding */
	const char *idempotency_key;

	/* what came of it */
	enum
	{
		SBA_ALERT_RETRY = 0,	/* it may go well later */
		SBA_ALERT_SENT,			/* the receiver has it */
		SBA_ALERT_DEAD			/* this message will never be taken */
	}			outcome;
	const char *error;			/* why it was not sent; palloc'ed */
	double		wait_s;			/* the receiver asks for a pause */
} SbaAlertMessage;

/*
 * Send all messages, several at once, each in a request of its own and once,
 * and return how many were answered, whatever the answer.  Holds nothing of a
 * transaction.  Raises an error only for cancel, shutdown and want of memory.
 */
extern int	sba_send_alerts(const SbaHttpEndpoint *endpoint, SbaAlertMessage *messages,
							int n_messages);

#endif							/* SBA_NET_ALERT_SENDER_H */
