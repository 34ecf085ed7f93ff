/*
 * detector.h
 *	  Judging samples and recording the verdicts.
 */
#ifndef SBA_DB_DETECTOR_H
#define SBA_DB_DETECTOR_H

#include "datatype/timestamp.h"

#include "db/catalog.h"
#include "db/periods.h"

/*
 * Evaluate each service's newest sample, or the one at an instant when at is
 * not 0, and record the detections; the triggers on smartbox.detections move
 * the incidents.  Returns one payload (jsonb) for each service, in order; with
 * verbose the evaluated ones also hold an explanation.  A sample that was
 * evaluated before gives the payload of then and changes nothing.  Inside
 * SPI_connect; the payloads live in its procedure context.
 */
extern Datum *sba_detect(const SbaMetricCatalog *metrics, const SbaPeriodMap *periods,
						 const SbaService *services, int n_services,
						 TimestampTz at, bool verbose);

#endif							/* SBA_DB_DETECTOR_H */
