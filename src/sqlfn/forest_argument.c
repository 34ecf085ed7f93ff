/*
 * forest_argument.c
 *	  Forests and points as arguments of SQL functions.
 *
 * Checking a forest takes longer than scoring a row, so a call site keeps the
 * forests that it has checked lately.  What comes in is compared byte by byte
 * with what came in when the kept copy was made:
 *
 *	- a constant of the query cannot change, it is not compared at all;
 *	- a value in a TOAST table is compared by its pointer, which names one
 *	  stored value as long as the transaction lasts, and is forgotten with it;
 *	- anything else is compared in full.
 *
 * So a forest that changes from row to row, or is changed in place by whoever
 * calls, is never taken for the one before.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "nodes/primnodes.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "core/bytes.h"
#include "core/crc32c.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "sqlfn/forest_argument.h"

/* Enough for a table that is joined to one forest for each kind of row. */
#define MAX_KEPT_FORESTS 16
#define MAX_KEPT_BYTES (32 * 1024 * 1024)

/* Unfolding a forest takes as long as scoring about 50 points gains by it. */
#define POINTS_BEFORE_UNFOLDING 64

typedef struct KeptForest
{
	MemoryContext memory;		/* holds all of it */
	struct varlena *argument;	/* as it came in */
	Size		size;
	SbaForest	forest;
	int			n_points;		/* scored one by one, up to the limit above */
} KeptForest;

typedef struct ForestCache
{
	TimestampTz transaction;	/* its start; TOAST pointers are of this one */
	bool		is_constant;
	int			last;			/* the one that was asked for last */
	int			n_kept;
	Size		bytes_kept;
	KeptForest	kept[MAX_KEPT_FORESTS];
} ForestCache;

/* The argument stands in the query as a value. */
static bool
is_constant_argument(FmgrInfo *flinfo, int number)
{
	Node	   *call = flinfo->fn_expr;
	List	   *arguments;

	if (call == NULL || !IsA(call, FuncExpr))
		return false;
	arguments = ((FuncExpr *) call)->args;
	return number < list_length(arguments) && IsA(list_nth(arguments, number), Const);
}

static ForestCache *
get_cache(FmgrInfo *flinfo, int number)
{
	ForestCache *cache = flinfo->fn_extra;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(ForestCache));
		cache->is_constant = is_constant_argument(flinfo, number);
		flinfo->fn_extra = cache;
	}
	return cache;
}

static void
forget_forest(ForestCache *cache, int i)
{
	cache->bytes_kept -= cache->kept[i].size;
	MemoryContextDelete(cache->kept[i].memory);
	cache->kept[i] = cache->kept[--cache->n_kept];
}

/* Which of the kept forests this is, or -1. */
static int
find_kept(const ForestCache *cache, const struct varlena *argument)
{
	Size		size = VARSIZE_ANY(argument);
	int			i;

	for (i = 0; i < cache->n_kept; i++)
	{
		int			number = (cache->last + i) % cache->n_kept;
		const struct varlena *kept = cache->kept[number].argument;

		if (VARSIZE_ANY(kept) == size && memcmp(kept, argument, size) == 0)
			return number;
	}
	return -1;
}

/*
 * Check a forest.  A wrong checksum is the more likely reason for a version
 * that nobody has written yet.
 */
static void
open_forest(const struct varlena *bytes, SbaForest *forest)
{
	const uint8_t *data = (const uint8_t *) VARDATA_ANY(bytes);
	Size		length = VARSIZE_ANY_EXHDR(bytes);
	SbaError	error;

	if (sba_forest_open(data, length, forest, &error) == SBA_OK)
		return;
	if (error.status == SBA_UNSUPPORTED_VERSION &&
		sba_crc32c(0, data, length - 4) != sba_load_u32(data + length - 4))
		sba_fail(&error, SBA_CORRUPT, "forest has a wrong checksum");
	sba_report_error(&error, "cannot use this isolation forest");
}

/* Copy and check a forest in a memory context of its own. */
static void
read_forest(struct varlena *argument, KeptForest *kept)
{
	Size		size = VARSIZE_ANY(argument);
	struct varlena *bytes;
	MemoryContext caller;

	kept->memory = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly forest",
										 ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(kept->memory);
	kept->argument = palloc(size);
	memcpy(kept->argument, argument, size);
	bytes = kept->argument;
	if (VARATT_IS_EXTERNAL(bytes) || VARATT_IS_COMPRESSED(bytes))
		bytes = detoast_attr(bytes);
	MemoryContextSwitchTo(caller);
	open_forest(bytes, &kept->forest);
	kept->size = size + (bytes == kept->argument ? 0 : VARSIZE_ANY(bytes));
	kept->n_points = 0;
}

/* The forest in argument number, checked and kept. */
static KeptForest *
keep_argument(FunctionCallInfo fcinfo, int number)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	struct varlena *argument = (struct varlena *) PG_GETARG_POINTER(number);
	ForestCache *cache = get_cache(flinfo, number);
	KeptForest	kept;
	int			found;

	if (cache->is_constant && cache->n_kept > 0)
		return &cache->kept[0];
	if (cache->transaction != GetCurrentTransactionStartTimestamp())
	{
		while (cache->n_kept > 0)
			forget_forest(cache, cache->n_kept - 1);
		cache->transaction = GetCurrentTransactionStartTimestamp();
	}

	/* Pointers into memory say nothing about what is there. */
	if (VARATT_IS_EXTERNAL(argument) && !VARATT_IS_EXTERNAL_ONDISK(argument))
		argument = detoast_external_attr(argument);

	found = find_kept(cache, argument);
	if (found < 0)
	{
		/* Only what was found to be sound outlives this call. */
		read_forest(argument, &kept);
		while (cache->n_kept > 0 && (cache->n_kept == MAX_KEPT_FORESTS ||
									 cache->bytes_kept + kept.size > MAX_KEPT_BYTES))
			forget_forest(cache, 0);
		MemoryContextSetParent(kept.memory, flinfo->fn_mcxt);
		found = cache->n_kept++;
		cache->kept[found] = kept;
		cache->bytes_kept += kept.size;
	}
	cache->last = found;
	return &cache->kept[found];
}

const SbaForest *
sba_forest_argument(FunctionCallInfo fcinfo, int number)
{
	return &keep_argument(fcinfo, number)->forest;
}

const SbaForest *
sba_forest_argument_for_point(FunctionCallInfo fcinfo, int number)
{
	KeptForest *kept = keep_argument(fcinfo, number);

	if (kept->n_points < POINTS_BEFORE_UNFOLDING &&
		++kept->n_points == POINTS_BEFORE_UNFOLDING)
	{
		ForestCache *cache = fcinfo->flinfo->fn_extra;
		Size		size = sba_forest_unfolded_size(&kept->forest);

		if (size > 0 && cache->bytes_kept + size <= MAX_KEPT_BYTES)
		{
			sba_forest_unfold(&kept->forest, MemoryContextAlloc(kept->memory, size));
			kept->size += size;
			cache->bytes_kept += size;
		}
	}
	return &kept->forest;
}

const double *
sba_array_values(ArrayType *array, double *buffer)
{
	const double *values = (const double *) ARR_DATA_PTR(array);
	const bits8 *present = ARR_NULLBITMAP(array);
	int			n_values;
	int			next = 0;
	int			i;

	if (present == NULL)
		return values;
	n_values = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	for (i = 0; i < n_values; i++)
	{
		bool		is_present = (present[i / 8] & (1 << (i % 8))) != 0;

		buffer[i] = is_present ? values[next++] : get_float8_nan();
	}
	return buffer;
}

const double *
sba_point_values(ArrayType *point, double *buffer, uint32_t *n_features)
{
	if (ARR_NDIM(point) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("a point has one dimension, not %d", ARR_NDIM(point)),
				 errhint("isolation_forest_scores() judges an array of points.")));
	if (ARR_NDIM(point) == 0 || ARR_DIMS(point)[0] > SBA_FOREST_MAX_FEATURES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a point has 1 to %d features, not %d", SBA_FOREST_MAX_FEATURES,
						ARR_NDIM(point) == 0 ? 0 : ARR_DIMS(point)[0])));
	*n_features = (uint32_t) ARR_DIMS(point)[0];
	return sba_array_values(point, buffer);
}

void
sba_check_features(const SbaForest *forest, int n_features)
{
	if (n_features != (int) forest->n_features)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the point and the forest have different numbers of features: %d and %u",
						n_features, forest->n_features)));
}

const double *
sba_point_of_forest(ArrayType *point, const SbaForest *forest, double *buffer)
{
	uint32_t	n_features;
	const double *values = sba_point_values(point, buffer, &n_features);

	sba_check_features(forest, (int) n_features);
	return values;
}
