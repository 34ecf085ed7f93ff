/*
 * forest_reservoir.h
 *	  A uniform sample of rows that come one after the other, for fitting a
 *	  forest to a table of any length in memory that does not grow with it.
 *
 * The first rows are kept as they come.  From the moment that the reservoir is
 * full, row number n takes the place of a random one with probability
 * capacity / n (Waterman's algorithm R), so that at any time every set of rows
 * seen is equally likely to be the one that is held.  It is all whole numbers:
 * the same rows in the same order and the same seed give the same sample on
 * every machine.
 *
 * Two reservoirs filled from different rows merge into a uniform sample of all
 * of them.  This needs that they were drawn independently, though both know
 * the same seed only: the random numbers start over when a reservoir gets
 * full, from the seed and a hash of the rows that are in it then.
 *
 * The reservoir allocates nothing: rows and room are the caller's.
 */
#ifndef SBA_CORE_FOREST_RESERVOIR_H
#define SBA_CORE_FOREST_RESERVOIR_H

#include "core/forest.h"
#include "core/random.h"

/*
 * Limits that bound the memory: values held (64 MB of doubles), and rows of all
 * trees together (16 bytes each in a stored forest of large samples).
 */
#define SBA_RESERVOIR_MAX_VALUES	UINT32_C(8388608)
#define SBA_RESERVOIR_MAX_TREE_ROWS UINT32_C(8388608)

typedef struct SbaForestReservoir
{
	SbaForestParameters parameters;
	uint64_t	n_seen;
	uint32_t	capacity;		/* rows that may be held */
	uint32_t	n_rows;			/* rows held */
	uint32_t	room;			/* rows that there is memory for */
	double	   *rows;			/* row-major; the caller's */
	SbaRandom	random;			/* started when n_rows = capacity */
} SbaForestReservoir;

/*
 * Prepare an empty reservoir without room.  Its capacity is what all trees
 * together can take without sharing a row, or what SBA_RESERVOIR_MAX_VALUES
 * allows if that is less.  Errors: SBA_INVALID_ARGUMENT for parameters out of
 * range or beyond the limits.
 */
extern SbaStatus sba_forest_reservoir_start(SbaForestReservoir *reservoir,
											const SbaForestParameters *parameters,
											SbaError *error);

/* Rows to make room for before the next one is added; room if it suffices. */
extern uint32_t sba_forest_reservoir_next_room(const SbaForestReservoir *reservoir);

/* See one more row; n_features doubles. */
extern void sba_forest_reservoir_add(SbaForestReservoir *reservoir, const double *row);

/* Rows that *into will hold when *from is merged into it. */
extern uint32_t sba_forest_reservoir_merged_rows(const SbaForestReservoir *into,
												 const SbaForestReservoir *from);

/*
 * Make *into a sample of what both have seen.  They must have the same
 * parameters, and into->room must be at least the merged rows.
 */
extern void sba_forest_reservoir_merge(SbaForestReservoir *into,
									   const SbaForestReservoir *from);

#endif							/* SBA_CORE_FOREST_RESERVOIR_H */
