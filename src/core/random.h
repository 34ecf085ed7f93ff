/*
 * random.h
 *	  Random numbers that are the same on every machine.
 *
 * The generator is xoshiro256** (Blackman and Vigna, "Scrambled linear
 * pseudorandom number generators", 2021), its state filled by splitmix64.
 * A (seed, stream) pair names an independent sequence: both go through a
 * mixing function before they meet, so that neighbouring seeds have no stream
 * in common.
 */
#ifndef SBA_CORE_RANDOM_H
#define SBA_CORE_RANDOM_H

#include <stdint.h>

typedef struct SbaRandom
{
	uint64_t	state[4];
} SbaRandom;

/* The mixing function of splitmix64: a bijection of 64-bit numbers. */
extern uint64_t sba_mix_u64(uint64_t value);

/* Start the sequence that (seed, stream) names. */
extern void sba_random_start(SbaRandom *random, uint64_t seed, uint64_t stream);

/* The next 64 random bits. */
static inline uint64_t
sba_random_u64(SbaRandom *random)
{
	uint64_t   *s = random->state;
	uint64_t	product = s[1] * 5;
	uint64_t	result = ((product << 7) | (product >> 57)) * 9;
	uint64_t	shifted = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= shifted;
	s[3] = (s[3] << 45) | (s[3] >> 19);
	return result;
}

/*
 * A whole number in 0 .. bound - 1, each equally likely (Lemire, "Fast random
 * integer generation in an interval", 2019).  bound must not be 0.
 */
static inline uint32_t
sba_random_below(SbaRandom *random, uint32_t bound)
{
	uint64_t	product = (sba_random_u64(random) >> 32) * bound;

	if ((uint32_t) product < bound)
	{
		uint32_t	threshold = (0U - bound) % bound;

		while ((uint32_t) product < threshold)
			product = (sba_random_u64(random) >> 32) * bound;
	}
	return (uint32_t) (product >> 32);
}

#define SBA_RANDOM_UNIT 0x1p-53

/* A multiple of 2^-53 in [0, 1). */
static inline double
sba_random_unit(SbaRandom *random)
{
	return (double) (sba_random_u64(random) >> 11) * SBA_RANDOM_UNIT;
}

#endif							/* SBA_CORE_RANDOM_H */
