#include "exporters/http_body.h"

#include <string.h>

void cg_http_body_init(struct cg_http_body *body, const struct cg_bytes *pieces, size_t piece_count)
{
    *body = (struct cg_http_body){.pieces = pieces, .piece_count = piece_count};
    for (size_t i = 0; i < piece_count; i++) {
        body->bytes += pieces[i].len;
    }
}

size_t cg_http_body_read(struct cg_http_body *body, char *to, size_t room)
{
    size_t done = 0;
    while (done < room && body->index < body->piece_count) {
        struct cg_bytes piece = body->pieces[body->index];
        size_t left = piece.len - body->offset;
        size_t taken = left < room - done ? left : room - done;
        if (taken > 0) { /* an empty piece may have no address */
            memcpy(to + done, piece.data + body->offset, taken);
        }
        done += taken;
        body->offset += taken;
        if (body->offset == piece.len) {
            body->index++;
            body->offset = 0;
        }
    }
    return done;
}

void cg_http_body_rewind(struct cg_http_body *body)
{
    body->index = 0;
    body->offset = 0;
}
