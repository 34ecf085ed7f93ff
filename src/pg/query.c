/*
 * query.c
 *	  Queries through SPI: kept plans, typed results.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"

#include "pg/query.h"

void
sba_query_run(SbaQuery *query, Datum *arguments, const char *nulls, long max_rows)
{
	int			result;

	if (query->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(query->text, query->n_arguments, query->argument_types);

		if (plan == NULL)
			elog(ERROR, "could not prepare query: %s", SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep plan");
		query->plan = plan;
	}
	result = SPI_execute_plan(query->plan, arguments, nulls, false, max_rows);
	if (result != query->expected)
		elog(ERROR, "query gave %s: %s", SPI_result_code_string(result), query->text);
}

Datum
sba_result_datum(uint64 row, int column, bool *is_null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, is_null);
}

char	   *
sba_result_text(uint64 row, int column)
{
	bool		is_null;
	Datum		value = sba_result_datum(row, column, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

double
sba_result_float8(uint64 row, int column, double when_null)
{
	bool		is_null;
	Datum		value = sba_result_datum(row, column, &is_null);

	return is_null ? when_null : DatumGetFloat8(value);
}

int
sba_result_int4(uint64 row, int column, int when_null)
{
	bool		is_null;
	Datum		value = sba_result_datum(row, column, &is_null);

	return is_null ? when_null : DatumGetInt32(value);
}

bool
sba_result_bool(uint64 row, int column)
{
	bool		is_null;
	Datum		value = sba_result_datum(row, column, &is_null);

	return !is_null && DatumGetBool(value);
}

int
sba_pin_search_path(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
sba_report_error(const SbaError *error, const char *what)
{
	int			code = ERRCODE_INTERNAL_ERROR;

	switch (error->status)
	{
		case SBA_OUT_OF_MEMORY:
			code = ERRCODE_OUT_OF_MEMORY;
			break;
		case SBA_INVALID_ARGUMENT:
			code = ERRCODE_INVALID_PARAMETER_VALUE;
			break;
		case SBA_CORRUPT:
			code = ERRCODE_DATA_CORRUPTED;
			break;
		case SBA_UNSUPPORTED_VERSION:
			code = ERRCODE_FEATURE_NOT_SUPPORTED;
			break;
		case SBA_SYNTAX:
			code = ERRCODE_INVALID_TEXT_REPRESENTATION;
			break;
		case SBA_OK:
		case SBA_CANCELLED:
			break;
	}
	ereport(ERROR,
			(errcode(code),
			 errmsg("%s", what),
			 errdetail_internal("%s.", error->message)));
}
