/*
 * source_check.c
 *	  check_metric_source(): what the metric source has for each metric and
 *	  service, and what is wrong with a query.
 *
 * Whatever goes wrong at the source is a row, never an error.  The catalogs are
 * read in a subtransaction that is rolled back, so that no lock is held while
 * the source is waited for; nothing is written.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "core/promql_names.h"
#include "net/source_names.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"
#include "pg/settings.h"
#include "sqlfn/collector.h"

SBA_FUNCTION(sba_check_metric_source);

#define LONGEST_LOOKBACK_DAYS 366

/* Values that are held in memory at a time. */
#define VALUES_PER_CHUNK	(8 * 1024 * 1024)

/* Names of a query that are looked up, and that a message gives. */
#define MOST_NAMES			64
#define MOST_GIVEN			3

/* Names that differ by no more edits than this may be meant. */
#define MOST_EDITS			4

/* With fewer steps between points, a rate may rise by chance. */
#define STEPS_TO_JUDGE		24

/* A service that has been silent for so many intervals is late. */
#define LATE_SLOTS			3

/* The points of a service and metric. */
typedef struct Points
{
	int64		n;
	int			first_slot;
	int			last_slot;
	int64		n_above;		/* the valid range */
	int64		n_below;
	double		largest;
	double		last;
	int64		n_rises;		/* steps to a larger value */
	int64		n_falls;		/* to a smaller one that is no restart */
} Points;

typedef struct Check
{
	FunctionCallInfo fcinfo;
	SbaMetricCatalog *metrics;
	SbaMetricQuery *queries;	/* the first failure of each stays */
	SbaService *services;
	int			n_services;
	int64		first_time;
	int			n_slots;
	Points	   *points;			/* [service][metric] */
	SbaSourceList lists[3];		/* by SbaSourceListKind */
} Check;

/* ---------- rows ---------- */

/*
 * Add a row.  A name that is NULL is null; without points so are their number
 * (when it is negative) and their times.
 */
static void
add_row(const Check *check, const char *metric, const char *service, int64 n_points,
		const Points *points, const char *problem, const char *hint)
{
	Datum		values[7] = {0};
	bool		nulls[7] = {metric == NULL, service == NULL, n_points < 0, true, true, problem == NULL, hint == NULL};

	if (metric != NULL)
		values[0] = CStringGetTextDatum(metric);
	if (service != NULL)
		values[1] = CStringGetTextDatum(service);
	values[2] = Int64GetDatum(n_points);
	if (points != NULL && points->n > 0)
	{
		nulls[3] = nulls[4] = false;
		values[3] = TimestampTzGetDatum(sba_time_of_unix(check->first_time +
														 (int64) points->first_slot * sba_sample_interval_s));
		values[4] = TimestampTzGetDatum(sba_time_of_unix(check->first_time +
														 (int64) points->last_slot * sba_sample_interval_s));
	}
	if (problem != NULL)
		values[5] = CStringGetTextDatum(problem);
	if (hint != NULL)
		values[6] = CStringGetTextDatum(hint);
	sba_add_row(check->fcinfo, values, nulls);
}

/* What came of a query that failed, as one text. */
static char *
failure_text(const SbaMetricQuery *query)
{
	return query->detail == NULL ? pstrdup(query->message) :
		psprintf("%s.  %s", query->message, query->detail);
}

/* ---------- names ---------- */

/*
 * The name of a list that is nearest to one that is not in it, as a sentence;
 * an empty text when none is near.
 */
static const char *
nearest_text(const SbaSourceList *list, const char *name)
{
	const int	max_length = 255;	/* that varstr_levenshtein takes */
	int			length = strlen(name);
	int			best = Min(MOST_EDITS, length / 2) + 1;
	const char *nearest = NULL;
	int			i;

	if (length > max_length)
		return "";
	for (i = 0; i < list->n_names && best > 1; i++)
	{
		int			known_length = strlen(list->names[i]);
		int			distance;

		if (i % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (known_length > max_length)
			continue;
		distance = varstr_levenshtein_less_equal(list->names[i], known_length, name, length,
												 1, 1, 1, best - 1, true);
		if (distance < best)
		{
			best = distance;
			nearest = list->names[i];
		}
	}
	return nearest == NULL ? "" : psprintf("The nearest that it has is \"%s\".", nearest);
}

/* Names that the source does not have, as they are gathered. */
typedef struct Missing
{
	const Check *check;
	SbaNameKind kind;
	int			n_seen;
	List	   *names;
} Missing;

static bool
note_name(void *context, SbaNameKind kind, const char *name, size_t length)
{
	Missing    *missing = context;
	const SbaSourceList *list = &missing->check->lists[kind == SBA_NAME_METRIC ? SBA_LIST_METRICS : SBA_LIST_LABELS];
	char	   *copy = pnstrdup(name, length);
	ListCell   *cell;

	if (kind == missing->kind && !list->query.failed && !sba_source_list_has(list, copy))
	{
		foreach(cell, missing->names)
		{
			if (strcmp(lfirst(cell), copy) == 0)
				break;
		}
		if (cell == NULL)
			missing->names = lappend(missing->names, copy);
	}
	return ++missing->n_seen < MOST_NAMES;
}

/*
 * Say which names of a kind in a query the source does not have; NULL when it
 * has all of them.  *hint is what may be meant.
 */
static char *
missing_names(const Check *check, const char *query, SbaNameKind kind, char **hint)
{
	Missing		missing = {.check = check,.kind = kind};
	const char *noun = kind == SBA_NAME_METRIC ? "metric" : "label";
	const SbaSourceList *list = &check->lists[kind == SBA_NAME_METRIC ? SBA_LIST_METRICS : SBA_LIST_LABELS];
	StringInfoData text;
	int			i;

	sba_scan_promql_names(query, note_name, &missing);
	if (missing.names == NIL)
		return NULL;
	initStringInfo(&text);
	appendStringInfo(&text, "the source has no %s ", noun);
	for (i = 0; i < Min(list_length(missing.names), MOST_GIVEN); i++)
		appendStringInfo(&text, "%s\"%s\"", i > 0 ? ", " : "", (char *) list_nth(missing.names, i));
	if (list_length(missing.names) > MOST_GIVEN)
		appendStringInfo(&text, " and %d more", list_length(missing.names) - MOST_GIVEN);
	appendStringInfoString(&text, ", which the query asks for");
	*hint = psprintf("%s%sSee the column \"query\" of the metric's row in smartbox.metrics.",
					 nearest_text(list, linitial(missing.names)),
					 nearest_text(list, linitial(missing.names))[0] == '\0' ? "" : "  ");
	return text.data;
}

/* ---------- reading ---------- */

static void
note_point(const SbaMetric *metric, Points *points, int slot, double value)
{
	if (points->n == 0)
	{
		points->first_slot = slot;
		points->largest = value;
	}
	else if (value > points->last)
		points->n_rises++;
	/* a counter that begins anew falls to almost nothing */
	else if (value < points->last && value > points->last / 10)
		points->n_falls++;
	points->n++;
	points->last_slot = slot;
	points->last = value;
	points->largest = Max(points->largest, value);
	points->n_above += value > metric->valid_max;
	points->n_below += value < metric->valid_min;
}

/* Count what the source has for some of the services, from first on. */
static void
read_services(Check *check, int first, int n_services, bool only_these)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "smartbox_anomaly check", ALLOCSET_DEFAULT_SIZES);
	int			n_metrics = check->metrics->n_metrics;
	SbaMetricQuery *alive = palloc(sizeof(SbaMetricQuery) * (n_metrics + 1));
	const char **names = palloc(sizeof(char *) * (n_services + 1));
	SbaMetricGrid *grid;
	int			n_alive = 0;
	int			i;
	int			m;
	int			slot;

	for (i = 0; i < n_services; i++)
		names[i] = check->services[first + i].name;
	for (m = 0; m < n_metrics; m++)
	{
		if (!check->queries[m].failed)
			alive[n_alive++] = check->queries[m];
	}
	MemoryContextSwitchTo(scratch);
	grid = sba_metric_grid_create(names, n_services, n_metrics, check->first_time,
								  sba_sample_interval_s, check->n_slots);
	MemoryContextSwitchTo(caller);
	sba_source_fetch(alive, n_alive, grid, only_these);

	for (m = 0; m < n_alive; m++)
	{
		int			column = alive[m].column;

		check->queries[column] = alive[m];
		for (i = 0; i < n_services && !alive[m].failed; i++)
		{
			for (slot = 0; slot < check->n_slots; slot++)
			{
				double		value = grid->values[SBA_GRID_INDEX(grid, i, slot, column)];

				if (isfinite(value))
					note_point(&check->metrics->metric[column],
							   &check->points[(first + i) * n_metrics + column], slot, value);
			}
			CHECK_FOR_INTERRUPTS();
		}
	}
	MemoryContextDelete(scratch);
}

/* Read what is configured, holding no lock on it afterwards. */
static void
read_catalogs(Check *check, ArrayType *names)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		check->metrics = sba_load_metrics();
		check->services = sba_list_services(names, &check->n_services);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* an error that left it open would leave the session in it */
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
}

/* ---------- judging ---------- */

/* Say what is wrong with the source as a whole; returns whether to go on. */
static bool
judge_source(const Check *check)
{
	const SbaSourceList *services = &check->lists[SBA_LIST_SERVICES];
	const SbaSourceList *labels = &check->lists[SBA_LIST_LABELS];
	const char *label = NULL;
	int			i;

	for (i = 0; i < lengthof(check->lists); i++)
	{
		const SbaMetricQuery *query = &check->lists[i].query;

		if (!query->failed)
			continue;
		add_row(check, NULL, NULL, -1, NULL, failure_text(query), query->hint);
		/* the others would meet the same */
		if (ERRCODE_TO_CATEGORY(query->sqlstate) == ERRCODE_TO_CATEGORY(ERRCODE_CONNECTION_FAILURE))
			return false;
	}
	if (services->query.failed || services->n_names > 0)
		return true;
	if (!labels->query.failed)
	{
		if (!sba_source_list_has(labels, sba_service_label))
			label = sba_service_label;
		else if (sba_environment[0] != '\0' && !sba_source_list_has(labels, "deployment_environment_name"))
			label = "deployment_environment_name";
	}
	add_row(check, NULL, NULL, 0, NULL,
			psprintf("the source has no series with {%s}", sba_expand_query("$selector", NULL, 0)),
			label == NULL ? "See smartbox_anomaly.environment, smartbox_anomaly.extra_selector and smartbox_anomaly.service_label." :
			psprintf("It has no label \"%s\": set smartbox_anomaly.%s%s.  %s", label,
					 label == sba_service_label ? "service_label" : "environment",
					 label == sba_service_label ? " to the label that names a service" : " to an empty string",
					 label == sba_service_label ? nearest_text(labels, label) : ""));
	return true;
}

/* What the units of a metric's values may be instead, over all services. */
static const char *
suspect_unit(const Check *check, int m, const char **hint)
{
	const SbaMetric *metric = &check->metrics->metric[m];
	bool		all_small = metric->kind == SBA_KIND_LATENCY;
	bool		any_positive = false;
	int			n_rising = 0;
	int			n_others = 0;
	int			i;

	for (i = 0; i < check->n_services; i++)
	{
		const Points *points = &check->points[i * check->metrics->n_metrics + m];

		if (points->n == 0)
			continue;
		all_small &= points->largest < 1;
		any_positive |= points->largest > 0;
		if (points->n_falls > 0)
			n_others++;
		else if (points->n_rises >= STEPS_TO_JUDGE)
			n_rising++;
	}
	if (all_small && any_positive)
	{
		*hint = psprintf("Is the unit seconds?  \"%s\" is expected in ms: multiply by 1000 in the query.", metric->name);
		return "all values are below 1 ms";
	}
	if (metric->kind == SBA_KIND_RATE && n_rising > 0 && n_others == 0)
	{
		*hint = "Is it a counter?  Take rate(...[$window]) of it in the query.";
		return "the values of all services only rise";
	}
	return NULL;
}

/* Say what is wrong with a metric's query; returns whether it brings anything. */
static bool
judge_metric(const Check *check, int m)
{
	const SbaMetricQuery *query = &check->queries[m];
	char	   *expanded = sba_expand_query(query->query, NULL, 0);
	const char *problem;
	const char *doubt = NULL;
	char	   *hint = NULL;
	int64		n_points = 0;
	int			i;

	if (query->failed)
	{
		add_row(check, query->metric, NULL, -1, NULL, failure_text(query), query->hint);
		return false;
	}
	for (i = 0; i < check->n_services; i++)
		n_points += check->points[i * check->metrics->n_metrics + m].n;

	problem = missing_names(check, expanded, SBA_NAME_METRIC, &hint);
	if (problem == NULL && n_points == 0)
		problem = missing_names(check, expanded, SBA_NAME_LABEL, &hint);
	if (problem == NULL && n_points == 0)
	{
		problem = query->n_not_finite > 0 ? "all values are NaN or infinite" :
			"the query brings nothing for any of the services";
		hint = query->n_not_finite > 0 ? "Is something divided by zero?" :
			psprintf("Asked was: %s", expanded);
	}
	if (problem != NULL)
		add_row(check, query->metric, NULL, n_points, NULL, problem, hint);
	if (query->n_early > 0 || query->n_late > 0)
		add_row(check, query->metric, NULL, n_points, NULL,
				psprintf("of the points that came, " INT64_FORMAT " were before the time asked for and " INT64_FORMAT " after it",
						 query->n_early, query->n_late),
				"Compare the clocks of the metric source and of this server.");
	doubt = suspect_unit(check, m, (const char **) &hint);
	if (doubt != NULL)
		add_row(check, query->metric, NULL, n_points, NULL, doubt, hint);
	return n_points > 0;
}

/* Say what the source has of a metric for a service, and what is wrong with it. */
static void
judge_points(const Check *check, int m, int service)
{
	const SbaMetric *metric = &check->metrics->metric[m];
	const Points *points = &check->points[service * check->metrics->n_metrics + m];
	const char *problem = NULL;
	const char *hint = NULL;
	int			late = check->n_slots - 1 - points->last_slot;

	if (points->n == 0)
	{
		problem = "no points";
		hint = "That is as it should be when the service has nothing to measure here, such as calls to a database.";
	}
	else if (points->n_above > 0)
	{
		problem = psprintf(INT64_FORMAT " of " INT64_FORMAT " values are above %.15g and taken as unknown, the largest is %.15g",
						   points->n_above, points->n, metric->valid_max, points->largest);
		hint = metric->kind == SBA_KIND_RATIO ? "Is it per cent?  Divide by 100 in the query." :
			metric->kind == SBA_KIND_LATENCY ? "Is the unit microseconds or nanoseconds?  It is expected in ms." :
			"Is it a counter without rate()?  The limit is valid_max in smartbox.metrics.";
	}
	else if (points->n_below > 0)
	{
		problem = psprintf(INT64_FORMAT " of " INT64_FORMAT " values are below %.15g and taken as unknown",
						   points->n_below, points->n, metric->valid_min);
		hint = "The limit is valid_min in smartbox.metrics.";
	}
	else if (late >= LATE_SLOTS)
	{
		problem = psprintf("nothing has come for the last %d intervals", late);
		hint = "Does the service still report?";
	}
	add_row(check, metric->name, check->services[service].name, points->n, points, problem, hint);
}

/* Whether the source has a service, under whatever metric. */
static bool
has_service(const Check *check, int service)
{
	const SbaSourceList *list = &check->lists[SBA_LIST_SERVICES];
	int			m;

	if (list->query.failed || list->n_names == 0 ||
		sba_source_list_has(list, check->services[service].name))
		return true;
	for (m = 0; m < check->metrics->n_metrics; m++)
	{
		if (check->points[service * check->metrics->n_metrics + m].n > 0)
			return true;
	}
	return false;
}

static void
judge(const Check *check)
{
	bool	   *known = palloc(check->n_services + 1);
	int			m;
	int			i;

	if (check->n_services == 0)
		add_row(check, NULL, NULL, -1, NULL, "no service is known and enabled, so there is nothing to ask for",
				"Call discover_services(), or insert into smartbox.services.");
	for (i = 0; i < check->n_services; i++)
	{
		const char *name = check->services[i].name;
		const char *nearest;

		known[i] = has_service(check, i);
		if (known[i])
			continue;
		nearest = nearest_text(&check->lists[SBA_LIST_SERVICES], name);
		add_row(check, NULL, name, 0, NULL, "the source does not have this service", nearest[0] != '\0' ? nearest :
				"See smartbox_anomaly.environment, smartbox_anomaly.extra_selector and smartbox_anomaly.service_label.");
	}
	for (m = 0; m < check->metrics->n_metrics; m++)
	{
		bool		any = check->n_services > 0 && judge_metric(check, m);

		for (i = 0; any && i < check->n_services; i++)
		{
			if (known[i])
				judge_points(check, m, i);
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---------- the function ---------- */

/* How many instants a lookback has. */
static int
count_slots(TimestampTz until, Interval *lookback)
{
	TimestampTz since = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
																TimestampTzGetDatum(until),
																IntervalPGetDatum(lookback)));
	int64		n = (until - since) / USECS_PER_SEC / sba_sample_interval_s;

	if (n < 1 || until - since > LONGEST_LOOKBACK_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lookback must be at least one sample interval and at most %d days", LONGEST_LOOKBACK_DAYS),
				 errhint("The sample interval is smartbox_anomaly.sample_interval.")));
	return (int) n;
}

/*
 * check_metric_source(services text[], lookback interval)
 *		returns setof (metric, service, points, first_ts, last_ts, problem, hint)
 */
Datum
sba_check_metric_source(PG_FUNCTION_ARGS)
{
	Check		check = {.fcinfo = fcinfo};
	ArrayType  *names = sba_text_array_argument(fcinfo, 0);
	int64		until = sba_current_slot();
	int			per_chunk;
	int			first;
	int			i;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("lookback must not be null")));
	check.n_slots = count_slots(sba_time_of_unix(until), PG_GETARG_INTERVAL_P(1));
	check.first_time = until - (int64) (check.n_slots - 1) * sba_sample_interval_s;
	sba_begin_rows(fcinfo);
	SPI_connect();
	read_catalogs(&check, names);
	check.queries = sba_make_metric_queries(check.metrics);
	check.points = palloc_extended(mul_size(sizeof(Points), mul_size(check.n_services, check.metrics->n_metrics) + 1),
								   MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);

	for (i = 0; i < lengthof(check.lists); i++)
		check.lists[i].kind = i;
	sba_source_lists(check.lists, lengthof(check.lists), check.first_time, until);
	if (judge_source(&check))
	{
		per_chunk = Max(VALUES_PER_CHUNK / check.n_slots / Max(check.metrics->n_metrics, 1), 1);
		for (first = 0; first < check.n_services; first += per_chunk)
			read_services(&check, first, Min(per_chunk, check.n_services - first),
						  names != NULL || per_chunk < check.n_services);
		judge(&check);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
