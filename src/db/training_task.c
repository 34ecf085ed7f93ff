/*
 * training_task.c
 *	  Training one service of many, with a row of smartbox.training_runs.
 *
 * The row is committed before the training begins, so that others can see what
 * is under way.  A process that dies leaves it as it was; whoever trains the
 * service next says so in it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "db/trainer.h"
#include "db/training_task.h"
#include "pg/query.h"

const Oid	sba_training_columns[SBA_TRAINING_COLUMNS] = {
	TEXTOID, TEXTOID, INT4OID, TEXTOID, INT4OID, TEXTOID
};

static SbaQuery interrupted_query = {
	.text = "UPDATE smartbox.training_runs SET status = 'failed', finished_at = $2,"
	" message = 'interrupted: its process ended before the training did'"
	" WHERE service = $1 AND status = 'running' AND NOT smartbox.process_runs(pid, started_at)",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery begin_query = {
	.text = "INSERT INTO smartbox.training_runs (service, started_at, status, pid)"
	" VALUES ($1, $2, 'running', pg_catalog.pg_backend_pid())",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_INSERT,
};

static SbaQuery succeeded_query = {
	.text = "UPDATE smartbox.training_runs SET status = 'succeeded', finished_at = $2, samples = $3,"
	" models_accepted = $4, models_rejected = $5"
	" WHERE service = $1 AND status = 'running' AND pid = pg_catalog.pg_backend_pid()",
	.n_arguments = 5,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID},
	.expected = SPI_OK_UPDATE,
};

/* The run of this process, or the one of a process that died. */
static SbaQuery failed_query = {
	.text = "UPDATE smartbox.training_runs SET status = 'failed', finished_at = $2, message = $3"
	" WHERE service = $1 AND status = 'running'"
	" AND (pid = pg_catalog.pg_backend_pid() OR NOT smartbox.process_runs(pid, started_at))",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TEXTOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery failed_at_once_query = {
	.text = "INSERT INTO smartbox.training_runs (service, started_at, finished_at, status, message)"
	" VALUES ($1, $2, $2, 'failed', $3)",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TEXTOID},
	.expected = SPI_OK_INSERT,
};

static SbaQuery last_sample_query = {
	.text = "SELECT pg_catalog.max(ts) FROM smartbox.samples WHERE service = $1",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

/* The lookback ends at the last sample: history may have been loaded by hand. */
static TimestampTz
last_sample(const SbaService *service)
{
	Datum		argument = CStringGetTextDatum(service->name);
	Datum		last;
	bool		is_null;

	sba_query_run(&last_sample_query, &argument, NULL, 1);
	last = sba_result_datum(0, 1, &is_null);
	return is_null ? GetCurrentTimestamp() : DatumGetTimestampTz(last);
}

static void
begin_run(const char *service)
{
	Datum		arguments[2];

	arguments[0] = CStringGetTextDatum(service);
	arguments[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	sba_query_run(&interrupted_query, arguments, NULL, 0);
	sba_query_run(&begin_query, arguments, NULL, 0);
}

static void
end_run(const char *service, const SbaTrainingReport *report)
{
	Datum		arguments[5];

	arguments[0] = CStringGetTextDatum(service);
	arguments[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	arguments[2] = Int32GetDatum((int32) report->n_samples);
	arguments[3] = Int32GetDatum(report->n_accepted);
	arguments[4] = Int32GetDatum(report->n_rejected);
	sba_query_run(&succeeded_query, arguments, NULL, 0);
}

static void
train(SbaTask *task)
{
	const SbaTrainingParameters *parameters = task->parameters;
	SbaMetricCatalog *metrics;
	SbaPeriodMap *periods;
	SbaService *service;
	SbaTrainingReport *report;
	TimestampTz since;
	TimestampTz until;
	int			p;

	SPI_connect();
	begin_run(task->item);
	SPI_finish();
	sba_task_commit(task);

	SPI_connect();
	metrics = sba_load_metrics();
	periods = sba_load_periods();
	service = sba_load_service(task->item);
	until = last_sample(service);
	since = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(until),
													IntervalPGetDatum(&parameters->lookback)));
	report = sba_train_service(metrics, periods, service, since, until);
	end_run(task->item, report);
	for (p = 0; p < periods->n_periods; p++)
	{
		const SbaPeriodReport *period = &report->period[p];
		Datum		values[SBA_TRAINING_COLUMNS];
		bool		nulls[SBA_TRAINING_COLUMNS] = {false};

		values[0] = CStringGetTextDatum(task->item);
		values[1] = CStringGetTextDatum(period->time_period);
		values[2] = Int32GetDatum(period->version);
		values[3] = CStringGetTextDatum(period->status);
		values[4] = Int32GetDatum(period->samples);
		nulls[5] = period->reason == NULL;
		values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(period->reason);
		sba_task_add_row(task, values, nulls);
	}
	SPI_finish();
}

static void
note_failure(SbaTask *task, const ErrorData * error)
{
	Datum		arguments[3];

	arguments[0] = CStringGetTextDatum(task->item);
	arguments[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	arguments[2] = CStringGetTextDatum(error->message);
	SPI_connect();
	sba_query_run(&failed_query, arguments, NULL, 0);
	if (SPI_processed == 0)
		sba_query_run(&failed_at_once_query, arguments, NULL, 0);
	SPI_finish();
}

const SbaTaskKind sba_training_task = {
	.name = "training",
	.run = train,
	.failed = note_failure,
};
