/*
 * features.c
 *	  From a sample and the history before it to what the forests see.
 */
#include "core/features.h"

#include <string.h>

#include "core/bytes.h"

/* Half a band of 24 hours is enough to trust the level wholly. */
#define LEVEL_FULL_WEIGHT_SAMPLES 36

#define HALF_PI 1.57079632679489661923

/* Beyond it the exponential is no finite number. */
#define LARGEST_LOGARITHM 700.0

/* A mean over less than one request cannot be; it keeps sigma finite. */
#define MIN_REQUESTS 1.0

/* FNV-1a, 64 bits */
static uint64_t
hash_byte(uint64_t hash, unsigned char byte)
{
	return (hash ^ byte) * UINT64_C(1099511628211);
}

uint64_t
sba_feature_set_hash(const SbaMetric *metrics, int n_metrics)
{
	uint64_t	hash = UINT64_C(14695981039346656037);
	int			i;

	hash = hash_byte(hash, SBA_FEATURE_VERSION);
	for (i = 0; i < n_metrics; i++)
	{
		const char *c = metrics[i].name;

		/* with its ending zero, so that names cannot run into each other */
		do
			hash = hash_byte(hash, (unsigned char) *c);
		while (*c++ != '\0');
		hash = hash_byte(hash, (unsigned char) metrics[i].kind);
	}
	return hash;
}

double
sba_transform(SbaMetricKind kind, double offset, double value)
{
	if (kind == SBA_KIND_RATIO)
		return asin(sqrt(fmin(fmax(value, 0.0), 1.0)));
	return log(fmax(value, 0.0) + offset);
}

double
sba_inverse_transform(SbaMetricKind kind, double offset, double z)
{
	if (kind == SBA_KIND_RATIO)
	{
		double		root = sin(fmin(fmax(z, 0.0), HALF_PI));

		return root * root;
	}
	return fmax(exp(z > LARGEST_LOGARITHM ? LARGEST_LOGARITHM : z) - offset, 0.0);
}

int
sba_profile_slot(int minute_of_week)
{
	int			day = minute_of_week / SBA_MINUTES_PER_DAY;
	int			minute = minute_of_week % SBA_MINUTES_PER_DAY;
	int			day_type = day >= 5 ? 1 : 0;

	return day_type * SBA_SLOTS_PER_DAY +
		minute / (SBA_MINUTES_PER_DAY / SBA_SLOTS_PER_DAY);
}

size_t
sba_level_window_size(int n_metrics, size_t capacity)
{
	return capacity * (sizeof(int64_t) + 2 * (size_t) n_metrics * sizeof(float));
}

void
sba_level_window_init(SbaLevelWindow *window, int n_metrics, size_t capacity, void *memory)
{
	memset(window, 0, sizeof(*window));
	window->n_metrics = n_metrics;
	window->capacity = capacity;
	window->time_s = memory;
	window->residual = (float *) (window->time_s + capacity);
	window->sorted = window->residual + capacity * (size_t) n_metrics;
}

/* First position in sorted whose value is not less than value. */
static size_t
lower_bound(const float *sorted, size_t n, float value)
{
	size_t		low = 0;

	while (low < n)
	{
		size_t		middle = low + (n - low) / 2;

		if (sorted[middle] < value)
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

static void
drop_oldest(SbaLevelWindow *window)
{
	const float *residual = window->residual + window->first * (size_t) window->n_metrics;
	int			m;

	for (m = 0; m < window->n_metrics; m++)
	{
		float	   *sorted = window->sorted + (size_t) m * window->capacity;
		size_t		position;

		if (isnan(residual[m]))
			continue;
		position = lower_bound(sorted, window->n_sorted[m], residual[m]);
		window->n_sorted[m]--;
		memmove(sorted + position, sorted + position + 1,
				(window->n_sorted[m] - position) * sizeof(float));
	}
	window->first = (window->first + 1) % window->capacity;
	window->count--;
}

static double
profile_value(const SbaBaseline *baseline, int slot)
{
	return sba_load_f32(baseline->profile + (size_t) slot * sizeof(float));
}

void
sba_level_window_add(SbaLevelWindow *window, const SbaMetric *metrics,
					 const SbaBaseline *baselines, int64_t time_s,
					 int minute_of_week, const double *values)
{
	int			slot = sba_profile_slot(minute_of_week);
	size_t		last;
	int			m;

	while (window->count > 0 &&
		   (window->count == window->capacity ||
			window->time_s[window->first] <= time_s - SBA_LEVEL_SPAN_S))
		drop_oldest(window);

	last = (window->first + window->count) % window->capacity;
	window->time_s[last] = time_s;
	window->count++;
	for (m = 0; m < window->n_metrics; m++)
	{
		float	   *residual = window->residual + last * (size_t) window->n_metrics + m;
		float	   *sorted = window->sorted + (size_t) m * window->capacity;
		size_t		position;

		if (!baselines[m].known || isnan(values[m]))
		{
			*residual = NAN;
			continue;
		}
		*residual = (float) (sba_transform(metrics[m].kind, baselines[m].offset, values[m])
							 - profile_value(&baselines[m], slot));
		position = lower_bound(sorted, window->n_sorted[m], *residual);
		memmove(sorted + position + 1, sorted + position,
				(window->n_sorted[m] - position) * sizeof(float));
		sorted[position] = *residual;
		window->n_sorted[m]++;
	}
}

/* Median of the last 24 hours' residuals, drawn to 0 when there are few. */
static double
window_level(const SbaLevelWindow *window, int metric)
{
	const float *sorted = window->sorted + (size_t) metric * window->capacity;
	size_t		n = window->n_sorted[metric];
	double		median;

	if (n == 0)
		return 0.0;
	median = (sorted[(n - 1) / 2] + (double) sorted[n / 2]) / 2;
	return median * fmin(1.0, (double) n / LEVEL_FULL_WEIGHT_SAMPLES);
}

void
sba_compute_features(const SbaMetric *metrics, const SbaBaseline *baselines,
					 const SbaLevelWindow *window, int minute_of_week,
					 int interval_s, const double *values, SbaFeatures *features)
{
	int			slot = sba_profile_slot(minute_of_week);
	int			m;

	for (m = 0; m < window->n_metrics; m++)
	{
		features->expected_z[m] = NAN;
		if (baselines[m].known)
			features->expected_z[m] = profile_value(&baselines[m], slot) + window_level(window, m);
	}
	sba_compute_deviations(metrics, baselines, window->n_metrics, interval_s, values, features);
}

void
sba_compute_deviations(const SbaMetric *metrics, const SbaBaseline *baselines,
					   int n_metrics, int interval_s, const double *values,
					   SbaFeatures *features)
{
	double		requests = INFINITY;
	double		expected_requests = INFINITY;
	int			m;

	for (m = 0; m < n_metrics; m++)
	{
		if (metrics[m].counts_requests && baselines[m].known)
		{
			double		expected = sba_inverse_transform(metrics[m].kind, baselines[m].offset,
														 features->expected_z[m]);

			expected_requests = expected * interval_s;
			requests = (isnan(values[m]) ? expected : values[m]) * interval_s;
		}
	}

	for (m = 0; m < n_metrics; m++)
	{
		/*
		 * A rate is judged by how many requests there should have been: few
		 * of them are the finding, not the noise.
		 */
		double		n = metrics[m].counts_requests ? expected_requests : requests;

		features->z[m] = features->sigma[m] = features->deviation[m] = NAN;
		if (!baselines[m].known)
			continue;
		features->sigma[m] = sqrt(baselines[m].base_variance +
								  baselines[m].count_variance / fmax(n, MIN_REQUESTS));
		if (isnan(values[m]))
			continue;
		features->z[m] = sba_transform(metrics[m].kind, baselines[m].offset, values[m]);
		features->deviation[m] = (features->z[m] - features->expected_z[m]) / features->sigma[m];
	}
}
