/*
 * objectives.c
 *	  smartbox.slos: what was promised of each service's metrics.
 *
 * Objectives have the last word on a finished verdict, whatever found it:
 * they read its signals from the payload and write into it what they made of
 * it.  A service without objectives costs a search in a short list.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "db/calendar.h"
#include "db/objectives.h"
#include "pg/json_writer.h"
#include "pg/query.h"
#include "pg/settings.h"

#define EVERY_SERVICE	"*"
#define METHOD_SLO		"slo"

static SbaQuery objectives_query = {
	.text = "SELECT service, metric, acceptable, warning, objective, min_requests, busy_factor, enabled"
	" FROM smartbox.slos WHERE service = ANY ($1) ORDER BY service COLLATE \"C\"",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery signals_query = {
	.text = "SELECT s->>'metric', s->>'direction'"
	" FROM pg_catalog.jsonb_path_query($1, '$.anomalies[0].detection_signals[*]') AS s"
	" WHERE s ? 'metric' AND s ? 'direction'",
	.n_arguments = 1,
	.argument_types = {JSONBOID},
	.expected = SPI_OK_SELECT,
};

/* The first anomaly gets what $3 says, and the signals $4 besides its own. */
static SbaQuery temper_query = {
	.text = "SELECT pg_catalog.jsonb_set($1 || pg_catalog.jsonb_build_object('overall_severity', $2),"
	" '{anomalies,0}', ($1 #> '{anomalies,0}') || $3 || pg_catalog.jsonb_build_object('detection_signals',"
	" coalesce($1 #> '{anomalies,0,detection_signals}', '[]') || $4))",
	.n_arguments = 4,
	.argument_types = {JSONBOID, TEXTOID, JSONBOID, JSONBOID},
	.expected = SPI_OK_SELECT,
};

/* What a sample without an anomaly becomes when it breaks a promise. */
static SbaQuery breach_query = {
	.text = "SELECT ($1 - '{error_code,error_message,hint}'::pg_catalog.text[]) || pg_catalog.jsonb_build_object("
	"'alert_type', 'anomaly_detected', 'overall_severity', $2, 'anomaly_count', 1,"
	" 'anomalies', pg_catalog.jsonb_build_array($3 || pg_catalog.jsonb_build_object('detection_signals', $4)))",
	.n_arguments = 4,
	.argument_types = {JSONBOID, TEXTOID, JSONBOID, JSONBOID},
	.expected = SPI_OK_SELECT,
};

typedef struct ObjectiveRow
{
	const char *service;
	int			metric;			/* in the catalog's order */
	bool		enabled;
	SbaObjective objective;
} ObjectiveRow;

struct SbaObjectives
{
	const SbaMetricCatalog *catalog;
	int			n_rows;			/* sorted by service */
	ObjectiveRow *rows;
	const SbaCalendar *calendar;	/* NULL when there are no objectives */
};

static int
find_metric(const SbaMetricCatalog *catalog, const char *name)
{
	int			m;

	for (m = 0; m < catalog->n_metrics; m++)
		if (strcmp(catalog->metric[m].name, name) == 0)
			return m;
	return -1;
}

SbaObjectives *
sba_load_objectives(const SbaMetricCatalog *catalog, const SbaService *services,
					int n_services, TimestampTz since, TimestampTz until)
{
	SbaObjectives *objectives = palloc0(sizeof(SbaObjectives));
	Datum	   *names = palloc(sizeof(Datum) * (n_services + 1));
	Datum		argument;
	uint64		row;
	int			i;

	for (i = 0; i < n_services; i++)
		names[i] = CStringGetTextDatum(services[i].name);
	names[n_services] = CStringGetTextDatum(EVERY_SERVICE);
	argument = PointerGetDatum(construct_array(names, n_services + 1, TEXTOID, -1, false, TYPALIGN_INT));
	sba_query_run(&objectives_query, &argument, NULL, 0);

	objectives->catalog = catalog;
	objectives->rows = palloc(sizeof(ObjectiveRow) * (SPI_processed + 1));
	for (row = 0; row < SPI_processed; row++)
	{
		ObjectiveRow *read = &objectives->rows[objectives->n_rows];
		SbaObjective *objective = &read->objective;

		read->metric = find_metric(catalog, sba_result_text(row, 2));
		if (read->metric < 0)
			continue;
		read->service = sba_result_text(row, 1);
		objective->acceptable = sba_result_float8(row, 3, 0);
		objective->warning = sba_result_float8(row, 4, 0);
		objective->objective = sba_result_float8(row, 5, 0);
		objective->min_requests = sba_result_float8(row, 6, 0);
		objective->busy_factor = sba_result_float8(row, 7, 1);
		objective->is_low = objective->acceptable > objective->objective ||
			(objective->acceptable == objective->objective &&
			 catalog->metric[read->metric].direction == SBA_DIRECTION_LOW);
		read->enabled = sba_result_bool(row, 8);
		objectives->n_rows++;
	}
	SPI_freetuptable(SPI_tuptable);
	if (objectives->n_rows > 0)
		objectives->calendar = sba_load_calendar(since, until);
	return objectives;
}

/* Let the rows of one name, its own or *, take their metrics' places. */
static void
take_rows(const SbaObjectives *objectives, const char *service, const ObjectiveRow **of_metric)
{
	int			low = 0;
	int			high = objectives->n_rows;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (strcmp(objectives->rows[middle].service, service) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < objectives->n_rows && strcmp(objectives->rows[low].service, service) == 0; low++)
		of_metric[objectives->rows[low].metric] = &objectives->rows[low];
}

bool
sba_judge_objectives(const SbaObjectives *objectives, const SbaService *service, TimestampTz ts,
					 const double *values, SbaObjectiveVerdict *verdicts)
{
	const SbaMetricCatalog *catalog = objectives->catalog;
	const ObjectiveRow *of_metric[SBA_MAX_METRICS] = {NULL};
	double		requests = NAN;
	bool		is_busy = false;
	bool		any = false;
	int			m;

	if (objectives->n_rows == 0)
		return false;
	take_rows(objectives, EVERY_SERVICE, of_metric);
	take_rows(objectives, service->name, of_metric);
	for (m = 0; m < catalog->n_metrics; m++)
	{
		any |= of_metric[m] != NULL && of_metric[m]->enabled;
		if (catalog->metric[m].counts_requests)
			requests = values[m] * sba_sample_interval_s;
	}
	if (!any)
		return false;
	if (objectives->calendar->n_entries > 0)
	{
		const SbaServiceCalendar *calendar = sba_calendar_of_service(objectives->calendar, service);

		/* nothing is promised for the time of a maintenance */
		if (sba_calendar_lookup(calendar, SBA_CALENDAR_MAINTENANCE, ts))
			return false;
		is_busy = sba_calendar_lookup(calendar, SBA_CALENDAR_BUSY, ts);
	}

	memset(verdicts, 0, sizeof(SbaObjectiveVerdict) * catalog->n_metrics);
	for (m = 0; m < catalog->n_metrics; m++)
		if (of_metric[m] != NULL && of_metric[m]->enabled)
			verdicts[m] = sba_judge_objective(&of_metric[m]->objective, values[m], requests, is_busy);
	return true;
}

/* Which metrics the first anomaly of a payload is about, and which way. */
static void
read_signals(const SbaMetricCatalog *catalog, Datum payload, SbaSignal *signals)
{
	uint64		row;

	sba_query_run(&signals_query, &payload, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		int			m = find_metric(catalog, sba_result_text(row, 1));

		if (m >= 0)
			signals[m] = strcmp(sba_result_text(row, 2), "low") == 0 ? SBA_SIGNAL_LOW : SBA_SIGNAL_HIGH;
	}
}

static char *
value_text(const SbaMetricCatalog *catalog, int m, double value)
{
	if (catalog->metric[m].kind == SBA_KIND_RATIO)
		return psprintf("%.3g %%", 100 * value);
	return psprintf("%.4g %s", value, catalog->unit[m]);
}

/* What an objective says of a metric, in words. */
static char *
describe(const SbaMetricCatalog *catalog, int m, double value, const SbaObjectiveVerdict *verdict)
{
	const char *side = verdict->is_low ? "below" : "above";
	const char *busy = verdict->is_busy ? ", at a busy time" : "";
	char	   *now = value_text(catalog, m, value);
	char	   *limit = value_text(catalog, m, verdict->threshold);
	const char *name = catalog->metric[m].name;

	switch (verdict->state)
	{
		case SBA_OBJECTIVE_BREACH:
			return psprintf("%s is %s, %s the objective of %s%s", name, now, side, limit, busy);
		case SBA_OBJECTIVE_WARNING:
			return psprintf("%s is %s, %s %s and near the objective%s", name, now, side, limit, busy);
		case SBA_OBJECTIVE_APPROACHING:
			return psprintf("%s is %s, %s the acceptable %s%s", name, now, side, limit, busy);
		default:
			return psprintf("%s is %s, within the acceptable %s%s", name, now, limit, busy);
	}
}

static void
write_objective(SbaJsonWriter *json, const SbaMetricCatalog *catalog, int m, double value,
				const SbaObjectiveVerdict *verdict)
{
	sba_json_open(json, METHOD_SLO, '{');
	sba_json_string(json, "metric", catalog->metric[m].name);
	sba_json_string(json, "state", sba_objective_state_name(verdict->state));
	sba_json_number(json, "value", value);
	sba_json_number(json, "threshold", verdict->threshold);
	sba_json_string(json, "text", describe(catalog, m, value, verdict));
	sba_json_close(json, '}');
}

/* Name of what is wrong with a metric, the same as any other detector's. */
static char *
fault_name(const SbaMetricCatalog *catalog, int m, const SbaObjectiveVerdict *verdict)
{
	return psprintf("%s_%s", catalog->metric[m].name, verdict->is_low ? "low" : "high");
}

/* The breaches that are no signals of the anomaly yet, as signals of it. */
static Datum
breaches_as_signals(const SbaMetricCatalog *catalog, const SbaObjectiveVerdict *verdicts, const SbaSignal *signals)
{
	SbaJsonWriter json;
	int			m;

	sba_json_init(&json);
	sba_json_open(&json, NULL, '[');
	for (m = 0; m < catalog->n_metrics; m++)
	{
		if (verdicts[m].state != SBA_OBJECTIVE_BREACH || signals[m] != SBA_SIGNAL_NONE)
			continue;
		sba_json_open(&json, NULL, '{');
		sba_json_string(&json, "name", fault_name(catalog, m, &verdicts[m]));
		sba_json_string(&json, "metric", catalog->metric[m].name);
		sba_json_string(&json, "direction", verdicts[m].is_low ? "low" : "high");
		sba_json_string(&json, "method", METHOD_SLO);
		sba_json_number(&json, "threshold", verdicts[m].threshold);
		sba_json_close(&json, '}');
	}
	sba_json_close(&json, ']');
	return sba_json_to_jsonb(&json);
}

bool
sba_apply_objectives(const SbaObjectives *objectives, const SbaService *service,
					 TimestampTz ts, const double *values, SbaJudgement *judgement)
{
	const SbaMetricCatalog *catalog = objectives->catalog;
	SbaObjectiveVerdict verdicts[SBA_MAX_METRICS];
	SbaSignal	signals[SBA_MAX_METRICS] = {SBA_SIGNAL_NONE};
	SbaObjectiveOutcome outcome;
	SbaJsonWriter json;
	Datum		arguments[4];
	bool		is_null;
	int			m;

	if (!sba_judge_objectives(objectives, service, ts, values, verdicts))
		return false;
	if (judgement->is_anomaly)
		read_signals(catalog, judgement->payload, signals);
	outcome = sba_weigh_objectives(catalog->metric, catalog->n_metrics, verdicts, signals, judgement->severity);
	m = outcome.metric;
	if (m < 0)
		return false;

	sba_json_init(&json);
	sba_json_open(&json, NULL, '{');
	if (!judgement->is_anomaly)
	{
		sba_json_string(&json, "type", METHOD_SLO);
		sba_json_string(&json, "name", fault_name(catalog, m, &verdicts[m]));
		sba_json_number(&json, "confidence_score", 1);
		sba_json_string(&json, "description", describe(catalog, m, values[m], &verdicts[m]));
		sba_json_string(&json, "interpretation", "A service objective is broken, whether or not that is unusual here.");
	}
	sba_json_string(&json, "severity", sba_severity_name(outcome.severity));
	write_objective(&json, catalog, m, values[m], &verdicts[m]);
	if (outcome.is_informational)
		sba_json_boolean(&json, "informational", true);
	sba_json_close(&json, '}');

	arguments[0] = judgement->payload;
	arguments[1] = CStringGetTextDatum(sba_severity_name(outcome.severity));
	arguments[2] = sba_json_to_jsonb(&json);
	arguments[3] = breaches_as_signals(catalog, verdicts, signals);
	sba_query_run(judgement->is_anomaly ? &temper_query : &breach_query, arguments, NULL, 1);
	judgement->payload = sba_result_datum(0, 1, &is_null);
	judgement->is_anomaly = true;
	judgement->severity = outcome.severity;
	return true;
}
