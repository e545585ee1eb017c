/* Rulesets: counters from the kernel's messages, texts from libnftables' JSON. */
#include "probes/nft_rules.h"

#include <check.h>
#include <stdlib.h>

static struct cg_nft_ruleset ruleset, known;
static struct cg_error err;

static void set_up(void)
{
    err = (struct cg_error){0};
}

static void tear_down(void)
{
    cg_nft_ruleset_fini(&ruleset);
    cg_nft_ruleset_fini(&known);
}

enum { INET = 1, IP = 2 };

static void add_table(uint8_t family, const char *name, uint64_t handle)
{
    const struct cg_nft_message message = {
        .family = family, .table = cg_bytes_str(name), .handle = handle};
    ck_assert(cg_nft_ruleset_add_table(&ruleset, &message, &known));
}

static void add_rule(const char *table, uint64_t handle, uint64_t packets, uint64_t bytes)
{
    const struct cg_nft_message message = {.family = INET,
                                           .table = cg_bytes_str(table),
                                           .chain = CG_BYTES("out"),
                                           .handle = handle,
                                           .counted = true,
                                           .packets = packets,
                                           .bytes = bytes};
    cg_nft_ruleset_add_rule(&ruleset, &message);
}

static struct cg_nft_table *find(const char *name)
{
    return cg_nft_ruleset_find(&ruleset, "inet", cg_bytes_str(name));
}

#define RULE(table, handle, expr)                                                                  \
    "{\"rule\":{\"family\":\"inet\",\"table\":\"" table "\",\"chain\":\"out\",\"handle\":" handle  \
    ",\"comment\":\"c\",\"expr\":[" expr "]}}"
#define COUNTER "{\"counter\":{\"packets\":1,\"bytes\":2}}"
#define MATCH                                                                                      \
    "{\"match\":{\"right\":443,\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"tcp\","         \
    "\"field\":\"dport\"}}}}"

static const char listed[] =
    "{\"nftables\":[{\"metainfo\":{\"json_schema_version\":1}},{\"table\":{\"family\":\"inet\","
    "\"name\":\"vm b\",\"handle\":1}}," RULE("vm b", "6", COUNTER) "," RULE(
        "vm b", "4", MATCH "," COUNTER ",{\"accept\":null}") "," RULE("other", "5", MATCH) "]}";

START_TEST(rules_with_counters_become_rows_of_their_table)
{
    add_table(INET, "vm b", 1);
    add_table(INET, "a", 2);
    add_table(IP, "a", 3);
    cg_nft_ruleset_finish(&ruleset);
    ck_assert_msg(cg_nft_reprs_read(cg_bytes_str(listed), find("vm b"), &err), "%s", err.text);
    add_rule("vm b", 4, 12, 1284);
    add_rule("vm b", 5, 0, 0);
    add_rule("nowhere", 4, 1, 1);
    const struct cg_nft_message uncounted = {
        .family = INET, .table = CG_BYTES("vm b"), .handle = 9};
    cg_nft_ruleset_add_rule(&ruleset, &uncounted);
    struct cg_nft_table *table = find("vm b");
    ck_assert_uint_eq(table->rules, 2);
    ck_assert_uint_eq(table->packets, 12);
    ck_assert_uint_eq(table->bytes, 1284);
    ck_assert_uint_eq(table->last_handle, 5);
    ck_assert_str_eq(
        cg_buf_str(&table->rows),
        "{\"bytes\":1284,\"chain\":\"out\",\"family\":\"inet\",\"handle\":4,\"packets\":12,"
        "\"ruleRepr\":\"[{\\\"match\\\":{\\\"left\\\":{\\\"payload\\\":{\\\"field\\\":"
        "\\\"dport\\\",\\\"protocol\\\":\\\"tcp\\\"}},\\\"op\\\":\\\"==\\\",\\\"right\\\":443}},"
        "{\\\"accept\\\":null}]\",\"table\":\"vm b\"},"
        "{\"bytes\":0,\"chain\":\"out\",\"family\":\"inet\",\"handle\":5,\"packets\":0,"
        "\"ruleRepr\":\"\",\"table\":\"vm b\"}");
    ck_assert_uint_eq(find("a")->rules, 0);
    ck_assert_ptr_null(find("nowhere"));
    ck_assert_ptr_nonnull(cg_nft_ruleset_find(&ruleset, "ip", CG_BYTES("a")));
    ck_assert_ptr_null(cg_nft_ruleset_find(&ruleset, "ip6", CG_BYTES("a")));
}
END_TEST

START_TEST(what_a_rule_says_is_kept_for_the_same_table_only)
{
    add_table(INET, "same", 1);
    add_table(INET, "anew", 2);
    cg_nft_ruleset_finish(&ruleset);
    static const char *const names[] = {"same", "anew"};
    for (size_t i = 0; i < 2; i++) {
        const struct cg_nft_table *table = find(names[i]);
        cg_auto_buf struct cg_buf text;
        cg_buf_init(&text, 4096);
        cg_buf_printf(&text,
                      "{\"nftables\":[{\"rule\":{\"table\":\"%s\",\"handle\":4,\"expr\":[]}}]}",
                      table->name);
        ck_assert(cg_nft_reprs_read(cg_buf_bytes(&text), find(names[i]), &err));
    }
    ck_assert(cg_nft_ruleset_keep_reprs(&known, &ruleset));
    ck_assert_uint_eq(find("same")->reprs.count, 0);
    cg_nft_ruleset_fini(&ruleset);
    add_table(INET, "anew", 7); /* of the same name, and another one */
    add_table(INET, "same", 1);
    cg_nft_ruleset_finish(&ruleset);
    ck_assert_uint_eq(find("same")->reprs.count, 1);
    ck_assert_uint_eq(find("anew")->reprs.count, 0);
    add_rule("same", 4, 1, 1);
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&find("same")->rows), "\"ruleRepr\":\"[]\""));
    cg_nft_ruleset_clear_rows(&ruleset);
    ck_assert_uint_eq(find("same")->packets, 0);
    ck_assert_uint_eq(find("same")->rows.len, 0);
}
END_TEST

START_TEST(a_name_is_nothing_but_a_name_in_a_command)
{
    cg_auto_buf struct cg_buf command;
    cg_buf_init(&command, 4096);
    add_table(INET, "x\"}}},{\"flush\":{\"ruleset\":null}},{\"", 1);
    cg_nft_ruleset_finish(&ruleset);
    ck_assert(cg_nft_list_command(&ruleset.tables[0], &command));
    ck_assert_str_eq(cg_buf_str(&command),
                     "{\"nftables\":[{\"list\":{\"table\":{\"family\":\"inet\",\"name\":"
                     "\"x\\\"}}},{\\\"flush\\\":{\\\"ruleset\\\":null}},{\\\"\"}}}]}");
}
END_TEST

START_TEST(what_is_no_list_is_refused)
{
    static const char *const cases[] = {
        "", "[]", "{}", "{\"nftables\":{}}", "{\"nftables\":[", "{\"nftables\":1}",
    };
    add_table(INET, "t", 1);
    cg_nft_ruleset_finish(&ruleset);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err = (struct cg_error){0};
        ck_assert_msg(!cg_nft_reprs_read(cg_bytes_str(cases[i]), find("t"), &err), "%s", cases[i]);
        ck_assert_str_ne(err.text, "");
    }
    ck_assert(
        cg_nft_reprs_read(CG_BYTES("{\"nftables\":[7,null,[],{\"rule\":1},{\"rule\":{\"expr\":{}}},"
                                   "{\"rule\":{\"table\":\"t\",\"handle\":-1,\"expr\":[]}}]}"),
                          find("t"), &err));
    ck_assert_uint_eq(find("t")->reprs.count, 0);
}
END_TEST

START_TEST(a_table_with_many_rules_keeps_its_sums_and_its_first_rows)
{
    add_table(INET, "t", 1);
    cg_nft_ruleset_finish(&ruleset);
    for (unsigned i = 0; i < 1000; i++) {
        add_rule("t", i + 1, 1, 10);
    }
    const struct cg_nft_table *table = find("t");
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
    cg_buf_append_str(&text, "{\"nftables\":[{\"rule\":{\"table\":\"t\",\"handle\":1,\"expr\":"
                             "[{\"log\":{\"prefix\":\"");
    for (unsigned i = 0; i < 1000; i++) {
        cg_buf_append_str(&text, "\xc3\xa9");
    }
    cg_buf_append_str(&text, "\"}}]}}]}");
    add_table(INET, "t", 1);
    cg_nft_ruleset_finish(&ruleset);
    ck_assert(cg_nft_reprs_read(cg_buf_bytes(&text), find("t"), &err));
    add_rule("t", 1, 1, 1);
    ck_assert_uint_eq(find("t")->omitted, 0);
    struct cg_json json;
    cg_json_init(&json,
                 (struct cg_json_limits){.bytes_max = 65536, .nodes_max = 100, .levels_max = 4});
    ck_assert(cg_json_parse(&json, cg_buf_bytes(&find("t")->rows), &err));
    cg_json_fini(&json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nft_rules");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, rules_with_counters_become_rows_of_their_table);
    tcase_add_test(all, what_a_rule_says_is_kept_for_the_same_table_only);
    tcase_add_test(all, a_name_is_nothing_but_a_name_in_a_command);
    tcase_add_test(all, what_is_no_list_is_refused);
    tcase_add_test(all, a_table_with_many_rules_keeps_its_sums_and_its_first_rows);
    tcase_add_test(all, a_long_rule_is_cut_at_a_character);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
