/*
 * http_body.h - a request's body, read piece by piece from where it lies. Pure; any thread.
 *
 * The pieces and their bytes are borrowed until the last read.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_BODY_H
#define CELLGATE_EXPORTERS_HTTP_BODY_H

#include "cellgate/bytes.h"

#include <stddef.h>

struct cg_http_body {
    const struct cg_bytes *pieces;
    size_t piece_count;
    size_t bytes;  /* of all pieces */
    size_t index;  /* the piece to go on with */
    size_t offset; /* within it */
};

/* An empty piece is allowed, and so is none at all. */
void cg_http_body_init(struct cg_http_body *body, const struct cg_bytes *pieces,
                       size_t piece_count);

/* Copies the next bytes, as many as there is room for; 0 only at the end (or without room). */
size_t cg_http_body_read(struct cg_http_body *body, char *to, size_t room);

/* Back to the first byte. */
void cg_http_body_rewind(struct cg_http_body *body);

#endif
