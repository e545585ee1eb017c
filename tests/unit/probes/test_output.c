/* The objects that probes fill: order, repetition, and what goes when there is too much. */
#include "probes/output.h"

#include "event/json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct cg_output output;
static struct cg_buf out;

enum { BYTES_MAX = 32768 };

static void set_up(void)
{
    cg_output_init(&output);
    cg_buf_init(&out, BYTES_MAX);
}

static void tear_down(void)
{
    cg_output_fini(&output);
    cg_buf_fini(&out);
}

static const char *render(size_t bytes_max)
{
    cg_buf_clear(&out);
    ck_assert(cg_output_render(&output, bytes_max, &out));
    ck_assert_uint_le(out.len, bytes_max);
    struct cg_json json;
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = BYTES_MAX,
                                                .nodes_max = BYTES_MAX,
                                                .levels_max = 8,
                                                .unique_members = true});
    struct cg_error err = {0};
    ck_assert_msg(cg_json_parse(&json, cg_buf_bytes(&out), &err), "%s", err.text);
    cg_json_fini(&json);
    return cg_buf_str(&out);
}

static void add_long(const char *key, size_t len)
{
    cg_output_open(&output, cg_bytes_str(key));
    cg_buf_append_char(&output.text, '"');
    for (size_t i = 0; i < len; i++) {
        cg_buf_append_char(&output.text, 'x');
    }
    cg_buf_append_char(&output.text, '"');
    cg_output_close(&output);
}

START_TEST(members_are_sorted_and_the_last_of_equal_ones_counts)
{
    ck_assert_str_eq(render(BYTES_MAX), "{}");
    cg_output_u64(&output, "b", 1);
    cg_output_text(&output, "ab", CG_BYTES("q\"\n"));
    cg_output_u64(&output, "b", UINT64_MAX);
    cg_output_bool(&output, "a", false);
    cg_output_u64(&output, "Z", 0);
    cg_output_u64(&output, "\t", 5); /* sorted by what it says, not by how it is written */
    ck_assert_str_eq(render(BYTES_MAX), "{\"\\t\":5,\"Z\":0,\"a\":false,\"ab\":\"q\\\"\\n\","
                                        "\"b\":18446744073709551615}");
}
END_TEST

START_TEST(the_largest_members_go_and_are_named)
{
    add_long("a", 3000);
    add_long("z", 12000);
    add_long("u", 9000);
    cg_output_u64(&output, "small", 7);
    const char *text = render(16384);
    ck_assert_ptr_nonnull(strstr(text, "\"truncated\":{\"z\":12002}"));
    ck_assert_ptr_nonnull(strstr(text, "\"small\":7,\"truncated\""));
    ck_assert_ptr_nonnull(strstr(text, "\"a\":\"xxx"));
    ck_assert_ptr_null(strstr(text, "\"z\":\"xxx"));
}
END_TEST

START_TEST(many_dropped_members_are_counted_together)
{
    char key[16];
    for (unsigned i = 0; i < 40; i++) {
        (void)snprintf(key, sizeof(key), "m%02u", i);
        add_long(key, 1000);
    }
    const char *text = render(12288);
    const char *list = strstr(text, "\"truncated\":{\"*\":");
    ck_assert_ptr_nonnull(list);
    unsigned named = 0;
    for (const char *at = strchr(list, '*'); (at = strstr(at, "\"m")) != NULL; at++) {
        named++;
    }
    ck_assert_uint_eq(named, CG_OUTPUT_NAMED_MAX);
}
END_TEST

START_TEST(more_members_than_may_be_are_counted)
{
    char key[16];
    for (unsigned i = 0; i < CG_OUTPUT_MEMBERS_MAX + 5; i++) {
        (void)snprintf(key, sizeof(key), "%u", i);
        cg_output_u64(&output, key, 1);
    }
    ck_assert_ptr_nonnull(strstr(render(BYTES_MAX), "\"truncated\":{\"*\":5}"));
}
END_TEST

START_TEST(nobody_forges_the_list)
{
    cg_output_u64(&output, "truncated", 1);
    cg_output_u64(&output, "a", 1);
    ck_assert_str_eq(render(BYTES_MAX), "{\"a\":1,\"truncated\":{\"*\":1}}");
    char key[CG_OUTPUT_KEY_BYTES_MAX + 2];
    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = '\0';
    cg_output_clear(&output);
    cg_output_u64(&output, key, 1);
    ck_assert_str_eq(render(BYTES_MAX), "{\"truncated\":{\"*\":1}}");
}
END_TEST

START_TEST(a_wrapper_holds_all_members_but_the_list)
{
    output.wrapper = "metrics";
    cg_output_u64(&output, "truncated", 3);
    cg_output_u64(&output, "a", 1);
    ck_assert_str_eq(render(BYTES_MAX), "{\"metrics\":{\"a\":1,\"truncated\":3}}");
    add_long("b", 12000);
    const char *text = render(8192 + 100);
    ck_assert_str_eq(text, "{\"metrics\":{\"a\":1,\"truncated\":3},\"truncated\":{\"b\":12002}}");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("output");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, members_are_sorted_and_the_last_of_equal_ones_counts);
    tcase_add_test(all, the_largest_members_go_and_are_named);
    tcase_add_test(all, many_dropped_members_are_counted_together);
    tcase_add_test(all, more_members_than_may_be_are_counted);
    tcase_add_test(all, nobody_forges_the_list);
    tcase_add_test(all, a_wrapper_holds_all_members_but_the_list);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
