/*
 * forest_grow_avx512.c
 *	  Growing a tree on x86 processors with AVX-512.
 *
 * Most nodes have no more than 16 rows: their keys are gathered once into one
 * register, and there is no loop whose end could be mispredicted.
 */
#include "core/forest_grow.h"

#ifdef SBA_FOREST_X86

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi,bmi2")))
#define AVX512_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi,bmi2")))

#define LANES 16

/* The first count lanes, of which there are no more than LANES. */
AVX512_INLINE __mmask16
first_lanes(uint32_t count)
{
	return (__mmask16) _bzhi_u32(0xffff, count);
}

/*
 * Rows lie value by value, and so do the centres and scales: each repeated, so
 * that 8 of them can be read from any feature on.
 */
AVX512 void
sba_forest_make_keys_avx512(const SbaForestGrower *grower, const double *rows,
							uint32_t n_rows, int32_t *keys, bool *has_missing)
{
	const SbaForestShape *shape = &grower->shape;
	const __m512d far = _mm512_set1_pd(SBA_FOREST_FAR);
	const __m512d near = _mm512_sub_pd(_mm512_setzero_pd(), far);
	double		centres[SBA_FOREST_MAX_FEATURES + 8];
	double		scales[SBA_FOREST_MAX_FEATURES + 8];
	uint32_t	n_features = shape->n_features;
	size_t		n_values = (size_t) n_rows * n_features;
	uint32_t	feature = 0;

	for (uint32_t i = 0; i < n_features + 8; i++)
	{
		centres[i] = shape->centres[i % n_features];
		scales[i] = shape->scales[i % n_features];
	}
	for (size_t i = 0; i < n_values; i += 8)
	{
		__mmask8	lanes = n_values - i < 8 ? (__mmask8) _bzhi_u32(0xff, (uint32_t) (n_values - i)) : 0xff;
		__m512d		values = _mm512_maskz_loadu_pd(lanes, rows + i);
		__mmask8	missing = _mm512_cmp_pd_mask(values, values, _CMP_UNORD_Q);
		__m512d		scaled = _mm512_mul_pd(_mm512_sub_pd(values, _mm512_loadu_pd(centres + feature)),
										   _mm512_loadu_pd(scales + feature));
		__m256i		bits;

		scaled = _mm512_max_pd(_mm512_min_pd(scaled, far), near);
		bits = _mm256_castps_si256(_mm512_cvtpd_ps(scaled));
		bits = _mm256_xor_si256(bits, _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1));
		bits = _mm256_mask_set1_epi32(bits, missing, SBA_KEY_MISSING);
		_mm256_mask_storeu_epi32(keys + i, lanes, bits);
		for (uint32_t left = missing; left != 0; left &= left - 1)
			has_missing[(feature + _tzcnt_u32(left)) % n_features] = true;
		for (feature += 8; feature >= n_features;)
			feature -= n_features;
	}
}

AVX512 void
sba_forest_pick_rows_avx512(SbaForestGrower *grower, const int32_t *keys, const uint32_t *chosen)
{
	uint32_t	n_features = grower->shape.n_features;
	uint32_t	sample_size = grower->shape.sample_size;

	for (uint32_t i = 0; i < sample_size; i += LANES)
	{
		__mmask16	lanes = sample_size - i < LANES ? first_lanes(sample_size - i) : 0xffff;
		__m512i		at = _mm512_mullo_epi32(_mm512_maskz_loadu_epi32(lanes, chosen + i),
											_mm512_set1_epi32((int) n_features));
		int32_t    *to = grower->columns + i;

		for (uint32_t feature = 0; feature < n_features; feature++, to += sample_size)
			_mm512_mask_storeu_epi32(to, lanes,
									 _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes, at,
																 keys + feature, 4));
	}
}

/* Those of the keys that are not missing, from the least to the greatest. */
AVX512_INLINE void
find_range(__m512i low, __m512i high, int32_t *least, int32_t *greatest)
{
	*least = _mm512_reduce_min_epi32(low);
	*greatest = _mm512_reduce_max_epi32(high);
}

/* Put keys that are missing out of the way of the least one. */
AVX512_INLINE __m512i
raise_missing(__m512i keys)
{
	return _mm512_mask_set1_epi32(keys, _mm512_cmpeq_epi32_mask(keys, _mm512_set1_epi32(SBA_KEY_MISSING)),
								  INT32_MAX);
}

/* Lanes that go right. */
AVX512_INLINE __mmask16
not_below(__m512i keys, int32_t fill_key, int32_t split)
{
	keys = _mm512_mask_set1_epi32(keys, _mm512_cmpeq_epi32_mask(keys, _mm512_set1_epi32(SBA_KEY_MISSING)),
								  fill_key);
	return _mm512_cmpge_epi32_mask(keys, _mm512_set1_epi32(split));
}

/* Split a node of no more than 16 rows; returns false if it cannot be. */
AVX512_INLINE bool
split_small(SbaForestGrower *grower, const SbaPendingNode *node, SbaRandom *random,
			int32_t *split, uint32_t *n_left)
{
	const SbaForestShape *shape = &grower->shape;
	uint32_t   *members = grower->members + node->first;
	__mmask16	lanes = first_lanes(node->count);
	__m512i		rows = _mm512_maskz_loadu_epi32(lanes, members);

	for (uint32_t candidates = shape->n_features; candidates > 0; candidates--)
	{
		uint32_t	feature = sba_grow_pick_feature(grower->features, candidates, random);
		__m512i		keys = _mm512_mask_i32gather_epi32(_mm512_set1_epi32(SBA_KEY_MISSING), lanes, rows,
													   grower->columns + (size_t) feature * shape->sample_size, 4);
		int32_t		least;
		int32_t		greatest;

		find_range(raise_missing(keys), keys, &least, &greatest);
		if (sba_grow_place_split(shape, feature, least, greatest, random, split))
		{
			__mmask16	right = lanes & not_below(keys, grower->fill_keys[feature], *split);
			__mmask16	left = lanes & (__mmask16) ~right;

			*n_left = (uint32_t) __builtin_popcount(left);
			_mm512_mask_storeu_epi32(members, first_lanes(*n_left), _mm512_maskz_compress_epi32(left, rows));
			_mm512_mask_storeu_epi32(members + *n_left, first_lanes(node->count - *n_left),
									 _mm512_maskz_compress_epi32(right, rows));
			return true;
		}
	}
	return false;
}

/* Bring rows with smaller keys to the front; returns how many these are. */
AVX512_INLINE uint32_t
divide_large(SbaForestGrower *grower, const SbaPendingNode *node, int32_t fill_key, int32_t split)
{
	uint32_t   *members = grower->members + node->first;
	uint32_t	n_left = 0;
	uint32_t	n_right = 0;

	for (uint32_t i = 0; i < node->count; i += LANES)
	{
		__mmask16	lanes = node->count - i < LANES ? first_lanes(node->count - i) : 0xffff;
		__m512i		rows = _mm512_maskz_loadu_epi32(lanes, members + i);
		__mmask16	right = lanes & not_below(_mm512_maskz_loadu_epi32(lanes, grower->picked + i),
											  fill_key, split);
		__mmask16	left = lanes & (__mmask16) ~right;
		uint32_t	more = (uint32_t) __builtin_popcount(left);

		_mm512_mask_storeu_epi32(members + n_left, first_lanes(more), _mm512_maskz_compress_epi32(left, rows));
		n_left += more;
		more = (uint32_t) __builtin_popcount(right);
		_mm512_mask_storeu_epi32(grower->spare + n_right, first_lanes(more),
								 _mm512_maskz_compress_epi32(right, rows));
		n_right += more;
	}
	for (uint32_t i = 0; i < n_right; i += LANES)
	{
		__mmask16	lanes = n_right - i < LANES ? first_lanes(n_right - i) : 0xffff;

		_mm512_mask_storeu_epi32(members + n_left + i, lanes,
								 _mm512_maskz_loadu_epi32(lanes, grower->spare + i));
	}
	return n_left;
}

/* The same as split_small() for any number of rows. */
AVX512_INLINE bool
split_large(SbaForestGrower *grower, const SbaPendingNode *node, SbaRandom *random,
			int32_t *split, uint32_t *n_left)
{
	const SbaForestShape *shape = &grower->shape;
	const uint32_t *members = grower->members + node->first;

	for (uint32_t candidates = shape->n_features; candidates > 0; candidates--)
	{
		uint32_t	feature = sba_grow_pick_feature(grower->features, candidates, random);
		const int32_t *column = grower->columns + (size_t) feature * shape->sample_size;
		__m512i		low = _mm512_set1_epi32(INT32_MAX);
		__m512i		high = _mm512_set1_epi32(INT32_MIN);
		int32_t		least;
		int32_t		greatest;

		for (uint32_t i = 0; i < node->count; i += LANES)
		{
			__mmask16	lanes = node->count - i < LANES ? first_lanes(node->count - i) : 0xffff;
			__m512i		keys = _mm512_mask_i32gather_epi32(_mm512_set1_epi32(SBA_KEY_MISSING), lanes,
														   _mm512_maskz_loadu_epi32(lanes, members + i), column, 4);

			_mm512_mask_storeu_epi32(grower->picked + i, lanes, keys);
			low = _mm512_min_epi32(low, raise_missing(keys));
			high = _mm512_max_epi32(high, keys);
		}
		find_range(low, high, &least, &greatest);
		if (sba_grow_place_split(shape, feature, least, greatest, random, split))
		{
			*n_left = divide_large(grower, node, grower->fill_keys[feature], *split);
			return true;
		}
	}
	return false;
}

AVX512 void
sba_forest_grow_avx512(SbaForestGrower *grower)
{
	SbaRandom	random = grower->random;
	uint32_t	end = sba_grow_begin(grower);

	for (uint32_t i = 0; i < end; i++)
	{
		SbaPendingNode node = grower->pending[i];
		uint32_t	n_left;
		int32_t		key;

		if (node.count <= LANES ?
			split_small(grower, &node, &random, &key, &n_left) :
			split_large(grower, &node, &random, &key, &n_left))
			end = sba_grow_note_split(grower, &node, key, n_left, end);
	}
}

#endif
