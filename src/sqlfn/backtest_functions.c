/*
 * backtest_functions.c
 *	  backtest() and backtest_incidents().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "db/backtest.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"

SBA_FUNCTION(sba_backtest);
SBA_FUNCTION(sba_backtest_incidents);

/* Columns of backtest(). */
enum
{
	COLUMN_TS,
	COLUMN_TIME_PERIOD,
	COLUMN_SCORE,
	COLUMN_SEVERITY,
	COLUMN_IS_ANOMALY,
	COLUMN_ALERTING,
	COLUMN_NO_DATA,
	COLUMN_ANOMALY_NAME,
	COLUMN_INCIDENT_ID,
	COLUMN_INCIDENT_STATUS,
	COLUMN_INCIDENT_ACTION,
	COLUMN_OCCURRENCE_COUNT,
	COLUMN_CONFIDENCE,
	COLUMN_EVIDENCE,
	COLUMN_SIGNALS,
	COLUMN_DEVIATIONS,
	N_COLUMNS
};

#define N_INCIDENT_COLUMNS 15

/* Labels of enums as Datums, in the order of the enums of C. */
typedef struct Labels
{
	Datum		severity[SBA_SEVERITY_CRITICAL + 1];
	Datum		status[SBA_INCIDENT_CLOSED + 1];
	Datum		action[SBA_INCIDENT_REOPEN + 1];
} Labels;

/* What is the same in all rows, and where a row is built. */
typedef struct Output
{
	FunctionCallInfo fcinfo;
	const SbaBacktest *backtest;
	Labels		labels;
	Datum		period[SBA_MAX_PERIODS];
	Datum		name[SBA_MAX_SIGNALS];
	ArrayType  *deviations;
	MemoryContext scratch;		/* of one anomaly */
} Output;

static SbaQuery labels_query = {
	.text = "SELECT '{none,low,medium,high,critical}'::smartbox.severity[],"
	" '{SUSPECTED,OPEN,RECOVERING,CLOSED}'::smartbox.incident_status[],"
	" '{CREATE,CONFIRM,CONTINUE,REOPEN}'::smartbox.incident_event[]",
	.expected = SPI_OK_SELECT,
};

static void
read_labels(int column, Datum *labels, int n_labels)
{
	bool		is_null;
	ArrayType  *array = DatumGetArrayTypeP(sba_result_datum(0, column, &is_null));
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, ARR_ELEMTYPE(array), sizeof(Oid), true, TYPALIGN_INT, &elements, &nulls, &n);
	if (n != n_labels)
		elog(ERROR, "%d labels, not %d", n, n_labels);
	memcpy(labels, elements, sizeof(Datum) * n);
}

static void
load_labels(Labels *labels)
{
	sba_query_run(&labels_query, NULL, NULL, 1);
	read_labels(1, labels->severity, lengthof(labels->severity));
	read_labels(2, labels->status, lengthof(labels->status));
	read_labels(3, labels->action, lengthof(labels->action));
	SPI_freetuptable(SPI_tuptable);
}

static SbaBacktest *
prepare(FunctionCallInfo fcinfo, TimestampTz *since, TimestampTz *until)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a service's name must not be null")));
	sba_span_argument(fcinfo, 1, since, until);
	return sba_prepare_backtest(text_to_cstring(PG_GETARG_TEXT_PP(0)),
								PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3));
}

static Datum
signal_array(const Output *output, const SbaSignalSet *signals)
{
	Datum		names[SBA_MAX_SIGNALS];
	int			n = 0;
	int			i;

	for (i = 0; i < output->backtest->n_names; i++)
		if (sba_signal_set_has(signals, i))
			names[n++] = output->name[i];
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
add_backtest_row(void *context, const SbaBacktestRow *row)
{
	Output	   *output = context;
	MemoryContext caller = MemoryContextSwitchTo(output->scratch);
	Datum		values[N_COLUMNS] = {0};
	bool		nulls[N_COLUMNS] = {false};

	memset(nulls + COLUMN_ANOMALY_NAME, true, sizeof(bool) * (N_COLUMNS - COLUMN_ANOMALY_NAME));
	values[COLUMN_TS] = TimestampTzGetDatum(row->ts);
	values[COLUMN_TIME_PERIOD] = output->period[row->period];
	values[COLUMN_SEVERITY] = output->labels.severity[row->severity];
	values[COLUMN_IS_ANOMALY] = BoolGetDatum(row->is_anomaly);
	values[COLUMN_NO_DATA] = BoolGetDatum(row->no_data);
	nulls[COLUMN_SCORE] = !row->has_verdict;
	if (row->has_verdict)
	{
		values[COLUMN_SCORE] = Float8GetDatum(row->score);
		values[COLUMN_CONFIDENCE] = Float8GetDatum(row->confidence);
		values[COLUMN_EVIDENCE] = Float8GetDatum(row->evidence);
		nulls[COLUMN_CONFIDENCE] = nulls[COLUMN_EVIDENCE] = nulls[COLUMN_DEVIATIONS] = false;
		memcpy(ARR_DATA_PTR(output->deviations), row->deviation,
			   sizeof(double) * output->backtest->catalog->n_metrics);
		values[COLUMN_DEVIATIONS] = PointerGetDatum(output->deviations);
	}
	if (row->is_anomaly)
	{
		values[COLUMN_ALERTING] = BoolGetDatum(row->incident->status == SBA_INCIDENT_OPEN);
		values[COLUMN_ANOMALY_NAME] = output->name[row->name];
		values[COLUMN_INCIDENT_ID] = CStringGetTextDatum(row->incident->id);
		values[COLUMN_INCIDENT_STATUS] = output->labels.status[row->incident->status];
		values[COLUMN_INCIDENT_ACTION] = output->labels.action[row->action];
		values[COLUMN_OCCURRENCE_COUNT] = Int32GetDatum(row->incident->occurrence_count);
		values[COLUMN_SIGNALS] = signal_array(output, row->signals);
		memset(nulls + COLUMN_ANOMALY_NAME, false, sizeof(bool) * (COLUMN_CONFIDENCE - COLUMN_ANOMALY_NAME));
		nulls[COLUMN_SIGNALS] = false;
	}
	sba_add_row(output->fcinfo, values, nulls);
	MemoryContextSwitchTo(caller);
	if (row->is_anomaly)
		MemoryContextReset(output->scratch);
}

static void
prepare_output(Output *output, FunctionCallInfo fcinfo, const SbaBacktest *backtest)
{
	Datum		zeros[SBA_MAX_METRICS] = {0};
	int			i;

	memset(output, 0, sizeof(*output));
	output->fcinfo = fcinfo;
	output->backtest = backtest;
	load_labels(&output->labels);
	for (i = 0; i < backtest->periods->n_periods; i++)
		output->period[i] = CStringGetTextDatum(backtest->periods->name[i]);
	for (i = 0; i < backtest->n_names; i++)
		output->name[i] = CStringGetTextDatum(backtest->name[i]);
	for (i = 0; i < backtest->catalog->n_metrics; i++)
		zeros[i] = Float8GetDatum(0);
	output->deviations = construct_array(zeros, backtest->catalog->n_metrics, FLOAT8OID, sizeof(float8),
										 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	output->scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly backtest row",
											ALLOCSET_SMALL_SIZES);
}

/*
 * backtest(service text, since timestamptz, until timestamptz, options jsonb)
 *		returns setof record
 */
Datum
sba_backtest(PG_FUNCTION_ARGS)
{
	SbaBacktest *backtest;
	Output		output;
	TimestampTz since;
	TimestampTz until;

	sba_begin_rows(fcinfo);
	SPI_connect();
	backtest = prepare(fcinfo, &since, &until);
	prepare_output(&output, fcinfo, backtest);
	backtest->add_row = add_backtest_row;
	backtest->context = &output;
	sba_run_backtest(backtest, since, until);
	SPI_finish();
	PG_RETURN_NULL();
}

/*
 * backtest_incidents(service text, since timestamptz, until timestamptz, options jsonb)
 *		returns setof record
 */
Datum
sba_backtest_incidents(PG_FUNCTION_ARGS)
{
	SbaBacktest *backtest;
	Output		output;
	TimestampTz since;
	TimestampTz until;
	size_t		i;

	sba_begin_rows(fcinfo);
	SPI_connect();
	backtest = prepare(fcinfo, &since, &until);
	prepare_output(&output, fcinfo, backtest);
	sba_run_backtest(backtest, since, until);
	for (i = 0; i < backtest->machine.n_incidents; i++)
	{
		const SbaIncident *incident = &backtest->machine.incidents[i];
		bool		is_closed = incident->status == SBA_INCIDENT_CLOSED;
		Datum		values[N_INCIDENT_COLUMNS];
		bool		nulls[N_INCIDENT_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(incident->id);
		values[1] = CStringGetTextDatum(backtest->fingerprint[incident->name]);
		values[2] = output.name[incident->name];
		values[3] = output.labels.status[incident->status];
		values[4] = output.labels.severity[incident->severity];
		nulls[5] = isnan(incident->score);
		values[5] = Float8GetDatum(incident->score);
		nulls[6] = isnan(incident->confidence);
		values[6] = Float8GetDatum(incident->confidence);
		values[7] = TimestampTzGetDatum(incident->first_seen_us);
		values[8] = TimestampTzGetDatum(incident->last_seen_us);
		nulls[9] = !incident->is_confirmed;
		values[9] = TimestampTzGetDatum(incident->confirmed_us);
		nulls[10] = nulls[11] = !is_closed;
		values[10] = TimestampTzGetDatum(incident->resolved_us);
		values[11] = CStringGetTextDatum(sba_resolution_reason_name(incident->reason));
		values[12] = Int32GetDatum(incident->occurrence_count);
		values[13] = Int32GetDatum(incident->missed_cycles);
		values[14] = signal_array(&output, &incident->signals);
		sba_add_row(fcinfo, values, nulls);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
