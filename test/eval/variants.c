/*
 * variants.c
 *	  The decision as it is, and with one part of it taken out or put in another
 *	  way.
 *
 * The history is followed a second time, row by row, to have each row's
 * features; what a variant learns beside the models comes from these.  The
 * first four fifths fit its forests, the last calibrates, and rows that lie
 * beyond all reason are left out of both, as in the product.
 */
#include "variants.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model.h"
#include "core/tracker.h"
#include "core/training.h"

#include "core/statistics.h"

/* Of the standard category. */
#define BUDGET_PER_WEEK 2.0
#define CONTAMINATION 0.05

#define TRAINING_SHARE 0.8
#define SUSPICIOUS_SIGMAS 6.0
#define WINDOW_SAMPLES 400
#define SAMPLES_PER_WEEK (7 * 86400.0 / FLEET_INTERVAL_S)
#define N_TIME_FEATURES 4
#define WIDE (FLEET_METRICS + N_TIME_FEATURES)

/* As period_fit.c has them. */
#define UNIVARIATE_TREES 50
#define MULTIVARIATE_TREES 100
#define SAMPLE_SIZE 256
#define MIN_SLOPE_PER_SCORE 2.0
#define MAX_SLOPE_PER_SCORE 40.0
#define MIN_SLOPE_PER_DECADE 0.6
#define MAX_SLOPE_PER_DECADE 1.3

/* The hard rules that come with the product. */
#define RULE_ERROR_RATE 0.05
#define RULE_LATENCY_MS 1000.0
#define RULE_TRAFFIC_SHARE 0.3
#define RULE_MIN_REQUESTS 20.0

/* What is known of one row. */
typedef struct Row
{
	int			period;
	int			minute_of_week;
	bool		is_bad;			/* beyond all reason */
	const double *values;
	SbaFeatures features;
	double		raw[WIDE];		/* transformed metrics, and the time */
	SbaVerdict	verdict;		/* of the period's model */
	SbaVerdict	pooled_verdict;
} Row;

/* Forests on anything, calibrated like the product's. */
typedef struct Forests
{
	bool		is_fitted;
	uint8_t    *bytes[FLEET_METRICS + 1];
	SbaForest	forest[FLEET_METRICS + 1];
	SbaTail		tail[FLEET_METRICS + 1];
	bool		has[FLEET_METRICS + 1];
	double		median[FLEET_METRICS];	/* of z */
} Forests;

typedef struct Judge
{
	const SbaEvalFleet *fleet;
	const SbaEvalService *service;
	SbaTrainedPeriod trained[FLEET_PERIODS];
	SbaTrainedPeriod trained_pooled;
	SbaModel	model[FLEET_PERIODS];
	SbaModel	pooled;
	SbaBaseline baseline[FLEET_METRICS];
	Row		   *rows;			/* [service->n_rows] */
	Forests		raw[FLEET_PERIODS];
	Forests		raw_time;
	Forests		pooled_time;	/* its multivariate forest alone */
	SbaTail		largest[N_VARIANTS][FLEET_PERIODS]; /* of a variant's evidence */
	bool		has_largest[N_VARIANTS][FLEET_PERIODS];
} Judge;

const char *
variant_name(Variant variant)
{
	static const char *const names[N_VARIANTS] = {
		"rules alone",
		"forests on raw metrics, five periods",
		"forests on raw metrics, one model with time as features",
		"forests on deviations, no tails",
		"tails and runs, no forests",
		"forests and tails, no runs",
		"all, one model over all periods",
		"all, one model with time as features",
		"all, five periods: the product",
	};

	return names[variant];
}

static void
give_up(const char *what, const SbaError *error)
{
	fprintf(stderr, "%s: %s\n", what, error->message);
	exit(1);
}

static bool
is_pooled(Variant variant)
{
	return variant == VARIANT_RAW_TIME || variant == VARIANT_POOLED || variant == VARIANT_POOLED_TIME;
}

static uint64_t
seed_of(const char *name)
{
	uint64_t	hash = UINT64_C(14695981039346656037);

	for (; *name != '\0'; name++)
		hash = (hash ^ (uint8_t) *name) * UINT64_C(1099511628211);
	return hash;
}

static void
train(const SbaEvalService *service, const uint8_t *period, int n_periods,
	  SbaTrainedPeriod *trained, SbaModel *models)
{
	SbaHistory	history = {service->n_training, FLEET_METRICS, service->time_s,
	service->minute_of_week, period, service->values, NULL};
	SbaTrainingOptions options = {n_periods, FLEET_INTERVAL_S, CONTAMINATION,
	BUDGET_PER_WEEK / SAMPLES_PER_WEEK, seed_of(service->name), false};
	SbaError	error;
	int			p;

	if (sba_train_periods(fleet_metrics, &history, &options, trained, &error) != SBA_OK)
		give_up(service->name, &error);
	for (p = 0; p < n_periods; p++)
	{
		snprintf(error.message, sizeof(error.message), "%s", trained[p].reason);
		if (trained[p].bytes == NULL ||
			sba_model_open(trained[p].bytes, trained[p].length, &models[p], &error) != SBA_OK)
			give_up(service->name, &error);
	}
}

/* Features and verdicts of every row, each judged by those before it. */
static void
follow(Judge *judge)
{
	const SbaEvalService *service = judge->service;
	void	   *memory = malloc(sba_level_window_size(FLEET_METRICS, WINDOW_SAMPLES));
	SbaTracker	tracker;
	size_t		i;
	int			m;

	if (memory == NULL)
		abort();
	for (m = 0; m < FLEET_METRICS; m++)
		judge->baseline[m] = judge->pooled.metric[m].baseline;
	sba_tracker_init(&tracker, fleet_metrics, judge->baseline, FLEET_METRICS, FLEET_INTERVAL_S,
					 WINDOW_SAMPLES, memory);
	for (i = 0; i < service->n_rows; i++)
	{
		Row		   *row = &judge->rows[i];
		double		angle = 2 * M_PI * (service->minute_of_week[i] + 0.5) / (24 * 60);
		double		budget = BUDGET_PER_WEEK / SAMPLES_PER_WEEK;

		row->period = service->period[i];
		row->minute_of_week = service->minute_of_week[i];
		row->values = service->values + i * FLEET_METRICS;
		sba_tracker_features(&tracker, service->time_s[i], row->minute_of_week, row->values, &row->features);
		for (m = 0; m < FLEET_METRICS; m++)
		{
			row->raw[m] = row->features.z[m];
			row->is_bad |= fabs(row->features.deviation[m]) > SUSPICIOUS_SIGMAS;
		}
		row->raw[FLEET_METRICS] = sin(angle);
		row->raw[FLEET_METRICS + 1] = cos(angle);
		row->raw[FLEET_METRICS + 2] = sin(angle / 7);
		row->raw[FLEET_METRICS + 3] = cos(angle / 7);
		sba_model_evaluate(&judge->model[row->period], fleet_metrics, row->values, &row->features,
						   budget, &row->verdict);
		sba_model_evaluate(&judge->pooled, fleet_metrics, row->values, &row->features,
						   budget, &row->pooled_verdict);
		sba_tracker_remember(&tracker, service->time_s[i], row->features.deviation);
		sba_tracker_add(&tracker, service->time_s[i], row->minute_of_week, row->features.z);
	}
	free(memory);
}

/* The features of a row that the forests of a variant see. */
static void
features_of(const Row *row, Variant variant, double *features)
{
	memcpy(features, row->raw, sizeof(row->raw));
	if (variant == VARIANT_POOLED_TIME)
		memcpy(features, row->features.deviation, FLEET_METRICS * sizeof(double));
}

/*
 * The rows of a period (-1: of all) that fit forests, or that calibrate:
 * features of each, n_features a row.
 */
static size_t
gather(const Judge *judge, Variant variant, int period, bool calibrating, size_t first, size_t n_features, double *points)
{
	size_t		n_period = 0;
	size_t		seen = 0;
	size_t		n = 0;
	size_t		i;

	for (i = 0; i < judge->service->n_training; i++)
		n_period += period < 0 || judge->rows[i].period == period;
	for (i = 0; i < judge->service->n_training; i++)
	{
		double		features[WIDE];

		if (period >= 0 && judge->rows[i].period != period)
			continue;
		if (((double) seen++ >= TRAINING_SHARE * (double) n_period) != calibrating || judge->rows[i].is_bad)
			continue;
		features_of(&judge->rows[i], variant, features);
		if (n_features > 1 || !isnan(features[first]))
			memcpy(points + n++ * n_features, features + first, n_features * sizeof(double));
	}
	return n;
}

/* Forests of each feature before n_metrics, and one of all. */
static void
fit_forests(const Judge *judge, Variant variant, int period, size_t n_metrics, size_t n_features, Forests *forests)
{
	double	   *points = malloc((judge->service->n_training + 1) * WIDE * sizeof(double));
	double	   *scores = malloc((judge->service->n_training + 1) * sizeof(double));
	size_t		f;

	if (points == NULL || scores == NULL)
		abort();
	for (f = 0; f <= FLEET_METRICS; f++)
	{
		bool		is_multivariate = f == FLEET_METRICS;
		size_t		first = is_multivariate ? 0 : f;
		size_t		width = is_multivariate ? n_features : 1;
		SbaForestParameters parameters = {(uint32_t) width, is_multivariate ? MULTIVARIATE_TREES : UNIVARIATE_TREES,
		SAMPLE_SIZE, seed_of(judge->service->name) + f};
		SbaError	error;
		size_t		length;
		size_t		n;

		if (!is_multivariate && f >= n_metrics)
			continue;
		n = gather(judge, variant, period, false, first, width, points);
		if (n < 30)
			continue;
		if (sba_forest_fit(points, n, &parameters, &forests->bytes[f], &length, &error) != SBA_OK ||
			sba_forest_open(forests->bytes[f], length, &forests->forest[f], &error) != SBA_OK)
			give_up(judge->service->name, &error);
		if (!is_multivariate)
			forests->median[f] = sba_median(points, n);
		n = gather(judge, variant, period, true, first, width, points);
		if (n == 0)
			continue;
		sba_forest_score(&forests->forest[f], points, n, scores);
		sba_sort(scores, n);
		sba_tail_fit(&forests->tail[f], scores, n, MIN_SLOPE_PER_SCORE, MAX_SLOPE_PER_SCORE);
		forests->has[f] = true;
	}
	free(points);
	free(scores);
}

static void
free_forests(Forests *forests)
{
	int			f;

	for (f = 0; f <= FLEET_METRICS; f++)
		free(forests->bytes[f]);
}

static double
forest_evidence(const Forests *forests, int f, const double *point)
{
	return forests->has[f] ?
		sba_tail_evidence(&forests->tail[f], sba_forest_score_one(&forests->forest[f], point)) : 0;
}

/*
 * Whether a value lies in the direction that hurts, and far enough to matter.
 * Calibration asks for the direction alone, as in the product.
 */
static bool
matters(int m, double value, double expected, bool calibrating)
{
	double		deviation = value - expected;

	if (fleet_metrics[m].direction == SBA_DIRECTION_HIGH && deviation < 0)
		return false;
	return calibrating || (fabs(deviation) >= fleet_metrics[m].min_absolute_deviation &&
						   fabs(deviation) >= fleet_metrics[m].min_relative_deviation * fabs(expected));
}

/* Forests that do not know what to expect but the middle of what there was. */
static double
raw_evidence(const Judge *judge, const Row *row, Variant variant, bool calibrating)
{
	const Forests *forests = variant == VARIANT_RAW ? &judge->raw[row->period] : &judge->raw_time;
	double		largest = 0;
	bool		any = false;
	int			m;

	for (m = 0; m < FLEET_METRICS; m++)
	{
		const SbaBaseline *baseline = &judge->baseline[m];

		if (isnan(row->raw[m]) || !forests->has[m] ||
			!matters(m, row->values[m], sba_inverse_transform(fleet_metrics[m].kind, baseline->offset, forests->median[m]), calibrating))
			continue;
		any = true;
		largest = fmax(largest, forest_evidence(forests, m, &row->raw[m]));
	}
	return any ? fmax(largest, forest_evidence(forests, FLEET_METRICS, row->raw)) : 0;
}

/* Evidence of the parts of a model that a variant has. */
static double
model_evidence(const Judge *judge, const Row *row, Variant variant, bool calibrating)
{
	const SbaModel *model = variant == VARIANT_POOLED_TIME ? &judge->pooled : &judge->model[row->period];
	const SbaFeatures *features = &row->features;
	bool		has_forests = variant != VARIANT_TAILS;
	bool		has_tails = variant != VARIANT_FORESTS;
	bool		has_runs = has_tails && variant != VARIANT_NO_RUNS;
	double		largest = 0;
	double		by_forest = 0;
	bool		any = false;
	int			m;

	for (m = 0; m < FLEET_METRICS; m++)
	{
		const SbaMetricModel *metric = &model->metric[m];
		double		deviation = features->deviation[m];
		double		expected;
		double		by_run;

		if (!metric->baseline.known || isnan(deviation))
			continue;
		expected = sba_inverse_transform(metric->kind, metric->baseline.offset, features->expected_z[m]);
		if (matters(m, row->values[m], expected, calibrating))
		{
			any = true;
			if (has_tails)
				largest = fmax(largest, deviation > 0 ? sba_tail_evidence(&metric->high_tail, deviation) :
							   sba_tail_evidence(&metric->low_tail, -deviation));
			if (has_forests && metric->has_forest)
				largest = fmax(largest, sba_tail_evidence(&metric->forest_tail,
														  sba_forest_score_one(&metric->forest, &deviation)));
		}
		by_run = has_runs ? sba_run_evidence(metric, deviation, features->run[m]) : 0;
		if (by_run > 0 &&
			matters(m, sba_inverse_transform(metric->kind, metric->baseline.offset,
											 features->expected_z[m] + features->run[m] * features->sigma[m]), expected, calibrating))
		{
			any = true;
			largest = fmax(largest, by_run);
		}
	}
	if (variant == VARIANT_POOLED_TIME)
	{
		double		point[WIDE];

		features_of(row, variant, point);
		by_forest = forest_evidence(&judge->pooled_time, FLEET_METRICS, point);
	}
	else if (has_forests && model->has_forest)
		by_forest = sba_tail_evidence(&model->forest_tail, sba_forest_score_one(&model->forest, features->deviation));
	return any ? fmax(largest, by_forest) : 0;
}

/* Whether a hard rule holds. */
static bool
breaks_rule(const Judge *judge, const Row *row)
{
	double		rate = row->values[0];
	double		expected = sba_inverse_transform(SBA_KIND_RATE, judge->baseline[0].offset, row->features.expected_z[0]);

	if (rate * FLEET_INTERVAL_S >= RULE_MIN_REQUESTS &&
		(row->values[4] > RULE_ERROR_RATE || row->values[1] > RULE_LATENCY_MS))
		return true;
	return expected * FLEET_INTERVAL_S >= RULE_MIN_REQUESTS && rate < RULE_TRAFFIC_SHARE * expected;
}

static double
evidence_of(const Judge *judge, const Row *row, Variant variant, bool calibrating)
{
	switch (variant)
	{
		case VARIANT_RAW:
		case VARIANT_RAW_TIME:
			return raw_evidence(judge, row, variant, calibrating);
		default:
			return model_evidence(judge, row, variant, calibrating);
	}
}

/* How rare each evidence of a variant is, since several looks find more than one. */
static void
calibrate(Judge *judge, Variant variant)
{
	double	   *evidence = malloc((judge->service->n_training + 1) * sizeof(double));
	int			p;

	if (evidence == NULL)
		abort();
	for (p = 0; p < FLEET_PERIODS; p++)
	{
		size_t		n_period = 0;
		size_t		seen = 0;
		size_t		n = 0;
		size_t		i;

		if (is_pooled(variant) && p > 0)
			break;
		for (i = 0; i < judge->service->n_training; i++)
			n_period += is_pooled(variant) || judge->rows[i].period == p;
		for (i = 0; i < judge->service->n_training; i++)
		{
			const Row  *row = &judge->rows[i];

			if (!is_pooled(variant) && row->period != p)
				continue;
			if ((double) seen++ >= TRAINING_SHARE * (double) n_period && !row->is_bad)
				evidence[n++] = evidence_of(judge, row, variant, true);
		}
		if (n == 0)
			continue;
		sba_sort(evidence, n);
		sba_tail_fit(&judge->largest[variant][p], evidence, n, MIN_SLOPE_PER_DECADE, MAX_SLOPE_PER_DECADE);
		judge->has_largest[variant][p] = true;
	}
	free(evidence);
}

static double
margin_of(const Judge *judge, const Row *row, Variant variant)
{
	double		budget = -log10(BUDGET_PER_WEEK / SAMPLES_PER_WEEK);
	const SbaVerdict *verdict = variant == VARIANT_ALL ? &row->verdict : &row->pooled_verdict;
	int			p = is_pooled(variant) ? 0 : row->period;
	double		evidence;
	int			m;

	switch (variant)
	{
		case VARIANT_RULES:
			return breaks_rule(judge, row) ? 1 : -1;
		case VARIANT_ALL:
		case VARIANT_POOLED:
			for (m = 0; m < FLEET_METRICS; m++)
				if (verdict->metric[m].is_signal)
					return verdict->evidence - budget;
			return -INFINITY;
		default:
			evidence = evidence_of(judge, row, variant, false);
			if (evidence <= 0 || !judge->has_largest[variant][p])
				return -INFINITY;
			return sba_tail_evidence(&judge->largest[variant][p], evidence) - budget;
	}
}

static void
fill_margins(const Judge *judge, double *margin)
{
	const SbaEvalFleet *fleet = judge->fleet;
	size_t		i;
	int			v;

	for (i = 0; i < fleet->n_judged; i++)
		for (v = 0; v < N_VARIANTS; v++)
			margin[(size_t) v * fleet->n_judged + i] = fleet->reported[i] ? INFINITY : NAN;
	for (i = judge->service->n_training; i < judge->service->n_rows; i++)
	{
		int64_t		at = fleet_instant(fleet, judge->service->time_s[i]);

		for (v = 0; v < N_VARIANTS && at < (int64_t) fleet->n_judged; v++)
			margin[(size_t) v * fleet->n_judged + (size_t) at] = margin_of(judge, &judge->rows[i], v);
	}
}

void
judge_service(const SbaEvalFleet *fleet, const SbaEvalService *service, double *margin)
{
	static const Variant calibrated[] = {VARIANT_RAW, VARIANT_RAW_TIME, VARIANT_FORESTS, VARIANT_TAILS,
	VARIANT_NO_RUNS, VARIANT_POOLED_TIME};
	Judge	   *judge = calloc(1, sizeof(*judge));
	uint8_t    *one_period = calloc(service->n_rows + 1, 1);
	size_t		i;
	int			p;

	if (judge == NULL || one_period == NULL)
		abort();
	judge->fleet = fleet;
	judge->service = service;
	judge->rows = calloc(service->n_rows + 1, sizeof(Row));
	if (judge->rows == NULL)
		abort();
	train(service, service->period, FLEET_PERIODS, judge->trained, judge->model);
	train(service, one_period, 1, &judge->trained_pooled, &judge->pooled);
	follow(judge);
	for (p = 0; p < FLEET_PERIODS; p++)
		fit_forests(judge, VARIANT_RAW, p, FLEET_METRICS, FLEET_METRICS, &judge->raw[p]);
	fit_forests(judge, VARIANT_RAW_TIME, -1, FLEET_METRICS, WIDE, &judge->raw_time);
	fit_forests(judge, VARIANT_POOLED_TIME, -1, 0, WIDE, &judge->pooled_time);
	for (i = 0; i < sizeof(calibrated) / sizeof(calibrated[0]); i++)
		calibrate(judge, calibrated[i]);
	fill_margins(judge, margin);

	for (p = 0; p < FLEET_PERIODS; p++)
		free_forests(&judge->raw[p]);
	free_forests(&judge->raw_time);
	free_forests(&judge->pooled_time);
	sba_free_trained_periods(judge->trained, FLEET_PERIODS);
	sba_free_trained_periods(&judge->trained_pooled, 1);
	free(judge->rows);
	free(judge);
	free(one_period);
}
