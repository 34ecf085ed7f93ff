/*
 * prometheus_json.h
 *	  Reader for answers of the Prometheus HTTP API (query, query_range,
 *	  label values), fed chunk by chunk as they arrive.
 *
 * Memory stays bounded by one series' labels and one token: points are handed
 * on as they are read.  Unknown keys are skipped, so newer servers' answers
 * are read too.
 */
#ifndef SBA_CORE_PROMETHEUS_JSON_H
#define SBA_CORE_PROMETHEUS_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

typedef struct SbaLabel
{
	const char *name;			/* zero-terminated, valid during the call */
	const char *value;
} SbaLabel;

typedef enum SbaResultType
{
	SBA_RESULT_UNKNOWN = 0,
	SBA_RESULT_VECTOR,
	SBA_RESULT_MATRIX,
	SBA_RESULT_SCALAR,
	SBA_RESULT_STRING,
	SBA_RESULT_STRINGS			/* "data" is an array of strings: label values */
} SbaResultType;

/*
 * Where the contents go.  A callback that returns false stops the reader with
 * SBA_CANCELLED.  A callback that is NULL ignores its event.
 */
typedef struct SbaResultSink
{
	void	   *context;
	/* one series begins; its points follow */
	bool		(*series) (void *context, const SbaLabel *labels, size_t n_labels);
	/* time in seconds since the epoch; value may be NaN or infinite */
	bool		(*point) (void *context, double time, double value);
	/* one element of a label-values answer */
	bool		(*string) (void *context, const char *value);
} SbaResultSink;

typedef struct SbaPrometheusReader SbaPrometheusReader;

/* NULL when out of memory.  The sink is copied. */
extern SbaPrometheusReader *sba_prometheus_reader_create(const SbaResultSink *sink);
extern void sba_prometheus_reader_destroy(SbaPrometheusReader *reader);

/*
 * Read the next chunk.  After an error every further call returns the same.
 * Errors: SBA_SYNTAX (not JSON, or not of the API's form; the message says
 * which and where), SBA_OUT_OF_MEMORY (too deep, too many labels),
 * SBA_CANCELLED.
 */
extern SbaStatus sba_prometheus_reader_feed(SbaPrometheusReader *reader,
											const char *data, size_t length,
											SbaError *error);

/* The answer is complete: SBA_SYNTAX if it was cut off. */
extern SbaStatus sba_prometheus_reader_finish(SbaPrometheusReader *reader,
											  SbaError *error);

extern SbaResultType sba_prometheus_reader_type(const SbaPrometheusReader *reader);

/*
 * What the server said went wrong: the "error" text of an answer with
 * "status":"error", or NULL.  Usable before finish, and after a syntax error.
 */
extern const char *sba_prometheus_reader_server_error(const SbaPrometheusReader *reader);

#endif							/* SBA_CORE_PROMETHEUS_JSON_H */
