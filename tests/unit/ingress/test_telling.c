/* What cells go through becomes events: a reader turned by hand, a fake clock, a real spool. */
#include "ingress/reader.h"

#include "unit/ingress/fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

static struct cg_ingress_shared shared;
static struct cg_reader *reader;
static struct cg_cell *cell;
static struct cg_channel *channel;
static uint64_t next_sequence; /* every number comes, in order */

static void pass_ms(uint64_t ms)
{
    fake_now_ns += ms * CG_NS_PER_MS;
}

static void start_reader(void)
{
    shared = (struct cg_ingress_shared){.log_limit = {.period_ns = CG_NS_PER_S, .burst = 0}};
    ck_assert(cg_reader_new(&config, &shared, envelope, key, spool, &reader, &err));
    const struct cg_listening none = {.fd = -1};
    cell = add_cell("cell-a", "/run/a");
    cell->registered_ns = fake_now_ns;
    channel = cg_channel_new(cell, reader, &none);
    cg_reader_adopt(reader, channel);
    next_sequence = 1;
}

static void set_up(void)
{
    set_up_common();
    config.boot_grace_ns = 60 * CG_NS_PER_S;
    start_reader();
}

static void tear_down(void)
{
    cg_reader_free(reader);
    if (channel != NULL) {
        cg_channel_free(channel);
    }
    tear_down_common();
}

static int connect_guest(void)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    struct cg_connection *connection = calloc(1, sizeof(*connection));
    connection->channel = channel;
    connection->fd = ends[0];
    connection->ordinal = ++cell->connections_opened;
    connection->state = CG_CONNECTION_OPEN;
    cg_list_init(&connection->in_channel);
    cg_list_init(&connection->in_draining);
    cell->connections++;
    shared.connections++;
    cg_reader_give(reader, connection);
    return ends[1];
}

static void turn(void)
{
    (void)cg_reader_turn(reader, 0);
    while (cg_reader_turn(reader, 0) > 0) {
    }
}

static void say_frames(int fd, unsigned count)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 16 << 20);
    for (unsigned i = 0; i < count; i++) {
        put_frame(&frames, i);
    }
    ck_assert_int_eq(send(fd, frames.data, frames.len, MSG_NOSIGNAL), (ssize_t)frames.len);
}

/* Whether an event's type ends in `name`, and its bytes hold `member`. */
static bool is_event(const struct cg_event *event, const char *name, const char *member)
{
    struct cg_bytes type = cg_event_get(event, CG_TEXT_TYPE);
    size_t len = strlen(name);
    return type.len >= len && memcmp(type.data + type.len - len, name, len) == 0 &&
           memmem(event->bytes.data, event->bytes.len, member, strlen(member)) != NULL;
}

/* The events since the last call are these, by name and member; sequences have no hole. */
struct expected {
    const char *name, *member;
};

static void expect_events(const struct expected *expected, size_t count)
{
    turn();
    struct cg_batch batch;
    (void)take_all_events(&batch);
    for (size_t i = 0; i < batch.count; i++) {
        ck_assert_uint_eq(batch.events[i].meta.sequence, next_sequence++);
        ck_assert_msg(i < count, "not expected: %.*s", CG_BYTES_ARG(batch.events[i].bytes));
        ck_assert_msg(is_event(&batch.events[i], expected[i].name, expected[i].member),
                      "not %s with %s: %.*s", expected[i].name, expected[i].member,
                      CG_BYTES_ARG(batch.events[i].bytes));
    }
    ck_assert_msg(batch.count == count, "%zu events, not %zu", batch.count, count);
}

#define EXPECT(...)                                                                                \
    do {                                                                                           \
        const struct expected those[] = {__VA_ARGS__};                                             \
        expect_events(those, sizeof(those) / sizeof(those[0]));                                    \
    } while (0)
#define EXPECT_NOTHING() expect_events(NULL, 0)

START_TEST(a_cell_without_any_connection_is_silent_after_grace_and_window)
{
    EXPECT_NOTHING();
    pass_ms(69999);
    EXPECT_NOTHING();
    ck_assert_int_eq(cg_cell_state(cell, fake_now_ns), CG_CELL_WAITING);
    pass_ms(1);
    EXPECT({"agent_silenced", "\"connectionState\":\"never\",\"elapsedMs\":10000,"});
    ck_assert_int_eq(cg_cell_state(cell, fake_now_ns), CG_CELL_SILENT);
    pass_ms(1000000);
    EXPECT_NOTHING();
}
END_TEST

START_TEST(a_silence_ends_with_the_first_frame)
{
    uint64_t silenced = cg_metric_get(CG_SERIES_agent_silenced);
    uint64_t resumed = cg_metric_get(CG_SERIES_agent_resumed);
    cg_auto_close int guest = connect_guest();
    (void)guest;
    EXPECT({"stream_opened", "\"connection\":1,"});
    say_frames(guest, 1);
    EXPECT({"process_spawned", ""});
    pass_ms(10000);
    EXPECT({"agent_silenced", "\"connectionState\":\"open\""});
    pass_ms(2500);
    say_frames(guest, 2);
    EXPECT({"process_spawned", ""}, {"process_spawned", ""},
           {"agent_resumed", "\"silentMs\":12500}"});
    pass_ms(20000); /* once a run and state */
    EXPECT_NOTHING();
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_agent_silenced), silenced + 1);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_agent_resumed), resumed + 1);
}
END_TEST

START_TEST(a_silence_with_an_open_connection_is_no_warning)
{
    cg_auto_close int guest = connect_guest();
    (void)guest;
    say_frames(guest, 1);
    turn();
    pass_ms(10000);
    turn();
    shutdown(guest, SHUT_WR);
    turn();
    pass_ms(10000);
    turn();
    struct cg_batch batch;
    (void)take_all_events(&batch);
    unsigned told = 0;
    for (size_t i = 0; i < batch.count; i++) {
        if (is_event(&batch.events[i], "agent_silenced", "")) {
            bool open = is_event(&batch.events[i], "", "\"connectionState\":\"open\"");
            ck_assert_int_eq(batch.events[i].meta.severity,
                             open ? CG_SEVERITY_INFO : CG_SEVERITY_WARN);
            told++;
        }
    }
    ck_assert_uint_eq(told, 2);
}
END_TEST

START_TEST(streams_open_and_close_with_what_they_brought)
{
    int guest = connect_guest();
    EXPECT({"stream_opened", "\"connection\":1,"});
    say_frames(guest, 1);
    close(guest);
    EXPECT({"process_spawned", ""},
           {"stream_closed", "\"frames\":1,\"host\":{\"cellId\":\"cell-a\",\"connection\":1,"});
}
END_TEST

START_TEST(a_loop_of_connections_is_counted_and_not_told)
{
    uint64_t suppressed = cg_metric_get(CG_SERIES_stream_events_suppressed);
    for (unsigned i = 0; i < 200; i++) {
        close(connect_guest());
        turn();
    }
    struct cg_batch batch;
    ck_assert_uint_eq(take_all_events(&batch), CG_LIFE_STREAMS_MAX);
    next_sequence += CG_LIFE_STREAMS_MAX;
    pass_ms(9999);
    EXPECT_NOTHING();
    pass_ms(1);
    /* 400 in all: 10 told, this one, and what it counts. */
    EXPECT({"stream_closed", "\"suppressed\":389}"});
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_stream_events_suppressed), suppressed + 389);
}
END_TEST

START_TEST(refused_frames_and_connections_are_told_once_in_ten_seconds)
{
    cg_auto_close int guest = connect_guest();
    (void)guest;
    ck_assert_int_eq(send(guest, "\0\0\0\0", 4, 0), 4);
    EXPECT({"stream_opened", ""}, {"stream_closed", "\"reason\":\"wire_error\""},
           {"telemetry.dropped", "\"drops\":{\"wire_error\":{\"count\":1}},"});
    for (unsigned i = 0; i < 3; i++) {
        cg_reader_note_refused(reader, channel, CG_CONNECT_CAP);
    }
    cg_reader_note_refused(reader, channel, CG_CONNECT_DESCRIPTORS);
    pass_ms(9999);
    EXPECT_NOTHING();
    pass_ms(1);
    EXPECT({"telemetry.dropped",
            "\"drops\":{\"connection_cap\":{\"count\":3},\"descriptors\":{\"count\":1}},"});
}
END_TEST

START_TEST(a_cell_over_its_rate_for_longer_than_its_window_is_paused)
{
    config.frames_per_second = 10;
    config.frames_burst = 1;
    cg_reader_free(reader);
    cg_channel_free(channel);
    cg_registry_free(registry);
    ck_assert(cg_registry_new(spool, 1, 100 * CG_NS_PER_MS, &registry, &err));
    start_reader();
    cg_auto_close int guest = connect_guest();
    (void)guest;
    turn();
    say_frames(guest, 101); /* ten seconds' worth of debt */
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_all_events(&batch), 102);
    next_sequence += 102;
    for (unsigned i = 0; i < 9; i++) {
        pass_ms(10);
        EXPECT_NOTHING();
    }
    pass_ms(10);
    EXPECT({"paused", "\"pausedMs\":100,\"provenance\":\"observed\",\"reason\":\"rate\""});
    pass_ms(5000);
    EXPECT_NOTHING(); /* and no silence: it is we who do not read */
    pass_ms(5000);
    EXPECT({"unpaused", "\"pausedMs\":10100,"});
    pass_ms(100);
    EXPECT({"agent_silenced", "\"elapsedMs\":100,"});
}
END_TEST

/* --- the end of a run --- */

struct forgetting {
    uint64_t deadline_ns;
    struct cg_run_totals totals;
    bool appended;
    _Atomic bool done;
};

static void *forget(void *context)
{
    struct forgetting *forgetting = context;
    forgetting->appended =
        cg_reader_forget(reader, channel, forgetting->deadline_ns, &forgetting->totals);
    forgetting->done = true;
    return NULL;
}

static void forget_now(struct forgetting *forgetting)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, forget, forgetting), 0);
    while (!forgetting->done) {
        (void)cg_reader_turn(reader, 0);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    channel = NULL;
}

START_TEST(the_end_of_a_run_takes_what_was_sent_and_is_its_last_event)
{
    cg_auto_close int guest = connect_guest();
    (void)guest;
    cg_auto_close int idle = connect_guest();
    (void)idle;
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_all_events(&batch), 2);
    next_sequence += 2;
    say_frames(guest, 2);
    struct forgetting forgetting = {.deadline_ns = fake_now_ns + CG_NS_PER_S};
    forget_now(&forgetting);
    ck_assert(forgetting.appended);
    ck_assert_uint_eq(forgetting.totals.frames, 2);
    ck_assert_uint_eq(forgetting.totals.last_sequence, 7);
    EXPECT({"process_spawned", ""}, {"process_spawned", ""}, {"stream_closed", "\"frames\":2,"},
           {"stream_closed", "\"reason\":\"deregistered\""},
           {"run_ended", "\"lastSequence\":7,\"provenance\":\"observed\",\"runId\":\"run-1\","
                         "\"silences\":0}"});
}
END_TEST

START_TEST(the_end_of_a_run_tells_what_limits_held_back)
{
    for (unsigned i = 0; i < 2; i++) {
        cg_auto_close int guest = connect_guest();
        (void)guest;
        ck_assert_int_eq(send(guest, "\0\0\0\0", 4, 0), 4);
        turn();
    }
    EXPECT({"stream_opened", ""}, {"stream_closed", ""}, {"telemetry.dropped", ""},
           {"stream_opened", ""}, {"stream_closed", ""});
    struct forgetting forgetting = {.deadline_ns = fake_now_ns + CG_NS_PER_S};
    forget_now(&forgetting);
    ck_assert(forgetting.appended);
    EXPECT({"telemetry.dropped", "{\"wire_error\":{\"count\":1}}"}, {"run_ended", "\"drops\":2,"});
}
END_TEST

START_TEST(a_guest_that_floods_does_not_hold_up_its_end)
{
    cg_auto_close int guest = connect_guest();
    (void)guest;
    turn();
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 1 << 20);
    while (frames.len < 500000) {
        put_frame(&frames, 1);
    }
    ssize_t held = send(guest, frames.data, frames.len, MSG_NOSIGNAL);
    ck_assert_int_gt(held, 0);
    struct forgetting forgetting = {.deadline_ns = fake_now_ns + CG_NS_PER_S};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, forget, &forgetting), 0);
    size_t said = (size_t)held;
    while (!forgetting.done) { /* its writes go on, and make no difference */
        ssize_t more = send(guest, frames.data + said % 1000, 1000, MSG_NOSIGNAL);
        said += more > 0 ? (size_t)more : 0;
        (void)cg_reader_turn(reader, 0);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    channel = NULL;
    ck_assert(forgetting.appended);
    ck_assert_uint_gt(forgetting.totals.frames, 0);
    ck_assert_uint_lt(forgetting.totals.bytes, said + 1);
}
END_TEST

START_TEST(whoever_ends_a_run_has_totals_also_from_a_reader_that_is_held_up)
{
    struct forgetting forgetting = {.deadline_ns = fake_now_ns};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, forget, &forgetting), 0);
    uint64_t drops = 0;
    while (!forgetting.done) { /* it counts, and comes to no turn */
        cg_life_drop(&channel->life, CG_DROP_PEER, 1);
        drops++;
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(!forgetting.appended);
    ck_assert_uint_gt(forgetting.totals.drops, 0);
    ck_assert_uint_le(forgetting.totals.drops, drops);
    channel = NULL;
    turn(); /* it is late, but not lost */
    struct cg_batch batch;
    ck_assert_uint_eq(take_all_events(&batch), 2);
    ck_assert(is_event(&batch.events[1], "run_ended", "\"lastSequence\":2,"));
}
END_TEST

START_TEST(a_drain_tells_what_limits_held_back_and_ends_no_run)
{
    for (unsigned i = 0; i < 20; i++) {
        close(connect_guest());
        turn();
    }
    struct cg_batch batch;
    ck_assert_uint_eq(take_all_events(&batch), CG_LIFE_STREAMS_MAX);
    next_sequence += CG_LIFE_STREAMS_MAX;
    cg_auto_close int guest = connect_guest();
    (void)guest;
    cg_reader_drain(reader, fake_now_ns + CG_NS_PER_S);
    EXPECT({"stream_closed", "\"reason\":\"shutdown\",\"runId\":\"run-1\",\"suppressed\":31}"});
}
END_TEST

/* --- a spool that is full --- */

static void start_with_small_spool(void)
{
    cg_reader_free(reader);
    cg_channel_free(channel);
    close_spool();
    open_spool(4 << 20);
    start_reader();
}

/* Sends until the spool is full and the cell is not read any more. */
static void fill_spool(int guest)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 16 << 20);
    for (unsigned i = 0; i < 20000; i++) {
        put_frame(&frames, i);
    }
    size_t said = 0;
    for (unsigned round = 0; cg_cell_state(cell, fake_now_ns) != CG_CELL_PAUSED; round++) {
        ck_assert_uint_lt(round, 100000);
        ssize_t sent = send(guest, frames.data + said, frames.len - said, MSG_NOSIGNAL);
        said += sent > 0 ? (size_t)sent : 0;
        (void)cg_reader_turn(reader, 0);
    }
}

static bool spool_knows_the_run(void)
{
    uint64_t index;
    return cg_spool_run_last_index(spool, CG_BYTES("cell-a"), CG_BYTES("run-1"), &index);
}

START_TEST(a_run_is_ended_in_the_spool_only_behind_its_last_event)
{
    start_with_small_spool();
    cg_auto_close int guest = connect_guest();
    (void)guest;
    fill_spool(guest);
    struct forgetting forgetting = {.deadline_ns = fake_now_ns};
    forget_now(&forgetting);
    ck_assert(!forgetting.appended);
    cg_registry_remove(registry, cell);
    ck_assert(spool_knows_the_run()); /* events of it are staged */
    unsigned ended = 0;
    for (unsigned round = 0; ended == 0 || spool_knows_the_run(); round++) {
        ck_assert_uint_lt(round, 1000);
        struct cg_batch batch;
        size_t taken = take_all_events(&batch);
        ended += taken > 0 && is_event(&batch.events[taken - 1], "run_ended", "");
        pass_ms(25);
        (void)cg_reader_turn(reader, 0);
    }
    ck_assert_uint_eq(ended, 1);
}
END_TEST

START_TEST(a_full_spool_pauses_the_cell_and_loses_no_event)
{
    start_with_small_spool();
    cg_auto_close int guest = connect_guest();
    (void)guest;
    fill_spool(guest);
    pass_ms(10000);
    (void)cg_reader_turn(reader, 0);
    close(connect_guest()); /* comes and goes while nothing is read */
    (void)cg_reader_turn(reader, 0);
    unsigned paused = 0, unpaused = 0, silenced = 0, opened = 0, closed = 0;
    for (unsigned round = 0; round < 1000; round++) {
        struct cg_batch batch;
        (void)take_all_events(&batch);
        for (size_t i = 0; i < batch.count; i++) {
            const struct cg_event *event = &batch.events[i];
            ck_assert_uint_eq(event->meta.sequence, next_sequence++);
            unpaused += is_event(event, ".unpaused", "\"reason\":\"spool\"");
            paused += is_event(event, ".paused", "\"reason\":\"spool\"");
            silenced += is_event(event, "agent_silenced", "");
            opened += is_event(event, "stream_opened", "");
            closed += is_event(event, "stream_closed", "");
        }
        pass_ms(25);
        (void)cg_reader_turn(reader, 0);
    }
    ck_assert_uint_eq(paused, 1);
    ck_assert_uint_eq(unpaused, 1);
    ck_assert_uint_eq(opened, 2);
    ck_assert_uint_eq(closed, 1);
    ck_assert_uint_eq(silenced, 1); /* of the idle guest, at last */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("telling");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_cell_without_any_connection_is_silent_after_grace_and_window);
    tcase_add_test(tcase, a_silence_ends_with_the_first_frame);
    tcase_add_test(tcase, a_silence_with_an_open_connection_is_no_warning);
    tcase_add_test(tcase, streams_open_and_close_with_what_they_brought);
    tcase_add_test(tcase, a_loop_of_connections_is_counted_and_not_told);
    tcase_add_test(tcase, refused_frames_and_connections_are_told_once_in_ten_seconds);
    tcase_add_test(tcase, a_cell_over_its_rate_for_longer_than_its_window_is_paused);
    tcase_add_test(tcase, the_end_of_a_run_takes_what_was_sent_and_is_its_last_event);
    tcase_add_test(tcase, the_end_of_a_run_tells_what_limits_held_back);
    tcase_add_test(tcase, a_guest_that_floods_does_not_hold_up_its_end);
    tcase_add_test(tcase, whoever_ends_a_run_has_totals_also_from_a_reader_that_is_held_up);
    tcase_add_test(tcase, a_drain_tells_what_limits_held_back_and_ends_no_run);
    tcase_add_test(tcase, a_run_is_ended_in_the_spool_only_behind_its_last_event);
    tcase_add_test(tcase, a_full_spool_pauses_the_cell_and_loses_no_event);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
