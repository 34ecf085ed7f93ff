/*
 * test_forest.c
 *	  The forest scores as the paper says: against trees worked out by hand,
 *	  against a plain walk in doubles, and the same in every form and kernel.
 */
#include <float.h>
#include <math.h>

#include "forest_fixture.h"

/* The table of path lengths is in units of 2^-26. */
#define TABLE_UNITS 0x1p26

/* Checksums of two fitted forests: the bytes must never change by accident. */
#define GOLDEN_MULTIVARIATE UINT32_C(0xe67b160b)
#define GOLDEN_UNIVARIATE UINT32_C(0x8ad7605f)

static void
test_average_path_length(void)
{
	bool		same = true;
	double		harmonic = 0;

	is_double(sba_average_path_length(0), 0, 0, "c(0)");
	is_double(sba_average_path_length(1), 0, 0, "c(1)");
	is_double(sba_average_path_length(2), 1, 0, "c(2)");
	is_double(sba_average_path_length(3), 5.0 / 3, 1e-15, "c(3)");
	is_double(sba_average_path_length(4), 13.0 / 6, 1e-15, "c(4)");
	is_double(sba_average_path_length(8), 3.4357142857142855, 1e-14, "c(8)");
	is_double(sba_average_path_length(16), 4.7614579864579865, 1e-14, "c(16)");
	is_double(sba_average_path_length(256), 10.248689925634562, 1e-13, "c(256)");
	is_double(sba_average_path_length(512), 11.633033069099445, 1e-13, "c(512)");
	for (uint32_t n = 0; n <= 256; n++)
	{
		same &= sba_average_path_next(n, &harmonic) == sba_average_path_table[n];
		same &= fabs(sba_average_path_table[n] - sba_average_path_length(n) * TABLE_UNITS) <= 0.5001;
	}
	ok(same, "the table of c(n) is c(n)");
}

/*
 * Two trees of 8 rows and 2 features, centre 0 and scale 1.  The first:
 *
 *					x0 < 0.5
 *			  /					\
 *		x1 < -1 (5)			 x0 < 2 (3)
 *		 /		\			 /		 \
 *		1		4			2		 1
 *
 * The second could not split: all 8 rows are one leaf.
 */
static bool
build_by_hand(TestForest *test, uint16_t flags)
{
	double		features[3][2] = {{0, 0}, {1, 1}, {0, 0}};
	uint32_t	shift = (flags & SBA_FOREST_FLAG_WIDE) != 0 ? 0 : 8;
	int32_t		keys[3];
	uint32_t	places[3] = {1, 2, 3};
	uint32_t	children[6] = {1, 2, SBA_FOREST_LEAF_BIT | 1, SBA_FOREST_LEAF_BIT | 4,
	SBA_FOREST_LEAF_BIT | 2, SBA_FOREST_LEAF_BIT | 1};
	uint32_t	rows[3] = {8, 5, 3};
	SbaTree		tree = {3, 8, keys, places, children, rows};
	SbaTree		leaf = {0, 8, keys, places, children, rows};
	SbaForestShape shape = {2, 2, 8, 77, flags, 3, shift, 1, features[0], features[1], features[2]};
	SbaForestWriter writer;
	SbaError	error = {SBA_OK, ""};
	bool		built;

	keys[0] = sba_forest_key(0.5F);
	keys[1] = sba_forest_key(-1.0F) & ~((2 << shift) - 1);
	keys[1] |= 1 << shift;
	keys[2] = sba_forest_key(2.0F);

	memset(test, 0, sizeof(*test));
	built = sba_forest_writer_start(&writer, &shape, &error) == SBA_OK &&
		sba_forest_writer_add(&writer, &tree, &error) == SBA_OK &&
		sba_forest_writer_add(&writer, &leaf, &error) == SBA_OK &&
		sba_forest_writer_finish(&writer, &test->bytes, &test->length, &error) == SBA_OK &&
		sba_forest_open(test->bytes, test->length, &test->forest, &error) == SBA_OK;
	sba_forest_writer_free(&writer);
	return ok(built, "a forest built by hand, flags %d, can be opened %s", flags, error.message);
}

static void
test_by_hand(uint16_t flags)
{
	/* A row, and its path length in the first tree. */
	static const struct
	{
		double		row[2];
		double		path;
	}			expected[] = {
		{{0, -2}, 2},
		{{0, 0}, 2 + 13.0 / 6},
		{{0.49, -0.99}, 2 + 13.0 / 6},
		{{1, 0}, 2 + 1},
		{{0.5, -9}, 2 + 1},
		{{1.99, 0}, 2 + 1},
		{{2, 0}, 2},
		{{3, 0}, 2},
		{{INFINITY, 0}, 2},
		{{-INFINITY, -INFINITY}, 2},
		{{NAN, NAN}, 2 + 13.0 / 6}, /* as 0, 0 */
		{{NAN, -2}, 2},
		{{1, NAN}, 2 + 1},
	};
	const double normalizer = 3.4357142857142855;
	TestForest	test;

	if (!build_by_hand(&test, flags))
		return;
	is_uint(test.forest.n_trees, 2, "it has two trees");
	is_uint(test.forest.sample_size, 8, "of eight rows");
	is_uint(test.forest.seed, 77, "and its seed");
	is_double(test.forest.normalizer, normalizer, 1e-14, "its paths are divided by c(8)");
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
	{
		double		mean_path = (expected[i].path + normalizer) / 2;
		double		score = pow(2, -mean_path / normalizer);
		double		batch;

		is_double(sba_forest_score_one(&test.forest, expected[i].row), score, 1e-7,
				  "(%g, %g) has path length %g", expected[i].row[0], expected[i].row[1],
				  expected[i].path);
		sba_forest_score(&test.forest, expected[i].row, 1, &batch);
		is_double(batch, score, 1e-7, "and in a batch");
	}
	drop(&test);
}

/* The gains of the hand-made tree: (3, 0) leaves 8 rows for 3, then 3 for 1. */
static void
test_contributions_by_hand(void)
{
	double		row[2] = {0, -2};
	double		gain0 = log2(8.0 / 5) - 1;
	double		gain1 = log2(5.0 / 1) - 1;
	double		contributions[2];
	TestForest	test;

	if (!build_by_hand(&test, 0))
		return;
	ok(sba_forest_contributions(&test.forest, row, contributions), "(0, -2) is isolated");
	ok(gain0 < 0 && contributions[0] == 0 && contributions[1] == 1,
	   "x1 alone isolates it: %g from %g", contributions[1], gain1);
	row[0] = 3;
	row[1] = 0;
	ok(sba_forest_contributions(&test.forest, row, contributions), "(3, 0) is isolated");
	ok(contributions[0] == 1 && contributions[1] == 0, "by x0 alone");
	row[0] = 0;
	contributions[0] = contributions[1] = 7;
	ok(!sba_forest_contributions(&test.forest, row, contributions) &&
	   contributions[0] == 0 && contributions[1] == 0, "nothing isolates (0, 0)");
	drop(&test);
}

/* A far value in one of five features, and shares of two. */
static void
test_contributions(uint16_t flags)
{
	double	   *rows = make_rows(2000, 5, 3);
	double		contributions[5];
	bool		right = true;
	TestForest	test;

	if (ok(fit_form(&test, rows, 2000, 5, 100, 256, 1, flags, 0), "fit, flags %d", flags))
	{
		for (int culprit = 0; culprit < 5; culprit++)
		{
			double		row[5];
			double		sum = 0;

			for (int i = 0; i < 5; i++)
				row[i] = i == culprit ? 9 : 0.7;
			right &= sba_forest_contributions(&test.forest, row, contributions);
			for (int i = 0; i < 5; i++)
			{
				sum += contributions[i];
				right &= contributions[i] >= 0 && contributions[i] <= 1;
				right &= i == culprit || contributions[i] < contributions[culprit];
			}
			right &= fabs(sum - 1) < 1e-12;
		}
		ok(right, "the feature that is far has the largest share, and shares sum to 1");
	}
	drop(&test);
	free(rows);
}

/* A walk in doubles through the records of a forest in linked form. */
static double
plain_score(const TestForest *test, const double *row)
{
	const SbaForest *forest = &test->forest;
	const uint8_t *features = test->bytes + SBA_FOREST_HEADER_SIZE;
	const uint8_t *counts = features + forest->n_features * SBA_FOREST_FEATURE_SIZE;
	const uint8_t *records = counts + 8 * forest->n_trees + 4 * (forest->sample_size + 1);
	uint32_t	mask = (1U << sba_forest_feature_bits(forest->n_features)) - 1;
	double		sum = 0;

	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		uint32_t	n_splits = (uint32_t) sba_load_u64(counts + 8 * tree);
		uint32_t	node = n_splits > 0 ? 0 : SBA_FOREST_LEAF_BIT | forest->sample_size;
		int			depth = 0;

		for (; (node & SBA_FOREST_LEAF_BIT) == 0; depth++)
		{
			const uint8_t *record = records + (size_t) node * SBA_FOREST_RECORD_SIZE;
			int32_t		key = (int32_t) sba_load_u32(record);
			uint32_t	feature = (uint32_t) key & mask;
			const uint8_t *stored = features + feature * SBA_FOREST_FEATURE_SIZE;
			float		scaled = (float) ((row[feature] - sba_load_f64(stored)) * sba_load_f64(stored + 8));

			node = sba_load_u32(record + (scaled < sba_forest_unkey(key) ? 4 : 8));
		}
		sum += depth + sba_average_path_length(node & ~SBA_FOREST_LEAF_BIT);
		records += (size_t) n_splits * SBA_FOREST_RECORD_SIZE;
	}
	return pow(2, -sum / forest->n_trees / forest->normalizer);
}

/* Whether two forests give the same bits for all rows, by batch and one by one. */
static bool
score_the_same(const SbaForest *first, const SbaForest *second, const double *rows, size_t n_rows)
{
	double	   *scores = malloc(2 * n_rows * sizeof(double));
	bool		same = true;

	sba_forest_score(first, rows, n_rows, scores);
	sba_forest_score(second, rows, n_rows, scores + n_rows);
	for (size_t i = 0; i < n_rows; i++)
	{
		const double *row = rows + i * first->n_features;

		same &= scores[i] == scores[n_rows + i] &&
			scores[i] == sba_forest_score_one(first, row) &&
			scores[i] == sba_forest_score_one(second, row);
	}
	free(scores);
	return same;
}

/* All forms of the same trees, and a walk that knows none of them. */
static void
test_forms(uint32_t n_features, uint32_t n_trees, uint32_t sample_size, size_t n_rows)
{
	double	   *rows = make_rows(n_rows, n_features, 5 + n_features);
	TestForest	linked;
	TestForest	heap;
	double		apart = 0;
	const uint16_t wide = SBA_FOREST_FLAG_WIDE;

	if (ok(fit_form(&linked, rows, n_rows, n_features, n_trees, sample_size, 9,
					wide | SBA_FOREST_FLAG_LINKED, SBA_FOREST_FLAG_TABLE),
		   "fit %u features, %u trees of %u rows, linked", n_features, n_trees, sample_size))
	{
		for (size_t i = 0; i < n_rows; i++)
		{
			double		difference = fabs(plain_score(&linked, rows + i * n_features) -
										  sba_forest_score_one(&linked.forest, rows + i * n_features));

			apart = difference > apart ? difference : apart;
		}
		ok(apart < 1e-6, "a plain walk in doubles differs by %g at most", apart);
	}
	if (sample_size <= 256 &&
		ok(fit_form(&heap, rows, n_rows, n_features, n_trees, sample_size, 9, wide,
					SBA_FOREST_FLAG_TABLE), "fit the same as heaps"))
	{
		ok(score_the_same(&linked.forest, &heap.forest, rows, n_rows), "it scores the same bits");
		drop(&heap);
	}
	if (n_features == 1 &&
		ok(fit_form(&heap, rows, n_rows, n_features, n_trees, sample_size, 9,
					wide | SBA_FOREST_FLAG_TABLE, 0), "fit the same as a table"))
	{
		ok(score_the_same(&linked.forest, &heap.forest, rows, n_rows), "it scores the same bits");
		drop(&heap);
	}
	drop(&linked);
	free(rows);
}

/* A table of one feature against the trees that it stands for, with 3 bytes a key. */
static void
test_narrow_table(void)
{
	double	   *rows = make_rows(4000, 1, 8);
	TestForest	table;
	TestForest	heap;

	if (ok(fit(&table, rows, 4000, 1, 100, 256, 4) &&
		   fit_form(&heap, rows, 4000, 1, 100, 256, 4, 0, SBA_FOREST_FLAG_TABLE),
		   "fit one feature as a table and as heaps"))
	{
		is_uint(sba_load_u16(table.bytes + SBA_FOREST_AT_FLAGS), SBA_FOREST_FLAG_TABLE,
				"the table is what one feature becomes, with short keys");
		rows[0] = INFINITY;
		rows[1] = -INFINITY;
		rows[2] = NAN;
		rows[3] = 1e300;
		ok(score_the_same(&table.forest, &heap.forest, rows, 4000), "both score the same bits");
		ok(table.length <= 60000, "the table takes %zu bytes, not more than 60,000", table.length);
	}
	drop(&table);
	drop(&heap);
	free(rows);
}

/* Every kernel grows the same trees, from values of any kind. */
static void
test_fit_kernels(void)
{
	static const struct
	{
		uint32_t	n_features;
		uint32_t	n_rows;
		uint32_t	sample_size;
	}			cases[] = {
		{1, 700, 256}, {2, 1, 2}, {2, 17, 16}, {3, 40, 33}, {5, 700, 256}, {5, 9000, 256}, {9, 700, 700}, {37, 300, 100}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t		n_values = (size_t) cases[i].n_rows * cases[i].n_features;
		double	   *rows = make_rows(cases[i].n_rows, cases[i].n_features, 5);
		TestForest	portable;
		bool		fitted;
		bool		same = true;

		/* Ties, zeros of both signs, values that are missing or too far. */
		for (size_t value = 0; value < n_values; value += 3)
			rows[value] = floor(2 * rows[value]);
		for (size_t value = 0; value < n_values; value += 41)
			rows[value] = value % 2 == 0 ? NAN : -INFINITY;
		sba_forest_force_kernel("portable");
		fitted = fit_form(&portable, rows, cases[i].n_rows, cases[i].n_features, 30,
						  cases[i].sample_size, 3, 0, 0);
		for (size_t k = 0; k < N_KERNELS; k++)
		{
			TestForest	other;

			if (!fitted || !sba_forest_force_kernel(kernel_names[k]))
				continue;
			if (!fit_form(&other, rows, cases[i].n_rows, cases[i].n_features, 30,
						  cases[i].sample_size, 3, 0, 0))
			{
				same = false;
				continue;
			}
			same &= portable.length == other.length &&
				memcmp(portable.bytes, other.bytes, other.length) == 0;
			drop(&other);
		}
		sba_forest_force_kernel(NULL);
		ok(fitted && same, "all kernels fit the same forest to %u rows of %u features",
		   cases[i].n_rows, cases[i].n_features);
		if (fitted)
			drop(&portable);
		free(rows);
	}
}

/* Whether an unfolded copy, in memory that ends where it ends, scores the same. */
static bool
score_unfolded(SbaForest forest, const double *rows, size_t n_rows, const double *scores)
{
	void	   *memory = malloc(sba_forest_unfolded_size(&forest));
	bool		same = memory != NULL;

	if (same)
		sba_forest_unfold(&forest, memory);
	for (size_t i = 0; same && i < n_rows; i++)
		same = sba_forest_score_one(&forest, rows + i * forest.n_features) == scores[i];
	same = same && forest.unfolded == memory;
	free(memory);
	return same;
}

/* Trees of every height, with few or many rows in their leaves. */
static void
test_unfolded(void)
{
	double	   *rows = make_rows(300, 3, 9);
	double	   *scores = malloc(300 * sizeof(double));
	TestForest	test;

	for (uint32_t i = 0; i < 3 * 100; i++)
		rows[i] = floor(rows[i]);
	for (uint32_t sample_size = 2; sample_size <= 256; sample_size += 1 + sample_size / 3)
	{
		if (!ok(fit(&test, rows, 300, 3, sample_size / 2, sample_size, 4), "fit trees of %u rows", sample_size))
			continue;
		sba_forest_score(&test.forest, rows, 300, scores);
		ok(score_unfolded(test.forest, rows, 300, scores), "they score the same unfolded");
		drop(&test);
	}
	if (ok(fit(&test, rows, 1, 3, 10, 256, 4), "fit a single row"))
	{
		sba_forest_score(&test.forest, rows, 300, scores);
		ok(score_unfolded(test.forest, rows, 300, scores), "trees without a split score the same unfolded");
	}
	drop(&test);
	if (ok(fit(&test, rows, 300, 1, 10, 256, 4), "fit a table"))
		is_uint(sba_forest_unfolded_size(&test.forest), 0, "a table has no unfolded copy");
	drop(&test);
	if (ok(fit(&test, rows, 300, 3, 10, 300, 4), "fit linked trees"))
		is_uint(sba_forest_unfolded_size(&test.forest), 0, "linked trees have none");
	drop(&test);
	free(scores);
	free(rows);
}

/* Counts how often it was asked, and says yes the last time. */
static bool
stop_at_zero(void *argument)
{
	int		   *left = argument;

	return (*left)-- == 0;
}

static void
test_stop(void)
{
	static const uint32_t cases[][2] = {{5, 256}, {5, 400}, {1, 256}};
	double	   *rows = make_rows(1000, 5, 8);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		SbaForestParameters parameters = {cases[i][0], 20, cases[i][1], 6};
		int			left;
		SbaStopCheck stop = {stop_at_zero, &left};
		SbaError	error = {SBA_OK, ""};
		bool		stopped = true;
		TestForest	test;
		uint8_t    *bytes = NULL;
		size_t		length = 0;

		for (int asked = 0; asked < 20; asked++)
		{
			left = asked;
			stopped &= sba_forest_fit_stoppable(rows, 1000, &parameters, &stop, &bytes, &length,
												&error) == SBA_CANCELLED;
			stopped &= error.status == SBA_CANCELLED && left == -1 && bytes == NULL;
		}
		ok(stopped, "a fit of %u features and %u rows stops when it is told, before every tree",
		   cases[i][0], cases[i][1]);
		left = 20;
		ok(sba_forest_fit_stoppable(rows, 1000, &parameters, &stop, &bytes, &length, &error) == SBA_OK &&
		   left == 0 && fit(&test, rows, 1000, cases[i][0], 20, cases[i][1], 6) &&
		   length == test.length && memcmp(bytes, test.bytes, length) == 0,
		   "one that is not stopped fits the same forest");
		drop(&test);
		free(bytes);
	}
	free(rows);
}

/* Every kernel, every number of features that might be special to one. */
static void
test_kernels(void)
{
	static const uint32_t features[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 25, 32, 33, 64, 100, 256};

	for (size_t f = 0; f < sizeof(features) / sizeof(features[0]); f++)
	{
		double	   *rows = make_rows(700, features[f], 21);
		double	   *scores = malloc(2 * 700 * sizeof(double));

		for (uint16_t flags = 0; flags <= SBA_FOREST_FLAG_WIDE; flags++)
		{
			TestForest	test;
			bool		same = true;

			if (!ok(fit_form(&test, rows, 600, features[f], 23, flags ? 256 : 100, 2, flags,
							 SBA_FOREST_FLAG_TABLE | (flags ^ SBA_FOREST_FLAG_WIDE)),
					"fit %u features, flags %d", features[f], flags))
				continue;
			rows[3] = NAN;
			rows[features[f] * 5] = INFINITY;
			rows[features[f] * 6] = -1e308;
			sba_forest_force_kernel("portable");
			sba_forest_score(&test.forest, rows, 700, scores);
			for (size_t k = 0; k < N_KERNELS; k++)
			{
				if (!sba_forest_force_kernel(kernel_names[k]))
					continue;
				for (size_t n = 0; n <= 700; n += n < 40 ? 1 : 220)
				{
					memset(scores + 700, 0xff, 700 * sizeof(double));
					sba_forest_score(&test.forest, rows, n, scores + 700);
					same &= memcmp(scores, scores + 700, n * sizeof(double)) == 0;
					same &= n == 700 || scores[700 + n] != scores[n];
				}
				for (size_t i = 0; i < 700; i++)
					same &= sba_forest_score_one(&test.forest, rows + i * features[f]) == scores[i];
			}
			sba_forest_force_kernel(NULL);
			ok(same, "all kernels give the same bits, in batches of any size and one by one");
			ok(score_unfolded(test.forest, rows, 700, scores), "... and so does the unfolded forest");
			drop(&test);
		}
		free(scores);
		free(rows);
	}
	ok(!sba_forest_force_kernel("abacus"), "there is no kernel of another name");
	ok(sba_forest_kernel_name() != NULL, "this processor has %s", sba_forest_kernel_name());
}

static void
test_blocks(void)
{
	double	   *rows = make_rows(20000, 3, 2);
	double	   *scores = malloc(20000 * sizeof(double));
	TestForest	test;
	bool		same = true;

	if (ok(fit(&test, rows, 20000, 3, 10, 64, 1), "fit 20,000 rows"))
	{
		sba_forest_score(&test.forest, rows, 20000, scores);
		for (size_t i = 0; i < 20000; i += 7)
			same &= scores[i] == sba_forest_score_one(&test.forest, rows + 3 * i);
		ok(same, "more rows than a block score as one by one");
	}
	drop(&test);
	free(scores);
	free(rows);
}

static uint32_t
fitted_checksum(uint32_t n_features, uint64_t seed)
{
	double	   *rows = make_rows(1000, n_features, 1);
	TestForest	test;
	uint32_t	checksum = 0;

	rows[5] = NAN;
	rows[17] = INFINITY;
	if (fit(&test, rows, 1000, n_features, 100, 256, seed))
		checksum = sba_load_u32(test.bytes + test.length - 4);
	drop(&test);
	free(rows);
	return checksum;
}

static void
test_determinism(void)
{
	is_uint(fitted_checksum(5, 42), GOLDEN_MULTIVARIATE, "five features give the known bytes");
	is_uint(fitted_checksum(1, 42), GOLDEN_UNIVARIATE, "one feature gives the known bytes");
	ok(fitted_checksum(5, 42) == fitted_checksum(5, 42), "the same seed gives the same bytes");
	ok(fitted_checksum(5, 42) != fitted_checksum(5, 43), "another seed gives others");
}

int
main(void)
{
	plan_tests(0);
	test_average_path_length();
	test_by_hand(0);
	test_by_hand(SBA_FOREST_FLAG_WIDE);
	test_by_hand(SBA_FOREST_FLAG_WIDE | SBA_FOREST_FLAG_LINKED);
	test_contributions_by_hand();
	test_contributions(0);
	test_contributions(SBA_FOREST_FLAG_LINKED);
	test_forms(1, 20, 256, 500);
	test_forms(1, 20, 1000, 1500);
	test_forms(3, 20, 256, 500);
	test_forms(5, 7, 100, 500);
	test_forms(6, 1, 2, 50);
	test_forms(40, 10, 5000, 6000);
	test_narrow_table();
	test_fit_kernels();
	test_kernels();
	test_unfolded();
	test_stop();
	test_blocks();
	test_determinism();
	return done();
}
