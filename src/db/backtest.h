/*
 * backtest.h
 *	  What would have been detected: a causal replay of one service's samples
 *	  that writes nothing.
 */
#ifndef SBA_DB_BACKTEST_H
#define SBA_DB_BACKTEST_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "core/incidents.h"
#include "core/model.h"
#include "db/catalog.h"
#include "db/periods.h"
#include "db/rules.h"

/* How a replay differs from what the catalogs say. */
typedef struct SbaBacktestOptions
{
	double		threshold;		/* scores below it are anomalies */
	bool		by_period;		/* else one model for the whole week */
	bool		forests;
	bool		calendar;
	bool		hard_rules;
	bool		signal_bars;	/* those of the table */
	SbaStoredRule *own_rules;	/* as if the service had them */
	int			n_own_rules;
	Interval	lookback;
	Interval	retrain;		/* zero: never */
	SbaIncidentRules rules;
} SbaBacktestOptions;

/* One judged instant. */
typedef struct SbaBacktestRow
{
	TimestampTz ts;
	int			period;
	bool		no_data;
	bool		has_verdict;	/* score, confidence, evidence and deviations */
	double		score;
	double		confidence;
	double		evidence;
	const double *deviation;	/* by metric of the catalog, NaN for unknown */
	bool		is_anomaly;
	SbaSeverity severity;

	/* of an anomaly */
	int			name;
	const SbaSignalSet *signals;
	const SbaIncident *incident;
	SbaIncidentAction action;
} SbaBacktestRow;

typedef struct SbaBacktest
{
	SbaMetricCatalog *catalog;
	SbaPeriodMap *periods;
	SbaService *service;
	SbaBacktestOptions options;
	int			n_names;		/* of anomalies and signals */
	const char *name[SBA_MAX_SIGNALS];
	char	   *fingerprint[SBA_MAX_SIGNALS];
	void		(*add_row) (void *context, const SbaBacktestRow *row);	/* or NULL */
	void	   *context;
	SbaIncidentMachine machine;
} SbaBacktest;

/*
 * Prepare a replay of a service; options may be NULL.  An unknown option or one
 * of the wrong type is an error.  Inside SPI_connect; palloc'ed.
 */
extern SbaBacktest *sba_prepare_backtest(const char *service, Jsonb * options);

/*
 * Replay the samples with since <= ts <= until in order of time.  Calls
 * add_row for each instant that is judged, and leaves the incidents in machine,
 * which the memory context of the call frees.  Inside SPI_connect.
 */
extern void sba_run_backtest(SbaBacktest *backtest, TimestampTz since, TimestampTz until);

/* Number of the name of a metric that is too high or too low. */
static inline int
sba_signal_number(int metric, bool is_high)
{
	return 2 * metric + (is_high ? 1 : 0);
}

/* Fill in *options and what it changes of service and catalog. */
extern void sba_read_backtest_options(Jsonb * json, SbaMetricCatalog *catalog,
									  SbaService *service, SbaBacktestOptions *options);

#endif							/* SBA_DB_BACKTEST_H */
