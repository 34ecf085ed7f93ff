/*
 * collector.c
 *	  The current values from the metric source into smartbox.samples.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "net/metric_source.h"
#include "pg/query.h"
#include "pg/settings.h"
#include "sqlfn/collector.h"

/* Seconds between the epochs of Unix and of PostgreSQL. */
#define EPOCH_DIFFERENCE ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

TimestampTz
sba_time_of_unix(int64 seconds)
{
	return (seconds - EPOCH_DIFFERENCE) * USECS_PER_SEC;
}

int64
sba_unix_of_time(TimestampTz ts)
{
	return ts / USECS_PER_SEC + EPOCH_DIFFERENCE;
}

int64
sba_current_slot(void)
{
	int64		now = sba_unix_of_time(GetCurrentTimestamp());

	return now - now % sba_sample_interval_s;
}

SbaMetricQuery *
sba_make_metric_queries(const SbaMetricCatalog *metrics)
{
	SbaMetricQuery *queries = palloc0(sizeof(SbaMetricQuery) * metrics->n_metrics);
	int			m;

	for (m = 0; m < metrics->n_metrics; m++)
	{
		queries[m].metric = metrics->metric[m].name;
		queries[m].column = m;
		queries[m].query = metrics->query[m];
	}
	return queries;
}

/*
 * Say which queries failed.  When none succeeded that is a failure of the
 * whole, of the given level; returns whether any succeeded.
 */
static bool
report_failures(const SbaMetricQuery *queries, int n_queries, int level_of_all)
{
	int			n_failed = 0;
	int			q;

	for (q = 0; q < n_queries; q++)
		n_failed += queries[q].failed;
	for (q = 0; q < n_queries; q++)
	{
		if (!queries[q].failed)
		{
			sba_source_report_refused(&queries[q]);
			continue;
		}
		sba_source_report(&queries[q], n_failed == n_queries ? level_of_all : WARNING);
		if (n_failed == n_queries)
			return false;
	}
	return true;
}

static const char **
service_names(const SbaService *services, int n_services)
{
	const char **names = palloc(sizeof(char *) * (n_services + 1));
	int			i;

	for (i = 0; i < n_services; i++)
		names[i] = services[i].name;
	return names;
}

List	   *
sba_warn_of_failed_queries(const SbaMetricQuery *queries, int n_queries)
{
	List	   *warnings = NIL;
	int			q;

	for (q = 0; q < n_queries; q++)
	{
		if (queries[q].failed)
			warnings = lappend(warnings, psprintf("%s" SBA_NOT_FETCHED, queries[q].metric));
	}
	return warnings;
}

SbaMetricGrid *
sba_fetch_current(const SbaMetricCatalog *metrics, SbaMetricQuery *queries,
				  const SbaService *services, int n_services, bool only_these, int failure_level)
{
	SbaMetricGrid *grid;

	if (n_services == 0)
		return NULL;
	grid = sba_metric_grid_create(service_names(services, n_services), n_services, metrics->n_metrics,
								  sba_current_slot(), sba_sample_interval_s, 1);
	sba_source_fetch(queries, metrics->n_metrics, grid, only_these);
	return report_failures(queries, metrics->n_metrics, failure_level) ? grid : NULL;
}

SbaCollected *
sba_store_current(const SbaMetricCatalog *metrics, const SbaMetricQuery *queries,
				  const SbaMetricGrid *grid, const SbaService *services, int n_services)
{
	SbaCollected *collected = palloc0(sizeof(SbaCollected) * (n_services + 1));
	SbaNewSample *samples = palloc0(sizeof(SbaNewSample) * (n_services + 1));
	int			n_samples = 0;
	int			i;
	int			m;

	for (i = 0; i < n_services; i++)
	{
		double	   *values = grid->values + SBA_GRID_INDEX(grid, i, 0, 0);

		collected[i].service = services[i].name;
		collected[i].ts = sba_time_of_unix(grid->first_time);
		collected[i].warnings = sba_warn_of_failed_queries(queries, metrics->n_metrics);
		for (m = 0; m < metrics->n_metrics; m++)
		{
			values[m] = sba_accept_value(&metrics->metric[m], values[m], &collected[i].warnings);
			collected[i].metrics_present += !isnan(values[m]);
		}
		if (collected[i].metrics_present == 0)
			continue;
		samples[n_samples].service = services[i].name;
		samples[n_samples].ts = collected[i].ts;
		samples[n_samples].values = values;
		samples[n_samples++].warnings = collected[i].warnings;
	}
	sba_store_samples(metrics, samples, n_samples);
	return collected;
}

SbaCollected *
sba_collect(const SbaMetricCatalog *metrics, const SbaService *services,
			int n_services, bool only_these, int failure_level)
{
	SbaMetricQuery *queries = sba_make_metric_queries(metrics);
	SbaMetricGrid *grid = sba_fetch_current(metrics, queries, services, n_services,
											only_these, failure_level);

	if (grid == NULL)
		return palloc0(sizeof(SbaCollected) * (n_services + 1));
	return sba_store_current(metrics, queries, grid, services, n_services);
}
