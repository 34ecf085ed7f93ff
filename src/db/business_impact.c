/*
 * business_impact.c
 *	  What an anomaly means to those who use the service, as one sentence.
 */
#include "postgres.h"

#include "db/business_impact.h"
#include "db/catalog.h"

/* The metric's number, or -1 when it is not among these signals. */
static int
find_signal(const SbaTextContext *context, const char *name, uint32 signals)
{
	int			m;

	for (m = 0; m < context->n_metrics; m++)
		if (strcmp(context->metrics[m].name, name) == 0 && (signals & (1u << m)) != 0)
			return m;
	return -1;
}

/* Append one thing that users notice, after a comma where it is not the first. */
static void
append_effect(StringInfo effects, char *effect)
{
	if (effects->len > 0)
		appendStringInfoString(effects, ", ");
	appendStringInfoString(effects, effect);
}

static void
append_failures(const SbaTextContext *context, StringInfo effects)
{
	int			m = find_signal(context, "error_rate", context->high_signals);
	double		requests = sba_requests_in_interval(context);

	if (m < 0 || context->values[m] <= 0)
		return;
	append_effect(effects, psprintf("%s of its requests fail",
									sba_value_text(&context->metrics[m], context->units[m], context->values[m])));
	if (!isnan(requests))
		appendStringInfo(effects, " (about %.0f in %s)", Max(1, context->values[m] * requests),
						 sba_duration_text(Max(1, context->interval_s / 60)));
}

static void
append_slowness(const SbaTextContext *context, StringInfo effects)
{
	int			m = find_signal(context, "application_latency", context->high_signals);

	if (m < 0)
		return;
	if (context->verdicts[m].present && context->verdicts[m].expected > 0)
		append_effect(effects, psprintf("its requests take %.3g times as long as expected",
										context->values[m] / context->verdicts[m].expected));
	else
		append_effect(effects, psprintf("its requests take %s",
										sba_value_text(&context->metrics[m], context->units[m], context->values[m])));
}

static void
append_missing_traffic(const SbaTextContext *context, StringInfo effects)
{
	int			m = find_signal(context, SBA_REQUEST_METRIC, context->low_signals);

	if (m < 0 || !context->verdicts[m].present || !(context->verdicts[m].expected > context->values[m]))
		return;
	append_effect(effects, psprintf("%.0f %% of the expected requests do not arrive (about %.0f in %s)",
									100 * (1 - context->values[m] / context->verdicts[m].expected),
									(context->verdicts[m].expected - context->values[m]) * context->interval_s,
									sba_duration_text(Max(1, context->interval_s / 60))));
}

char	   *
sba_business_impact(const SbaTextContext *context)
{
	StringInfoData effects;

	initStringInfo(&effects);
	append_failures(context, &effects);
	append_slowness(context, &effects);
	append_missing_traffic(context, &effects);
	if (effects.len == 0)
		appendStringInfoString(&effects, "its users notice nothing in requests, errors or answer times so far");
	if (context->duration_minutes > 0)
		appendStringInfo(&effects, "; it has been so for %s", sba_duration_text(context->duration_minutes));
	return psprintf("%s is a service of category %s: %s.", context->service,
					context->category != NULL ? context->category : "unknown", effects.data);
}
