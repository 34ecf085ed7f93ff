/*
 * rules.h
 *	  smartbox.rules: the hard rules of each service, kept in memory.
 */
#ifndef SBA_DB_RULES_H
#define SBA_DB_RULES_H

#include "core/rules.h"

/* One row of smartbox.rules. */
typedef struct SbaStoredRule
{
	const char *service;
	bool		enabled;
	SbaRule		rule;
} SbaStoredRule;

/*
 * The rules in force for a service: its own, and those for all that it has no
 * row of its own for.  Returns their number and points *rules to an array of
 * pointers, palloc'ed.  The rules stay as they are until the next call.  Inside
 * SPI_connect.
 */
extern int	sba_rules_of(const char *service, const SbaRule ***rules);

/*
 * The same as they would be if the service had these rows of its own too; they
 * take the place of those of the same metric, comparison and severity.
 */
extern int	sba_rules_with(const char *service, const SbaStoredRule *own, int n_own, const SbaRule ***rules);

#endif							/* SBA_DB_RULES_H */
