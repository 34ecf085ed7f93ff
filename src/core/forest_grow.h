/*
 * forest_grow.h
 *	  What the ways of growing a tree share.
 *
 * All of them draw the same numbers in the same order, and so grow the same
 * trees: they differ in how many rows they look at in one instruction.
 */
#ifndef SBA_CORE_FOREST_GROW_H
#define SBA_CORE_FOREST_GROW_H

#include "core/forest_internal.h"
#include "core/random.h"

#define SBA_ALWAYS_INLINE inline __attribute__((always_inline))

/* In a column of keys; below every key that a value can have. */
#define SBA_KEY_MISSING INT32_MIN

/* A node waiting for its turn, in level order; it has at least two rows. */
typedef struct SbaPendingNode
{
	uint32_t	first;			/* its rows are members[first ...] */
	uint32_t	count;
	uint32_t	place;			/* number in the complete heap */
	uint32_t	child;			/* its number in tree.children */
} SbaPendingNode;

/* What trees are grown from, one after the other. */
struct SbaForestGrower
{
	SbaForestShape shape;
	int32_t		fill_keys[SBA_FOREST_MAX_FEATURES];
	bool		has_missing[SBA_FOREST_MAX_FEATURES];	/* at least in this
														 * sub-sample */
	uint16_t	features[SBA_FOREST_MAX_FEATURES];	/* in a shuffled order */
	SbaRandom	random;

	int32_t    *columns;		/* [n_features][sample_size] keys */
	uint32_t   *members;		/* [sample_size] rows of the sub-sample */
	uint32_t   *spare;			/* [sample_size] */
	int32_t    *picked;			/* [sample_size] keys of one node */
	SbaPendingNode *pending;	/* [2 * sample_size] */
	SbaTree		tree;
};

/* Pick one of the first so many features, and put it behind the others. */
static SBA_ALWAYS_INLINE uint32_t
sba_grow_pick_feature(uint16_t *features, uint32_t candidates, SbaRandom *random)
{
	uint32_t	pick = candidates > 1 ? sba_random_below(random, candidates) : 0;
	uint16_t	chosen = features[pick];

	features[pick] = features[candidates - 1];
	features[candidates - 1] = chosen;
	return chosen;
}

/*
 * Keys that may be stored for this feature are those with its number in them:
 * every 2^(key_shift + feature_bits)-th.  These give the last one at or below
 * a key, and the first one above it.
 */
static SBA_ALWAYS_INLINE int64_t
sba_grow_storable_at_or_below(const SbaForestShape *shape, uint32_t feature, int64_t key)
{
	int64_t		step = INT64_C(1) << (shape->key_shift + shape->feature_bits);
	int64_t		tag = (int64_t) feature << shape->key_shift;
	int64_t		storable = (key & ~(step - 1)) + tag;

	return storable > key ? storable - step : storable;
}

static SBA_ALWAYS_INLINE int64_t
sba_grow_storable_above(const SbaForestShape *shape, uint32_t feature, int64_t key)
{
	return sba_grow_storable_at_or_below(shape, feature, key) +
		(INT64_C(1) << (shape->key_shift + shape->feature_bits));
}

/*
 * Place the split of a feature whose keys range from least to greatest at a
 * random value.  Returns false if no storable key divides them.
 */
static SBA_ALWAYS_INLINE bool
sba_grow_place_split(const SbaForestShape *shape, uint32_t feature, int32_t least,
					 int32_t greatest, SbaRandom *random, int32_t *key)
{
	int64_t		lowest;
	int64_t		split;
	double		low;
	double		high;

	if (least >= greatest)
		return false;
	lowest = sba_grow_storable_above(shape, feature, least);
	if (lowest > greatest)
		return false;
	low = sba_forest_unkey(least);
	high = sba_forest_unkey(greatest);
	split = sba_grow_storable_at_or_below(shape, feature,
										  sba_forest_key((float) (low + sba_random_unit(random) * (high - low))));

	/* Rounding must not leave one side empty. */
	*key = (int32_t) (split < lowest ? lowest : split);
	return true;
}

/* Begin a tree; returns how many nodes wait. */
static SBA_ALWAYS_INLINE uint32_t
sba_grow_begin(SbaForestGrower *grower)
{
	uint32_t	sample_size = grower->shape.sample_size;

	for (uint32_t i = 0; i < sample_size; i++)
		grower->members[i] = i;
	grower->tree.n_splits = 0;
	grower->tree.root_rows = sample_size;
	grower->pending[0].first = 0;
	grower->pending[0].count = sample_size;
	grower->pending[0].place = 1;
	/* The root is nobody's child; what is written there is overwritten. */
	grower->pending[0].child = 0;
	return sample_size > 1;
}

/*
 * Note the split of a node.  Its children are leaves until they are split in
 * their turn, and those that cannot be are not put into the queue: which they
 * are cannot be foreseen, so that there is no branch.  Returns the queue's end.
 */
static SBA_ALWAYS_INLINE uint32_t
sba_grow_note_split(SbaForestGrower *grower, const SbaPendingNode *node, int32_t key,
					uint32_t n_left, uint32_t end)
{
	SbaTree    *tree = &grower->tree;
	uint32_t	split = tree->n_splits++;
	uint32_t	n_right = node->count - n_left;
	bool		above_bottom = 2 * node->place < UINT32_C(1) << grower->shape.height_limit;
	SbaPendingNode *left = grower->pending + end;
	SbaPendingNode *right;

	tree->children[node->child] = split;
	tree->keys[split] = key;
	tree->places[split] = node->place;
	tree->rows[split] = node->count;
	tree->children[2 * split] = SBA_FOREST_LEAF_BIT | n_left;
	tree->children[2 * split + 1] = SBA_FOREST_LEAF_BIT | n_right;

	left->first = node->first;
	left->count = n_left;
	left->place = 2 * node->place;
	left->child = 2 * split;
	end += above_bottom & (n_left > 1);
	right = grower->pending + end;
	right->first = node->first + n_left;
	right->count = n_right;
	right->place = 2 * node->place + 1;
	right->child = 2 * split + 1;
	return end + (above_bottom & (n_right > 1));
}

#endif							/* SBA_CORE_FOREST_GROW_H */
