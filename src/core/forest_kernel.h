/*
 * forest_kernel.h
 *	  Code that each way of scoring compiles for its own processor.
 *
 * All of it gives the same bits everywhere: sums are of whole numbers, and the
 * last step to a score uses additions and multiplications only.
 */
#ifndef SBA_CORE_FOREST_KERNEL_H
#define SBA_CORE_FOREST_KERNEL_H

#include "core/forest_internal.h"

#define SBA_ALWAYS_INLINE inline __attribute__((always_inline))

/* Trees that one row walks at the same time. */
#define SBA_WALK_TREES 8

/* Adding and taking away 1.5 * 2^52 rounds to a whole number. */
#define SBA_ROUNDING_SHIFT 0x1.8p52

/* Taylor series of 2^x: (ln 2)^n / n!, each the nearest double */
#define SBA_EXP2_TERMS 13
static const double exp2_terms[SBA_EXP2_TERMS] = {
	1.0,
	0.6931471805599453,
	0.24022650695910072,
	0.05550410866482158,
	0.009618129107628477,
	0.0013333558146428443,
	0.0001540353039338161,
	1.5252733804059841e-05,
	1.321548679014431e-06,
	1.01780860092397e-07,
	7.054911620801123e-09,
	4.4455382718708116e-10,
	2.5678435993488206e-11,
};

/*
 * 2^x for -1000 < x <= 0.5, within a unit or two of the last place.  The
 * library's exp2() may differ in that place from one machine to the next.
 */
static SBA_ALWAYS_INLINE double
sba_exp2(double x)
{
	double		shifted = x + SBA_ROUNDING_SHIFT;
	double		fraction = x - (shifted - SBA_ROUNDING_SHIFT);
	double		result = exp2_terms[SBA_EXP2_TERMS - 1];
	uint64_t	whole;
	double		power;

	for (int i = SBA_EXP2_TERMS - 2; i >= 0; i--)
		result = result * fraction + exp2_terms[i];
	memcpy(&whole, &shifted, sizeof(whole));
	whole = (whole + 1023) << 52;
	memcpy(&power, &whole, sizeof(power));
	return result * power;
}

/* Bits that are set, by the processor's instruction or without. */
static SBA_ALWAYS_INLINE uint32_t
sba_count_bits(uint64_t bits, bool instruction)
{
	if (instruction)
		return (uint32_t) __builtin_popcountll(bits);
	bits -= bits >> 1 & UINT64_C(0x5555555555555555);
	bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
	bits = (bits + (bits >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return (uint32_t) (bits * UINT64_C(0x0101010101010101) >> 56);
}

/* A row on its way down a stored tree. */
typedef struct SbaWalk
{
	const uint8_t *start;
	uint64_t	top;			/* first 64 bits of the bitmap */
	uint32_t	before[4];		/* splits before each 64 bits of it */
	uint32_t	n_splits;
	uint32_t	place;
} SbaWalk;

static SBA_ALWAYS_INLINE void
sba_walk_start(SbaWalk *walk, const SbaForestLayout *layout, uint32_t tree, bool instruction)
{
	walk->start = layout->body + sba_forest_load_u32(layout->body + 4 * (size_t) tree);
	walk->top = sba_forest_load_u64(walk->start);
	walk->before[0] = 0;
	walk->before[1] = sba_count_bits(walk->top, instruction);
	walk->before[2] = walk->before[1] +
		sba_count_bits(sba_forest_load_u64(walk->start + 8), instruction);
	walk->before[3] = walk->before[2] +
		sba_count_bits(sba_forest_load_u64(walk->start + 16), instruction);
	walk->n_splits = walk->before[3] +
		sba_count_bits(sba_forest_load_u64(walk->start + 24), instruction);
	walk->place = 1;
}

/* The place below, by the split that has rank others before it. */
static SBA_ALWAYS_INLINE uint32_t
sba_walk_below(const SbaWalk *walk, uint32_t rank, uint32_t key_size, uint32_t feature_mask,
			   const int32_t *keys)
{
	int32_t		key = sba_forest_load_key(walk->start + SBA_FOREST_BITMAP_SIZE, rank, key_size);
	uint32_t	feature = (uint32_t) key >> (key_size == 4 ? 0 : 8) & feature_mask;

	return 2 * walk->place + (keys[feature] >= key);
}

/* Splits before a place, of which 64 * word bits are before its word. */
static SBA_ALWAYS_INLINE uint32_t
sba_walk_rank(const SbaWalk *walk, uint32_t place, uint64_t *word, bool instruction)
{
	*word = sba_forest_load_u64(walk->start + 8 * (size_t) (place >> 6));
	return walk->before[place >> 6] +
		sba_count_bits(*word & ((UINT64_C(1) << (place & 63)) - 1), instruction);
}

/*
 * One step down, for places in the first 64.  A place without a split is a
 * leaf: the step is computed and thrown away, which costs less than a branch
 * that no one can foresee.
 */
static SBA_ALWAYS_INLINE void
sba_walk_step_top(SbaWalk *walk, uint32_t key_size, uint32_t feature_mask,
				  const int32_t *keys, bool instruction)
{
	uint32_t	rank = sba_count_bits(walk->top & ((UINT64_C(1) << (walk->place & 63)) - 1), instruction);
	uint32_t	below = sba_walk_below(walk, rank, key_size, feature_mask, keys);

	walk->place = (walk->top >> (walk->place & 63) & 1) != 0 ? below : walk->place;
}

static SBA_ALWAYS_INLINE void
sba_walk_step(SbaWalk *walk, uint32_t key_size, uint32_t feature_mask,
			  const int32_t *keys, bool instruction)
{
	uint64_t	word;
	uint32_t	rank = sba_walk_rank(walk, walk->place, &word, instruction);
	uint32_t	below = sba_walk_below(walk, rank, key_size, feature_mask, keys);

	walk->place = (word >> (walk->place & 63) & 1) != 0 ? below : walk->place;
}

/*
 * Rows of the leaf where the walk has ended.  Written without branches, as
 * which leaf it is cannot be foreseen.
 */
static SBA_ALWAYS_INLINE uint32_t
sba_walk_rows(const SbaWalk *walk, uint32_t key_size, bool instruction)
{
	const uint8_t *several = walk->start + SBA_FOREST_BITMAP_SIZE +
	(size_t) walk->n_splits * key_size;
	const uint8_t *sizes = several + (walk->n_splits + 8) / 8;
	uint32_t	at_bottom = walk->place >> 8;
	uint32_t	leaf = 0;
	uint32_t	word;
	uint64_t	bits;
	uint32_t	before;

	if (walk->n_splits > 0)
	{
		uint64_t	unused;
		uint32_t	inside = walk->place & (SBA_FOREST_HEAP_LEAVES - 1) & (at_bottom - 1);
		uint32_t	splits_before = sba_walk_rank(walk, inside, &unused, instruction) +
		(walk->n_splits & (0 - at_bottom));

		/* Children of splits up to here, less those that are splits. */
		leaf = 2 * sba_walk_rank(walk, walk->place >> 1, &unused, instruction) +
			(walk->place & 1) + 1 - splits_before;
	}
	word = leaf >> 6;
	bits = sba_forest_load_u64(several + 8 * (size_t) word);
	before = sba_count_bits(bits & ((UINT64_C(1) << (leaf & 63)) - 1), instruction) +
		sba_count_bits(sba_forest_load_u64(several) & (0 - (uint64_t) (word > 0)), instruction);
	for (uint32_t i = 1; i < word; i++)
		before += sba_count_bits(sba_forest_load_u64(several + 8 * (size_t) i), instruction);
	return 1 + ((sizes[before] + 1U) & (0 - (uint32_t) (bits >> (leaf & 63) & 1)));
}

/* Sum of path lengths of one row in all trees. */
static SBA_ALWAYS_INLINE uint32_t
sba_walk_trees(const SbaForestLayout *layout, uint32_t n_trees, const int32_t *keys,
			   uint32_t key_size, bool instruction)
{
	uint32_t	top_steps = layout->height_limit < 6 ? layout->height_limit : 6;
	uint32_t	feature_mask = layout->feature_mask;
	uint32_t	sum = 0;

	for (uint32_t tree = 0; tree < n_trees; tree += SBA_WALK_TREES)
	{
		uint32_t	count = n_trees - tree < SBA_WALK_TREES ? n_trees - tree : SBA_WALK_TREES;
		SbaWalk		walks[SBA_WALK_TREES];

		/* The last tree stands in for those that a last group lacks. */
#pragma GCC unroll 8
		for (uint32_t i = 0; i < SBA_WALK_TREES; i++)
			sba_walk_start(&walks[i], layout, i < count ? tree + i : n_trees - 1, instruction);
		for (uint32_t step = 0; step < top_steps; step++)
		{
#pragma GCC unroll 8
			for (uint32_t i = 0; i < SBA_WALK_TREES; i++)
				sba_walk_step_top(&walks[i], key_size, feature_mask, keys, instruction);
		}
		for (uint32_t step = top_steps; step < layout->height_limit; step++)
		{
#pragma GCC unroll 8
			for (uint32_t i = 0; i < SBA_WALK_TREES; i++)
				sba_walk_step(&walks[i], key_size, feature_mask, keys, instruction);
		}
		for (uint32_t i = 0; i < count; i++)
		{
			uint32_t	depth = 31 - (uint32_t) __builtin_clz(walks[i].place);
			uint32_t	rows = sba_walk_rows(&walks[i], key_size, instruction);

			sum += (depth << layout->fraction_bits) +
				sba_path_round(sba_average_path_table[rows], layout->fraction_bits);
		}
	}
	return sum;
}

#endif							/* SBA_CORE_FOREST_KERNEL_H */
