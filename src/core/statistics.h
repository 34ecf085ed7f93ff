/*
 * statistics.h
 *	  Order statistics and robust estimates.
 */
#ifndef SBA_CORE_STATISTICS_H
#define SBA_CORE_STATISTICS_H

#include <stddef.h>

/* 1 / Phi^-1(3/4): the median absolute deviation times this estimates sigma. */
#define SBA_MAD_TO_SIGMA 1.4826022185056018

/* Sort ascending.  values must not hold NaN. */
extern void sba_sort(double *values, size_t n);

/*
 * The median, by selection (Hoare 1961); reorders values.  NaN for n = 0.
 */
extern double sba_median(double *values, size_t n);

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
