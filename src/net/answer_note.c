/*
 * answer_note.c
 *	  What a server answered to something that was sent to it, for messages.
 */
#include "postgres.h"

#include "net/answer_note.h"
#include "net/readable_line.h"

#define MAX_ANSWER_BYTES	1024

/* The beginning of an answer. */
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

void
sba_keep_answer(SbaHttpRequest *request)
{
	request->on_body = keep_beginning;
	request->context = palloc0(sizeof(Answer));
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

const char *
sba_answer_error(const SbaHttpRequest *request)
{
	if (request->outcome == SBA_HTTP_REFUSED)
		return psprintf("%s (%s)", request->problem->message, request->problem->hint);
	if (request->outcome == SBA_HTTP_FAILED || request->outcome == SBA_HTTP_TIMEOUT)
		return sba_readable_line(request->message, strlen(request->message));
	if (request->status >= 200 && request->status < 300)
		return NULL;
	return describe_status(request);
}
