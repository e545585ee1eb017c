/*
 * send_frames.h - the frames that simulated guests send: encoded once, then copied and patched.
 *
 * A source holds one or more frames as they go over the wire (docs/contract.md section 2), and
 * hands them out in turn, for ever. Where a frame leaves its guest_pid or guest_monotonic_ns open,
 * each copy gets its own: the frame's number and the time. Not thread-safe.
 */
#ifndef CELLGATE_SEND_FRAMES_H
#define CELLGATE_SEND_FRAMES_H

#include "cellgate/buf.h"
#include "cellgate/error.h"

#include <stdint.h>

/* What one frame says. Texts are borrowed. */
struct cg_send_frame {
    uint16_t content_version;
    struct cg_bytes probe_source;
    struct cg_bytes guest_comm;
    bool pid_fixed; /* otherwise the frame's number, modulo 2^32 */
    uint32_t guest_pid;
    bool monotonic_fixed; /* otherwise the time of sending */
    uint64_t guest_monotonic_ns;
};

struct cg_send_slot; /* one encoded frame */

struct cg_send_source {
    struct cg_buf bytes; /* the encoded frames, one behind the other */
    struct cg_buf slots; /* of struct cg_send_slot */
};

void cg_send_source_init(struct cg_send_source *source);
void cg_send_source_fini(struct cg_send_source *source);
size_t cg_send_source_count(const struct cg_send_source *source);

/* Adds a frame. Fails if it is too long or there is no memory. */
CG_MUST_USE bool cg_send_source_add(struct cg_send_source *source,
                                    const struct cg_send_frame *frame, struct cg_error *err);

/* Adds a frame per line of JSON of the file `path`, "-" being standard input: objects with the
 * members of a frame, or with such an object as their member `guest`. What a line does not say is
 * as in `defaults`. Blocks. */
CG_MUST_USE bool cg_send_source_read(struct cg_send_source *source, const char *path,
                                     const struct cg_send_frame *defaults, struct cg_error *err);

/* Writes the frame whose turn it is at `number` (from 0; its pid is number + 1 if open). Returns
 * its length, or 0 if it does not fit into `room`. The source must not be empty. */
size_t cg_send_source_write(const struct cg_send_source *source, uint64_t number,
                            uint64_t monotonic_ns, char *out, size_t room);

enum { CG_SEND_FRAME_ROOM = 4 + 65536 }; /* in which every frame fits */

/* The names of the malformed frames that can be had, separated by ", ". */
extern const char cg_send_malformed_names[];

/* Appends the malformed frame of that name, otherwise like `frame`. */
CG_MUST_USE bool cg_send_malformed(const char *name, const struct cg_send_frame *frame,
                                   struct cg_buf *out, struct cg_error *err);

#endif
