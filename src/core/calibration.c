/*
 * calibration.c
 *	  From how strange something looks to how rare it is.
 */
#include "core/calibration.h"

#include <math.h>

#include "core/statistics.h"

/* The last quantile has to have this many values beyond it. */
#define VALUES_BEYOND_REACH 3.0

/* Where the slope of the tail begins to be measured. */
#define SLOPE_FROM_EVIDENCE 0.69897000433601886 /* -log10(0.2) */

#define SCORE_PER_DECADE	0.3
#define CRITICAL_SCORE		0.6
#define CRITICAL_DECADES	(CRITICAL_SCORE / SCORE_PER_DECADE)

void
sba_tail_fit(SbaTail *tail, const double *sorted, size_t n,
			 double min_slope, double max_slope)
{
	double		from;
	double		to;
	int			i;

	tail->reach = fmax(log10((double) n / VALUES_BEYOND_REACH), SLOPE_FROM_EVIDENCE + 0.3);
	for (i = 0; i <= SBA_TAIL_STEPS; i++)
	{
		double		evidence = tail->reach * i / SBA_TAIL_STEPS;

		tail->quantile[i] = sba_quantile_of_sorted(sorted, n, 1.0 - pow(10.0, -evidence));
	}

	from = sba_quantile_of_sorted(sorted, n, 1.0 - pow(10.0, -SLOPE_FROM_EVIDENCE));
	to = tail->quantile[SBA_TAIL_STEPS];
	tail->slope = max_slope;
	if (to > from)
		tail->slope = (tail->reach - SLOPE_FROM_EVIDENCE) / (to - from);
	tail->slope = fmin(fmax(tail->slope, min_slope), max_slope);
}

double
sba_tail_evidence(const SbaTail *tail, double value)
{
	double		step = tail->reach / SBA_TAIL_STEPS;
	int			low = 0;
	int			high = SBA_TAIL_STEPS;

	if (value > tail->quantile[high])
		return tail->reach + tail->slope * (value - tail->quantile[high]);
	if (!(value > tail->quantile[0]))
		return 0.0;

	/*
	 * The first quantile that is not below the value: where many values are
	 * equal, as often as they occur is as rare as they are.
	 */
	while (high - low > 1)
	{
		int			middle = (low + high) / 2;

		if (tail->quantile[middle] < value)
			low = middle;
		else
			high = middle;
	}
	return step * (low + (value - tail->quantile[low]) /
				   (tail->quantile[high] - tail->quantile[low]));
}

double
sba_tail_value(const SbaTail *tail, double evidence)
{
	double		position = evidence / tail->reach * SBA_TAIL_STEPS;
	int			below = (int) position;

	if (evidence >= tail->reach)
		return tail->quantile[SBA_TAIL_STEPS] + (evidence - tail->reach) / tail->slope;
	return tail->quantile[below] + (position - below) * (tail->quantile[below + 1] - tail->quantile[below]);
}

double
sba_score_of_evidence(double evidence, double budget_probability)
{
	double		decades = evidence + log10(budget_probability);
	double		beyond;

	if (decades <= CRITICAL_DECADES)
		return -SCORE_PER_DECADE * decades;

	/* continues with the same slope and ends at -1 */
	beyond = decades - CRITICAL_DECADES;
	return -1.0 + (1.0 - CRITICAL_SCORE) /
		(1.0 + beyond * SCORE_PER_DECADE / (1.0 - CRITICAL_SCORE));
}
