#include "delivery/dead_letters.h"

#include "cellgate/cleanup.h"
#include "delivery/letter_scan.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char directory[64];
static char path[96];
static struct cg_dead_letters letters;
static uint64_t bytes_max;

static const char event_text[] =
    "{\"id\":\"id-1\",\"data\":{\"cellId\":\"c\\\"1\",\"runId\":\"r1\"}}";

static struct cg_event make_event(void)
{
    struct cg_event event = {.index = 41, .meta.sequence = 18446744073709551615u};
    event.meta.kind = CG_EVENT_GUEST;
    event.meta.received_ns = 77;
    event.meta.connection = 2;
    event.meta.pid = 3;
    event.bytes = cg_bytes(event_text, sizeof(event_text) - 1);
    event.meta.text[CG_TEXT_ID] = (struct cg_event_span){7, 4};
    event.meta.text[CG_TEXT_CELL] = (struct cg_event_span){31, 4};
    event.meta.text[CG_TEXT_RUN] = (struct cg_event_span){46, 2};
    return event;
}

static void setup(void)
{
    bytes_max = 0;
    (void)snprintf(directory, sizeof(directory), "/tmp/cellgate-letters-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(path, sizeof(path), "%s/central.jsonl", directory);
}

static void teardown(void)
{
    (void)unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void open_letters(void)
{
    struct cg_error err = {0};
    ck_assert_msg(cg_dead_letters_open(&letters, path, "central", bytes_max, &err), "%s", err.text);
}

static enum cg_keep keep_batch(size_t count, struct cg_error *err)
{
    struct cg_event events[16];
    const struct cg_verdict verdict = {.kind = CG_VERDICT_SUSPECT, .status = 422};
    for (size_t i = 0; i < count; i++) {
        events[i] = make_event();
    }
    const struct cg_batch batch = {.events = events, .count = count};
    return cg_dead_letters_keep(&letters, &batch, CG_LETTER_REFUSED, &verdict, 0, err);
}

static void keep(const char *answer, size_t answer_len)
{
    struct cg_error err = {0};
    struct cg_event event = make_event();
    struct cg_verdict verdict = {.kind = CG_VERDICT_SUSPECT, .status = 422};
    (void)snprintf(verdict.detail, sizeof(verdict.detail), "HTTP 422");
    memcpy(verdict.answer, answer, answer_len);
    verdict.answer_len = answer_len;
    const struct cg_batch batch = {.events = &event, .count = 1};
    ck_assert_msg(cg_dead_letters_keep(&letters, &batch, CG_LETTER_REFUSED, &verdict,
                                       UINT64_C(1763895600123456789), &err) == CG_KEEP_DONE,
                  "%s", err.text);
}

static size_t read_file(char *text, size_t max)
{
    cg_auto_fclose FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    size_t got = fread(text, 1, max - 1, file);
    text[got] = '\0';
    return got;
}

static void write_file(const char *text)
{
    cg_auto_fclose FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
}

START_TEST(a_letter_holds_the_answer_and_the_exact_event)
{
    char text[4096];
    open_letters();
    keep("no \"such\" field\n", 16);
    cg_dead_letters_close(&letters);
    (void)read_file(text, sizeof(text));
    ck_assert_str_eq(text,
                     "{\"state\":\"kept\",\"id\":\"id-1\","
                     "\"time\":\"2025-11-23T11:00:00.123456789Z\",\"exporter\":\"central\","
                     "\"reason\":\"refused\",\"index\":41,\"cell\":\"c\\\"1\",\"run\":\"r1\","
                     "\"sequence\":18446744073709551615,\"status\":422,\"detail\":\"HTTP 422\","
                     "\"answer\":\"no \\\"such\\\" field\\u000a\",\"meta\":{\"kind\":1,"
                     "\"severity\":0,\"received_ns\":77,\"connection\":2,\"pid\":3,\"spans\":[7,4,"
                     "0,0,0,0,31,4,46,2,0,0,0,0,0,0]},\"event\":"
                     "{\"id\":\"id-1\",\"data\":{\"cellId\":\"c\\\"1\",\"runId\":\"r1\"}}}\n");
}
END_TEST

START_TEST(an_answer_that_is_not_utf8_is_made_safe)
{
    static const struct {
        const char *answer;
        const char *text;
    } cases[] = {
        {"caf\xc3\xa9", "\"caf\xc3\xa9\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\xc3", "\"a\xef\xbf\xbd\""},
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
        {"\x1b[2J\x7f\\", "\"\\u001b[2J\\u007f\\\\\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[4096];
        open_letters();
        keep(cases[i].answer, strlen(cases[i].answer));
        cg_dead_letters_close(&letters);
        (void)read_file(text, sizeof(text));
        ck_assert_msg(strstr(text, cases[i].text) != NULL, "%zu: %s", i, text);
        ck_assert_int_eq(unlink(path), 0);
    }
    write_file("");
}
END_TEST

START_TEST(the_worst_answer_still_fits)
{
    static char text[1 << 17];
    static char answer[CG_VERDICT_ANSWER_MAX];
    memset(answer, 1, sizeof(answer));
    open_letters();
    keep(answer, sizeof(answer));
    cg_dead_letters_close(&letters);
    ck_assert_uint_gt(read_file(text, sizeof(text)), 6 * sizeof(answer));
}
END_TEST

START_TEST(the_file_is_private_and_grows)
{
    char text[4096];
    struct stat st;
    open_letters();
    keep("a", 1);
    cg_dead_letters_close(&letters);
    open_letters();
    keep("b", 1);
    cg_dead_letters_close(&letters);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    (void)read_file(text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, "\"answer\":\"a\""));
    ck_assert_ptr_nonnull(strstr(text, "\"answer\":\"b\""));
}
END_TEST

START_TEST(an_unfinished_last_line_is_cut_off)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"a\":1}\n{\"b\":", "{\"a\":1}\n"},
        {"{\"a\":1}\n", "{\"a\":1}\n"},
        {"{\"a\"", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[4096];
        write_file(cases[i].before);
        open_letters();
        cg_dead_letters_close(&letters);
        (void)read_file(text, sizeof(text));
        ck_assert_str_eq(text, cases[i].after);
    }
}
END_TEST

START_TEST(a_symbolic_link_is_refused)
{
    struct cg_error err = {0};
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert(!cg_dead_letters_open(&letters, path, "central", 0, &err));
    ck_assert_ptr_nonnull(strstr(err.text, path));
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(a_letter_that_does_not_fit_leaves_nothing_behind)
{
    char before[4096], after[4096];
    struct cg_error err = {0};
    open_letters();
    keep("first", 5);
    size_t size = read_file(before, sizeof(before));

    /* A file-size limit in the middle of the next line stands in for a full disk. Nothing is
     * asserted while it holds: Check writes files as well. */
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const struct rlimit low = {size + 50, limit.rlim_max};
    int lowered = setrlimit(RLIMIT_FSIZE, &low);
    enum cg_keep kept = keep_batch(3, &err);
    int restored = setrlimit(RLIMIT_FSIZE, &limit);

    ck_assert_int_eq(lowered, 0);
    ck_assert_int_eq(restored, 0);
    ck_assert_int_eq(kept, CG_KEEP_FAILED);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    (void)read_file(after, sizeof(after));
    ck_assert_str_eq(after, before);

    keep("second", 6);
    (void)read_file(after, sizeof(after));
    ck_assert_ptr_nonnull(strstr(after, "\"second\""));
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(a_file_that_was_moved_away_is_made_anew)
{
    char text[4096];
    open_letters();
    keep("first", 5);
    ck_assert_int_eq(unlink(path), 0);
    cg_dead_letters_reopen(&letters);
    keep("second", 6);
    (void)read_file(text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, "\"second\""));
    ck_assert_ptr_null(strstr(text, "\"first\""));
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(without_a_path_nothing_is_kept_and_nothing_fails)
{
    struct cg_error err = {0};
    ck_assert(cg_dead_letters_open(&letters, NULL, "central", 0, &err));
    keep("x", 1);
    cg_dead_letters_reopen(&letters);
    cg_dead_letters_close(&letters);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* --- states --- */

/* The states in the file, one letter each: K R S G, and ? for what is no letter. */
static const char *states(void)
{
    static char found[64];
    cg_auto_fclose FILE *file = fopen(path, "re");
    cg_auto_letter_scan struct cg_letter_scan scan;
    struct cg_error err = {0};
    size_t count = 0;
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    cg_letter_scan_init(&scan, fileno(file), 0, ftell(file));
    for (enum cg_letter_line line;
         (line = cg_letter_scan_next(&scan, &err)) != CG_LETTER_LINE_END;) {
        ck_assert_int_ne(line, CG_LETTER_LINE_FAILED);
        found[count++] = line == CG_LETTER_LINE ? "KRSG"[scan.state] : '?';
    }
    found[count] = '\0';
    return found;
}

static uint64_t mark(const char *id, enum cg_letter_state state)
{
    struct cg_bytes item = cg_bytes_str(id);
    const struct cg_letter_ids ids = {.items = &item, .count = id == NULL ? 0 : 1};
    struct cg_error err = {0};
    uint64_t marked = 0;
    ck_assert_msg(cg_dead_letters_mark(&letters, &ids, state, &marked, &err), "%s", err.text);
    return marked;
}

static struct cg_letter_place places[16];
static struct cg_letters_taken taken;

static size_t take(size_t most)
{
    struct cg_error err = {0};
    if (taken.places == NULL) {
        cg_buf_init(&taken.text, 1 << 20);
        taken.places = places;
    }
    taken.count_max = most;
    ck_assert_msg(cg_dead_letters_take(&letters, 1 << 20, &taken, &err), "%s", err.text);
    return taken.count;
}

static bool settle(size_t first, size_t count, enum cg_letter_state state)
{
    struct cg_error err = {0};
    return cg_dead_letters_settle(&letters, &taken, first, count, state, &err);
}

static void end_taking(void)
{
    cg_buf_fini(&taken.text);
    taken = (struct cg_letters_taken){0};
    cg_dead_letters_close(&letters);
}

START_TEST(letters_go_from_marked_over_taken_to_gone)
{
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(5, &err), CG_KEEP_DONE);
    ck_assert_uint_eq(take(4), 0);
    ck_assert_uint_eq(mark("id-1", CG_LETTER_REDO), 5);
    ck_assert_str_eq(states(), "RRRRR");
    ck_assert_uint_eq(letters.replaying, 5);
    taken.from = 0;
    ck_assert_uint_eq(take(2), 2);
    ck_assert(settle(0, 1, CG_LETTER_SENT));
    ck_assert(settle(1, 1, CG_LETTER_KEPT));
    ck_assert_uint_eq(take(16), 3); /* goes on where it was */
    ck_assert_str_eq(states(), "SKRRR");
    ck_assert(settle(0, 3, CG_LETTER_SENT));
    ck_assert_uint_eq(take(16), 0);
    ck_assert_uint_eq(letters.letters, 1);
    ck_assert_uint_eq(letters.replaying, 0);

    ck_assert(cg_dead_letters_compact(&letters, &err));
    ck_assert_str_eq(states(), "K");
    ck_assert_int_eq(keep_batch(1, &err), CG_KEEP_DONE); /* to the new file */
    ck_assert_str_eq(states(), "KK");
    end_taking();
}
END_TEST

START_TEST(a_letter_that_is_dropped_while_it_is_sent_does_not_come_back)
{
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(2, &err), CG_KEEP_DONE);
    (void)mark(NULL, CG_LETTER_REDO);
    ck_assert_uint_eq(take(16), 2);
    ck_assert_uint_eq(mark(NULL, CG_LETTER_GONE), 2);
    ck_assert(settle(0, 1, CG_LETTER_KEPT)); /* refused again */
    ck_assert(settle(1, 1, CG_LETTER_SENT));
    ck_assert_str_eq(states(), "GG");
    ck_assert_uint_eq(letters.letters, 0);
    end_taking();
}
END_TEST

START_TEST(places_in_a_file_that_was_replaced_are_stale)
{
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(3, &err), CG_KEEP_DONE);
    (void)mark(NULL, CG_LETTER_REDO);
    ck_assert_uint_eq(take(2), 2);
    ck_assert(settle(0, 1, CG_LETTER_SENT));
    ck_assert(cg_dead_letters_compact(&letters, &err));
    ck_assert(!settle(1, 1, CG_LETTER_SENT));
    ck_assert_uint_eq(take(16), 2); /* from the beginning of the new one */
    ck_assert(settle(0, 2, CG_LETTER_SENT));
    end_taking();
}
END_TEST

START_TEST(what_a_killed_gateway_left_is_found_again)
{
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(4, &err), CG_KEEP_DONE);
    (void)mark(NULL, CG_LETTER_REDO);
    ck_assert_uint_eq(take(1), 1);
    ck_assert(settle(0, 1, CG_LETTER_SENT));
    end_taking(); /* as a kill would: nothing is written at the end */

    open_letters();
    ck_assert_str_eq(states(), "RRR"); /* what was sent is taken out */
    ck_assert_uint_eq(letters.letters, 3);
    ck_assert_uint_eq(letters.replaying, 3);
    ck_assert_uint_eq(take(16), 3);
    end_taking();
}
END_TEST

START_TEST(a_full_store_keeps_all_of_a_batch_or_none)
{
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(1, &err), CG_KEEP_DONE);
    uint64_t one = letters.bytes;
    cg_dead_letters_close(&letters);

    bytes_max = 3 * one;
    open_letters();
    ck_assert_int_eq(keep_batch(3, &err), CG_KEEP_FULL);
    ck_assert_ptr_nonnull(strstr(err.text, "full: 1 letters"));
    ck_assert_str_eq(states(), "K");
    ck_assert_int_eq(keep_batch(2, &err), CG_KEEP_DONE);
    ck_assert_int_eq(keep_batch(1, &err), CG_KEEP_FULL);
    ck_assert_uint_eq(letters.bytes, bytes_max);
    (void)mark(NULL, CG_LETTER_GONE);
    ck_assert_int_eq(keep_batch(3, &err), CG_KEEP_DONE); /* what is done with makes room */
    ck_assert_str_eq(states(), "KKK");
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(a_store_that_another_process_has_is_tried_again)
{
    struct cg_dead_letters other;
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(1, &err), CG_KEEP_DONE);
    ck_assert(cg_dead_letters_open(&other, path, "central", 0, &err)); /* no failure */
    const struct cg_letter_ids all = {0};
    uint64_t marked = 0;
    ck_assert(!cg_dead_letters_mark(&other, &all, CG_LETTER_GONE, &marked, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "another process has it"));
    cg_dead_letters_close(&letters);
    ck_assert(cg_dead_letters_mark(&other, &all, CG_LETTER_GONE, &marked, &err));
    ck_assert_uint_eq(marked, 1);
    cg_dead_letters_close(&other);
}
END_TEST

START_TEST(lines_that_are_no_letters_are_left_alone)
{
    static char before[300000], after[300000];
    struct cg_error err = {0};
    /* A line longer than any letter, in the middle. */
    memset(before, 'x', 200000);
    before[200000] = '\0';
    write_file("{\"time\":\"old\"}\nnonsense\n");
    {
        cg_auto_fclose FILE *file = fopen(path, "ae");
        ck_assert_int_ge(fprintf(file, "%s\n", before), 0);
    }
    open_letters();
    ck_assert_int_eq(keep_batch(2, &err), CG_KEEP_DONE);
    ck_assert_str_eq(states(), "???KK");
    ck_assert_uint_eq(letters.letters, 2);
    (void)mark(NULL, CG_LETTER_GONE);
    ck_assert(cg_dead_letters_compact(&letters, &err));
    ck_assert_str_eq(states(), "???");
    (void)read_file(after, sizeof(after));
    ck_assert_ptr_nonnull(strstr(after, before));
    ck_assert_uint_eq(strlen(after), letters.bytes);
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(a_state_that_a_power_cut_left_half_written_means_kept)
{
    struct cg_error err = {0};
    open_letters();
    ck_assert_int_eq(keep_batch(1, &err), CG_KEEP_DONE);
    ck_assert_int_eq(pwrite(letters.fd, "re", 2, CG_LETTER_STATE_OFFSET), 2);
    ck_assert_str_eq(states(), "K");
    ck_assert_uint_eq(mark(NULL, CG_LETTER_REDO), 1);
    ck_assert_str_eq(states(), "R");
    cg_dead_letters_close(&letters);
}
END_TEST

/* --- reading a line back --- */

START_TEST(a_letter_read_back_is_the_event_it_was)
{
    char text[4096];
    struct cg_json json;
    struct cg_letter letter;
    struct cg_error err = {0};
    const struct cg_event event = make_event();
    open_letters();
    ck_assert_int_eq(keep_batch(1, &err), CG_KEEP_DONE);
    cg_dead_letters_close(&letters);
    size_t len = read_file(text, sizeof(text));
    cg_letter_reader_init(&json);
    ck_assert_msg(cg_letter_read(&json, cg_bytes(text, len), &letter, &err), "%s", err.text);
    ck_assert(cg_bytes_equal(letter.event.bytes, event.bytes));
    ck_assert_uint_eq(letter.event.index, event.index);
    ck_assert_uint_eq(letter.event.meta.sequence, event.meta.sequence);
    ck_assert_uint_eq(letter.event.meta.received_ns, event.meta.received_ns);
    ck_assert_uint_eq(letter.event.meta.connection, event.meta.connection);
    ck_assert_uint_eq(letter.event.meta.pid, event.meta.pid);
    ck_assert_uint_eq(letter.event.meta.kind, event.meta.kind);
    ck_assert_uint_eq(letter.event.meta.severity, event.meta.severity);
    ck_assert_mem_eq(letter.event.meta.text, event.meta.text, sizeof(event.meta.text));
    ck_assert(cg_bytes_equal(letter.id, CG_BYTES("id-1")));

    /* Cut, or with anything changed, it is refused or read, and never read beyond. */
    for (size_t cut = 0; cut < len - 1; cut++) {
        cg_auto_free char *copy = malloc(cut + 1);
        memcpy(copy, text, cut);
        ck_assert(!cg_letter_read(&json, cg_bytes(copy, cut), &letter, &err));
    }
    static const struct {
        const char *from, *to;
    } changes[] = {
        {"\"spans\":[7,4,", "\"spans\":[9,99"},
        {"\"spans\":[7,4,", "\"spans\":[-1,4"},
        {"\"spans\"", "\"spams\""},
        {"\"kind\":1", "\"kind\":x"},
        {"\"pid\":3", "\"pid\":."},
        {"\"event\":{", "\"evenT\":{"},
        {"\"reason\"", "\"reasoN\""},
        {"\"index\":41", "\"index\":-1"},
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        cg_auto_free char *copy = strdup(text);
        char *at = strstr(copy, changes[i].from);
        ck_assert_ptr_nonnull(at);
        memcpy(at, changes[i].to, strlen(changes[i].to));
        ck_assert_msg(!cg_letter_read(&json, cg_bytes(copy, len), &letter, &err), "%s",
                      changes[i].to);
    }
    cg_json_fini(&json);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dead_letters");
    TCase *tests = tcase_create("dead_letters");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_letter_holds_the_answer_and_the_exact_event);
    tcase_add_test(tests, an_answer_that_is_not_utf8_is_made_safe);
    tcase_add_test(tests, the_worst_answer_still_fits);
    tcase_add_test(tests, the_file_is_private_and_grows);
    tcase_add_test(tests, an_unfinished_last_line_is_cut_off);
    tcase_add_test(tests, a_symbolic_link_is_refused);
    tcase_add_test(tests, a_letter_that_does_not_fit_leaves_nothing_behind);
    tcase_add_test(tests, a_file_that_was_moved_away_is_made_anew);
    tcase_add_test(tests, without_a_path_nothing_is_kept_and_nothing_fails);
    tcase_add_test(tests, letters_go_from_marked_over_taken_to_gone);
    tcase_add_test(tests, a_letter_that_is_dropped_while_it_is_sent_does_not_come_back);
    tcase_add_test(tests, places_in_a_file_that_was_replaced_are_stale);
    tcase_add_test(tests, what_a_killed_gateway_left_is_found_again);
    tcase_add_test(tests, a_full_store_keeps_all_of_a_batch_or_none);
    tcase_add_test(tests, a_store_that_another_process_has_is_tried_again);
    tcase_add_test(tests, lines_that_are_no_letters_are_left_alone);
    tcase_add_test(tests, a_state_that_a_power_cut_left_half_written_means_kept);
    tcase_add_test(tests, a_letter_read_back_is_the_event_it_was);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
