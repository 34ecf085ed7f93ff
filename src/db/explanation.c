/*
 * explanation.c
 *	  What each metric of one sample says, without recording anything.
 */
#include "postgres.h"

#include <math.h>

#include "db/current_sample.h"
#include "db/explanation.h"
#include "db/pattern_text.h"

/* A signal in words: beside what is expected. */
static char *
describe_signal(const SbaEvaluatedSample *sample, int m)
{
	const SbaMetricVerdict *verdict = &sample->verdict->metric[m];
	double		value = sample->values[m];

	if (sample->metrics[m].kind != SBA_KIND_RATIO && verdict->expected > 0 && value > 0)
		return psprintf("%.3g times what is expected", value / verdict->expected);
	return psprintf("%s, where %s is expected", sba_value_text(&sample->metrics[m], sample->units[m], value),
					sba_value_text(&sample->metrics[m], sample->units[m], verdict->expected));
}

/* What is to be said of a metric whose value is known. */
static char *
describe(const SbaEvaluatedSample *sample, int m, bool is_signal, bool breaks_rule)
{
	const SbaMetricVerdict *verdict = &sample->verdict->metric[m];

	if (is_signal)
		return describe_signal(sample, m);
	if (breaks_rule)
		return pstrdup("beyond what a rule allows");
	if (!verdict->present)
		return pstrdup("nothing to compare with");
	if (sample->values[m] >= verdict->lower && sample->values[m] <= verdict->upper)
		return pstrdup("as expected");
	return psprintf("%s than expected, but nothing that stands out",
					verdict->deviation_sigma < 0 ? "lower" : "higher");
}

/* Fill in what an evaluation says of its metric m. */
static void
explain_metric(const SbaEvaluation *evaluation, int m, SbaMetricExplanation *explanation)
{
	const SbaEvaluatedSample *sample = &evaluation->sample;
	const SbaMetricVerdict *verdict = &evaluation->verdict.metric[m];
	bool		is_signal = evaluation->verdict.is_anomaly && verdict->is_signal;
	bool		breaks_rule = sba_breaks_rule(&evaluation->diagnosis, m);

	explanation->contribution = sba_contribution(sample, &evaluation->diagnosis, m);
	explanation->stands_out = is_signal || breaks_rule;
	if (sample->model != NULL && sample->model->metric[m].baseline.known)
	{
		explanation->expected = verdict->expected;
		explanation->lower = verdict->lower;
		explanation->upper = verdict->upper;
	}
	if (verdict->present)
	{
		explanation->deviation_sigma = verdict->deviation_sigma;
		explanation->percentile = verdict->percentile;
		explanation->direction = verdict->deviation_sigma < 0 ? "low" : "high";
	}
	if (!isnan(sample->values[m]))
		explanation->description = describe(sample, m, is_signal, breaks_rule);
}

SbaExplanation *
sba_explain_sample(const SbaMetricCatalog *catalog, const SbaService *service, TimestampTz at)
{
	SbaExplanation *explanation = palloc0(sizeof(SbaExplanation));
	SbaDetectionPass pass;
	SbaReadSample sample;
	SbaEvaluation evaluation;
	int			c;
	int			m;

	sba_begin_pass(&pass, catalog, sba_load_periods(), service, 1, at);
	if (!sba_read_current_sample(&pass, service, &sample) || !sba_sample_is_believed(catalog, &sample) ||
		(at != 0 && sample.ts <= pass.silent_before))
		return NULL;
	sba_place_in_week(&pass, service, sample.ts, &sample);
	sba_evaluate_sample(&pass, service, &sample, &evaluation);

	explanation->ts = sample.ts;
	explanation->time_period = sample.time_period;
	if (evaluation.active != NULL)
	{
		explanation->model_version = evaluation.active->version;
		explanation->model_period = evaluation.fallback_period != NULL ? evaluation.fallback_period : sample.time_period;
	}
	explanation->n_metrics = catalog->n_metrics;
	for (c = 0; c < catalog->n_metrics; c++)
	{
		SbaMetricExplanation *metric = &explanation->metric[c];

		metric->metric = catalog->metric[c].name;
		metric->unit = catalog->unit[c];
		metric->value = sample.values[c];
		metric->expected = metric->lower = metric->upper = NAN;
		metric->deviation_sigma = metric->percentile = metric->contribution = NAN;
		metric->description = pstrdup(sample.idle[c] ? "nothing happened" :
									  isnan(sample.values[c]) ? "unknown" : "nothing to compare with");
		for (m = 0; m < evaluation.sample.n_metrics; m++)
			if (evaluation.catalog_index[m] == c)
				explain_metric(&evaluation, m, metric);
	}
	return explanation;
}
