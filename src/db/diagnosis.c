/*
 * diagnosis.c
 *	  What a sample's values mean: broken rules, matching patterns, texts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/business_impact.h"
#include "db/diagnosis.h"
#include "db/pattern_text.h"
#include "db/rules.h"
#include "pg/query.h"
#include "pg/settings.h"

/* In the history, a deviation from here on is not normal. */
#define ABNORMAL_SIGMAS 4.0

/* How far back the history reaches when samples are missing in it. */
#define HISTORY_SPAN_INTERVALS (2 * SBA_HISTORY_SAMPLES)

static SbaQuery incident_query = {
	.text = "SELECT pg_catalog.min(first_seen) FROM smartbox.incidents"
	" WHERE service = $1 AND status <> 'CLOSED' AND signals && $2",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

/*
 * How far down the calls below a service incidents reach without a gap, and the
 * service at that end; no depth when it is known to call nobody.
 */
static SbaQuery dependencies_query = {
	.text = "WITH RECURSIVE chain(service, depth) AS ("
	" SELECT d.depends_on, 1 FROM smartbox.dependencies AS d"
	" WHERE d.service = $1 AND EXISTS (SELECT FROM smartbox.incidents AS i"
	" WHERE i.service = d.depends_on AND i.status <> 'CLOSED')"
	" UNION SELECT d.depends_on, c.depth + 1 FROM chain AS c JOIN smartbox.dependencies AS d ON d.service = c.service"
	" WHERE c.depth < 5 AND d.depends_on <> $1 AND EXISTS (SELECT FROM smartbox.incidents AS i"
	" WHERE i.service = d.depends_on AND i.status <> 'CLOSED'))"
	" SELECT c.service, coalesce(c.depth, 0)"
	" FROM (SELECT FROM smartbox.dependencies AS d WHERE d.service = $1 LIMIT 1) AS any_call"
	" LEFT JOIN chain AS c ON true ORDER BY c.depth DESC NULLS LAST, c.service COLLATE \"C\" LIMIT 1",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

char	   *
sba_signal_name(const char *metric, bool is_high)
{
	return psprintf("%s_%s", metric, is_high ? "high" : "low");
}

/* ---------------------------------------------------------------------------
 * Rules
 * ---------------------------------------------------------------------------
 */

static void
describe_for_rules(const SbaEvaluatedSample *sample, int m, SbaRuleInput *input)
{
	int			r;

	input->kind = sample->metrics[m].kind;
	input->value = sample->values[m];
	input->expected = input->requests = input->expected_requests = NAN;
	input->usual_lower = input->usual_upper = NAN;
	for (r = 0; r < sample->n_metrics; r++)
	{
		if (!sample->metrics[r].counts_requests)
			continue;
		input->requests = sample->values[r] * sba_sample_interval_s;
		if (sample->model != NULL && sample->model->metric[r].baseline.known)
			input->expected_requests = sample->verdict->metric[r].expected * sba_sample_interval_s;
	}
	if (sample->model != NULL && sample->model->metric[m].baseline.known)
	{
		const SbaBaseline *baseline = &sample->model->metric[m].baseline;
		double		usual = sba_profile_value(baseline, sba_profile_slot(sample->minute_of_week));
		double		usual_value;

		input->expected = sample->verdict->metric[m].expected;
		sba_expected_band(input->kind, baseline->offset, usual, sample->features->sigma[m],
						  &usual_value, &input->usual_lower, &input->usual_upper);
	}
}

/* Keep the worst of a metric and direction. */
static void
keep_finding(SbaRuleFinding *findings, int *n, const SbaRule *rule, int m)
{
	int			i;

	for (i = 0; i < *n; i++)
	{
		if (findings[i].metric == m && sba_rule_is_high(findings[i].rule) == sba_rule_is_high(rule))
		{
			if (rule->severity > findings[i].rule->severity)
				findings[i].rule = rule;
			return;
		}
	}
	findings[*n].rule = rule;
	findings[(*n)++].metric = m;
}

void
sba_check_rules(const SbaEvaluatedSample *sample, SbaDiagnosis *diagnosis)
{
	const SbaRule **rules;
	int			n_rules = sba_rules_of(sample->service->name, &rules);

	sba_check_given_rules(rules, n_rules, sample, diagnosis);
}

void
sba_check_given_rules(const SbaRule *const *rules, int n_rules,
					  const SbaEvaluatedSample *sample, SbaDiagnosis *diagnosis)
{
	int			i;
	int			m;

	memset(diagnosis, 0, sizeof(*diagnosis));
	for (i = 0; i < n_rules; i++)
	{
		SbaRuleInput input;

		for (m = 0; m < sample->n_metrics; m++)
			if (strcmp(sample->metrics[m].name, rules[i]->metric) == 0)
				break;
		if (m == sample->n_metrics || isnan(sample->values[m]))
			continue;
		describe_for_rules(sample, m, &input);
		switch (sba_check_rule(rules[i], &input))
		{
			case SBA_RULE_BROKEN:
				keep_finding(diagnosis->broken, &diagnosis->n_broken, rules[i], m);
				diagnosis->rule_severity = Max(diagnosis->rule_severity, rules[i]->severity);
				break;
			case SBA_RULE_USUAL:
				keep_finding(diagnosis->usual, &diagnosis->n_usual, rules[i], m);
				break;
			case SBA_RULE_HOLDS:
			case SBA_RULE_TOO_FEW_REQUESTS:
				break;
		}
	}
}

SbaSeverity
sba_diagnosed_severity(const SbaDiagnosis *diagnosis, SbaSeverity by_score)
{
	SbaSeverity severity = by_score;

	if (by_score != SBA_SEVERITY_NONE && diagnosis->n_matches > 0)
		severity = sba_pattern_severity(by_score, diagnosis->match[0]->compiled.severity);
	return Max(severity, diagnosis->rule_severity);
}

/* ---------------------------------------------------------------------------
 * The situation that patterns look at
 * ---------------------------------------------------------------------------
 */

/*
 * Deviations of the last samples, the judged one last, from what this sample's
 * level and profile would have expected then; NaN for what is unknown.
 * deviations is [n_metrics][SBA_HISTORY_SAMPLES].  Returns how many samples.
 */
static int
recent_deviations(const SbaEvaluatedSample *sample, double (*deviations)[SBA_HISTORY_SAMPLES])
{
	const SbaSampleSeries *history = sample->history;
	TimestampTz since = sample->ts - (TimestampTz) HISTORY_SPAN_INTERVALS * sba_sample_interval_s * USECS_PER_SEC;
	SbaBaseline baselines[SBA_MAX_METRICS];
	size_t		first = history->n_rows < SBA_HISTORY_SAMPLES ? 0 : history->n_rows - (SBA_HISTORY_SAMPLES - 1);
	size_t		row;
	int			n = 0;
	int			m;

	for (m = 0; m < sample->n_metrics; m++)
		baselines[m] = sample->model->metric[m].baseline;
	for (row = first; row < history->n_rows; row++)
	{
		const double *by_catalog = history->values + row * history->n_metrics;
		double		values[SBA_MAX_METRICS];
		SbaFeatures features;

		if (history->ts[row] < since)
			continue;
		for (m = 0; m < sample->n_metrics; m++)
		{
			values[m] = sample->catalog_index[m] < 0 ? NAN : by_catalog[sample->catalog_index[m]];
			features.expected_z[m] = NAN;
			if (baselines[m].known)
				features.expected_z[m] = sample->features->expected_z[m] +
					sba_profile_value(&baselines[m], sba_profile_slot(history->minute_of_week[row])) -
					sba_profile_value(&baselines[m], sba_profile_slot(sample->minute_of_week));
		}
		sba_compute_deviations(sample->metrics, baselines, sample->n_metrics, sba_sample_interval_s,
							   values, &features);
		for (m = 0; m < sample->n_metrics; m++)
			deviations[m][n] = features.deviation[m];
		n++;
	}
	for (m = 0; m < sample->n_metrics; m++)
		deviations[m][n] = sample->features->deviation[m];
	return n + 1;
}

/* How often the samples went from normal to not and back. */
static int
count_state_changes(const SbaEvaluatedSample *sample, double (*deviations)[SBA_HISTORY_SAMPLES], int n)
{
	bool		was_abnormal = false;
	int			changes = 0;
	int			i;
	int			m;

	for (i = 0; i < n; i++)
	{
		bool		is_abnormal = false;

		for (m = 0; m < sample->n_metrics; m++)
		{
			SbaDirection direction = sample->metrics[m].direction;

			is_abnormal |= (direction != SBA_DIRECTION_LOW && deviations[m][i] >= ABNORMAL_SIGMAS) ||
				(direction != SBA_DIRECTION_HIGH && deviations[m][i] <= -ABNORMAL_SIGMAS);
		}
		changes += i > 0 && is_abnormal != was_abnormal;
		was_abnormal = is_abnormal;
	}
	return changes;
}

/* A rule's word counts where there is nothing to compare with, or not enough. */
static SbaLevel
level_by_rules(const SbaDiagnosis *diagnosis, int m, SbaLevel level)
{
	int			i;

	for (i = 0; i < diagnosis->n_broken; i++)
	{
		bool		is_worst = diagnosis->broken[i].rule->severity == SBA_SEVERITY_CRITICAL;

		if (diagnosis->broken[i].metric != m)
			continue;
		if (sba_rule_is_high(diagnosis->broken[i].rule))
			return Max(level, is_worst ? SBA_LEVEL_VERY_HIGH : SBA_LEVEL_HIGH);
		if (level == SBA_LEVEL_UNKNOWN || level >= SBA_LEVEL_NORMAL)
			return is_worst ? SBA_LEVEL_VERY_LOW : SBA_LEVEL_LOW;
	}
	return level;
}

bool
sba_breaks_rule(const SbaDiagnosis *diagnosis, int m)
{
	int			i;

	for (i = 0; i < diagnosis->n_broken; i++)
		if (diagnosis->broken[i].metric == m)
			return true;
	return false;
}

static void
describe_situation(const SbaEvaluatedSample *sample, const SbaDiagnosis *diagnosis,
				   const SbaPatternMetrics *names, SbaSituation *situation)
{
	double		deviations[SBA_MAX_METRICS][SBA_HISTORY_SAMPLES];
	int			n = sample->model != NULL ? recent_deviations(sample, deviations) : 0;
	int			i;
	int			m;

	memset(situation, 0, sizeof(*situation));
	situation->state_changes = count_state_changes(sample, deviations, n);
	for (i = 0; i < names->n; i++)
	{
		SbaMetricSituation *metric = &situation->metric[i];
		const SbaMetricVerdict *verdict;

		metric->level = SBA_LEVEL_ABSENT;
		metric->value = metric->expected = NAN;
		for (m = 0; m < sample->n_metrics; m++)
			if (strcmp(sample->metrics[m].name, names->name[i]) == 0)
				break;
		if (m == sample->n_metrics)
			continue;
		verdict = &sample->verdict->metric[m];
		metric->value = sample->values[m];
		if (verdict->present)
			metric->expected = verdict->expected;
		metric->is_signal = verdict->is_signal || sba_breaks_rule(diagnosis, m);
		metric->level = sba_level_of(&sample->metrics[m], metric->value, metric->expected,
									 verdict->present ? verdict->deviation_sigma : NAN, verdict->is_signal);
		metric->level = level_by_rules(diagnosis, m, metric->level);
		if (n > 0)
			metric->trend = sba_trend_of(deviations[m], n);
	}
}

/* The state of what the service calls; *furthest is the last one down that is not well. */
static SbaDependencyState
state_of_dependencies(const SbaEvaluatedSample *sample, const char **furthest)
{
	Datum		argument = CStringGetTextDatum(sample->service->name);
	int			depth;

	*furthest = NULL;
	sba_query_run(&dependencies_query, &argument, NULL, 0);
	if (SPI_processed == 0)
		return SBA_DEPENDENCIES_UNKNOWN;
	*furthest = sba_result_text(0, 1);
	depth = sba_result_int4(0, 2, 0);
	return depth == 0 ? SBA_DEPENDENCIES_HEALTHY :
		depth == 1 ? SBA_DEPENDENCIES_ANOMALOUS : SBA_DEPENDENCIES_CHAIN;
}

/* ---------------------------------------------------------------------------
 * Texts
 * ---------------------------------------------------------------------------
 */

/* Note which metrics are too high and which too low, for the forest or a rule. */
static void
collect_signals(const SbaEvaluatedSample *sample, const SbaDiagnosis *diagnosis, SbaTextContext *context)
{
	int			i;

	for (i = 0; i < sample->n_metrics; i++)
	{
		if (!sample->verdict->metric[i].is_signal)
			continue;
		if (sample->verdict->metric[i].deviation_sigma >= 0)
			context->high_signals |= 1u << i;
		else
			context->low_signals |= 1u << i;
	}
	for (i = 0; i < diagnosis->n_broken; i++)
	{
		if (sba_rule_is_high(diagnosis->broken[i].rule))
			context->high_signals |= 1u << diagnosis->broken[i].metric;
		else
			context->low_signals |= 1u << diagnosis->broken[i].metric;
	}
}

/* Minutes since the incident of these signals began; -1 when there is none. */
static int
minutes_of_incident(const SbaEvaluatedSample *sample, const SbaTextContext *context)
{
	Datum		names[2 * SBA_MAX_METRICS];
	Datum		arguments[2];
	TimestampTz first_seen;
	bool		is_null;
	int			n = 0;
	int			i;

	for (i = 0; i < sample->n_metrics; i++)
	{
		if ((context->high_signals & (1u << i)) != 0)
			names[n++] = CStringGetTextDatum(sba_signal_name(sample->metrics[i].name, true));
		if ((context->low_signals & (1u << i)) != 0)
			names[n++] = CStringGetTextDatum(sba_signal_name(sample->metrics[i].name, false));
	}
	arguments[0] = CStringGetTextDatum(sample->service->name);
	arguments[1] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	sba_query_run(&incident_query, arguments, NULL, 0);
	first_seen = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	return is_null || first_seen > sample->ts ? -1 : (int) ((sample->ts - first_seen) / USECS_PER_MINUTE);
}

void
sba_find_patterns(const SbaEvaluatedSample *sample, SbaDependencyState dependencies,
				  SbaDiagnosis *diagnosis, int *state_changes)
{
	const SbaPatternSet *set = sba_patterns();
	SbaSituation situation;

	describe_situation(sample, diagnosis, &set->metrics, &situation);
	situation.dependencies = dependencies;
	diagnosis->n_matches = sba_match_patterns(set, &situation, diagnosis->match, SBA_MAX_MATCHES);
	if (state_changes != NULL)
		*state_changes = situation.state_changes;
}

const SbaRuleFinding *
sba_leading_rule(const SbaDiagnosis *diagnosis)
{
	const SbaRuleFinding *leading = &diagnosis->broken[0];
	int			i;

	for (i = 1; i < diagnosis->n_broken; i++)
		if (diagnosis->broken[i].rule->severity > leading->rule->severity)
			leading = &diagnosis->broken[i];
	return leading;
}

double
sba_contribution(const SbaEvaluatedSample *sample, const SbaDiagnosis *diagnosis, int m)
{
	double		sum = 0;
	int			i;

	for (i = 0; i < sample->n_metrics; i++)
		sum += sample->verdict->metric[i].contribution;
	if (sum <= 0 && diagnosis->n_broken > 0 && sba_leading_rule(diagnosis)->metric == m)
		return 1;
	return sample->verdict->metric[m].present ? sample->verdict->metric[m].contribution : NAN;
}

int
sba_name_anomaly(const SbaEvaluatedSample *sample, const SbaDiagnosis *diagnosis,
				 bool by_score, bool *is_high, const SbaRule **rule)
{
	int			leading = by_score ? sba_leading_signal(sample->verdict, sample->n_metrics) : -1;

	*rule = NULL;
	if (leading >= 0)
	{
		*is_high = sample->verdict->metric[leading].deviation_sigma >= 0;
		return leading;
	}
	*rule = sba_leading_rule(diagnosis)->rule;
	*is_high = sba_rule_is_high(*rule);
	return sba_leading_rule(diagnosis)->metric;
}

void
sba_diagnose(const SbaEvaluatedSample *sample, SbaDiagnosis *diagnosis)
{
	SbaTextContext context = {0};
	const SbaNamedPattern *best;
	int			i;

	sba_find_patterns(sample, state_of_dependencies(sample, &context.dependency), diagnosis,
					  &context.state_changes);

	context.service = sample->service->name;
	context.category = sample->service->category;
	context.time_period = sample->time_period;
	collect_signals(sample, diagnosis, &context);
	context.duration_minutes = minutes_of_incident(sample, &context);
	context.interval_s = sba_sample_interval_s;
	context.n_metrics = sample->n_metrics;
	context.metrics = sample->metrics;
	context.units = sample->units;
	context.values = sample->values;
	context.verdicts = sample->verdict->metric;
	diagnosis->business_impact = sba_business_impact(&context);
	if (diagnosis->n_matches == 0)
		return;

	best = diagnosis->match[0];
	diagnosis->description = sba_render_text(best->message, &context);
	diagnosis->interpretation = sba_render_text(best->interpretation, &context);
	for (i = 0; i < best->n_causes; i++)
		diagnosis->cause[i] = sba_render_text(best->cause[i], &context);
	for (i = 0; i < best->n_actions; i++)
		diagnosis->action[i] = sba_render_text(best->action[i], &context);
}
