/*
 * rules.h
 *	  smartbox.rules: the hard rules of each service, kept in memory.
 */
#ifndef SBA_DB_RULES_H
#define SBA_DB_RULES_H

#include "core/rules.h"

/*
 * The rules in force for a service: its own, and those for all that it has no
 * row of its own for.  Returns their number and points *rules to an array of
 * pointers, palloc'ed.  The rules stay as they are until the next call.  Inside
 * SPI_connect.
 */
extern int	sba_rules_of(const char *service, const SbaRule ***rules);

#endif							/* SBA_DB_RULES_H */
