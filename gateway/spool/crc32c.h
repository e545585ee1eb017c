/*
 * crc32c.h - CRC32C (Castagnoli), the checksum of everything the spool stores. Pure; any thread.
 */
#ifndef CELLGATE_CRC32C_H
#define CELLGATE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `data` behind bytes whose checksum is `crc` (0 for none). */
uint32_t cg_crc32c(uint32_t crc, const void *data, size_t len);

/* The same for two words, little-endian: what sealing a record costs under the append lock. */
uint32_t cg_crc32c_u64x2(uint32_t crc, uint64_t first, uint64_t second);

/* Without the processor's instructions: what machines without them use, and a judge for tests. */
uint32_t cg_crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
