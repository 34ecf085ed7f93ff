/*
 * root_cause_functions.c
 *	  smartbox.root_cause() and smartbox.assign_root_causes().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "db/catalog.h"
#include "db/payload.h"
#include "db/root_causes.h"
#include "pg/compat.h"
#include "pg/query.h"
#include "pg/result_set.h"

SBA_FUNCTION(sba_root_cause);
SBA_FUNCTION(sba_assign_root_causes);

static Datum
path_array(List *path)
{
	Datum	   *elements = palloc(sizeof(Datum) * list_length(path));
	int			i;

	for (i = 0; i < list_length(path); i++)
		elements[i] = CStringGetTextDatum(list_nth(path, i));
	return PointerGetDatum(construct_array(elements, list_length(path), TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * root_cause(service text, at timestamptz) returns setof record
 */
Datum
sba_root_cause(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_ARGISNULL(1) ? 0 : PG_GETARG_TIMESTAMPTZ(1);
	const char *service;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a service's name must not be null")));
	service = text_to_cstring(PG_GETARG_TEXT_PP(0));
	sba_begin_rows(fcinfo);
	SPI_connect();
	sba_load_service(service);
	foreach(cell, sba_root_causes_of(service, at))
	{
		const SbaRootCause *cause = lfirst(cell);
		Datum		values[5];
		bool		nulls[5] = {false};

		values[0] = CStringGetTextDatum(cause->service);
		values[1] = CStringGetTextDatum(cause->incident_id);
		values[2] = path_array(cause->path);
		values[3] = Int32GetDatum(list_length(cause->path) - 1);
		values[4] = CStringGetTextDatum(psprintf("%s of %s, %s, since %s; no incident further upstream explains it",
												 cause->anomaly_name, cause->service, cause->severity,
												 sba_iso_timestamp(cause->first_seen)));
		sba_add_row(fcinfo, values, nulls);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/*
 * assign_root_causes(services text[]) returns integer
 */
Datum
sba_assign_root_causes(PG_FUNCTION_ARGS)
{
	ArrayType  *names = sba_text_array_argument(fcinfo, 0);
	int			n_services;
	int			changed;

	SPI_connect();
	if (names != NULL)
		sba_load_services(names, &n_services);	/* complains of unknown ones */
	changed = sba_write_root_causes(sba_lock_services(names));
	SPI_finish();
	PG_RETURN_INT32(changed);
}
