/*
 * root_causes.h
 *	  The incidents behind incidents, along smartbox.dependencies.
 */
#ifndef SBA_DB_ROOT_CAUSES_H
#define SBA_DB_ROOT_CAUSES_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

/* What is behind an incident. */
typedef struct SbaRootCause
{
	const char *service;
	const char *incident_id;
	const char *anomaly_name;
	const char *severity;
	TimestampTz first_seen;
	List	   *path;			/* names of services, from the one asked for */
} SbaRootCause;

/*
 * The functions below run inside SPI_connect and return memory of its
 * procedure context.
 */

/*
 * Roots of the incidents that a service has now, or had at an instant when at
 * is not 0, the likeliest first; a list of SbaRootCause.
 */
extern List *sba_root_causes_of(const char *service, TimestampTz at);

/*
 * Write the root into each active incident of these services where it has
 * changed, and into the event and the alert that this transaction has written
 * of it.  The services' rows must be locked.  Returns how many have changed.
 */
extern int	sba_write_root_causes(ArrayType *services);

/*
 * Lock the named services, or all when names is NULL, in the order in which
 * detections do; returns their names.
 */
extern ArrayType *sba_lock_services(ArrayType *names);

#endif							/* SBA_DB_ROOT_CAUSES_H */
