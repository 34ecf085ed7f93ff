/*
 * prometheus_json.c
 *	  Reader for answers of the Prometheus HTTP API, fed chunk by chunk.
 *
 * libyajl splits the text into tokens; prometheus_answer.c knows what they
 * mean.
 */
#include "core/prometheus_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "core/prometheus_answer.h"

/* The longest string or number, which the tokenizer has to keep whole. */
#define MAX_TOKEN_BYTES		(1024 * 1024)

/* The tokenizer gets pieces of this size, so that MAX_TOKEN_BYTES is checked. */
#define PIECE_BYTES			16384

struct SbaPrometheusReader
{
	yajl_handle tokenizer;
	uint64_t	bytes_before;	/* of the pieces before the current one */
	uint64_t	tokens;
	uint64_t	tokens_at_check;
	size_t		token_bytes;	/* fed since the last token was complete */
	SbaAnswer	answer;
};

static unsigned long long
current_byte(const SbaPrometheusReader *reader)
{
	return reader->bytes_before + yajl_get_bytes_consumed(reader->tokenizer);
}

/* Go on to the next token. */
static SbaAnswer *
next_token(SbaPrometheusReader *reader)
{
	reader->tokens++;
	reader->answer.byte = current_byte(reader);
	return &reader->answer;
}

static int
on_null(void *context)
{
	return sba_answer_value(next_token(context), SBA_JSON_NULL, NULL, 0);
}

static int
on_boolean(void *context, int value)
{
	(void) value;
	return sba_answer_value(next_token(context), SBA_JSON_BOOLEAN, NULL, 0);
}

static int
on_number(void *context, const char *text, size_t length)
{
	return sba_answer_value(next_token(context), SBA_JSON_NUMBER, text, length);
}

static int
on_string(void *context, const unsigned char *text, size_t length)
{
	return sba_answer_value(next_token(context), SBA_JSON_STRING, (const char *) text, length);
}

static int
on_start_object(void *context)
{
	return sba_answer_value(next_token(context), SBA_JSON_OBJECT, NULL, 0);
}

static int
on_object_key(void *context, const unsigned char *text, size_t length)
{
	return sba_answer_key(next_token(context), (const char *) text, length);
}

static int
on_end_container(void *context)
{
	return sba_answer_end(next_token(context));
}

static int
on_start_array(void *context)
{
	return sba_answer_value(next_token(context), SBA_JSON_ARRAY, NULL, 0);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_start_object,
	.yajl_map_key = on_object_key,
	.yajl_end_map = on_end_container,
	.yajl_start_array = on_start_array,
	.yajl_end_array = on_end_container
};

SbaPrometheusReader *
sba_prometheus_reader_create(const SbaResultSink *sink)
{
	SbaPrometheusReader *reader = calloc(1, sizeof(SbaPrometheusReader));

	if (reader == NULL)
		return NULL;
	reader->answer.sink = *sink;
	reader->tokenizer = yajl_alloc(&callbacks, NULL, reader);
	if (reader->tokenizer == NULL)
	{
		free(reader);
		return NULL;
	}
	return reader;
}

void
sba_prometheus_reader_destroy(SbaPrometheusReader *reader)
{
	if (reader == NULL)
		return;
	yajl_free(reader->tokenizer);
	free(reader);
}

/* Hand the noted error to the caller. */
static SbaStatus
copy_error(const SbaPrometheusReader *reader, SbaError *error)
{
	if (error != NULL && reader->answer.error.status != SBA_OK)
		*error = reader->answer.error;
	return reader->answer.error.status;
}

/*
 * Note what the tokenizer has to say, unless a callback has said why it
 * stopped.  Its text is one line that quotes nothing of the input.
 */
static void
note_tokenizer_error(SbaPrometheusReader *reader)
{
	unsigned char *text;

	if (reader->answer.error.status != SBA_OK)
		return;
	text = yajl_get_error(reader->tokenizer, 0, NULL, 0);
	if (text == NULL)
	{
		sba_fail(&reader->answer.error, SBA_OUT_OF_MEMORY, "out of memory");
		return;
	}
	text[strcspn((char *) text, "\n")] = '\0';
	sba_fail(&reader->answer.error, SBA_SYNTAX, "not JSON at byte %llu: %s",
			 current_byte(reader), (char *) text);
	yajl_free_error(reader->tokenizer, text);
}

SbaStatus
sba_prometheus_reader_feed(SbaPrometheusReader *reader, const char *data,
						   size_t length, SbaError *error)
{
	while (length > 0 && reader->answer.error.status == SBA_OK)
	{
		size_t		piece = length < PIECE_BYTES ? length : PIECE_BYTES;

		if (yajl_parse(reader->tokenizer, (const unsigned char *) data,
					   piece) != yajl_status_ok)
			note_tokenizer_error(reader);
		reader->bytes_before += piece;
		data += piece;
		length -= piece;

		if (reader->tokens != reader->tokens_at_check)
			reader->token_bytes = 0;
		reader->tokens_at_check = reader->tokens;
		reader->token_bytes += piece;
		if (reader->token_bytes > MAX_TOKEN_BYTES && reader->answer.error.status == SBA_OK)
			sba_fail(&reader->answer.error, SBA_OUT_OF_MEMORY,
					 "a string or number is longer than %d bytes at byte %llu",
					 MAX_TOKEN_BYTES, (unsigned long long) reader->bytes_before);
	}
	return copy_error(reader, error);
}

SbaStatus
sba_prometheus_reader_finish(SbaPrometheusReader *reader, SbaError *error)
{
	SbaAnswer  *answer = &reader->answer;

	/*
	 * The tokenizer has found nothing wrong so far, so that what it does not
	 * like now is that there is no more.
	 */
	if (answer->error.status == SBA_OK &&
		yajl_complete_parse(reader->tokenizer) != yajl_status_ok)
		answer->position = SBA_ANSWER_BEGIN;
	answer->byte = reader->bytes_before;
	sba_answer_complete(answer);
	return copy_error(reader, error);
}

SbaResultType
sba_prometheus_reader_type(const SbaPrometheusReader *reader)
{
	return reader->answer.type;
}

const char *
sba_prometheus_reader_server_error(const SbaPrometheusReader *reader)
{
	const SbaAnswer *answer = &reader->answer;

	if (answer->status == SBA_ANSWER_SUCCESS)
		return NULL;
	if (answer->error_text[0] != '\0')
		return answer->error_text;
	if (answer->status != SBA_ANSWER_ERROR)
		return NULL;
	return answer->error_type[0] != '\0' ? answer->error_type : "no reason given";
}
