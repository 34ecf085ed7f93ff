/*
 * forest_score.c
 *	  Scoring rows with an opened forest.
 *
 * Many rows at a time: a block of rows becomes keys, then one tree after the
 * other is unfolded into a complete heap and all rows of the block run through
 * it.  A single row walks the stored trees as they are.
 */
#include "core/forest_internal.h"

#include <stdlib.h>

/*
 * Keys of a block of rows: first the stack, which needs no allocation, or for
 * many rows a larger piece, so that unfolding a tree is worth it.
 */
#define STACK_KEYS 8192
#define LARGE_KEYS (256 * 1024)
#define LARGE_BLOCK_ROWS 8192
#define SLACK_KEYS (SBA_FOREST_TILE_SLACK * SBA_FOREST_LANES)

/* Rows that are looked up or walked at the same time. */
#define INTERLEAVED 4

void
sba_forest_packed_tree(const SbaForestLayout *layout, uint32_t tree, SbaPackedTree *packed)
{
	const uint8_t *at = layout->body + sba_forest_load_u32(layout->body + 4 * (size_t) tree);

	packed->n_splits = 0;
	for (uint32_t word = 0; word < 4; word++)
	{
		packed->bitmap[word] = sba_forest_load_u64(at + 8 * (size_t) word);
		packed->n_splits += (uint32_t) __builtin_popcountll(packed->bitmap[word]);
	}
	packed->keys = at + SBA_FOREST_BITMAP_SIZE;
	packed->several = packed->keys + (size_t) packed->n_splits * layout->key_size;
	packed->sizes = packed->several + (packed->n_splits + 8) / 8;
}

/* Give a leaf, and all that would lie below it, its path length. */
static void
unfold_leaf(const SbaForestLayout *layout, SbaHeapTree *heap, uint32_t place, uint32_t rows)
{
	uint32_t	depth = 31 - (uint32_t) __builtin_clz(place);
	uint32_t	below = layout->height_limit - depth;
	uint32_t	first = (place << below) - (UINT32_C(1) << layout->height_limit);
	uint32_t	count = UINT32_C(1) << below;
	uint32_t	path = (depth << layout->fraction_bits) +
	sba_path_round(sba_average_path_table[rows], layout->fraction_bits);

	for (uint32_t i = 0; i < count; i++)
		heap->paths[first + i] = path;
}

/*
 * Places without a split keep what they held: rows that come there may go
 * either way, as all that lies below has the same path length.
 */
void
sba_forest_expand_tree(const SbaForestLayout *layout, uint32_t tree, SbaHeapTree *heap)
{
	SbaPackedTree packed;
	const uint8_t *sizes;
	uint32_t	leaf = 0;
	uint32_t	split = 0;

	sba_forest_packed_tree(layout, tree, &packed);
	sizes = packed.sizes;
	if (packed.n_splits == 0)
	{
		unfold_leaf(layout, heap, 1, (packed.several[0] & 1) != 0 ? sizes[0] + 2U : 1);
		return;
	}
	for (uint32_t word = 0; word < 4; word++)
	{
		for (uint64_t left = packed.bitmap[word]; left != 0; left &= left - 1)
		{
			uint32_t	place = word * 64 + (uint32_t) __builtin_ctzll(left);

			heap->keys[place] = sba_forest_load_key(packed.keys, split++, layout->key_size);
			for (uint32_t child = 2 * place; child <= 2 * place + 1; child++)
			{
				uint32_t	rows = 1;

				if (child < SBA_FOREST_HEAP_LEAVES &&
					(packed.bitmap[child >> 6] >> (child & 63) & 1) != 0)
					continue;
				if ((packed.several[leaf >> 3] >> (leaf & 7) & 1) != 0)
					rows = *sizes++ + 2U;
				leaf++;
				unfold_leaf(layout, heap, child, rows);
			}
		}
	}
}

/* 2^(offset + factor * sum) is the score. */
static void
score_exponent(const SbaForest *forest, const SbaForestLayout *layout,
			   double *offset, double *factor)
{
	double		unit = (double) (UINT32_C(1) << layout->fraction_bits);

	/* Trees of one row say nothing: 0.5, as for a row like all others. */
	*offset = forest->normalizer > 0 ? 0 : -1;
	*factor = forest->normalizer > 0 ? -1 / (forest->n_trees * forest->normalizer * unit) : 0;
}

/* Key of a value of one feature; a missing one is where the fill is. */
static inline int32_t
feature_key(const uint8_t *stored, double value)
{
	double		centre = sba_load_f64(stored);

	if (value != value)
		value = sba_load_f64(stored + 16);
	return sba_forest_value_key(value, centre, sba_load_f64(stored + 8));
}

static void
convert_row(const SbaForestLayout *layout, uint32_t n_features, const double *row, int32_t *keys)
{
	for (uint32_t i = 0; i < n_features; i++)
		keys[i] = feature_key(layout->features + (size_t) i * SBA_FOREST_FEATURE_SIZE, row[i]);
}

/* Number of keys at or below key, which is the number of its interval. */
static inline uint32_t
find_interval(const uint8_t *keys, uint32_t n_entries, uint32_t key_size, int32_t key)
{
	uint32_t	base = 0;
	uint32_t	count = n_entries;

	while (count > 0)
	{
		uint32_t	half = count - count / 2;

		base += sba_forest_load_key(keys, base + half - 1, key_size) <= key ? half : 0;
		count -= half;
	}
	return base;
}

/* The same for INTERLEAVED keys, so that one load need not wait for the last. */
static inline void
find_intervals(const uint8_t *keys, uint32_t n_entries, uint32_t key_size,
			   const int32_t *wanted, uint32_t *found)
{
	uint32_t	base0 = 0;
	uint32_t	base1 = 0;
	uint32_t	base2 = 0;
	uint32_t	base3 = 0;
	uint32_t	count = n_entries;

	while (count > 0)
	{
		uint32_t	half = count - count / 2;
		uint32_t	step = half - 1;

		base0 += sba_forest_load_key(keys, base0 + step, key_size) <= wanted[0] ? half : 0;
		base1 += sba_forest_load_key(keys, base1 + step, key_size) <= wanted[1] ? half : 0;
		base2 += sba_forest_load_key(keys, base2 + step, key_size) <= wanted[2] ? half : 0;
		base3 += sba_forest_load_key(keys, base3 + step, key_size) <= wanted[3] ? half : 0;
		count -= half;
	}
	found[0] = base0;
	found[1] = base1;
	found[2] = base2;
	found[3] = base3;
}

static uint32_t
table_sum(const SbaForestLayout *layout, uint32_t n_entries, int32_t key)
{
	uint32_t	interval = layout->key_size == 4 ?
	find_interval(layout->body, n_entries, 4, key) :
	find_interval(layout->body, n_entries, 3, key);

	return sba_forest_load_u32(layout->body + (size_t) n_entries * layout->key_size +
							   4 * (size_t) interval);
}

static void
sum_table_block(const SbaForestLayout *layout, uint32_t n_entries, const double *rows,
				uint32_t n_rows, uint32_t *sums)
{
	const uint8_t *table_sums = layout->body + (size_t) n_entries * layout->key_size;
	uint32_t	i = 0;

	for (; i + INTERLEAVED <= n_rows; i += INTERLEAVED)
	{
		int32_t		wanted[INTERLEAVED];
		uint32_t	found[INTERLEAVED];

		for (uint32_t lane = 0; lane < INTERLEAVED; lane++)
			wanted[lane] = feature_key(layout->features, rows[i + lane]);
		if (layout->key_size == 4)
			find_intervals(layout->body, n_entries, 4, wanted, found);
		else
			find_intervals(layout->body, n_entries, 3, wanted, found);
		for (uint32_t lane = 0; lane < INTERLEAVED; lane++)
			sums[i + lane] = sba_forest_load_u32(table_sums + 4 * (size_t) found[lane]);
	}
	for (; i < n_rows; i++)
		sums[i] = table_sum(layout, n_entries, feature_key(layout->features, rows[i]));
}

/* One step down in a tree of the linked form; a leaf stays where it is. */
static inline uint32_t
linked_step(const uint8_t *records, uint32_t feature_mask, const int32_t *keys,
			uint32_t node, uint32_t *depth)
{
	const uint8_t *record;
	int32_t		key;

	if ((node & SBA_FOREST_LEAF_BIT) != 0)
		return node;
	++*depth;
	record = records + (size_t) node * SBA_FOREST_RECORD_SIZE;
	key = (int32_t) sba_forest_load_u32(record);
	return sba_forest_load_u32(record + 4 + 4 * (size_t) (keys[(uint32_t) key & feature_mask] >= key));
}

/* Sum of path lengths of one row in all trees of the linked form. */
static uint32_t
linked_sum(const SbaForest *forest, const SbaForestLayout *layout, const int32_t *keys)
{
	const uint8_t *average_paths = layout->body + 8 * (size_t) forest->n_trees;
	const uint8_t *records = average_paths + 4 * ((size_t) forest->sample_size + 1);
	uint32_t	sum = 0;

	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		uint32_t	n_splits = sba_forest_load_u32(layout->body + 8 * (size_t) tree);
		uint32_t	node = n_splits > 0 ? 0 : SBA_FOREST_LEAF_BIT | forest->sample_size;
		uint32_t	depth = 0;

		while ((node & SBA_FOREST_LEAF_BIT) == 0)
			node = linked_step(records, layout->feature_mask, keys, node, &depth);
		node &= ~SBA_FOREST_LEAF_BIT;
		sum += (depth << layout->fraction_bits) +
			sba_path_round(sba_forest_load_u32(average_paths + 4 * (size_t) node),
						   layout->fraction_bits);
		records += (size_t) n_splits * SBA_FOREST_RECORD_SIZE;
	}
	return sum;
}

/* The same for a block, a tree at a time so that it stays in the cache. */
static void
sum_linked_block(const SbaForest *forest, const SbaForestLayout *layout,
				 const int32_t *keys, uint32_t n_rows, uint32_t *sums)
{
	const uint8_t *average_paths = layout->body + 8 * (size_t) forest->n_trees;
	const uint8_t *records = average_paths + 4 * ((size_t) forest->sample_size + 1);

	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		uint32_t	n_splits = sba_forest_load_u32(layout->body + 8 * (size_t) tree);
		uint32_t	root = n_splits > 0 ? 0 : SBA_FOREST_LEAF_BIT | forest->sample_size;

		for (uint32_t i = 0; i < n_rows; i += INTERLEAVED)
		{
			uint32_t	nodes[INTERLEAVED] = {root, root, root, root};
			uint32_t	depths[INTERLEAVED] = {0};
			uint32_t	lanes = n_rows - i < INTERLEAVED ? n_rows - i : INTERLEAVED;
			uint32_t	all;

			do
			{
				all = SBA_FOREST_LEAF_BIT;
				for (uint32_t lane = 0; lane < lanes; lane++)
				{
					nodes[lane] = linked_step(records, layout->feature_mask,
											  keys + (size_t) (i + lane) * forest->n_features,
											  nodes[lane], &depths[lane]);
					all &= nodes[lane];
				}
			} while (all == 0);
			for (uint32_t lane = 0; lane < lanes; lane++)
			{
				uint32_t	rows = nodes[lane] & ~SBA_FOREST_LEAF_BIT;

				sums[i + lane] += (depths[lane] << layout->fraction_bits) +
					sba_path_round(sba_forest_load_u32(average_paths + 4 * (size_t) rows),
								   layout->fraction_bits);
			}
		}
		records += (size_t) n_splits * SBA_FOREST_RECORD_SIZE;
	}
}

/* Sums of path lengths of a block of rows of the heap form. */
static void
sum_heap_block(const SbaForest *forest, const SbaForestLayout *layout,
			   const SbaForestKernel *kernel, const int32_t *keys,
			   uint32_t n_rows, uint32_t *sums)
{
	uint32_t	block_rows = (n_rows + SBA_FOREST_LANES - 1) / SBA_FOREST_LANES * SBA_FOREST_LANES;
	SbaHeapTree heap;

	memset(&heap, 0, sizeof(heap));
	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		sba_forest_expand_tree(layout, tree, &heap);
		kernel->add_tree(layout, &heap, forest->n_features, keys, block_rows, sums);
	}
}

void
sba_forest_score(const SbaForest *forest, const double *rows, size_t n_rows, double *scores)
{
	const SbaForestKernel *kernel = sba_forest_kernel();
	SbaForestLayout layout;
	double		offset;
	double		factor;
	int32_t		stack_keys[STACK_KEYS + SLACK_KEYS];
	uint32_t	stack_sums[STACK_KEYS / SBA_FOREST_LANES];
	int32_t    *keys = stack_keys;
	uint32_t   *sums = stack_sums;
	void	   *large = NULL;
	uint32_t	block_rows = STACK_KEYS / SBA_FOREST_LANES;
	uint32_t	n_entries = sba_load_u32(forest->bytes + SBA_FOREST_AT_ENTRIES);

	sba_forest_layout(forest, &layout);
	score_exponent(forest, &layout, &offset, &factor);

	while ((size_t) block_rows * forest->n_features > STACK_KEYS)
		block_rows /= 2;
	if (n_rows > block_rows && (layout.flags & SBA_FOREST_FLAG_TABLE) == 0)
	{
		uint32_t	large_rows = LARGE_KEYS / forest->n_features / SBA_FOREST_LANES * SBA_FOREST_LANES;

		if (large_rows > LARGE_BLOCK_ROWS)
			large_rows = LARGE_BLOCK_ROWS;
		large = malloc(((size_t) large_rows * (forest->n_features + 1) + SLACK_KEYS) * sizeof(int32_t));
		if (large != NULL)
		{
			keys = large;
			sums = (uint32_t *) (keys + (size_t) large_rows * forest->n_features + SLACK_KEYS);
			block_rows = large_rows;
		}
	}

	while (n_rows > 0)
	{
		uint32_t	here = n_rows < block_rows ? (uint32_t) n_rows : block_rows;
		uint32_t	rounded = (here + SBA_FOREST_LANES - 1) / SBA_FOREST_LANES * SBA_FOREST_LANES;

		memset(sums, 0, rounded * sizeof(uint32_t));
		if ((layout.flags & SBA_FOREST_FLAG_TABLE) != 0)
			sum_table_block(&layout, n_entries, rows, here, sums);
		else if ((layout.flags & SBA_FOREST_FLAG_LINKED) != 0)
		{
			for (uint32_t i = 0; i < here; i++)
				convert_row(&layout, forest->n_features, rows + (size_t) i * forest->n_features,
							keys + (size_t) i * forest->n_features);
			sum_linked_block(forest, &layout, keys, here, sums);
		}
		else
		{
			kernel->convert(&layout, forest->n_features, rows, here, keys);
			sum_heap_block(forest, &layout, kernel, keys, here, sums);
		}
		kernel->finish(sums, here, offset, factor, scores);
		rows += (size_t) here * forest->n_features;
		scores += here;
		n_rows -= here;
	}
	free(large);
}

void
sba_forest_row_keys(const SbaForest *forest, const SbaForestLayout *layout,
					const double *row, int32_t *keys)
{
	convert_row(layout, forest->n_features, row, keys);

	/* A walk that has ended may still look at a feature that is not there. */
	for (uint32_t i = forest->n_features; i <= layout->feature_mask; i++)
		keys[i] = 0;
}

double
sba_forest_score_one(const SbaForest *forest, const double *row)
{
	const SbaForestKernel *kernel = sba_forest_kernel();
	SbaForestLayout layout;
	double		offset;
	double		factor;
	double		score;
	uint32_t	sum;
	int32_t		keys[SBA_FOREST_MAX_FEATURES];

	sba_forest_layout(forest, &layout);
	score_exponent(forest, &layout, &offset, &factor);
	sba_forest_row_keys(forest, &layout, row, keys);
	if ((layout.flags & SBA_FOREST_FLAG_TABLE) != 0)
		sum = table_sum(&layout, sba_load_u32(forest->bytes + SBA_FOREST_AT_ENTRIES), keys[0]);
	else if ((layout.flags & SBA_FOREST_FLAG_LINKED) != 0)
		sum = linked_sum(forest, &layout, keys);
	else if (forest->unfolded != NULL)
		sum = sba_forest_walk_unfolded(forest, &layout, keys);
	else
		sum = kernel->walk_packed(&layout, forest->n_trees, keys);
	sba_forest_kernel_portable.finish(&sum, 1, offset, factor, &score);
	return score;
}
