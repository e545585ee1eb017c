/* Rules, and the events they let through: bare ones, and signed ones inside their transport event.
 */
#include "delivery/filter.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define TYPE_PREFIX "dev.cellos.events.cell.observability.v1.guest."
#define STRINGS(...)                                                                               \
    {                                                                                              \
        .items = (const char *const[]){__VA_ARGS__},                                               \
        .count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)                 \
    }
#define PAIRS(...)                                                                                 \
    {                                                                                              \
        .items = (const struct cg_pair[]){__VA_ARGS__},                                            \
        .count = sizeof((const struct cg_pair[]){__VA_ARGS__}) / sizeof(struct cg_pair)            \
    }

/* --- events --- */

static char text[4096];

/* Finds where `what` stands behind `before`. */
static struct cg_event_span span_of(const char *before, const char *what)
{
    const char *at = strstr(text, before);
    ck_assert_ptr_nonnull(at);
    at += strlen(before);
    ck_assert(strncmp(at, what, strlen(what)) == 0);
    return (struct cg_event_span){(uint16_t)(at - text), (uint16_t)strlen(what)};
}

static struct cg_event locate(enum cg_event_kind kind, const char *type, const char *cell)
{
    struct cg_event event = {.bytes = cg_bytes_str(text), .meta.kind = kind};
    event.meta.text[CG_TEXT_TYPE] = span_of("\"type\":\"" TYPE_PREFIX, type);
    event.meta.text[CG_TEXT_TYPE].offset -= sizeof(TYPE_PREFIX) - 1;
    event.meta.text[CG_TEXT_TYPE].len += sizeof(TYPE_PREFIX) - 1;
    event.meta.text[CG_TEXT_CELL] = span_of("\"data\":{\"cellId\":\"", cell);
    return event;
}

#define INNER                                                                                      \
    "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"" TYPE_PREFIX "%s\",\"data\":{\"cellId\":"   \
    "\"%s\",\"guest\":{\"guestComm\":\"\\\"host\\\":{\\\"labels\\\":{\\\"team\\\":\\\"evil\\\"}}"  \
    "\"},\"host\":{\"cellId\":\"%s\"%s},\"provenance\":\"declared\"}}"

static struct cg_event bare_event(enum cg_event_kind kind, const char *type, const char *cell,
                                  const char *labels)
{
    int len = snprintf(text, sizeof(text), INNER, type, cell, cell, labels);
    ck_assert_int_lt(len, (int)sizeof(text));
    return locate(kind, type, cell);
}

static struct cg_event signed_event(enum cg_event_kind kind, const char *type, const char *cell,
                                    const char *labels)
{
    int len = snprintf(text, sizeof(text),
                       "{\"id\":\"1\",\"type\":\"dev.cellos.events.signed_envelope.v1\","
                       "\"data\":{\"event\":" INNER ",\"signature\":\"xx\"}}",
                       type, cell, cell, labels);
    ck_assert_int_lt(len, (int)sizeof(text));
    return locate(kind, type, cell);
}

static bool passes(const struct cg_filter_rules *rules, const struct cg_event *event)
{
    struct cg_filter filter;
    struct cg_error err = {0};
    bool result = false;
    ck_assert_msg(cg_filter_rules_check(rules, &err), "%s", err.text);
    cg_filter_init(&filter, rules);
    ck_assert_msg(cg_filter_judge(&filter, event, &result, &err), "%s", err.text);
    cg_filter_fini(&filter);
    return result;
}

/* --- tests --- */

START_TEST(rules_without_a_condition_are_no_filter)
{
    static const struct cg_filter_rules none;
    struct cg_filter filter;
    cg_filter_init(&filter, &none);
    ck_assert(!cg_filter_is_set(&filter));
    cg_filter_fini(&filter);
    cg_filter_init(&filter, NULL);
    ck_assert(!cg_filter_is_set(&filter));
    bool result = false;
    struct cg_event event = bare_event(CG_EVENT_GUEST, "process_spawned", "a", "");
    ck_assert(cg_filter_judge(&filter, &event, &result, NULL) && result);
    cg_filter_fini(&filter);
}
END_TEST

START_TEST(the_type_of_the_event_inside_decides)
{
    const struct cg_filter_rules alarms = {.types = STRINGS("*.agent_silenced", "*.paused")};
    struct cg_event event = bare_event(CG_EVENT_GATEWAY, "agent_silenced", "a", "");
    ck_assert(passes(&alarms, &event));
    event = signed_event(CG_EVENT_GATEWAY, "paused", "a", "");
    ck_assert(passes(&alarms, &event));
    event = signed_event(CG_EVENT_GUEST, "process_spawned", "a", "");
    ck_assert(!passes(&alarms, &event));

    const struct cg_filter_rules rest = {.not_types = STRINGS("*.agent_silenced", "*.paused")};
    ck_assert(passes(&rest, &event));
    event = bare_event(CG_EVENT_GATEWAY, "agent_silenced", "a", "");
    ck_assert(!passes(&rest, &event));
}
END_TEST

START_TEST(a_guest_cannot_pass_for_the_gateway)
{
    const struct cg_filter_rules alarms = {.kinds = STRINGS("gateway", "probe"),
                                           .types = STRINGS("*.agent_silenced")};
    struct cg_event event = bare_event(CG_EVENT_GUEST, "agent_silenced", "a", "");
    ck_assert(!passes(&alarms, &event));
    event.meta.kind = CG_EVENT_GATEWAY;
    ck_assert(passes(&alarms, &event));
    event.meta.kind = CG_EVENT_PROBE;
    ck_assert(passes(&alarms, &event));
}
END_TEST

START_TEST(cells_are_chosen_by_their_ids)
{
    const struct cg_filter_rules rules = {.cells = STRINGS("prod-*", "x"),
                                          .not_cells = STRINGS("prod-canary?")};
    static const struct {
        const char *cell;
        bool passes;
    } rows[] = {{"prod-1", true},        {"prod-", true},       {"x", true},  {"dev-1", false},
                {"prod-canary7", false}, {"prod-canary", true}, {"xx", false}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cg_event event = bare_event(CG_EVENT_GUEST, "t", rows[i].cell, "");
        ck_assert_msg(passes(&rules, &event) == rows[i].passes, "%s", rows[i].cell);
    }
}
END_TEST

START_TEST(labels_are_those_of_the_host_block_and_all_must_match)
{
    const struct cg_filter_rules rules = {.labels =
                                              PAIRS({"team", "pay*"}, {"pool", "\"blue\" ?"})};
    static const struct {
        const char *labels;
        bool passes;
    } rows[] = {
        {",\"labels\":{\"pool\":\"\\\"blue\\\" 1\",\"team\":\"payments\"}", true},
        {",\"labels\":{\"pool\":\"\\\"blue\\\" 1\",\"team\":\"search\"}", false},
        {",\"labels\":{\"team\":\"payments\"}", false},
        {",\"labels\":{}", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cg_event event = bare_event(CG_EVENT_GUEST, "t", "a", rows[i].labels);
        ck_assert_msg(passes(&rules, &event) == rows[i].passes, "%s", rows[i].labels);
        event = signed_event(CG_EVENT_GUEST, "t", "a", rows[i].labels);
        ck_assert_msg(passes(&rules, &event) == rows[i].passes, "signed, %s", rows[i].labels);
    }
}
END_TEST

START_TEST(what_a_guest_writes_is_no_label)
{
    const struct cg_filter_rules rules = {.labels = PAIRS({"team", "evil"})};
    struct cg_event event = bare_event(CG_EVENT_GUEST, "t", "a", ""); /* its comm says so */
    ck_assert(!passes(&rules, &event));
    event = signed_event(CG_EVENT_GUEST, "t", "a", "");
    ck_assert(!passes(&rules, &event));
}
END_TEST

START_TEST(what_cannot_be_read_is_neither_sent_nor_passed_over)
{
    const struct cg_filter_rules rules = {.labels = PAIRS({"team", "*"})};
    struct cg_filter filter;
    struct cg_error err = {0};
    bool result = true;
    struct cg_event event = bare_event(CG_EVENT_GUEST, "t", "a", "");
    event.bytes.len--;
    cg_filter_init(&filter, &rules);
    ck_assert(!cg_filter_judge(&filter, &event, &result, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "labels"));
    ck_assert(result);
    cg_filter_fini(&filter);
}
END_TEST

static char long_pattern[CG_FILTER_PATTERN_BYTES_MAX + 2];

START_TEST(rules_that_cannot_be_meant_are_refused_by_name)
{
    memset(long_pattern, 'a', sizeof(long_pattern) - 1);
    const struct {
        struct cg_filter_rules rules;
        const char *key;
    } rows[] = {
        {{.kinds = STRINGS("guests")}, "kinds: "},
        {{.types = STRINGS("*", "")}, "types: "},
        {{.not_types = STRINGS(long_pattern)}, "not_types: "},
        {{.cells = STRINGS("")}, "cells: "},
        {{.not_cells = STRINGS("")}, "not_cells: "},
        {{.labels = PAIRS({"", "x"})}, "labels: "},
        {{.labels = PAIRS({"x", ""})}, "labels: "},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cg_error err = {0};
        ck_assert(!cg_filter_rules_check(&rows[i].rules, &err));
        ck_assert_msg(strncmp(err.text, rows[i].key, strlen(rows[i].key)) == 0, "%s", err.text);
    }
    long_pattern[CG_FILTER_PATTERN_BYTES_MAX] = '\0';
    const struct cg_filter_rules longest = {.types = STRINGS(long_pattern)};
    ck_assert(cg_filter_rules_check(&longest, NULL));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("filter");
    tcase_add_test(tests, rules_without_a_condition_are_no_filter);
    tcase_add_test(tests, the_type_of_the_event_inside_decides);
    tcase_add_test(tests, a_guest_cannot_pass_for_the_gateway);
    tcase_add_test(tests, cells_are_chosen_by_their_ids);
    tcase_add_test(tests, labels_are_those_of_the_host_block_and_all_must_match);
    tcase_add_test(tests, what_a_guest_writes_is_no_label);
    tcase_add_test(tests, what_cannot_be_read_is_neither_sent_nor_passed_over);
    tcase_add_test(tests, rules_that_cannot_be_meant_are_refused_by_name);
    Suite *suite = suite_create("delivery/filter");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
