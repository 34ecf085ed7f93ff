/*
 * write_back_functions.c
 *	  CALL write_back_scores().
 *
 * Claim, commit, send, record, commit: while the endpoint is waited for, the
 * session has no snapshot, no lock and no transaction id.  What was claimed by
 * a session that died is due again when its lease ends.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "db/write_back.h"
#include "net/series_sender.h"
#include "pg/compat.h"
#include "pg/query.h"

SBA_FUNCTION(sba_has_series_endpoint);
SBA_FUNCTION(sba_write_back_scores);

/* With an hour of each, some megabytes of text. */
#define SERVICES_PER_REQUEST	200

/* What is leased longer than the endpoint may take to answer. */
#define LEASE_MARGIN_MS			(60 * 1000)

/*
 * smartbox.has_series_endpoint() returns boolean
 */
Datum
sba_has_series_endpoint(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sba_series_endpoint() != NULL);
}

/* Send what some services have; false when none has anything. */
static bool
write_some(const SbaHttpEndpoint *endpoint, const char **error)
{
	int			level = sba_pin_search_path();
	StringInfoData lines;
	List	   *claimed;

	initStringInfo(&lines);
	claimed = sba_claim_write_backs(SERVICES_PER_REQUEST, endpoint->timeout_ms + LEASE_MARGIN_MS, &lines);
	AtEOXact_GUC(true, level);
	SPI_commit();
	if (claimed == NIL)
		return false;

	if (lines.len > 0)
		*error = sba_send_series(endpoint, lines.data);

	level = sba_pin_search_path();
	sba_record_write_backs(claimed, *error);
	AtEOXact_GUC(true, level);
	SPI_commit();
	return true;
}

/*
 * write_back_scores(), a procedure
 */
Datum
sba_write_back_scores(PG_FUNCTION_ARGS)
{
	CallContext *call = castNode(CallContext, fcinfo->context);
	SbaHttpEndpoint *endpoint;
	const char *error = NULL;
	MemoryContext caller;
	MemoryContext batch;
	bool		more;

	if (call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("write_back_scores() cannot run inside a transaction block"),
				 errdetail("It commits before it waits for the endpoint.")));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	caller = CurrentMemoryContext;
	endpoint = sba_series_endpoint();
	if (endpoint == NULL)
		ereport(NOTICE,
				(errmsg("no series are written: smartbox_anomaly.write_back_endpoint is empty")));
	batch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly series", ALLOCSET_DEFAULT_SIZES);
	more = endpoint != NULL;
	while (more && error == NULL)
	{
		MemoryContextReset(batch);
		MemoryContextSwitchTo(batch);
		more = write_some(endpoint, &error);
		MemoryContextSwitchTo(caller);
	}
	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not write scores to \"%s\"", endpoint->host),
				 errdetail("%s", error),
				 errhint("They are sent again the next time, see smartbox.write_backs.")));
	SPI_finish();
	PG_RETURN_VOID();
}
