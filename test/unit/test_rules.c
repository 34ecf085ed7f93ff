/*
 * test_rules.c
 *	  Hard rules: limits, too few requests, what is usual.
 */
#include "core/rules.h"
#include "tap.h"

static SbaRuleInput
input_of(SbaMetricKind kind, double value, double requests)
{
	SbaRuleInput input = {kind, value, NAN, requests, requests, NAN, NAN};

	return input;
}

static void
test_errors(void)
{
	SbaRule		rule = {"error_rate", SBA_ABOVE, 0.05, SBA_SEVERITY_CRITICAL, 10, false};
	static const struct
	{
		double		value;
		double		requests;
		SbaRuleOutcome outcome;
		const char *what;
	}			cases[] = {
		{0.05, 10000, SBA_RULE_HOLDS, "at the limit"},
		{0.0501, 10000, SBA_RULE_BROKEN, "just over it, among many"},
		{0.06, 300, SBA_RULE_BROKEN, "18 of 300"},
		{1, 1, SBA_RULE_TOO_FEW_REQUESTS, "the only request"},
		{0.5, 2, SBA_RULE_TOO_FEW_REQUESTS, "one of two"},
		{1, 9, SBA_RULE_TOO_FEW_REQUESTS, "fewer than asked for"},
		{0.1, 10, SBA_RULE_TOO_FEW_REQUESTS, "one of ten"},
		{1, 10, SBA_RULE_BROKEN, "all of ten"},
		{0.1, 20, SBA_RULE_TOO_FEW_REQUESTS, "two of twenty"},
		{0.2, 20, SBA_RULE_BROKEN, "four of twenty"},
		{0.5, NAN, SBA_RULE_BROKEN, "of an unknown number"},
		{NAN, 1000, SBA_RULE_HOLDS, "an unknown value"},
	};
	int			i;

	for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++)
	{
		SbaRuleInput input = input_of(SBA_KIND_RATIO, cases[i].value, cases[i].requests);

		ok(sba_check_rule(&rule, &input) == cases[i].outcome, "errors: %s", cases[i].what);
	}
}

static void
test_usual(void)
{
	SbaRule		rule = {"application_latency", SBA_ABOVE, 1000, SBA_SEVERITY_HIGH, 20, false};
	SbaRuleInput input = input_of(SBA_KIND_LATENCY, 1500, 100);

	ok(sba_check_rule(&rule, &input) == SBA_RULE_BROKEN, "without a model nothing is usual");
	input.usual_lower = 1200;
	input.usual_upper = 1800;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_USUAL, "within what is usual");
	input.value = 1801;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_BROKEN, "beyond it");
	input.value = 1500;
	rule.is_own = true;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_BROKEN, "the service's own rule asks for nothing usual");
	input.requests = 19;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_TOO_FEW_REQUESTS, "and for requests all the same");
}

static void
test_traffic(void)
{
	SbaRule		rule = {"request_rate", SBA_BELOW_EXPECTED_SHARE, 0.3, SBA_SEVERITY_HIGH, 30, false};
	SbaRuleInput input = input_of(SBA_KIND_RATE, 2, 600);

	ok(sba_check_rule(&rule, &input) == SBA_RULE_HOLDS, "nothing is expected without a model");
	input.expected = 10;
	input.expected_requests = 3000;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_BROKEN, "a fifth of what is expected");
	input.value = 0;
	input.requests = 0;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_BROKEN, "no traffic is not too little to judge");
	input.value = 3;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_HOLDS, "at the limit");
	input.value = 2.9;
	input.usual_lower = 2.5;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_USUAL, "within what is usual");
	input.value = 0.02;
	input.expected = 0.09;
	input.expected_requests = 27;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_TOO_FEW_REQUESTS, "27 expected requests are few");
	ok(!sba_rule_is_high(&rule), "too little is low");
	rule.comparison = SBA_ABOVE_EXPECTED_SHARE;
	rule.threshold = 3;
	input = input_of(SBA_KIND_RATE, 31, 9300);
	input.expected = 10;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_BROKEN && sba_rule_is_high(&rule), "more than three times what is expected");
	rule.comparison = SBA_BELOW;
	ok(sba_check_rule(&rule, &input) == SBA_RULE_HOLDS, "not below three");
}

static void
test_bounds_and_names(void)
{
	SbaComparison comparison;
	int			i;

	/* Wilson's interval of 10 in 100 at 99 %, one-sided: 0.0496 to 0.1912 */
	is_double(sba_share_lower_bound(0.1, 100), 0.0497, 0.0005, "lower bound of 10 in 100");
	is_double(sba_share_lower_bound(0, 100), 0, 1e-12, "of none");
	is_double(sba_share_lower_bound(0.5, 0), 0, 0, "among none");
	for (i = SBA_ABOVE; i <= SBA_BELOW_EXPECTED_SHARE; i++)
		ok(sba_comparison_by_name(sba_comparison_name((SbaComparison) i), &comparison) && comparison == (SbaComparison) i,
		   "%s has its name back", sba_comparison_name((SbaComparison) i));
	ok(!sba_comparison_by_name("over", &comparison), "there is no other");
}

int
main(void)
{
	plan_tests(0);
	test_errors();
	test_usual();
	test_traffic();
	test_bounds_and_names();
	return done();
}
