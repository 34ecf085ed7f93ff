/*
 * promql_names.c
 *	  The names of metrics and labels that a query in PromQL speaks of.
 *
 * A word is a label's name between the braces of a selector and in the lists
 * after "by", "on" and the like; elsewhere it is a metric's unless it is a
 * keyword or is applied to something.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "core/promql_names.h"

typedef struct Scan
{
	const char *at;
	SbaNameSink sink;
	void	   *context;
	bool		stopped;
} Scan;

/* A piece of the query's text. */
typedef struct Span
{
	const char *text;
	size_t		length;
} Span;

/* Words that are followed by a list of labels which have to be there, ... */
static const char *const wanted_label_lists[] = {"by", "on", NULL};

/* ... and by one of labels that need not. */
static const char *const other_label_lists[] = {
	"without", "ignoring", "group_left", "group_right", NULL
};

static const char *const aggregation_words[] = {"by", "without", NULL};

static const char *const template_words[] = {"with", NULL};

static const char *const keywords[] = {
	"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan", "start", "end",
	"default", "if", "ifnot", "limit", "keep_metric_names", "prefix", NULL
};

static bool
is_one_of(Span word, const char *const *list)
{
	for (; *list != NULL; list++)
	{
		if (word.length == strlen(*list) && strncasecmp(word.text, *list, word.length) == 0)
			return true;
	}
	return false;
}

static bool
begins_word(char c)
{
	return isalpha((unsigned char) c) || c == '_' || c == ':';
}

static void
found(Scan *scan, SbaNameKind kind, Span name)
{
	if (name.length > 0 && memchr(name.text, '\\', name.length) == NULL &&
		!scan->sink(scan->context, kind, name.text, name.length))
		scan->stopped = true;
}

static void
skip_blanks(Scan *scan)
{
	for (;;)
	{
		if (isspace((unsigned char) *scan->at))
			scan->at++;
		else if (*scan->at == '#')
			scan->at += strcspn(scan->at, "\n");
		else
			return;
	}
}

static Span
take_word(Scan *scan)
{
	Span		word = {scan->at, 0};

	while (begins_word(*scan->at) || isdigit((unsigned char) *scan->at))
		scan->at++;
	word.length = scan->at - word.text;
	return word;
}

/* Take a quoted string; returns what is between the quotes, as it stands. */
static Span
take_string(Scan *scan)
{
	char		quote = *scan->at++;
	Span		string = {scan->at, 0};

	while (*scan->at != '\0' && *scan->at != quote)
	{
		if (*scan->at == '\\' && quote != '`' && scan->at[1] != '\0')
			scan->at++;
		scan->at++;
	}
	string.length = scan->at - string.text;
	if (*scan->at != '\0')
		scan->at++;
	return string;
}

/* Numbers and durations, such as 1e-3, 0x1F and 1h30m. */
static void
skip_number(Scan *scan)
{
	while (isalnum((unsigned char) *scan->at) || *scan->at == '.' || *scan->at == '_' ||
		   ((*scan->at == '-' || *scan->at == '+') && strchr("eE", scan->at[-1]) != NULL &&
			isdigit((unsigned char) scan->at[1])))
		scan->at++;
}

static bool
is_quote(char c)
{
	return c == '"' || c == '\'' || c == '`';
}

/*
 * Read what follows a label's name.  Only what a series without the label
 * cannot match asks for the label.
 */
static void
scan_matcher(Scan *scan, Span label)
{
	char		operator[3] = {0};
	Span		value;
	bool		needs_label;

	while (strchr("=!~", *scan->at) != NULL && *scan->at != '\0' && strlen(operator) < 2)
	{
		operator[strlen(operator)] = *scan->at;
		scan->at++;
	}
	skip_blanks(scan);
	if (!is_quote(*scan->at))
		return;
	value = take_string(scan);
	if (strcmp(operator, "=") == 0 && label.length == strlen("__name__") &&
		memcmp(label.text, "__name__", label.length) == 0)
	{
		found(scan, SBA_NAME_METRIC, value);
		return;
	}
	needs_label = strcmp(operator, "=") == 0 ? value.length > 0 :
		strcmp(operator, "=~") == 0 ? value.length > 0 && strncmp(value.text, ".*", 2) != 0 :
		strcmp(operator, "!=") == 0 && value.length == 0;
	if (needs_label && (label.length < 2 || strncmp(label.text, "__", 2) != 0))
		found(scan, SBA_NAME_LABEL, label);
}

/* Read the matchers of a selector, up to its closing brace. */
static void
scan_selector(Scan *scan)
{
	scan->at++;
	while (!scan->stopped)
	{
		Span		name;
		bool		quoted;

		skip_blanks(scan);
		if (*scan->at == '\0')
			return;
		if (*scan->at == '}')
		{
			scan->at++;
			return;
		}
		quoted = is_quote(*scan->at);
		if (!quoted && !begins_word(*scan->at))
		{
			scan->at++;
			continue;
		}
		name = quoted ? take_string(scan) : take_word(scan);
		skip_blanks(scan);
		if (*scan->at == '=' || *scan->at == '!')
			scan_matcher(scan, name);
		else if (quoted)
			found(scan, SBA_NAME_METRIC, name);
	}
}

/* Read a list of labels, if one begins here. */
static void
scan_label_list(Scan *scan)
{
	if (*scan->at != '(')
		return;
	while (!scan->stopped && *scan->at != '\0' && *scan->at != ')')
	{
		if (begins_word(*scan->at))
			found(scan, SBA_NAME_LABEL, take_word(scan));
		else if (is_quote(*scan->at))
			found(scan, SBA_NAME_LABEL, take_string(scan));
		else
			scan->at++;
	}
}

/* Whether the text goes on with "by" or "without": an aggregation. */
static bool
is_aggregated(Scan scan)
{
	Span		next;

	if (!begins_word(*scan.at))
		return false;
	next = take_word(&scan);
	return is_one_of(next, aggregation_words);
}

static void
scan_word(Scan *scan)
{
	Span		word = take_word(scan);

	skip_blanks(scan);
	if (is_one_of(word, wanted_label_lists))
		scan_label_list(scan);
	else if (is_one_of(word, other_label_lists))
	{
		if (*scan->at == '(')
			scan->at += strcspn(scan->at, ")");
	}
	else if (is_one_of(word, template_words))
		scan->stopped = true;
	else if (*scan->at != '(' && !is_one_of(word, keywords) && !is_aggregated(*scan))
		found(scan, SBA_NAME_METRIC, word);
}

void
sba_scan_promql_names(const char *query, SbaNameSink sink, void *context)
{
	Scan		scan = {.at = query,.sink = sink,.context = context};

	while (!scan.stopped)
	{
		skip_blanks(&scan);
		if (*scan.at == '\0')
			return;
		if (begins_word(*scan.at))
			scan_word(&scan);
		else if (*scan.at == '{')
			scan_selector(&scan);
		else if (is_quote(*scan.at))
			(void) take_string(&scan);
		else if (*scan.at == '[')
			scan.at += strcspn(scan.at, "]");
		else if (isdigit((unsigned char) *scan.at))
			skip_number(&scan);
		else
			scan.at++;
	}
}
