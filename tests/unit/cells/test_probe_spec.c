/* What registrations say of probes: read, checked, compared, written, completed by defaults. */
#include "cells/probe_spec.h"

#include "cellgate/clock.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static struct cg_json json;
static struct cg_buf texts, out;
static struct cg_error err;

static void set_up(void)
{
    cg_json_init(&json,
                 (struct cg_json_limits){.bytes_max = 65536, .nodes_max = 1000, .levels_max = 8});
    cg_buf_init(&texts, 65536);
    cg_buf_init(&out, 65536);
    ck_assert(cg_buf_reserve(&texts, 65536));
    err = (struct cg_error){0};
}

static void tear_down(void)
{
    cg_json_fini(&json);
    cg_buf_fini(&texts);
    cg_buf_fini(&out);
}

static bool read_spec(const char *text, struct cg_probe_spec *ret_spec)
{
    ck_assert_msg(cg_json_parse(&json, cg_bytes_str(text), &err), "%s", err.text);
    return cg_probe_spec_read(&json, 0, &texts, ret_spec, &err);
}

static const char whole[] =
    "{\"cgroup\":{\"interval_ms\":100,\"path\":\"/sys/fs/cgroup/a\"},"
    "\"fc_metrics\":{\"api_socket\":\"/run/a.api\",\"flush\":true,\"interval_ms\":86400000,"
    "\"path\":\"/run/a.metrics\"},"
    "\"nftables\":{\"family\":\"ip6\",\"interval_ms\":2000,\"netns\":\"/run/netns/"
    "a\",\"table\":\"t "
    "\\\"1\\\"\"},"
    "\"tap_link\":{\"interface\":\"tap0\",\"interval_ms\":3000,\"netns\":\"/run/netns/a\"}}";

START_TEST(what_is_read_is_written_again)
{
    static const char *const cases[] = {
        whole,
        "{}",
        "{\"nftables\":{\"table\":\"t\"}}",
        "{\"cgroup\":{\"path\":\"/a\"},\"tap_link\":{\"interface\":\"x\"}}",
        "{\"fc_metrics\":{\"flush\":true}}",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cg_probe_spec spec;
        cg_buf_clear(&out);
        ck_assert_msg(read_spec(cases[i], &spec), "%s: %s", cases[i], err.text);
        ck_assert_msg(cg_probe_spec_check(&spec, &err), "%s: %s", cases[i], err.text);
        ck_assert(cg_probe_spec_render(&spec, &out));
        ck_assert_str_eq(cg_buf_str(&out), cases[i]);
        ck_assert_int_eq(cg_probe_spec_is_empty(&spec), strcmp(cases[i], "{}") == 0);
    }
}
END_TEST

START_TEST(order_and_what_means_nothing_do_not_matter)
{
    struct cg_probe_spec a, b;
    ck_assert(
        read_spec("{\"tap_link\":{\"netns\":\"/n/a\",\"interface\":\"t\"},\"cgroup\":{}}", &a));
    ck_assert(read_spec("{\"fc_metrics\":{\"flush\":false},\"tap_link\":{\"interface\":\"t\","
                        "\"netns\":\"\\/n/a\"}}",
                        &b));
    ck_assert(cg_probe_spec_equal(&a, &b));
    b.interval_ns[CG_PROBE_TAP_LINK] = CG_NS_PER_S;
    ck_assert(!cg_probe_spec_equal(&a, &b));
    b = a;
    b.text[CG_PROBE_TAP_NETNS] = NULL;
    ck_assert(!cg_probe_spec_equal(&a, &b));
    b.text[CG_PROBE_TAP_NETNS] = "/n/b";
    ck_assert(!cg_probe_spec_equal(&a, &b));
}
END_TEST

START_TEST(what_is_no_specification_is_refused_and_its_member_named)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"[]", "must be an object"},
        {"{\"gpu\":{}}", "no probe"},
        {"{\"cgroup\":[]}", "cgroup must be an object"},
        {"{\"cgroup\":{},\"cgroup\":{}}", "cgroup stands there twice"},
        {"{\"cgroup\":{\"path\":\"/a\",\"p\\u0061th\":\"/a\"}}", "cgroup.path stands there twice"},
        {"{\"cgroup\":{\"interface\":\"x\"}}", "cgroup has a member that is not known"},
        {"{\"cgroup\":{\"path\":7}}", "cgroup.path must be a string"},
        {"{\"cgroup\":{\"path\":\"/a\\u0000\"}}", "cgroup.path must be a string without NUL"},
        {"{\"cgroup\":{\"interval_ms\":99}}", "cgroup.interval_ms must be an integer from 100"},
        {"{\"cgroup\":{\"interval_ms\":86400001}}", "cgroup.interval_ms"},
        {"{\"cgroup\":{\"interval_ms\":1000.0}}", "cgroup.interval_ms"},
        {"{\"cgroup\":{\"interval_ms\":\"1s\"}}", "cgroup.interval_ms"},
        {"{\"fc_metrics\":{\"flush\":1}}", "fc_metrics.flush must be true or false"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cg_probe_spec spec;
        ck_assert_msg(!read_spec(cases[i].text, &spec), "%s", cases[i].text);
        ck_assert_msg(strstr(err.text, cases[i].error) != NULL, "%s: %s", cases[i].text, err.text);
    }
}
END_TEST

START_TEST(bad_values_are_refused_and_named)
{
    static const struct {
        enum cg_probe_text text;
        const char *value, *error;
    } cases[] = {
        {CG_PROBE_CGROUP_PATH, "a", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "/", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "/a/../b", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "/a//b", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "/a/", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "/a\nb", "probes: cgroup.path"},
        {CG_PROBE_CGROUP_PATH, "/\xff", "probes: cgroup.path"},
        {CG_PROBE_FC_PATH, "/a/.", "probes: fc_metrics.path"},
        {CG_PROBE_FC_API_SOCKET, "x", "probes: fc_metrics.api_socket"},
        {CG_PROBE_NFT_FAMILY, "ipx", "probes: nftables.family"},
        {CG_PROBE_NFT_TABLE, "", "probes: nftables.table"},
        {CG_PROBE_NFT_NETNS, "ns", "probes: nftables.netns"},
        {CG_PROBE_TAP_INTERFACE, "", "probes: tap_link.interface"},
        {CG_PROBE_TAP_INTERFACE, "sixteen-bytes-xx", "probes: tap_link.interface"},
        {CG_PROBE_TAP_INTERFACE, "..", "probes: tap_link.interface"},
        {CG_PROBE_TAP_INTERFACE, "a/b", "probes: tap_link.interface"},
        {CG_PROBE_TAP_INTERFACE, "a b", "probes: tap_link.interface"},
        {CG_PROBE_TAP_INTERFACE, "a:1", "probes: tap_link.interface"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cg_probe_spec spec = {0};
        spec.text[cases[i].text] = cases[i].value;
        ck_assert_msg(!cg_probe_spec_check(&spec, &err), "%s", cases[i].value);
        ck_assert_msg(strncmp(err.text, cases[i].error, strlen(cases[i].error)) == 0, "%s: %s",
                      cases[i].value, err.text);
    }
    struct cg_probe_spec often = {.interval_ns = {[CG_PROBE_NFTABLES] = 1}};
    ck_assert(!cg_probe_spec_check(&often, &err));
    char table[CG_PROBE_TABLE_BYTES_MAX + 2];
    memset(table, 'x', sizeof(table));
    table[CG_PROBE_TABLE_BYTES_MAX] = '\0';
    struct cg_probe_spec spec = {.text = {[CG_PROBE_NFT_TABLE] = table}};
    ck_assert(cg_probe_spec_check(&spec, &err));
    table[CG_PROBE_TABLE_BYTES_MAX] = 'x';
    table[CG_PROBE_TABLE_BYTES_MAX + 1] = '\0';
    ck_assert(!cg_probe_spec_check(&spec, &err));
}
END_TEST

START_TEST(paths_lie_beneath_the_roots_or_are_refused)
{
    static const char *const items[] = {"/run/vm/", "/sys"};
    const struct cg_strings roots = {items, 2};
    static const struct {
        const char *path;
        bool within;
    } cases[] = {{"/run/vm/a", true},   {"/run/vm/a/b", true}, {"/run/vm", false},
                 {"/run/vmx/a", false}, {"/sys/a", true},      {"/run/netns/a", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct cg_probe_spec spec = {
            .text = {[CG_PROBE_TAP_INTERFACE] = "anywhere", [CG_PROBE_TAP_NETNS] = cases[i].path}};
        ck_assert_msg(cg_probe_spec_within(&spec, roots, &err) == cases[i].within, "%s",
                      cases[i].path);
    }
    const struct cg_probe_spec spec = {.text = {[CG_PROBE_CGROUP_PATH] = "/run/vm/a"}};
    ck_assert(!cg_probe_spec_within(&spec, (struct cg_strings){0}, &err));
    const struct cg_probe_spec nowhere = {.text = {[CG_PROBE_TAP_INTERFACE] = "tap0"}};
    ck_assert(cg_probe_spec_within(&nowhere, (struct cg_strings){0}, &err));
}
END_TEST

static struct cg_probe_policy policy_of_all(void)
{
    return (struct cg_probe_policy){
        .interval_ns = 10 * CG_NS_PER_S,
        .enabled = {true, true, true, true},
        .defaults = {.text = {[CG_PROBE_CGROUP_PATH] = "/cg/{cell_id}/x-{cell_id}",
                              [CG_PROBE_NFT_NETNS] = "/run/netns/{cell_id}"},
                     .interval_ns = {[CG_PROBE_CGROUP] = CG_NS_PER_S}},
    };
}

START_TEST(defaults_fill_in_what_a_cell_does_not_say)
{
    struct cg_probe_policy policy = policy_of_all();
    struct cg_probe_spec spec;
    ck_assert(cg_probe_spec_resolve(&policy, NULL, CG_BYTES("c1"), &texts, &spec));
    ck_assert_str_eq(spec.text[CG_PROBE_CGROUP_PATH], "/cg/c1/x-c1");
    /* Without a subject there is no probe, whatever else is said of it. */
    ck_assert_ptr_null(spec.text[CG_PROBE_NFT_NETNS]);
    ck_assert_uint_eq(spec.interval_ns[CG_PROBE_CGROUP], CG_NS_PER_S);
    ck_assert_uint_eq(spec.interval_ns[CG_PROBE_TAP_LINK], 10 * CG_NS_PER_S);

    const struct cg_probe_spec own = {
        .text = {[CG_PROBE_CGROUP_PATH] = "/own/{cell_id}", [CG_PROBE_NFT_TABLE] = "t"},
        .interval_ns = {[CG_PROBE_NFTABLES] = 5 * CG_NS_PER_S}};
    cg_buf_clear(&texts);
    ck_assert(cg_probe_spec_resolve(&policy, &own, CG_BYTES("c1"), &texts, &spec));
    ck_assert_str_eq(spec.text[CG_PROBE_CGROUP_PATH], "/own/{cell_id}");
    ck_assert_str_eq(spec.text[CG_PROBE_NFT_TABLE], "t");
    ck_assert_str_eq(spec.text[CG_PROBE_NFT_NETNS], "/run/netns/c1");
    ck_assert_uint_eq(spec.interval_ns[CG_PROBE_NFTABLES], 5 * CG_NS_PER_S);

    policy.enabled[CG_PROBE_CGROUP] = false;
    cg_buf_clear(&texts);
    ck_assert(cg_probe_spec_resolve(&policy, &own, CG_BYTES("c1"), &texts, &spec));
    ck_assert_ptr_null(spec.text[CG_PROBE_CGROUP_PATH]);
    ck_assert_str_eq(spec.text[CG_PROBE_NFT_TABLE], "t");
}
END_TEST

START_TEST(a_copy_stands_for_itself)
{
    struct cg_probe_spec spec;
    char memory[512];
    ck_assert(read_spec(whole, &spec));
    ck_assert_uint_le(cg_probe_spec_bytes(&spec), sizeof(memory));
    struct cg_probe_spec copy = cg_probe_spec_place(&spec, memory);
    ck_assert(cg_probe_spec_equal(&spec, &copy));
    for (unsigned i = 0; i < CG_PROBE_TEXT_COUNT; i++) {
        ck_assert(copy.text[i] >= memory && copy.text[i] < memory + sizeof(memory));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("probe_spec");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, what_is_read_is_written_again);
    tcase_add_test(all, order_and_what_means_nothing_do_not_matter);
    tcase_add_test(all, what_is_no_specification_is_refused_and_its_member_named);
    tcase_add_test(all, bad_values_are_refused_and_named);
    tcase_add_test(all, paths_lie_beneath_the_roots_or_are_refused);
    tcase_add_test(all, defaults_fill_in_what_a_cell_does_not_say);
    tcase_add_test(all, a_copy_stands_for_itself);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
