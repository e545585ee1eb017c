/*
 * record.h - one record of a segment: a fixed header, a payload, zeros up to a multiple of 8. Pure.
 *
 * Two checksums. The content's covers everything from `len` to the padding and is made while a
 * writer stages, without any lock. The seal extends it by the record's index and the segment's
 * salt, a random number: it is made at commit, costs two instructions, and ties the content to its
 * place. A segment file is used again and again, and what is left in it from an earlier life has
 * another salt, so it never passes for new. Guests do not know the salt, so a record cannot be
 * forged inside an event either.
 *
 * Kinds below CG_RECORD_INTERNAL are events (enum cg_event_kind), each with an index of its own.
 * The others are the spool's own and carry the index of the event that follows.
 */
#ifndef CELLGATE_RECORD_H
#define CELLGATE_RECORD_H

#include "cellgate/event.h"
#include "cellgate/limits.h"

enum cg_record_kind {
    CG_RECORD_INTERNAL = 128,
    CG_RECORD_RUNS = 128,    /* part of the table of live runs (runs.h) */
    CG_RECORD_RUN_END = 129, /* the run of its one entry has ended */
    CG_RECORD_GAP = 130,     /* two u64: the first and last index of a range that was lost */
    CG_RECORD_LOSSES = 131,  /* ranges of sequences that were lost (runs.h, losses.h) */
};

/* In `flags` of events, beside cg_event_meta.silence: it tells what its run had lost. */
enum { CG_RECORD_TELLS_LOSSES = 1 << 14 };

/* As it lies in the file, little-endian. */
struct cg_record_header {
    uint64_t index;
    uint32_t seal;
    uint32_t content_crc;
    uint32_t len; /* of the payload */
    uint8_t kind;
    uint8_t severity;
    uint16_t flags; /* CG_RECORD_RUNS: 1 in the last part; events: silence and the above */
    uint32_t connection;
    uint32_t pid;
    uint64_t sequence;
    uint64_t received_ns;
    struct cg_event_span text[CG_TEXT_COUNT];
};

enum {
    CG_RECORD_HEADER_BYTES = 80,
    CG_RECORD_PAYLOAD_MAX = 65536,
    CG_RECORD_BYTES_MAX = CG_RECORD_HEADER_BYTES + CG_RECORD_PAYLOAD_MAX,
};
_Static_assert(sizeof(struct cg_record_header) == CG_RECORD_HEADER_BYTES, "the format is fixed");

/* What a payload of `len` bytes takes in the file. */
static inline size_t cg_record_bytes(size_t len)
{
    return CG_RECORD_HEADER_BYTES + ((len + 7) & ~(size_t)7);
}

static inline bool cg_record_is_event(const struct cg_record_header *record)
{
    return record->kind < CG_RECORD_INTERNAL;
}

/* Completes the record whose payload was written behind the room for its header: all but index and
 * seal. `record` is aligned to 8 and has room for cg_record_bytes(len). */
void cg_record_stage(struct cg_record_header *record, size_t len, const struct cg_event_meta *meta);
/* The same for an internal record. */
void cg_record_stage_internal(struct cg_record_header *record, size_t len, enum cg_record_kind kind,
                              uint16_t flags);

/* Gives a staged record its place. May be done again with another one. */
void cg_record_seal(struct cg_record_header *record, uint64_t index, uint64_t salt);

/* Whether the header belongs to this segment (its payload is not looked at). */
bool cg_record_sealed(const struct cg_record_header *record, uint64_t salt);
/* Whether the content is what was staged; all cg_record_bytes(record->len) are there. */
bool cg_record_whole(const struct cg_record_header *record);

static inline struct cg_bytes cg_record_payload(const struct cg_record_header *record)
{
    return cg_bytes(record + 1, record->len);
}

/* The event of an event's record, borrowing from it. */
void cg_record_event(const struct cg_record_header *record, struct cg_event *ret_event);

#endif
