/*
 * model_card.h
 *	  What a person wants to know of a model before trusting it.
 */
#ifndef SBA_DB_MODEL_CARD_H
#define SBA_DB_MODEL_CARD_H

#include "db/catalog.h"
#include "db/samples.h"

/* The card of one period's training as JSON text; palloc'ed. */
extern char *sba_model_card(const SbaMetricCatalog *metrics, const SbaService *service,
							const SbaSampleSeries *series, int period,
							const SbaTrainedPeriod *trained);

#endif							/* SBA_DB_MODEL_CARD_H */
