/*
 * catalog.c
 *	  The catalogs that say what is watched: metrics and services.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "db/catalog.h"
#include "pg/query.h"
#include "pg/settings.h"

#define SECONDS_PER_WEEK (7 * 24 * 3600.0)

static SbaQuery metrics_query = {
	.text = "SELECT m.metric, m.position, m.query, m.unit, m.kind, m.direction,"
	" m.valid_min, m.valid_max, m.min_absolute_deviation, m.min_relative_deviation,"
	" (SELECT pg_catalog.max(a.position) FROM smartbox.metrics a), m.zero_is_normal"
	" FROM smartbox.metrics m WHERE m.enabled ORDER BY m.position",
	.expected = SPI_OK_SELECT,
};

/* A category that was deleted under its services counts as the standard one. */
#define SERVICE_COLUMNS \
	"SELECT s.service, s.category, s.time_zone, s.enabled," \
	" coalesce(s.contamination, c.contamination, 0.05)," \
	" coalesce(s.false_alarms_per_week, c.false_alarms_per_week, 2)" \
	" FROM smartbox.services s LEFT JOIN smartbox.service_categories c USING (category)"

static SbaQuery all_services_query = {
	.text = SERVICE_COLUMNS " WHERE s.enabled ORDER BY s.service COLLATE \"C\"",
	.expected = SPI_OK_SELECT,
};

static SbaQuery named_services_query = {
	.text = SERVICE_COLUMNS " WHERE s.service = ANY ($1) ORDER BY s.service COLLATE \"C\"",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery service_names_query = {
	.text = "SELECT service FROM smartbox.services ORDER BY service COLLATE \"C\"",
	.expected = SPI_OK_SELECT,
};

static SbaMetricKind
kind_of(const char *name)
{
	return strcmp(name, "rate") == 0 ? SBA_KIND_RATE :
		strcmp(name, "ratio") == 0 ? SBA_KIND_RATIO : SBA_KIND_LATENCY;
}

static SbaDirection
direction_of(const char *name)
{
	return strcmp(name, "high") == 0 ? SBA_DIRECTION_HIGH :
		strcmp(name, "low") == 0 ? SBA_DIRECTION_LOW : SBA_DIRECTION_BOTH;
}

SbaMetricCatalog *
sba_load_metrics(void)
{
	SbaMetricCatalog *catalog = palloc0(sizeof(SbaMetricCatalog));
	uint64		row;

	sba_query_run(&metrics_query, NULL, NULL, 0);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no metric is enabled"),
				 errhint("See the table smartbox.metrics.")));
	if (SPI_processed > SBA_MAX_METRICS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%llu metrics are enabled, at most %d can be",
						(unsigned long long) SPI_processed, SBA_MAX_METRICS)));

	catalog->n_metrics = (int) SPI_processed;
	for (row = 0; row < SPI_processed; row++)
	{
		SbaMetric  *metric = &catalog->metric[row];

		metric->name = sba_result_text(row, 1);
		catalog->position[row] = sba_result_int4(row, 2, 0);
		catalog->query[row] = sba_result_text(row, 3);
		catalog->unit[row] = sba_result_text(row, 4);
		metric->kind = kind_of(sba_result_text(row, 5));
		metric->direction = direction_of(sba_result_text(row, 6));
		metric->valid_min = sba_result_float8(row, 7, 0);
		metric->valid_max = sba_result_float8(row, 8, INFINITY);
		metric->min_absolute_deviation = sba_result_float8(row, 9, 0);
		metric->min_relative_deviation = sba_result_float8(row, 10, 0);
		metric->counts_requests = metric->kind == SBA_KIND_RATE &&
			strcmp(metric->name, SBA_REQUEST_METRIC) == 0;
		catalog->n_positions = sba_result_int4(row, 11, 0);
		catalog->zero_is_normal[row] = sba_result_bool(row, 12);
	}
	return catalog;
}

static void
look_up_time_zone(SbaService *service)
{
	service->time_zone = pg_tzset(service->time_zone_name);
	if (service->time_zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" of service \"%s\" is not known",
						service->time_zone_name, service->name),
				 errhint("See the view pg_timezone_names.")));
}

static void
read_services(SbaService *services)
{
	uint64		row;

	for (row = 0; row < SPI_processed; row++)
	{
		SbaService *service = &services[row];

		service->name = sba_result_text(row, 1);
		service->category = sba_result_text(row, 2);
		service->time_zone_name = sba_result_text(row, 3);
		if (service->time_zone_name == NULL)
			service->time_zone_name = pstrdup(sba_time_zone);
		service->time_zone = NULL;
		service->contamination = sba_result_float8(row, 5, 0);
		service->false_alarms_per_week = sba_result_float8(row, 6, 1);
	}
}

typedef struct NearName
{
	const char *name;
	int			distance;
} NearName;

static int
compare_near_names(const void *a, const void *b)
{
	return ((const NearName *) a)->distance - ((const NearName *) b)->distance;
}

/* Complain about a name that is no service, with the nearest that are. */
static void
report_unknown_service(const char *name)
{
	const int	max_given = 3;
	const int	max_length = 255;	/* that varstr_levenshtein takes */
	StringInfoData nearest;
	NearName   *names;
	int			n = 0;
	int			i;

	sba_query_run(&service_names_query, NULL, NULL, 0);
	names = palloc(sizeof(NearName) * (SPI_processed + 1));
	for (i = 0; i < (int) SPI_processed; i++)
	{
		const char *known = sba_result_text(i, 1);

		if (strlen(known) > max_length || strlen(name) > max_length)
			continue;
		names[n].name = known;
		names[n++].distance = varstr_levenshtein(known, strlen(known), name, strlen(name),
												 1, 1, 1, true);
	}
	qsort(names, n, sizeof(NearName), compare_near_names);
	initStringInfo(&nearest);
	for (i = 0; i < n && i < max_given; i++)
		appendStringInfo(&nearest, "%s\"%s\"", i > 0 ? ", " : "", names[i].name);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("service \"%s\" is not known", name),
			 n > 0 ? errdetail("The nearest known names are %s.", nearest.data) : 0,
			 errhint("Add it with INSERT INTO smartbox.services (service) VALUES (...), or call discover_services().")));
}

SbaService *
sba_list_services(ArrayType *names, int *n_services)
{
	SbaService *services;

	if (names == NULL)
		sba_query_run(&all_services_query, NULL, NULL, 0);
	else
	{
		Datum		argument = PointerGetDatum(names);

		sba_query_run(&named_services_query, &argument, NULL, 0);
	}
	*n_services = (int) SPI_processed;
	services = palloc(sizeof(SbaService) * (SPI_processed + 1));
	read_services(services);

	if (names != NULL)
	{
		Datum	   *elements;
		bool	   *nulls;
		int			n;
		int			i;
		int			j;

		deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
		for (i = 0; i < n; i++)
		{
			char	   *name;

			if (nulls[i])
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 errmsg("a service's name must not be null")));
			name = TextDatumGetCString(elements[i]);
			for (j = 0; j < *n_services && strcmp(services[j].name, name) != 0; j++)
				;
			if (j == *n_services)
				report_unknown_service(name);
		}
	}
	return services;
}

SbaService *
sba_load_services(ArrayType *names, int *n_services)
{
	SbaService *services = sba_list_services(names, n_services);
	int			i;

	for (i = 0; i < *n_services; i++)
		look_up_time_zone(&services[i]);
	return services;
}

SbaService *
sba_load_service(const char *name)
{
	Datum		element = CStringGetTextDatum(name);
	int			n_services;

	return sba_load_services(construct_array(&element, 1, TEXTOID, -1, false, TYPALIGN_INT),
							 &n_services);
}

double
sba_budget_probability(const SbaService *service)
{
	return Min(service->false_alarms_per_week * sba_sample_interval_s / SECONDS_PER_WEEK, 0.5);
}
