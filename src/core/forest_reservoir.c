/*
 * forest_reservoir.c
 *	  A uniform sample of rows that come one after the other.
 */
#include "core/forest_reservoir.h"

#include <string.h>

#define FIRST_ROOM 64

/*
 * A number in 0 .. bound - 1, each equally likely, for bounds beyond 32 bits:
 * as many random bits as the bound has, until they are below it.
 */
static uint64_t
random_below(SbaRandom *random, uint64_t bound)
{
	uint64_t	mask = bound - 1;
	uint64_t	value;

	if (bound <= UINT32_MAX)
		return sba_random_below(random, (uint32_t) bound);
	for (int shift = 1; shift < 64; shift *= 2)
		mask |= mask >> shift;
	do
		value = sba_random_u64(random) & mask;
	while (value >= bound);
	return value;
}

static uint64_t
hash_rows(const SbaForestReservoir *reservoir)
{
	size_t		n_values = (size_t) reservoir->n_rows * reservoir->parameters.n_features;
	uint64_t	hash = sba_mix_u64(reservoir->n_seen);

	for (size_t i = 0; i < n_values; i++)
	{
		uint64_t	bits;

		memcpy(&bits, &reservoir->rows[i], sizeof(bits));
		/* The step keeps a run of zeros from having the hash 0. */
		hash = sba_mix_u64(hash ^ bits) + 1;
	}
	return hash;
}

SbaStatus
sba_forest_reservoir_start(SbaForestReservoir *reservoir,
						   const SbaForestParameters *parameters, SbaError *error)
{
	uint64_t	tree_rows = (uint64_t) parameters->n_trees * parameters->sample_size;
	uint64_t	values = (uint64_t) parameters->n_features * parameters->sample_size;
	uint32_t	most_rows;
	SbaStatus	status;

	memset(reservoir, 0, sizeof(*reservoir));
	status = sba_forest_check_parameters(parameters, error);
	if (status != SBA_OK)
		return status;
	if (tree_rows > SBA_RESERVOIR_MAX_TREE_ROWS)
		return sba_fail(error, SBA_INVALID_ARGUMENT,
						"%u trees of %u rows each are more than the %u rows that a forest may take",
						parameters->n_trees, parameters->sample_size, SBA_RESERVOIR_MAX_TREE_ROWS);
	if (values > SBA_RESERVOIR_MAX_VALUES)
		return sba_fail(error, SBA_INVALID_ARGUMENT,
						"a sample of %u rows of %u features is more than the %u values that are kept",
						parameters->sample_size, parameters->n_features, SBA_RESERVOIR_MAX_VALUES);

	most_rows = SBA_RESERVOIR_MAX_VALUES / parameters->n_features;
	reservoir->parameters = *parameters;
	reservoir->capacity = tree_rows < most_rows ? (uint32_t) tree_rows : most_rows;
	return SBA_OK;
}

uint32_t
sba_forest_reservoir_next_room(const SbaForestReservoir *reservoir)
{
	uint32_t	room = reservoir->room;

	if (reservoir->n_rows < room || room == reservoir->capacity)
		return room;
	room = room < FIRST_ROOM ? FIRST_ROOM : 2 * room;
	return room < reservoir->capacity ? room : reservoir->capacity;
}

void
sba_forest_reservoir_add(SbaForestReservoir *reservoir, const double *row)
{
	size_t		n_features = reservoir->parameters.n_features;
	uint64_t	place = reservoir->n_rows;

	reservoir->n_seen++;
	if (reservoir->n_rows < reservoir->capacity)
		reservoir->n_rows++;
	else
		place = random_below(&reservoir->random, reservoir->n_seen);
	if (place >= reservoir->capacity)
		return;
	memcpy(reservoir->rows + place * n_features, row, n_features * sizeof(double));
	if (reservoir->n_seen == reservoir->capacity)
		sba_random_start(&reservoir->random, reservoir->parameters.seed, hash_rows(reservoir));
}

uint32_t
sba_forest_reservoir_merged_rows(const SbaForestReservoir *into, const SbaForestReservoir *from)
{
	uint64_t	rows = (uint64_t) into->n_rows + from->n_rows;

	return rows < into->capacity ? (uint32_t) rows : into->capacity;
}

/*
 * Copy wanted rows out of n_rows, every set of so many equally likely, in
 * their order (selection sampling).  to may be the place of the first row.
 */
static void
select_rows(SbaRandom *random, const double *rows, uint32_t n_rows, uint32_t wanted,
			size_t n_features, double *to)
{
	if (wanted == n_rows)
	{
		/* Nothing to choose, and perhaps no random numbers yet. */
		memmove(to, rows, wanted * n_features * sizeof(double));
		return;
	}
	for (uint32_t left = n_rows; wanted > 0; left--, rows += n_features)
	{
		if (sba_random_below(random, left) >= wanted)
			continue;
		memmove(to, rows, n_features * sizeof(double));
		to += n_features;
		wanted--;
	}
}

/*
 * How many of the rows in a sample of all belong to the first of the two is as
 * random as drawing them all one by one without putting any back; which ones
 * they are is random again.
 */
void
sba_forest_reservoir_merge(SbaForestReservoir *into, const SbaForestReservoir *from)
{
	size_t		n_features = into->parameters.n_features;
	uint32_t	merged = sba_forest_reservoir_merged_rows(into, from);
	uint32_t	n_into = into->n_rows;
	uint32_t	n_from = from->n_rows;

	/* What either has drawn so far must not be drawn again. */
	if (merged == into->capacity)
		sba_random_start(&into->random, into->parameters.seed,
						 sba_mix_u64(hash_rows(into)) + hash_rows(from));
	if (into->n_seen + from->n_seen > merged)
	{
		uint64_t	left_into = into->n_seen;
		uint64_t	left_from = from->n_seen;

		n_into = 0;
		for (uint32_t i = 0; i < merged; i++)
		{
			if (random_below(&into->random, left_into + left_from) < left_into)
			{
				left_into--;
				n_into++;
			}
			else
				left_from--;
		}
		n_from = merged - n_into;
	}
	select_rows(&into->random, into->rows, into->n_rows, n_into, n_features, into->rows);
	select_rows(&into->random, from->rows, from->n_rows, n_from, n_features,
				into->rows + n_into * n_features);
	into->n_rows = merged;
	into->n_seen += from->n_seen;
}
