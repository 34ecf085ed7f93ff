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

/* What is usual ends so far from what is expected. */
#define BAND_SIGMAS 3.0

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

void
sba_expected_band(SbaMetricKind kind, double offset, double expected_z, double sigma,
				  double *expected, double *lower, double *upper)
{
	*expected = sba_inverse_transform(kind, offset, expected_z);
	*lower = sba_inverse_transform(kind, offset, expected_z - BAND_SIGMAS * sigma);
	*upper = sba_inverse_transform(kind, offset, expected_z + BAND_SIGMAS * sigma);
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
sba_level_window_capacity(const int64_t *time_s, size_t n)
{
	size_t		largest = 1;
	size_t		first = 0;
	size_t		i;

	for (i = 0; i < n; i++)
	{
		while (time_s[first] <= time_s[i] - SBA_LEVEL_SPAN_S)
			first++;
		if (i - first + 1 > largest)
			largest = i - first + 1;
	}
	return largest;
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

/*
 * First position in sorted whose value is not less than value.  A product
 * instead of a condition, of which compilers make a branch, since there is no
 * telling where a residual lies.
 */
static size_t
lower_bound(const float *sorted, size_t n, float value)
{
	size_t		first = 0;

	if (n == 0)
		return 0;
	while (n > 1)
	{
		size_t		half = n / 2;

		first += half * (size_t) (sorted[first + half - 1] < value);
		n -= half;
	}
	return first + (sorted[first] < value);
}

/*
 * Take a value out of a metric's sorted ones and put another in, moving what
 * lies between them; NaN stands for none.
 */
static void
replace_sorted(float *sorted, size_t *n, float old_value, float new_value)
{
	size_t		from;
	size_t		to;

	if (isnan(old_value))
	{
		if (isnan(new_value))
			return;
		to = lower_bound(sorted, *n, new_value);
		memmove(sorted + to + 1, sorted + to, (*n - to) * sizeof(float));
		sorted[to] = new_value;
		++*n;
		return;
	}
	from = lower_bound(sorted, *n, old_value);
	if (isnan(new_value))
	{
		--*n;
		memmove(sorted + from, sorted + from + 1, (*n - from) * sizeof(float));
		return;
	}
	to = lower_bound(sorted, *n, new_value);
	if (to > from)
	{
		to--;
		memmove(sorted + from, sorted + from + 1, (to - from) * sizeof(float));
	}
	else
		memmove(sorted + to + 1, sorted + to, (from - to) * sizeof(float));
	sorted[to] = new_value;
}

/* Drop the oldest sample and take a new one's residuals; NULL for no new one. */
static void
replace_oldest(SbaLevelWindow *window, const float *residual)
{
	const float *oldest = window->residual + window->first * (size_t) window->n_metrics;
	int			m;

	for (m = 0; m < window->n_metrics; m++)
		replace_sorted(window->sorted + (size_t) m * window->capacity, &window->n_sorted[m],
					   oldest[m], residual == NULL ? NAN : residual[m]);
	window->first = (window->first + 1) % window->capacity;
	window->count--;
}

void
sba_level_window_push(SbaLevelWindow *window, int64_t time_s, const float *residual)
{
	int64_t		limit = time_s - SBA_LEVEL_SPAN_S;
	bool		replaced = false;
	size_t		last;
	int			m;

	while (window->count > 0 &&
		   (window->count == window->capacity || window->time_s[window->first] <= limit))
	{
		size_t		second = (window->first + 1) % window->capacity;

		/* the last one that goes makes room for the new one */
		replaced = window->count == 1 || window->time_s[second] > limit;
		replace_oldest(window, replaced ? residual : NULL);
	}

	last = (window->first + window->count) % window->capacity;
	window->time_s[last] = time_s;
	memcpy(window->residual + last * (size_t) window->n_metrics, residual,
		   (size_t) window->n_metrics * sizeof(float));
	window->count++;
	for (m = 0; m < window->n_metrics && !replaced; m++)
		replace_sorted(window->sorted + (size_t) m * window->capacity, &window->n_sorted[m],
					   NAN, residual[m]);
}

double
sba_profile_value(const SbaBaseline *baseline, int slot)
{
	return sba_load_f32(baseline->profile + (size_t) slot * sizeof(float));
}

int
sba_other_kind_of_slot(int slot)
{
	return slot < SBA_SLOTS_PER_DAY ? slot + SBA_SLOTS_PER_DAY : slot - SBA_SLOTS_PER_DAY;
}

double
sba_usual_value(const SbaBaseline *baseline, int minute_of_week)
{
	int			habit = SBA_PROFILE_SLOTS + minute_of_week / (SBA_MINUTES_PER_WEEK / SBA_HABIT_SLOTS);

	return sba_profile_value(baseline, sba_profile_slot(minute_of_week)) +
		sba_load_f32(baseline->profile + (size_t) habit * sizeof(float));
}

double
sba_level_window_level(const SbaLevelWindow *window, int metric)
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

		features->sigma[m] = features->deviation[m] = NAN;
		if (!baselines[m].known)
			continue;
		features->sigma[m] = sqrt(baselines[m].base_variance +
								  baselines[m].count_variance / fmax(n, MIN_REQUESTS));
		features->deviation[m] = (features->z[m] - features->expected_z[m]) / features->sigma[m];
	}
}
