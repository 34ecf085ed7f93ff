/*
 * pattern_text.c
 *	  The texts of a pattern: templates with placeholders.
 */
#include "postgres.h"

#include "db/catalog.h"
#include "db/pattern_text.h"

#define MINUTES_PER_HOUR	60
#define MINUTES_PER_DAY		(24 * MINUTES_PER_HOUR)

static const char *const words[] = {
	"service", "category", "time_period", "dependency", "duration", "requests", "state_changes"
};
static const char *const fields[] = {
	"expected", "lower", "upper", "sigma", "percentile", "times"
};

static const char all_fields[] = "expected, lower, upper, sigma, percentile, times";

/* A placeholder, cut out of a template. */
typedef struct Placeholder
{
	char	   *name;
	char	   *field;			/* NULL when there is no point in it */
	const char *end;			/* behind the closing brace */
} Placeholder;

static bool
is_one_of(const char *word, const char *const *list, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(word, list[i]) == 0)
			return true;
	return false;
}

/* Cut out the placeholder that begins at an opening brace; false when none does. */
static bool
cut_placeholder(const char *begin, Placeholder *placeholder)
{
	size_t		length = strspn(begin + 1, "abcdefghijklmnopqrstuvwxyz0123456789_.");
	char	   *point;

	if (length == 0 || begin[1 + length] != '}')
		return false;
	placeholder->name = pnstrdup(begin + 1, length);
	placeholder->end = begin + length + 2;
	point = strchr(placeholder->name, '.');
	placeholder->field = NULL;
	if (point != NULL)
	{
		*point = '\0';
		placeholder->field = point + 1;
	}
	return true;
}

const char *
sba_placeholder_words(void)
{
	return "service, category, time_period, dependency, duration, requests, state_changes";
}

bool
sba_check_text(const char *text, SbaPatternMetrics *metrics, SbaPatternProblem *problem)
{
	const char *at = text;
	Placeholder placeholder;

	while ((at = strpbrk(at, "{}")) != NULL)
	{
		int			i;

		if (*at == '}' || !cut_placeholder(at, &placeholder))
		{
			problem->message = psprintf("a brace in \"%s\" belongs to no placeholder", text);
			problem->hint = pstrdup("Placeholders are of the form {service}, {error_rate} or {error_rate.expected}.");
			return false;
		}
		at = placeholder.end;
		if (placeholder.field == NULL && is_one_of(placeholder.name, words, lengthof(words)))
			continue;
		if (placeholder.field != NULL && !is_one_of(placeholder.field, fields, lengthof(fields)))
		{
			problem->message = psprintf("placeholder {%s.%s} is not known", placeholder.name, placeholder.field);
			problem->hint = psprintf("Of a metric there are: %s.", all_fields);
			return false;
		}
		for (i = 0; i < metrics->n; i++)
			if (strcmp(metrics->name[i], placeholder.name) == 0)
				break;
		if (i < metrics->n)
			continue;
		if (metrics->n == SBA_MAX_PATTERN_METRICS)
		{
			problem->message = psprintf("a pattern speaks of more than %d metrics", SBA_MAX_PATTERN_METRICS);
			problem->hint = NULL;
			return false;
		}
		metrics->name[metrics->n++] = placeholder.name;
	}
	return true;
}

char	   *
sba_value_text(const SbaMetric *metric, const char *unit, double value)
{
	if (metric->kind == SBA_KIND_RATIO)
		return psprintf("%.3g %%", 100 * value);
	return psprintf("%.4g%s%s", value, unit[0] != '\0' ? " " : "", unit);
}

char	   *
sba_duration_text(int minutes)
{
	if (minutes < 2 * MINUTES_PER_HOUR)
		return psprintf("%d minute%s", minutes, minutes == 1 ? "" : "s");
	if (minutes < 2 * MINUTES_PER_DAY)
		return psprintf("%d hours", minutes / MINUTES_PER_HOUR);
	return psprintf("%d days", minutes / MINUTES_PER_DAY);
}

double
sba_requests_in_interval(const SbaTextContext *context)
{
	int			m;

	for (m = 0; m < context->n_metrics; m++)
		if (context->metrics[m].counts_requests)
			return context->values[m] * context->interval_s;
	return NAN;
}

static char *
word_text(const char *word, const SbaTextContext *context)
{
	if (strcmp(word, "service") == 0)
		return pstrdup(context->service);
	if (strcmp(word, "category") == 0)
		return pstrdup(context->category != NULL ? context->category : "unknown");
	if (strcmp(word, "time_period") == 0)
		return pstrdup(context->time_period != NULL ? context->time_period : "this time of the week");
	if (strcmp(word, "dependency") == 0)
		return pstrdup(context->dependency != NULL ? context->dependency : "a service that it depends on");
	if (strcmp(word, "duration") == 0)
		return context->duration_minutes < 0 ?
			psprintf("less than %s", sba_duration_text(Max(1, context->interval_s / 60))) :
			sba_duration_text(context->duration_minutes);
	if (strcmp(word, "requests") == 0)
	{
		double		requests = sba_requests_in_interval(context);

		return isnan(requests) ? pstrdup("an unknown number of requests") : psprintf("%.0f requests", requests);
	}
	return psprintf("%d", context->state_changes);
}

/* What stands for a value that is not known. */
static char *
unknown_text(const SbaMetric *metric, bool is_value)
{
	const char *noun = metric == NULL ? "value" :
	metric->kind == SBA_KIND_LATENCY ? "time" :
	metric->kind == SBA_KIND_RATIO ? "share" : "rate";

	return psprintf("%s %s", is_value ? "an unknown" : "the usual", noun);
}

static char *
metric_text(const char *name, const char *field, const SbaTextContext *context)
{
	const SbaMetricVerdict *verdict;
	const SbaMetric *metric;
	double		value;
	int			m;

	for (m = 0; m < context->n_metrics; m++)
		if (strcmp(context->metrics[m].name, name) == 0)
			break;
	if (m == context->n_metrics)
		return field != NULL && strcmp(field, "times") == 0 ?
			pstrdup("not what is expected") : unknown_text(NULL, field == NULL);
	metric = &context->metrics[m];
	verdict = &context->verdicts[m];
	if (field == NULL)
		return isnan(context->values[m]) ? unknown_text(metric, true) :
			sba_value_text(metric, context->units[m], context->values[m]);
	if (!verdict->present)
		return strcmp(field, "times") == 0 ? pstrdup("not what is expected") :
			strcmp(field, "sigma") == 0 || strcmp(field, "percentile") == 0 ? pstrdup("an unknown number of") :
			unknown_text(metric, false);
	if (strcmp(field, "sigma") == 0)
		return psprintf("%.1f", fabs(verdict->deviation_sigma));
	if (strcmp(field, "percentile") == 0)
		return psprintf("%.0f", verdict->percentile);
	if (strcmp(field, "times") == 0)
		return verdict->expected > 0 ?
			psprintf("%.3g times what is expected", context->values[m] / verdict->expected) :
			pstrdup("not what is expected");
	value = strcmp(field, "lower") == 0 ? verdict->lower :
		strcmp(field, "upper") == 0 ? verdict->upper : verdict->expected;
	return sba_value_text(metric, context->units[m], value);
}

char	   *
sba_render_text(const char *text, const SbaTextContext *context)
{
	StringInfoData out;
	const char *at = text;
	const char *brace;
	Placeholder placeholder;

	initStringInfo(&out);
	while ((brace = strchr(at, '{')) != NULL && cut_placeholder(brace, &placeholder))
	{
		appendBinaryStringInfo(&out, at, brace - at);
		if (placeholder.field == NULL && is_one_of(placeholder.name, words, lengthof(words)))
			appendStringInfoString(&out, word_text(placeholder.name, context));
		else
			appendStringInfoString(&out, metric_text(placeholder.name, placeholder.field, context));
		at = placeholder.end;
	}
	appendStringInfoString(&out, at);
	return out.data;
}
