/*
 * validation.c
 *	  What may be believed of a sample: its values, their repetition, and the
 *	  time that a source gives for them.
 */
#include "core/validation.h"

#include <math.h>
#include <stdio.h>

/* Fewer pairs of samples than this do not show whether a service moves. */
#define MIN_PAIRS 12

/* Of that many pairs one may repeat: sources carry a last value on. */
#define PAIRS_PER_REPEAT 10

/* One metric alone may well stand still. */
#define MIN_MOVING_METRICS 2

SbaValueFault
sba_value_fault(const SbaMetric *metric, double value)
{
	if (isnan(value))
		return SBA_VALUE_NOT_A_NUMBER;
	if (isinf(value))
		return SBA_VALUE_INFINITE;
	if (value < metric->valid_min)
		return SBA_VALUE_BELOW;
	if (value > metric->valid_max)
		return SBA_VALUE_ABOVE;
	return SBA_VALUE_GOOD;
}

void
sba_describe_value_fault(const SbaMetric *metric, double value, SbaValueFault fault, char *text)
{
	text[0] = '\0';
	switch (fault)
	{
		case SBA_VALUE_GOOD:
			break;
		case SBA_VALUE_NOT_A_NUMBER:
			snprintf(text, SBA_FAULT_TEXT_SIZE, "%s: not a number, taken as unknown", metric->name);
			break;
		case SBA_VALUE_INFINITE:
			snprintf(text, SBA_FAULT_TEXT_SIZE, "%s: infinite, taken as unknown", metric->name);
			break;
		case SBA_VALUE_BELOW:
			snprintf(text, SBA_FAULT_TEXT_SIZE, "%s: %.15g is below %.15g, taken as unknown",
					 metric->name, value, metric->valid_min);
			break;
		case SBA_VALUE_ABOVE:
			snprintf(text, SBA_FAULT_TEXT_SIZE, "%s: %.15g is above %.15g, taken as unknown",
					 metric->name, value, metric->valid_max);
			break;
	}
}

SbaTimeFault
sba_slot_of_time(double first_time, double step, int n_slots, double time, int *slot)
{
	double		nearest = floor((time - first_time) / step + 0.5);

	/* written so that what is not a number is not good */
	if (!(nearest >= 0))
		return SBA_TIME_EARLY;
	if (!(nearest < n_slots))
		return SBA_TIME_LATE;
	*slot = (int) nearest;
	return SBA_TIME_GOOD;
}

/* Whether two metrics are known and not zero. */
static bool
says_enough(const double *values, int n_metrics)
{
	int			n = 0;
	int			m;

	for (m = 0; m < n_metrics; m++)
		n += !isnan(values[m]) && values[m] != 0;
	return n >= MIN_MOVING_METRICS;
}

bool
sba_is_repeat(const double *values, const double *earlier, int n_metrics)
{
	int			m;

	for (m = 0; m < n_metrics; m++)
		if (isnan(values[m]) != isnan(earlier[m]) ||
			(!isnan(values[m]) && values[m] != earlier[m]))
			return false;
	return says_enough(values, n_metrics);
}

bool
sba_values_move(const double *values, size_t n_rows, int n_metrics)
{
	size_t		first = n_rows > SBA_FLAT_LINE_HISTORY ? n_rows - SBA_FLAT_LINE_HISTORY : 0;
	size_t		n_pairs = 0;
	size_t		n_repeats = 0;
	size_t		row;

	for (row = first + 1; row < n_rows; row++)
	{
		const double *later = values + row * (size_t) n_metrics;
		const double *earlier = later - n_metrics;

		if (!says_enough(later, n_metrics) || !says_enough(earlier, n_metrics))
			continue;
		n_pairs++;
		n_repeats += sba_is_repeat(later, earlier, n_metrics);
	}
	return n_pairs >= MIN_PAIRS && n_repeats * PAIRS_PER_REPEAT <= n_pairs;
}

size_t
sba_forget_flat_lines(double *values, size_t n_rows, int n_metrics)
{
	size_t		width = (size_t) n_metrics;
	size_t		n_forgotten = 0;
	size_t		begin;
	size_t		end;

	for (begin = 0; begin < n_rows; begin = end)
	{
		for (end = begin + 1; end < n_rows; end++)
			if (!sba_is_repeat(values + end * width, values + begin * width, n_metrics))
				break;
		if (end - begin < SBA_FLAT_LINE_SAMPLES || !sba_values_move(values, begin + 1, n_metrics))
			continue;
		n_forgotten += end - begin - 1;
		for (size_t i = (begin + 1) * width; i < end * width; i++)
			values[i] = NAN;
	}
	return n_forgotten;
}
