/*
 * auroc.c
 *	  How well the forest ranks labelled outliers.
 *
 * Reads CSV with a heading from standard input, features and then a label
 * that is 1 for an outlier; fits and scores all of it with seeds 1, 2, ...
 * and prints the area under the ROC curve of each seed on a line of its own.
 *
 *		auroc SEEDS [TREES [SAMPLE_SIZE]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/forest.h"

#define MAX_LINE 65536

typedef struct Data
{
	size_t		n_rows;
	uint32_t	n_features;
	double	   *rows;
	bool	   *outlier;
} Data;

typedef struct Ranked
{
	double		score;
	bool		outlier;
} Ranked;

static void
fail(const char *message)
{
	fprintf(stderr, "auroc: %s\n", message);
	exit(1);
}

static void
read_data(Data *data)
{
	static char line[MAX_LINE];
	size_t		capacity = 0;
	uint32_t	n_columns = 1;

	memset(data, 0, sizeof(*data));
	if (fgets(line, sizeof(line), stdin) == NULL)
		fail("no heading");
	for (const char *c = line; *c != '\0'; c++)
		n_columns += *c == ',';
	data->n_features = n_columns - 1;
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		char	   *at = line;

		if (data->n_rows == capacity)
		{
			capacity = 2 * capacity + 1024;
			data->rows = realloc(data->rows, capacity * data->n_features * sizeof(double));
			data->outlier = realloc(data->outlier, capacity * sizeof(bool));
			if (data->rows == NULL || data->outlier == NULL)
				fail("out of memory");
		}
		for (uint32_t column = 0; column < n_columns; column++)
		{
			char	   *end;
			double		value = strtod(at, &end);

			if (end == at || (*end != ',' && column + 1 < n_columns))
				fail("not a number");
			if (column < data->n_features)
				data->rows[data->n_rows * data->n_features + column] = value;
			else
				data->outlier[data->n_rows] = value > 0.5;
			at = end + 1;
		}
		data->n_rows++;
	}
}

static int
compare_scores(const void *left, const void *right)
{
	double		a = ((const Ranked *) left)->score;
	double		b = ((const Ranked *) right)->score;

	return (a > b) - (a < b);
}

/* Share of pairs in the right order; half of those that tie. */
static double
area_under_curve(Ranked *ranked, size_t n_rows)
{
	double		ranks = 0;
	double		n_outliers = 0;

	qsort(ranked, n_rows, sizeof(Ranked), compare_scores);
	for (size_t first = 0, end; first < n_rows; first = end)
	{
		double		mean_rank;

		for (end = first; end < n_rows && ranked[end].score == ranked[first].score;)
			end++;
		mean_rank = (double) (first + end + 1) / 2;
		for (size_t i = first; i < end; i++)
		{
			ranks += ranked[i].outlier ? mean_rank : 0;
			n_outliers += ranked[i].outlier;
		}
	}
	return (ranks - n_outliers * (n_outliers + 1) / 2) / (n_outliers * ((double) n_rows - n_outliers));
}

int
main(int argc, char **argv)
{
	SbaForestParameters parameters = {0, SBA_FOREST_DEFAULT_TREES, SBA_FOREST_DEFAULT_SAMPLE_SIZE, 0};
	Data		data;
	double	   *scores;
	Ranked	   *ranked;
	int			n_seeds = argc > 1 ? atoi(argv[1]) : 1;

	if (argc > 2)
		parameters.n_trees = (uint32_t) atoi(argv[2]);
	if (argc > 3)
		parameters.sample_size = (uint32_t) atoi(argv[3]);
	read_data(&data);
	parameters.n_features = data.n_features;
	scores = malloc(data.n_rows * sizeof(double));
	ranked = malloc(data.n_rows * sizeof(Ranked));
	if (scores == NULL || ranked == NULL)
		fail("out of memory");
	for (int seed = 1; seed <= n_seeds; seed++)
	{
		SbaForest	forest;
		SbaError	error;
		uint8_t    *bytes;
		size_t		length;

		parameters.seed = (uint64_t) seed;
		if (sba_forest_fit(data.rows, data.n_rows, &parameters, &bytes, &length, &error) != SBA_OK ||
			sba_forest_open(bytes, length, &forest, &error) != SBA_OK)
			fail(error.message);
		sba_forest_score(&forest, data.rows, data.n_rows, scores);
		for (size_t i = 0; i < data.n_rows; i++)
		{
			ranked[i].score = scores[i];
			ranked[i].outlier = data.outlier[i];
		}
		printf("%.6f\n", area_under_curve(ranked, data.n_rows));
		free(bytes);
	}
	free(scores);
	free(ranked);
	free(data.rows);
	free(data.outlier);
	return 0;
}
