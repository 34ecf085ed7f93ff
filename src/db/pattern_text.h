/*
 * pattern_text.h
 *	  The texts of a pattern: templates with placeholders, and what stands for
 *	  them.
 *
 * A placeholder is {word}, {metric} or {metric.field}.  Whatever is not known
 * has a wording, so that none is ever left in a text.
 */
#ifndef SBA_DB_PATTERN_TEXT_H
#define SBA_DB_PATTERN_TEXT_H

#include "core/model.h"
#include "db/patterns.h"

/* What placeholders stand for. */
typedef struct SbaTextContext
{
	const char *service;
	const char *category;		/* may be NULL */
	const char *time_period;	/* may be NULL */
	const char *dependency;		/* the anomalous one; may be NULL */
	int			duration_minutes;	/* of its incident; -1 when there is none
									 * yet */
	int			interval_s;		/* that a sample describes */
	int			state_changes;
	int			n_metrics;
	const SbaMetric *metrics;
	const char *const *units;
	const double *values;
	const SbaMetricVerdict *verdicts;
	uint32		high_signals;	/* metrics, by bit, that are too high, and */
	uint32		low_signals;	/* those that are too low */
} SbaTextContext;

/* The template with all its placeholders replaced; palloc'ed. */
extern char *sba_render_text(const char *text, const SbaTextContext *context);

/*
 * Whether the template's placeholders can be read; the metrics that they name
 * are added to metrics.  False with *problem filled in when not.
 */
extern bool sba_check_text(const char *text, SbaPatternMetrics *metrics, SbaPatternProblem *problem);

/* The placeholders that are no metrics, for a hint. */
extern const char *sba_placeholder_words(void);

/* A value with its unit, for people: ratios as per cent. */
extern char *sba_value_text(const SbaMetric *metric, const char *unit, double value);

/* How many requests the interval had; NaN for unknown. */
extern double sba_requests_in_interval(const SbaTextContext *context);

/* A duration in words: 40 minutes, 3 hours, 2 days. */
extern char *sba_duration_text(int minutes);

#endif							/* SBA_DB_PATTERN_TEXT_H */
