/*
 * follower.h
 *	  Trackers of services, kept by a session from one detection to the next.
 */
#ifndef SBA_DB_FOLLOWER_H
#define SBA_DB_FOLLOWER_H

#include "core/tracker.h"
#include "db/catalog.h"
#include "db/model_store.h"
#include "db/samples.h"

/*
 * The tracker of a service that has seen the series, which must be all samples
 * of SBA_TRACKER_SPAN_S before an instant; catalog_index says where the series
 * has each of the model's metrics, -1 for nowhere.  A tracker that was kept
 * goes on when what it has seen is still what the series begins with; any
 * correction or another model lets it begin anew.  Valid until the next call.
 */
extern const SbaTracker *sba_follow_service(const SbaService *service,
											const SbaActiveModel *active,
											const SbaMetric *metrics,
											const int *catalog_index,
											const SbaSampleSeries *series);

/* Values of a sample in the model's order, NaN for a metric that is not watched. */
extern void sba_order_values(const double *by_catalog, const int *catalog_index,
							 int n_metrics, double *values);

#endif							/* SBA_DB_FOLLOWER_H */
