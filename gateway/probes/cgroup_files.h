/*
 * cgroup_files.h - the contents of the files of a cgroup (v2), as text and as members of JSON.
 * Pure.
 *
 * Documentation/admin-guide/cgroup-v2.rst of the kernel has the formats. The files are the kernel's
 * own, but a path may lead elsewhere: everything is checked and bounded. On refusal the output may
 * hold a part of the value, and the reading is given up.
 */
#ifndef CELLGATE_CGROUP_FILES_H
#define CELLGATE_CGROUP_FILES_H

#include "cellgate/buf.h"

enum {
    CG_CGROUP_FILE_BYTES_MAX = 16384,
    CG_CGROUP_KEYS_MAX = 96, /* of a file, or of one of its lines */
    CG_CGROUP_LINES_MAX = 64,
    CG_CGROUP_KEY_BYTES_MAX = 64,
};

struct cg_cgroup_pair {
    struct cg_bytes key;
    uint64_t value;
};

/* Flat keyed: "oom 0\noom_kill 2\n". Fills *ret_count of at most CG_CGROUP_KEYS_MAX pairs, sorted
 * by key. */
CG_MUST_USE bool cg_cgroup_flat_parse(struct cg_bytes text, struct cg_cgroup_pair *ret_pairs,
                                      size_t *ret_count);
/* The value of that key; false if it is not there. */
bool cg_cgroup_pairs_find(const struct cg_cgroup_pair *pairs, size_t count, struct cg_bytes key,
                          uint64_t *ret_value);

/* How the text of a file becomes a value of JSON. */
enum cg_cgroup_format {
    CG_CGROUP_NUMBER,   /* "4096\n": a number */
    CG_CGROUP_FLAT,     /* an object of numbers */
    CG_CGROUP_NESTED,   /* "8:0 rbytes=1 wbytes=2\n": an object of objects; what is no integer is
                           left out */
    CG_CGROUP_PRESSURE, /* "some avg10=0.12 … total=3\n": likewise, averages in hundredths */
};

/* Appends the value. False: the text is not of that format. */
CG_MUST_USE bool cg_cgroup_append(enum cg_cgroup_format format, struct cg_bytes text,
                                  struct cg_buf *out);

#endif
