/*
 * replay_judge.c
 *	  The verdict on one row of a backtest, by the functions that detection uses.
 */
#include "postgres.h"

#include "db/judge.h"
#include "db/replay.h"
#include "pg/query.h"

bool
sba_row_is_usable(const SbaSampleSeries *series, size_t row)
{
	int			m;

	for (m = 0; m < series->n_metrics; m++)
		if (!isnan(series->values[row * series->n_metrics + m]))
			return true;
	return false;
}

/* Decide anew by the replay's own threshold; 0 changes nothing. */
static void
apply_threshold(const SbaReplay *replay, double budget, SbaVerdict *verdict)
{
	double		score = sba_score_of_evidence(verdict->evidence, budget);
	bool		any_signal = false;
	int			m;

	for (m = 0; m < replay->backtest->catalog->n_metrics; m++)
		any_signal |= verdict->metric[m].is_signal;
	verdict->is_anomaly = any_signal && score < replay->backtest->options.threshold;
	verdict->score = any_signal ? score : Max(score, 0);
}

/* The share of the metrics that the service usually has which a row has. */
static double
share_of_metrics(const SbaReplay *replay, const SbaServing *serving, size_t row)
{
	const SbaSampleSeries *series = replay->series;
	uint32_t	sporadic = serving->learned->sporadic[serving->number];
	int			n_usual = 0;
	int			n_missing = 0;
	int			m;

	for (m = 0; m < series->n_metrics; m++)
	{
		if (!serving->learned->baselines[serving->number][m].known || (sporadic >> m & 1) != 0)
			continue;
		n_usual++;
		n_missing += isnan(series->values[row * series->n_metrics + m]) && (series->idle[row] >> m & 1) == 0;
	}
	return n_usual > 0 ? 1 - (double) n_missing / n_usual : 1;
}

/* Fill in what the model of the row's period says; nothing without one. */
static void
judge_by_model(const SbaReplay *replay, size_t row, SbaReplayJudgement *judgement, SbaBacktestRow *result)
{
	const SbaBacktest *backtest = replay->backtest;
	const SbaServing *serving = &replay->serving[result->period];
	const SbaModel *model;

	judgement->budget = sba_budget_probability(backtest->service);
	memset(&judgement->verdict, 0, sizeof(SbaVerdict));
	if (serving->learned == NULL)
		return;
	model = &serving->learned->model[serving->number];
	sba_replay_catch_up(replay, serving->learned, serving->number, row);
	sba_tracker_features(&serving->learned->tracker, replay->series->time_s[row],
						 replay->series->minute_of_week[row], judgement->sample.values, &judgement->features);
	if (sba_calendar_lookup(replay->calendar, SBA_CALENDAR_BUSY, result->ts))
	{
		memcpy(judgement->relaxed, backtest->catalog->metric, sizeof(judgement->relaxed));
		judgement->sample.metrics = judgement->relaxed;
		judgement->budget = sba_relax(judgement->relaxed, backtest->catalog->n_metrics, judgement->budget);
	}
	sba_model_evaluate(model, judgement->sample.metrics, judgement->sample.values, &judgement->features,
					   judgement->budget, &judgement->verdict);
	apply_threshold(replay, judgement->budget, &judgement->verdict);
	judgement->sample.model = model;
	judgement->sample.features = &judgement->features;
	result->has_verdict = true;
	result->score = judgement->verdict.score;
	result->evidence = judgement->verdict.evidence;
	result->deviation = judgement->features.deviation;
	result->confidence = sba_verdict_confidence(model, &judgement->verdict,
												backtest->periods->confidence[result->period],
												share_of_metrics(replay, serving, row), serving->is_fallback);
}

/* Name an anomaly of a score or of a rule, and weigh it, as its payload does. */
static void
diagnose(const SbaReplay *replay, SbaReplayJudgement *judgement, SbaBacktestRow *result)
{
	SbaDiagnosis *diagnosis = &judgement->diagnosis;
	SbaSeenAnomaly *anomaly = &judgement->anomaly;
	bool		by_score = judgement->verdict.is_anomaly;
	bool		is_high;
	const SbaRule *rule;
	int			n_signals = 0;
	int			i;

	/*
	 * contributions take longer than all the rest, and only tell signals
	 * apart
	 */
	for (i = 0; i < judgement->sample.n_metrics; i++)
		n_signals += judgement->verdict.metric[i].is_signal;
	if (judgement->sample.model != NULL && n_signals > 1)
		sba_model_explain(judgement->sample.model, &judgement->features, &judgement->verdict);
	sba_find_patterns(&judgement->sample, SBA_DEPENDENCIES_UNKNOWN, diagnosis, NULL);
	result->is_anomaly = true;
	result->severity = sba_diagnosed_severity(diagnosis, by_score ?
											  sba_severity_of_score(judgement->verdict.score) : SBA_SEVERITY_NONE);
	i = sba_name_anomaly(&judgement->sample, diagnosis, by_score, &is_high, &rule);
	anomaly->name = sba_signal_number(i, is_high);
	for (i = 0; i < judgement->sample.n_metrics; i++)
		if (judgement->verdict.metric[i].is_signal)
			sba_signal_set_add(&anomaly->signals,
							   sba_signal_number(i, judgement->verdict.metric[i].deviation_sigma >= 0));
	for (i = 0; i < diagnosis->n_broken; i++)
		sba_signal_set_add(&anomaly->signals,
						   sba_signal_number(diagnosis->broken[i].metric, sba_rule_is_high(diagnosis->broken[i].rule)));
	if (result->has_verdict)
	{
		anomaly->score = result->score;
		anomaly->confidence = result->confidence;
	}
}

/* Objectives have the last word, and one when there is no model. */
static void
apply_objectives(const SbaReplay *replay, SbaReplayJudgement *judgement, SbaBacktestRow *result)
{
	const SbaBacktest *backtest = replay->backtest;
	SbaObjectiveVerdict verdicts[SBA_MAX_METRICS];
	SbaSignal	signals[SBA_MAX_METRICS] = {SBA_SIGNAL_NONE};
	SbaObjectiveOutcome outcome;
	int			m;

	if (!sba_judge_objectives(replay->objectives, backtest->service, result->ts, judgement->sample.values, verdicts))
		return;
	for (m = 0; m < backtest->catalog->n_metrics; m++)
	{
		if (sba_signal_set_has(&judgement->anomaly.signals, sba_signal_number(m, true)))
			signals[m] = SBA_SIGNAL_HIGH;
		if (sba_signal_set_has(&judgement->anomaly.signals, sba_signal_number(m, false)))
			signals[m] = SBA_SIGNAL_LOW;
	}
	outcome = sba_weigh_objectives(backtest->catalog->metric, backtest->catalog->n_metrics, verdicts, signals,
								   result->severity);
	if (outcome.metric < 0)
		return;
	if (!result->is_anomaly)
	{
		judgement->anomaly.name = sba_signal_number(outcome.metric, !verdicts[outcome.metric].is_low);
		judgement->anomaly.confidence = 1;
	}
	for (m = 0; m < backtest->catalog->n_metrics; m++)
		if (verdicts[m].state == SBA_OBJECTIVE_BREACH && signals[m] == SBA_SIGNAL_NONE)
			sba_signal_set_add(&judgement->anomaly.signals, sba_signal_number(m, !verdicts[m].is_low));
	result->is_anomaly = true;
	result->severity = outcome.severity;
}

/*
 * Judge a sample; false when that leaves nothing to record: without a model, a
 * sample that breaks no rule is worth a row only where an incident waits for
 * its end.
 */
static bool
judge(const SbaReplay *replay, size_t row, SbaReplayJudgement *judgement, SbaBacktestRow *result)
{
	const SbaBacktest *backtest = replay->backtest;
	const SbaSampleSeries *series = replay->series;
	SbaEvaluatedSample *sample = &judgement->sample;

	memset(sample, 0, sizeof(*sample));
	sample->service = backtest->service;
	sample->ts = result->ts;
	sample->time_period = backtest->periods->name[result->period];
	sample->minute_of_week = series->minute_of_week[row];
	sample->n_metrics = series->n_metrics;
	sample->metrics = backtest->catalog->metric;
	sample->units = backtest->catalog->unit;
	sample->values = series->values + row * series->n_metrics;
	sample->verdict = &judgement->verdict;
	sample->catalog_index = replay->catalog_index;
	judgement->history = sba_part_of_series(series, row > SBA_HISTORY_SAMPLES ? row - SBA_HISTORY_SAMPLES : 0, row);
	sample->history = &judgement->history;
	judge_by_model(replay, row, judgement, result);
	sba_check_given_rules(replay->rules, replay->n_rules, sample, &judgement->diagnosis);
	if ((judgement->verdict.is_anomaly || judgement->diagnosis.n_broken > 0) &&
		!sba_calendar_lookup(replay->calendar, SBA_CALENDAR_MAINTENANCE, result->ts))
		diagnose(replay, judgement, result);
	apply_objectives(replay, judgement, result);
	return result->has_verdict || result->is_anomaly || backtest->machine.n_active > 0;
}

void
sba_replay_conclude(SbaBacktest *backtest, SbaBacktestRow *row, SbaSeenAnomaly *anomaly)
{
	SbaIncidentMove move = {0};
	SbaError	error;

	anomaly->severity = row->severity;
	if (sba_incidents_advance(&backtest->machine, row->ts, row->no_data, anomaly, row->is_anomaly ? 1 : 0,
							  &move, &error) != SBA_OK)
		sba_report_error(&error, "could not replay incidents");
	if (backtest->add_row == NULL)
		return;
	if (row->is_anomaly)
	{
		row->name = anomaly->name;
		row->signals = &anomaly->signals;
		row->incident = &backtest->machine.incidents[move.incident];
		row->action = move.action;
	}
	backtest->add_row(backtest->context, row);
}

void
sba_replay_row(const SbaReplay *replay, size_t row)
{
	SbaBacktestRow result = {0};
	SbaReplayJudgement *judgement = replay->judgement;

	memset(&judgement->anomaly, 0, sizeof(SbaSeenAnomaly));
	judgement->anomaly.score = judgement->anomaly.confidence = NAN;
	result.ts = replay->series->ts[row];
	result.period = replay->series->period[row];
	result.no_data = !sba_row_is_usable(replay->series, row);
	if (result.no_data || judge(replay, row, judgement, &result))
		sba_replay_conclude(replay->backtest, &result, &judgement->anomaly);
}
