/* test_cells_page.c - pages of cells: in order, complete, and with every reference given back. */
#include "http/cells_page.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELLS = 500 };

static struct cg_cell cells[CELLS];
static char ids[CELLS][16];

/* The ids are not in the order of the cells. */
static void make_cells(void)
{
    for (unsigned i = 0; i < CELLS; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "c%u", i * 7919 % CELLS);
        cells[i].identity.cell_id = cg_bytes_str(ids[i]);
        cells[i].keepalive_window_ns = 1;
        atomic_init(&cells[i].references, 1);
        atomic_init(&cells[i].paused, i % 3 == 0);
    }
}

static void select_page(struct cg_cells_selection *selection, const char *after, size_t max,
                        int state)
{
    *selection = (struct cg_cells_selection){
        .after = cg_bytes_str(after), .max = max, .state = state, .now_ns = 1000};
    for (unsigned i = 0; i < CELLS; i++) {
        cg_cells_selection_offer(selection, &cells[i]);
    }
}

/* Goes from page to page; returns how many cells there were. */
static unsigned walk(size_t max, int state)
{
    static struct cg_cells_selection selection;
    char after[16] = "";
    unsigned seen = 0;
    bool more = true;
    while (more) {
        select_page(&selection, after, max, state);
        more = selection.more;
        ck_assert(selection.count == max || !more);
        for (size_t i = 0; i < selection.count; i++) {
            const char *id = selection.cells[i]->identity.cell_id.data;
            ck_assert_int_gt(strcmp(id, after), 0);
            (void)snprintf(after, sizeof(after), "%s", id);
            seen++;
        }
        cg_cells_selection_fini(&selection);
    }
    for (unsigned i = 0; i < CELLS; i++) {
        ck_assert_uint_eq(atomic_load(&cells[i].references), 1);
    }
    return seen;
}

START_TEST(pages_of_any_size_show_each_cell_once_and_in_order)
{
    static const size_t sizes[] = {1, 2, 7, 100, CELLS - 1, CELLS, CG_CELLS_PAGE_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ck_assert_uint_eq(walk(sizes[i], -1), CELLS);
    }
}
END_TEST

START_TEST(a_state_is_filtered_before_the_page_is_cut)
{
    ck_assert_uint_eq(walk(10, CG_CELL_PAUSED), (CELLS + 2) / 3);
    ck_assert_uint_eq(walk(10, CG_CELL_LIVE), 0);
}
END_TEST

START_TEST(a_page_may_begin_behind_an_id_that_is_not_there)
{
    static struct cg_cells_selection selection;
    select_page(&selection, "c10!", 1, -1);
    ck_assert_int_eq(strcmp(selection.cells[0]->identity.cell_id.data, "c100"), 0);
    cg_cells_selection_fini(&selection);
    select_page(&selection, "zzz", 1, -1);
    ck_assert_uint_eq(selection.count, 0);
    ck_assert(!selection.more);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cells_page");
    TCase *tests = tcase_create("cells_page");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, make_cells, NULL);
    tcase_add_test(tests, pages_of_any_size_show_each_cell_once_and_in_order);
    tcase_add_test(tests, a_state_is_filtered_before_the_page_is_cut);
    tcase_add_test(tests, a_page_may_begin_behind_an_id_that_is_not_there);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
