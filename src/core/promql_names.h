/*
 * promql_names.h
 *	  The names of metrics and labels that a query in PromQL speaks of.
 */
#ifndef SBA_CORE_PROMQL_NAMES_H
#define SBA_CORE_PROMQL_NAMES_H

#include <stdbool.h>
#include <stddef.h>

typedef enum SbaNameKind
{
	SBA_NAME_METRIC,
	SBA_NAME_LABEL
} SbaNameKind;

/* Takes a name, not zero-terminated; returns whether to go on. */
typedef bool (*SbaNameSink) (void *context, SbaNameKind kind, const char *name, size_t length);

/*
 * Hand on each name of a metric, and each of a label that has to be there for
 * the query to find anything: a matcher such as db="" asks for the opposite.  A
 * name may come several times.
 *
 * This is a scan for words, not a parser: a query that is no PromQL gives names
 * all the same, and what only VictoriaMetrics understands (WITH templates)
 * ends the scan.  Names with escapes in them are left out.
 */
extern void sba_scan_promql_names(const char *query, SbaNameSink sink, void *context);

#endif							/* SBA_CORE_PROMQL_NAMES_H */
