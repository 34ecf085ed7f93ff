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

#include "db/current_sample.h"
#include "db/detector.h"
#include "db/objectives.h"
#include "db/payload.h"
#include "db/root_causes.h"
#include "pg/query.h"

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

/* Objectives have the last word, and one when there is no model. */
static void
apply_objectives(const SbaDetectionPass *detection, const SbaService *service, const SbaReadSample *sample, SbaOutcome *outcome)
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
detect_one(const SbaDetectionPass *detection, const SbaService *service, SbaOutcome *outcome)
{
	SbaReadSample sample;
	bool		has_sample = sba_read_current_sample(detection, service, &sample);
	bool		is_silent;
	Datum		stored;

	memset(outcome, 0, sizeof(*outcome));
	is_silent = !has_sample || sample.ts <= detection->silent_before;
	outcome->no_data = is_silent || !sba_sample_is_believed(detection->catalog, &sample);
	outcome->ts = is_silent ? detection->until : sample.ts;
	sba_place_in_week(detection, service, outcome->ts, &sample);
	outcome->time_period = sample.time_period;

	stored = stored_payload(service, outcome->ts);
	outcome->is_new = stored == (Datum) 0;
	if (!outcome->no_data)
	{
		/* what a maintenance does neither begins nor ends an incident */
		outcome->no_data = sample.is_muted;
		if (outcome->is_new || detection->verbose)
			sba_judge_sample(detection, service, &sample, outcome);
		if (stored == (Datum) 0)
			apply_objectives(detection, service, &sample, outcome);
	}
	else if (outcome->is_new)
	{
		/* a service that never reported has not fallen silent */
		outcome->is_anomaly = has_sample && is_silent && detection->others_report && !sample.is_muted;
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
record(const SbaService *services, SbaOutcome *outcomes, int n_services)
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
		const SbaOutcome *outcome = &outcomes[i];

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

Datum	   *
sba_detect(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
		   const SbaService *services, int n_services, TimestampTz at, bool verbose)
{
	SbaOutcome *outcomes = palloc(sizeof(SbaOutcome) * (n_services + 1));
	Datum	   *payloads = palloc(sizeof(Datum) * (n_services + 1));
	SbaDetectionPass detection;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly detection",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	Datum		arguments[2];
	int			i;

	sba_begin_pass(&detection, metrics, periods, services, n_services, at);
	detection.verbose = verbose;
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
