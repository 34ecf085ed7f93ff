/*
 * test_forest_reservoir.c
 *	  The reservoir holds a uniform sample, also of what others have seen.
 */
#include "core/forest_reservoir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define ROWS 40
#define CAPACITY 10				/* 5 trees of 2 rows */
#define RUNS 20000

/* A number of successes beyond this many standard deviations is no chance. */
#define FAR 5.0

static const SbaForestParameters small = {1, 5, 2, 0};

/* Counts over many runs, each with a seed of its own. */
typedef struct Tally
{
	uint32_t	rows[ROWS];		/* runs in which this row was held */
	uint32_t	neighbours;		/* pairs i, i + ROWS / 2 that were held */
	double		first_half;		/* rows of the first half, sum ... */
	double		first_half_squares; /* ... and sum of squares */
} Tally;

static void
start(SbaForestReservoir *reservoir, const SbaForestParameters *parameters, double *rows)
{
	SbaError	error;

	if (sba_forest_reservoir_start(reservoir, parameters, &error) != SBA_OK)
		abort();
	reservoir->rows = rows;
	reservoir->room = reservoir->capacity;
}

/* See the whole numbers from first to end - 1. */
static void
add_numbers(SbaForestReservoir *reservoir, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
	{
		double		row = i;

		sba_forest_reservoir_add(reservoir, &row);
	}
}

static void
count_rows(Tally *tally, const SbaForestReservoir *reservoir)
{
	bool		held[ROWS] = {false};
	uint32_t	first_half = 0;

	for (uint32_t i = 0; i < reservoir->n_rows; i++)
		held[(int) reservoir->rows[i]] = true;
	for (uint32_t i = 0; i < ROWS; i++)
		tally->rows[i] += held[i];
	for (uint32_t i = 0; i < ROWS / 2; i++)
	{
		tally->neighbours += held[i] && held[i + ROWS / 2];
		first_half += held[i];
	}
	tally->first_half += first_half;
	tally->first_half_squares += (double) first_half * first_half;
}

/* Each row, each pair and each split between halves as often as it should be. */
static void
check_tally(const Tally *tally, const char *what)
{
	double		p = (double) CAPACITY / ROWS;
	double		pair = p * (CAPACITY - 1) / (ROWS - 1);
	double		worst = 0;
	double		mean = tally->first_half / RUNS;
	double		variance = tally->first_half_squares / RUNS - mean * mean;
	double		expected_variance = CAPACITY * 0.25 * (ROWS - CAPACITY) / (ROWS - 1);

	for (uint32_t i = 0; i < ROWS; i++)
	{
		double		away = fabs(tally->rows[i] - RUNS * p) / sqrt(RUNS * p * (1 - p));

		worst = away > worst ? away : worst;
	}
	ok(worst < FAR, "%s: every row is as likely to be held (%.1f standard deviations)", what, worst);

	/* Pairs of one run depend on each other a little, against each other. */
	is_double(tally->neighbours, RUNS * (ROWS / 2.0) * pair,
			  3 * sqrt(RUNS * (ROWS / 2.0) * pair * (1 - pair)),
			  "%s: so is every pair", what);
	is_double(mean, CAPACITY / 2.0, FAR * sqrt(expected_variance / RUNS),
			  "%s: both halves have their share", what);
	is_double(variance, expected_variance, 0.06 * expected_variance,
			  "%s: which varies as it should", what);
}

static void
test_one(void)
{
	Tally		tally = {0};

	for (uint32_t run = 0; run < RUNS; run++)
	{
		SbaForestParameters parameters = small;
		SbaForestReservoir reservoir;
		double		rows[CAPACITY];

		parameters.seed = run;
		start(&reservoir, &parameters, rows);
		add_numbers(&reservoir, 0, ROWS);
		count_rows(&tally, &reservoir);
	}
	check_tally(&tally, "one reservoir");
}

/* Rows 0 .. first_end - 1 in one, up to second_end in another, the rest after. */
static void
test_merge(uint32_t first_end, uint32_t second_end, const char *what)
{
	Tally		tally = {0};

	for (uint32_t run = 0; run < RUNS; run++)
	{
		SbaForestParameters parameters = small;
		SbaForestReservoir into;
		SbaForestReservoir from;
		double		into_rows[CAPACITY];
		double		from_rows[CAPACITY];

		parameters.seed = run;
		start(&into, &parameters, into_rows);
		start(&from, &parameters, from_rows);
		add_numbers(&into, 0, first_end);
		add_numbers(&from, first_end, second_end);
		sba_forest_reservoir_merge(&into, &from);
		add_numbers(&into, second_end, ROWS);
		count_rows(&tally, &into);
	}
	check_tally(&tally, what);
}

/* As parallel workers do: three of them, merged one after the other. */
static void
test_merge_three(void)
{
	Tally		tally = {0};

	for (uint32_t run = 0; run < RUNS; run++)
	{
		static const uint32_t ends[] = {0, 20, 26, ROWS};
		SbaForestParameters parameters = small;
		SbaForestReservoir merged;
		double		merged_rows[CAPACITY];

		parameters.seed = run;
		start(&merged, &parameters, merged_rows);
		for (int part = 0; part < 3; part++)
		{
			SbaForestReservoir reservoir;
			double		rows[CAPACITY];

			start(&reservoir, &parameters, rows);
			add_numbers(&reservoir, ends[part], ends[part + 1]);
			sba_forest_reservoir_merge(&merged, &reservoir);
		}
		count_rows(&tally, &merged);
	}
	check_tally(&tally, "three workers");
}

static void
test_few_rows(void)
{
	SbaForestReservoir into;
	SbaForestReservoir from;
	double		into_rows[CAPACITY];
	double		from_rows[CAPACITY];
	bool		in_order = true;

	start(&into, &small, into_rows);
	start(&from, &small, from_rows);
	sba_forest_reservoir_merge(&into, &from);
	is_uint(into.n_rows, 0, "nothing and nothing is nothing");
	add_numbers(&into, 0, 6);
	add_numbers(&from, 6, 10);
	is_uint(sba_forest_reservoir_merged_rows(&into, &from), 10, "6 and 4 rows are 10");
	sba_forest_reservoir_merge(&into, &from);
	for (uint32_t i = 0; i < 10; i++)
		in_order &= into.rows[i] == i;
	ok(into.n_rows == 10 && into.n_seen == 10 && in_order, "few rows are all kept, in their order");
	is_double(from.rows[0], 6, 0, "what is merged stays as it is");
	sba_forest_reservoir_merge(&into, &from);
	is_uint(into.n_rows, CAPACITY, "a full reservoir stays full");
	is_uint(into.n_seen, 14, "and knows how many rows it has seen");
}

/* The same rows and seed give the same sample; another seed another one. */
static void
test_seed(void)
{
	double		rows[3][CAPACITY];

	for (int i = 0; i < 3; i++)
	{
		SbaForestParameters parameters = small;
		SbaForestReservoir reservoir;

		parameters.seed = i == 2;
		start(&reservoir, &parameters, rows[i]);
		add_numbers(&reservoir, 0, 1000);
	}
	ok(memcmp(rows[0], rows[1], sizeof(rows[0])) == 0, "the same seed, the same sample");
	ok(memcmp(rows[0], rows[2], sizeof(rows[0])) != 0, "another seed, another sample");

	/* Drawn once and for all: a change here changes everybody's forests. */
	is_double(rows[0][0], 261, 0, "the first place");
	is_double(rows[0][9], 324, 0, "the last place");
}

static void
test_room(void)
{
	SbaForestReservoir reservoir;
	SbaForestParameters parameters = {3, 10, 100, 1};
	SbaError	error;
	uint32_t	largest = 0;

	if (sba_forest_reservoir_start(&reservoir, &parameters, &error) != SBA_OK)
		abort();
	is_uint(reservoir.capacity, 1000, "all trees can have rows of their own");
	for (uint32_t i = 0; i < 5000; i++)
	{
		double		row[3] = {i, i, i};
		uint32_t	room = sba_forest_reservoir_next_room(&reservoir);

		if (room > reservoir.room)
			reservoir.rows = realloc(reservoir.rows, room * sizeof(row));
		reservoir.room = room;
		sba_forest_reservoir_add(&reservoir, row);
		largest = room > largest ? room : largest;
		if (i == 9)
			is_uint(room, 64, "a few rows take little room");
	}
	is_uint(largest, 1000, "the room grows to the capacity and no further");
	is_uint(reservoir.n_seen, 5000, "all rows are seen");
	free(reservoir.rows);
}

static SbaStatus
try_parameters(uint32_t n_features, uint32_t n_trees, uint32_t sample_size, uint32_t *capacity)
{
	SbaForestParameters parameters = {n_features, n_trees, sample_size, 1};
	SbaForestReservoir reservoir;
	SbaError	error;
	SbaStatus	status = sba_forest_reservoir_start(&reservoir, &parameters, &error);

	*capacity = reservoir.capacity;
	return status;
}

static void
test_limits(void)
{
	uint32_t	capacity;

	ok(try_parameters(256, 100, 256, &capacity) == SBA_OK && capacity == 25600,
	   "256 features keep the rows of all trees");
	ok(try_parameters(256, 1000, 256, &capacity) == SBA_OK && capacity == 32768,
	   "what would take more memory is cut at 8388608 values");
	ok(try_parameters(128, 128, 65536, &capacity) == SBA_OK && capacity == 65536,
	   "each tree can have its sample at the limit");
	ok(try_parameters(129, 1, 65536, &capacity) == SBA_INVALID_ARGUMENT, "not beyond it");
	ok(try_parameters(1, 129, 65536, &capacity) == SBA_INVALID_ARGUMENT, "nor more rows in all trees");
	ok(try_parameters(0, 1, 2, &capacity) == SBA_INVALID_ARGUMENT, "no feature");
	ok(try_parameters(257, 1, 2, &capacity) == SBA_INVALID_ARGUMENT, "257 features");
	ok(try_parameters(1, 0, 2, &capacity) == SBA_INVALID_ARGUMENT, "no tree");
	ok(try_parameters(1, 1001, 2, &capacity) == SBA_INVALID_ARGUMENT, "1001 trees");
	ok(try_parameters(1, 1, 1, &capacity) == SBA_INVALID_ARGUMENT, "a sample of one row");
	ok(try_parameters(1, 1, 65537, &capacity) == SBA_INVALID_ARGUMENT, "a sample of 65537 rows");
}

int
main(void)
{
	plan_tests(0);
	test_one();
	test_merge(20, 40, "two halves");
	test_merge(7, 40, "a small part and a large one");
	test_merge(35, 40, "a large part and a small one");
	test_merge(10, 20, "two that are just full, and rows after");
	test_merge(4, 10, "two that are not full, and rows after");
	test_merge_three();
	test_few_rows();
	test_seed();
	test_room();
	test_limits();
	return done();
}
