#include "cells/witness.h"

#include <stdlib.h>

struct cg_witness *cg_witness_new(uint64_t realtime_ns)
{
    struct cg_witness *witness = calloc(1, sizeof(*witness));
    if (witness != NULL) {
        witness->since_ns = realtime_ns;
    }
    return witness;
}

void cg_witness_free(struct cg_witness *witness)
{
    if (witness == NULL) {
        return;
    }
    for (unsigned i = 0; i < witness->sources_count; i++) {
        free(witness->sources[i]);
    }
    free(witness);
}

/* --- what the guest declares --- */

static bool is_named(const struct cg_witness_source *source, struct cg_bytes name)
{
    return cg_bytes_equal(cg_bytes(source->name, source->len), name);
}

/* A guest may name its sources as it likes: only what could be part of a type becomes a member. */
static bool is_plain(struct cg_bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_')) {
            return false;
        }
    }
    return name.len > 0 && name.len <= CG_WITNESS_SOURCE_BYTES_MAX;
}

/* The place of that source, a new one if there is room; or CG_WITNESS_SOURCES_MAX. */
static unsigned find_source(struct cg_witness *witness, struct cg_bytes name)
{
    for (unsigned i = 0; i < witness->sources_count; i++) {
        if (is_named(witness->sources[i], name)) {
            return i;
        }
    }
    if (witness->sources_count == CG_WITNESS_SOURCES_MAX || !is_plain(name)) {
        return CG_WITNESS_SOURCES_MAX;
    }
    struct cg_witness_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return CG_WITNESS_SOURCES_MAX;
    }
    memcpy(source->name, name.data, name.len);
    source->len = (uint8_t)name.len;
    witness->sources[witness->sources_count] = source;
    return witness->sources_count++;
}

void cg_witness_declare(struct cg_witness *witness, struct cg_bytes probe_source)
{
    unsigned at = witness->latest;
    witness->declared++;
    if (at >= witness->sources_count || !is_named(witness->sources[at], probe_source)) {
        at = find_source(witness, probe_source);
        if (at == CG_WITNESS_SOURCES_MAX) {
            witness->declared_other++;
            return;
        }
        witness->latest = at;
    }
    witness->sources[at]->count++;
}

uint64_t cg_witness_declared(const struct cg_witness *witness, struct cg_bytes probe_source)
{
    for (unsigned i = 0; i < witness->sources_count; i++) {
        if (is_named(witness->sources[i], probe_source)) {
            return witness->sources[i]->count;
        }
    }
    return 0;
}

/* --- what the host saw --- */

void cg_witness_base(struct cg_witness *witness, const struct cg_facts *facts)
{
    for (unsigned fact = 0; fact < CG_FACT_COUNT; fact++) {
        if ((facts->known & UINT32_C(1) << fact) != 0) {
            witness->last[fact] = facts->value[fact];
        }
    }
    witness->based |= facts->known;
}

static void add(uint64_t *total, uint64_t more)
{
    *total = more > UINT64_MAX - *total ? UINT64_MAX : *total + more;
}

void cg_witness_see(struct cg_witness *witness, enum cg_facts_kind kind,
                    const struct cg_facts *facts)
{
    for (unsigned fact = 0; fact < CG_FACT_COUNT; fact++) {
        uint32_t bit = UINT32_C(1) << fact;
        if ((facts->known & bit) == 0) {
            continue;
        }
        uint64_t value = facts->value[fact];
        uint64_t last = witness->last[fact];
        bool goes_on = kind == CG_FACTS_COUNTERS && (witness->based & bit) != 0 && value >= last;
        add(&witness->total[fact], goes_on ? value - last : value);
        witness->last[fact] = value;
    }
    witness->known |= facts->known;
    witness->based |= facts->known;
}
