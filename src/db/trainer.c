/*
 * trainer.c
 *	  Training one service: from its samples to rows of smartbox.models.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "db/calendar.h"
#include "db/left_out.h"
#include "db/model_card.h"
#include "db/trainer.h"
#include "pg/query.h"
#include "pg/settings.h"

static const char *const status_names[] = {
	[SBA_TRAINING_INSUFFICIENT] = "insufficient",
	[SBA_TRAINING_REJECTED] = "rejected",
	[SBA_TRAINING_ACCEPTED] = "accepted",
};

/* What malloc'ed memory has to be freed when the transaction goes. */
typedef struct TrainedMemory
{
	MemoryContextCallback callback;
	SbaTrainedPeriod periods[SBA_MAX_PERIODS];
	int			n_periods;
} TrainedMemory;

static void
free_trained_memory(void *argument)
{
	TrainedMemory *trained = argument;

	sba_free_trained_periods(trained->periods, trained->n_periods);
}

/*
 * The seed depends on the service alone, so that training the same history
 * twice gives the same model.
 */
static uint64
training_seed(const SbaService *service)
{
	return DatumGetUInt64(hash_any_extended((const unsigned char *) service->name,
											strlen(service->name), 0));
}

/* Hours of the week that belong to a period. */
static int
hours_of_period(const SbaPeriodMap *periods, int period)
{
	int			n = 0;
	int			hour;

	for (hour = 0; hour < SBA_HOURS_PER_WEEK; hour++)
		n += periods->of_hour[hour] == period;
	return n;
}

/* Where a period's samples lie, and how many of those expected there are. */
static void
describe_samples(const SbaSampleSeries *series, const SbaPeriodMap *periods, int period, SbaNewModel *model)
{
	size_t		row;
	double		span_s;
	double		expected;

	for (row = 0; row < series->n_rows; row++)
	{
		if (series->period[row] != period)
			continue;
		if (model->first_sample == 0)
			model->first_sample = series->ts[row];
		model->last_sample = series->ts[row];
	}
	span_s = series->n_rows > 0 ? (double) (series->time_s[series->n_rows - 1] - series->time_s[0]) : 0;
	expected = (span_s / sba_sample_interval_s + 1) * hours_of_period(periods, period) / SBA_HOURS_PER_WEEK;
	model->coverage = Min(model->trained->n_rows / expected, 1.0);
}

void
sba_describe_training(const SbaService *service, const SbaPeriodMap *periods,
					  const SbaSampleSeries *series, const uint8_t *use,
					  SbaHistory *history, SbaTrainingOptions *options)
{
	history->n_rows = series->n_rows;
	history->n_metrics = series->n_metrics;
	history->time_s = series->time_s;
	history->minute_of_week = series->minute_of_week;
	history->period = series->period;
	history->values = series->values;
	history->use = use;
	memset(options, 0, sizeof(*options));
	options->n_periods = periods->n_periods;
	options->interval_s = sba_sample_interval_s;
	options->contamination = service->contamination;
	options->budget_probability = sba_budget_probability(service);
	options->seed = training_seed(service);
}

SbaTrainingReport *
sba_train_service(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
				  const SbaService *service, TimestampTz since, TimestampTz until)
{
	SbaTrainingReport *report = palloc0(sizeof(SbaTrainingReport));
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly training",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	TrainedMemory *trained = palloc0(sizeof(TrainedMemory));
	SbaServiceCalendar *calendar;
	SbaSampleSeries *series;
	uint8_t    *use;
	SbaHistory	history;
	SbaTrainingOptions options;
	SbaError	error;
	instr_time	began;
	instr_time	took;
	int			p;

	sba_lock_training(service->name);
	series = sba_load_samples(metrics, periods, service, since, until);
	calendar = sba_calendar_of_service(sba_load_calendar(since, until), service);
	sba_calendar_apply_holidays(calendar, periods, series);
	use = sba_calendar_uses(series, calendar);
	sba_leave_out_incidents(service, series, DT_NOEND, use);
	sba_describe_training(service, periods, series, use, &history, &options);
	trained->n_periods = periods->n_periods;

	trained->callback.func = free_trained_memory;
	trained->callback.arg = trained;
	MemoryContextRegisterResetCallback(scratch, &trained->callback);
	INSTR_TIME_SET_CURRENT(began);
	if (sba_train_periods(metrics->metric, &history, &options, trained->periods, &error) != SBA_OK)
		sba_report_error(&error, psprintf("could not train service \"%s\"", service->name));
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, began);

	for (p = 0; p < periods->n_periods; p++)
	{
		const SbaTrainedPeriod *result = &trained->periods[p];
		SbaNewModel model = {0};

		model.service = service->name;
		model.time_period = periods->name[p];
		model.trained = result;
		model.status = status_names[result->outcome];
		model.seed = options.seed;
		model.feature_set = sba_feature_set_hash(metrics->metric, metrics->n_metrics);
		model.duration_ms = INSTR_TIME_GET_MILLISEC(took) / periods->n_periods;
		model.card = sba_model_card(metrics, service, series, p, result);
		describe_samples(series, periods, p, &model);
		report->period[p].version = sba_store_model(&model);
		report->period[p].time_period = periods->name[p];
		report->period[p].status = model.status;
		report->period[p].samples = (int) result->n_rows;
		if (result->reason[0] != '\0')
			report->period[p].reason = MemoryContextStrdup(caller, result->reason);
		report->n_accepted += result->outcome == SBA_TRAINING_ACCEPTED;
		report->n_rejected += result->outcome == SBA_TRAINING_REJECTED;
	}
	report->n_samples = series->n_rows;
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	return report;
}
