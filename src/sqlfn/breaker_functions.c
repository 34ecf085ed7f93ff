/*
 * breaker_functions.c
 *	  What smartbox.circuit_breakers shows, and reset_circuit_breaker().
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "pg/breaker_registry.h"
#include "pg/compat.h"
#include "pg/json_writer.h"
#include "pg/result_set.h"

SBA_FUNCTION(sba_circuit_breakers);
SBA_FUNCTION(sba_reset_circuit_breaker);

#define N_COLUMNS 10

/*
 * Refuse who may not read the view.  The function runs with the rights of
 * whoever reads the view, so that everybody may execute it.
 */
static void
check_may_read(void)
{
	Oid			schema = get_namespace_oid("smartbox", false);
	Oid			view = get_relname_relid("circuit_breakers", schema);

	if (pg_class_aclcheck(view, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, "circuit_breakers");
}

/* The transitions that are remembered, newest first. */
static Datum
history_of(const SbaBreaker *breaker)
{
	SbaJsonWriter writer;
	uint32		n = Min(breaker->n_transitions, SBA_BREAKER_HISTORY);
	uint32		i;

	sba_json_init(&writer);
	sba_json_open(&writer, NULL, '[');
	for (i = 1; i <= n; i++)
	{
		const SbaBreakerTransition *transition =
		&breaker->history[(breaker->n_transitions - i) % SBA_BREAKER_HISTORY];

		sba_json_open(&writer, NULL, '{');
		sba_json_integer(&writer, "event_number", breaker->n_transitions - i + 1);
		sba_json_string(&writer, "ts", timestamptz_to_str(transition->at_us));
		sba_json_string(&writer, "state", sba_breaker_state_name(transition->state));
		sba_json_integer(&writer, "failures", transition->failures);
		sba_json_string(&writer, "reason", transition->reason);
		sba_json_close(&writer, '}');
	}
	sba_json_close(&writer, ']');
	return sba_json_to_jsonb(&writer);
}

/*
 * smartbox.circuit_breaker_states()
 *		returns setof (endpoint, state, failures, opened_at, next_probe_at,
 *		last_error, last_failure, last_success, scope, history)
 */
Datum
sba_circuit_breakers(PG_FUNCTION_ARGS)
{
	int64		now_us = GetCurrentTimestamp();
	SbaBreakerEntry *entries;
	int			n_entries;
	int			i;

	check_may_read();
	sba_begin_rows(fcinfo);
	entries = sba_breakers_copy(&n_entries);
	for (i = 0; i < n_entries; i++)
	{
		const SbaBreaker *breaker = &entries[i].breaker;
		bool		closed = breaker->state == SBA_BREAKER_CLOSED;
		Datum		values[N_COLUMNS];
		bool		nulls[N_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(entries[i].endpoint);
		values[1] = CStringGetTextDatum(sba_breaker_state_name(sba_breaker_state(breaker, now_us)));
		values[2] = Int32GetDatum((int32) breaker->failures);
		values[3] = TimestampTzGetDatum(breaker->opened_us);
		nulls[3] = closed;
		values[4] = TimestampTzGetDatum(breaker->state == SBA_BREAKER_OPEN ?
										breaker->probe_due_us : breaker->lease_end_us);
		nulls[4] = closed;
		values[5] = CStringGetTextDatum(breaker->last_error);
		nulls[5] = breaker->last_failure_us == 0;
		values[6] = TimestampTzGetDatum(breaker->last_failure_us);
		nulls[6] = breaker->last_failure_us == 0;
		values[7] = TimestampTzGetDatum(breaker->last_success_us);
		nulls[7] = breaker->last_success_us == 0;
		values[8] = CStringGetTextDatum(sba_breakers_are_shared() ? "server" : "session");
		values[9] = history_of(breaker);
		sba_add_row(fcinfo, values, nulls);
	}
	PG_RETURN_NULL();
}

/*
 * reset_circuit_breaker(endpoint text) returns integer
 */
Datum
sba_reset_circuit_breaker(PG_FUNCTION_ARGS)
{
	char	   *endpoint = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			n_reset = sba_breakers_reset(endpoint);

	if (n_reset < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("endpoint \"%s\" has no circuit breaker", endpoint),
				 errhint("See the column endpoint of smartbox.circuit_breakers.")));
	PG_RETURN_INT32(n_reset);
}
