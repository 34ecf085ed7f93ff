/*
 * forest_open.c
 *	  Checking the bytes of a stored forest.
 *
 * The bytes may come from anyone.  Everything that scoring relies on is
 * checked here, whatever the checksum says, so that scoring needs no checks.
 */
#include "core/forest_internal.h"

#include "core/crc32c.h"

void
sba_forest_layout(const SbaForest *forest, SbaForestLayout *layout)
{
	layout->features = forest->bytes + SBA_FOREST_HEADER_SIZE;
	layout->body = layout->features + (size_t) forest->n_features * SBA_FOREST_FEATURE_SIZE;
	layout->flags = sba_load_u16(forest->bytes + SBA_FOREST_AT_FLAGS);
	layout->height_limit = sba_forest_height_limit(forest->sample_size);
	layout->key_size = (layout->flags & SBA_FOREST_FLAG_WIDE) != 0 ? 4 : 3;
	layout->key_shift = (layout->flags & SBA_FOREST_FLAG_WIDE) != 0 ? 0 : 8;
	layout->feature_mask = (UINT32_C(1) << sba_forest_feature_bits(forest->n_features)) - 1;
	layout->fraction_bits = sba_forest_fraction_bits(forest->n_trees, layout->height_limit);
}

static bool
is_finite(double value)
{
	return value - value == 0;
}

static bool
is_power_of_two(double value)
{
	uint64_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (bits & UINT64_C(0x800fffffffffffff)) == 0 &&
		bits != 0 && bits != UINT64_C(0x7ff0000000000000);
}

static bool
is_key_in_range(int32_t key)
{
	return key >= -SBA_FOREST_KEY_FAR - 1 && key <= SBA_FOREST_KEY_FAR;
}

static bool
are_zero(const uint8_t *bytes, size_t count)
{
	uint8_t		any = 0;

	for (size_t i = 0; i < count; i++)
		any |= bytes[i];
	return any == 0;
}

static SbaStatus
corrupt_tree(SbaError *error, uint32_t tree, const char *what)
{
	return sba_fail(error, SBA_CORRUPT, "tree %u of the forest %s", tree, what);
}

/*
 * Check the splits of one tree of the heap form: each below another one and
 * above the height limit, with a feature that exists.
 */
static SbaStatus
check_heap_splits(const SbaForest *forest, const SbaForestLayout *layout, uint32_t tree,
				  const SbaPackedTree *packed, SbaError *error)
{
	uint32_t	bottom = UINT32_C(1) << layout->height_limit;
	bool		good = (packed->bitmap[0] & 1) == 0;

	for (uint32_t word = 0; word < 4; word++)
	{
		for (uint64_t left = packed->bitmap[word]; left != 0; left &= left - 1)
		{
			uint32_t	place = word * 64 + (uint32_t) __builtin_ctzll(left);
			uint32_t	parent = place >> 1;

			good &= place < bottom &&
				(place == 1 || (packed->bitmap[parent >> 6] >> (parent & 63) & 1) != 0);
		}
	}
	if (!good)
		return corrupt_tree(error, tree, "has a split where none can be");
	for (uint32_t i = 0; i < packed->n_splits; i++)
	{
		int32_t		key = sba_forest_load_key(packed->keys, i, layout->key_size);

		good &= is_key_in_range(key);
		good &= ((uint32_t) key >> layout->key_shift & layout->feature_mask) < forest->n_features;
	}
	if (!good)
		return corrupt_tree(error, tree, "has a split that is out of range");
	return SBA_OK;
}

/*
 * Check one tree of the heap form that begins at body + offset, with available
 * bytes from there to the footer; *size is how many it takes.
 */
static SbaStatus
check_heap_tree(const SbaForest *forest, const SbaForestLayout *layout, uint32_t tree,
				size_t available, size_t *size, SbaError *error)
{
	SbaPackedTree packed;
	uint32_t	n_splits;
	uint32_t	n_leaves;
	uint32_t	several_size;
	uint32_t	n_several = 0;
	uint32_t	rows;

	if (available < SBA_FOREST_BITMAP_SIZE)
		return corrupt_tree(error, tree, "is cut off");

	/* Looks at the bitmap only; where the rest is follows from it. */
	sba_forest_packed_tree(layout, tree, &packed);
	n_splits = packed.n_splits;
	n_leaves = n_splits + 1;
	several_size = (n_leaves + 7) / 8;
	if (n_splits > SBA_FOREST_HEAP_SPLITS ||
		available < SBA_FOREST_BITMAP_SIZE + (size_t) several_size + (size_t) n_splits * layout->key_size)
		return corrupt_tree(error, tree, "is cut off");
	for (uint32_t i = 0; i < several_size; i++)
		n_several += (uint32_t) __builtin_popcount(packed.several[i]);
	*size = SBA_FOREST_BITMAP_SIZE + (size_t) n_splits * layout->key_size + several_size + n_several;
	if (available < *size)
		return corrupt_tree(error, tree, "is cut off");
	if (n_leaves % 8 != 0 && packed.several[several_size - 1] >> (n_leaves % 8) != 0)
		return corrupt_tree(error, tree, "has rows in leaves that it does not have");

	rows = n_leaves;
	for (uint32_t i = 0; i < n_several; i++)
		rows += packed.sizes[i] + 1;
	if (rows != forest->sample_size)
		return corrupt_tree(error, tree, "has leaves that do not add up to the sample size");
	return check_heap_splits(forest, layout, tree, &packed, error);
}

static SbaStatus
check_heap_form(const SbaForest *forest, const SbaForestLayout *layout, size_t body_size,
				SbaError *error)
{
	size_t		expected = 4 * (size_t) forest->n_trees;

	if (layout->height_limit > SBA_FOREST_HEAP_HEIGHT || body_size < expected)
		return sba_fail(error, SBA_CORRUPT, "forest is too short for its trees");
	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		size_t		size = 0;
		SbaStatus	status;

		if (sba_load_u32(layout->body + 4 * (size_t) tree) != expected)
			return corrupt_tree(error, tree, "is not where it should be");
		status = check_heap_tree(forest, layout, tree, body_size - expected, &size, error);
		if (status != SBA_OK)
			return status;
		expected += size;
	}
	if (expected != body_size)
		return sba_fail(error, SBA_CORRUPT, "forest has bytes behind its trees");
	return SBA_OK;
}

/*
 * Check one tree of the linked form.  Level order makes every split but the
 * root the child of exactly one that comes before it.
 */
static SbaStatus
check_linked_tree(const SbaForest *forest, const SbaForestLayout *layout, uint32_t tree,
				  const uint8_t *records, uint32_t n_splits, SbaError *error)
{
	uint32_t	expected = 1;
	uint32_t	level_end = 1;
	uint32_t	depth = 0;

	for (uint32_t i = 0; i < n_splits; i++)
	{
		const uint8_t *record = records + (size_t) i * SBA_FOREST_RECORD_SIZE;
		int32_t		key = (int32_t) sba_load_u32(record);
		uint64_t	rows = 0;

		if (i == level_end)
		{
			depth++;
			level_end = expected;
		}
		if (i >= expected || depth >= layout->height_limit)
			return corrupt_tree(error, tree, "has a split where none can be");
		if (!is_key_in_range(key) ||
			((uint32_t) key & layout->feature_mask) >= forest->n_features)
			return corrupt_tree(error, tree, "has a split that is out of range");
		for (int side = 0; side < 2; side++)
		{
			uint32_t	child = sba_load_u32(record + 4 + 4 * side);

			if ((child & SBA_FOREST_LEAF_BIT) != 0)
			{
				child &= ~SBA_FOREST_LEAF_BIT;
				if (child == 0)
					return corrupt_tree(error, tree, "has an empty leaf");
				rows += child;
			}
			else
			{
				if (child != expected || child >= n_splits)
					return corrupt_tree(error, tree, "has a child that is not its own");
				expected++;
				rows += sba_load_u32(records + (size_t) child * SBA_FOREST_RECORD_SIZE + 12);
			}
		}
		if (rows != sba_load_u32(record + 12) || (i == 0 && rows != forest->sample_size))
			return corrupt_tree(error, tree, "has leaves that do not add up to the sample size");
	}
	if (n_splits > 0 && expected != n_splits)
		return corrupt_tree(error, tree, "has a split that nothing leads to");
	return SBA_OK;
}

/* Check the stored c(n) against c(n), so that a path length is what it says. */
static bool
are_average_paths(const uint8_t *stored, uint32_t sample_size)
{
	uint32_t	any = 0;
	double		harmonic = 0;

	for (uint32_t n = 0; n <= sample_size; n++)
	{
		uint32_t	path = sba_average_path_next(n, &harmonic);

		any |= path ^ sba_load_u32(stored + 4 * (size_t) n);
	}
	return any == 0;
}

static SbaStatus
check_linked_form(const SbaForest *forest, const SbaForestLayout *layout, size_t body_size,
				  SbaError *error)
{
	size_t		directory_size = 8 * (size_t) forest->n_trees;
	size_t		used = directory_size + 4 * ((size_t) forest->sample_size + 1);

	if (body_size < used)
		return sba_fail(error, SBA_CORRUPT, "forest is too short for its trees");
	if (!are_average_paths(layout->body + directory_size, forest->sample_size))
		return sba_fail(error, SBA_CORRUPT, "forest has wrong path lengths");
	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		uint64_t	n_splits = sba_load_u64(layout->body + 8 * (size_t) tree);
		SbaStatus	status;

		if (n_splits >= forest->sample_size ||
			body_size - used < (size_t) n_splits * SBA_FOREST_RECORD_SIZE)
			return corrupt_tree(error, tree, "is cut off");
		status = check_linked_tree(forest, layout, tree, layout->body + used,
								   (uint32_t) n_splits, error);
		if (status != SBA_OK)
			return status;
		used += (size_t) n_splits * SBA_FOREST_RECORD_SIZE;
	}
	if (used != body_size)
		return sba_fail(error, SBA_CORRUPT, "forest has bytes behind its trees");
	return SBA_OK;
}

static SbaStatus
check_table_form(const SbaForest *forest, const SbaForestLayout *layout, size_t body_size,
				 uint32_t n_entries, SbaError *error)
{
	uint64_t	limit = ((uint64_t) forest->n_trees * 3 *
						 (layout->height_limit > 0 ? layout->height_limit : 1)) << layout->fraction_bits;
	const uint8_t *sums;
	int64_t		last = INT64_MIN;
	bool		good = true;

	if (forest->n_features != 1)
		return sba_fail(error, SBA_CORRUPT, "forest is a table of %u features", forest->n_features);
	if (body_size != (uint64_t) n_entries * (layout->key_size + 4) + 4)
		return sba_fail(error, SBA_CORRUPT, "forest is not as long as its table");
	for (uint32_t i = 0; i < n_entries; i++)
	{
		int32_t		key = sba_forest_load_key(layout->body, i, layout->key_size);

		good &= key > last && is_key_in_range(key);
		last = key;
	}
	if (!good)
		return sba_fail(error, SBA_CORRUPT, "table of the forest is not in order");
	sums = layout->body + (size_t) n_entries * layout->key_size;
	for (uint32_t i = 0; i <= n_entries; i++)
		good &= sba_forest_load_u32(sums + 4 * (size_t) i) <= limit;
	if (!good)
		return sba_fail(error, SBA_CORRUPT, "table of the forest has a path that is too long");
	return SBA_OK;
}

/* Check the header's numbers, the features and the padding of the footer. */
static SbaStatus
check_frame(const SbaForest *forest, const SbaForestLayout *layout, SbaError *error)
{
	uint16_t	form = layout->flags & (SBA_FOREST_FLAG_LINKED | SBA_FOREST_FLAG_TABLE);

	if ((layout->flags & ~SBA_FOREST_FLAGS_KNOWN) != 0)
		return sba_fail(error, SBA_UNSUPPORTED_VERSION, "forest has unknown flags 0x%04x",
						layout->flags);
	if (form == (SBA_FOREST_FLAG_LINKED | SBA_FOREST_FLAG_TABLE) ||
		(form == SBA_FOREST_FLAG_LINKED && layout->key_size != 4))
		return sba_fail(error, SBA_CORRUPT, "forest has flags 0x%04x that exclude each other",
						layout->flags);
	if (!are_zero(forest->bytes + SBA_FOREST_AT_RESERVED,
				  SBA_FOREST_HEADER_SIZE - SBA_FOREST_AT_RESERVED) ||
		!are_zero(forest->bytes + forest->length - SBA_FOREST_FOOTER_SIZE,
				  SBA_FOREST_FOOTER_SIZE - 4) ||
		(form != SBA_FOREST_FLAG_TABLE &&
		 sba_load_u32(forest->bytes + SBA_FOREST_AT_ENTRIES) != 0))
		return sba_fail(error, SBA_CORRUPT, "forest has something where nothing may be");
	for (uint32_t feature = 0; feature < forest->n_features; feature++)
	{
		const uint8_t *stored = layout->features + (size_t) feature * SBA_FOREST_FEATURE_SIZE;

		if (!is_finite(sba_load_f64(stored)) || !is_power_of_two(sba_load_f64(stored + 8)) ||
			!is_finite(sba_load_f64(stored + 16)))
			return sba_fail(error, SBA_CORRUPT, "feature %u of the forest has no proper scale", feature);
	}
	return SBA_OK;
}

SbaStatus
sba_forest_open(const uint8_t *bytes, size_t length, SbaForest *forest, SbaError *error)
{
	SbaForestLayout layout;
	size_t		frame_size;
	SbaStatus	status;

	if (length < SBA_FOREST_HEADER_SIZE + SBA_FOREST_FOOTER_SIZE)
		return sba_fail(error, SBA_CORRUPT, "forest is too short: %zu bytes", length);
	if (sba_load_u32(bytes + SBA_FOREST_AT_MAGIC) != SBA_FOREST_MAGIC)
		return sba_fail(error, SBA_CORRUPT, "not a forest");
	if (sba_load_u16(bytes + SBA_FOREST_AT_VERSION) != SBA_FOREST_FORMAT_VERSION)
		return sba_fail(error, SBA_UNSUPPORTED_VERSION, "forest has format version %u, not %u",
						sba_load_u16(bytes + SBA_FOREST_AT_VERSION), SBA_FOREST_FORMAT_VERSION);
	if (sba_load_u64(bytes + SBA_FOREST_AT_LENGTH) != length)
		return sba_fail(error, SBA_CORRUPT, "forest has %zu bytes, not the length it states", length);
	if (sba_crc32c(0, bytes, length - 4) != sba_load_u32(bytes + length - 4))
		return sba_fail(error, SBA_CORRUPT, "forest has a wrong checksum");

	memset(forest, 0, sizeof(*forest));
	forest->bytes = bytes;
	forest->length = length;
	forest->n_features = sba_load_u32(bytes + SBA_FOREST_AT_FEATURES);
	forest->n_trees = sba_load_u32(bytes + SBA_FOREST_AT_TREES);
	forest->sample_size = sba_load_u32(bytes + SBA_FOREST_AT_SAMPLE_SIZE);
	forest->seed = sba_load_u64(bytes + SBA_FOREST_AT_SEED);
	if (forest->n_features < 1 || forest->n_features > SBA_FOREST_MAX_FEATURES ||
		forest->n_trees < 1 || forest->n_trees > SBA_FOREST_MAX_TREES ||
		forest->sample_size < 1 || forest->sample_size > SBA_FOREST_MAX_SAMPLE_SIZE)
		return sba_fail(error, SBA_CORRUPT, "forest of %u features, %u trees and %u rows each is out of range",
						forest->n_features, forest->n_trees, forest->sample_size);
	frame_size = SBA_FOREST_HEADER_SIZE + (size_t) forest->n_features * SBA_FOREST_FEATURE_SIZE +
		SBA_FOREST_FOOTER_SIZE;
	if (length < frame_size)
		return sba_fail(error, SBA_CORRUPT, "forest is too short for its features");

	forest->normalizer = sba_average_path_length(forest->sample_size);
	sba_forest_layout(forest, &layout);
	status = check_frame(forest, &layout, error);
	if (status != SBA_OK)
		return status;
	if ((layout.flags & SBA_FOREST_FLAG_TABLE) != 0)
		return check_table_form(forest, &layout, length - frame_size,
								sba_load_u32(bytes + SBA_FOREST_AT_ENTRIES), error);
	if ((layout.flags & SBA_FOREST_FLAG_LINKED) != 0)
		return check_linked_form(forest, &layout, length - frame_size, error);
	return check_heap_form(forest, &layout, length - frame_size, error);
}
