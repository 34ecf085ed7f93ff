/*
 * fuzz_forest.c
 *	  Open anything as a forest, and score with what is accepted.
 *
 * The stated length and the checksum are made right first: otherwise nothing
 * behind them would be reached.  A forest that is accepted must give scores
 * between 0 and 1 for whatever rows, the same ones row by row, at once and with
 * every kernel, and contributions that are shares.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/forest_inspect.h"
#include "core/forest_internal.h"
#include "core/random.h"

/* More than one tile of rows, and not a whole number of them. */
#define N_ROWS 21

/* No forest takes more memory or time than its bytes give reason for. */
#define MAX_SIZE (64 * 1024)

static double rows[N_ROWS * SBA_FOREST_MAX_FEATURES];

int			LLVMFuzzerInitialize(int *argc, char ***argv);
int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const double hostile[] = {
		NAN, INFINITY, -INFINITY, DBL_MAX, -DBL_MAX, DBL_MIN, -DBL_MIN, 0x1p-1074, -0x1p-1074,
		0, -0.0, 1, -1, 0x1p120, -0x1p127, 1e38, 1e300, 0x1p-126, -0x1p-149,
	};
	SbaRandom	random;

	sba_random_start(&random, 1, 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		uint32_t	pick = sba_random_below(&random, 2 * sizeof(hostile) / sizeof(hostile[0]));

		rows[i] = pick < sizeof(hostile) / sizeof(hostile[0]) ? hostile[pick] :
			4 * sba_random_unit(&random) - 2;
	}
	return 0;
}

static void
check_contributions(const SbaForest *forest, const double *row, double score)
{
	double		contributions[SBA_FOREST_MAX_FEATURES];
	bool		stands_out = sba_forest_contributions(forest, row, contributions);
	double		sum = 0;

	for (uint32_t i = 0; i < forest->n_features; i++)
	{
		if (!(contributions[i] >= 0 && contributions[i] <= 1))
			abort();
		sum += contributions[i];
	}
	if (stands_out ? !(score > 0.5 && fabs(sum - 1) < 1e-9) : sum != 0)
		abort();
}

/* Every tree is whole: its nodes follow each other and its leaves have all rows. */
static void
look_into(const SbaForest *forest)
{
	SbaForestSummary summary;
	SbaForestCursor cursor;
	SbaForestNode *nodes;
	uint32_t	n_trees = 0;
	uint32_t	n_nodes;

	sba_forest_summary(forest, &summary);
	if (summary.form == SBA_FOREST_FORM_TABLE)
	{
		double		last = -INFINITY;

		for (uint32_t step = 0; step <= summary.n_steps; step++)
		{
			double		threshold;
			double		path_length;

			sba_forest_step(forest, step, &threshold, &path_length);
			if (!(threshold >= last) || !(path_length >= 0))
				abort();
			last = threshold;
		}
		return;
	}
	nodes = malloc(2 * (size_t) forest->sample_size * sizeof(SbaForestNode));
	if (nodes == NULL)
		abort();
	sba_forest_first_tree(&cursor, forest);
	while ((n_nodes = sba_forest_next_tree(&cursor, nodes)) > 0)
	{
		uint64_t	rows = 0;

		if (n_nodes > 2 * forest->sample_size - 1)
			abort();
		for (uint32_t i = 0; i < n_nodes; i++)
		{
			if (nodes[i].left == 0)
				rows += nodes[i].rows;
			else if (nodes[i].left <= i || nodes[i].right != nodes[i].left + 1 ||
					 nodes[i].right >= n_nodes || nodes[i].feature >= forest->n_features)
				abort();
		}
		if (rows != forest->sample_size)
			abort();
		n_trees++;
	}
	free(nodes);
	if (n_trees != forest->n_trees)
		abort();
}

/* The unfolded copy takes what it asks for, and gives the same scores. */
static void
check_unfolded(SbaForest forest, const double *scores)
{
	size_t		size = sba_forest_unfolded_size(&forest);
	void	   *memory;

	if (size == 0)
		return;
	memory = malloc(size);
	if (memory == NULL)
		abort();
	sba_forest_unfold(&forest, memory);
	for (size_t i = 0; i < N_ROWS; i++)
	{
		if (sba_forest_score_one(&forest, rows + i * forest.n_features) != scores[i])
			abort();
	}
	free(memory);
}

static void
use(const SbaForest *forest)
{
	static const char *const kernels[] = {"portable", "avx2", "avx512"};
	double		scores[N_ROWS];

	for (size_t k = 0; k < sizeof(kernels) / sizeof(kernels[0]); k++)
	{
		if (!sba_forest_force_kernel(kernels[k]))
			continue;
		sba_forest_score(forest, rows, N_ROWS, scores);
		for (size_t i = 0; i < N_ROWS; i++)
		{
			const double *row = rows + i * forest->n_features;

			if (!(scores[i] >= 0 && scores[i] <= 1) || sba_forest_score_one(forest, row) != scores[i])
				abort();
			if (k == 0)
				check_contributions(forest, row, scores[i]);
		}
	}
	sba_forest_force_kernel(NULL);
	check_unfolded(*forest, scores);
	look_into(forest);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t    *bytes;
	SbaForest	forest;
	SbaError	error;

	if (size > MAX_SIZE)
		return 0;

	/* a copy that ends where the input ends, so that reading on is found */
	bytes = malloc(size + (size == 0));
	if (bytes == NULL)
		abort();
	if (size > 0)
		memcpy(bytes, data, size);
	if (size >= SBA_FOREST_HEADER_SIZE)
	{
		sba_store_u64(bytes + SBA_FOREST_AT_LENGTH, size);
		sba_forest_seal(bytes, size);
	}
	if (sba_forest_open(bytes, size, &forest, &error) == SBA_OK)
		use(&forest);
	free(bytes);
	return 0;
}
