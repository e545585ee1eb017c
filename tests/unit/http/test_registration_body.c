/* test_registration_body.c - the body of a registration, and the query arguments beside it. */
#include "http/arguments.h"
#include "http/registration_body.h"

#include "cellgate/clock.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUIRED                                                                                   \
    "\"run_id\":\"r\",\"spec_signature_hash\":\"sha256:00\",\"vsock_uds_base\":\"/run/a\""

static const char whole[] =
    "{" REQUIRED ",\"keepalive_ms\":1500,\"owner\":{\"uid\":7,\"gid\":8},\"mode\":\"0620\","
    "\"labels\":{\"team\":\"blue\",\"k\\u00e9\":\"\\\"q\\\"\"},"
    "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\","
    "\"vmm_pid\":4242,\"probes\":{\"cgroup\":{\"path\":\"/sys/fs/cgroup/a\",\"interval_ms\":250}}}";

START_TEST(every_member_is_read)
{
    struct cg_registration_body registration;
    struct cg_registration_body_problem problem = {0};
    ck_assert_msg(
        cg_registration_body_parse(&registration, "cell-1", cg_bytes_str(whole), &problem), "%s",
        problem.detail.text);
    const struct cg_cell_spec *spec = &registration.request.spec;
    ck_assert_str_eq(spec->cell_id, "cell-1");
    ck_assert_str_eq(spec->run_id, "r");
    ck_assert_str_eq(spec->spec_signature_hash, "sha256:00");
    ck_assert_str_eq(spec->vsock_uds_base, "/run/a");
    ck_assert_uint_eq(spec->keepalive_window_ns, 1500 * CG_NS_PER_MS);
    ck_assert(spec->owner.present);
    ck_assert_uint_eq(spec->owner.first, 7);
    ck_assert_uint_eq(spec->owner.last, 8);
    ck_assert_uint_eq(spec->socket_mode, 0620);
    ck_assert_uint_eq(spec->labels.count, 2);
    ck_assert_str_eq(spec->labels.items[0].key, "team");
    ck_assert_str_eq(spec->labels.items[1].key, "k\xc3\xa9");
    ck_assert_str_eq(spec->labels.items[1].value, "\"q\"");
    ck_assert_uint_eq(registration.request.vmm_pid, 4242);
    ck_assert_str_eq(spec->probes->text[CG_PROBE_CGROUP_PATH], "/sys/fs/cgroup/a");
    ck_assert_uint_eq(spec->probes->interval_ns[CG_PROBE_CGROUP], 250 * CG_NS_PER_MS);
    cg_registration_body_fini(&registration);
}
END_TEST

START_TEST(what_is_absent_is_the_default)
{
    struct cg_registration_body registration;
    struct cg_registration_body_problem problem = {0};
    ck_assert(cg_registration_body_parse(
        &registration, "c", CG_BYTES("{" REQUIRED ",\"traceparent\":null}"), &problem));
    const struct cg_cell_spec *spec = &registration.request.spec;
    ck_assert_ptr_null(spec->traceparent);
    ck_assert_uint_eq(spec->keepalive_window_ns, 0);
    ck_assert(!spec->owner.present);
    ck_assert_uint_eq(spec->socket_mode, 0);
    ck_assert_uint_eq(spec->labels.count, 0);
    ck_assert_uint_eq(registration.request.vmm_pid, 0);
    cg_registration_body_fini(&registration);
}
END_TEST

#define WITH(members) "{" REQUIRED "," members "}"

static const struct {
    const char *body;
    unsigned status;
    const char *member;
} refused[] = {
    {"", 400, ""},
    {"{", 400, ""},
    {"{" REQUIRED "} x", 400, ""},
    {"{" REQUIRED ",}", 400, ""},
    {WITH("\"mode\":\"\xff\""), 400, ""},
    {"[]", 422, ""},
    {"null", 422, ""},
    {"{}", 422, "run_id"},
    {"{\"run_id\":\"r\"}", 422, "spec_signature_hash"},
    {"{\"run_id\":\"r\",\"spec_signature_hash\":\"s\"}", 422, "vsock_uds_base"},
    {WITH("\"run_id\":\"r\""), 400, "run_id"},
    {WITH("\"labels\":{\"a\":\"1\",\"a\":\"2\"}"), 400, "a"},
    {WITH("\"owner\":{\"uid\":1,\"uid\":2}"), 400, "uid"},
    {WITH("\"cell_id\":\"c\""), 422, "cell_id"},
    {WITH("\"Mode\":\"0660\""), 422, "Mode"},
    {WITH("\"keepalive_ms\":0"), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":-1"), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":1.5"), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":1e3"), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":\"10\""), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":86400001"), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":18446744073709551616"), 422, "keepalive_ms"},
    {WITH("\"keepalive_ms\":null"), 422, "keepalive_ms"},
    {WITH("\"owner\":7"), 422, "owner"},
    {WITH("\"owner\":{\"uid\":7}"), 422, "owner"},
    {WITH("\"owner\":{\"uid\":7,\"gid\":8,\"x\":1}"), 422, "owner"},
    {WITH("\"owner\":{\"uid\":7,\"gid\":4294967295}"), 422, "owner.gid"},
    {WITH("\"mode\":432"), 422, "mode"},
    {WITH("\"mode\":\"0680\""), 422, "mode"},
    {WITH("\"mode\":\"01777\""), 422, "mode"},
    {WITH("\"mode\":\"\""), 422, "mode"},
    {WITH("\"mode\":\"000\""), 422, "mode"},
    {WITH("\"labels\":[]"), 422, "labels"},
    {WITH("\"labels\":{\"a\":1}"), 422, "labels"},
    {WITH("\"labels\":{\"a\":\"x\\u0000y\"}"), 422, "labels"},
    {WITH(
         "\"labels\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\",\"f\":\"\",\"g\":\"\","
         "\"h\":\"\",\"i\":\"\",\"j\":\"\",\"k\":\"\",\"l\":\"\",\"m\":\"\",\"n\":\"\",\"o\":\"\","
         "\"p\":\"\",\"q\":\"\"}"),
     422, "labels"},
    {WITH("\"vmm_pid\":0"), 422, "vmm_pid"},
    {WITH("\"vmm_pid\":4194305"), 422, "vmm_pid"},
    {WITH("\"traceparent\":{}"), 422, "traceparent"},
    {WITH("\"probes\":[]"), 422, "probes"},
    {WITH("\"probes\":{\"gpu\":{}}"), 422, "probes"},
    {WITH("\"probes\":{\"cgroup\":1}"), 422, "probes"},
    {WITH("\"probes\":{\"cgroup\":{\"path\":\"/a\",\"path\":\"/a\"}}"), 422, "probes"},
    {"{\"run_id\":\"r\\u0000\",\"spec_signature_hash\":\"s\",\"vsock_uds_base\":\"/a\"}", 422,
     "run_id"},
};

START_TEST(what_is_wrong_is_refused_and_the_member_named)
{
    struct cg_registration_body registration;
    struct cg_registration_body_problem problem = {0};
    ck_assert_msg(
        !cg_registration_body_parse(&registration, "c", cg_bytes_str(refused[_i].body), &problem),
        "%s", refused[_i].body);
    ck_assert_msg(problem.status == refused[_i].status, "%s: %u", refused[_i].body, problem.status);
    ck_assert_str_eq(problem.member, refused[_i].member);
    ck_assert_str_ne(problem.detail.text, "");
}
END_TEST

/* Under the sanitisers: no prefix of a registration, and no byte changed in it, is read amiss. */
START_TEST(no_damaged_registration_is_read_beyond_its_end)
{
    struct cg_registration_body registration;
    struct cg_registration_body_problem problem = {0};
    size_t len = sizeof(whole) - 1;
    for (size_t cut = 0; cut < len; cut++) {
        char *copy = malloc(cut + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, whole, cut);
        ck_assert(!cg_registration_body_parse(&registration, "c", cg_bytes(copy, cut), &problem));
        free(copy);
    }
    static const char swaps[] = "\"{}[]:,\\0a\xff";
    for (size_t at = 0; at < len; at++) {
        for (size_t i = 0; i < sizeof(swaps); i++) {
            char copy[sizeof(whole)];
            memcpy(copy, whole, len);
            copy[at] = swaps[i];
            if (cg_registration_body_parse(&registration, "c", cg_bytes(copy, len), &problem)) {
                ck_assert_ptr_nonnull(registration.request.spec.run_id);
                cg_registration_body_fini(&registration);
            }
        }
    }
}
END_TEST

START_TEST(durations_and_numbers_in_a_query_are_exact)
{
    static const struct {
        const char *text;
        uint64_t ns; /* UINT64_MAX: refused */
    } durations[] = {
        {"30s", 30 * CG_NS_PER_S},
        {"500ms", 500 * CG_NS_PER_MS},
        {"1m", 60 * CG_NS_PER_S},
        {"0s", 0},
        {"60s", 60 * CG_NS_PER_S},
        {"61s", UINT64_MAX},
        {"30", UINT64_MAX},
        {"", UINT64_MAX},
        {"s", UINT64_MAX},
        {"-1s", UINT64_MAX},
        {"1.5s", UINT64_MAX},
        {"1s ", UINT64_MAX},
        {"1h", UINT64_MAX},
        {"99999999999999999999s", UINT64_MAX},
        {"999999999999999999m", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        uint64_t ns = 1;
        bool good = cg_argument_duration(durations[i].text, 60 * CG_NS_PER_S, &ns);
        ck_assert_msg(good == (durations[i].ns != UINT64_MAX), "%s", durations[i].text);
        ck_assert_msg(ns == (good ? durations[i].ns : 1), "%s", durations[i].text);
    }
    uint64_t value = 0;
    ck_assert(cg_argument_u64("1000", 1000, &value));
    ck_assert_uint_eq(value, 1000);
    static const char *const bad[] = {"1001", "", "+1", "1x", " 1", "9999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!cg_argument_u64(bad[i], 1000, &value), "%s", bad[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("registration_body");
    TCase *tests = tcase_create("registration");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_member_is_read);
    tcase_add_test(tests, what_is_absent_is_the_default);
    tcase_add_loop_test(tests, what_is_wrong_is_refused_and_the_member_named, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, no_damaged_registration_is_read_beyond_its_end);
    tcase_add_test(tests, durations_and_numbers_in_a_query_are_exact);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
