#include "cmd/send_frames.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "event/json.h"

#include <cbor.h>
#include <errno.h>
#include <stdio.h>

enum {
    SOURCE_BYTES_MAX = 256 << 20,
    CBOR_HEAD_BYTES_MAX = 9,
    LINE_BYTES_MAX = 1 << 20,
    LINE_NODES_MAX = 64,
    LINE_LEVELS_MAX = 8,
};

struct cg_send_slot {
    size_t start;
    size_t length;
    size_t pid_at;       /* of its four bytes in the frame; 0 if it is fixed */
    size_t monotonic_at; /* of its eight bytes; likewise */
};

static void store_big_endian(char *at, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i > 0; i--) {
        at[i - 1] = (char)value;
        value >>= 8;
    }
}

static void store_prefix(char *at, size_t length)
{
    for (size_t i = 0; i < CG_FRAME_PREFIX_BYTES; i++) {
        at[i] = (char)(length >> 8 * i);
    }
}

/* libcbor's encoders write a head into given room and return its length. */
#define APPEND_HEAD(out, encode, value)                                                            \
    do {                                                                                           \
        if (cg_buf_reserve((out), CBOR_HEAD_BYTES_MAX)) {                                          \
            (out)->len +=                                                                          \
                encode((value), (unsigned char *)(out)->data + (out)->len, CBOR_HEAD_BYTES_MAX);   \
        }                                                                                          \
    } while (0)

static void append_text(struct cg_buf *out, struct cg_bytes text)
{
    APPEND_HEAD(out, cbor_encode_string_start, text.len);
    cg_buf_append(out, text);
}

/* Integers that are patched later have their full width. */
static void append_members(struct cg_buf *out, const struct cg_send_frame *frame,
                           struct cg_send_slot *slot)
{
    append_text(out, CG_BYTES("content_version"));
    APPEND_HEAD(out, cbor_encode_uint, frame->content_version);
    append_text(out, CG_BYTES("probe_source"));
    append_text(out, frame->probe_source);
    append_text(out, CG_BYTES("guest_pid"));
    APPEND_HEAD(out, cbor_encode_uint32, frame->guest_pid);
    slot->pid_at = frame->pid_fixed ? 0 : out->len - sizeof(uint32_t) - slot->start;
    append_text(out, CG_BYTES("guest_comm"));
    append_text(out, frame->guest_comm);
    append_text(out, CG_BYTES("guest_monotonic_ns"));
    APPEND_HEAD(out, cbor_encode_uint64, frame->guest_monotonic_ns);
    slot->monotonic_at = frame->monotonic_fixed ? 0 : out->len - sizeof(uint64_t) - slot->start;
}

static void begin_frame(struct cg_buf *out)
{
    cg_buf_append(out, CG_BYTES("\0\0\0\0"));
}

/* Fills in the length of the frame that begin_frame began at `start`. */
static void end_frame(struct cg_buf *out, size_t start)
{
    if (!out->failed) {
        store_prefix(out->data + start, out->len - start - CG_FRAME_PREFIX_BYTES);
    }
}

void cg_send_source_init(struct cg_send_source *source)
{
    cg_buf_init(&source->bytes, SOURCE_BYTES_MAX);
    cg_buf_init(&source->slots, SOURCE_BYTES_MAX);
}

void cg_send_source_fini(struct cg_send_source *source)
{
    cg_buf_fini(&source->bytes);
    cg_buf_fini(&source->slots);
}

size_t cg_send_source_count(const struct cg_send_source *source)
{
    return source->slots.len / sizeof(struct cg_send_slot);
}

bool cg_send_source_add(struct cg_send_source *source, const struct cg_send_frame *frame,
                        struct cg_error *err)
{
    struct cg_buf *out = &source->bytes;
    struct cg_send_slot slot = {.start = out->len};
    begin_frame(out);
    APPEND_HEAD(out, cbor_encode_map_start, 5);
    append_members(out, frame, &slot);
    end_frame(out, slot.start);
    slot.length = out->len - slot.start;
    cg_buf_append(&source->slots, cg_bytes(&slot, sizeof(slot)));
    if (out->failed || source->slots.failed) {
        return cg_error_set(err, "no memory for so many frames");
    }
    if (slot.length > CG_SEND_FRAME_ROOM) {
        return cg_error_set(err, "a frame of %zu bytes is longer than %d may be", slot.length,
                            CG_SEND_FRAME_ROOM);
    }
    return true;
}

size_t cg_send_source_write(const struct cg_send_source *source, uint64_t number,
                            uint64_t monotonic_ns, char *out, size_t room)
{
    size_t count = cg_send_source_count(source);
    CG_ASSERT(count > 0);
    struct cg_send_slot slot;
    memcpy(&slot, source->slots.data + number % count * sizeof(slot), sizeof(slot));
    if (slot.length > room) {
        return 0;
    }
    memcpy(out, source->bytes.data + slot.start, slot.length);
    if (slot.pid_at != 0) {
        store_big_endian(out + slot.pid_at, number + 1, sizeof(uint32_t));
    }
    if (slot.monotonic_at != 0) {
        store_big_endian(out + slot.monotonic_at, monotonic_ns, sizeof(uint64_t));
    }
    return slot.length;
}

static bool read_text_member(const struct cg_json *json, uint32_t value, struct cg_buf *text,
                             struct cg_bytes *ret_text, struct cg_error *err)
{
    if (cg_json_type(json, value) != CG_JSON_STRING) {
        return cg_json_refuse(json, json->nodes[value].start, "a text is due here", err);
    }
    cg_buf_clear(text);
    if (!cg_json_decode(json, value, text)) {
        return cg_error_set(err, "no memory for a text");
    }
    *ret_text = cg_buf_bytes(text);
    return true;
}

static bool read_integer_member(const struct cg_json *json, uint32_t value, uint64_t max,
                                uint64_t *ret_value, struct cg_error *err)
{
    uint64_t integer;
    if (!cg_json_u64(json, value, &integer) || integer > max) {
        return cg_json_refuse(json, json->nodes[value].start, "an integer in range is due here",
                              err);
    }
    *ret_value = integer;
    return true;
}

/* Where the texts of one line lie while its frame is encoded. */
struct line_texts {
    struct cg_buf probe_source;
    struct cg_buf guest_comm;
};

static bool read_member(const struct cg_json *json, uint32_t key, struct line_texts *texts,
                        struct cg_send_frame *frame, struct cg_error *err)
{
    uint32_t value = key + 1;
    uint64_t integer = 0;
    if (cg_json_is(json, key, CG_BYTES("probe_source"))) {
        return read_text_member(json, value, &texts->probe_source, &frame->probe_source, err);
    }
    if (cg_json_is(json, key, CG_BYTES("guest_comm"))) {
        return read_text_member(json, value, &texts->guest_comm, &frame->guest_comm, err);
    }
    if (cg_json_is(json, key, CG_BYTES("content_version"))) {
        bool ok = read_integer_member(json, value, UINT16_MAX, &integer, err);
        frame->content_version = (uint16_t)integer;
        return ok;
    }
    if (cg_json_is(json, key, CG_BYTES("guest_pid"))) {
        frame->pid_fixed = true;
        bool ok = read_integer_member(json, value, UINT32_MAX, &integer, err);
        frame->guest_pid = (uint32_t)integer;
        return ok;
    }
    if (cg_json_is(json, key, CG_BYTES("guest_monotonic_ns"))) {
        frame->monotonic_fixed = true;
        return read_integer_member(json, value, UINT64_MAX, &frame->guest_monotonic_ns, err);
    }
    return cg_json_refuse(json, json->nodes[key].start, "a frame has no such member", err);
}

static bool add_line(struct cg_send_source *source, struct cg_json *json, struct cg_bytes line,
                     const struct cg_send_frame *defaults, struct line_texts *texts,
                     struct cg_error *err)
{
    if (!cg_json_parse(json, line, err)) {
        return false;
    }
    uint32_t object = cg_json_find(json, 0, CG_BYTES("guest"));
    if (cg_json_type(json, object) != CG_JSON_OBJECT) {
        return cg_error_set(err, "a frame is a JSON object");
    }
    struct cg_send_frame frame = *defaults;
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        if (!read_member(json, key, texts, &frame, err)) {
            return false;
        }
    }
    return cg_send_source_add(source, &frame, err);
}

bool cg_send_source_read(struct cg_send_source *source, const char *path,
                         const struct cg_send_frame *defaults, struct cg_error *err)
{
    bool from_stdin = strcmp(path, "-") == 0;
    cg_auto_fclose FILE *opened = from_stdin ? NULL : fopen(path, "re");
    FILE *file = from_stdin ? stdin : opened;
    if (file == NULL) {
        return cg_error_errno(err, errno, "cannot open %s", path);
    }
    struct cg_json json;
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = LINE_BYTES_MAX,
                                                .nodes_max = LINE_NODES_MAX,
                                                .levels_max = LINE_LEVELS_MAX,
                                                .unique_members = true});
    struct line_texts texts;
    cg_buf_init(&texts.probe_source, LINE_BYTES_MAX);
    cg_buf_init(&texts.guest_comm, LINE_BYTES_MAX);
    cg_auto_free char *line = NULL;
    size_t cap = 0;
    bool ok = true;
    ssize_t length;
    for (unsigned long number = 1; ok && (length = getline(&line, &cap, file)) >= 0; number++) {
        if (length > 1) {
            ok = add_line(source, &json, cg_bytes(line, (size_t)length), defaults, &texts, err) ||
                 cg_error_context(err, "%s: frame of line %lu", path, number);
        }
    }
    if (ok && ferror(file)) {
        ok = cg_error_errno(err, errno, "cannot read %s", path);
    }
    if (ok && cg_send_source_count(source) == 0) {
        ok = cg_error_set(err, "%s has no frame in it", path);
    }
    cg_buf_fini(&texts.probe_source);
    cg_buf_fini(&texts.guest_comm);
    cg_json_fini(&json);
    return ok;
}

/* A good frame with `extra` members, whose encoding is given, in front of its own. */
static void append_frame_with(struct cg_buf *out, const struct cg_send_frame *frame, size_t extra,
                              struct cg_bytes members)
{
    struct cg_send_slot slot = {.start = out->len};
    begin_frame(out);
    APPEND_HEAD(out, cbor_encode_map_start, 5 + extra);
    cg_buf_append(out, members);
    append_members(out, frame, &slot);
    end_frame(out, slot.start);
}

static void append_forged(struct cg_buf *out, const struct cg_send_frame *frame)
{
    struct cg_buf forged;
    cg_buf_init(&forged, 1024);
    append_text(&forged, CG_BYTES("cell_id"));
    append_text(&forged, CG_BYTES("another-cell"));
    append_text(&forged, CG_BYTES("run_id"));
    append_text(&forged, CG_BYTES("another-run"));
    append_text(&forged, CG_BYTES("spec_signature_hash"));
    append_text(&forged, CG_BYTES("sha256:forged"));
    append_text(&forged, CG_BYTES("host_received_at"));
    append_text(&forged, CG_BYTES("1970-01-01T00:00:00.000000000Z"));
    append_frame_with(out, frame, 4, cg_buf_bytes(&forged));
    cg_buf_fini(&forged);
}

static void append_repeated(struct cg_buf *out, char byte, size_t count)
{
    if (cg_buf_reserve(out, count)) {
        memset(out->data + out->len, byte, count);
        out->len += count;
    }
}

/* Arrays of one, in one another, up to the longest body there may be. */
static void append_nested(struct cg_buf *out)
{
    enum { ARRAY_OF_ONE = 0x81 };
    size_t start = out->len;
    begin_frame(out);
    APPEND_HEAD(out, cbor_encode_map_start, 6);
    append_text(out, CG_BYTES("nested"));
    append_repeated(out, (char)ARRAY_OF_ONE, start + CG_SEND_FRAME_ROOM - out->len);
    end_frame(out, start);
}

static void append_oversized(struct cg_buf *out)
{
    size_t start = out->len;
    begin_frame(out);
    append_repeated(out, 0, CG_FRAME_BODY_BYTES_MAX + 1);
    end_frame(out, start);
}

static void append_garbage(struct cg_buf *out)
{
    size_t start = out->len;
    begin_frame(out);
    cg_buf_append_str(out, "\xFE this is not CBOR at all");
    end_frame(out, start);
}

static void append_of_version(struct cg_buf *out, const struct cg_send_frame *frame)
{
    struct cg_send_frame newer = *frame;
    newer.content_version = 0x0100;
    append_frame_with(out, &newer, 0, CG_BYTES(""));
}

const char cg_send_malformed_names[] =
    "oversized, zero, truncated, garbage, version, forged, nested";

bool cg_send_malformed(const char *name, const struct cg_send_frame *frame, struct cg_buf *out,
                       struct cg_error *err)
{
    if (strcmp(name, "oversized") == 0) {
        append_oversized(out);
    } else if (strcmp(name, "zero") == 0) {
        begin_frame(out);
    } else if (strcmp(name, "truncated") == 0) {
        append_frame_with(out, frame, 0, CG_BYTES(""));
        out->len -= out->failed ? 0 : 1;
    } else if (strcmp(name, "garbage") == 0) {
        append_garbage(out);
    } else if (strcmp(name, "version") == 0) {
        append_of_version(out, frame);
    } else if (strcmp(name, "forged") == 0) {
        append_forged(out, frame);
    } else if (strcmp(name, "nested") == 0) {
        append_nested(out);
    } else {
        return cg_error_set(err, "there is no malformed frame '%s'; there are %s", name,
                            cg_send_malformed_names);
    }
    return !out->failed || cg_error_set(err, "no memory for a malformed frame");
}
