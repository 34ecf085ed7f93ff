/*
 * alert_sender.c
 *	  Messages to a receiver of alerts.
 *
 * Each message is a request of its own: it has an idempotency key of its own,
 * and one that a receiver cannot read takes no other with it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "net/alert_sender.h"
#include "net/answer_note.h"

static void
prepare_request(const SbaHttpEndpoint *endpoint, const SbaAlertMessage *message,
				SbaHttpRequest *request)
{
	const char **headers = palloc0(sizeof(char *) * 3);

	headers[0] = "Content-Type: application/json";
	headers[1] = psprintf("Idempotency-Key: %s", message->idempotency_key);
	request->url = psprintf("%s%s", endpoint->address, message->path);
	request->body = pg_server_to_any(message->body, strlen(message->body), PG_UTF8);
	request->headers = headers;
	sba_keep_answer(request);
}

/*
 * Whether a status is about the message and not about the receiver.  A wrong
 * address or token is put right by people, so that it may be found here again.
 */
static bool
refuses_message(long status)
{
	return status == 400 || status == 413 || status == 415 || status == 422;
}

/* Returns whether there was an answer. */
static bool
judge(const SbaHttpRequest *request, SbaAlertMessage *message)
{
	message->outcome = SBA_ALERT_RETRY;
	message->error = sba_answer_error(request);
	message->wait_s = 0;
	if (request->outcome == SBA_HTTP_REFUSED || request->outcome == SBA_HTTP_FAILED ||
		request->outcome == SBA_HTTP_TIMEOUT)
		return false;
	if (message->error == NULL)
		message->outcome = SBA_ALERT_SENT;
	else
	{
		message->wait_s = request->retry_after_s;
		if (refuses_message(request->status))
			message->outcome = SBA_ALERT_DEAD;
	}
	return true;
}

int
sba_send_alerts(const SbaHttpEndpoint *endpoint, SbaAlertMessage *messages, int n_messages)
{
	SbaHttpRequest *requests = palloc0(sizeof(SbaHttpRequest) * (n_messages + 1));
	int			n_answered = 0;
	int			i;

	for (i = 0; i < n_messages; i++)
		prepare_request(endpoint, &messages[i], &requests[i]);
	sba_http_perform(endpoint, requests, n_messages, NULL);
	for (i = 0; i < n_messages; i++)
		n_answered += judge(&requests[i], &messages[i]);
	return n_answered;
}
