/*
 * variants.h
 *	  The decision as it is, and with one part of it taken out or put in another
 *	  way.
 */
#ifndef TEST_EVAL_VARIANTS_H
#define TEST_EVAL_VARIANTS_H

#include "fleet.h"

typedef enum Variant
{
	VARIANT_RULES,				/* fixed limits alone */
	VARIANT_RAW,				/* forests on the metrics themselves, one
								 * model a period */
	VARIANT_RAW_TIME,			/* one model, the time being features */
	VARIANT_FORESTS,			/* on deviations, without tails */
	VARIANT_TAILS,				/* of deviations and runs, without forests */
	VARIANT_NO_RUNS,			/* forests and tails of single deviations */
	VARIANT_POOLED,				/* all, deviations of all periods in one model */
	VARIANT_POOLED_TIME,		/* the same with the time as features of its
								 * multivariate forest */
	VARIANT_ALL
} Variant;

#define N_VARIANTS (VARIANT_ALL + 1)

extern const char *variant_name(Variant variant);

/*
 * Train on the service's first rows, and judge the others one after the other.
 * margin is [N_VARIANTS][fleet->n_judged]: decades beyond the budget of false
 * alarms; NaN where nothing can be said, infinite for a service that alone is
 * silent.
 */
extern void judge_service(const SbaEvalFleet *fleet, const SbaEvalService *service, double *margin);

#endif							/* TEST_EVAL_VARIANTS_H */
