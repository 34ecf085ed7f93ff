/*
 * forest_bench.c
 *	  How long the forest takes: one line per figure,
 *	  rows, features, what, unit, value, separated by tabs.
 *
 *		forest_bench ROWS FEATURES
 */
#define _POSIX_C_SOURCE 199309L

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/forest_internal.h"
#include "core/random.h"

#define MAX_REPETITIONS 51
#define BUDGET_SECONDS 1.0

static double
now_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

static int
compare_doubles(const void *left, const void *right)
{
	double		a = *(const double *) left;
	double		b = *(const double *) right;

	return (a > b) - (a < b);
}

/* What is measured; the others are what it works on. */
typedef struct Work
{
	void		(*run) (struct Work *work);
	const double *rows;
	size_t		n_rows;
	double	   *scores;
	SbaForestParameters parameters;
	uint8_t    *bytes;
	size_t		length;
	SbaForest	forest;
	size_t		next_row;
	void	   *unfolded;
} Work;

static void
run_fit(Work *work)
{
	SbaError	error;

	free(work->bytes);
	if (sba_forest_fit(work->rows, work->n_rows, &work->parameters,
					   &work->bytes, &work->length, &error) != SBA_OK)
		exit(1);
}

static void
run_open(Work *work)
{
	SbaError	error;

	if (sba_forest_open(work->bytes, work->length, &work->forest, &error) != SBA_OK)
		exit(1);
}

static void
run_unfold(Work *work)
{
	run_open(work);
	sba_forest_unfold(&work->forest, work->unfolded);
}

static void
run_score(Work *work)
{
	sba_forest_score(&work->forest, work->rows, work->n_rows, work->scores);
}

/* A thousand rows one by one, so that the clock does not count. */
static void
run_score_one(Work *work)
{
	for (int i = 0; i < 1000; i++)
	{
		size_t		row = work->next_row++ % work->n_rows;

		work->scores[row] = sba_forest_score_one(&work->forest,
												 work->rows + row * work->parameters.n_features);
	}
}

/* Median seconds, of as many runs as fit into the budget but at least 3. */
static double
measure(Work *work, void (*run) (Work *work))
{
	double		times[MAX_REPETITIONS];
	int			n_times = 0;
	double		begin = now_seconds();

	run(work);
	while (n_times < 3 || (n_times < MAX_REPETITIONS && now_seconds() - begin < BUDGET_SECONDS))
	{
		double		start = now_seconds();

		run(work);
		times[n_times++] = now_seconds() - start;
	}
	qsort(times, (size_t) n_times, sizeof(double), compare_doubles);
	return times[n_times / 2];
}

int
main(int argc, char **argv)
{
	static const char *const kernels[] = {"portable", "avx2", "avx512"};
	Work		work = {0};
	size_t		n_values;
	double	   *rows;
	SbaRandom	random;
	size_t		unfolded_size;
	const char *best = sba_forest_kernel_name();

	if (argc != 3)
		return 2;
	work.n_rows = (size_t) atol(argv[1]);
	work.parameters.n_features = (uint32_t) atoi(argv[2]);
	work.parameters.n_trees = SBA_FOREST_DEFAULT_TREES;
	work.parameters.sample_size = SBA_FOREST_DEFAULT_SAMPLE_SIZE;
	work.parameters.seed = 1;
	n_values = work.n_rows * work.parameters.n_features;
	rows = malloc(n_values * sizeof(double));
	work.scores = malloc(work.n_rows * sizeof(double));
	if (rows == NULL || work.scores == NULL)
		return 1;

	/* Normal values, as those that scikit-learn is measured on. */
	sba_random_start(&random, 1, 0);
	for (size_t i = 0; i < n_values; i++)
		rows[i] = sqrt(-2 * log(1 - sba_random_unit(&random))) *
			cos(6.283185307179586 * sba_random_unit(&random));
	work.rows = rows;

	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
	{
		if (sba_forest_force_kernel(kernels[i]))
			printf("fit, %s\tms\t%.3f\n", kernels[i], 1e3 * measure(&work, run_fit));
	}
	printf("open\tus\t%.1f\n", 1e6 * measure(&work, run_open));
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
	{
		if (!sba_forest_force_kernel(kernels[i]))
			continue;
		printf("score, %s\tms\t%.3f\n", kernels[i], 1e3 * measure(&work, run_score));
		printf("one row, %s\tus\t%.3f\n", kernels[i], 1e3 * measure(&work, run_score_one));
	}
	unfolded_size = sba_forest_unfolded_size(&work.forest);
	if (unfolded_size > 0)
	{
		work.unfolded = malloc(unfolded_size);
		if (work.unfolded == NULL)
			return 1;
		printf("open, unfolded\tus\t%.1f\n", 1e6 * measure(&work, run_unfold));
		printf("one row, unfolded\tus\t%.3f\n", 1e3 * measure(&work, run_score_one));
		printf("bytes, unfolded\tB\t%zu\n", unfolded_size);
	}
	printf("bytes\tB\t%zu\n", work.length);
	printf("level\t\t%s\n", best);
	free(work.unfolded);
	free(work.bytes);
	free(work.scores);
	free(rows);
	return 0;
}
