/*
 * signal_bars.c
 *	  smartbox.signal_bars: deviations that people said are nothing.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "db/signal_bars.h"
#include "pg/query.h"

typedef struct SignalBar
{
	const char *service;
	const char *metric;
	bool		is_above;
	SbaDeviationBar bar;
} SignalBar;

struct SbaSignalBars
{
	int			n_rows;			/* sorted by service */
	SignalBar  *rows;
};

static SbaQuery bars_query = {
	.text = "SELECT service, metric, direction, absolute_deviation, relative_deviation"
	" FROM smartbox.signal_bars WHERE service = ANY ($1) ORDER BY service COLLATE \"C\"",
	.n_arguments = 1,
	.argument_types = {TEXTARRAYOID},
	.expected = SPI_OK_SELECT,
};

void
sba_raise_bar(SbaMetric *metric, bool is_above, SbaDeviationBar to)
{
	SbaDeviationBar *bar = is_above ? &metric->bar_above : &metric->bar_below;

	bar->absolute = fmax(bar->absolute, to.absolute);
	bar->relative = fmax(bar->relative, to.relative);
}

SbaSignalBars *
sba_load_signal_bars(const SbaService *services, int n_services)
{
	SbaSignalBars *bars = palloc0(sizeof(SbaSignalBars));
	Datum	   *names = palloc(sizeof(Datum) * (n_services + 1));
	Datum		argument;
	int			i;

	for (i = 0; i < n_services; i++)
		names[i] = CStringGetTextDatum(services[i].name);
	argument = PointerGetDatum(construct_array(names, n_services, TEXTOID, -1, false, TYPALIGN_INT));
	sba_query_run(&bars_query, &argument, NULL, 0);

	bars->n_rows = (int) SPI_processed;
	bars->rows = palloc(sizeof(SignalBar) * (SPI_processed + 1));
	for (i = 0; i < bars->n_rows; i++)
	{
		SignalBar  *row = &bars->rows[i];

		row->service = sba_result_text(i, 1);
		row->metric = sba_result_text(i, 2);
		row->is_above = strcmp(sba_result_text(i, 3), "high") == 0;
		row->bar.absolute = sba_result_float8(i, 4, 0);
		row->bar.relative = sba_result_float8(i, 5, 0);
	}
	SPI_freetuptable(SPI_tuptable);
	return bars;
}

/* First row of that service or of a later one. */
static int
first_row(const SbaSignalBars *bars, const char *service)
{
	int			low = 0;
	int			high = bars->n_rows;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (strcmp(bars->rows[middle].service, service) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
sba_raise_bars(const SbaSignalBars *bars, const SbaService *service, SbaMetric *metrics, int n_metrics)
{
	int			i;
	int			m;

	for (i = first_row(bars, service->name);
		 i < bars->n_rows && strcmp(bars->rows[i].service, service->name) == 0; i++)
	{
		const SignalBar *row = &bars->rows[i];

		for (m = 0; m < n_metrics; m++)
			if (strcmp(metrics[m].name, row->metric) == 0)
				sba_raise_bar(&metrics[m], row->is_above, row->bar);
	}
}
