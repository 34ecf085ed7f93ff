/*
 * forest_grow.c
 *	  Growing a tree in plain C.
 */
#include "core/forest_grow.h"

void
sba_forest_make_keys_portable(const SbaForestGrower *grower, const double *rows,
							  uint32_t n_rows, int32_t *keys, bool *has_missing)
{
	const SbaForestShape *shape = &grower->shape;

	for (uint32_t row = 0; row < n_rows; row++)
	{
		for (uint32_t feature = 0; feature < shape->n_features; feature++)
		{
			double		value = *rows++;
			int32_t		key = sba_forest_value_key(value, shape->centres[feature],
												   shape->scales[feature]);
			bool		missing = value != value;

			*keys++ = missing ? SBA_KEY_MISSING : key;
			has_missing[feature] |= missing;
		}
	}
}

void
sba_forest_pick_rows_portable(SbaForestGrower *grower, const int32_t *keys,
							  const uint32_t *chosen)
{
	uint32_t	n_features = grower->shape.n_features;
	uint32_t	sample_size = grower->shape.sample_size;

	for (uint32_t i = 0; i < sample_size; i++)
	{
		const int32_t *from = keys + (size_t) chosen[i] * n_features;
		int32_t    *to = grower->columns + i;

		for (uint32_t feature = 0; feature < n_features; feature++, to += sample_size)
			*to = from[feature];
	}
}

/* Least and greatest key of present values; least > greatest if there is none. */
static void
find_range(const int32_t *column, const uint32_t *members, uint32_t count,
		   bool has_missing, int32_t *least, int32_t *greatest)
{
	int32_t		low[2] = {INT32_MAX, INT32_MAX};
	int32_t		high[2] = {INT32_MIN, INT32_MIN};
	uint32_t	i = 0;

	if (has_missing)
	{
		for (; i < count; i++)
		{
			int32_t		key = column[members[i]];

			if (key == SBA_KEY_MISSING)
				continue;
			low[0] = key < low[0] ? key : low[0];
			high[0] = key > high[0] ? key : high[0];
		}
	}
	else
	{
		/* Two of each, so that one comparison need not wait for the last. */
		for (; i + 2 <= count; i += 2)
		{
			int32_t		key0 = column[members[i]];
			int32_t		key1 = column[members[i + 1]];

			low[0] = key0 < low[0] ? key0 : low[0];
			high[0] = key0 > high[0] ? key0 : high[0];
			low[1] = key1 < low[1] ? key1 : low[1];
			high[1] = key1 > high[1] ? key1 : high[1];
		}
		for (; i < count; i++)
		{
			int32_t		key = column[members[i]];

			low[0] = key < low[0] ? key : low[0];
			high[0] = key > high[0] ? key : high[0];
		}
	}
	*least = low[0] < low[1] ? low[0] : low[1];
	*greatest = high[0] > high[1] ? high[0] : high[1];
}

/*
 * Pick the feature and the key of a split: a feature at random among those
 * that some storable key divides, then a value at random in its range.
 * Returns false if there is no such feature.
 */
static bool
choose_split(SbaForestGrower *grower, const SbaPendingNode *node, SbaRandom *random,
			 uint32_t *feature, int32_t *key)
{
	const SbaForestShape *shape = &grower->shape;

	for (uint32_t candidates = shape->n_features; candidates > 0; candidates--)
	{
		uint32_t	chosen = sba_grow_pick_feature(grower->features, candidates, random);
		int32_t		least;
		int32_t		greatest;

		find_range(grower->columns + (size_t) chosen * shape->sample_size,
				   grower->members + node->first, node->count,
				   grower->has_missing[chosen], &least, &greatest);
		*feature = chosen;
		if (sba_grow_place_split(shape, chosen, least, greatest, random, key))
			return true;
	}
	return false;
}

/* Bring rows with smaller keys to the front; returns how many these are. */
static uint32_t
divide_members(SbaForestGrower *grower, const SbaPendingNode *node, uint32_t feature,
			   int32_t split)
{
	const int32_t *column = grower->columns + (size_t) feature * grower->shape.sample_size;
	uint32_t   *members = grower->members + node->first;
	uint32_t   *spare = grower->spare;
	int32_t		fill_key = grower->fill_keys[feature];
	uint32_t	n_left = 0;
	uint32_t	n_right = 0;

	if (grower->has_missing[feature])
	{
		for (uint32_t i = 0; i < node->count; i++)
		{
			uint32_t	member = members[i];
			int32_t		key = column[member] == SBA_KEY_MISSING ? fill_key : column[member];

			members[n_left] = member;
			spare[n_right] = member;
			n_right += key >= split;
			n_left += key < split;
		}
	}
	else
	{
		for (uint32_t i = 0; i < node->count; i++)
		{
			uint32_t	member = members[i];
			bool		right = column[member] >= split;

			members[n_left] = member;
			spare[n_right] = member;
			n_right += right;
			n_left += !right;
		}
	}
	for (uint32_t i = 0; i < n_right; i++)
		members[n_left + i] = spare[i];
	return n_left;
}

void
sba_forest_grow_portable(SbaForestGrower *grower)
{
	SbaRandom	random = grower->random;
	uint32_t	end = sba_grow_begin(grower);

	for (uint32_t i = 0; i < end; i++)
	{
		SbaPendingNode node = grower->pending[i];
		uint32_t	feature;
		int32_t		key;

		if (choose_split(grower, &node, &random, &feature, &key))
			end = sba_grow_note_split(grower, &node, key,
									  divide_members(grower, &node, feature, key), end);
	}
}
