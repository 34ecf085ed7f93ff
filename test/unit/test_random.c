/*
 * test_random.c
 *	  The random numbers are those of the published generators, and streams
 *	  have nothing in common.
 */
#include "core/random.h"

#include "tap.h"

#define DRAWS 60000

/* Numbers from a reference written in Python after the published code. */
static void
test_reference(void)
{
	SbaRandom	random = {{1, 2, 3, 4}};
	static const uint64_t expected[] = {
		UINT64_C(11520), UINT64_C(0), UINT64_C(1509978240),
		UINT64_C(1215971899390074240), UINT64_C(1216172134540287360),
		UINT64_C(607988272756665600)
	};

	for (int i = 0; i < 6; i++)
		is_uint(sba_random_u64(&random), expected[i], "xoshiro256** number %d", i);

	is_uint(sba_mix_u64(UINT64_C(0x9e3779b97f4a7c15)), UINT64_C(0xe220a8397b1dcdaf),
			"the first number of splitmix64 from 0");
	is_uint(sba_mix_u64(UINT64_C(0x3c6ef372fe94f82a)), UINT64_C(0x6e789e6aa1b965f4),
			"the second number of splitmix64 from 0");

	sba_random_start(&random, 0, 0);
	is_uint(sba_random_u64(&random), UINT64_C(0x30bb94d28b7ab90c), "seed 0, stream 0");
	sba_random_start(&random, 1, 0);
	is_uint(sba_random_u64(&random), UINT64_C(0xa42f370f4f3e6190), "seed 1, stream 0");
	sba_random_start(&random, 42, 7);
	is_uint(sba_random_u64(&random), UINT64_C(0x6d10e7cc824ca533), "seed 42, stream 7");
}

static void
test_streams(void)
{
	uint64_t	first[1024];
	bool		distinct = true;

	for (uint64_t seed = 0; seed < 32; seed++)
	{
		for (uint64_t stream = 0; stream < 32; stream++)
		{
			SbaRandom	random;

			sba_random_start(&random, seed, stream);
			first[seed * 32 + stream] = sba_random_u64(&random);
		}
	}
	for (int i = 0; i < 1024; i++)
		for (int j = 0; j < i; j++)
			distinct &= first[i] != first[j];
	ok(distinct, "32 neighbouring seeds with 32 streams each begin differently");
}

static void
test_distribution(void)
{
	SbaRandom	random;
	uint32_t	seen[6] = {0};
	bool		in_range = true;
	bool		even = true;
	double		sum = 0;

	sba_random_start(&random, 1, 0);
	for (int i = 0; i < DRAWS; i++)
	{
		uint32_t	draw = sba_random_below(&random, 6);

		in_range &= draw < 6;
		if (draw < 6)
			seen[draw]++;
	}
	ok(in_range, "a draw below 6 is below 6");

	/* The standard deviation of each count is 91. */
	for (int i = 0; i < 6; i++)
		even &= seen[i] > DRAWS / 6 - 460 && seen[i] < DRAWS / 6 + 460;
	ok(even, "the six numbers come equally often: %u %u %u %u %u %u",
	   seen[0], seen[1], seen[2], seen[3], seen[4], seen[5]);

	in_range = true;
	for (int i = 0; i < DRAWS; i++)
		in_range &= sba_random_below(&random, UINT32_C(3000000000)) < UINT32_C(3000000000);
	ok(in_range, "a draw below three thousand million is below it");
	is_uint(sba_random_below(&random, 1), 0, "a draw below 1 is 0");

	in_range = true;
	for (int i = 0; i < DRAWS; i++)
	{
		double		unit = sba_random_unit(&random);

		in_range &= unit >= 0 && unit < 1;
		sum += unit;
	}
	ok(in_range, "a unit number is in [0, 1)");
	is_double(sum / DRAWS, 0.5, 0.006, "unit numbers are 0.5 on average");
}

int
main(void)
{
	plan_tests(0);
	test_reference();
	test_streams();
	test_distribution();
	return done();
}
