/* Rulesets in libnftables' JSON. */
#include "probes/nft_rules.h"

#include <check.h>
#include <stdlib.h>

static struct cg_nft_ruleset ruleset;
static struct cg_error err;

static bool read_text(const char *text)
{
    return cg_nft_ruleset_read(cg_bytes_str(text), &ruleset, &err);
}

static void tear_down(void)
{
    cg_nft_ruleset_fini(&ruleset);
}

#define META "{\"metainfo\":{\"version\":\"1.0.6\",\"json_schema_version\":1}}"
#define RULE(table, handle, expr)                                                                  \
    "{\"rule\":{\"family\":\"inet\",\"table\":\"" table "\",\"chain\":\"out\",\"handle\":" handle  \
    ",\"comment\":\"c\",\"expr\":[" expr "]}}"
#define COUNTER(packets, bytes) "{\"counter\":{\"packets\":" packets ",\"bytes\":" bytes "}}"
#define MATCH                                                                                      \
    "{\"match\":{\"right\":443,\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"tcp\","         \
    "\"field\":\"dport\"}}}}"

static const char two_tables[] =
    "{\"nftables\":[" META ",{\"table\":{\"family\":\"inet\",\"name\":\"vm b\",\"handle\":1}},"
    "{\"chain\":{\"family\":\"inet\",\"table\":\"vm b\",\"name\":\"out\",\"handle\":1,"
    "\"type\":\"filter\",\"hook\":\"output\",\"prio\":0,\"policy\":\"accept\"}},"
    "{\"counter\":{\"family\":\"inet\",\"name\":\"named\",\"table\":\"vm b\",\"handle\":3,"
    "\"packets\":9,\"bytes\":9}}," RULE("vm b", "4", MATCH "," COUNTER("12", "1284") ",{\"accept\":null}") "," RULE(
        "vm b", "5",
        MATCH
        ",{\"drop\":null}") "," RULE("vm b", "6",
                                     COUNTER(
                                         "1",
                                         "60")) ","
                                                "{\"table\":{\"family\":\"inet\",\"name\":\"a\","
                                                "\"handle\":2}}," RULE(
                                                    "a", "2",
                                                    "{\"counter\":\"named\"}") "," RULE("nowhere",
                                                                                        "9",
                                                                                        COUNTER(
                                                                                            "5",
                                                                                            "5")) "]}";

START_TEST(rules_with_counters_become_rows_of_their_table)
{
    ck_assert_msg(read_text(two_tables), "%s", err.text);
    ck_assert_uint_eq(ruleset.count, 2);
    const struct cg_nft_table *table = cg_nft_ruleset_find(&ruleset, "inet", "vm b");
    ck_assert_ptr_nonnull(table);
    ck_assert_uint_eq(table->rules, 2);
    ck_assert_uint_eq(table->packets, 13);
    ck_assert_uint_eq(table->bytes, 1344);
    ck_assert_uint_eq(table->omitted, 0);
    ck_assert_str_eq(
        cg_buf_str((struct cg_buf *)(uintptr_t)&table->rows),
        "{\"bytes\":1284,\"chain\":\"out\",\"family\":\"inet\",\"handle\":4,\"packets\":12,"
        "\"ruleRepr\":\"[{\\\"match\\\":{\\\"left\\\":{\\\"payload\\\":{\\\"field\\\":"
        "\\\"dport\\\",\\\"protocol\\\":\\\"tcp\\\"}},\\\"op\\\":\\\"==\\\",\\\"right\\\":443}},"
        "{\\\"accept\\\":null}]\",\"table\":\"vm b\"},"
        "{\"bytes\":60,\"chain\":\"out\",\"family\":\"inet\",\"handle\":6,\"packets\":1,"
        "\"ruleRepr\":\"[]\",\"table\":\"vm b\"}");
    table = cg_nft_ruleset_find(&ruleset, "inet", "a");
    ck_assert_ptr_nonnull(table);
    ck_assert_uint_eq(table->rules, 0);
    ck_assert_ptr_null(cg_nft_ruleset_find(&ruleset, "ip", "a"));
    ck_assert_ptr_null(cg_nft_ruleset_find(&ruleset, "inet", "nowhere"));
}
END_TEST

START_TEST(an_empty_ruleset_has_no_tables)
{
    ck_assert_msg(read_text("{\"nftables\":[" META "]}"), "%s", err.text);
    ck_assert_uint_eq(ruleset.count, 0);
    ck_assert_ptr_null(cg_nft_ruleset_find(&ruleset, "inet", "a"));
}
END_TEST

START_TEST(what_is_no_ruleset_is_refused)
{
    static const char *const cases[] = {
        "",
        "[]",
        "{}",
        "{\"nftables\":{}}",
        "{\"nftables\":[{\"table\":{\"family\":\"inet\"}}]}",
        "{\"nftables\":[{\"table\":{\"family\":7,\"name\":\"a\"}}]}",
        "{\"nftables\":[{\"table\":{\"family\":\"inet\",\"name\":\"a\\u0000\"}}]}",
        "{\"nftables\":[",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err = (struct cg_error){0};
        ck_assert_msg(!read_text(cases[i]), "%s", cases[i]);
        ck_assert_str_ne(err.text, "");
    }
}
END_TEST

START_TEST(strange_elements_are_passed_over)
{
    ck_assert(read_text("{\"nftables\":[7,null,[],{\"rule\":1},{\"rule\":{\"expr\":{}}},"
                        "{\"table\":1},{\"table\":{\"family\":\"ip\",\"name\":\"t\"}},"
                        "{\"rule\":{\"family\":\"ip\",\"table\":\"t\",\"expr\":[1,{\"counter\":"
                        "{\"packets\":-1,\"bytes\":1}},{\"counter\":{\"packets\":2,\"bytes\":3}}]}}"
                        "]}"));
    const struct cg_nft_table *table = cg_nft_ruleset_find(&ruleset, "ip", "t");
    ck_assert_ptr_nonnull(table);
    ck_assert_uint_eq(table->packets, 2);
}
END_TEST

START_TEST(a_table_with_many_rules_keeps_its_sums_and_its_first_rows)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, 4 << 20);
    cg_buf_append_str(&text, "{\"nftables\":[{\"table\":{\"family\":\"inet\",\"name\":\"t\"}}");
    for (unsigned i = 0; i < 1000; i++) {
        cg_buf_append_str(&text, "," RULE("t", "7", COUNTER("1", "10") "," MATCH));
    }
    cg_buf_append_str(&text, "]}");
    ck_assert(read_text(cg_buf_str(&text)));
    const struct cg_nft_table *table = cg_nft_ruleset_find(&ruleset, "inet", "t");
    ck_assert_uint_eq(table->rules, 1000);
    ck_assert_uint_eq(table->packets, 1000);
    ck_assert_uint_gt(table->omitted, 0);
    ck_assert_uint_le(table->rows.len, CG_NFT_ROWS_BYTES_MAX);
    unsigned rows = 0;
    for (size_t i = 0; i + 7 < table->rows.len; i++) {
        rows += memcmp(table->rows.data + i, "\"bytes\"", 7) == 0 ? 1 : 0;
    }
    ck_assert_uint_eq(rows + table->omitted, 1000);
}
END_TEST

START_TEST(a_long_rule_is_cut_at_a_character)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, 65536);
    cg_buf_append_str(&text, "{\"nftables\":[{\"table\":{\"family\":\"inet\",\"name\":\"t\"}},"
                             "{\"rule\":{\"family\":\"inet\",\"table\":\"t\",\"chain\":\"c\","
                             "\"handle\":1,\"expr\":[{\"log\":{\"prefix\":\"");
    for (unsigned i = 0; i < 1000; i++) {
        cg_buf_append_str(&text, "\xc3\xa9");
    }
    cg_buf_append_str(&text, "\"}}," COUNTER("1", "2") "]}}]}");
    ck_assert(read_text(cg_buf_str(&text)));
    const struct cg_nft_table *table = cg_nft_ruleset_find(&ruleset, "inet", "t");
    ck_assert_uint_eq(table->omitted, 0);
    struct cg_json json;
    cg_json_init(&json,
                 (struct cg_json_limits){.bytes_max = 65536, .nodes_max = 100, .levels_max = 4});
    ck_assert(cg_json_parse(&json, cg_buf_bytes(&table->rows), &err));
    cg_json_fini(&json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nft_rules");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, NULL, tear_down);
    tcase_add_test(all, rules_with_counters_become_rows_of_their_table);
    tcase_add_test(all, an_empty_ruleset_has_no_tables);
    tcase_add_test(all, what_is_no_ruleset_is_refused);
    tcase_add_test(all, strange_elements_are_passed_over);
    tcase_add_test(all, a_table_with_many_rules_keeps_its_sums_and_its_first_rows);
    tcase_add_test(all, a_long_rule_is_cut_at_a_character);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
