/*
 * test_crc32c.c
 *	  The checksum is that of RFC 3720, in both ways of computing it.
 */
#include "core/crc32c.h"
#include "core/crc32c_table.h"

#include <string.h>

#include "tap.h"

static void
test_known(const char *name, const uint8_t *bytes, size_t length, uint32_t expected)
{
	is_uint(sba_crc32c(0, bytes, length), expected, "%s", name);
	is_uint(sba_crc32c_portable(0, bytes, length), expected, "%s, by table", name);
}

/* Appendix B.4 of RFC 3720, and the usual check value. */
static void
test_published(void)
{
	uint8_t		bytes[32] = {0};

	test_known("nothing", bytes, 0, 0);
	test_known("\"123456789\"", (const uint8_t *) "123456789", 9, 0xe3069283);
	test_known("32 zeros", bytes, 32, 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	test_known("32 ones", bytes, 32, 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t) i;
	test_known("32 rising bytes", bytes, 32, 0x46dd794e);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t) (31 - i);
	test_known("32 falling bytes", bytes, 32, 0x113fdb5c);
}

static void
test_table(void)
{
	bool		right = true;

	for (uint32_t i = 0; i < 256; i++)
	{
		uint32_t	crc = i;

		for (int k = 0; k < 8; k++)
		{
			for (int bit = 0; bit < 8; bit++)
				crc = crc & 1 ? (crc >> 1) ^ UINT32_C(0x82f63b78) : crc >> 1;
			right &= crc_table[k][i] == crc;
		}
	}
	ok(right, "the table follows from the polynomial");
}

static void
test_lengths(void)
{
	uint8_t		bytes[300];
	bool		same = true;
	bool		extended = true;

	for (int i = 0; i < 300; i++)
		bytes[i] = (uint8_t) (i * 167 + (i >> 3));
	for (size_t start = 0; start < 9; start++)
	{
		for (size_t length = 0; start + length <= sizeof(bytes); length++)
		{
			uint32_t	whole = sba_crc32c(0, bytes + start, length);
			size_t		half = length / 3;

			same &= whole == sba_crc32c_portable(0, bytes + start, length);
			extended &= whole == sba_crc32c(sba_crc32c(0, bytes + start, half),
											bytes + start + half, length - half);
		}
	}
	ok(same, "both ways agree at every length and alignment");
	ok(extended, "a checksum can be extended");
}

int
main(void)
{
	plan_tests(0);
	test_published();
	test_table();
	test_lengths();
	return done();
}
