/*
 * forest_walk_avx512.c
 *	  One row through 16 stored trees at a time, on x86 processors that count
 *	  the bits of vectors.
 */
#include "core/forest_kernel.h"

#ifdef SBA_FOREST_X86

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vpopcntdq,popcnt,bmi,bmi2")))
#define AVX512_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vpopcntdq,popcnt,bmi,bmi2")))

#define TREES 16

/* Groups of them at the same time. */
#define WALKS 2

/* Keys of more features than this are gathered. */
#define PERMUTED_FEATURES 16

/* 16 trees and where the row is in them. */
typedef struct SbaVectorWalk
{
	__m512i		offsets;
	__m512i		words[8];		/* of the bitmap */
	__m512i		before[9];		/* splits before each word, and all of them */
	__m512i		place;
	__m512i		rank;			/* splits before the place */
	__m512i		parent_rank;
} SbaVectorWalk;

/* What is the same for all trees. */
typedef struct SbaVectorRow
{
	const SbaForestLayout *layout;
	const int32_t *keys;
	__m512i		first_keys;
	bool		is_permuted;
} SbaVectorRow;

/* The 32 bytes at each of two trees. */
AVX512_INLINE __m512i
load_bitmaps(const uint8_t *body, uint32_t first, uint32_t second)
{
	return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) (body + first))),
							  _mm256_loadu_si256((const __m256i *) (body + second)), 1);
}

/*
 * The words of 8 bitmaps, turned so that words of the same number meet: trees
 * 0 .. 3 and 4 .. 7 in the halves of turned[n] are words n, and words n + 4.
 */
AVX512_INLINE void
turn_bitmaps(const uint8_t *body, const uint32_t *offsets, __m512i *turned)
{
	__m512i		rows[4];
	__m512i		pairs[4];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		rows[i] = load_bitmaps(body, offsets[i], offsets[i + 4]);
	pairs[0] = _mm512_unpacklo_epi32(rows[0], rows[1]);
	pairs[1] = _mm512_unpackhi_epi32(rows[0], rows[1]);
	pairs[2] = _mm512_unpacklo_epi32(rows[2], rows[3]);
	pairs[3] = _mm512_unpackhi_epi32(rows[2], rows[3]);
	turned[0] = _mm512_unpacklo_epi64(pairs[0], pairs[2]);
	turned[1] = _mm512_unpackhi_epi64(pairs[0], pairs[2]);
	turned[2] = _mm512_unpacklo_epi64(pairs[1], pairs[3]);
	turned[3] = _mm512_unpackhi_epi64(pairs[1], pairs[3]);
}

AVX512_INLINE void
start(SbaVectorWalk *walk, const SbaForestLayout *layout, uint32_t tree, uint32_t n_trees)
{
	const uint8_t *directory = layout->body + 4 * (size_t) tree;
	uint32_t	count = n_trees - tree;
	uint32_t	offsets[TREES];
	__m512i		low[4];
	__m512i		high[4];

	/* The last tree stands in for those that a last group lacks. */
	walk->offsets = count >= TREES ? _mm512_loadu_si512(directory) :
		_mm512_mask_loadu_epi32(_mm512_set1_epi32((int32_t) sba_forest_load_u32(directory + 4 * (size_t) (count - 1))),
								(__mmask16) _bzhi_u32(0xffff, count), directory);
	_mm512_storeu_si512(offsets, walk->offsets);
	turn_bitmaps(layout->body, offsets, low);
	turn_bitmaps(layout->body, offsets + 8, high);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		walk->words[i] = _mm512_shuffle_i32x4(low[i], high[i], 0x88);
		walk->words[i + 4] = _mm512_shuffle_i32x4(low[i], high[i], 0xdd);
	}
	walk->before[0] = _mm512_setzero_si512();
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		walk->before[i + 1] = _mm512_add_epi32(walk->before[i], _mm512_popcnt_epi32(walk->words[i]));
	walk->place = _mm512_set1_epi32(1);
	walk->rank = _mm512_setzero_si512();
	walk->parent_rank = _mm512_setzero_si512();
}

/* Offset of a key from the first one. */
AVX512_INLINE __m512i
key_offset(__m512i rank, uint32_t key_size)
{
	if (key_size == 4)
		return _mm512_slli_epi32(rank, 2);
	return _mm512_add_epi32(rank, _mm512_add_epi32(rank, rank));
}

/*
 * One step down, for places whose bit is in this word of the bitmap if they
 * are not below first.  Those below first have come to a leaf.
 */
AVX512_INLINE void
step(SbaVectorWalk *walk, const SbaVectorRow *row, uint32_t key_size, __m512i word,
	 __m512i before, uint32_t first)
{
	const SbaForestLayout *layout = row->layout;
	const __m512i ones = _mm512_set1_epi32(1);
	__mmask16	here = first == 0 ? 0xffff :
	_mm512_cmpge_epi32_mask(walk->place, _mm512_set1_epi32((int32_t) first));
	__m512i		bit = _mm512_rolv_epi32(ones, walk->place);
	__m512i		rank = _mm512_add_epi32(before,
										_mm512_popcnt_epi32(_mm512_and_si512(word, _mm512_sub_epi32(bit, ones))));
	__mmask16	split = _mm512_mask_test_epi32_mask(here, word, bit);
	__m512i		at = _mm512_add_epi32(walk->offsets, key_offset(rank, key_size));
	__m512i		key;
	__m512i		feature;
	__m512i		value;
	__m512i		below;

	if (key_size == 4)
	{
		key = _mm512_i32gather_epi32(at, layout->body + SBA_FOREST_BITMAP_SIZE, 1);
		feature = key;
	}
	else
	{
		key = _mm512_and_si512(_mm512_i32gather_epi32(at, layout->body + SBA_FOREST_BITMAP_SIZE - 1, 1),
							   _mm512_set1_epi32(-256));
		feature = _mm512_srli_epi32(key, 8);
	}
	feature = _mm512_and_si512(feature, _mm512_set1_epi32((int32_t) layout->feature_mask));
	if (row->is_permuted)
		value = _mm512_permutexvar_epi32(feature, row->first_keys);
	else
		value = _mm512_i32gather_epi32(feature, row->keys, 4);
	below = _mm512_add_epi32(walk->place, walk->place);
	below = _mm512_mask_or_epi32(below, _mm512_cmpge_epi32_mask(value, key), below, ones);
	walk->place = _mm512_mask_mov_epi32(walk->place, split, below);
	walk->parent_rank = _mm512_mask_mov_epi32(walk->parent_rank, split, rank);
	walk->rank = _mm512_mask_mov_epi32(walk->rank, here, rank);
}

/* The step from a level, on which the bitmap has one word or several. */
AVX512_INLINE void
step_from(SbaVectorWalk *walk, const SbaVectorRow *row, uint32_t key_size, uint32_t level)
{
	const __m512i *words = walk->words;
	const __m512i *before = walk->before;
	__mmask16	odd;
	__mmask16	upper;

	if (level < 5)
		step(walk, row, key_size, words[0], before[0], 0);
	else if (level == 5)
		step(walk, row, key_size, words[1], before[1], 32);
	else if (level == 6)
	{
		odd = _mm512_test_epi32_mask(walk->place, _mm512_set1_epi32(32));
		step(walk, row, key_size, _mm512_mask_blend_epi32(odd, words[2], words[3]),
			 _mm512_mask_blend_epi32(odd, before[2], before[3]), 64);
	}
	else
	{
		odd = _mm512_test_epi32_mask(walk->place, _mm512_set1_epi32(32));
		upper = _mm512_test_epi32_mask(walk->place, _mm512_set1_epi32(64));
		step(walk, row, key_size,
			 _mm512_mask_blend_epi32(upper, _mm512_mask_blend_epi32(odd, words[4], words[5]),
									 _mm512_mask_blend_epi32(odd, words[6], words[7])),
			 _mm512_mask_blend_epi32(upper, _mm512_mask_blend_epi32(odd, before[4], before[5]),
									 _mm512_mask_blend_epi32(odd, before[6], before[7])), 128);
	}
}

/* Of 8 leaves: those before it that have several rows, and whether it has. */
AVX512_INLINE __m256i
count_several(const uint8_t *body, __m256i several, __m256i leaf, __mmask8 *is_several)
{
	const __m512i ones = _mm512_set1_epi64(1);
	__m512i		wide = _mm512_cvtepu32_epi64(leaf);
	__m512i		bit = _mm512_rolv_epi64(ones, wide);
	__m512i		count = _mm512_setzero_si512();
	__mmask8	here = 0xff;

	*is_several = 0;
	for (int first = 0; first < SBA_FOREST_HEAP_LEAVES && here != 0; first += 64)
	{
		__mmask8	after = _mm512_cmpge_epi64_mask(wide, _mm512_set1_epi64(first + 64));
		__m512i		bits = _mm512_mask_i32gather_epi64(_mm512_setzero_si512(), here, several,
													   body + first / 8, 1);

		*is_several |= _mm512_mask_test_epi64_mask((__mmask8) (here & ~after), bits, bit);
		bits = _mm512_and_si512(bits, _mm512_mask_sub_epi64(_mm512_set1_epi64(-1), (__mmask8) ~after, bit, ones));
		count = _mm512_add_epi64(count, _mm512_popcnt_epi64(bits));
		here = after;
	}
	return _mm512_cvtepi64_epi32(count);
}

/* Path lengths of the leaves where the walks have ended. */
AVX512_INLINE __m512i
finish(const SbaVectorWalk *walk, const SbaForestLayout *layout, uint32_t key_size)
{
	const __m512i ones = _mm512_set1_epi32(1);
	__m512i		n_splits = walk->before[8];
	__m512i		several = _mm512_add_epi32(_mm512_add_epi32(walk->offsets, key_offset(n_splits, key_size)),
										   _mm512_set1_epi32(SBA_FOREST_BITMAP_SIZE));
	__m512i		sizes = _mm512_add_epi32(several, _mm512_srli_epi32(_mm512_add_epi32(n_splits, _mm512_set1_epi32(8)), 3));
	__mmask16	at_bottom = _mm512_cmpge_epi32_mask(walk->place, _mm512_set1_epi32(1 << layout->height_limit));
	__m512i		rank = _mm512_mask_mov_epi32(walk->rank, at_bottom, n_splits);
	__m512i		leaf = _mm512_add_epi32(_mm512_add_epi32(walk->parent_rank, walk->parent_rank),
										_mm512_add_epi32(ones, _mm512_and_si512(walk->place, ones)));
	__m512i		depth = _mm512_sub_epi32(_mm512_set1_epi32(31), _mm512_lzcnt_epi32(walk->place));
	__mmask8	is_several[2];
	__m256i		before[2];
	__m512i		rows;
	__m512i		path;
	__mmask16	mask;

	/* Children of splits up to here, less those that are splits. */
	leaf = _mm512_maskz_sub_epi32(_mm512_test_epi32_mask(n_splits, n_splits), leaf, rank);
	before[0] = count_several(layout->body, _mm512_castsi512_si256(several),
							  _mm512_castsi512_si256(leaf), &is_several[0]);
	before[1] = count_several(layout->body, _mm512_extracti64x4_epi64(several, 1),
							  _mm512_extracti64x4_epi64(leaf, 1), &is_several[1]);
	mask = (__mmask16) (is_several[0] | is_several[1] << 8);
	sizes = _mm512_add_epi32(sizes, _mm512_inserti64x4(_mm512_castsi256_si512(before[0]), before[1], 1));
	rows = _mm512_and_si512(_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, sizes, layout->body, 1),
							_mm512_set1_epi32(255));
	rows = _mm512_mask_add_epi32(ones, mask, rows, _mm512_set1_epi32(2));

	/* Paths are rounded to their places as sba_path_round() does. */
	path = _mm512_i32gather_epi32(rows, sba_average_path_table, 4);
	path = _mm512_srl_epi32(_mm512_add_epi32(path, _mm512_set1_epi32(1 << (SBA_PATH_BITS - layout->fraction_bits - 1))),
							_mm_cvtsi32_si128((int) (SBA_PATH_BITS - layout->fraction_bits)));
	return _mm512_add_epi32(path, _mm512_sll_epi32(depth, _mm_cvtsi32_si128((int) layout->fraction_bits)));
}

AVX512_INLINE uint32_t
walk_trees(const SbaVectorRow *row, uint32_t n_trees, uint32_t key_size, uint32_t height)
{
	__m512i		sums = _mm512_setzero_si512();
	uint32_t	tree = 0;

	for (; tree < n_trees; tree += WALKS * TREES)
	{
		SbaVectorWalk walks[WALKS];

#pragma GCC unroll 2
		for (uint32_t i = 0; i < WALKS; i++)
			start(&walks[i], row->layout, tree + i * TREES < n_trees ? tree + i * TREES : n_trees - 1, n_trees);
#pragma GCC unroll 8
		for (uint32_t level = 0; level < height; level++)
		{
#pragma GCC unroll 2
			for (uint32_t i = 0; i < WALKS; i++)
				step_from(&walks[i], row, key_size, level);
		}
#pragma GCC unroll 2
		for (uint32_t i = 0; i < WALKS; i++)
		{
			uint32_t	begin = tree + i * TREES;
			uint32_t	count = begin >= n_trees ? 0 : n_trees - begin < TREES ? n_trees - begin : TREES;

			sums = _mm512_mask_add_epi32(sums, (__mmask16) _bzhi_u32(0xffff, count), sums,
										 finish(&walks[i], row->layout, key_size));
		}
	}
	return (uint32_t) _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sums)),
															   _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sums, 1))));
}

AVX512 uint32_t
sba_forest_walk_avx512(const SbaForestLayout *layout, uint32_t n_trees, const int32_t *keys)
{
	SbaVectorRow row;

	row.layout = layout;
	row.keys = keys;
	row.is_permuted = layout->feature_mask < PERMUTED_FEATURES;
	row.first_keys = _mm512_maskz_loadu_epi32((__mmask16) _bzhi_u32(0xffff, layout->feature_mask + 1), keys);
	if (layout->key_size == 3 && layout->height_limit == SBA_FOREST_HEAP_HEIGHT)
		return walk_trees(&row, n_trees, 3, SBA_FOREST_HEAP_HEIGHT);
	if (layout->key_size == 3)
		return walk_trees(&row, n_trees, 3, layout->height_limit);
	return walk_trees(&row, n_trees, 4, layout->height_limit);
}

#endif
