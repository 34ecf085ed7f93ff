/*
 * forest_inspect.c
 *	  Looking into an opened forest.
 */
#include "core/forest_inspect.h"

#include <math.h>

#include "core/forest_internal.h"

/* A double with this place in the order of all doubles. */
static double
double_at(int64_t place)
{
	uint64_t	bits = (uint64_t) place;
	double		value;

	bits ^= (UINT64_C(0) - (bits >> 63)) >> 1;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static int64_t
place_of(double value)
{
	uint64_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (int64_t) (bits ^ ((UINT64_C(0) - (bits >> 63)) >> 1));
}

/*
 * The least value that does not go left, so that "value < threshold" says in
 * the feature's own unit exactly what the comparison of keys does.
 */
static double
threshold_of(const SbaForestFeature *feature, int32_t key)
{
	int64_t		low = place_of(-INFINITY);
	int64_t		high = place_of(INFINITY);

	while (low < high)
	{
		/* Their distance may not fit in a signed number. */
		int64_t		middle = low + (int64_t) (((uint64_t) high - (uint64_t) low) / 2);

		if (sba_forest_value_key(double_at(middle), feature->centre, feature->scale) >= key)
			high = middle;
		else
			low = middle + 1;
	}

	/* Nobody wants to see a negative zero. */
	return double_at(low) + 0.0;
}

void
sba_forest_summary(const SbaForest *forest, SbaForestSummary *summary)
{
	SbaForestLayout layout;

	sba_forest_layout(forest, &layout);
	summary->format_version = sba_load_u16(forest->bytes + SBA_FOREST_AT_VERSION);
	summary->form = (layout.flags & SBA_FOREST_FLAG_TABLE) != 0 ? SBA_FOREST_FORM_TABLE :
		(layout.flags & SBA_FOREST_FLAG_LINKED) != 0 ? SBA_FOREST_FORM_LINKED :
		SBA_FOREST_FORM_HEAP;
	summary->key_bits = 8 * layout.key_size;
	summary->n_steps = sba_load_u32(forest->bytes + SBA_FOREST_AT_ENTRIES);
}

void
sba_forest_feature(const SbaForest *forest, uint32_t feature, SbaForestFeature *description)
{
	const uint8_t *stored = forest->bytes + SBA_FOREST_HEADER_SIZE + (size_t) feature * SBA_FOREST_FEATURE_SIZE;

	description->centre = sba_load_f64(stored);
	description->scale = sba_load_f64(stored + 8);
	description->fill = sba_load_f64(stored + 16);
}

/* Make node a split by this key, number split in level order. */
static void
set_split(const SbaForest *forest, const SbaForestLayout *layout, SbaForestNode *nodes,
		  uint32_t node, uint32_t split, int32_t key)
{
	SbaForestFeature feature;

	nodes[node].feature = (uint32_t) key >> layout->key_shift & layout->feature_mask;
	sba_forest_feature(forest, nodes[node].feature, &feature);
	nodes[node].threshold = threshold_of(&feature, key);

	/* Children come in pairs, in the order of their splits. */
	nodes[node].left = 2 * split + 1;
	nodes[node].right = 2 * split + 2;
	nodes[2 * split + 1].depth = nodes[node].depth + 1;
	nodes[2 * split + 2].depth = nodes[node].depth + 1;
}

static void
set_leaf(SbaForestNode *node, uint32_t rows)
{
	node->rows = rows;
	node->path_length = node->depth + sba_average_path_length(rows);
}

static uint32_t
next_heap_tree(SbaForestCursor *cursor, const SbaForestLayout *layout, SbaForestNode *nodes)
{
	uint16_t	places[2 * SBA_FOREST_HEAP_LEAVES] = {1};
	SbaPackedTree packed;
	const uint8_t *sizes;
	uint32_t	n_nodes;
	uint32_t	split = 0;
	uint32_t	leaf = 0;

	sba_forest_packed_tree(layout, cursor->next_tree, &packed);
	sizes = packed.sizes;
	n_nodes = 2 * packed.n_splits + 1;
	memset(nodes, 0, n_nodes * sizeof(SbaForestNode));
	for (uint32_t node = 0; node < n_nodes; node++)
	{
		uint32_t	place = places[node];

		if (place < SBA_FOREST_HEAP_LEAVES &&
			(packed.bitmap[place >> 6] >> (place & 63) & 1) != 0)
		{
			set_split(cursor->forest, layout, nodes, node, split,
					  sba_forest_load_key(packed.keys, split, layout->key_size));
			places[2 * split + 1] = (uint16_t) (2 * place);
			places[2 * split + 2] = (uint16_t) (2 * place + 1);
			split++;
		}
		else
		{
			set_leaf(&nodes[node],
					 (packed.several[leaf >> 3] >> (leaf & 7) & 1) != 0 ? *sizes++ + 2U : 1);
			leaf++;
		}
	}
	return n_nodes;
}

static uint32_t
next_linked_tree(SbaForestCursor *cursor, const SbaForestLayout *layout, SbaForestNode *nodes)
{
	const SbaForest *forest = cursor->forest;
	const uint8_t *records = layout->body + cursor->next_record;
	uint32_t	n_splits = (uint32_t) sba_load_u64(layout->body + 8 * (size_t) cursor->next_tree);
	uint32_t	n_nodes = 2 * n_splits + 1;
	uint32_t	node = 0;

	memset(nodes, 0, n_nodes * sizeof(SbaForestNode));
	if (n_splits == 0)
		set_leaf(&nodes[0], forest->sample_size);
	for (uint32_t split = 0; split < n_splits; split++)
	{
		const uint8_t *record = records + (size_t) split * SBA_FOREST_RECORD_SIZE;

		/* Splits are in level order: the next is the next that is no leaf. */
		while (nodes[node].rows > 0)
			node++;
		set_split(forest, layout, nodes, node, split, (int32_t) sba_load_u32(record));
		node++;
		for (uint32_t side = 0; side < 2; side++)
		{
			uint32_t	child = sba_load_u32(record + 4 + 4 * (size_t) side);

			if ((child & SBA_FOREST_LEAF_BIT) != 0)
				set_leaf(&nodes[2 * split + 1 + side], child & ~SBA_FOREST_LEAF_BIT);
		}
	}
	cursor->next_record += (size_t) n_splits * SBA_FOREST_RECORD_SIZE;
	return n_nodes;
}

void
sba_forest_first_tree(SbaForestCursor *cursor, const SbaForest *forest)
{
	cursor->forest = forest;
	cursor->next_tree = 0;
	cursor->next_record = 8 * (size_t) forest->n_trees + 4 * ((size_t) forest->sample_size + 1);
}

uint32_t
sba_forest_next_tree(SbaForestCursor *cursor, SbaForestNode *nodes)
{
	SbaForestLayout layout;
	uint32_t	n_nodes;

	if (cursor->next_tree == cursor->forest->n_trees)
		return 0;
	sba_forest_layout(cursor->forest, &layout);
	if ((layout.flags & SBA_FOREST_FLAG_LINKED) != 0)
		n_nodes = next_linked_tree(cursor, &layout, nodes);
	else
		n_nodes = next_heap_tree(cursor, &layout, nodes);

	/* Children come behind their parent. */
	for (uint32_t node = n_nodes; node-- > 0;)
	{
		if (nodes[node].left > 0)
			nodes[node].rows = nodes[nodes[node].left].rows + nodes[nodes[node].right].rows;
	}
	cursor->next_tree++;
	return n_nodes;
}

void
sba_forest_step(const SbaForest *forest, uint32_t step, double *threshold, double *path_length)
{
	uint32_t	n_steps = sba_load_u32(forest->bytes + SBA_FOREST_AT_ENTRIES);
	SbaForestLayout layout;
	SbaForestFeature feature;
	const uint8_t *sums;

	sba_forest_layout(forest, &layout);
	sba_forest_feature(forest, 0, &feature);
	sums = layout.body + (size_t) n_steps * layout.key_size;
	*threshold = step == 0 ? -INFINITY :
		threshold_of(&feature, sba_forest_load_key(layout.body, step - 1, layout.key_size));
	*path_length = (double) sba_load_u32(sums + 4 * (size_t) step) /
		(double) (UINT32_C(1) << layout.fraction_bits) / forest->n_trees;
}
