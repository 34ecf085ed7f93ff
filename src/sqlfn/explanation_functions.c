/*
 * explanation_functions.c
 *	  explain_anomaly().
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/explanation.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"

SBA_FUNCTION(sba_explain_anomaly);

/* Columns of explain_anomaly(). */
enum
{
	COLUMN_METRIC,
	COLUMN_VALUE,
	COLUMN_EXPECTED,
	COLUMN_LOWER,
	COLUMN_UPPER,
	COLUMN_DEVIATION,
	COLUMN_PERCENTILE,
	COLUMN_CONTRIBUTION,
	COLUMN_DIRECTION,
	COLUMN_UNIT,
	COLUMN_STANDS_OUT,
	COLUMN_DESCRIPTION,
	COLUMN_TS,
	COLUMN_TIME_PERIOD,
	COLUMN_MODEL_PERIOD,
	COLUMN_MODEL_VERSION,
	N_COLUMNS
};

static void
set_number(Datum *values, bool *nulls, int column, double number)
{
	nulls[column] = isnan(number);
	values[column] = Float8GetDatum(number);
}

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	values[column] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
add_metric(FunctionCallInfo fcinfo, const SbaExplanation *explanation, const SbaMetricExplanation *metric)
{
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS] = {false};

	set_text(values, nulls, COLUMN_METRIC, metric->metric);
	set_number(values, nulls, COLUMN_VALUE, metric->value);
	set_number(values, nulls, COLUMN_EXPECTED, metric->expected);
	set_number(values, nulls, COLUMN_LOWER, metric->lower);
	set_number(values, nulls, COLUMN_UPPER, metric->upper);
	set_number(values, nulls, COLUMN_DEVIATION, metric->deviation_sigma);
	set_number(values, nulls, COLUMN_PERCENTILE, metric->percentile);
	set_number(values, nulls, COLUMN_CONTRIBUTION, metric->contribution);
	set_text(values, nulls, COLUMN_DIRECTION, metric->direction);
	set_text(values, nulls, COLUMN_UNIT, metric->unit);
	values[COLUMN_STANDS_OUT] = BoolGetDatum(metric->stands_out);
	set_text(values, nulls, COLUMN_DESCRIPTION, metric->description);
	values[COLUMN_TS] = TimestampTzGetDatum(explanation->ts);
	set_text(values, nulls, COLUMN_TIME_PERIOD, explanation->time_period);
	set_text(values, nulls, COLUMN_MODEL_PERIOD, explanation->model_period);
	nulls[COLUMN_MODEL_VERSION] = explanation->model_period == NULL;
	values[COLUMN_MODEL_VERSION] = Int32GetDatum(explanation->model_version);
	sba_add_row(fcinfo, values, nulls);
}

/*
 * explain_anomaly(service text, at timestamptz) returns setof record
 */
Datum
sba_explain_anomaly(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_ARGISNULL(1) ? 0 : PG_GETARG_TIMESTAMPTZ(1);
	SbaMetricCatalog *catalog;
	SbaExplanation *explanation;
	int			m;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a service's name must not be null")));
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("at must be finite")));
	sba_begin_rows(fcinfo);
	SPI_connect();
	catalog = sba_load_metrics();
	explanation = sba_explain_sample(catalog, sba_load_service(text_to_cstring(PG_GETARG_TEXT_PP(0))), at);
	for (m = 0; explanation != NULL && m < explanation->n_metrics; m++)
		add_metric(fcinfo, explanation, &explanation->metric[m]);
	SPI_finish();
	PG_RETURN_NULL();
}
