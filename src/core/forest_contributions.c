/*
 * forest_contributions.c
 *	  Which features isolate a row.
 */
#include "core/forest_internal.h"

#include <math.h>

/* What a split on this feature did better than halving. */
static double
split_gain(uint32_t rows_before, uint32_t rows_after)
{
	return log2((double) rows_before / rows_after) - 1;
}

/* Walk the trees of the heap form. */
static void
add_heap_gains(const SbaForest *forest, const SbaForestLayout *layout,
			   const int32_t *keys, double *gains)
{
	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		SbaPackedTree packed;
		uint32_t	rows[2 * SBA_FOREST_HEAP_LEAVES] = {0};
		int32_t		split_keys[SBA_FOREST_HEAP_LEAVES];
		uint32_t	n_splits = 0;
		uint32_t	leaf = 0;
		uint32_t	place = 1;
		const uint8_t *sizes;

		sba_forest_packed_tree(layout, tree, &packed);
		sizes = packed.sizes;
		for (uint32_t parent = 1; parent < SBA_FOREST_HEAP_LEAVES; parent++)
		{
			if ((packed.bitmap[parent >> 6] >> (parent & 63) & 1) == 0)
				continue;
			split_keys[parent] = sba_forest_load_key(packed.keys, n_splits++, layout->key_size);
			for (uint32_t child = 2 * parent; child <= 2 * parent + 1; child++)
			{
				if (child < SBA_FOREST_HEAP_LEAVES &&
					(packed.bitmap[child >> 6] >> (child & 63) & 1) != 0)
					continue;
				rows[child] = 1;
				if ((packed.several[leaf >> 3] >> (leaf & 7) & 1) != 0)
					rows[child] = *sizes++ + 2U;
				leaf++;
			}
		}
		for (uint32_t child = 2 * SBA_FOREST_HEAP_LEAVES - 1; child > 1; child--)
			rows[child >> 1] += rows[child];

		while (place < SBA_FOREST_HEAP_LEAVES &&
			   (packed.bitmap[place >> 6] >> (place & 63) & 1) != 0)
		{
			int32_t		key = split_keys[place];
			uint32_t	feature = (uint32_t) key >> layout->key_shift & layout->feature_mask;
			uint32_t	before = rows[place];

			place = 2 * place + (keys[feature] >= key);
			gains[feature] += split_gain(before, rows[place]);
		}
	}
}

/* Walk the trees of the linked form. */
static void
add_linked_gains(const SbaForest *forest, const SbaForestLayout *layout,
				 const int32_t *keys, double *gains)
{
	const uint8_t *records = layout->body + 8 * (size_t) forest->n_trees +
	4 * ((size_t) forest->sample_size + 1);

	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		uint32_t	n_splits = sba_load_u32(layout->body + 8 * (size_t) tree);
		uint32_t	node = n_splits > 0 ? 0 : SBA_FOREST_LEAF_BIT;

		while ((node & SBA_FOREST_LEAF_BIT) == 0)
		{
			const uint8_t *record = records + (size_t) node * SBA_FOREST_RECORD_SIZE;
			int32_t		key = (int32_t) sba_load_u32(record);
			uint32_t	feature = (uint32_t) key & layout->feature_mask;
			uint32_t	before = sba_load_u32(record + 12);
			uint32_t	after;

			node = sba_load_u32(record + 4 + 4 * (size_t) (keys[feature] >= key));
			after = node & ~SBA_FOREST_LEAF_BIT;
			if ((node & SBA_FOREST_LEAF_BIT) == 0)
				after = sba_load_u32(records + (size_t) node * SBA_FOREST_RECORD_SIZE + 12);
			gains[feature] += split_gain(before, after);
		}
		records += (size_t) n_splits * SBA_FOREST_RECORD_SIZE;
	}
}

bool
sba_forest_contributions(const SbaForest *forest, const double *row, double *contributions)
{
	SbaForestLayout layout;
	int32_t		keys[SBA_FOREST_MAX_FEATURES];
	double		sum = 0;

	for (uint32_t i = 0; i < forest->n_features; i++)
		contributions[i] = 0;
	if (!(sba_forest_score_one(forest, row) > 0.5))
		return false;
	if (forest->n_features == 1)
	{
		contributions[0] = 1;
		return true;
	}

	sba_forest_layout(forest, &layout);
	sba_forest_row_keys(forest, &layout, row, keys);
	if ((layout.flags & SBA_FOREST_FLAG_LINKED) != 0)
		add_linked_gains(forest, &layout, keys, contributions);
	else
		add_heap_gains(forest, &layout, keys, contributions);

	/* A feature whose splits left the row among the many has no share. */
	for (uint32_t i = 0; i < forest->n_features; i++)
	{
		if (contributions[i] < 0)
			contributions[i] = 0;
		sum += contributions[i];
	}
	for (uint32_t i = 0; i < forest->n_features; i++)
		contributions[i] = sum > 0 ? contributions[i] / sum : 0;
	return sum > 0;
}
