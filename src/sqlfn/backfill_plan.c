/*
 * backfill_plan.c
 *	  What a backfill has to fetch, cut into pieces.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "pg/query.h"
#include "pg/settings.h"
#include "sqlfn/backfill_plan.h"
#include "sqlfn/collector.h"

/* Instants of one piece: Prometheus answers up to 11,000. */
#define MAX_SLOTS_PER_PIECE 10000

/*
 * Points of one metric in a piece.  What is stored in one transaction, and
 * what has to be fetched again after a failure, is bounded by it; so is the
 * memory of a process, which holds all metrics of a piece.
 */
#define MAX_POINTS_PER_PIECE 100000

#define MAX_SERVICES_PER_PIECE 500

/* Ranges nearer to each other than this are asked for in one. */
#define MERGE_RANGES_S (6 * 3600)

/*
 * What is newer than this may still arrive at the source, and holes in it are
 * asked for again.
 */
#define SETTLED_AFTER_S (6 * 3600)

/*
 * What is missing: the span asked for, less what the source was asked for
 * before, less the intervals that samples lie in.  A sample that lacks a metric
 * because its query failed counts as missing, but only for a week: a query that
 * always fails would have the source asked for ever more.
 */
static SbaQuery missing_query = {
	.text = "SELECT a.service, pg_catalog.lower(r.missing), pg_catalog.upper(r.missing)"
	" FROM (SELECT s.service, pg_catalog.tstzmultirange(pg_catalog.tstzrange($2, $3, '(]')) - s.backfilled AS need"
	" FROM smartbox.services s WHERE s.service = ANY ($1)) a,"
	" LATERAL (SELECT coalesce(pg_catalog.range_agg(pg_catalog.tstzrange(x.ts - $4, x.ts, '(]')), '{}') AS have"
	" FROM smartbox.samples x WHERE x.service = a.service"
	" AND x.ts > pg_catalog.lower(a.need) AND x.ts <= pg_catalog.upper(a.need)"
	" AND (x.warnings IS NULL OR x.ts <= $3 - interval '7 days' OR NOT EXISTS ("
	"SELECT FROM pg_catalog.unnest(x.warnings) AS w(warning) WHERE w.warning LIKE '%" SBA_NOT_FETCHED "'))) h,"
	" LATERAL pg_catalog.unnest(a.need - h.have) AS r(missing)"
	" ORDER BY a.service COLLATE \"C\", 2",
	.n_arguments = 4,
	.argument_types = {TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID},
	.expected = SPI_OK_SELECT,
};

/* A span of time that one service's samples are missing in, on the grid of slots. */
typedef struct MissingSpan
{
	int			service;		/* index */
	TimestampTz since;			/* exclusive */
	TimestampTz until;			/* inclusive */
} MissingSpan;

/* The pieces as they are found. */
typedef struct PieceList
{
	int			n_pieces;
	int			max_pieces;
	SbaBackfillPiece *pieces;
} PieceList;

/* Read the missing spans of all services, near ones merged into one. */
static MissingSpan *
find_missing(const SbaService *services, int n_services,
			 TimestampTz since, TimestampTz until, int *n_missing)
{
	Interval	step = {0};
	Datum	   *names = palloc(sizeof(Datum) * (n_services + 1));
	Datum		arguments[4];
	MissingSpan *missing;
	int			n = 0;
	int			service = 0;
	uint64		row;
	int			i;

	for (i = 0; i < n_services; i++)
		names[i] = CStringGetTextDatum(services[i].name);
	step.time = (int64) sba_sample_interval_s * USECS_PER_SEC;
	arguments[0] = PointerGetDatum(construct_array(names, n_services, TEXTOID, -1, false, TYPALIGN_INT));
	arguments[1] = TimestampTzGetDatum(since);
	arguments[2] = TimestampTzGetDatum(until);
	arguments[3] = IntervalPGetDatum(&step);
	sba_query_run(&missing_query, arguments, NULL, 0);
	missing = palloc_extended(sizeof(MissingSpan) * (SPI_processed + 1), MCXT_ALLOC_HUGE);
	for (row = 0; row < SPI_processed; row++)
	{
		char	   *name = sba_result_text(row, 1);
		bool		is_null;
		MissingSpan span;

		while (strcmp(services[service].name, name) != 0)
			service++;
		span.service = service;
		span.since = DatumGetTimestampTz(sba_result_datum(row, 2, &is_null));
		span.until = DatumGetTimestampTz(sba_result_datum(row, 3, &is_null));
		if (n > 0 && missing[n - 1].service == service &&
			span.since - missing[n - 1].until <= MERGE_RANGES_S * USECS_PER_SEC)
			missing[n - 1].until = span.until;
		else
			missing[n++] = span;
	}
	SPI_freetuptable(SPI_tuptable);
	*n_missing = n;
	return missing;
}

static int
compare_spans(const void *a, const void *b)
{
	const MissingSpan *x = a;
	const MissingSpan *y = b;

	if (x->since != y->since)
		return x->since < y->since ? -1 : 1;
	if (x->until != y->until)
		return x->until < y->until ? -1 : 1;
	return x->service - y->service;
}

static void
add_piece(PieceList *list, SbaBackfillPiece piece)
{
	if (list->n_pieces == list->max_pieces)
	{
		list->max_pieces *= 2;
		list->pieces = repalloc_huge(list->pieces, sizeof(SbaBackfillPiece) * list->max_pieces);
	}
	list->pieces[list->n_pieces++] = piece;
}

/*
 * Cut one span that n services miss, the first of them the given member.  No
 * piece when no instant of the grid lies in it.
 */
static void
cut_span(PieceList *list, const MissingSpan *span, int first_member, int n)
{
	int64		step = sba_sample_interval_s;
	int64		last = sba_unix_of_time(span->until) / step * step;
	int64		first = (sba_unix_of_time(span->since) / step + 1) * step;
	int64		n_slots = (last - first) / step + 1;
	int64		max_slots = Min(n_slots, MAX_SLOTS_PER_PIECE);
	int			max_services;
	int			member;

	if (n_slots <= 0)
		return;
	max_services = (int) Max(Min(MAX_POINTS_PER_PIECE / max_slots, MAX_SERVICES_PER_PIECE), 1);
	for (member = 0; member < n; member += max_services)
	{
		SbaBackfillPiece piece = {
			.first_member = first_member + member,
			.n_services = Min(max_services, n - member)
		};
		int64		slot;

		for (slot = 0; slot < n_slots; slot += max_slots)
		{
			piece.first_slot = first + slot * step;
			piece.n_slots = (int) Min(max_slots, n_slots - slot);
			add_piece(list, piece);
		}
	}
}

/* Put everything into one piece of memory. */
static SbaBackfillPlan *
assemble(const SbaService *services, int n_services, const PieceList *list,
		 const MissingSpan *missing, int n_missing)
{
	SbaBackfillPlan head = {0};
	SbaBackfillPlan *plan;
	SbaBackfillService *of_service;
	Size		offset;
	int		   *members;
	int			i;
	int			j;

	head.services = MAXALIGN(sizeof(head));
	head.pieces = head.services + MAXALIGN(sizeof(SbaBackfillService) * n_services);
	head.members = head.pieces + MAXALIGN(sizeof(SbaBackfillPiece) * list->n_pieces);
	offset = head.members + MAXALIGN(sizeof(int) * n_missing);
	head.size = offset;
	for (i = 0; i < n_services; i++)
		head.size += strlen(services[i].name) + 1;
	head.n_services = n_services;
	head.n_pieces = list->n_pieces;
	plan = palloc_extended(head.size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	*plan = head;

	of_service = sba_backfill_services(plan);
	for (i = 0; i < n_services; i++)
	{
		of_service[i].name = offset;
		strcpy((char *) plan + offset, services[i].name);
		offset += strlen(services[i].name) + 1;
	}
	members = (int *) ((char *) plan + plan->members);
	for (i = 0; i < n_missing; i++)
	{
		SbaBackfillService *service = &of_service[missing[i].service];

		members[i] = missing[i].service;
		if (service->since == 0 || missing[i].since < service->since)
			service->since = missing[i].since;
		service->until = Max(service->until, missing[i].until);
	}
	memcpy(sba_backfill_pieces(plan), list->pieces, sizeof(SbaBackfillPiece) * list->n_pieces);
	for (i = 0; i < list->n_pieces; i++)
	{
		for (j = 0; j < list->pieces[i].n_services; j++)
			of_service[members[list->pieces[i].first_member + j]].n_pieces++;
	}
	return plan;
}

SbaBackfillPlan *
sba_plan_backfill(const SbaService *services, int n_services,
				  TimestampTz since, TimestampTz until)
{
	SbaBackfillPlan *plan;
	PieceList	list = {.max_pieces = 64};
	MissingSpan *missing;
	int			n_missing;
	int			begin;
	int			end;

	missing = find_missing(services, n_services, since, until, &n_missing);
	list.pieces = palloc(sizeof(SbaBackfillPiece) * list.max_pieces);

	/* services that miss the same span are asked for together */
	qsort(missing, n_missing, sizeof(MissingSpan), compare_spans);
	for (begin = 0; begin < n_missing; begin = end)
	{
		for (end = begin + 1; end < n_missing; end++)
			if (missing[end].since != missing[begin].since || missing[end].until != missing[begin].until)
				break;
		cut_span(&list, &missing[begin], begin, end - begin);
	}
	plan = assemble(services, n_services, &list, missing, n_missing);
	plan->run_id = *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	plan->started_at = GetCurrentTransactionStartTimestamp();
	plan->settled = until - SETTLED_AFTER_S * USECS_PER_SEC;
	plan->pid = MyProcPid;
	plan->step = sba_sample_interval_s;
	return plan;
}
