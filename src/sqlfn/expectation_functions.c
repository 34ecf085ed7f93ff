/*
 * expectation_functions.c
 *	  expected_values().
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/expectations.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"

SBA_FUNCTION(sba_expected_values);

/* Columns of expected_values(). */
enum
{
	COLUMN_TS,
	COLUMN_METRIC,
	COLUMN_VALUE,
	COLUMN_EXPECTED,
	COLUMN_LOWER,
	COLUMN_UPPER,
	COLUMN_DEVIATION_SIGMA,
	COLUMN_UNIT,
	N_COLUMNS
};

typedef struct Output
{
	FunctionCallInfo fcinfo;
	int			n_metrics;		/* of the catalog */
	bool		is_wanted[SBA_MAX_METRICS];
	Datum		name[SBA_MAX_METRICS];
	Datum		unit[SBA_MAX_METRICS];
} Output;

/* Mark the metrics that are asked for; all of them when names is NULL. */
static void
choose_metrics(const SbaMetricCatalog *catalog, ArrayType *names, Output *output)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			i;
	int			m;

	memset(output->is_wanted, names == NULL, sizeof(output->is_wanted));
	if (names == NULL)
		return;
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (i = 0; i < n; i++)
	{
		char	   *name;
		StringInfoData known;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a metric's name must not be null")));
		name = TextDatumGetCString(elements[i]);
		initStringInfo(&known);
		for (m = 0; m < catalog->n_metrics; m++)
		{
			if (strcmp(catalog->metric[m].name, name) == 0)
				break;
			appendStringInfo(&known, "%s%s", m > 0 ? ", " : "", catalog->metric[m].name);
		}
		if (m == catalog->n_metrics)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("metric \"%s\" is not watched", name),
					 errhint("Enabled in smartbox.metrics are: %s.", known.data)));
		output->is_wanted[m] = true;
	}
}

static void
set_number(Datum *values, bool *nulls, int column, double number)
{
	nulls[column] = isnan(number);
	values[column] = Float8GetDatum(number);
}

static void
add_sample(void *context, TimestampTz ts, const SbaExpectation *by_metric)
{
	const Output *output = context;
	int			m;

	for (m = 0; m < output->n_metrics; m++)
	{
		Datum		values[N_COLUMNS];
		bool		nulls[N_COLUMNS] = {false};

		if (!output->is_wanted[m])
			continue;
		values[COLUMN_TS] = TimestampTzGetDatum(ts);
		values[COLUMN_METRIC] = output->name[m];
		values[COLUMN_UNIT] = output->unit[m];
		set_number(values, nulls, COLUMN_VALUE, by_metric[m].value);
		set_number(values, nulls, COLUMN_EXPECTED, by_metric[m].expected);
		set_number(values, nulls, COLUMN_LOWER, by_metric[m].lower);
		set_number(values, nulls, COLUMN_UPPER, by_metric[m].upper);
		set_number(values, nulls, COLUMN_DEVIATION_SIGMA, by_metric[m].deviation_sigma);
		sba_add_row(output->fcinfo, values, nulls);
	}
}

/*
 * expected_values(service text, since timestamptz, until timestamptz, metrics text[])
 *		returns setof record
 */
Datum
sba_expected_values(PG_FUNCTION_ARGS)
{
	SbaMetricCatalog *catalog;
	SbaService *service;
	Output		output = {0};
	TimestampTz since;
	TimestampTz until;
	int			m;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a service's name must not be null")));
	sba_span_argument(fcinfo, 1, &since, &until);
	sba_begin_rows(fcinfo);
	SPI_connect();
	catalog = sba_load_metrics();
	service = sba_load_service(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	output.fcinfo = fcinfo;
	output.n_metrics = catalog->n_metrics;
	choose_metrics(catalog, sba_text_array_argument(fcinfo, 3), &output);
	for (m = 0; m < catalog->n_metrics; m++)
	{
		output.name[m] = CStringGetTextDatum(catalog->metric[m].name);
		output.unit[m] = CStringGetTextDatum(catalog->unit[m]);
	}
	sba_expect_values(catalog, service, since, until, add_sample, &output);
	SPI_finish();
	PG_RETURN_NULL();
}
