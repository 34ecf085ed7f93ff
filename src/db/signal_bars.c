/*
 * signal_bars.c
 *	  smartbox.signal_bars: deviations that people said are nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "db/signal_bars.h"
#include "pg/query.h"

static SbaQuery bars_query = {
	.text = "SELECT metric, direction, pg_catalog.max(absolute_deviation), pg_catalog.max(relative_deviation)"
	" FROM smartbox.signal_bars WHERE service = $1 GROUP BY metric, direction",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

void
sba_raise_bar(SbaMetric *metric, bool is_above, SbaDeviationBar to)
{
	SbaDeviationBar *bar = is_above ? &metric->bar_above : &metric->bar_below;

	bar->absolute = fmax(bar->absolute, to.absolute);
	bar->relative = fmax(bar->relative, to.relative);
}

void
sba_raise_bars(const SbaService *service, SbaMetric *metrics, int n_metrics)
{
	Datum		argument = CStringGetTextDatum(service->name);
	uint64		row;
	int			m;

	sba_query_run(&bars_query, &argument, NULL, 0);
	for (row = 0; row < SPI_processed; row++)
	{
		char	   *name = sba_result_text(row, 1);
		bool		is_above = strcmp(sba_result_text(row, 2), "high") == 0;
		SbaDeviationBar bar = {sba_result_float8(row, 3, 0), sba_result_float8(row, 4, 0)};

		for (m = 0; m < n_metrics; m++)
			if (strcmp(metrics[m].name, name) == 0)
				sba_raise_bar(&metrics[m], is_above, bar);
	}
	SPI_freetuptable(SPI_tuptable);
}
