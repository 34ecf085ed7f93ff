/*
 * pattern_conditions.c
 *	  The language of smartbox.patterns.conditions: from jsonb to what
 *	  core/patterns.h evaluates.
 *
 *	{"application_latency": "high",
 *	 "error_rate": ["normal", "absent"],
 *	 "database_latency": {"level": "high", "trend": "rising", "above": 20,
 *						  "share": {"of": "application_latency", "above": 0.7}},
 *	 "dependencies": "anomalous",
 *	 "state_changes": {"at_least": 4},
 *	 "any_of": [{...}, {...}]}
 *
 * All members must hold.  docs/patterns.md has the words.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "db/patterns.h"

#define MAX_ALTERNATIVES 8

typedef struct Compiler
{
	SbaPatternMetrics *metrics;
	SbaPattern *pattern;
	SbaPatternProblem *problem;
	int			alternative;	/* that is being read; 0: none */
} Compiler;

/* The members of an object, as conditions on a metric read them. */
typedef bool (*MemberReader) (Compiler *compiler, int metric, const char *key, JsonbValue * value);

static bool compile_object(Compiler *compiler, JsonbContainer * object);

static bool
fail(Compiler *compiler, char *message, const char *hint)
{
	compiler->problem->message = message;
	compiler->problem->hint = hint != NULL ? pstrdup(hint) : NULL;
	return false;
}

static char *
string_of(const JsonbValue * value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static int
number_of_metric(Compiler *compiler, const char *name)
{
	SbaPatternMetrics *metrics = compiler->metrics;
	int			i;

	for (i = 0; i < metrics->n; i++)
		if (strcmp(metrics->name[i], name) == 0)
			return i;
	if (metrics->n == SBA_MAX_PATTERN_METRICS)
	{
		fail(compiler, psprintf("patterns speak of more than %d metrics", SBA_MAX_PATTERN_METRICS), NULL);
		return -1;
	}
	metrics->name[metrics->n] = pstrdup(name);
	return metrics->n++;
}

static bool
add(Compiler *compiler, SbaConditionKind kind, int metric, uint32 set, int other, double limit)
{
	SbaPattern *pattern = compiler->pattern;
	SbaCondition *condition;

	if (pattern->n_conditions == SBA_MAX_PATTERN_CONDITIONS)
		return fail(compiler, psprintf("a pattern has more than %d conditions", SBA_MAX_PATTERN_CONDITIONS), NULL);
	condition = &pattern->condition[pattern->n_conditions++];
	condition->kind = kind;
	condition->alternative = (uint8_t) compiler->alternative;
	condition->metric = (uint8_t) metric;
	condition->set = set;
	condition->other = (uint8_t) other;
	condition->limit = limit;
	return true;
}

/* One of the words, or a list of them. */
static bool
read_words(Compiler *compiler, const char *key, JsonbValue * value,
		   uint32_t (*set_of) (const char *), const char *words, uint32 *set)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;
	bool		is_array = value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);

	*set = 0;
	if (value->type == jbvString)
	{
		char	   *word = string_of(value);

		*set = set_of(word);
		if (*set == 0)
			return fail(compiler, psprintf("\"%s\" is not a word for \"%s\"", word, key),
						psprintf("There are: %s.", words));
		return true;
	}
	if (!is_array)
		return fail(compiler, psprintf("\"%s\" is neither a word nor a list of words", key),
					psprintf("There are: %s.", words));
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		uint32		one;

		if (token != WJB_ELEM)
			continue;
		if (element.type != jbvString)
			return fail(compiler, psprintf("the list of \"%s\" has an element that is no word", key),
						psprintf("There are: %s.", words));
		if (!read_words(compiler, key, &element, set_of, words, &one))
			return false;
		*set |= one;
	}
	if (*set == 0)
		return fail(compiler, psprintf("the list of \"%s\" is empty", key), NULL);
	return true;
}

static bool
read_number(Compiler *compiler, const char *key, const JsonbValue * value, double *number)
{
	if (value->type != jbvNumeric)
		return fail(compiler, psprintf("\"%s\" is not a number", key), NULL);
	*number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	if (!isfinite(*number) || *number < 0)
		return fail(compiler, psprintf("\"%s\" is not a number from 0 on", key), NULL);
	return true;
}

/* Read each member of an object; an empty one says nothing and is refused. */
static bool
read_members(Compiler *compiler, int metric, const char *key, const JsonbValue * value, MemberReader reader)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	member;
	int			n = 0;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return fail(compiler, psprintf("\"%s\" is not an object", key), NULL);
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &member, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = string_of(&member);
		JsonbIteratorNext(&iterator, &member, true);
		if (!reader(compiler, metric, name, &member))
			return false;
		n++;
	}
	if (n == 0)
		return fail(compiler, psprintf("\"%s\" says nothing", key), NULL);
	return true;
}

/* {"of": metric, "above": number, "below": number} */
static bool
compile_share(Compiler *compiler, int metric, const char *key, const JsonbValue * value,
			  SbaConditionKind above, SbaConditionKind below)
{
	const char *const hint = "It is of the form {\"of\": \"application_latency\", \"above\": 0.7}, or \"below\".";
	JsonbContainer *object = value->val.binary.data;
	JsonbValue	found;
	JsonbValue *member;
	double		limit;
	int			other;
	uint32		n_known = 0;

	if (value->type != jbvBinary || !JsonContainerIsObject(object))
		return fail(compiler, psprintf("\"%s\" is not an object", key), hint);
	member = getKeyJsonValueFromContainer(object, "of", 2, &found);
	if (member == NULL || member->type != jbvString)
		return fail(compiler, psprintf("\"%s\" does not say of what", key), hint);
	other = number_of_metric(compiler, string_of(member));
	if (other < 0)
		return false;
	n_known++;
	member = getKeyJsonValueFromContainer(object, "above", 5, &found);
	if (member != NULL && n_known++ > 0 &&
		(!read_number(compiler, "above", member, &limit) || !add(compiler, above, metric, 0, other, limit)))
		return false;
	member = getKeyJsonValueFromContainer(object, "below", 5, &found);
	if (member != NULL && n_known++ > 0 &&
		(!read_number(compiler, "below", member, &limit) || !add(compiler, below, metric, 0, other, limit)))
		return false;
	if (n_known < 2 || JsonContainerSize(object) != n_known)
		return fail(compiler, psprintf("\"%s\" cannot be read", key), hint);
	return true;
}

static bool
compile_metric_member(Compiler *compiler, int metric, const char *key, JsonbValue * value)
{
	static const struct
	{
		const char *key;
		SbaConditionKind kind;
	}			limits[] = {
		{"above", SBA_CONDITION_ABOVE},
		{"below", SBA_CONDITION_BELOW},
		{"above_expected", SBA_CONDITION_ABOVE_EXPECTED},
		{"below_expected", SBA_CONDITION_BELOW_EXPECTED},
	};
	uint32		set;
	double		limit;
	int			i;

	if (strcmp(key, "level") == 0)
		return read_words(compiler, key, value, sba_level_set, sba_level_words(), &set) &&
			add(compiler, SBA_CONDITION_LEVEL, metric, set, 0, 0);
	if (strcmp(key, "trend") == 0)
		return read_words(compiler, key, value, sba_trend_set, sba_trend_words(), &set) &&
			add(compiler, SBA_CONDITION_TREND, metric, set, 0, 0);
	for (i = 0; i < lengthof(limits); i++)
		if (strcmp(key, limits[i].key) == 0)
			return read_number(compiler, key, value, &limit) &&
				add(compiler, limits[i].kind, metric, 0, 0, limit);
	if (strcmp(key, "share") == 0)
		return compile_share(compiler, metric, key, value,
							 SBA_CONDITION_SHARE_ABOVE, SBA_CONDITION_SHARE_BELOW);
	if (strcmp(key, "share_of_rise") == 0)
		return compile_share(compiler, metric, key, value,
							 SBA_CONDITION_RISE_SHARE_ABOVE, SBA_CONDITION_RISE_SHARE_BELOW);
	return fail(compiler, psprintf("\"%s\" is not a condition on a metric", key),
				"There are: level, trend, above, below, above_expected, below_expected, share, share_of_rise.");
}

static bool
compile_state_changes(Compiler *compiler, int metric, const char *key, JsonbValue * value)
{
	double		limit;

	if (strcmp(key, "at_least") != 0)
		return fail(compiler, psprintf("\"%s\" is not a condition on state_changes", key),
					"It is of the form {\"at_least\": 4}.");
	return read_number(compiler, key, value, &limit) &&
		add(compiler, SBA_CONDITION_STATE_CHANGES, 0, 0, 0, limit);
}

static bool
compile_alternatives(Compiler *compiler, const JsonbValue * value)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (compiler->alternative > 0)
		return fail(compiler, pstrdup("there is an \"any_of\" within \"any_of\""), NULL);
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return fail(compiler, pstrdup("\"any_of\" is not a list"), NULL);
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (element.type != jbvBinary || !JsonContainerIsObject(element.val.binary.data))
			return fail(compiler, pstrdup("an element of \"any_of\" is not an object"), NULL);
		if (++compiler->alternative > MAX_ALTERNATIVES)
			return fail(compiler, psprintf("\"any_of\" has more than %d elements", MAX_ALTERNATIVES), NULL);
		if (!compile_object(compiler, element.val.binary.data))
			return false;
	}
	if (compiler->alternative == 0)
		return fail(compiler, pstrdup("\"any_of\" is empty"), NULL);
	compiler->alternative = 0;
	return true;
}

/* One member of the conditions: a metric, or one of the words for the rest. */
static bool
compile_member(Compiler *compiler, int unused, const char *key, JsonbValue * value)
{
	uint32		set;
	int			metric;

	if (strcmp(key, "any_of") == 0)
		return compile_alternatives(compiler, value);
	if (strcmp(key, "state_changes") == 0)
		return read_members(compiler, 0, key, value, compile_state_changes);
	if (strcmp(key, "dependencies") == 0)
		return read_words(compiler, key, value, sba_dependency_set, sba_dependency_words(), &set) &&
			add(compiler, SBA_CONDITION_DEPENDENCIES, 0, set, 0, 0);
	metric = number_of_metric(compiler, key);
	if (metric < 0)
		return false;
	if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		return read_members(compiler, metric, key, value, compile_metric_member);
	return compile_metric_member(compiler, metric, "level", value);
}

static bool
compile_object(Compiler *compiler, JsonbContainer * object)
{
	JsonbValue	value;

	value.type = jbvBinary;
	value.val.binary.data = object;
	return read_members(compiler, 0, "conditions", &value, compile_member);
}

bool
sba_compile_conditions(const Jsonb * conditions, SbaPatternMetrics *metrics,
					   SbaPattern *pattern, SbaPatternProblem *problem)
{
	Compiler	compiler = {metrics, pattern, problem, 0};

	pattern->n_conditions = 0;
	if (!compile_object(&compiler, unconstify(JsonbContainer *, &conditions->root)))
		return false;
	sba_pattern_finish(pattern);
	return true;
}
