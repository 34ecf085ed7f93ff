/*
 * crc32c.h
 *	  The Castagnoli CRC of RFC 3720, by the processor's instruction where it
 *	  has one.
 */
#ifndef SBA_CORE_CRC32C_H
#define SBA_CORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * Extend crc, the checksum of what came before (0 for nothing), by length
 * bytes.
 */
extern uint32_t sba_crc32c(uint32_t crc, const void *data, size_t length);

/* The same by table alone, for tests to compare with. */
extern uint32_t sba_crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif							/* SBA_CORE_CRC32C_H */
