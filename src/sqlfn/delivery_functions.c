/*
 * delivery_functions.c
 *	  CALL deliver_alerts(), and which database this is.
 *
 * Claim, commit, send, record, commit: while a receiver is waited for, the
 * session has no snapshot, no lock and no transaction id.  What was claimed by
 * a session that died is due again when its lease ends.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "db/outbox.h"
#include "net/alert_sender.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/settings.h"

SBA_FUNCTION(sba_deliver_alerts);
SBA_FUNCTION(sba_database_identity);

/* So many that the lease of two minutes is enough, also for a slow receiver. */
#define MESSAGES_PER_BATCH	50

#define CONNECT_TIMEOUT_MS	3000

/*
 * smartbox.database_identity() returns text
 */
Datum
sba_database_identity(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId)));
}

static SbaHttpEndpoint *
endpoint_of(const SbaReceiver *receiver)
{
	SbaHttpEndpoint *endpoint = palloc0(sizeof(SbaHttpEndpoint));
	const char *host = strstr(receiver->url, "://") + 3;

	endpoint->what = psprintf("receiver \"%s\"", receiver->name);
	endpoint->settings = "smartbox.receivers.";
	endpoint->address = receiver->url;
	endpoint->host = pnstrdup(host, strcspn(host, "/"));
	endpoint->bearer_token_file = receiver->bearer_token_file;
	endpoint->user = receiver->user;
	endpoint->password_file = receiver->password_file;
	endpoint->ca_file = receiver->ca_file;
	endpoint->certificate_file = receiver->certificate_file;
	endpoint->key_file = receiver->key_file;
	endpoint->connect_timeout_ms = Min(CONNECT_TIMEOUT_MS, sba_delivery_timeout_ms);
	endpoint->timeout_ms = sba_delivery_timeout_ms;
	endpoint->total_timeout_ms = sba_delivery_timeout_ms;
	return endpoint;
}

static void
record(const SbaReceiver *receiver, List *claimed, const SbaAlertMessage *messages)
{
	static const char *const outcomes[] = {
		[SBA_ALERT_RETRY] = "retry",[SBA_ALERT_SENT] = "sent",[SBA_ALERT_DEAD] = "dead"
	};
	ListCell   *cell;
	int			i = 0;

	foreach(cell, claimed)
	{
		const SbaClaimed *one = lfirst(cell);
		const SbaAlertMessage *message = &messages[i++];

		CHECK_FOR_INTERRUPTS();
		if (one->leased_until != 0)
			sba_record_delivery(one, receiver->name, outcomes[message->outcome],
								message->error, message->wait_s);
	}
}

/* What came of a turn of a receiver. */
typedef enum Turn
{
	NOTHING_WAS_DUE,
	NOTHING_WAS_ANSWERED,
	SOMETHING_WAS_ANSWERED
} Turn;

/* Claim some messages for a receiver, send and record them. */
static Turn
deliver_some(const SbaReceiver *receiver, List *(*claim) (const char *receiver, int most))
{
	int			level = sba_pin_search_path();
	List	   *claimed = claim(receiver->name, MESSAGES_PER_BATCH);
	SbaAlertMessage *messages;
	ListCell   *cell;
	int			n = 0;
	int			n_answered;

	AtEOXact_GUC(true, level);
	SPI_commit();
	if (claimed == NIL)
		return NOTHING_WAS_DUE;

	messages = palloc0(sizeof(SbaAlertMessage) * list_length(claimed));
	foreach(cell, claimed)
	{
		const SbaClaimed *one = lfirst(cell);

		messages[n].path = one->path;
		messages[n].body = one->body;
		messages[n++].idempotency_key = one->idempotency_key;
	}
	n_answered = sba_send_alerts(endpoint_of(receiver), messages, n);

	level = sba_pin_search_path();
	record(receiver, claimed, messages);
	AtEOXact_GUC(true, level);
	SPI_commit();
	return n_answered > 0 ? SOMETHING_WAS_ANSWERED : NOTHING_WAS_ANSWERED;
}

/* Returns whether there may be more for this receiver that is worth trying. */
static bool
take_turn(const SbaReceiver *receiver, MemoryContext batch)
{
	MemoryContext caller = MemoryContextSwitchTo(batch);
	Turn		turn = deliver_some(receiver, sba_claim_deliveries);

	if (turn == NOTHING_WAS_DUE)
		turn = deliver_some(receiver, sba_claim_resends);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(batch);
	return turn == SOMETHING_WAS_ANSWERED;
}

/* Everything that is due, in turns, so that a slow receiver keeps nobody waiting. */
static void
deliver_to_all(List *receivers)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly deliveries",
												ALLOCSET_DEFAULT_SIZES);
	ListCell   *cell;

	while (receivers != NIL)
	{
		foreach(cell, receivers)
		{
			if (!take_turn(lfirst(cell), batch))
				receivers = foreach_delete_current(receivers, cell);
		}
	}
	MemoryContextDelete(batch);
}

/*
 * deliver_alerts(), a procedure
 */
Datum
sba_deliver_alerts(PG_FUNCTION_ARGS)
{
	CallContext *call = castNode(CallContext, fcinfo->context);
	const char *obstacle;
	List	   *receivers = NIL;
	int			level;

	if (call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("deliver_alerts() cannot run inside a transaction block"),
				 errdetail("It commits before it waits for receivers.")));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	level = sba_pin_search_path();
	obstacle = sba_delivery_obstacle();
	if (obstacle == NULL)
		receivers = sba_open_outbox();
	AtEOXact_GUC(true, level);
	SPI_commit();

	if (obstacle != NULL)
		ereport(NOTICE,
				(errmsg("no alerts are sent: %s", obstacle)));
	deliver_to_all(receivers);
	SPI_finish();
	PG_RETURN_VOID();
}
