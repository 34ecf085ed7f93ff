/*
 * catalog.h
 *	  The catalogs that say what is watched: metrics and services.
 */
#ifndef SBA_DB_CATALOG_H
#define SBA_DB_CATALOG_H

#include "pgtime.h"
#include "utils/array.h"

#include "core/metric.h"

/* The enabled rows of smartbox.metrics, by position. */
typedef struct SbaMetricCatalog
{
	int			n_metrics;
	int			n_positions;	/* length of samples.metric_values */
	SbaMetric	metric[SBA_MAX_METRICS];
	int			position[SBA_MAX_METRICS];	/* 1-based */
	bool		zero_is_normal[SBA_MAX_METRICS];
	const char *query[SBA_MAX_METRICS];
	const char *unit[SBA_MAX_METRICS];
} SbaMetricCatalog;

/* Room for a service's name: 200 characters of UTF-8 and a zero. */
#define SBA_SERVICE_KEY_SIZE 804

/* One row of smartbox.services, with its category's values filled in. */
typedef struct SbaService
{
	const char *name;
	const char *category;
	const char *time_zone_name;
	pg_tz	   *time_zone;
	double		contamination;
	double		false_alarms_per_week;
} SbaService;

/* Metric that says how many requests stand behind the others. */
#define SBA_REQUEST_METRIC "request_rate"

/*
 * The functions below run inside SPI_connect and return memory of the
 * calling context's SPI procedure context.
 */
extern SbaMetricCatalog *sba_load_metrics(void);

/*
 * The named services, or all enabled ones when names is NULL, sorted by name
 * in byte order.  An unknown or NULL name is an error that gives the nearest
 * known names.
 */
extern SbaService *sba_load_services(ArrayType *names, int *n_services);

/*
 * The same without looking up time zones, for who works on one service after
 * the other and does not want to stop at the first unknown one: time_zone is
 * NULL.
 */
extern SbaService *sba_list_services(ArrayType *names, int *n_services);

/* sba_load_services() for one service. */
extern SbaService *sba_load_service(const char *name);

/* Share of normal samples that may look like an anomaly, for this service. */
extern double sba_budget_probability(const SbaService *service);

#endif							/* SBA_DB_CATALOG_H */
