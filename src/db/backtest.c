/*
 * backtest.c
 *	  What would have been detected: a causal replay of one service's samples
 *	  that writes nothing.
 *
 * Models are trained in memory from what was there before, samples are judged
 * in order of time by the functions that detection uses, and incidents move in
 * memory.  Cycles in which the service is silent while others report are those
 * of a worker that runs each interval.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/validation.h"
#include "db/current_sample.h"
#include "db/left_out.h"
#include "db/payload.h"
#include "db/replay.h"
#include "db/rules.h"
#include "db/signal_bars.h"
#include "pg/query.h"
#include "pg/settings.h"

#define NO_DATA_NAME "no_data"

/* Rows after which memory of single rows is given back. */
#define ROWS_PER_SCRATCH 256

/* Without any sample for longer than this, a lookback begins later. */
#define LARGEST_GAP_US (7 * USECS_PER_DAY)

static SbaQuery blank_query = {
	.text = "SELECT ts FROM smartbox.samples WHERE service = $1 AND ts > $2 AND ts <= $3"
	" AND NOT EXISTS (SELECT FROM pg_catalog.unnest(metric_values) AS v WHERE v < 'NaN') ORDER BY ts",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery fallback_query = {
	.text = "SELECT f.time_period"
	" FROM pg_catalog.unnest(smartbox.fallback_periods($1)) WITH ORDINALITY AS f(time_period, place) ORDER BY f.place",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery instants_query = {
	.text = "SELECT DISTINCT ts FROM smartbox.samples WHERE ts >= $1 AND ts < $2 ORDER BY ts",
	.n_arguments = 2,
	.argument_types = {TIMESTAMPTZOID, TIMESTAMPTZOID},
	.expected = SPI_OK_SELECT,
};

static TimestampTz
intervals_before(TimestampTz ts, int n)
{
	return ts - (TimestampTz) n * sba_sample_interval_s * USECS_PER_SEC;
}

/* ---------------------------------------------------------------------------
 * Names
 * ---------------------------------------------------------------------------
 */

/* The first twelve hex digits of a text's SHA-256, behind a prefix. */
static char *
short_hash(const char *prefix, const char *text)
{
	static const char digits[] = "0123456789abcdef";
	int			length = strlen(text);
	char	   *utf8 = pg_server_to_any(text, length, PG_UTF8);
	bytea	   *hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
														   PointerGetDatum(cstring_to_text(utf8))));
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(hash);
	char		hex[13] = "";
	int			i;

	for (i = 0; i < 6; i++)
	{
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	return psprintf("%s%s", prefix, hex);
}

/* As smartbox.incident_id() makes it. */
static void
identify_incident(void *context, int name, int64_t first_seen_us, char *id)
{
	const SbaBacktest *backtest = context;
	int64		unix_us = first_seen_us +
	(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64		magnitude_us = unix_us < 0 ? -unix_us : unix_us;
	char	   *text = psprintf("%s_%s" INT64_FORMAT ".%06d", backtest->fingerprint[name],
								unix_us < 0 ? "-" : "", magnitude_us / USECS_PER_SEC,
								(int) (magnitude_us % USECS_PER_SEC));

	strlcpy(id, short_hash("incident_", text), SBA_INCIDENT_ID_SIZE);
}

static void
add_name(SbaBacktest *backtest, const char *name)
{
	backtest->name[backtest->n_names] = name;
	backtest->fingerprint[backtest->n_names++] =
		short_hash("anomaly_", psprintf("%s_%s", backtest->service->name, name));
}

SbaBacktest *
sba_prepare_backtest(const char *service, Jsonb * options)
{
	SbaBacktest *backtest = palloc0(sizeof(SbaBacktest));
	int			m;

	StaticAssertStmt(2 * SBA_MAX_METRICS + 1 <= SBA_MAX_SIGNALS, "each name has a number");
	backtest->catalog = sba_load_metrics();
	backtest->periods = sba_load_periods();
	backtest->service = sba_load_service(service);
	sba_read_backtest_options(options, backtest->catalog, backtest->service, &backtest->options);
	if (backtest->options.signal_bars)
		sba_raise_bars(sba_load_signal_bars(backtest->service, 1), backtest->service, backtest->catalog->metric,
					   backtest->catalog->n_metrics);
	for (m = 0; m < backtest->catalog->n_metrics; m++)
	{
		const char *metric = backtest->catalog->metric[m].name;

		Assert(backtest->n_names == sba_signal_number(m, false));
		add_name(backtest, psprintf("%s_low", metric));
		add_name(backtest, psprintf("%s_high", metric));
	}
	add_name(backtest, NO_DATA_NAME);
	return backtest;
}

static void
free_incidents(void *argument)
{
	sba_incidents_free(argument);
}

/*
 * Note that a row repeats the one before.  With enough of them in a row nothing
 * but the first one is believed from now on; they were, until then.
 */
static void
watch_flat_line(SbaReplay *replay, size_t row)
{
	SbaSampleSeries *series = replay->series;
	size_t		width = series->n_metrics;
	size_t		length;
	size_t		i;

	if (row == 0 || !sba_is_repeat(replay->received + row * width, replay->received + replay->flat_since * width,
								   series->n_metrics))
		replay->flat_since = row;
	length = row - replay->flat_since + 1;
	if (length < SBA_FLAT_LINE_SAMPLES ||
		!sba_values_move(replay->received, replay->flat_since + 1, series->n_metrics))
		return;
	for (i = (replay->flat_since + 1) * width; i < (row + 1) * width; i++)
		series->values[i] = NAN;
	if (length == SBA_FLAT_LINE_SAMPLES)
		sba_replay_begin_anew(replay, replay->flat_since + 1);
}

/*
 * The cycles between two instants in which the service is silent: its last
 * sample was at last, and others report.
 */
static void
replay_silence(SbaReplay *replay, TimestampTz last, TimestampTz since, TimestampTz end)
{
	SbaBacktest *backtest = replay->backtest;
	TimestampTz first_silent = intervals_before(last, -SBA_SILENT_INTERVALS);
	TimestampTz half_interval = (TimestampTz) sba_sample_interval_s * USECS_PER_SEC / 2;
	TimestampTz previous = DT_NOBEGIN;
	Datum		arguments[2];
	SPITupleTable *instants;
	uint64		n;
	uint64		i;

	if (Max(first_silent, since) >= end)
		return;
	arguments[0] = TimestampTzGetDatum(Max(first_silent, since));
	arguments[1] = TimestampTzGetDatum(end);
	sba_query_run(&instants_query, arguments, NULL, 0);
	instants = SPI_tuptable;
	n = SPI_processed;
	for (i = 0; i < n; i++)
	{
		SbaBacktestRow result = {0};
		SbaSeenAnomaly anomaly = {.name = replay->no_data_name,.score = NAN,.confidence = NAN};
		bool		is_null;
		int			minute_of_week;

		result.ts = DatumGetTimestampTz(SPI_getbinval(instants->vals[i], instants->tupdesc, 1, &is_null));
		if (previous != DT_NOBEGIN && result.ts < previous + half_interval)
			continue;
		CHECK_FOR_INTERRUPTS();
		previous = result.ts;
		minute_of_week = sba_calendar_minute_of_week(replay->calendar, backtest->service, result.ts);
		result.period = sba_period_of_minute(backtest->periods, minute_of_week);
		result.no_data = result.is_anomaly = true;
		result.severity = SBA_NO_DATA_SEVERITY;
		sba_replay_conclude(backtest, &result, &anomaly);
	}
	SPI_freetuptable(instants);
}

/* ---------------------------------------------------------------------------
 * The whole
 * ---------------------------------------------------------------------------
 */

/* Find the rows that hold no value at all, which count as missing. */
static void
find_blank_rows(SbaReplay *replay, TimestampTz since, TimestampTz until)
{
	const SbaSampleSeries *series = replay->series;
	Datum		arguments[3];
	size_t		row = 0;
	uint64		i;

	replay->is_blank = palloc0(series->n_rows + 1);
	while (row < series->n_rows && sba_row_is_usable(series, row))
		row++;
	if (row == series->n_rows)
		return;
	arguments[0] = CStringGetTextDatum(replay->backtest->service->name);
	arguments[1] = TimestampTzGetDatum(since);
	arguments[2] = TimestampTzGetDatum(until);
	sba_query_run(&blank_query, arguments, NULL, 0);
	for (i = 0; i < SPI_processed; i++)
	{
		bool		is_null;
		TimestampTz ts = DatumGetTimestampTz(sba_result_datum(i, 1, &is_null));

		while (row < series->n_rows && series->ts[row] < ts)
			row++;
		if (row < series->n_rows && series->ts[row] == ts)
			replay->is_blank[row] = true;
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Ask which other periods' models serve for each period. */
static void
load_fallbacks(SbaReplay *replay)
{
	const SbaPeriodMap *periods = replay->backtest->periods;
	int			p;

	for (p = 0; p < periods->n_periods; p++)
	{
		Datum		argument = CStringGetTextDatum(periods->name[p]);
		int			n = 0;
		uint64		row;

		memset(replay->fallback[p], -1, sizeof(replay->fallback[p]));
		replay->fallback[p][n++] = p;
		sba_query_run(&fallback_query, &argument, NULL, 0);
		for (row = 0; row < SPI_processed && n < periods->n_periods; row++)
			replay->fallback[p][n++] = sba_period_by_name(periods, sba_result_text(row, 1));
		SPI_freetuptable(SPI_tuptable);
	}
}

/* Most samples that any span of the level's length holds. */
static size_t
most_in_level_span(const SbaSampleSeries *series)
{
	size_t		most = 1;
	size_t		first = 0;
	size_t		row;

	for (row = 0; row < series->n_rows; row++)
	{
		while (series->time_s[row] - series->time_s[first] > SBA_LEVEL_SPAN_S)
			first++;
		most = Max(most, row - first + 1);
	}
	return most;
}

static void
load(SbaReplay *replay, TimestampTz since, TimestampTz until)
{
	SbaBacktest *backtest = replay->backtest;
	TimestampTz first = sba_lookback_before(backtest, since);
	SbaSampleSeries past;
	Size		size;

	/* the lookback is counted from the last sample before since */
	first -= LARGEST_GAP_US;
	replay->series = sba_load_received_samples(backtest->catalog, backtest->periods, backtest->service, first, until);
	find_blank_rows(replay, first, until);
	size = sizeof(double) * (replay->series->n_rows * replay->series->n_metrics + 1);
	replay->received = palloc_extended(size, MCXT_ALLOC_HUGE);
	memcpy(replay->received, replay->series->values, size - sizeof(double));
	load_fallbacks(replay);
	replay->calendar = sba_calendar_of_service(sba_load_calendar(first, until), backtest->service);
	if (!backtest->options.calendar)
		memset(replay->calendar, 0, sizeof(SbaServiceCalendar));
	sba_calendar_apply_holidays(replay->calendar, backtest->periods, replay->series);
	replay->use = sba_calendar_uses(replay->series, replay->calendar);

	/* what was known then, nothing of what is replayed */
	past = sba_part_of_series(replay->series, 0, sba_first_row_after(replay->series, since - 1));
	sba_leave_out_incidents(backtest->service, &past, since, replay->use);
	replay->window_capacity = most_in_level_span(replay->series);
}

static SbaReplay *
begin(SbaBacktest *backtest, TimestampTz since, TimestampTz until)
{
	SbaReplay  *replay = palloc0(sizeof(SbaReplay));
	int			m;

	replay->backtest = backtest;
	replay->n_models = backtest->options.by_period ? backtest->periods->n_periods : 1;
	replay->no_data_name = backtest->n_names - 1;
	replay->memory = CurrentMemoryContext;
	sba_incidents_init(&backtest->machine, &backtest->options.rules, identify_incident, backtest);
	replay->callback.func = free_incidents;
	replay->callback.arg = &backtest->machine;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &replay->callback);
	if (backtest->options.hard_rules)
		replay->n_rules = sba_rules_with(backtest->service->name, backtest->options.own_rules,
										 backtest->options.n_own_rules, &replay->rules);
	replay->objectives = sba_load_objectives(backtest->catalog, backtest->service, 1, since, until);
	for (m = 0; m < backtest->catalog->n_metrics; m++)
		replay->catalog_index[m] = m;
	replay->judgement = palloc(sizeof(SbaReplayJudgement));
	replay->scratch = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly backtest",
											ALLOCSET_DEFAULT_SIZES);
	load(replay, since, until);
	return replay;
}

/* Train anew at each instant that is due by now; returns the last one. */
static TimestampTz
retrain_until(SbaReplay *replay, TimestampTz trained_at, TimestampTz now)
{
	Interval   *retrain = &replay->backtest->options.retrain;

	while (retrain->month > 0 || retrain->day > 0 || retrain->time > 0)
	{
		TimestampTz next = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
																   TimestampTzGetDatum(trained_at),
																   IntervalPGetDatum(retrain)));

		if (next > now)
			break;
		sba_replay_learn(replay, next);
		trained_at = next;
	}
	return trained_at;
}

void
sba_run_backtest(SbaBacktest *backtest, TimestampTz since, TimestampTz until)
{
	SbaReplay  *replay = begin(backtest, since, until);
	const SbaSampleSeries *series = replay->series;
	TimestampTz retrain_at = since;
	MemoryContext caller;
	TimestampTz last = DT_NOBEGIN;	/* sample */
	size_t		row = sba_first_row_after(series, since - 1);
	size_t		before;

	for (before = 0; before < row; before++)
		watch_flat_line(replay, before);
	while (before > 0 && last == DT_NOBEGIN)
		if (!replay->is_blank[--before])
			last = series->ts[before];
	sba_replay_learn(replay, since);
	caller = MemoryContextSwitchTo(replay->scratch);
	for (; row < series->n_rows; row++)
	{
		if (row % ROWS_PER_SCRATCH == 0)
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextReset(replay->scratch);
		}
		watch_flat_line(replay, row);
		if (replay->is_blank[row])
			continue;
		retrain_at = retrain_until(replay, retrain_at, series->ts[row]);
		if (last != DT_NOBEGIN)
			replay_silence(replay, last, since, series->ts[row]);
		sba_replay_row(replay, row);
		last = series->ts[row];
	}
	if (last != DT_NOBEGIN)
		replay_silence(replay, last, since, until + 1);
	MemoryContextSwitchTo(caller);
}
