/*
 * payload.h
 *	  The JSON that a detection returns and stores.
 */
#ifndef SBA_DB_PAYLOAD_H
#define SBA_DB_PAYLOAD_H

#include "core/model.h"
#include "core/severity.h"
#include "db/catalog.h"
#include "db/diagnosis.h"

/* Everything that the payload of one evaluated sample says. */
typedef struct SbaPayloadInput
{
	const SbaEvaluatedSample *sample;
	const SbaDiagnosis *diagnosis;
	bool		is_anomaly;
	SbaSeverity severity;		/* none when there is no anomaly */
	bool		is_muted;		/* of a maintenance */
	List	   *warnings;		/* of strings */

	/* with a model */
	const char *fallback_period;	/* whose model served instead; or NULL */
	double		confidence;
	int			model_version;
	TimestampTz model_trained_at;
	const SbaDrift *drift;		/* NULL when it is not known */
} SbaPayloadInput;

/* Payload of an evaluated sample: anomaly_detected or no_anomaly. */
extern Datum sba_verdict_payload(const SbaPayloadInput *input);

/* {"explanation": [...]}: one element for each metric, for the curious. */
extern Datum sba_explanation_payload(const SbaPayloadInput *input);

/*
 * Payload of a service without a usable sample at ts.  is_anomaly says that
 * others report, so that the silence is the service's own.
 */
extern Datum sba_no_data_payload(const SbaService *service, TimestampTz ts,
								 const char *time_period, TimestampTz last_sample,
								 bool is_anomaly, const List *warnings);

/* Payload of a service that could not be evaluated. */
extern Datum sba_error_payload(const SbaService *service, TimestampTz ts,
							   const char *time_period, const char *code,
							   const char *message, const char *hint);

/* An instant as payloads write it: 2024-01-15T10:30:00+00:00. */
extern char *sba_iso_timestamp(TimestampTz ts);

/* The severity of a silent service. */
#define SBA_NO_DATA_SEVERITY SBA_SEVERITY_HIGH

#endif							/* SBA_DB_PAYLOAD_H */
