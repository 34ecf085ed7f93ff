/*
 * forest_inspect.h
 *	  Looking into an opened forest: what it consists of, tree by tree.
 */
#ifndef SBA_CORE_FOREST_INSPECT_H
#define SBA_CORE_FOREST_INSPECT_H

#include "core/forest.h"

typedef enum SbaForestForm
{
	SBA_FOREST_FORM_HEAP,
	SBA_FOREST_FORM_LINKED,
	SBA_FOREST_FORM_TABLE
} SbaForestForm;

typedef struct SbaForestSummary
{
	uint32_t	format_version;
	SbaForestForm form;
	uint32_t	key_bits;		/* of a split: 24 or 32 */
	uint32_t	n_steps;		/* table form: where the path length changes */
} SbaForestSummary;

/* Values of a feature are compared as floats of (value - centre) * scale. */
typedef struct SbaForestFeature
{
	double		centre;
	double		scale;
	double		fill;			/* stands for a missing value */
} SbaForestFeature;

/*
 * A node of a tree.  Nodes are numbered in level order, the root is 0.  A value
 * below the threshold goes left; at a leaf, left and right are 0.
 */
typedef struct SbaForestNode
{
	uint32_t	depth;			/* 0 at the root */
	uint32_t	rows;			/* of the sub-sample that came here */
	uint32_t	feature;		/* from 0 */
	uint32_t	left;
	uint32_t	right;
	double		threshold;
	double		path_length;	/* leaves: depth + c(rows) */
} SbaForestNode;

/* Where the next tree of a forest is. */
typedef struct SbaForestCursor
{
	const SbaForest *forest;
	uint32_t	next_tree;
	size_t		next_record;	/* linked form */
} SbaForestCursor;

extern void sba_forest_summary(const SbaForest *forest, SbaForestSummary *summary);
extern void sba_forest_feature(const SbaForest *forest, uint32_t feature,
							   SbaForestFeature *description);

/* Start before the first tree of a forest that has trees: not the table form. */
extern void sba_forest_first_tree(SbaForestCursor *cursor, const SbaForest *forest);

/*
 * Write the nodes of the next tree and return how many there are, at most
 * 2 * sample_size - 1; 0 after the last tree.
 */
extern uint32_t sba_forest_next_tree(SbaForestCursor *cursor, SbaForestNode *nodes);

/*
 * Step number 0 .. n_steps of the table form: from which value on (minus
 * infinity for the first) the average path length over all trees is what.
 */
extern void sba_forest_step(const SbaForest *forest, uint32_t step,
							double *threshold, double *path_length);

#endif							/* SBA_CORE_FOREST_INSPECT_H */
