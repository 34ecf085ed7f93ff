/*
 * pattern_functions.c
 *	  Triggers of smartbox.rules and smartbox.patterns, and trying patterns out.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "db/catalog.h"
#include "db/pattern_text.h"
#include "db/patterns.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "pg/table_watch.h"

SBA_FUNCTION(sba_forget_patterns);
SBA_FUNCTION(sba_check_pattern);
SBA_FUNCTION(sba_try_patterns);

#define MAX_MATCHES 100

static SbaQuery metric_names_query = {
	.text = "SELECT metric FROM smartbox.metrics ORDER BY position",
	.expected = SPI_OK_SELECT,
};

/*
 * Trigger of both tables, after each row: sessions read them again.
 */
Datum
sba_forget_patterns(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("smartbox.forget_patterns() is called by triggers only")));
	sba_table_has_changed("rules");
	sba_table_has_changed("patterns");
	PG_RETURN_POINTER(NULL);
}

static void report_problem(const char *pattern, const char *column, const SbaPatternProblem *problem)
			pg_attribute_noreturn();

static void
report_problem(const char *pattern, const char *column, const SbaPatternProblem *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("%s of pattern \"%s\" cannot be read: %s", column, pattern, problem->message),
			 problem->hint != NULL ? errhint("%s", problem->hint) : 0,
			 err_generic_string(PG_DIAG_SCHEMA_NAME, "smartbox"),
			 err_generic_string(PG_DIAG_TABLE_NAME, "patterns"),
			 err_generic_string(PG_DIAG_COLUMN_NAME, column)));
}

/* Every metric that a pattern speaks of is in smartbox.metrics. */
static void
check_metrics_exist(const char *pattern, const SbaPatternMetrics *metrics)
{
	StringInfoData known;
	uint64		row;
	int			i;

	SPI_connect();
	sba_query_run(&metric_names_query, NULL, NULL, 0);
	initStringInfo(&known);
	for (row = 0; row < SPI_processed; row++)
		appendStringInfo(&known, "%s%s", row > 0 ? ", " : "", sba_result_text(row, 1));
	for (i = 0; i < metrics->n; i++)
	{
		for (row = 0; row < SPI_processed; row++)
			if (strcmp(sba_result_text(row, 1), metrics->name[i]) == 0)
				break;
		if (row == SPI_processed)
			ereport(ERROR,
					(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
					 errmsg("pattern \"%s\" speaks of metric \"%s\", which is not known", pattern, metrics->name[i]),
					 errhint("There are the metrics %s, and in texts also %s.", known.data, sba_placeholder_words()),
					 err_generic_string(PG_DIAG_SCHEMA_NAME, "smartbox"),
					 err_generic_string(PG_DIAG_TABLE_NAME, "patterns")));
	}
	SPI_finish();
}

static Datum
column_of(const TriggerData *trigger, HeapTuple row, const char *name)
{
	bool		is_null;
	Datum		value = SPI_getbinval(row, trigger->tg_relation->rd_att,
									  SPI_fnumber(trigger->tg_relation->rd_att, name), &is_null);

	if (is_null)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("%s of a pattern must not be null", name)));
	return value;
}

static void
check_text_column(const TriggerData *trigger, HeapTuple row, const char *column, const char *pattern,
				  SbaPatternMetrics *metrics)
{
	SbaPatternProblem problem;

	if (!sba_check_text(TextDatumGetCString(column_of(trigger, row, column)), metrics, &problem))
		report_problem(pattern, column, &problem);
}

static void
check_texts_column(const TriggerData *trigger, HeapTuple row, const char *column, const char *pattern,
				   SbaPatternMetrics *metrics)
{
	SbaPatternProblem problem;
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(column_of(trigger, row, column)), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	for (i = 0; i < n; i++)
		if (!nulls[i] && !sba_check_text(TextDatumGetCString(elements[i]), metrics, &problem))
			report_problem(pattern, column, &problem);
}

/*
 * Trigger of smartbox.patterns, before each row: the language of its
 * conditions and texts.
 */
Datum
sba_check_pattern(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	SbaPatternMetrics metrics = {0};
	SbaPatternProblem problem;
	SbaPattern	compiled;
	HeapTuple	row;
	char	   *pattern;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("smartbox.check_pattern() is called by triggers on smartbox.patterns only")));
	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	pattern = TextDatumGetCString(column_of(trigger, row, "pattern"));

	if (!sba_compile_conditions(DatumGetJsonbP(column_of(trigger, row, "conditions")), &metrics, &compiled, &problem))
		report_problem(pattern, "conditions", &problem);
	check_text_column(trigger, row, "message", pattern, &metrics);
	check_text_column(trigger, row, "interpretation", pattern, &metrics);
	check_texts_column(trigger, row, "possible_causes", pattern, &metrics);
	check_texts_column(trigger, row, "recommended_actions", pattern, &metrics);
	check_metrics_exist(pattern, &metrics);
	return PointerGetDatum(row);
}

/* ---------------------------------------------------------------------------
 * Trying patterns out
 * ---------------------------------------------------------------------------
 */

/* A situation that somebody describes, as samples describe theirs. */
typedef struct DescribedSituation
{
	SbaSituation situation;
	SbaTextContext context;
	double		values[SBA_MAX_METRICS];
	SbaMetricVerdict verdicts[SBA_MAX_METRICS];
} DescribedSituation;

static char *
member_text(const Jsonb * object, const char *key)
{
	JsonbValue	found;
	JsonbValue *member = getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &object->root),
													  key, strlen(key), &found);

	if (member == NULL)
		return NULL;
	if (member->type == jbvString)
		return pnstrdup(member->val.string.val, member->val.string.len);
	if (member->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(member->val.numeric)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" of the situation is neither a word nor a number", key)));
}

static double
member_number(const Jsonb * object, const char *key)
{
	char	   *text = member_text(object, key);

	return text == NULL ? NAN :
		DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(text)));
}

/* The level, trend or state of a word that stands for exactly one. */
static int
one_of(const char *key, const char *word, uint32 (*set_of) (const char *), int first, int last, const char *words)
{
	uint32		set = set_of(word);
	int			member;

	/* "high" is very high too in a condition, and just high in a situation */
	if (set_of == sba_level_set && strcmp(word, "low") == 0)
		return SBA_LEVEL_LOW;
	if (set_of == sba_level_set && strcmp(word, "high") == 0)
		return SBA_LEVEL_HIGH;
	for (member = first; member <= last; member++)
		if (set == SBA_SET_OF(member))
			return member;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is not a word for \"%s\" in a situation", word, key),
			 errhint("There are: %s.", words)));
}

static void
read_metric(DescribedSituation *described, int m, SbaMetricSituation *metric, const JsonbValue * value)
{
	const char *const level_words = "very_low, low, normal, high, very_high, absent";
	char	   *word = NULL;

	if (value->type == jbvString)
		word = pnstrdup(value->val.string.val, value->val.string.len);
	else if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
	{
		const		Jsonb *object = JsonbValueToJsonb(unconstify(JsonbValue *, value));
		char	   *trend = member_text(object, "trend");

		word = member_text(object, "level");
		metric->value = member_number(object, "value");
		metric->expected = member_number(object, "expected");
		if (trend != NULL)
			metric->trend = one_of("trend", trend, sba_trend_set, SBA_TREND_STEADY, SBA_TREND_SUDDEN_FALL,
								   sba_trend_words());
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metric \"%s\" of the situation is neither a level nor an object", described->context.metrics[m].name)));
	if (word != NULL)
		metric->level = one_of("level", word, sba_level_set, SBA_LEVEL_ABSENT, SBA_LEVEL_VERY_HIGH, level_words);
	metric->is_signal = metric->level >= SBA_LEVEL_VERY_LOW && metric->level != SBA_LEVEL_NORMAL;
	described->values[m] = metric->value;
	described->verdicts[m].present = !isnan(metric->value) && !isnan(metric->expected);
	described->verdicts[m].expected = metric->expected;
}

static void
read_situation(const Jsonb * json, const SbaMetricCatalog *catalog, const SbaPatternMetrics *names,
			   DescribedSituation *described)
{
	SbaSituation *situation = &described->situation;
	char	   *dependencies = member_text(json, "dependencies");
	double		state_changes = member_number(json, "state_changes");
	int			i;
	int			m;

	memset(described, 0, sizeof(*described));
	described->context.service = member_text(json, "service");
	if (described->context.service == NULL)
		described->context.service = "the service";
	described->context.dependency = member_text(json, "dependency");
	described->context.duration_minutes = -1;
	described->context.interval_s = sba_sample_interval_s;
	described->context.n_metrics = catalog->n_metrics;
	described->context.metrics = catalog->metric;
	described->context.units = catalog->unit;
	described->context.values = described->values;
	described->context.verdicts = described->verdicts;
	if (!isnan(state_changes))
		described->context.state_changes = situation->state_changes = (int) Min(Max(state_changes, 0), SBA_HISTORY_SAMPLES);
	if (dependencies != NULL)
		situation->dependencies = one_of("dependencies", dependencies, sba_dependency_set,
										 SBA_DEPENDENCIES_HEALTHY, SBA_DEPENDENCIES_CHAIN, sba_dependency_words());

	for (i = 0; i < names->n; i++)
	{
		situation->metric[i].level = SBA_LEVEL_ABSENT;
		situation->metric[i].value = situation->metric[i].expected = NAN;
	}
	for (m = 0; m < catalog->n_metrics; m++)
	{
		SbaMetricSituation unheard = {0};
		JsonbValue	found;
		JsonbValue *value = getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &json->root),
														 catalog->metric[m].name, strlen(catalog->metric[m].name), &found);

		described->values[m] = NAN;
		if (value == NULL)
			continue;
		unheard.value = unheard.expected = NAN;
		for (i = 0; i < names->n; i++)
			if (strcmp(names->name[i], catalog->metric[m].name) == 0)
				break;
		read_metric(described, m, i < names->n ? &situation->metric[i] : &unheard, value);
	}
}

static Datum
rendered_array(const char *const *texts, int n, const SbaTextContext *context)
{
	Datum		rendered[SBA_MAX_PATTERN_TEXTS];
	int			i;

	for (i = 0; i < n; i++)
		rendered[i] = CStringGetTextDatum(sba_render_text(texts[i], context));
	return PointerGetDatum(construct_array(rendered, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * smartbox.try_patterns(situation jsonb) returns setof record
 */
Datum
sba_try_patterns(PG_FUNCTION_ARGS)
{
	const SbaNamedPattern *matches[MAX_MATCHES];
	const SbaPatternSet *set;
	DescribedSituation described;
	Jsonb	   *json;
	Oid			severity_type;
	int			n;
	int			i;

	sba_begin_rows(fcinfo);
	severity_type = TupleDescAttr(((ReturnSetInfo *) fcinfo->resultinfo)->setDesc, 2)->atttypid;
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the situation must not be null")));
	json = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the situation must be an object")));
	SPI_connect();
	set = sba_patterns();
	read_situation(json, sba_load_metrics(), &set->metrics, &described);
	n = sba_match_patterns(set, &described.situation, matches, MAX_MATCHES);
	for (i = 0; i < n; i++)
	{
		Datum		values[7];
		bool		nulls[7] = {false};

		values[0] = Int32GetDatum(i + 1);
		values[1] = CStringGetTextDatum(matches[i]->name);
		values[2] = DirectFunctionCall2(enum_in, CStringGetDatum(sba_severity_name(matches[i]->compiled.severity)),
										ObjectIdGetDatum(severity_type));
		values[3] = CStringGetTextDatum(sba_render_text(matches[i]->message, &described.context));
		values[4] = CStringGetTextDatum(sba_render_text(matches[i]->interpretation, &described.context));
		values[5] = rendered_array(matches[i]->cause, matches[i]->n_causes, &described.context);
		values[6] = rendered_array(matches[i]->action, matches[i]->n_actions, &described.context);
		sba_add_row(fcinfo, values, nulls);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
