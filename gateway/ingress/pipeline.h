/*
 * pipeline.h - the way of an event within one ingress thread: bytes of a stream become events.
 *
 * frame, decode, stamp, envelope (and signature), spool. Every event is rendered where the spool
 * wants it, once. A pipeline belongs to one thread; it does no I/O but what the spool does at a
 * commit, and logs nothing.
 */
#ifndef CELLGATE_PIPELINE_H
#define CELLGATE_PIPELINE_H

#include "cells/life.h"
#include "event/uuid.h"
#include "ingress/connection.h"
#include "ingress/ingress.h"

struct cg_pipeline {
    const struct cg_envelope *envelope;
    struct cg_signer *signer;
    struct cg_spool_writer *writer;
    struct cg_uuid_source uuids;
    struct cg_decode_scratch scratch;
    struct cg_error commit_error; /* the text of the last commit that FAILED */
};

CG_MUST_USE bool cg_pipeline_new(const struct cg_envelope *envelope,
                                 const struct cg_signing_key *key, struct cg_spool *spool,
                                 struct cg_pipeline **ret_pipeline, struct cg_error *err);
/* What is staged and was not committed is lost. NULL is fine. */
void cg_pipeline_free(struct cg_pipeline *pipeline);

/* What one call took off a stream. */
struct cg_pipeline_taken {
    enum {
        CG_TAKEN_ALL,     /* every whole frame; what is left is the beginning of one, or nothing */
        CG_TAKEN_REFUSED, /* up to a frame that was refused: the stream is of no more use */
        CG_TAKEN_BLOCKED, /* up to a frame that the spool has no room for: commit, and call again */
    } end;
    size_t needed;            /* ALL: bytes of the frame begun, as far as is known */
    enum cg_refusal refusal;  /* REFUSED */
    const char *why;          /* REFUSED: a static text */
    uint64_t frames, bytes;   /* accepted */
    uint64_t unsigned_events; /* of them: lost because signing failed */
};

/* Takes frames off the front of *stream, stages their events, and adds to the cell's counters. */
void cg_pipeline_take(struct cg_pipeline *pipeline, struct cg_connection *connection,
                      uint64_t received_ns, uint64_t monotonic_ns, struct cg_bytes *stream,
                      struct cg_pipeline_taken *ret_taken);

/* What became of an event of the gateway's own. */
enum cg_told {
    CG_TOLD_STAGED,
    CG_TOLD_UNSIGNED, /* a sequence number is used, and noted as dropped */
    CG_TOLD_BLOCKED,  /* the spool has no room: nothing is used */
};

/* Stages it, with the cell's next sequence number. */
CG_MUST_USE enum cg_told cg_pipeline_tell(struct cg_pipeline *pipeline, struct cg_channel *channel,
                                          const struct cg_life_event *event, uint64_t realtime_ns);

/* The same for a reading of a probe, whose moment is its own. */
CG_MUST_USE enum cg_told cg_pipeline_observe(struct cg_pipeline *pipeline,
                                             struct cg_channel *channel,
                                             const struct cg_reading *reading);

/* Publishes what is staged, if anything is. */
CG_MUST_USE enum cg_append cg_pipeline_commit(struct cg_pipeline *pipeline);
/* Signs with another one from the next event on; it becomes the pipeline's, the old one is wiped.
 */
void cg_pipeline_set_signer(struct cg_pipeline *pipeline, struct cg_signer *signer);
enum cg_signing_mode cg_pipeline_signing_mode(const struct cg_pipeline *pipeline);

#endif
