/*
 * statistics.c
 *	  Order statistics and robust estimates.
 */
#include "core/statistics.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Shorter runs are sorted by insertion. */
#define INSERTION_LENGTH 16

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
 * Bring the values that are smaller than the pivot, or equal to it too, to the
 * front and return how many they are.  Which way a value goes decides no
 * branch, as the processor could only guess it: Lomuto's partition with an
 * exchange at every step.
 */
static inline size_t
smaller_first(double *values, size_t n, double pivot, bool or_equal)
{
	size_t		n_first = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		double		value = values[i];

		values[i] = values[n_first];
		values[n_first] = value;
		n_first += or_equal ? value <= pivot : value < pivot;
	}
	return n_first;
}

static double
middle_of_three(double a, double b, double c)
{
	double		low = a < b ? a : b;
	double		high = a < b ? b : a;

	return c < low ? low : c > high ? high : c;
}

static double
choose_pivot(const double *values, size_t n)
{
	return middle_of_three(values[n / 4], values[n / 2], values[n - 1 - n / 4]);
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
		double		pivot = choose_pivot(values, n);
		size_t		n_smaller;

		if (depth-- == 0)
		{
			heap_sort(values, n);
			return;
		}
		n_smaller = smaller_first(values, n, pivot, false);
		introsort(values, n_smaller, depth);
		values += n_smaller;
		n -= n_smaller;

		/* few are smaller where many are equal: those are in their place */
		if (n_smaller <= n / 8)
		{
			size_t		n_equal = smaller_first(values, n, pivot, true);

			values += n_equal;
			n -= n_equal;
		}
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

#define DIGIT_BITS	11
#define N_DIGITS	3
#define DIGIT_VALUES (1 << DIGIT_BITS)

static int
digit_of(uint64_t word, int digit)
{
	return (int) (word >> (32 + digit * DIGIT_BITS)) & (DIGIT_VALUES - 1);
}

uint64_t
sba_sortable(double key, uint32_t row)
{
	float		rounded = (float) key;
	uint32_t	bits;

	/* the bits of numbers that are not negative ascend like the numbers */
	memcpy(&bits, &rounded, sizeof(bits));
	return (uint64_t) bits << 32 | row;
}

/* Radix sort, least significant digit first. */
void
sba_sort_sortable(uint64_t *words, uint64_t *scratch, size_t n)
{
	uint32_t	position[N_DIGITS][DIGIT_VALUES];
	uint64_t   *from = words;
	uint64_t   *to = scratch;
	int			digit;
	size_t		i;

	memset(position, 0, sizeof(position));
	for (i = 0; i < n; i++)
		for (digit = 0; digit < N_DIGITS; digit++)
			position[digit][digit_of(words[i], digit)]++;
	for (digit = 0; digit < N_DIGITS; digit++)
	{
		uint32_t	before = 0;
		uint64_t   *swapped;
		int			value;

		for (value = 0; value < DIGIT_VALUES; value++)
		{
			uint32_t	count = position[digit][value];

			position[digit][value] = before;
			before += count;
		}
		for (i = 0; i < n; i++)
			to[position[digit][digit_of(from[i], digit)]++] = from[i];
		swapped = from;
		from = to;
		to = swapped;
	}
	memcpy(words, from, n * sizeof(uint64_t));
}

/* Bring the k-th smallest value to position k, smaller ones before it: quickselect. */
double
sba_select(double *values, size_t n, size_t k)
{
	size_t		low = 0;
	size_t		high = n;

	while (high - low > INSERTION_LENGTH)
	{
		double		pivot = choose_pivot(values + low, high - low);
		size_t		n_smaller = smaller_first(values + low, high - low, pivot, false);

		if (k < low + n_smaller)
		{
			high = low + n_smaller;
			continue;
		}
		low += n_smaller;
		if (n_smaller <= (high - low) / 8)
		{
			size_t		n_equal = smaller_first(values + low, high - low, pivot, true);

			if (k < low + n_equal)
				return values[k];
			low += n_equal;
		}
	}
	insertion_sort(values + low, high - low);
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
	upper = sba_select(values, n, n / 2);
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
sba_quantile(double *values, size_t n, double probability)
{
	double		position = probability * (double) (n > 0 ? n - 1 : 0);
	size_t		below = (size_t) position;
	double		lower;
	double		upper;
	size_t		i;

	if (n == 0)
		return NAN;
	lower = sba_select(values, n, below);
	if (below >= n - 1)
		return lower;

	/* after the selection the larger values lie behind it */
	upper = values[below + 1];
	for (i = below + 2; i < n; i++)
		if (values[i] < upper)
			upper = values[i];
	return lower + (position - (double) below) * (upper - lower);
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
