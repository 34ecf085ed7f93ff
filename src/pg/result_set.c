/*
 * result_set.c
 *	  Set-returning functions that build their whole result at once.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
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
				 errmsg("the array of services has %d dimensions, it must have one", ARR_NDIM(array))));
	return array;
}
