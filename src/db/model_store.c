/*
 * model_store.c
 *	  smartbox.models: storing trained models, and the active ones in memory.
 *
 * A session keeps the models that it used, up to
 * smartbox_anomaly.model_cache_size, and looks up the active version each
 * time: a model that another session trained or rolled back to serves from the
 * next detection on.  The bytes are checked once, when they are read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "db/model_store.h"
#include "pg/query.h"
#include "pg/settings.h"

#define PERIOD_KEY_SIZE		64

typedef struct CacheKey
{
	char		service[SBA_SERVICE_KEY_SIZE];
	char		time_period[PERIOD_KEY_SIZE];
} CacheKey;

typedef struct CacheEntry
{
	CacheKey	key;
	MemoryContext memory;		/* holds the model and its bytes */
	Size		size;
	uint64		last_use;
	SbaActiveModel *active;
} CacheEntry;

static HTAB *cache = NULL;
static Size cache_size = 0;
static uint64 cache_clock = 0;

static SbaQuery active_version_query = {
	.text = "SELECT version, trained_at FROM smartbox.models"
	" WHERE service = $1 AND time_period = $2 AND is_active",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery model_query = {
	.text = "SELECT m.model, ARRAY(SELECT e.key"
	" FROM pg_catalog.jsonb_each(CASE pg_catalog.jsonb_typeof(m.card->'metrics') WHEN 'object' THEN m.card->'metrics' END) e"
	" WHERE pg_catalog.jsonb_typeof(e.value->'values') = 'number'"
	" AND (e.value->>'values')::pg_catalog.float8 < " CppAsString2(SBA_USUAL_SHARE) " * m.samples)"
	" FROM smartbox.models m WHERE m.service = $1 AND m.time_period = $2 AND m.version = $3",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TEXTOID, INT4OID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery lock_query = {
	.text = "SELECT pg_catalog.pg_advisory_xact_lock("
	"pg_catalog.hashtextextended('smartbox_anomaly training of ' || $1, 0))",
	.n_arguments = 1,
	.argument_types = {TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery deactivate_query = {
	.text = "UPDATE smartbox.models SET is_active = false"
	" WHERE service = $1 AND time_period = $2 AND is_active",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TEXTOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery insert_query = {
	.text = "INSERT INTO smartbox.models (service, time_period, version, status, is_active, model,"
	" samples, sample_range, coverage, seed, feature_set, duration_ms, card, reason)"
	" SELECT $1, $2, coalesce(pg_catalog.max(m.version), 0) + 1, $3, $3 = 'accepted', $4,"
	" $5, CASE WHEN $5 > 0 THEN pg_catalog.tstzrange($6, $7, '[]') END, $8, $9, $10, $11, $12::pg_catalog.jsonb, $13"
	" FROM smartbox.models m WHERE m.service = $1 AND m.time_period = $2"
	" RETURNING version",
	.n_arguments = 13,
	.argument_types = {TEXTOID, TEXTOID, TEXTOID, BYTEAOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	FLOAT8OID, INT8OID, INT8OID, FLOAT8OID, TEXTOID, TEXTOID},
	.expected = SPI_OK_INSERT_RETURNING,
};

/*
 * What a rollback of the active version goes to: the newest accepted version
 * before it that nobody has rolled back from, since a person found that one
 * bad.
 */
#define PREVIOUS_VERSION \
	"(SELECT pg_catalog.max(p.version) FROM smartbox.models p" \
	" WHERE p.service = $1 AND p.time_period = $2 AND p.status = 'accepted' AND p.rolled_back_at IS NULL" \
	" AND p.version < (SELECT a.version FROM smartbox.models a" \
	" WHERE a.service = $1 AND a.time_period = $2 AND a.is_active))"

static SbaQuery drop_old_query = {
	.text = "DELETE FROM smartbox.models"
	" WHERE service = $1 AND time_period = $2 AND version <= $3 AND NOT is_active"
	" AND version IS DISTINCT FROM " PREVIOUS_VERSION,
	.n_arguments = 3,
	.argument_types = {TEXTOID, TEXTOID, INT4OID},
	.expected = SPI_OK_DELETE,
};

static SbaQuery lock_versions_query = {
	.text = "SELECT FROM smartbox.models"
	" WHERE service = $1 AND time_period = $2 ORDER BY version FOR NO KEY UPDATE",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery previous_version_query = {
	.text = "SELECT a.version, " PREVIOUS_VERSION " FROM smartbox.models a"
	" WHERE a.service = $1 AND a.time_period = $2 AND a.is_active",
	.n_arguments = 2,
	.argument_types = {TEXTOID, TEXTOID},
	.expected = SPI_OK_SELECT,
};

static SbaQuery roll_back_query = {
	.text = "UPDATE smartbox.models SET is_active = false, rolled_back_at = $3"
	" WHERE service = $1 AND time_period = $2 AND is_active",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	.expected = SPI_OK_UPDATE,
};

static SbaQuery activate_query = {
	.text = "UPDATE smartbox.models SET is_active = true"
	" WHERE service = $1 AND time_period = $2 AND version = $3",
	.n_arguments = 3,
	.argument_types = {TEXTOID, TEXTOID, INT4OID},
	.expected = SPI_OK_UPDATE,
};

static void
forget_entry(CacheEntry *entry)
{
	cache_size -= entry->size;
	MemoryContextDelete(entry->memory);
	hash_search(cache, &entry->key, HASH_REMOVE, NULL);
}

/* Make room for size bytes: what was not used for longest goes first. */
static void
make_room(Size size)
{
	Size		limit = (Size) sba_model_cache_size_kb * 1024;

	while (cache_size > 0 && cache_size + size > limit)
	{
		HASH_SEQ_STATUS scan;
		CacheEntry *entry;
		CacheEntry *oldest = NULL;

		hash_seq_init(&scan, cache);
		while ((entry = hash_seq_search(&scan)) != NULL)
			if (oldest == NULL || entry->last_use < oldest->last_use)
				oldest = entry;
		Assert(oldest != NULL);
		forget_entry(oldest);
	}
}

static void
create_cache(void)
{
	HASHCTL		control = {0};

	control.keysize = sizeof(CacheKey);
	control.entrysize = sizeof(CacheEntry);
	control.hcxt = CacheMemoryContext;
	cache = hash_create("smartbox_anomaly models", 64, &control,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Mark the metrics of a model that are in a list of names. */
static void
mark_sporadic(ArrayType *names, SbaActiveModel *active)
{
	Datum	   *elements;
	int			n;
	int			i;
	int			m;

	memset(active->is_sporadic, 0, sizeof(active->is_sporadic));
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	for (i = 0; i < n; i++)
	{
		char	   *name = TextDatumGetCString(elements[i]);

		for (m = 0; m < active->model.n_metrics; m++)
			active->is_sporadic[m] |= strcmp(active->model.metric[m].name, name) == 0;
	}
}

/* Read and check a version's bytes, in a memory context of their own. */
static SbaActiveModel *
read_model(const CacheKey *key, int version, TimestampTz trained_at,
		   MemoryContext *memory, Size *size)
{
	Datum		arguments[3];
	bool		is_null = true;
	Datum		model = (Datum) 0;
	bytea	   *stored;
	SbaActiveModel *active;
	uint8_t    *bytes;
	SbaError	error;

	arguments[0] = CStringGetTextDatum(key->service);
	arguments[1] = CStringGetTextDatum(key->time_period);
	arguments[2] = Int32GetDatum(version);
	sba_query_run(&model_query, arguments, NULL, 1);
	if (SPI_processed == 1)
		model = sba_result_datum(0, 1, &is_null);
	if (is_null)
		elog(ERROR, "version %d of the model vanished", version);
	stored = DatumGetByteaPP(model);
	*size = VARSIZE_ANY_EXHDR(stored) + sizeof(SbaActiveModel);

	*memory = AllocSetContextCreate(CurrentMemoryContext, "smartbox_anomaly model", ALLOCSET_SMALL_SIZES);
	active = MemoryContextAlloc(*memory, sizeof(SbaActiveModel));
	bytes = MemoryContextAlloc(*memory, VARSIZE_ANY_EXHDR(stored));
	memcpy(bytes, VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
	active->version = version;
	active->trained_at = trained_at;
	if (sba_model_open(bytes, VARSIZE_ANY_EXHDR(stored), &active->model, &error) != SBA_OK)
		sba_report_error(&error, psprintf("cannot use version %d of the model of service \"%s\" for %s",
										  version, key->service, key->time_period));
	mark_sporadic(DatumGetArrayTypeP(sba_result_datum(0, 2, &is_null)), active);
	SPI_freetuptable(SPI_tuptable);
	return active;
}

const SbaActiveModel *
sba_active_model(const char *service, const char *time_period)
{
	CacheKey	key;
	CacheEntry *entry;
	Datum		arguments[2];
	bool		is_null;
	int			version;
	TimestampTz trained_at;
	MemoryContext memory;
	SbaActiveModel *active;
	Size		size;

	arguments[0] = CStringGetTextDatum(service);
	arguments[1] = CStringGetTextDatum(time_period);
	sba_query_run(&active_version_query, arguments, NULL, 1);
	if (SPI_processed == 0)
		return NULL;
	version = sba_result_int4(0, 1, 0);
	trained_at = DatumGetTimestampTz(sba_result_datum(0, 2, &is_null));
	SPI_freetuptable(SPI_tuptable);

	if (cache == NULL)
		create_cache();
	memset(&key, 0, sizeof(key));
	strlcpy(key.service, service, sizeof(key.service));
	strlcpy(key.time_period, time_period, sizeof(key.time_period));
	entry = hash_search(cache, &key, HASH_FIND, NULL);
	if (entry != NULL && entry->active->version == version && entry->active->trained_at == trained_at)
	{
		entry->last_use = ++cache_clock;
		return entry->active;
	}

	/* nothing is kept of a model before it was found to be sound */
	active = read_model(&key, version, trained_at, &memory, &size);
	if (entry != NULL)
		forget_entry(entry);
	make_room(size);
	entry = hash_search(cache, &key, HASH_ENTER, NULL);
	MemoryContextSetParent(memory, CacheMemoryContext);
	entry->memory = memory;
	entry->size = size;
	entry->active = active;
	entry->last_use = ++cache_clock;
	cache_size += size;
	return active;
}

int
sba_store_model(const SbaNewModel *model)
{
	const SbaTrainedPeriod *trained = model->trained;
	Datum		arguments[13];
	char		nulls[14] = "             ";
	int			version;

	arguments[0] = CStringGetTextDatum(model->service);
	arguments[1] = CStringGetTextDatum(model->time_period);
	arguments[2] = CStringGetTextDatum(model->status);
	if (trained->outcome == SBA_TRAINING_ACCEPTED)
		sba_query_run(&deactivate_query, arguments, NULL, 0);

	arguments[3] = (Datum) 0;
	if (trained->bytes != NULL)
	{
		bytea	   *stored = palloc(VARHDRSZ + trained->length);

		SET_VARSIZE(stored, VARHDRSZ + trained->length);
		memcpy(VARDATA(stored), trained->bytes, trained->length);
		arguments[3] = PointerGetDatum(stored);
	}
	else
		nulls[3] = 'n';
	arguments[4] = Int32GetDatum((int32) trained->n_rows);
	arguments[5] = TimestampTzGetDatum(model->first_sample);
	arguments[6] = TimestampTzGetDatum(model->last_sample);
	arguments[7] = Float8GetDatum(model->coverage);
	arguments[8] = Int64GetDatum((int64) model->seed);
	arguments[9] = Int64GetDatum((int64) model->feature_set);
	arguments[10] = Float8GetDatum(model->duration_ms);
	arguments[11] = CStringGetTextDatum(model->card);
	arguments[12] = CStringGetTextDatum(trained->reason);
	if (trained->reason[0] == '\0')
		nulls[12] = 'n';
	sba_query_run(&insert_query, arguments, nulls, 0);
	version = sba_result_int4(0, 1, 0);

	arguments[2] = Int32GetDatum(version - sba_model_versions_kept);
	sba_query_run(&drop_old_query, arguments, NULL, 0);
	return version;
}

void
sba_lock_training(const char *service)
{
	Datum		argument = CStringGetTextDatum(service);

	sba_query_run(&lock_query, &argument, NULL, 0);
}

int
sba_roll_back_model(const char *service, const char *time_period)
{
	Datum		arguments[3];
	int			active = 0;
	int			previous = 0;

	sba_lock_training(service);
	arguments[0] = CStringGetTextDatum(service);
	arguments[1] = CStringGetTextDatum(time_period);
	sba_query_run(&lock_versions_query, arguments, NULL, 0);
	sba_query_run(&previous_version_query, arguments, NULL, 1);
	if (SPI_processed == 1)
	{
		active = sba_result_int4(0, 1, 0);
		previous = sba_result_int4(0, 2, 0);
	}
	if (active == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("service \"%s\" has no active model for %s", service, time_period),
				 errhint("Train one with train_models().")));
	if (previous == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no accepted model of service \"%s\" for %s before version %d",
						service, time_period, active),
				 errdetail("Versions that were rejected or rolled back do not count."),
				 errhint("The versions that are kept are in smartbox.models; smartbox_anomaly.model_versions_kept says how many.")));

	/* in this order: never two are active */
	arguments[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	sba_query_run(&roll_back_query, arguments, NULL, 0);
	arguments[2] = Int32GetDatum(previous);
	sba_query_run(&activate_query, arguments, NULL, 0);
	return previous;
}
