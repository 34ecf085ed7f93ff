/*
 * statistics.c
 *	  Order statistics and robust estimates.
 */
#include "core/statistics.h"

#include <math.h>
#include <stdlib.h>

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

void
sba_sort(double *values, size_t n)
{
	qsort(values, n, sizeof(double), compare_doubles);
}

/* Bring the k-th smallest value to position k, smaller ones before it. */
static double
select_kth(double *values, size_t n, size_t k)
{
	size_t		low = 0;
	size_t		high = n - 1;

	while (low < high)
	{
		double		pivot = values[low + (high - low) / 2];
		size_t		i = low;
		size_t		j = high;

		for (;;)
		{
			while (values[i] < pivot)
				i++;
			while (values[j] > pivot)
				j--;
			if (i <= j)
			{
				double		swapped = values[i];

				values[i++] = values[j];
				values[j] = swapped;
				if (j == 0)
					break;
				j--;
			}
			if (i > j)
				break;
		}
		if (k <= j)
			high = j;
		else if (k >= i)
			low = i;
		else
			break;
	}
	return values[k];
}

double
sba_median(double *values, size_t n)
{
	double		upper;
	double		lower;
	size_t		i;

	if (n == 0)
		return NAN;
	upper = select_kth(values, n, n / 2);
	if (n % 2 == 1)
		return upper;

	/* after the selection the lower half lies before position n / 2 */
	lower = values[0];
	for (i = 1; i < n / 2; i++)
		if (values[i] > lower)
			lower = values[i];
	return lower + (upper - lower) / 2;
}

double
sba_quantile_of_sorted(const double *sorted, size_t n, double probability)
{
	double		position;
	size_t		below;

	if (n == 0)
		return NAN;
	position = probability * (double) (n - 1);
	below = (size_t) position;
	if (below >= n - 1)
		return sorted[n - 1];
	return sorted[below] + (position - (double) below) * (sorted[below + 1] - sorted[below]);
}

double
sba_robust_sigma(double *values, size_t n)
{
	double		center = sba_median(values, n);
	size_t		i;

	for (i = 0; i < n; i++)
		values[i] = fabs(values[i] - center);
	return SBA_MAD_TO_SIGMA * sba_median(values, n);
}
