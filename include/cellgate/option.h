/*
 * option.h - a key of the configuration, as data.
 *
 * One table serves parsing, `cellgate check`, error messages with file:line:column and "did you
 * mean", --set, and the reference page. A table ends with an entry whose key is NULL. Each entry
 * fills one member, at `offset`, of a struct that starts zeroed.
 */
#ifndef CELLGATE_OPTION_H
#define CELLGATE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cg_option_type {                   /* member it fills, and how it is written */
                      CG_OPTION_STRING, /* const char *: any text without NUL; min and max bound its
                                           length */
                      CG_OPTION_PATH,   /* const char *: a file's path, not empty; the sandbox lets
                                           it be read, or `written` */
                      CG_OPTION_BOOL,   /* bool: true, false, yes, no, on, off */
                      CG_OPTION_INTEGER,  /* uint64_t: decimal within min and max */
                      CG_OPTION_DURATION, /* uint64_t nanoseconds: 200ms, 10s, 1h; a unit is
                                             required but for 0 */
                      CG_OPTION_SIZE, /* uint64_t bytes: 512, 64KiB, 1MiB, 1GiB, also kB, MB, GB */
                      CG_OPTION_ENUM, /* int: one of `names` */
                      CG_OPTION_FILE_MODE, /* uint64_t: "0660", octal, permission bits only */
                      CG_OPTION_STRINGS,   /* struct cg_strings: a list of texts, or one text */
                      CG_OPTION_PAIRS,     /* struct cg_pairs: a map of text to text */
                      CG_OPTION_RANGE,     /* struct cg_range: [first, last], two integers */
                      CG_OPTION_SECTION,   /* an embedded struct: a map, by the table `fields`; with
                                              an element_size, a pointer to one, NULL without it */
                      CG_OPTION_SECTIONS,  /* struct cg_sections: a list of maps, by the table
                                              `fields` */
};

struct cg_option_name {
    const char *name; /* NULL ends the list */
    int value;
};

struct cg_strings {
    const char *const *items;
    size_t count;
};

struct cg_pair {
    const char *key;
    const char *value;
};

struct cg_pairs {
    const struct cg_pair *items;
    size_t count;
};

struct cg_range {
    bool present;
    uint64_t first;
    uint64_t last;
};

struct cg_sections {
    void *items; /* an array of count structs of element_size */
    size_t count;
};

struct cg_option {
    const char *key;
    enum cg_option_type type;
    size_t offset;
    uint64_t min;         /* by type: value, nanoseconds, bytes, length, entries */
    uint64_t max;         /* 0: no bound beyond the type's */
    const char *fallback; /* the default, written as in the file; NULL: zero, or absent */
    bool required;
    bool secret;  /* never shown by `cellgate check --print` or in an error */
    bool written; /* a path at which files are made, in its directory too */
    bool unique;  /* a text of an exporter: no two of its type may have the same */
    bool live;    /* a reload may change it (a section: all in it); for others it takes a restart */
    const struct cg_option_name *names;
    const struct cg_option *fields;
    size_t element_size;
    const char *help; /* one sentence for the reference */
};

#endif
