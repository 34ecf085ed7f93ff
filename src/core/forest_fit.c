/*
 * forest_fit.c
 *	  Growing the trees of an isolation forest.
 */
#include "core/forest_internal.h"

#include <float.h>
#include <stdlib.h>

#include "core/random.h"

/*
 * Centre, scale and fill come from this many rows: enough for a median, and
 * the time to fit stays the same for any number of rows.
 */
#define STATISTICS_ROWS 512

/* Fewer present values than this among them make us look at all rows. */
#define STATISTICS_ROWS_PRESENT 16

/* The stream of the rows above; trees have the numbers from 0 on. */
#define STATISTICS_STREAM UINT64_MAX

/* In a column of keys; below every key that a value can have. */
#define KEY_MISSING INT32_MIN

/* A node waiting for its turn, in level order. */
typedef struct PendingNode
{
	uint32_t	first;			/* its rows are members[first ...] */
	uint32_t	count;
	uint32_t	place;			/* number in the complete heap */
} PendingNode;

typedef struct Grower
{
	const double *rows;
	uint32_t	n_rows;
	SbaForestShape shape;
	double		feature_values[3 * SBA_FOREST_MAX_FEATURES];
	int32_t		fill_keys[SBA_FOREST_MAX_FEATURES];
	bool		has_missing[SBA_FOREST_MAX_FEATURES];	/* in this sub-sample */
	uint16_t	features[SBA_FOREST_MAX_FEATURES];	/* in a shuffled order */
	SbaRandom	random;

	uint32_t   *permutation;	/* [n_rows] */
	uint32_t   *drawn;			/* what was swapped with what */
	int32_t    *columns;		/* [n_features][sample_size] keys */
	uint16_t   *members;		/* [sample_size] rows of the sub-sample */
	uint16_t   *spare;			/* [sample_size] */
	PendingNode *pending;		/* [2 * sample_size] */
	SbaTree		tree;
} Grower;

/* Sort by merging runs of doubling length; no comparison is mispredicted. */
static void
sort_values(double *values, double *spare, uint32_t count)
{
	double	   *from = values;
	double	   *to = spare;

	for (uint32_t width = 1; width < count; width *= 2)
	{
		double	   *swap;

		for (uint32_t start = 0; start < count; start += 2 * width)
		{
			uint32_t	middle = start + width < count ? start + width : count;
			uint32_t	end = middle + width < count ? middle + width : count;
			uint32_t	left = start;
			uint32_t	right = middle;
			uint32_t	out = start;

			while (left < middle && right < end)
			{
				double		left_value = from[left];
				double		right_value = from[right];
				bool		take_right = right_value < left_value;

				to[out++] = take_right ? right_value : left_value;
				right += take_right;
				left += !take_right;
			}
			while (left < middle)
				to[out++] = from[left++];
			while (right < end)
				to[out++] = from[right++];
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (from != values)
		memcpy(values, from, count * sizeof(double));
}

/* The exponent of a positive number, so that 2^exponent <= value. */
static int
binary_exponent(double value)
{
	uint64_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (int) ((bits >> 52) & 0x7ff) - 1023;
}

static double
power_of_two(int exponent)
{
	uint64_t	bits = (uint64_t) (exponent + 1023) << 52;
	double		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/*
 * The power of two that brings the median distance from the centre to 1..2, so
 * that a float's range of exponents lies around what is usual in this feature,
 * and a single far value does not flatten the others.
 */
static double
find_scale(const double *values, uint32_t count, double centre)
{
	uint16_t	seen[2048] = {0};
	uint32_t	apart = 0;
	uint32_t	below = 0;
	int			biased = 0;

	for (uint32_t i = 0; i < count; i++)
	{
		double		distance = values[i] < centre ? centre - values[i] : values[i] - centre;

		if (distance > 0)
		{
			seen[binary_exponent(distance) + 1023]++;
			apart++;
		}
	}
	if (apart == 0)
		return 1;
	while (below + seen[biased] <= apart / 2)
		below += seen[biased++];

	/* Both ends keep the scale a normal number. */
	if (biased < 23)
		biased = 23;
	if (biased > 2023)
		biased = 2023;
	return power_of_two(1023 - biased);
}

/*
 * Whether keys of 24 bits are too coarse for a feature: more than one in eight
 * of the gaps between its values would lie between two of them.
 */
static bool
needs_wide_keys(const double *values, uint32_t count, double centre, double scale,
				uint32_t feature_bits)
{
	uint32_t	gaps = 0;
	uint32_t	lost = 0;

	for (uint32_t i = 1; i < count; i++)
	{
		int32_t		low = sba_forest_value_key(values[i - 1], centre, scale);
		int32_t		high = sba_forest_value_key(values[i], centre, scale);

		if (low != high)
		{
			gaps++;
			lost += ((uint32_t) low >> (8 + feature_bits)) == ((uint32_t) high >> (8 + feature_bits));
		}
	}
	return lost > gaps / 8;
}

static double
make_finite(double value)
{
	value = value < DBL_MAX ? value : DBL_MAX;
	return value > -DBL_MAX ? value : -DBL_MAX;
}

/* Centre, scale and fill of one feature; sets *wide if it needs wide keys. */
static void
describe_feature(Grower *grower, uint32_t feature, const uint32_t *chosen,
				 uint32_t n_chosen, bool *wide)
{
	SbaForestShape *shape = &grower->shape;
	double		values[STATISTICS_ROWS];
	double		spare[STATISTICS_ROWS];
	uint32_t	count = 0;
	double		centre = 0;
	double		scale = 1;

	for (uint32_t i = 0; i < n_chosen; i++)
	{
		double		value = grower->rows[(size_t) chosen[i] * shape->n_features + feature];

		if (value == value)
			values[count++] = make_finite(value);
	}
	if (count < STATISTICS_ROWS_PRESENT && n_chosen < grower->n_rows)
	{
		count = 0;
		for (uint32_t i = 0; i < grower->n_rows && count < STATISTICS_ROWS; i++)
		{
			double		value = grower->rows[(size_t) i * shape->n_features + feature];

			if (value == value)
				values[count++] = make_finite(value);
		}
	}
	if (count > 0)
	{
		sort_values(values, spare, count);
		centre = values[count / 2];
		scale = find_scale(values, count, centre);
		if (needs_wide_keys(values, count, centre, scale, shape->feature_bits))
			*wide = true;
	}
	shape->centres[feature] = centre;
	shape->scales[feature] = scale;
	shape->fills[feature] = centre;
	grower->fill_keys[feature] = sba_forest_value_key(centre, centre, scale);
}

/* Draw count of the rows to the front of the permutation (Fisher and Yates). */
static void
draw_rows(Grower *grower, uint32_t count)
{
	uint32_t   *permutation = grower->permutation;

	if (count == grower->n_rows)
		return;
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t	j = i + sba_random_below(&grower->random, grower->n_rows - i);
		uint32_t	swap = permutation[i];

		permutation[i] = permutation[j];
		permutation[j] = swap;
		grower->drawn[i] = j;
	}
}

/* Undo that, so that what a tree draws depends on its own stream only. */
static void
put_rows_back(Grower *grower, uint32_t count)
{
	uint32_t   *permutation = grower->permutation;

	if (count == grower->n_rows)
		return;
	for (uint32_t i = count; i-- > 0;)
	{
		uint32_t	j = grower->drawn[i];
		uint32_t	swap = permutation[i];

		permutation[i] = permutation[j];
		permutation[j] = swap;
	}
}

static void
describe_features(Grower *grower, bool *wide)
{
	uint32_t	count = grower->n_rows < STATISTICS_ROWS ? grower->n_rows : STATISTICS_ROWS;

	sba_random_start(&grower->random, grower->shape.seed, STATISTICS_STREAM);
	draw_rows(grower, count);
	*wide = false;
	for (uint32_t feature = 0; feature < grower->shape.n_features; feature++)
		describe_feature(grower, feature, grower->permutation, count, wide);
	put_rows_back(grower, count);
}

/* Copy a fresh sub-sample into the columns, as keys. */
static void
draw_sample(Grower *grower)
{
	const SbaForestShape *shape = &grower->shape;
	uint32_t	n_features = shape->n_features;
	uint32_t	sample_size = shape->sample_size;

	draw_rows(grower, sample_size);
	memset(grower->has_missing, 0, sizeof(grower->has_missing));
	for (uint32_t feature = 0; feature < n_features; feature++)
		grower->features[feature] = (uint16_t) feature;
	for (uint32_t i = 0; i < sample_size; i++)
	{
		const double *row = grower->rows + (size_t) grower->permutation[i] * n_features;
		int32_t    *column = grower->columns + i;

		grower->members[i] = (uint16_t) i;
		for (uint32_t feature = 0; feature < n_features; feature++, column += sample_size)
		{
			double		value = row[feature];

			*column = sba_forest_value_key(value, shape->centres[feature], shape->scales[feature]);
			if (value != value)
			{
				*column = KEY_MISSING;
				grower->has_missing[feature] = true;
			}
		}
	}
	put_rows_back(grower, sample_size);
}

/* Least and greatest key of present values; least > greatest if there is none. */
static void
find_range(const int32_t *column, const uint16_t *members, uint32_t count,
		   bool has_missing, int32_t *least, int32_t *greatest)
{
	int32_t		low[2] = {INT32_MAX, INT32_MAX};
	int32_t		high[2] = {INT32_MIN, INT32_MIN};
	uint32_t	i = 0;

	if (has_missing)
	{
		for (; i < count; i++)
		{
			int32_t		key = column[members[i]];

			if (key == KEY_MISSING)
				continue;
			low[0] = key < low[0] ? key : low[0];
			high[0] = key > high[0] ? key : high[0];
		}
	}
	else
	{
		/* Two of each, so that one comparison need not wait for the last. */
		for (; i + 2 <= count; i += 2)
		{
			int32_t		key0 = column[members[i]];
			int32_t		key1 = column[members[i + 1]];

			low[0] = key0 < low[0] ? key0 : low[0];
			high[0] = key0 > high[0] ? key0 : high[0];
			low[1] = key1 < low[1] ? key1 : low[1];
			high[1] = key1 > high[1] ? key1 : high[1];
		}
		for (; i < count; i++)
		{
			int32_t		key = column[members[i]];

			low[0] = key < low[0] ? key : low[0];
			high[0] = key > high[0] ? key : high[0];
		}
	}
	*least = low[0] < low[1] ? low[0] : low[1];
	*greatest = high[0] > high[1] ? high[0] : high[1];
}

/*
 * Keys that may be stored for this feature are those with its number in them:
 * every 2^(key_shift + feature_bits)-th.  These give the last one at or below
 * a key, and the first one above it.
 */
static int64_t
storable_at_or_below(const SbaForestShape *shape, uint32_t feature, int64_t key)
{
	int64_t		step = INT64_C(1) << (shape->key_shift + shape->feature_bits);
	int64_t		tag = (int64_t) feature << shape->key_shift;
	int64_t		storable = (key & ~(step - 1)) + tag;

	return storable > key ? storable - step : storable;
}

static int64_t
storable_above(const SbaForestShape *shape, uint32_t feature, int64_t key)
{
	return storable_at_or_below(shape, feature, key) +
		(INT64_C(1) << (shape->key_shift + shape->feature_bits));
}

/*
 * Pick the feature and the key of a split: a feature at random among those
 * that some storable key divides, then a value at random in its range.
 * Returns false if there is no such feature.
 */
static bool
choose_split(Grower *grower, const PendingNode *node, uint32_t *feature, int32_t *key)
{
	const SbaForestShape *shape = &grower->shape;

	for (uint32_t candidates = shape->n_features; candidates > 0; candidates--)
	{
		uint32_t	pick = candidates > 1 ? sba_random_below(&grower->random, candidates) : 0;
		uint16_t	chosen = grower->features[pick];
		int32_t		least;
		int32_t		greatest;

		grower->features[pick] = grower->features[candidates - 1];
		grower->features[candidates - 1] = chosen;

		find_range(grower->columns + (size_t) chosen * shape->sample_size,
				   grower->members + node->first, node->count,
				   grower->has_missing[chosen], &least, &greatest);
		if (least < greatest && storable_above(shape, chosen, least) <= greatest)
		{
			double		low = sba_forest_unkey(least);
			double		high = sba_forest_unkey(greatest);
			double		value = low + sba_random_unit(&grower->random) * (high - low);
			int64_t		split = storable_at_or_below(shape, chosen, sba_forest_key((float) value));

			/* Rounding must not leave one side empty. */
			if (split <= least)
				split = storable_above(shape, chosen, least);
			*feature = chosen;
			*key = (int32_t) split;
			return true;
		}
	}
	return false;
}

/* Bring rows with smaller keys to the front; returns how many these are. */
static uint32_t
divide_members(Grower *grower, const PendingNode *node, uint32_t feature, int32_t split)
{
	const int32_t *column = grower->columns + (size_t) feature * grower->shape.sample_size;
	uint16_t   *members = grower->members + node->first;
	uint16_t   *spare = grower->spare;
	int32_t		fill_key = grower->fill_keys[feature];
	uint32_t	n_left = 0;
	uint32_t	n_right = 0;

	if (grower->has_missing[feature])
	{
		for (uint32_t i = 0; i < node->count; i++)
		{
			uint16_t	member = members[i];
			int32_t		key = column[member] == KEY_MISSING ? fill_key : column[member];

			members[n_left] = member;
			spare[n_right] = member;
			n_right += key >= split;
			n_left += key < split;
		}
	}
	else
	{
		for (uint32_t i = 0; i < node->count; i++)
		{
			uint16_t	member = members[i];
			bool		right = column[member] >= split;

			members[n_left] = member;
			spare[n_right] = member;
			n_right += right;
			n_left += !right;
		}
	}
	memcpy(members + n_left, spare, n_right * sizeof(uint16_t));
	return n_left;
}

/* Grow one tree from the sub-sample in the columns. */
static void
grow_tree(Grower *grower)
{
	SbaTree    *tree = &grower->tree;
	PendingNode *pending = grower->pending;
	uint32_t	bottom = UINT32_C(1) << grower->shape.height_limit;
	uint32_t	end = 1;

	tree->n_splits = 0;
	tree->root_rows = grower->shape.sample_size;
	pending[0].first = 0;
	pending[0].count = grower->shape.sample_size;
	pending[0].place = 1;

	for (uint32_t i = 0; i < end; i++)
	{
		PendingNode node = pending[i];
		uint32_t	reference = SBA_FOREST_LEAF_BIT | node.count;
		uint32_t	feature;
		int32_t		key;

		if (node.count > 1 && node.place < bottom &&
			choose_split(grower, &node, &feature, &key))
		{
			uint32_t	n_left = divide_members(grower, &node, feature, key);

			pending[end].first = node.first;
			pending[end].count = n_left;
			pending[end].place = 2 * node.place;
			pending[end + 1].first = node.first + n_left;
			pending[end + 1].count = node.count - n_left;
			pending[end + 1].place = 2 * node.place + 1;
			end += 2;

			reference = tree->n_splits++;
			tree->keys[reference] = key;
			tree->places[reference] = node.place;
			tree->rows[reference] = node.count;
		}

		/* Children wait in pairs: number i is child i - 1 of the splits. */
		if (i > 0)
			tree->children[i - 1] = reference;
	}
}

static bool
allocate_grower(Grower *grower)
{
	size_t		sample_size = grower->shape.sample_size;

	grower->columns = malloc(sample_size * grower->shape.n_features * sizeof(int32_t));
	grower->members = malloc(sample_size * sizeof(uint16_t));
	grower->spare = malloc(sample_size * sizeof(uint16_t));
	grower->pending = malloc(2 * sample_size * sizeof(PendingNode));
	grower->tree.keys = malloc(sample_size * sizeof(int32_t));
	grower->tree.places = malloc(sample_size * sizeof(uint32_t));
	grower->tree.children = malloc(2 * sample_size * sizeof(uint32_t));
	grower->tree.rows = malloc(sample_size * sizeof(uint32_t));
	return grower->columns != NULL && grower->members != NULL &&
		grower->spare != NULL && grower->pending != NULL &&
		grower->tree.keys != NULL && grower->tree.places != NULL &&
		grower->tree.children != NULL && grower->tree.rows != NULL;
}

static void
free_grower(Grower *grower)
{
	free(grower->permutation);
	free(grower->drawn);
	free(grower->columns);
	free(grower->members);
	free(grower->spare);
	free(grower->pending);
	free(grower->tree.keys);
	free(grower->tree.places);
	free(grower->tree.children);
	free(grower->tree.rows);
	free(grower);
}

static SbaStatus
check_parameters(const SbaForestParameters *parameters, size_t n_rows, SbaError *error)
{
	if (parameters->n_features < 1 || parameters->n_features > SBA_FOREST_MAX_FEATURES)
		return sba_fail(error, SBA_INVALID_ARGUMENT, "number of features must be 1 to %d, not %u",
						SBA_FOREST_MAX_FEATURES, parameters->n_features);
	if (parameters->n_trees < 1 || parameters->n_trees > SBA_FOREST_MAX_TREES)
		return sba_fail(error, SBA_INVALID_ARGUMENT, "number of trees must be 1 to %d, not %u",
						SBA_FOREST_MAX_TREES, parameters->n_trees);
	if (parameters->sample_size < 2 || parameters->sample_size > SBA_FOREST_MAX_SAMPLE_SIZE)
		return sba_fail(error, SBA_INVALID_ARGUMENT, "sample size must be 2 to %d, not %u",
						SBA_FOREST_MAX_SAMPLE_SIZE, parameters->sample_size);
	if (n_rows == 0)
		return sba_fail(error, SBA_INVALID_ARGUMENT, "cannot fit a forest to no rows");
	if (n_rows > UINT32_MAX)
		return sba_fail(error, SBA_INVALID_ARGUMENT, "cannot fit a forest to more than %u rows",
						UINT32_MAX);
	return SBA_OK;
}

/* Fill in everything but the trees. */
static void
prepare_shape(Grower *grower, const SbaForestParameters *parameters,
			  uint16_t force_flags, uint16_t avoid_flags)
{
	SbaForestShape *shape = &grower->shape;
	bool		wide;

	shape->n_features = parameters->n_features;
	shape->n_trees = parameters->n_trees;
	shape->sample_size = parameters->sample_size < grower->n_rows ?
		parameters->sample_size : grower->n_rows;
	shape->seed = parameters->seed;
	shape->height_limit = sba_forest_height_limit(shape->sample_size);
	shape->feature_bits = sba_forest_feature_bits(shape->n_features);
	shape->centres = grower->feature_values;
	shape->scales = grower->feature_values + SBA_FOREST_MAX_FEATURES;
	shape->fills = grower->feature_values + 2 * SBA_FOREST_MAX_FEATURES;

	describe_features(grower, &wide);
	if (wide)
		shape->flags |= SBA_FOREST_FLAG_WIDE;
	if (shape->n_features == 1)
		shape->flags |= SBA_FOREST_FLAG_TABLE;
	shape->flags = (uint16_t) ((shape->flags | force_flags) & ~avoid_flags);
	if ((shape->flags & SBA_FOREST_FLAG_TABLE) == 0 &&
		shape->height_limit > SBA_FOREST_HEAP_HEIGHT)
		shape->flags |= SBA_FOREST_FLAG_LINKED;
	if ((shape->flags & SBA_FOREST_FLAG_LINKED) != 0)
		shape->flags |= SBA_FOREST_FLAG_WIDE;
	shape->key_shift = (shape->flags & SBA_FOREST_FLAG_WIDE) != 0 ? 0 : 8;
}

SbaStatus
sba_forest_fit_form(const double *rows, size_t n_rows,
					const SbaForestParameters *parameters,
					uint16_t force_flags, uint16_t avoid_flags,
					uint8_t **bytes, size_t *length, SbaError *error)
{
	Grower	   *grower;
	SbaForestWriter writer = {0};
	SbaStatus	status = check_parameters(parameters, n_rows, error);

	if (status != SBA_OK)
		return status;
	grower = calloc(1, sizeof(Grower));
	if (grower == NULL)
		return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory while fitting a forest");
	grower->rows = rows;
	grower->n_rows = (uint32_t) n_rows;
	grower->permutation = malloc(n_rows * sizeof(uint32_t));
	grower->drawn = malloc((size_t) SBA_FOREST_MAX_SAMPLE_SIZE * sizeof(uint32_t));
	if (grower->permutation == NULL || grower->drawn == NULL)
	{
		free_grower(grower);
		return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory while fitting a forest");
	}
	for (uint32_t i = 0; i < grower->n_rows; i++)
		grower->permutation[i] = i;
	prepare_shape(grower, parameters, force_flags, avoid_flags);

	if (allocate_grower(grower))
		status = sba_forest_writer_start(&writer, &grower->shape, error);
	else
		status = sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory while fitting a forest");
	for (uint32_t tree = 0; status == SBA_OK && tree < parameters->n_trees; tree++)
	{
		sba_random_start(&grower->random, parameters->seed, tree);
		draw_sample(grower);
		grow_tree(grower);
		status = sba_forest_writer_add(&writer, &grower->tree, error);
	}
	if (status == SBA_OK)
		status = sba_forest_writer_finish(&writer, bytes, length, error);
	sba_forest_writer_free(&writer);
	free_grower(grower);
	return status;
}

SbaStatus
sba_forest_fit(const double *rows, size_t n_rows,
			   const SbaForestParameters *parameters,
			   uint8_t **bytes, size_t *length, SbaError *error)
{
	return sba_forest_fit_form(rows, n_rows, parameters, 0, 0, bytes, length, error);
}
