/*
 * handover_table.h - what one gateway tells the next about the sockets that it leaves it. Pure.
 *
 * docs/contract.md section 1. The sockets themselves wait in systemd's descriptor store, where they
 * have no names of their own; what each of them is stands in this table, by the socket's cookie
 * (SO_COOKIE: the kernel gives no two sockets the same). The table is the last word of a process
 * that is gone, so it is read as if anybody had written it: a length or a sum that does not fit
 * refuses the whole.
 *
 * All integers are little-endian:
 *   header  "CGHANDOV", u32 format version, u32 CRC-32C of the body, u64 bytes of the body
 *   body    u64 cookie of the witness (gateway.c), u32 cells, cells
 *   cell    text id, run, base · u64 cookie, device, inode · u32 mode, uid, gid · u64 frames,
 *           bytes, rejected, refused, last frame · u32 opened, u32 connections, connections
 *   connection   u64 cookie, u32 ordinal, u64 frames, bytes, u32 length of a frame's first bytes,
 *                these
 *   text    u16 length, bytes
 */
#ifndef CELLGATE_HANDOVER_TABLE_H
#define CELLGATE_HANDOVER_TABLE_H

#include "cellgate/buf.h"
#include "cellgate/error.h"

#include <stdint.h>

enum {
    CG_HANDOVER_BYTES_MAX = 256 << 20,
    CG_HANDOVER_CELLS_MAX = 1 << 20,
    CG_HANDOVER_CONNECTIONS_MAX = 1 << 20,
    CG_HANDOVER_BASE_BYTES_MAX = 4096,
};

struct cg_handover_connection {
    uint64_t cookie;
    uint32_t ordinal;
    uint64_t frames, bytes;  /* accepted */
    struct cg_bytes partial; /* of a frame, as far as it was read */
};

struct cg_handover_cell {
    struct cg_bytes cell_id, run_id, vsock_uds_base;
    uint64_t cookie, device, inode; /* of the listening socket, and of its file */
    uint32_t mode, uid, gid;        /* that it was made with */
    uint64_t frames, frame_bytes, frames_rejected, connections_refused;
    uint64_t last_frame_ns; /* monotonic: it is the same boot */
    uint32_t connections_opened;
    uint32_t connections_count;
    const struct cg_handover_connection *connections;
};

/* --- writing --- */

/* Begins a table for so many cells; cg_handover_table_seal ends it. */
void cg_handover_table_begin(uint64_t witness_cookie, uint32_t cells, struct cg_buf *out);
/* A cell, for whose connections_count connections cg_handover_table_add_connection follows. */
void cg_handover_table_add_cell(const struct cg_handover_cell *cell, struct cg_buf *out);
void cg_handover_table_add_connection(const struct cg_handover_connection *connection,
                                      struct cg_buf *out);
/* False if something did not fit. */
CG_MUST_USE bool cg_handover_table_seal(struct cg_buf *out);

/* --- reading --- */

struct cg_handover_table {
    uint64_t witness_cookie;
    struct cg_handover_cell *cells;
    size_t cells_count;
    struct cg_handover_connection *connections;
    size_t connections_count;
};

/* What it gives points into `bytes`. */
CG_MUST_USE bool cg_handover_table_read(struct cg_bytes bytes, struct cg_handover_table *ret_table,
                                        struct cg_error *err);
void cg_handover_table_fini(struct cg_handover_table *table);

#endif
