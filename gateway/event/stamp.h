/*
 * stamp.h - what a guest declared, and what only the host knows about it.
 *
 * docs/contract.md sections 2 (declaration) and 3 (stamp). Plain data, no functions: decode fills
 * the first, the ingress thread the second, envelope.h renders both.
 */
#ifndef CELLGATE_STAMP_H
#define CELLGATE_STAMP_H

#include "cellgate/bytes.h"

#include <stdint.h>

/* A decoded frame. The texts are valid UTF-8 and borrowed from the frame or the decoder's scratch.
 */
struct cg_declaration {
    uint16_t content_version;
    uint32_t guest_pid;
    uint64_t guest_monotonic_ns;
    struct cg_bytes probe_source;
    struct cg_bytes guest_comm;
};

/*
 * What is constant for a run, from its registration to its end. Borrowed; the owner is the cell.
 * The *_json members are rendered once at registration, so that the hot path only copies.
 */
struct cg_run_identity {
    struct cg_bytes cell_id;          /* 1-128 of [A-Za-z0-9._:-]: needs no escape */
    struct cg_bytes run_id;           /* likewise */
    struct cg_bytes spec_hash_json;   /* escaped, without quotes */
    struct cg_bytes traceparent_json; /* escaped, without quotes; empty for null */
    struct cg_bytes labels_json;      /* a canonical JSON object, or empty for none */
};

/* The stamp of one event. */
struct cg_stamp {
    const struct cg_run_identity *run;
    uint64_t sequence;    /* per run, from 1 */
    uint64_t received_ns; /* real time */
    uint32_t connection;  /* ordinal within the run, from 1; 0 where there is none */
};

#endif
