/*
 * compat.h
 *	  All differences between the supported PostgreSQL versions.
 *
 * Include after postgres.h and fmgr.h.
 */
#ifndef SBA_PG_COMPAT_H
#define SBA_PG_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "smartbox_anomaly needs PostgreSQL 15 or newer"
#endif

/* What is inside a variable-length value moved out of postgres.h in 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * From version 16 on, PostgreSQL builds modules with hidden visibility and
 * PG_FUNCTION_INFO_V1 exports the function.  On 15 the Makefile asks for the
 * same, and the declaration has to say so itself.
 */
#define SBA_FUNCTION(name) \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

/* Wait events of our own, by name from version 17 on; cached is a static uint32, 0 at first. */
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 170000
#define SBA_WAIT_EVENT(cached, name) \
	((cached) != 0 ? (cached) : ((cached) = WaitEventExtensionNew(name)))
#else
#define SBA_WAIT_EVENT(cached, name) ((void) (cached), PG_WAIT_EXTENSION)
#endif

/* What pg_stat_activity shows while HTTP requests are under way. */
#define SBA_WAIT_EVENT_HTTP(cached) SBA_WAIT_EVENT(cached, "SmartboxHttp")

/* From version 18 on, a portal is not told that it runs once. */
#if PG_VERSION_NUM >= 180000
#define SBA_PORTAL_RUN(portal, receiver, completion) \
	PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion)
#else
#define SBA_PORTAL_RUN(portal, receiver, completion) \
	PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, completion)
#endif

/* From version 16 on, make_range() takes a context for soft errors. */
#if PG_VERSION_NUM >= 160000
#define SBA_MAKE_RANGE(type, lower, upper, empty) make_range(type, lower, upper, empty, NULL)
#else
#define SBA_MAKE_RANGE(type, lower, upper, empty) make_range(type, lower, upper, empty)
#endif

/*
 * From version 19 on, DROP DATABASE and the like end background workers that
 * say they may be ended.
 */
#ifdef BGWORKER_INTERRUPTIBLE
#define SBA_BGWORKER_INTERRUPTIBLE BGWORKER_INTERRUPTIBLE
#else
#define SBA_BGWORKER_INTERRUPTIBLE 0
#endif

#endif							/* SBA_PG_COMPAT_H */
