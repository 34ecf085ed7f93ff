/*
 * root_causes.c
 *	  The incidents behind incidents, along smartbox.dependencies.
 *
 * A recursive query finds the services that can be reached over anomalous ones
 * only; it keeps each once, so circles end and the work is in proportion to the
 * dependencies of these services.  Which one is suspected is decided in
 * core/root_cause.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/root_cause.h"
#include "db/root_causes.h"
#include "pg/query.h"

#define ACTIVE_NOW	"i.status <> 'CLOSED'"
#define ACTIVE_AT	"i.first_seen <= $2 AND (i.resolved_at > $2 OR i.resolved_at IS NULL)"

/*
 * Incidents of all services that can be reached from some, by service and age.
 * What a root was before counts on when it has closed: it recovers before what
 * depends on it does.
 */
#define INCIDENTS(active) \
	"WITH RECURSIVE reached(service) AS (" \
	" SELECT n.service FROM pg_catalog.unnest($1) AS n(service)" \
	" WHERE EXISTS (SELECT FROM smartbox.incidents AS i WHERE i.service = n.service AND " active ")" \
	" UNION" \
	" SELECT d.depends_on FROM reached AS r JOIN smartbox.dependencies AS d ON d.service = r.service" \
	" WHERE EXISTS (SELECT FROM smartbox.incidents AS i WHERE i.service = d.depends_on AND " active "))" \
	" SELECT i.service, i.incident_id, i.first_seen, i.last_evaluated, i.severity::text, i.anomaly_name," \
	" i.root_service, i.root_incident_id," \
	" b.status = 'CLOSED' AND b.confirmed_at IS NOT NULL AND b.service <> i.service" \
	" FROM reached AS r JOIN smartbox.incidents AS i ON i.service = r.service AND " active \
	" LEFT JOIN smartbox.incidents AS b ON b.service = i.root_service AND b.incident_id = i.root_incident_id" \
	" ORDER BY i.service COLLATE \"C\", i.first_seen, i.incident_id COLLATE \"C\""

static SbaQuery any_active_query = {
	.text = "SELECT 1 FROM smartbox.incidents AS i WHERE " ACTIVE_NOW " LIMIT 1",
	.expected = SPI_OK_SELECT,
};

static SbaQuery active_now_query = {
	.text = INCIDENTS(ACTIVE_NOW),
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery active_at_query = {
	.text = INCIDENTS(ACTIVE_AT),
	.n_arguments = 2,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery dependencies_query = {
	.text = "SELECT d.service, d.depends_on FROM smartbox.dependencies AS d WHERE d.service = ANY ($1)"
	" ORDER BY d.service COLLATE \"C\", d.depends_on COLLATE \"C\"",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery lock_query = {
	.text = "SELECT s.service FROM smartbox.services AS s WHERE s.service = ANY ($1) OR $1 IS NULL"
	" ORDER BY s.service COLLATE \"C\" FOR NO KEY UPDATE",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

#define CHANGED_ROWS \
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))" \
	" AS n(service, incident_id, root_service, root_incident_id)"

static SbaQuery update_query = {
	.text = "UPDATE smartbox.incidents AS i"
	" SET root_service = n.root_service, root_incident_id = n.root_incident_id"
	CHANGED_ROWS
	" WHERE i.service = n.service AND i.incident_id = n.incident_id AND i.status <> 'CLOSED'",
	.n_arguments = 4,
	.argument_types = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery event_query = {
	.text = "UPDATE smartbox.incident_events AS e"
	" SET details = e.details || pg_catalog.jsonb_build_object("
	"'root_service', n.root_service, 'root_incident_id', n.root_incident_id)"
	CHANGED_ROWS
	" WHERE e.service = n.service AND e.incident_id = n.incident_id AND e.recorded_at = pg_catalog.now()"
	" AND e.event_number = (SELECT pg_catalog.max(l.event_number) FROM smartbox.incident_events AS l"
	" WHERE l.service = n.service AND l.incident_id = n.incident_id)",
	.n_arguments = 4,
	.argument_types = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery alert_query = {
	.text = "UPDATE smartbox.alerts AS a"
	" SET payload = pg_catalog.jsonb_set(a.payload, '{anomalies,0,metadata,suspected_root_cause}',"
	" pg_catalog.jsonb_build_object('service', n.root_service, 'incident_id', n.root_incident_id))"
	CHANGED_ROWS
	" WHERE a.service = n.service AND a.incident_id = n.incident_id AND a.created_at = pg_catalog.now()"
	" AND n.root_service IS NOT NULL AND a.alert_type <> 'incident_resolved'",
	.n_arguments = 4,
	.argument_types = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
	.expected = SPI_OK_UPDATE,
};

/* The part of the fleet that is anomalous, as it was read. */
typedef struct Cascade
{
	int			n;
	SbaActiveIncident *incidents;	/* all of these are [n] */
	SbaSuspicion *suspicions;
	SbaRootCause *names;		/* without a path */
	const char **root_service;	/* as it is stored; NULL for none */
	const char **root_incident;
	bool	   *root_is_over;	/* it was confirmed and has closed */
} Cascade;

static SbaSeverity
severity_of(const char *name)
{
	SbaSeverity severity = SBA_SEVERITY_CRITICAL;

	while (severity > SBA_SEVERITY_NONE && strcmp(sba_severity_name(severity), name) != 0)
		severity--;
	return severity;
}

static Datum
text_array(Datum *elements, bool *nulls, int n)
{
	int			one_dimension = 1;

	return PointerGetDatum(construct_md_array(elements, nulls, 1, &n, &one_dimension,
											  TEXTOID, -1, false, TYPALIGN_INT));
}

static ArrayType *
array_of_one(const char *service)
{
	Datum		element = CStringGetTextDatum(service);

	return DatumGetArrayTypeP(text_array(&element, NULL, 1));
}

/* Read the incidents of the query's result. */
static void
read_incidents(Cascade *cascade)
{
	int			i;
	bool		is_null;

	cascade->n = (int) SPI_processed;
	cascade->incidents = palloc0(sizeof(SbaActiveIncident) * (cascade->n + 1));
	cascade->suspicions = palloc0(sizeof(SbaSuspicion) * (cascade->n + 1));
	cascade->names = palloc0(sizeof(SbaRootCause) * (cascade->n + 1));
	cascade->root_service = palloc0(sizeof(char *) * (cascade->n + 1));
	cascade->root_incident = palloc0(sizeof(char *) * (cascade->n + 1));
	cascade->root_is_over = palloc0(sizeof(bool) * (cascade->n + 1));
	for (i = 0; i < cascade->n; i++)
	{
		SbaActiveIncident *incident = &cascade->incidents[i];
		SbaRootCause *name = &cascade->names[i];

		name->service = sba_result_text(i, 1);
		name->incident_id = sba_result_text(i, 2);
		name->first_seen = DatumGetTimestampTz(sba_result_datum(i, 3, &is_null));
		name->severity = sba_result_text(i, 5);
		name->anomaly_name = sba_result_text(i, 6);
		cascade->root_service[i] = sba_result_text(i, 7);
		cascade->root_incident[i] = sba_result_text(i, 8);
		cascade->root_is_over[i] = sba_result_bool(i, 9);
		incident->first_seen_us = name->first_seen;
		incident->last_evaluated_us = DatumGetTimestampTz(sba_result_datum(i, 4, &is_null));
		incident->severity = severity_of(name->severity);
		if (i > 0)
			incident->service = incident[-1].service +
				(strcmp(name->service, name[-1].service) != 0 ? 1 : 0);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* The number of a service that has an incident; -1 for another. */
static int
number_of_service(const Cascade *cascade, const char *service)
{
	int			low = 0;
	int			high = cascade->n;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		int			order = strcmp(cascade->names[middle].service, service);

		if (order == 0)
			return cascade->incidents[middle].service;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

/*
 * Read what can be reached from these services over anomalous ones, now or at
 * an instant, and find the root of each incident.
 */
static void
read_cascade(ArrayType *services, TimestampTz at, Cascade *cascade)
{
	SbaDependency *dependencies;
	SbaError	error;
	Datum	   *names;
	Datum		arguments[2];
	int			n_names = 0;
	int			n_dependencies = 0;
	uint64		row;
	int			i;

	arguments[0] = PointerGetDatum(services);
	arguments[1] = TimestampTzGetDatum(at);
	sba_query_run(at == 0 ? &active_now_query : &active_at_query, arguments, NULL, 0);
	read_incidents(cascade);
	if (cascade->n == 0)
		return;

	names = palloc(sizeof(Datum) * cascade->n);
	for (i = 0; i < cascade->n; i++)
		if (i == 0 || cascade->incidents[i].service != cascade->incidents[i - 1].service)
			names[n_names++] = CStringGetTextDatum(cascade->names[i].service);
	arguments[0] = text_array(names, NULL, n_names);
	sba_query_run(&dependencies_query, arguments, NULL, 0);
	dependencies = palloc(sizeof(SbaDependency) * (SPI_processed + 1));
	for (row = 0; row < SPI_processed; row++)
	{
		int			depends_on = number_of_service(cascade, sba_result_text(row, 2));

		if (depends_on < 0)
			continue;
		dependencies[n_dependencies].service = number_of_service(cascade, sba_result_text(row, 1));
		dependencies[n_dependencies++].depends_on = depends_on;
	}
	SPI_freetuptable(SPI_tuptable);
	if (sba_find_root_causes(cascade->incidents, cascade->n, dependencies, n_dependencies,
							 cascade->suspicions, &error) != SBA_OK)
		sba_report_error(&error, "could not search for root causes");
}

/*
 * Services from an incident's to its root's.  Other incidents of a service
 * may have led around; its name then stands once, and the way is shorter.
 */
static List *
path_of(const Cascade *cascade, int i)
{
	List	   *path = NIL;

	for (;;)
	{
		const char *service = cascade->names[i].service;
		int			length;

		for (length = 0; length < list_length(path); length++)
			if (strcmp(list_nth(path, length), service) == 0)
				path = list_truncate(path, length);
		path = lappend(path, unconstify(char *, service));
		if (cascade->suspicions[i].root == i)
			return path;
		i = cascade->suspicions[i].next;
	}
}

List	   *
sba_root_causes_of(const char *service, TimestampTz at)
{
	Cascade		cascade;
	List	   *causes = NIL;
	bool	   *seen;
	int			i;

	read_cascade(array_of_one(service), at, &cascade);
	seen = palloc0(sizeof(bool) * (cascade.n + 1));
	for (i = 0; i < cascade.n; i++)
	{
		int			root = cascade.suspicions[i].root;

		if (strcmp(cascade.names[i].service, service) != 0 || seen[root])
			continue;
		seen[root] = true;
		cascade.names[root].path = path_of(&cascade, i);
		causes = lappend(causes, &cascade.names[root]);
	}
	return causes;
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

int
sba_write_root_causes(ArrayType *services)
{
	Cascade		cascade;
	Datum	   *columns[4];
	Datum		arguments[4];
	bool	   *nulls;
	Datum	   *names;
	bool	   *name_nulls;
	bool	   *is_asked;
	int			n_names;
	int			n = 0;
	int			c;
	int			i;

	sba_query_run(&any_active_query, NULL, NULL, 1);
	if (SPI_processed == 0)
		return 0;
	read_cascade(services, 0, &cascade);
	if (cascade.n == 0)
		return 0;

	deconstruct_array(services, TEXTOID, -1, false, TYPALIGN_INT, &names, &name_nulls, &n_names);
	is_asked = palloc0(sizeof(bool) * (cascade.n + 1));
	for (i = 0; i < n_names; i++)
	{
		int			number = name_nulls[i] ? -1 : number_of_service(&cascade, TextDatumGetCString(names[i]));

		if (number >= 0)
			is_asked[number] = true;
	}

	nulls = palloc(sizeof(bool) * cascade.n);
	for (c = 0; c < lengthof(columns); c++)
		columns[c] = palloc0(sizeof(Datum) * cascade.n);
	for (i = 0; i < cascade.n; i++)
	{
		int			root = cascade.suspicions[i].root;
		const char *service = cascade.names[root].service;
		const char *incident_id = cascade.names[root].incident_id;

		if (!is_asked[cascade.incidents[i].service])
			continue;

		/* the end of a chain whose root has closed still hangs on that one */
		if (cascade.root_is_over[root])
		{
			service = cascade.root_service[root];
			incident_id = cascade.root_incident[root];
		}
		if (strcmp(service, cascade.names[i].service) == 0)
			service = incident_id = NULL;
		if (same_text(service, cascade.root_service[i]) && same_text(incident_id, cascade.root_incident[i]))
			continue;
		columns[0][n] = CStringGetTextDatum(cascade.names[i].service);
		columns[1][n] = CStringGetTextDatum(cascade.names[i].incident_id);
		nulls[n] = service == NULL;
		if (service != NULL)
		{
			columns[2][n] = CStringGetTextDatum(service);
			columns[3][n] = CStringGetTextDatum(incident_id);
		}
		n++;
	}
	if (n == 0)
		return 0;

	for (c = 0; c < lengthof(columns); c++)
		arguments[c] = text_array(columns[c], c >= 2 ? nulls : NULL, n);
	sba_query_run(&event_query, arguments, NULL, 0);
	sba_query_run(&alert_query, arguments, NULL, 0);
	sba_query_run(&update_query, arguments, NULL, 0);
	return (int) SPI_processed;
}

ArrayType  *
sba_lock_services(ArrayType *names)
{
	Datum		argument = PointerGetDatum(names);
	Datum	   *locked;
	uint64		row;

	sba_query_run(&lock_query, &argument, names == NULL ? "n" : " ", 0);
	locked = palloc(sizeof(Datum) * (SPI_processed + 1));
	for (row = 0; row < SPI_processed; row++)
		locked[row] = CStringGetTextDatum(sba_result_text(row, 1));
	return DatumGetArrayTypeP(text_array(locked, NULL, (int) SPI_processed));
}
