/*
 * outbox.c
 *	  smartbox.receivers and smartbox.deliveries.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/outbox.h"
#include "pg/query.h"

/* What a receiver asks for is not waited for longer than it is worth. */
#define LONGEST_WAIT_S		(6 * 60 * 60)

static SbaQuery obstacle_query = {
	.text = "SELECT smartbox.delivery_obstacle()",
	.expected = SPI_OK_SELECT,
};

static SbaQuery expire_query = {
	.text = "SELECT smartbox.expire_deliveries(pg_catalog.now())",
	.expected = SPI_OK_SELECT,
};

static SbaQuery receivers_query = {
	.text = "SELECT receiver, pg_catalog.rtrim(url, '/'), bearer_token_file, user_name, password_file,"
	" ca_file, certificate_file, key_file"
	" FROM smartbox.receivers WHERE enabled ORDER BY receiver",
	.expected = SPI_OK_SELECT,
};

static SbaQuery claim_query = {
	.text = "SELECT c.service, c.incident_id, c.alert_number, c.leased_until, c.idempotency_key, c.path, c.body"
	" FROM smartbox.claim_deliveries($1, pg_catalog.now(), $2) AS c",
	.n_arguments = 2,
	.argument_types = {TEXTOID, INT4OID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery resends_query = {
	.text = "SELECT c.service, c.incident_id, c.alert_number, c.leased_until, c.idempotency_key, c.path, c.body"
	" FROM smartbox.claim_resends($1, pg_catalog.now(), $2) AS c",
	.n_arguments = 2,
	.argument_types = {TEXTOID, INT4OID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery record_query = {
	.text = "SELECT smartbox.record_delivery($1, $2, $3, $4, $5, $6, $7,"
	" pg_catalog.make_interval(secs => $8), pg_catalog.now())",
	.n_arguments = 8,
	.argument_types = {TEXTOID, TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, FLOAT8OID},
	.expected = SPI_OK_SELECT,
};

const char *
sba_delivery_obstacle(void)
{
	sba_query_run(&obstacle_query, NULL, NULL, 0);
	return sba_result_text(0, 1);
}

List	   *
sba_open_outbox(void)
{
	List	   *receivers = NIL;
	uint64		row;

	sba_query_run(&expire_query, NULL, NULL, 0);
	sba_query_run(&receivers_query, NULL, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		SbaReceiver *receiver = palloc(sizeof(SbaReceiver));

		receiver->name = sba_result_text(row, 1);
		receiver->url = sba_result_text(row, 2);
		receiver->bearer_token_file = sba_result_text(row, 3);
		receiver->user = sba_result_text(row, 4);
		receiver->password_file = sba_result_text(row, 5);
		receiver->ca_file = sba_result_text(row, 6);
		receiver->certificate_file = sba_result_text(row, 7);
		receiver->key_file = sba_result_text(row, 8);
		receivers = lappend(receivers, receiver);
	}
	return receivers;
}

static List *
claim(SbaQuery *query, const char *receiver, int most)
{
	Datum		arguments[2] = {CStringGetTextDatum(receiver), Int32GetDatum(most)};
	List	   *list = NIL;
	uint64		row;

	sba_query_run(query, arguments, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		SbaClaimed *claimed = palloc0(sizeof(SbaClaimed));
		bool		is_null;
		Datum		lease = sba_result_datum(row, 4, &is_null);

		claimed->service = sba_result_text(row, 1);
		claimed->incident_id = sba_result_text(row, 2);
		claimed->alert_number = sba_result_int4(row, 3, 0);
		claimed->leased_until = is_null ? 0 : DatumGetTimestampTz(lease);
		claimed->idempotency_key = sba_result_text(row, 5);
		claimed->path = sba_result_text(row, 6);
		claimed->body = sba_result_text(row, 7);
		list = lappend(list, claimed);
	}
	return list;
}

List	   *
sba_claim_deliveries(const char *receiver, int most)
{
	return claim(&claim_query, receiver, most);
}

List	   *
sba_claim_resends(const char *receiver, int most)
{
	return claim(&resends_query, receiver, most);
}

void
sba_record_delivery(const SbaClaimed *claimed, const char *receiver,
					const char *outcome, const char *error, double wait_s)
{
	Datum		arguments[8];
	char		nulls[8];

	arguments[0] = CStringGetTextDatum(claimed->service);
	arguments[1] = CStringGetTextDatum(claimed->incident_id);
	arguments[2] = Int32GetDatum(claimed->alert_number);
	arguments[3] = CStringGetTextDatum(receiver);
	arguments[4] = TimestampTzGetDatum(claimed->leased_until);
	arguments[5] = CStringGetTextDatum(outcome);
	arguments[6] = error == NULL ? (Datum) 0 : CStringGetTextDatum(error);
	arguments[7] = Float8GetDatum(Min(wait_s, LONGEST_WAIT_S));
	memset(nulls, ' ', sizeof(nulls));
	if (error == NULL)
		nulls[6] = 'n';
	sba_query_run(&record_query, arguments, nulls, 0);
}
