/*
 * source_names.h
 *	  What the metric source has: its services, metrics and labels.
 */
#ifndef SBA_NET_SOURCE_NAMES_H
#define SBA_NET_SOURCE_NAMES_H

#include "net/metric_source.h"

typedef enum SbaSourceListKind
{
	SBA_LIST_SERVICES,			/* values of the service label within the
								 * configured selector */
	SBA_LIST_METRICS,
	SBA_LIST_LABELS
} SbaSourceListKind;

/* A list of names, with what came of asking for it. */
typedef struct SbaSourceList
{
	SbaSourceListKind kind;
	SbaMetricQuery query;		/* its outcome, as of sba_source_fetch() */
	const char **names;			/* sorted by strcmp, unique; none of a failure */
	int			n_names;
} SbaSourceList;

/*
 * Ask the source for lists of what has reported between two times, in seconds
 * since 1970; kinds are given, the rest is filled in, palloc'ed.  Raises an
 * error itself when no endpoint is configured, and for cancel.
 */
extern void sba_source_lists(SbaSourceList *lists, int n_lists, int64 since, int64 until);

/*
 * Names of all services that have reported within the last day.  Raises an
 * error when the source cannot be asked.
 */
extern const char **sba_source_services(int *n_services);

/* Whether a list has a name. */
extern bool sba_source_list_has(const SbaSourceList *list, const char *name);

#endif							/* SBA_NET_SOURCE_NAMES_H */
