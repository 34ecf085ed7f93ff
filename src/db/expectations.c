/*
 * expectations.c
 *	  What was expected of a service at each sample, normal ones included.
 *
 * The same functions as in a detection, without forests: a tracker sees the two
 * days before the first sample and then each sample after it was asked what to
 * expect.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/tracker.h"
#include "db/calendar.h"
#include "db/expectations.h"
#include "db/follower.h"
#include "db/judge.h"
#include "db/periods.h"
#include "db/samples.h"
#include "pg/settings.h"

/* What a period's model knows, as long as the call lasts. */
typedef struct PeriodModel
{
	bool		is_known;		/* was looked for */
	bool		exists;
	TimestampTz trained_at;
	uint64		feature_set;
	int			n_metrics;
	int			catalog_index[SBA_MAX_METRICS];
	SbaMetric	metrics[SBA_MAX_METRICS];
	SbaBaseline baselines[SBA_MAX_METRICS];
} PeriodModel;

typedef struct Walk
{
	const SbaMetricCatalog *catalog;
	const SbaPeriodMap *periods;
	const SbaService *service;
	SbaSampleSeries *series;
	PeriodModel model[SBA_MAX_PERIODS];
	const PeriodModel *followed;	/* the model that the tracker goes by */
	SbaTracker	tracker;
	size_t		next_row;		/* that the tracker sees next */
	size_t		window_capacity;
	void	   *window_memory;
} Walk;

/* Keep what is needed of a model that may leave the session's memory. */
static void
keep_model(Walk *walk, const SbaActiveModel *active, PeriodModel *kept)
{
	const char *units[SBA_MAX_METRICS];
	int			m;

	kept->exists = true;
	kept->trained_at = active->trained_at;
	kept->feature_set = active->model.feature_set;
	kept->n_metrics = active->model.n_metrics;
	sba_match_metrics(walk->catalog, &active->model, kept->metrics, units, kept->catalog_index);
	for (m = 0; m < kept->n_metrics; m++)
	{
		kept->metrics[m].name = pstrdup(kept->metrics[m].name);
		kept->baselines[m] = active->model.metric[m].baseline;
		if (kept->baselines[m].known)
		{
			uint8	   *profile = palloc(SBA_PROFILE_VALUES * sizeof(float));

			memcpy(profile, kept->baselines[m].profile, SBA_PROFILE_VALUES * sizeof(float));
			kept->baselines[m].profile = profile;
		}
	}
}

static const PeriodModel *
model_of_period(Walk *walk, int period)
{
	PeriodModel *model = &walk->model[period];

	if (!model->is_known)
	{
		const char *fallback_period;
		const SbaActiveModel *active = sba_find_model(walk->service, walk->periods->name[period], &fallback_period);

		if (active != NULL)
			keep_model(walk, active, model);
		model->is_known = true;
	}
	return model->exists ? model : NULL;
}

/* Models of one training speak of the same levels, so that a tracker goes on. */
static bool
is_same_training(const PeriodModel *a, const PeriodModel *b)
{
	return a->trained_at == b->trained_at && a->feature_set == b->feature_set &&
		memcmp(a->catalog_index, b->catalog_index, sizeof(int) * a->n_metrics) == 0;
}

/* Let the tracker see what was there before a row, in a model's terms. */
static void
catch_up(Walk *walk, const PeriodModel *model, size_t row)
{
	const SbaSampleSeries *series = walk->series;
	SbaTracker *tracker = &walk->tracker;

	if (walk->followed == NULL || !is_same_training(walk->followed, model))
	{
		Size		size = sba_level_window_size(model->n_metrics, walk->window_capacity);

		walk->window_memory = walk->window_memory == NULL ? palloc(size) : repalloc(walk->window_memory, size);
		sba_tracker_init(tracker, model->metrics, model->baselines, model->n_metrics, sba_sample_interval_s,
						 walk->window_capacity, walk->window_memory);
		walk->next_row = sba_first_row_after(series, sba_seconds_before(series->ts[row], SBA_TRACKER_SPAN_S));
	}
	walk->followed = model;
	tracker->metrics = model->metrics;
	tracker->baselines = model->baselines;
	for (; walk->next_row < row; walk->next_row++)
	{
		size_t		next = walk->next_row;
		double		values[SBA_MAX_METRICS];
		double		z[SBA_MAX_METRICS];

		sba_order_values(series->values + next * series->n_metrics, model->catalog_index, model->n_metrics, values);
		sba_tracker_transform(tracker, values, z);
		sba_tracker_add(tracker, series->time_s[next], series->minute_of_week[next], z);
	}
}

static void
expect_by_model(Walk *walk, const PeriodModel *model, size_t row, SbaExpectation *by_metric)
{
	const SbaSampleSeries *series = walk->series;
	double		values[SBA_MAX_METRICS];
	SbaFeatures features;
	int			m;

	catch_up(walk, model, row);
	sba_order_values(series->values + row * series->n_metrics, model->catalog_index, model->n_metrics, values);
	sba_tracker_features(&walk->tracker, series->time_s[row], series->minute_of_week[row], values, &features);
	for (m = 0; m < model->n_metrics; m++)
	{
		const SbaBaseline *baseline = &model->baselines[m];
		SbaExpectation *expectation;

		if (model->catalog_index[m] < 0 || !baseline->known)
			continue;
		expectation = &by_metric[model->catalog_index[m]];
		sba_expected_band(model->metrics[m].kind, baseline->offset, features.expected_z[m], features.sigma[m],
						  &expectation->expected, &expectation->lower, &expectation->upper);
		expectation->deviation_sigma = features.deviation[m];
	}
}

static void
load_series(Walk *walk, TimestampTz since, TimestampTz until)
{
	TimestampTz first = sba_seconds_before(since, SBA_TRACKER_SPAN_S) - 1;
	SbaServiceCalendar *calendar = sba_calendar_of_service(sba_load_calendar(sba_seconds_before(first, SECS_PER_DAY), until),
														   walk->service);

	walk->series = sba_load_samples(walk->catalog, walk->periods, walk->service, first, until);
	sba_calendar_apply_holidays(calendar, walk->periods, walk->series);
	walk->window_capacity = sba_level_window_capacity(walk->series->time_s, walk->series->n_rows);
}

void
sba_expect_values(const SbaMetricCatalog *catalog, const SbaService *service, TimestampTz since, TimestampTz until,
				  SbaExpectationSink add_sample, void *context)
{
	Walk	   *walk = palloc0(sizeof(Walk));
	size_t		row;

	walk->catalog = catalog;
	walk->periods = sba_load_periods();
	walk->service = service;
	load_series(walk, since, until);
	for (row = sba_first_row_after(walk->series, since - 1); row < walk->series->n_rows; row++)
	{
		SbaExpectation by_metric[SBA_MAX_METRICS];
		const PeriodModel *model = model_of_period(walk, walk->series->period[row]);
		int			m;

		CHECK_FOR_INTERRUPTS();
		for (m = 0; m < catalog->n_metrics; m++)
		{
			by_metric[m].value = walk->series->values[row * catalog->n_metrics + m];
			by_metric[m].expected = by_metric[m].lower = by_metric[m].upper = by_metric[m].deviation_sigma = NAN;
		}
		if (model != NULL)
			expect_by_model(walk, model, row, by_metric);
		add_sample(context, walk->series->ts[row], by_metric);
	}
}
