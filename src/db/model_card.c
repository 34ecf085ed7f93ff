/*
 * model_card.c
 *	  What a person wants to know of a model before trusting it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "db/model_card.h"
#include "db/payload.h"
#include "pg/json_writer.h"
#include "pg/settings.h"

static const char *const basis_names[] = {
	[SBA_BASIS_OWN] = "own samples",
	[SBA_BASIS_SIBLINGS] = "samples of other periods too",
	[SBA_BASIS_ROBUST] = "medians",
};

static const char *const use_names[SBA_ROW_USES] = {
	[SBA_USE_INCIDENT] = "incident",
	[SBA_USE_MAINTENANCE] = "maintenance",
	[SBA_USE_BUSY] = "busy",
};

/* Samples of the period that did not teach, by what speaks against them. */
static void
add_left_out(SbaJsonWriter *card, const SbaTrainedPeriod *trained)
{
	int			use;

	sba_json_open(card, "left_out", '{');
	for (use = 1; use < SBA_ROW_USES; use++)
		sba_json_integer(card, use_names[use], (int64) trained->n_not_used[use]);
	sba_json_integer(card, "change_of_level", (int64) trained->n_unsettled);
	sba_json_integer(card, "suspicious", (int64) trained->n_left_out);
	sba_json_close(card, '}');
}

/* Times without a sample where the period has one afterwards. */
static void
add_gaps(SbaJsonWriter *card, const SbaSampleSeries *series, int period)
{
	int64		n_gaps = 0;
	int64		longest_s = 0;
	size_t		row;

	for (row = 1; row < series->n_rows; row++)
	{
		int64		apart_s = series->time_s[row] - series->time_s[row - 1];

		if (series->period[row] != period || apart_s < 2 * (int64) sba_sample_interval_s)
			continue;
		n_gaps++;
		longest_s = Max(longest_s, apart_s);
	}
	sba_json_open(card, "gaps", '{');
	sba_json_integer(card, "count", n_gaps);
	sba_json_number(card, "longest_minutes", longest_s / 60.0);
	sba_json_close(card, '}');
}

static void
add_metrics(SbaJsonWriter *card, const SbaMetricCatalog *metrics, const SbaTrainedPeriod *trained)
{
	int			m;

	sba_json_open(card, "metrics", '{');
	for (m = 0; m < metrics->n_metrics; m++)
	{
		const SbaMetricSummary *summary = &trained->metric[m];

		sba_json_open(card, metrics->metric[m].name, '{');
		sba_json_integer(card, "values", (int64) summary->n_values);
		sba_json_number(card, "p05", summary->p05);
		sba_json_number(card, "median", summary->median);
		sba_json_number(card, "p95", summary->p95);
		sba_json_number(card, "mad", summary->mad);
		sba_json_number(card, "sigma", summary->sigma);
		sba_json_number(card, "lower_threshold_sigma", summary->lower_sigma);
		sba_json_number(card, "upper_threshold_sigma", summary->upper_sigma);
		sba_json_close(card, '}');
	}
	sba_json_close(card, '}');
}

/* Each pair of metrics once, under the one that comes first. */
static void
add_correlation(SbaJsonWriter *card, const SbaMetricCatalog *metrics, const SbaTrainedPeriod *trained)
{
	int			a;
	int			b;

	sba_json_open(card, "correlation", '{');
	for (b = 0; b + 1 < metrics->n_metrics; b++)
	{
		sba_json_open(card, metrics->metric[b].name, '{');
		for (a = b + 1; a < metrics->n_metrics; a++)
			sba_json_number(card, metrics->metric[a].name, trained->correlation[a][b]);
		sba_json_close(card, '}');
	}
	sba_json_close(card, '}');
}

static void
add_drift(SbaJsonWriter *card, const SbaMetricCatalog *metrics, const SbaTrainedPeriod *trained)
{
	int			m;

	if (!trained->drift.known)
		return;
	sba_json_open(card, "drift_baseline", '{');
	sba_json_number(card, "dependent_samples", trained->drift.dependent_rows);
	sba_json_integer(card, "stretches", (int64) trained->drift.n_blocks);
	sba_json_open(card, "mean", '{');
	for (m = 0; m < metrics->n_metrics; m++)
		sba_json_number(card, metrics->metric[m].name, trained->drift.mean[m]);
	sba_json_close(card, '}');
	sba_json_close(card, '}');
}

char	   *
sba_model_card(const SbaMetricCatalog *metrics, const SbaService *service,
			   const SbaSampleSeries *series, int period, const SbaTrainedPeriod *trained)
{
	SbaJsonWriter card;

	sba_json_init(&card);
	sba_json_open(&card, NULL, '{');
	sba_json_integer(&card, "borrowed", (int64) trained->n_borrowed);
	sba_json_integer(&card, "held_out", (int64) trained->n_heldout);
	add_left_out(&card, trained);
	add_gaps(&card, series, period);
	sba_json_number(&card, "contamination", service->contamination);
	sba_json_integer(&card, "level_changes", trained->n_level_changes);
	if (trained->n_level_changes > 0)
		sba_json_string(&card, "last_level_change",
						sba_iso_timestamp(trained->last_level_change_s * USECS_PER_SEC));
	if (trained->bytes != NULL)
	{
		sba_json_string(&card, "based_on", basis_names[trained->basis]);
		sba_json_integer(&card, "bytes", (int64) trained->length);
		sba_json_number(&card, "held_out_flagged", trained->flagged_share);
		sba_json_number(&card, "injected_faults_found", trained->recall);
		add_metrics(&card, metrics, trained);
		add_correlation(&card, metrics, trained);
		add_drift(&card, metrics, trained);
	}
	sba_json_close(&card, '}');
	return card.text.data;
}
