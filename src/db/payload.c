/*
 * payload.c
 *	  The JSON that a detection returns and stores.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "db/payload.h"
#include "pg/json_writer.h"

#define TYPE_MULTIVARIATE	"multivariate_enhanced_isolation_forest"
#define TYPE_UNIVARIATE		"univariate_isolation_forest"

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

/* What is wrong: the metric and the way it went, whatever the pattern. */
static char *
signal_name(const SbaPayloadInput *input, int m)
{
	return psprintf("%s_%s", input->metrics[m].name, direction_name(&input->verdict->metric[m]));
}

/* The signal that contributes most names the anomaly. */
static int
leading_signal(const SbaPayloadInput *input)
{
	int			leading = -1;
	int			m;

	for (m = 0; m < input->n_metrics; m++)
		if (input->verdict->metric[m].is_signal &&
			(leading < 0 || input->verdict->metric[m].contribution > input->verdict->metric[leading].contribution))
			leading = m;
	return leading;
}

/* A value with its unit, for people: ratios as per cent. */
static char *
value_text(const SbaPayloadInput *input, int m, double value)
{
	if (input->metrics[m].kind == SBA_KIND_RATIO)
		return psprintf("%.3g %%", 100 * value);
	return psprintf("%.4g %s", value, input->units[m]);
}

static char *
describe(const SbaPayloadInput *input, int leading)
{
	const SbaMetricVerdict *metric = &input->verdict->metric[leading];
	const char *name = input->metrics[leading].name;
	double		value = input->values[leading];
	char	   *now = value_text(input, leading, value);
	char	   *expected = value_text(input, leading, metric->expected);

	if (metric->expected > 0 && value > 0 && input->metrics[leading].kind != SBA_KIND_RATIO)
		return psprintf("%s is %s, %.3g times the %s expected at this time of the week",
						name, now, value / metric->expected, expected);
	return psprintf("%s is %s, %s is expected at this time of the week", name, now, expected);
}

static char *
interpret(const SbaPayloadInput *input, int leading)
{
	const SbaMetricVerdict *metric = &input->verdict->metric[leading];

	if (input->verdict->is_multivariate)
		return psprintf("The combination of the metrics is rarer than any one of them alone; %s contributes most (%.0f %%).",
						input->metrics[leading].name, 100 * metric->contribution);
	return psprintf("%s is %.1f standard deviations %s what is usual at this time of the week.",
					input->metrics[leading].name, fabs(metric->deviation_sigma),
					metric->deviation_sigma < 0 ? "below" : "above");
}

static void
write_comparison(SbaJsonWriter *json, const SbaPayloadInput *input, int m)
{
	const SbaMetricVerdict *metric = &input->verdict->metric[m];

	sba_json_number(json, "value", input->values[m]);
	sba_json_number(json, "expected", metric->expected);
	sba_json_number(json, "lower", metric->lower);
	sba_json_number(json, "upper", metric->upper);
	sba_json_number(json, "deviation_sigma", metric->deviation_sigma);
	sba_json_number(json, "percentile", metric->percentile);
}

static void
write_anomaly(SbaJsonWriter *json, const SbaPayloadInput *input)
{
	int			leading = leading_signal(input);
	int			n_signals = 0;
	int			m;

	for (m = 0; m < input->n_metrics; m++)
		n_signals += input->verdict->metric[m].is_signal;

	sba_json_open(json, NULL, '{');
	sba_json_string(json, "type", input->verdict->is_multivariate || n_signals > 1 ?
					TYPE_MULTIVARIATE : TYPE_UNIVARIATE);
	sba_json_string(json, "name", signal_name(input, leading));
	sba_json_string(json, "severity", sba_severity_name(input->severity));
	sba_json_number(json, "score", input->verdict->score);
	sba_json_number(json, "confidence_score", input->confidence);
	sba_json_string(json, "description", describe(input, leading));
	sba_json_string(json, "interpretation", interpret(input, leading));

	sba_json_open(json, "contributions", '{');
	for (m = 0; m < input->n_metrics; m++)
		if (input->verdict->metric[m].present)
			sba_json_number(json, input->metrics[m].name, input->verdict->metric[m].contribution);
	sba_json_close(json, '}');

	sba_json_open(json, "comparison", '{');
	for (m = 0; m < input->n_metrics; m++)
	{
		if (!input->verdict->metric[m].present)
			continue;
		sba_json_open(json, input->metrics[m].name, '{');
		write_comparison(json, input, m);
		sba_json_close(json, '}');
	}
	sba_json_close(json, '}');

	sba_json_open(json, "detection_signals", '[');
	for (m = 0; m < input->n_metrics; m++)
	{
		const SbaMetricVerdict *metric = &input->verdict->metric[m];

		if (!metric->is_signal)
			continue;
		sba_json_open(json, NULL, '{');
		sba_json_string(json, "name", signal_name(input, m));
		sba_json_string(json, "metric", input->metrics[m].name);
		sba_json_string(json, "direction", direction_name(metric));
		sba_json_string(json, "method", TYPE_UNIVARIATE);
		sba_json_number(json, "forest_score", metric->forest_score);
		sba_json_number(json, "deviation_sigma", metric->deviation_sigma);
		sba_json_close(json, '}');
	}
	sba_json_open(json, NULL, '{');
	sba_json_string(json, "method", TYPE_MULTIVARIATE);
	sba_json_number(json, "forest_score", input->verdict->forest_score);
	sba_json_close(json, '}');
	sba_json_close(json, ']');
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

Datum
sba_verdict_payload(const SbaPayloadInput *input)
{
	SbaJsonWriter json;
	bool		is_anomaly = input->verdict->is_anomaly;
	ListCell   *cell;
	int			m;

	write_head(&json, is_anomaly ? "anomaly_detected" : "no_anomaly", input->service,
			   input->ts, input->time_period, input->severity, is_anomaly ? 1 : 0);
	sba_json_open(&json, "anomalies", '[');
	if (is_anomaly)
		write_anomaly(&json, input);
	sba_json_close(&json, ']');

	sba_json_open(&json, "current_metrics", '{');
	for (m = 0; m < input->n_metrics; m++)
		if (input->verdict->metric[m].present || !isnan(input->values[m]))
			sba_json_number(&json, input->metrics[m].name, input->values[m]);
		else
			sba_json_null(&json, input->metrics[m].name);
	sba_json_close(&json, '}');

	sba_json_open(&json, "model", '{');
	sba_json_integer(&json, "version", input->model_version);
	sba_json_string(&json, "trained_at", sba_iso_timestamp(input->model_trained_at));
	if (input->fallback_period != NULL)
		sba_json_string(&json, "fallback", input->fallback_period);
	else
		sba_json_null(&json, "fallback");
	sba_json_close(&json, '}');

	if (input->warnings != NIL)
	{
		sba_json_open(&json, "validation_warnings", '[');
		foreach(cell, input->warnings)
			sba_json_string(&json, NULL, lfirst(cell));
		sba_json_close(&json, ']');
	}
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
	sba_json_number(&json, "score", input->verdict->score);
	sba_json_number(&json, "confidence_score", input->confidence);
	sba_json_number(&json, "forest_score", input->verdict->forest_score);
	sba_json_open(&json, "metrics", '[');
	for (m = 0; m < input->n_metrics; m++)
	{
		if (!input->verdict->metric[m].present)
			continue;
		sba_json_open(&json, NULL, '{');
		sba_json_string(&json, "metric", input->metrics[m].name);
		write_comparison(&json, input, m);
		sba_json_number(&json, "forest_score", input->verdict->metric[m].forest_score);
		sba_json_number(&json, "contribution", input->verdict->metric[m].contribution);
		sba_json_string(&json, "direction", direction_name(&input->verdict->metric[m]));
		sba_json_close(&json, '}');
	}
	sba_json_close(&json, ']');
	sba_json_close(&json, '}');
	sba_json_close(&json, '}');
	return sba_json_to_jsonb(&json);
}

Datum
sba_no_data_payload(const SbaService *service, TimestampTz ts, const char *time_period,
					TimestampTz last_sample, bool is_anomaly)
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
