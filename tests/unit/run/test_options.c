#include "run/options.h"

#include "cellgate/clock.h"
#include "run/show.h"
#include "run/value.h"

#include <check.h>
#include <inttypes.h>
#include <stdlib.h>

/* --- values --- */

struct number_case {
    const char *text;
    bool good;
    uint64_t value;
};

static void check_numbers(const struct number_case *cases, size_t count,
                          bool (*parse)(struct cg_bytes text, uint64_t *ret_value))
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 4711;
        bool good = parse(cg_bytes_str(cases[i].text), &value);
        ck_assert_msg(good == cases[i].good, "'%s'", cases[i].text);
        ck_assert_msg(value == (good ? cases[i].value : 4711), "'%s' is %" PRIu64, cases[i].text,
                      value);
    }
}

START_TEST(integers_are_decimal_without_sign_or_leading_zero)
{
    static const struct number_case cases[] = {
        {"0", true, 0},
        {"17", true, 17},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999999", false, 0},
        {"010", false, 0},
        {"0x10", false, 0},
        {"1_000", false, 0},
        {"+1", false, 0},
        {"-1", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {" 1", false, 0},
        {"1:30", false, 0},
        {"", false, 0},
    };
    check_numbers(cases, sizeof(cases) / sizeof(cases[0]), cg_value_integer);
}
END_TEST

START_TEST(durations_need_a_unit_but_for_zero)
{
    static const struct number_case cases[] = {
        {"0", true, 0},
        {"0s", true, 0},
        {"7ns", true, 7},
        {"7us", true, 7 * CG_NS_PER_US},
        {"200ms", true, 200 * CG_NS_PER_MS},
        {"200 ms", true, 200 * CG_NS_PER_MS},
        {"10s", true, 10 * CG_NS_PER_S},
        {"5m", true, 300 * CG_NS_PER_S},
        {"1h", true, 3600 * CG_NS_PER_S},
        {"2d", true, 172800 * CG_NS_PER_S},
        {"10", false, 0},
        {"s", false, 0},
        {"1.5s", false, 0},
        {"1h30m", false, 0},
        {"10S", false, 0},
        {"-1s", false, 0},
        {"213504d", false, 0}, /* beyond 2^64 ns */
    };
    check_numbers(cases, sizeof(cases) / sizeof(cases[0]), cg_value_duration);
}
END_TEST

START_TEST(sizes_know_thousands_and_powers_of_two)
{
    static const struct number_case cases[] = {
        {"512", true, 512},
        {"512B", true, 512},
        {"64KiB", true, 65536},
        {"64kB", true, 64000},
        {"1MiB", true, 1048576},
        {"1MB", true, 1000000},
        {"3GiB", true, UINT64_C(3) << 30},
        {"1TiB", true, UINT64_C(1) << 40},
        {"1K", false, 0},
        {"1mb", false, 0},
        {"MiB", false, 0},
        {"99999999TiB", false, 0},
    };
    check_numbers(cases, sizeof(cases) / sizeof(cases[0]), cg_value_size);
}
END_TEST

START_TEST(file_modes_are_octal_with_a_leading_zero)
{
    static const struct number_case cases[] = {
        {"0660", true, 0660}, {"0o640", true, 0640}, {"0000", true, 0},   {"660", false, 0},
        {"432", false, 0},    {"0880", false, 0},    {"00660", false, 0}, {"04755", false, 0},
        {"0o66", false, 0},   {"", false, 0},        {"rw", false, 0},
    };
    check_numbers(cases, sizeof(cases) / sizeof(cases[0]), cg_value_file_mode);
}
END_TEST

START_TEST(switches_are_words)
{
    static const struct {
        const char *text;
        bool value;
    } good[] = {{"true", true},   {"Yes", true}, {"ON", true},
                {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        bool value = !good[i].value;
        ck_assert(cg_value_bool(cg_bytes_str(good[i].text), &value));
        ck_assert(value == good[i].value);
    }
    bool untouched = true;
    ck_assert(!cg_value_bool(CG_BYTES("1"), &untouched));
    ck_assert(!cg_value_bool(CG_BYTES("y"), &untouched));
    ck_assert(!cg_value_bool(CG_BYTES(""), &untouched));
    ck_assert(untouched);
}
END_TEST

static void check_written(void (*write)(uint64_t value, struct cg_buf *out), uint64_t value,
                          const char *expected)
{
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 64);
    write(value, &out);
    ck_assert_str_eq(cg_buf_str(&out), expected);
}

START_TEST(numbers_are_written_in_the_largest_unit_that_stays_whole)
{
    check_written(cg_value_write_duration, 0, "0");
    check_written(cg_value_write_duration, 90 * CG_NS_PER_S, "90s");
    check_written(cg_value_write_duration, 60 * CG_NS_PER_S, "1m");
    check_written(cg_value_write_duration, 1500 * CG_NS_PER_MS, "1500ms");
    check_written(cg_value_write_duration, 1, "1ns");
    check_written(cg_value_write_size, 0, "0");
    check_written(cg_value_write_size, 1048576, "1MiB");
    check_written(cg_value_write_size, 5000, "5kB");
    check_written(cg_value_write_size, 1025, "1025B");
}
END_TEST

START_TEST(a_distance_counts_letters_and_exchanges)
{
    ck_assert_uint_eq(cg_value_distance(CG_BYTES("listen"), CG_BYTES("listen")), 0);
    ck_assert_uint_eq(cg_value_distance(CG_BYTES("lisen"), CG_BYTES("listen")), 1);
    ck_assert_uint_eq(cg_value_distance(CG_BYTES("litsen"), CG_BYTES("listen")), 1);
    ck_assert_uint_eq(cg_value_distance(CG_BYTES(""), CG_BYTES("abc")), 3);
    ck_assert_uint_eq(cg_value_distance(CG_BYTES("kitten"), CG_BYTES("sitting")), 3);
    unsigned distance = 7;
    ck_assert(!cg_value_resembles(CG_BYTES("url"), CG_BYTES("path"), &distance));
    ck_assert_uint_eq(distance, 7);
}
END_TEST

/* --- a table of its own, with every type --- */

struct inner {
    uint64_t depth;
};

struct outer {
    const char *text;
    const char *path;
    const char *password;
    bool flag;
    uint64_t number, wait, room, mode;
    int color;
    struct cg_strings list;
    struct cg_pairs map;
    struct cg_range range;
    struct inner inner;
    struct cg_sections many;
};

static const struct cg_option_name colors[] = {{"red", 3}, {"green", 4}, {NULL, 0}};
static const struct cg_option inner_options[] = {{.key = "depth",
                                                  .type = CG_OPTION_INTEGER,
                                                  .offset = offsetof(struct inner, depth),
                                                  .max = 9,
                                                  .fallback = "2"},
                                                 {.key = NULL}};
#define AT(member) .offset = offsetof(struct outer, member)
static const struct cg_option outer_options[] = {
    {.key = "text", .type = CG_OPTION_STRING, AT(text), .max = 8},
    {.key = "path", .type = CG_OPTION_PATH, AT(path)},
    {.key = "password", .type = CG_OPTION_STRING, AT(password), .max = 8, .secret = true},
    {.key = "flag", .type = CG_OPTION_BOOL, AT(flag), .fallback = "yes"},
    {.key = "number", .type = CG_OPTION_INTEGER, AT(number), .min = 2, .max = 64, .fallback = "3"},
    {.key = "wait", .type = CG_OPTION_DURATION, AT(wait), .max = CG_NS_PER_S, .fallback = "5ms"},
    {.key = "room", .type = CG_OPTION_SIZE, AT(room), .min = 512, .fallback = "1KiB"},
    {.key = "mode", .type = CG_OPTION_FILE_MODE, AT(mode), .fallback = "0640"},
    {.key = "color", .type = CG_OPTION_ENUM, AT(color), .names = colors, .fallback = "green"},
    {.key = "list", .type = CG_OPTION_STRINGS, AT(list), .max = 2, .fallback = "one"},
    {.key = "map", .type = CG_OPTION_PAIRS, AT(map), .max = 2},
    {.key = "range", .type = CG_OPTION_RANGE, AT(range), .max = 100},
    {.key = "inner", .type = CG_OPTION_SECTION, AT(inner), .fields = inner_options},
    {.key = "many",
     .type = CG_OPTION_SECTIONS,
     AT(many),
     .max = 2,
     .fields = inner_options,
     .element_size = sizeof(struct inner)},
    {.key = NULL},
};

static struct cg_config_memory *memory;
static struct cg_problems problems;
static struct outer outer;

static void setup(void)
{
    memory = cg_config_memory_new();
    ck_assert_ptr_nonnull(memory);
    cg_problems_init(&problems);
    outer = (struct outer){.text = NULL};
}

static void teardown(void)
{
    cg_problems_fini(&problems);
    cg_config_memory_free(memory);
}

static void read_outer(struct cg_bytes text)
{
    struct cg_node *root = NULL;
    struct cg_options_reader reader = {.memory = memory, .problems = &problems};
    const struct cg_option_part part = {outer_options, &outer};
    if (cg_node_parse(memory, "t.yaml", true, text, &root, &problems)) {
        cg_options_read(&reader, root, (struct cg_place){.source = "t.yaml"}, &part, 1);
    }
}

START_TEST(what_is_absent_or_null_gets_its_fallback)
{
    read_outer(CG_BYTES("number: null\ntext: ~\ninner:\nmany:\n"));
    ck_assert_uint_eq(problems.count, 0);
    ck_assert_ptr_null(outer.text);
    ck_assert(outer.flag);
    ck_assert_uint_eq(outer.number, 3);
    ck_assert_uint_eq(outer.wait, 5 * CG_NS_PER_MS);
    ck_assert_uint_eq(outer.room, 1024);
    ck_assert_uint_eq(outer.mode, 0640);
    ck_assert_int_eq(outer.color, 4);
    ck_assert_uint_eq(outer.list.count, 1);
    ck_assert_str_eq(outer.list.items[0], "one");
    ck_assert_uint_eq(outer.map.count, 0);
    ck_assert(!outer.range.present);
    ck_assert_uint_eq(outer.inner.depth, 2);
    ck_assert_uint_eq(outer.many.count, 0);
}
END_TEST

START_TEST(every_type_is_read_into_its_member)
{
    read_outer(CG_BYTES("text: 0123\npath: /a b\npassword: 'null'\nflag: off\nnumber: 64\n"
                        "wait: 1s\nroom: 2MB\nmode: 0600\ncolor: red\nlist: [x, 'y']\n"
                        "map: {a: 1, b: no}\nrange: [7, 3]\ninner: {depth: 9}\n"
                        "many:\n- depth: 1\n- {}\n"));
    ck_assert_uint_eq(problems.count, 0);
    ck_assert_str_eq(outer.text, "0123");
    ck_assert_str_eq(outer.path, "/a b");
    ck_assert_str_eq(outer.password, "null");
    ck_assert(!outer.flag);
    ck_assert_uint_eq(outer.number, 64);
    ck_assert_uint_eq(outer.wait, CG_NS_PER_S);
    ck_assert_uint_eq(outer.room, 2000000);
    ck_assert_uint_eq(outer.mode, 0600);
    ck_assert_int_eq(outer.color, 3);
    ck_assert_str_eq(outer.list.items[1], "y");
    ck_assert_str_eq(outer.map.items[1].key, "b");
    ck_assert_str_eq(outer.map.items[1].value, "no");
    ck_assert(outer.range.present && outer.range.first == 7 && outer.range.last == 3);
    ck_assert_uint_eq(outer.inner.depth, 9);
    ck_assert_uint_eq(outer.many.count, 2);
    const struct inner *many = outer.many.items;
    ck_assert_uint_eq(many[0].depth, 1);
    ck_assert_uint_eq(many[1].depth, 2);
}
END_TEST

static void check_problems(const char *text, const char *expected)
{
    teardown();
    setup();
    read_outer(cg_bytes_str(text));
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 1 << 20);
    cg_problems_write(&problems, &out);
    ck_assert_str_eq(cg_buf_str(&out), expected);
}

START_TEST(a_wrong_value_is_named_with_what_was_expected)
{
    check_problems("number: 65", "t.yaml:1:9: number: expected a whole number from 2 to 64, not "
                                 "'65'\n");
    check_problems("wait: 2s", "t.yaml:1:7: wait: expected a duration from 0 to 1s (200ms, 10s, "
                               "5m, 1h), not '2s'\n");
    check_problems("room: 1", "t.yaml:1:7: room: expected a size of at least 512B (512, 64KiB, "
                              "1MiB), not '1'\n");
    check_problems("color: blue", "t.yaml:1:8: color: expected one of red, green, not 'blue'\n");
    check_problems("flag: 2", "t.yaml:1:7: flag: expected true or false, not '2'\n");
    check_problems("text: 123456789",
                   "t.yaml:1:7: text: expected a text of 0 to 8 bytes, not '123456789'\n");
    check_problems("path: ''", "t.yaml:1:7: path: expected a path, not ''\n");
    check_problems("path:", "t.yaml:1:1: path: nothing given (write null for the default)\n");
    check_problems("range: [1, 101]", "t.yaml:1:8: range: expected two whole numbers in brackets, "
                                      "as in [1000, 1000]\n");
    check_problems("list: [a, b, c]", "t.yaml:1:7: list: at most 2 allowed, not 3\n");
    check_problems("list: [a, [b]]", "t.yaml:1:11: list: expected a text here, not a list\n");
    check_problems("many: [{depth: 10}]",
                   "t.yaml:1:16: depth: expected a whole number from 0 to 9, not '10'\n");
    check_problems("many: [1]", "t.yaml:1:8: many: expected a map here, not a text\n");
}
END_TEST

START_TEST(a_value_of_the_wrong_kind_is_named)
{
    check_problems("text: [a]", "t.yaml:1:7: text: expected a text of 0 to 8 bytes, not a list\n");
    check_problems("inner: 1", "t.yaml:1:8: inner: expected a map, not '1'\n");
    check_problems("many: {}", "t.yaml:1:7: many: expected a list of maps, not a map\n");
    check_problems("map: [a]", "t.yaml:1:6: map: expected a map of texts to texts, not a list\n");
    check_problems("list: {a: b}",
                   "t.yaml:1:7: list: expected a list of texts, or one text, not a map\n");
}
END_TEST

START_TEST(a_secret_is_never_repeated)
{
    check_problems("password: hunter2hunter2",
                   "t.yaml:1:11: password: expected a text of 0 to 8 bytes\n");
    check_problems("password: [hunter2]",
                   "t.yaml:1:11: password: expected a text of 0 to 8 bytes\n");
    check_problems("number: https://user:hunter2@host/x",
                   "t.yaml:1:9: number: expected a whole number from 2 to 64, not 'host/x'\n");
}
END_TEST

START_TEST(what_is_quoted_is_escaped)
{
    check_problems("color: \"\\e[31m\"",
                   "t.yaml:1:8: color: expected one of red, green, not '\\u001b[31m'\n");
    check_problems("\"a\\nb\": 1", "t.yaml:1:1: unknown key 'a\\u000ab'\n");
}
END_TEST

START_TEST(unknown_and_repeated_keys_are_all_reported_in_order)
{
    check_problems("zzz: 1\nnubmer: 4\nnumber: 4\nnumber: 5\nmap: {a: 1, a: 2}\ncolor: x\n",
                   "t.yaml:1:1: unknown key 'zzz'\n"
                   "t.yaml:2:1: unknown key 'nubmer' (did you mean 'number'?)\n"
                   "t.yaml:4:1: duplicate key 'number'\n"
                   "t.yaml:5:7: map: duplicate key 'a'\n"
                   "t.yaml:6:8: color: expected one of red, green, not 'x'\n");
}
END_TEST

START_TEST(more_problems_than_are_kept_are_counted)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, 1 << 20);
    for (unsigned i = 0; i < CG_PROBLEMS_MAX + 7; i++) {
        (void)cg_buf_printf(&text, "unheard_of_%u: 1\n", i);
    }
    read_outer(cg_buf_bytes(&text));
    ck_assert_uint_eq(problems.count, CG_PROBLEMS_MAX + 7);
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 1 << 20);
    cg_problems_write(&problems, &out);
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&out), ": and 7 more problems\n"));
}
END_TEST

START_TEST(yaml_that_is_more_than_data_is_refused_by_name)
{
    check_problems("text: &a x\n", "t.yaml:1:7: anchors ('&') and tags ('!') are not supported\n");
    check_problems("text: !!str x\n",
                   "t.yaml:1:7: anchors ('&') and tags ('!') are not supported\n");
    check_problems("text: *a\n", "t.yaml:1:7: aliases ('*') are not supported\n");
    check_problems("inner: {<<: {depth: 1}}\n",
                   "t.yaml:1:9: merge keys ('<<') are not supported\n");
    check_problems("[a]: b\n", "t.yaml:1:1: a key must be a plain text\n");
    check_problems("text: a\n---\ntext: b\n", "t.yaml:2:1: only one document may be in the file\n");
    check_problems("text: \"a\\0b\"\n", "t.yaml:1:7: a text must not contain NUL\n");
}
END_TEST

START_TEST(what_is_not_yaml_is_named_with_its_place)
{
    check_problems("text: [a\n", "t.yaml:2:1: not YAML: while parsing a flow sequence, did not "
                                 "find expected ',' or ']'\n");
    check_problems(
        "text: a\n\tnumber: 3\n",
        "t.yaml:2:1: not YAML: while scanning a plain scalar, found a tab character that "
        "violates indentation\n");
    check_problems("text: \"\xff\"", "t.yaml:1:1: not UTF-8\n");
}
END_TEST

START_TEST(depth_is_bounded)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, 1 << 20);
    (void)cg_buf_append_str(&text, "text: ");
    for (unsigned i = 0; i < 100000; i++) {
        (void)cg_buf_append_char(&text, '[');
    }
    read_outer(cg_buf_bytes(&text));
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 1 << 20);
    cg_problems_write(&problems, &out);
    ck_assert_str_eq(cg_buf_str(&out), "t.yaml:1:38: nested too deeply\n");
}
END_TEST

START_TEST(too_large_a_text_is_refused)
{
    size_t len = CG_CONFIG_BYTES_MAX + 1;
    char *text = malloc(len);
    ck_assert_ptr_nonnull(text);
    memset(text, '#', len);
    read_outer(cg_bytes(text, len));
    free(text);
    ck_assert_uint_eq(problems.count, 1);
}
END_TEST

START_TEST(json_is_read_with_its_escapes)
{
    read_outer(CG_BYTES(
        "\xEF\xBB\xBF{\n\t\"text\":\"\\ud83d\\uDE00\\u00e9\",\n\t\"path\": \"\\/a\\\\ud83d\\\"\","
        "\n\t\"list\":[\"\\t\"],\"flag\":false,\"number\":5,\"map\":null}\n"));
    ck_assert_uint_eq(problems.count, 0);
    ck_assert_str_eq(outer.text, "\xF0\x9F\x98\x80\xC3\xA9");
    ck_assert_str_eq(outer.path, "/a\\ud83d\"");
    ck_assert_str_eq(outer.list.items[0], "\t");
    ck_assert(!outer.flag);
    ck_assert_uint_eq(outer.number, 5);
}
END_TEST

START_TEST(half_a_surrogate_pair_is_refused)
{
    read_outer(CG_BYTES("{\"text\":\"\\ud83d\"}"));
    ck_assert_uint_eq(problems.count, 1);
}
END_TEST

START_TEST(what_is_shown_reads_back_the_same_and_hides_secrets)
{
    read_outer(CG_BYTES("{text: 'a\"b', password: hunter2, map: {k: 'v\\'}, range: [1, 2], "
                        "path: 'http://u:hunter2@h/', many: [{depth: 1}]}"));
    ck_assert_uint_eq(problems.count, 0);
    cg_auto_buf struct cg_buf first;
    cg_buf_init(&first, 1 << 20);
    const struct cg_option_part part = {outer_options, &outer};
    cg_show_yaml(&part, NULL, &first);
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&first), "password: \"(hidden)\"\n"));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&first), "path: \"http://(hidden)@h/\"\n"));
    ck_assert_ptr_null(strstr(cg_buf_str(&first), "hunter2"));

    outer = (struct outer){.text = NULL};
    read_outer(cg_bytes_str(cg_buf_str(&first)));
    cg_auto_buf struct cg_buf second;
    cg_buf_init(&second, 1 << 20);
    cg_show_yaml(&part, NULL, &second);
    ck_assert_uint_eq(problems.count, 0);
    ck_assert_str_eq(cg_buf_str(&first), cg_buf_str(&second));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&second), "map: {\"k\": \"v\\\\\"}\n"));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&second), "many:\n  - depth: 1\n"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *values = tcase_create("values");
    tcase_add_test(values, integers_are_decimal_without_sign_or_leading_zero);
    tcase_add_test(values, durations_need_a_unit_but_for_zero);
    tcase_add_test(values, sizes_know_thousands_and_powers_of_two);
    tcase_add_test(values, file_modes_are_octal_with_a_leading_zero);
    tcase_add_test(values, switches_are_words);
    tcase_add_test(values, numbers_are_written_in_the_largest_unit_that_stays_whole);
    tcase_add_test(values, a_distance_counts_letters_and_exchanges);
    suite_add_tcase(suite, values);

    TCase *reading = tcase_create("reading");
    tcase_add_checked_fixture(reading, setup, teardown);
    tcase_add_test(reading, what_is_absent_or_null_gets_its_fallback);
    tcase_add_test(reading, every_type_is_read_into_its_member);
    tcase_add_test(reading, a_wrong_value_is_named_with_what_was_expected);
    tcase_add_test(reading, a_value_of_the_wrong_kind_is_named);
    tcase_add_test(reading, a_secret_is_never_repeated);
    tcase_add_test(reading, what_is_quoted_is_escaped);
    tcase_add_test(reading, unknown_and_repeated_keys_are_all_reported_in_order);
    tcase_add_test(reading, more_problems_than_are_kept_are_counted);
    tcase_add_test(reading, yaml_that_is_more_than_data_is_refused_by_name);
    tcase_add_test(reading, what_is_not_yaml_is_named_with_its_place);
    tcase_add_test(reading, depth_is_bounded);
    tcase_add_test(reading, too_large_a_text_is_refused);
    tcase_add_test(reading, json_is_read_with_its_escapes);
    tcase_add_test(reading, half_a_surrogate_pair_is_refused);
    tcase_add_test(reading, what_is_shown_reads_back_the_same_and_hides_secrets);
    suite_add_tcase(suite, reading);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
