#include "ingress/decode.h"

#include "cellgate/buf.h"

#include <check.h>
#include <stdlib.h>

/* The five fields as the agent sends them, piece by piece; a case puts others in their place. */
#define K_VERSION                                                                                  \
    "\x6F"                                                                                         \
    "content_version"
#define K_PROBE                                                                                    \
    "\x6C"                                                                                         \
    "probe_source"
#define K_PID                                                                                      \
    "\x69"                                                                                         \
    "guest_pid"
#define K_COMM                                                                                     \
    "\x6A"                                                                                         \
    "guest_comm"
#define K_MONOTONIC                                                                                \
    "\x72"                                                                                         \
    "guest_monotonic_ns"
#define F_VERSION K_VERSION "\x01"
#define F_PROBE                                                                                    \
    K_PROBE "\x63"                                                                                 \
            "a.b"
#define F_PID K_PID "\x18\x2A"
#define F_COMM                                                                                     \
    K_COMM "\x64"                                                                                  \
           "curl"
#define F_MONOTONIC K_MONOTONIC "\x07"
#define ALL         F_VERSION F_PROBE F_PID F_COMM F_MONOTONIC
#define UNKNOWN(value)                                                                             \
    "\xA6"                                                                                         \
    "\x61"                                                                                         \
    "z" value ALL /* an unknown key with this value, in front */
#define VERSION(value)   "\xA5" K_VERSION value F_PROBE F_PID F_COMM F_MONOTONIC
#define PID(value)       "\xA5" K_PID value F_VERSION F_PROBE F_COMM F_MONOTONIC
#define MONOTONIC(value) "\xA5" K_MONOTONIC value F_VERSION F_PROBE F_PID F_COMM
#define COMM(value)      "\xA5" K_COMM value F_VERSION F_PROBE F_PID F_MONOTONIC
#define X16(x)           x x x x x x x x x x x x x x x x

static struct cg_decode_scratch scratch;

static enum cg_refusal decode(struct cg_bytes body, struct cg_declaration *ret_declaration)
{
    /* A copy of exactly its size, so that the sanitizers see a read beyond it. */
    char *copy = malloc(body.len + (body.len == 0));
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, body.data, body.len);
    const char *why = NULL;
    struct cg_declaration declaration = {.guest_pid = 99};
    enum cg_refusal refusal = cg_decode(cg_bytes(copy, body.len), &scratch, &declaration, &why);
    if (refusal == CG_REFUSAL_NONE) {
        ck_assert_ptr_null(why);
        /* Texts borrowed from the copy are moved to the original. */
        struct cg_bytes *texts[] = {&declaration.probe_source, &declaration.guest_comm};
        for (size_t i = 0; i < 2; i++) {
            if (texts[i]->data >= copy && texts[i]->data <= copy + body.len) {
                texts[i]->data = body.data + (texts[i]->data - copy);
            }
        }
        *ret_declaration = declaration;
    } else {
        ck_assert_ptr_nonnull(why);
        ck_assert_uint_eq(declaration.guest_pid, 99);
    }
    free(copy);
    return refusal;
}

struct must_decode {
    const char *what;
    struct cg_bytes body;
};

static const struct must_decode must_decode[] = {
    {"the agent's own form", CG_BYTES("\xA5" ALL)},
    {"rule 1: a count in eight bytes", CG_BYTES("\xBB\0\0\0\0\0\0\0\x05" ALL)},
    {"rule 2: tags before the map",
     CG_BYTES("\xC0\xD8\x20\xDB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xC2\xA5" ALL)},
    {"rule 3: an indefinite map", CG_BYTES("\xBF" ALL "\xFF")},
    {"rule 3: bytes behind the map", CG_BYTES("\xA5" ALL "\xFF\x1C garbage")},
    {"rule 3: bytes behind an indefinite map", CG_BYTES("\xBF" ALL "\xFF\x1C")},
    {"rule 4: any order", CG_BYTES("\xA5" F_MONOTONIC F_COMM F_PID F_PROBE F_VERSION)},
    {"rule 4: a field's name as a byte string",
     CG_BYTES("\xA5" F_VERSION F_PROBE F_COMM F_MONOTONIC "\x49guest_pid\x18\x2A")},
    {"rule 4: a name with its length in eight bytes",
     CG_BYTES("\xA5\x7B\0\0\0\0\0\0\0\x09guest_pid\x18\x2A" F_VERSION F_PROBE F_COMM F_MONOTONIC)},
    {"rule 4: a tagged key",
     CG_BYTES("\xA5\xC1\xC6\xD8\x63" F_VERSION F_PROBE F_PID F_COMM F_MONOTONIC)},
    {"rule 4: a byte string key that is not UTF-8", CG_BYTES("\xA6\x42\xFF\xFE\x00" ALL)},
    {"rule 4: a name in other letters is another key", CG_BYTES("\xA6\x69Guest_pid\xF6" ALL)},
    {"rule 5: an unknown key twice", CG_BYTES("\xA7\x61z\x00\x61z\x00" ALL)},
    {"rule 5: forged attribution", CG_BYTES("\xA7\x67"
                                            "cell_id\x61x\x66run_id\x61x" ALL)},
    {"rule 6: tags before an integer", CG_BYTES(PID("\xC0\xC1\xC4\xD8\x20\x18\x2A"))},
    {"rule 6: an integer in eight bytes", CG_BYTES(PID("\x1B\0\0\0\0\0\0\0\x2A"))},
    {"rule 6: a big integer", CG_BYTES(PID("\xC2\x41\x2A"))},
    {"rule 6: a big integer, tagged", CG_BYTES(PID("\xC6\xC2\x41\x2A"))},
    {"rule 6: the tag of a big integer in its long form", CG_BYTES(PID("\xD8\x02\x41\x2A"))},
    {"rule 6: a big integer behind many zeros",
     CG_BYTES(PID("\xC2\x58\x21" X16("\0") X16("\0") "\x2A"))},
    {"rule 6: a big integer in chunks", CG_BYTES(PID("\xC2\x5F\x40\x41\0\x41\x2A\xFF"))},
    {"rule 6: a big integer in nested chunks",
     CG_BYTES(PID("\xC2\x5F\x5F\x41\0\xFF\x5F\x5F\xFF\x41\x2A\xFF\xFF"))},
    {"rule 7: tags before a text", CG_BYTES(COMM("\xC2\xC3\xC6\x64"
                                                 "curl"))},
    {"rule 7: a text in chunks", CG_BYTES(COMM("\x7F\x61"
                                               "c\x60\x63"
                                               "url\xFF"))},
    {"rule 7: a text in nested chunks", CG_BYTES(COMM("\x7F\x7F\x61"
                                                      "c\xFF\x7F\xFF\x63"
                                                      "url\xFF"))},
    {"rule 8: integers", CG_BYTES("\xA7\x61z\x3B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x61y\x1B\xFF\xFF"
                                  "\xFF\xFF\xFF\xFF\xFF\xFF" ALL)},
    {"rule 8: byte strings", CG_BYTES(UNKNOWN("\x82\x42\xFF\xFF\x5F\x41\xFF\x5F\xFF\xFF"))},
    {"rule 8: texts", CG_BYTES(UNKNOWN("\x82\x62\xC3\xA9\x7F\x60\x7F\x61x\xFF\xFF"))},
    {"rule 8: false to undefined", CG_BYTES(UNKNOWN("\x84\xF4\xF5\xF6\xF7"))},
    {"rule 8: false to undefined in two bytes",
     CG_BYTES(UNKNOWN("\x84\xF8\x14\xF8\x15\xF8\x16\xF8\x17"))},
    {"rule 8: floats",
     CG_BYTES(UNKNOWN("\x83\xF9\x7E\x01\xFA\x7F\x80\0\0\xFB\xFF\xF0\0\0\0\0\0\0"))},
    {"rule 8: map keys of any type",
     CG_BYTES(UNKNOWN("\xA4\xF6\x00\x80\x00\xA1\x00\x00\x00\x20\x00"))},
    {"rule 8: an indefinite string inside an indefinite array",
     CG_BYTES(UNKNOWN("\x9F\x7F\x61x\xFF\x5F\xFF\x01\xFF"))},
    {"rule 8: an indefinite string as key and value of a map",
     CG_BYTES(UNKNOWN("\xBF\x7F\xFF\x5F\xFF\xFF"))},
    {"rule 8: tags in their short form", CG_BYTES(UNKNOWN("\x82\xC6\x00\xD4\x00"))},
    {"rule 8: tag 2 with something else", CG_BYTES(UNKNOWN("\xC2\x00"))},
    {"rule 8: a negative big integer, the least",
     CG_BYTES(UNKNOWN("\xC3\x50\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"))},
    {"rule 8: a positive one of 16 bytes", CG_BYTES(UNKNOWN("\xC2\x50" X16("\xFF")))},
    {"rule 8: a negative one of 17 bytes", CG_BYTES(UNKNOWN("\xC3\x51" X16("\xFF") "\xFF"))},
    {"rule 8: a negative one in chunks", CG_BYTES(UNKNOWN("\xC3\x5F\x50" X16("\xFF") "\xFF"))},
};

START_TEST(what_the_contract_allows_is_decoded)
{
    struct cg_declaration declaration;
    ck_assert_msg(decode(must_decode[_i].body, &declaration) == CG_REFUSAL_NONE, "%s",
                  must_decode[_i].what);
    ck_assert_uint_eq(declaration.content_version, 1);
    ck_assert_uint_eq(declaration.guest_pid, 42);
    ck_assert_uint_eq(declaration.guest_monotonic_ns, 7);
    ck_assert(cg_bytes_equal(declaration.probe_source, CG_BYTES("a.b")));
    ck_assert(cg_bytes_equal(declaration.guest_comm, CG_BYTES("curl")));
}
END_TEST

struct must_refuse {
    const char *what;
    enum cg_refusal refusal;
    struct cg_bytes body;
};

static const struct must_refuse must_refuse[] = {
    {"nothing", CG_REFUSAL_MALFORMED, CG_BYTES("")},
    {"rule 1: reserved additional information", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\x1C"))},
    {"rule 1: an indefinite integer", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\x1F"))},
    {"rule 1: an indefinite tag", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\xDF\x00"))},
    {"rule 1: an argument cut short", CG_REFUSAL_MALFORMED, CG_BYTES("\xBB\0\0")},
    {"rule 2: an array at the top", CG_REFUSAL_STRUCTURE, CG_BYTES("\x81\xA5" ALL)},
    {"rule 2: a tag and no item", CG_REFUSAL_MALFORMED, CG_BYTES("\xC1")},
    {"rule 2: a break at the top", CG_REFUSAL_STRUCTURE, CG_BYTES("\xFF")},
    {"rule 3: fewer pairs than said", CG_REFUSAL_MALFORMED, CG_BYTES("\xA6" ALL)},
    {"rule 3: a count beyond the bytes", CG_REFUSAL_MALFORMED,
     CG_BYTES("\xBB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF" ALL)},
    {"rule 3: no break at the end", CG_REFUSAL_MALFORMED, CG_BYTES("\xBF" ALL)},
    {"rule 3: a break in a definite map", CG_REFUSAL_STRUCTURE, CG_BYTES("\xA6" ALL "\xFF\xFF")},
    {"rule 3: a break for a value", CG_REFUSAL_MALFORMED, CG_BYTES("\xBF" ALL "\x61z\xFF")},
    {"rule 3: a tag before the break", CG_REFUSAL_STRUCTURE, CG_BYTES("\xBF" ALL "\xC1\xFF")},
    {"rule 4: an integer as a key", CG_REFUSAL_STRUCTURE, CG_BYTES("\xA6\x00\x00" ALL)},
    {"rule 4: a key in chunks", CG_REFUSAL_STRUCTURE, CG_BYTES("\xA6\x7F\x61z\xFF\x00" ALL)},
    {"rule 4: a key that is not UTF-8", CG_REFUSAL_TEXT, CG_BYTES("\xA6\x61\xFF\x00" ALL)},
    {"rule 5: a field is missing", CG_REFUSAL_FIELD,
     CG_BYTES("\xA4" F_VERSION F_PROBE F_PID F_COMM)},
    {"rule 5: no field at all", CG_REFUSAL_FIELD, CG_BYTES("\xBF\xFF")},
    {"rule 5: a field twice", CG_REFUSAL_FIELD, CG_BYTES("\xA6" ALL F_PID)},
    {"rule 5: a field twice, once by a byte string", CG_REFUSAL_FIELD,
     CG_BYTES("\xA6" ALL "\x49guest_pid\x18\x2A")},
    {"rule 5: null is a wrong type", CG_REFUSAL_FIELD, CG_BYTES(PID("\xF6"))},
    {"rule 6: a negative integer", CG_REFUSAL_FIELD, CG_BYTES(PID("\x20"))},
    {"rule 6: a negative big integer", CG_REFUSAL_FIELD, CG_BYTES(PID("\xC3\x40"))},
    {"rule 6: a float", CG_REFUSAL_FIELD, CG_BYTES(PID("\xF9\x3C\x00"))},
    {"rule 6: a text", CG_REFUSAL_FIELD,
     CG_BYTES(PID("\x62"
                  "42"))},
    {"rule 6: a byte string without a tag", CG_REFUSAL_FIELD, CG_BYTES(PID("\x41\x2A"))},
    {"rule 6: true", CG_REFUSAL_FIELD, CG_BYTES(PID("\xF5"))},
    {"rule 6: an array", CG_REFUSAL_FIELD, CG_BYTES(PID("\x81\x2A"))},
    {"rule 6: tag 2 with an integer", CG_REFUSAL_FIELD, CG_BYTES(PID("\xC2\x2A"))},
    {"rule 6: tag 2 with a tagged byte string", CG_REFUSAL_FIELD,
     CG_BYTES(PID("\xC2\xC6\x41\x2A"))},
    {"rule 6: tag 2 with a chunk of text", CG_REFUSAL_MALFORMED,
     CG_BYTES(PID("\xC2\x5F\x61*\xFF"))},
    {"rule 6: 2^32 as a pid", CG_REFUSAL_FIELD, CG_BYTES(PID("\x1B\0\0\0\x01\0\0\0\0"))},
    {"rule 6: 2^32 as a big pid", CG_REFUSAL_FIELD, CG_BYTES(PID("\xC2\x45\x01\0\0\0\0"))},
    {"rule 6: 2^64 as a time", CG_REFUSAL_FIELD,
     CG_BYTES(MONOTONIC("\xC2\x49\x01\0\0\0\0\0\0\0\0"))},
    {"rule 6: 17 significant bytes", CG_REFUSAL_FIELD,
     CG_BYTES(MONOTONIC("\xC2\x51\x01" X16("\0")))},
    {"rule 6: 65,536 as a version", CG_REFUSAL_FIELD, CG_BYTES(VERSION("\x1A\0\x01\0\0"))},
    {"rule 7: a byte string", CG_REFUSAL_FIELD,
     CG_BYTES(COMM("\x44"
                   "curl"))},
    {"rule 7: an integer", CG_REFUSAL_FIELD, CG_BYTES(COMM("\x00"))},
    {"rule 7: not UTF-8", CG_REFUSAL_TEXT, CG_BYTES(COMM("\x61\xFF"))},
    {"rule 7: a character cut by chunks", CG_REFUSAL_TEXT,
     CG_BYTES(COMM("\x7F\x61\xC3\x61\xA9\xFF"))},
    {"rule 7: a chunk of bytes", CG_REFUSAL_MALFORMED, CG_BYTES(COMM("\x7F\x41x\xFF"))},
    {"rule 7: a tagged chunk", CG_REFUSAL_MALFORMED, CG_BYTES(COMM("\x7F\xC1\x61x\xFF"))},
    {"rule 7: chunks without end", CG_REFUSAL_MALFORMED, CG_BYTES("\xA1" K_COMM "\x7F\x61x")},
    {"rule 7: longer than the frame", CG_REFUSAL_MALFORMED,
     CG_BYTES("\xA1" K_COMM "\x7B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")},
    {"rule 8: not UTF-8", CG_REFUSAL_TEXT, CG_BYTES(UNKNOWN("\x81\x62\xC0\x80"))},
    {"rule 8: a chunk that is not UTF-8", CG_REFUSAL_TEXT, CG_BYTES(UNKNOWN("\x7F\x61\xFF\xFF"))},
    {"rule 8: an unassigned simple value", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\xE0"))},
    {"rule 8: one just below false", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\xF3"))},
    {"rule 8: one in two bytes below false", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\xF8\x13"))},
    {"rule 8: one in two bytes above undefined", CG_REFUSAL_MALFORMED,
     CG_BYTES(UNKNOWN("\xF8\x18"))},
    {"rule 8: two bytes cut to one", CG_REFUSAL_MALFORMED, CG_BYTES("\xA1\x61z\xF8")},
    {"rule 8: a break in a definite array", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\x81\xFF"))},
    {"rule 8: a break behind a tag", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\x9F\xC1\xFF\xFF"))},
    {"rule 8: a break for the value of a map", CG_REFUSAL_MALFORMED,
     CG_BYTES(UNKNOWN("\xBF\x00\xFF"))},
    {"rule 8: a break and nothing else", CG_REFUSAL_MALFORMED, CG_BYTES(UNKNOWN("\xFF"))},
    {"rule 8: an array says 2^63 items", CG_REFUSAL_MALFORMED,
     CG_BYTES(UNKNOWN("\x9B\x80\0\0\0\0\0\0\0"))},
    {"rule 8: a map says 2^63 pairs", CG_REFUSAL_MALFORMED,
     CG_BYTES(UNKNOWN("\xBB\x80\0\0\0\0\0\0\0"))},
    {"rule 8: a negative integer of -1 - 2^127", CG_REFUSAL_MALFORMED,
     CG_BYTES(UNKNOWN("\xC3\x50\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"))},
    {"rule 10: version 256", CG_REFUSAL_UNSUPPORTED_VERSION, CG_BYTES(VERSION("\x19\x01\0"))},
    {"rule 10: version 65,535 by a big integer", CG_REFUSAL_UNSUPPORTED_VERSION,
     CG_BYTES(VERSION("\xC2\x42\xFF\xFF"))},
    {"rule 10: another version, and a bad pid", CG_REFUSAL_FIELD,
     CG_BYTES("\xA5" K_VERSION "\x19\x01\0" F_PROBE K_PID "\xF6" F_COMM F_MONOTONIC)},
};

START_TEST(what_the_contract_forbids_is_refused_for_its_reason)
{
    struct cg_declaration declaration;
    enum cg_refusal refusal = decode(must_refuse[_i].body, &declaration);
    ck_assert_msg(refusal == must_refuse[_i].refusal, "%s: %s and not %s", must_refuse[_i].what,
                  cg_refusal_name(refusal), cg_refusal_name(must_refuse[_i].refusal));
}
END_TEST

START_TEST(every_proper_front_of_a_frame_is_malformed)
{
    struct cg_bytes body = CG_BYTES("\xA6\x61z\x9F\x7F\x61x\xFF\xA1\xC1\x00\xF5\xFF" ALL);
    struct cg_declaration declaration;
    ck_assert_int_eq(decode(body, &declaration), CG_REFUSAL_NONE);
    for (size_t length = 0; length < body.len; length++) {
        ck_assert_int_eq(decode(cg_bytes(body.data, length), &declaration), CG_REFUSAL_MALFORMED);
    }
}
END_TEST

START_TEST(integers_reach_the_ends_of_their_ranges)
{
    struct cg_declaration declaration;
    ck_assert_int_eq(decode(CG_BYTES(VERSION("\x18\xFF")), &declaration), CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.content_version, 255);
    ck_assert_int_eq(decode(CG_BYTES(VERSION("\x00")), &declaration), CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.content_version, 0);
    ck_assert_int_eq(decode(CG_BYTES(PID("\x1A\xFF\xFF\xFF\xFF")), &declaration), CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.guest_pid, UINT32_MAX);
    ck_assert_int_eq(decode(CG_BYTES(PID("\xC2\x40")), &declaration), CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.guest_pid, 0);
    ck_assert_int_eq(
        decode(CG_BYTES(MONOTONIC("\x1B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")), &declaration),
        CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.guest_monotonic_ns, UINT64_MAX);
    ck_assert_int_eq(
        decode(CG_BYTES(MONOTONIC("\xC2\x4A\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE")), &declaration),
        CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.guest_monotonic_ns, UINT64_MAX - 1);
}
END_TEST

START_TEST(two_texts_in_chunks_do_not_overwrite_each_other)
{
    struct cg_declaration declaration;
    ck_assert_int_eq(decode(CG_BYTES("\xA5" F_VERSION F_PID F_MONOTONIC K_PROBE "\x7F\x62"
                                     "on\x61"
                                     "e\xFF" K_COMM "\x7F\x62"
                                     "tw\x61"
                                     "o\xFF"),
                            &declaration),
                     CG_REFUSAL_NONE);
    ck_assert(cg_bytes_equal(declaration.probe_source, CG_BYTES("one")));
    ck_assert(cg_bytes_equal(declaration.guest_comm, CG_BYTES("two")));
}
END_TEST

static void append_times(struct cg_buf *out, size_t times, struct cg_bytes what)
{
    for (size_t i = 0; i < times; i++) {
        cg_buf_append(out, what);
    }
}

/* A frame whose unknown key has `front`, `times` over, around `inner`, closed by as many `back`. */
static enum cg_refusal decode_nested(size_t times, struct cg_bytes front, struct cg_bytes inner,
                                     struct cg_bytes back)
{
    struct cg_buf body;
    cg_buf_init(&body, CG_FRAME_BODY_BYTES_MAX);
    cg_buf_append(&body, CG_BYTES("\xA6\x61z"));
    append_times(&body, times, front);
    cg_buf_append(&body, inner);
    append_times(&body, times, back);
    cg_buf_append(&body, CG_BYTES(ALL));
    ck_assert(!body.failed);
    struct cg_declaration declaration;
    enum cg_refusal refusal = decode(cg_buf_bytes(&body), &declaration);
    cg_buf_fini(&body);
    return refusal;
}

static const struct {
    struct cg_bytes front;
    struct cg_bytes back;
} nests[] = {
    {CG_BYTES("\x81"), CG_BYTES("")},         {CG_BYTES("\x9F"), CG_BYTES("\xFF")},
    {CG_BYTES("\xA1\x00"), CG_BYTES("")},     {CG_BYTES("\xA1"), CG_BYTES("\x00")},
    {CG_BYTES("\xBF\x00"), CG_BYTES("\xFF")}, {CG_BYTES("\xBF"), CG_BYTES("\x00\xFF")},
    {CG_BYTES("\xC6"), CG_BYTES("")},         {CG_BYTES("\xC2"), CG_BYTES("")},
};

START_TEST(levels_of_every_kind_nest_255_deep_and_no_deeper)
{
    struct cg_bytes front = nests[_i].front;
    struct cg_bytes back = nests[_i].back;
    ck_assert_int_eq(decode_nested(255, front, CG_BYTES("\x00"), back), CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_nested(256, front, CG_BYTES("\x00"), back), CG_REFUSAL_DEPTH);
    /* An empty array is a level, an indefinite string or a short big integer is none. */
    ck_assert_int_eq(decode_nested(254, front, CG_BYTES("\x80"), back), CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_nested(255, front, CG_BYTES("\x80"), back), CG_REFUSAL_DEPTH);
    ck_assert_int_eq(decode_nested(255, front, CG_BYTES("\x7F\xFF"), back), CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_nested(255, front, CG_BYTES("\xC3\x41\x01"), back), CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_nested(255, front, CG_BYTES("\xC3\x5F\xFF"), back), CG_REFUSAL_DEPTH);
    ck_assert_int_eq(decode_nested(255, front, CG_BYTES("\xC2\x51" X16("x") "x"), back),
                     CG_REFUSAL_DEPTH);
}
END_TEST

START_TEST(strings_in_chunks_nest_as_deep_as_the_frame_is_long)
{
    ck_assert_int_eq(decode_nested(30000, CG_BYTES("\x5F"), CG_BYTES("\x41x"), CG_BYTES("\xFF")),
                     CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_nested(30000, CG_BYTES("\x7F"), CG_BYTES("\x41x"), CG_BYTES("\xFF")),
                     CG_REFUSAL_MALFORMED);
}
END_TEST

static enum cg_refusal decode_key(struct cg_bytes head, size_t length)
{
    struct cg_buf body;
    cg_buf_init(&body, CG_FRAME_BODY_BYTES_MAX);
    cg_buf_append(&body, CG_BYTES("\xA6"));
    cg_buf_append(&body, head);
    append_times(&body, length, CG_BYTES("k"));
    cg_buf_append(&body, CG_BYTES("\x00" ALL));
    struct cg_declaration declaration;
    enum cg_refusal refusal = decode(cg_buf_bytes(&body), &declaration);
    cg_buf_fini(&body);
    return refusal;
}

START_TEST(a_key_has_at_most_4096_bytes)
{
    ck_assert_int_eq(decode_key(CG_BYTES("\x79\x10\x00"), 4096), CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_key(CG_BYTES("\x79\x10\x01"), 4097), CG_REFUSAL_STRUCTURE);
    ck_assert_int_eq(decode_key(CG_BYTES("\x59\x10\x00"), 4096), CG_REFUSAL_NONE);
    ck_assert_int_eq(decode_key(CG_BYTES("\x59\x10\x01"), 4097), CG_REFUSAL_STRUCTURE);
}
END_TEST

/* The longest body there may be, all of it one text in chunks of one byte: the scratch holds it. */
START_TEST(the_scratch_holds_the_longest_text_in_chunks)
{
    struct cg_buf body;
    cg_buf_init(&body, CG_FRAME_BODY_BYTES_MAX);
    cg_buf_append(&body, CG_BYTES("\xA5" F_VERSION F_PROBE F_PID F_MONOTONIC K_COMM "\x7F"));
    size_t chunks = (CG_FRAME_BODY_BYTES_MAX - body.len - 1) / 2;
    append_times(&body, chunks, CG_BYTES("\x61x"));
    cg_buf_append(&body, CG_BYTES("\xFF"));
    ck_assert(!body.failed);
    struct cg_declaration declaration;
    ck_assert_int_eq(decode(cg_buf_bytes(&body), &declaration), CG_REFUSAL_NONE);
    ck_assert_uint_eq(declaration.guest_comm.len, chunks);
    cg_buf_fini(&body);
}
END_TEST

START_TEST(every_refusal_has_a_name)
{
    for (enum cg_refusal a = 0; a < CG_REFUSAL_COUNT; a++) {
        for (enum cg_refusal b = 0; b < a; b++) {
            ck_assert_str_ne(cg_refusal_name(a), cg_refusal_name(b));
        }
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("decode");
    tcase_add_loop_test(tests, what_the_contract_allows_is_decoded, 0,
                        sizeof(must_decode) / sizeof(must_decode[0]));
    tcase_add_loop_test(tests, what_the_contract_forbids_is_refused_for_its_reason, 0,
                        sizeof(must_refuse) / sizeof(must_refuse[0]));
    tcase_add_loop_test(tests, levels_of_every_kind_nest_255_deep_and_no_deeper, 0,
                        sizeof(nests) / sizeof(nests[0]));
    tcase_add_test(tests, every_proper_front_of_a_frame_is_malformed);
    tcase_add_test(tests, integers_reach_the_ends_of_their_ranges);
    tcase_add_test(tests, two_texts_in_chunks_do_not_overwrite_each_other);
    tcase_add_test(tests, strings_in_chunks_nest_as_deep_as_the_frame_is_long);
    tcase_add_test(tests, a_key_has_at_most_4096_bytes);
    tcase_add_test(tests, the_scratch_holds_the_longest_text_in_chunks);
    tcase_add_test(tests, every_refusal_has_a_name);
    Suite *suite = suite_create("ingress/decode");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
