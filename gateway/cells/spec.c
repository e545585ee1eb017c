#include "base/utf8.h"
#include "cellgate/limits.h"
#include "cells/registry.h"
#include "event/envelope.h"

#include <limits.h>
#include <stdio.h>

enum {
    PERMISSION_BITS = 0777,
    ESCAPE_GROWTH = 2, /* without controls, only quotes and backslashes are escaped */
    LABEL_JSON_BYTES_MAX = 2 * (ESCAPE_GROWTH * CG_LABEL_BYTES_MAX + 3),
};

/* What passes the checks here fits every event of the run (cg_envelope_run_fits). */
_Static_assert(4 * CG_ID_BYTES_MAX + ESCAPE_GROWTH * CG_SPEC_HASH_BYTES_MAX +
                       2 * ESCAPE_GROWTH * CG_TRACEPARENT_BYTES_MAX +
                       CG_LABELS_MAX * LABEL_JSON_BYTES_MAX <=
                   CG_EVENT_RUN_BYTES_MAX,
               "a registration could be too large for its events");

static bool is_lower_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_id_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == ':' || c == '-';
}

static bool has_control(struct cg_bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c == 0x7f) {
            return true;
        }
    }
    return false;
}

static bool check_id(const char *member, const char *id, struct cg_error *err)
{
    struct cg_bytes text = cg_bytes_str(id);
    if (text.len == 0 || text.len > CG_ID_BYTES_MAX) {
        return cg_error_set(err, "%s: must have 1 to %d characters", member, CG_ID_BYTES_MAX);
    }
    for (size_t i = 0; i < text.len; i++) {
        if (!is_id_char(text.data[i])) {
            return cg_error_set(err, "%s: may have letters, digits and . _ : - only", member);
        }
    }
    if (cg_bytes_equal(text, CG_BYTES(".")) || cg_bytes_equal(text, CG_BYTES(".."))) {
        return cg_error_set(err, "%s: must not be '%s'", member, id);
    }
    return true;
}

static bool check_text(const char *member, struct cg_bytes text, size_t len_max,
                       struct cg_error *err)
{
    if (text.len == 0 || text.len > len_max) {
        return cg_error_set(err, "%s: must have 1 to %zu bytes", member, len_max);
    }
    if (!cg_utf8_valid(text) || has_control(text)) {
        return cg_error_set(err, "%s: must be UTF-8 without control characters", member);
    }
    return true;
}

/* A path has one spelling only, so that two cells cannot have the same socket by two names. */
static bool check_uds_base(const char *base, struct cg_error *err)
{
    static const char member[] = "vsock_uds_base";
    char suffix[16];
    int suffix_len = snprintf(suffix, sizeof(suffix), "_%d", CG_TELEMETRY_PORT);
    if (!check_text(member, cg_bytes_str(base), (size_t)(PATH_MAX - 1 - suffix_len), err)) {
        return false;
    }
    if (base[0] != '/') {
        return cg_error_set(err, "%s: must be an absolute path", member);
    }
    for (const char *part = base; part != NULL;) {
        part++;
        const char *end = strchr(part, '/');
        struct cg_bytes name = cg_bytes(part, end == NULL ? strlen(part) : (size_t)(end - part));
        if (name.len == 0 || cg_bytes_equal(name, CG_BYTES(".")) ||
            cg_bytes_equal(name, CG_BYTES(".."))) {
            return cg_error_set(err, "%s: must not have empty, '.' or '..' components", member);
        }
        if (end == NULL && name.len + (size_t)suffix_len > NAME_MAX) {
            return cg_error_set(err, "%s: the last component is too long", member);
        }
        part = end;
    }
    return true;
}

/* The W3C Trace Context form: version, trace id, parent id and flags, in lower-case hex. */
static bool is_traceparent(struct cg_bytes text)
{
    static const char form[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    const size_t form_len = sizeof(form) - 1;
    if (text.len < form_len || text.len > CG_TRACEPARENT_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < form_len; i++) {
        bool fits = form[i] == '-' ? text.data[i] == '-' : is_lower_hex(text.data[i]);
        if (!fits) {
            return false;
        }
    }
    static const char zeros[] = "00000000000000000000000000000000";
    if (memcmp(text.data, "ff", 2) == 0 || memcmp(text.data + 3, zeros, 32) == 0 ||
        memcmp(text.data + 36, zeros, 16) == 0) {
        return false;
    }
    if (memcmp(text.data, "00", 2) == 0 || text.len == form_len) {
        return text.len == form_len;
    }
    /* A later version may carry more behind another dash. */
    struct cg_bytes rest = cg_bytes(text.data + form_len, text.len - form_len);
    return rest.data[0] == '-' && cg_utf8_valid(rest) && !has_control(rest);
}

static bool check_labels(struct cg_pairs labels, struct cg_error *err)
{
    if (labels.count > CG_LABELS_MAX) {
        return cg_error_set(err, "labels: at most %d", CG_LABELS_MAX);
    }
    for (size_t i = 0; i < labels.count; i++) {
        struct cg_bytes key = cg_bytes_str(labels.items[i].key);
        struct cg_bytes value = cg_bytes_str(labels.items[i].value);
        if (!check_text("labels: a key", key, CG_LABEL_BYTES_MAX, err)) {
            return false;
        }
        if (value.len > CG_LABEL_BYTES_MAX || !cg_utf8_valid(value) || has_control(value)) {
            return cg_error_set(err,
                                "labels: the value of '%s' must be UTF-8 of at most %d bytes "
                                "without control characters",
                                key.data, CG_LABEL_BYTES_MAX);
        }
        for (size_t k = 0; k < i; k++) {
            if (cg_bytes_equal(key, cg_bytes_str(labels.items[k].key))) {
                return cg_error_set(err, "labels: '%s' is there twice", key.data);
            }
        }
    }
    return true;
}

bool cg_cell_spec_check(const struct cg_cell_spec *spec, struct cg_error *err)
{
    if (!check_id("cell_id", spec->cell_id, err) || !check_id("run_id", spec->run_id, err) ||
        !check_text("spec_signature_hash", cg_bytes_str(spec->spec_signature_hash),
                    CG_SPEC_HASH_BYTES_MAX, err) ||
        !check_uds_base(spec->vsock_uds_base, err)) {
        return false;
    }
    if (spec->traceparent != NULL && !is_traceparent(cg_bytes_str(spec->traceparent))) {
        return cg_error_set(err, "traceparent: must have the W3C form "
                                 "00-<32 hex digits>-<16 hex digits>-<2 hex digits>");
    }
    if ((spec->socket_mode & ~(uint64_t)PERMISSION_BITS) != 0) {
        return cg_error_set(err, "mode: must be permission bits, at most 0777");
    }
    /* The largest value stands for "leave" in chown(2). */
    if (spec->owner.present &&
        (spec->owner.first >= UINT32_MAX || spec->owner.last >= UINT32_MAX)) {
        return cg_error_set(err, "owner: must be a user id and a group id");
    }
    return check_labels(spec->labels, err) &&
           (spec->probes == NULL || cg_probe_spec_check(spec->probes, err));
}
