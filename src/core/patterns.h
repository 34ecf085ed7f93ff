/*
 * patterns.h
 *	  What the signals of a sample mean together: conditions on levels, trends
 *	  and shares of metrics, compiled, and the ranking of those that match.
 */
#ifndef SBA_CORE_PATTERNS_H
#define SBA_CORE_PATTERNS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/metric.h"
#include "core/severity.h"

/* Metrics that all patterns together may speak of. */
#define SBA_MAX_PATTERN_METRICS 64

#define SBA_MAX_PATTERN_CONDITIONS 48

/* Samples, the newest included, that trends and changes of state are read from. */
#define SBA_HISTORY_SAMPLES 12

/* How a value lies to what is expected now. */
typedef enum SbaLevel
{
	SBA_LEVEL_UNKNOWN,			/* a value, and nothing to compare it with */
	SBA_LEVEL_ABSENT,			/* no value */
	SBA_LEVEL_VERY_LOW,
	SBA_LEVEL_LOW,
	SBA_LEVEL_NORMAL,
	SBA_LEVEL_HIGH,
	SBA_LEVEL_VERY_HIGH
} SbaLevel;

/* How its deviation went over the last samples. */
typedef enum SbaTrend
{
	SBA_TREND_UNKNOWN,
	SBA_TREND_STEADY,
	SBA_TREND_RISING,			/* step by step */
	SBA_TREND_FALLING,			/* step by step, from its highest */
	SBA_TREND_SUDDEN_RISE,		/* at once, in the last three samples */
	SBA_TREND_SUDDEN_FALL
} SbaTrend;

/* What is known of the services that this one depends on. */
typedef enum SbaDependencyState
{
	SBA_DEPENDENCIES_UNKNOWN,	/* none are known */
	SBA_DEPENDENCIES_HEALTHY,
	SBA_DEPENDENCIES_ANOMALOUS, /* one that is called directly, none behind it */
	SBA_DEPENDENCIES_CHAIN		/* one behind another that is */
} SbaDependencyState;

/* A set of levels, trends or states. */
#define SBA_SET_OF(member) (1u << (member))

typedef struct SbaMetricSituation
{
	SbaLevel	level;
	SbaTrend	trend;
	bool		is_signal;
	double		value;			/* NaN for unknown */
	double		expected;
} SbaMetricSituation;

/* A sample as patterns see it; metrics in the order of their set of patterns. */
typedef struct SbaSituation
{
	SbaMetricSituation metric[SBA_MAX_PATTERN_METRICS];
	int			state_changes;	/* between normal and not, in the last samples */
	SbaDependencyState dependencies;
} SbaSituation;

typedef enum SbaConditionKind
{
	SBA_CONDITION_LEVEL,		/* in set */
	SBA_CONDITION_TREND,		/* in set */
	SBA_CONDITION_ABOVE,		/* value beyond limit */
	SBA_CONDITION_BELOW,
	SBA_CONDITION_ABOVE_EXPECTED,	/* limit times what is expected */
	SBA_CONDITION_BELOW_EXPECTED,
	SBA_CONDITION_SHARE_ABOVE,	/* value as a share of other's */
	SBA_CONDITION_SHARE_BELOW,
	SBA_CONDITION_RISE_SHARE_ABOVE, /* rise over what is expected as a share
									 * of other's rise */
	SBA_CONDITION_RISE_SHARE_BELOW,
	SBA_CONDITION_STATE_CHANGES,	/* at least limit */
	SBA_CONDITION_DEPENDENCIES	/* in set */
} SbaConditionKind;

typedef struct SbaCondition
{
	SbaConditionKind kind;
	uint8_t		alternative;	/* 0: must hold; n: belongs to alternative n,
								 * of which one must hold as a whole */
	uint8_t		metric;
	uint8_t		other;
	uint32_t	set;
	double		limit;
} SbaCondition;

typedef struct SbaPattern
{
	int			priority;		/* smallest first */
	SbaSeverity severity;
	uint64_t	speaks_of;		/* metrics that are not as usual when it
								 * matches; 0: any */
	int			n_conditions;
	SbaCondition condition[SBA_MAX_PATTERN_CONDITIONS];
} SbaPattern;

/*
 * Whether a pattern's conditions hold and it speaks of one of the signals.
 * What is unknown holds nothing.
 */
extern bool sba_pattern_matches(const SbaPattern *pattern, const SbaSituation *situation);

/* Fill in speaks_of from the conditions. */
extern void sba_pattern_finish(SbaPattern *pattern);

/*
 * Level of a value: deviation_sigma and the metric's minimum deviations say
 * whether it is unusual, its size whether it is very much so.
 */
extern SbaLevel sba_level_of(const SbaMetric *metric, double value, double expected,
							 double deviation_sigma, bool is_signal);

/* Trend of deviations, in sigmas and in order of time; NaN for unknown. */
extern SbaTrend sba_trend_of(const double *deviation, int n);

/*
 * The severity of an anomaly that a pattern explains: the score's, at most one
 * step away from what the pattern is worth.
 */
extern SbaSeverity sba_pattern_severity(SbaSeverity by_score, SbaSeverity of_pattern);

/*
 * Words of the language: the set of levels that a word stands for, a trend or a
 * state of the dependencies by name; 0 when there is none of that name.
 */
extern uint32_t sba_level_set(const char *word);
extern uint32_t sba_trend_set(const char *word);
extern uint32_t sba_dependency_set(const char *word);
extern const char *sba_level_words(void);
extern const char *sba_trend_words(void);
extern const char *sba_dependency_words(void);

#endif							/* SBA_CORE_PATTERNS_H */
