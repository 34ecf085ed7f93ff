/*
 * rules.c
 *	  Hard rules: limits that hold whatever a model has learnt.
 */
#include "core/rules.h"

#include <string.h>

#define Z_99 2.3263

/*
 * A share that is just over the limit among a few hundred requests may by
 * chance be just under it, which matters to nobody; that it is nowhere near
 * the limit must be ruled out.
 */
#define CERTAIN_PART_OF_THRESHOLD 0.5

static const char *const comparison_names[] = {
	"above", "below", "above_expected_share", "below_expected_share"
};

#define N_COMPARISONS (int) (sizeof(comparison_names) / sizeof(comparison_names[0]))

bool
sba_comparison_by_name(const char *name, SbaComparison *comparison)
{
	int			i;

	for (i = 0; i < N_COMPARISONS; i++)
	{
		if (strcmp(comparison_names[i], name) == 0)
		{
			*comparison = (SbaComparison) i;
			return true;
		}
	}
	return false;
}

const char *
sba_comparison_name(SbaComparison comparison)
{
	return comparison_names[comparison];
}

bool
sba_rule_is_high(const SbaRule *rule)
{
	return rule->comparison == SBA_ABOVE || rule->comparison == SBA_ABOVE_EXPECTED_SHARE;
}

double
sba_share_lower_bound(double share, double n)
{
	double		z2 = Z_99 * Z_99;
	double		centre;
	double		half;

	if (!(n > 0))
		return 0;
	centre = share + z2 / (2 * n);
	half = Z_99 * sqrt(share * (1 - share) / n + z2 / (4 * n * n));
	return fmax(0, (centre - half) / (1 + z2 / n));
}

/* The limit in the metric's unit; NaN when it hangs on something unknown. */
static double
limit_of(const SbaRule *rule, const SbaRuleInput *input)
{
	if (rule->comparison == SBA_ABOVE || rule->comparison == SBA_BELOW)
		return rule->threshold;
	return rule->threshold * input->expected;
}

/*
 * Whether enough requests stand behind the value.  Where traffic itself may be
 * missing, it is the expected traffic that has to be enough.  An unknown number
 * is not a small one.
 */
static bool
has_enough_requests(const SbaRule *rule, const SbaRuleInput *input)
{
	double		requests = rule->comparison == SBA_BELOW_EXPECTED_SHARE || rule->comparison == SBA_BELOW ?
	input->expected_requests : input->requests;

	if (isnan(requests))
		return true;
	if (requests < rule->min_requests)
		return false;
	return input->kind != SBA_KIND_RATIO || !sba_rule_is_high(rule) ||
		sba_share_lower_bound(input->value, requests) > CERTAIN_PART_OF_THRESHOLD * limit_of(rule, input);
}

SbaRuleOutcome
sba_check_rule(const SbaRule *rule, const SbaRuleInput *input)
{
	double		limit = limit_of(rule, input);
	bool		is_high = sba_rule_is_high(rule);

	/* a comparison with an unknown limit or value is false */
	if (!(is_high ? input->value > limit : input->value < limit))
		return SBA_RULE_HOLDS;
	if (!has_enough_requests(rule, input))
		return SBA_RULE_TOO_FEW_REQUESTS;
	if (!rule->is_own && (is_high ? input->value <= input->usual_upper : input->value >= input->usual_lower))
		return SBA_RULE_USUAL;
	return SBA_RULE_BROKEN;
}
