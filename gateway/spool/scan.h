/*
 * scan.h - the records of one segment file, one after the other, damage passed over.
 *
 * Where a record does not verify, the search goes on at every eighth byte for the next that does;
 * the difference of the indices tells how many were lost. What is left in the file from an earlier
 * life of it never verifies (record.h). One thread at a time; borrows the descriptor.
 *
 * Records are handed out in place and stay until cg_scan_compact; so a reader may borrow as many as
 * the buffer takes, also of several segments.
 */
#ifndef CELLGATE_SCAN_H
#define CELLGATE_SCAN_H

#include "cellgate/error.h"
#include "spool/record.h"

enum { CG_SCAN_BUFFER_BYTES = 4 * 1024 * 1024, CG_SCAN_READ_BYTES = 256 * 1024 };

struct cg_scan {
    char *buffer;       /* CG_SCAN_BUFFER_BYTES, made at the first read */
    size_t low;         /* buffer[low..end) is of the segment aimed at */
    size_t start, end;  /* buffer[start..end) was read and not yet passed */
    uint64_t offset;    /* of buffer[start] in the file */
    uint64_t limit;     /* where the file's records end */
    uint64_t expected;  /* no index below this is taken */
    uint64_t end_index; /* nor this one or any above it */
    uint64_t salt;
    int fd;
    int failure; /* errno of the last read that failed */
};

enum cg_scan_result {
    CG_SCAN_RECORD,
    CG_SCAN_NO_ROOM, /* the buffer is full of records handed out: compact, and go on */
    CG_SCAN_END,
    CG_SCAN_FAILED, /* the disk, or no memory: see err */
};

void cg_scan_init(struct cg_scan *scan);
void cg_scan_fini(struct cg_scan *scan);
#define cg_auto_scan __attribute__((cleanup(cg_scan_fini)))

/* Points the scan at a place. What was read already is kept where it serves (the salt tells
 * segments apart), and so are records handed out. */
void cg_scan_aim(struct cg_scan *scan, int fd, uint64_t salt, uint64_t offset, uint64_t limit,
                 uint64_t expected, uint64_t end_index);

/* The next record, in place. After it scan->offset and scan->expected stand behind it. *ret_lost is
 * how many events before it are missing; at the end, how many are missing up to end_index. */
CG_MUST_USE enum cg_scan_result cg_scan_next(struct cg_scan *scan,
                                             const struct cg_record_header **ret_record,
                                             uint64_t *ret_lost, struct cg_error *err);

enum { CG_SCAN_PAGE_BYTES = 4096 }; /* what is passed of a file at once where it cannot be read */

/* Where in the file the next byte has to be read. */
uint64_t cg_scan_place(const struct cg_scan *scan);
/* Goes on behind the page of that place; records that reach into it are lost. Where that is. */
uint64_t cg_scan_skip(struct cg_scan *scan);

/* Moves what is unread to the front of the buffer; records handed out are gone. */
void cg_scan_compact(struct cg_scan *scan);

#endif
