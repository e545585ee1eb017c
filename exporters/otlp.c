#include "exporters/otlp.h"

#include "cellgate/buf.h"
#include "exporters/otlp_json.h"
#include "exporters/otlp_record.h"

#include <otlp.pb-c.h>
#include <stdlib.h>

enum {
    JSON_TEXTS_BYTES_MAX = 16 * 1024, /* everything around the records */
    OPENING_BYTES_MAX = 2 * (1 + CG_VARINT_BYTES_MAX),
};

/* Tags of the fields that hold others; exporters/proto/otlp.proto has the numbers. */
enum {
    TAG_REQUEST_RESOURCE_LOGS = 1 << 3 | 2,
    TAG_RESOURCE_LOGS_RESOURCE = 1 << 3 | 2,
    TAG_RESOURCE_LOGS_SCOPE_LOGS = 2 << 3 | 2,
    TAG_SCOPE_LOGS_SCOPE = 1 << 3 | 2,
};

struct cg_otlp {
    enum cg_otlp_encoding encoding;
    /* The same in every request. protobuf: the fields `resource` of ResourceLogs and `scope` of
     * ScopeLogs. JSON: all before the first record, and nothing. */
    struct cg_buf resource, scope;

    /* Of the batch at hand. */
    struct cg_otlp_text text;
    struct cg_buf scratch; /* heads of records, or a whole request in JSON */
    struct cg_bytes *pieces;
    size_t piece_cap;
    char *opening; /* what stands before the first record in protobuf */
};

/* --- what is the same in every request --- */

/* A message as a field of another one. */
static bool append_field(struct cg_buf *out, char tag, const ProtobufCMessage *message)
{
    char length[CG_VARINT_BYTES_MAX];
    size_t len = protobuf_c_message_get_packed_size(message);
    cg_buf_append_char(out, tag);
    cg_buf_append(out, cg_bytes(length, (size_t)(cg_varint_write(length, len) - length)));
    if (!cg_buf_reserve(out, len)) {
        return false;
    }
    out->len += protobuf_c_message_pack(message, (uint8_t *)out->data + out->len);
    return true;
}

/* protobuf-c's strings are not const; it only reads them here. */
static char *borrow(const char *text)
{
    return (char *)(uintptr_t)text;
}

static bool append_resource(struct cg_buf *out, const char *instance_id,
                            const struct cg_exporter_env *env)
{
    const struct {
        const char *key;
        const char *value;
    } texts[] = {
        {"service.name", "cellgate"},
        {"service.version", env->version},
        {"service.instance.id", instance_id},
        {"host.name", env->node},
    };
    enum { COUNT = sizeof(texts) / sizeof(texts[0]) };
    Cg__Otlp__AnyValue values[COUNT];
    Cg__Otlp__KeyValue pairs[COUNT];
    Cg__Otlp__KeyValue *attributes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        cg__otlp__any_value__init(&values[i]);
        values[i].value_case = CG__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        values[i].string_value = borrow(texts[i].value);
        cg__otlp__key_value__init(&pairs[i]);
        pairs[i].key = borrow(texts[i].key);
        pairs[i].value = &values[i];
        attributes[i] = &pairs[i];
    }
    Cg__Otlp__Resource resource;
    cg__otlp__resource__init(&resource);
    resource.n_attributes = COUNT;
    resource.attributes = attributes;
    return append_field(out, TAG_RESOURCE_LOGS_RESOURCE, &resource.base);
}

static bool append_scope(struct cg_buf *out, const struct cg_exporter_env *env)
{
    Cg__Otlp__InstrumentationScope scope;
    cg__otlp__instrumentation_scope__init(&scope);
    scope.name = borrow("cellgate");
    scope.version = borrow(env->version);
    return append_field(out, TAG_SCOPE_LOGS_SCOPE, &scope.base);
}

static bool init_constants(struct cg_otlp *otlp, const char *instance_id,
                           const struct cg_exporter_env *env)
{
    if (instance_id == NULL) {
        instance_id = env->node;
    }
    if (otlp->encoding == CG_OTLP_JSON) {
        return cg_otlp_json_open(&otlp->resource, instance_id, env->node, env->version);
    }
    if (!append_resource(&otlp->resource, instance_id, env) || !append_scope(&otlp->scope, env)) {
        return false;
    }
    otlp->opening = malloc(otlp->resource.len + otlp->scope.len + OPENING_BYTES_MAX);
    return otlp->opening != NULL;
}

bool cg_otlp_new(enum cg_otlp_encoding encoding, const char *instance_id,
                 const struct cg_exporter_env *env, struct cg_otlp **ret_otlp, struct cg_error *err)
{
    struct cg_otlp *otlp = calloc(1, sizeof(*otlp));
    if (otlp == NULL) {
        return cg_error_set(err, "no memory for an OTLP encoder");
    }
    otlp->encoding = encoding;
    cg_buf_init(&otlp->resource, JSON_TEXTS_BYTES_MAX);
    cg_buf_init(&otlp->scope, JSON_TEXTS_BYTES_MAX);
    cg_buf_init(&otlp->scratch, CG_OTLP_SCRATCH_BYTES_MAX);
    cg_otlp_text_init(&otlp->text);
    if (!init_constants(otlp, instance_id, env)) {
        cg_otlp_free(otlp);
        return cg_error_set(err, "no memory for an OTLP encoder");
    }
    *ret_otlp = otlp;
    return true;
}

void cg_otlp_free(struct cg_otlp *otlp)
{
    if (otlp == NULL) {
        return;
    }
    cg_buf_fini(&otlp->resource);
    cg_buf_fini(&otlp->scope);
    cg_buf_fini(&otlp->scratch);
    cg_otlp_text_fini(&otlp->text);
    free(otlp->pieces);
    free(otlp->opening);
    free(otlp);
}

/* --- a batch --- */

static bool reserve_pieces(struct cg_otlp *otlp, size_t count)
{
    if (count <= otlp->piece_cap) {
        return true;
    }
    struct cg_bytes *pieces = reallocarray(otlp->pieces, count, sizeof(*pieces));
    if (pieces == NULL) {
        return false;
    }
    otlp->pieces = pieces;
    otlp->piece_cap = count;
    return true;
}

/* What stands before the first of `record_bytes` of records. */
static struct cg_bytes write_opening(struct cg_otlp *otlp, size_t record_bytes)
{
    size_t scope_logs = otlp->scope.len + record_bytes;
    size_t resource_logs = otlp->resource.len + 1 + cg_varint_bytes(scope_logs) + scope_logs;
    char *at = otlp->opening;
    *at++ = TAG_REQUEST_RESOURCE_LOGS;
    at = cg_varint_write(at, resource_logs);
    memcpy(at, otlp->resource.data, otlp->resource.len);
    at += otlp->resource.len;
    *at++ = TAG_RESOURCE_LOGS_SCOPE_LOGS;
    at = cg_varint_write(at, scope_logs);
    memcpy(at, otlp->scope.data, otlp->scope.len);
    at += otlp->scope.len;
    return cg_bytes(otlp->opening, (size_t)(at - otlp->opening));
}

/* The pieces: an empty one, the opening, and then a record's head and the event in turn. */
static bool encode_protobuf(struct cg_otlp *otlp, const struct cg_batch *batch,
                            struct cg_otlp_request *ret_request)
{
    size_t room = 0;
    for (size_t i = 0; i < batch->count; i++) {
        room += cg_otlp_record_room(&batch->events[i]);
    }
    /* All at once: pieces point into it, so it must not move. */
    if (!reserve_pieces(otlp, 2 * batch->count + 2) || !cg_buf_reserve(&otlp->scratch, room)) {
        return false;
    }
    size_t count = 2;
    size_t record_bytes = 0;
    char *at = otlp->scratch.data;
    for (size_t i = 0; i < batch->count; i++) {
        const struct cg_event *event = &batch->events[i];
        struct cg_bytes head = cg_otlp_record_write(event, &otlp->text, at);
        at = at + (head.data - at) + head.len;
        record_bytes += head.len + event->bytes.len;
        otlp->pieces[count++] = head;
        otlp->pieces[count++] = event->bytes;
    }
    otlp->pieces[0] = CG_BYTES("");
    otlp->pieces[1] = write_opening(otlp, record_bytes);
    *ret_request = (struct cg_otlp_request){
        .pieces = otlp->pieces, .count = count, .bytes = otlp->pieces[1].len + record_bytes};
    return true;
}

static bool encode_json(struct cg_otlp *otlp, const struct cg_batch *batch,
                        struct cg_otlp_request *ret_request)
{
    struct cg_buf *out = &otlp->scratch;
    cg_buf_append(out, cg_buf_bytes(&otlp->resource));
    for (size_t i = 0; i < batch->count; i++) {
        if (i > 0) {
            cg_buf_append_char(out, ',');
        }
        cg_otlp_json_record(out, &batch->events[i]);
    }
    if (!cg_otlp_json_close(out) || !reserve_pieces(otlp, 2)) {
        return false;
    }
    otlp->pieces[0] = CG_BYTES("");
    otlp->pieces[1] = cg_buf_bytes(out);
    *ret_request = (struct cg_otlp_request){.pieces = otlp->pieces, .count = 2, .bytes = out->len};
    return true;
}

bool cg_otlp_encode(struct cg_otlp *otlp, const struct cg_batch *batch,
                    struct cg_otlp_request *ret_request)
{
    cg_buf_clear(&otlp->scratch);
    return otlp->encoding == CG_OTLP_JSON ? encode_json(otlp, batch, ret_request)
                                          : encode_protobuf(otlp, batch, ret_request);
}
