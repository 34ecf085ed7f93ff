/*
 * detection_functions.c
 *	  detect_anomalies(), run_inference() and what a cycle calls.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/current_sample.h"
#include "db/detector.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "sqlfn/collector.h"

SBA_FUNCTION(sba_detect_anomalies);
SBA_FUNCTION(sba_judge_samples);
SBA_FUNCTION(sba_run_inference);

/*
 * With a metric source, fetch current values when a service has no fresh
 * sample.  A source that does not answer is no reason not to judge what is
 * there.
 */
static void
fetch_if_stale(const SbaMetricCatalog *metrics, const SbaService *services,
			   int n_services, bool only_these)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	if (!sba_has_source())
		return;
	for (i = 0; i < n_services; i++)
	{
		if (sba_has_fresh_sample(&services[i], now))
			continue;
		sba_collect(metrics, services, n_services, only_these, WARNING);
		return;
	}
}

/*
 * detect_anomalies(service text, at timestamptz) returns jsonb
 */
Datum
sba_detect_anomalies(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	SbaMetricCatalog *metrics;
	SbaPeriodMap *periods;
	SbaService *service;
	TimestampTz at = PG_ARGISNULL(1) ? 0 : PG_GETARG_TIMESTAMPTZ(1);
	Datum	   *payload;
	Datum		result;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a service's name must not be null")));
	SPI_connect();
	metrics = sba_load_metrics();
	periods = sba_load_periods();
	service = sba_load_service(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (PG_ARGISNULL(1))
		fetch_if_stale(metrics, service, 1, true);
	payload = sba_detect(metrics, periods, service, 1, at, false);
	MemoryContextSwitchTo(caller);
	result = PointerGetDatum(PG_DETOAST_DATUM_COPY(payload[0]));
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/* Judge many services, and return a row for each. */
static void
return_inference(FunctionCallInfo fcinfo, ArrayType *names, bool fetch, bool verbose)
{
	SbaMetricCatalog *metrics;
	SbaPeriodMap *periods;
	SbaService *services;
	Datum	   *payloads;
	int			n_services;
	int			i;

	sba_begin_rows(fcinfo);
	SPI_connect();
	metrics = sba_load_metrics();
	periods = sba_load_periods();
	services = sba_load_services(names, &n_services);
	if (fetch)
		fetch_if_stale(metrics, services, n_services, names != NULL);
	payloads = sba_detect(metrics, periods, services, n_services, 0, verbose);
	for (i = 0; i < n_services; i++)
	{
		bool		is_null = false;

		sba_add_row(fcinfo, &payloads[i], &is_null);
	}
	SPI_finish();
}

/*
 * run_inference(services text[], verbose boolean) returns setof jsonb
 */
Datum
sba_run_inference(PG_FUNCTION_ARGS)
{
	return_inference(fcinfo, sba_text_array_argument(fcinfo, 0), true,
					 !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_NULL();
}

/*
 * smartbox.judge_samples() returns setof jsonb
 */
Datum
sba_judge_samples(PG_FUNCTION_ARGS)
{
	return_inference(fcinfo, NULL, false, false);
	PG_RETURN_NULL();
}
