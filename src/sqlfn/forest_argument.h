/*
 * forest_argument.h
 *	  Forests and points as arguments of SQL functions.
 */
#ifndef SBA_SQLFN_FOREST_ARGUMENT_H
#define SBA_SQLFN_FOREST_ARGUMENT_H

#include "fmgr.h"
#include "utils/array.h"

#include "core/forest.h"

/*
 * The forest in argument number, checked; valid during this call.  What was
 * checked is kept with the function's call site, so that a table's rows pay
 * for one check.  Errors: data_corrupted for a damaged forest.
 */
extern const SbaForest *sba_forest_argument(FunctionCallInfo fcinfo, int number);

/* The same for a single point; a forest of many points is unfolded. */
extern const SbaForest *sba_forest_argument_for_point(FunctionCallInfo fcinfo, int number);

/*
 * The values of an array, null as NaN: the array's own memory, or the buffer,
 * which must have room for all of them.
 */
extern const double *sba_array_values(ArrayType *array, double *buffer);

/*
 * The values of an array that is a point; raises an error if it is not
 * one-dimensional or has more features than a forest may have.  The buffer
 * has room for SBA_FOREST_MAX_FEATURES.
 */
extern const double *sba_point_values(ArrayType *point, double *buffer, uint32_t *n_features);

/* The same for a point that is to be judged by this forest. */
extern const double *sba_point_of_forest(ArrayType *point, const SbaForest *forest,
										 double *buffer);

extern void sba_check_features(const SbaForest *forest, int n_features);

#endif							/* SBA_SQLFN_FOREST_ARGUMENT_H */
