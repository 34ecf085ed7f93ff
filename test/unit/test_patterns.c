/*
 * test_patterns.c
 *	  Levels, trends and conditions that patterns are made of.
 */
#include <string.h>

#include "core/patterns.h"
#include "tap.h"

static const SbaMetric latency = {"application_latency", SBA_KIND_LATENCY, SBA_DIRECTION_HIGH, 0, 3e5, 5, 0.25, false, {0, 0}, {0, 0}};
static const SbaMetric errors = {"error_rate", SBA_KIND_RATIO, SBA_DIRECTION_HIGH, 0, 1, 0.01, 0.5, false, {0, 0}, {0, 0}};

static void
test_levels(void)
{
	ok(sba_level_of(&latency, NAN, 100, NAN, false) == SBA_LEVEL_ABSENT, "no value");
	ok(sba_level_of(&latency, 100, NAN, NAN, false) == SBA_LEVEL_UNKNOWN, "nothing to compare with");
	ok(sba_level_of(&latency, 180, 100, 2.9, false) == SBA_LEVEL_NORMAL, "within three sigmas");
	ok(sba_level_of(&latency, 180, 100, 2.9, true) == SBA_LEVEL_HIGH, "unless the forest says otherwise");
	ok(sba_level_of(&latency, 120, 100, 9, false) == SBA_LEVEL_NORMAL, "too small a share");
	ok(sba_level_of(&latency, 9, 5, 9, false) == SBA_LEVEL_NORMAL, "too few milliseconds");
	ok(sba_level_of(&latency, 199, 100, 20, false) == SBA_LEVEL_HIGH, "high");
	ok(sba_level_of(&latency, 200, 100, 20, false) == SBA_LEVEL_VERY_HIGH, "very high");
	ok(sba_level_of(&latency, 200, 100, 5.9, false) == SBA_LEVEL_HIGH, "not certain enough to be very high");
	ok(sba_level_of(&latency, 70, 100, -4, false) == SBA_LEVEL_LOW, "low");
	ok(sba_level_of(&latency, 50, 100, -7, false) == SBA_LEVEL_VERY_LOW, "very low");
	ok(sba_level_of(&errors, 0.045, 0.001, 8, false) == SBA_LEVEL_HIGH, "some errors");
	ok(sba_level_of(&errors, 0.051, 0.001, 8, false) == SBA_LEVEL_VERY_HIGH, "many");
	ok(sba_level_of(&errors, 0.009, 0.001, 8, false) == SBA_LEVEL_NORMAL, "too few to matter");
}

static void
trend_is(const double *values, int n, SbaTrend trend, const char *what)
{
	SbaTrend	got = sba_trend_of(values, n);

	ok(got == trend, "%s (%d)", what, (int) got);
}

static void
test_trends(void)
{
	static const double noise[] = {0.3, -0.8, 1.1, -0.2, 0.5, -1.3, 0.9, 0.1, -0.6, 1.4, -0.9, 0.2};
	static const double rising[] = {0.1, -0.3, 0.8, 1.2, 1.1, 2.3, 2.9, 3.4, 3.3, 4.6, 5.2, 6.1};
	static const double late[] = {0.4, -0.6, 0.3, 0.1, -0.4, 0.5, 1.8, 3.7, 5.9, 8.1, 10.2, 11.8};
	static const double jumped[] = {0.3, -0.8, 1.1, -0.2, 0.5, -1.3, 0.9, 0.1, -0.6, 12.4, 11.9, 12.2};
	static const double long_ago[] = {0.3, -0.8, 12.1, 11.2, 12.5, 11.3, 12.9, 12.1, 11.6, 12.4, 11.9, 12.2};
	static const double falling[] = {0.2, -0.5, 0.7, 20.1, 18.2, 15.9, 13.8, 11.2, 9.9, 8.1, 6.4, 5.0};
	static const double dropped[] = {0.3, -0.8, 1.1, -0.2, 0.5, -1.3, 0.9, 0.1, -0.6, 1.4, -9.2, -9.9};
	static const double recovered[] = {0.2, 20.1, 18.2, 15.9, 13.8, 11.2, 9.9, 8.1, 6.4, 5.0, 9.0, 14.0};
	double		holes[12];

	trend_is(noise, 12, SBA_TREND_STEADY, "noise");
	trend_is(rising, 12, SBA_TREND_RISING, "a ramp");
	trend_is(late, 12, SBA_TREND_RISING, "a ramp that began later");
	trend_is(jumped, 12, SBA_TREND_SUDDEN_RISE, "a step three samples ago");
	trend_is(jumped, 10, SBA_TREND_SUDDEN_RISE, "a step just now");
	trend_is(long_ago, 12, SBA_TREND_STEADY, "a step long ago");
	trend_is(falling, 12, SBA_TREND_FALLING, "a peak that goes down");
	trend_is(falling, 5, SBA_TREND_UNKNOWN, "five samples are no trend");
	trend_is(falling, 6, SBA_TREND_SUDDEN_RISE, "six are, and show its beginning");
	trend_is(dropped, 12, SBA_TREND_SUDDEN_FALL, "a step down");
	trend_is(recovered, 12, SBA_TREND_STEADY, "down and up again is neither");
	memcpy(holes, rising, sizeof(holes));
	holes[2] = holes[5] = NAN;
	trend_is(holes, 12, SBA_TREND_RISING, "a ramp with holes");
	holes[11] = NAN;
	trend_is(holes, 12, SBA_TREND_UNKNOWN, "the newest value is missing");
}

static SbaCondition
level_condition(int metric, const char *word)
{
	SbaCondition condition = {SBA_CONDITION_LEVEL, 0, (uint8_t) metric, 0, 0, 0};

	condition.set = sba_level_set(word);
	return condition;
}

static void
test_words(void)
{
	static const SbaLevel levels[] = {SBA_LEVEL_UNKNOWN, SBA_LEVEL_ABSENT, SBA_LEVEL_VERY_LOW, SBA_LEVEL_LOW,
	SBA_LEVEL_NORMAL, SBA_LEVEL_HIGH, SBA_LEVEL_VERY_HIGH};
	static const struct
	{
		const char *word;
		const char *matches;	/* of the levels above */
	}			words[] = {
		{"very_low", "..x...."}, {"low", "..xx..."}, {"normal", "....x.."}, {"high", ".....xx"},
		{"very_high", "......x"}, {"not_low", ".x..xxx"}, {"not_high", ".xxxx.."}, {"absent", ".x....."},
	};
	int			w;
	int			i;

	for (w = 0; w < (int) (sizeof(words) / sizeof(words[0])); w++)
		for (i = 0; i < 7; i++)
			ok(((sba_level_set(words[w].word) & SBA_SET_OF(levels[i])) != 0) == (words[w].matches[i] == 'x'),
			   "%s and level %d", words[w].word, i);
	ok(sba_level_set("hihg") == 0 && sba_trend_set("up") == 0 && sba_dependency_set("ill") == 0, "no other words");
}

static void
test_matching(void)
{
	SbaSituation situation;
	SbaPattern	pattern = {0};
	SbaCondition share = {SBA_CONDITION_SHARE_ABOVE, 1, 1, 0, 0, 0.7};
	SbaCondition rise = {SBA_CONDITION_RISE_SHARE_ABOVE, 2, 1, 0, 0, 0.5};
	SbaCondition changes = {SBA_CONDITION_STATE_CHANGES, 0, 0, 0, 0, 4};

	memset(&situation, 0, sizeof(situation));
	pattern.condition[0] = level_condition(0, "high");
	pattern.condition[1] = level_condition(1, "not_high");
	pattern.n_conditions = 2;
	sba_pattern_finish(&pattern);
	ok(pattern.speaks_of == 1, "what is not high is not what it speaks of");
	ok(!sba_pattern_matches(&pattern, &situation), "what is unknown holds nothing");
	situation.metric[0].level = SBA_LEVEL_VERY_HIGH;
	situation.metric[1].level = SBA_LEVEL_ABSENT;
	ok(!sba_pattern_matches(&pattern, &situation), "all holds, and no signal is spoken of");
	situation.metric[0].is_signal = true;
	ok(sba_pattern_matches(&pattern, &situation), "of a signal");
	situation.metric[1].level = SBA_LEVEL_HIGH;
	ok(!sba_pattern_matches(&pattern, &situation), "one condition fails");

	pattern.condition[1] = share;
	pattern.condition[2] = rise;
	pattern.n_conditions = 3;
	situation.metric[0].value = 400;
	situation.metric[0].expected = 200;
	situation.metric[1].value = 270;
	situation.metric[1].expected = 200;
	ok(!sba_pattern_matches(&pattern, &situation), "neither alternative: 67 %% of it, 35 %% of its rise");
	situation.metric[1].value = 290;
	ok(sba_pattern_matches(&pattern, &situation), "the first one");
	situation.metric[1].value = 150;
	situation.metric[1].expected = 40;
	ok(sba_pattern_matches(&pattern, &situation), "the second one");
	situation.metric[0].expected = 500;
	ok(!sba_pattern_matches(&pattern, &situation), "no rise has no share");
	situation.metric[1].value = NAN;
	ok(!sba_pattern_matches(&pattern, &situation), "nothing known");

	pattern.condition[0] = changes;
	pattern.n_conditions = 1;
	sba_pattern_finish(&pattern);
	situation.metric[0].is_signal = false;
	situation.state_changes = 3;
	ok(!sba_pattern_matches(&pattern, &situation), "three changes");
	situation.state_changes = 4;
	ok(sba_pattern_matches(&pattern, &situation), "four, whatever the signals");
}

static void
test_severity(void)
{
	ok(sba_pattern_severity(SBA_SEVERITY_CRITICAL, SBA_SEVERITY_LOW) == SBA_SEVERITY_MEDIUM, "harmless, however rare");
	ok(sba_pattern_severity(SBA_SEVERITY_LOW, SBA_SEVERITY_CRITICAL) == SBA_SEVERITY_HIGH, "bad, however slight");
	ok(sba_pattern_severity(SBA_SEVERITY_CRITICAL, SBA_SEVERITY_HIGH) == SBA_SEVERITY_CRITICAL, "one step more");
	ok(sba_pattern_severity(SBA_SEVERITY_MEDIUM, SBA_SEVERITY_HIGH) == SBA_SEVERITY_MEDIUM, "one step less");
}

int
main(void)
{
	plan_tests(0);
	test_levels();
	test_trends();
	test_words();
	test_matching();
	test_severity();
	return done();
}
