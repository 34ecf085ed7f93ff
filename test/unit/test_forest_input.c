/*
 * test_forest_input.c
 *	  What a forest makes of unusual rows, and that it draws as it should.
 */
#include <float.h>
#include <math.h>

#include "forest_fixture.h"

static void
test_refused_parameters(void)
{
	static const SbaForestParameters wrong[] = {
		{0, 100, 256, 1}, {257, 100, 256, 1}, {1, 0, 256, 1}, {1, 1001, 256, 1},
		{1, 100, 1, 1}, {1, 100, 0, 1}, {1, 100, 65537, 1}
	};
	static const SbaForestParameters right = {1, 100, 256, 1};
	double		rows[257] = {0};
	uint8_t    *bytes;
	size_t		length;
	SbaError	error;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		error.message[0] = '\0';
		ok(sba_forest_fit(rows, 1, &wrong[i], &bytes, &length, &error) == SBA_INVALID_ARGUMENT &&
		   error.message[0] != '\0',
		   "%u features, %u trees, %u rows: %s", wrong[i].n_features, wrong[i].n_trees,
		   wrong[i].sample_size, error.message);
	}
	ok(sba_forest_fit(rows, 0, &right, &bytes, &length, &error) == SBA_INVALID_ARGUMENT,
	   "no rows: %s", error.message);
	ok(sba_forest_fit(rows, 0, &right, &bytes, &length, NULL) == SBA_INVALID_ARGUMENT,
	   "and nobody need ask why");
}

/* Whether all rows score this, one by one and together. */
static bool
all_score(const TestForest *test, const double *rows, size_t n_rows, double expected)
{
	double	   *scores = malloc(n_rows * sizeof(double));
	bool		same = true;

	sba_forest_score(&test->forest, rows, n_rows, scores);
	for (size_t i = 0; i < n_rows; i++)
		same &= fabs(scores[i] - expected) < 1e-7 &&
			scores[i] == sba_forest_score_one(&test->forest, rows + i * test->forest.n_features);
	free(scores);
	return same;
}

static void
test_few_rows(uint32_t n_features)
{
	double	   *rows = make_rows(300, n_features, 4);
	TestForest	test;

	ok(fit(&test, rows, 1, n_features, 100, 256, 1), "fit one row of %u features", n_features);
	is_uint(test.forest.sample_size, 1, "every tree has one row");
	ok(all_score(&test, rows, 300, 0.5), "any row scores 0.5");
	drop(&test);

	ok(fit(&test, rows, 2, n_features, 100, 256, 1), "fit two rows");
	ok(all_score(&test, rows, 300, 0.5), "any row scores 0.5: each is one step away");
	drop(&test);

	ok(fit(&test, rows, 200, n_features, 50, 256, 1), "fit fewer rows than a sub-sample");
	is_uint(test.forest.sample_size, 200, "every tree has all of them");
	is_double(test.forest.normalizer, sba_average_path_length(200), 0, "paths are divided by c(200)");
	drop(&test);

	for (size_t i = n_features; i < 300 * n_features; i++)
		rows[i] = rows[i % n_features];
	ok(fit(&test, rows, 300, n_features, 100, 256, 1), "fit 300 equal rows");
	ok(all_score(&test, rows, 300, 0.5), "they score 0.5");
	rows[0] = 1e9;
	ok(all_score(&test, rows, 1, 0.5), "and so does another, as no split tells it apart");
	drop(&test);
	free(rows);
}

/* Bytes of tree number i in the heap form. */
static const uint8_t *
tree_bytes(const TestForest *test, uint32_t tree, size_t *length)
{
	SbaForestLayout layout;
	uint32_t	offset;
	size_t		end = test->length - SBA_FOREST_FOOTER_SIZE;

	sba_forest_layout(&test->forest, &layout);
	offset = sba_load_u32(layout.body + 4 * tree);
	if (tree + 1 < test->forest.n_trees)
		end = (size_t) (layout.body - test->bytes) + sba_load_u32(layout.body + 4 * (tree + 1));
	*length = end - offset - (size_t) (layout.body - test->bytes);
	return layout.body + offset;
}

static void
test_seeds(void)
{
	double	   *rows = make_rows(2000, 3, 6);
	TestForest	first;
	TestForest	second;
	bool		shared = false;

	if (ok(fit(&first, rows, 2000, 3, 60, 64, 10) && fit(&second, rows, 2000, 3, 60, 64, 11),
		   "fit with two neighbouring seeds"))
	{
		for (uint32_t i = 0; i < 60; i++)
		{
			for (uint32_t j = 0; j < 60; j++)
			{
				size_t		length;
				size_t		other;
				const uint8_t *tree = tree_bytes(&first, i, &length);
				const uint8_t *against = tree_bytes(&second, j, &other);

				shared |= length == other && memcmp(tree, against, length) == 0;
				against = tree_bytes(&first, j, &other);
				shared |= i != j && length == other && memcmp(tree, against, length) == 0;
			}
		}
		ok(!shared, "no tree is like another");
	}
	drop(&first);
	drop(&second);
	free(rows);
}

/*
 * Of the features at the root, those that cannot be split never appear and the
 * others equally often; its thresholds are spread evenly over the range.
 */
static void
test_choice_of_split(void)
{
	double	   *rows = malloc(256 * 4 * sizeof(double));
	uint32_t	seen[4] = {0};
	double		sum = 0;
	double		squares = 0;
	bool		in_range = true;
	TestForest	test;
	SbaForestLayout layout;

	for (int i = 0; i < 256; i++)
	{
		rows[4 * i] = i / 255.0;
		rows[4 * i + 1] = 3;
		rows[4 * i + 2] = -5 * i;
		rows[4 * i + 3] = i == 0 ? 1 : NAN;
	}
	if (ok(fit(&test, rows, 256, 4, 1000, 256, 12), "fit 1,000 trees"))
	{
		sba_forest_layout(&test.forest, &layout);
		for (uint32_t tree = 0; tree < 1000; tree++)
		{
			SbaPackedTree packed;
			int32_t		key;
			uint32_t	feature;

			sba_forest_packed_tree(&layout, tree, &packed);
			key = sba_forest_load_key(packed.keys, 0, layout.key_size);
			feature = (uint32_t) key >> layout.key_shift & layout.feature_mask;
			seen[feature]++;
			if (feature == 0)
			{
				double		threshold = sba_forest_unkey(key) / sba_load_f64(layout.features + 8) +
				sba_load_f64(layout.features);

				in_range &= threshold > 0 && threshold <= 1;
				sum += threshold;
				squares += threshold * threshold;
			}
		}
		ok(seen[1] == 0 && seen[3] == 0, "a constant feature, and one with a single value, are not split");
		ok(seen[0] > 420 && seen[0] < 580, "the other two are split equally often: %u, %u",
		   seen[0], seen[2]);
		ok(in_range, "a threshold is inside the range");
		is_double(sum / seen[0], 0.5, 0.06, "thresholds are 0.5 on average");
		is_double(squares / seen[0], 1.0 / 3, 0.06, "and their squares a third");
	}
	drop(&test);
	free(rows);
}

static void
test_missing(uint32_t n_features, uint16_t flags)
{
	double	   *rows = make_rows(1001, n_features, 13);
	double	   *row = malloc(n_features * sizeof(double));
	double	   *sorted = malloc(1001 * sizeof(double));
	double		usual;
	double		missing;
	TestForest	test;

	for (int i = 0; i < 1001; i++)
	{
		/*
		 * Far from zero, so that a missing value taken for zero would stand
		 * out.
		 */
		rows[i * n_features] += 100;
		if (i % 3 == 0)
			rows[i * n_features] = NAN;
	}
	if (ok(fit_form(&test, rows, 1001, n_features, 100, 256, 1, flags, 0),
		   "fit with missing values, %u features, flags %d", n_features, flags))
	{
		double		fill = sba_load_f64(test.bytes + SBA_FOREST_HEADER_SIZE + 16);

		is_double(fill, 100, 0.1, "they stand for the median, %g", fill);
		memcpy(row, rows + n_features, n_features * sizeof(double));
		row[0] = fill;
		usual = sba_forest_score_one(&test.forest, row);
		row[0] = NAN;
		missing = sba_forest_score_one(&test.forest, row);
		ok(usual == missing, "a missing value scores as the median");
		row[0] = 0;
		ok(sba_forest_score_one(&test.forest, row) > missing + 0.05,
		   "and not as zero, which is far away");
	}
	drop(&test);

	for (int i = 0; i < 1001; i++)
		rows[i * n_features] = NAN;
	if (ok(fit_form(&test, rows, 1001, n_features, 100, 256, 1, flags, 0),
		   "fit a feature that is always missing"))
	{
		row[0] = NAN;
		missing = sba_forest_score_one(&test.forest, row);
		row[0] = 1e6;
		ok(sba_forest_score_one(&test.forest, row) == missing, "it changes no score");
	}
	drop(&test);

	for (int i = 0; i < 1001; i++)
		rows[i * n_features] = i == 700 ? 5 : i == 800 ? 7 : NAN;
	if (ok(fit_form(&test, rows, 1001, n_features, 100, 256, 1, flags, 0),
		   "fit a feature with two values"))
		is_double(sba_load_f64(test.bytes + SBA_FOREST_HEADER_SIZE + 16), 7, 0,
				  "its median is one of them, however few rows are looked at");
	drop(&test);
	free(sorted);
	free(row);
	free(rows);
}

/* Scores that must rise from the middle of the rows outwards. */
static void
test_extremes(void)
{
	static const double far[] = {1e3, 1e10, 1e100, 1e308, DBL_MAX, INFINITY};
	double	   *rows = make_rows(1000, 2, 14);
	double		middle[2] = {0, 0};
	TestForest	test;
	bool		right = true;

	rows[0] = INFINITY;
	rows[2] = 1e308;
	rows[4] = -1e308;
	rows[6] = 1e300;
	if (ok(fit(&test, rows, 1000, 2, 100, 256, 1), "fit with an infinity and huge values"))
	{
		double		usual = sba_forest_score_one(&test.forest, middle);

		for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++)
		{
			double		high[2] = {far[i], 0};
			double		low[2] = {0, -far[i]};

			right &= sba_forest_score_one(&test.forest, high) > usual + 0.05;
			right &= sba_forest_score_one(&test.forest, low) > usual + 0.05;
		}
		ok(right, "what is far scores more than the middle");
		middle[0] = 1.9;
		ok(sba_forest_score_one(&test.forest, middle) > usual + 0.05,
		   "and the huge values have not made the others all alike");
		middle[0] = INFINITY;
		usual = sba_forest_score_one(&test.forest, middle);
		middle[0] = DBL_MAX;
		ok(sba_forest_score_one(&test.forest, middle) == usual,
		   "an infinity is the largest finite value");
	}
	drop(&test);
	free(rows);
}

/* Two groups of rows, wherever they lie, are told apart. */
static void
test_two_groups(double low, double high)
{
	double		rows[256];
	TestForest	test;

	for (int i = 0; i < 256; i++)
		rows[i] = i < 16 ? high : low;
	if (ok(fit(&test, rows, 256, 1, 100, 256, 1), "fit %g and %g", low, high))
		ok(sba_forest_score_one(&test.forest, &high) > sba_forest_score_one(&test.forest, &low) + 0.1,
		   "the few score more than the many: %g, %g",
		   sba_forest_score_one(&test.forest, &high), sba_forest_score_one(&test.forest, &low));
	drop(&test);
}

/* Values far from the median that differ little need the long keys. */
static void
test_fine_values(void)
{
	double	   *rows = make_rows(1000, 5, 15);
	TestForest	test;
	double		row[5] = {0};
	double		usual;

	for (int i = 0; i < 1000; i++)
		rows[5 * i] = i < 600 ? 0 : 1000 + 0.01 * rows[5 * i];
	if (ok(fit(&test, rows, 1000, 5, 100, 256, 1), "fit values with a step of a thousand times their spread"))
	{
		ok((sba_load_u16(test.bytes + SBA_FOREST_AT_FLAGS) & SBA_FOREST_FLAG_WIDE) != 0,
		   "the forest has long keys");
		row[0] = 1000;
		usual = sba_forest_score_one(&test.forest, row);
		row[0] = 1000.02;
		ok(sba_forest_score_one(&test.forest, row) > usual + 0.02, "and tells the values apart");
	}
	drop(&test);
	free(rows);
}

/* The size that the format was made for. */
static void
test_size(void)
{
	double	   *bell = make_rows(8640, 5, 16);
	double	   *even = malloc(8640 * 5 * sizeof(double));
	SbaRandom	random;
	TestForest	test;

	if (ok(fit(&test, bell, 8640, 5, 100, 256, 1), "fit 100 trees of 256 on five features"))
		ok(test.length <= 40000, "bell-shaped values take %zu bytes, not more than 40,000", test.length);
	drop(&test);
	sba_random_start(&random, 3, 0);
	for (int i = 0; i < 8640 * 5; i++)
		even[i] = sba_random_unit(&random);
	if (ok(fit(&test, even, 8640, 5, 100, 256, 1), "fit values that are evenly spread"))
		ok(test.length <= 40000, "they take %zu bytes, not more than 40,000", test.length);
	drop(&test);
	free(even);
	free(bell);
}

/* An outlier stands out, and rows that are as usual score half on average. */
static void
test_score(void)
{
	double	   *rows = make_rows(5000, 4, 17);
	double	   *scores = malloc(5000 * sizeof(double));
	double		far[4] = {3, -3, 3, 3};
	double		mean = 0;
	bool		in_range = true;
	TestForest	test;

	if (ok(fit(&test, rows, 5000, 4, 100, 256, 1), "fit 5,000 rows"))
	{
		sba_forest_score(&test.forest, rows, 5000, scores);
		for (int i = 0; i < 5000; i++)
		{
			in_range &= scores[i] > 0 && scores[i] < 1;
			mean += scores[i] / 5000;
		}
		ok(in_range, "scores are between 0 and 1");
		ok(mean > 0.4 && mean < 0.55, "a usual row scores %g", mean);
		ok(sba_forest_score_one(&test.forest, far) > 0.7, "a far row scores %g",
		   sba_forest_score_one(&test.forest, far));
	}
	drop(&test);
	free(scores);
	free(rows);
}

static void
test_limits(void)
{
	double	   *rows = make_rows(400, 256, 18);
	TestForest	test;

	ok(fit(&test, rows, 400, 256, 1000, 256, UINT64_MAX), "fit 1,000 trees on 256 features");
	is_uint(test.forest.n_trees, 1000, "it has 1,000 trees");
	is_uint(test.forest.seed, UINT64_MAX, "and the seed");
	drop(&test);
	free(rows);

	rows = make_rows(70000, 2, 19);
	ok(fit(&test, rows, 70000, 2, 3, 65536, 1), "fit trees of 65,536 rows");
	is_uint(test.forest.sample_size, 65536, "they have them all");
	drop(&test);
	free(rows);
}

int
main(void)
{
	plan_tests(0);
	test_refused_parameters();
	test_few_rows(1);
	test_few_rows(5);
	test_seeds();
	test_choice_of_split();
	test_missing(1, 0);
	test_missing(4, 0);
	test_missing(4, SBA_FOREST_FLAG_WIDE | SBA_FOREST_FLAG_LINKED);
	test_extremes();
	test_two_groups(0, 1);
	test_two_groups(1e308, -1e308);
	test_two_groups(-DBL_MAX, DBL_MAX);
	test_two_groups(0, 5e-324);
	test_two_groups(5e-324, 1e-323);
	test_two_groups(0, INFINITY);
	test_two_groups(1, 1 + 1e-15);
	test_two_groups(1e-300, 1e300);
	test_fine_values();
	test_size();
	test_score();
	test_limits();
	return done();
}
