/*
 * patterns.c
 *	  What the signals of a sample mean together.
 */
#include "core/patterns.h"

#include <string.h>

/* A deviation from here on is unusual, and from here on very much so. */
#define UNUSUAL_SIGMAS	3.0
#define EXTREME_SIGMAS	6.0

/* ... if the value is also this many times what is expected, or its inverse. */
#define EXTREME_FACTOR	2.0

/* ... or, of a ratio, this many minimum deviations away. */
#define EXTREME_RATIO_STEPS 5.0

/* Samples that a trend needs, and a change of at least so many sigmas. */
#define TREND_SAMPLES	6
#define TREND_SIGMAS	3.0

/* Kendall's S over its standard deviation: one in a hundred by chance. */
#define TREND_CERTAINTY 2.33

/* What happened at once happened in so many samples. */
#define SUDDEN_SAMPLES	3
#define SUDDEN_SIGMAS	4.0

/* A fall from the highest value is one once this much of it is gone. */
#define FALLEN_PART		0.3

/* ... and is over once more than the rest of it is back. */
#define STILL_FALLEN_PART 0.75

/* Room for rounding where a limit is met exactly. */
#define ROUNDING		1e-9

#define IS_LOW		(SBA_SET_OF(SBA_LEVEL_VERY_LOW) | SBA_SET_OF(SBA_LEVEL_LOW))
#define IS_HIGH		(SBA_SET_OF(SBA_LEVEL_HIGH) | SBA_SET_OF(SBA_LEVEL_VERY_HIGH))
#define IS_NORMAL	SBA_SET_OF(SBA_LEVEL_NORMAL)
#define IS_ABSENT	SBA_SET_OF(SBA_LEVEL_ABSENT)

typedef struct Word
{
	const char *word;
	uint32_t	set;
} Word;

static const Word level_words[] = {
	{"very_low", SBA_SET_OF(SBA_LEVEL_VERY_LOW)},
	{"low", IS_LOW},
	{"normal", IS_NORMAL},
	{"high", IS_HIGH},
	{"very_high", SBA_SET_OF(SBA_LEVEL_VERY_HIGH)},
	{"not_low", IS_NORMAL | IS_HIGH | IS_ABSENT},
	{"not_high", IS_NORMAL | IS_LOW | IS_ABSENT},
	{"absent", IS_ABSENT},
	{NULL, 0}
};

static const Word trend_words[] = {
	{"steady", SBA_SET_OF(SBA_TREND_STEADY)},
	{"rising", SBA_SET_OF(SBA_TREND_RISING)},
	{"falling", SBA_SET_OF(SBA_TREND_FALLING)},
	{"sudden_rise", SBA_SET_OF(SBA_TREND_SUDDEN_RISE)},
	{"sudden_fall", SBA_SET_OF(SBA_TREND_SUDDEN_FALL)},
	{NULL, 0}
};

static const Word dependency_words[] = {
	{"healthy", SBA_SET_OF(SBA_DEPENDENCIES_HEALTHY)},
	{"anomalous", SBA_SET_OF(SBA_DEPENDENCIES_ANOMALOUS)},
	{"chain", SBA_SET_OF(SBA_DEPENDENCIES_CHAIN)},
	{NULL, 0}
};

static uint32_t
set_of_word(const Word *words, const char *word)
{
	for (; words->word != NULL; words++)
		if (strcmp(words->word, word) == 0)
			return words->set;
	return 0;
}

uint32_t
sba_level_set(const char *word)
{
	return set_of_word(level_words, word);
}

uint32_t
sba_trend_set(const char *word)
{
	return set_of_word(trend_words, word);
}

uint32_t
sba_dependency_set(const char *word)
{
	return set_of_word(dependency_words, word);
}

const char *
sba_level_words(void)
{
	return "very_low, low, normal, high, very_high, not_low, not_high, absent";
}

const char *
sba_trend_words(void)
{
	return "steady, rising, falling, sudden_rise, sudden_fall";
}

const char *
sba_dependency_words(void)
{
	return "healthy, anomalous, chain";
}

void
sba_pattern_finish(SbaPattern *pattern)
{
	int			i;

	pattern->speaks_of = 0;
	for (i = 0; i < pattern->n_conditions; i++)
	{
		const SbaCondition *condition = &pattern->condition[i];

		if (condition->kind == SBA_CONDITION_STATE_CHANGES ||
			condition->kind == SBA_CONDITION_DEPENDENCIES ||
			(condition->kind == SBA_CONDITION_LEVEL && (condition->set & (IS_NORMAL | IS_ABSENT)) != 0))
			continue;
		pattern->speaks_of |= UINT64_C(1) << condition->metric;
	}
}

static double
rise_share(const SbaMetricSituation *metric, const SbaMetricSituation *other)
{
	double		rise = other->value - other->expected;

	return rise > 0 ? (metric->value - metric->expected) / rise : NAN;
}

/* A comparison with something unknown, NaN, is false. */
static bool
condition_holds(const SbaCondition *condition, const SbaSituation *situation)
{
	const SbaMetricSituation *metric = &situation->metric[condition->metric];
	const SbaMetricSituation *other = &situation->metric[condition->other];

	switch (condition->kind)
	{
		case SBA_CONDITION_LEVEL:
			return (condition->set & SBA_SET_OF(metric->level)) != 0;
		case SBA_CONDITION_TREND:
			return (condition->set & SBA_SET_OF(metric->trend)) != 0;
		case SBA_CONDITION_ABOVE:
			return metric->value > condition->limit;
		case SBA_CONDITION_BELOW:
			return metric->value < condition->limit;
		case SBA_CONDITION_ABOVE_EXPECTED:
			return metric->value > condition->limit * metric->expected;
		case SBA_CONDITION_BELOW_EXPECTED:
			return metric->value < condition->limit * metric->expected;
		case SBA_CONDITION_SHARE_ABOVE:
			return other->value > 0 && metric->value / other->value > condition->limit;
		case SBA_CONDITION_SHARE_BELOW:
			return other->value > 0 && metric->value / other->value < condition->limit;
		case SBA_CONDITION_RISE_SHARE_ABOVE:
			return rise_share(metric, other) > condition->limit;
		case SBA_CONDITION_RISE_SHARE_BELOW:
			return rise_share(metric, other) < condition->limit;
		case SBA_CONDITION_STATE_CHANGES:
			return situation->state_changes >= condition->limit;
		case SBA_CONDITION_DEPENDENCIES:
			return (condition->set & SBA_SET_OF(situation->dependencies)) != 0;
	}
	return false;
}

bool
sba_pattern_matches(const SbaPattern *pattern, const SbaSituation *situation)
{
	uint32_t	alternatives = 0;
	uint32_t	failed = 0;
	bool		speaks_of_signal = pattern->speaks_of == 0;
	int			i;

	for (i = 0; i < pattern->n_conditions; i++)
	{
		const SbaCondition *condition = &pattern->condition[i];

		alternatives |= 1u << condition->alternative;
		if (!condition_holds(condition, situation))
		{
			if (condition->alternative == 0)
				return false;
			failed |= 1u << condition->alternative;
		}
	}
	alternatives &= ~1u;
	if (alternatives != 0 && (alternatives & ~failed) == 0)
		return false;
	for (i = 0; i < SBA_MAX_PATTERN_METRICS && !speaks_of_signal; i++)
		speaks_of_signal = (pattern->speaks_of & (UINT64_C(1) << i)) != 0 && situation->metric[i].is_signal;
	return speaks_of_signal;
}

SbaLevel
sba_level_of(const SbaMetric *metric, double value, double expected, double deviation_sigma, bool is_signal)
{
	double		difference = fabs(value - expected);
	bool		is_extreme;

	if (isnan(value))
		return SBA_LEVEL_ABSENT;
	if (isnan(expected) || isnan(deviation_sigma))
		return SBA_LEVEL_UNKNOWN;
	if (!is_signal && (fabs(deviation_sigma) < UNUSUAL_SIGMAS ||
					   difference < metric->min_absolute_deviation ||
					   difference < metric->min_relative_deviation * fabs(expected)))
		return SBA_LEVEL_NORMAL;
	if (metric->kind == SBA_KIND_RATIO)
		is_extreme = difference >= EXTREME_RATIO_STEPS * metric->min_absolute_deviation - ROUNDING;
	else
		is_extreme = value >= EXTREME_FACTOR * expected || EXTREME_FACTOR * value <= expected;
	is_extreme = is_extreme && fabs(deviation_sigma) >= EXTREME_SIGMAS;
	if (deviation_sigma > 0)
		return is_extreme ? SBA_LEVEL_VERY_HIGH : SBA_LEVEL_HIGH;
	return is_extreme ? SBA_LEVEL_VERY_LOW : SBA_LEVEL_LOW;
}

/*
 * Kendall's S of n values over its standard deviation: how certain it is that
 * they rise (or fall, when negative).
 */
static double
kendall(const double *value, int n)
{
	double		s = 0;
	int			i;
	int			j;

	for (i = 0; i < n; i++)
		for (j = i + 1; j < n; j++)
			s += (value[j] > value[i]) - (value[j] < value[i]);
	return s / sqrt(n * (n - 1) * (2.0 * n + 5) / 18);
}

static double
mean(const double *value, int n)
{
	double		sum = 0;
	int			i;

	for (i = 0; i < n; i++)
		sum += value[i];
	return sum / n;
}

/* The largest step between two neighbours, upwards. */
static double
largest_step(const double *value, int n)
{
	double		largest = 0;
	int			i;

	for (i = 1; i < n; i++)
		largest = fmax(largest, value[i] - value[i - 1]);
	return largest;
}

/* Whether values jumped up by one step in the last few samples. */
static bool
rose_suddenly(const double *value, int n)
{
	int			after;

	for (after = 1; after <= SUDDEN_SAMPLES; after++)
	{
		double		rise = mean(value + n - after, after) - mean(value, n - after);

		if (rise >= SUDDEN_SIGMAS && value[n - after] - value[n - after - 1] > rise / 2)
			return true;
	}
	return false;
}

/* Whether values rise, without one step that makes most of it. */
static bool
rises(const double *value, int n)
{
	double		rise = mean(value + n - 3, 3) - mean(value, 3);

	return rise >= TREND_SIGMAS && kendall(value, n) >= TREND_CERTAINTY && largest_step(value, n) <= rise / 2;
}

/* Whether values come down from their highest, which was some samples ago. */
static bool
falls(const double *value, int n)
{
	int			highest = 0;
	double		lowest = INFINITY;
	double		fallen;
	int			i;

	for (i = 1; i < n; i++)
		if (value[i] > value[highest])
			highest = i;
	for (i = highest; i < n; i++)
		lowest = fmin(lowest, value[i]);
	fallen = value[highest] - value[n - 1];
	return n - highest > SUDDEN_SAMPLES && fallen >= TREND_SIGMAS &&
		fallen >= STILL_FALLEN_PART * (value[highest] - lowest) &&
		fallen >= FALLEN_PART * value[highest] &&
		kendall(value + highest, n - highest) <= -2;
}

SbaTrend
sba_trend_of(const double *deviation, int n)
{
	double		value[SBA_HISTORY_SAMPLES];
	double		mirrored[SBA_HISTORY_SAMPLES];
	int			n_known = 0;
	int			i;

	for (i = n > SBA_HISTORY_SAMPLES ? n - SBA_HISTORY_SAMPLES : 0; i < n; i++)
	{
		if (isnan(deviation[i]))
			continue;
		value[n_known] = deviation[i];
		mirrored[n_known++] = -deviation[i];
	}
	/* a trend that ended before the newest sample is none */
	if (n_known < TREND_SAMPLES || isnan(deviation[n - 1]))
		return SBA_TREND_UNKNOWN;
	if (rose_suddenly(value, n_known))
		return SBA_TREND_SUDDEN_RISE;
	if (rose_suddenly(mirrored, n_known))
		return SBA_TREND_SUDDEN_FALL;
	if (rises(value, n_known))
		return SBA_TREND_RISING;
	if (falls(value, n_known))
		return SBA_TREND_FALLING;
	return SBA_TREND_STEADY;
}

SbaSeverity
sba_pattern_severity(SbaSeverity by_score, SbaSeverity of_pattern)
{
	if (by_score > of_pattern + 1)
		return of_pattern + 1;
	if (by_score + 1 < of_pattern)
		return of_pattern - 1;
	return by_score;
}
