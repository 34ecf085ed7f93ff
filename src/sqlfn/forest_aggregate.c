/*
 * forest_aggregate.c
 *	  The aggregate isolation_forest(point, trees, sample_size, seed).
 *
 * Its state is a reservoir of rows; the forest is fitted at the end.  Parallel
 * workers fill reservoirs of their own, which are merged.
 */
#include "postgres.h"

#include <stdlib.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/forest_reservoir.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "sqlfn/forest_argument.h"

SBA_FUNCTION(sba_forest_aggregate_add);
SBA_FUNCTION(sba_forest_aggregate_combine);
SBA_FUNCTION(sba_forest_aggregate_serialize);
SBA_FUNCTION(sba_forest_aggregate_deserialize);
SBA_FUNCTION(sba_forest_aggregate_finish);

/* A serialized state: this, then the rows.  Both ends are the same server. */
typedef struct SerializedState
{
	SbaForestParameters parameters;
	uint64		n_seen;
	uint32		n_rows;
} SerializedState;

/* The memory context of the aggregate's state. */
static MemoryContext
aggregate_memory(FunctionCallInfo fcinfo)
{
	MemoryContext memory;

	if (!AggCheckCallContext(fcinfo, &memory))
		elog(ERROR, "a part of the aggregate isolation_forest was called outside of it");
	return memory;
}

/* A parameter that may be absent or null, which stands for its default. */
static uint32
count_parameter(FunctionCallInfo fcinfo, int number, const char *name,
				int least, int greatest, int value)
{
	if (PG_NARGS() > number && !PG_ARGISNULL(number))
		value = PG_GETARG_INT32(number);
	if (value < least || value > greatest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be %d to %d, not %d", name, least, greatest, value)));
	return (uint32) value;
}

static void
get_parameters(FunctionCallInfo fcinfo, SbaForestParameters *parameters)
{
	parameters->n_trees = count_parameter(fcinfo, 2, "trees", 1, SBA_FOREST_MAX_TREES,
										  SBA_FOREST_DEFAULT_TREES);
	parameters->sample_size = count_parameter(fcinfo, 3, "sample_size", 2, SBA_FOREST_MAX_SAMPLE_SIZE,
											  SBA_FOREST_DEFAULT_SAMPLE_SIZE);
	parameters->seed = 0;
	if (PG_NARGS() > 4 && !PG_ARGISNULL(4))
		parameters->seed = (uint64) PG_GETARG_INT64(4);
}

/* What fits one part of a group must fit the others. */
static void
check_same(const SbaForestParameters *before, const SbaForestParameters *now)
{
	if (now->n_features != before->n_features)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("points of a group have different numbers of features: %u and %u",
						before->n_features, now->n_features)));
	if (now->n_trees != before->n_trees || now->sample_size != before->sample_size ||
		now->seed != before->seed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trees, sample_size and seed must be the same for all points of a group")));
}

static SbaForestReservoir *
start_reservoir(MemoryContext memory, const SbaForestParameters *parameters)
{
	SbaForestReservoir *reservoir = MemoryContextAlloc(memory, sizeof(SbaForestReservoir));
	SbaError	error;

	if (sba_forest_reservoir_start(reservoir, parameters, &error) != SBA_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the isolation forest would be too large"),
				 errdetail_internal("%s.", error.message),
				 errhint("Use fewer trees or a smaller sample_size.")));
	return reservoir;
}

static void
make_room(MemoryContext memory, SbaForestReservoir *reservoir, uint32 room)
{
	Size		size = (Size) room * reservoir->parameters.n_features * sizeof(double);

	if (room == reservoir->room)
		return;
	if (reservoir->rows == NULL)
		reservoir->rows = MemoryContextAlloc(memory, size);
	else
		reservoir->rows = repalloc(reservoir->rows, size);
	reservoir->room = room;
}

/*
 * smartbox.isolation_forest_add(internal, point float8[] [, trees [, sample_size [, seed]]])
 *		returns internal
 */
Datum
sba_forest_aggregate_add(PG_FUNCTION_ARGS)
{
	MemoryContext memory = aggregate_memory(fcinfo);
	SbaForestReservoir *reservoir = PG_ARGISNULL(0) ? NULL : (SbaForestReservoir *) PG_GETARG_POINTER(0);
	SbaForestParameters parameters;
	double		buffer[SBA_FOREST_MAX_FEATURES];
	const double *point;

	if (!PG_ARGISNULL(1))
	{
		get_parameters(fcinfo, &parameters);
		point = sba_point_values(PG_GETARG_ARRAYTYPE_P(1), buffer, &parameters.n_features);
		if (reservoir == NULL)
			reservoir = start_reservoir(memory, &parameters);
		check_same(&reservoir->parameters, &parameters);
		make_room(memory, reservoir, sba_forest_reservoir_next_room(reservoir));
		sba_forest_reservoir_add(reservoir, point);
	}
	if (reservoir == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(reservoir);
}

/*
 * smartbox.isolation_forest_combine(internal, internal) returns internal
 */
Datum
sba_forest_aggregate_combine(PG_FUNCTION_ARGS)
{
	MemoryContext memory = aggregate_memory(fcinfo);
	SbaForestReservoir *into = PG_ARGISNULL(0) ? NULL : (SbaForestReservoir *) PG_GETARG_POINTER(0);
	SbaForestReservoir *from = PG_ARGISNULL(1) ? NULL : (SbaForestReservoir *) PG_GETARG_POINTER(1);

	if (from != NULL)
	{
		/* The second state may be gone with the next row. */
		if (into == NULL)
			into = start_reservoir(memory, &from->parameters);
		check_same(&into->parameters, &from->parameters);
		make_room(memory, into, Max(into->room, sba_forest_reservoir_merged_rows(into, from)));
		sba_forest_reservoir_merge(into, from);
	}
	if (into == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(into);
}

static Size
rows_size(const SbaForestParameters *parameters, uint32 n_rows)
{
	return (Size) n_rows * parameters->n_features * sizeof(double);
}

/*
 * smartbox.isolation_forest_serialize(internal) returns bytea
 */
Datum
sba_forest_aggregate_serialize(PG_FUNCTION_ARGS)
{
	SbaForestReservoir *reservoir = (SbaForestReservoir *) PG_GETARG_POINTER(0);
	SerializedState state;
	Size		size = rows_size(&reservoir->parameters, reservoir->n_rows);
	bytea	   *result;

	(void) aggregate_memory(fcinfo);
	memset(&state, 0, sizeof(state));
	state.parameters = reservoir->parameters;
	state.n_seen = reservoir->n_seen;
	state.n_rows = reservoir->n_rows;
	result = palloc(VARHDRSZ + sizeof(state) + size);
	SET_VARSIZE(result, VARHDRSZ + sizeof(state) + size);
	memcpy(VARDATA(result), &state, sizeof(state));
	memcpy(VARDATA(result) + sizeof(state), reservoir->rows, size);
	PG_RETURN_BYTEA_P(result);
}

/*
 * smartbox.isolation_forest_deserialize(bytea, internal) returns internal
 */
Datum
sba_forest_aggregate_deserialize(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	SbaForestReservoir *reservoir;
	SerializedState state;

	(void) aggregate_memory(fcinfo);
	if (VARSIZE_ANY_EXHDR(bytes) < sizeof(state))
		elog(ERROR, "state of isolation_forest is too short");
	memcpy(&state, VARDATA_ANY(bytes), sizeof(state));
	reservoir = start_reservoir(CurrentMemoryContext, &state.parameters);
	if (state.n_rows > reservoir->capacity || state.n_seen < state.n_rows ||
		VARSIZE_ANY_EXHDR(bytes) != sizeof(state) + rows_size(&state.parameters, state.n_rows))
		elog(ERROR, "state of isolation_forest has a wrong length");
	make_room(CurrentMemoryContext, reservoir, state.n_rows);
	memcpy(reservoir->rows, VARDATA_ANY(bytes) + sizeof(state),
		   rows_size(&state.parameters, state.n_rows));
	reservoir->n_rows = state.n_rows;
	reservoir->n_seen = state.n_seen;
	PG_RETURN_POINTER(reservoir);
}

/* Whether CHECK_FOR_INTERRUPTS() would do anything. */
static bool
is_interrupted(void *argument)
{
	return INTERRUPTS_PENDING_CONDITION() && INTERRUPTS_CAN_BE_PROCESSED();
}

/*
 * Fit the forest; *bytes is malloc'ed.  An interrupt ends the fit, so that the
 * C library's memory is freed before an error may be raised.  Some interrupts
 * raise none: then the fit begins again, from the same rows and seed.
 */
static void
fit_forest(const SbaForestReservoir *reservoir, uint8_t **bytes, size_t *length)
{
	const SbaStopCheck stop = {is_interrupted, NULL};
	SbaStatus	status;
	SbaError	error;

	do
	{
		CHECK_FOR_INTERRUPTS();
		status = sba_forest_fit_stoppable(reservoir->rows, reservoir->n_rows, &reservoir->parameters,
										  &stop, bytes, length, &error);
	} while (status == SBA_CANCELLED);
	if (status != SBA_OK)
		sba_report_error(&error, "cannot fit an isolation forest");
}

/*
 * smartbox.isolation_forest_finish(internal) returns bytea
 */
Datum
sba_forest_aggregate_finish(PG_FUNCTION_ARGS)
{
	SbaForestReservoir *reservoir;
	bytea	   *result = NULL;
	uint8_t    *bytes;
	size_t		length;

	(void) aggregate_memory(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	reservoir = (SbaForestReservoir *) PG_GETARG_POINTER(0);
	fit_forest(reservoir, &bytes, &length);

	/* An error must not leave the C library's memory behind. */
	if (AllocSizeIsValid(VARHDRSZ + length))
		result = palloc_extended(VARHDRSZ + length, MCXT_ALLOC_NO_OOM);
	if (result != NULL)
	{
		SET_VARSIZE(result, VARHDRSZ + length);
		memcpy(VARDATA(result), bytes, length);
	}
	free(bytes);
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("The isolation forest has %zu bytes.", length)));
	PG_RETURN_BYTEA_P(result);
}
