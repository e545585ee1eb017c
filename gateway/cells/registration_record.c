#include "cells/registration_record.h"

#include "event/json.h"
#include "event/json_write.h"
#include "spool/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHECKSUM_DIGITS = 8, JSON_NODES_MAX = 256, JSON_LEVELS_MAX = 4 };

static const char *const type_names[] = {
    [CG_RECORD_FORMAT] = "cellgate_registrations",
    [CG_RECORD_SOCKET] = "socket",
    [CG_RECORD_UNMADE] = "unmade",
    [CG_RECORD_PUT] = "put",
    [CG_RECORD_ENDED] = "ended",
    [CG_RECORD_GONE] = "gone",
};
enum { TYPES = sizeof(type_names) / sizeof(type_names[0]) };

/* --- writing --- */

/* A key, with the comma before it where there is something to part. */
static void put_key(struct cg_buf *out, const char *key)
{
    if (out->len > 0 && out->data[out->len - 1] != '{') {
        cg_buf_append_char(out, ',');
    }
    cg_json_append_string(out, cg_bytes_str(key));
    cg_buf_append_char(out, ':');
}

static void put_text(struct cg_buf *out, const char *key, const char *text)
{
    if (text != NULL) {
        put_key(out, key);
        cg_json_append_string(out, cg_bytes_str(text));
    }
}

static void put_number(struct cg_buf *out, const char *key, uint64_t value)
{
    put_key(out, key);
    cg_buf_append_u64(out, value);
}

static void put_spec(struct cg_buf *out, const struct cg_cell_spec *spec)
{
    put_text(out, "cell_id", spec->cell_id);
    put_text(out, "run_id", spec->run_id);
    put_text(out, "spec_signature_hash", spec->spec_signature_hash);
    put_text(out, "vsock_uds_base", spec->vsock_uds_base);
    put_text(out, "traceparent", spec->traceparent);
    put_number(out, "keepalive_ns", spec->keepalive_window_ns);
    put_number(out, "mode", spec->socket_mode);
    if (spec->owner.present) {
        put_number(out, "uid", spec->owner.first);
        put_number(out, "gid", spec->owner.last);
    }
    if (spec->labels.count > 0) {
        put_key(out, "labels");
        cg_buf_append_char(out, '{');
        for (size_t i = 0; i < spec->labels.count; i++) {
            put_text(out, spec->labels.items[i].key, spec->labels.items[i].value);
        }
        cg_buf_append_char(out, '}');
    }
    if (spec->probes != NULL && !cg_probe_spec_is_empty(spec->probes)) {
        put_key(out, "probes");
        cg_probe_spec_render(spec->probes, out);
    }
}

static void put_members(struct cg_buf *out, const struct cg_record *record)
{
    switch (record->type) {
    case CG_RECORD_FORMAT:
        put_number(out, "version", CG_RECORD_VERSION);
        break;
    case CG_RECORD_SOCKET:
        put_text(out, "path", record->socket.path);
        put_text(out, "temporary", record->socket.temporary);
        put_number(out, "device", record->socket.device);
        put_number(out, "inode", record->socket.inode);
        break;
    case CG_RECORD_UNMADE:
        put_text(out, "path", record->socket.path);
        break;
    case CG_RECORD_PUT:
        put_spec(out, &record->registration.spec);
        put_number(out, "vmm_pid", record->registration.vmm_pid);
        put_number(out, "vmm_start_ticks", record->registration.vmm_start_ticks);
        break;
    case CG_RECORD_ENDED:
        put_number(out, "at_ns", record->at_ns);
        put_text(out, "cell_id", record->cell_id);
        put_text(out, "run_id", record->run_id);
        break;
    case CG_RECORD_GONE:
        put_text(out, "cell_id", record->cell_id);
        put_text(out, "run_id", record->run_id);
        break;
    }
}

bool cg_record_render(const struct cg_record *record, struct cg_buf *out)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, CG_RECORD_LINE_BYTES_MAX - CHECKSUM_DIGITS - 2);
    cg_buf_append_char(&text, '{');
    put_key(&text, type_names[record->type]);
    cg_buf_append_char(&text, '{');
    put_members(&text, record);
    cg_buf_append_str(&text, "}}");
    if (text.failed) {
        out->failed = true;
        return false;
    }
    cg_buf_printf(out, "%08" PRIx32 " ", cg_crc32c(0, text.data, text.len));
    cg_buf_append(out, cg_buf_bytes(&text));
    return cg_buf_append_char(out, '\n');
}

/* --- reading --- */

/* The object of a line, or nothing. */
static struct cg_bytes check_line(struct cg_bytes line)
{
    const struct cg_bytes none = {0};
    if (line.len < CHECKSUM_DIGITS + 2 || line.data[CHECKSUM_DIGITS] != ' ' ||
        line.data[line.len - 1] != '\n') {
        return none;
    }
    struct cg_bytes text =
        cg_bytes(line.data + CHECKSUM_DIGITS + 1, line.len - CHECKSUM_DIGITS - 2);
    char sum[CHECKSUM_DIGITS + 1];
    (void)snprintf(sum, sizeof(sum), "%08" PRIx32, cg_crc32c(0, text.data, text.len));
    return memcmp(sum, line.data, CHECKSUM_DIGITS) == 0 ? text : none;
}

/* A record being read. `good` goes false with the first member that is not as it should be. */
struct reading {
    const struct cg_json *json;
    uint32_t object;
    struct cg_record *record;
    bool good;
};

/* The text a string says, terminated; `texts` has room for all, so what it holds never moves. */
static const char *decode(struct reading *reading, uint32_t node)
{
    struct cg_buf *texts = &reading->record->texts;
    if (cg_json_type(reading->json, node) != CG_JSON_STRING || reading->json->nodes[node].has_nul) {
        reading->good = false;
        return "";
    }
    size_t start = texts->len;
    if (!cg_json_decode(reading->json, node, texts) || !cg_buf_append_char(texts, '\0')) {
        reading->good = false;
        return "";
    }
    return texts->data + start;
}

static const char *take_optional(struct reading *reading, const char *key)
{
    uint32_t node = cg_json_find(reading->json, reading->object, cg_bytes_str(key));
    return node == 0 ? NULL : decode(reading, node);
}

static const char *take_text(struct reading *reading, const char *key)
{
    const char *text = take_optional(reading, key);
    reading->good = reading->good && text != NULL;
    return text == NULL ? "" : text;
}

static uint64_t take_number(struct reading *reading, const char *key)
{
    uint64_t value = 0;
    uint32_t node = cg_json_find(reading->json, reading->object, cg_bytes_str(key));
    reading->good = reading->good && node != 0 && cg_json_u64(reading->json, node, &value);
    return value;
}

static void take_labels(struct reading *reading, struct cg_cell_spec *spec)
{
    const struct cg_json *json = reading->json;
    uint32_t object = cg_json_find(json, reading->object, CG_BYTES("labels"));
    if (object == 0) {
        return;
    }
    if (cg_json_type(json, object) != CG_JSON_OBJECT || json->nodes[object].count > CG_LABELS_MAX) {
        reading->good = false;
        return;
    }
    struct cg_pair *labels = reading->record->labels;
    size_t count = 0;
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        const char *name = decode(reading, key);
        labels[count++] = (struct cg_pair){.key = name, .value = decode(reading, key + 1)};
    }
    spec->labels = (struct cg_pairs){.items = labels, .count = count};
}

static void take_probes(struct reading *reading, struct cg_cell_spec *spec)
{
    uint32_t object = cg_json_find(reading->json, reading->object, CG_BYTES("probes"));
    struct cg_record *record = reading->record;
    spec->probes = object == 0 ? NULL : &record->probes;
    reading->good =
        reading->good && (object == 0 || cg_probe_spec_read(reading->json, object, &record->texts,
                                                            &record->probes, NULL));
}

static void take_registration(struct reading *reading, struct cg_kept_registration *registration)
{
    struct cg_cell_spec *spec = &registration->spec;
    spec->cell_id = take_text(reading, "cell_id");
    spec->run_id = take_text(reading, "run_id");
    spec->spec_signature_hash = take_text(reading, "spec_signature_hash");
    spec->vsock_uds_base = take_text(reading, "vsock_uds_base");
    spec->traceparent = take_optional(reading, "traceparent");
    spec->keepalive_window_ns = take_number(reading, "keepalive_ns");
    spec->socket_mode = take_number(reading, "mode");
    if (cg_json_find(reading->json, reading->object, CG_BYTES("uid")) != 0) {
        spec->owner = (struct cg_range){.present = true,
                                        .first = take_number(reading, "uid"),
                                        .last = take_number(reading, "gid")};
    }
    take_labels(reading, spec);
    take_probes(reading, spec);
    registration->vmm_pid = take_number(reading, "vmm_pid");
    registration->vmm_start_ticks = take_number(reading, "vmm_start_ticks");
}

static void take_members(struct reading *reading)
{
    struct cg_record *record = reading->record;
    switch (record->type) {
    case CG_RECORD_FORMAT:
        record->version = take_number(reading, "version");
        break;
    case CG_RECORD_SOCKET:
        record->socket = (struct cg_socket_made){.path = take_text(reading, "path"),
                                                 .temporary = take_text(reading, "temporary"),
                                                 .device = take_number(reading, "device"),
                                                 .inode = take_number(reading, "inode")};
        break;
    case CG_RECORD_UNMADE:
        record->socket.path = take_text(reading, "path");
        break;
    case CG_RECORD_PUT:
        take_registration(reading, &record->registration);
        break;
    case CG_RECORD_ENDED:
        record->at_ns = take_number(reading, "at_ns");
        record->cell_id = take_text(reading, "cell_id");
        record->run_id = take_text(reading, "run_id");
        break;
    case CG_RECORD_GONE:
        record->cell_id = take_text(reading, "cell_id");
        record->run_id = take_text(reading, "run_id");
        break;
    }
    /* Ids become keys of fixed size; a checksum that fits says that this always holds. */
    const struct cg_cell_spec *spec = &record->registration.spec;
    const char *const ids[] = {record->cell_id, record->run_id, spec->cell_id, spec->run_id};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        reading->good = reading->good && (ids[i] == NULL || strlen(ids[i]) <= CG_ID_BYTES_MAX);
    }
}

static bool parse_object(const struct cg_json *json, struct cg_record *record)
{
    if (cg_json_type(json, 0) != CG_JSON_OBJECT || json->nodes[0].count != 1 ||
        cg_json_type(json, 2) != CG_JSON_OBJECT) {
        return false;
    }
    for (size_t i = 0; i < TYPES; i++) {
        if (cg_json_is(json, 1, cg_bytes_str(type_names[i]))) {
            record->type = (enum cg_record_type)i;
            struct reading reading = {.json = json, .object = 2, .record = record, .good = true};
            take_members(&reading);
            return reading.good;
        }
    }
    return false;
}

bool cg_record_parse(struct cg_bytes line, struct cg_record *ret_record)
{
    *ret_record = (struct cg_record){0};
    struct cg_bytes text = check_line(line);
    if (text.len == 0 || text.len > CG_RECORD_LINE_BYTES_MAX) {
        return false;
    }
    /* A decoded text and its NUL are never longer than the string with its quotes. */
    cg_buf_init(&ret_record->texts, text.len);
    struct cg_json json;
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = text.len,
                                                .nodes_max = JSON_NODES_MAX,
                                                .levels_max = JSON_LEVELS_MAX});
    bool good = cg_buf_reserve(&ret_record->texts, text.len) && cg_json_parse(&json, text, NULL) &&
                parse_object(&json, ret_record);
    cg_json_fini(&json);
    if (!good) {
        cg_record_fini(ret_record);
    }
    return good;
}

void cg_record_fini(struct cg_record *record)
{
    cg_buf_fini(&record->texts);
}
