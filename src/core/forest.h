/*
 * forest.h
 *	  Isolation forest (Liu, Ting and Zhou, "Isolation Forest", ICDM 2008).
 *
 * A forest is one flat run of bytes, little-endian, checksummed, that is
 * scored where it lies: sba_forest_open() checks every byte that scoring will
 * rely on and builds nothing.  The same rows, parameters and seed give the
 * same bytes on every machine.
 *
 * Missing values (NaN) keep their row: at fit they do not take part in the
 * choice of a split, at fit and at score they stand for the feature's median
 * in the training sample, so that a missing value never isolates a row by
 * itself.  The median is that of 512 rows drawn by the seed, or of all rows if
 * there are no more; a feature that is always missing has median 0.
 *
 * Infinities are treated as the largest finite value of their sign.  Values
 * are told apart as floats (24 binary digits) of their distance from the
 * feature's median, between 2^-126 and 2^120 times the usual distance; what is
 * farther is as far as that.  Splits lie between values that can be told apart
 * in the form the forest is stored in, see forest_format.h.
 *
 * A forest of one feature is stored as the step function that its trees add up
 * to.  Forests of identical rows, and of one row, score everything 0.5.
 */
#ifndef SBA_CORE_FOREST_H
#define SBA_CORE_FOREST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define SBA_FOREST_MAX_FEATURES		256
#define SBA_FOREST_MAX_TREES		1000
#define SBA_FOREST_MAX_SAMPLE_SIZE	65536

#define SBA_FOREST_DEFAULT_TREES		100
#define SBA_FOREST_DEFAULT_SAMPLE_SIZE	256

typedef struct SbaForestParameters
{
	uint32_t	n_features;		/* 1 .. SBA_FOREST_MAX_FEATURES */
	uint32_t	n_trees;		/* 1 .. SBA_FOREST_MAX_TREES */
	uint32_t	sample_size;	/* 2 .. SBA_FOREST_MAX_SAMPLE_SIZE; fewer rows
								 * than this make every tree use all of them */
	uint64_t	seed;
} SbaForestParameters;

/* What sba_forest_unfold() makes. */
typedef struct SbaUnfoldedForest SbaUnfoldedForest;

/* A checked forest.  Points into the caller's bytes, which must outlive it. */
typedef struct SbaForest
{
	const uint8_t *bytes;
	size_t		length;
	uint32_t	n_features;
	uint32_t	n_trees;
	uint32_t	sample_size;	/* rows that each tree was built from */
	uint64_t	seed;
	double		normalizer;		/* c(sample_size), the denominator of the
								 * score */
	const SbaUnfoldedForest *unfolded;	/* NULL if there is none */
} SbaForest;

/*
 * Average path length of an unsuccessful search in a binary search tree of n
 * nodes, c(n) = 2 H(n-1) - 2 (n-1)/n, with the exact harmonic number
 * (equation 1 of the paper); 0 for n <= 1, 1 for n = 2.
 */
extern double sba_average_path_length(uint32_t n);

/* Whether the parameters are within the bounds above; SBA_INVALID_ARGUMENT. */
extern SbaStatus sba_forest_check_parameters(const SbaForestParameters *parameters,
											 SbaError *error);

/*
 * Fit a forest to n_rows rows of n_features doubles, row-major.
 *
 * On success *bytes is a malloc'ed run of *length bytes, to be freed by the
 * caller.  Errors: SBA_INVALID_ARGUMENT for parameters out of range or no
 * rows, SBA_OUT_OF_MEMORY.
 */
extern SbaStatus sba_forest_fit(const double *rows, size_t n_rows,
								const SbaForestParameters *parameters,
								uint8_t **bytes, size_t *length,
								SbaError *error);

/* Whether to give up; asked before each tree. */
typedef struct SbaStopCheck
{
	bool		(*should_stop) (void *argument);
	void	   *argument;
} SbaStopCheck;

/*
 * The same, for fits that may take seconds.  When should_stop says so, the
 * memory is freed, and SBA_CANCELLED is returned.
 */
extern SbaStatus sba_forest_fit_stoppable(const double *rows, size_t n_rows,
										  const SbaForestParameters *parameters,
										  const SbaStopCheck *stop,
										  uint8_t **bytes, size_t *length,
										  SbaError *error);

/*
 * Check length bytes and describe them in *forest.  No allocation.
 * Errors: SBA_CORRUPT, SBA_UNSUPPORTED_VERSION.
 */
extern SbaStatus sba_forest_open(const uint8_t *bytes, size_t length,
								 SbaForest *forest, SbaError *error);

/*
 * Anomaly score s(x) = 2^(-E[h(x)] / c(sample_size)) of n_rows rows
 * (row-major, n_features doubles each): 0..1, higher is stranger, equation 2
 * of the paper.
 */
extern void sba_forest_score(const SbaForest *forest, const double *rows,
							 size_t n_rows, double *scores);

/* The same for one row, without set-up cost. */
extern double sba_forest_score_one(const SbaForest *forest, const double *row);

/*
 * Let sba_forest_score_one() work on a copy of the forest in which it takes
 * less time.  The copy is made in memory that the caller provides, aligned as
 * malloc() does it, and that must outlive *forest.  It takes about four times
 * the bytes of the forest, and as long to make as some ten scores.  The scores
 * are the same to the bit.
 *
 * sba_forest_unfolded_size() says how many bytes the copy needs; 0 for a forest
 * that would gain nothing by it, and must not be unfolded.
 */
extern size_t sba_forest_unfolded_size(const SbaForest *forest);
extern void sba_forest_unfold(SbaForest *forest, void *memory);

/*
 * Share of each feature in the isolation of this row, n_features doubles that
 * sum to 1.  A feature earns, in each tree, by how much the splits on it made
 * the path shorter than a balanced split of the same rows would have (log2 of
 * rows before over rows after, less one, summed along the path).
 * Returns false, and zeros, for a row that the forest would not isolate
 * (score at or below 0.5): then nothing stands out.
 */
extern bool sba_forest_contributions(const SbaForest *forest, const double *row,
									 double *contributions);

/*
 * The name of the code that scores on this processor: "portable", "avx2",
 * "avx512".  All of them give the same bits.
 */
extern const char *sba_forest_kernel_name(void);

#endif							/* SBA_CORE_FOREST_H */
