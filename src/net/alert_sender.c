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
#include "net/http_client.h"
#include "net/readable_line.h"

#define MAX_ANSWER_BYTES	1024

/* The beginning of an answer, for the error message. */
typedef struct Answer
{
	size_t		length;
	char		text[MAX_ANSWER_BYTES];
} Answer;

static bool
keep_beginning(void *context, const char *data, size_t length)
{
	Answer	   *answer = context;

	length = Min(length, MAX_ANSWER_BYTES - answer->length);
	memcpy(answer->text + answer->length, data, length);
	answer->length += length;
	return true;
}

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
	request->on_body = keep_beginning;
	request->context = palloc0(sizeof(Answer));
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

static const char *
describe_status(const SbaHttpRequest *request)
{
	const Answer *answer = request->context;
	const char *line = sba_readable_line(answer->text, answer->length);
	const char *note = request->status >= 300 && request->status < 400 ?
	"; redirects are not followed" : "";

	if (line[0] == '\0')
		return psprintf("HTTP status %ld%s", request->status, note);
	return psprintf("HTTP status %ld%s: %s", request->status, note, line);
}

/* Returns whether there was an answer. */
static bool
judge(const SbaHttpRequest *request, SbaAlertMessage *message)
{
	message->outcome = SBA_ALERT_RETRY;
	message->error = NULL;
	message->wait_s = 0;
	if (request->outcome == SBA_HTTP_REFUSED)
	{
		message->error = psprintf("%s (%s)", request->problem->message, request->problem->hint);
		return false;
	}
	if (request->outcome == SBA_HTTP_FAILED || request->outcome == SBA_HTTP_TIMEOUT)
	{
		message->error = sba_readable_line(request->message, strlen(request->message));
		return false;
	}
	if (request->status >= 200 && request->status < 300)
	{
		message->outcome = SBA_ALERT_SENT;
		return true;
	}
	message->error = describe_status(request);
	message->wait_s = request->retry_after_s;
	if (refuses_message(request->status))
		message->outcome = SBA_ALERT_DEAD;
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
