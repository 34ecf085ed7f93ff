/*
 * table_watch.c
 *	  Knowing when what a session keeps of a table is out of date.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "pg/table_watch.h"

static void
forget(Datum argument, Oid relation)
{
	SbaTableWatch *watch = (SbaTableWatch *) DatumGetPointer(argument);

	if (relation == InvalidOid || relation == watch->relation)
		watch->is_fresh = false;
}

static Oid
relation_of(const char *table)
{
	return get_relname_relid(table, get_namespace_oid("smartbox", false));
}

bool
sba_table_is_unchanged(SbaTableWatch *watch)
{
	if (!watch->is_watched)
	{
		CacheRegisterRelcacheCallback(forget, PointerGetDatum(watch));
		watch->is_watched = true;
	}
	if (watch->is_fresh && !IsolationUsesXactSnapshot())
		return true;
	watch->relation = relation_of(watch->table);
	watch->is_fresh = !IsolationUsesXactSnapshot();
	return false;
}

void
sba_table_has_changed(const char *table)
{
	CacheInvalidateRelcacheByRelid(relation_of(table));
}
