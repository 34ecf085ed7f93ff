/*
 * training_functions.c
 *	  train_models(), rollback_model().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "db/catalog.h"
#include "db/model_store.h"
#include "db/periods.h"
#include "db/training_task.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "sqlfn/backfill.h"

SBA_FUNCTION(sba_train_models);
SBA_FUNCTION(sba_rollback_model);

static bool
is_positive(Interval *interval)
{
	Interval	zero = {0};

	return DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(interval),
											IntervalPGetDatum(&zero)));
}

/* A service that could not be trained is one row that says why. */
static void
add_failure(FunctionCallInfo fcinfo, const char *service, const SbaTaskResult *result)
{
	Datum		values[SBA_TRAINING_COLUMNS] = {0};
	bool		nulls[SBA_TRAINING_COLUMNS] = {false, true, true, false, true, false};

	values[0] = CStringGetTextDatum(service);
	values[3] = CStringGetTextDatum("failed");
	values[5] = CStringGetTextDatum(result->message);
	sba_add_row(fcinfo, values, nulls);
}

/*
 * train_models(services text[], lookback interval)
 *		returns setof (service, period, version, status, samples, reason)
 */
Datum
sba_train_models(PG_FUNCTION_ARGS)
{
	ArrayType  *names = sba_text_array_argument(fcinfo, 0);
	SbaTrainingParameters parameters;
	SbaTaskRequest request = {0};
	SbaTaskResult *results;
	SbaMetricCatalog *metrics;
	SbaService *services;
	const char **items;
	int			n_services;
	int			i;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lookback must not be null")));
	parameters.lookback = *PG_GETARG_INTERVAL_P(1);
	if (!is_positive(&parameters.lookback))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lookback must be positive")));
	PreventCommandIfReadOnly("train_models()");
	sba_begin_rows(fcinfo);
	SPI_connect();
	metrics = sba_load_metrics();
	services = sba_list_services(names, &n_services);
	if (sba_has_source())
		sba_backfill(metrics, services, n_services, &parameters.lookback);

	items = palloc(sizeof(char *) * (n_services + 1));
	for (i = 0; i < n_services; i++)
		items[i] = services[i].name;
	request.kind = &sba_training_task;
	request.items = items;
	request.n_items = n_services;
	request.parameters = &parameters;
	request.parameters_size = sizeof(parameters);
	request.row_types = sba_training_columns;
	request.n_columns = SBA_TRAINING_COLUMNS;
	results = sba_run_tasks(&request);
	for (i = 0; i < n_services; i++)
	{
		ListCell   *cell;

		if (results[i].failed)
			add_failure(fcinfo, items[i], &results[i]);
		foreach(cell, results[i].rows)
		{
			SbaTaskRow *row = lfirst(cell);

			sba_add_row(fcinfo, row->values, row->nulls);
		}
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* Complain about a name that is no period, with those that are. */
static void
require_period(const SbaPeriodMap *periods, const char *name)
{
	StringInfoData known;
	int			p;

	initStringInfo(&known);
	for (p = 0; p < periods->n_periods; p++)
	{
		if (strcmp(periods->name[p], name) == 0)
			return;
		appendStringInfo(&known, "%s%s", p > 0 ? ", " : "", periods->name[p]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("period \"%s\" is not known", name),
			 errhint("There are: %s.", known.data)));
}

/*
 * rollback_model(service text, period text) returns int, the version that is
 * active now
 */
Datum
sba_rollback_model(PG_FUNCTION_ARGS)
{
	const SbaService *service;
	const SbaPeriodMap *periods;
	const char *period;
	int			version;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", PG_ARGISNULL(0) ? "service" : "period")));
	SPI_connect();
	service = sba_load_service(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	periods = sba_load_periods();
	period = text_to_cstring(PG_GETARG_TEXT_PP(1));
	require_period(periods, period);
	version = sba_roll_back_model(service->name, period);
	SPI_finish();
	PG_RETURN_INT32(version);
}
