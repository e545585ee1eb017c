/*
 * test_damage.c - torn tails, flipped bits, and what is left in files that are used again.
 *
 * The rule for all of it: what comes out was put in, unchanged and in order; what is missing was
 * touched; and nothing fails to start.
 */
#include "spool_support.h"

#include "spool/record.h"
#include "spool/segment.h"

static struct cg_spool_config small_config(void)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 1024 * 1024;
    config.sync = CG_SPOOL_SYNC_NEVER;
    return config;
}

static size_t load(const char *path, char *out, size_t max)
{
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ssize_t n = read(fd, out, max);
    ck_assert_int_gt(n, 0);
    (void)close(fd);
    return (size_t)n;
}

static void store(const char *path, const char *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
    (void)close(fd);
}

static const char *segment_path(uint64_t first_index)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "/segments/%020" PRIu64 ".seg", first_index);
    return spool_path(name);
}

static void wipe(const char *subdir)
{
    DIR *dir = opendir(spool_path(subdir));
    if (dir != NULL) {
        for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
        }
        (void)closedir(dir);
    }
}

/* One segment with events 1 to count. */
static size_t make_segment(uint64_t count, char *out, size_t max)
{
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), 1, count, count);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
    return load(segment_path(1), out, max);
}

/* Reads all there is; checks each event; returns a bit for each sequence that came. */
static uint64_t read_all(struct cg_spool *spool, uint64_t *ret_last)
{
    struct cg_spool_reader *reader = open_reader(spool, "central");
    uint64_t seen = 0;
    uint64_t last = 0;
    for (;;) {
        struct cg_batch batch = peek(reader, 100, 1 << 20);
        if (batch.count == 0 && !cg_spool_reader_wait(reader, 1, 1, 0)) {
            break;
        }
        for (size_t i = 0; i < batch.count; i++) {
            check_event(&batch.events[i]);
            ck_assert_uint_gt(batch.events[i].meta.sequence, last);
            last = batch.events[i].meta.sequence;
            seen |= UINT64_C(1) << last;
        }
        cg_spool_reader_ack(reader, batch.count);
    }
    cg_spool_reader_close(reader);
    *ret_last = last;
    return seen;
}

START_TEST(a_torn_tail_is_cut_at_every_byte_and_appending_goes_on)
{
    enum { COUNT = 4 };
    static char whole[64 * 1024];
    size_t len = make_segment(COUNT, whole, sizeof(whole));
    struct cg_event_meta meta;
    char event[2048];
    size_t last_len = cg_record_bytes(render_event(event, "a", COUNT, &meta));
    struct cg_spool_config config = small_config();
    for (size_t cut = len - last_len; cut <= len; cut++) {
        /* By a shorter file, and by zeros as in a file that was made in full size. */
        for (unsigned zeros = 0; zeros < 2; zeros++) {
            char torn[64 * 1024] = {0};
            memcpy(torn, whole, cut);
            wipe("/segments");
            wipe("/positions");
            store(segment_path(1), torn, zeros ? sizeof(torn) : cut);
            struct cg_spool_recovery recovery;
            struct cg_spool *spool = open_spool(&config, &recovery);
            bool complete = cut == len;
            /* Padding at the end may be among the zeros anyway. */
            if (zeros && recovery.records == COUNT) {
                complete = memcmp(torn, whole, len) == 0;
                ck_assert(complete);
            }
            ck_assert_uint_eq(recovery.records, complete ? COUNT : COUNT - 1);
            ck_assert_uint_eq(recovery.next_index, recovery.records + 1);
            if (!zeros) {
                ck_assert_uint_eq(recovery.torn_bytes, complete ? 0 : cut - (len - last_len));
            } else if (!complete) {
                ck_assert_int_eq(recovery.torn_bytes > 0, cut > len - last_len);
            }
            struct cg_spool_run *run = open_run(spool, "a");
            ck_assert_uint_eq(cg_spool_run_sequence(run), recovery.records);
            struct cg_spool_writer *writer = open_writer(spool);
            append(writer, "a", run, recovery.records + 1, 6, 1);
            cg_spool_writer_close(writer);
            uint64_t last;
            ck_assert_uint_eq(read_all(spool, &last), 0x7e);
            cg_spool_close(spool);
        }
    }
}
END_TEST

START_TEST(no_flipped_bit_changes_an_event_or_stops_the_start)
{
    enum { COUNT = 3 };
    static char whole[64 * 1024];
    size_t len = make_segment(COUNT, whole, sizeof(whole));
    struct cg_spool_config config = small_config();
    const uint64_t all = 0x0e;
    unsigned lost_one = 0;
    for (size_t at = 0; at < len; at++) {
        char broken[64 * 1024];
        memcpy(broken, whole, len);
        broken[at] = (char)(broken[at] ^ (1 << (at % 8)));
        wipe("/segments");
        wipe("/positions");
        store(segment_path(1), broken, len);
        struct cg_spool_recovery recovery;
        struct cg_spool *spool = open_spool(&config, &recovery);
        uint64_t last;
        uint64_t seen = read_all(spool, &last);
        ck_assert_uint_eq(seen & ~all, 0);
        if (at < CG_SEGMENT_HEADER_BYTES) {
            ck_assert_uint_eq(recovery.damaged_segments, 1);
            ck_assert_uint_eq(seen, 0);
            ck_assert_uint_gt(recovery.next_index, COUNT); /* none is given out again */
            char aside[256];
            (void)snprintf(aside, sizeof(aside), "%s.damaged", segment_path(1));
            ck_assert_int_eq(access(aside, F_OK), 0);
        } else {
            int missing = __builtin_popcountll(all & ~seen);
            ck_assert_int_le(missing, 1);
            lost_one += (unsigned)missing;
        }
        cg_spool_close(spool);
    }
    ck_assert_uint_gt(lost_one, COUNT * CG_RECORD_HEADER_BYTES - 1);
}
END_TEST

START_TEST(damage_in_the_middle_is_passed_over_and_counted_once)
{
    enum { COUNT = 50 };
    static char whole[64 * 1024];
    size_t len = make_segment(COUNT, whole, sizeof(whole));
    memset(whole + len / 2, 0xa5, 1000);
    store(segment_path(1), whole, len);
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    /* Before the first has passed the damaged segment, which could then go. */
    struct cg_spool_reader *second = open_reader(spool, "second");
    append(writer, "a", open_run(spool, "a"), COUNT + 1, COUNT + 5, 1);
    uint64_t last;
    uint64_t seen = read_all(spool, &last);
    int missing = COUNT + 5 - __builtin_popcountll(seen);
    ck_assert_int_ge(missing, 1);
    ck_assert_int_le(missing, 13);
    ck_assert_uint_eq(last, COUNT + 5);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), (uint64_t)missing);
    uint64_t count = 0;
    for (struct cg_batch batch = peek(second, 7, 1 << 20); batch.count > 0;
         batch = peek(second, 7, 1 << 20)) {
        count += batch.count;
        cg_spool_reader_ack(second, batch.count);
    }
    ck_assert_uint_eq(count, (uint64_t)(COUNT + 5 - missing));
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), (uint64_t)missing);
    cg_spool_reader_close(second);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

/* Many lives of few files, then the state of a killed process: nothing cut, stale records behind
 * the end of the newest segment. */
START_TEST(records_of_an_earlier_life_are_not_taken_for_new)
{
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    uint64_t sequence = 1;
    for (; sequence <= 3000; sequence += 10) {
        append(writer, "a", run, sequence, sequence + 9, 10);
        expect(reader, sequence, sequence + 9);
    }
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    uint64_t first = 0;
    DIR *dir = opendir(spool_path("/segments"));
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        uint64_t index;
        if (cg_segment_parse_name(entry->d_name, &index) && index > first) {
            first = index;
        }
    }
    (void)closedir(dir);
    static char newest[64 * 1024];
    ck_assert_uint_eq(load(segment_path(first), newest, sizeof(newest)), sizeof(newest));
    ck_assert_int_ne(newest[sizeof(newest) - 2000], 0); /* there is something stale */
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);

    store(segment_path(first), newest, sizeof(newest));
    struct cg_spool_recovery recovery;
    spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.next_index, status.next_index);
    ck_assert_uint_eq(recovery.torn_bytes, 0);
    reader = open_reader(spool, "central");
    ck_assert_uint_eq(peek(reader, 1, 1).count, 0);
    run = open_run(spool, "a");
    ck_assert_uint_eq(cg_spool_run_sequence(run), 3000);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_file_whose_header_belongs_to_another_name_holds_nothing)
{
    static char whole[64 * 1024];
    size_t len = make_segment(3, whole, sizeof(whole));
    store(segment_path(700), whole, len);
    struct cg_spool_config config = small_config();
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.records, 3);
    ck_assert_uint_eq(recovery.damaged_segments, 0);
    ck_assert_int_ne(access(segment_path(700), F_OK), 0);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_damaged_position_repeats_and_skips_nothing)
{
    static char whole[64 * 1024];
    (void)make_segment(20, whole, sizeof(whole));
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, 12);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    char position[256];
    size_t len = load(spool_path("/positions/central"), position, sizeof(position));
    for (size_t at = 0; at < len; at++) {
        char broken[256];
        memcpy(broken, position, len);
        broken[at] = (char)(broken[at] ^ 0x10);
        store(spool_path("/positions/central"), broken, len);
        spool = open_spool(&config, NULL);
        reader = open_reader(spool, "central");
        ck_assert_uint_eq(peek(reader, 1, 1).events[0].index, 1);
        cg_spool_reader_close(reader);
        cg_spool_close(spool);
    }
    store(spool_path("/positions/central"), position, len);
    spool = open_spool(&config, NULL);
    reader = open_reader(spool, "central");
    expect(reader, 13, 20);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

/* --- each file, and what is told of it --- */

static struct cg_spool_notice last_of[CG_SPOOL_NOTICE_COUNT];
static unsigned notices[CG_SPOOL_NOTICE_COUNT];

static void keep_notice(void *context, const struct cg_spool_notice *notice)
{
    (void)context;
    last_of[notice->kind] = *notice;
    notices[notice->kind]++;
}

START_TEST(a_position_cut_at_any_length_or_flipped_anywhere_is_named_and_counted)
{
    static char whole[64 * 1024];
    (void)make_segment(20, whole, sizeof(whole));
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, 12);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    char position[256];
    size_t len = load(spool_path("/positions/central"), position, sizeof(position));
    config.notice = keep_notice;
    unsigned rounds = 0;
    for (size_t at = 0; at < 2 * len; at++) {
        char broken[256];
        memcpy(broken, position, len);
        if (at < len) {
            broken[at] = (char)(broken[at] ^ (1 << (at % 8)));
        }
        store(spool_path("/positions/central"), broken, at < len ? len : at - len);
        spool = open_spool(&config, NULL);
        reader = open_reader(spool, "central");
        expect(reader, 1, 12);
        cg_spool_reader_close(reader);
        cg_spool_close(spool);
        rounds++;
        ck_assert_uint_eq(notices[CG_SPOOL_POSITION_DAMAGED], rounds);
        ck_assert_str_eq(last_of[CG_SPOOL_POSITION_DAMAGED].name, "central");
        ck_assert_uint_eq(cg_metric_get(CG_SERIES_spool_damage_position), rounds);
    }
}
END_TEST

START_TEST(a_segment_cut_at_any_length_gives_what_is_whole_of_it)
{
    enum { COUNT = 5 };
    static char whole[64 * 1024];
    size_t len = make_segment(COUNT, whole, sizeof(whole));
    struct cg_spool_config config = small_config();
    config.notice = keep_notice;
    unsigned aside = 0;
    for (size_t cut = 0; cut < len; cut += 11) {
        wipe("/segments");
        wipe("/positions");
        store(segment_path(1), whole, cut);
        struct cg_spool_recovery recovery;
        struct cg_spool *spool = open_spool(&config, &recovery);
        uint64_t last;
        uint64_t seen = read_all(spool, &last);
        ck_assert_uint_eq(seen, (UINT64_C(1) << (last + 1)) - 2); /* 1 to last, none missing */
        /* Behind `reserved` there are zeros only, which nobody misses. */
        bool damaged = cut > 0 && cut < offsetof(struct cg_segment_header, reserved);
        aside += damaged ? 1 : 0;
        ck_assert_uint_eq(recovery.damaged_segments, damaged ? 1 : 0);
        cg_spool_close(spool);
        ck_assert_uint_eq(notices[CG_SPOOL_SEGMENT_DAMAGED], aside);
        ck_assert_uint_eq(cg_metric_get(CG_SERIES_spool_damage_segment), aside);
    }
    ck_assert_uint_eq(aside, 6);
}
END_TEST

START_TEST(a_damaged_segment_between_others_is_named_kept_and_counted_event_by_event)
{
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), 1, 400, 10);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
    uint64_t first[8] = {0};
    size_t count = 0;
    for (uint64_t index = 1; index <= 400 && count < 8; index++) {
        if (access(segment_path(index), F_OK) == 0) {
            first[count++] = index;
        }
    }
    ck_assert_uint_ge(count, 3);
    static char middle[64 * 1024];
    size_t len = load(segment_path(first[1]), middle, sizeof(middle));
    middle[20] ^= 1; /* its header */
    store(segment_path(first[1]), middle, len);
    char aside[256];
    (void)snprintf(aside, sizeof(aside), "%s.damaged", segment_path(first[1]));
    store(aside, "older", 5); /* not written over */
    config.notice = keep_notice;
    struct cg_spool_recovery recovery;
    spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.damaged_segments, 1);
    ck_assert_uint_eq(recovery.skipped_runs, 0); /* the newest is whole */
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, first[1] - 1);
    expect(reader, first[2], 400);
    uint64_t lost = first[2] - first[1];
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), lost);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    const struct cg_spool_notice *segment = &last_of[CG_SPOOL_SEGMENT_DAMAGED];
    ck_assert_uint_eq(segment->first, first[1]);
    ck_assert_uint_eq(segment->last, first[2] - 1);
    ck_assert_ptr_nonnull(strstr(segment->name, ".seg.damaged.1"));
    char kept[300];
    (void)snprintf(kept, sizeof(kept), "/segments/%s", segment->name);
    ck_assert_int_eq(access(spool_path(kept), F_OK), 0);
    const struct cg_spool_notice *events = &last_of[CG_SPOOL_EVENTS_DAMAGED];
    ck_assert_uint_eq(events->first, first[1]);
    ck_assert_uint_eq(events->last, first[2] - 1);
    ck_assert_uint_eq(events->count, lost);
}
END_TEST

START_TEST(numbers_are_not_used_again_after_the_newest_segment_was_set_aside)
{
    static char whole[64 * 1024];
    size_t len = make_segment(20, whole, sizeof(whole));
    whole[9] ^= 1;
    store(segment_path(1), whole, len);
    struct cg_spool_config config = small_config();
    uint64_t next_index = 0;
    for (unsigned start = 0; start < 3; start++) { /* also if nothing is appended in between */
        struct cg_spool_recovery recovery;
        struct cg_spool *spool = open_spool(&config, &recovery);
        ck_assert_uint_eq(recovery.damaged_segments, start == 0 ? 1 : 0);
        ck_assert_uint_gt(recovery.next_index, 20);
        ck_assert(start == 0 || recovery.next_index == next_index);
        next_index = recovery.next_index;
        if (start == 0) {
            struct cg_spool_run *run = open_run(spool, "a");
            ck_assert_uint_eq(cg_spool_run_sequence(run), 1 << 20);
        }
        cg_spool_close(spool);
    }
}
END_TEST

START_TEST(what_is_in_the_lock_file_does_not_matter_nor_what_else_lies_around)
{
    static char whole[64 * 1024];
    (void)make_segment(20, whole, sizeof(whole));
    store(spool_path("/lock"), "\x7f\x00garbage", 9);
    store(spool_path("/segments/README"), "text", 4);
    store(spool_path("/positions/.half"), "text", 4);
    ck_assert_int_eq(symlink("/etc/passwd", segment_path(500)), 0);
    struct cg_spool_config config = small_config();
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.damaged_segments, 1); /* the link */
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, 20);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(indices_are_not_given_out_again_when_all_segments_are_gone)
{
    static char whole[64 * 1024];
    (void)make_segment(20, whole, sizeof(whole));
    struct cg_spool_config config = small_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, 20);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    wipe("/segments");
    struct cg_spool_recovery recovery;
    spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.next_index, 21);
    cg_spool_close(spool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("damage");
    TCase *tcase = tcase_create("damage");
    tcase_add_checked_fixture(tcase, make_test_dir, remove_test_dir);
    tcase_set_timeout(tcase, 400);
    tcase_add_test(tcase, a_torn_tail_is_cut_at_every_byte_and_appending_goes_on);
    tcase_add_test(tcase, no_flipped_bit_changes_an_event_or_stops_the_start);
    tcase_add_test(tcase, damage_in_the_middle_is_passed_over_and_counted_once);
    tcase_add_test(tcase, records_of_an_earlier_life_are_not_taken_for_new);
    tcase_add_test(tcase, a_file_whose_header_belongs_to_another_name_holds_nothing);
    tcase_add_test(tcase, a_damaged_position_repeats_and_skips_nothing);
    tcase_add_test(tcase, a_position_cut_at_any_length_or_flipped_anywhere_is_named_and_counted);
    tcase_add_test(tcase, a_segment_cut_at_any_length_gives_what_is_whole_of_it);
    tcase_add_test(tcase,
                   a_damaged_segment_between_others_is_named_kept_and_counted_event_by_event);
    tcase_add_test(tcase, numbers_are_not_used_again_after_the_newest_segment_was_set_aside);
    tcase_add_test(tcase, what_is_in_the_lock_file_does_not_matter_nor_what_else_lies_around);
    tcase_add_test(tcase, indices_are_not_given_out_again_when_all_segments_are_gone);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
