/*
 * training_functions.c
 *	  train_models().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "db/catalog.h"
#include "db/training_task.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "sqlfn/collector.h"

SBA_FUNCTION(sba_train_models);

static bool
is_positive(Interval *interval)
{
	Interval	zero = {0};

	return DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(interval),
											IntervalPGetDatum(&zero)));
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
	services = sba_load_services(names, &n_services);
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

		foreach(cell, results[i].rows)
		{
			SbaTaskRow *row = lfirst(cell);

			sba_add_row(fcinfo, row->values, row->nulls);
		}
	}
	SPI_finish();
	PG_RETURN_NULL();
}
