/* The gateway's own events, byte for byte. */
#include "base/utf8.h"
#include "cellgate/limits.h"
#include "event/envelope.h"
#include "event/keys.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UUID   "019ab0a4-2a40-7f00-8000-0123456789ab"
#define ABOVE  "dev.cellos.events.cell.observability.v1."
#define TIME   "2026-11-23T11:00:00.123456789Z"
#define SOURCE "/cellos-supervisor/host-telemetry"

#define HEAD(type)                                                                                 \
    "{\"specversion\":\"1.0\",\"id\":\"" UUID "\",\"source\":\"" SOURCE "\",\"type\":\"" type      \
    "\",\"datacontenttype\":\"application/json\",\"data\":"
#define HOST(connection, labels)                                                                   \
    "\"host\":{\"cellId\":\"cell-abc\"," connection "\"hostReceivedAt\":\"" TIME "\"," labels      \
    "\"node\":\"host-7\",\"runId\":\"run-xyz\",\"sequence\":18,"                                   \
    "\"specSignatureHash\":\"sha256:deadbeef\"}"

static char out[CG_EVENT_BYTES_MAX];
static struct cg_event_meta meta;
static struct cg_envelope *envelope;
static struct cg_run_identity run;
static struct cg_stamp stamp;
static const char *env_mode;

static char *fake_getenv(const char *name)
{
    static char mode[16], kid[] = "ops-2026", key[] = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";
    (void)snprintf(mode, sizeof(mode), "%s", env_mode);
    bool off = strcmp(env_mode, "off") == 0;
    return strcmp(name, "CELLOS_EVENT_SIGNING") == 0                      ? mode
           : strcmp(name, "CELLOS_EVENT_SIGNING_KID") == 0 && !off        ? kid
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

static void make_envelope(struct cg_bytes prefix)
{
    struct cg_error err = {0};
    cg_envelope_free(envelope);
    ck_assert(cg_envelope_new(CG_BYTES(SOURCE), prefix, CG_BYTES("host-7"), &envelope, &err));
}

static void set_up(void)
{
    envelope = NULL;
    make_envelope(CG_BYTES(ABOVE "guest."));
    run = (struct cg_run_identity){
        .cell_id = CG_BYTES("cell-abc"),
        .run_id = CG_BYTES("run-xyz"),
        .spec_hash_json = CG_BYTES("sha256:deadbeef"),
    };
    stamp = (struct cg_stamp){
        .run = &run, .sequence = 18, .received_ns = UINT64_C(1795431600123456789)};
}

static void tear_down(void)
{
    cg_envelope_free(envelope);
}

static size_t try_render(const char *mode, enum cg_gateway_event type,
                         const struct cg_member *members, size_t count)
{
    struct cg_signer *signer = make_signer(mode);
    size_t len = cg_envelope_gateway(envelope, signer, &stamp, type, members, count,
                                     CG_SEVERITY_WARN, UUID, out, &meta);
    cg_signer_free(signer);
    return len;
}

static struct cg_bytes render(const char *mode, enum cg_gateway_event type,
                              const struct cg_member *members, size_t count)
{
    size_t len = try_render(mode, type, members, count);
    ck_assert_uint_gt(len, 0);
    ck_assert(cg_utf8_valid(cg_bytes(out, len)));
    return cg_bytes(out, len);
}

static void expect(struct cg_bytes bytes, const char *expected)
{
    ck_assert_msg(cg_bytes_equal(bytes, cg_bytes_str(expected)), "\n%.*s\nexpected\n%s",
                  CG_BYTES_ARG(bytes), expected);
}

static void expect_span(enum cg_event_text which, const char *expected)
{
    expect(cg_bytes(out + meta.text[which].offset, meta.text[which].len), expected);
}

/* Before, between and behind the four that every event has. */
static const struct cg_member five[] = {
    {CG_BYTES("bytes"), CG_BYTES("18446744073709551615")},
    {CG_BYTES("connection"), CG_BYTES("3")},
    {CG_BYTES("keepaliveWindowMs"), CG_BYTES("10000")},
    {CG_BYTES("reason"), CG_BYTES("\"eof\"")},
    {CG_BYTES("suppressed"), CG_BYTES("0")},
};

#define FIVE(type, connection, labels)                                                             \
    HEAD(type)                                                                                     \
    "{\"bytes\":18446744073709551615,\"cellId\":\"cell-abc\",\"connection\":3," HOST(              \
        connection, labels) ",\"keepaliveWindowMs\":10000,\"provenance\":\"observed\","            \
                            "\"reason\":\"eof\",\"runId\":\"run-xyz\",\"suppressed\":0},"          \
                            "\"time\":\"" TIME "\""

START_TEST(members_stand_in_their_sorted_places)
{
    stamp.connection = 3;
    expect(render("off", CG_GATEWAY_STREAM_CLOSED, five, 5),
           FIVE(ABOVE "guest.stream_closed", "\"connection\":3,", "") "}");
}
END_TEST

START_TEST(without_a_connection_the_host_block_has_none)
{
    expect(render("off", CG_GATEWAY_AGENT_SILENCED, five, 5),
           FIVE(ABOVE "guest.agent_silenced", "", "") "}");
}
END_TEST

START_TEST(without_members_there_is_what_every_event_has)
{
    expect(render("off", CG_GATEWAY_AGENT_RESUMED, NULL, 0),
           HEAD(ABOVE "guest.agent_resumed") "{\"cellId\":\"cell-abc\"," HOST(
               "", "") ",\"provenance\":\"observed\",\"runId\":\"run-xyz\"},\"time\":\"" TIME
                       "\"}");
}
END_TEST

START_TEST(labels_and_traceparent_go_on_it_too)
{
    run.labels_json = CG_BYTES("{\"team\":\"a\"}");
    run.traceparent_json = CG_BYTES("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    expect(render("off", CG_GATEWAY_PAUSED, five, 5),
           FIVE(ABOVE "guest.paused", "",
                "\"labels\":{\"team\":\"a\"},") ",\"traceparent\":"
                                                "\"00-0af7651916cd43dd8448eb211c80319c-"
                                                "b7ad6b7169203331-01\"}");
}
END_TEST

START_TEST(every_type_has_its_name)
{
    static const char *const types[CG_GATEWAY_EVENT_COUNT] = {
        [CG_GATEWAY_AGENT_SILENCED] = ABOVE "guest.agent_silenced",
        [CG_GATEWAY_AGENT_RESUMED] = ABOVE "guest.agent_resumed",
        [CG_GATEWAY_TELEMETRY_DROPPED] = ABOVE "guest.telemetry.dropped",
        [CG_GATEWAY_STREAM_OPENED] = ABOVE "guest.stream_opened",
        [CG_GATEWAY_STREAM_CLOSED] = ABOVE "guest.stream_closed",
        [CG_GATEWAY_PAUSED] = ABOVE "guest.paused",
        [CG_GATEWAY_UNPAUSED] = ABOVE "guest.unpaused",
        [CG_GATEWAY_RUN_ENDED] = ABOVE "run_ended",
        [CG_GATEWAY_CORROBORATION] = ABOVE "corroboration",
    };
    for (unsigned i = 0; i < CG_GATEWAY_EVENT_COUNT; i++) {
        (void)render("off", i, NULL, 0);
        expect_span(CG_TEXT_TYPE, types[i]);
    }
}
END_TEST

START_TEST(a_prefix_of_ones_own_is_kept_whole)
{
    make_envelope(CG_BYTES("t."));
    (void)render("off", CG_GATEWAY_RUN_ENDED, NULL, 0);
    expect_span(CG_TEXT_TYPE, "t.run_ended");
    make_envelope(CG_BYTES("guest."));
    (void)render("off", CG_GATEWAY_RUN_ENDED, NULL, 0);
    expect_span(CG_TEXT_TYPE, "run_ended");
    make_envelope(CG_BYTES(""));
    (void)render("off", CG_GATEWAY_PAUSED, NULL, 0);
    expect_span(CG_TEXT_TYPE, "paused");
}
END_TEST

START_TEST(the_meta_says_what_the_bytes_say)
{
    static const char *const modes[] = {"off", "ed25519", "hmac-sha256"};
    for (size_t i = 0; i < 3; i++) {
        (void)render(modes[i], CG_GATEWAY_STREAM_OPENED, five, 5);
        expect_span(CG_TEXT_ID, UUID);
        expect_span(CG_TEXT_SOURCE, SOURCE);
        expect_span(CG_TEXT_TYPE, ABOVE "guest.stream_opened");
        expect_span(CG_TEXT_CELL, "cell-abc");
        expect_span(CG_TEXT_RUN, "run-xyz");
        expect_span(CG_TEXT_SPEC_HASH, "sha256:deadbeef");
        expect_span(CG_TEXT_PROBE_SOURCE, "");
        expect_span(CG_TEXT_COMM, "");
        ck_assert_uint_eq(meta.sequence, 18);
        ck_assert_uint_eq(meta.kind, CG_EVENT_GATEWAY);
        ck_assert_uint_eq(meta.severity, CG_SEVERITY_WARN);
        ck_assert_uint_eq(meta.connection, 0);
        ck_assert_uint_eq(meta.pid, 0);
    }
}
END_TEST

START_TEST(what_is_signed_is_the_canonical_form)
{
    static const char canonical[] = FIVE(ABOVE "guest.agent_silenced", "", "") ",\"traceparent\":"
                                                                               "null}";
    static const char *const modes[] = {"ed25519", "hmac-sha256"};
    for (size_t i = 0; i < 2; i++) {
        struct cg_signer *signer = make_signer(modes[i]);
        char signature[CG_SIGNATURE_TEXT_MAX];
        size_t signature_len = cg_signer_sign(signer, cg_bytes_str(canonical), signature);
        cg_signer_free(signer);
        char expected[4096];
        (void)snprintf(expected, sizeof(expected),
                       "{\"specversion\":\"1.0\",\"id\":\"" UUID "\",\"source\":"
                       "\"/cellos-supervisor/event-signing\",\"type\":"
                       "\"dev.cellos.events.signed_envelope.v1\",\"datacontenttype\":"
                       "\"application/json\",\"data\":{\"event\":%s,\"signerKid\":\"ops-2026\","
                       "\"algorithm\":\"%s\",\"signature\":\"%.*s\"},\"time\":\"" TIME "\"}",
                       canonical, modes[i], (int)signature_len, signature);
        expect(render(modes[i], CG_GATEWAY_AGENT_SILENCED, five, 5), expected);
    }
}
END_TEST

START_TEST(members_that_are_too_long_are_refused)
{
    static char digits[CG_EVENT_BYTES_MAX];
    memset(digits, '1', sizeof(digits));
    struct cg_member member = {CG_BYTES("drops"), cg_bytes(digits, 60000)};
    ck_assert_uint_gt(try_render("ed25519", CG_GATEWAY_TELEMETRY_DROPPED, &member, 1), 60000);
    meta.sequence = 99;
    member.json.len = sizeof(digits) - 2000;
    ck_assert_uint_eq(try_render("ed25519", CG_GATEWAY_TELEMETRY_DROPPED, &member, 1), 0);
    ck_assert_uint_eq(meta.sequence, 99);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("envelope_gateway");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, members_stand_in_their_sorted_places);
    tcase_add_test(tcase, without_a_connection_the_host_block_has_none);
    tcase_add_test(tcase, without_members_there_is_what_every_event_has);
    tcase_add_test(tcase, labels_and_traceparent_go_on_it_too);
    tcase_add_test(tcase, every_type_has_its_name);
    tcase_add_test(tcase, a_prefix_of_ones_own_is_kept_whole);
    tcase_add_test(tcase, the_meta_says_what_the_bytes_say);
    tcase_add_test(tcase, what_is_signed_is_the_canonical_form);
    tcase_add_test(tcase, members_that_are_too_long_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
