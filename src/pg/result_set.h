/*
 * result_set.h
 *	  Set-returning functions that build their whole result at once.
 */
#ifndef SBA_PG_RESULT_SET_H
#define SBA_PG_RESULT_SET_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/array.h"

/*
 * Prepare fcinfo to return rows; call before anything else.  Rows are added
 * with sba_add_row().  Works in functions that run SPI, too.
 */
extern void sba_begin_rows(FunctionCallInfo fcinfo);
extern void sba_add_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls);

/* A text[] argument, or NULL when it is null; it must have one dimension. */
extern ArrayType *sba_text_array_argument(FunctionCallInfo fcinfo, int number);

/* The arguments since and until, this one and the next: given, finite, in order. */
extern void sba_span_argument(FunctionCallInfo fcinfo, int number, TimestampTz *since, TimestampTz *until);

#endif							/* SBA_PG_RESULT_SET_H */
