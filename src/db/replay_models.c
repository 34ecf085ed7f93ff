/*
 * replay_models.c
 *	  The models of a backtest, trained in memory, and the trackers that follow
 *	  the service in their terms.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/validation.h"
#include "db/left_out.h"
#include "db/model_store.h"
#include "db/replay.h"
#include "db/trainer.h"
#include "pg/query.h"
#include "pg/settings.h"

TimestampTz
sba_lookback_before(const SbaBacktest *backtest, TimestampTz ts)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(ts),
												   IntervalPGetDatum(&backtest->options.lookback)));
}

/* Trained models and incidents are malloc'ed. */
static void
free_trained(void *argument)
{
	SbaLearned *learned = argument;

	sba_free_trained_periods(learned->trained, learned->n_models);
}

/* What the replay has found so far does not teach, as with a live detection. */
static void
leave_out_incidents(const SbaReplay *replay)
{
	const SbaIncidentMachine *machine = &replay->backtest->machine;
	size_t		i;

	for (i = 0; i < machine->n_incidents; i++)
	{
		const SbaIncident *incident = &machine->incidents[i];

		if (incident->is_confirmed)
			sba_leave_out_incident(replay->series, incident->first_seen_us,
								   incident->status == SBA_INCIDENT_CLOSED ?
								   incident->resolved_us : incident->last_seen_us,
								   replay->use);
	}
}

/* Which model serves which period: its own, else the nearest other's. */
static void
assign_models(SbaReplay *replay)
{
	const SbaPeriodMap *periods = replay->backtest->periods;
	int			p;

	for (p = 0; p < periods->n_periods; p++)
	{
		const int  *order = replay->fallback[p];
		int			i;

		memset(&replay->serving[p], 0, sizeof(SbaServing));
		for (i = 0; i < periods->n_periods && order[i] >= 0 && replay->serving[p].learned == NULL; i++)
		{
			replay->serving[p] = replay->own[order[i]];
			replay->serving[p].is_fallback = i > 0;
		}
	}
}

/* Free what serves no period any more. */
static void
forget_unused(SbaReplay *replay)
{
	SbaLearned **link = &replay->all_learned;

	while (*link != NULL)
	{
		SbaLearned *learned = *link;

		if (learned->n_used > 0)
			link = &learned->next;
		else
		{
			*link = learned->next;
			MemoryContextDelete(learned->memory);
		}
	}
}

/* Take a model over for a period, unless it was not accepted. */
static void
adopt(SbaReplay *replay, SbaLearned *learned, int number, int period)
{
	const SbaTrainedPeriod *trained = &learned->trained[number];

	if (trained->outcome != SBA_TRAINING_ACCEPTED)
		return;
	if (replay->own[period].learned != NULL)
		replay->own[period].learned->n_used--;
	replay->own[period].learned = learned;
	replay->own[period].number = number;
	learned->n_used++;
}

/* Many samples will be scored one by one. */
static void
unfold(const SbaLearned *learned, SbaForest *forest)
{
	Size		size = sba_forest_unfolded_size(forest);

	if (size > 0)
		sba_forest_unfold(forest, MemoryContextAlloc(learned->memory, size));
}

static void
open_models(const SbaReplay *replay, SbaLearned *learned)
{
	int			i;
	int			m;

	for (i = 0; i < replay->n_models; i++)
	{
		const SbaTrainedPeriod *trained = &learned->trained[i];
		SbaError	error;

		if (trained->outcome != SBA_TRAINING_ACCEPTED)
			continue;
		if (sba_model_open(trained->bytes, trained->length, &learned->model[i], &error) != SBA_OK)
			sba_report_error(&error, "could not use a model that was just trained");

		for (m = 0; m < learned->model[i].n_metrics; m++)
		{
			learned->baselines[i][m] = learned->model[i].metric[m].baseline;
			if (trained->metric[m].n_values < SBA_USUAL_SHARE * trained->n_rows)
				learned->sporadic[i] |= (uint32_t) 1 << m;
			if (learned->model[i].metric[m].has_forest)
				unfold(learned, &learned->model[i].metric[m].forest);
		}
		if (learned->model[i].has_forest)
			unfold(learned, &learned->model[i].forest);
	}
}

void
sba_replay_learn(SbaReplay *replay, TimestampTz before)
{
	SbaBacktest *backtest = replay->backtest;
	const SbaSampleSeries *series = replay->series;
	MemoryContext memory = AllocSetContextCreate(replay->memory, "smartbox_anomaly backtest models",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	size_t		end = sba_first_row_after(series, before - 1);
	SbaLearned *learned = palloc0(sizeof(SbaLearned));
	SbaSampleSeries part;
	SbaHistory	history;
	SbaTrainingOptions options;
	SbaError	error;
	size_t		first = 0;
	int			p;

	if (end > 0)
		first = sba_first_row_after(series, sba_lookback_before(backtest, series->ts[end - 1]));
	learned->memory = memory;
	learned->n_models = replay->n_models;
	learned->callback.func = free_trained;
	learned->callback.arg = learned;
	MemoryContextRegisterResetCallback(memory, &learned->callback);
	learned->next = replay->all_learned;
	replay->all_learned = learned;
	learned->window_memory = palloc(sba_level_window_size(series->n_metrics, replay->window_capacity));
	leave_out_incidents(replay);
	part = sba_part_of_series(series, first, end);
	part.values = palloc_extended(sizeof(double) * (part.n_rows * part.n_metrics + 1), MCXT_ALLOC_HUGE);
	memcpy(part.values, replay->received + first * part.n_metrics, sizeof(double) * part.n_rows * part.n_metrics);
	sba_forget_flat_lines(part.values, part.n_rows, part.n_metrics);
	sba_describe_training(backtest->service, backtest->periods, &part, replay->use + first, &history, &options);
	if (!backtest->options.by_period)
	{
		history.period = palloc0(part.n_rows + 1);
		options.n_periods = 1;
	}
	options.without_forests = !backtest->options.forests;
	if (sba_train_periods(backtest->catalog->metric, &history, &options, learned->trained, &error) != SBA_OK)
		sba_report_error(&error, psprintf("could not train service \"%s\"", backtest->service->name));
	pfree(part.values);
	open_models(replay, learned);
	for (p = 0; p < backtest->periods->n_periods; p++)
		adopt(replay, learned, backtest->options.by_period ? p : 0, p);
	forget_unused(replay);
	assign_models(replay);
	MemoryContextSwitchTo(caller);
}

void
sba_replay_catch_up(const SbaReplay *replay, SbaLearned *learned, int number, size_t row)
{
	const SbaSampleSeries *series = replay->series;
	SbaTracker *tracker = &learned->tracker;

	if (!learned->has_begun)
	{
		sba_tracker_init(tracker, replay->backtest->catalog->metric, learned->baselines[number], series->n_metrics,
						 sba_sample_interval_s, replay->window_capacity, learned->window_memory);
		learned->next_row = sba_first_row_after(series, series->ts[row] - SBA_TRACKER_SPAN_S * USECS_PER_SEC);
		learned->has_begun = true;
	}
	tracker->baselines = learned->baselines[number];
	for (; learned->next_row < row; learned->next_row++)
	{
		size_t		next = learned->next_row;
		const double *values = series->values + next * series->n_metrics;
		SbaFeatures features;

		if (next + SBA_RUN_SAMPLES > row)
		{
			sba_tracker_features(tracker, series->time_s[next], series->minute_of_week[next], values, &features);
			sba_tracker_remember(tracker, series->time_s[next], features.deviation);
		}
		else
			sba_tracker_transform(tracker, values, features.z);
		sba_tracker_add(tracker, series->time_s[next], series->minute_of_week[next], features.z);
	}
}

void
sba_replay_begin_anew(const SbaReplay *replay, size_t seen_row)
{
	SbaLearned *learned;

	for (learned = replay->all_learned; learned != NULL; learned = learned->next)
		if (learned->next_row > seen_row)
			learned->has_begun = false;
}
