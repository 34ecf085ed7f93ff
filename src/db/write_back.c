/*
 * write_back.c
 *	  smartbox.write_backs: which scores are to be written as series, and what
 *	  became of them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/write_back.h"
#include "pg/query.h"

static SbaQuery claim_query = {
	.text = "SELECT service, written_until, lines, points FROM smartbox.claim_write_backs($1, $2, $3)",
	.n_arguments = 3,
	.argument_types = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery record_query = {
	.text = "SELECT smartbox.record_write_back($1, $2, $3, $4, $5, $6)",
	.n_arguments = 6,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

List	   *
sba_claim_write_backs(int most, int64 lease_ms, StringInfo lines)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz leased_until = now + lease_ms * 1000;
	Datum		arguments[3] = {TimestampTzGetDatum(now), TimestampTzGetDatum(leased_until), Int32GetDatum(most)};
	List	   *claimed = NIL;
	uint64		row;

	sba_query_run(&claim_query, arguments, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		SbaWriteBack *one = palloc(sizeof(SbaWriteBack));
		char	   *text = sba_result_text(row, 3);
		bool		is_null;

		CHECK_FOR_INTERRUPTS();
		one->service = sba_result_text(row, 1);
		one->written_until = DatumGetTimestampTz(sba_result_datum(row, 2, &is_null));
		one->leased_until = leased_until;
		one->n_points = DatumGetInt64(sba_result_datum(row, 4, &is_null));
		if (text != NULL)
			appendStringInfoString(lines, text);
		claimed = lappend(claimed, one);
	}
	SPI_freetuptable(SPI_tuptable);
	return claimed;
}

void
sba_record_write_backs(List *claimed, const char *error)
{
	ListCell   *cell;
	Datum		arguments[6];
	char		nulls[6];

	memset(nulls, ' ', sizeof(nulls));
	if (error == NULL)
		nulls[4] = 'n';
	arguments[4] = error == NULL ? (Datum) 0 : CStringGetTextDatum(error);
	arguments[5] = TimestampTzGetDatum(GetCurrentTimestamp());
	foreach(cell, claimed)
	{
		const SbaWriteBack *one = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		arguments[0] = CStringGetTextDatum(one->service);
		arguments[1] = TimestampTzGetDatum(one->leased_until);
		arguments[2] = TimestampTzGetDatum(one->written_until);
		arguments[3] = Int64GetDatum(one->n_points);
		sba_query_run(&record_query, arguments, nulls, 0);
		SPI_freetuptable(SPI_tuptable);
	}
}
