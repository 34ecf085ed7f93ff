/*
 * result_set.h
 *	  Set-returning functions that build their whole result at once.
 */
#ifndef SBA_PG_RESULT_SET_H
#define SBA_PG_RESULT_SET_H

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

#endif							/* SBA_PG_RESULT_SET_H */
