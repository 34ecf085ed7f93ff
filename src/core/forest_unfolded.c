/*
 * forest_unfolded.c
 *	  A copy of a forest in which a single row is scored in less time.
 *
 * In a stored tree the next node is found by counting bits.  The copy has a
 * record for each node that says where the next one is, and takes about four
 * times the bytes.
 */
#include "core/forest_kernel.h"

/*
 * A node, and how many records its children are behind it, left and right.  A
 * leaf is its own child, and its key is its path length: every walk may take as
 * many steps as the height limit allows.
 */
typedef struct SbaUnfoldedNode
{
	int32_t		key;
	uint16_t	steps[2];
} SbaUnfoldedNode;

/* Where each tree begins, and the nodes of all trees, in level order each. */
struct SbaUnfoldedForest
{
	uint32_t	roots[SBA_FOREST_MAX_TREES];
	SbaUnfoldedNode nodes[];
};

size_t
sba_forest_unfolded_size(const SbaForest *forest)
{
	SbaForestLayout layout;
	size_t		n_nodes = 0;

	sba_forest_layout(forest, &layout);
	if ((layout.flags & (SBA_FOREST_FLAG_TABLE | SBA_FOREST_FLAG_LINKED)) != 0)
		return 0;
	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		SbaPackedTree packed;

		sba_forest_packed_tree(&layout, tree, &packed);
		n_nodes += 2 * (size_t) packed.n_splits + 1;
	}
	return sizeof(SbaUnfoldedForest) + n_nodes * sizeof(SbaUnfoldedNode);
}

/* The path length of a leaf, which has the next of the sizes if it has several rows. */
static inline int32_t
leaf_path(const SbaForestLayout *layout, const SbaPackedTree *packed, uint32_t is_several,
		  uint32_t place)
{
	uint32_t	depth = 31 - (uint32_t) __builtin_clz(place);
	uint32_t	rows = 1 + ((*packed->sizes + 1U) & (0 - is_several));

	return (int32_t) ((depth << layout->fraction_bits) +
					  sba_path_round(sba_average_path_table[rows], layout->fraction_bits));
}

/*
 * Returns the number of nodes; the children of split n are 2n + 1 and 2n + 2.
 * Written without branches that cannot be foreseen: every child is taken for a
 * leaf, and one that is a split is written again when its turn comes.
 */
static uint32_t
unfold_tree(const SbaForestLayout *layout, uint32_t tree, SbaUnfoldedNode *nodes)
{
	SbaPackedTree packed;
	uint64_t	bitmap[2 * SBA_FOREST_HEAP_LEAVES / 64] = {0};
	uint16_t	split_nodes[SBA_FOREST_HEAP_LEAVES] = {0};
	uint32_t	n_found = 1;
	uint32_t	split = 0;
	uint32_t	leaf = 0;

	sba_forest_packed_tree(layout, tree, &packed);
	memcpy(bitmap, packed.bitmap, sizeof(packed.bitmap));
	if (packed.n_splits == 0)
	{
		memset(nodes, 0, sizeof(SbaUnfoldedNode));
		nodes->key = leaf_path(layout, &packed, packed.several[0] & 1, 1);
	}
	for (uint32_t word = 0; word < 4; word++)
	{
		for (uint64_t left = bitmap[word]; left != 0; left &= left - 1, split++)
		{
			uint32_t	place = word * 64 + (uint32_t) __builtin_ctzll(left);
			SbaUnfoldedNode *node = nodes + split_nodes[split];

			node->key = sba_forest_load_key(packed.keys, split, layout->key_size);
			for (uint32_t side = 0; side < 2; side++)
			{
				SbaUnfoldedNode *child = nodes + 2 * (size_t) split + 1 + side;
				uint32_t	below = 2 * place + side;
				uint32_t	is_split = bitmap[below >> 6] >> (below & 63) & 1;
				uint32_t	is_several = packed.several[leaf >> 3] >> (leaf & 7) & 1 & ~is_split;

				node->steps[side] = (uint16_t) (child - node);
				child->key = leaf_path(layout, &packed, is_several, below);
				child->steps[0] = 0;
				child->steps[1] = 0;
				split_nodes[n_found] = (uint16_t) (child - nodes);
				n_found += is_split;
				leaf += 1 - is_split;
				packed.sizes += is_several;
			}
		}
	}
	return 2 * packed.n_splits + 1;
}

void
sba_forest_unfold(SbaForest *forest, void *memory)
{
	SbaUnfoldedForest *unfolded = memory;
	SbaForestLayout layout;
	uint32_t	n_nodes = 0;

	sba_forest_layout(forest, &layout);
	for (uint32_t tree = 0; tree < forest->n_trees; tree++)
	{
		unfolded->roots[tree] = n_nodes;
		n_nodes += unfold_tree(&layout, tree, unfolded->nodes + n_nodes);
	}
	forest->unfolded = unfolded;
}

static SBA_ALWAYS_INLINE uint32_t
walk_unfolded(const SbaForest *forest, const SbaForestLayout *layout, const int32_t *keys,
			  uint32_t key_shift)
{
	const SbaUnfoldedForest *unfolded = forest->unfolded;
	uint32_t	feature_mask = layout->feature_mask;
	uint32_t	sum = 0;

	for (uint32_t tree = 0; tree < forest->n_trees; tree += SBA_WALK_TREES)
	{
		uint32_t	count = forest->n_trees - tree < SBA_WALK_TREES ? forest->n_trees - tree : SBA_WALK_TREES;
		const SbaUnfoldedNode *nodes[SBA_WALK_TREES];

		/* The last tree stands in for those that a last group lacks. */
#pragma GCC unroll 8
		for (uint32_t i = 0; i < SBA_WALK_TREES; i++)
			nodes[i] = unfolded->nodes + unfolded->roots[i < count ? tree + i : forest->n_trees - 1];
		for (uint32_t step = 0; step < layout->height_limit; step++)
		{
#pragma GCC unroll 8
			for (uint32_t i = 0; i < SBA_WALK_TREES; i++)
			{
				int32_t		key = nodes[i]->key;

				nodes[i] += nodes[i]->steps[keys[(uint32_t) key >> key_shift & feature_mask] >= key];
			}
		}
		for (uint32_t i = 0; i < count; i++)
			sum += (uint32_t) nodes[i]->key;
	}
	return sum;
}

uint32_t
sba_forest_walk_unfolded(const SbaForest *forest, const SbaForestLayout *layout,
						 const int32_t *keys)
{
	if (layout->key_shift == 0)
		return walk_unfolded(forest, layout, keys, 0);
	return walk_unfolded(forest, layout, keys, 8);
}
