/*
 * backfill_plan.h
 *	  What a backfill has to fetch, cut into pieces.
 */
#ifndef SBA_SQLFN_BACKFILL_PLAN_H
#define SBA_SQLFN_BACKFILL_PLAN_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "db/catalog.h"

/* Some services over some instants. */
typedef struct SbaBackfillPiece
{
	int			first_member;	/* of the members, which are indexes of
								 * services */
	int			n_services;
	int			n_slots;
	int64		first_slot;		/* seconds since 1970 */
} SbaBackfillPiece;

/* A service of a run. */
typedef struct SbaBackfillService
{
	Size		name;			/* offset of its name from the plan's begin */
	int			n_pieces;
	TimestampTz since;			/* span that is asked for; both 0: none */
	TimestampTz until;
} SbaBackfillService;

/*
 * A whole run, in one piece of memory without pointers, since workers get a
 * copy of its bytes.
 */
typedef struct SbaBackfillPlan
{
	Size		size;			/* bytes of all of it */
	pg_uuid_t	run_id;
	TimestampTz started_at;		/* begin of the caller's transaction */
	TimestampTz settled;		/* holes before this are not asked for again */
	int			pid;			/* of the caller */
	int			step;			/* seconds */
	int			n_services;
	int			n_pieces;
	Size		services;		/* offsets from the plan's begin */
	Size		pieces;
	Size		members;
} SbaBackfillPlan;

static inline SbaBackfillService *
sba_backfill_services(const SbaBackfillPlan *plan)
{
	return (SbaBackfillService *) ((char *) plan + plan->services);
}

static inline SbaBackfillPiece *
sba_backfill_pieces(const SbaBackfillPlan *plan)
{
	return (SbaBackfillPiece *) ((char *) plan + plan->pieces);
}

static inline const char *
sba_backfill_service_name(const SbaBackfillPlan *plan, int service)
{
	return (const char *) plan + sba_backfill_services(plan)[service].name;
}

/* The index of a piece's i-th service; they ascend, as their names do. */
static inline int
sba_backfill_member(const SbaBackfillPlan *plan, const SbaBackfillPiece *piece, int i)
{
	return ((const int *) ((const char *) plan + plan->members))[piece->first_member + i];
}

/*
 * Find what smartbox.samples lacks of a span, less what the source was asked
 * for before, and cut it into pieces.  Inside SPI_connect.
 */
extern SbaBackfillPlan *sba_plan_backfill(const SbaService *services, int n_services,
										  TimestampTz since, TimestampTz until);

#endif							/* SBA_SQLFN_BACKFILL_PLAN_H */
