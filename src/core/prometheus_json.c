/*
 * prometheus_json.c
 *	  Reader for answers of the Prometheus HTTP API, fed chunk by chunk.
 *
 * libyajl splits the text into tokens; the state machine here knows the form
 * of an answer:
 *
 *		{"status": "success" | "error", "errorType": "...", "error": "...",
 *		 "data": {"resultType": "vector" | "matrix" | "scalar" | "string",
 *				  "result": [{"metric": {"label": "value", ...},
 *							  "value": [time, "value"],
 *							  "values": [[time, "value"], ...]}, ...]}}
 *
 * "data" may also be an array of strings (label values), and the result of a
 * scalar or a string is one point without a series around it.  A scalar is
 * handed on as one series without labels.
 *
 * Points are handed on as they are read, so "metric" has to come before them;
 * all known servers write it first, and an answer that does not is refused.
 * A known key may come once in an object.
 */
#include "core/prometheus_json.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "core/received_text.h"

/* Limits that keep the memory of a reader bounded whatever is fed to it. */
#define MAX_DEPTH			64
#define MAX_LABELS			128
#define MAX_LABEL_BYTES		65536	/* of all labels of a series, with zeros */
#define MAX_TOKEN_BYTES		(1024 * 1024)
#define MAX_ERROR_LENGTH	1024

/* The tokenizer gets pieces of this size, so that MAX_TOKEN_BYTES is checked. */
#define PIECE_BYTES			16384

typedef enum Position
{
	AT_START = 0,
	IN_ANSWER,					/* the outermost object */
	IN_DATA,					/* the object "data" */
	IN_RESULT,
	IN_SERIES,
	IN_METRIC,
	IN_VALUES,
	IN_POINT,
	IN_STRINGS,					/* the array "data" of label values */
	AT_END
} Position;

/* The keys that mean something; each is also a bit of the masks of seen keys. */
typedef enum Key
{
	KEY_UNKNOWN = 0,
	KEY_STATUS = 1 << 0,
	KEY_ERROR = 1 << 1,
	KEY_ERROR_TYPE = 1 << 2,
	KEY_DATA = 1 << 3,
	KEY_RESULT_TYPE = 1 << 4,
	KEY_RESULT = 1 << 5,
	KEY_METRIC = 1 << 6,
	KEY_VALUE = 1 << 7,
	KEY_VALUES = 1 << 8
} Key;

static const struct
{
	Position	position;
	Key			key;
	const char *name;
}			known_keys[] =
{
	{IN_ANSWER, KEY_STATUS, "status"},
	{IN_ANSWER, KEY_ERROR, "error"},
	{IN_ANSWER, KEY_ERROR_TYPE, "errorType"},
	{IN_ANSWER, KEY_DATA, "data"},
	{IN_DATA, KEY_RESULT_TYPE, "resultType"},
	{IN_DATA, KEY_RESULT, "result"},
	{IN_SERIES, KEY_METRIC, "metric"},
	{IN_SERIES, KEY_VALUE, "value"},
	{IN_SERIES, KEY_VALUES, "values"}
};

typedef enum Kind
{
	KIND_NULL,
	KIND_BOOLEAN,
	KIND_NUMBER,
	KIND_STRING,
	KIND_OBJECT,
	KIND_ARRAY
} Kind;

static const char *const kind_names[] = {
	"null", "a boolean", "a number", "a string", "an object", "an array"
};

typedef enum AnswerStatus
{
	STATUS_UNKNOWN = 0,
	STATUS_SUCCESS,
	STATUS_ERROR
} AnswerStatus;

struct SbaPrometheusReader
{
	SbaResultSink sink;
	yajl_handle tokenizer;
	SbaError	error;			/* what ended the reading */

	Position	position;
	Position	point_parent;	/* where to go on after a point */
	Key			key;			/* of the member that is being read */
	unsigned	answer_keys;	/* keys seen in the object of each level */
	unsigned	data_keys;
	unsigned	series_keys;
	int			depth;
	int			skip_depth;		/* open containers of a value nobody wants */

	AnswerStatus status;
	SbaResultType type;
	int			point_elements;
	double		point_time;
	double		point_value;

	uint64_t	bytes_before;	/* of the pieces before the current one */
	uint64_t	tokens;
	uint64_t	tokens_at_check;
	size_t		token_bytes;	/* fed since the last token was complete */

	char		error_text[MAX_ERROR_LENGTH];
	char		error_type[MAX_ERROR_LENGTH];
	size_t		n_labels;
	size_t		label_bytes;
	SbaLabel	labels[MAX_LABELS];
	char		label_text[MAX_LABEL_BYTES];
};

/* ---------- errors ---------- */

static unsigned long long
current_byte(const SbaPrometheusReader *reader)
{
	return reader->bytes_before + yajl_get_bytes_consumed(reader->tokenizer);
}

/* Note a value of the wrong kind; what says where it was found. */
static int
fail_kind(SbaPrometheusReader *reader, const char *expected, const char *what, Kind found)
{
	sba_fail(&reader->error, SBA_SYNTAX, "expected %s for %s, found %s at byte %llu",
			 expected, what, kind_names[found], current_byte(reader));
	return 0;
}

static int
fail_plain(SbaPrometheusReader *reader, SbaStatus status, const char *problem)
{
	sba_fail(&reader->error, status, "%s at byte %llu", problem, current_byte(reader));
	return 0;
}

static int
cancel(SbaPrometheusReader *reader)
{
	sba_fail(&reader->error, SBA_CANCELLED, "reading was stopped");
	return 0;
}

/* ---------- text ---------- */

/* Keep the beginning of a text for people, cut between characters. */
static void
keep_beginning(char *kept, const char *text, size_t length)
{
	if (length >= MAX_ERROR_LENGTH)
	{
		length = MAX_ERROR_LENGTH - 1;
		while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
			length--;
	}
	if (!sba_is_clean_text(text, length))
		length = 0;
	memcpy(kept, text, length);
	kept[length] = '\0';
}

/* Append a text to the text of the labels; NULL when it does not fit. */
static const char *
keep_text(SbaPrometheusReader *reader, const char *text, size_t length, const char *what)
{
	char	   *kept = reader->label_text + reader->label_bytes;

	if (!sba_is_clean_text(text, length))
	{
		sba_fail(&reader->error, SBA_SYNTAX,
				 "%s is not valid UTF-8 or has a zero byte, at byte %llu",
				 what, current_byte(reader));
		return NULL;
	}
	if (length >= MAX_LABEL_BYTES - reader->label_bytes)
	{
		sba_fail(&reader->error, SBA_OUT_OF_MEMORY,
				 "%s makes the labels longer than %d bytes, at byte %llu",
				 what, MAX_LABEL_BYTES, current_byte(reader));
		return NULL;
	}
	memcpy(kept, text, length);
	kept[length] = '\0';
	reader->label_bytes += length + 1;
	return kept;
}

static bool
text_is(const char *text, size_t length, const char *word)
{
	return length == strlen(word) && memcmp(text, word, length) == 0;
}

/* ---------- the members of each object ---------- */

/* Leave out the value that begins here. */
static int
skip_value(SbaPrometheusReader *reader, Kind kind)
{
	if (kind == KIND_OBJECT || kind == KIND_ARRAY)
		reader->skip_depth = 1;
	return 1;
}

static int
answer_member(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	switch (reader->key)
	{
		case KEY_STATUS:
			if (kind != KIND_STRING)
				return fail_kind(reader, "a string", "\"status\"", kind);
			if (text_is(text, length, "success"))
				reader->status = STATUS_SUCCESS;
			else if (text_is(text, length, "error"))
				reader->status = STATUS_ERROR;
			else
				return fail_plain(reader, SBA_SYNTAX,
								  "\"status\" is neither \"success\" nor \"error\"");
			return 1;
		case KEY_ERROR:
			if (kind == KIND_STRING)
				keep_beginning(reader->error_text, text, length);
			return skip_value(reader, kind);
		case KEY_ERROR_TYPE:
			if (kind == KIND_STRING)
				keep_beginning(reader->error_type, text, length);
			return skip_value(reader, kind);
		case KEY_DATA:
			if (kind == KIND_OBJECT)
				reader->position = IN_DATA;
			else if (kind == KIND_ARRAY)
			{
				reader->position = IN_STRINGS;
				reader->type = SBA_RESULT_STRINGS;
			}
			else if (kind == KIND_NULL)
				reader->answer_keys &= ~(unsigned) KEY_DATA;
			else
				return fail_kind(reader, "an object or an array", "\"data\"", kind);
			return 1;
		default:
			return skip_value(reader, kind);
	}
}

static int
data_member(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	switch (reader->key)
	{
		case KEY_RESULT_TYPE:
			if (kind != KIND_STRING)
				return fail_kind(reader, "a string", "\"resultType\"", kind);
			if (text_is(text, length, "vector"))
				reader->type = SBA_RESULT_VECTOR;
			else if (text_is(text, length, "matrix"))
				reader->type = SBA_RESULT_MATRIX;
			else if (text_is(text, length, "scalar"))
				reader->type = SBA_RESULT_SCALAR;
			else if (text_is(text, length, "string"))
				reader->type = SBA_RESULT_STRING;
			else
				return fail_plain(reader, SBA_SYNTAX, "unknown \"resultType\"");
			return 1;
		case KEY_RESULT:
			if (kind == KIND_ARRAY)
				reader->position = IN_RESULT;
			else if (kind != KIND_NULL)
				return fail_kind(reader, "an array", "\"result\"", kind);
			return 1;
		default:
			return skip_value(reader, kind);
	}
}

static int
series_member(SbaPrometheusReader *reader, Kind kind)
{
	switch (reader->key)
	{
		case KEY_METRIC:
			if (kind != KIND_OBJECT)
				return fail_kind(reader, "an object", "\"metric\"", kind);
			reader->position = IN_METRIC;
			return 1;
		case KEY_VALUE:
		case KEY_VALUES:
			if (kind != KIND_ARRAY)
				return fail_kind(reader, "an array",
								 reader->key == KEY_VALUE ? "\"value\"" : "\"values\"",
								 kind);
			if ((reader->series_keys & KEY_METRIC) == 0)
				return fail_plain(reader, SBA_SYNTAX,
								  "a series has its points before its labels, in \"metric\",");
			if (reader->key == KEY_VALUES)
				reader->position = IN_VALUES;
			else
			{
				reader->position = IN_POINT;
				reader->point_parent = IN_SERIES;
				reader->point_elements = 0;
			}
			return 1;
		default:
			return skip_value(reader, kind);
	}
}

static int
metric_member(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	if (kind != KIND_STRING)
		return fail_kind(reader, "a string", "a label's value", kind);
	reader->labels[reader->n_labels].value = keep_text(reader, text, length,
													   "a label's value");
	if (reader->labels[reader->n_labels].value == NULL)
		return 0;
	reader->n_labels++;
	return 1;
}

/* Read an element of [time, "value"]. */
static int
point_element(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	switch (reader->point_elements++)
	{
		case 0:
			if (kind != KIND_NUMBER)
				return fail_kind(reader, "a number", "the time of a point", kind);
			if (!sba_parse_number(text, length, &reader->point_time) ||
				!isfinite(reader->point_time))
				return fail_plain(reader, SBA_SYNTAX, "the time of a point is out of range");
			return 1;
		case 1:
			if (kind != KIND_STRING)
				return fail_kind(reader, "a string", "the value of a point", kind);
			if (reader->type == SBA_RESULT_STRING)
				reader->point_value = NAN;
			else if (!sba_parse_number(text, length, &reader->point_value))
				return fail_plain(reader, SBA_SYNTAX, "the value of a point is not a number");
			return 1;
		default:
			return fail_plain(reader, SBA_SYNTAX, "a point has more than a time and a value");
	}
}

/* Read an element of "result": a series, or the time of a lone point. */
static int
result_element(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	if (kind == KIND_OBJECT)
	{
		reader->position = IN_SERIES;
		reader->series_keys = 0;
		reader->n_labels = 0;
		reader->label_bytes = 0;
		return 1;
	}
	if (kind == KIND_NUMBER &&
		(reader->type == SBA_RESULT_SCALAR || reader->type == SBA_RESULT_STRING))
	{
		reader->position = IN_POINT;
		reader->point_parent = IN_DATA;
		reader->point_elements = 0;
		return point_element(reader, kind, text, length);
	}
	return fail_kind(reader, "an object", "a series in \"result\"", kind);
}

static int
strings_element(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	const char *kept;

	if (kind != KIND_STRING)
		return fail_kind(reader, "a string", "an element of \"data\"", kind);
	reader->label_bytes = 0;
	kept = keep_text(reader, text, length, "an element of \"data\"");
	if (kept == NULL)
		return 0;
	if (reader->sink.string != NULL && !reader->sink.string(reader->sink.context, kept))
		return cancel(reader);
	return 1;
}

/* ---------- events of the tokenizer ---------- */

/* A value begins; one that is no container is complete. */
static int
on_value(SbaPrometheusReader *reader, Kind kind, const char *text, size_t length)
{
	bool		container = kind == KIND_OBJECT || kind == KIND_ARRAY;

	reader->tokens++;
	if (container && ++reader->depth > MAX_DEPTH)
	{
		sba_fail(&reader->error, SBA_OUT_OF_MEMORY,
				 "objects and arrays are nested more than %d deep at byte %llu",
				 MAX_DEPTH, current_byte(reader));
		return 0;
	}
	if (reader->skip_depth > 0)
	{
		reader->skip_depth += container;
		return 1;
	}
	switch (reader->position)
	{
		case AT_START:
			if (kind != KIND_OBJECT)
				return fail_kind(reader, "an object", "the answer", kind);
			reader->position = IN_ANSWER;
			return 1;
		case IN_ANSWER:
			return answer_member(reader, kind, text, length);
		case IN_DATA:
			return data_member(reader, kind, text, length);
		case IN_RESULT:
			return result_element(reader, kind, text, length);
		case IN_SERIES:
			return series_member(reader, kind);
		case IN_METRIC:
			return metric_member(reader, kind, text, length);
		case IN_VALUES:
			if (kind != KIND_ARRAY)
				return fail_kind(reader, "an array", "a point in \"values\"", kind);
			reader->position = IN_POINT;
			reader->point_parent = IN_VALUES;
			reader->point_elements = 0;
			return 1;
		case IN_POINT:
			return point_element(reader, kind, text, length);
		case IN_STRINGS:
			return strings_element(reader, kind, text, length);
		case AT_END:
			break;
	}
	return fail_plain(reader, SBA_SYNTAX, "text after the end of the answer");
}

/* Begin a member of "metric": its key is the label's name. */
static int
on_label_name(SbaPrometheusReader *reader, const char *text, size_t length)
{
	const char *name;
	size_t		i;

	if (reader->n_labels == MAX_LABELS)
	{
		sba_fail(&reader->error, SBA_OUT_OF_MEMORY,
				 "a series has more than %d labels at byte %llu",
				 MAX_LABELS, current_byte(reader));
		return 0;
	}
	name = keep_text(reader, text, length, "a label's name");
	if (name == NULL)
		return 0;
	for (i = 0; i < reader->n_labels; i++)
	{
		if (strcmp(reader->labels[i].name, name) == 0)
			return fail_plain(reader, SBA_SYNTAX, "a series has the same label twice");
	}
	reader->labels[reader->n_labels].name = name;
	return 1;
}

static int
on_key(SbaPrometheusReader *reader, const char *text, size_t length)
{
	unsigned   *seen;
	size_t		i;

	reader->tokens++;
	if (reader->skip_depth > 0)
		return 1;
	if (reader->position == IN_METRIC)
		return on_label_name(reader, text, length);

	seen = reader->position == IN_ANSWER ? &reader->answer_keys :
		reader->position == IN_DATA ? &reader->data_keys : &reader->series_keys;
	reader->key = KEY_UNKNOWN;
	for (i = 0; i < sizeof(known_keys) / sizeof(known_keys[0]); i++)
	{
		if (known_keys[i].position != reader->position ||
			!text_is(text, length, known_keys[i].name))
			continue;
		reader->key = known_keys[i].key;
		if (*seen & reader->key)
		{
			sba_fail(&reader->error, SBA_SYNTAX, "\"%s\" is there twice at byte %llu",
					 known_keys[i].name, current_byte(reader));
			return 0;
		}
		*seen |= reader->key;
		break;
	}
	return 1;
}

static int
end_of_point(SbaPrometheusReader *reader)
{
	const SbaResultSink *sink = &reader->sink;

	if (reader->point_elements != 2)
		return fail_plain(reader, SBA_SYNTAX, "a point lacks its time or its value");
	reader->position = reader->point_parent;
	if (reader->type == SBA_RESULT_STRING)
		return 1;
	if (reader->point_parent == IN_DATA && sink->series != NULL &&
		!sink->series(sink->context, reader->labels, 0))
		return cancel(reader);
	if (sink->point != NULL &&
		!sink->point(sink->context, reader->point_time, reader->point_value))
		return cancel(reader);
	return 1;
}

/* An object or an array ends. */
static int
on_end(SbaPrometheusReader *reader)
{
	const SbaResultSink *sink = &reader->sink;

	reader->tokens++;
	reader->depth--;
	if (reader->skip_depth > 0)
	{
		reader->skip_depth--;
		return 1;
	}
	switch (reader->position)
	{
		case IN_ANSWER:
			reader->position = AT_END;
			return 1;
		case IN_DATA:
		case IN_STRINGS:
			reader->position = IN_ANSWER;
			return 1;
		case IN_RESULT:
			reader->position = IN_DATA;
			return 1;
		case IN_SERIES:
			reader->position = IN_RESULT;
			return 1;
		case IN_METRIC:
			reader->position = IN_SERIES;
			if (sink->series != NULL &&
				!sink->series(sink->context, reader->labels, reader->n_labels))
				return cancel(reader);
			return 1;
		case IN_VALUES:
			reader->position = IN_SERIES;
			return 1;
		case IN_POINT:
			return end_of_point(reader);
		case AT_START:
		case AT_END:
			break;
	}
	return fail_plain(reader, SBA_SYNTAX, "unexpected end of an object or an array");
}

static int
on_null(void *context)
{
	return on_value(context, KIND_NULL, NULL, 0);
}

static int
on_boolean(void *context, int value)
{
	(void) value;
	return on_value(context, KIND_BOOLEAN, NULL, 0);
}

static int
on_number(void *context, const char *text, size_t length)
{
	return on_value(context, KIND_NUMBER, text, length);
}

static int
on_string(void *context, const unsigned char *text, size_t length)
{
	return on_value(context, KIND_STRING, (const char *) text, length);
}

static int
on_start_object(void *context)
{
	return on_value(context, KIND_OBJECT, NULL, 0);
}

static int
on_object_key(void *context, const unsigned char *text, size_t length)
{
	return on_key(context, (const char *) text, length);
}

static int
on_end_container(void *context)
{
	return on_end(context);
}

static int
on_start_array(void *context)
{
	return on_value(context, KIND_ARRAY, NULL, 0);
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

/* ---------- public functions ---------- */

SbaPrometheusReader *
sba_prometheus_reader_create(const SbaResultSink *sink)
{
	SbaPrometheusReader *reader = calloc(1, sizeof(SbaPrometheusReader));

	if (reader == NULL)
		return NULL;
	reader->sink = *sink;
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
	if (error != NULL && reader->error.status != SBA_OK)
		*error = reader->error;
	return reader->error.status;
}

/*
 * Note what the tokenizer has to say, unless a callback has said why it
 * stopped.  Its text is one line that quotes nothing of the input.
 */
static void
note_tokenizer_error(SbaPrometheusReader *reader)
{
	unsigned char *text;

	if (reader->error.status != SBA_OK)
		return;
	text = yajl_get_error(reader->tokenizer, 0, NULL, 0);
	if (text == NULL)
	{
		sba_fail(&reader->error, SBA_OUT_OF_MEMORY, "out of memory");
		return;
	}
	text[strcspn((char *) text, "\n")] = '\0';
	sba_fail(&reader->error, SBA_SYNTAX, "not JSON at byte %llu: %s",
			 current_byte(reader), (char *) text);
	yajl_free_error(reader->tokenizer, text);
}

static void
note_early_end(SbaPrometheusReader *reader)
{
	if (reader->error.status == SBA_OK)
		sba_fail(&reader->error, SBA_SYNTAX, "the text ends too early, after %llu bytes",
				 (unsigned long long) reader->bytes_before);
}

SbaStatus
sba_prometheus_reader_feed(SbaPrometheusReader *reader, const char *data,
						   size_t length, SbaError *error)
{
	while (length > 0 && reader->error.status == SBA_OK)
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
		if (reader->token_bytes > MAX_TOKEN_BYTES && reader->error.status == SBA_OK)
			sba_fail(&reader->error, SBA_OUT_OF_MEMORY,
					 "a string or number is longer than %d bytes at byte %llu",
					 MAX_TOKEN_BYTES, (unsigned long long) reader->bytes_before);
	}
	return copy_error(reader, error);
}

SbaStatus
sba_prometheus_reader_finish(SbaPrometheusReader *reader, SbaError *error)
{
	if (reader->error.status == SBA_OK &&
		yajl_complete_parse(reader->tokenizer) != yajl_status_ok)
		note_early_end(reader);
	if (reader->error.status == SBA_OK)
	{
		if (reader->position != AT_END)
			note_early_end(reader);
		else if (reader->status == STATUS_UNKNOWN)
			sba_fail(&reader->error, SBA_SYNTAX, "the answer has no \"status\"");
		else if (reader->status == STATUS_SUCCESS && (reader->answer_keys & KEY_DATA) == 0)
			sba_fail(&reader->error, SBA_SYNTAX, "the answer has no \"data\"");
		else if (reader->status == STATUS_SUCCESS && reader->type == SBA_RESULT_UNKNOWN)
			sba_fail(&reader->error, SBA_SYNTAX, "the answer has no \"resultType\"");
		else if (reader->status == STATUS_SUCCESS &&
				 reader->type != SBA_RESULT_STRINGS &&
				 (reader->data_keys & KEY_RESULT) == 0)
			sba_fail(&reader->error, SBA_SYNTAX, "the answer has no \"result\"");
	}
	return copy_error(reader, error);
}

SbaResultType
sba_prometheus_reader_type(const SbaPrometheusReader *reader)
{
	return reader->type;
}

const char *
sba_prometheus_reader_server_error(const SbaPrometheusReader *reader)
{
	if (reader->status == STATUS_SUCCESS)
		return NULL;
	if (reader->error_text[0] != '\0')
		return reader->error_text;
	if (reader->status != STATUS_ERROR)
		return NULL;
	return reader->error_type[0] != '\0' ? reader->error_type : "no reason given";
}
