/*
 * test_validation.c
 *	  What is believed of a sample, and what is not.
 */
#include <math.h>
#include <string.h>

#include "core/validation.h"
#include "tap.h"

#define N_METRICS	3
#define N_ROWS		400

static const SbaMetric latency = {
	.name = "database_latency",.kind = SBA_KIND_LATENCY,.valid_min = 0,.valid_max = 300000
};

static void
test_values(void)
{
	static const struct
	{
		double		value;
		SbaValueFault fault;
		const char *text;
	}			cases[] = {
		{0, SBA_VALUE_GOOD, ""},
		{-0.0, SBA_VALUE_GOOD, ""},
		{300000, SBA_VALUE_GOOD, ""},
		{300000.5, SBA_VALUE_ABOVE, "database_latency: 300000.5 is above 300000, taken as unknown"},
		{-1e-9, SBA_VALUE_BELOW, "database_latency: -1e-09 is below 0, taken as unknown"},
		{1e308, SBA_VALUE_ABOVE, "database_latency: 1e+308 is above 300000, taken as unknown"},
		{INFINITY, SBA_VALUE_INFINITE, "database_latency: infinite, taken as unknown"},
		{-INFINITY, SBA_VALUE_INFINITE, "database_latency: infinite, taken as unknown"},
		{NAN, SBA_VALUE_NOT_A_NUMBER, "database_latency: not a number, taken as unknown"},
	};
	char		long_name[SBA_METRIC_NAME_SIZE];
	SbaMetric	long_named = latency;
	char		text[SBA_FAULT_TEXT_SIZE];
	size_t		i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		SbaValueFault fault = sba_value_fault(&latency, cases[i].value);

		is_uint(fault, cases[i].fault, "%g is judged", cases[i].value);
		sba_describe_value_fault(&latency, cases[i].value, fault, text);
		ok(strcmp(text, cases[i].text) == 0, "... and described: %s", text);
	}

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	long_named.name = long_name;
	long_named.valid_max = 1.23456789012345e-300;
	sba_describe_value_fault(&long_named, 1.23456789012345e+300, SBA_VALUE_ABOVE, text);
	ok(strstr(text, "1.23456789012345e-300, taken as unknown") != NULL, "the longest text fits");
}

static void
test_times(void)
{
	int			slot = -1;

	is_uint(sba_slot_of_time(1000, 300, 3, 1000, &slot), SBA_TIME_GOOD, "the first instant is in the grid");
	is_uint(slot, 0, "... at its begin");
	is_uint(sba_slot_of_time(1000, 300, 3, 1600, &slot), SBA_TIME_GOOD, "so is the last");
	is_uint(slot, 2, "... at its end");
	is_uint(sba_slot_of_time(1000, 300, 3, 1449, &slot), SBA_TIME_GOOD, "one between two");
	is_uint(slot, 1, "... belongs to the nearer one");
	slot = 7;
	is_uint(sba_slot_of_time(1000, 300, 3, 849, &slot), SBA_TIME_EARLY, "before the grid");
	is_uint(sba_slot_of_time(1000, 300, 3, 1751, &slot), SBA_TIME_LATE, "after it");
	is_uint(sba_slot_of_time(1000, 300, 3, 1e300, &slot), SBA_TIME_LATE, "long after it");
	is_uint(sba_slot_of_time(1000, 300, 3, -INFINITY, &slot), SBA_TIME_EARLY, "at no time");
	ok(sba_slot_of_time(1000, 300, 3, NAN, &slot) != SBA_TIME_GOOD, "a time that is none is not good");
	is_uint(slot, 7, "and gives no slot");
}

static void
test_repeats(void)
{
	double		sample[N_METRICS] = {10, 80, NAN};
	double		same[N_METRICS] = {10, 80, NAN};
	double		nearly[N_METRICS] = {10, nextafter(80, 81), NAN};
	double		more[N_METRICS] = {10, 80, 5};
	double		less[N_METRICS] = {10, NAN, NAN};
	double		quiet[N_METRICS] = {3, 0, NAN};
	double		unknown[N_METRICS] = {NAN, NAN, NAN};

	ok(sba_is_repeat(sample, same, N_METRICS), "equal values are a repeat");
	ok(!sba_is_repeat(sample, nearly, N_METRICS), "nearly equal ones are not");
	ok(!sba_is_repeat(sample, more, N_METRICS), "nor is it one when a metric has come");
	ok(!sba_is_repeat(sample, less, N_METRICS), "or has gone");
	ok(!sba_is_repeat(less, less, N_METRICS), "one metric alone may stand still");
	ok(!sba_is_repeat(quiet, quiet, N_METRICS), "zeros do not count");
	ok(!sba_is_repeat(unknown, unknown, N_METRICS), "nothing repeats nothing");
}

/* Rows of a service that moves. */
static void
fill_moving(double *values)
{
	int			row;
	int			m;

	for (row = 0; row < N_ROWS; row++)
		for (m = 0; m < N_METRICS; m++)
			values[row * N_METRICS + m] = 10 * (m + 1) + sin(row * 0.7 + m);
}

static void
repeat_row(double *values, int first, int last)
{
	int			row;

	for (row = first + 1; row <= last; row++)
		memcpy(values + row * N_METRICS, values + first * N_METRICS, N_METRICS * sizeof(double));
}

static void
test_flat_lines(void)
{
	static double values[N_ROWS * N_METRICS];
	int			row;

	fill_moving(values);
	ok(sba_values_move(values, N_ROWS, N_METRICS), "a service moves");
	ok(!sba_values_move(values, 12, N_METRICS), "twelve samples do not show it");
	ok(sba_values_move(values, 13, N_METRICS), "thirteen do");
	is_uint(sba_forget_flat_lines(values, N_ROWS, N_METRICS), 0, "nothing is forgotten of it");

	repeat_row(values, 50, 51);
	is_uint(sba_forget_flat_lines(values, N_ROWS, N_METRICS), 0, "a value that is carried on once is kept");
	repeat_row(values, 100, 102);
	is_uint(sba_forget_flat_lines(values, N_ROWS, N_METRICS), 2, "of three equal samples the repeats are forgotten");
	ok(!isnan(values[100 * N_METRICS]), "the first one is data");
	ok(isnan(values[101 * N_METRICS]) && isnan(values[102 * N_METRICS + 2]), "the others are unknown");
	ok(!isnan(values[103 * N_METRICS]), "and the next one is data again");
	repeat_row(values, 200, N_ROWS - 1);
	is_uint(sba_forget_flat_lines(values, N_ROWS, N_METRICS), N_ROWS - 201,
			"a flat line stays one, however long");

	fill_moving(values);
	repeat_row(values, 0, N_ROWS - 1);
	ok(!sba_values_move(values, N_ROWS, N_METRICS), "a service that never moves");
	is_uint(sba_forget_flat_lines(values, N_ROWS, N_METRICS), 0, "keeps its values");

	fill_moving(values);
	for (row = 0; row + 1 < N_ROWS; row += 4)
		repeat_row(values, row, row + 1);
	repeat_row(values, 300, 310);
	is_uint(sba_forget_flat_lines(values, N_ROWS, N_METRICS), 0, "and so does one that often repeats");
	is_uint(sba_forget_flat_lines(values, 0, N_METRICS), 0, "nothing is forgotten of nothing");
}

int
main(void)
{
	plan_tests(0);
	test_values();
	test_times();
	test_repeats();
	test_flat_lines();
	return done();
}
