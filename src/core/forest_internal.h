/*
 * forest_internal.h
 *	  What the parts of the forest share, and what its tests look into.
 */
#ifndef SBA_CORE_FOREST_INTERNAL_H
#define SBA_CORE_FOREST_INTERNAL_H

#include "core/forest.h"
#include "core/forest_format.h"

#define SBA_PATH_BITS 26		/* places of c(n) before it is rounded */

/*
 * A grown tree before it is encoded.  Splits are numbered in level order, the
 * root is 0.  A child is the number of a split, or SBA_FOREST_LEAF_BIT and the
 * rows of a leaf.
 */
typedef struct SbaTree
{
	uint32_t	n_splits;
	uint32_t	root_rows;
	int32_t    *keys;			/* [n_splits] */
	uint32_t   *places;			/* [n_splits] number in the complete heap */
	uint32_t   *children;		/* [2 * n_splits] */
	uint32_t   *rows;			/* [n_splits] */
} SbaTree;

/* What a forest looks like before its trees are known. */
typedef struct SbaForestShape
{
	uint32_t	n_features;
	uint32_t	n_trees;
	uint32_t	sample_size;
	uint64_t	seed;
	uint16_t	flags;
	uint32_t	height_limit;
	uint32_t	key_shift;		/* lowest bit of the feature's number in a key */
	uint32_t	feature_bits;
	double	   *centres;		/* [n_features] each */
	double	   *scales;
	double	   *fills;
} SbaForestShape;

/* A growing run of bytes. */
typedef struct SbaForestWriter
{
	SbaForestShape shape;
	uint32_t	fraction_bits;
	uint32_t   *average_paths;	/* [sample_size + 1], units of 2^-26 */
	uint8_t    *bytes;
	size_t		length;
	size_t		capacity;
	uint32_t	trees_written;

	/* Table form: steps of the trees seen so far. */
	int32_t    *step_keys;
	uint32_t   *step_deltas;
	size_t		n_steps;
	size_t		steps_capacity;
	uint32_t	leftmost_sum;
} SbaForestWriter;

extern SbaStatus sba_forest_writer_start(SbaForestWriter *writer,
										 const SbaForestShape *shape,
										 SbaError *error);
extern SbaStatus sba_forest_writer_add(SbaForestWriter *writer,
									   const SbaTree *tree, SbaError *error);
extern SbaStatus sba_forest_writer_finish(SbaForestWriter *writer,
										  uint8_t **bytes, size_t *length,
										  SbaError *error);
extern void sba_forest_writer_free(SbaForestWriter *writer);

/* Put the right checksum at the end of the bytes. */
extern void sba_forest_seal(uint8_t *bytes, size_t length);

/*
 * sba_forest_fit, where a test may ask for a form that the forest would not
 * choose: flags that are to be set in any case, and flags never to be set.
 */
extern SbaStatus sba_forest_fit_form(const double *rows, size_t n_rows,
									 const SbaForestParameters *parameters,
									 uint16_t force_flags, uint16_t avoid_flags,
									 uint8_t **bytes, size_t *length,
									 SbaError *error);

/*
 * c(n) in units of 2^-26, for a caller that asks for n = 0, 1, 2, ... in turn
 * and keeps *harmonic, at first 0, between the calls.
 */
static inline uint32_t
sba_average_path_next(uint32_t n, double *harmonic)
{
	double		path = 0;

	if (n > 1)
		*harmonic += 1.0 / (n - 1);
	if (n == 2)
		path = 1;
	else if (n > 2)
		path = 2 * *harmonic - 2 * ((double) n - 1) / n;
	return (uint32_t) (path * (double) (1 << SBA_PATH_BITS) + 0.5);
}

/* The same for n = 0 .. 256, so that scoring needs no set-up. */
extern const uint32_t sba_average_path_table[257];

/* Round a path length from 26 to fraction_bits binary places. */
static inline uint32_t
sba_path_round(uint32_t path, uint32_t fraction_bits)
{
	uint32_t	shift = SBA_PATH_BITS - fraction_bits;

	return (path + (UINT32_C(1) << (shift - 1))) >> shift;
}

/*
 * A tree of the heap form made ready for many rows: keys in a complete heap
 * (root 1), path lengths of the 2^height places below it.  What lies under a
 * leaf repeats the leaf, so that every row takes exactly height steps.
 */
typedef struct SbaHeapTree
{
	int32_t		keys[SBA_FOREST_HEAP_LEAVES];
	uint32_t	paths[SBA_FOREST_HEAP_LEAVES];
} SbaHeapTree;

/* How keys are found in an opened forest. */
typedef struct SbaForestLayout
{
	const uint8_t *features;
	const uint8_t *body;
	uint16_t	flags;
	uint32_t	height_limit;
	uint32_t	key_size;
	uint32_t	key_shift;
	uint32_t	feature_mask;
	uint32_t	fraction_bits;
} SbaForestLayout;

extern void sba_forest_layout(const SbaForest *forest, SbaForestLayout *layout);

/* The parts of one stored tree of the heap form. */
typedef struct SbaPackedTree
{
	uint64_t	bitmap[4];
	uint32_t	n_splits;
	const uint8_t *several;		/* bitmap of leaves with more than one row */
	const uint8_t *sizes;
	const uint8_t *keys;
} SbaPackedTree;

extern void sba_forest_packed_tree(const SbaForestLayout *layout, uint32_t tree,
								   SbaPackedTree *packed);
extern void sba_forest_expand_tree(const SbaForestLayout *layout, uint32_t tree,
								   SbaHeapTree *heap);

/*
 * A way to score blocks of rows.  The keys of a block lie in tiles of
 * SBA_FOREST_LANES rows, in each tile feature by feature; block_rows is always
 * a whole number of tiles, and what is behind the last row may hold any key.
 */
#define SBA_FOREST_LANES 16

/* A kernel may read up to so many features behind the last tile. */
#define SBA_FOREST_TILE_SLACK 16

/* What trees are grown from, see forest_grow.h. */
typedef struct SbaForestGrower SbaForestGrower;

typedef struct SbaForestKernel
{
	const char *name;
	/* Rows to keys. */
	void		(*convert) (const SbaForestLayout *layout, uint32_t n_features,
							const double *rows, uint32_t n_rows, int32_t *keys);
	/* Add the path length in this tree to the sum of each row. */
	void		(*add_tree) (const SbaForestLayout *layout, const SbaHeapTree *tree,
							 uint32_t n_features, const int32_t *keys,
							 uint32_t block_rows, uint32_t *sums);
	/* Sums to scores: 2^(offset + factor * sum). */
	void		(*finish) (const uint32_t *sums, uint32_t n_rows, double offset,
						   double factor, double *scores);
	/* Score of one row by packed trees: the sum of path lengths. */
	uint32_t	(*walk_packed) (const SbaForestLayout *layout, uint32_t n_trees,
								const int32_t *keys);

	/* Rows to keys for growing, row by row; missing values stay so. */
	void		(*make_keys) (const SbaForestGrower *grower, const double *rows,
							  uint32_t n_rows, int32_t *keys, bool *has_missing);
	/* Copy the keys of the chosen rows into the grower's columns. */
	void		(*pick_rows) (SbaForestGrower *grower, const int32_t *keys,
							  const uint32_t *chosen);
	/* Grow a tree from the columns. */
	void		(*grow) (SbaForestGrower *grower);
} SbaForestKernel;

extern const SbaForestKernel sba_forest_kernel_portable;
extern void sba_forest_convert_portable(const SbaForestLayout *layout, uint32_t n_features,
										const double *rows, uint32_t n_rows, int32_t *keys);
extern void sba_forest_finish_portable(const uint32_t *sums, uint32_t n_rows, double offset,
									   double factor, double *scores);
extern void sba_forest_make_keys_portable(const SbaForestGrower *grower, const double *rows,
										  uint32_t n_rows, int32_t *keys, bool *has_missing);
extern void sba_forest_pick_rows_portable(SbaForestGrower *grower, const int32_t *keys,
										  const uint32_t *chosen);
extern void sba_forest_grow_portable(SbaForestGrower *grower);

#if defined(__GNUC__) && defined(__x86_64__)
#define SBA_FOREST_X86
extern uint32_t sba_forest_walk_bmi2(const SbaForestLayout *layout, uint32_t n_trees,
									 const int32_t *keys);
extern uint32_t sba_forest_walk_avx512(const SbaForestLayout *layout, uint32_t n_trees,
									   const int32_t *keys);
extern const SbaForestKernel sba_forest_kernel_avx2;
extern const SbaForestKernel sba_forest_kernel_avx512;
extern void sba_forest_make_keys_avx512(const SbaForestGrower *grower, const double *rows,
										uint32_t n_rows, int32_t *keys, bool *has_missing);
extern void sba_forest_pick_rows_avx512(SbaForestGrower *grower, const int32_t *keys,
										const uint32_t *chosen);
extern void sba_forest_grow_avx512(SbaForestGrower *grower);
#endif

/* Sum of path lengths of one row in all trees of an unfolded forest. */
extern uint32_t sba_forest_walk_unfolded(const SbaForest *forest, const SbaForestLayout *layout,
										 const int32_t *keys);

/* Keys of one row; room for SBA_FOREST_MAX_FEATURES. */
extern void sba_forest_row_keys(const SbaForest *forest, const SbaForestLayout *layout,
								const double *row, int32_t *keys);

/*
 * The best kernel of this processor, or the one that a test asked for.
 * sba_forest_force_kernel() returns false if this processor or this build has
 * none of that name; NULL goes back to the best.
 */
extern const SbaForestKernel *sba_forest_kernel(void);
extern bool sba_forest_force_kernel(const char *name);

#endif							/* SBA_CORE_FOREST_INTERNAL_H */
