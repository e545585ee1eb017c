/*
 * compress.h - request bodies made smaller: gzip and zstd over a gather list.
 *
 * A compressor keeps its state (a few hundred KiB) from body to body, so that none is allocated
 * per request. One thread at a time.
 */
#ifndef CELLGATE_EXPORTERS_COMPRESS_H
#define CELLGATE_EXPORTERS_COMPRESS_H

#include "cellgate/buf.h"
#include "cellgate/error.h"
#include "cellgate/option.h"

#include <stddef.h>
#include <stdint.h>

enum cg_compression { CG_COMPRESSION_NONE, CG_COMPRESSION_GZIP, CG_COMPRESSION_ZSTD };

/* Part of an exporter's configuration. */
struct cg_compress_config {
    int compression; /* enum cg_compression */
    uint64_t level;  /* 0: the library's default */
};

enum { CG_GZIP_LEVEL_MAX = 9, CG_ZSTD_LEVEL_MAX = 19 };

extern const struct cg_option_name cg_compression_names[];

/* Rows for an exporter's option table; `member` is a struct cg_compress_config in `config_type`. */
#define CG_COMPRESS_OPTIONS(config_type, member)                                                   \
    {                                                                                              \
        .key = "compression",                                                                      \
        .type = CG_OPTION_ENUM,                                                                    \
        .offset = offsetof(config_type, member.compression),                                       \
        .names = cg_compression_names,                                                             \
        .fallback = "none",                                                                        \
        .help = "How request bodies are compressed: none, gzip or zstd.",                          \
    },                                                                                             \
    {                                                                                              \
        .key = "compression_level", .type = CG_OPTION_INTEGER,                                     \
        .offset = offsetof(config_type, member.level), .min = 0, .max = CG_ZSTD_LEVEL_MAX,         \
        .fallback = "0",                                                                           \
        .help = "1 (fast) to 9 for gzip, to 19 for zstd; 0 is the library's default.",             \
    }

/* Does the level fit the method? Pure. */
CG_MUST_USE bool cg_compress_validate(const struct cg_compress_config *config,
                                      struct cg_error *err);

struct cg_compressor;

/* *ret_compressor is NULL for CG_COMPRESSION_NONE. Fails for want of memory only. */
CG_MUST_USE bool cg_compressor_new(const struct cg_compress_config *config,
                                   struct cg_compressor **ret_compressor, struct cg_error *err);
void cg_compressor_free(struct cg_compressor *compressor);

/* The word for Content-Encoding. */
const char *cg_compressor_encoding(const struct cg_compressor *compressor);

/* Replaces the contents of `out` with the compressed pieces. False if they do not fit out->max, or
 * memory ran out; `out` is then of no use until the next call. */
CG_MUST_USE bool cg_compressor_run(struct cg_compressor *compressor, const struct cg_bytes *pieces,
                                   size_t count, struct cg_buf *out);

#endif
