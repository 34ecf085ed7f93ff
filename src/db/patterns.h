/*
 * patterns.h
 *	  smartbox.patterns: read, checked, and kept in memory.
 */
#ifndef SBA_DB_PATTERNS_H
#define SBA_DB_PATTERNS_H

#include "utils/jsonb.h"

#include "core/patterns.h"

#define SBA_MAX_PATTERN_TEXTS 5

/* One row of smartbox.patterns.  Texts are templates, see pattern_text.h. */
typedef struct SbaNamedPattern
{
	const char *name;
	const char *message;
	const char *interpretation;
	int			n_causes;
	const char *cause[SBA_MAX_PATTERN_TEXTS];
	int			n_actions;
	const char *action[SBA_MAX_PATTERN_TEXTS];
	SbaPattern	compiled;
} SbaNamedPattern;

/* The metrics that patterns speak of; conditions know them by number. */
typedef struct SbaPatternMetrics
{
	int			n;
	const char *name[SBA_MAX_PATTERN_METRICS];
} SbaPatternMetrics;

/* The enabled patterns, best first. */
typedef struct SbaPatternSet
{
	SbaPatternMetrics metrics;
	int			n_patterns;
	SbaNamedPattern *pattern;
} SbaPatternSet;

/* What is wrong with a row, as an error says it; palloc'ed. */
typedef struct SbaPatternProblem
{
	char	   *message;
	char	   *hint;			/* or NULL */
} SbaPatternProblem;

/* The patterns in force; stays until the next call.  Inside SPI_connect. */
extern const SbaPatternSet *sba_patterns(void);

/*
 * The patterns that match, best first, at most max of them; returns their
 * number.
 */
extern int	sba_match_patterns(const SbaPatternSet *set, const SbaSituation *situation,
							   const SbaNamedPattern **matches, int max);

/*
 * Compile conditions; metrics that are new get a number.  False with
 * *problem filled in when they cannot be read.
 */
extern bool sba_compile_conditions(const Jsonb * conditions, SbaPatternMetrics *metrics,
								   SbaPattern *pattern, SbaPatternProblem *problem);

#endif							/* SBA_DB_PATTERNS_H */
