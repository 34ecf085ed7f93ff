/*
 * calibration.h
 *	  From how strange something looks to how rare it is.
 *
 * Evidence is -log10 of the probability that a normal sample looks at least
 * as strange: 2 means one in a hundred.  Evidence of different metrics and
 * models can be compared, raw scores can't.
 */
#ifndef SBA_CORE_CALIBRATION_H
#define SBA_CORE_CALIBRATION_H

#include <stddef.h>

/* Steps of equal evidence in which the body of a distribution is kept. */
#define SBA_TAIL_STEPS 12

/*
 * The upper tail of a distribution: quantiles up to where the data reach, and
 * an exponential tail beyond (the limit for thresholds of a wide class of
 * distributions: Balkema and de Haan 1974, Pickands 1975, with shape 0).
 */
typedef struct SbaTail
{
	double		reach;			/* evidence at the last quantile */
	double		slope;			/* evidence per unit of value beyond it */
	double		quantile[SBA_TAIL_STEPS + 1];	/* at evidence i * reach /
												 * STEPS */
} SbaTail;

/*
 * Describe sorted values.  The tail beyond the data goes on with the slope
 * between survival probabilities 0.2 and the last one that at least three
 * values stand behind, kept within the given bounds.
 */
extern void sba_tail_fit(SbaTail *tail, const double *sorted, size_t n,
						 double min_slope, double max_slope);

/* Evidence of a value: 0 for usual ones, unbounded above. */
extern double sba_tail_evidence(const SbaTail *tail, double value);

/* The value that has this much evidence. */
extern double sba_tail_value(const SbaTail *tail, double evidence);

/*
 * The published score of this much evidence: 0 at the edge of the budget (a
 * normal sample gets there with budget_probability), 0.3 less for each factor
 * of ten rarer down to -0.6, and from there ever more slowly towards -1, so
 * that worse always scores lower.
 */
extern double sba_score_of_evidence(double evidence, double budget_probability);

#endif							/* SBA_CORE_CALIBRATION_H */
