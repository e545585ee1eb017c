#include "base/utf8.h"
#include "cellgate/limits.h"
#include "event/envelope.h"
#include "event/keys.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UUID   "019ab0a4-2a40-7f00-8000-0123456789ab"
#define TYPE   "dev.cellos.events.cell.observability.v1.guest."
#define SOURCE "/cellos-supervisor/host-telemetry"
#define TIME   "2026-11-23T11:00:00.123456789Z"

/* What stands before `data`, and the whole plain event of the contract up to its time. */
#define HEAD(suffix)                                                                               \
    "{\"specversion\":\"1.0\",\"id\":\"" UUID "\",\"source\":\"" SOURCE                            \
    "\",\"type\":\"" TYPE suffix "\",\"datacontenttype\":\"application/json\",\"data\":"
#define HOST(members)                                                                              \
    "\"host\":{\"cellId\":\"cell-abc\",\"connection\":1,\"hostReceivedAt\":\"" TIME "\"," members  \
    "\"node\":\"host-7\",\"runId\":\"run-xyz\",\"sequence\":17,"                                   \
    "\"specSignatureHash\":\"sha256:deadbeef\"}"
#define TAIL ",\"provenance\":\"declared\",\"runId\":\"run-xyz\"},\"time\":\"" TIME "\""
#define PLAIN                                                                                      \
    HEAD("process_spawned")                                                                        \
    "{\"cellId\":\"cell-abc\",\"guest\":{\"guestComm\":\"curl\",\"guestMonotonicNs\":1234567890,"  \
    "\"guestPid\":4242,\"probeSource\":\"process.spawned\"}," HOST("") TAIL

static char out[CG_EVENT_BYTES_MAX];
static struct cg_event_meta meta;
static struct cg_envelope *envelope;
static struct cg_run_identity run;
static struct cg_stamp stamp;
static struct cg_declaration declaration;
static const char *env_mode;

static char *fake_getenv(const char *name)
{
    static char mode[16], kid[] = "kid-\"1\"",
                          key[] = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";
    (void)snprintf(mode, sizeof(mode), "%s", env_mode);
    bool off = strcmp(env_mode, "off") == 0;
    return strcmp(name, "CELLOS_EVENT_SIGNING") == 0                      ? mode
           : strcmp(name, "CELLOS_EVENT_SIGNING_KID") == 0                ? kid
           : strcmp(name, "CELLOS_EVENT_SIGNING_KEY_BASE64") == 0 && !off ? key
                                                                          : NULL;
}

static struct cg_signer *make_signer(const char *mode)
{
    struct cg_error err = {0};
    struct cg_signing_key *key;
    struct cg_signer *signer;
    const char *warning;
    env_mode = mode;
    ck_assert_msg(
        cg_signing_key_load(&(struct cg_key_request){0}, fake_getenv, &key, &warning, &err), "%s",
        err.text);
    ck_assert(cg_signer_new(key, &signer, &err));
    cg_signing_key_free(key);
    return signer;
}

static void set_up(void)
{
    struct cg_error err = {0};
    ck_assert(
        cg_envelope_new(CG_BYTES(SOURCE), CG_BYTES(TYPE), CG_BYTES("host-7"), &envelope, &err));
    run = (struct cg_run_identity){
        .cell_id = CG_BYTES("cell-abc"),
        .run_id = CG_BYTES("run-xyz"),
        .spec_hash_json = CG_BYTES("sha256:deadbeef"),
    };
    stamp = (struct cg_stamp){
        .run = &run, .sequence = 17, .received_ns = UINT64_C(1795431600123456789), .connection = 1};
    declaration = (struct cg_declaration){
        .content_version = 1,
        .guest_pid = 4242,
        .guest_monotonic_ns = 1234567890,
        .probe_source = CG_BYTES("process.spawned"),
        .guest_comm = CG_BYTES("curl"),
    };
}

static void tear_down(void)
{
    cg_envelope_free(envelope);
}

static struct cg_bytes render(const char *mode)
{
    struct cg_signer *signer = make_signer(mode);
    size_t len = cg_envelope_guest(envelope, signer, &stamp, &declaration, UUID, out, &meta);
    cg_signer_free(signer);
    ck_assert_uint_gt(len, 0);
    ck_assert_uint_le(len, CG_EVENT_BYTES_MAX);
    ck_assert(cg_utf8_valid(cg_bytes(out, len)));
    return cg_bytes(out, len);
}

static void assert_text(struct cg_bytes bytes, const char *expected)
{
    ck_assert_msg(cg_bytes_equal(bytes, cg_bytes_str(expected)), "\n%.*s\nexpected\n%s",
                  CG_BYTES_ARG(bytes), expected);
}

static void assert_span(enum cg_event_text which, const char *expected)
{
    assert_text(cg_bytes(out + meta.text[which].offset, meta.text[which].len), expected);
}

static void assert_plain_spans(void)
{
    assert_span(CG_TEXT_ID, UUID);
    assert_span(CG_TEXT_SOURCE, SOURCE);
    assert_span(CG_TEXT_TYPE, TYPE "process_spawned");
    assert_span(CG_TEXT_CELL, "cell-abc");
    assert_span(CG_TEXT_RUN, "run-xyz");
    assert_span(CG_TEXT_SPEC_HASH, "sha256:deadbeef");
    assert_span(CG_TEXT_PROBE_SOURCE, "process.spawned");
    assert_span(CG_TEXT_COMM, "curl");
}

START_TEST(an_unsigned_event_omits_the_null_traceparent)
{
    assert_text(render("off"), PLAIN "}");
}
END_TEST

START_TEST(the_meta_says_what_the_bytes_say)
{
    (void)render("off");
    assert_plain_spans();
    ck_assert_uint_eq(meta.sequence, 17);
    ck_assert_uint_eq(meta.received_ns, stamp.received_ns);
    ck_assert_uint_eq(meta.connection, 1);
    ck_assert_uint_eq(meta.pid, 4242);
    ck_assert_uint_eq(meta.kind, CG_EVENT_GUEST);
    ck_assert_uint_eq(meta.severity, CG_SEVERITY_INFO);
}
END_TEST

/* The signatures were computed with Python's hmac and cryptography over PLAIN and a null
 * traceparent, with the key of 32 bytes 0x42. */
static const struct {
    const char *mode;
    const char *signature;
} signed_events[] = {
    {"hmac-sha256", "fFPJiFPZk9VYu_TewdrToPr5jKdXyOA1SH7N7ZnKwjM"},
    {"ed25519",
     "CsRAS0HLBah2-L0MOeivsi8rfzn2LigdfVrZIX0UlGuJ7CRWhAMt6MO-NX7ypWEyQ_YpcHyjggNAsYO6F8hEAA"},
};

START_TEST(a_signed_event_is_an_envelope_in_a_transport_event)
{
    char expected[4096];
    (void)snprintf(expected, sizeof(expected),
                   "{\"specversion\":\"1.0\",\"id\":\"" UUID
                   "\",\"source\":\"/cellos-supervisor/event-signing\","
                   "\"type\":\"dev.cellos.events.signed_envelope.v1\","
                   "\"datacontenttype\":\"application/json\",\"data\":{\"event\":" PLAIN
                   ",\"traceparent\":null},\"signerKid\":\"kid-\\\"1\\\"\",\"algorithm\":\"%s\","
                   "\"signature\":\"%s\"},\"time\":\"" TIME "\"}",
                   signed_events[_i].mode, signed_events[_i].signature);
    assert_text(render(signed_events[_i].mode), expected);
}
END_TEST

START_TEST(the_meta_of_a_signed_event_points_into_the_inner_one)
{
    (void)render("ed25519");
    assert_plain_spans();
    ck_assert(
        strncmp(out + meta.text[CG_TEXT_SOURCE].offset - strlen("\",\"source\":\"") - strlen(UUID),
                UUID, strlen(UUID)) == 0);
    ck_assert_uint_gt(meta.text[CG_TEXT_ID].offset, strlen("{\"specversion\":\"1.0\",\"id\":\""));
}
END_TEST

START_TEST(a_traceparent_goes_on_the_event_and_its_transport)
{
    static const char trace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    run.traceparent_json = cg_bytes_str(trace);
    char expected[4096];
    (void)snprintf(expected, sizeof(expected), PLAIN ",\"traceparent\":\"%s\"}", trace);
    assert_text(render("off"), expected);

    struct cg_bytes bytes = render("hmac-sha256");
    (void)snprintf(expected, sizeof(expected), ",\"time\":\"" TIME "\",\"traceparent\":\"%s\"}",
                   trace);
    size_t len = strlen(expected);
    assert_text(cg_bytes(bytes.data + bytes.len - len, len), expected);
    char inner[4096];
    (void)snprintf(inner, sizeof(inner), "{\"event\":" PLAIN ",\"traceparent\":\"%s\"},", trace);
    ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, inner, strlen(inner)));
}
END_TEST

START_TEST(labels_stand_between_receive_time_and_node)
{
    run.labels_json = CG_BYTES("{\"a\":\"1\",\"b\":\"\"}");
    assert_text(
        render("off"),
        HEAD("process_spawned") "{\"cellId\":\"cell-abc\",\"guest\":"
                                "{\"guestComm\":\"curl\",\"guestMonotonicNs\":1234567890,"
                                "\"guestPid\":4242,\"probeSource\":\"process.spawned\"}," HOST(
                                    "\"labels\":{\"a\":\"1\",\"b\":\"\"},") TAIL "}");
}
END_TEST

START_TEST(an_event_of_no_connection_has_no_connection_member)
{
    stamp.connection = 0;
    struct cg_bytes bytes = render("off");
    ck_assert_ptr_null(memmem(bytes.data, bytes.len, "connection", 10));
    static const char host[] = "\"host\":{\"cellId\":\"cell-abc\",\"hostReceivedAt\":\"" TIME "\",";
    ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, host, strlen(host)));
}
END_TEST

static const struct {
    const char *probe_source;
    const char *suffix;
} suffixes[] = {
    {"a", "a"},
    {"0._z9", "0__z9"},
    {"....", "____"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "unrecognised"},
    {"", "unrecognised"},
    {"Process", "unrecognised"},
    {"process spawned", "unrecognised"},
    {"process-spawned", "unrecognised"},
    {"process.spawned\n", "unrecognised"},
    {"a/b", "unrecognised"},
    {"a`", "unrecognised"},
    {"a{", "unrecognised"},
    {"a:", "unrecognised"},
    {"\xc3\xa9", "unrecognised"},
    {"\",\"data\":{}}", "unrecognised"},
};

START_TEST(only_a_plain_probe_source_becomes_part_of_the_type)
{
    char expected[256];
    (void)snprintf(expected, sizeof(expected), TYPE "%s", suffixes[_i].suffix);
    declaration.probe_source = cg_bytes_str(suffixes[_i].probe_source);
    (void)render("off");
    assert_span(CG_TEXT_TYPE, expected);
    assert_span(CG_TEXT_ID, UUID);
    assert_span(CG_TEXT_CELL, "cell-abc");
}
END_TEST

START_TEST(a_probe_source_with_a_nul_is_unrecognised)
{
    declaration.probe_source = CG_BYTES("a\0b");
    (void)render("off");
    assert_span(CG_TEXT_TYPE, TYPE "unrecognised");
    assert_span(CG_TEXT_PROBE_SOURCE, "a\\u0000b");
}
END_TEST

START_TEST(guest_texts_are_escaped)
{
    declaration.guest_comm = CG_BYTES("\"}},\\\b\t\n\f\r\x1f\x7f/\xe2\x82\xac");
    (void)render("off");
    assert_span(CG_TEXT_COMM, "\\\"}},\\\\\\b\\t\\n\\f\\r\\u001f\x7f/\xe2\x82\xac");
}
END_TEST

/* A long text made of one character, and how many of it remain. */
static const struct {
    const char *unit;
    size_t repeats;
    size_t kept;
} long_texts[] = {
    {"a", 1024, 1024},
    {"a", 1025, 1024},
    {"a", 65440, 1024},
    {"\xc3\xa9", 512, 512},
    {"\xc3\xa9", 513, 512},
    {"\xe2\x82\xac", 342, 341},
    {"\xf0\x9f\x9a\x80", 256, 256},
    {"\xf0\x9f\x9a\x80", 300, 256},
};

static struct cg_bytes repeat(const char *unit, size_t repeats, char *memory)
{
    size_t len = strlen(unit);
    for (size_t i = 0; i < repeats; i++) {
        memcpy(memory + i * len, unit, len);
    }
    return cg_bytes(memory, repeats * len);
}

START_TEST(a_long_text_is_cut_at_a_character_and_its_length_named)
{
    static char memory[65536], kept[2048], expected[2048];
    struct cg_bytes text = repeat(long_texts[_i].unit, long_texts[_i].repeats, memory);
    struct cg_bytes cut = repeat(long_texts[_i].unit, long_texts[_i].kept, kept);
    declaration.guest_comm = text;
    struct cg_bytes bytes = render("off");
    ck_assert(cg_bytes_equal(
        cut, cg_bytes(out + meta.text[CG_TEXT_COMM].offset, meta.text[CG_TEXT_COMM].len)));
    if (text.len > 1024) {
        (void)snprintf(expected, sizeof(expected),
                       "\"probeSource\":\"process.spawned\",\"truncated\":{\"guestComm\":%zu}},"
                       "\"host\":",
                       text.len);
        ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, expected, strlen(expected)));
    } else {
        ck_assert_ptr_null(memmem(bytes.data, bytes.len, "truncated", 9));
    }
}
END_TEST

START_TEST(a_cut_does_not_split_a_character_that_straddles_it)
{
    static char memory[2048];
    for (size_t before = 1021; before <= 1024; before++) {
        memset(memory, 'x', before);
        memcpy(memory + before, "\xf0\x9f\x9a\x80", 4);
        declaration.guest_comm = cg_bytes(memory, before + 4);
        (void)render("off");
        ck_assert_uint_eq(meta.text[CG_TEXT_COMM].len, before);
    }
}
END_TEST

START_TEST(both_cut_members_are_named_in_order)
{
    static char memory[65536];
    declaration.guest_comm = repeat("a", 2000, memory);
    declaration.probe_source = cg_bytes(memory, 1025);
    struct cg_bytes bytes = render("off");
    static const char expected[] =
        ",\"truncated\":{\"guestComm\":2000,\"probeSource\":1025}},\"host\":";
    ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, expected, strlen(expected)));
    declaration.guest_comm = CG_BYTES("curl");
    bytes = render("off");
    static const char alone[] = ",\"truncated\":{\"probeSource\":1025}},\"host\":";
    ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, alone, strlen(alone)));
}
END_TEST

START_TEST(numbers_keep_every_digit)
{
    declaration.guest_monotonic_ns = UINT64_MAX;
    declaration.guest_pid = UINT32_MAX;
    stamp.sequence = UINT64_MAX - 1;
    stamp.connection = UINT32_MAX - 1;
    struct cg_bytes bytes = render("off");
    static const char *const expected[] = {
        "\"guestMonotonicNs\":18446744073709551615,\"guestPid\":4294967295,",
        "\"sequence\":18446744073709551614,",
        "\"connection\":4294967294,",
    };
    for (size_t i = 0; i < 3; i++) {
        ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, expected[i], strlen(expected[i])));
    }
}
END_TEST

START_TEST(times_follow_the_stamp_from_event_to_event)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } times[] = {
        {0, "1970-01-01T00:00:00.000000000Z"},
        {UINT64_C(1795431600123456789), TIME},
        {UINT64_C(1795431600123456790), "2026-11-23T11:00:00.123456790Z"},
        {UINT64_C(1795431600000000001), "2026-11-23T11:00:00.000000001Z"},
        {UINT64_C(1795431600999999999), "2026-11-23T11:00:00.999999999Z"},
        {UINT64_C(1795431601000000000), "2026-11-23T11:00:01.000000000Z"},
        {UINT64_C(1795431600123456789), TIME},
    };
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        stamp.received_ns = times[i].ns;
        struct cg_bytes bytes = render("off");
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "\"time\":\"%s\"}", times[i].text);
        size_t len = strlen(expected);
        assert_text(cg_bytes(bytes.data + bytes.len - len, len), expected);
        (void)snprintf(expected, sizeof(expected), "\"hostReceivedAt\":\"%s\",", times[i].text);
        ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, expected, strlen(expected)));
    }
}
END_TEST

/* A guest's 65,440 NULs, and everything else as long as it may be. */
START_TEST(no_event_exceeds_the_maximum)
{
    static char nuls[65440], ids[128], labels[CG_EVENT_RUN_BYTES_MAX], trace[128], texts[2048];
    memset(ids, 'i', sizeof(ids));
    memset(trace, 't', sizeof(trace));
    memset(texts, 'n', sizeof(texts));
    struct cg_error err = {0};
    cg_envelope_free(envelope);
    memset(texts, '\x01', CG_NODE_BYTES_MAX);
    ck_assert(cg_envelope_new(cg_bytes(texts + 300, 1748), cg_bytes(texts + 300, 256),
                              cg_bytes(texts, CG_NODE_BYTES_MAX), &envelope, &err));
    declaration.guest_comm = cg_bytes(nuls, sizeof(nuls));
    declaration.probe_source = cg_bytes(nuls, sizeof(nuls));
    declaration.guest_monotonic_ns = UINT64_MAX;
    stamp.sequence = UINT64_MAX;
    run.cell_id = run.run_id = cg_bytes(ids, sizeof(ids));
    run.traceparent_json = cg_bytes(trace, sizeof(trace));
    memset(labels, 'l', sizeof(labels));
    size_t others = 4 * sizeof(ids) + run.spec_hash_json.len + 2 * sizeof(trace);
    run.labels_json = cg_bytes(labels, CG_EVENT_RUN_BYTES_MAX - others);
    ck_assert(cg_envelope_run_fits(&run));
    struct cg_bytes bytes = render("ed25519");
    ck_assert_uint_gt(bytes.len, 50000);
    ck_assert_uint_eq(meta.text[CG_TEXT_COMM].len, 6144);
    ck_assert_uint_eq(meta.text[CG_TEXT_RUN].len, sizeof(ids));
}
END_TEST

START_TEST(a_run_that_does_not_fit_is_refused_and_renders_nothing)
{
    static char labels[CG_EVENT_RUN_BYTES_MAX];
    memset(labels, 'l', sizeof(labels));
    run.labels_json = cg_bytes(labels, sizeof(labels));
    ck_assert(!cg_envelope_run_fits(&run));
    struct cg_signer *signer = make_signer("off");
    memset(&meta, 0x5a, sizeof(meta));
    struct cg_event_meta before = meta;
    ck_assert_uint_eq(cg_envelope_guest(envelope, signer, &stamp, &declaration, UUID, out, &meta),
                      0);
    ck_assert_mem_eq(&meta, &before, sizeof(meta));
    cg_signer_free(signer);
}
END_TEST

START_TEST(texts_of_the_configuration_are_escaped_or_refused)
{
    struct cg_error err = {0};
    struct cg_envelope *other = NULL;
    static char text[4096];
    memset(text, 'a', sizeof(text));
    ck_assert(!cg_envelope_new(cg_bytes(text, 2049), CG_BYTES(TYPE), CG_BYTES("n"), &other, &err));
    ck_assert(!cg_envelope_new(CG_BYTES("\xff"), CG_BYTES(TYPE), CG_BYTES("n"), &other, &err));
    ck_assert(!cg_envelope_new(CG_BYTES("s"), cg_bytes(text, 257), CG_BYTES("n"), &other, &err));
    ck_assert(!cg_envelope_new(CG_BYTES("s"), CG_BYTES("a\""), CG_BYTES("n"), &other, &err));
    ck_assert(!cg_envelope_new(CG_BYTES("s"), CG_BYTES("\xc3\xa9"), CG_BYTES("n"), &other, &err));
    ck_assert(!cg_envelope_new(CG_BYTES("s"), CG_BYTES(TYPE), cg_bytes(text, 256), &other, &err));
    ck_assert(!cg_envelope_new(CG_BYTES("s"), CG_BYTES(TYPE), CG_BYTES("\xc3"), &other, &err));
    ck_assert_ptr_null(other);

    cg_envelope_free(envelope);
    ck_assert(cg_envelope_new(CG_BYTES("a\"b"), CG_BYTES("x."), CG_BYTES("n\n"), &envelope, &err));
    struct cg_bytes bytes = render("off");
    assert_span(CG_TEXT_SOURCE, "a\\\"b");
    assert_span(CG_TEXT_TYPE, "x.process_spawned");
    ck_assert_ptr_nonnull(memmem(bytes.data, bytes.len, "\"node\":\"n\\n\",", 13));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("envelope");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, an_unsigned_event_omits_the_null_traceparent);
    tcase_add_test(tests, the_meta_says_what_the_bytes_say);
    tcase_add_loop_test(tests, a_signed_event_is_an_envelope_in_a_transport_event, 0,
                        sizeof(signed_events) / sizeof(signed_events[0]));
    tcase_add_test(tests, the_meta_of_a_signed_event_points_into_the_inner_one);
    tcase_add_test(tests, a_traceparent_goes_on_the_event_and_its_transport);
    tcase_add_test(tests, labels_stand_between_receive_time_and_node);
    tcase_add_test(tests, an_event_of_no_connection_has_no_connection_member);
    tcase_add_loop_test(tests, only_a_plain_probe_source_becomes_part_of_the_type, 0,
                        sizeof(suffixes) / sizeof(suffixes[0]));
    tcase_add_test(tests, a_probe_source_with_a_nul_is_unrecognised);
    tcase_add_test(tests, guest_texts_are_escaped);
    tcase_add_loop_test(tests, a_long_text_is_cut_at_a_character_and_its_length_named, 0,
                        sizeof(long_texts) / sizeof(long_texts[0]));
    tcase_add_test(tests, a_cut_does_not_split_a_character_that_straddles_it);
    tcase_add_test(tests, both_cut_members_are_named_in_order);
    tcase_add_test(tests, numbers_keep_every_digit);
    tcase_add_test(tests, times_follow_the_stamp_from_event_to_event);
    tcase_add_test(tests, no_event_exceeds_the_maximum);
    tcase_add_test(tests, a_run_that_does_not_fit_is_refused_and_renders_nothing);
    tcase_add_test(tests, texts_of_the_configuration_are_escaped_or_refused);
    Suite *suite = suite_create("event/envelope");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
