/*
 * rules.h
 *	  Hard rules: limits that hold whatever a model has learnt, and without
 *	  any model.
 *
 * A rule does not fire on too few requests: one failed request at night is no
 * error rate.  A rule for all services does not fire either on a value that
 * this service's model, as it was trained, counts as usual at this time of the
 * week; the service's own rule always does.
 */
#ifndef SBA_CORE_RULES_H
#define SBA_CORE_RULES_H

#include <stdbool.h>

#include "core/metric.h"
#include "core/severity.h"

typedef enum SbaComparison
{
	SBA_ABOVE,
	SBA_BELOW,
	SBA_ABOVE_EXPECTED_SHARE,	/* of what is expected now */
	SBA_BELOW_EXPECTED_SHARE
} SbaComparison;

/* One row of smartbox.rules. */
typedef struct SbaRule
{
	const char *metric;
	SbaComparison comparison;
	double		threshold;
	SbaSeverity severity;
	double		min_requests;	/* in the interval of a sample */
	bool		is_own;			/* the service's own, not the one for all */
} SbaRule;

/* What a rule looks at; NaN for what is not known. */
typedef struct SbaRuleInput
{
	SbaMetricKind kind;
	double		value;
	double		expected;		/* now */
	double		requests;		/* in the interval */
	double		expected_requests;
	double		usual_lower;	/* band of what is usual at this time of the */
	double		usual_upper;	/* week, as the model was trained */
} SbaRuleInput;

typedef enum SbaRuleOutcome
{
	SBA_RULE_HOLDS,				/* nothing to say, or nothing known */
	SBA_RULE_TOO_FEW_REQUESTS,
	SBA_RULE_USUAL,				/* beyond the limit, but usual here */
	SBA_RULE_BROKEN
} SbaRuleOutcome;

extern SbaRuleOutcome sba_check_rule(const SbaRule *rule, const SbaRuleInput *input);

/* Whether a broken rule says that the metric is too high; else it is too low. */
extern bool sba_rule_is_high(const SbaRule *rule);

/* The comparison of that name in smartbox.rules; false when there is none. */
extern bool sba_comparison_by_name(const char *name, SbaComparison *comparison);
extern const char *sba_comparison_name(SbaComparison comparison);

/*
 * Lower bound of the confidence interval (Wilson, one-sided, 99 %) for a share
 * that was observed among n; n need not be whole.
 */
extern double sba_share_lower_bound(double share, double n);

#endif							/* SBA_CORE_RULES_H */
