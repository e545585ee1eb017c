/* What becomes an event when: every row of the contract's table, and each limit. */
#include "cells/life.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW_MS = 10000 };

static struct cg_life life;
static struct cg_life_facts facts;
static struct cg_life_event event;

static void set_up(void)
{
    life = (struct cg_life){0};
    facts = (struct cg_life_facts){
        .silence = {.window_ns = WINDOW_MS * CG_NS_PER_MS, .awaited_from_ns = 1000 * CG_NS_PER_S},
        .now_ns = 1000 * CG_NS_PER_S,
    };
}

static void tear_down(void)
{
    cg_life_fini(&life);
}

static void pass_ms(uint64_t ms)
{
    facts.now_ns += ms * CG_NS_PER_MS;
}

/* The members as JSON. */
static const char *members(void)
{
    static char text[CG_LIFE_TEXT_BYTES_MAX + 1024];
    size_t len = 0;
    for (size_t i = 0; i < event.count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\"%.*s\":%.*s",
                                i == 0 ? "" : ",", CG_BYTES_ARG(event.members[i].key),
                                CG_BYTES_ARG(event.members[i].json));
    }
    return text;
}

static void expect(enum cg_gateway_event type, const char *text)
{
    ck_assert(cg_life_due_ns(&life, &facts) <= facts.now_ns);
    ck_assert(cg_life_next(&life, &facts, &event));
    ck_assert_int_eq(event.type, type);
    ck_assert_str_eq(members(), text);
    cg_life_told(&life, &facts, &event, true);
}

static void expect_nothing(void)
{
    ck_assert(!cg_life_next(&life, &facts, &event));
    ck_assert(cg_life_due_ns(&life, &facts) > facts.now_ns);
}

static void frame(void)
{
    facts.silence.last_frame_ns = facts.now_ns;
    cg_life_heard(&life, facts.now_ns);
}

static void stream(uint32_t connection, bool closed)
{
    facts.silence.connections = closed ? 0 : 1;
    facts.silence.connections_opened = connection;
    const struct cg_life_stream what = {.connection = connection,
                                        .closed = closed,
                                        .reason = closed ? "eof" : NULL,
                                        .frames = 7,
                                        .bytes = 700};
    cg_life_stream(&life, &what, &facts.silence, facts.now_ns);
}

#define SILENCED(state, elapsed)                                                                   \
    "\"connectionState\":\"" state "\",\"elapsedMs\":" elapsed ",\"epistemicStatus\":"             \
    "\"DECLARED\",\"keepaliveWindowMs\":10000,\"ruleClass\":\"GUEST_AGENT_DECLARATION\""

START_TEST(silence_without_a_connection_is_told_as_never)
{
    pass_ms(9999);
    expect_nothing();
    ck_assert_uint_eq(cg_life_due_ns(&life, &facts), 1010 * CG_NS_PER_S);
    pass_ms(2);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("never", "10001"));
    ck_assert_int_eq(event.severity, CG_SEVERITY_WARN);
    expect_nothing();
    ck_assert_uint_eq(cg_life_due_ns(&life, &facts), UINT64_MAX);
}
END_TEST

START_TEST(each_connection_state_has_one_silence_a_run)
{
    pass_ms(10000);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("never", "10000"));
    stream(1, false);
    expect(CG_GATEWAY_STREAM_OPENED, "\"connection\":1,\"suppressed\":0");
    pass_ms(9999); /* the agent that has just connected is given its time */
    expect_nothing();
    pass_ms(1);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("open", "20000"));
    ck_assert_int_eq(event.severity, CG_SEVERITY_INFO);
    stream(1, true);
    expect(CG_GATEWAY_STREAM_CLOSED,
           "\"bytes\":700,\"connection\":1,\"frames\":7,\"reason\":\"eof\",\"suppressed\":0");
    pass_ms(10000);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("closed", "30000"));
    ck_assert_int_eq(event.severity, CG_SEVERITY_WARN);
    ck_assert_uint_eq(cg_life_silences(&life), 3);
    frame();
    expect(CG_GATEWAY_AGENT_RESUMED, "\"silentMs\":30000");
    pass_ms(100000);
    expect_nothing();
}
END_TEST

START_TEST(changing_connections_does_not_put_off_the_first_silence)
{
    for (uint32_t i = 1; i <= 10; i++) {
        stream(i, false);
        stream(i, true);
        expect(CG_GATEWAY_STREAM_CLOSED, members());
        pass_ms(1000);
    }
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("closed", "10000"));
}
END_TEST

START_TEST(once_means_one_silence_a_run)
{
    facts.once = true;
    pass_ms(10000);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("never", "10000"));
    frame();
    expect(CG_GATEWAY_AGENT_RESUMED, "\"silentMs\":10000");
    facts.silence.connections_opened = 1;
    pass_ms(100000);
    expect_nothing();
}
END_TEST

START_TEST(a_silence_that_was_told_is_known_after_a_restart)
{
    pass_ms(WINDOW_MS);
    ck_assert(cg_life_next(&life, &facts, &event));
    uint16_t told = cg_life_silence_after(&life, &event, &facts.silence);
    ck_assert_uint_ne(told, 0);

    cg_life_fini(&life);
    cg_life_restore(&life, told, facts.now_ns);
    ck_assert_uint_eq(cg_life_silences(&life), 1);
    pass_ms(10 * WINDOW_MS);
    expect_nothing(); /* not the same state again */

    cg_life_heard(&life, facts.now_ns);
    ck_assert(cg_life_next(&life, &facts, &event));
    ck_assert_int_eq(event.type, CG_GATEWAY_AGENT_RESUMED);
    ck_assert_str_eq(members(), "\"silentMs\":100000");
    told = cg_life_silence_after(&life, &event, &facts.silence);

    cg_life_fini(&life);
    cg_life_restore(&life, told, facts.now_ns);
    cg_life_heard(&life, facts.now_ns); /* it is over: nothing is resumed a second time */
    expect_nothing();
    cg_life_fini(&life);
    cg_life_restore(&life, 0, facts.now_ns); /* nothing is known of the run */
    ck_assert_uint_eq(cg_life_silences(&life), 0);
}
END_TEST

START_TEST(a_frame_puts_silence_off)
{
    pass_ms(9999);
    frame();
    pass_ms(9999);
    expect_nothing();
    pass_ms(1);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("never", "10000"));
}
END_TEST

START_TEST(nobody_is_silent_while_nothing_is_read)
{
    cg_life_pause(&life, CG_PAUSE_SPOOL, facts.now_ns);
    facts.silence.paused = true;
    pass_ms(9999);
    expect_nothing();
    pass_ms(1);
    expect(CG_GATEWAY_PAUSED, "\"pausedMs\":10000,\"reason\":\"spool\"");
    ck_assert_int_eq(event.severity, CG_SEVERITY_WARN);
    pass_ms(50000);
    expect_nothing();
    facts.silence.paused = false;
    facts.silence.awaited_from_ns = facts.now_ns;
    cg_life_unpause(&life, facts.silence.window_ns, facts.now_ns);
    expect(CG_GATEWAY_UNPAUSED, "\"pausedMs\":60000,\"reason\":\"spool\"");
    ck_assert_int_eq(event.severity, CG_SEVERITY_INFO);
    expect_nothing();
    pass_ms(10000);
    expect(CG_GATEWAY_AGENT_SILENCED, SILENCED("never", "10000"));
}
END_TEST

START_TEST(a_short_pause_is_not_told)
{
    cg_life_pause(&life, CG_PAUSE_RATE, facts.now_ns);
    pass_ms(9999);
    cg_life_unpause(&life, facts.silence.window_ns, facts.now_ns);
    expect_nothing();
    frame();
    cg_life_pause(&life, CG_PAUSE_RATE, facts.now_ns);
    pass_ms(9999);
    expect_nothing();
}
END_TEST

START_TEST(a_pause_that_could_not_be_told_is_told_with_its_end)
{
    cg_life_pause(&life, CG_PAUSE_RATE, facts.now_ns);
    pass_ms(12000);
    cg_life_unpause(&life, facts.silence.window_ns, facts.now_ns);
    facts.silence.awaited_from_ns = facts.now_ns;
    expect(CG_GATEWAY_PAUSED, "\"pausedMs\":12000,\"reason\":\"rate\"");
    expect(CG_GATEWAY_UNPAUSED, "\"pausedMs\":12000,\"reason\":\"rate\"");
    expect_nothing();
}
END_TEST

START_TEST(ten_events_of_streams_are_told_in_a_period_and_the_rest_counted)
{
    for (uint32_t i = 1; i <= 5; i++) {
        stream(i, false);
        expect(CG_GATEWAY_STREAM_OPENED, members());
        stream(i, true);
        expect(CG_GATEWAY_STREAM_CLOSED, members());
    }
    stream(6, false);
    stream(6, true);
    stream(7, false);
    expect_nothing();
    frame();
    pass_ms(9999);
    expect_nothing();
    pass_ms(1);
    frame();
    expect(CG_GATEWAY_STREAM_OPENED, "\"connection\":7,\"suppressed\":2");
    stream(7, true);
    expect(CG_GATEWAY_STREAM_CLOSED,
           "\"bytes\":700,\"connection\":7,\"frames\":7,\"reason\":\"eof\",\"suppressed\":0");
}
END_TEST

START_TEST(drops_are_told_at_once_and_then_every_ten_seconds)
{
    cg_life_drop(&life, CG_DROP_WIRE_ERROR, 1);
    expect(CG_GATEWAY_TELEMETRY_DROPPED, "\"drops\":{\"wire_error\":{\"count\":1}}");
    ck_assert_int_eq(event.severity, CG_SEVERITY_WARN);
    static const enum cg_life_drop without_numbers[] = {
        CG_DROP_CONNECTION_CAP, CG_DROP_DESCRIPTORS,         CG_DROP_MEMORY,    CG_DROP_PEER,
        CG_DROP_PROBES,         CG_DROP_UNSUPPORTED_VERSION, CG_DROP_WIRE_ERROR};
    for (unsigned i = 0; i < sizeof(without_numbers) / sizeof(without_numbers[0]); i++) {
        cg_life_drop(&life, without_numbers[i], i + 1);
    }
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 5));
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 6));
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 9));
    pass_ms(9999);
    expect_nothing();
    pass_ms(1);
    frame();
    expect(CG_GATEWAY_TELEMETRY_DROPPED,
           "\"drops\":{\"connection_cap\":{\"count\":1},\"descriptors\":{\"count\":2},"
           "\"memory\":{\"count\":3},\"peer\":{\"count\":4},\"probes\":{\"count\":5},"
           "\"signing\":{\"count\":3,\"ranges\":[[5,6],[9,9]]},"
           "\"unsupported_version\":{\"count\":6},\"wire_error\":{\"count\":7}}");
    expect_nothing();
    ck_assert_uint_eq(cg_life_drops(&life), 1 + 1 + 2 + 3 + 4 + 5 + 6 + 7 + 3);
}
END_TEST

static void lose(enum cg_spool_loss_reason reason, uint64_t first, uint64_t last)
{
    cg_life_lose(&life, &(struct cg_spool_loss){.reason = reason, .first = first, .last = last});
}

START_TEST(what_the_spool_has_lost_is_told_with_its_ranges_and_marked_as_told)
{
    cg_life_drop(&life, CG_DROP_PEER, 2);
    lose(CG_SPOOL_LOSS_POWER, 11, 1048586);
    lose(CG_SPOOL_LOSS_OVERFLOW, 3, 5);
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 9));
    lose(CG_SPOOL_LOSS_OVERFLOW, 7, 7);
    lose(CG_SPOOL_LOSS_QUOTA, 8, 8);
    lose(CG_SPOOL_LOSS_DAMAGE, 20, 21);
    expect(CG_GATEWAY_TELEMETRY_DROPPED,
           "\"drops\":{\"damage\":{\"count\":2,\"ranges\":[[20,21]]},"
           "\"overflow\":{\"count\":4,\"ranges\":[[3,5],[7,7]]},\"peer\":{\"count\":2},"
           "\"power_loss\":{\"count\":1048576,\"ranges\":[[11,1048586]]},"
           "\"quota\":{\"count\":1,\"ranges\":[[8,8]]},"
           "\"signing\":{\"count\":1,\"ranges\":[[9,9]]}}");
    ck_assert(event.tells_losses);
    pass_ms(10000);
    frame();
    expect_nothing();
    cg_life_drop(&life, CG_DROP_PEER, 1);
    expect(CG_GATEWAY_TELEMETRY_DROPPED, members());
    ck_assert(!event.tells_losses);
}
END_TEST

START_TEST(losses_behind_many_ranges_count_as_told_with_the_event_that_names_them)
{
    for (uint64_t i = 1; i <= 1000; i++) {
        ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 3 * i));
    }
    lose(CG_SPOOL_LOSS_OVERFLOW, 4000, 4100);
    ck_assert(cg_life_next(&life, &facts, &event));
    ck_assert(!event.tells_losses);
    ck_assert_ptr_null(strstr(members(), "overflow"));
    cg_life_told(&life, &facts, &event, true);
    ck_assert(cg_life_next(&life, &facts, &event));
    ck_assert(event.tells_losses);
    ck_assert_ptr_nonnull(
        strstr(members(), "\"overflow\":{\"count\":101,\"ranges\":[[4000,4100]]}"));
    cg_life_told(&life, &facts, &event, true);
    expect_nothing();
}
END_TEST

START_TEST(the_last_chance_knows_no_limits_in_time)
{
    cg_life_drop(&life, CG_DROP_WIRE_ERROR, 1);
    expect(CG_GATEWAY_TELEMETRY_DROPPED, members());
    cg_life_drop(&life, CG_DROP_CONNECTION_CAP, 2);
    for (uint32_t i = 1; i <= 11; i++) {
        stream(i, false);
        if (i <= 10) {
            expect(CG_GATEWAY_STREAM_OPENED, members());
        }
    }
    expect_nothing();
    facts.flush = true;
    expect(CG_GATEWAY_STREAM_OPENED, "\"connection\":11,\"suppressed\":0");
    expect(CG_GATEWAY_TELEMETRY_DROPPED, "\"drops\":{\"connection_cap\":{\"count\":2}}");
    expect_nothing();
}
END_TEST

START_TEST(a_number_that_there_is_no_room_to_name_is_left_to_the_next_event)
{
    for (uint64_t i = 1; i <= CG_LIFE_RANGES_MAX; i++) {
        ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 2 * i));
    }
    const uint64_t last = UINT64_C(2) * CG_LIFE_RANGES_MAX;
    ck_assert(!cg_life_drop_sequence(&life, CG_DROP_SIGNING, last + 2));
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, last + 1)); /* needs no room */
}
END_TEST

START_TEST(many_ranges_become_several_events_that_name_them_all)
{
    enum { RANGES = 2000 };
    for (uint64_t i = 1; i <= RANGES; i++) {
        ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, UINT64_MAX - 3 * i));
    }
    cg_life_drop(&life, CG_DROP_WIRE_ERROR, 3);
    uint64_t ranges = 0, told = 0;
    while (cg_life_next(&life, &facts, &event)) {
        ck_assert_int_eq(event.type, CG_GATEWAY_TELEMETRY_DROPPED);
        unsigned long long count = 0;
        ck_assert_int_eq(sscanf(members(), "\"drops\":{\"signing\":{\"count\":%llu,", &count), 1);
        ck_assert_uint_eq(count, event.ranges);
        ck_assert_ptr_eq(strstr(members(), "wire_error") == NULL ? NULL : &event,
                         told == 0 ? &event : NULL);
        ranges += event.ranges;
        told++;
        cg_life_told(&life, &facts, &event, true);
    }
    ck_assert_uint_eq(ranges, RANGES);
    ck_assert_uint_gt(told, 1);
    cg_life_drop(&life, CG_DROP_WIRE_ERROR, 1);
    expect_nothing();
}
END_TEST

START_TEST(an_account_that_cannot_be_signed_is_told_by_the_next)
{
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 4));
    ck_assert(cg_life_next(&life, &facts, &event));
    ck_assert(cg_life_drop_sequence(&life, CG_DROP_SIGNING, 5)); /* the account's own number */
    cg_life_told(&life, &facts, &event, false);
    expect_nothing();
    pass_ms(10000);
    frame();
    expect(CG_GATEWAY_TELEMETRY_DROPPED,
           "\"drops\":{\"signing\":{\"count\":2,\"ranges\":[[4,5]]}}");
}
END_TEST

START_TEST(the_end_says_what_the_run_came_to)
{
    const struct cg_life_end end = {
        .last_sequence = UINT64_MAX, .frames = 2, .bytes = 3, .silences = 1, .drops = 4};
    cg_life_ended(&end, &event);
    ck_assert_int_eq(event.type, CG_GATEWAY_RUN_ENDED);
    ck_assert_str_eq(members(), "\"bytes\":3,\"drops\":4,\"frames\":2,"
                                "\"lastSequence\":18446744073709551615,\"silences\":1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("life");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, silence_without_a_connection_is_told_as_never);
    tcase_add_test(tcase, each_connection_state_has_one_silence_a_run);
    tcase_add_test(tcase, changing_connections_does_not_put_off_the_first_silence);
    tcase_add_test(tcase, once_means_one_silence_a_run);
    tcase_add_test(tcase, a_silence_that_was_told_is_known_after_a_restart);
    tcase_add_test(tcase, a_frame_puts_silence_off);
    tcase_add_test(tcase, nobody_is_silent_while_nothing_is_read);
    tcase_add_test(tcase, a_short_pause_is_not_told);
    tcase_add_test(tcase, a_pause_that_could_not_be_told_is_told_with_its_end);
    tcase_add_test(tcase, ten_events_of_streams_are_told_in_a_period_and_the_rest_counted);
    tcase_add_test(tcase, drops_are_told_at_once_and_then_every_ten_seconds);
    tcase_add_test(tcase, what_the_spool_has_lost_is_told_with_its_ranges_and_marked_as_told);
    tcase_add_test(tcase, losses_behind_many_ranges_count_as_told_with_the_event_that_names_them);
    tcase_add_test(tcase, the_last_chance_knows_no_limits_in_time);
    tcase_add_test(tcase, a_number_that_there_is_no_room_to_name_is_left_to_the_next_event);
    tcase_add_test(tcase, many_ranges_become_several_events_that_name_them_all);
    tcase_add_test(tcase, an_account_that_cannot_be_signed_is_told_by_the_next);
    tcase_add_test(tcase, the_end_says_what_the_run_came_to);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
