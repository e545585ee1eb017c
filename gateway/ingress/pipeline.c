#include "ingress/pipeline.h"

#include "ingress/frame.h"

#include <stdlib.h>

bool cg_pipeline_new(const struct cg_envelope *envelope, const struct cg_signing_key *key,
                     struct cg_spool *spool, struct cg_pipeline **ret_pipeline,
                     struct cg_error *err)
{
    struct cg_pipeline *pipeline = calloc(1, sizeof(*pipeline));
    if (pipeline == NULL) {
        return cg_error_set(err, "out of memory for an ingress thread");
    }
    pipeline->envelope = envelope;
    cg_uuid_source_init(&pipeline->uuids);
    if (!cg_signer_new(key, &pipeline->signer, err) ||
        !cg_spool_writer_open(spool, &pipeline->writer, err)) {
        cg_pipeline_free(pipeline);
        return false;
    }
    *ret_pipeline = pipeline;
    return true;
}

void cg_pipeline_free(struct cg_pipeline *pipeline)
{
    if (pipeline == NULL) {
        return;
    }
    if (pipeline->writer != NULL) {
        cg_spool_writer_close(pipeline->writer);
    }
    if (pipeline->signer != NULL) {
        cg_signer_free(pipeline->signer);
    }
    free(pipeline);
}

enum cg_append cg_pipeline_commit(struct cg_pipeline *pipeline)
{
    if (cg_spool_writer_staged(pipeline->writer) == 0) {
        return CG_APPEND_DONE;
    }
    return cg_spool_writer_commit(pipeline->writer, &pipeline->commit_error);
}

void cg_pipeline_set_signer(struct cg_pipeline *pipeline, struct cg_signer *signer)
{
    cg_signer_free(pipeline->signer);
    pipeline->signer = signer;
}

enum cg_signing_mode cg_pipeline_signing_mode(const struct cg_pipeline *pipeline)
{
    return cg_signer_mode(pipeline->signer);
}

/* Room for one event, after a commit if it takes one. NULL: the spool has none. */
static char *find_room(struct cg_pipeline *pipeline)
{
    char *room = cg_spool_writer_begin(pipeline->writer);
    if (room == NULL && cg_pipeline_commit(pipeline) == CG_APPEND_DONE) {
        room = cg_spool_writer_begin(pipeline->writer);
        CG_ASSERT(room != NULL);
    }
    return room;
}

/* One body becomes one staged event. The sequence is used up even if the event cannot be signed. */
static enum cg_refusal take_body(struct cg_pipeline *pipeline, struct cg_channel *channel,
                                 struct cg_bytes body, struct cg_stamp *stamp, char *room,
                                 struct cg_pipeline_taken *taken)
{
    struct cg_declaration declaration;
    enum cg_refusal refusal = cg_decode(body, &pipeline->scratch, &declaration, &taken->why);
    if (refusal != CG_REFUSAL_NONE) {
        return refusal;
    }
    stamp->sequence++;
    char uuid[CG_UUID_TEXT_LEN];
    cg_uuid_next(&pipeline->uuids, stamp->received_ns, uuid);
    struct cg_event_meta meta;
    size_t len = cg_envelope_guest(pipeline->envelope, pipeline->signer, stamp, &declaration, uuid,
                                   room, &meta);
    if (len == 0) {
        taken->unsigned_events++;
        if (!cg_life_drop_sequence(&channel->life, CG_DROP_SIGNING, stamp->sequence)) {
            stamp->sequence--;
        }
    } else {
        cg_spool_writer_end(pipeline->writer, len, &meta, channel->cell->run);
    }
    if (channel->witness != NULL) {
        cg_witness_declare(channel->witness, declaration.probe_source);
    }
    taken->frames++;
    taken->bytes += CG_FRAME_PREFIX_BYTES + body.len;
    return CG_REFUSAL_NONE;
}

/* Takes frames until something ends it. */
static void take_frames(struct cg_pipeline *pipeline, struct cg_channel *channel,
                        struct cg_stamp *stamp, struct cg_bytes *stream,
                        struct cg_pipeline_taken *taken)
{
    for (;;) {
        struct cg_bytes body;
        enum cg_frame_result frame = cg_frame_next(*stream, &body, &taken->needed);
        if (frame == CG_FRAME_PARTIAL) {
            taken->end = CG_TAKEN_ALL;
            return;
        }
        if (frame == CG_FRAME_BAD_LENGTH) {
            taken->end = CG_TAKEN_REFUSED;
            taken->refusal = CG_REFUSAL_LENGTH;
            taken->why = "the length prefix is 0 or above 65,536";
            return;
        }
        char *room = find_room(pipeline);
        if (room == NULL) {
            taken->end = CG_TAKEN_BLOCKED;
            return;
        }
        taken->refusal = take_body(pipeline, channel, body, stamp, room, taken);
        if (taken->refusal != CG_REFUSAL_NONE) {
            taken->end = CG_TAKEN_REFUSED;
            return;
        }
        size_t frame_len = CG_FRAME_PREFIX_BYTES + body.len;
        *stream = cg_bytes(stream->data + frame_len, stream->len - frame_len);
    }
}

/* This thread is the only writer: no read-modify-write is needed. */
static void add_to(_Atomic uint64_t *counter, uint64_t more)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + more, memory_order_relaxed);
}

void cg_pipeline_take(struct cg_pipeline *pipeline, struct cg_connection *connection,
                      uint64_t received_ns, uint64_t monotonic_ns, struct cg_bytes *stream,
                      struct cg_pipeline_taken *ret_taken)
{
    struct cg_cell *cell = connection->channel->cell;
    struct cg_stamp stamp = {
        .run = &cell->identity,
        .sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed),
        .received_ns = received_ns,
        .connection = connection->ordinal,
    };
    *ret_taken = (struct cg_pipeline_taken){.refusal = CG_REFUSAL_NONE};
    take_frames(pipeline, connection->channel, &stamp, stream, ret_taken);
    connection->frames += ret_taken->frames;
    connection->bytes += ret_taken->bytes;
    if (ret_taken->frames > 0) {
        atomic_store_explicit(&cell->sequence, stamp.sequence, memory_order_relaxed);
        atomic_store_explicit(&cell->last_frame_ns, monotonic_ns, memory_order_relaxed);
        add_to(&cell->frames, ret_taken->frames);
        add_to(&cell->frame_bytes, ret_taken->bytes);
    }
    if (ret_taken->end == CG_TAKEN_REFUSED) {
        add_to(&cell->frames_rejected, 1);
    }
}

/* The stamp of an event that no frame brought, with the run's next sequence number. */
static struct cg_stamp stamp_next(struct cg_cell *cell, uint64_t realtime_ns, uint32_t connection)
{
    const struct cg_stamp stamp = {
        .run = &cell->identity,
        .sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed) + 1,
        .received_ns = realtime_ns,
        .connection = connection,
    };
    atomic_store_explicit(&cell->sequence, stamp.sequence, memory_order_relaxed);
    return stamp;
}

/* Names the number as dropped, or else leaves it to the next event. */
static enum cg_told drop_unsigned(struct cg_channel *channel, uint64_t sequence)
{
    if (!cg_life_drop_sequence(&channel->life, CG_DROP_SIGNING, sequence)) {
        atomic_store_explicit(&channel->cell->sequence, sequence - 1, memory_order_relaxed);
    }
    return CG_TOLD_UNSIGNED;
}

enum cg_told cg_pipeline_observe(struct cg_pipeline *pipeline, struct cg_channel *channel,
                                 const struct cg_reading *reading)
{
    char *room = find_room(pipeline);
    if (room == NULL) {
        return CG_TOLD_BLOCKED;
    }
    const struct cg_stamp stamp = stamp_next(channel->cell, reading->read_ns, 0);
    const struct cg_probe_content content = {
        .source = cg_bytes_str(cg_probe_source(reading->probe)),
        .inputs = reading->inputs,
        .output = reading->output,
    };
    char uuid[CG_UUID_TEXT_LEN];
    cg_uuid_next(&pipeline->uuids, reading->read_ns, uuid);
    struct cg_event_meta meta;
    size_t len = cg_envelope_probe(pipeline->envelope, pipeline->signer, &stamp, &content, uuid,
                                   room, &meta);
    if (len == 0) {
        return drop_unsigned(channel, stamp.sequence);
    }
    cg_spool_writer_end(pipeline->writer, len, &meta, channel->cell->run);
    return CG_TOLD_STAGED;
}

enum cg_told cg_pipeline_tell(struct cg_pipeline *pipeline, struct cg_channel *channel,
                              const struct cg_life_event *event, uint64_t realtime_ns)
{
    char *room = find_room(pipeline);
    if (room == NULL) {
        return CG_TOLD_BLOCKED;
    }
    struct cg_cell *cell = channel->cell;
    const struct cg_stamp stamp = stamp_next(cell, realtime_ns, event->connection);
    char uuid[CG_UUID_TEXT_LEN];
    cg_uuid_next(&pipeline->uuids, realtime_ns, uuid);
    struct cg_event_meta meta;
    size_t len =
        cg_envelope_gateway(pipeline->envelope, pipeline->signer, &stamp, event->type,
                            event->members, event->count, event->severity, uuid, room, &meta);
    if (len == 0) {
        return drop_unsigned(channel, stamp.sequence);
    }
    const struct cg_silence_facts silence = cg_silence_facts_of(cell);
    meta.silence = cg_life_silence_after(&channel->life, event, &silence);
    meta.tells_losses = event->tells_losses;
    cg_spool_writer_end(pipeline->writer, len, &meta, cell->run);
    return CG_TOLD_STAGED;
}
