/*
 * backfill.c
 *	  The past from the metric source into smartbox.samples.
 *
 * A run is a list of pieces, each a task of the pool.  A piece is read in
 * memory, while nothing is held in the database, and then stored together with
 * the mark in services.backfilled that it was, and its progress.  Whoever is
 * interrupted loses what was under way; the next run asks for what has no mark.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "db/samples.h"
#include "net/metric_source.h"
#include "pg/query.h"
#include "pg/settings.h"
#include "sqlfn/backfill.h"
#include "sqlfn/backfill_plan.h"
#include "sqlfn/collector.h"

/* Columns of the rows that a piece returns; with a message, the rest is null. */
enum
{
	ROW_SERVICE,
	ROW_SAMPLES,
	ROW_GAPS,
	ROW_MESSAGE,
	ROW_DETAIL,
	ROW_COLUMNS
};

static SbaQuery register_query = {
	.text = "INSERT INTO smartbox.backfill_runs AS r (service, run_id, started_at, updated_at, span, pieces, pid)"
	" SELECT n.service, $1, $2, pg_catalog.clock_timestamp(), pg_catalog.tstzrange(n.since, n.until, '(]'), n.pieces, $3"
	" FROM ROWS FROM (pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::timestamptz[]),"
	" pg_catalog.unnest($6::timestamptz[]), pg_catalog.unnest($7::int4[])) AS n(service, since, until, pieces)"
	" ORDER BY n.service COLLATE \"C\""
	" ON CONFLICT (service, run_id) DO NOTHING",
	.n_arguments = 7,
	.argument_types = {UUIDOID, TIMESTAMPTZOID, INT4OID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, INT4ARRAYOID},
	.expected = SPI_OK_INSERT,
};

/* What is older than this is only in the way. */
static SbaQuery forget_query = {
	.text = "DELETE FROM smartbox.backfill_runs AS r"
	" WHERE r.service = ANY ($1) AND r.started_at < $2::timestamptz - interval '7 days'",
	.n_arguments = 2,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZOID},
	.expected = SPI_OK_DELETE,
};

static SbaQuery run_state_query = {
	.text = "SELECT r.stopped, r.last_error FROM smartbox.backfill_runs AS r"
	" WHERE r.service = $1 AND r.run_id = $2",
	.n_arguments = 2,
	.argument_types = {TEXTOID, UUIDOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery mark_query = {
	.text = "UPDATE smartbox.services AS s SET backfilled = s.backfilled +"
	" pg_catalog.tstzmultirange(pg_catalog.tstzrange($2, $3, '(]'))"
	" FROM (SELECT l.service FROM smartbox.services AS l WHERE l.service = ANY ($1)"
	" ORDER BY l.service COLLATE \"C\" FOR NO KEY UPDATE) AS locked"
	" WHERE s.service = locked.service",
	.n_arguments = 3,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery progress_query = {
	.text = "UPDATE smartbox.backfill_runs AS r SET pieces_done = r.pieces_done + 1, updated_at = $6,"
	" samples = r.samples + n.samples, gaps = r.gaps + n.gaps, last_error = coalesce($5, r.last_error),"
	" finished_at = CASE WHEN r.pieces_done + 1 + r.pieces_failed >= r.pieces THEN $6 END"
	" FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::int8[]), pg_catalog.unnest($4::int8[]))"
	" AS n(service, samples, gaps)"
	" WHERE r.service = n.service AND r.run_id = $1",
	.n_arguments = 6,
	.argument_types = {UUIDOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery failure_query = {
	.text = "UPDATE smartbox.backfill_runs AS r SET pieces_failed = r.pieces_failed + 1, updated_at = $4, last_error = $3,"
	" finished_at = CASE WHEN r.pieces_done + 1 + r.pieces_failed >= r.pieces THEN $4 END"
	" WHERE r.service = ANY ($2) AND r.run_id = $1",
	.n_arguments = 4,
	.argument_types = {UUIDOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery stop_query = {
	.text = "UPDATE smartbox.backfill_runs AS r SET stopped = true, last_error = $3"
	" WHERE r.service = ANY ($2) AND r.run_id = $1 AND NOT r.stopped",
	.n_arguments = 3,
	.argument_types = {UUIDOID, TEXTARRAYOID, TEXTOID},
	.expected = SPI_OK_UPDATE,
};

/* A piece that is being worked on. */
typedef struct Work
{
	SbaTask    *task;
	const SbaBackfillPlan *plan;
	const SbaBackfillPiece *piece;
	const char **names;			/* [piece->n_services] */
	int64	   *n_samples;		/* likewise */
	int64	   *n_gaps;
} Work;

static Datum
text_array(const char **texts, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * (n + 1));
	int			i;

	for (i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
int8_array(const int64 *values, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * (n + 1));
	int			i;

	for (i = 0; i < n; i++)
		elements[i] = Int64GetDatum(values[i]);
	return PointerGetDatum(construct_array(elements, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static bool
is_connection_failure(int sqlstate)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(ERRCODE_CONNECTION_FAILURE);
}

static void
begin_work(Work *work, SbaTask *task)
{
	int			number = atoi(task->item);
	int			i;

	memset(work, 0, sizeof(Work));
	work->task = task;
	work->plan = task->parameters;
	work->piece = &sba_backfill_pieces(work->plan)[number - 1];
	work->names = palloc(sizeof(char *) * work->piece->n_services);
	work->n_samples = palloc0(sizeof(int64) * work->piece->n_services);
	work->n_gaps = palloc0(sizeof(int64) * work->piece->n_services);
	for (i = 0; i < work->piece->n_services; i++)
		work->names[i] = sba_backfill_service_name(work->plan,
												   sba_backfill_member(work->plan, work->piece, i));
}

/* ---------- the run's progress ---------- */

/* Names of all services that the run has pieces of. */
static const char **
run_services(const SbaBackfillPlan *plan, int *n)
{
	const char **names = palloc(sizeof(char *) * (plan->n_services + 1));
	int			i;

	*n = 0;
	for (i = 0; i < plan->n_services; i++)
	{
		if (sba_backfill_services(plan)[i].n_pieces > 0)
			names[(*n)++] = sba_backfill_service_name(plan, i);
	}
	return names;
}

/* The first piece that is begun makes the whole run visible. */
static void
register_run(const SbaBackfillPlan *plan)
{
	const SbaBackfillService *services = sba_backfill_services(plan);
	Datum	   *since = palloc(sizeof(Datum) * plan->n_services);
	Datum	   *until = palloc(sizeof(Datum) * plan->n_services);
	Datum	   *pieces = palloc(sizeof(Datum) * plan->n_services);
	Datum		arguments[7];
	int			n_names;
	const char **names = run_services(plan, &n_names);
	int			n = 0;
	int			i;

	for (i = 0; i < plan->n_services; i++)
	{
		if (services[i].n_pieces == 0)
			continue;
		since[n] = TimestampTzGetDatum(services[i].since);
		until[n] = TimestampTzGetDatum(services[i].until);
		pieces[n++] = Int32GetDatum(services[i].n_pieces);
	}
	arguments[0] = UUIDPGetDatum(&plan->run_id);
	arguments[1] = TimestampTzGetDatum(plan->started_at);
	arguments[2] = Int32GetDatum(plan->pid);
	arguments[3] = text_array(names, n_names);
	arguments[4] = PointerGetDatum(construct_array(since, n, TIMESTAMPTZOID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	arguments[5] = PointerGetDatum(construct_array(until, n, TIMESTAMPTZOID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	arguments[6] = PointerGetDatum(construct_array(pieces, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	sba_query_run(&register_query, arguments, NULL, 0);

	arguments[0] = arguments[3];
	arguments[1] = TimestampTzGetDatum(plan->started_at);
	sba_query_run(&forget_query, arguments, NULL, 0);
}

/*
 * Make sure that the run is registered, and give up at once when the source
 * has not answered another piece of it.
 */
static void
check_run(const Work *work)
{
	Datum		arguments[2];

	arguments[0] = CStringGetTextDatum(work->names[0]);
	arguments[1] = UUIDPGetDatum(&work->plan->run_id);
	sba_query_run(&run_state_query, arguments, NULL, 1);
	if (SPI_processed == 0)
		register_run(work->plan);
	else if (sba_result_bool(0, 1))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg_internal("%s", sba_result_text(0, 2))));
}

static void
note_progress(const Work *work, const char *last_error)
{
	int			n = work->piece->n_services;
	Datum		arguments[6];
	char		nulls[7] = "      ";

	arguments[0] = UUIDPGetDatum(&work->plan->run_id);
	arguments[1] = text_array(work->names, n);
	arguments[2] = int8_array(work->n_samples, n);
	arguments[3] = int8_array(work->n_gaps, n);
	arguments[4] = last_error == NULL ? (Datum) 0 : CStringGetTextDatum(last_error);
	arguments[5] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (last_error == NULL)
		nulls[4] = 'n';
	sba_query_run(&progress_query, arguments, nulls, 0);
}

/* ---------- one piece ---------- */

/* A copy that outlives SPI_finish and transactions. */
static SbaMetricCatalog *
copy_metrics(const SbaMetricCatalog *metrics, MemoryContext memory)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	SbaMetricCatalog *copy = palloc(sizeof(SbaMetricCatalog));
	int			m;

	*copy = *metrics;
	for (m = 0; m < metrics->n_metrics; m++)
	{
		copy->metric[m].name = pstrdup(metrics->metric[m].name);
		copy->query[m] = pstrdup(metrics->query[m]);
		copy->unit[m] = pstrdup(metrics->unit[m]);
	}
	MemoryContextSwitchTo(caller);
	return copy;
}

/* Turn a filled grid into samples, and count what is in it. */
static void
store_grid(Work *work, const SbaMetricCatalog *metrics, const SbaMetricQuery *queries, SbaMetricGrid *grid)
{
	List	   *of_queries = sba_warn_of_failed_queries(queries, metrics->n_metrics);
	SbaNewSample *samples = palloc_extended(sizeof(SbaNewSample) * grid->n_slots, MCXT_ALLOC_HUGE);
	int			i;
	int			slot;
	int			m;

	for (i = 0; i < grid->n_services; i++)
	{
		int			n_samples = 0;

		for (slot = 0; slot < grid->n_slots; slot++)
		{
			double	   *values = grid->values + SBA_GRID_INDEX(grid, i, slot, 0);
			List	   *warnings = list_copy(of_queries);
			bool		present = false;

			for (m = 0; m < metrics->n_metrics; m++)
			{
				values[m] = sba_accept_value(&metrics->metric[m], values[m], &warnings);
				present |= !isnan(values[m]);
			}
			work->n_gaps[i] += !present;
			if (!present)
				continue;
			samples[n_samples].service = grid->services[i];
			samples[n_samples].ts = sba_time_of_unix(grid->first_time + (int64) slot * grid->step);
			samples[n_samples].values = values;
			samples[n_samples++].warnings = warnings;
		}
		work->n_samples[i] = sba_store_samples(metrics, samples, n_samples);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Note in services.backfilled what was asked for; what is so new that it may
 * still arrive is asked for again.
 */
static void
mark_asked(const Work *work)
{
	const SbaBackfillPiece *piece = work->piece;
	TimestampTz since = sba_time_of_unix(piece->first_slot - work->plan->step);
	TimestampTz until = sba_time_of_unix(piece->first_slot + (int64) (piece->n_slots - 1) * work->plan->step);
	Datum		arguments[3];

	until = Min(until, work->plan->settled);
	if (since >= until)
		return;
	arguments[0] = text_array(work->names, piece->n_services);
	arguments[1] = TimestampTzGetDatum(since);
	arguments[2] = TimestampTzGetDatum(until);
	sba_query_run(&mark_query, arguments, NULL, 0);
}

/*
 * Raise the first failure when all queries have failed; otherwise tell the
 * caller of each.  Returns the last message, NULL when none failed.
 */
static const char *
report_failures(Work *work, const SbaMetricQuery *queries, int n_queries)
{
	const char *last = NULL;
	int			n_failed = 0;
	int			q;

	for (q = 0; q < n_queries; q++)
		n_failed += queries[q].failed;
	for (q = 0; q < n_queries; q++)
	{
		Datum		values[ROW_COLUMNS] = {0};
		bool		nulls[ROW_COLUMNS] = {true, true, true, false, false};

		if (!queries[q].failed)
			continue;
		if (n_failed == n_queries)
			sba_source_report(&queries[q], ERROR);
		last = queries[q].message;
		values[ROW_MESSAGE] = CStringGetTextDatum(queries[q].message);
		nulls[ROW_DETAIL] = queries[q].detail == NULL;
		if (!nulls[ROW_DETAIL])
			values[ROW_DETAIL] = CStringGetTextDatum(queries[q].detail);
		sba_task_add_row(work->task, values, nulls);
	}
	return last;
}

static void
return_counts(const Work *work)
{
	int			i;

	for (i = 0; i < work->piece->n_services; i++)
	{
		Datum		values[ROW_COLUMNS] = {0};
		bool		nulls[ROW_COLUMNS] = {false, false, false, true, true};

		values[ROW_SERVICE] = CStringGetTextDatum(work->names[i]);
		values[ROW_SAMPLES] = Int64GetDatum(work->n_samples[i]);
		values[ROW_GAPS] = Int64GetDatum(work->n_gaps[i]);
		sba_task_add_row(work->task, values, nulls);
	}
}

static void
run_piece(SbaTask *task)
{
	Work		work;
	SbaMetricCatalog *metrics;
	SbaMetricQuery *queries;
	SbaMetricGrid *grid;
	const char *last_error;

	begin_work(&work, task);
	SPI_connect();
	metrics = copy_metrics(sba_load_metrics(), task->memory);
	check_run(&work);
	SPI_finish();

	sba_task_leave_transaction(task);
	queries = sba_make_metric_queries(metrics);
	grid = sba_metric_grid_create(work.names, work.piece->n_services, metrics->n_metrics,
								  work.piece->first_slot, work.plan->step, work.piece->n_slots);
	sba_source_fetch(queries, metrics->n_metrics, grid, true);
	sba_task_enter_transaction(task);

	last_error = report_failures(&work, queries, metrics->n_metrics);
	SPI_connect();
	store_grid(&work, metrics, queries, grid);
	/* a span that one metric is missing in is asked for again */
	if (last_error == NULL)
		mark_asked(&work);
	note_progress(&work, last_error);
	SPI_finish();
	return_counts(&work);
}

/*
 * Note that a piece has failed.  When the source could not be reached, the
 * other pieces of the run do not try it again.
 */
static void
note_failure(SbaTask *task, const ErrorData * error)
{
	Work		work;
	Datum		arguments[4];

	begin_work(&work, task);
	SPI_connect();
	arguments[0] = UUIDPGetDatum(&work.plan->run_id);
	arguments[2] = CStringGetTextDatum(error->message);
	arguments[3] = TimestampTzGetDatum(GetCurrentTimestamp());

	/*
	 * All services first: pieces that fail at the same time would wait for
	 * each other if each had locked its own services already.
	 */
	if (is_connection_failure(error->sqlerrcode))
	{
		int			n_names;
		const char **names = run_services(work.plan, &n_names);

		arguments[1] = text_array(names, n_names);
		sba_query_run(&stop_query, arguments, NULL, 0);
	}
	arguments[1] = text_array(work.names, work.piece->n_services);
	sba_query_run(&failure_query, arguments, NULL, 0);
	SPI_finish();
}

const SbaTaskKind sba_backfill_task = {
	.name = "backfilling",
	.run = run_piece,
	.failed = note_failure,
};

/* ---------- the whole ---------- */

static const char **
piece_items(const SbaBackfillPlan *plan)
{
	const char **items = palloc(sizeof(char *) * plan->n_pieces);
	int			i;

	for (i = 0; i < plan->n_pieces; i++)
		items[i] = psprintf("%d of %d", i + 1, plan->n_pieces);
	return items;
}

/* Warn of a query's failure once, however many pieces have met it. */
static void
warn_once(List **warned, const SbaTaskRow *row)
{
	char	   *message = TextDatumGetCString(row->values[ROW_MESSAGE]);
	ListCell   *cell;

	foreach(cell, *warned)
	{
		if (strcmp(lfirst(cell), message) == 0)
			return;
	}
	*warned = lappend(*warned, message);
	ereport(WARNING,
			(errmsg_internal("%s", message),
			 row->nulls[ROW_DETAIL] ? 0 :
			 errdetail_internal("%s", TextDatumGetCString(row->values[ROW_DETAIL]))));
}

static void
add_counts(SbaBackfilled *backfilled, int n_services, const SbaTaskRow *row)
{
	char	   *name = TextDatumGetCString(row->values[ROW_SERVICE]);
	int			low = 0;
	int			high = n_services - 1;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (strcmp(backfilled[middle].service, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	Assert(strcmp(backfilled[low].service, name) == 0);
	backfilled[low].n_samples += DatumGetInt64(row->values[ROW_SAMPLES]);
	backfilled[low].n_gaps += DatumGetInt64(row->values[ROW_GAPS]);
	pfree(name);
}

/* An error when every piece has failed, a warning when some have. */
static void
report_failed_pieces(const SbaTaskResult *results, int n_pieces)
{
	const SbaTaskResult *first = NULL;
	int			n_failed = 0;
	int			i;

	for (i = 0; i < n_pieces; i++)
	{
		if (!results[i].failed)
			continue;
		n_failed++;
		if (first == NULL || (first->detail == NULL && results[i].detail != NULL))
			first = &results[i];
	}
	if (n_failed == 0)
		return;
	if (n_failed == n_pieces)
		ereport(ERROR,
				(errcode(first->sqlstate),
				 errmsg_internal("%s", first->message),
				 first->detail == NULL ? 0 : errdetail_internal("%s", first->detail),
				 first->hint == NULL ? 0 : errhint("%s", first->hint)));
	ereport(WARNING,
			(errcode(first->sqlstate),
			 errmsg("%d of %d pieces of the backfill have failed", n_failed, n_pieces),
			 errdetail("The first said: %s", first->message),
			 errhint("What was fetched is stored; call backfill_metrics() again for the rest.")));
}

SbaBackfilled *
sba_backfill(const SbaMetricCatalog *metrics, const SbaService *services,
			 int n_services, Interval *lookback)
{
	static const Oid row_types[ROW_COLUMNS] = {TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID};
	SbaBackfilled *backfilled = palloc0(sizeof(SbaBackfilled) * (n_services + 1));
	TimestampTz until = sba_time_of_unix(sba_current_slot());
	TimestampTz since = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
																TimestampTzGetDatum(until),
																IntervalPGetDatum(lookback)));
	SbaTaskRequest request = {.kind = &sba_backfill_task,.row_types = row_types,.n_columns = ROW_COLUMNS};
	SbaTaskResult *results;
	SbaBackfillPlan *plan;
	List	   *warned = NIL;
	ListCell   *cell;
	int			i;

	if (since >= until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lookback must be positive")));
	plan = sba_plan_backfill(services, n_services, since, until);
	for (i = 0; i < n_services; i++)
	{
		backfilled[i].service = services[i].name;
		backfilled[i].since = sba_backfill_services(plan)[i].since;
		backfilled[i].until = sba_backfill_services(plan)[i].until;
	}
	if (plan->n_pieces == 0 || metrics->n_metrics == 0)
		return backfilled;

	request.items = piece_items(plan);
	request.n_items = plan->n_pieces;
	request.parameters = plan;
	request.parameters_size = plan->size;
	results = sba_run_tasks(&request);
	for (i = 0; i < plan->n_pieces; i++)
	{
		foreach(cell, results[i].rows)
		{
			const SbaTaskRow *row = lfirst(cell);

			if (row->nulls[ROW_SERVICE])
				warn_once(&warned, row);
			else
				add_counts(backfilled, n_services, row);
		}
	}
	report_failed_pieces(results, plan->n_pieces);
	return backfilled;
}
