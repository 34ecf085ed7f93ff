/*
 * forest_functions.c
 *	  Judging points by an isolation forest, and looking into it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"

#include "core/forest_inspect.h"
#include "pg/compat.h"
#include "pg/result_set.h"
#include "sqlfn/forest_argument.h"

SBA_FUNCTION(sba_isolation_forest_score);
SBA_FUNCTION(sba_isolation_forest_scores);
SBA_FUNCTION(sba_isolation_forest_contributions);
SBA_FUNCTION(sba_isolation_forest_info);
SBA_FUNCTION(sba_isolation_forest_trees);

/* Points that are scored between two looks for a cancel request. */
#define BATCH_POINTS 16384

/* Columns of isolation_forest_trees(). */
enum
{
	COLUMN_TREE,
	COLUMN_NODE,
	COLUMN_FEATURE,
	COLUMN_THRESHOLD,
	COLUMN_ROWS,
	COLUMN_DEPTH,
	COLUMN_LEFT_NODE,
	COLUMN_RIGHT_NODE,
	COLUMN_PATH_LENGTH,
	N_COLUMNS
};

/*
 * isolation_forest_score(forest bytea, point float8[]) returns float8
 */
Datum
sba_isolation_forest_score(PG_FUNCTION_ARGS)
{
	const SbaForest *forest = sba_forest_argument_for_point(fcinfo, 0);
	double		buffer[SBA_FOREST_MAX_FEATURES];
	const double *point = sba_point_of_forest(PG_GETARG_ARRAYTYPE_P(1), forest, buffer);

	PG_RETURN_FLOAT8(sba_forest_score_one(forest, point));
}

/* An array without nulls, of n values that are still to be set. */
static ArrayType *
make_float8_array(int n, double **values)
{
	Size		size = ARR_OVERHEAD_NONULLS(1) + (Size) n * sizeof(double);
	ArrayType  *array;

	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = FLOAT8OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	*values = (double *) ARR_DATA_PTR(array);
	return array;
}

/*
 * isolation_forest_scores(forest bytea, points float8[]) returns float8[]
 */
Datum
sba_isolation_forest_scores(PG_FUNCTION_ARGS)
{
	const SbaForest *forest = sba_forest_argument(fcinfo, 0);
	ArrayType  *points = PG_GETARG_ARRAYTYPE_P(1);
	ArrayType  *result;
	double	   *buffer = NULL;
	const double *rows;
	double	   *scores;
	int			n_points;
	int			first;

	if (ARR_NDIM(points) == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(FLOAT8OID));
	if (ARR_NDIM(points) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("an array of points has two dimensions, not %d", ARR_NDIM(points)),
				 errhint("array_agg() makes one of points; isolation_forest_score() judges a single point.")));
	sba_check_features(forest, ARR_DIMS(points)[1]);
	n_points = ARR_DIMS(points)[0];
	if (ARR_HASNULL(points))
		buffer = palloc_extended((Size) n_points * forest->n_features * sizeof(double), MCXT_ALLOC_HUGE);
	rows = sba_array_values(points, buffer);
	result = make_float8_array(n_points, &scores);
	for (first = 0; first < n_points; first += BATCH_POINTS)
	{
		CHECK_FOR_INTERRUPTS();
		sba_forest_score(forest, rows + (Size) first * forest->n_features,
						 (Size) Min(BATCH_POINTS, n_points - first), scores + first);
	}
	PG_RETURN_ARRAYTYPE_P(result);
}

/*
 * isolation_forest_contributions(forest bytea, point float8[]) returns float8[]
 */
Datum
sba_isolation_forest_contributions(PG_FUNCTION_ARGS)
{
	const SbaForest *forest = sba_forest_argument(fcinfo, 0);
	double		buffer[SBA_FOREST_MAX_FEATURES];
	const double *point = sba_point_of_forest(PG_GETARG_ARRAYTYPE_P(1), forest, buffer);
	double	   *contributions;
	ArrayType  *result = make_float8_array((int) forest->n_features, &contributions);

	if (!sba_forest_contributions(forest, point, contributions))
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(result);
}

/*
 * isolation_forest_info(forest bytea) returns jsonb
 *
 * All of it is numbers and fixed names; numbers are written in full, so that
 * nothing of a feature's unit is lost.
 */
Datum
sba_isolation_forest_info(PG_FUNCTION_ARGS)
{
	static const char *const form_names[] = {"heap", "linked", "table"};
	const SbaForest *forest = sba_forest_argument(fcinfo, 0);
	SbaForestSummary summary;
	StringInfoData text;
	uint32_t	i;

	sba_forest_summary(forest, &summary);
	initStringInfo(&text);
	appendStringInfo(&text, "{\"format_version\": %u, \"form\": \"%s\", \"features\": %u, \"trees\": %u,"
					 " \"sample_size\": %u, \"seed\": " INT64_FORMAT ", \"bytes\": %zu, \"key_bits\": %u",
					 summary.format_version, form_names[summary.form], forest->n_features, forest->n_trees,
					 forest->sample_size, (int64) forest->seed, forest->length, summary.key_bits);
	if (summary.form == SBA_FOREST_FORM_TABLE)
		appendStringInfo(&text, ", \"steps\": %u", summary.n_steps);
	appendStringInfoString(&text, ", \"feature\": [");
	for (i = 0; i < forest->n_features; i++)
	{
		SbaForestFeature feature;

		sba_forest_feature(forest, i, &feature);
		appendStringInfo(&text, "%s{\"centre\": %s, \"scale\": %s, \"fill\": %s}", i > 0 ? ", " : "",
						 float8out_internal(feature.centre), float8out_internal(feature.scale),
						 float8out_internal(feature.fill));
	}
	appendStringInfoString(&text, "]}");
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));
}

/* The rows of a forest of one feature: where a step begins, and its path. */
static void
add_steps(FunctionCallInfo fcinfo, const SbaForest *forest, uint32_t n_steps)
{
	uint32_t	step;

	for (step = 0; step <= n_steps; step++)
	{
		Datum		values[N_COLUMNS] = {0};
		bool		nulls[N_COLUMNS];
		double		threshold;
		double		path_length;

		if (step % BATCH_POINTS == 0)
			CHECK_FOR_INTERRUPTS();
		sba_forest_step(forest, step, &threshold, &path_length);
		memset(nulls, true, sizeof(nulls));
		values[COLUMN_NODE] = Int32GetDatum((int32) step + 1);
		values[COLUMN_FEATURE] = Int32GetDatum(1);
		values[COLUMN_THRESHOLD] = Float8GetDatum(threshold);
		values[COLUMN_PATH_LENGTH] = Float8GetDatum(path_length);
		nulls[COLUMN_NODE] = false;
		nulls[COLUMN_FEATURE] = false;
		nulls[COLUMN_THRESHOLD] = false;
		nulls[COLUMN_PATH_LENGTH] = false;
		sba_add_row(fcinfo, values, nulls);
	}
}

static void
add_node(FunctionCallInfo fcinfo, int tree, int number, const SbaForestNode *node)
{
	bool		is_leaf = node->left == 0;
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};

	values[COLUMN_TREE] = Int32GetDatum(tree);
	values[COLUMN_NODE] = Int32GetDatum(number);
	values[COLUMN_FEATURE] = Int32GetDatum((int32) node->feature + 1);
	values[COLUMN_THRESHOLD] = Float8GetDatum(node->threshold);
	values[COLUMN_ROWS] = Int32GetDatum((int32) node->rows);
	values[COLUMN_DEPTH] = Int32GetDatum((int32) node->depth);
	values[COLUMN_LEFT_NODE] = Int32GetDatum((int32) node->left + 1);
	values[COLUMN_RIGHT_NODE] = Int32GetDatum((int32) node->right + 1);
	values[COLUMN_PATH_LENGTH] = Float8GetDatum(node->path_length);
	nulls[COLUMN_FEATURE] = is_leaf;
	nulls[COLUMN_THRESHOLD] = is_leaf;
	nulls[COLUMN_LEFT_NODE] = is_leaf;
	nulls[COLUMN_RIGHT_NODE] = is_leaf;
	nulls[COLUMN_PATH_LENGTH] = !is_leaf;
	sba_add_row(fcinfo, values, nulls);
}

/*
 * isolation_forest_trees(forest bytea) returns setof
 *		(tree, node, feature, threshold, rows, depth, left_node, right_node, path_length)
 */
Datum
sba_isolation_forest_trees(PG_FUNCTION_ARGS)
{
	const SbaForest *forest = sba_forest_argument(fcinfo, 0);
	SbaForestSummary summary;
	SbaForestCursor cursor;
	SbaForestNode *nodes;
	uint32_t	n_nodes;
	uint32_t	i;

	sba_begin_rows(fcinfo);
	sba_forest_summary(forest, &summary);
	if (summary.form == SBA_FOREST_FORM_TABLE)
	{
		add_steps(fcinfo, forest, summary.n_steps);
		PG_RETURN_NULL();
	}
	nodes = palloc((2 * (Size) forest->sample_size - 1) * sizeof(SbaForestNode));
	sba_forest_first_tree(&cursor, forest);
	while ((n_nodes = sba_forest_next_tree(&cursor, nodes)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		for (i = 0; i < n_nodes; i++)
			add_node(fcinfo, (int) cursor.next_tree, (int) i + 1, &nodes[i]);
	}
	PG_RETURN_NULL();
}
