/*
 * forest_kernel_bmi2.c
 *	  The portable code once more, for x86 processors that count bits by an
 *	  instruction (all since 2013): a walk through a stored tree counts bits at
 *	  every step.
 */
#include "core/forest_kernel.h"

#ifdef SBA_FOREST_X86

__attribute__((target("popcnt,bmi,bmi2")))
uint32_t
sba_forest_walk_bmi2(const SbaForestLayout *layout, uint32_t n_trees, const int32_t *keys)
{
	if (layout->key_size == 4)
		return sba_walk_trees(layout, n_trees, keys, 4, true);
	return sba_walk_trees(layout, n_trees, keys, 3, true);
}

#endif
