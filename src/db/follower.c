/*
 * follower.c
 *	  Trackers of services, kept by a session from one detection to the next.
 *
 * Looking at two days of samples takes half as long as all the rest of a
 * detection.  A session that judges a service each cycle has seen all but the
 * newest of them already.  What was seen is remembered as a hash of each sample,
 * so that a tracker is used only where nothing was corrected behind it.
 */
#include "postgres.h"

#include <math.h>

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "db/follower.h"
#include "pg/settings.h"

/* Samples that 24 hours may hold beyond those that they held so far. */
#define SPARE_SAMPLES 32

typedef struct Follower
{
	char		service[SBA_SERVICE_KEY_SIZE];	/* hash key, must be first */
	MemoryContext memory;
	bool		is_valid;		/* not in the middle of a change */
	TimestampTz trained_at;
	uint64		feature_set;
	int			interval_s;
	int			catalog_index[SBA_MAX_METRICS];
	SbaMetric	metrics[SBA_MAX_METRICS];
	SbaBaseline baselines[SBA_MAX_METRICS];
	SbaTracker	tracker;
	size_t		n_seen;
	TimestampTz *seen_ts;
	uint64	   *seen_hash;
} Follower;

static HTAB *followers = NULL;

/* All followers' memory is below this one. */
static MemoryContext followers_memory = NULL;

void
sba_order_values(const double *by_catalog, const int *catalog_index, int n_metrics, double *values)
{
	int			m;

	for (m = 0; m < n_metrics; m++)
		values[m] = catalog_index[m] < 0 ? NAN : by_catalog[catalog_index[m]];
}

static void
create_followers(void)
{
	HASHCTL		control = {0};

	followers_memory = AllocSetContextCreate(CacheMemoryContext, "smartbox_anomaly trackers",
											 ALLOCSET_DEFAULT_SIZES);
	control.keysize = SBA_SERVICE_KEY_SIZE;
	control.entrysize = sizeof(Follower);
	control.hcxt = followers_memory;
	followers = hash_create("smartbox_anomaly trackers", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* When there is no more room, all begin anew. */
static void
keep_within_limit(void)
{
	if (followers == NULL ||
		MemoryContextMemAllocated(followers_memory, true) < (Size) sba_model_cache_size_kb * 1024)
		return;
	MemoryContextDelete(followers_memory);
	followers = NULL;
}

static uint64
hash_sample(const SbaSampleSeries *series, size_t row)
{
	const double *values = series->values + row * series->n_metrics;

	return hash_bytes_extended((const unsigned char *) values, series->n_metrics * sizeof(double),
							   (uint64) series->minute_of_week[row]);
}

/* Rows of the series that the follower has seen; -1 when it has seen others. */
static int64
rows_seen(const Follower *follower, const SbaSampleSeries *series, const uint64 *hash)
{
	size_t		seen = 0;
	size_t		row;

	if (series->n_rows == 0)
		return -1;
	while (seen < follower->n_seen && follower->seen_ts[seen] < series->ts[0])
		seen++;
	for (row = 0; seen < follower->n_seen; row++, seen++)
		if (row == series->n_rows || follower->seen_ts[seen] != series->ts[row] ||
			follower->seen_hash[seen] != hash[row])
			return -1;
	return row == 0 ? -1 : (int64) row;
}

static bool
is_same_service(const Follower *follower, const SbaActiveModel *active, const int *catalog_index)
{
	return follower->is_valid &&
		follower->trained_at == active->trained_at &&
		follower->feature_set == active->model.feature_set &&
		follower->interval_s == sba_sample_interval_s &&
		memcmp(follower->catalog_index, catalog_index, sizeof(int) * active->model.n_metrics) == 0;
}

static void
begin_anew(Follower *follower, const SbaActiveModel *active, const int *catalog_index,
		   const SbaSampleSeries *series)
{
	size_t		capacity = sba_level_window_capacity(series->time_s, series->n_rows) + SPARE_SAMPLES;
	int			n_metrics = active->model.n_metrics;

	MemoryContextReset(follower->memory);
	follower->trained_at = active->trained_at;
	follower->feature_set = active->model.feature_set;
	follower->interval_s = sba_sample_interval_s;
	memcpy(follower->catalog_index, catalog_index, sizeof(int) * n_metrics);
	sba_tracker_init(&follower->tracker, follower->metrics, follower->baselines, n_metrics,
					 sba_sample_interval_s, capacity,
					 MemoryContextAlloc(follower->memory, sba_level_window_size(n_metrics, capacity)));
	follower->seen_ts = NULL;
	follower->seen_hash = NULL;
}

static void
see_rows(Follower *follower, const SbaSampleSeries *series, size_t first_row)
{
	SbaTracker *tracker = &follower->tracker;
	size_t		row;

	for (row = first_row; row < series->n_rows; row++)
	{
		double		values[SBA_MAX_METRICS];
		SbaFeatures features;

		sba_order_values(series->values + row * series->n_metrics, follower->catalog_index,
						 tracker->n_metrics, values);
		if (row + SBA_RUN_SAMPLES > series->n_rows)
		{
			sba_tracker_features(tracker, series->time_s[row], series->minute_of_week[row], values, &features);
			sba_tracker_remember(tracker, series->time_s[row], features.deviation);
		}
		else
			sba_tracker_transform(tracker, values, features.z);
		sba_tracker_add(tracker, series->time_s[row], series->minute_of_week[row], features.z);
	}
}

static void
remember_rows(Follower *follower, const SbaSampleSeries *series, const uint64 *hash)
{
	Size		rows = series->n_rows + 1;

	if (follower->seen_ts != NULL)
	{
		pfree(follower->seen_ts);
		pfree(follower->seen_hash);
	}
	follower->seen_ts = MemoryContextAlloc(follower->memory, sizeof(TimestampTz) * rows);
	follower->seen_hash = MemoryContextAlloc(follower->memory, sizeof(uint64) * rows);
	memcpy(follower->seen_ts, series->ts, sizeof(TimestampTz) * series->n_rows);
	memcpy(follower->seen_hash, hash, sizeof(uint64) * series->n_rows);
	follower->n_seen = series->n_rows;
}

const SbaTracker *
sba_follow_service(const SbaService *service, const SbaActiveModel *active, const SbaMetric *metrics,
				   const int *catalog_index, const SbaSampleSeries *series)
{
	uint64	   *hash = palloc(sizeof(uint64) * (series->n_rows + 1));
	Follower   *follower;
	bool		found;
	int64		n_seen;
	size_t		row;
	int			m;

	for (row = 0; row < series->n_rows; row++)
		hash[row] = hash_sample(series, row);

	keep_within_limit();
	if (followers == NULL)
		create_followers();
	follower = hash_search(followers, service->name, HASH_ENTER, &found);
	if (!found)
	{
		follower->is_valid = false;
		follower->memory = NULL;
	}
	if (follower->memory == NULL)
		follower->memory = AllocSetContextCreate(followers_memory, "smartbox_anomaly tracker",
												 ALLOCSET_SMALL_SIZES);

	n_seen = is_same_service(follower, active, catalog_index) ? rows_seen(follower, series, hash) : -1;
	follower->is_valid = false;

	/* the model's bytes may have moved, and each period has a model */
	memcpy(follower->metrics, metrics, sizeof(SbaMetric) * active->model.n_metrics);
	for (m = 0; m < active->model.n_metrics; m++)
		follower->baselines[m] = active->model.metric[m].baseline;
	if (n_seen < 0)
	{
		begin_anew(follower, active, catalog_index, series);
		n_seen = 0;
	}
	see_rows(follower, series, (size_t) n_seen);
	remember_rows(follower, series, hash);
	follower->is_valid = true;
	pfree(hash);
	return &follower->tracker;
}
