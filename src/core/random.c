/*
 * random.c
 *	  Random numbers that are the same on every machine.
 */
#include "core/random.h"

/* 2^64 divided by the golden ratio, the step of splitmix64. */
#define GOLDEN_STEP UINT64_C(0x9e3779b97f4a7c15)

uint64_t
sba_mix_u64(uint64_t value)
{
	value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
	return value ^ (value >> 31);
}

void
sba_random_start(SbaRandom *random, uint64_t seed, uint64_t stream)
{
	/*
	 * Mixing the seed first spreads neighbouring seeds over the whole range;
	 * a plain seed + stream would make seed 1 stream 2 equal seed 2 stream 1.
	 */
	uint64_t	state = sba_mix_u64(sba_mix_u64(seed + GOLDEN_STEP) + stream * GOLDEN_STEP);

	for (int i = 0; i < 4; i++)
	{
		state += GOLDEN_STEP;
		random->state[i] = sba_mix_u64(state);
	}
}
