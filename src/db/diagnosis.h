/*
 * diagnosis.h
 *	  What a sample's values mean: the hard rules that it breaks, the patterns
 *	  that its signals match, and the texts for people.
 */
#ifndef SBA_DB_DIAGNOSIS_H
#define SBA_DB_DIAGNOSIS_H

#include "core/model.h"
#include "core/rules.h"
#include "db/catalog.h"
#include "db/patterns.h"
#include "db/samples.h"

/* Patterns that are listed with an anomaly. */
#define SBA_MAX_MATCHES 8

/* A rule and the metric that it looked at. */
typedef struct SbaRuleFinding
{
	const SbaRule *rule;
	int			metric;			/* in the order of the sample's metrics */
} SbaRuleFinding;

/* An evaluated sample, with what its model knows; metrics in one order. */
typedef struct SbaEvaluatedSample
{
	const SbaService *service;
	TimestampTz ts;
	const char *time_period;
	int			minute_of_week;
	int			n_metrics;
	const SbaMetric *metrics;
	const char *const *units;
	const double *values;
	const SbaVerdict *verdict;	/* all zero without a model */

	/* with a model */
	const SbaModel *model;		/* or NULL */
	const SbaFeatures *features;
	const SbaSampleSeries *history; /* the 24 hours before, by the catalog */
	const int  *catalog_index;	/* where the catalog has each metric */
} SbaEvaluatedSample;

typedef struct SbaDiagnosis
{
	int			n_broken;		/* the worst rule of each metric and direction */
	SbaRuleFinding broken[2 * SBA_MAX_METRICS];
	int			n_usual;		/* rules that hold only since the value is
								 * usual here */
	SbaRuleFinding usual[2 * SBA_MAX_METRICS];
	SbaSeverity rule_severity;	/* worst of those that are broken */

	int			n_matches;		/* patterns, best first */
	const SbaNamedPattern *match[SBA_MAX_MATCHES];
	char	   *description;	/* NULL when no pattern matches */
	char	   *interpretation;
	char	   *cause[SBA_MAX_PATTERN_TEXTS];
	char	   *action[SBA_MAX_PATTERN_TEXTS];
	char	   *business_impact;
} SbaDiagnosis;

/* Check the service's rules.  Inside SPI_connect. */
extern void sba_check_rules(const SbaEvaluatedSample *sample, SbaDiagnosis *diagnosis);

/* The same with rules that were looked up already. */
extern void sba_check_given_rules(const SbaRule *const *rules, int n_rules,
								  const SbaEvaluatedSample *sample, SbaDiagnosis *diagnosis);

/*
 * Of an anomaly, with the rules checked: find the patterns alone.  dependencies
 * is what is known of the services that this one depends on; *state_changes is
 * for texts and may be NULL.  Inside SPI_connect.
 */
extern void sba_find_patterns(const SbaEvaluatedSample *sample, SbaDependencyState dependencies,
							  SbaDiagnosis *diagnosis, int *state_changes);

/*
 * What names an anomaly that a score or a rule has found: its metric, and
 * whether that is too high.  *rule is the rule when no signal names it, else
 * NULL.
 */
extern int	sba_name_anomaly(const SbaEvaluatedSample *sample, const SbaDiagnosis *diagnosis,
							 bool by_score, bool *is_high, const SbaRule **rule);

/* Whether the sample's metric m breaks a rule. */
extern bool sba_breaks_rule(const SbaDiagnosis *diagnosis, int m);

/*
 * The share of metric m in what is wrong with an explained sample, 0 to 1, or
 * NaN when nothing can be said of it.  When no value is strange and one breaks
 * a rule all the same, that is all there is to blame.
 */
extern double sba_contribution(const SbaEvaluatedSample *sample, const SbaDiagnosis *diagnosis, int m);

/* The worst of the broken rules, of which there is at least one. */
extern const SbaRuleFinding *sba_leading_rule(const SbaDiagnosis *diagnosis);

/*
 * Of an anomaly, with the rules checked: find the patterns and write the texts.
 * Inside SPI_connect.
 */
extern void sba_diagnose(const SbaEvaluatedSample *sample, SbaDiagnosis *diagnosis);

/*
 * The severity of a diagnosed anomaly: the score's, tempered by the pattern
 * and at least that of the broken rules.  by_score is none when only rules
 * found it.
 */
extern SbaSeverity sba_diagnosed_severity(const SbaDiagnosis *diagnosis, SbaSeverity by_score);

/* Name of what is wrong: the metric and the way it went; palloc'ed. */
extern char *sba_signal_name(const char *metric, bool is_high);

#endif							/* SBA_DB_DIAGNOSIS_H */
