/*
 * backtest_options.c
 *	  What a replay does otherwise than the catalogs say.
 */
#include "postgres.h"

#include <float.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "db/backtest.h"
#include "db/signal_bars.h"
#include "pg/query.h"

#define MAX_CYCLES 1000
#define MAX_FALSE_ALARMS 1000
#define MAX_CONTAMINATION 0.5
#define DEFAULT_LOOKBACK_DAYS 30
#define MAX_INTERVAL_DAYS 365

typedef struct Reader
{
	SbaMetricCatalog *catalog;
	SbaService *service;
	SbaBacktestOptions *options;
} Reader;

static SbaQuery rules_query = {
	.text = "SELECT coalesce(s.confirmation_cycles, c.confirmation_cycles, 2),"
	" coalesce(s.resolution_grace_cycles, c.resolution_grace_cycles, 3),"
	" coalesce(s.incident_separation, c.incident_separation, '30 minutes')"
	" FROM smartbox.services AS s LEFT JOIN smartbox.service_categories AS c USING (category)"
	" WHERE s.service = $1",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery bars_query = {
	.text = "SELECT metric, direction, absolute_deviation, relative_deviation"
	" FROM pg_catalog.jsonb_to_recordset($1)"
	" AS b(metric text, direction text, absolute_deviation double precision, relative_deviation double precision)",
	.n_arguments = 1,
	.argument_types = {JSONBOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery limits_query = {
	.text = "SELECT metric, comparison, threshold, severity::text, coalesce(min_requests, 0), coalesce(enabled, true)"
	" FROM pg_catalog.jsonb_to_recordset($1) AS r(metric text, comparison text, threshold double precision,"
	" severity smartbox.severity, min_requests double precision, enabled boolean)",
	.n_arguments = 1,
	.argument_types = {JSONBOID},
	.expected = SPI_OK_SELECT,
};

static int64
microseconds_of(const Interval *interval)
{
	return interval->time + ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}

/* ---------------------------------------------------------------------------
 * Values by type
 * ---------------------------------------------------------------------------
 */

static void
refuse(const char *option, const char *allowed)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", option, allowed)));
}

/* A number with above < number <= most. */
static double
read_number(const char *option, const JsonbValue * value, double above, double most, const char *allowed)
{
	double		number;

	if (value->type != jbvNumeric)
		refuse(option, allowed);
	number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	if (!(number > above && number <= most))
		refuse(option, allowed);
	return number;
}

static int
read_cycles(const char *option, const JsonbValue * value)
{
	const char *allowed = "a whole number from 1 to 1000";
	double		number = read_number(option, value, 0, MAX_CYCLES, allowed);

	if (number != floor(number))
		refuse(option, allowed);
	return (int) number;
}

static bool
read_bool(const char *option, const JsonbValue * value)
{
	if (value->type != jbvBool)
		refuse(option, "true or false");
	return value->val.boolean;
}

static Interval
read_interval(const char *option, const JsonbValue * value)
{
	const char *allowed = "an interval of more than zero and at most 365 days, such as \"30 days\"";
	Interval	interval;

	if (value->type != jbvString)
		refuse(option, allowed);
	interval = *DatumGetIntervalP(DirectFunctionCall3(interval_in,
													  CStringGetDatum(pnstrdup(value->val.string.val,
																			   value->val.string.len)),
													  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (microseconds_of(&interval) <= 0 || microseconds_of(&interval) > MAX_INTERVAL_DAYS * USECS_PER_DAY)
		refuse(option, allowed);
	return interval;
}

static int
metric_named(const SbaMetricCatalog *catalog, const char *name, int length)
{
	StringInfoData known;
	int			m;

	initStringInfo(&known);
	for (m = 0; m < catalog->n_metrics; m++)
	{
		if (length == strlen(catalog->metric[m].name) && memcmp(name, catalog->metric[m].name, length) == 0)
			return m;
		appendStringInfo(&known, "%s%s", m > 0 ? ", " : "", catalog->metric[m].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("metric \"%.*s\" is not known", length, name),
			 errhint("There are: %s.", known.data)));
}

/* ---------------------------------------------------------------------------
 * Options
 * ---------------------------------------------------------------------------
 */

static void
read_threshold(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->threshold = read_number(option, value, -1.0 - 1e-9, 1, "a number from -1 to 1");
}

static void
read_false_alarms(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->service->false_alarms_per_week =
		read_number(option, value, 0, MAX_FALSE_ALARMS, "a number above 0 and at most 1000");
}

static void
read_contamination(const Reader *reader, const char *option, JsonbValue * value)
{
	const char *allowed = "a number above 0 and below 0.5";
	double		number = read_number(option, value, 0, MAX_CONTAMINATION, allowed);

	if (number == MAX_CONTAMINATION)
		refuse(option, allowed);
	reader->service->contamination = number;
}

static void
read_confirmation(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->rules.confirmation_cycles = read_cycles(option, value);
}

static void
read_grace(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->rules.resolution_grace_cycles = read_cycles(option, value);
}

static void
read_separation(const Reader *reader, const char *option, JsonbValue * value)
{
	Interval	separation = read_interval(option, value);

	reader->options->rules.separation_us = microseconds_of(&separation);
}

static void
read_lookback(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->lookback = read_interval(option, value);
}

static void
read_retrain(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->retrain = read_interval(option, value);
	if (microseconds_of(&reader->options->retrain) < USECS_PER_HOUR)
		refuse(option, "an interval of at least one hour, such as \"1 day\"");
}

static void
read_periods(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->by_period = read_bool(option, value);
}

static void
read_forests(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->forests = read_bool(option, value);
}

static void
read_calendar(const Reader *reader, const char *option, JsonbValue * value)
{
	reader->options->calendar = read_bool(option, value);
}

/* Keep these metrics alone, in the catalog's order. */
static void
read_metrics(const Reader *reader, const char *option, JsonbValue * value)
{
	SbaMetricCatalog *catalog = reader->catalog;
	SbaMetricCatalog all = *catalog;
	bool		wanted[SBA_MAX_METRICS] = {false};
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;
	int			m;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		refuse(option, "an array of names of metrics");
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (element.type != jbvString)
			refuse(option, "an array of names of metrics");
		wanted[metric_named(&all, element.val.string.val, element.val.string.len)] = true;
	}
	catalog->n_metrics = 0;
	for (m = 0; m < all.n_metrics; m++)
	{
		int			n = catalog->n_metrics;

		if (!wanted[m])
			continue;
		catalog->metric[n] = all.metric[m];
		catalog->position[n] = all.position[m];
		catalog->zero_is_normal[n] = all.zero_is_normal[m];
		catalog->query[n] = all.query[m];
		catalog->unit[n] = all.unit[m];
		catalog->n_metrics++;
	}
	if (catalog->n_metrics == 0)
		refuse(option, "an array with at least one name of a metric");
}

static void
read_minimum(const Reader *reader, const char *option, JsonbValue * value)
{
	const char *allowed = "an object of metrics and numbers, such as {\"error_rate\": 0.01}, none below 0";
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	element;
	SbaMetric  *metric = NULL;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		refuse(option, allowed);
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		double		number;

		if (token == WJB_KEY)
			metric = &reader->catalog->metric[metric_named(reader->catalog, element.val.string.val,
														   element.val.string.len)];
		if (token != WJB_VALUE)
			continue;
		number = read_number(option, &element, -DBL_MIN, DBL_MAX, allowed);
		Assert(metric != NULL);
		if (strcmp(option, "min_relative_deviation") == 0)
			metric->min_relative_deviation = number;
		else
			metric->min_absolute_deviation = number;
	}
}

/*
 * Rows of a table as an array of objects: run the query that reads them.
 * Returns how many there are.
 */
static uint64
read_rows(const char *option, JsonbValue * value, SbaQuery *query, const char *allowed)
{
	Datum		argument;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		refuse(option, allowed);
	argument = JsonbPGetDatum(JsonbValueToJsonb(value));
	sba_query_run(query, &argument, NULL, 0);
	return SPI_processed;
}

/* Bars beside those of smartbox.signal_bars, or none at all. */
static void
read_signal_bars(const Reader *reader, const char *option, JsonbValue * value)
{
	const char *allowed = "true, false, or an array of objects with metric, direction (high or low), "
	"absolute_deviation and relative_deviation";
	uint64		n;
	uint64		row;

	if (value->type == jbvBool)
	{
		reader->options->signal_bars = value->val.boolean;
		return;
	}
	n = read_rows(option, value, &bars_query, allowed);
	for (row = 0; row < n; row++)
	{
		char	   *name = sba_result_text(row, 1);
		char	   *direction = sba_result_text(row, 2);
		SbaDeviationBar bar = {sba_result_float8(row, 3, -1), sba_result_float8(row, 4, -1)};

		if (name == NULL || direction == NULL || !(bar.absolute >= 0) || !(bar.relative >= 0) ||
			(strcmp(direction, "high") != 0 && strcmp(direction, "low") != 0))
			refuse(option, allowed);
		else
			sba_raise_bar(&reader->catalog->metric[metric_named(reader->catalog, name, strlen(name))],
						  strcmp(direction, "high") == 0, bar);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Rules as if they were the service's own, or none at all. */
static void
read_rules(const Reader *reader, const char *option, JsonbValue * value)
{
	const char *allowed = "true, false, or an array of objects with metric, comparison, threshold and severity "
	"as smartbox.rules has them";
	SbaBacktestOptions *options = reader->options;
	uint64		n;
	uint64		row;

	if (value->type == jbvBool)
	{
		options->hard_rules = value->val.boolean;
		return;
	}
	n = read_rows(option, value, &limits_query, allowed);
	options->own_rules = palloc0(sizeof(SbaStoredRule) * (n + 1));
	options->n_own_rules = (int) n;
	for (row = 0; row < n; row++)
	{
		SbaStoredRule *own = &options->own_rules[row];
		char	   *comparison = sba_result_text(row, 2);
		char	   *severity = sba_result_text(row, 4);

		own->service = reader->service->name;
		own->enabled = sba_result_bool(row, 6);
		own->rule.metric = sba_result_text(row, 1);
		own->rule.threshold = sba_result_float8(row, 3, -1);
		own->rule.min_requests = sba_result_float8(row, 5, 0);
		own->rule.is_own = true;
		if (own->rule.metric == NULL || comparison == NULL || severity == NULL || !(own->rule.threshold >= 0) ||
			!sba_comparison_by_name(comparison, &own->rule.comparison) ||
			!sba_severity_by_name(severity, &own->rule.severity) || own->rule.severity == SBA_SEVERITY_NONE)
			refuse(option, allowed);
		metric_named(reader->catalog, own->rule.metric, strlen(own->rule.metric));
	}
	SPI_freetuptable(SPI_tuptable);
}

static const struct
{
	const char *name;
	void		(*read) (const Reader *reader, const char *option, JsonbValue * value);
}			known_options[] =

{
	{"calendar", read_calendar},
	{"confirmation_cycles", read_confirmation},
	{"contamination", read_contamination},
	{"false_alarms_per_week", read_false_alarms},
	{"forests", read_forests},
	{"incident_separation", read_separation},
	{"lookback", read_lookback},
	{"metrics", read_metrics},
	{"min_absolute_deviation", read_minimum},
	{"min_relative_deviation", read_minimum},
	{"periods", read_periods},
	{"resolution_grace_cycles", read_grace},
	{"retrain", read_retrain},
	{"rules", read_rules},
	{"signal_bars", read_signal_bars},
	{"threshold", read_threshold},
};

static void
read_option(const Reader *reader, const char *name, JsonbValue * value)
{
	StringInfoData known;
	int			i;

	initStringInfo(&known);
	for (i = 0; i < lengthof(known_options); i++)
	{
		if (strcmp(known_options[i].name, name) == 0)
		{
			known_options[i].read(reader, name, value);
			return;
		}
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "", known_options[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" is not known", name),
			 errhint("There are: %s.", known.data)));
}

void
sba_read_backtest_options(Jsonb * json, SbaMetricCatalog *catalog, SbaService *service,
						  SbaBacktestOptions *options)
{
	Reader		reader = {catalog, service, options};
	Datum		argument = CStringGetTextDatum(service->name);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	const char *name = "";
	bool		is_null;

	memset(options, 0, sizeof(*options));
	options->by_period = options->forests = options->calendar = true;
	options->hard_rules = options->signal_bars = true;
	options->lookback.day = DEFAULT_LOOKBACK_DAYS;
	sba_query_run(&rules_query, &argument, NULL, 1);
	options->rules.confirmation_cycles = sba_result_int4(0, 1, 0);
	options->rules.resolution_grace_cycles = sba_result_int4(0, 2, 0);
	options->rules.separation_us = microseconds_of(DatumGetIntervalP(sba_result_datum(0, 3, &is_null)));

	if (json == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("For example {\"threshold\": -0.1}.")));
	iterator = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			read_option(&reader, name, &value);
	}
}
