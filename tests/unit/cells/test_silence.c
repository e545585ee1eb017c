#include "cells/silence.h"

#include <check.h>
#include <stdlib.h>

static const struct cg_silence_facts spoke_at_1000 = {.window_ns = 10, .last_frame_ns = 1000};

static enum cg_cell_state at(struct cg_silence_facts facts, uint64_t monotonic_ns)
{
    return cg_silence_state(&facts, monotonic_ns);
}

START_TEST(a_cell_without_a_frame_is_waited_for_until_it_is_late)
{
    struct cg_silence_facts facts = {.window_ns = 10, .awaited_from_ns = 500};
    ck_assert_int_eq(at(facts, 1), CG_CELL_WAITING);
    ck_assert_int_eq(at(facts, 509), CG_CELL_WAITING);
    ck_assert_int_eq(at(facts, 510), CG_CELL_SILENT);
    facts.connections = facts.connections_opened = 1;
    ck_assert_int_eq(at(facts, 509), CG_CELL_WAITING);
    ck_assert_int_eq(at(facts, 510), CG_CELL_IDLE);
}
END_TEST

START_TEST(a_cell_that_no_reader_has_yet_is_waiting)
{
    struct cg_silence_facts facts = {.window_ns = 10};
    ck_assert_int_eq(at(facts, UINT64_MAX), CG_CELL_WAITING);
}
END_TEST

START_TEST(a_pause_of_the_gateways_own_does_not_count)
{
    struct cg_silence_facts facts = spoke_at_1000;
    facts.awaited_from_ns = 1100;
    ck_assert_int_eq(at(facts, 1109), CG_CELL_LIVE);
    ck_assert_int_eq(at(facts, 1110), CG_CELL_SILENT);
    ck_assert_uint_eq(cg_silence_since(&facts), 1100);
}
END_TEST

START_TEST(a_silence_says_how_the_connections_are)
{
    struct cg_silence_facts facts = {.connections = 0};
    ck_assert_int_eq(cg_silence_connection(&facts), CG_SILENCE_NEVER);
    facts.connections_opened = 3;
    ck_assert_int_eq(cg_silence_connection(&facts), CG_SILENCE_CLOSED);
    facts.connections = 1;
    ck_assert_int_eq(cg_silence_connection(&facts), CG_SILENCE_OPEN);
    ck_assert_str_eq(cg_silence_connection_name(CG_SILENCE_NEVER), "never");
    ck_assert_str_eq(cg_silence_connection_name(CG_SILENCE_CLOSED), "closed");
    ck_assert_str_eq(cg_silence_connection_name(CG_SILENCE_OPEN), "open");
}
END_TEST

START_TEST(a_frame_within_the_window_is_life)
{
    ck_assert_int_eq(at(spoke_at_1000, 1000), CG_CELL_LIVE);
    ck_assert_int_eq(at(spoke_at_1000, 1009), CG_CELL_LIVE);
}
END_TEST

START_TEST(silence_begins_when_the_window_is_full)
{
    ck_assert_int_eq(at(spoke_at_1000, 1010), CG_CELL_SILENT);
}
END_TEST

START_TEST(an_open_connection_makes_silence_idleness)
{
    struct cg_silence_facts facts = spoke_at_1000;
    facts.connections = 1;
    ck_assert_int_eq(at(facts, 1009), CG_CELL_LIVE);
    ck_assert_int_eq(at(facts, 1010), CG_CELL_IDLE);
}
END_TEST

START_TEST(a_frame_newer_than_the_moment_asked_about_is_life)
{
    ck_assert_int_eq(at(spoke_at_1000, 990), CG_CELL_LIVE);
}
END_TEST

START_TEST(a_cell_that_is_not_read_is_paused_whatever_it_did)
{
    struct cg_silence_facts facts = spoke_at_1000;
    facts.paused = true;
    ck_assert_int_eq(at(facts, 1000), CG_CELL_PAUSED);
    ck_assert_int_eq(at(facts, 5000), CG_CELL_PAUSED);
    facts.last_frame_ns = 0;
    ck_assert_int_eq(at(facts, 5000), CG_CELL_PAUSED);
}
END_TEST

START_TEST(each_state_has_its_word)
{
    ck_assert_str_eq(cg_cell_state_name(CG_CELL_WAITING), "waiting");
    ck_assert_str_eq(cg_cell_state_name(CG_CELL_LIVE), "live");
    ck_assert_str_eq(cg_cell_state_name(CG_CELL_IDLE), "idle");
    ck_assert_str_eq(cg_cell_state_name(CG_CELL_SILENT), "silent");
    ck_assert_str_eq(cg_cell_state_name(CG_CELL_PAUSED), "paused");
}
END_TEST

START_TEST(a_cell_is_judged_by_its_counters)
{
    struct cg_cell cell = {.keepalive_window_ns = 10};
    ck_assert_int_eq(cg_cell_state(&cell, 1010), CG_CELL_WAITING);
    cell.last_frame_ns = 1000;
    ck_assert_int_eq(cg_cell_state(&cell, 1010), CG_CELL_SILENT);
    cell.connections = 2;
    ck_assert_int_eq(cg_cell_state(&cell, 1010), CG_CELL_IDLE);
    cell.paused = true;
    ck_assert_int_eq(cg_cell_state(&cell, 1010), CG_CELL_PAUSED);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("silence");
    tcase_add_test(tcase, a_cell_without_a_frame_is_waited_for_until_it_is_late);
    tcase_add_test(tcase, a_cell_that_no_reader_has_yet_is_waiting);
    tcase_add_test(tcase, a_pause_of_the_gateways_own_does_not_count);
    tcase_add_test(tcase, a_silence_says_how_the_connections_are);
    tcase_add_test(tcase, a_frame_within_the_window_is_life);
    tcase_add_test(tcase, silence_begins_when_the_window_is_full);
    tcase_add_test(tcase, an_open_connection_makes_silence_idleness);
    tcase_add_test(tcase, a_frame_newer_than_the_moment_asked_about_is_life);
    tcase_add_test(tcase, a_cell_that_is_not_read_is_paused_whatever_it_did);
    tcase_add_test(tcase, each_state_has_its_word);
    tcase_add_test(tcase, a_cell_is_judged_by_its_counters);
    Suite *suite = suite_create("silence");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
