/*
 * forest_kernel.c
 *	  Scoring in plain C, and the choice of the best way for this processor.
 */
#include "core/forest_kernel.h"

/* Rows that go down a tree together, so that one need not wait for another. */
#define ROWS_TOGETHER 8

/* From one feature of a tile to the next. */
#define TILE_ROW_SIZE ((uint32_t) (SBA_FOREST_LANES * sizeof(int32_t)))

void
sba_forest_convert_portable(const SbaForestLayout *layout, uint32_t n_features,
							const double *rows, uint32_t n_rows, int32_t *keys)
{
	uint32_t	n_tiles = (n_rows + SBA_FOREST_LANES - 1) / SBA_FOREST_LANES;

	for (uint32_t feature = 0; feature < n_features; feature++)
	{
		const uint8_t *stored = layout->features + (size_t) feature * SBA_FOREST_FEATURE_SIZE;
		double		centre = sba_load_f64(stored);
		double		scale = sba_load_f64(stored + 8);
		int32_t		fill_key = sba_forest_value_key(sba_load_f64(stored + 16), centre, scale);
		const double *from = rows + feature;
		uint32_t	left = n_rows;

		for (uint32_t tile = 0; tile < n_tiles; tile++)
		{
			int32_t    *to = keys + ((size_t) tile * n_features + feature) * SBA_FOREST_LANES;
			uint32_t	lanes = left < SBA_FOREST_LANES ? left : SBA_FOREST_LANES;

			for (uint32_t lane = 0; lane < lanes; lane++, from += n_features)
			{
				int32_t		key = sba_forest_value_key(*from, centre, scale);

				to[lane] = *from == *from ? key : fill_key;
			}

			/* What is behind the last row goes down the trees too. */
			for (uint32_t lane = lanes; lane < SBA_FOREST_LANES; lane++)
				to[lane] = 0;
			left -= lanes;
		}
	}
}

static SBA_ALWAYS_INLINE void
add_tree(const SbaHeapTree *tree, uint32_t n_features, const int32_t *keys,
		 uint32_t block_rows, uint32_t *sums, uint32_t height, uint32_t key_size,
		 uint32_t feature_mask)
{
	uint32_t	bottom = UINT32_C(1) << height;
	uint32_t	mask = key_size == 4 ? feature_mask : feature_mask << 8;

	for (uint32_t i = 0; i < block_rows; i += ROWS_TOGETHER)
	{
		const uint8_t *tile = (const uint8_t *) (keys + i % SBA_FOREST_LANES +
												 (size_t) (i / SBA_FOREST_LANES) * n_features * SBA_FOREST_LANES);
		size_t		places[ROWS_TOGETHER] = {1, 1, 1, 1, 1, 1, 1, 1};

		for (uint32_t step = 0; step < height; step++)
		{
#pragma GCC unroll 8
			for (uint32_t lane = 0; lane < ROWS_TOGETHER; lane++)
			{
				int32_t		key = tree->keys[places[lane]];
				size_t		offset = key_size == 4 ?
				((uint32_t) key & mask) * TILE_ROW_SIZE :
				((uint32_t) key & mask) / (256 / TILE_ROW_SIZE);
				const int32_t *values = (const int32_t *) (tile + offset);

				places[lane] = 2 * places[lane] + (values[lane] >= key);
			}
		}
#pragma GCC unroll 8
		for (uint32_t lane = 0; lane < ROWS_TOGETHER; lane++)
			sums[i + lane] += tree->paths[places[lane] - bottom];
	}
}

static void
add_tree_portable(const SbaForestLayout *layout, const SbaHeapTree *tree,
				  uint32_t n_features, const int32_t *keys, uint32_t block_rows,
				  uint32_t *sums)
{
	if (layout->key_size == 4)
		add_tree(tree, n_features, keys, block_rows, sums, layout->height_limit, 4,
				 layout->feature_mask);
	else if (layout->height_limit == SBA_FOREST_HEAP_HEIGHT)
		add_tree(tree, n_features, keys, block_rows, sums, SBA_FOREST_HEAP_HEIGHT, 3,
				 layout->feature_mask);
	else
		add_tree(tree, n_features, keys, block_rows, sums, layout->height_limit, 3,
				 layout->feature_mask);
}

void
sba_forest_finish_portable(const uint32_t *sums, uint32_t n_rows, double offset, double factor,
						   double *scores)
{
	for (uint32_t i = 0; i < n_rows; i++)
		scores[i] = sba_exp2(offset + factor * sums[i]);
}

static uint32_t
walk_portable(const SbaForestLayout *layout, uint32_t n_trees, const int32_t *keys)
{
	if (layout->key_size == 4)
		return sba_walk_trees(layout, n_trees, keys, 4, false);
	return sba_walk_trees(layout, n_trees, keys, 3, false);
}

const SbaForestKernel sba_forest_kernel_portable = {
	"portable", sba_forest_convert_portable, add_tree_portable, sba_forest_finish_portable, walk_portable,
	sba_forest_make_keys_portable, sba_forest_pick_rows_portable, sba_forest_grow_portable
};

/* The choice of a test or a benchmark; NULL in any other life. */
static const SbaForestKernel *forced_kernel;

/* From the best to the one that runs everywhere. */
static const SbaForestKernel *
find_kernel(const char *name)
{
#ifdef SBA_FOREST_X86
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl") &&
		__builtin_cpu_supports("bmi2") &&
		(name == NULL || strcmp(name, sba_forest_kernel_avx512.name) == 0))
		return &sba_forest_kernel_avx512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") &&
		__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
		(name == NULL || strcmp(name, sba_forest_kernel_avx2.name) == 0))
		return &sba_forest_kernel_avx2;
#endif
	if (name == NULL || strcmp(name, sba_forest_kernel_portable.name) == 0)
		return &sba_forest_kernel_portable;
	return NULL;
}

const SbaForestKernel *
sba_forest_kernel(void)
{
	return forced_kernel != NULL ? forced_kernel : find_kernel(NULL);
}

bool
sba_forest_force_kernel(const char *name)
{
	const SbaForestKernel *kernel = name != NULL ? find_kernel(name) : NULL;

	if (name != NULL && kernel == NULL)
		return false;
	forced_kernel = kernel;
	return true;
}

const char *
sba_forest_kernel_name(void)
{
	return sba_forest_kernel()->name;
}
