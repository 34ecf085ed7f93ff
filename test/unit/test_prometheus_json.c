/*
 * test_prometheus_json.c
 *	  The reader of the Prometheus HTTP API's answers.
 *
 * Every document is fed whole, byte by byte and cut in two at every place:
 * what is read must not depend on how it arrives.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/prometheus_json.h"
#include "core/received_text.h"
#include "tap.h"

/* What was read, written as text: easy to compare and to look at. */
typedef struct EventLog
{
	char		text[65536];
	size_t		length;
	int			stop_after;		/* cancel at this event; 0 is never */
	int			n_events;
} EventLog;

static bool
note(EventLog *events, const char *format,...)
{
	va_list		arguments;
	int			n;

	va_start(arguments, format);
	n = vsnprintf(events->text + events->length, sizeof(events->text) - events->length,
				  format, arguments);
	va_end(arguments);
	if (n > 0 && events->length + (size_t) n < sizeof(events->text))
		events->length += (size_t) n;
	return ++events->n_events != events->stop_after;
}

static bool
on_series(void *context, const SbaLabel *labels, size_t n_labels)
{
	EventLog   *events = context;
	size_t		i;
	bool		go_on = note(events, "series");

	for (i = 0; i < n_labels; i++)
	{
		events->n_events--;
		note(events, " %s=%s", labels[i].name, labels[i].value);
	}
	events->n_events--;
	note(events, "\n");
	return go_on;
}

static bool
on_point(void *context, double time, double value)
{
	return note(context, "%.17g %.17g\n", time, value);
}

static bool
on_string(void *context, const char *value)
{
	return note(context, "string %s\n", value);
}

/* Read a document that arrives cut at a and b, or byte by byte. */
static void
read_document(const char *document, size_t length, size_t a, size_t b,
			  bool bytewise, int stop_after, EventLog *events)
{
	SbaResultSink sink = {events, on_series, on_point, on_string};
	SbaPrometheusReader *reader = sba_prometheus_reader_create(&sink);
	SbaError	error = {SBA_OK, ""};
	const char *said;
	size_t		i;

	events->length = 0;
	events->text[0] = '\0';
	events->n_events = 0;
	events->stop_after = stop_after;
	if (bytewise)
	{
		for (i = 0; i < length; i++)
		{
			/* a copy of its own, so that reading beyond the chunk is found */
			char	   *one = malloc(1);

			*one = document[i];
			sba_prometheus_reader_feed(reader, one, 1, &error);
			free(one);
		}
	}
	else
	{
		sba_prometheus_reader_feed(reader, document, a, &error);
		sba_prometheus_reader_feed(reader, document + a, b - a, &error);
		sba_prometheus_reader_feed(reader, document + b, length - b, &error);
	}
	sba_prometheus_reader_finish(reader, &error);
	events->stop_after = 0;
	said = sba_prometheus_reader_server_error(reader);
	note(events, "type %d, %s%s%s", (int) sba_prometheus_reader_type(reader),
		 error.status == SBA_OK ? "ok" : error.message,
		 said != NULL ? ", server: " : "", said != NULL ? said : "");
	sba_prometheus_reader_destroy(reader);
}

/* Check a document against what is to be read from it, however it arrives. */
static void
check_length(const char *name, const char *document, size_t length, const char *expected)
{
	static EventLog whole;
	static EventLog cut;
	size_t		i;
	bool		same = true;

	read_document(document, length, length, length, false, 0, &whole);
	if (!ok(strcmp(whole.text, expected) == 0, "%s", name))
		fprintf(stderr, "# read:\n%s\n# expected:\n%s\n", whole.text, expected);
	read_document(document, length, 0, 0, true, 0, &cut);
	same = strcmp(whole.text, cut.text) == 0;
	for (i = 0; i <= length && same; i++)
	{
		read_document(document, length, i, i, false, 0, &cut);
		same = strcmp(whole.text, cut.text) == 0;
		if (same && i + 3 <= length)
		{
			read_document(document, length, i, i + 3, false, 0, &cut);
			same = strcmp(whole.text, cut.text) == 0;
		}
	}
	if (!ok(same, "%s, cut anywhere", name))
		fprintf(stderr, "# whole:\n%s\n# cut at %zu:\n%s\n", whole.text, i, cut.text);
}

static void
check(const char *name, const char *document, const char *expected)
{
	check_length(name, document, strlen(document), expected);
}

#define VECTOR(result) \
	"{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[" result "]}}"
#define MATRIX(result) \
	"{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[" result "]}}"

static void
test_answers(void)
{
	check("vector",
		  VECTOR("{\"metric\":{\"__name__\":\"up\",\"service_name\":\"booking\"},"
				 "\"value\":[1705314600.123,\"12.5\"]},"
				 "{\"metric\":{\"service_name\":\"cart\"},\"value\":[1705314600,\"0\"]}"),
		  "series __name__=up service_name=booking\n1705314600.1229999 12.5\n"
		  "series service_name=cart\n1705314600 0\ntype 1, ok");
	check("matrix",
		  MATRIX("{\"metric\":{\"service_name\":\"booking\"},\"values\":[[1,\"2\"],[3,\"4e-2\"]]}"),
		  "series service_name=booking\n1 2\n3 0.040000000000000001\ntype 2, ok");
	check("empty results",
		  VECTOR(""), "type 1, ok");
	check("a series without points or labels",
		  MATRIX("{\"metric\":{},\"values\":[]},{}"), "series\ntype 2, ok");
	check("scalar",
		  "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[5,\"7\"]}}",
		  "series\n5 7\ntype 3, ok");
	check("string",
		  "{\"status\":\"success\",\"data\":{\"resultType\":\"string\",\"result\":[5,\"hello\"]}}",
		  "type 4, ok");
	check("label values",
		  "{\"status\":\"success\",\"data\":[\"booking\",\"\",\"a\\\"} or vector(1)#\"]}",
		  "string booking\nstring \nstring a\"} or vector(1)#\ntype 5, ok");
	check("no label values",
		  " { \"status\" : \"success\" , \"data\" : [ ] }\n", "type 5, ok");
	check("an error with its type",
		  "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error: \\u00e9\"}",
		  "type 0, ok, server: parse error: é");
	check("an error without words",
		  "{\"status\":\"error\",\"errorType\":\"timeout\",\"data\":null}",
		  "type 0, ok, server: timeout");
	check("an error without anything",
		  "{\"status\":\"error\",\"error\":17}", "type 0, ok, server: no reason given");
	check("an error that was cut off",
		  "{\"status\":\"error\",\"error\":\"too many points\",\"x",
		  "type 0, the text ends too early, after 46 bytes, server: too many points");
	check("keys of newer servers are skipped",
		  "{\"isPartial\":false,\"status\":\"success\",\"warnings\":[\"a\",{\"data\":[1]}],"
		  "\"data\":{\"stats\":{\"result\":[{\"metric\":1}]},\"resultType\":\"matrix\","
		  "\"result\":[{\"histograms\":[[1,{\"count\":\"2\"}]],\"metric\":{\"a\":\"b\"},"
		  "\"values\":[[1,\"1\"]],\"exemplars\":null}]},\"infos\":{}}",
		  "series a=b\n1 1\ntype 2, ok");
	check("keys in another order",
		  "{\"data\":{\"result\":[{\"metric\":{\"a\":\"b\"},\"value\":[1,\"2\"]}],"
		  "\"resultType\":\"vector\"},\"status\":\"success\"}",
		  "series a=b\n1 2\ntype 1, ok");
}

static void
test_text(void)
{
	check("escapes in labels",
		  MATRIX("{\"metric\":{\"a\\u0062\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u20ac\\ud83d\\ude00\"},\"values\":[]}"),
		  "series ab=\"\\/\b\f\n\r\t€\xf0\x9f\x98\x80\ntype 2, ok");
	check("text beyond ASCII",
		  MATRIX("{\"metric\":{\"a\":\"größe €\xf0\x9f\x98\x80" "\"},\"values\":[]}"),
		  "series a=größe €\xf0\x9f\x98\x80\ntype 2, ok");
	check("a zero byte in a label",
		  MATRIX("{\"metric\":{\"a\":\"b\\u0000c\"}}"),
		  "type 2, a label's value is not valid UTF-8 or has a zero byte, at byte 85");
	check("a lone low surrogate",
		  MATRIX("{\"metric\":{\"a\":\"\\udc00\"}}"),
		  "type 2, a label's value is not valid UTF-8 or has a zero byte, at byte 83");
	check("an overlong form",
		  MATRIX("{\"metric\":{\"a\":\"\xc0\xaf\"}}"),
		  "type 2, a label's value is not valid UTF-8 or has a zero byte, at byte 79");
	check("a broken character",
		  MATRIX("{\"metric\":{\"a\":\"\xe2\x82\"}}"),
		  "type 2, not JSON at byte 79: lexical error: invalid bytes in UTF8 string.");
	check("a zero byte in an error leaves its type",
		  "{\"status\":\"error\",\"errorType\":\"bad\",\"error\":\"a\\u0000\"}",
		  "type 0, ok, server: bad");
	ok(sba_is_clean_text("\xf4\x8f\xbf\xbf", 4), "U+10FFFF is a character");
	ok(!sba_is_clean_text("\xf4\x90\x80\x80", 4), "U+110000 is none");
	ok(!sba_is_clean_text("\xed\xa0\x80", 3), "a surrogate is none");
	ok(!sba_is_clean_text("\xe2\x82", 2), "a character that is cut off is none");
	ok(!sba_is_clean_text("\x80", 1) && !sba_is_clean_text("\xff", 1), "stray bytes are none");
	ok(!sba_is_clean_text("a\0b", 3), "text with a zero byte is not clean");
}

static void
check_number(const char *text, double expected)
{
	double		value = -123;
	bool		read = sba_parse_number(text, strlen(text), &value);

	ok(read && (isnan(expected) ? isnan(value) : value == expected) &&
	   signbit(value) == signbit(expected), "number %.40s", text);
}

static void
test_numbers(void)
{
	static const char *const wrong[] = {
		"", "-", "+", ".", "e5", "1e", "1e+", "0x10", " 1", "1 ", "1,5", "nan",
		"inf", "Infinity", "--1", "1.2.3", "NaN(1)", "1e5x", "-NaN"
	};
	char		digits[400];
	char		document[600];
	char		expected[100];
	uint64_t	state = 88172645463325252u;
	size_t		i;
	bool		same = true;

	check_number("0", 0.0);
	check_number("-0", -0.0);
	check_number("NaN", NAN);
	check_number("Inf", INFINITY);
	check_number("+Inf", INFINITY);
	check_number("-Inf", -INFINITY);
	check_number("1e400", INFINITY);
	check_number("-1e99999999999", -INFINITY);
	check_number("1e-400", 0.0);
	check_number("4.9406564584124654e-324", 4.9406564584124654e-324);
	check_number("2.2250738585072011e-308", 2.2250738585072011e-308);
	check_number("9007199254740993", 9007199254740992.0);
	check_number("0.1", 0.1);
	check_number("1.7976931348623157e+308", 1.7976931348623157e308);
	check_number("123456789.123456789E-3", 123456.789123456789);
	check_number("5.", 5.0);
	check_number("+.5", 0.5);
	check_number("00000000000000000000000000000001", 1.0);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		double		value;

		ok(!sba_parse_number(wrong[i], strlen(wrong[i]), &value), "\"%s\" is no number", wrong[i]);
	}

	/* VictoriaMetrics writes large numbers out: 309 digits */
	snprintf(digits, sizeof(digits), "%.0f", 1.7976931348623157e308);
	ok(strlen(digits) == 309, "the largest number has 309 digits");
	check_number(digits, 1.7976931348623157e308);
	snprintf(document, sizeof(document), MATRIX("{\"metric\":{},\"values\":[[1,\"%s\"]]}"), digits);
	snprintf(expected, sizeof(expected), "series\n1 %.17g\ntype 2, ok", 1.7976931348623157e308);
	check("a number of 309 digits", document, expected);
	check("what is not finite",
		  MATRIX("{\"metric\":{},\"values\":[[1,\"NaN\"],[2,\"+Inf\"],[3,\"-Inf\"]]}"),
		  "series\n1 nan\n2 inf\n3 -inf\ntype 2, ok");

	/* the short cut for short numbers gives what strtod gives */
	for (i = 0; i < 100000 && same; i++)
	{
		double		value;
		int			length;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		length = snprintf(digits, sizeof(digits), "%s%llu.%0*llue%d", state & 1 ? "-" : "",
						  (unsigned long long) (state >> 8) % 100000000, (int) (state % 9) + 1,
						  (unsigned long long) (state >> 20) % 10, (int) (state >> 40) % 30 - 15);
		same = sba_parse_number(digits, (size_t) length, &value) && value == strtod(digits, NULL);
	}
	if (!ok(same, "100,000 random numbers are read as strtod reads them"))
		fprintf(stderr, "# differs: %s\n", digits);
}

static void
test_damage(void)
{
	check("nothing", "", "type 0, the text ends too early, after 0 bytes");
	check("white space", " \n", "type 0, the text ends too early, after 2 bytes");
	check("not JSON", "<html><body>404</body></html>",
		  "type 0, not JSON at byte 1: lexical error: invalid char in json text.");
	check("an array", "[1]", "type 0, expected an object for the answer, found an array at byte 1");
	check("a string", "\"x\"", "type 0, expected an object for the answer, found a string at byte 3");
	check("trailing text", VECTOR("") "x",
		  "type 1, not JSON at byte 64: parse error: trailing garbage");
	check("a second answer", VECTOR("") "{}",
		  "type 1, not JSON at byte 64: parse error: trailing garbage");
	check("no status", "{\"data\":[]}", "type 5, the answer has no \"status\"");
	check("an unknown status", "{\"status\":\"maybe\"}",
		  "type 0, \"status\" is neither \"success\" nor \"error\" at byte 17");
	check("status of a wrong type", "{\"status\":[]}",
		  "type 0, expected a string for \"status\", found an array at byte 11");
	check("no data", "{\"status\":\"success\"}", "type 0, the answer has no \"data\"");
	check("null data", "{\"status\":\"success\",\"data\":null}",
		  "type 0, the answer has no \"data\"");
	check("data of a wrong type", "{\"status\":\"success\",\"data\":true}",
		  "type 0, expected an object or an array for \"data\", found a boolean at byte 31");
	check("no result type", "{\"status\":\"success\",\"data\":{\"result\":[]}}",
		  "type 0, the answer has no \"resultType\"");
	check("an unknown result type",
		  "{\"status\":\"success\",\"data\":{\"resultType\":\"tensor\"}}",
		  "type 0, unknown \"resultType\" at byte 49");
	check("no result", "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\"}}",
		  "type 1, the answer has no \"result\"");
	check("result of a wrong type",
		  "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":{}}}",
		  "type 1, expected an array for \"result\", found an object at byte 60");
	check("a series of a wrong type", VECTOR("1"),
		  "type 1, expected an object for a series in \"result\", found a number at byte 61");
	check("labels of a wrong type", VECTOR("{\"metric\":[]}"),
		  "type 1, expected an object for \"metric\", found an array at byte 71");
	check("a label of a wrong type", VECTOR("{\"metric\":{\"a\":1}}"),
		  "type 1, expected a string for a label's value, found a number at byte 76");
	check("points before labels", VECTOR("{\"value\":[1,\"2\"],\"metric\":{}}"),
		  "type 1, a series has its points before its labels, in \"metric\", at byte 70");
	check("points without labels", MATRIX("{\"values\":[[1,\"2\"]]}"),
		  "type 2, a series has its points before its labels, in \"metric\", at byte 71");
	check("a number for a value", MATRIX("{\"metric\":{},\"values\":[[1,2]]}"),
		  "series\ntype 2, expected a string for the value of a point, found a number at byte 87");
	check("a string for a time", MATRIX("{\"metric\":{},\"values\":[[\"1\",\"2\"]]}"),
		  "series\ntype 2, expected a number for the time of a point, found a string at byte 87");
	check("a value that is no number", MATRIX("{\"metric\":{},\"values\":[[1,\"two\"]]}"),
		  "series\ntype 2, the value of a point is not a number at byte 91");
	check("half a point", MATRIX("{\"metric\":{},\"values\":[[1]]}"),
		  "series\ntype 2, a point lacks its time or its value at byte 86");
	check("a point and a half", MATRIX("{\"metric\":{},\"values\":[[1,\"2\",3]]}"),
		  "series\ntype 2, a point has more than a time and a value at byte 91");
	check("a time out of range", MATRIX("{\"metric\":{},\"values\":[[1e999,\"2\"]]}"),
		  "series\ntype 2, the time of a point is out of range at byte 89");
	check("bare infinity", MATRIX("{\"metric\":{},\"values\":[[1,+Inf]]}"),
		  "series\ntype 2, not JSON at byte 87: lexical error: invalid char in json text.");
	check("a key twice", VECTOR("{\"metric\":{},\"metric\":{}}"),
		  "series\ntype 1, \"metric\" is there twice at byte 81");
	check("a label twice", VECTOR("{\"metric\":{\"a\":\"b\",\"a\":\"c\"}}"),
		  "type 1, a series has the same label twice at byte 82");
	check("label values of a wrong type", "{\"status\":\"success\",\"data\":[{}]}",
		  "type 5, expected a string for an element of \"data\", found an object at byte 29");
}

/* Every beginning of a document is an error, and never a wrong reading. */
static void
test_truncation(void)
{
	static const char document[] =
	MATRIX("{\"metric\":{\"a\":\"\\u20ac\",\"b\":\"c\"},\"values\":[[1.5,\"-2e3\"],[3,\"NaN\"]]}");
	static EventLog events;
	size_t		length;
	size_t		n_wrong = 0;

	for (length = 0; length < sizeof(document) - 1; length++)
	{
		read_document(document, length, length / 2, length, false, 0, &events);
		if (strstr(events.text, "the text ends too early") == NULL)
		{
			fprintf(stderr, "# cut to %zu bytes: %s\n", length, events.text);
			n_wrong++;
		}
	}
	ok(n_wrong == 0, "an answer that is cut off anywhere is said to end too early");
	read_document(document, length, length, length, false, 0, &events);
	ok(strstr(events.text, ", ok") != NULL, "and the whole of it is not");
}

/* Feed a text many times over; returns the status at which it stopped. */
static SbaStatus
feed_repeated(const char *begin, const char *text, int n_times, const char *end, SbaError *error)
{
	SbaResultSink sink = {NULL, NULL, NULL, NULL};
	SbaPrometheusReader *reader = sba_prometheus_reader_create(&sink);
	SbaStatus	status = sba_prometheus_reader_feed(reader, begin, strlen(begin), error);
	int			i;

	for (i = 0; i < n_times && status == SBA_OK; i++)
		status = sba_prometheus_reader_feed(reader, text, strlen(text), error);
	if (status == SBA_OK)
		status = sba_prometheus_reader_feed(reader, end, strlen(end), error);
	if (status == SBA_OK)
		status = sba_prometheus_reader_finish(reader, error);
	sba_prometheus_reader_destroy(reader);
	return status;
}

static void
test_limits(void)
{
	static const char skipped[] = "{\"status\":\"success\",\"data\":[],\"x\":";
	static char kilobyte[1025];
	static char labels[20000];
	SbaError	error = {SBA_OK, ""};
	size_t		length = 0;
	int			i;

	memset(kilobyte, 'x', 1024);

	ok(feed_repeated(skipped, "[", 63, "", &error) == SBA_SYNTAX, "64 levels are read");
	ok(feed_repeated(skipped, "[", 64, "", &error) == SBA_OUT_OF_MEMORY &&
	   strstr(error.message, "nested more than 64 deep") != NULL, "65 levels are too many");
	ok(feed_repeated("", "{\"a\":", 1000000, "", &error) == SBA_OUT_OF_MEMORY,
	   "nesting without end is stopped");

	for (i = 0; i < 128; i++)
		length += (size_t) snprintf(labels + length, sizeof(labels) - length, "%s\"l%d\":\"v\"",
									i > 0 ? "," : "", i);
	ok(feed_repeated("{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{",
					 labels, 1, "}}]}}", &error) == SBA_OK, "128 labels are read");
	ok(feed_repeated("{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{",
					 labels, 1, ",\"more\":\"v\"}}]}}", &error) == SBA_OUT_OF_MEMORY &&
	   strstr(error.message, "more than 128 labels") != NULL, "129 labels are too many");
	ok(feed_repeated("{\"status\":\"success\",\"data\":[\"", kilobyte, 63, "\"]}", &error) == SBA_OK,
	   "a name of 63 kB is read");
	ok(feed_repeated("{\"status\":\"success\",\"data\":[\"", kilobyte, 64, "\"]}", &error) == SBA_OUT_OF_MEMORY &&
	   strstr(error.message, "longer than 65536 bytes") != NULL, "a name of 64 kB is too long");

	ok(feed_repeated("{\"status\":\"success\",\"data\":[],\"x\":\"", kilobyte, 1000, "\"}", &error) == SBA_OK,
	   "a skipped string of 1000 kB is read");
	ok(feed_repeated("{\"status\":\"success\",\"data\":[],\"x\":\"", kilobyte, 100000, "\"}", &error) == SBA_OUT_OF_MEMORY &&
	   strstr(error.message, "at byte 10") != NULL, "a string without end is stopped after 1 MB");
	ok(feed_repeated("", "                                                                ",
					 100000, "{}", &error) == SBA_OUT_OF_MEMORY, "white space without end is stopped");
	memset(kilobyte, '1', 1024);
	ok(feed_repeated("{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[", kilobyte, 2,
					 ",\"1\"]}}", &error) == SBA_SYNTAX, "a time of 2000 digits is refused");

	memset(kilobyte, 'e', 1024);
	{
		static EventLog events;
		char		document[1200];

		snprintf(document, sizeof(document), "{\"status\":\"error\",\"error\":\"%.1021sä%s\"}",
				 kilobyte, "tail");
		read_document(document, strlen(document), 5, 500, false, 0, &events);
		ok(strstr(events.text, "eä") != NULL && strstr(events.text, "tail") == NULL,
		   "the text of an error is kept up to 1 kB");
		snprintf(document, sizeof(document), "{\"status\":\"error\",\"error\":\"%.1022sä%s\"}",
				 kilobyte, "tail");
		read_document(document, strlen(document), 5, 500, false, 0, &events);
		ok(strstr(events.text, "server: eee") != NULL && strstr(events.text, "\xc3") == NULL,
		   "and is cut between characters");
	}
}

static void
test_stopping(void)
{
	static const char document[] =
	MATRIX("{\"metric\":{\"a\":\"b\"},\"values\":[[1,\"2\"],[3,\"4\"]]}");
	static EventLog events;
	SbaResultSink sink = {NULL, NULL, NULL, NULL};
	SbaPrometheusReader *reader = sba_prometheus_reader_create(&sink);
	SbaError	error = {SBA_OK, ""};
	char		first[SBA_MESSAGE_SIZE];

	read_document(document, strlen(document), 10, 20, false, 1, &events);
	ok(strcmp(events.text, "series a=b\ntype 2, reading was stopped") == 0,
	   "a series callback stops the reading");
	read_document(document, strlen(document), 10, 20, false, 2, &events);
	ok(strcmp(events.text, "series a=b\n1 2\ntype 2, reading was stopped") == 0,
	   "a point callback stops the reading");
	read_document("{\"data\":[\"a\",\"b\"]}", 18, 10, 12, false, 1, &events);
	ok(strcmp(events.text, "string a\ntype 5, reading was stopped") == 0,
	   "a string callback stops the reading");

	ok(sba_prometheus_reader_feed(reader, document, strlen(document), &error) == SBA_OK &&
	   sba_prometheus_reader_finish(reader, &error) == SBA_OK, "callbacks may be missing");
	sba_prometheus_reader_destroy(reader);

	reader = sba_prometheus_reader_create(&sink);
	ok(sba_prometheus_reader_feed(reader, "[", 1, &error) == SBA_SYNTAX, "an error is said at once");
	snprintf(first, sizeof(first), "%s", error.message);
	memset(&error, 0, sizeof(error));
	ok(sba_prometheus_reader_feed(reader, "{}", 2, &error) == SBA_SYNTAX &&
	   strcmp(first, error.message) == 0, "and said again by every later call");
	memset(&error, 0, sizeof(error));
	ok(sba_prometheus_reader_finish(reader, &error) == SBA_SYNTAX &&
	   strcmp(first, error.message) == 0, "and at the end");
	ok(sba_prometheus_reader_finish(reader, NULL) == SBA_SYNTAX, "who does not ask gets the status only");
	sba_prometheus_reader_destroy(reader);
	sba_prometheus_reader_destroy(NULL);
}

int
main(void)
{
	plan_tests(0);
	test_answers();
	test_text();
	test_numbers();
	test_damage();
	test_truncation();
	test_limits();
	test_stopping();
	return done();
}
