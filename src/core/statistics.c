/*
 * statistics.c
 *	  Order statistics and robust estimates.
 */
#include "core/statistics.h"

#include <math.h>

/* Shorter runs are sorted by insertion. */
#define INSERTION_LENGTH 24

static void
insertion_sort(double *values, size_t n)
{
	size_t		i;

	for (i = 1; i < n; i++)
	{
		double		value = values[i];
		size_t		j = i;

		while (j > 0 && values[j - 1] > value)
		{
			values[j] = values[j - 1];
			j--;
		}
		values[j] = value;
	}
}

static void
sift_down(double *heap, size_t n, size_t i)
{
	double		value = heap[i];

	while (2 * i + 1 < n)
	{
		size_t		child = 2 * i + 1;

		if (child + 1 < n && heap[child + 1] > heap[child])
			child++;
		if (!(heap[child] > value))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = value;
}

static void
heap_sort(double *values, size_t n)
{
	size_t		i;

	for (i = n / 2; i-- > 0;)
		sift_down(values, n, i);
	while (n > 1)
	{
		double		largest = values[0];

		values[0] = values[--n];
		values[n] = largest;
		sift_down(values, n, 0);
	}
}

/*
 * Introsort (Musser 1997): quicksort that hands over to heapsort when it goes
 * too deep, so that no order of values makes it slow.
 */
static void
introsort(double *values, size_t n, int depth)
{
	while (n > INSERTION_LENGTH)
	{
		double		pivot = values[n / 2];
		size_t		i = 0;
		size_t		j = n - 1;

		if (depth-- == 0)
		{
			heap_sort(values, n);
			return;
		}
		for (;;)
		{
			double		swapped;

			while (values[i] < pivot)
				i++;
			while (values[j] > pivot)
				j--;
			if (i >= j)
				break;
			swapped = values[i];
			values[i++] = values[j];
			values[j--] = swapped;
		}
		introsort(values + i, n - i, depth);
		n = i;
	}
	insertion_sort(values, n);
}

void
sba_sort(double *values, size_t n)
{
	int			depth = 0;
	size_t		m;

	for (m = n; m > 1; m /= 2)
		depth += 2;
	introsort(values, n, depth);
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
