/*
 * judge.c
 *	  The verdict on one sample: its model, its features, rules and patterns.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/follower.h"
#include "db/judge.h"
#include "db/payload.h"
#include "db/samples.h"
#include "pg/query.h"
#include "pg/settings.h"

/* A model that serves for another period is trusted less. */
#define FALLBACK_CONFIDENCE 0.85

/* What becomes of the minimum deviations and the budget in busy times. */
#define BUSY_DEVIATION_FACTOR	2.0
#define BUSY_BUDGET_SHARE		0.1

static SbaQuery fallback_query = {
	.text = "SELECT f.time_period"
	" FROM pg_catalog.unnest(smartbox.fallback_periods($2)) WITH ORDINALITY AS f(time_period, place)"
	" WHERE EXISTS (SELECT FROM smartbox.models m"
	" WHERE m.service = $1 AND m.time_period = f.time_period AND m.is_active)"
	" ORDER BY f.place LIMIT 1",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery active_incident_query = {
	.text = "SELECT 1 FROM smartbox.incidents WHERE service = $1 AND status <> 'CLOSED' LIMIT 1",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

const SbaActiveModel *
sba_find_model(const SbaService *service, const char *time_period, const char **fallback_period)
{
	const SbaActiveModel *active = sba_active_model(service->name, time_period);
	Datum		arguments[2];

	*fallback_period = NULL;
	if (active != NULL)
		return active;
	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = CStringGetTextDatum(time_period);
	sba_query_run(&fallback_query, arguments, NULL, 1);
	if (SPI_processed == 0)
		return NULL;
	*fallback_period = sba_result_text(0, 1);
	return sba_active_model(service->name, *fallback_period);
}

void
sba_match_metrics(const SbaMetricCatalog *catalog, const SbaModel *model,
				  SbaMetric *metrics, const char **units, int *catalog_index)
{
	int			m;
	int			c;

	for (m = 0; m < model->n_metrics; m++)
	{
		for (c = 0; c < catalog->n_metrics; c++)
			if (strcmp(catalog->metric[c].name, model->metric[m].name) == 0 &&
				catalog->metric[c].kind == model->metric[m].kind)
				break;
		memset(&metrics[m], 0, sizeof(SbaMetric));
		catalog_index[m] = c < catalog->n_metrics ? c : -1;
		units[m] = "";
		if (c < catalog->n_metrics)
		{
			metrics[m] = catalog->metric[c];
			units[m] = catalog->unit[c];
		}
		metrics[m].name = model->metric[m].name;
		metrics[m].kind = model->metric[m].kind;
	}
}

/* Features of the sample, and the samples before it that they are judged by. */
static SbaSampleSeries *
compute_features(const SbaDetectionPass *detection, const SbaService *service, const SbaActiveModel *active,
				 const SbaMetric *metrics, const int *catalog_index, const SbaReadSample *sample,
				 const double *values, SbaFeatures *features)
{
	SbaSampleSeries *series = sba_load_samples(detection->catalog, detection->periods, service,
											   sba_seconds_before(sample->ts, SBA_TRACKER_SPAN_S), sample->ts - 1);
	const SbaTracker *tracker;

	sba_calendar_apply_holidays(sample->calendar, detection->periods, series);
	tracker = sba_follow_service(service, active, metrics, catalog_index, series);
	sba_tracker_features(tracker, sample->ts / USECS_PER_SEC, sample->minute_of_week, values, features);
	return series;
}

/*
 * Whether the last 24 hours in the period still look like those that the model
 * was trained on.
 */
static void
measure_drift(const SbaDetectionPass *detection, const SbaModel *model, const int *catalog_index,
			  const SbaSampleSeries *series, const SbaReadSample *sample, SbaDrift *drift)
{
	int64		since_s = sample->ts / USECS_PER_SEC - SBA_LEVEL_SPAN_S;
	SbaDriftWindow window = {0};
	size_t		row;

	for (row = 0; row < series->n_rows; row++)
	{
		double		values[SBA_MAX_METRICS];
		int			m;

		if (series->time_s[row] <= since_s ||
			strcmp(detection->periods->name[series->period[row]], sample->time_period) != 0)
			continue;
		sba_order_values(series->values + row * series->n_metrics, catalog_index, model->n_metrics, values);
		for (m = 0; m < model->n_metrics; m++)
			values[m] = sba_drift_standing(model->metric[m].kind, &model->metric[m].baseline,
										   series->minute_of_week[row], values[m]);
		sba_drift_window_add(&window, model->n_metrics, values);
	}
	sba_drift_measure(&model->drift, model->n_metrics, &window, drift);
}

static bool
is_warned_of(const List *warnings, const char *metric)
{
	size_t		length = strlen(metric);
	ListCell   *cell;

	foreach(cell, warnings)
	{
		const char *warning = lfirst(cell);

		if (strncmp(warning, metric, length) == 0 && warning[length] == ':')
			return true;
	}
	return false;
}

/*
 * The share of the metrics which the service usually has that the sample does
 * have, and a warning for each that it lacks.  A metric of which it is known
 * that nothing happened is there; one that is often missing is not missed.
 */
static double
share_of_metrics(const SbaActiveModel *active, const int *catalog_index, SbaReadSample *sample)
{
	int			n_usual = 0;
	int			n_missing = 0;
	int			m;

	for (m = 0; m < active->model.n_metrics; m++)
	{
		const SbaMetricModel *metric = &active->model.metric[m];

		/* NOLINTNEXTLINE: sba_match_metrics() has filled it */
		int			c = catalog_index[m];

		if (!metric->baseline.known || active->is_sporadic[m] || c < 0)
			continue;
		n_usual++;
		if (!isnan(sample->values[c]) || sample->idle[c])
			continue;
		n_missing++;
		if (!is_warned_of(sample->warnings, metric->name))
			sample->warnings = lappend(sample->warnings,
									   psprintf("%s: unknown, which it usually is not", metric->name));
	}
	return n_usual > 0 ? 1 - (double) n_missing / n_usual : 1;
}

double
sba_verdict_confidence(const SbaModel *model, const SbaVerdict *verdict, double period_confidence,
					   double metrics_share, bool is_fallback)
{
	double		confidence = period_confidence * metrics_share *
	sba_model_confidence(model, verdict->is_multivariate);

	return is_fallback ? confidence * FALLBACK_CONFIDENCE : confidence;
}

/* Say what was found, in the payload and in the columns beside it. */
static void
conclude(const SbaDetectionPass *detection, const SbaReadSample *sample, SbaEvaluation *evaluation,
		 SbaPayloadInput *input, SbaOutcome *outcome)
{
	SbaDiagnosis *diagnosis = &evaluation->diagnosis;
	bool		by_score = evaluation->verdict.is_anomaly;

	outcome->is_anomaly = !sample->is_muted && (by_score || diagnosis->n_broken > 0);
	if (outcome->is_anomaly)
	{
		sba_diagnose(&evaluation->sample, diagnosis);
		outcome->severity = sba_diagnosed_severity(diagnosis, by_score ?
												   sba_severity_of_score(evaluation->verdict.score) : SBA_SEVERITY_NONE);
	}
	input->sample = &evaluation->sample;
	input->diagnosis = diagnosis;
	input->is_anomaly = outcome->is_anomaly;
	input->severity = outcome->severity;
	input->warnings = sample->warnings;
	input->is_muted = sample->is_muted;
	outcome->payload = sba_verdict_payload(input);
	if (detection->verbose && evaluation->active != NULL)
		outcome->explanation = sba_explanation_payload(input);
}

double
sba_relax(SbaMetric *metrics, int n_metrics, double budget)
{
	int			m;

	for (m = 0; m < n_metrics; m++)
	{
		metrics[m].min_absolute_deviation *= BUSY_DEVIATION_FACTOR;
		metrics[m].min_relative_deviation *= BUSY_DEVIATION_FACTOR;
	}
	return budget * BUSY_BUDGET_SHARE;
}

/* Hold a sample against the rules alone, its metrics in the catalog's order. */
static void
evaluate_without_model(const SbaDetectionPass *detection, const SbaReadSample *sample, SbaEvaluation *evaluation)
{
	const SbaMetricCatalog *catalog = detection->catalog;
	int			m;

	for (m = 0; m < catalog->n_metrics; m++)
	{
		evaluation->metrics[m] = catalog->metric[m];
		evaluation->units[m] = catalog->unit[m];
		evaluation->catalog_index[m] = m;
		evaluation->values[m] = sample->values[m];
	}
	evaluation->sample.n_metrics = catalog->n_metrics;
}

static void
evaluate_by_model(const SbaDetectionPass *detection, const SbaService *service, const SbaReadSample *sample,
				  SbaEvaluation *evaluation)
{
	const SbaModel *model = &evaluation->active->model;
	SbaEvaluatedSample *evaluated = &evaluation->sample;

	sba_match_metrics(detection->catalog, model, evaluation->metrics, evaluation->units, evaluation->catalog_index);
	sba_order_values(sample->values, evaluation->catalog_index, model->n_metrics, evaluation->values);
	sba_raise_bars(detection->bars, service, evaluation->metrics, model->n_metrics);
	if (sba_calendar_lookup(sample->calendar, SBA_CALENDAR_BUSY, sample->ts))
		evaluation->budget = sba_relax(evaluation->metrics, model->n_metrics, evaluation->budget);
	evaluated->history = compute_features(detection, service, evaluation->active, evaluation->metrics,
										  evaluation->catalog_index, sample, evaluation->values,
										  &evaluation->features);
	sba_model_evaluate(model, evaluation->metrics, evaluation->values, &evaluation->features, evaluation->budget,
					   &evaluation->verdict);
	sba_model_explain(model, &evaluation->features, &evaluation->verdict);
	evaluated->n_metrics = model->n_metrics;
	evaluated->model = model;
	evaluated->features = &evaluation->features;
	evaluated->catalog_index = evaluation->catalog_index;
}

void
sba_evaluate_sample(const SbaDetectionPass *detection, const SbaService *service, const SbaReadSample *sample,
					SbaEvaluation *evaluation)
{
	SbaEvaluatedSample *evaluated = &evaluation->sample;

	memset(evaluation, 0, sizeof(*evaluation));
	evaluated->service = service;
	evaluated->ts = sample->ts;
	evaluated->time_period = sample->time_period;
	evaluated->minute_of_week = sample->minute_of_week;
	evaluated->metrics = evaluation->metrics;
	evaluated->units = evaluation->units;
	evaluated->values = evaluation->values;
	evaluated->verdict = &evaluation->verdict;
	evaluation->budget = sba_budget_probability(service);
	evaluation->active = sba_find_model(service, sample->time_period, &evaluation->fallback_period);
	if (evaluation->active != NULL)
		evaluate_by_model(detection, service, sample, evaluation);
	else
		evaluate_without_model(detection, sample, evaluation);
	sba_check_rules(evaluated, &evaluation->diagnosis);
}

/*
 * Without a model only rules have a say.  That none is broken is worth a row
 * only where an incident waits for its end.
 */
static void
conclude_without_model(const SbaDetectionPass *detection, const SbaReadSample *sample, SbaEvaluation *evaluation,
					   SbaOutcome *outcome)
{
	const SbaService *service = evaluation->sample.service;
	SbaPayloadInput input = {0};
	Datum		argument = CStringGetTextDatum(service->name);

	conclude(detection, sample, evaluation, &input, outcome);
	if (outcome->is_anomaly)
		return;
	sba_query_run(&active_incident_query, &argument, NULL, 1);
	if (SPI_processed > 0)
		return;
	outcome->is_new = false;
	outcome->payload = sba_error_payload(service, sample->ts, sample->time_period, "MODEL_NOT_FOUND",
										 "no model of this service was trained and accepted",
										 "Call train_models(), and look at smartbox.model_status.");
}

void
sba_judge_sample(const SbaDetectionPass *detection, const SbaService *service, SbaReadSample *sample, SbaOutcome *outcome)
{
	SbaPayloadInput input = {0};
	SbaDrift	drift = {0};
	SbaEvaluation evaluation;
	const SbaActiveModel *active;

	sba_evaluate_sample(detection, service, sample, &evaluation);
	active = evaluation.active;
	if (active == NULL)
	{
		conclude_without_model(detection, sample, &evaluation, outcome);
		return;
	}
	if (evaluation.fallback_period == NULL)
		measure_drift(detection, &active->model, evaluation.catalog_index, evaluation.sample.history, sample, &drift);

	outcome->has_model = true;
	outcome->score = evaluation.verdict.score;
	outcome->confidence = sba_drift_confidence[drift.level] *
		sba_verdict_confidence(&active->model, &evaluation.verdict, sample->period_confidence,
							   share_of_metrics(active, evaluation.catalog_index, sample),
							   evaluation.fallback_period != NULL);
	outcome->model_version = active->version;

	input.fallback_period = evaluation.fallback_period;
	input.confidence = outcome->confidence;
	input.model_version = active->version;
	input.model_trained_at = active->trained_at;
	if (active->model.drift.known && evaluation.fallback_period == NULL)
		input.drift = &drift;
	conclude(detection, sample, &evaluation, &input, outcome);
}
