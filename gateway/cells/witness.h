/*
 * witness.h - of one run: what its guest declared, beside what the host itself saw. Pure but for
 * memory.
 *
 * Declarations are counted by their probe_source as they are accepted; the host's figures come from
 * the probes. Counters of the kernel go on over runs and begin again when what they belong to is
 * made anew, so of each the growth since the run was registered is summed up: what did not exist
 * then counts from 0, and one that has become less counts from 0 again.
 *
 * A witness belongs to its cell's ingress thread. Only cells that have probes have one.
 */
#ifndef CELLGATE_WITNESS_H
#define CELLGATE_WITNESS_H

#include "cellgate/bytes.h"

#include <stdbool.h>
#include <stdint.h>

/* What a probe saw, as numbers. By group, in the order of the members of `observed`; tx and rx of
 * the VMM's metrics are the guest's own, `from guest` is what the guest sent. */
enum cg_fact {
    CG_FACT_CGROUP_CPU_USEC,
    CG_FACT_CGROUP_MEMORY_MAX_EVENTS,
    CG_FACT_CGROUP_OOM_KILLS,
    CG_FACT_CGROUP_PIDS_MAX_EVENTS,
    CG_FACT_FC_NET_RX_BYTES,
    CG_FACT_FC_NET_RX_PACKETS,
    CG_FACT_FC_NET_TX_BYTES,
    CG_FACT_FC_NET_TX_PACKETS,
    CG_FACT_FC_VSOCK_RX_BYTES,
    CG_FACT_FC_VSOCK_RX_PACKETS,
    CG_FACT_FC_VSOCK_TX_BYTES,
    CG_FACT_FC_VSOCK_TX_PACKETS,
    CG_FACT_NFT_BYTES,
    CG_FACT_NFT_PACKETS,
    CG_FACT_TAP_BYTES_FROM_GUEST,
    CG_FACT_TAP_BYTES_TO_GUEST,
    CG_FACT_TAP_PACKETS_FROM_GUEST,
    CG_FACT_TAP_PACKETS_TO_GUEST,
    CG_FACT_COUNT
};

/* The figures of one reading. */
struct cg_facts {
    uint32_t known; /* a bit for each fact it has */
    uint64_t value[CG_FACT_COUNT];
};

static inline void cg_facts_set(struct cg_facts *facts, enum cg_fact fact, uint64_t value)
{
    facts->known |= UINT32_C(1) << fact;
    facts->value[fact] = value;
}

/* How the values of a reading are to be understood. */
enum cg_facts_kind {
    CG_FACTS_COUNTERS, /* that only grow */
    CG_FACTS_GROWTH,   /* since the reading before */
};

enum {
    CG_WITNESS_SOURCES_MAX = 32,      /* probe_sources counted by name; the rest together */
    CG_WITNESS_SOURCE_BYTES_MAX = 64, /* docs/contract.md section 4: what may be part of a type */
};

struct cg_witness_source {
    uint64_t count;
    uint8_t len;
    char name[CG_WITNESS_SOURCE_BYTES_MAX];
};

struct cg_witness {
    uint64_t since_ns; /* real time: nothing before it is counted */
    uint64_t declared;
    uint64_t declared_other; /* of them: with a source that is not counted by name */
    struct cg_witness_source *sources[CG_WITNESS_SOURCES_MAX];
    unsigned sources_count;
    unsigned latest; /* the source that was counted last: mostly the next one is the same */
    uint32_t known;  /* facts that any reading has had */
    uint32_t based;  /* facts that `last` is of */
    uint64_t total[CG_FACT_COUNT];
    uint64_t last[CG_FACT_COUNT];
};

/* NULL: no memory. */
struct cg_witness *cg_witness_new(uint64_t realtime_ns);
/* NULL is fine. */
void cg_witness_free(struct cg_witness *witness);

/* The guest declared something. Without memory for a new name it counts among the others. */
void cg_witness_declare(struct cg_witness *witness, struct cg_bytes probe_source);
/* How often it declared this. */
uint64_t cg_witness_declared(const struct cg_witness *witness, struct cg_bytes probe_source);

/* Counters as they stand when the run begins: what they say counts as nothing. */
void cg_witness_base(struct cg_witness *witness, const struct cg_facts *facts);
/* A reading. */
void cg_witness_see(struct cg_witness *witness, enum cg_facts_kind kind,
                    const struct cg_facts *facts);

static inline bool cg_witness_knows(const struct cg_witness *witness, enum cg_fact fact)
{
    return (witness->known & UINT32_C(1) << fact) != 0;
}

#endif
