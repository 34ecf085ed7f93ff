/*
 * forest_write.c
 *	  Grown trees to the stored bytes of forest_format.h.
 */
#include "core/forest_internal.h"

#include <stdlib.h>

#include "core/crc32c.h"

/* Deepest path that a tree of 2^16 rows can have, with room for the root. */
#define MAX_PATH_NODES 18

double
sba_average_path_length(uint32_t n)
{
	double		harmonic = 0;

	if (n <= 1)
		return 0;
	if (n == 2)
		return 1;
	for (uint32_t i = 1; i < n; i++)
		harmonic += 1.0 / i;
	return 2 * harmonic - 2 * ((double) n - 1) / n;
}

void
sba_forest_seal(uint8_t *bytes, size_t length)
{
	sba_store_u32(bytes + length - 4, sba_crc32c(0, bytes, length - 4));
}

/* Append size bytes, all zero, and return where they are; NULL if no memory. */
static uint8_t *
append(SbaForestWriter *writer, size_t size)
{
	uint8_t    *start;

	if (size > writer->capacity - writer->length)
	{
		size_t		capacity = writer->capacity + writer->capacity / 2 + size;
		uint8_t    *bytes = realloc(writer->bytes, capacity);

		if (bytes == NULL)
			return NULL;
		writer->bytes = bytes;
		writer->capacity = capacity;
	}
	start = writer->bytes + writer->length;
	memset(start, 0, size);
	writer->length += size;
	return start;
}

static SbaStatus
out_of_memory(SbaError *error)
{
	return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory while storing a forest");
}

/* Store keys; what follows them is stored later, so that a byte may run over. */
static uint8_t *
store_keys(uint8_t *to, const int32_t *keys, size_t count, uint32_t key_size)
{
	uint32_t	shift = key_size == 3 ? 8 : 0;

	for (size_t i = 0; i < count; i++, to += key_size)
		sba_store_u32(to, (uint32_t) keys[i] >> shift);
	return to;
}

/* Eight bytes of 0 or 1 as the bits of one. */
static inline uint8_t
pack_bits(const uint8_t *flags)
{
	return (uint8_t) (sba_forest_load_u64(flags) * UINT64_C(0x0102040810204080) >> 56);
}

static uint32_t
key_size_of(const SbaForestWriter *writer)
{
	return (writer->shape.flags & SBA_FOREST_FLAG_WIDE) != 0 ? 4 : 3;
}

/* Where the body begins. */
static size_t
body_start(const SbaForestShape *shape)
{
	return SBA_FOREST_HEADER_SIZE + (size_t) shape->n_features * SBA_FOREST_FEATURE_SIZE;
}

SbaStatus
sba_forest_writer_start(SbaForestWriter *writer, const SbaForestShape *shape,
						SbaError *error)
{
	uint32_t	n_paths = shape->sample_size + 1;
	size_t		directory = 0;
	double		harmonic = 0;
	uint8_t    *to;

	memset(writer, 0, sizeof(*writer));
	writer->shape = *shape;
	writer->fraction_bits = sba_forest_fraction_bits(shape->n_trees, shape->height_limit);
	writer->average_paths = malloc(n_paths * sizeof(uint32_t));
	writer->capacity = body_start(shape) + 512 * (size_t) shape->n_trees;
	writer->bytes = malloc(writer->capacity);
	if (writer->average_paths == NULL || writer->bytes == NULL)
		return out_of_memory(error);
	for (uint32_t n = 0; n < n_paths; n++)
		writer->average_paths[n] = sba_average_path_next(n, &harmonic);

	if ((shape->flags & SBA_FOREST_FLAG_LINKED) != 0)
		directory = 8 * (size_t) shape->n_trees + 4 * (size_t) n_paths;
	else if ((shape->flags & SBA_FOREST_FLAG_TABLE) == 0)
		directory = 4 * (size_t) shape->n_trees;
	to = append(writer, body_start(shape) + directory);
	if (to == NULL)
		return out_of_memory(error);
	sba_store_u32(to + SBA_FOREST_AT_MAGIC, SBA_FOREST_MAGIC);
	sba_store_u16(to + SBA_FOREST_AT_VERSION, SBA_FOREST_FORMAT_VERSION);
	sba_store_u16(to + SBA_FOREST_AT_FLAGS, shape->flags);
	sba_store_u32(to + SBA_FOREST_AT_FEATURES, shape->n_features);
	sba_store_u32(to + SBA_FOREST_AT_TREES, shape->n_trees);
	sba_store_u32(to + SBA_FOREST_AT_SAMPLE_SIZE, shape->sample_size);
	sba_store_u64(to + SBA_FOREST_AT_SEED, shape->seed);
	to += SBA_FOREST_HEADER_SIZE;
	for (uint32_t i = 0; i < shape->n_features; i++, to += SBA_FOREST_FEATURE_SIZE)
	{
		sba_store_f64(to, shape->centres[i]);
		sba_store_f64(to + 8, shape->scales[i]);
		sba_store_f64(to + 16, shape->fills[i]);
	}
	if ((shape->flags & SBA_FOREST_FLAG_LINKED) != 0)
	{
		to += 8 * (size_t) shape->n_trees;
		for (uint32_t i = 0; i < n_paths; i++)
			sba_store_u32(to + 4 * (size_t) i, writer->average_paths[i]);
	}
	return SBA_OK;
}

/* Store a tree of the heap form. */
static SbaStatus
add_heap_tree(SbaForestWriter *writer, const SbaTree *tree, SbaError *error)
{
	uint32_t	key_size = key_size_of(writer);
	uint32_t	n_children = 2 * tree->n_splits;
	uint32_t	n_leaves = tree->n_splits + 1;
	uint32_t	several_size = (n_leaves + 7) / 8;
	size_t		offset = writer->length - body_start(&writer->shape);
	uint8_t		is_split[SBA_FOREST_HEAP_LEAVES] = {0};
	uint8_t		is_several[SBA_FOREST_HEAP_LEAVES + 8] = {0};
	uint8_t		sizes[SBA_FOREST_HEAP_LEAVES + 1];
	uint32_t	n_sizes = 0;
	uint32_t	leaf = 0;
	uint32_t	root = SBA_FOREST_LEAF_BIT | tree->root_rows;
	const uint32_t *children = tree->n_splits > 0 ? tree->children : &root;
	uint8_t    *to;

	if (tree->n_splits == 0)
		n_children = 1;

	/* What a split writes, the next leaf writes again. */
	for (uint32_t i = 0; i < n_children; i++)
	{
		uint32_t	rows = children[i] & ~SBA_FOREST_LEAF_BIT;
		uint32_t	is_leaf = children[i] >> 31;
		uint32_t	several = is_leaf & (rows > 1);

		is_several[leaf] = (uint8_t) several;
		sizes[n_sizes] = (uint8_t) (rows - 2);
		leaf += is_leaf;
		n_sizes += several;
	}
	for (uint32_t i = 0; i < tree->n_splits; i++)
		is_split[tree->places[i]] = 1;

	to = append(writer, SBA_FOREST_BITMAP_SIZE + several_size + n_sizes +
				(size_t) tree->n_splits * key_size);
	if (to == NULL)
		return out_of_memory(error);
	sba_store_u32(writer->bytes + body_start(&writer->shape) + 4 * (size_t) writer->trees_written,
				  (uint32_t) offset);
	for (uint32_t i = 0; i < SBA_FOREST_BITMAP_SIZE; i++)
		*to++ = pack_bits(is_split + 8 * (size_t) i);
	to = store_keys(to, tree->keys, tree->n_splits, key_size);
	for (uint32_t i = 0; i < several_size; i++)
		*to++ = pack_bits(is_several + 8 * (size_t) i);
	memcpy(to, sizes, n_sizes);
	return SBA_OK;
}

/* Store a tree of the linked form. */
static SbaStatus
add_linked_tree(SbaForestWriter *writer, const SbaTree *tree, SbaError *error)
{
	uint8_t    *to = append(writer, (size_t) tree->n_splits * SBA_FOREST_RECORD_SIZE);

	if (to == NULL)
		return out_of_memory(error);
	sba_store_u64(writer->bytes + body_start(&writer->shape) + 8 * (size_t) writer->trees_written,
				  tree->n_splits);
	for (uint32_t i = 0; i < tree->n_splits; i++, to += SBA_FOREST_RECORD_SIZE)
	{
		sba_store_u32(to, (uint32_t) tree->keys[i]);
		sba_store_u32(to + 4, tree->children[2 * i]);
		sba_store_u32(to + 8, tree->children[2 * i + 1]);
		sba_store_u32(to + 12, tree->rows[i]);
	}
	return SBA_OK;
}

static SbaStatus
reserve_steps(SbaForestWriter *writer, uint32_t more, SbaError *error)
{
	size_t		capacity = writer->steps_capacity * 2 + more;
	int32_t    *keys;
	uint32_t   *deltas;

	if (writer->n_steps + more <= writer->steps_capacity)
		return SBA_OK;
	keys = realloc(writer->step_keys, capacity * sizeof(int32_t));
	if (keys == NULL)
		return out_of_memory(error);
	writer->step_keys = keys;
	deltas = realloc(writer->step_deltas, capacity * sizeof(uint32_t));
	if (deltas == NULL)
		return out_of_memory(error);
	writer->step_deltas = deltas;
	writer->steps_capacity = capacity;
	return SBA_OK;
}

/*
 * Add the steps of a tree of one feature, seen as a function of the key: from
 * left to right, every split is where the path length changes from that of the
 * leaf before it to that of the leaf after it.
 */
static SbaStatus
add_table_tree(SbaForestWriter *writer, const SbaTree *tree, SbaError *error)
{
	uint32_t	waiting[MAX_PATH_NODES];	/* splits whose left side we are
											 * in */
	uint32_t	depths[MAX_PATH_NODES];
	uint32_t	n_waiting = 0;
	uint32_t	depth = 0;
	uint32_t	node = tree->n_splits > 0 ? 0 : SBA_FOREST_LEAF_BIT | tree->root_rows;
	uint32_t	before = 0;
	bool		leftmost = true;
	SbaStatus	status = reserve_steps(writer, tree->n_splits, error);

	while (status == SBA_OK)
	{
		uint32_t	path;

		for (; (node & SBA_FOREST_LEAF_BIT) == 0; node = tree->children[2 * node])
		{
			waiting[n_waiting] = node;
			depths[n_waiting++] = ++depth;
		}
		path = (depth << writer->fraction_bits) +
			sba_path_round(writer->average_paths[node & ~SBA_FOREST_LEAF_BIT],
						   writer->fraction_bits);
		if (leftmost)
			writer->leftmost_sum += path;
		else
			writer->step_deltas[writer->n_steps++] = path - before;
		leftmost = false;
		before = path;

		if (n_waiting == 0)
			break;
		node = waiting[--n_waiting];
		depth = depths[n_waiting];
		writer->step_keys[writer->n_steps] = tree->keys[node];
		node = tree->children[2 * node + 1];
	}
	return status;
}

SbaStatus
sba_forest_writer_add(SbaForestWriter *writer, const SbaTree *tree, SbaError *error)
{
	SbaStatus	status;

	if ((writer->shape.flags & SBA_FOREST_FLAG_TABLE) != 0)
		status = add_table_tree(writer, tree, error);
	else if ((writer->shape.flags & SBA_FOREST_FLAG_LINKED) != 0)
		status = add_linked_tree(writer, tree, error);
	else
		status = add_heap_tree(writer, tree, error);
	writer->trees_written++;
	return status;
}

/* Sort steps by key, a byte at a time; returns false if there is no memory. */
static bool
sort_steps(SbaForestWriter *writer)
{
	size_t		count = writer->n_steps;
	int32_t    *keys = malloc((count + 1) * sizeof(int32_t));
	uint32_t   *deltas = malloc((count + 1) * sizeof(uint32_t));

	if (keys == NULL || deltas == NULL)
	{
		free(keys);
		free(deltas);
		return false;
	}
	for (int shift = 0; shift < 32; shift += 8)
	{
		size_t		starts[256] = {0};
		size_t		sum = 0;
		int32_t    *swap_keys;
		uint32_t   *swap_deltas;

		for (size_t i = 0; i < count; i++)
			starts[((uint32_t) writer->step_keys[i] ^ SBA_FOREST_LEAF_BIT) >> shift & 0xff]++;
		for (int digit = 0; digit < 256; digit++)
		{
			size_t		here = starts[digit];

			starts[digit] = sum;
			sum += here;
		}
		for (size_t i = 0; i < count; i++)
		{
			size_t		place = starts[((uint32_t) writer->step_keys[i] ^ SBA_FOREST_LEAF_BIT) >> shift & 0xff]++;

			keys[place] = writer->step_keys[i];
			deltas[place] = writer->step_deltas[i];
		}
		swap_keys = writer->step_keys;
		writer->step_keys = keys;
		keys = swap_keys;
		swap_deltas = writer->step_deltas;
		writer->step_deltas = deltas;
		deltas = swap_deltas;
	}
	free(keys);
	free(deltas);
	return true;
}

/* Store the table of all steps, those of equal keys as one. */
static SbaStatus
write_table(SbaForestWriter *writer, SbaError *error)
{
	uint32_t	key_size = key_size_of(writer);
	uint32_t	sum = writer->leftmost_sum;
	size_t		n_entries = 0;
	uint8_t    *to;

	if (writer->n_steps > 0 && !sort_steps(writer))
		return out_of_memory(error);
	for (size_t i = 0; i < writer->n_steps; i++)
	{
		if (n_entries > 0 && writer->step_keys[n_entries - 1] == writer->step_keys[i])
			writer->step_deltas[n_entries - 1] += writer->step_deltas[i];
		else
		{
			writer->step_keys[n_entries] = writer->step_keys[i];
			writer->step_deltas[n_entries++] = writer->step_deltas[i];
		}
	}
	to = append(writer, n_entries * key_size + (n_entries + 1) * 4);
	if (to == NULL)
		return out_of_memory(error);
	to = store_keys(to, writer->step_keys, n_entries, key_size);
	sba_store_u32(to, sum);
	for (size_t i = 0; i < n_entries; i++)
	{
		sum += writer->step_deltas[i];
		to += 4;
		sba_store_u32(to, sum);
	}
	sba_store_u32(writer->bytes + SBA_FOREST_AT_ENTRIES, (uint32_t) n_entries);
	return SBA_OK;
}

SbaStatus
sba_forest_writer_finish(SbaForestWriter *writer, uint8_t **bytes, size_t *length,
						 SbaError *error)
{
	uint8_t    *shrunk;

	if ((writer->shape.flags & SBA_FOREST_FLAG_TABLE) != 0)
	{
		SbaStatus	status = write_table(writer, error);

		if (status != SBA_OK)
			return status;
	}
	if (append(writer, SBA_FOREST_FOOTER_SIZE) == NULL)
		return out_of_memory(error);
	sba_store_u64(writer->bytes + SBA_FOREST_AT_LENGTH, writer->length);
	sba_forest_seal(writer->bytes, writer->length);

	shrunk = realloc(writer->bytes, writer->length);
	*bytes = shrunk != NULL ? shrunk : writer->bytes;
	*length = writer->length;
	writer->bytes = NULL;
	/* cppcheck-suppress memleak; *bytes has it */
	return SBA_OK;
}

void
sba_forest_writer_free(SbaForestWriter *writer)
{
	free(writer->average_paths);
	free(writer->bytes);
	free(writer->step_keys);
	free(writer->step_deltas);
	memset(writer, 0, sizeof(*writer));
}
