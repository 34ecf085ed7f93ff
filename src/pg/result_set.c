/*
 * result_set.c
 *	  Set-returning functions that build their whole result at once.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "pg/result_set.h"

void
sba_begin_rows(FunctionCallInfo fcinfo)
{
	/* the function's own type describes no row when it is not a composite */
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
}

void
sba_add_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

ArrayType  *
sba_text_array_argument(FunctionCallInfo fcinfo, int number)
{
	ArrayType  *array;

	if (PG_ARGISNULL(number))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(number);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("the array of names has %d dimensions, it must have one", ARR_NDIM(array))));
	return array;
}

/* An instant that must be given and finite. */
static TimestampTz
instant_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	TimestampTz instant;

	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	instant = PG_GETARG_TIMESTAMPTZ(number);
	if (TIMESTAMP_NOT_FINITE(instant))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("%s must be finite", name)));
	return instant;
}

void
sba_span_argument(FunctionCallInfo fcinfo, int number, TimestampTz *since, TimestampTz *until)
{
	*since = instant_argument(fcinfo, number, "since");
	*until = instant_argument(fcinfo, number + 1, "until");
	if (*since > *until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("since must not be after until")));
}
