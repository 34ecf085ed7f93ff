/*
 * bytes.h
 *	  Little-endian numbers in runs of bytes, at any alignment.
 */
#ifndef SBA_CORE_BYTES_H
#define SBA_CORE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t
sba_load_u16(const uint8_t *p)
{
	return (uint16_t) (p[0] | p[1] << 8);
}

static inline uint32_t
sba_load_u32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static inline uint64_t
sba_load_u64(const uint8_t *p)
{
	return (uint64_t) sba_load_u32(p) | (uint64_t) sba_load_u32(p + 4) << 32;
}

static inline float
sba_load_f32(const uint8_t *p)
{
	uint32_t	bits = sba_load_u32(p);
	float		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static inline double
sba_load_f64(const uint8_t *p)
{
	uint64_t	bits = sba_load_u64(p);
	double		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static inline void
sba_store_u16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t) value;
	p[1] = (uint8_t) (value >> 8);
}

static inline void
sba_store_u32(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t) value;
	p[1] = (uint8_t) (value >> 8);
	p[2] = (uint8_t) (value >> 16);
	p[3] = (uint8_t) (value >> 24);
}

static inline void
sba_store_u64(uint8_t *p, uint64_t value)
{
	sba_store_u32(p, (uint32_t) value);
	sba_store_u32(p + 4, (uint32_t) (value >> 32));
}

static inline void
sba_store_f32(uint8_t *p, float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	sba_store_u32(p, bits);
}

static inline void
sba_store_f64(uint8_t *p, double value)
{
	uint64_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	sba_store_u64(p, bits);
}

#endif							/* SBA_CORE_BYTES_H */
