#include "exporters/compress.h"

#include <limits.h>
#include <stdlib.h>
#define ZLIB_CONST /* next_in points to const */
#include <zlib.h>
#include <zstd.h>

enum {
    OUT_STEP_BYTES = 64 * 1024,
    GZIP_WINDOW_BITS = 15 + 16, /* the largest window; 16 asks zlib for gzip's header */
    GZIP_MEM_LEVEL = 8,
};

struct cg_compressor {
    enum cg_compression compression;
    z_stream gzip;
    ZSTD_CCtx *zstd;
};

const struct cg_option_name cg_compression_names[] = {
    {"none", CG_COMPRESSION_NONE},
    {"gzip", CG_COMPRESSION_GZIP},
    {"zstd", CG_COMPRESSION_ZSTD},
    {NULL, 0},
};

bool cg_compress_validate(const struct cg_compress_config *config, struct cg_error *err)
{
    uint64_t max =
        config->compression == CG_COMPRESSION_ZSTD ? CG_ZSTD_LEVEL_MAX : CG_GZIP_LEVEL_MAX;
    if (config->compression == CG_COMPRESSION_NONE && config->level != 0) {
        return cg_error_set(err, "compression_level is set, but compression is none");
    }
    if (config->level > max) {
        return cg_error_set(err, "compression_level: at most %d for gzip, %d for zstd",
                            CG_GZIP_LEVEL_MAX, CG_ZSTD_LEVEL_MAX);
    }
    return true;
}

static bool init_gzip(struct cg_compressor *compressor, uint64_t level)
{
    int wanted = level == 0 ? Z_DEFAULT_COMPRESSION : (int)level;
    return deflateInit2(&compressor->gzip, wanted, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEM_LEVEL,
                        Z_DEFAULT_STRATEGY) == Z_OK;
}

static bool init_zstd(struct cg_compressor *compressor, uint64_t level)
{
    compressor->zstd = ZSTD_createCCtx();
    return compressor->zstd != NULL &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_compressionLevel,
                                                level == 0 ? ZSTD_CLEVEL_DEFAULT : (int)level));
}

bool cg_compressor_new(const struct cg_compress_config *config,
                       struct cg_compressor **ret_compressor, struct cg_error *err)
{
    if (config->compression == CG_COMPRESSION_NONE) {
        *ret_compressor = NULL;
        return true;
    }
    struct cg_compressor *compressor = calloc(1, sizeof(*compressor));
    if (compressor == NULL) {
        return cg_error_set(err, "no memory for compression");
    }
    compressor->compression = (enum cg_compression)config->compression;
    bool made = compressor->compression == CG_COMPRESSION_GZIP
                    ? init_gzip(compressor, config->level)
                    : init_zstd(compressor, config->level);
    if (!made) {
        cg_compressor_free(compressor);
        return cg_error_set(err, "no memory for compression");
    }
    *ret_compressor = compressor;
    return true;
}

void cg_compressor_free(struct cg_compressor *compressor)
{
    if (compressor == NULL) {
        return;
    }
    if (compressor->compression == CG_COMPRESSION_GZIP) {
        (void)deflateEnd(&compressor->gzip); /* harmless on a stream that was never begun */
    }
    (void)ZSTD_freeCCtx(compressor->zstd);
    free(compressor);
}

const char *cg_compressor_encoding(const struct cg_compressor *compressor)
{
    return cg_compression_names[compressor->compression].name;
}

/* Takes in all of the piece; with Z_FINISH, writes all that is left. */
static bool gzip_piece(z_stream *gzip, struct cg_bytes piece, int flush, struct cg_buf *out)
{
    CG_ASSERT(piece.len <= UINT_MAX);
    gzip->next_in = (const Bytef *)piece.data;
    gzip->avail_in = (uInt)piece.len;
    for (;;) {
        if (!cg_buf_reserve(out, OUT_STEP_BYTES)) {
            return false;
        }
        gzip->next_out = (Bytef *)out->data + out->len;
        gzip->avail_out = OUT_STEP_BYTES;
        int result = deflate(gzip, flush);
        out->len += OUT_STEP_BYTES - gzip->avail_out;
        /* Z_BUF_ERROR only says that there was nothing to do. */
        CG_ASSERT(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR);
        if (flush == Z_FINISH ? result == Z_STREAM_END : gzip->avail_out != 0) {
            return true;
        }
    }
}

static bool run_gzip(z_stream *gzip, const struct cg_bytes *pieces, size_t count,
                     struct cg_buf *out)
{
    CG_ASSERT(deflateReset(gzip) == Z_OK);
    for (size_t i = 0; i < count; i++) {
        if (!gzip_piece(gzip, pieces[i], Z_NO_FLUSH, out)) {
            return false;
        }
    }
    return gzip_piece(gzip, cg_bytes("", 0), Z_FINISH, out);
}

static bool zstd_piece(ZSTD_CCtx *zstd, struct cg_bytes piece, ZSTD_EndDirective end,
                       struct cg_buf *out)
{
    ZSTD_inBuffer in = {.src = piece.data, .size = piece.len};
    for (;;) {
        if (!cg_buf_reserve(out, OUT_STEP_BYTES)) {
            return false;
        }
        ZSTD_outBuffer to = {.dst = out->data + out->len, .size = OUT_STEP_BYTES};
        size_t left = ZSTD_compressStream2(zstd, &to, &in, end);
        if (ZSTD_isError(left)) {
            return false;
        }
        out->len += to.pos;
        if (end == ZSTD_e_end ? left == 0 : in.pos == in.size) {
            return true;
        }
    }
}

static bool run_zstd(ZSTD_CCtx *zstd, const struct cg_bytes *pieces, size_t count,
                     struct cg_buf *out)
{
    unsigned long long total = 0;
    for (size_t i = 0; i < count; i++) {
        total += pieces[i].len;
    }
    /* Knowing the size, zstd fits its window to it, and receivers can allocate exactly. */
    if (ZSTD_isError(ZSTD_CCtx_reset(zstd, ZSTD_reset_session_only)) ||
        ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(zstd, total))) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!zstd_piece(zstd, pieces[i], ZSTD_e_continue, out)) {
            return false;
        }
    }
    return zstd_piece(zstd, cg_bytes("", 0), ZSTD_e_end, out);
}

bool cg_compressor_run(struct cg_compressor *compressor, const struct cg_bytes *pieces,
                       size_t count, struct cg_buf *out)
{
    cg_buf_clear(out);
    if (compressor->compression == CG_COMPRESSION_GZIP) {
        return run_gzip(&compressor->gzip, pieces, count, out);
    }
    return run_zstd(compressor->zstd, pieces, count, out);
}
