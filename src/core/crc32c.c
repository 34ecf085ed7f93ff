/*
 * crc32c.c
 *	  The Castagnoli CRC of RFC 3720.
 *
 * The table form takes eight bytes at a time ("slicing by 8", Kounavis and
 * Berry 2005).  The instructions of SSE 4.2 and of ARMv8 are used where the
 * processor has them.
 */
#include "core/crc32c.h"

#include "core/bytes.h"
#include "core/crc32c_table.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define SBA_CRC32C_SSE42
#include <immintrin.h>
#elif defined(__GNUC__) && defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define SBA_CRC32C_ARMV8
#include <arm_acle.h>
#endif

uint32_t
sba_crc32c_portable(uint32_t crc, const void *data, size_t length)
{
	const uint8_t *p = data;

	crc = ~crc;
	for (; length >= 8; p += 8, length -= 8)
	{
		uint32_t	low = sba_load_u32(p) ^ crc;
		uint32_t	high = sba_load_u32(p + 4);

		crc = crc_table[7][low & 0xff] ^ crc_table[6][(low >> 8) & 0xff] ^
			crc_table[5][(low >> 16) & 0xff] ^ crc_table[4][low >> 24] ^
			crc_table[3][high & 0xff] ^ crc_table[2][(high >> 8) & 0xff] ^
			crc_table[1][(high >> 16) & 0xff] ^ crc_table[0][high >> 24];
	}
	for (; length > 0; p++, length--)
		crc = (crc >> 8) ^ crc_table[0][(crc ^ *p) & 0xff];
	return ~crc;
}

#ifdef SBA_CRC32C_SSE42

__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const void *data, size_t length)
{
	const uint8_t *p = data;
	uint64_t	wide = ~crc;

	for (; length >= 8; p += 8, length -= 8)
		wide = _mm_crc32_u64(wide, sba_load_u64(p));
	crc = (uint32_t) wide;
	for (; length > 0; p++, length--)
		crc = _mm_crc32_u8(crc, *p);
	return ~crc;
}

uint32_t
sba_crc32c(uint32_t crc, const void *data, size_t length)
{
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(crc, data, length);
	return sba_crc32c_portable(crc, data, length);
}

#elif defined(SBA_CRC32C_ARMV8)

uint32_t
sba_crc32c(uint32_t crc, const void *data, size_t length)
{
	const uint8_t *p = data;

	crc = ~crc;
	for (; length >= 8; p += 8, length -= 8)
		crc = __crc32cd(crc, sba_load_u64(p));
	for (; length > 0; p++, length--)
		crc = __crc32cb(crc, *p);
	return ~crc;
}

#else

uint32_t
sba_crc32c(uint32_t crc, const void *data, size_t length)
{
	return sba_crc32c_portable(crc, data, length);
}

#endif
