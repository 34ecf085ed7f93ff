/*
 * statistics.h
 *	  Order statistics and robust estimates.
 */
#ifndef SBA_CORE_STATISTICS_H
#define SBA_CORE_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

/* 1 / Phi^-1(3/4): the median absolute deviation times this estimates sigma. */
#define SBA_MAD_TO_SIGMA 1.4826022185056018

/* Sort ascending.  values must not hold NaN. */
extern void sba_sort(double *values, size_t n);

/*
 * A row and what it is to be sorted by, a number that is not negative, in one
 * word.
 */
extern uint64_t sba_sortable(double key, uint32_t row);

/*
 * Sort such words ascending by their keys, taken as float32, rows with equal
 * keys staying in their order.  scratch has room for n words.
 */
extern void sba_sort_sortable(uint64_t *words, uint64_t *scratch, size_t n);

static inline uint32_t
sba_sortable_row(uint64_t word)
{
	return (uint32_t) word;
}

/*
 * The median, by selection (Hoare 1961); reorders values.  NaN for n = 0.
 */
extern double sba_median(double *values, size_t n);

/* The k-th smallest value, from 0, by selection; reorders values, n > k. */
extern double sba_select(double *values, size_t n, size_t k);

/* Quantile as below of values in any order, by selection; reorders them. */
extern double sba_quantile(double *values, size_t n, double probability);

/*
 * Quantile of sorted values at probability 0..1, linear between order
 * statistics (definition 7 of Hyndman and Fan 1996).  NaN for n = 0.
 */
extern double sba_quantile_of_sorted(const double *sorted, size_t n, double probability);

/*
 * Estimate of sigma by the median absolute deviation from the median;
 * reorders values.  NaN for n = 0.
 */
extern double sba_robust_sigma(double *values, size_t n);

#endif							/* SBA_CORE_STATISTICS_H */
