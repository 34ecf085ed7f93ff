/*
 * forest_kernel_avx512.c
 *	  Scoring 16 rows at a time on x86 processors with AVX-512.
 *
 * A whole tree is held in 16 registers, and each level's keys are picked by
 * permutation.  Values are picked by blending: at the upper levels those of the
 * few features that a node there can have, below all features by the bits of
 * their number.  A gather takes longer, up to 16 features.
 */
#include "core/forest_kernel.h"

#ifdef SBA_FOREST_X86

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,popcnt,bmi,bmi2")))
#define AVX512_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,popcnt,bmi,bmi2")))

/* More features than this are gathered from the tile. */
#define BLENDED_FEATURES SBA_FOREST_TILE_SLACK

/* Keys of 8 values, as sba_forest_value_key() has them. */
AVX512_INLINE __m256i
make_keys(__m512d values, __m512d centre, __m512d scale, __m256i fill_key)
{
	const __m512d far = _mm512_set1_pd(SBA_FOREST_FAR);
	__m512d		scaled = _mm512_mul_pd(_mm512_sub_pd(values, centre), scale);
	__mmask8	present = _mm512_cmp_pd_mask(values, values, _CMP_EQ_OQ);
	__m512i		wide;
	__m512i		fills = _mm512_castsi256_si512(fill_key);
	__m512i		bits;

	scaled = _mm512_max_pd(_mm512_min_pd(scaled, far), _mm512_sub_pd(_mm512_setzero_pd(), far));
	bits = _mm512_castsi256_si512(_mm256_castps_si256(_mm512_cvtpd_ps(scaled)));
	wide = _mm512_xor_si512(bits, _mm512_srli_epi32(_mm512_srai_epi32(bits, 31), 1));
	return _mm512_castsi512_si256(_mm512_mask_blend_epi32(present, fills, wide));
}

AVX512 static void
convert_avx512(const SbaForestLayout *layout, uint32_t n_features,
			   const double *rows, uint32_t n_rows, int32_t *keys)
{
	const __m256i steps = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
											 _mm256_set1_epi32((int) n_features));
	uint32_t	whole = n_rows / SBA_FOREST_LANES * SBA_FOREST_LANES;

	for (uint32_t feature = 0; feature < n_features; feature++)
	{
		const uint8_t *stored = layout->features + (size_t) feature * SBA_FOREST_FEATURE_SIZE;
		double		centre = sba_load_f64(stored);
		double		scale = sba_load_f64(stored + 8);
		const __m512d centres = _mm512_set1_pd(centre);
		const __m512d scales = _mm512_set1_pd(scale);
		const __m256i fill_key = _mm256_set1_epi32(sba_forest_value_key(sba_load_f64(stored + 16),
																		centre, scale));

		for (uint32_t row = 0; row < whole; row += 8)
		{
			const double *from = rows + (size_t) row * n_features + feature;
			int32_t    *to = keys + feature * SBA_FOREST_LANES + row % SBA_FOREST_LANES +
			(size_t) (row / SBA_FOREST_LANES) * n_features * SBA_FOREST_LANES;

			_mm256_storeu_si256((__m256i *) to,
								make_keys(_mm512_i32gather_pd(steps, from, 8), centres, scales, fill_key));
		}
	}
	if (whole < n_rows)
		sba_forest_kernel_portable.convert(layout, n_features, rows + (size_t) whole * n_features,
										   n_rows - whole, keys + (size_t) whole * n_features);
}

/* The 16 values of a feature. */
AVX512_INLINE __m512i
load_values(const int32_t *tile, uint32_t feature)
{
	return _mm512_loadu_si512(tile + (size_t) feature * SBA_FOREST_LANES);
}

/* Those of first or second, by a bit of the feature's number. */
AVX512_INLINE __m512i
pick_of_2(const __mmask16 *bits, const int32_t *tile, uint32_t n_features, uint32_t first)
{
	if (first + 1 >= n_features)
		return load_values(tile, first);
	return _mm512_mask_blend_epi32(bits[0], load_values(tile, first), load_values(tile, first + 1));
}

AVX512_INLINE __m512i
pick_of_4(const __mmask16 *bits, const int32_t *tile, uint32_t n_features, uint32_t first)
{
	__m512i		low = pick_of_2(bits, tile, n_features, first);

	if (first + 2 >= n_features)
		return low;
	return _mm512_mask_blend_epi32(bits[1], low, pick_of_2(bits, tile, n_features, first + 2));
}

AVX512_INLINE __m512i
pick_of_8(const __mmask16 *bits, const int32_t *tile, uint32_t n_features, uint32_t first)
{
	__m512i		low = pick_of_4(bits, tile, n_features, first);

	if (first + 4 >= n_features)
		return low;
	return _mm512_mask_blend_epi32(bits[2], low, pick_of_4(bits, tile, n_features, first + 4));
}

/* The value of each row in the feature that its key names. */
AVX512_INLINE __m512i
pick_values(__m512i key, const int32_t *tile, uint32_t n_features, uint32_t key_shift,
			__m512i feature_mask)
{
	__mmask16	bits[4];
	__m512i		low;

	if (n_features > BLENDED_FEATURES)
	{
		const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
		__m512i		feature = key_shift == 0 ?
		_mm512_slli_epi32(_mm512_and_si512(key, feature_mask), 4) :
		_mm512_srli_epi32(_mm512_and_si512(key, feature_mask), 4);

		return _mm512_i32gather_epi32(_mm512_or_si512(feature, lanes), tile, 4);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		bits[i] = _mm512_test_epi32_mask(key, _mm512_and_si512(feature_mask,
															   _mm512_set1_epi32(1 << (key_shift + (uint32_t) i))));
	low = pick_of_8(bits, tile, n_features, 0);
	if (n_features <= 8)
		return low;
	return _mm512_mask_blend_epi32(bits[3], low, pick_of_8(bits, tile, n_features, 8));
}

/* The place below, right of the middle where a value is not below the key. */
AVX512_INLINE __m512i
step_down(__m512i place, __mmask16 right)
{
	place = _mm512_add_epi32(place, place);
	return _mm512_mask_or_epi32(place, right, place, _mm512_set1_epi32(1));
}

/*
 * For trees of height 8.  n_features is known when this is compiled; rows may
 * have fewer, as stride says: what is read beyond them is never picked.
 */
AVX512_INLINE void
add_tree(const SbaHeapTree *tree, uint32_t n_features, const int32_t *keys,
		 uint32_t block_rows, uint32_t *sums, uint32_t key_shift, uint32_t feature_mask,
		 uint32_t stride)
{
	const __m512i mask = _mm512_set1_epi32((int) (feature_mask << key_shift));
	const __m512i bit5 = _mm512_set1_epi32(32);
	const __m512i bit6 = _mm512_set1_epi32(64);
	__m512i		nodes[16];
	size_t		offsets[8];

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		nodes[i] = _mm512_loadu_si512(tree->keys + 16 * i);
	for (int i = 1; i < 8; i++)
		offsets[i] = (size_t) ((uint32_t) tree->keys[i] >> key_shift & feature_mask) * SBA_FOREST_LANES;

	for (uint32_t row = 0; row < block_rows; row += SBA_FOREST_LANES)
	{
		const int32_t *tile = keys + (size_t) row * stride;
		__m512i		place = _mm512_set1_epi32(1);
		__m512i		key;
		__m512i		value;
		__mmask16	right[2];

		/* The upper levels, where there are few nodes. */
		value = _mm512_loadu_si512(tile + offsets[1]);
		right[0] = _mm512_cmpge_epi32_mask(value, _mm512_set1_epi32(tree->keys[1]));
		place = step_down(place, right[0]);
		value = _mm512_mask_blend_epi32(right[0], _mm512_loadu_si512(tile + offsets[2]),
										_mm512_loadu_si512(tile + offsets[3]));
		right[1] = _mm512_cmpge_epi32_mask(value, _mm512_permutexvar_epi32(place, nodes[0]));
		place = step_down(place, right[1]);
		value = _mm512_mask_blend_epi32(right[0],
										_mm512_mask_blend_epi32(right[1], _mm512_loadu_si512(tile + offsets[4]),
																_mm512_loadu_si512(tile + offsets[5])),
										_mm512_mask_blend_epi32(right[1], _mm512_loadu_si512(tile + offsets[6]),
																_mm512_loadu_si512(tile + offsets[7])));
		place = step_down(place, _mm512_cmpge_epi32_mask(value, _mm512_permutexvar_epi32(place, nodes[0])));

#pragma GCC unroll 5
		for (int level = 3; level < SBA_FOREST_HEAP_HEIGHT; level++)
		{
			if (level == 3)
				key = _mm512_permutexvar_epi32(place, nodes[0]);
			else if (level == 4)
				key = _mm512_permutexvar_epi32(place, nodes[1]);
			else if (level == 5)
				key = _mm512_permutex2var_epi32(nodes[2], place, nodes[3]);
			else if (level == 6)
				key = _mm512_mask_blend_epi32(_mm512_test_epi32_mask(place, bit5),
											  _mm512_permutex2var_epi32(nodes[4], place, nodes[5]),
											  _mm512_permutex2var_epi32(nodes[6], place, nodes[7]));
			else
			{
				__mmask16	upper = _mm512_test_epi32_mask(place, bit5);

				key = _mm512_mask_blend_epi32(_mm512_test_epi32_mask(place, bit6),
											  _mm512_mask_blend_epi32(upper,
																	  _mm512_permutex2var_epi32(nodes[8], place, nodes[9]),
																	  _mm512_permutex2var_epi32(nodes[10], place, nodes[11])),
											  _mm512_mask_blend_epi32(upper,
																	  _mm512_permutex2var_epi32(nodes[12], place, nodes[13]),
																	  _mm512_permutex2var_epi32(nodes[14], place, nodes[15])));
			}
			value = pick_values(key, tile, n_features, key_shift, mask);
			place = step_down(place, _mm512_cmpge_epi32_mask(value, key));
		}
		place = _mm512_i32gather_epi32(_mm512_xor_si512(place, _mm512_set1_epi32(SBA_FOREST_HEAP_LEAVES)),
									   tree->paths, 4);
		_mm512_storeu_si512(sums + row, _mm512_add_epi32(place, _mm512_loadu_si512(sums + row)));
	}
}

#define ADD_TREE(n) \
	do { \
		if (layout->key_size == 4) \
			add_tree(tree, n, keys, block_rows, sums, 0, layout->feature_mask, n_features); \
		else \
			add_tree(tree, n, keys, block_rows, sums, 8, layout->feature_mask, n_features); \
	} while (0)

AVX512 static void
add_tree_avx512(const SbaForestLayout *layout, const SbaHeapTree *tree,
				uint32_t n_features, const int32_t *keys, uint32_t block_rows,
				uint32_t *sums)
{
	if (layout->height_limit != SBA_FOREST_HEAP_HEIGHT)
		sba_forest_kernel_portable.add_tree(layout, tree, n_features, keys, block_rows, sums);
	else if (n_features <= 4)
		ADD_TREE(4);
	else if (n_features == 5)
		ADD_TREE(5);
	else if (n_features <= 8)
		ADD_TREE(8);
	else if (n_features <= BLENDED_FEATURES)
		ADD_TREE(BLENDED_FEATURES);
	else
		ADD_TREE(BLENDED_FEATURES + 1);
}

/* The same additions and multiplications as sba_exp2(), 8 at a time. */
AVX512 static void
finish_avx512(const uint32_t *sums, uint32_t n_rows, double offset, double factor,
			  double *scores)
{
	const __m512d shift = _mm512_set1_pd(SBA_ROUNDING_SHIFT);
	uint32_t	row = 0;

	for (; row + 8 <= n_rows; row += 8)
	{
		__m512d		x = _mm512_add_pd(_mm512_set1_pd(offset),
									  _mm512_mul_pd(_mm512_set1_pd(factor),
													_mm512_cvtepu32_pd(_mm256_loadu_si256((const __m256i *) (sums + row)))));
		__m512d		shifted = _mm512_add_pd(x, shift);
		__m512d		fraction = _mm512_sub_pd(x, _mm512_sub_pd(shifted, shift));
		__m512d		result = _mm512_set1_pd(exp2_terms[SBA_EXP2_TERMS - 1]);
		__m512i		power;

		for (int i = SBA_EXP2_TERMS - 2; i >= 0; i--)
			result = _mm512_add_pd(_mm512_mul_pd(result, fraction), _mm512_set1_pd(exp2_terms[i]));
		power = _mm512_slli_epi64(_mm512_add_epi64(_mm512_castpd_si512(shifted), _mm512_set1_epi64(1023)), 52);
		_mm512_storeu_pd(scores + row, _mm512_mul_pd(result, _mm512_castsi512_pd(power)));
	}
	sba_forest_kernel_portable.finish(sums + row, n_rows - row, offset, factor, scores + row);
}

/* The first processors with AVX-512 cannot count the bits of a vector. */
static uint32_t
walk_avx512(const SbaForestLayout *layout, uint32_t n_trees, const int32_t *keys)
{
	if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512cd"))
		return sba_forest_walk_avx512(layout, n_trees, keys);
	return sba_forest_walk_bmi2(layout, n_trees, keys);
}

const SbaForestKernel sba_forest_kernel_avx512 = {
	"avx512", convert_avx512, add_tree_avx512, finish_avx512, walk_avx512,
	sba_forest_make_keys_avx512, sba_forest_pick_rows_avx512, sba_forest_grow_avx512
};

#endif
