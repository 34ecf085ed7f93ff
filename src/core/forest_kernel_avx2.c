/*
 * forest_kernel_avx2.c
 *	  Scoring 16 rows at a time, in two vectors, on x86 processors with AVX2.
 *
 * The keys of the upper levels of a tree are held in registers and picked by
 * permutation, those of the lower levels are gathered.  Values are picked by
 * blending, as far as there are few features; a gather of them takes longer.
 */
#include "core/forest_kernel.h"

#ifdef SBA_FOREST_X86

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt,bmi,bmi2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,popcnt,bmi,bmi2")))

/* More features than this are gathered from the tile. */
#define BLENDED_FEATURES 8

/* Vectors to a tile; while one waits for its keys, the other works. */
#define HALVES 2

/* The 8 values of a feature in this half of a tile. */
AVX2_INLINE __m256i
load_values(const int32_t *tile, uint32_t feature)
{
	return _mm256_loadu_si256((const __m256i *) (tile + (size_t) feature * SBA_FOREST_LANES));
}

/* Lanes of second where the top bit of choice is set, else of first. */
AVX2_INLINE __m256i
blend(__m256i first, __m256i second, __m256i choice)
{
	return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second),
												_mm256_castsi256_ps(choice)));
}

/* Those of first or second, by a bit of the feature's number. */
AVX2_INLINE __m256i
pick_of_2(const __m256i *bits, const int32_t *tile, uint32_t n_features, uint32_t first)
{
	if (first + 1 >= n_features)
		return load_values(tile, first);
	return blend(load_values(tile, first), load_values(tile, first + 1), bits[0]);
}

AVX2_INLINE __m256i
pick_of_4(const __m256i *bits, const int32_t *tile, uint32_t n_features, uint32_t first)
{
	__m256i		low = pick_of_2(bits, tile, n_features, first);

	if (first + 2 >= n_features)
		return low;
	return blend(low, pick_of_2(bits, tile, n_features, first + 2), bits[1]);
}

/* The value of each row in the feature that its key names. */
AVX2_INLINE __m256i
pick_values(__m256i key, const int32_t *tile, uint32_t n_features, uint32_t key_shift,
			__m256i feature_mask)
{
	__m256i		bits[3];
	__m256i		low;

	if (n_features > BLENDED_FEATURES)
	{
		const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
		__m256i		feature = _mm256_and_si256(key, feature_mask);

		feature = key_shift == 0 ? _mm256_slli_epi32(feature, 4) : _mm256_srli_epi32(feature, 4);
		return _mm256_i32gather_epi32(tile, _mm256_or_si256(feature, lanes), 4);
	}
#pragma GCC unroll 3
	for (int i = 0; i < 3; i++)
		bits[i] = _mm256_slli_epi32(key, 31 - (int) key_shift - i);
	low = pick_of_4(bits, tile, n_features, 0);
	if (n_features <= 4)
		return low;
	return blend(low, pick_of_4(bits, tile, n_features, 4), bits[2]);
}

/* The keys at the places of a level, from registers as far as that is faster. */
AVX2_INLINE __m256i
pick_keys(const SbaHeapTree *tree, const __m256i *nodes, __m256i place, int level)
{
	if (level < 3)
		return _mm256_permutevar8x32_epi32(nodes[0], place);
	if (level == 3)
		return _mm256_permutevar8x32_epi32(nodes[1], place);
	if (level == 4)
		return blend(_mm256_permutevar8x32_epi32(nodes[2], place),
					 _mm256_permutevar8x32_epi32(nodes[3], place), _mm256_slli_epi32(place, 28));
	return _mm256_i32gather_epi32(tree->keys, place, 4);
}

/* The place below, to the left where below is set. */
AVX2_INLINE __m256i
step_down(__m256i place, __m256i below)
{
	return _mm256_add_epi32(_mm256_add_epi32(place, place), _mm256_add_epi32(below, _mm256_set1_epi32(1)));
}

/*
 * For trees of height 8.  n_features is known when this is compiled; rows may
 * have fewer, as stride says: what is read beyond them is never picked.  As many
 * bits of a key must be a feature's number as n_features takes.
 */
AVX2_INLINE void
add_tree(const SbaHeapTree *tree, uint32_t n_features, const int32_t *keys,
		 uint32_t block_rows, uint32_t *sums, uint32_t key_shift, uint32_t feature_mask,
		 uint32_t stride)
{
	const __m256i mask = _mm256_set1_epi32((int) (feature_mask << key_shift));
	const __m256i root = _mm256_set1_epi32(tree->keys[1]);
	__m256i		nodes[4];
	size_t		offsets[8];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		nodes[i] = _mm256_loadu_si256((const __m256i *) (tree->keys + 8 * i));
	for (int i = 1; i < 8; i++)
		offsets[i] = (size_t) ((uint32_t) tree->keys[i] >> key_shift & feature_mask) * SBA_FOREST_LANES;

	for (uint32_t row = 0; row < block_rows; row += SBA_FOREST_LANES)
	{
		__m256i		places[HALVES];

#pragma GCC unroll 2
		for (int half = 0; half < HALVES; half++)
		{
			const int32_t *tile = keys + (size_t) row * stride + 8 * half;
			__m256i		first;
			__m256i		second;
			__m256i		value;

			/* The upper levels, where there are few nodes. */
			first = _mm256_cmpgt_epi32(root, _mm256_loadu_si256((const __m256i *) (tile + offsets[1])));
			places[half] = _mm256_add_epi32(_mm256_set1_epi32(3), first);
			value = blend(_mm256_loadu_si256((const __m256i *) (tile + offsets[3])),
						  _mm256_loadu_si256((const __m256i *) (tile + offsets[2])), first);
			second = _mm256_cmpgt_epi32(pick_keys(tree, nodes, places[half], 1), value);
			places[half] = step_down(places[half], second);
			value = blend(blend(_mm256_loadu_si256((const __m256i *) (tile + offsets[7])),
								_mm256_loadu_si256((const __m256i *) (tile + offsets[6])), second),
						  blend(_mm256_loadu_si256((const __m256i *) (tile + offsets[5])),
								_mm256_loadu_si256((const __m256i *) (tile + offsets[4])), second), first);
			places[half] = step_down(places[half],
									 _mm256_cmpgt_epi32(pick_keys(tree, nodes, places[half], 2), value));
		}
#pragma GCC unroll 5
		for (int level = 3; level < SBA_FOREST_HEAP_HEIGHT; level++)
		{
#pragma GCC unroll 2
			for (int half = 0; half < HALVES; half++)
			{
				const int32_t *tile = keys + (size_t) row * stride + 8 * half;
				__m256i		key = pick_keys(tree, nodes, places[half], level);
				__m256i		value = pick_values(key, tile, n_features, key_shift, mask);

				places[half] = step_down(places[half], _mm256_cmpgt_epi32(key, value));
			}
		}
#pragma GCC unroll 2
		for (int half = 0; half < HALVES; half++)
		{
			__m256i    *to = (__m256i *) (sums + row + 8 * half);
			__m256i		path = _mm256_i32gather_epi32((const int *) tree->paths,
													  _mm256_xor_si256(places[half], _mm256_set1_epi32(SBA_FOREST_HEAP_LEAVES)), 4);

			_mm256_storeu_si256(to, _mm256_add_epi32(path, _mm256_loadu_si256(to)));
		}
	}
}

#define ADD_TREE(n) \
	do { \
		if (layout->key_size == 4) \
			add_tree(tree, n, keys, block_rows, sums, 0, layout->feature_mask, n_features); \
		else \
			add_tree(tree, n, keys, block_rows, sums, 8, layout->feature_mask, n_features); \
	} while (0)

AVX2 static void
add_tree_avx2(const SbaForestLayout *layout, const SbaHeapTree *tree,
			  uint32_t n_features, const int32_t *keys, uint32_t block_rows,
			  uint32_t *sums)
{
	if (layout->height_limit != SBA_FOREST_HEAP_HEIGHT || n_features == 1)
		sba_forest_kernel_portable.add_tree(layout, tree, n_features, keys, block_rows, sums);
	else if (n_features == 2)
		ADD_TREE(2);
	else if (n_features <= 4)
		ADD_TREE(4);
	else if (n_features == 5)
		ADD_TREE(5);
	else if (n_features <= BLENDED_FEATURES)
		ADD_TREE(BLENDED_FEATURES);
	else
		ADD_TREE(BLENDED_FEATURES + 1);
}

AVX2 uint32_t
sba_forest_walk_bmi2(const SbaForestLayout *layout, uint32_t n_trees, const int32_t *keys)
{
	if (layout->key_size == 4)
		return sba_walk_trees(layout, n_trees, keys, 4, true);
	return sba_walk_trees(layout, n_trees, keys, 3, true);
}

const SbaForestKernel sba_forest_kernel_avx2 = {
	"avx2", sba_forest_convert_portable, add_tree_avx2, sba_forest_finish_portable, sba_forest_walk_bmi2,
	sba_forest_make_keys_portable, sba_forest_pick_rows_portable, sba_forest_grow_portable
};

#endif
