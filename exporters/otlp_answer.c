#include "exporters/otlp_answer.h"

#include "cellgate/clock.h"
#include "event/json.h"

#include <otlp.pb-c.h>
#include <rpc.pb-c.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    /* A body that is mostly text, and the structs around it; pages that are not used cost nothing.
     */
    ARENA_BYTES = 2 * CG_OTLP_ANSWER_BYTES_MAX,
    ARENA_ALIGNMENT = _Alignof(max_align_t),
    JSON_NODES_MAX = 4096,
    JSON_LEVELS_MAX = 32,
    DETAILS_MAX = 64, /* looked at */
    NANOS_MAX = 999999999,
};

struct cg_otlp_reader {
    ProtobufCAllocator allocator;
    size_t used;
    char *arena;
    struct cg_json json;
};

/* --- memory --- */

static void *arena_alloc(void *context, size_t bytes)
{
    struct cg_otlp_reader *reader = context;
    size_t left = ARENA_BYTES - reader->used;
    if (bytes > left - left % ARENA_ALIGNMENT) {
        return NULL;
    }
    void *memory = reader->arena + reader->used;
    reader->used += (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    return memory;
}

static void arena_free(void *context, void *memory)
{
    (void)context;
    (void)memory;
}

bool cg_otlp_reader_new(struct cg_otlp_reader **ret_reader, struct cg_error *err)
{
    struct cg_otlp_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return cg_error_set(err, "no memory to read answers");
    }
    const struct cg_json_limits limits = {.bytes_max = CG_OTLP_ANSWER_BYTES_MAX,
                                          .nodes_max = JSON_NODES_MAX,
                                          .levels_max = JSON_LEVELS_MAX,
                                          .unique_members = true};
    cg_json_init(&reader->json, limits);
    reader->allocator =
        (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_free, .allocator_data = reader};
    reader->arena = malloc(ARENA_BYTES);
    if (reader->arena == NULL) {
        cg_otlp_reader_free(reader);
        return cg_error_set(err, "no memory to read answers");
    }
    *ret_reader = reader;
    return true;
}

void cg_otlp_reader_free(struct cg_otlp_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    cg_json_fini(&reader->json);
    free(reader->arena);
    free(reader);
}

/* What it returns lives in the arena, until the next answer. */
static void *unpack(struct cg_otlp_reader *reader, const ProtobufCMessageDescriptor *type,
                    struct cg_bytes bytes)
{
    return protobuf_c_message_unpack(type, &reader->allocator, bytes.len,
                                     (const uint8_t *)bytes.data);
}

/* --- partial success --- */

static void note_partial(struct cg_verdict *verdict, int64_t rejected, struct cg_bytes message)
{
    verdict->rejected = rejected > 0 ? (uint64_t)rejected : 0;
    if (verdict->rejected > 0 || message.len > 0) {
        size_t shown =
            message.len < CG_OTLP_MESSAGE_BYTES_MAX ? message.len : CG_OTLP_MESSAGE_BYTES_MAX;
        (void)snprintf(verdict->detail, sizeof(verdict->detail), "partial success%s%.*s",
                       shown > 0 ? ": " : "", (int)shown, message.len > 0 ? message.data : "");
    }
}

static bool read_protobuf(struct cg_otlp_reader *reader, struct cg_bytes body,
                          struct cg_verdict *verdict)
{
    reader->used = 0;
    const Cg__Otlp__ExportLogsServiceResponse *response =
        unpack(reader, &cg__otlp__export_logs_service_response__descriptor, body);
    if (response == NULL) {
        return false;
    }
    const Cg__Otlp__ExportLogsPartialSuccess *partial = response->partial_success;
    if (partial != NULL) {
        note_partial(verdict, partial->rejected_log_records, cg_bytes_str(partial->error_message));
    }
    return true;
}

/* A 64-bit integer, which OTLP writes as a string and allows as a number. */
static bool read_int64(struct cg_json *json, uint32_t node, int64_t *ret_value)
{
    if (cg_json_type(json, node) != CG_JSON_STRING) {
        return cg_json_i64(json, node, ret_value);
    }
    char text[32];
    struct cg_bytes raw = cg_json_raw(json, node);
    if (raw.len == 0 || raw.len >= sizeof(text)) {
        return false;
    }
    memcpy(text, raw.data, raw.len);
    text[raw.len] = '\0';
    char *end = NULL;
    *ret_value = strtoll(text, &end, 10);
    return *end == '\0';
}

static bool read_json(struct cg_otlp_reader *reader, struct cg_bytes body,
                      struct cg_verdict *verdict)
{
    struct cg_json *json = &reader->json;
    if (!cg_json_parse(json, body, NULL) || cg_json_type(json, 0) != CG_JSON_OBJECT) {
        return false;
    }
    uint32_t partial = cg_json_find(json, 0, CG_BYTES("partialSuccess"));
    if (partial == 0) {
        return true;
    }
    int64_t rejected = 0;
    uint32_t node = cg_json_find(json, partial, CG_BYTES("rejectedLogRecords"));
    if (node != 0 && !read_int64(json, node, &rejected)) {
        return false;
    }
    node = cg_json_find(json, partial, CG_BYTES("errorMessage"));
    bool has_text = node != 0 && cg_json_type(json, node) == CG_JSON_STRING;
    note_partial(verdict, rejected, has_text ? cg_json_raw(json, node) : CG_BYTES(""));
    return true;
}

bool cg_otlp_read_response(struct cg_otlp_reader *reader, enum cg_otlp_encoding encoding,
                           struct cg_bytes body, struct cg_verdict *verdict)
{
    if (body.len == 0) {
        return true;
    }
    return encoding == CG_OTLP_JSON ? read_json(reader, body, verdict)
                                    : read_protobuf(reader, body, verdict);
}

/* --- google.rpc.Status --- */

/* Saturates; a delay that is negative in either part is none. */
static uint64_t delay_ns(const Cg__Rpc__Duration *delay)
{
    if (delay == NULL || delay->seconds < 0 || delay->nanos < 0 || delay->nanos > NANOS_MAX) {
        return 0;
    }
    if ((uint64_t)delay->seconds > UINT64_MAX / CG_NS_PER_S - 1) {
        return UINT64_MAX;
    }
    return (uint64_t)delay->seconds * CG_NS_PER_S + (uint64_t)delay->nanos;
}

static bool is_retry_info(const char *type_url)
{
    static const char name[] = "google.rpc.RetryInfo";
    const char *slash = strrchr(type_url, '/');
    return strcmp(slash == NULL ? type_url : slash + 1, name) == 0;
}

bool cg_otlp_read_status(struct cg_otlp_reader *reader, struct cg_bytes body,
                         struct cg_otlp_status *ret_status)
{
    struct cg_otlp_status found = {0};
    reader->used = 0;
    const Cg__Rpc__Status *status = unpack(reader, &cg__rpc__status__descriptor, body);
    if (status == NULL) {
        return false;
    }
    (void)snprintf(found.message, sizeof(found.message), "%.*s", CG_OTLP_MESSAGE_BYTES_MAX,
                   status->message);
    for (size_t i = 0; i < status->n_details && i < DETAILS_MAX && !found.has_retry_info; i++) {
        const Cg__Rpc__Any *detail = status->details[i];
        if (!is_retry_info(detail->type_url)) {
            continue;
        }
        const Cg__Rpc__RetryInfo *info = unpack(reader, &cg__rpc__retry_info__descriptor,
                                                cg_bytes(detail->value.data, detail->value.len));
        found.has_retry_info = info != NULL;
        found.retry_delay_ns = info != NULL ? delay_ns(info->retry_delay) : 0;
    }
    *ret_status = found;
    return true;
}
