/*
 * test_statistics.c
 *	  Order statistics, calibration and severity against plain formulations.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/calibration.h"
#include "core/severity.h"
#include "core/statistics.h"
#include "tap.h"

#define MAX_VALUES 2000

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

/* Values of different kinds of order: random, few distinct, sorted, reversed, organ pipe. */
static double
value_of_kind(int kind, size_t i, size_t n, uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	switch (kind)
	{
		case 0:
			return (double) *state / 4294967296.0 - 0.5;
		case 1:
			return (double) (*state >> 30);
		case 2:
			return (double) i;
		case 3:
			return -(double) i;
		default:
			return (double) (i < n / 2 ? i : n - i);
	}
}

static void
test_sort_and_median(void)
{
	static const size_t sizes[] = {0, 1, 2, 3, 24, 25, 100, 101, 1999, 2000};
	uint32_t	state = 42;
	int			kind;
	size_t		s;

	for (kind = 0; kind < 5; kind++)
	{
		int			sorted_right = 1;
		int			median_right = 1;

		for (s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		{
			double		values[MAX_VALUES + 1];
			double		expected[MAX_VALUES + 1];
			double		copy[MAX_VALUES + 1];
			size_t		n = sizes[s];
			size_t		i;

			for (i = 0; i < n; i++)
				values[i] = expected[i] = copy[i] = value_of_kind(kind, i, n, &state);
			/* cppcheck-suppress uninitvar; nothing is sorted when n is 0 */
			qsort(expected, n, sizeof(double), compare_doubles);
			sba_sort(values, n);
			sorted_right &= n == 0 || memcmp(values, expected, n * sizeof(double)) == 0;
			if (n == 0)
				median_right &= isnan(sba_median(copy, n));
			else
				median_right &= sba_median(copy, n) == expected[(n - 1) / 2] + (expected[n / 2] - expected[(n - 1) / 2]) / 2;
		}
		ok(sorted_right, "values of kind %d are sorted", kind);
		ok(median_right, "median of values of kind %d", kind);
	}
}

static void
test_quantiles(void)
{
	static const double sorted[] = {1, 2, 4, 8};
	double		values[] = {5, 1, 3, 2, 4, 1000};

	ok(sba_quantile_of_sorted(sorted, 4, 0) == 1, "quantile 0 is the smallest");
	ok(sba_quantile_of_sorted(sorted, 4, 1) == 8, "quantile 1 is the largest");
	ok(sba_quantile_of_sorted(sorted, 4, 0.5) == 3, "quantile 0.5 lies half-way");
	ok(isnan(sba_quantile_of_sorted(sorted, 0, 0.5)), "no values have no quantile");
	ok(fabs(sba_robust_sigma(values, 6) - 1.5 * SBA_MAD_TO_SIGMA) < 1e-12, "one wild value does not move the robust sigma");
}

static void
test_tail(void)
{
	double		values[1000];
	double		same[100];
	SbaTail		tail;
	double		before = -1;
	int			rises = 1;
	int			i;

	/* an exponential distribution: evidence of x is x * log10(e) */
	for (i = 0; i < 1000; i++)
		values[i] = -log(1 - (i + 0.5) / 1000);
	sba_tail_fit(&tail, values, 1000, 0.1, 10);
	ok(fabs(sba_tail_evidence(&tail, log(10)) - 1) < 0.05, "one in ten is evidence 1");
	ok(fabs(sba_tail_evidence(&tail, 4 * log(10)) - 4) < 0.4, "the tail goes on beyond the data");
	for (i = 0; i < 200; i++)
	{
		double		evidence = sba_tail_evidence(&tail, i * 0.1);

		rises &= evidence > before;
		before = evidence;
	}
	ok(rises, "stranger is always more evidence");
	ok(sba_tail_evidence(&tail, -5) == 0, "what is below all values is no evidence");

	for (i = 0; i < 100; i++)
		same[i] = 7;
	sba_tail_fit(&tail, same, 100, 0.1, 10);
	ok(sba_tail_evidence(&tail, 7) == 0, "the value that is always there is no evidence");
	ok(sba_tail_evidence(&tail, 8) > 1, "another one is");
}

static void
test_scores(void)
{
	double		before = 1;
	int			falls = 1;
	double		evidence;

	ok(fabs(sba_score_of_evidence(3, 1e-3)) < 1e-12, "the edge of the budget scores 0");
	ok(fabs(sba_score_of_evidence(4, 1e-3) + 0.3) < 1e-12, "ten times rarer scores -0.3");
	ok(fabs(sba_score_of_evidence(5, 1e-3) + 0.6) < 1e-12, "a hundred times rarer scores -0.6");
	for (evidence = 0; evidence < 300; evidence += 0.5)
	{
		double		score = sba_score_of_evidence(evidence, 1e-3);

		falls &= score < before && score > -1;
		before = score;
	}
	ok(falls, "rarer always scores lower, and never below -1");

	ok(sba_severity_of_score(-0.6000001) == SBA_SEVERITY_CRITICAL, "below -0.6 is critical");
	ok(sba_severity_of_score(-0.6) == SBA_SEVERITY_HIGH, "-0.6 is high");
	ok(sba_severity_of_score(-0.3) == SBA_SEVERITY_MEDIUM, "-0.3 is medium");
	ok(sba_severity_of_score(-0.1) == SBA_SEVERITY_LOW, "-0.1 is low");
	ok(strcmp(sba_severity_name(SBA_SEVERITY_HIGH), "high") == 0, "severities have their names");
}

int
main(void)
{
	plan_tests(0);
	test_sort_and_median();
	test_quantiles();
	test_tail();
	test_scores();
	return done();
}
