/*
 * model.h
 *	  What was learnt for one service in one period of the week: how its
 *	  metrics usually behave, the isolation forests over their deviations, and
 *	  how rare each degree of strangeness is.
 *
 * A model is one flat run of bytes, little-endian, versioned and checksummed,
 * and is used where it lies.  It is untrusted input: sba_model_open() checks
 * everything that evaluation relies on.
 */
#ifndef SBA_CORE_MODEL_H
#define SBA_CORE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/calibration.h"
#include "core/drift.h"
#include "core/features.h"
#include "core/forest.h"
#include "core/metric.h"
#include "core/status.h"

/* Rows that give a verdict of one metric, or of several, full confidence. */
#define SBA_FULL_ROWS_UNIVARIATE	500
#define SBA_FULL_ROWS_MULTIVARIATE	1000

/* Quantiles of the deviation, for percentiles: at 0, 1/32, ..., 1. */
#define SBA_DEVIATION_QUANTILES 33

/* One metric's part of a model. */
typedef struct SbaMetricModel
{
	char		name[SBA_METRIC_NAME_SIZE];
	SbaMetricKind kind;
	SbaBaseline baseline;
	bool		has_forest;
	SbaForest	forest;			/* univariate, over the deviation */
	SbaTail		forest_tail;	/* of its scores */
	SbaTail		high_tail;		/* of the deviation */
	SbaTail		low_tail;		/* of the deviation with its sign changed */
	SbaTail		high_run_tail;	/* of the run, and with its sign changed */
	SbaTail		low_run_tail;
	float		quantile[SBA_DEVIATION_QUANTILES];
} SbaMetricModel;

/* A checked model.  Points into the caller's bytes, which must outlive it. */
typedef struct SbaModel
{
	int			n_metrics;
	uint64_t	feature_set;
	uint64_t	seed;
	uint32_t	n_rows;			/* samples learnt from, held-out and borrowed
								 * ones included */
	uint32_t	n_heldout;
	uint32_t	n_borrowed;		/* of these, rows of other periods */
	bool		has_forest;		/* false: too few rows, thresholds alone */
	SbaForest	forest;			/* multivariate, over all deviations */
	SbaTail		forest_tail;
	SbaTail		evidence_tail;	/* of the largest evidence of a sample */
	SbaDriftReference drift;
	SbaMetricModel metric[SBA_MAX_METRICS];
} SbaModel;

/* What a model says of one metric of a sample. */
typedef struct SbaMetricVerdict
{
	bool		present;		/* a value and a usual behaviour to compare
								 * with */
	bool		is_signal;		/* strange, in a direction that hurts, and
								 * large enough to matter */
	double		expected;		/* in the metric's unit */
	double		lower;			/* band of three sigma around it */
	double		upper;
	double		deviation_sigma;
	double		percentile;		/* 0..100, among the samples learnt from */
	double		forest_score;	/* univariate forest, 0..1 */
	double		evidence;		/* decades */
	double		contribution;	/* share of the sample's strangeness; set by
								 * sba_model_explain() */
} SbaMetricVerdict;

/* What a model says of a sample. */
typedef struct SbaVerdict
{
	bool		is_anomaly;
	bool		is_multivariate;	/* the combination says more than any
									 * metric */
	double		score;			/* calibrated: see sba_score_of_evidence */
	double		forest_score;	/* multivariate forest, 0..1 */
	double		evidence;
	int			n_present;
	int			n_known;		/* metrics that the service has */
	SbaMetricVerdict metric[SBA_MAX_METRICS];
} SbaVerdict;

/*
 * Check length bytes and describe them in *model.  No allocation.
 * Errors: SBA_CORRUPT, SBA_UNSUPPORTED_VERSION.
 */
extern SbaStatus sba_model_open(const uint8_t *bytes, size_t length,
								SbaModel *model, SbaError *error);

/*
 * The model as bytes: *bytes is malloc'ed, to be freed by the caller.  The
 * model's forests and profiles may lie anywhere.
 */
extern SbaStatus sba_model_encode(const SbaModel *model,
								  uint8_t **bytes, size_t *length,
								  SbaError *error);

/*
 * Judge a sample by its features.  metrics describes the model's metrics, in
 * the model's order.  budget_probability is how often a normal
 * sample may look like an anomaly.
 */
extern void sba_model_evaluate(const SbaModel *model, const SbaMetric *metrics,
							   const double *values, const SbaFeatures *features,
							   double budget_probability, SbaVerdict *verdict);

/*
 * Share each metric's contribution to the strangeness of an evaluated sample:
 * three quarters by how certain and how large its deviation is, the rest by how
 * the multivariate forest isolated the sample.  The contributions sum to 1, or are
 * all 0 when the sample is no anomaly: then nothing stands out.
 */
extern void sba_model_explain(const SbaModel *model, const SbaFeatures *features,
							  SbaVerdict *verdict);

/*
 * The signal that contributes most to an explained verdict, which names the
 * anomaly; -1 when there is none.
 */
extern int	sba_leading_signal(const SbaVerdict *verdict, int n_metrics);

/*
 * Evidence of one metric's deviation, from its forest's score and from how
 * far out it is; *forest_score is set to 0 when the metric has no forest.
 */
extern double sba_metric_evidence(const SbaMetricModel *metric, double deviation,
								  double *forest_score);

/*
 * Evidence of one metric's run, when it goes the same way as the deviation;
 * else 0.
 */
extern double sba_run_evidence(const SbaMetricModel *metric, double deviation, double run);

/*
 * The largest evidence in a sample: of its metrics in the direction that
 * hurts, and of the multivariate forest.  usable, when not NULL, says which
 * metrics may speak for themselves.
 */
extern double sba_sample_evidence(const SbaMetric *metrics, int n_metrics,
								  const double *deviation,
								  const double *metric_evidence,
								  double forest_evidence, const bool *usable);

/*
 * Confidence, 0 to 1, that the number of rows gives: in proportion to those that
 * are needed, a borrowed row counting half.
 */
extern double sba_model_confidence(const SbaModel *model, bool is_multivariate);

#endif							/* SBA_CORE_MODEL_H */
