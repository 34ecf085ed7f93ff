/*
 * root_cause.h
 *	  Which incident is behind which: the most upstream one along the
 *	  dependencies between services.
 *
 * The nodes are incidents.  One leads to another when its service depends on
 * the other's and the two overlap: the other began no more than
 * SBA_CASCADE_WINDOW_US later, since a cause may be noticed after its effect
 * but not long after, and it was still looked at when this one began.  Of
 * several incidents of a dependency the newest of these counts.  When any
 * dependency broke about when this one did, those that had been broken for
 * longer than the window before are left aside.
 *
 * Where no edge leads on, there the search ends: nothing below is anomalous.
 * Services that depend on each other in a circle count as one, and its first
 * incident stands for it.  Of several ends the incident that began first is
 * suspected, then the worse one, then the one that comes first in the input.
 */
#ifndef SBA_CORE_ROOT_CAUSE_H
#define SBA_CORE_ROOT_CAUSE_H

#include <stdint.h>

#include "core/severity.h"
#include "core/status.h"

#define SBA_CASCADE_WINDOW_US (INT64_C(30) * 60 * 1000000)

/* An incident that is not closed. */
typedef struct SbaActiveIncident
{
	int			service;		/* a number that stands for it */
	int64_t		first_seen_us;
	int64_t		last_evaluated_us;
	SbaSeverity severity;
} SbaActiveIncident;

typedef struct SbaDependency
{
	int			service;
	int			depends_on;
} SbaDependency;

/* What is suspected of one incident. */
typedef struct SbaSuspicion
{
	int			root;			/* index of the incident behind it; its own
								 * when none is */
	int			next;			/* the next one on a shortest way there; its
								 * own at the end */
	int			distance;		/* steps to the root */
} SbaSuspicion;

/*
 * Find the root of every incident.  incidents are sorted by service and
 * then by first_seen_us, dependencies by service; a service that depends on
 * itself, or on one without an incident, is no matter.  suspicions has room for
 * n_incidents.  Takes time and memory in proportion to the incidents and the
 * dependencies between their services.
 * Error: SBA_OUT_OF_MEMORY.
 */
extern SbaStatus sba_find_root_causes(const SbaActiveIncident *incidents, int n_incidents,
									  const SbaDependency *dependencies, int n_dependencies,
									  SbaSuspicion *suspicions, SbaError *error);

#endif							/* SBA_CORE_ROOT_CAUSE_H */
