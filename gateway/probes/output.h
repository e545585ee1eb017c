/*
 * output.h - the members of a JSON object that a probe fills, and the object they make. Pure but
 * for memory.
 *
 * docs/contract.md section 4: keys sorted by byte value, integers only. What is too large for an
 * event loses its largest members, which `truncated` names with the bytes they had: at most
 * CG_OUTPUT_NAMED_MAX by name, further ones together under "*".
 */
#ifndef CELLGATE_OUTPUT_H
#define CELLGATE_OUTPUT_H

#include "cellgate/buf.h"

enum {
    CG_OUTPUT_MEMBERS_MAX = 1024,  /* more are as if they were too large */
    CG_OUTPUT_KEY_BYTES_MAX = 256, /* likewise a longer key, as it stands in JSON */
    CG_OUTPUT_NAMED_MAX = 16,
    CG_OUTPUT_TEXT_BYTES_MAX = 1 << 20,
};

struct cg_output_member {
    uint32_t key, key_len; /* within `text`, as it is */
    uint32_t escaped_len;  /* of the key, as it stands in JSON without quotes */
    uint32_t value, value_len;
    bool dropped;
};

struct cg_output {
    struct cg_buf text;
    unsigned count;
    unsigned refused;    /* members beyond the limits */
    bool open;           /* the last member opened is among them */
    const char *wrapper; /* NULL, or the member under which all of them stand, beside `truncated` */
    struct cg_output_member members[CG_OUTPUT_MEMBERS_MAX];
};

void cg_output_init(struct cg_output *output);
void cg_output_fini(struct cg_output *output);
void cg_output_clear(struct cg_output *output);

/* A member; `key` is valid UTF-8. What is appended to output->text between the two
 * calls is its value. The last of equal keys counts. */
void cg_output_open(struct cg_output *output, struct cg_bytes key);
void cg_output_close(struct cg_output *output);

void cg_output_u64(struct cg_output *output, const char *key, uint64_t value);
void cg_output_bool(struct cg_output *output, const char *key, bool value);
/* Valid UTF-8. */
void cg_output_text(struct cg_output *output, const char *key, struct cg_bytes value);

/* Appends the object, in at most `bytes_max` bytes, which are no fewer than 8 KiB. False: no
 * memory. */
CG_MUST_USE bool cg_output_render(struct cg_output *output, size_t bytes_max, struct cg_buf *out);

#endif
