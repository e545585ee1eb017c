#include "event/uuid.h"

#include "cellgate/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* 12 bits behind the version and 62 behind the variant: 74 are random, ten bytes hold them. */
enum { UUID_BYTES = 16, UUID_RANDOM_BYTES = 10 };

void cg_uuid_source_init(struct cg_uuid_source *source)
{
    source->used = sizeof(source->block);
}

static void draw_block(struct cg_uuid_source *source)
{
    /* A signal may cut a read of more than 256 bytes short. */
    for (size_t have = 0; have < sizeof(source->block);) {
        ssize_t got = getrandom(source->block + have, sizeof(source->block) - have, 0);
        CG_ASSERT(got > 0 || (got < 0 && errno == EINTR));
        have += got > 0 ? (size_t)got : 0;
    }
    source->used = 0;
}

static char *write_hex(char *at, const uint8_t *bytes, size_t count)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        *at++ = hex[bytes[i] >> 4];
        *at++ = hex[bytes[i] & 15];
    }
    return at;
}

void cg_uuid_next(struct cg_uuid_source *source, uint64_t realtime_ns, char *ret_text)
{
    if (sizeof(source->block) - source->used < UUID_RANDOM_BYTES) {
        draw_block(source);
    }
    uint8_t uuid[UUID_BYTES];
    uint64_t milliseconds = realtime_ns / CG_NS_PER_MS;
    for (size_t i = 0; i < 6; i++) {
        uuid[i] = (uint8_t)(milliseconds >> (40 - 8 * i));
    }
    memcpy(uuid + 6, source->block + source->used, UUID_RANDOM_BYTES);
    memset(source->block + source->used, 0, UUID_RANDOM_BYTES);
    source->used += UUID_RANDOM_BYTES;
    uuid[6] = 0x70 | (uuid[6] & 0x0f);
    uuid[8] = 0x80 | (uuid[8] & 0x3f);

    char *at = write_hex(ret_text, uuid, 4);
    *at++ = '-';
    at = write_hex(at, uuid + 4, 2);
    *at++ = '-';
    at = write_hex(at, uuid + 6, 2);
    *at++ = '-';
    at = write_hex(at, uuid + 8, 2);
    *at++ = '-';
    (void)write_hex(at, uuid + 10, 6);
}
