/*
 * regimes.c
 *	  Lasting changes of a metric's level inside its history.
 *
 * The residuals' medians over days are cut where those before and those after
 * differ most, each part again, as long as the difference is neither small nor
 * what ordinary days do (binary segmentation: Vostrikova 1981).  The row of a
 * change is where the residuals begin to lie nearer to the later level.
 */
#include "core/regimes.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/statistics.h"

#define DAY_S			86400
#define MAX_DAYS		400

/* Fewer values are no median of a day. */
#define MIN_VALUES_OF_DAY 48

/* Days on either side that a change is judged by. */
#define DAYS_COMPARED	7

#define MIN_CHANGE_OF_LOG	0.2
#define MIN_CHANGE_OF_RATIO 0.025

/* A change is this much larger than the changes between ordinary days, */
#define ORDINARY_CHANGES	4.0

/* and this share of it happens within two days; growth is no change. */
#define ABRUPT_SHARE		0.6

/* One day's median, and where the day begins. */
typedef struct Day
{
	size_t		first_row;
	double		median;
} Day;

static double
median_of_days(const Day *days, int n)
{
	double		medians[DAYS_COMPARED];
	int			i;

	for (i = 0; i < n; i++)
		medians[i] = days[i].median;
	return sba_median(medians, (size_t) n);
}

static double
median_of_rows(const double *residual, size_t begin, size_t end, double *scratch)
{
	size_t		n = 0;
	size_t		row;

	for (row = begin; row < end; row++)
		if (!isnan(residual[row]))
			scratch[n++] = residual[row];
	return sba_median(scratch, n);
}

/* Cut the history into days that end with it; those without a median are left out. */
static int
collect_days(const int64_t *time_s, const double *residual, size_t n_rows, double *scratch, Day *days)
{
	size_t		end = n_rows;
	int			n_days = 0;
	int			i;

	while (end > 0 && n_days < MAX_DAYS)
	{
		int64_t		until = time_s[n_rows - 1] -
		(time_s[n_rows - 1] - time_s[end - 1]) / DAY_S * DAY_S;
		size_t		begin = end;
		size_t		n = 0;

		for (; begin > 0 && time_s[begin - 1] > until - DAY_S; begin--)
			if (!isnan(residual[begin - 1]))
				scratch[n++] = residual[begin - 1];
		if (n >= MIN_VALUES_OF_DAY)
		{
			days[n_days].first_row = begin;
			days[n_days++].median = sba_median(scratch, n);
		}
		end = begin;
	}
	for (i = 0; i < n_days / 2; i++)
	{
		Day			swapped = days[i];

		days[i] = days[n_days - 1 - i];
		days[n_days - 1 - i] = swapped;
	}
	return n_days;
}

/* How much the median usually moves from one day to the next. */
static double
ordinary_change(const Day *days, int n_days)
{
	double		changes[MAX_DAYS];
	int			i;

	for (i = 1; i < n_days; i++)
		changes[i - 1] = fabs(days[i].median - days[i - 1].median);
	return sba_median(changes, (size_t) (n_days - 1));
}

/*
 * The day from begin on, before end, with which the level changes most, or -1
 * when it does not change enough anywhere.
 */
static int
find_change(const Day *days, int begin, int end, double min_change)
{
	double		largest = min_change;
	int			found = -1;
	int			cut;

	for (cut = begin + SBA_REGIME_MIN_DAYS; cut <= end - SBA_REGIME_MIN_DAYS; cut++)
	{
		int			n_before = cut - begin < DAYS_COMPARED ? cut - begin : DAYS_COMPARED;
		int			n_after = end - cut < DAYS_COMPARED ? end - cut : DAYS_COMPARED;
		double		change = fabs(median_of_days(days + cut, n_after) -
								  median_of_days(days + cut - n_before, n_before));
		double		at_once = fmax(fabs(days[cut].median - days[cut - 1].median),
								   fabs(days[cut + 1].median - days[cut - 1].median));

		if (change > largest && at_once >= ABRUPT_SHARE * change)
		{
			largest = change;
			found = cut;
		}
	}
	return found;
}

/* The row from begin on, before end, that parts two levels best. */
static size_t
row_of_change(const double *residual, size_t begin, size_t end, double before, double after)
{
	double		middle = (before + after) / 2;
	size_t		best = begin;
	size_t		row;
	long		votes = 0;
	long		most = 0;

	for (row = begin; row < end; row++)
	{
		if (isnan(residual[row]))
			continue;
		votes += (residual[row] < middle) == (before < middle) ? 1 : -1;
		if (votes > most)
		{
			most = votes;
			best = row + 1;
		}
	}
	return best;
}

/* Add a cut to ascending ones. */
static void
insert_cut(int *cuts, int *n_cuts, int cut)
{
	int			i = (*n_cuts)++;

	for (; i > 0 && cuts[i - 1] > cut; i--)
		cuts[i] = cuts[i - 1];
	cuts[i] = cut;
}

void
sba_find_regimes(SbaMetricKind kind, const int64_t *time_s, const double *residual,
				 size_t n_rows, double *scratch, SbaRegimes *regimes)
{
	Day			days[MAX_DAYS];
	int			cuts[SBA_MAX_REGIMES + 1] = {0};
	int			n_cuts = 1;
	int			n_days = collect_days(time_s, residual, n_rows, scratch, days);
	double		min_change = kind == SBA_KIND_RATIO ? MIN_CHANGE_OF_RATIO : MIN_CHANGE_OF_LOG;
	int			i;

	memset(regimes, 0, sizeof(*regimes));
	regimes->n = 1;
	if (n_days < 2 * SBA_REGIME_MIN_DAYS)
		return;
	min_change = fmax(min_change, ORDINARY_CHANGES * ordinary_change(days, n_days));

	/* a part that was cut is looked at again from its beginning */
	for (i = 0; i < n_cuts && n_cuts < SBA_MAX_REGIMES;)
	{
		int			end = i + 1 < n_cuts ? cuts[i + 1] : n_days;
		int			cut = find_change(days, cuts[i], end, min_change);

		if (cut < 0)
			i++;
		else
			insert_cut(cuts, &n_cuts, cut);
	}
	cuts[n_cuts] = n_days;

	regimes->n = n_cuts;
	for (i = 1; i < n_cuts; i++)
	{
		int			cut = cuts[i];
		int			n_before = cut - cuts[i - 1] < DAYS_COMPARED ? cut - cuts[i - 1] : DAYS_COMPARED;
		int			n_after = cuts[i + 1] - cut < DAYS_COMPARED ? cuts[i + 1] - cut : DAYS_COMPARED;
		int			last = cut + n_after / 2 + 1;
		size_t		begin = days[cut - n_before / 2].first_row;
		size_t		end = last < n_days ? days[last].first_row : n_rows;

		/*
		 * the medians stay the same when the cut lies beside the change by
		 * less than half of their days
		 */
		if (begin <= regimes->first_row[i - 1])
			begin = regimes->first_row[i - 1] + 1;
		regimes->first_row[i] = row_of_change(residual, begin, end,
											  median_of_days(days + cut - n_before, n_before),
											  median_of_days(days + cut, n_after));
	}
	for (i = 0; i < n_cuts; i++)
		regimes->level[i] = median_of_rows(residual, regimes->first_row[i],
										   i + 1 < n_cuts ? regimes->first_row[i + 1] : n_rows, scratch);
}
