/*
 * forest_format.h
 *	  The bytes of a stored forest, version 1.  All numbers little-endian.
 *
 *	  header		64 bytes, see SBA_FOREST_AT_*
 *	  features		24 bytes each: centre, scale (a power of two), fill; doubles
 *	  body			one of the three forms below
 *	  footer		12 zero bytes, then the CRC-32C of everything before it
 *
 * Keys.  A value x is compared as key((float) ((x - centre) * scale)), where
 * key() maps floats to 32-bit integers in the same order.  A split is one key:
 * rows with a smaller key go left.  The number of the split's feature is in
 * the key itself, in its lowest bits (narrow forests: in the lowest of the
 * upper 24 bits, the other 8 being zero and not stored).  Training splits its
 * rows by this very key, so nothing is lost by it.
 *
 * Heap form, for a height limit of at most 8.  A u32 per tree with the offset
 * of the tree in the body, then the trees.  A tree:
 *		32 bytes	bitmap: bit h is set when node h of the complete heap (root
 *					1, children 2h and 2h + 1) is a split
 *		3 or 4 each	keys of the n splits, in level order
 *		(n + 8)/8	bitmap over the n + 1 leaves, in level order, of those with
 *					more than one row
 *		1 each		rows of these leaves, less 2
 * The place of a key, or of a leaf's rows, is the number of bits before its own.
 *
 * Linked form, for higher trees.  A u64 per tree with the number of its
 * splits, then sample_size + 1 u32 with c(0), c(1), ... in units of 2^-26,
 * then the trees.  A tree is one record of 16 bytes per split, in level order:
 * key, left, right, rows.  left and right are the number of a record of this
 * tree, or, with the top bit set, the rows of a leaf.
 *
 * Table form, for one feature.  All trees together are a step function of one
 * key: header.entries keys in strictly increasing order (3 or 4 bytes each),
 * then entries + 1 u32 sums of path lengths, of the intervals between them.
 *
 * Path lengths are whole multiples of 2^-fraction_bits, which follows from the
 * number of trees and the height limit, so that sums are exact in any order
 * and every way of scoring gives the same bits.
 */
#ifndef SBA_CORE_FOREST_FORMAT_H
#define SBA_CORE_FOREST_FORMAT_H

#include <stdint.h>
#include <string.h>

#include "core/bytes.h"

#define SBA_FOREST_MAGIC			UINT32_C(0x46494253)	/* "SBIF" */
#define SBA_FOREST_FORMAT_VERSION	1

#define SBA_FOREST_AT_MAGIC			0	/* u32 */
#define SBA_FOREST_AT_VERSION		4	/* u16 */
#define SBA_FOREST_AT_FLAGS			6	/* u16 */
#define SBA_FOREST_AT_FEATURES		8	/* u32 */
#define SBA_FOREST_AT_TREES			12	/* u32 */
#define SBA_FOREST_AT_SAMPLE_SIZE	16	/* u32 */
#define SBA_FOREST_AT_ENTRIES		20	/* u32, 0 but in the table form */
#define SBA_FOREST_AT_SEED			24	/* u64 */
#define SBA_FOREST_AT_LENGTH		32	/* u64, of everything */
#define SBA_FOREST_AT_RESERVED		40	/* 24 bytes, 0 */
#define SBA_FOREST_HEADER_SIZE		64

#define SBA_FOREST_FLAG_WIDE		0x0001	/* keys take 4 bytes, not 3 */
#define SBA_FOREST_FLAG_LINKED		0x0002
#define SBA_FOREST_FLAG_TABLE		0x0004
#define SBA_FOREST_FLAGS_KNOWN		0x0007

#define SBA_FOREST_FEATURE_SIZE		24
#define SBA_FOREST_FOOTER_SIZE		16

/* Heap form */
#define SBA_FOREST_HEAP_HEIGHT		8
#define SBA_FOREST_HEAP_SPLITS		255
#define SBA_FOREST_HEAP_LEAVES		256
#define SBA_FOREST_BITMAP_SIZE		32

/* Linked form */
#define SBA_FOREST_RECORD_SIZE		16
#define SBA_FOREST_LEAF_BIT			UINT32_C(0x80000000)

/* Highest number of a scaled value; farther ones are taken as this far. */
#define SBA_FOREST_FAR				0x1p120
#define SBA_FOREST_KEY_FAR			INT32_C(0x7b800000)

/* The key of a float: the same order as integers. */
static inline int32_t
sba_forest_key(float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (int32_t) (bits ^ ((0U - (bits >> 31)) >> 1));
}

/* The float of a key. */
static inline float
sba_forest_unkey(int32_t key)
{
	uint32_t	bits = (uint32_t) key;
	float		value;

	bits ^= (0U - (bits >> 31)) >> 1;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/*
 * The key of a value that is not missing.  Infinities and what is too far end
 * at the limits; comparisons are written so that compilers need no branch.
 */
static inline int32_t
sba_forest_value_key(double value, double centre, double scale)
{
	double		scaled = (value - centre) * scale;

	scaled = scaled < SBA_FOREST_FAR ? scaled : SBA_FOREST_FAR;
	scaled = scaled > -SBA_FOREST_FAR ? scaled : -SBA_FOREST_FAR;
	return sba_forest_key((float) scaled);
}

/* Bits that hold a feature's number. */
static inline uint32_t
sba_forest_feature_bits(uint32_t n_features)
{
	uint32_t	bits = 0;

	while ((UINT32_C(1) << bits) < n_features)
		bits++;
	return bits;
}

/* Height limit of the paper: the height of a balanced tree of so many rows. */
static inline uint32_t
sba_forest_height_limit(uint32_t sample_size)
{
	uint32_t	height = 0;

	while ((UINT32_C(1) << height) < sample_size)
		height++;
	return height;
}

/*
 * Binary places of stored path lengths: as many as let the sum over all trees
 * fit in 32 bits.  No path is longer than 3 times the height limit (depth plus
 * c(rows), and c(n) is below 2 log2 n).
 */
static inline uint32_t
sba_forest_fraction_bits(uint32_t n_trees, uint32_t height_limit)
{
	uint64_t	longest = (uint64_t) n_trees * 3 * (height_limit > 0 ? height_limit : 1);
	uint32_t	bits = 24;

	while ((longest << bits) > UINT32_MAX)
		bits--;
	return bits;
}

/* Unaligned loads that compilers turn into one instruction. */
static inline uint64_t
sba_forest_load_u64(const uint8_t *p)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t	value;

	memcpy(&value, p, sizeof(value));
	return value;
#else
	return sba_load_u64(p);
#endif
}

static inline uint32_t
sba_forest_load_u32(const uint8_t *p)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint32_t	value;

	memcpy(&value, p, sizeof(value));
	return value;
#else
	return sba_load_u32(p);
#endif
}

/*
 * Key number i of a run of keys.  A narrow key is read as 4 bytes of which
 * one is thrown away: the one before it or, for the first, part of what lies
 * before the run, so that nothing behind the run is touched.
 */
static inline int32_t
sba_forest_load_key(const uint8_t *keys, uint32_t i, uint32_t key_size)
{
	if (key_size == 4)
		return (int32_t) sba_forest_load_u32(keys + (size_t) i * 4);
	return (int32_t) (sba_forest_load_u32(keys + (size_t) i * 3 - 1) & UINT32_C(0xffffff00));
}

#endif							/* SBA_CORE_FOREST_FORMAT_H */
