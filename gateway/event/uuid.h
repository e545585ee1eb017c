/*
 * uuid.h - UUIDv7 (RFC 9562 section 5.7): milliseconds of real time, then random bits.
 *
 * A source belongs to one thread and draws its randomness from the kernel in blocks; the bytes used
 * are wiped as they are handed out.
 */
#ifndef CELLGATE_UUID_H
#define CELLGATE_UUID_H

#include "cellgate/error.h"

#include <stddef.h>
#include <stdint.h>

enum { CG_UUID_BLOCK_BYTES = 4096 };

struct cg_uuid_source {
    uint8_t block[CG_UUID_BLOCK_BYTES];
    size_t used; /* starts at CG_UUID_BLOCK_BYTES: nothing drawn yet */
};

void cg_uuid_source_init(struct cg_uuid_source *source);

/* Writes the 36 lower-case characters of a new UUIDv7 into `ret_text` (not terminated). The
 * kernel's generator does not fail once it is seeded; that it does not is asserted. */
void cg_uuid_next(struct cg_uuid_source *source, uint64_t realtime_ns, char *ret_text);

#endif
