/*
 * business_impact.h
 *	  What an anomaly means to those who use the service, as one sentence.
 */
#ifndef SBA_DB_BUSINESS_IMPACT_H
#define SBA_DB_BUSINESS_IMPACT_H

#include "db/pattern_text.h"

/* Whom it concerns, how many requests, for how long; palloc'ed. */
extern char *sba_business_impact(const SbaTextContext *context);

#endif							/* SBA_DB_BUSINESS_IMPACT_H */
