/*
 * ablation.c
 *	  What each part of the decision adds: the same fleets, the same rule for
 *	  confirming, the same number of false alarms, and one part taken out at a
 *	  time.
 *
 *	  ablation [--holidays FILE] [--false-alarms N] --choose FOLDER... --report FOLDER...
 *
 * The threshold of each variant is chosen on the first fleets so that it has at
 * most N (0.2) false alarms per service and week there, and what it
 * finds with it in the others is printed.
 *
 * Every variant says, for each sample, by how many decades it is stranger than
 * the budget of false alarms allows (its margin).
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/statistics.h"
#include "core/tracker.h"
#include "core/training.h"
#include "fleet.h"
#include "variants.h"

#define CONFIRMING_SAMPLES 2

/* After the last anomalous sample: grace of three cycles, then half an hour in
 * which the incident would be opened again. */
#define REMEMBERED_SAMPLES 9

#define LOWEST_THRESHOLD (-4.0)
#define HIGHEST_THRESHOLD 60.0
#define BISECTIONS 24
#define CURVE_POINTS 100
#define CURVE_STEP 0.16
#define MAX_FLEETS 16

typedef struct FleetList
{
	int			n;
	SbaEvalFleet *fleet[MAX_FLEETS];
	double	   *margin[MAX_FLEETS]; /* [service][variant][instant] */
} FleetList;

/* What someone would be woken for. */
static void
alarms_of(const double *margin, size_t n, double threshold, bool *alarms)
{
	size_t		in_a_row = 0;
	size_t		since_alarm = REMEMBERED_SAMPLES + 1;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		alarms[i] = false;
		if (isnan(margin[i]))
			continue;
		since_alarm++;
		if (margin[i] <= threshold)
		{
			in_a_row = 0;
			continue;
		}
		in_a_row++;
		alarms[i] = in_a_row >= CONFIRMING_SAMPLES || since_alarm <= REMEMBERED_SAMPLES;
		if (alarms[i])
			since_alarm = 0;
	}
}

static SbaEvalTally
tally_of(const FleetList *list, Variant variant, double threshold)
{
	SbaEvalTally tally = {0};
	int			f;

	for (f = 0; f < list->n; f++)
	{
		const SbaEvalFleet *fleet = list->fleet[f];
		bool	   *alarms = malloc(fleet->n_judged);
		size_t		s;

		for (s = 0; s < fleet->n_services && alarms != NULL; s++)
		{
			alarms_of(list->margin[f] + (s * N_VARIANTS + (size_t) variant) * fleet->n_judged,
					  fleet->n_judged, threshold, alarms);
			fleet_tally(fleet, &fleet->service[s], alarms, &tally);
		}
		free(alarms);
	}
	return tally;
}

static double
false_alarms(const SbaEvalTally *tally)
{
	return (double) tally->n_wrong / tally->service_weeks;
}

static double
recall_of(const SbaEvalTally *tally)
{
	return tally->n_incidents == 0 ? 0 : (double) tally->n_found / (double) tally->n_incidents;
}

static double
precision_of(const SbaEvalTally *tally)
{
	size_t		n = tally->n_right + tally->n_wrong;

	return n == 0 ? 0 : (double) tally->n_right / (double) n;
}

static double
f1_of(const SbaEvalTally *tally)
{
	double		sum = precision_of(tally) + recall_of(tally);

	return sum == 0 ? 0 : 2 * precision_of(tally) * recall_of(tally) / sum;
}

/* The lowest threshold with no more false alarms than wanted. */
static double
choose_threshold(const FleetList *list, Variant variant, double wanted)
{
	double		low = LOWEST_THRESHOLD;
	double		high = HIGHEST_THRESHOLD;
	int			i;

	for (i = 0; i < BISECTIONS; i++)
	{
		double		middle = (low + high) / 2;
		SbaEvalTally tally = tally_of(list, variant, middle);

		if (false_alarms(&tally) <= wanted)
			high = middle;
		else
			low = middle;
	}
	return high;
}

/*
 * Area under the curve of recall over false alarms from 0 to 1 per service and
 * week, as the threshold falls: 1 for a detector that finds all with none.
 */
static double
area_under_curve(const FleetList *list, Variant variant)
{
	double		area = 0;
	double		reached = 0;
	double		best = 0;
	int			i;

	for (i = CURVE_POINTS; i >= 0 && reached < 1; i--)
	{
		SbaEvalTally tally = tally_of(list, variant, LOWEST_THRESHOLD + i * CURVE_STEP);
		double		at = fmin(false_alarms(&tally), 1);

		if (at > reached)
		{
			area += (at - reached) * best;
			reached = at;
		}
		best = fmax(best, recall_of(&tally));
	}
	return area + (1 - reached) * best;
}

static void
read_fleet(FleetList *list, const char *folder, const char *holidays)
{
	SbaEvalFleet *fleet = fleet_read(folder, holidays);
	double	   *margin = malloc(fleet->n_services * N_VARIANTS * fleet->n_judged * sizeof(double));
	size_t		s;

	if (margin == NULL || list->n == MAX_FLEETS)
		abort();
	for (s = 0; s < fleet->n_services; s++)
		judge_service(fleet, &fleet->service[s], margin + s * N_VARIANTS * fleet->n_judged);
	list->fleet[list->n] = fleet;
	list->margin[list->n++] = margin;
}

static void
print_table(const FleetList *choose, const FleetList *report, double wanted)
{
	int			v;

	printf("| Variant | threshold | false alarms, chosen | false alarms | precision | recall | F1 | area |\n");
	printf("|---|---|---|---|---|---|---|---|\n");
	for (v = 0; v < N_VARIANTS; v++)
	{
		bool		is_fixed = v == VARIANT_RULES;
		double		threshold = is_fixed ? 0 : choose_threshold(choose, v, wanted);
		SbaEvalTally chosen = tally_of(choose, v, threshold);
		SbaEvalTally tally = tally_of(report, v, threshold);

		printf("| %s | ", variant_name(v));
		if (is_fixed)
			printf("fixed");
		else
			printf("%.2f", threshold);
		printf(" | %.2f | %.2f | %.3f | %.3f | %.3f | ", false_alarms(&chosen), false_alarms(&tally),
			   precision_of(&tally), recall_of(&tally), f1_of(&tally));
		if (is_fixed)
			printf("- |\n");
		else
			printf("%.3f |\n", area_under_curve(report, v));
	}
}

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"holidays", required_argument, NULL, 'h'},
		{"false-alarms", required_argument, NULL, 'f'},
		{"choose", no_argument, NULL, 'c'},
		{"report", no_argument, NULL, 'r'},
		{NULL, 0, NULL, 0}
	};
	FleetList	choose = {0};
	FleetList	report = {0};
	FleetList  *list = NULL;
	const char *holidays = NULL;
	double		wanted = 0.2;
	int			option;

	/* the fleets are all in one zone, and the names of days are of no concern */
	setenv("TZ", "Europe/Paris", 0);
	tzset();
	/* "-": folders come in the order in which they were given */
	while ((option = getopt_long(argc, argv, "-", long_options, NULL)) != -1)
	{
		if (option == 'h')
			holidays = optarg;
		else if (option == 'f')
			wanted = atof(optarg);
		else if (option == 'c')
			list = &choose;
		else if (option == 'r')
			list = &report;
		else if (option == 1 && list != NULL)
			read_fleet(list, optarg, holidays);
		else
		{
			fprintf(stderr, "usage: %s [--holidays FILE] [--false-alarms N] --choose FOLDER... --report FOLDER...\n", argv[0]);
			return 2;
		}
	}
	print_table(&choose, &report, wanted);
	return 0;
}
