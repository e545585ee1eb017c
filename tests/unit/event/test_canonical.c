#include "event/canonical.h"

#include <check.h>
#include <stdlib.h>

#define HEAD  "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"s\",\"type\":\"t\","
#define NULLS "\"datacontenttype\":null,\"data\":null,\"time\":null,\"traceparent\":null}"
/* An event around data, and its canonical form. */
#define IN(data)                                                                                   \
    "{\"data\":" data ",\"type\":\"t\",\"source\":\"s\",\"id\":\"i\",\"specversion\":\"1.0\"}"
#define OUT(data)                                                                                  \
    HEAD "\"datacontenttype\":null,\"data\":" data ",\"time\":null,\"traceparent\":null}"

static const struct {
    const char *event;
    const char *canonical;
} rendered[] = {
    {HEAD "\"traceparent\":null}", HEAD NULLS},
    {"\n{ \"type\" :\"t\",\"\\u0069d\":\"\\u0069\",\"source\":\"s\",\"specversion\":\"1.0\" }\n",
     HEAD NULLS},
    {HEAD "\"traceparent\":\"00-a\",\"time\":\"x\",\"datacontenttype\":\"a\\/b\"}",
     HEAD "\"datacontenttype\":\"a/b\",\"data\":null,\"time\":\"x\",\"traceparent\":\"00-a\"}"},
    {HEAD "\"subject\":\"dropped\"}", HEAD NULLS},
    {IN("{\"b\":{\"z\":1,\"y\":[ ]},\"a\":{ }}"), OUT("{\"a\":{},\"b\":{\"y\":[],\"z\":1}}")},
    {IN("{\"b\":1,\"B\":2,\"\\u00e9\":3,\"\":4,\"ab\":5,\"\\ud83d\\ude00\":6,\"\\uffff\":7}"),
     OUT("{\"\":4,\"B\":2,\"ab\":5,\"b\":1,\"\xc3\xa9\":3,\"\xef\xbf\xbf\":7,"
         "\"\xf0\x9f\x98\x80\":6}")},
    {IN("{\"a\":1,\"b\":2,\"\\u0061\":{\"x\":1,\"x\":[2],\"x\":3},\"b\":4}"),
     OUT("{\"a\":{\"x\":3},\"b\":4}")},
    {IN("[\"\\u0041\\u001F\\u007f\\/\\u2028\\b\\u0009\"]"),
     OUT("[\"A\\u001f\x7f/\xe2\x80\xa8\\b\\t\"]")},
    {IN("[0,-1,18446744073709551615,-9223372036854775808,true,false,null]"),
     OUT("[0,-1,18446744073709551615,-9223372036854775808,true,false,null]")},
    {IN("\"text\""), OUT("\"text\"")},
    {IN("7"), OUT("7")},
};

static const struct {
    const char *event;
    const char *error;
} refused[] = {
    {"[]", "the event is no JSON object"},
    {"{}", "the event has no specversion"},
    {"{\"specversion\":\"1.0\",\"id\":null,\"source\":\"s\",\"type\":\"t\"}",
     "the event has no id"},
    {"{\"specversion\":\"1.0\",\"id\":7,\"source\":\"s\",\"type\":\"t\"}",
     "the event's id is no text"},
    {HEAD "\"time\":1}", "the event's time is no text"},
    {HEAD "\"traceparent\":[]}", "the event's traceparent is no text"},
    {HEAD "\"\\u0069d\":\"i\"}", "a member of the event is repeated"},
    {HEAD "\"x\":1,\"x\":1}", "a member of the event is repeated"},
    {HEAD "\"traceparent\":null,\"traceparent\":\"x\"}", "a member of the event is repeated"},
    {HEAD "\"data\":{\"a\":4242.0}}", NULL},
    {HEAD "\"data\":[1e3]}", NULL},
    {HEAD "\"data\":-0}", NULL},
    {HEAD "\"data\":18446744073709551616}", NULL},
    {HEAD "\"data\":[[-9223372036854775809]]}", NULL},
};

struct fixture {
    struct cg_json json;
    struct cg_canonical canonical;
    struct cg_buf out;
    struct cg_error err;
};

static void set_up(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    cg_json_init(&fixture->json, (struct cg_json_limits){.bytes_max = 100000,
                                                         .nodes_max = 50000,
                                                         .levels_max = CG_CANONICAL_LEVELS_MAX});
    cg_buf_init(&fixture->out, 200000);
}

static void tear_down(struct fixture *fixture)
{
    cg_json_fini(&fixture->json);
    cg_canonical_fini(&fixture->canonical);
    cg_buf_fini(&fixture->out);
}

static bool canonicalise(struct fixture *fixture, struct cg_bytes event)
{
    struct cg_attributes attributes;
    cg_buf_clear(&fixture->out);
    ck_assert_msg(cg_json_parse(&fixture->json, event, &fixture->err), "%s", fixture->err.text);
    return cg_canonical_inspect(&fixture->canonical, &fixture->json, 0, &attributes,
                                &fixture->err) &&
           cg_canonical_render(&fixture->canonical, &fixture->json, &attributes, &fixture->out,
                               &fixture->err);
}

START_TEST(any_spelling_has_one_canonical_form)
{
    struct fixture fixture;
    set_up(&fixture);
    ck_assert(canonicalise(&fixture, cg_bytes_str(rendered[_i].event)));
    ck_assert_str_eq(cg_buf_str(&fixture.out), rendered[_i].canonical);
    ck_assert(canonicalise(&fixture, cg_bytes_str(rendered[_i].canonical)));
    ck_assert_str_eq(cg_buf_str(&fixture.out), rendered[_i].canonical);
    tear_down(&fixture);
}
END_TEST

START_TEST(what_has_no_canonical_form_is_refused)
{
    struct fixture fixture;
    set_up(&fixture);
    ck_assert(!canonicalise(&fixture, cg_bytes_str(refused[_i].event)));
    if (refused[_i].error != NULL) {
        ck_assert_str_eq(fixture.err.text, refused[_i].error);
    } else {
        ck_assert(strstr(fixture.err.text, "no plain integer") != NULL);
    }
    /* A refusal leaves nothing behind that the next event would meet. */
    ck_assert(canonicalise(&fixture, CG_BYTES(IN("{\"b\":1,\"a\":2}"))));
    ck_assert_str_eq(cg_buf_str(&fixture.out), OUT("{\"a\":2,\"b\":1}"));
    tear_down(&fixture);
}
END_TEST

START_TEST(unknown_members_are_pointed_out)
{
    struct fixture fixture;
    struct cg_attributes attributes;
    set_up(&fixture);
    ck_assert(cg_json_parse(&fixture.json, CG_BYTES(HEAD "\"x\":1,\"y\":2}"), NULL));
    ck_assert(cg_canonical_inspect(&fixture.canonical, &fixture.json, 0, &attributes, NULL));
    ck_assert(cg_json_is(&fixture.json, attributes.unknown, CG_BYTES("x")));
    ck_assert_uint_eq(attributes.node[CG_ATTRIBUTE_DATA], 0);
    ck_assert(cg_json_is(&fixture.json, attributes.node[CG_ATTRIBUTE_ID], CG_BYTES("i")));
    tear_down(&fixture);
}
END_TEST

START_TEST(all_levels_are_rendered)
{
    struct fixture fixture;
    struct cg_buf event;
    set_up(&fixture);
    cg_buf_init(&event, 4096);
    cg_buf_append_str(&event, HEAD "\"datacontenttype\":null,\"data\":");
    for (int level = 1; level < CG_CANONICAL_LEVELS_MAX; level++) {
        cg_buf_append_str(&event, level % 2 ? "[" : "{\"k\":");
    }
    cg_buf_append_str(&event, "1");
    for (int level = CG_CANONICAL_LEVELS_MAX - 1; level > 0; level--) {
        cg_buf_append_char(&event, level % 2 ? ']' : '}');
    }
    cg_buf_append_str(&event, ",\"time\":null,\"traceparent\":null}");
    ck_assert(canonicalise(&fixture, cg_buf_bytes(&event)));
    ck_assert_str_eq(cg_buf_str(&fixture.out), cg_buf_str(&event));
    cg_buf_fini(&event);
    tear_down(&fixture);
}
END_TEST

START_TEST(an_object_of_many_members_is_sorted)
{
    enum { MEMBERS = 5000 };
    struct fixture fixture;
    struct cg_buf event;
    struct cg_buf expected;
    set_up(&fixture);
    cg_buf_init(&event, 100000);
    cg_buf_init(&expected, 100000);
    cg_buf_append_str(&event, HEAD "\"data\":{");
    cg_buf_append_str(&expected, HEAD "\"datacontenttype\":null,\"data\":{");
    for (int i = 0; i < MEMBERS; i++) {
        cg_buf_printf(&event, "%s\"%05d\":%d", i == 0 ? "" : ",", MEMBERS - 1 - i, i);
        cg_buf_printf(&expected, "%s\"%05d\":%d", i == 0 ? "" : ",", i, MEMBERS - 1 - i);
    }
    cg_buf_append_str(&event, "}}");
    cg_buf_append_str(&expected, "},\"time\":null,\"traceparent\":null}");
    ck_assert(canonicalise(&fixture, cg_buf_bytes(&event)));
    ck_assert_str_eq(cg_buf_str(&fixture.out), cg_buf_str(&expected));
    cg_buf_fini(&event);
    cg_buf_fini(&expected);
    tear_down(&fixture);
}
END_TEST

START_TEST(what_has_no_room_is_refused)
{
    struct fixture fixture;
    set_up(&fixture);
    fixture.out.max = 100;
    ck_assert(
        !canonicalise(&fixture, CG_BYTES(IN("\"........................................\""))));
    tear_down(&fixture);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("canonical");
    tcase_add_loop_test(tests, any_spelling_has_one_canonical_form, 0,
                        sizeof(rendered) / sizeof(rendered[0]));
    tcase_add_loop_test(tests, what_has_no_canonical_form_is_refused, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, unknown_members_are_pointed_out);
    tcase_add_test(tests, all_levels_are_rendered);
    tcase_add_test(tests, an_object_of_many_members_is_sorted);
    tcase_add_test(tests, what_has_no_room_is_refused);
    Suite *suite = suite_create("event/canonical");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
