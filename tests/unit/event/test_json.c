#include "event/json.h"

#include <check.h>
#include <stdlib.h>

static const struct cg_json_limits limits = {.bytes_max = 4096, .nodes_max = 1000, .levels_max = 8};

/* A text of a literal, which may hold NUL. */
#define T(literal)                                                                                 \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static const struct cg_bytes accepted[] = {
    T("null"),
    T(" true "),
    T("\t\r\nfalse\n"),
    T("0"),
    T("-0"),
    T("-1.5e+10"),
    T("1E5"),
    T("0.0"),
    T("18446744073709551616"),
    T("1e400"),
    T("\"\""),
    T("\"\\u0000\""),
    T("\"\\ud83d\\ude00\""),
    T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    T("\"\x7f\xc3\xa9\xf0\x9f\x98\x80\""),
    T("[]"),
    T("{}"),
    T("[ ]"),
    T("{ }"),
    T("[1,[2],{}]"),
    T("{\"a\":{\"b\":[]}}"),
    T("[[[[[[[[]]]]]]]]"),
    T("{\"a\":1,\"a\":2}"),
    T("\"\\uDBFF\\uDFFF\\uABCD\\uabcd\""),
};

static const struct {
    struct cg_bytes text;
    const char *error;
    bool cut;
} refused[] = {
    {T(""), "column 1: the text ends too early", true},
    {T(" \n "), "line 2, column 2: the text ends too early", true},
    {T("01"), "column 1: a number must not begin with 0", false},
    {T("-01"), "column 2: a number must not begin with 0", false},
    {T("[1.]"), "column 4: a digit must follow the decimal point", false},
    {T("1."), "column 3: the text ends too early", true},
    {T(".5"), "column 1: no value begins like this", false},
    {T("+1"), "column 1: no value begins like this", false},
    {T("-a"), "column 2: a digit must follow the sign", false},
    {T("1e"), "column 3: the text ends too early", true},
    {T("[1e+]"), "column 5: a digit must stand in the exponent", false},
    {T("0x1"), "column 2: nothing may follow the value", false},
    {T("NaN"), "column 1: no value begins like this", false},
    {T("nul"), "column 4: the text ends too early", true},
    {T("nulx"), "column 1: no value begins like this", false},
    {T("True"), "column 1: no value begins like this", false},
    {T("1 2"), "column 3: nothing may follow the value", false},
    {T("{}\0"), "column 3: nothing may follow the value", false},
    {T("\xef\xbb\xbf{}"), "column 1: no value begins like this", false},
    {T("[1,]"), "column 4: no value begins like this", false},
    {T("[,1]"), "column 2: no value begins like this", false},
    {T("[1 2]"), "column 4: a comma or ] must stand here", false},
    {T("[1}"), "column 3: a comma or ] must stand here", false},
    {T("]"), "column 1: no value begins like this", false},
    {T("{\n\"a\":1,\n}"), "line 3, column 1: a member's name must stand here", false},
    {T("{a:1}"), "column 2: a member's name must stand here", false},
    {T("{\"a\" 1}"), "column 6: a colon must stand here", false},
    {T("{\"a\":1]"), "column 7: a comma or } must stand here", false},
    {T("{\"a\":}"), "column 6: no value begins like this", false},
    {T("{\"a\":1"), "column 7: the text ends too early", true},
    {T("'a'"), "column 1: no value begins like this", false},
    {T("[1]//x"), "column 4: nothing may follow the value", false},
    {T("\"a"), "column 3: the text ends too early", true},
    {T("\"a\nb\""), "column 3: a control character must be escaped", false},
    {T("\"a\0b\""), "column 3: a control character must be escaped", false},
    {T("\"\\x\""), "column 2: no such escape", false},
    {T("\"\\\0\""), "column 2: no such escape", false},
    {T("\"\\u12g4\""), "column 2: four hexadecimal digits must follow \\u", false},
    {T("\"\\u12"), "column 6: the text ends too early", true},
    {T("\"\\ud800\""), "column 2: half of a surrogate pair stands alone", false},
    {T("\"\\udc00\\ud800\""), "column 2: half of a surrogate pair stands alone", false},
    {T("\"\\ud800\\u0041\""), "column 2: half of a surrogate pair stands alone", false},
    {T("\"\\ud800\\n\""), "column 2: half of a surrogate pair stands alone", false},
    {T("\"ab\xff\""), "column 4: this is not UTF-8", false},
    {T("\"\xc3\xa9\xed\xa0\x80\""), "column 4: this is not UTF-8", false},
    {T("\"\xc0\x80\""), "column 2: this is not UTF-8", false},
    {T("\"\xf4\x90\x80\x80\""), "column 2: this is not UTF-8", false},
    {T("\"\xe2\x82\""), "column 2: this is not UTF-8", false},
    {T("[[[[[[[[[]]]]]]]]]"), "column 9: too many levels", false},
};

START_TEST(what_is_json_is_read)
{
    struct cg_json json;
    struct cg_error err = {0};
    cg_json_init(&json, limits);
    ck_assert_msg(cg_json_parse(&json, accepted[_i], &err), "%s", err.text);
    ck_assert_uint_eq(json.nodes[0].next, json.count);
    cg_json_fini(&json);
}
END_TEST

START_TEST(what_is_not_json_is_refused_with_its_place)
{
    struct cg_json json;
    struct cg_error err = {0};
    cg_json_init(&json, limits);
    ck_assert(!cg_json_parse(&json, refused[_i].text, &err));
    ck_assert_str_eq(err.text, refused[_i].error);
    ck_assert_int_eq(json.cut, refused[_i].cut);
    ck_assert_uint_eq(json.count, 0);
    cg_json_fini(&json);
}
END_TEST

/* Every beginning of a text but the whole is refused as cut, and reads not a byte beyond. */
START_TEST(a_text_cut_anywhere_is_cut)
{
    static const char text[] = "{\"a\\u0041\":[-1.5e+7,true,null,{\"\\n\":\"\xf0\x9f\x98\x80\"}]}";
    struct cg_json json;
    cg_json_init(&json, limits);
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *copy = malloc(len + 1);
        memcpy(copy, text, len);
        ck_assert(!cg_json_parse(&json, cg_bytes(copy, len), NULL));
        ck_assert_msg(json.cut, "%zu bytes", len);
        free(copy);
    }
    ck_assert(cg_json_parse(&json, cg_bytes(text, sizeof(text) - 1), NULL));
    cg_json_fini(&json);
}
END_TEST

START_TEST(limits_are_exact)
{
    struct cg_json json;
    struct cg_error err = {0};
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = 5, .nodes_max = 3, .levels_max = 1});
    ck_assert(cg_json_parse(&json, CG_BYTES("[1,2]"), &err));
    ck_assert(!cg_json_parse(&json, CG_BYTES("[1,2] "), &err));
    ck_assert_str_eq(err.text, "6 bytes are more than 5");
    cg_json_fini(&json);
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = 99, .nodes_max = 3, .levels_max = 1});
    ck_assert(!cg_json_parse(&json, CG_BYTES("[1,2,3]"), &err));
    ck_assert_str_eq(err.text, "column 6: more values than can be taken");
    cg_json_fini(&json);
}
END_TEST

START_TEST(many_nodes_grow_up_to_their_limit)
{
    struct cg_json json;
    char text[4001];
    for (size_t i = 0; i < sizeof(text) - 1; i += 2) {
        text[i] = i == 0 ? '[' : ',';
        text[i + 1] = '1';
    }
    text[sizeof(text) - 1] = ']';
    cg_json_init(&json,
                 (struct cg_json_limits){.bytes_max = 5000, .nodes_max = 2001, .levels_max = 1});
    ck_assert(cg_json_parse(&json, cg_bytes(text, sizeof(text)), NULL));
    ck_assert_uint_eq(json.nodes[0].count, 2000);
    ck_assert_uint_eq(json.cap, 2001);
    cg_json_fini(&json);
}
END_TEST

START_TEST(repeated_members_are_refused_where_they_are_asked_for)
{
    struct cg_json json;
    struct cg_error err = {0};
    struct cg_json_limits unique = limits;
    unique.unique_members = true;
    cg_json_init(&json, unique);
    ck_assert(cg_json_parse(&json, CG_BYTES("{\"a\":{\"a\":1},\"b\":[{\"a\":1}]}"), &err));
    ck_assert(!cg_json_parse(&json, CG_BYTES("{\"a\":1,\n\"b\":2,\"\\u0061\":3}"), &err));
    ck_assert_str_eq(err.text, "line 2, column 7: a member is repeated");
    ck_assert(!cg_json_parse(&json, CG_BYTES("[{\"x\":[{\"\":1,\"\":1}]}]"), &err));
    cg_json_fini(&json);
}
END_TEST

START_TEST(members_and_elements_are_found_and_walked)
{
    struct cg_json json;
    cg_json_init(&json, limits);
    ck_assert(cg_json_parse(
        &json, CG_BYTES("{\"a\":[1,[2,3],{}],\"\\u0062\":\"x\",\"a\":true,\"n\":null}"), NULL));
    ck_assert_uint_eq(json.nodes[0].count, 4);
    uint32_t last = cg_json_find(&json, 0, CG_BYTES("a"));
    ck_assert_int_eq(cg_json_type(&json, last), CG_JSON_TRUE);
    ck_assert(cg_json_is(&json, cg_json_find(&json, 0, CG_BYTES("b")), CG_BYTES("x")));
    ck_assert_int_eq(cg_json_type(&json, cg_json_find(&json, 0, CG_BYTES("n"))), CG_JSON_NULL);
    ck_assert_uint_eq(cg_json_find(&json, 0, CG_BYTES("c")), 0);
    ck_assert_uint_eq(cg_json_find(&json, last, CG_BYTES("a")), 0);
    uint32_t array = 2;
    uint32_t elements = 0;
    for (uint32_t at = array + 1; at < json.nodes[array].next; at = json.nodes[at].next) {
        elements++;
    }
    ck_assert_uint_eq(elements, 3);
    ck_assert_uint_eq(json.nodes[array].count, 3);
    ck_assert_uint_eq(cg_json_raw(&json, array).len, strlen("[1,[2,3],{}]"));
    cg_json_fini(&json);
}
END_TEST

START_TEST(escapes_are_decoded_to_what_they_say)
{
    struct cg_json json;
    struct cg_buf buf;
    static const char said[] = "\"\\/\b\f\n\r\t\0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    cg_json_init(&json, limits);
    cg_buf_init(&buf, 200);
    ck_assert(cg_json_parse(
        &json,
        CG_BYTES("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9\\u20AC\\ud83d\\uDE00z\",\"pl\"]"),
        NULL));
    ck_assert(json.nodes[1].has_nul && json.nodes[1].escaped);
    ck_assert(!json.nodes[2].has_nul && !json.nodes[2].escaped);
    ck_assert(cg_json_decode(&json, 1, &buf));
    ck_assert_uint_eq(buf.len, sizeof(said) - 1);
    ck_assert_mem_eq(buf.data, said, buf.len);
    ck_assert(cg_json_is(&json, 1, cg_bytes(said, sizeof(said) - 1)));
    ck_assert(!cg_json_is(&json, 1, cg_bytes(said, sizeof(said) - 2)));
    ck_assert(!cg_json_is(&json, 1, CG_BYTES("\"\\/")));
    ck_assert(!cg_json_is(&json, 0, CG_BYTES("")));
    ck_assert(cg_json_decode(&json, 2, &buf));
    ck_assert_uint_eq(buf.len, sizeof(said) - 1 + 2);
    cg_buf_fini(&buf);
    cg_json_fini(&json);
}
END_TEST

static const struct {
    const char *text;
    bool is_u64, is_i64;
    uint64_t u64;
    int64_t i64;
} numbers[] = {
    {"0", true, true, 0, 0},
    {"-0", false, false, 0, 0},
    {"7", true, true, 7, 7},
    {"-7", false, true, 0, -7},
    {"9007199254740993", true, true, 9007199254740993, 9007199254740993},
    {"9223372036854775807", true, true, INT64_MAX, INT64_MAX},
    {"9223372036854775808", true, false, UINT64_C(9223372036854775808), 0},
    {"18446744073709551615", true, false, UINT64_MAX, 0},
    {"18446744073709551616", false, false, 0, 0},
    {"99999999999999999999", false, false, 0, 0},
    {"-9223372036854775808", false, true, 0, INT64_MIN},
    {"-9223372036854775809", false, false, 0, 0},
    {"1.0", false, false, 0, 0},
    {"1e2", false, false, 0, 0},
    {"\"1\"", false, false, 0, 0},
};

START_TEST(integers_are_exact_or_none)
{
    struct cg_json json;
    uint64_t u64 = 42;
    int64_t i64 = 42;
    cg_json_init(&json, limits);
    ck_assert(cg_json_parse(&json, cg_bytes_str(numbers[_i].text), NULL));
    ck_assert_int_eq(cg_json_u64(&json, 0, &u64), numbers[_i].is_u64);
    ck_assert_int_eq(cg_json_i64(&json, 0, &i64), numbers[_i].is_i64);
    ck_assert(u64 == (numbers[_i].is_u64 ? numbers[_i].u64 : 42));
    ck_assert(i64 == (numbers[_i].is_i64 ? numbers[_i].i64 : 42));
    cg_json_fini(&json);
}
END_TEST

START_TEST(strings_are_ordered_by_the_bytes_they_say)
{
    static const char *const order[] = {
        "\"\"",  "\"\\u0000\"", "\"A\"",       "\"\\u0041B\"",
        "\"a\"", "\"\\u00e9\"", "\"\\uffff\"", "\"\\ud83d\\ude00\""};
    enum { COUNT = sizeof(order) / sizeof(order[0]) };
    struct cg_buf text;
    struct cg_json json;
    cg_buf_init(&text, 500);
    for (size_t i = 0; i < COUNT; i++) {
        cg_buf_append_char(&text, i == 0 ? '[' : ',');
        cg_buf_append_str(&text, order[i]);
    }
    cg_buf_append_char(&text, ']');
    cg_json_init(&json, limits);
    ck_assert(cg_json_parse(&json, cg_buf_bytes(&text), NULL));
    for (uint32_t a = 1; a <= COUNT; a++) {
        for (uint32_t b = 1; b <= COUNT; b++) {
            int compared = cg_json_compare(&json, a, b);
            ck_assert_int_eq((compared > 0) - (compared < 0), (a > b) - (a < b));
        }
    }
    cg_json_fini(&json);
    cg_buf_fini(&text);
}
END_TEST

START_TEST(keys_are_sorted_and_equal_ones_keep_their_order)
{
    struct cg_json json;
    struct cg_json_order order = {0};
    cg_json_init(&json, limits);
    ck_assert(cg_json_parse(&json, CG_BYTES("{\"b\":1,\"a\":[9],\"\\u0062\":2,\"B\":3}"), NULL));
    ck_assert(cg_json_order_push(&order, &json, 0));
    ck_assert_uint_eq(order.count, 4);
    static const char *const sorted[] = {"B", "a", "b", "\\u0062"};
    for (uint32_t i = 0; i < order.count; i++) {
        ck_assert(cg_bytes_equal(cg_json_raw(&json, order.keys[i]), cg_bytes_str(sorted[i])));
    }
    uint32_t repeated = 0;
    ck_assert(cg_json_repeated(&json, 0, &order, &repeated));
    ck_assert(cg_bytes_equal(cg_json_raw(&json, repeated), CG_BYTES("\\u0062")));
    ck_assert_uint_eq(order.count, 4);
    cg_json_order_fini(&order);
    cg_json_fini(&json);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("json");
    tcase_add_loop_test(tests, what_is_json_is_read, 0, sizeof(accepted) / sizeof(accepted[0]));
    tcase_add_loop_test(tests, what_is_not_json_is_refused_with_its_place, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, a_text_cut_anywhere_is_cut);
    tcase_add_test(tests, limits_are_exact);
    tcase_add_test(tests, many_nodes_grow_up_to_their_limit);
    tcase_add_test(tests, repeated_members_are_refused_where_they_are_asked_for);
    tcase_add_test(tests, members_and_elements_are_found_and_walked);
    tcase_add_test(tests, escapes_are_decoded_to_what_they_say);
    tcase_add_loop_test(tests, integers_are_exact_or_none, 0, sizeof(numbers) / sizeof(numbers[0]));
    tcase_add_test(tests, strings_are_ordered_by_the_bytes_they_say);
    tcase_add_test(tests, keys_are_sorted_and_equal_ones_keep_their_order);
    Suite *suite = suite_create("event/json");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
