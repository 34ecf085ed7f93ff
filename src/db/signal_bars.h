/*
 * signal_bars.h
 *	  smartbox.signal_bars: deviations that people said are nothing.
 */
#ifndef SBA_DB_SIGNAL_BARS_H
#define SBA_DB_SIGNAL_BARS_H

#include "core/metric.h"
#include "db/catalog.h"

/* The bars of some services, as they were read for one pass. */
typedef struct SbaSignalBars SbaSignalBars;

/* Read the bars of these services.  Inside SPI_connect; palloc'ed. */
extern SbaSignalBars *sba_load_signal_bars(const SbaService *services, int n_services);

/*
 * Raise the bars of a service's metrics to what incidents of it went that were
 * not_anomaly.
 */
extern void sba_raise_bars(const SbaSignalBars *bars, const SbaService *service,
						   SbaMetric *metrics, int n_metrics);

/* Raise one bar of a metric; a lower one changes nothing. */
extern void sba_raise_bar(SbaMetric *metric, bool is_above, SbaDeviationBar to);

#endif							/* SBA_DB_SIGNAL_BARS_H */
