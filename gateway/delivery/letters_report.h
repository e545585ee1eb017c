/*
 * letters_report.h - a file of dead letters as JSON, for the control API and for people.
 *
 * Reads the file as it stands, on a descriptor of its own and without a lock: what is appended
 * meanwhile is not in the report, and a file that is replaced meanwhile is reported as it was. A
 * file that is not there has no letters. Any thread; blocks on the disk.
 */
#ifndef CELLGATE_LETTERS_REPORT_H
#define CELLGATE_LETTERS_REPORT_H

#include "cellgate/buf.h"

#include <stdint.h>

/* Appends members, without the braces: "letters", "replaying", "unreadable" (lines that are no
 * letters, which nothing touches), "bytes", "oldest_time" and "newest_time" (when they became dead
 * letters; null without any), "reasons". */
CG_MUST_USE bool cg_letters_report_counts(const char *path, struct cg_buf *out,
                                          struct cg_error *err);

/* Appends an array of at most `limit` letters behind the first `after` of them: id, time, reason,
 * state, status, detail, cell, run, sequence and the event's bytes. *ret_next: `after` for the
 * next ones; 0: there are none. */
CG_MUST_USE bool cg_letters_report_list(const char *path, uint64_t after, uint64_t limit,
                                        struct cg_buf *out, uint64_t *ret_next,
                                        struct cg_error *err);

/* Appends the last letter about the event with that id, all of it; *ret_found says whether there is
 * one. */
CG_MUST_USE bool cg_letters_report_one(const char *path, struct cg_bytes id, struct cg_buf *out,
                                       bool *ret_found, struct cg_error *err);

#endif
