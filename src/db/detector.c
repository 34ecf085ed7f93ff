/*
 * detector.c
 *	  Judging samples and recording the verdicts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/validation.h"
#include "db/detector.h"
#include "db/diagnosis.h"
#include "db/model_store.h"
#include "db/objectives.h"
#include "db/payload.h"
#include "db/root_causes.h"
#include "db/samples.h"
#include "pg/query.h"
#include "pg/settings.h"

/* A model that serves for another period is trusted less. */
#define FALLBACK_CONFIDENCE 0.85

/* Intervals without a sample after which a service is silent. */
#define SILENT_INTERVALS 2

static SbaQuery newest_time_query = {
	.text = "SELECT pg_catalog.max(ts) FROM smartbox.samples WHERE ts <= $1",
	.n_arguments = 1,
	.argument_types = {TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery newest_sample_query = {
	.text = "SELECT ts, metric_values, warnings FROM smartbox.samples"
	" WHERE service = $1 AND ts <= $2"
	" AND EXISTS (SELECT FROM pg_catalog.unnest(metric_values) AS v WHERE v < 'NaN')"
	" ORDER BY ts DESC LIMIT 2",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

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

static SbaQuery others_report_query = {
	.text = "SELECT 1 FROM smartbox.samples WHERE ts > $1 AND ts <= $2 LIMIT 1",
	.n_arguments = 2,
	.argument_types = {TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery stored_payload_query = {
	.text = "SELECT payload FROM smartbox.detections WHERE service = $1 AND ts = $2",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery active_incident_query = {
	.text = "SELECT 1 FROM smartbox.incidents WHERE service = $1 AND status <> 'CLOSED' LIMIT 1",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery record_query = {
	.text = "INSERT INTO smartbox.detections"
	" (service, ts, time_period, score, severity, is_anomaly, no_data, confidence, model_version, payload)"
	" SELECT n.service, n.ts, n.time_period, n.score, n.severity::smartbox.severity,"
	" n.is_anomaly, n.no_data, n.confidence, n.model_version, n.payload"
	" FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::timestamptz[]),"
	" pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::float8[]), pg_catalog.unnest($5::text[]),"
	" pg_catalog.unnest($6::bool[]), pg_catalog.unnest($7::bool[]), pg_catalog.unnest($8::float8[]),"
	" pg_catalog.unnest($9::int4[]), pg_catalog.unnest($10::jsonb[]))"
	" AS n(service, ts, time_period, score, severity, is_anomaly, no_data, confidence, model_version, payload)"
	" RETURNING service, payload",
	.n_arguments = 10,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, TEXTARRAYOID,
	BOOLARRAYOID, BOOLARRAYOID, FLOAT8ARRAYOID, INT4ARRAYOID, JSONBARRAYOID},
	.expected = SPI_OK_INSERT_RETURNING,
};

/* What is to be recorded for one service, and what it returns. */
typedef struct Outcome
{
	TimestampTz ts;
	const char *time_period;
	bool		is_new;			/* to be recorded */
	bool		is_anomaly;
	bool		no_data;
	bool		has_model;		/* score, confidence and model_version hold */
	double		score;
	SbaSeverity severity;
	double		confidence;
	int			model_version;
	Datum		payload;
	Datum		explanation;	/* 0 when not asked for */
} Outcome;

/* A sample as it was read, with its model. */
typedef struct Sample
{
	TimestampTz ts;
	int			minute_of_week;
	const char *time_period;
	double		period_confidence;
	double		values[SBA_MAX_METRICS];	/* in the catalog's order */
	bool		idle[SBA_MAX_METRICS];	/* known: nothing happened */
	bool		is_flat;		/* only repeats the one at flat_since */
	TimestampTz flat_since;
	List	   *warnings;
} Sample;

typedef struct Detection
{
	const SbaMetricCatalog *catalog;
	const SbaPeriodMap *periods;
	const SbaObjectives *objectives;
	TimestampTz until;			/* the cycle's instant */
	TimestampTz silent_before;	/* no sample after this one: silent */
	bool		others_report;
	bool		verbose;
} Detection;

static TimestampTz
seconds_before(TimestampTz ts, int64 seconds)
{
	return ts - seconds * USECS_PER_SEC;
}

/* Find out since when a sample that equals the one before is repeated. */
static void
check_repetition(const Detection *detection, const SbaService *service, Sample *sample)
{
	int			n_repeats = sba_count_repeats(detection->catalog, detection->periods, service,
											  sample->ts, &sample->flat_since);

	if (n_repeats == 0)
		return;
	sample->is_flat = n_repeats + 1 >= SBA_FLAT_LINE_SAMPLES;
	sample->warnings = lappend(sample->warnings,
							   psprintf("every metric repeats its value of %s exactly, %d %s in a row%s",
										sba_iso_timestamp(sample->flat_since), n_repeats,
										n_repeats == 1 ? "time" : "times",
										sample->is_flat ? ": this is no data" : ""));
}

/*
 * Read the newest sample up to the cycle's instant in which anything is known;
 * false when there is none.
 */
static bool
read_sample(const Detection *detection, const SbaService *service, Sample *sample)
{
	Datum		arguments[2];
	Datum		value;
	bool		is_null;
	bool		is_repeat = false;

	memset(sample, 0, sizeof(*sample));
	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(detection->until);
	sba_query_run(&newest_sample_query, arguments, NULL, 2);
	if (SPI_processed == 0)
		return false;
	sample->ts = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	value = sba_result_datum(0, 3, &is_null);
	if (!is_null)
	{
		Datum	   *texts;
		bool	   *nulls;
		int			n;
		int			i;

		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
		for (i = 0; i < n; i++)
			if (!nulls[i])
				sample->warnings = lappend(sample->warnings, TextDatumGetCString(texts[i]));
	}
	value = sba_result_datum(0, 2, &is_null);
	sba_read_metric_values(detection->catalog, DatumGetArrayTypeP(value), sample->values,
						   sample->idle, &sample->warnings);
	if (SPI_processed > 1)
	{
		double		earlier[SBA_MAX_METRICS];

		value = sba_result_datum(1, 2, &is_null);
		sba_read_metric_values(detection->catalog, DatumGetArrayTypeP(value), earlier, NULL, NULL);
		is_repeat = sba_is_repeat(sample->values, earlier, detection->catalog->n_metrics);
	}
	SPI_freetuptable(SPI_tuptable);
	if (is_repeat)
		check_repetition(detection, service, sample);
	return true;
}

/* Find out which period an instant belongs to. */
static void
place_in_week(const Detection *detection, const SbaService *service, TimestampTz ts, Sample *sample)
{
	int			period;

	sample->minute_of_week = sba_minute_of_week(ts, service->time_zone);
	period = sba_period_of_minute(detection->periods, sample->minute_of_week);
	sample->time_period = detection->periods->name[period];
	sample->period_confidence = detection->periods->confidence[period];
}

/* The period's model, or the one that serves instead, with its period's name. */
static const SbaActiveModel *
find_model(const SbaService *service, const char *time_period, const char **fallback_period)
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

/*
 * Describe the model's metrics in the model's order, and where the catalog has
 * them; -1 for a metric that is no longer watched.
 */
static void
match_metrics(const SbaMetricCatalog *catalog, const SbaModel *model,
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

static void
reorder_values(const double *by_catalog, const int *catalog_index, int n_metrics, double *values)
{
	int			m;

	for (m = 0; m < n_metrics; m++)
	{
		/* NOLINTNEXTLINE: match_metrics() has filled it */
		int			c = catalog_index[m];

		values[m] = c < 0 ? NAN : by_catalog[c];
	}
}

/* Features of the sample, from the 24 hours of samples before it, which it returns. */
static SbaSampleSeries *
compute_features(const Detection *detection, const SbaService *service, const SbaModel *model,
				 const SbaMetric *metrics, const int *catalog_index, const Sample *sample,
				 const double *values, SbaFeatures *features)
{
	SbaBaseline baselines[SBA_MAX_METRICS];
	SbaLevelWindow window;
	SbaSampleSeries *series = sba_load_samples(detection->catalog, detection->periods, service,
											   seconds_before(sample->ts, SBA_LEVEL_SPAN_S), sample->ts - 1);
	Size		capacity = Max(series->n_rows, 1);
	size_t		row;
	int			m;

	for (m = 0; m < model->n_metrics; m++)
		baselines[m] = model->metric[m].baseline;
	sba_level_window_init(&window, model->n_metrics, capacity,
						  palloc(sba_level_window_size(model->n_metrics, capacity)));
	for (row = 0; row < series->n_rows; row++)
	{
		double		earlier[SBA_MAX_METRICS];

		reorder_values(series->values + row * series->n_metrics, catalog_index, model->n_metrics, earlier);
		sba_level_window_add(&window, metrics, baselines, series->time_s[row],
							 series->minute_of_week[row], earlier);
	}
	sba_compute_features(metrics, baselines, &window, sample->minute_of_week,
						 sba_sample_interval_s, values, features);
	return series;
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
share_of_metrics(const SbaActiveModel *active, const int *catalog_index, Sample *sample)
{
	int			n_usual = 0;
	int			n_missing = 0;
	int			m;

	for (m = 0; m < active->model.n_metrics; m++)
	{
		const SbaMetricModel *metric = &active->model.metric[m];
		/* NOLINTNEXTLINE: match_metrics() has filled it */
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

/* How far the verdict can be trusted, 0..1. */
static double
confidence_of(const Sample *sample, const SbaModel *model, const SbaVerdict *verdict,
			  double metrics_share, bool is_fallback)
{
	double		confidence = sample->period_confidence * metrics_share *
	sba_model_confidence(model, verdict->is_multivariate);

	return is_fallback ? confidence * FALLBACK_CONFIDENCE : confidence;
}

/* Say what was found, in the payload and in the columns beside it. */
static void
conclude(const Detection *detection, const Sample *sample, const SbaEvaluatedSample *evaluated,
		 SbaDiagnosis *diagnosis, SbaPayloadInput *input, Outcome *outcome)
{
	bool		by_score = evaluated->verdict->is_anomaly;

	outcome->is_anomaly = by_score || diagnosis->n_broken > 0;
	if (outcome->is_anomaly)
	{
		sba_diagnose(evaluated, diagnosis);
		outcome->severity = sba_diagnosed_severity(diagnosis, by_score ?
												   sba_severity_of_score(evaluated->verdict->score) : SBA_SEVERITY_NONE);
	}
	input->sample = evaluated;
	input->diagnosis = diagnosis;
	input->is_anomaly = outcome->is_anomaly;
	input->severity = outcome->severity;
	input->warnings = sample->warnings;
	outcome->payload = sba_verdict_payload(input);
	if (detection->verbose && evaluated->model != NULL)
		outcome->explanation = sba_explanation_payload(input);
}

/*
 * Without a model only rules have a say.  That none is broken is worth a row
 * only where an incident waits for its end.
 */
static void
judge_without_model(const Detection *detection, const SbaService *service, const Sample *sample, Outcome *outcome)
{
	SbaPayloadInput input = {0};
	SbaVerdict	nothing = {0};
	SbaDiagnosis diagnosis;
	SbaEvaluatedSample evaluated = {0};
	Datum		argument = CStringGetTextDatum(service->name);

	evaluated.service = service;
	evaluated.ts = sample->ts;
	evaluated.time_period = sample->time_period;
	evaluated.minute_of_week = sample->minute_of_week;
	evaluated.n_metrics = detection->catalog->n_metrics;
	evaluated.metrics = detection->catalog->metric;
	evaluated.units = detection->catalog->unit;
	evaluated.values = sample->values;
	evaluated.verdict = &nothing;
	sba_check_rules(&evaluated, &diagnosis);
	conclude(detection, sample, &evaluated, &diagnosis, &input, outcome);
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

static void
judge_sample(const Detection *detection, const SbaService *service, Sample *sample, Outcome *outcome)
{
	SbaPayloadInput input = {0};
	SbaEvaluatedSample evaluated = {0};
	SbaMetric	metrics[SBA_MAX_METRICS];
	const char *units[SBA_MAX_METRICS];
	int			catalog_index[SBA_MAX_METRICS];
	double		values[SBA_MAX_METRICS];
	SbaFeatures features;
	SbaVerdict	verdict;
	SbaDiagnosis diagnosis;
	const SbaActiveModel *active = find_model(service, sample->time_period, &input.fallback_period);

	if (active == NULL)
	{
		judge_without_model(detection, service, sample, outcome);
		return;
	}
	match_metrics(detection->catalog, &active->model, metrics, units, catalog_index);
	reorder_values(sample->values, catalog_index, active->model.n_metrics, values);
	evaluated.history = compute_features(detection, service, &active->model, metrics, catalog_index,
										 sample, values, &features);
	sba_model_evaluate(&active->model, metrics, values, &features, sba_budget_probability(service), &verdict);

	outcome->has_model = true;
	outcome->score = verdict.score;
	outcome->confidence = confidence_of(sample, &active->model, &verdict,
										share_of_metrics(active, catalog_index, sample),
										input.fallback_period != NULL);
	outcome->model_version = active->version;

	evaluated.service = service;
	evaluated.ts = sample->ts;
	evaluated.time_period = sample->time_period;
	evaluated.minute_of_week = sample->minute_of_week;
	evaluated.n_metrics = active->model.n_metrics;
	evaluated.metrics = metrics;
	evaluated.units = units;
	evaluated.values = values;
	evaluated.verdict = &verdict;
	evaluated.model = &active->model;
	evaluated.features = &features;
	evaluated.catalog_index = catalog_index;
	sba_check_rules(&evaluated, &diagnosis);
	if (verdict.is_anomaly || diagnosis.n_broken > 0 || detection->verbose)
		sba_model_explain(&active->model, &features, &verdict);
	input.confidence = outcome->confidence;
	input.model_version = active->version;
	input.model_trained_at = active->trained_at;
	conclude(detection, sample, &evaluated, &diagnosis, &input, outcome);
}

/* The payload that was stored for this instant; 0 when there is none. */
static Datum
stored_payload(const SbaService *service, TimestampTz ts)
{
	Datum		arguments[2];
	bool		is_null;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(ts);
	sba_query_run(&stored_payload_query, arguments, NULL, 1);
	return SPI_processed == 0 ? (Datum) 0 : sba_result_datum(0, 1, &is_null);
}

/* Values that are out of range are no data either. */
static bool
any_value_is_usable(const SbaMetricCatalog *catalog, const Sample *sample)
{
	int			m;

	for (m = 0; m < catalog->n_metrics; m++)
		if (!isnan(sample->values[m]))
			return true;
	return false;
}

/* Objectives have the last word, and one when there is no model. */
static void
apply_objectives(const Detection *detection, const SbaService *service, const Sample *sample, Outcome *outcome)
{
	SbaJudgement judgement = {outcome->is_anomaly, outcome->severity, outcome->payload};

	if (!sba_apply_objectives(detection->objectives, service, sample->ts, sample->values, &judgement))
		return;
	outcome->is_new = true;
	outcome->is_anomaly = judgement.is_anomaly;
	outcome->severity = judgement.severity;
	outcome->payload = judgement.payload;
}

static void
detect_one(const Detection *detection, const SbaService *service, Outcome *outcome)
{
	Sample		sample;
	bool		has_sample = read_sample(detection, service, &sample);
	bool		is_silent;
	Datum		stored;

	memset(outcome, 0, sizeof(*outcome));
	is_silent = !has_sample || sample.ts <= detection->silent_before;
	outcome->no_data = is_silent || sample.is_flat || !any_value_is_usable(detection->catalog, &sample);
	outcome->ts = is_silent ? detection->until : sample.ts;
	place_in_week(detection, service, outcome->ts, &sample);
	outcome->time_period = sample.time_period;

	stored = stored_payload(service, outcome->ts);
	outcome->is_new = stored == (Datum) 0;
	if (!outcome->no_data)
	{
		if (outcome->is_new || detection->verbose)
			judge_sample(detection, service, &sample, outcome);
		if (stored == (Datum) 0)
			apply_objectives(detection, service, &sample, outcome);
	}
	else if (outcome->is_new)
	{
		/* a service that never reported has not fallen silent */
		outcome->is_anomaly = has_sample && is_silent && detection->others_report;
		outcome->is_new = has_sample;
		outcome->severity = outcome->is_anomaly ? SBA_NO_DATA_SEVERITY : SBA_SEVERITY_NONE;
		outcome->payload = sba_no_data_payload(service, outcome->ts, outcome->time_period,
											   !has_sample ? 0 : sample.is_flat ? sample.flat_since : sample.ts,
											   outcome->is_anomaly, sample.warnings);
	}
	if (stored != (Datum) 0)
	{
		outcome->is_new = false;
		outcome->payload = stored;
	}
}

/* An array for unnest(). */
static Datum
column_array(Datum *values, bool *nulls, int n, Oid type, int length, bool by_value, char align)
{
	int			one_dimension = 1;

	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &one_dimension,
											  type, length, by_value, align));
}

/*
 * Record what is new, in one statement, take the payloads as the triggers
 * completed them, and look for what is behind the incidents that they moved.
 */
static void
record(const SbaService *services, Outcome *outcomes, int n_services)
{
	int			n = 0;
	Datum	   *columns[10];
	bool	   *no_model = palloc(sizeof(bool) * n_services);
	Datum	   *recorded = palloc(sizeof(Datum) * n_services);
	Datum		arguments[10];
	int			n_recorded;
	int			row;
	int			i;
	int			c;

	for (c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(Datum) * n_services);
	for (i = 0; i < n_services; i++)
	{
		const Outcome *outcome = &outcomes[i];

		if (!outcome->is_new)
			continue;
		columns[0][n] = CStringGetTextDatum(services[i].name);
		columns[1][n] = TimestampTzGetDatum(outcome->ts);
		columns[2][n] = CStringGetTextDatum(outcome->time_period);
		columns[3][n] = Float8GetDatum(outcome->score);
		columns[4][n] = CStringGetTextDatum(sba_severity_name(outcome->severity));
		columns[5][n] = BoolGetDatum(outcome->is_anomaly);
		columns[6][n] = BoolGetDatum(outcome->no_data);
		columns[7][n] = Float8GetDatum(outcome->confidence);
		columns[8][n] = Int32GetDatum(outcome->model_version);
		columns[9][n] = outcome->payload;
		no_model[n++] = !outcome->has_model;
	}
	if (n == 0)
		return;

	arguments[0] = column_array(columns[0], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	arguments[1] = column_array(columns[1], NULL, n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	arguments[2] = column_array(columns[2], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	arguments[3] = column_array(columns[3], no_model, n, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	arguments[4] = column_array(columns[4], NULL, n, TEXTOID, -1, false, TYPALIGN_INT);
	arguments[5] = column_array(columns[5], NULL, n, BOOLOID, 1, true, TYPALIGN_CHAR);
	arguments[6] = column_array(columns[6], NULL, n, BOOLOID, 1, true, TYPALIGN_CHAR);
	arguments[7] = column_array(columns[7], no_model, n, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	arguments[8] = column_array(columns[8], no_model, n, INT4OID, 4, true, TYPALIGN_INT);
	arguments[9] = column_array(columns[9], NULL, n, JSONBOID, -1, false, TYPALIGN_INT);
	sba_query_run(&record_query, arguments, NULL, 0);

	/* services and returned rows are in the same order */
	n_recorded = (int) SPI_processed;
	for (row = 0, i = 0; row < n_recorded; row++, i++)
	{
		char	   *name = sba_result_text(row, 1);
		bool		is_null;

		while (strcmp(services[i].name, name) != 0)
			i++;
		recorded[row] = CStringGetTextDatum(name);
		outcomes[i].payload = sba_result_datum(row, 2, &is_null);
		outcomes[i].is_new = false;
	}

	/* what another session recorded meanwhile stays as that one has it */
	for (i = 0; i < n_services; i++)
		if (outcomes[i].is_new)
			outcomes[i].payload = stored_payload(&services[i], outcomes[i].ts);

	if (n_recorded > 0)
		sba_write_root_causes(DatumGetArrayTypeP(column_array(recorded, NULL, n_recorded, TEXTOID, -1, false,
															  TYPALIGN_INT)));
}

/*
 * The instant that a cycle is about: that of the newest sample of any service.
 * With a metric source that brought nothing for some time it is now, and
 * nothing can be said of anyone.
 */
static TimestampTz
newest_instant(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz interval = (TimestampTz) sba_sample_interval_s * USECS_PER_SEC;
	TimestampTz newest;
	Datum		argument;
	bool		is_null;

	/* a sample from the future says nothing about who is silent now */
	argument = TimestampTzGetDatum(now + interval);
	sba_query_run(&newest_time_query, &argument, NULL, 1);
	newest = DatumGetTimestampTz(sba_result_datum(0, 1, &is_null));
	if (is_null || (sba_has_source() && newest < now - (SILENT_INTERVALS + 1) * interval))
		return now - now % interval;
	return newest;
}

Datum	   *
sba_detect(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
		   const SbaService *services, int n_services, TimestampTz at, bool verbose)
{
	Outcome    *outcomes = palloc(sizeof(Outcome) * (n_services + 1));
	Datum	   *payloads = palloc(sizeof(Datum) * (n_services + 1));
	Detection	detection;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly detection",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	Datum		arguments[2];
	int			i;

	detection.catalog = metrics;
	detection.periods = periods;
	detection.until = at;
	detection.verbose = verbose;
	if (at == 0)
		detection.until = newest_instant();
	detection.silent_before = seconds_before(detection.until, (int64) sba_sample_interval_s *
											 (at == 0 ? SILENT_INTERVALS : 1));
	arguments[0] = TimestampTzGetDatum(detection.silent_before);
	arguments[1] = TimestampTzGetDatum(detection.until);
	sba_query_run(&others_report_query, arguments, NULL, 1);
	detection.others_report = SPI_processed > 0;
	detection.objectives = sba_load_objectives(metrics, services, n_services,
											   detection.silent_before, detection.until);

	for (i = 0; i < n_services; i++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(scratch);
		detect_one(&detection, &services[i], &outcomes[i]);
		MemoryContextSwitchTo(caller);
		outcomes[i].payload = PointerGetDatum(PG_DETOAST_DATUM_COPY(outcomes[i].payload));
		if (outcomes[i].explanation != (Datum) 0)
			outcomes[i].explanation = PointerGetDatum(PG_DETOAST_DATUM_COPY(outcomes[i].explanation));
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	record(services, outcomes, n_services);
	for (i = 0; i < n_services; i++)
	{
		payloads[i] = outcomes[i].payload;
		if (outcomes[i].explanation != (Datum) 0)
			payloads[i] = DirectFunctionCall2(jsonb_concat, payloads[i], outcomes[i].explanation);
	}
	return payloads;
}

bool
sba_has_fresh_sample(const SbaService *service, TimestampTz now)
{
	Datum		arguments[2];
	bool		is_null;

	arguments[0] = CStringGetTextDatum(service->name);
	arguments[1] = TimestampTzGetDatum(now);
	sba_query_run(&newest_sample_query, arguments, NULL, 1);
	return SPI_processed > 0 &&
		DatumGetTimestampTz(sba_result_datum(0, 1, &is_null)) > seconds_before(now, sba_sample_interval_s);
}
