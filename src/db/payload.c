/*
 * payload.c
 *	  The JSON that a detection returns and stores.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "db/pattern_text.h"
#include "db/payload.h"
#include "pg/json_writer.h"

#define TYPE_MULTIVARIATE	"multivariate_enhanced_isolation_forest"
#define TYPE_UNIVARIATE		"univariate_isolation_forest"
#define TYPE_RULE			"rule"

char	   *
sba_iso_timestamp(TimestampTz ts)
{
	struct pg_tm utc;
	fsec_t		fraction;

	if (timestamp2tm(ts, NULL, &utc, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02dT%02d:%02d:%02d+00:00", utc.tm_year, utc.tm_mon, utc.tm_mday,
					utc.tm_hour, utc.tm_min, utc.tm_sec);
}

static const char *
direction_name(const SbaMetricVerdict *metric)
{
	return metric->deviation_sigma < 0 ? "low" : "high";
}

static const SbaMetricVerdict *
verdict_of(const SbaPayloadInput *input, int m)
{
	return &input->sample->verdict->metric[m];
}

static char *
value_text(const SbaPayloadInput *input, int m, double value)
{
	return sba_value_text(&input->sample->metrics[m], input->sample->units[m], value);
}

/* A signal in words, where no pattern has any. */
static char *
describe_signal(const SbaPayloadInput *input, int leading)
{
	const SbaMetricVerdict *metric = verdict_of(input, leading);
	const char *name = input->sample->metrics[leading].name;
	double		value = input->sample->values[leading];
	char	   *now = value_text(input, leading, value);
	char	   *expected = value_text(input, leading, metric->expected);

	if (metric->expected > 0 && value > 0 && input->sample->metrics[leading].kind != SBA_KIND_RATIO)
		return psprintf("%s is %s, %.3g times the %s expected at this time of the week",
						name, now, value / metric->expected, expected);
	return psprintf("%s is %s, %s is expected at this time of the week", name, now, expected);
}

static char *
interpret_signal(const SbaPayloadInput *input, int leading)
{
	const SbaMetricVerdict *metric = verdict_of(input, leading);
	const char *name = input->sample->metrics[leading].name;

	if (input->sample->verdict->is_multivariate)
		return psprintf("The combination of the metrics is rarer than any one of them alone; %s contributes most (%.0f %%).",
						name, 100 * metric->contribution);
	return psprintf("%s is %.1f standard deviations %s what is usual at this time of the week.",
					name, fabs(metric->deviation_sigma), metric->deviation_sigma < 0 ? "below" : "above");
}

/* A broken rule in words. */
static char *
describe_rule(const SbaPayloadInput *input, const SbaRuleFinding *finding)
{
	const SbaRule *rule = finding->rule;
	const char *side = sba_rule_is_high(rule) ? "at most" : "at least";
	char	   *now = value_text(input, finding->metric, input->sample->values[finding->metric]);

	if (rule->comparison == SBA_ABOVE || rule->comparison == SBA_BELOW)
		return psprintf("%s is %s, the rule allows %s %s", rule->metric, now, side,
						value_text(input, finding->metric, rule->threshold));
	return psprintf("%s is %s, the rule allows %s %.3g %% of the %s expected", rule->metric, now, side,
					100 * rule->threshold,
					value_text(input, finding->metric, verdict_of(input, finding->metric)->expected));
}

static void
write_comparison(SbaJsonWriter *json, const SbaPayloadInput *input, int m)
{
	const SbaMetricVerdict *metric = verdict_of(input, m);

	sba_json_number(json, "value", input->sample->values[m]);
	sba_json_number(json, "expected", metric->expected);
	sba_json_number(json, "lower", metric->lower);
	sba_json_number(json, "upper", metric->upper);
	sba_json_number(json, "deviation_sigma", metric->deviation_sigma);
	sba_json_number(json, "percentile", metric->percentile);
}

static void
write_contributions(SbaJsonWriter *json, const SbaPayloadInput *input)
{
	int			m;

	sba_json_open(json, "contributions", '{');
	for (m = 0; m < input->sample->n_metrics; m++)
	{
		double		contribution = sba_contribution(input->sample, input->diagnosis, m);

		if (!isnan(contribution))
			sba_json_number(json, input->sample->metrics[m].name, contribution);
	}
	sba_json_close(json, '}');
}

static void
write_rule(SbaJsonWriter *json, const SbaRule *rule)
{
	sba_json_string(json, "metric", rule->metric);
	sba_json_string(json, "comparison", sba_comparison_name(rule->comparison));
	sba_json_number(json, "threshold", rule->threshold);
	sba_json_string(json, "severity", sba_severity_name(rule->severity));
}

static void
write_signals(SbaJsonWriter *json, const SbaPayloadInput *input)
{
	const SbaDiagnosis *diagnosis = input->diagnosis;
	int			i;
	int			m;

	sba_json_open(json, "detection_signals", '[');
	for (m = 0; m < input->sample->n_metrics; m++)
	{
		const SbaMetricVerdict *metric = verdict_of(input, m);
		const char *name = input->sample->metrics[m].name;

		if (!metric->is_signal)
			continue;
		sba_json_open(json, NULL, '{');
		sba_json_string(json, "name", sba_signal_name(name, metric->deviation_sigma >= 0));
		sba_json_string(json, "metric", name);
		sba_json_string(json, "direction", direction_name(metric));
		sba_json_string(json, "method", TYPE_UNIVARIATE);
		sba_json_number(json, "forest_score", metric->forest_score);
		sba_json_number(json, "deviation_sigma", metric->deviation_sigma);
		sba_json_close(json, '}');
	}
	for (i = 0; i < diagnosis->n_broken; i++)
	{
		const SbaRule *rule = diagnosis->broken[i].rule;
		bool		is_high = sba_rule_is_high(rule);

		sba_json_open(json, NULL, '{');
		sba_json_string(json, "name", sba_signal_name(rule->metric, is_high));
		sba_json_string(json, "direction", is_high ? "high" : "low");
		sba_json_string(json, "method", TYPE_RULE);
		write_rule(json, rule);
		sba_json_close(json, '}');
	}
	if (input->sample->model != NULL)
	{
		sba_json_open(json, NULL, '{');
		sba_json_string(json, "method", TYPE_MULTIVARIATE);
		sba_json_number(json, "forest_score", input->sample->verdict->forest_score);
		sba_json_close(json, '}');
	}
	sba_json_close(json, ']');
}

static void
write_texts(SbaJsonWriter *json, const char *key, char *const *texts, int n)
{
	int			i;

	sba_json_open(json, key, '[');
	for (i = 0; i < n; i++)
		sba_json_string(json, NULL, texts[i]);
	sba_json_close(json, ']');
}

/* What the patterns say; what there is to say without any that matches. */
static void
write_diagnosis(SbaJsonWriter *json, const SbaPayloadInput *input, int leading)
{
	const SbaDiagnosis *diagnosis = input->diagnosis;
	const SbaNamedPattern *best = diagnosis->n_matches > 0 ? diagnosis->match[0] : NULL;
	int			i;

	if (best != NULL)
		sba_json_string(json, "pattern", best->name);

	/*
	 * a pattern's words compare with what is expected, which a rule does not
	 * ask
	 */
	if (leading < 0)
		sba_json_string(json, "description", describe_rule(input, sba_leading_rule(diagnosis)));
	else
		sba_json_string(json, "description", best != NULL ? diagnosis->description : describe_signal(input, leading));
	if (best != NULL)
		sba_json_string(json, "interpretation", diagnosis->interpretation);
	else
		sba_json_string(json, "interpretation", leading >= 0 ? interpret_signal(input, leading) :
						"A limit that holds at any time is broken.");
	sba_json_string(json, "business_impact", diagnosis->business_impact);
	write_texts(json, "possible_causes", diagnosis->cause, best != NULL ? best->n_causes : 0);
	write_texts(json, "recommended_actions", diagnosis->action, best != NULL ? best->n_actions : 0);

	sba_json_open(json, "matched_patterns", '[');
	for (i = 0; best != NULL && i < diagnosis->n_matches; i++)
		sba_json_string(json, NULL, diagnosis->match[i]->name);
	sba_json_close(json, ']');
}

static const char *
type_of_anomaly(const SbaPayloadInput *input)
{
	int			n_signals = 0;
	int			m;

	if (!input->sample->verdict->is_anomaly)
		return TYPE_RULE;
	for (m = 0; m < input->sample->n_metrics; m++)
		n_signals += verdict_of(input, m)->is_signal;
	return input->sample->verdict->is_multivariate || n_signals > 1 ? TYPE_MULTIVARIATE : TYPE_UNIVARIATE;
}

static void
write_anomaly(SbaJsonWriter *json, const SbaPayloadInput *input)
{
	bool		is_high;
	const SbaRule *rule;
	int			leading = sba_name_anomaly(input->sample, input->diagnosis, input->sample->verdict->is_anomaly,
										   &is_high, &rule);
	int			m;

	sba_json_open(json, NULL, '{');
	sba_json_string(json, "type", type_of_anomaly(input));
	sba_json_string(json, "name", sba_signal_name(input->sample->metrics[leading].name, is_high));
	sba_json_string(json, "severity", sba_severity_name(input->severity));
	if (input->sample->model != NULL)
	{
		sba_json_number(json, "score", input->sample->verdict->score);
		sba_json_number(json, "confidence_score", input->confidence);
	}
	write_diagnosis(json, input, rule == NULL ? leading : -1);
	write_contributions(json, input);

	sba_json_open(json, "comparison", '{');
	for (m = 0; m < input->sample->n_metrics; m++)
	{
		if (!verdict_of(input, m)->present)
			continue;
		sba_json_open(json, input->sample->metrics[m].name, '{');
		write_comparison(json, input, m);
		sba_json_close(json, '}');
	}
	sba_json_close(json, '}');
	write_signals(json, input);
	sba_json_close(json, '}');
}

/* What every payload begins with. */
static void
write_head(SbaJsonWriter *json, const char *alert_type, const SbaService *service,
		   TimestampTz ts, const char *time_period, SbaSeverity severity, int anomaly_count)
{
	sba_json_init(json);
	sba_json_open(json, NULL, '{');
	sba_json_string(json, "alert_type", alert_type);
	sba_json_string(json, "service", service->name);
	sba_json_string(json, "timestamp", sba_iso_timestamp(ts));
	sba_json_string(json, "time_period", time_period);
	sba_json_string(json, "overall_severity", sba_severity_name(severity));
	sba_json_integer(json, "anomaly_count", anomaly_count);
}

/* Rules that this service would break all the time. */
static void
write_usual(SbaJsonWriter *json, const SbaDiagnosis *diagnosis)
{
	int			i;

	if (diagnosis->n_usual == 0)
		return;
	sba_json_open(json, "usual_beyond_rules", '[');
	for (i = 0; i < diagnosis->n_usual; i++)
	{
		sba_json_open(json, NULL, '{');
		write_rule(json, diagnosis->usual[i].rule);
		sba_json_close(json, '}');
	}
	sba_json_close(json, ']');
}

static void
write_model(SbaJsonWriter *json, const SbaPayloadInput *input)
{
	if (input->sample->model == NULL)
	{
		sba_json_null(json, "model");
		return;
	}
	sba_json_open(json, "model", '{');
	sba_json_integer(json, "version", input->model_version);
	sba_json_string(json, "trained_at", sba_iso_timestamp(input->model_trained_at));
	if (input->fallback_period != NULL)
		sba_json_string(json, "fallback", input->fallback_period);
	else
		sba_json_null(json, "fallback");
	sba_json_close(json, '}');
}

static void
write_drift(SbaJsonWriter *json, const SbaDrift *drift)
{
	if (drift == NULL)
		return;
	sba_json_open(json, "drift", '{');
	sba_json_string(json, "level", sba_drift_names[drift->level]);
	sba_json_number(json, "distance", drift->distance);
	sba_json_boolean(json, "retrain", drift->level != SBA_DRIFT_NONE);
	sba_json_close(json, '}');
}

static void
write_warnings(SbaJsonWriter *json, const List *warnings)
{
	ListCell   *cell;

	if (warnings == NIL)
		return;
	sba_json_open(json, "validation_warnings", '[');
	foreach(cell, warnings)
		sba_json_string(json, NULL, lfirst(cell));
	sba_json_close(json, ']');
}

Datum
sba_verdict_payload(const SbaPayloadInput *input)
{
	const SbaEvaluatedSample *sample = input->sample;
	SbaJsonWriter json;
	int			m;

	write_head(&json, input->is_anomaly ? "anomaly_detected" : "no_anomaly", sample->service,
			   sample->ts, sample->time_period, input->severity, input->is_anomaly ? 1 : 0);
	sba_json_open(&json, "anomalies", '[');
	if (input->is_anomaly)
		write_anomaly(&json, input);
	sba_json_close(&json, ']');

	sba_json_open(&json, "current_metrics", '{');
	for (m = 0; m < sample->n_metrics; m++)
		if (!isnan(sample->values[m]))
			sba_json_number(&json, sample->metrics[m].name, sample->values[m]);
		else
			sba_json_null(&json, sample->metrics[m].name);
	sba_json_close(&json, '}');

	write_model(&json, input);
	write_drift(&json, input->drift);
	if (input->is_muted)
		sba_json_string(&json, "muted", "maintenance");
	write_usual(&json, input->diagnosis);
	write_warnings(&json, input->warnings);
	sba_json_close(&json, '}');
	return sba_json_to_jsonb(&json);
}

Datum
sba_explanation_payload(const SbaPayloadInput *input)
{
	SbaJsonWriter json;
	int			m;

	sba_json_init(&json);
	sba_json_open(&json, NULL, '{');
	sba_json_open(&json, "explanation", '{');
	sba_json_number(&json, "score", input->sample->verdict->score);
	sba_json_number(&json, "confidence_score", input->confidence);
	sba_json_number(&json, "forest_score", input->sample->verdict->forest_score);
	sba_json_open(&json, "metrics", '[');
	for (m = 0; m < input->sample->n_metrics; m++)
	{
		if (!verdict_of(input, m)->present)
			continue;
		sba_json_open(&json, NULL, '{');
		sba_json_string(&json, "metric", input->sample->metrics[m].name);
		write_comparison(&json, input, m);
		sba_json_number(&json, "forest_score", verdict_of(input, m)->forest_score);
		sba_json_number(&json, "contribution", verdict_of(input, m)->contribution);
		sba_json_string(&json, "direction", direction_name(verdict_of(input, m)));
		sba_json_close(&json, '}');
	}
	sba_json_close(&json, ']');
	sba_json_close(&json, '}');
	sba_json_close(&json, '}');
	return sba_json_to_jsonb(&json);
}

Datum
sba_no_data_payload(const SbaService *service, TimestampTz ts, const char *time_period,
					TimestampTz last_sample, bool is_anomaly, const List *warnings)
{
	SbaJsonWriter json;
	char	   *since = last_sample != 0 ? sba_iso_timestamp(last_sample) : NULL;

	write_head(&json, "no_data", service, ts, time_period,
			   is_anomaly ? SBA_NO_DATA_SEVERITY : SBA_SEVERITY_NONE, is_anomaly ? 1 : 0);
	sba_json_open(&json, "anomalies", '[');
	if (is_anomaly)
	{
		sba_json_open(&json, NULL, '{');
		sba_json_string(&json, "type", "no_data");
		sba_json_string(&json, "name", "no_data");
		sba_json_string(&json, "severity", sba_severity_name(SBA_NO_DATA_SEVERITY));
		sba_json_string(&json, "description",
						psprintf("no metrics since %s, while other services report", since));
		sba_json_string(&json, "interpretation",
						"The service is down, was renamed, or its telemetry no longer arrives.");
		sba_json_close(&json, '}');
	}
	sba_json_close(&json, ']');
	if (since != NULL)
		sba_json_string(&json, "last_sample", since);
	write_warnings(&json, warnings);
	sba_json_close(&json, '}');
	return sba_json_to_jsonb(&json);
}

Datum
sba_error_payload(const SbaService *service, TimestampTz ts, const char *time_period,
				  const char *code, const char *message, const char *hint)
{
	SbaJsonWriter json;

	write_head(&json, "error", service, ts, time_period, SBA_SEVERITY_NONE, 0);
	sba_json_string(&json, "error_code", code);
	sba_json_string(&json, "error_message", message);
	sba_json_string(&json, "hint", hint);
	sba_json_close(&json, '}');
	return sba_json_to_jsonb(&json);
}
