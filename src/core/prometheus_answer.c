/*
 * prometheus_answer.c
 *	  The form of an answer of the Prometheus HTTP API, as a state machine over
 *	  the tokens of its JSON:
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
#include "core/prometheus_answer.h"

#include <math.h>
#include <string.h>

#include "core/received_text.h"

static const struct
{
	SbaAnswerPosition position;
	SbaAnswerKey key;
	const char *name;
}			known_keys[] =

{
	{SBA_ANSWER_MEMBERS, SBA_KEY_STATUS, "status"},
	{SBA_ANSWER_MEMBERS, SBA_KEY_ERROR, "error"},
	{SBA_ANSWER_MEMBERS, SBA_KEY_ERROR_TYPE, "errorType"},
	{SBA_ANSWER_MEMBERS, SBA_KEY_DATA, "data"},
	{SBA_ANSWER_DATA, SBA_KEY_RESULT_TYPE, "resultType"},
	{SBA_ANSWER_DATA, SBA_KEY_RESULT, "result"},
	{SBA_ANSWER_SERIES, SBA_KEY_METRIC, "metric"},
	{SBA_ANSWER_SERIES, SBA_KEY_VALUE, "value"},
	{SBA_ANSWER_SERIES, SBA_KEY_VALUES, "values"}
};

static const char *const kind_names[] = {
	"null", "a boolean", "a number", "a string", "an object", "an array"
};

/* Note a value of the wrong kind; what says where it was found. */
static int
fail_kind(SbaAnswer *answer, const char *expected, const char *what, SbaJsonKind found)
{
	sba_fail(&answer->error, SBA_SYNTAX, "expected %s for %s, found %s at byte %llu",
			 expected, what, kind_names[found], answer->byte);
	return 0;
}

static int
fail_plain(SbaAnswer *answer, SbaStatus status, const char *problem)
{
	sba_fail(&answer->error, status, "%s at byte %llu", problem, answer->byte);
	return 0;
}

static int
cancel(SbaAnswer *answer)
{
	sba_fail(&answer->error, SBA_CANCELLED, "reading was stopped");
	return 0;
}

/* Keep the beginning of a text for people, cut between characters. */
static void
keep_beginning(char *kept, const char *text, size_t length)
{
	if (length >= SBA_MAX_ERROR_LENGTH)
	{
		length = SBA_MAX_ERROR_LENGTH - 1;
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
keep_text(SbaAnswer *answer, const char *text, size_t length, const char *what)
{
	char	   *kept = answer->label_text + answer->label_bytes;

	if (!sba_is_clean_text(text, length))
	{
		sba_fail(&answer->error, SBA_SYNTAX,
				 "%s is not valid UTF-8 or has a zero byte, at byte %llu",
				 what, answer->byte);
		return NULL;
	}
	if (length >= SBA_MAX_LABEL_BYTES - answer->label_bytes)
	{
		sba_fail(&answer->error, SBA_OUT_OF_MEMORY,
				 "%s makes the labels longer than %d bytes, at byte %llu",
				 what, SBA_MAX_LABEL_BYTES, answer->byte);
		return NULL;
	}
	memcpy(kept, text, length);
	kept[length] = '\0';
	answer->label_bytes += length + 1;
	return kept;
}

static bool
text_is(const char *text, size_t length, const char *word)
{
	return length == strlen(word) && memcmp(text, word, length) == 0;
}

/* Leave out the value that begins here. */
static int
skip_value(SbaAnswer *answer, SbaJsonKind kind)
{
	if (kind == SBA_JSON_OBJECT || kind == SBA_JSON_ARRAY)
		answer->skip_depth = 1;
	return 1;
}

static int
answer_member(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	switch (answer->key)
	{
		case SBA_KEY_STATUS:
			if (kind != SBA_JSON_STRING)
				return fail_kind(answer, "a string", "\"status\"", kind);
			if (text_is(text, length, "success"))
				answer->status = SBA_ANSWER_SUCCESS;
			else if (text_is(text, length, "error"))
				answer->status = SBA_ANSWER_ERROR;
			else
				return fail_plain(answer, SBA_SYNTAX,
								  "\"status\" is neither \"success\" nor \"error\"");
			return 1;
		case SBA_KEY_ERROR:
			if (kind == SBA_JSON_STRING)
				keep_beginning(answer->error_text, text, length);
			return skip_value(answer, kind);
		case SBA_KEY_ERROR_TYPE:
			if (kind == SBA_JSON_STRING)
				keep_beginning(answer->error_type, text, length);
			return skip_value(answer, kind);
		case SBA_KEY_DATA:
			if (kind == SBA_JSON_OBJECT)
				answer->position = SBA_ANSWER_DATA;
			else if (kind == SBA_JSON_ARRAY)
			{
				answer->position = SBA_ANSWER_STRINGS;
				answer->type = SBA_RESULT_STRINGS;
			}
			else if (kind == SBA_JSON_NULL)
				answer->answer_keys &= ~(unsigned) SBA_KEY_DATA;
			else
				return fail_kind(answer, "an object or an array", "\"data\"", kind);
			return 1;
		default:
			return skip_value(answer, kind);
	}
}

static int
data_member(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	switch (answer->key)
	{
		case SBA_KEY_RESULT_TYPE:
			if (kind != SBA_JSON_STRING)
				return fail_kind(answer, "a string", "\"resultType\"", kind);
			if (text_is(text, length, "vector"))
				answer->type = SBA_RESULT_VECTOR;
			else if (text_is(text, length, "matrix"))
				answer->type = SBA_RESULT_MATRIX;
			else if (text_is(text, length, "scalar"))
				answer->type = SBA_RESULT_SCALAR;
			else if (text_is(text, length, "string"))
				answer->type = SBA_RESULT_STRING;
			else
				return fail_plain(answer, SBA_SYNTAX, "unknown \"resultType\"");
			return 1;
		case SBA_KEY_RESULT:
			if (kind == SBA_JSON_ARRAY)
				answer->position = SBA_ANSWER_RESULT;
			else if (kind != SBA_JSON_NULL)
				return fail_kind(answer, "an array", "\"result\"", kind);
			return 1;
		default:
			return skip_value(answer, kind);
	}
}

static int
series_member(SbaAnswer *answer, SbaJsonKind kind)
{
	switch (answer->key)
	{
		case SBA_KEY_METRIC:
			if (kind != SBA_JSON_OBJECT)
				return fail_kind(answer, "an object", "\"metric\"", kind);
			answer->position = SBA_ANSWER_METRIC;
			return 1;
		case SBA_KEY_VALUE:
		case SBA_KEY_VALUES:
			if (kind != SBA_JSON_ARRAY)
				return fail_kind(answer, "an array",
								 answer->key == SBA_KEY_VALUE ? "\"value\"" : "\"values\"",
								 kind);
			if ((answer->series_keys & SBA_KEY_METRIC) == 0)
				return fail_plain(answer, SBA_SYNTAX,
								  "a series has its points before its labels, in \"metric\",");
			if (answer->key == SBA_KEY_VALUES)
				answer->position = SBA_ANSWER_VALUES;
			else
			{
				answer->position = SBA_ANSWER_POINT;
				answer->point_parent = SBA_ANSWER_SERIES;
				answer->point_elements = 0;
			}
			return 1;
		default:
			return skip_value(answer, kind);
	}
}

static int
metric_member(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	if (kind != SBA_JSON_STRING)
		return fail_kind(answer, "a string", "a label's value", kind);
	answer->labels[answer->n_labels].value = keep_text(answer, text, length,
													   "a label's value");
	if (answer->labels[answer->n_labels].value == NULL)
		return 0;
	answer->n_labels++;
	return 1;
}

/* Read an element of [time, "value"]. */
static int
point_element(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	switch (answer->point_elements++)
	{
		case 0:
			if (kind != SBA_JSON_NUMBER)
				return fail_kind(answer, "a number", "the time of a point", kind);
			if (!sba_parse_number(text, length, &answer->point_time) ||
				!isfinite(answer->point_time))
				return fail_plain(answer, SBA_SYNTAX, "the time of a point is out of range");
			return 1;
		case 1:
			if (kind != SBA_JSON_STRING)
				return fail_kind(answer, "a string", "the value of a point", kind);
			if (answer->type == SBA_RESULT_STRING)
				answer->point_value = NAN;
			else if (!sba_parse_number(text, length, &answer->point_value))
				return fail_plain(answer, SBA_SYNTAX, "the value of a point is not a number");
			return 1;
		default:
			return fail_plain(answer, SBA_SYNTAX, "a point has more than a time and a value");
	}
}

/* Read an element of "result": a series, or the time of a lone point. */
static int
result_element(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	if (kind == SBA_JSON_OBJECT)
	{
		answer->position = SBA_ANSWER_SERIES;
		answer->series_keys = 0;
		answer->n_labels = 0;
		answer->label_bytes = 0;
		return 1;
	}
	if (kind == SBA_JSON_NUMBER &&
		(answer->type == SBA_RESULT_SCALAR || answer->type == SBA_RESULT_STRING))
	{
		answer->position = SBA_ANSWER_POINT;
		answer->point_parent = SBA_ANSWER_DATA;
		answer->point_elements = 0;
		return point_element(answer, kind, text, length);
	}
	return fail_kind(answer, "an object", "a series in \"result\"", kind);
}

static int
strings_element(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	const char *kept;

	if (kind != SBA_JSON_STRING)
		return fail_kind(answer, "a string", "an element of \"data\"", kind);
	answer->label_bytes = 0;
	kept = keep_text(answer, text, length, "an element of \"data\"");
	if (kept == NULL)
		return 0;
	if (answer->sink.string != NULL && !answer->sink.string(answer->sink.context, kept))
		return cancel(answer);
	return 1;
}

int
sba_answer_value(SbaAnswer *answer, SbaJsonKind kind, const char *text, size_t length)
{
	bool		container = kind == SBA_JSON_OBJECT || kind == SBA_JSON_ARRAY;

	if (container && ++answer->depth > SBA_MAX_DEPTH)
	{
		sba_fail(&answer->error, SBA_OUT_OF_MEMORY,
				 "objects and arrays are nested more than %d deep at byte %llu",
				 SBA_MAX_DEPTH, answer->byte);
		return 0;
	}
	if (answer->skip_depth > 0)
	{
		answer->skip_depth += container;
		return 1;
	}
	switch (answer->position)
	{
		case SBA_ANSWER_BEGIN:
			if (kind != SBA_JSON_OBJECT)
				return fail_kind(answer, "an object", "the answer", kind);
			answer->position = SBA_ANSWER_MEMBERS;
			return 1;
		case SBA_ANSWER_MEMBERS:
			return answer_member(answer, kind, text, length);
		case SBA_ANSWER_DATA:
			return data_member(answer, kind, text, length);
		case SBA_ANSWER_RESULT:
			return result_element(answer, kind, text, length);
		case SBA_ANSWER_SERIES:
			return series_member(answer, kind);
		case SBA_ANSWER_METRIC:
			return metric_member(answer, kind, text, length);
		case SBA_ANSWER_VALUES:
			if (kind != SBA_JSON_ARRAY)
				return fail_kind(answer, "an array", "a point in \"values\"", kind);
			answer->position = SBA_ANSWER_POINT;
			answer->point_parent = SBA_ANSWER_VALUES;
			answer->point_elements = 0;
			return 1;
		case SBA_ANSWER_POINT:
			return point_element(answer, kind, text, length);
		case SBA_ANSWER_STRINGS:
			return strings_element(answer, kind, text, length);
		case SBA_ANSWER_END:
			break;
	}
	return fail_plain(answer, SBA_SYNTAX, "text after the end of the answer");
}

/* Begin a member of "metric": its key is the label's name. */
static int
on_label_name(SbaAnswer *answer, const char *text, size_t length)
{
	const char *name;
	size_t		i;

	if (answer->n_labels == SBA_MAX_LABELS)
	{
		sba_fail(&answer->error, SBA_OUT_OF_MEMORY,
				 "a series has more than %d labels at byte %llu",
				 SBA_MAX_LABELS, answer->byte);
		return 0;
	}
	name = keep_text(answer, text, length, "a label's name");
	if (name == NULL)
		return 0;
	for (i = 0; i < answer->n_labels; i++)
	{
		if (strcmp(answer->labels[i].name, name) == 0)
			return fail_plain(answer, SBA_SYNTAX, "a series has the same label twice");
	}
	answer->labels[answer->n_labels].name = name;
	return 1;
}

int
sba_answer_key(SbaAnswer *answer, const char *text, size_t length)
{
	unsigned   *seen;
	size_t		i;

	if (answer->skip_depth > 0)
		return 1;
	if (answer->position == SBA_ANSWER_METRIC)
		return on_label_name(answer, text, length);

	seen = answer->position == SBA_ANSWER_MEMBERS ? &answer->answer_keys :
		answer->position == SBA_ANSWER_DATA ? &answer->data_keys : &answer->series_keys;
	answer->key = SBA_KEY_UNKNOWN;
	for (i = 0; i < sizeof(known_keys) / sizeof(known_keys[0]); i++)
	{
		if (known_keys[i].position != answer->position ||
			!text_is(text, length, known_keys[i].name))
			continue;
		answer->key = known_keys[i].key;
		if (*seen & answer->key)
		{
			sba_fail(&answer->error, SBA_SYNTAX, "\"%s\" is there twice at byte %llu",
					 known_keys[i].name, answer->byte);
			return 0;
		}
		*seen |= answer->key;
		break;
	}
	return 1;
}

static int
end_of_point(SbaAnswer *answer)
{
	const SbaResultSink *sink = &answer->sink;

	if (answer->point_elements != 2)
		return fail_plain(answer, SBA_SYNTAX, "a point lacks its time or its value");
	answer->position = answer->point_parent;
	if (answer->type == SBA_RESULT_STRING)
		return 1;
	if (answer->point_parent == SBA_ANSWER_DATA && sink->series != NULL &&
		!sink->series(sink->context, answer->labels, 0))
		return cancel(answer);
	if (sink->point != NULL &&
		!sink->point(sink->context, answer->point_time, answer->point_value))
		return cancel(answer);
	return 1;
}

int
sba_answer_end(SbaAnswer *answer)
{
	const SbaResultSink *sink = &answer->sink;

	answer->depth--;
	if (answer->skip_depth > 0)
	{
		answer->skip_depth--;
		return 1;
	}
	switch (answer->position)
	{
		case SBA_ANSWER_MEMBERS:
			answer->position = SBA_ANSWER_END;
			return 1;
		case SBA_ANSWER_DATA:
		case SBA_ANSWER_STRINGS:
			answer->position = SBA_ANSWER_MEMBERS;
			return 1;
		case SBA_ANSWER_RESULT:
			answer->position = SBA_ANSWER_DATA;
			return 1;
		case SBA_ANSWER_SERIES:
			answer->position = SBA_ANSWER_RESULT;
			return 1;
		case SBA_ANSWER_METRIC:
			answer->position = SBA_ANSWER_SERIES;
			if (sink->series != NULL &&
				!sink->series(sink->context, answer->labels, answer->n_labels))
				return cancel(answer);
			return 1;
		case SBA_ANSWER_VALUES:
			answer->position = SBA_ANSWER_SERIES;
			return 1;
		case SBA_ANSWER_POINT:
			return end_of_point(answer);
		case SBA_ANSWER_BEGIN:
		case SBA_ANSWER_END:
			break;
	}
	return fail_plain(answer, SBA_SYNTAX, "unexpected end of an object or an array");
}

void
sba_answer_complete(SbaAnswer *answer)
{
	const char *missing = NULL;

	if (answer->error.status != SBA_OK)
		return;
	if (answer->position != SBA_ANSWER_END)
	{
		sba_fail(&answer->error, SBA_SYNTAX, "the text ends too early, after %llu bytes",
				 answer->byte);
		return;
	}
	if (answer->status == SBA_ANSWER_UNKNOWN)
		missing = "status";
	else if (answer->status == SBA_ANSWER_ERROR)
		return;
	else if ((answer->answer_keys & SBA_KEY_DATA) == 0)
		missing = "data";
	else if (answer->type == SBA_RESULT_UNKNOWN)
		missing = "resultType";
	else if (answer->type != SBA_RESULT_STRINGS && (answer->data_keys & SBA_KEY_RESULT) == 0)
		missing = "result";
	if (missing != NULL)
		sba_fail(&answer->error, SBA_SYNTAX, "the answer has no \"%s\"", missing);
}
