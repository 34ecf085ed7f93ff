/*
 * fuzz_prometheus_json.c
 *	  Feed the reader of the Prometheus HTTP API's answers anything at all.
 *
 * The first byte of the input says how the rest is cut into chunks.  What is
 * read must be the same as from one chunk, labels must be clean text, and no
 * callback may follow one that said stop.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/prometheus_json.h"
#include "core/received_text.h"

typedef struct Seen
{
	uint64_t	hash;
	int			n_events;
	int			stop_after;		/* 0 is never */
	bool		stopped;
} Seen;

int			LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
see(Seen *seen, const void *data, size_t length)
{
	const unsigned char *bytes = data;
	size_t		i;

	if (seen->stopped)
		abort();
	for (i = 0; i < length; i++)
		seen->hash = (seen->hash ^ bytes[i]) * UINT64_C(1099511628211);
	seen->stopped = ++seen->n_events == seen->stop_after;
	return !seen->stopped;
}

static bool
see_text(Seen *seen, const char *text)
{
	if (!sba_is_clean_text(text, strlen(text)))
		abort();
	return see(seen, text, strlen(text) + 1);
}

static bool
on_series(void *context, const SbaLabel *labels, size_t n_labels)
{
	size_t		i;

	for (i = 0; i < n_labels; i++)
	{
		if (!see_text(context, labels[i].name) || !see_text(context, labels[i].value))
			return false;
	}
	return see(context, "series", 6);
}

static bool
on_point(void *context, double time, double value)
{
	double		point[2] = {time, value};

	return see(context, point, sizeof(point));
}

static bool
on_string(void *context, const char *value)
{
	return see_text(context, value);
}

static SbaStatus
read_chunks(const uint8_t *data, size_t size, size_t chunk, Seen *seen)
{
	SbaResultSink sink = {seen, on_series, on_point, on_string};
	SbaPrometheusReader *reader = sba_prometheus_reader_create(&sink);
	const char *said;
	SbaStatus	status;
	SbaError	error;
	size_t		i;

	if (reader == NULL)
		abort();
	for (i = 0; i < size; i += chunk)
	{
		size_t		length = size - i < chunk ? size - i : chunk;
		char	   *copy = malloc(length);

		/* a copy of its own, so that reading beyond the chunk is found */
		if (copy == NULL)
			abort();
		memcpy(copy, data + i, length);
		sba_prometheus_reader_feed(reader, copy, length, &error);
		free(copy);
	}
	status = sba_prometheus_reader_finish(reader, &error);
	said = sba_prometheus_reader_server_error(reader);
	if (said != NULL && !sba_is_clean_text(said, strlen(said)))
		abort();
	if (status == SBA_OK && said == NULL &&
		sba_prometheus_reader_type(reader) == SBA_RESULT_UNKNOWN)
		abort();
	sba_prometheus_reader_destroy(reader);
	return status;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Seen		whole = {UINT64_C(14695981039346656037), 0, 0, false};
	Seen		cut = whole;
	SbaStatus	status;

	if (size < 2)
		return 0;
	whole.stop_after = cut.stop_after = data[0] >> 4;
	status = read_chunks(data + 1, size - 1, size, &whole);
	if (read_chunks(data + 1, size - 1, (data[0] & 15) + 1, &cut) != status ||
		cut.hash != whole.hash || cut.n_events != whole.n_events)
		abort();
	return 0;
}
