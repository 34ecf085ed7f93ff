/*
 * model.c
 *	  A period's model: its bytes, and the verdict on a sample.
 *
 * Layout (all numbers little-endian):
 *
 *	  header		80 bytes, see the offsets below
 *	  tails			multivariate forest, sample evidence
 *	  metric[]		one record of METRIC_SIZE bytes for each metric
 *	  blocks		profiles, forests and the drift reference, at the offsets that
 *					the records and the header give; one that is not there has
 *					no bytes
 */
#include "core/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/crc32c.h"

#define MODEL_MAGIC			"SBAMODEL"
#define MODEL_VERSION		1

#define HEADER_VERSION		8
#define HEADER_FLAGS		10
#define HEADER_LENGTH		12
#define HEADER_CRC			16
#define HEADER_METRICS		20
#define HEADER_FEATURE_SET	24
#define HEADER_SEED			32
#define HEADER_ROWS			40
#define HEADER_HELDOUT		44
#define HEADER_FOREST		48	/* offset and length */
#define HEADER_DRIFT		56	/* offset and length */
#define HEADER_BORROWED		64
#define HEADER_RESERVED		68
#define HEADER_SIZE			80

#define TAIL_SIZE			((2 + SBA_TAIL_STEPS + 1) * 8)
#define PROFILE_SIZE		(SBA_PROFILE_VALUES * 4)

#define DRIFT_DEPENDENT		0
#define DRIFT_BLOCKS		8
#define DRIFT_MEANS			16	/* then the inverse covariance */

#define METRIC_FLAGS		0	/* u32: bit 0 known, bit 1 has a forest */
#define METRIC_PROFILE		4	/* u32 offset */
#define METRIC_FOREST		8	/* u32 offset, u32 length */
#define METRIC_BASELINE		16	/* offset, base, count and shape variance */
#define METRIC_TAILS		48	/* forest, high, low, high run, low run */
#define METRIC_QUANTILES	(METRIC_TAILS + 5 * TAIL_SIZE)
#define METRIC_KIND			(METRIC_QUANTILES + SBA_DEVIATION_QUANTILES * 4)
#define METRIC_NAME			(METRIC_KIND + 4)
#define METRIC_SIZE			(METRIC_NAME + SBA_METRIC_NAME_SIZE)

#define METRIC_KNOWN		1u
#define METRIC_HAS_FOREST	2u

/* Share of the contributions that the multivariate forest decides. */
#define FOREST_CONTRIBUTION_SHARE 0.25

/* A deviation beyond this many sigma is certain; being larger adds nothing. */
#define CERTAIN_SIGMAS 6.0

/* asin(sqrt(x)) moves by about a quarter of what a logarithm does. */
#define RATIO_EFFECT 4.0

/* Evidence that a metric needs to be called a signal: one in ten. */
#define SIGNAL_EVIDENCE 1.0

/* No calibration comes near; products of so many of them stay finite. */
#define MAX_TAIL_NUMBER 1e30

static void
store_tail(uint8_t *p, const SbaTail *tail)
{
	int			i;

	sba_store_f64(p, tail->reach);
	sba_store_f64(p + 8, tail->slope);
	for (i = 0; i <= SBA_TAIL_STEPS; i++)
		sba_store_f64(p + 16 + 8 * i, tail->quantile[i]);
}

/* Read a tail; false when it could not have been written by us. */
static bool
load_tail(const uint8_t *p, SbaTail *tail)
{
	int			i;

	tail->reach = sba_load_f64(p);
	tail->slope = sba_load_f64(p + 8);
	if (!(tail->reach > 0) || tail->reach > MAX_TAIL_NUMBER ||
		!(tail->slope >= 0) || tail->slope > MAX_TAIL_NUMBER)
		return false;
	for (i = 0; i <= SBA_TAIL_STEPS; i++)
	{
		tail->quantile[i] = sba_load_f64(p + 16 + 8 * i);
		if (!(fabs(tail->quantile[i]) <= MAX_TAIL_NUMBER) ||
			(i > 0 && tail->quantile[i] < tail->quantile[i - 1]))
			return false;
	}
	return true;
}

static void
store_metric(uint8_t *bytes, size_t record, size_t *end, const SbaMetricModel *metric)
{
	uint8_t    *p = bytes + record;
	int			i;

	sba_store_u32(p + METRIC_FLAGS, (metric->baseline.known ? METRIC_KNOWN : 0) |
				  (metric->has_forest ? METRIC_HAS_FOREST : 0));
	sba_store_u32(p + METRIC_KIND, (uint32_t) metric->kind);
	memcpy(p + METRIC_NAME, metric->name, strlen(metric->name));
	if (!metric->baseline.known)
		return;

	sba_store_u32(p + METRIC_PROFILE, (uint32_t) *end);
	memcpy(bytes + *end, metric->baseline.profile, PROFILE_SIZE);
	*end += PROFILE_SIZE;

	sba_store_f64(p + METRIC_BASELINE, metric->baseline.offset);
	sba_store_f64(p + METRIC_BASELINE + 8, metric->baseline.base_variance);
	sba_store_f64(p + METRIC_BASELINE + 16, metric->baseline.count_variance);
	sba_store_f64(p + METRIC_BASELINE + 24, metric->baseline.shape_variance);
	store_tail(p + METRIC_TAILS + TAIL_SIZE, &metric->high_tail);
	store_tail(p + METRIC_TAILS + 2 * TAIL_SIZE, &metric->low_tail);
	store_tail(p + METRIC_TAILS + 3 * TAIL_SIZE, &metric->high_run_tail);
	store_tail(p + METRIC_TAILS + 4 * TAIL_SIZE, &metric->low_run_tail);
	for (i = 0; i < SBA_DEVIATION_QUANTILES; i++)
		sba_store_f32(p + METRIC_QUANTILES + 4 * i, metric->quantile[i]);
	if (!metric->has_forest)
		return;

	store_tail(p + METRIC_TAILS, &metric->forest_tail);
	sba_store_u32(p + METRIC_FOREST, (uint32_t) *end);
	sba_store_u32(p + METRIC_FOREST + 4, (uint32_t) metric->forest.length);
	memcpy(bytes + *end, metric->forest.bytes, metric->forest.length);
	*end += metric->forest.length;
}

static size_t
drift_size(int n_metrics)
{
	return DRIFT_MEANS + 8 * (size_t) n_metrics * (size_t) (1 + n_metrics);
}

static void
store_drift(uint8_t *bytes, size_t *end, const SbaModel *model)
{
	uint8_t    *p = bytes + *end;
	size_t		size = drift_size(model->n_metrics);
	int			m;

	if (!model->drift.known)
		return;
	sba_store_u32(bytes + HEADER_DRIFT, (uint32_t) *end);
	sba_store_u32(bytes + HEADER_DRIFT + 4, (uint32_t) size);
	sba_store_f64(p + DRIFT_DEPENDENT, model->drift.dependent_rows);
	sba_store_f64(p + DRIFT_BLOCKS, model->drift.n_blocks);
	for (m = 0; m < model->n_metrics; m++)
		sba_store_f64(p + DRIFT_MEANS + 8 * m, model->drift.mean[m]);
	memcpy(p + DRIFT_MEANS + 8 * model->n_metrics, model->drift.inverse_covariance,
		   8 * (size_t) model->n_metrics * (size_t) model->n_metrics);
	*end += size;
}

SbaStatus
sba_model_encode(const SbaModel *model, uint8_t **bytes, size_t *length, SbaError *error)
{
	size_t		records = HEADER_SIZE + 2 * TAIL_SIZE;
	size_t		total = records + (size_t) model->n_metrics * METRIC_SIZE;
	size_t		end;
	int			m;
	uint8_t    *out;

	if (model->has_forest)
		total += model->forest.length;
	if (model->drift.known)
		total += drift_size(model->n_metrics);
	for (m = 0; m < model->n_metrics; m++)
	{
		if (model->metric[m].baseline.known)
			total += PROFILE_SIZE;
		if (model->metric[m].has_forest)
			total += model->metric[m].forest.length;
	}
	if (total > INT32_MAX)
		return sba_fail(error, SBA_INVALID_ARGUMENT, "model of %zu bytes is too large", total);
	out = calloc(1, total);
	if (out == NULL)
		return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory");

	memcpy(out, MODEL_MAGIC, 8);
	sba_store_u16(out + HEADER_VERSION, MODEL_VERSION);
	sba_store_u32(out + HEADER_LENGTH, (uint32_t) total);
	sba_store_u32(out + HEADER_METRICS, (uint32_t) model->n_metrics);
	sba_store_u64(out + HEADER_FEATURE_SET, model->feature_set);
	sba_store_u64(out + HEADER_SEED, model->seed);
	sba_store_u32(out + HEADER_ROWS, model->n_rows);
	sba_store_u32(out + HEADER_HELDOUT, model->n_heldout);
	sba_store_u32(out + HEADER_BORROWED, model->n_borrowed);
	store_tail(out + HEADER_SIZE, &model->forest_tail);
	store_tail(out + HEADER_SIZE + TAIL_SIZE, &model->evidence_tail);

	end = records + (size_t) model->n_metrics * METRIC_SIZE;
	for (m = 0; m < model->n_metrics; m++)
		store_metric(out, records + (size_t) m * METRIC_SIZE, &end, &model->metric[m]);
	store_drift(out, &end, model);
	if (model->has_forest)
	{
		sba_store_u32(out + HEADER_FOREST, (uint32_t) end);
		sba_store_u32(out + HEADER_FOREST + 4, (uint32_t) model->forest.length);
		memcpy(out + end, model->forest.bytes, model->forest.length);
	}

	sba_store_u32(out + HEADER_CRC, sba_crc32c(0, out, total));
	*bytes = out;
	*length = total;
	return SBA_OK;
}

/*
 * Checksum of the bytes with the checksum field taken as zero, as it was when
 * the sum was made.
 */
static uint32_t
model_checksum(const uint8_t *bytes, size_t length)
{
	static const uint8_t zero[4];
	uint32_t	crc = sba_crc32c(0, bytes, HEADER_CRC);

	crc = sba_crc32c(crc, zero, 4);
	return sba_crc32c(crc, bytes + HEADER_CRC + 4, length - HEADER_CRC - 4);
}

static SbaStatus
check_header(const uint8_t *bytes, size_t length, SbaError *error)
{
	uint32_t	n_metrics;

	if (length < HEADER_SIZE)
		return sba_fail(error, SBA_CORRUPT, "model is cut off after %zu bytes", length);
	if (memcmp(bytes, MODEL_MAGIC, 8) != 0)
		return sba_fail(error, SBA_CORRUPT, "these bytes are not a model");
	if (sba_load_u16(bytes + HEADER_VERSION) != MODEL_VERSION)
		return sba_fail(error, SBA_UNSUPPORTED_VERSION, "model has format version %u, this library reads version %u",
						sba_load_u16(bytes + HEADER_VERSION), MODEL_VERSION);
	if (sba_load_u16(bytes + HEADER_FLAGS) != 0)
		return sba_fail(error, SBA_UNSUPPORTED_VERSION, "model has flags that this library does not know");
	if (sba_load_u32(bytes + HEADER_LENGTH) != length)
		return sba_fail(error, SBA_CORRUPT, "model says it has %u bytes, there are %zu",
						sba_load_u32(bytes + HEADER_LENGTH), length);
	if (sba_load_u32(bytes + HEADER_CRC) != model_checksum(bytes, length))
		return sba_fail(error, SBA_CORRUPT, "checksum of the model does not match");
	n_metrics = sba_load_u32(bytes + HEADER_METRICS);
	if (n_metrics < 1 || n_metrics > SBA_MAX_METRICS)
		return sba_fail(error, SBA_CORRUPT, "model has %u metrics", n_metrics);
	if (length < HEADER_SIZE + 2 * TAIL_SIZE + (size_t) n_metrics * METRIC_SIZE)
		return sba_fail(error, SBA_CORRUPT, "model is too short for its %u metrics", n_metrics);
	if (sba_load_u32(bytes + HEADER_RESERVED) != 0 || sba_load_u64(bytes + HEADER_RESERVED + 4) != 0)
		return sba_fail(error, SBA_CORRUPT, "reserved bytes of the model are not zero");
	return SBA_OK;
}

/* Open the forest that an offset and a length at p point to. */
static SbaStatus
open_forest(const uint8_t *bytes, size_t length, const uint8_t *p,
			uint32_t n_features, SbaForest *forest, SbaError *error)
{
	size_t		offset = sba_load_u32(p);
	size_t		size = sba_load_u32(p + 4);
	SbaStatus	status;

	if (offset > length || size > length - offset)
		return sba_fail(error, SBA_CORRUPT, "a forest lies outside the model");
	status = sba_forest_open(bytes + offset, size, forest, error);
	if (status == SBA_OK && forest->n_features != n_features)
		return sba_fail(error, SBA_CORRUPT, "a forest of the model has %u features instead of %u",
						forest->n_features, n_features);
	return status;
}

/* Open the drift reference that the header points to, if there is one. */
static SbaStatus
open_drift(const uint8_t *bytes, size_t length, SbaModel *model, SbaError *error)
{
	SbaDriftReference *drift = &model->drift;
	size_t		offset = sba_load_u32(bytes + HEADER_DRIFT);
	size_t		size = sba_load_u32(bytes + HEADER_DRIFT + 4);
	const uint8_t *p = bytes + offset;
	int			i;

	if (size == 0)
		return SBA_OK;
	if (offset > length || size > length - offset || size != drift_size(model->n_metrics))
		return sba_fail(error, SBA_CORRUPT, "the drift reference lies outside the model");
	for (i = 0; i < model->n_metrics * (1 + model->n_metrics); i++)
		if (!(fabs(sba_load_f64(p + DRIFT_MEANS + 8 * i)) <= MAX_TAIL_NUMBER))
			return sba_fail(error, SBA_CORRUPT, "the drift reference of the model holds no number");
	drift->known = true;
	drift->dependent_rows = sba_load_f64(p + DRIFT_DEPENDENT);
	drift->n_blocks = sba_load_f64(p + DRIFT_BLOCKS);
	if (!(drift->dependent_rows >= 1 && drift->dependent_rows <= MAX_TAIL_NUMBER) ||
		!(drift->n_blocks >= 1 && drift->n_blocks <= MAX_TAIL_NUMBER))
		return sba_fail(error, SBA_CORRUPT, "the drift reference of the model counts impossible rows");
	for (i = 0; i < model->n_metrics; i++)
		drift->mean[i] = sba_load_f64(p + DRIFT_MEANS + 8 * i);
	drift->inverse_covariance = p + DRIFT_MEANS + 8 * model->n_metrics;
	return SBA_OK;
}

static SbaStatus
open_metric(const uint8_t *bytes, size_t length, const uint8_t *p,
			SbaMetricModel *metric, SbaError *error)
{
	uint32_t	flags = sba_load_u32(p + METRIC_FLAGS);
	size_t		profile = sba_load_u32(p + METRIC_PROFILE);
	SbaBaseline *baseline = &metric->baseline;
	int			i;

	baseline->known = (flags & METRIC_KNOWN) != 0;
	metric->has_forest = (flags & METRIC_HAS_FOREST) != 0;
	if ((flags & ~(METRIC_KNOWN | METRIC_HAS_FOREST)) != 0 || flags == METRIC_HAS_FOREST)
		return sba_fail(error, SBA_CORRUPT, "a metric of the model has flags %u", flags);
	memcpy(metric->name, p + METRIC_NAME, SBA_METRIC_NAME_SIZE);
	if (metric->name[0] == '\0' || metric->name[SBA_METRIC_NAME_SIZE - 1] != '\0')
		return sba_fail(error, SBA_CORRUPT, "a metric of the model has no proper name");
	if (sba_load_u32(p + METRIC_KIND) > SBA_KIND_RATIO)
		return sba_fail(error, SBA_CORRUPT, "a metric of the model is of kind %u", sba_load_u32(p + METRIC_KIND));
	metric->kind = (SbaMetricKind) sba_load_u32(p + METRIC_KIND);
	if (!baseline->known)
		return SBA_OK;

	if (profile > length || length - profile < PROFILE_SIZE)
		return sba_fail(error, SBA_CORRUPT, "a profile lies outside the model");
	baseline->profile = bytes + profile;
	baseline->offset = sba_load_f64(p + METRIC_BASELINE);
	baseline->base_variance = sba_load_f64(p + METRIC_BASELINE + 8);
	baseline->count_variance = sba_load_f64(p + METRIC_BASELINE + 16);
	baseline->shape_variance = sba_load_f64(p + METRIC_BASELINE + 24);
	if (!(baseline->offset > 0) || !(baseline->base_variance > 0) || !(baseline->count_variance >= 0) ||
		!(baseline->shape_variance > 0) || !isfinite(baseline->shape_variance) ||
		!isfinite(baseline->offset) || !isfinite(baseline->base_variance) || !isfinite(baseline->count_variance))
		return sba_fail(error, SBA_CORRUPT, "a metric of the model has an impossible noise");
	for (i = 0; i < SBA_PROFILE_VALUES; i++)
		if (!isfinite(sba_load_f32(baseline->profile + 4 * i)))
			return sba_fail(error, SBA_CORRUPT, "a profile of the model is not finite");
	for (i = 0; i < SBA_DEVIATION_QUANTILES; i++)
	{
		metric->quantile[i] = sba_load_f32(p + METRIC_QUANTILES + 4 * i);
		if (!isfinite(metric->quantile[i]) || (i > 0 && metric->quantile[i] < metric->quantile[i - 1]))
			return sba_fail(error, SBA_CORRUPT, "quantiles of the model do not ascend");
	}
	if (!load_tail(p + METRIC_TAILS + TAIL_SIZE, &metric->high_tail) ||
		!load_tail(p + METRIC_TAILS + 2 * TAIL_SIZE, &metric->low_tail) ||
		!load_tail(p + METRIC_TAILS + 3 * TAIL_SIZE, &metric->high_run_tail) ||
		!load_tail(p + METRIC_TAILS + 4 * TAIL_SIZE, &metric->low_run_tail) ||
		(metric->has_forest && !load_tail(p + METRIC_TAILS, &metric->forest_tail)))
		return sba_fail(error, SBA_CORRUPT, "a calibration of the model does not ascend");
	if (metric->has_forest)
		return open_forest(bytes, length, p + METRIC_FOREST, 1, &metric->forest, error);
	return SBA_OK;
}

SbaStatus
sba_model_open(const uint8_t *bytes, size_t length, SbaModel *model, SbaError *error)
{
	SbaStatus	status = check_header(bytes, length, error);
	int			m;

	if (status != SBA_OK)
		return status;
	memset(model, 0, sizeof(*model));
	model->n_metrics = (int) sba_load_u32(bytes + HEADER_METRICS);
	model->feature_set = sba_load_u64(bytes + HEADER_FEATURE_SET);
	model->seed = sba_load_u64(bytes + HEADER_SEED);
	model->n_rows = sba_load_u32(bytes + HEADER_ROWS);
	model->n_heldout = sba_load_u32(bytes + HEADER_HELDOUT);
	model->n_borrowed = sba_load_u32(bytes + HEADER_BORROWED);
	if (model->n_borrowed > model->n_rows || model->n_heldout > model->n_rows)
		return sba_fail(error, SBA_CORRUPT, "model counts more samples than it was trained on");
	model->has_forest = sba_load_u32(bytes + HEADER_FOREST + 4) > 0;
	if ((model->has_forest && !load_tail(bytes + HEADER_SIZE, &model->forest_tail)) ||
		!load_tail(bytes + HEADER_SIZE + TAIL_SIZE, &model->evidence_tail))
		return sba_fail(error, SBA_CORRUPT, "a calibration of the model does not ascend");
	status = open_drift(bytes, length, model, error);
	if (status == SBA_OK && model->has_forest)
		status = open_forest(bytes, length, bytes + HEADER_FOREST, (uint32_t) model->n_metrics,
							 &model->forest, error);
	for (m = 0; m < model->n_metrics && status == SBA_OK; m++)
		status = open_metric(bytes, length, bytes + HEADER_SIZE + 2 * TAIL_SIZE + (size_t) m * METRIC_SIZE,
							 &model->metric[m], error);
	return status;
}

double
sba_metric_evidence(const SbaMetricModel *metric, double deviation, double *forest_score)
{
	double		evidence = deviation > 0 ?
	sba_tail_evidence(&metric->high_tail, deviation) :
	sba_tail_evidence(&metric->low_tail, -deviation);

	*forest_score = 0;
	if (metric->has_forest)
	{
		*forest_score = sba_forest_score_one(&metric->forest, &deviation);
		evidence = fmax(evidence, sba_tail_evidence(&metric->forest_tail, *forest_score));
	}
	return evidence;
}

double
sba_run_evidence(const SbaMetricModel *metric, double deviation, double run)
{
	if (isnan(run) || (run > 0) != (deviation > 0))
		return 0;
	return run > 0 ? sba_tail_evidence(&metric->high_run_tail, run) :
		sba_tail_evidence(&metric->low_run_tail, -run);
}

static bool
hurts(const SbaMetric *metric, double deviation)
{
	return metric->direction == SBA_DIRECTION_BOTH ||
		(metric->direction == SBA_DIRECTION_HIGH && deviation > 0) ||
		(metric->direction == SBA_DIRECTION_LOW && deviation < 0);
}

double
sba_sample_evidence(const SbaMetric *metrics, int n_metrics, const double *deviation,
					const double *metric_evidence, double forest_evidence, const bool *usable)
{
	double		largest = 0;
	bool		any = usable == NULL;
	int			m;

	for (m = 0; m < n_metrics; m++)
	{
		if (isnan(deviation[m]) || !hurts(&metrics[m], deviation[m]))
			continue;
		if (usable != NULL && !usable[m])
			continue;
		any = true;
		largest = fmax(largest, metric_evidence[m]);
	}
	return any ? fmax(largest, forest_evidence) : 0;
}

/* Whether a deviation is large enough for anyone to care. */
static bool
matters(const SbaMetric *metric, double value, double expected)
{
	double		deviation = fabs(value - expected);
	const SbaDeviationBar *bar = value > expected ? &metric->bar_above : &metric->bar_below;

	return deviation >= fmax(metric->min_absolute_deviation, bar->absolute) &&
		deviation >= fmax(metric->min_relative_deviation, bar->relative) * fabs(expected);
}

/* Percentile of a deviation among those learnt from, 0 to 100. */
static double
percentile_of(const SbaMetricModel *metric, double deviation)
{
	int			i;

	if (deviation <= metric->quantile[0])
		return 0;
	for (i = 1; i < SBA_DEVIATION_QUANTILES; i++)
	{
		if (deviation < metric->quantile[i])
		{
			double		width = metric->quantile[i] - metric->quantile[i - 1];

			return 100.0 * (i - 1 + (deviation - metric->quantile[i - 1]) / width) /
				(SBA_DEVIATION_QUANTILES - 1);
		}
	}
	return 100;
}

/*
 * How much a metric's own deviation speaks for it being the cause: how certain
 * it is, times how large.  Sigmas alone would blame the quietest metric, such
 * as an application's latency for what a dependency's does to it.
 */
static double
blame(const SbaMetricModel *learnt, const SbaFeatures *features, int m, double evidence)
{
	double		effect = fabs(features->z[m] - features->expected_z[m]);

	if (evidence < SIGNAL_EVIDENCE)
		return 0;
	if (learnt->kind == SBA_KIND_RATIO)
		effect *= RATIO_EFFECT;
	return fmin(fabs(features->deviation[m]), CERTAIN_SIGMAS) * effect;
}

void
sba_model_explain(const SbaModel *model, const SbaFeatures *features, SbaVerdict *verdict)
{
	double		by_forest[SBA_MAX_METRICS];
	double		by_deviation[SBA_MAX_METRICS] = {0};
	double		sum = 0;
	bool		isolated;
	int			m;

	if (!verdict->is_anomaly)
		return;
	isolated = model->has_forest && sba_forest_contributions(&model->forest, features->deviation, by_forest);
	for (m = 0; m < model->n_metrics; m++)
	{
		if (verdict->metric[m].present)
			by_deviation[m] = blame(&model->metric[m], features, m, verdict->metric[m].evidence);
		sum += by_deviation[m];
	}
	for (m = 0; m < model->n_metrics; m++)
	{
		SbaMetricVerdict *metric = &verdict->metric[m];

		if (sum > 0 && isolated)
			metric->contribution = (1 - FOREST_CONTRIBUTION_SHARE) * by_deviation[m] / sum +
				FOREST_CONTRIBUTION_SHARE * by_forest[m];
		else
			metric->contribution = sum > 0 ? by_deviation[m] / sum : isolated ? by_forest[m] : 0;
	}
}

void
sba_model_evaluate(const SbaModel *model, const SbaMetric *metrics, const double *values,
				   const SbaFeatures *features, double budget_probability, SbaVerdict *verdict)
{
	double		evidence[SBA_MAX_METRICS];
	double		forest_evidence = 0;
	double		univariate;
	bool		usable[SBA_MAX_METRICS];
	int			m;

	memset(verdict, 0, sizeof(*verdict));
	for (m = 0; m < model->n_metrics; m++)
	{
		const SbaMetricModel *learnt = &model->metric[m];
		SbaMetricVerdict *metric = &verdict->metric[m];
		double		expected_z = features->expected_z[m];
		double		by_run;

		usable[m] = false;
		evidence[m] = 0;
		if (!learnt->baseline.known)
			continue;
		verdict->n_known++;
		sba_expected_band(learnt->kind, learnt->baseline.offset, expected_z, features->sigma[m],
						  &metric->expected, &metric->lower, &metric->upper);
		if (isnan(features->deviation[m]))
			continue;
		metric->present = true;
		verdict->n_present++;
		metric->deviation_sigma = features->deviation[m];
		metric->percentile = percentile_of(learnt, features->deviation[m]);
		metric->evidence = evidence[m] =
			sba_metric_evidence(learnt, features->deviation[m], &metric->forest_score);
		usable[m] = hurts(&metrics[m], features->deviation[m]) &&
			matters(&metrics[m], values[m], metric->expected);
		by_run = sba_run_evidence(learnt, features->deviation[m], features->run[m]);
		if (by_run > 0 && hurts(&metrics[m], features->run[m]) &&
			matters(&metrics[m], sba_inverse_transform(learnt->kind, learnt->baseline.offset,
													   expected_z + features->run[m] * features->sigma[m]),
					metric->expected))
		{
			usable[m] = true;
			metric->evidence = evidence[m] = fmax(evidence[m], by_run);
		}
		metric->is_signal = usable[m] && evidence[m] >= SIGNAL_EVIDENCE;
	}

	if (model->has_forest)
	{
		verdict->forest_score = sba_forest_score_one(&model->forest, features->deviation);
		forest_evidence = sba_tail_evidence(&model->forest_tail, verdict->forest_score);
	}
	univariate = sba_sample_evidence(metrics, model->n_metrics, features->deviation, evidence, 0, usable);
	verdict->is_multivariate = forest_evidence > univariate;
	verdict->evidence = sba_tail_evidence(&model->evidence_tail,
										  sba_sample_evidence(metrics, model->n_metrics, features->deviation,
															  evidence, forest_evidence, usable));
	verdict->score = sba_score_of_evidence(verdict->evidence, budget_probability);
	for (m = 0; m < model->n_metrics; m++)
		verdict->is_anomaly |= verdict->score < 0 && verdict->metric[m].is_signal;
	if (!verdict->is_anomaly)
		verdict->score = fmax(verdict->score, 0);
}

double
sba_model_confidence(const SbaModel *model, bool is_multivariate)
{
	double		needed = is_multivariate ? SBA_FULL_ROWS_MULTIVARIATE : SBA_FULL_ROWS_UNIVARIATE;

	return fmin((model->n_rows - model->n_borrowed / 2.0) / needed, 1);
}

int
sba_leading_signal(const SbaVerdict *verdict, int n_metrics)
{
	int			leading = -1;
	int			m;

	for (m = 0; m < n_metrics; m++)
		if (verdict->metric[m].is_signal &&
			(leading < 0 || verdict->metric[m].contribution > verdict->metric[leading].contribution))
			leading = m;
	return leading;
}
