/*
 * registration_record.h - one line of the journal of registrations, as text and as a struct.
 *
 *     <CRC32C of the rest, 8 hex digits> <space> <a JSON object with one member> <line feed>
 *
 * The member's name is the type of the record, its value what belongs to it; members of the value
 * that are not known are passed over. The checksum tells a damaged line, not a forged one: the file
 * is the gateway's alone. Pure but for memory.
 */
#ifndef CELLGATE_REGISTRATION_RECORD_H
#define CELLGATE_REGISTRATION_RECORD_H

#include "cellgate/buf.h"
#include "cellgate/limits.h"
#include "cells/registrations.h"

enum {
    CG_RECORD_VERSION = 1,
    /* A path of PATH_MAX and labels, each byte escaped at the worst. */
    CG_RECORD_LINE_BYTES_MAX = 128 << 10,
};

enum cg_record_type {
    CG_RECORD_FORMAT, /* the first line: version */
    CG_RECORD_SOCKET, /* socket */
    CG_RECORD_UNMADE, /* socket.path */
    CG_RECORD_PUT,    /* registration */
    CG_RECORD_ENDED,  /* cell_id, run_id, at_ns */
    CG_RECORD_GONE,   /* cell_id, run_id */
};

struct cg_record {
    enum cg_record_type type;
    uint64_t version;
    struct cg_socket_made socket;
    struct cg_kept_registration registration;
    const char *cell_id, *run_id;
    uint64_t at_ns; /* real time */

    /* What a parsed record points into. */
    struct cg_pair labels[CG_LABELS_MAX];
    struct cg_probe_spec probes;
    struct cg_buf texts;
};

/* Appends the line. Returns !out->failed. */
bool cg_record_render(const struct cg_record *record, struct cg_buf *out);

/* Reads a line with its line feed. On success the caller ends it with cg_record_fini; on failure,
 * which is a damaged line or no memory, that does nothing. */
CG_MUST_USE bool cg_record_parse(struct cg_bytes line, struct cg_record *ret_record);
void cg_record_fini(struct cg_record *record);
#define cg_auto_record __attribute__((cleanup(cg_record_fini)))

#endif
