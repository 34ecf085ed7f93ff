/*
 * prometheus_answer.h
 *	  The form of an answer of the Prometheus HTTP API, as a state machine over
 *	  the tokens of its JSON.  Behind prometheus_json.h; not for others.
 */
#ifndef SBA_CORE_PROMETHEUS_ANSWER_H
#define SBA_CORE_PROMETHEUS_ANSWER_H

#include "core/prometheus_json.h"

/* Limits that keep the memory of an answer bounded whatever it brings. */
#define SBA_MAX_DEPTH			64
#define SBA_MAX_LABELS			128
#define SBA_MAX_LABEL_BYTES		65536	/* of a series */
#define SBA_MAX_ERROR_LENGTH	1024

typedef enum SbaJsonKind
{
	SBA_JSON_NULL,
	SBA_JSON_BOOLEAN,
	SBA_JSON_NUMBER,
	SBA_JSON_STRING,
	SBA_JSON_OBJECT,
	SBA_JSON_ARRAY
} SbaJsonKind;

typedef enum SbaAnswerPosition
{
	SBA_ANSWER_BEGIN = 0,
	SBA_ANSWER_MEMBERS,			/* the outermost object */
	SBA_ANSWER_DATA,			/* the object "data" */
	SBA_ANSWER_RESULT,
	SBA_ANSWER_SERIES,
	SBA_ANSWER_METRIC,
	SBA_ANSWER_VALUES,
	SBA_ANSWER_POINT,
	SBA_ANSWER_STRINGS,			/* the array "data" of label values */
	SBA_ANSWER_END
} SbaAnswerPosition;

/* The keys that mean something; each is also a bit of the masks of seen keys. */
typedef enum SbaAnswerKey
{
	SBA_KEY_UNKNOWN = 0,
	SBA_KEY_STATUS = 1 << 0,
	SBA_KEY_ERROR = 1 << 1,
	SBA_KEY_ERROR_TYPE = 1 << 2,
	SBA_KEY_DATA = 1 << 3,
	SBA_KEY_RESULT_TYPE = 1 << 4,
	SBA_KEY_RESULT = 1 << 5,
	SBA_KEY_METRIC = 1 << 6,
	SBA_KEY_VALUE = 1 << 7,
	SBA_KEY_VALUES = 1 << 8
} SbaAnswerKey;

typedef enum SbaAnswerStatus
{
	SBA_ANSWER_UNKNOWN = 0,
	SBA_ANSWER_SUCCESS,
	SBA_ANSWER_ERROR
} SbaAnswerStatus;

typedef struct SbaAnswer
{
	SbaResultSink sink;
	SbaError	error;			/* what ended the reading */
	unsigned long long byte;	/* of the current token, for messages */

	SbaAnswerPosition position;
	SbaAnswerPosition point_parent; /* where to go on after a point */
	SbaAnswerKey key;			/* of the member that is being read */
	unsigned	answer_keys;	/* keys seen in the object of each level */
	unsigned	data_keys;
	unsigned	series_keys;
	int			depth;
	int			skip_depth;		/* open containers of a value nobody wants */

	SbaAnswerStatus status;
	SbaResultType type;
	int			point_elements;
	double		point_time;
	double		point_value;

	char		error_text[SBA_MAX_ERROR_LENGTH];
	char		error_type[SBA_MAX_ERROR_LENGTH];
	size_t		n_labels;
	size_t		label_bytes;
	SbaLabel	labels[SBA_MAX_LABELS];
	char		label_text[SBA_MAX_LABEL_BYTES];
} SbaAnswer;

/*
 * The next token: a value (of a container, its begin), a key, or the end of a
 * container.  Texts are not zero-terminated.  Returns 0, with answer->error
 * filled, when the answer must not go on so; 1 otherwise.
 */
extern int	sba_answer_value(SbaAnswer *answer, SbaJsonKind kind,
							 const char *text, size_t length);
extern int	sba_answer_key(SbaAnswer *answer, const char *text, size_t length);
extern int	sba_answer_end(SbaAnswer *answer);

/* The text was read to its end: note in answer->error what is missing. */
extern void sba_answer_complete(SbaAnswer *answer);

#endif							/* SBA_CORE_PROMETHEUS_ANSWER_H */
