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

#include "db/trainer.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "sqlfn/collector.h"

SBA_FUNCTION(sba_train_models);

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

/*
 * train_models(services text[], lookback interval)
 *		returns setof (service, period, version, status, samples, reason)
 */
Datum
sba_train_models(PG_FUNCTION_ARGS)
{
	ArrayType  *names = sba_text_array_argument(fcinfo, 0);
	SbaMetricCatalog *metrics;
	SbaPeriodMap *periods;
	SbaService *services;
	Interval   *lookback;
	int			n_services;
	int			i;
	int			p;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lookback must not be null")));
	lookback = PG_GETARG_INTERVAL_P(1);
	sba_begin_rows(fcinfo);
	SPI_connect();
	metrics = sba_load_metrics();
	periods = sba_load_periods();
	services = sba_load_services(names, &n_services);
	if (sba_has_source())
		sba_backfill(metrics, services, n_services, lookback);

	for (i = 0; i < n_services; i++)
	{
		TimestampTz until = last_sample(&services[i]);
		TimestampTz since = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
																	TimestampTzGetDatum(until),
																	IntervalPGetDatum(lookback)));
		SbaTrainingReport *reports;

		CHECK_FOR_INTERRUPTS();
		if (since >= until)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("lookback must be positive")));
		reports = sba_train_service(metrics, periods, &services[i], since, until);
		for (p = 0; p < periods->n_periods; p++)
		{
			Datum		values[6];
			bool		nulls[6] = {false};

			values[0] = CStringGetTextDatum(services[i].name);
			values[1] = CStringGetTextDatum(reports[p].time_period);
			values[2] = Int32GetDatum(reports[p].version);
			values[3] = CStringGetTextDatum(reports[p].status);
			values[4] = Int32GetDatum(reports[p].samples);
			nulls[5] = reports[p].reason == NULL;
			values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(reports[p].reason);
			sba_add_row(fcinfo, values, nulls);
		}
	}
	SPI_finish();
	PG_RETURN_NULL();
}
