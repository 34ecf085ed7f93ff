/*
 * answer_note.h
 *	  What a server answered to something that was sent to it, for messages.
 */
#ifndef SBA_NET_ANSWER_NOTE_H
#define SBA_NET_ANSWER_NOTE_H

#include "net/http_client.h"

/* Have a request keep the beginning of its answer. */
extern void sba_keep_answer(SbaHttpRequest *request);

/*
 * Why a request with that did not end well, palloc'ed; NULL for an answer that
 * says that it did.
 */
extern const char *sba_answer_error(const SbaHttpRequest *request);

#endif							/* SBA_NET_ANSWER_NOTE_H */
