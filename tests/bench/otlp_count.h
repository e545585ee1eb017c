/*
 * otlp_count.h - how many log records an ExportLogsServiceRequest holds, by its lengths alone.
 *
 * Request: resource_logs = 1; ResourceLogs: scope_logs = 2; ScopeLogs: log_records = 2. The walk
 * skips from record to record, so that counting costs the sink next to nothing.
 */
#ifndef TESTS_BENCH_OTLP_COUNT_H
#define TESTS_BENCH_OTLP_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static bool otlp_varint(const unsigned char **at, const unsigned char *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* Counts at the third level; `path` holds the fields to go down by. UINT64_MAX: not protobuf. */
static uint64_t otlp_count_below(const unsigned char *at, const unsigned char *end,
                                 const unsigned *path, unsigned levels)
{
    uint64_t count = 0;
    while (at < end) {
        uint64_t tag, length;
        if (!otlp_varint(&at, end, &tag) || (tag & 7) != 2 || !otlp_varint(&at, end, &length) ||
            length > (uint64_t)(end - at)) {
            return UINT64_MAX;
        }
        if (tag >> 3 == path[0]) {
            uint64_t more =
                levels == 1 ? 1 : otlp_count_below(at, at + length, path + 1, levels - 1);
            if (more == UINT64_MAX) {
                return UINT64_MAX;
            }
            count += more;
        }
        at += length;
    }
    return count;
}

static uint64_t otlp_count_records(const char *data, size_t len)
{
    static const unsigned path[] = {1, 2, 2};
    const unsigned char *at = (const unsigned char *)data;
    return otlp_count_below(at, at + len, path, 3);
}

#endif
