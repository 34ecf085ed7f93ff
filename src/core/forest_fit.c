/*
 * forest_fit.c
 *	  Growing the trees of an isolation forest.
 */
#include "core/forest_grow.h"

#include <float.h>
#include <stdlib.h>

/*
 * Centre, scale and fill come from this many rows: enough for a median, and
 * the time to fit stays the same for any number of rows.
 */
#define STATISTICS_ROWS 512

/* Fewer present values than this among them make us look at all rows. */
#define STATISTICS_ROWS_PRESENT 16

/* The stream of the rows above; trees have the numbers from 0 on. */
#define STATISTICS_STREAM UINT64_MAX

/*
 * Rows become keys once for all trees, unless there are so many that the trees
 * look at few of them, or that the keys would take much memory.
 */
#define MAX_SHARED_KEYS (4 * 1024 * 1024)

typedef struct Grower
{
	SbaForestGrower base;
	const SbaForestKernel *kernel;
	const double *rows;
	uint32_t	n_rows;
	double		feature_values[3 * SBA_FOREST_MAX_FEATURES];
	uint32_t   *permutation;	/* [n_rows] 0, 1, 2, ... but while rows are
								 * drawn */
	uint32_t   *drawn;			/* where chosen rows came from */
	uint32_t   *chosen;
	int32_t    *shared_keys;	/* [n_rows][n_features], or NULL */
} Grower;

/* Put two values in order; equal ones stay as they are. */
static SBA_ALWAYS_INLINE void
order_values(double *left, double *right)
{
	double		a = *left;
	double		b = *right;

	*left = b < a ? b : a;
	*right = a > b ? a : b;
}

/* Sort runs of four; equal values stay in order, as only neighbours swap. */
static void
sort_fours(double *values, uint32_t count)
{
	uint32_t	start = 0;

	for (; start + 4 <= count; start += 4)
	{
		double	   *four = values + start;

		order_values(four, four + 1);
		order_values(four + 2, four + 3);
		order_values(four + 1, four + 2);
		order_values(four, four + 1);
		order_values(four + 2, four + 3);
		order_values(four + 1, four + 2);
	}
	for (uint32_t i = start + 1; i < count; i++)
	{
		for (uint32_t j = i; j > start; j--)
			order_values(values + j - 1, values + j);
	}
}

/*
 * Merge two runs of the same length, from both ends at the same time: each
 * gives half of the values, so that neither can run out.
 */
static void
merge_equal(const double *from, double *to, uint32_t width)
{
	const double *left = from;
	const double *right = from + width;
	const double *left_end = from + width - 1;
	const double *right_end = from + 2 * width - 1;

	for (uint32_t i = 0; i < width; i++)
	{
		double		left_value = *left;
		double		right_value = *right;
		double		left_last = *left_end;
		double		right_last = *right_end;
		bool		take_right = right_value < left_value;
		bool		take_left = right_last < left_last;

		to[i] = take_right ? right_value : left_value;
		right += take_right;
		left += !take_right;
		to[2 * width - 1 - i] = take_left ? left_last : right_last;
		left_end -= take_left;
		right_end -= !take_left;
	}
}

static void
merge_unequal(const double *from, double *to, uint32_t middle, uint32_t end)
{
	uint32_t	left = 0;
	uint32_t	right = middle;
	uint32_t	out = 0;

	while (left < middle && right < end)
		to[out++] = from[right] < from[left] ? from[right++] : from[left++];
	while (left < middle)
		to[out++] = from[left++];
	while (right < end)
		to[out++] = from[right++];
}

/*
 * Sort by merging runs of doubling length; no comparison is mispredicted.
 * Equal values stay in order: which zero is the median, -0 or 0, is stored.
 */
static void
sort_values(double *values, double *spare, uint32_t count)
{
	double	   *from = values;
	double	   *to = spare;

	sort_fours(values, count);
	for (uint32_t width = 4; width < count; width *= 2)
	{
		double	   *swap = from;
		uint32_t	start = 0;

		for (; start + 2 * width <= count; start += 2 * width)
			merge_equal(from + start, to + start, width);
		if (start < count)
			merge_unequal(from + start, to + start,
						  start + width < count ? width : count - start, count - start);
		from = to;
		to = swap;
	}
	if (from != values)
		memcpy(values, from, count * sizeof(double));
}

/* The exponent of a number that is not negative, plus 1023. */
static int
biased_exponent(double value)
{
	uint64_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (int) (bits >> 52 & 0x7ff);
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
	int			biased = 2047;

	for (uint32_t i = 0; i < count; i++)
	{
		double		distance = values[i] < centre ? centre - values[i] : values[i] - centre;
		int			here = biased_exponent(distance);

		if (distance > 0)
		{
			seen[here]++;
			apart++;
			biased = here < biased ? here : biased;
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
	uint32_t	shift = 8 + feature_bits;
	uint32_t	gaps = 0;
	uint32_t	lost = 0;
	uint32_t	low = (uint32_t) sba_forest_value_key(values[0], centre, scale);

	for (uint32_t i = 1; i < count; i++)
	{
		uint32_t	high = (uint32_t) sba_forest_value_key(values[i], centre, scale);

		gaps += low != high;
		lost += (low != high) & (low >> shift == high >> shift);
		low = high;
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
	SbaForestShape *shape = &grower->base.shape;
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
	grower->base.fill_keys[feature] = sba_forest_value_key(centre, centre, scale);
}

/* Draw count different rows (Fisher and Yates). */
static void
draw_rows(Grower *grower, SbaRandom *random, uint32_t count)
{
	uint32_t   *permutation = grower->permutation;
	uint32_t   *drawn = grower->drawn;
	uint32_t   *chosen = grower->chosen;
	uint32_t	n_rows = grower->n_rows;
	SbaRandom	local = *random;

	if (count == n_rows)
	{
		memcpy(chosen, permutation, count * sizeof(uint32_t));
		return;
	}
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t	j = i + sba_random_below(&local, n_rows - i);
		uint32_t	swap = permutation[i];

		chosen[i] = permutation[j];
		permutation[j] = swap;
		drawn[i] = j;
	}
	*random = local;

	/* Undo that, so that what a tree draws depends on its own stream only. */
	for (uint32_t i = 0; i < count; i++)
		permutation[drawn[i]] = drawn[i];
	for (uint32_t i = 0; i < count; i++)
		permutation[i] = i;
}

static void
describe_features(Grower *grower, bool *wide)
{
	uint32_t	count = grower->n_rows < STATISTICS_ROWS ? grower->n_rows : STATISTICS_ROWS;
	SbaRandom	random;

	sba_random_start(&random, grower->base.shape.seed, STATISTICS_STREAM);
	draw_rows(grower, &random, count);
	*wide = false;
	for (uint32_t feature = 0; feature < grower->base.shape.n_features; feature++)
		describe_feature(grower, feature, grower->chosen, count, wide);
}

/* Copy a fresh sub-sample into the columns, as keys. */
static void
draw_sample(Grower *grower)
{
	SbaForestGrower *base = &grower->base;
	uint32_t	n_features = base->shape.n_features;
	uint32_t	sample_size = base->shape.sample_size;

	draw_rows(grower, &base->random, sample_size);
	for (uint32_t feature = 0; feature < n_features; feature++)
		base->features[feature] = (uint16_t) feature;
	if (grower->shared_keys != NULL)
	{
		grower->kernel->pick_rows(base, grower->shared_keys, grower->chosen);
		return;
	}
	memset(base->has_missing, 0, sizeof(base->has_missing));
	for (uint32_t i = 0; i < sample_size; i++)
	{
		int32_t		keys[SBA_FOREST_MAX_FEATURES];

		sba_forest_make_keys_portable(base, grower->rows + (size_t) grower->chosen[i] * n_features,
									  1, keys, base->has_missing);
		for (uint32_t feature = 0; feature < n_features; feature++)
			base->columns[(size_t) feature * sample_size + i] = keys[feature];
	}
}

/* Make the keys of all rows, if that is worth it and there is memory. */
static void
share_keys(Grower *grower)
{
	SbaForestGrower *base = &grower->base;
	size_t		n_keys = (size_t) grower->n_rows * base->shape.n_features;

	if (n_keys > MAX_SHARED_KEYS ||
		grower->n_rows > (uint64_t) base->shape.n_trees * base->shape.sample_size)
		return;
	grower->shared_keys = malloc(n_keys * sizeof(int32_t));
	if (grower->shared_keys != NULL)
		grower->kernel->make_keys(base, grower->rows, grower->n_rows, grower->shared_keys,
								  base->has_missing);
}

static bool
allocate_grower(SbaForestGrower *base)
{
	size_t		sample_size = base->shape.sample_size;

	base->columns = malloc(sample_size * base->shape.n_features * sizeof(int32_t));
	base->members = malloc(sample_size * sizeof(uint32_t));
	base->spare = malloc(sample_size * sizeof(uint32_t));
	base->picked = malloc(sample_size * sizeof(int32_t));
	base->pending = malloc(2 * sample_size * sizeof(SbaPendingNode));
	base->tree.keys = malloc(sample_size * sizeof(int32_t));
	base->tree.places = malloc(sample_size * sizeof(uint32_t));
	base->tree.children = malloc(2 * sample_size * sizeof(uint32_t));
	base->tree.rows = malloc(sample_size * sizeof(uint32_t));
	return base->columns != NULL && base->members != NULL && base->spare != NULL &&
		base->picked != NULL && base->pending != NULL &&
		base->tree.keys != NULL && base->tree.places != NULL &&
		base->tree.children != NULL && base->tree.rows != NULL;
}

static void
free_grower(Grower *grower)
{
	free(grower->permutation);
	free(grower->drawn);
	free(grower->chosen);
	free(grower->shared_keys);
	free(grower->base.columns);
	free(grower->base.members);
	free(grower->base.spare);
	free(grower->base.picked);
	free(grower->base.pending);
	free(grower->base.tree.keys);
	free(grower->base.tree.places);
	free(grower->base.tree.children);
	free(grower->base.tree.rows);
	free(grower);
}

SbaStatus
sba_forest_check_parameters(const SbaForestParameters *parameters, SbaError *error)
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
	return SBA_OK;
}

static SbaStatus
check_parameters(const SbaForestParameters *parameters, size_t n_rows, SbaError *error)
{
	SbaStatus	status = sba_forest_check_parameters(parameters, error);

	if (status != SBA_OK)
		return status;
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
	SbaForestShape *shape = &grower->base.shape;
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

static SbaStatus
out_of_memory(SbaError *error)
{
	return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory while fitting a forest");
}

static SbaStatus
add_trees(Grower *grower, SbaForestWriter *writer, const SbaStopCheck *stop, SbaError *error)
{
	const SbaForestShape *shape = &grower->base.shape;
	SbaStatus	status = SBA_OK;

	for (uint32_t tree = 0; status == SBA_OK && tree < shape->n_trees; tree++)
	{
		if (stop != NULL && stop->should_stop(stop->argument))
			return sba_fail(error, SBA_CANCELLED, "fitting was stopped before tree %u", tree);
		sba_random_start(&grower->base.random, shape->seed, tree);
		draw_sample(grower);
		grower->kernel->grow(&grower->base);
		status = sba_forest_writer_add(writer, &grower->base.tree, error);
	}
	return status;
}

static SbaStatus
fit_forest(const double *rows, size_t n_rows, const SbaForestParameters *parameters,
		   uint16_t force_flags, uint16_t avoid_flags, const SbaStopCheck *stop,
		   uint8_t **bytes, size_t *length, SbaError *error)
{
	Grower	   *grower;
	SbaForestWriter writer = {0};
	SbaStatus	status = check_parameters(parameters, n_rows, error);

	if (status != SBA_OK)
		return status;
	grower = calloc(1, sizeof(Grower));
	if (grower == NULL)
		return out_of_memory(error);
	grower->rows = rows;
	grower->n_rows = (uint32_t) n_rows;
	grower->kernel = sba_forest_kernel();
	grower->permutation = malloc(n_rows * sizeof(uint32_t));
	grower->drawn = malloc((size_t) SBA_FOREST_MAX_SAMPLE_SIZE * sizeof(uint32_t));
	grower->chosen = malloc((size_t) SBA_FOREST_MAX_SAMPLE_SIZE * sizeof(uint32_t));
	if (grower->permutation == NULL || grower->drawn == NULL || grower->chosen == NULL)
	{
		free_grower(grower);
		return out_of_memory(error);
	}
	for (uint32_t i = 0; i < grower->n_rows; i++)
		grower->permutation[i] = i;
	prepare_shape(grower, parameters, force_flags, avoid_flags);

	share_keys(grower);

	if (allocate_grower(&grower->base))
		status = sba_forest_writer_start(&writer, &grower->base.shape, error);
	else
		status = out_of_memory(error);
	if (status == SBA_OK)
		status = add_trees(grower, &writer, stop, error);
	if (status == SBA_OK)
		status = sba_forest_writer_finish(&writer, bytes, length, error);
	sba_forest_writer_free(&writer);
	free_grower(grower);
	return status;
}

SbaStatus
sba_forest_fit_form(const double *rows, size_t n_rows,
					const SbaForestParameters *parameters,
					uint16_t force_flags, uint16_t avoid_flags,
					uint8_t **bytes, size_t *length, SbaError *error)
{
	return fit_forest(rows, n_rows, parameters, force_flags, avoid_flags, NULL,
					  bytes, length, error);
}

SbaStatus
sba_forest_fit(const double *rows, size_t n_rows,
			   const SbaForestParameters *parameters,
			   uint8_t **bytes, size_t *length, SbaError *error)
{
	return fit_forest(rows, n_rows, parameters, 0, 0, NULL, bytes, length, error);
}

SbaStatus
sba_forest_fit_stoppable(const double *rows, size_t n_rows,
						 const SbaForestParameters *parameters, const SbaStopCheck *stop,
						 uint8_t **bytes, size_t *length, SbaError *error)
{
	return fit_forest(rows, n_rows, parameters, 0, 0, stop, bytes, length, error);
}
