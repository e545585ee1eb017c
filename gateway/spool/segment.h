/*
 * segment.h - one file of the spool: 128 bytes of header, then records (record.h).
 *
 *   <dir>/segments/<first index, 20 digits>.seg      or a memfd without a name
 *
 * Files are made in full size and used again when every reader has passed them: the new header,
 * with another salt, is written first, then the file is renamed. A file whose header and name
 * disagree therefore is one that never came to its new life, and holds nothing that is missed.
 *
 * These functions do I/O and hold no lock; who may change a struct cg_segment is said in
 * internal.h.
 */
#ifndef CELLGATE_SEGMENT_H
#define CELLGATE_SEGMENT_H

#include "cellgate/error.h"

#include <stdint.h>

enum {
    CG_SEGMENT_HEADER_BYTES = 128,
    CG_SEGMENT_VERSION = 1,
    CG_SEGMENT_NAME_BYTES = 32, /* a name and its NUL */
    CG_UUID_BYTES = 16,
};

/* As it lies in the file, little-endian. */
struct cg_segment_header {
    char magic[8];
    uint32_t version;
    uint32_t header_crc;             /* of the header with this field zero */
    uint8_t instance[CG_UUID_BYTES]; /* of the spool: random, made with its first segment */
    uint8_t boot_id[CG_UUID_BYTES];  /* of the boot in which this segment was begun */
    uint64_t salt;
    uint64_t first_index;
    uint64_t size; /* of the file, when the segment was begun */
    uint8_t reserved[CG_SEGMENT_HEADER_BYTES - 72];
};
_Static_assert(sizeof(struct cg_segment_header) == CG_SEGMENT_HEADER_BYTES, "the format is fixed");

struct cg_segment {
    uint64_t first_index;
    uint64_t end_index; /* behind its last event */
    uint64_t salt;
    uint64_t size;       /* of the file */
    uint64_t end;        /* of its records in the file */
    uint64_t base;       /* bytes of all segments before it, as far as known when it was begun */
    uint64_t synced_end; /* up to here a power cut takes nothing */
    uint64_t scrub_end;  /* a failed write may have left records behind `end`, up to here */
    int fd;              /* -1: closed; a memfd never is */
};

/* Where segments are made, and what their headers say. */
struct cg_segment_place {
    int dir_fd;     /* -1: in memory */
    bool read_only; /* somebody else's: nothing is changed (view.c) */
    uint64_t size;
    uint8_t instance[CG_UUID_BYTES];
    uint8_t boot_id[CG_UUID_BYTES];
};

void cg_segment_name(uint64_t first_index, char ret_name[CG_SEGMENT_NAME_BYTES]);
/* Whether `name` is a segment's, and whose. */
bool cg_segment_parse_name(const char *name, uint64_t *ret_first_index);

/* Makes a new file with a header. On failure errno says why. */
CG_MUST_USE bool cg_segment_create(const struct cg_segment_place *place, uint64_t first_index,
                                   struct cg_segment **ret_segment, struct cg_error *err);
/* Begins a new life of a passed segment, under a new name. On failure it is as it was. */
CG_MUST_USE bool cg_segment_recycle(const struct cg_segment_place *place,
                                    struct cg_segment *segment, uint64_t first_index,
                                    struct cg_error *err);
/* Deletes the file, closes and frees. */
void cg_segment_remove(const struct cg_segment_place *place, struct cg_segment *segment);
/* Closes and frees; the file stays. NULL is fine. */
void cg_segment_free(struct cg_segment *segment);

enum cg_segment_read {
    CG_SEGMENT_GOOD,
    CG_SEGMENT_UNBORN,  /* blank, or its header belongs to another name */
    CG_SEGMENT_DAMAGED, /* no header of ours */
    CG_SEGMENT_NEWER,   /* of a later version of the format */
    CG_SEGMENT_FAILED,  /* could not be read: see err */
};
/* Opens a segment found in the directory, read-write, and judges its header. Sets the outputs for
 * CG_SEGMENT_GOOD only; end and end_index are not known yet. */
CG_MUST_USE enum cg_segment_read cg_segment_open(const struct cg_segment_place *place,
                                                 uint64_t first_index,
                                                 struct cg_segment **ret_segment,
                                                 struct cg_segment_header *ret_header,
                                                 struct cg_error *err);

/* Another descriptor for reading the segment: the caller's own. */
CG_MUST_USE bool cg_segment_reopen(const struct cg_segment_place *place,
                                   const struct cg_segment *segment, int *ret_fd,
                                   struct cg_error *err);
/* The same for writing; not in memory. */
CG_MUST_USE bool cg_segment_open_again(const struct cg_segment_place *place,
                                       const struct cg_segment *segment, int *ret_fd,
                                       struct cg_error *err);

/* Writes all of `len` bytes at `offset`. On failure *ret_written says how many are there. */
CG_MUST_USE bool cg_segment_write(const struct cg_segment *segment, const void *data, size_t len,
                                  uint64_t offset, size_t *ret_written, struct cg_error *err);

/* Overwrites with zeros what a failed write has left behind segment->end. */
CG_MUST_USE bool cg_segment_scrub(struct cg_segment *segment, struct cg_error *err);

#endif
