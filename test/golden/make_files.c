/*
 * make_files.c
 *	  Write the files of test/golden, and small forests and models for the
 *	  fuzzers to begin with.
 *
 *	  make -f test/programs.mk seeds			the fuzzers' only
 *	  make -f test/programs.mk golden VERSION=2	the golden ones of a new format
 *
 * Golden files of a released version are never written again.
 */
#include <errno.h>
#include <sys/stat.h>

#include "golden_fixture.h"

#define FORESTS_FOLDER	"test/fuzz/corpus/fuzz_forest"
#define MODELS_FOLDER	"test/fuzz/corpus/fuzz_model"

typedef struct SeedForm
{
	const char *name;
	uint32_t	n_features;
	uint32_t	n_trees;
	uint32_t	sample_size;
	uint16_t	force_flags;
} SeedForm;

static const SeedForm seeds[] = {
	{"heap", 5, 3, 64, 0},
	{"heap_full", 2, 1, 256, 0},
	{"heap_wide", 3, 3, 40, SBA_FOREST_FLAG_WIDE},
	{"heap_40_features", 40, 3, 64, 0},
	{"heap_leaf", 2, 3, 1, 0},
	{"linked", 3, 2, 32, SBA_FOREST_FLAG_LINKED | SBA_FOREST_FLAG_WIDE},
	{"linked_high", 2, 1, 260, 0},
	{"linked_100_features", 100, 1, 20, SBA_FOREST_FLAG_LINKED | SBA_FOREST_FLAG_WIDE},
	{"table", 1, 4, 64, 0},
	{"table_wide", 1, 3, 64, SBA_FOREST_FLAG_TABLE | SBA_FOREST_FLAG_WIDE},
	{"table_leaf", 1, 2, 1, 0},
};

static FILE *
create(const char *folder, const char *name, const char *suffix)
{
	char		path[256];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s%s", folder, name, suffix);
	file = fopen(path, "wb");
	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	return file;
}

static void
write_file(const char *folder, const char *name, const char *suffix,
		   const uint8_t *bytes, size_t length)
{
	FILE	   *file = create(folder, name, suffix);

	if (fwrite(bytes, 1, length, file) != length || fclose(file) != 0)
	{
		perror(name);
		exit(1);
	}
}

static void
make_folder(const char *folder)
{
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
	{
		perror(folder);
		exit(1);
	}
}

static void
require(bool made, const char *what)
{
	if (!made)
	{
		fprintf(stderr, "cannot make %s\n", what);
		exit(1);
	}
}

static void
write_seeds(void)
{
	static const char *const model_names[] = {"one_metric", "two_metrics"};
	uint8_t    *bytes;
	size_t		length;

	make_folder(FORESTS_FOLDER);
	make_folder(MODELS_FOLDER);
	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
	{
		const SeedForm *seed = &seeds[i];
		size_t		n_rows = seed->sample_size > 1 ? GOLDEN_ROWS : 1;
		double	   *rows = make_rows(n_rows, seed->n_features, GOLDEN_SEED);
		TestForest	test;

		require(fit_form(&test, rows, n_rows, seed->n_features, seed->n_trees,
						 seed->sample_size > 1 ? seed->sample_size : 2, GOLDEN_SEED,
						 seed->force_flags, 0), seed->name);
		write_file(FORESTS_FOLDER, seed->name, "", test.bytes, test.length);
		drop(&test);
		free(rows);
	}
	for (int n_known = 1; n_known <= 2; n_known++)
	{
		require(golden_model(n_known, &bytes, &length), model_names[n_known - 1]);
		write_file(MODELS_FOLDER, model_names[n_known - 1], "", bytes, length);
		free(bytes);
	}
}

static void
write_golden(const char *version)
{
	char		suffix[32];
	char		scores_suffix[40];
	uint8_t    *bytes;
	size_t		length;
	SbaModel	model;
	FILE	   *file;

	snprintf(suffix, sizeof(suffix), ".v%s", version);
	snprintf(scores_suffix, sizeof(scores_suffix), "%s.scores", suffix);
	for (size_t i = 0; i < N_GOLDEN_FORMS; i++)
	{
		const GoldenForm *form = &golden_forms[i];
		double	   *probes = golden_probes(form->n_features);
		TestForest	test;

		require(golden_forest(form, &test), form->name);
		write_file(GOLDEN_FOLDER, form->name, suffix, test.bytes, test.length);
		file = create(GOLDEN_FOLDER, form->name, scores_suffix);
		for (size_t row = 0; row < GOLDEN_PROBES; row++)
			fprintf(file, "%a\n", sba_forest_score_one(&test.forest, probes + row * form->n_features));
		fclose(file);
		drop(&test);
		free(probes);
	}
	require(golden_model(2, &bytes, &length) &&
			sba_model_open(bytes, length, &model, NULL) == SBA_OK, "model");
	write_file(GOLDEN_FOLDER, "model", suffix, bytes, length);
	file = create(GOLDEN_FOLDER, "model", scores_suffix);
	for (int sample = 0; sample < GOLDEN_SAMPLES; sample++)
	{
		SbaVerdict	verdict;

		golden_verdict(&model, sample, &verdict);
		fprintf(file, "%a %a %a\n", verdict.score, verdict.evidence, verdict.forest_score);
	}
	fclose(file);
	free(bytes);
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		write_golden(argv[1]);
	else
		write_seeds();
	return 0;
}
