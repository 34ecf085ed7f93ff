/*
 * forest_fixture.h
 *	  Rows and forests for the tests of the forest.
 */
#ifndef SBA_TEST_FOREST_FIXTURE_H
#define SBA_TEST_FOREST_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "core/forest_internal.h"
#include "core/random.h"

#include "tap.h"

/* A forest with the bytes it lies in, which end where the forest ends. */
typedef struct TestForest
{
	uint8_t    *bytes;
	size_t		length;
	SbaForest	forest;
} TestForest;

/* All ways of scoring; a processor need not have each. */
static const char *const kernel_names[] = {"portable", "avx2", "avx512"};
#define N_KERNELS (sizeof(kernel_names) / sizeof(kernel_names[0]))

/*
 * Numbers around 0, bell-shaped (the sum of four even ones), the same on every
 * machine because no library function has a part in them.
 */
static inline double *
make_rows(size_t n_rows, uint32_t n_features, uint64_t seed)
{
	double	   *rows = malloc(n_rows * n_features * sizeof(double));
	SbaRandom	random;

	sba_random_start(&random, seed, 1000000);
	for (size_t i = 0; rows != NULL && i < n_rows * n_features; i++)
		rows[i] = sba_random_unit(&random) + sba_random_unit(&random) +
			sba_random_unit(&random) + sba_random_unit(&random) - 2;
	return rows;
}

static inline bool
fit_form(TestForest *test, const double *rows, size_t n_rows, uint32_t n_features,
		 uint32_t n_trees, uint32_t sample_size, uint64_t seed,
		 uint16_t force_flags, uint16_t avoid_flags)
{
	SbaForestParameters parameters = {n_features, n_trees, sample_size, seed};
	SbaError	error = {SBA_OK, ""};

	memset(test, 0, sizeof(*test));
	if (sba_forest_fit_form(rows, n_rows, &parameters, force_flags, avoid_flags,
							&test->bytes, &test->length, &error) == SBA_OK &&
		sba_forest_open(test->bytes, test->length, &test->forest, &error) == SBA_OK)
		return true;
	fprintf(stderr, "#   cannot fit: %s\n", error.message);
	return false;
}

static inline bool
fit(TestForest *test, const double *rows, size_t n_rows, uint32_t n_features,
	uint32_t n_trees, uint32_t sample_size, uint64_t seed)
{
	return fit_form(test, rows, n_rows, n_features, n_trees, sample_size, seed, 0, 0);
}

static inline void
drop(TestForest *test)
{
	free(test->bytes);
	memset(test, 0, sizeof(*test));
}

#endif							/* SBA_TEST_FOREST_FIXTURE_H */
