/* Readings of host probes, byte for byte. */
#include "cellgate/limits.h"
#include "event/envelope.h"
#include "event/keys.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define UUID "019ab0a4-2a40-7f00-8000-0123456789ab"
#define TIME "2026-11-23T11:00:00.123456789Z"

static char out[CG_EVENT_BYTES_MAX];
static struct cg_event_meta meta;
static struct cg_envelope *envelope;
static struct cg_run_identity run;
static struct cg_stamp stamp;
static struct cg_signer *signer;
static bool sign;

static char *fake_getenv(const char *name)
{
    static char mode[] = "ed25519", kid[] = "ops-2026",
                key[] = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";
    return !sign                                                  ? NULL
           : strcmp(name, "CELLOS_EVENT_SIGNING") == 0            ? mode
           : strcmp(name, "CELLOS_EVENT_SIGNING_KID") == 0        ? kid
           : strcmp(name, "CELLOS_EVENT_SIGNING_KEY_BASE64") == 0 ? key
                                                                  : NULL;
}

static void make(const char *prefix, bool signed_events)
{
    struct cg_error err = {0};
    struct cg_signing_key *key;
    const char *warning;
    sign = signed_events;
    ck_assert(cg_signing_key_load(&(struct cg_key_request){0}, fake_getenv, &key, &warning, &err));
    ck_assert(cg_signer_new(key, &signer, &err));
    cg_signing_key_free(key);
    ck_assert(cg_envelope_new(CG_BYTES("/source"), cg_bytes_str(prefix), CG_BYTES("host-7"),
                              &envelope, &err));
    run = (struct cg_run_identity){
        .cell_id = CG_BYTES("cell-abc"),
        .run_id = CG_BYTES("run-xyz"),
        .spec_hash_json = CG_BYTES("sha256:deadbeef"),
        .labels_json = CG_BYTES("{\"team\":\"blue\"}"),
    };
    stamp = (struct cg_stamp){
        .run = &run, .sequence = 18, .received_ns = UINT64_C(1795431600123456789)};
}

static void unmake(void)
{
    cg_signer_free(signer);
    cg_envelope_free(envelope);
}

static size_t render(struct cg_bytes inputs, struct cg_bytes output)
{
    const struct cg_probe_content content = {CG_BYTES("host.tap_link"), inputs, output};
    return cg_envelope_probe(envelope, signer, &stamp, &content, UUID, out, &meta);
}

static void expect_span(enum cg_event_text which, const char *text)
{
    struct cg_event event = {.meta = meta, .bytes = cg_bytes(out, sizeof(out))};
    struct cg_bytes got = cg_event_get(&event, which);
    ck_assert_msg(cg_bytes_equal(got, cg_bytes_str(text)), "%.*s, not %s", CG_BYTES_ARG(got), text);
}

#define EVENT(traceparent)                                                                         \
    "{\"specversion\":\"1.0\",\"id\":\"" UUID "\",\"source\":\"cellos-host-telemetry/probes\","    \
    "\"type\":\"dev.cellos.events.cell.observability.host.v1.tap_link\","                          \
    "\"datacontenttype\":\"application/json\",\"data\":{\"cellId\":\"cell-abc\","                  \
    "\"hostReceivedAt\":\"" TIME "\",\"inputs\":{\"iface\":\"tap0\"},\"node\":\"host-7\","         \
    "\"output\":{\"rxPackets\":7},\"probeSource\":\"host.tap_link\",\"runId\":\"run-xyz\","        \
    "\"sequence\":18,\"specSignatureHash\":\"sha256:deadbeef\"},\"time\":\"" TIME "\"" traceparent \
    "}"

START_TEST(a_reading_is_flat_and_has_a_source_of_its_own)
{
    make("dev.cellos.events.cell.observability.v1.guest.", false);
    size_t len = render(CG_BYTES("{\"iface\":\"tap0\"}"), CG_BYTES("{\"rxPackets\":7}"));
    ck_assert_uint_eq(len, sizeof(EVENT("")) - 1);
    ck_assert_msg(memcmp(out, EVENT(""), len) == 0, "%.*s", (int)len, out);
    expect_span(CG_TEXT_ID, UUID);
    expect_span(CG_TEXT_SOURCE, "cellos-host-telemetry/probes");
    expect_span(CG_TEXT_TYPE, "dev.cellos.events.cell.observability.host.v1.tap_link");
    expect_span(CG_TEXT_CELL, "cell-abc");
    expect_span(CG_TEXT_RUN, "run-xyz");
    expect_span(CG_TEXT_SPEC_HASH, "sha256:deadbeef");
    expect_span(CG_TEXT_PROBE_SOURCE, "host.tap_link");
    expect_span(CG_TEXT_COMM, "");
    ck_assert_int_eq(meta.kind, CG_EVENT_PROBE);
    ck_assert_uint_eq(meta.sequence, 18);
    ck_assert_uint_eq(meta.connection, 0);
    unmake();
}
END_TEST

START_TEST(a_signed_reading_keeps_the_canonical_form_inside)
{
    make("dev.cellos.events.cell.observability.v1.guest.", true);
    size_t len = render(CG_BYTES("{\"iface\":\"tap0\"}"), CG_BYTES("{\"rxPackets\":7}"));
    ck_assert_uint_gt(len, 0);
    ck_assert_ptr_nonnull(memmem(out, len, EVENT(",\"traceparent\":null"),
                                 sizeof(EVENT(",\"traceparent\":null")) - 1));
    expect_span(CG_TEXT_PROBE_SOURCE, "host.tap_link");
    expect_span(CG_TEXT_TYPE, "dev.cellos.events.cell.observability.host.v1.tap_link");
    unmake();
}
END_TEST

START_TEST(another_prefix_is_kept)
{
    static const struct {
        const char *prefix, *type;
    } cases[] = {{"x.", "x.host.v1.tap_link"},
                 {"v1.guest.", "host.v1.tap_link"},
                 {"a.guest.", "a.guest.host.v1.tap_link"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make(cases[i].prefix, false);
        ck_assert_uint_gt(render(CG_BYTES("{}"), CG_BYTES("{}")), 0);
        expect_span(CG_TEXT_TYPE, cases[i].type);
        unmake();
    }
}
END_TEST

START_TEST(what_a_probe_may_bring_fits_and_more_than_an_event_does_not)
{
    static char large[CG_EVENT_BYTES_MAX];
    memset(large, '1', sizeof(large));
    large[0] = '{';
    make("dev.cellos.events.cell.observability.v1.guest.", true);
    size_t len = render(CG_BYTES("{}"), cg_bytes(large, CG_PROBE_CONTENT_BYTES_MAX - 2));
    ck_assert_uint_gt(len, CG_PROBE_CONTENT_BYTES_MAX);
    ck_assert_uint_le(len, CG_EVENT_BYTES_MAX);
    ck_assert_uint_eq(render(CG_BYTES("{}"), cg_bytes(large, sizeof(large))), 0);
    unmake();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("envelope_probe");
    TCase *all = tcase_create("all");
    tcase_add_test(all, a_reading_is_flat_and_has_a_source_of_its_own);
    tcase_add_test(all, a_signed_reading_keeps_the_canonical_form_inside);
    tcase_add_test(all, another_prefix_is_kept);
    tcase_add_test(all, what_a_probe_may_bring_fits_and_more_than_an_event_does_not);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
