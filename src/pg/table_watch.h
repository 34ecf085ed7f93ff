/*
 * table_watch.h
 *	  Knowing when what a session keeps of a table is out of date.
 *
 * A trigger on the table sends an invalidation with the transaction's commit,
 * the way a change of the table's definition does, so that asking costs
 * nothing while nothing changes.
 */
#ifndef SBA_PG_TABLE_WATCH_H
#define SBA_PG_TABLE_WATCH_H

#include "postgres.h"

/* A table in schema smartbox that a session keeps rows of. */
typedef struct SbaTableWatch
{
	const char *table;
	Oid			relation;
	bool		is_watched;
	bool		is_fresh;
} SbaTableWatch;

/*
 * Whether what was read is still what is there.  When it is not, the caller
 * reads again at once: changes from now on are noticed.  A transaction that
 * sees an old snapshot may keep nothing for those after it, and always reads.
 */
extern bool sba_table_is_unchanged(SbaTableWatch *watch);

/* Tell all sessions, once the transaction commits, that rows have changed. */
extern void sba_table_has_changed(const char *table);

#endif							/* SBA_PG_TABLE_WATCH_H */
