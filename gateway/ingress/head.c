#include "ingress/head.h"

#include <cbor.h>

/* libcbor calls one of these for each head; they only note what it was. */

static void on_unsigned_8(void *head, uint8_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_UNSIGNED, .value = value};
}

static void on_unsigned_16(void *head, uint16_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_UNSIGNED, .value = value};
}

static void on_unsigned_32(void *head, uint32_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_UNSIGNED, .value = value};
}

static void on_unsigned_64(void *head, uint64_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_UNSIGNED, .value = value};
}

static void on_negative_8(void *head, uint8_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_NEGATIVE, .value = value};
}

static void on_negative_16(void *head, uint16_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_NEGATIVE, .value = value};
}

static void on_negative_32(void *head, uint32_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_NEGATIVE, .value = value};
}

static void on_negative_64(void *head, uint64_t value)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_NEGATIVE, .value = value};
}

static void on_bytes(void *head, cbor_data data, size_t length)
{
    *(struct cg_head *)head =
        (struct cg_head){.kind = CG_HEAD_BYTES, .content = cg_bytes(data, length)};
}

static void on_text(void *head, cbor_data data, size_t length)
{
    *(struct cg_head *)head =
        (struct cg_head){.kind = CG_HEAD_TEXT, .content = cg_bytes(data, length)};
}

static void on_array(void *head, size_t count)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_ARRAY, .value = count};
}

static void on_map(void *head, size_t count)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_MAP, .value = count};
}

static void on_tag(void *head, uint64_t number)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_TAG, .value = number};
}

static void on_bytes_start(void *head)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_BYTES_START};
}

static void on_text_start(void *head)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_TEXT_START};
}

static void on_array_start(void *head)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_ARRAY_START};
}

static void on_map_start(void *head)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_MAP_START};
}

static void on_break(void *head)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_BREAK};
}

static void on_simple(void *head)
{
    *(struct cg_head *)head = (struct cg_head){.kind = CG_HEAD_SIMPLE};
}

static void on_boolean(void *head, bool value)
{
    (void)value;
    on_simple(head);
}

static void on_float(void *head, float value)
{
    (void)value;
    on_simple(head);
}

static void on_double(void *head, double value)
{
    (void)value;
    on_simple(head);
}

static const struct cbor_callbacks note_head = {
    .uint8 = on_unsigned_8,
    .uint16 = on_unsigned_16,
    .uint32 = on_unsigned_32,
    .uint64 = on_unsigned_64,
    .negint8 = on_negative_8,
    .negint16 = on_negative_16,
    .negint32 = on_negative_32,
    .negint64 = on_negative_64,
    .byte_string_start = on_bytes_start,
    .byte_string = on_bytes,
    .string = on_text,
    .string_start = on_text_start,
    .indef_array_start = on_array_start,
    .array_start = on_array,
    .indef_map_start = on_map_start,
    .map_start = on_map,
    .tag = on_tag,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .undefined = on_simple,
    .null = on_simple,
    .boolean = on_boolean,
    .indef_break = on_break,
};

size_t cg_head_read_any(struct cg_bytes input, struct cg_head *ret_head)
{
    if (input.len == 0) {
        return 0;
    }
    const uint8_t *at = (const uint8_t *)input.data;
    /* libcbor 0.8 calls two well-formed heads errors: tags 6 to 20 in their short form, and simple
     * values in two bytes, of which false to undefined are the assigned ones. */
    if (at[0] >= 0xC6 && at[0] <= 0xD4) {
        on_tag(ret_head, at[0] & 0x1F);
        return 1;
    }
    if (at[0] == 0xF8) {
        on_simple(ret_head);
        return input.len > 1 && at[1] >= 20 && at[1] <= 23 ? 2 : 0;
    }
    /* Its `required` wraps for lengths near 2^64; `status` and `read` are sound. */
    struct cbor_decoder_result result = cbor_stream_decode(at, input.len, &note_head, ret_head);
    return result.status == CBOR_DECODER_FINISHED ? result.read : 0;
}
