/*
 * replay.h
 *	  The insides of a backtest, see backtest.h.
 */
#ifndef SBA_DB_REPLAY_H
#define SBA_DB_REPLAY_H

#include "core/tracker.h"
#include "db/backtest.h"
#include "db/calendar.h"
#include "db/diagnosis.h"
#include "db/objectives.h"
#include "db/samples.h"

/* What one training gave, and where the service stands in its terms. */
typedef struct SbaLearned
{
	MemoryContext memory;		/* holds it and what it points to */
	MemoryContextCallback callback;
	int			n_models;
	int			n_used;			/* periods that it serves */
	SbaTrainedPeriod trained[SBA_MAX_PERIODS];
	SbaModel	model[SBA_MAX_PERIODS];
	uint32_t	sporadic[SBA_MAX_PERIODS];	/* metrics that are often missing */
	SbaBaseline baselines[SBA_MAX_PERIODS][SBA_MAX_METRICS];
	SbaTracker	tracker;
	void	   *window_memory;
	bool		has_begun;
	size_t		next_row;		/* of the series, that the tracker sees next */
	struct SbaLearned *next;
} SbaLearned;

/* The model that serves a period. */
typedef struct SbaServing
{
	SbaLearned *learned;
	int			number;			/* in its models */
	bool		is_fallback;
} SbaServing;

/* One sample's verdict in the making. */
typedef struct SbaReplayJudgement
{
	SbaEvaluatedSample sample;
	SbaSampleSeries history;
	SbaFeatures features;
	SbaVerdict	verdict;
	SbaDiagnosis diagnosis;
	double		budget;
	SbaMetric	relaxed[SBA_MAX_METRICS];	/* of a busy time */
	SbaSeenAnomaly anomaly;
} SbaReplayJudgement;

typedef struct SbaReplay
{
	SbaBacktest *backtest;
	const SbaRule **rules;
	int			n_rules;
	SbaObjectives *objectives;
	int			catalog_index[SBA_MAX_METRICS];
	SbaReplayJudgement *judgement;
	MemoryContext scratch;		/* of some rows */
	int			n_models;		/* of each training */
	SbaServiceCalendar *calendar;
	SbaSampleSeries *series;
	double	   *received;		/* its values, flat lines included */
	size_t		flat_since;		/* first row of those that repeat it */
	uint8_t    *use;			/* SbaRowUse of each row */
	bool	   *is_blank;		/* rows without any value, which are no
								 * samples */
	int			fallback[SBA_MAX_PERIODS][SBA_MAX_PERIODS]; /* its own first; -1 at
															 * the end */
	size_t		window_capacity;
	int			no_data_name;
	MemoryContext memory;
	SbaLearned *all_learned;
	SbaServing	own[SBA_MAX_PERIODS];	/* accepted for the period itself */
	SbaServing	serving[SBA_MAX_PERIODS];	/* with fallbacks */
	MemoryContextCallback callback;
} SbaReplay;

/*
 * Train models from the last sample before an instant and the lookback before
 * that, as train_models() would have done then.
 */
extern void sba_replay_learn(SbaReplay *replay, TimestampTz before);

/* Let the tracker see what was there before a row, by one period's model. */
extern void sba_replay_catch_up(const SbaReplay *replay, SbaLearned *learned, int number, size_t row);

/* Let trackers that have seen a row look at the rows anew. */
extern void sba_replay_begin_anew(const SbaReplay *replay, size_t seen_row);

/* Judge a row, move the incidents, and hand it out. */
extern void sba_replay_row(const SbaReplay *replay, size_t row);

/* Move the incidents, and hand the row out. */
extern void sba_replay_conclude(SbaBacktest *backtest, SbaBacktestRow *row, SbaSeenAnomaly *anomaly);

/* Whether a row has a value; without one it is no data, and nobody's silence. */
extern bool sba_row_is_usable(const SbaSampleSeries *series, size_t row);

/* An instant as much earlier as the lookback is long. */
extern TimestampTz sba_lookback_before(const SbaBacktest *backtest, TimestampTz ts);

#endif							/* SBA_DB_REPLAY_H */
