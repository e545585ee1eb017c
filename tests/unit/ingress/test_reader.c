/* A reader that is turned by hand, with a fake clock, and socket pairs as guests. */
#include "ingress/reader.h"

#include "unit/ingress/fixture.h"

#include <errno.h>
#include <sys/socket.h>

static void pass_ms(uint64_t ms)
{
    fake_now_ns += ms * CG_NS_PER_MS;
}

static void expect_text(const struct cg_event *event, enum cg_event_text which, const char *text)
{
    ck_assert_msg(cg_bytes_equal(cg_event_get(event, which), cg_bytes_str(text)), "%.*s, not %s",
                  CG_BYTES_ARG(cg_event_get(event, which)), text);
}

static struct cg_ingress_shared shared;
static struct cg_reader *reader;
static struct cg_cell *cell_a, *cell_b;
static struct cg_channel *channel_a, *channel_b;

static void start_reader(void)
{
    shared = (struct cg_ingress_shared){.log_limit = {.period_ns = CG_NS_PER_S, .burst = 0}};
    ck_assert_msg(cg_reader_new(&config, &shared, envelope, key, spool, &reader, &err), "%s",
                  err.text);
    const struct cg_listening none = {.fd = -1};
    cell_a = add_cell("cell-a", "/run/a");
    cell_b = add_cell("cell-b", "/run/b");
    channel_a = cg_channel_new(cell_a, reader, &none);
    channel_b = cg_channel_new(cell_b, reader, &none);
}

static void stop_reader(void)
{
    cg_reader_free(reader);
    cg_channel_free(channel_a);
    cg_channel_free(channel_b);
}

static void set_up(void)
{
    set_up_common();
    start_reader();
}

static void tear_down(void)
{
    stop_reader();
    tear_down_common();
}

/* The reader, with another configuration, over another spool. */
static void restart_reader(uint64_t spool_bytes_max)
{
    stop_reader();
    close_spool();
    open_spool(spool_bytes_max);
    start_reader();
}

/* What the acceptor does: returns the guest's end. */
static int connect_to(struct cg_channel *channel)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    struct cg_connection *connection = calloc(1, sizeof(*connection));
    connection->channel = channel;
    connection->fd = ends[0];
    connection->ordinal = ++channel->cell->connections_opened;
    connection->state = CG_CONNECTION_OPEN;
    cg_list_init(&connection->in_channel);
    cg_list_init(&connection->in_draining);
    channel->cell->connections++;
    shared.connections++;
    cg_reader_give(reader, connection);
    return ends[1];
}

/* Turns until there is nothing to do at this moment. */
static void turn(void)
{
    (void)cg_reader_turn(reader, 0); /* takes up new connections */
    while (cg_reader_turn(reader, 0) > 0) {
    }
}

static void say(int fd, struct cg_bytes bytes)
{
    for (unsigned tries = 0; bytes.len > 0; tries++) {
        ssize_t sent = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (sent < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            ck_assert_uint_lt(tries, 100000);
            turn();
            continue;
        }
        bytes = cg_bytes(bytes.data + sent, bytes.len - (size_t)sent);
    }
}

static void say_frames(int fd, unsigned count)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 16 << 20);
    for (unsigned i = 0; i < count; i++) {
        put_frame(&frames, i);
    }
    say(fd, cg_buf_bytes(&frames));
}

static bool has_ended(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

START_TEST(a_frame_becomes_an_event_with_the_hosts_stamp)
{
    cg_auto_close int guest = connect_to(channel_a);
    say_frames(guest, 1);
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 1);
    const struct cg_event *event = &batch.events[0];
    expect_text(event, CG_TEXT_CELL, "cell-a");
    expect_text(event, CG_TEXT_RUN, "run-1");
    expect_text(event, CG_TEXT_COMM, "curl");
    ck_assert_uint_eq(event->meta.kind, CG_EVENT_GUEST);
    ck_assert_uint_eq(event->meta.sequence, 2); /* stream_opened is the first */
    ck_assert_uint_eq(event->meta.connection, 1);
    ck_assert_uint_eq(event->meta.received_ns, fake_now_ns);
    ck_assert_uint_eq(cell_a->frames, 1);
    ck_assert_uint_eq(cell_a->sequence, 2);
    ck_assert_uint_eq(cell_a->last_frame_ns, fake_now_ns);
}
END_TEST

START_TEST(a_stream_may_be_cut_at_every_byte)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 4096);
    put_frame(&frames, 1);
    put_frame(&frames, 2);
    const size_t len = frames.len;
    cg_auto_close int guest = connect_to(channel_a);
    for (size_t cut = 1; cut < len; cut++) {
        say(guest, cg_bytes(frames.data, cut));
        turn();
        say(guest, cg_bytes(frames.data + cut, len - cut));
        turn();
        struct cg_batch batch;
        size_t in_two_turns = take_events(&batch);
        ck_assert_msg(in_two_turns == 2, "cut at %zu: %zu events", cut, in_two_turns);
        ck_assert_uint_eq(batch.events[0].meta.pid, 1);
        ck_assert_uint_eq(batch.events[1].meta.pid, 2);
        ck_assert_uint_eq(batch.events[1].meta.sequence, 1 + 2 * cut);
    }
    ck_assert_uint_eq(channel_a->partial_bytes, 0);
}
END_TEST

START_TEST(a_frame_may_come_byte_by_byte)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 4096);
    put_frame(&frames, 1);
    put_frame(&frames, 2);
    cg_auto_close int guest = connect_to(channel_a);
    for (size_t i = 0; i < frames.len; i++) {
        say(guest, cg_bytes(frames.data + i, 1));
        turn();
    }
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 2);
    ck_assert_uint_eq(channel_a->partial_bytes, 0);
}
END_TEST

START_TEST(many_frames_come_in_one_read)
{
    cg_auto_close int guest = connect_to(channel_a);
    say_frames(guest, 20000);
    turn();
    uint64_t sequence = 0;
    struct cg_batch batch;
    while (take_events(&batch) > 0) {
        for (size_t i = 0; i < batch.count; i++) {
            ck_assert_uint_eq(batch.events[i].meta.pid, sequence++);
            ck_assert_uint_eq(batch.events[i].meta.sequence, 1 + sequence);
        }
    }
    ck_assert_uint_eq(sequence, 20000);
    ck_assert_uint_eq(cell_a->frames, 20000);
}
END_TEST

START_TEST(the_largest_frame_passes)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 1 << 20);
    put_frame_of(&frames, 1, 7, "x", NULL);
    char comm[CG_FRAME_BODY_BYTES_MAX];
    /* As long as a comm can be with a body of exactly the limit: two more bytes of length. */
    size_t len = CG_FRAME_BODY_BYTES_MAX - (frames.len - CG_FRAME_PREFIX_BYTES) - 2 + 1;
    memset(comm, 'y', len);
    comm[len] = '\0';
    cg_buf_clear(&frames);
    put_frame_of(&frames, 1, 7, comm, NULL);
    ck_assert_uint_eq(frames.len, CG_FRAME_PREFIX_BYTES + CG_FRAME_BODY_BYTES_MAX);
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, cg_bytes(frames.data, frames.len - 1));
    turn();
    ck_assert_uint_eq(cell_a->frames, 0);
    say(guest, cg_bytes(frames.data + frames.len - 1, 1));
    turn();
    ck_assert_uint_eq(cell_a->frames, 1);
}
END_TEST

START_TEST(what_a_guest_says_of_its_identity_is_ignored)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 4096);
    put_frame_of(&frames, 1, 7, "curl", "somebody-else");
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, cg_buf_bytes(&frames));
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 1);
    expect_text(&batch.events[0], CG_TEXT_CELL, "cell-a");
    ck_assert_ptr_null(memmem(batch.events[0].bytes.data, batch.events[0].bytes.len,
                              "somebody-else", strlen("somebody-else")));
}
END_TEST

START_TEST(a_wire_error_closes_that_connection_and_nothing_else)
{
    uint64_t malformed = cg_metric_get(CG_SERIES_frames_rejected_malformed);
    uint64_t closed = cg_metric_get(CG_SERIES_connections_closed_wire_error);
    cg_auto_close int bad = connect_to(channel_a);
    cg_auto_close int same_cell = connect_to(channel_a);
    cg_auto_close int other_cell = connect_to(channel_b);
    say_frames(bad, 2);
    say(bad, CG_BYTES("\x01\x00\x00\x00\x1c"));
    say_frames(bad, 3); /* behind the error there is no stream any more */
    say_frames(same_cell, 1);
    say_frames(other_cell, 1);
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 4);
    ck_assert_uint_eq(cell_a->frames, 3);
    ck_assert_uint_eq(cell_a->frames_rejected, 1);
    ck_assert_uint_eq(cell_a->connections, 1);
    ck_assert_uint_eq(cell_b->connections, 1);
    ck_assert(has_ended(bad));
    ck_assert(!has_ended(same_cell));
    ck_assert(!has_ended(other_cell));
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_frames_rejected_malformed), malformed + 1);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_wire_error), closed + 1);
    say_frames(same_cell, 1);
    turn();
    ck_assert_uint_eq(cell_a->frames, 4);
}
END_TEST

static const struct bad_length {
    struct cg_bytes prefix;
} bad_lengths[] = {
    {CG_BYTES("\x00\x00\x00\x00")},
    {CG_BYTES("\x01\x00\x01\x00")},
    {CG_BYTES("\xff\xff\xff\xff")},
};

START_TEST(a_bad_length_is_refused_before_its_body)
{
    uint64_t refused = cg_metric_get(CG_SERIES_frames_rejected_length);
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, bad_lengths[_i].prefix);
    turn();
    ck_assert(has_ended(guest));
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_frames_rejected_length), refused + 1);
}
END_TEST

START_TEST(an_unsupported_version_closes_with_its_own_reason)
{
    uint64_t closed = cg_metric_get(CG_SERIES_connections_closed_unsupported_version);
    uint64_t refused = cg_metric_get(CG_SERIES_frames_rejected_unsupported_version);
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 4096);
    put_frame_of(&frames, 0x100, 7, "curl", NULL);
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, cg_buf_bytes(&frames));
    turn();
    ck_assert(has_ended(guest));
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_unsupported_version), closed + 1);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_frames_rejected_unsupported_version), refused + 1);
}
END_TEST

START_TEST(an_end_between_frames_is_clean_and_one_inside_is_not)
{
    uint64_t truncated = cg_metric_get(CG_SERIES_frames_rejected_truncated);
    uint64_t clean = cg_metric_get(CG_SERIES_connections_closed_eof);
    int guest = connect_to(channel_a);
    say_frames(guest, 1);
    (void)close(guest);
    turn();
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_eof), clean + 1);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_frames_rejected_truncated), truncated);
    ck_assert_uint_eq(cell_a->connections, 0);

    guest = connect_to(channel_a);
    say(guest, CG_BYTES("\x10"));
    (void)close(guest);
    turn();
    guest = connect_to(channel_a);
    say(guest, CG_BYTES("\x10\x00\x00\x00\xa5"));
    (void)close(guest);
    turn();
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_eof), clean + 1);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_frames_rejected_truncated), truncated + 2);
    ck_assert_uint_eq(cell_a->frames_rejected, 2);
    ck_assert_uint_eq(channel_a->partial_bytes, 0);
}
END_TEST

START_TEST(the_ordinal_of_the_connection_is_on_its_events)
{
    cg_auto_close int first = connect_to(channel_a);
    cg_auto_close int second = connect_to(channel_a);
    say_frames(second, 1);
    turn();
    say_frames(first, 1);
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 2);
    ck_assert_uint_eq(batch.events[0].meta.connection, 2);
    ck_assert_uint_eq(batch.events[1].meta.connection, 1);
}
END_TEST

START_TEST(sequence_and_ordinal_go_on_when_the_run_is_taken_up_again)
{
    cg_auto_close int guest = connect_to(channel_a);
    say_frames(guest, 5);
    turn();
    stop_reader();
    cg_registry_free(registry);
    ck_assert(cg_registry_new(spool, 1, CG_NS_PER_S, &registry, &err));
    start_reader();
    ck_assert_uint_eq(cell_a->sequence, 6); /* with stream_opened */
    cg_auto_close int again = connect_to(channel_a);
    say_frames(again, 1);
    turn();
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 6);
    ck_assert_uint_eq(batch.events[5].meta.sequence, 8);
    ck_assert_uint_eq(batch.events[5].meta.connection, 2);
}
END_TEST

/* --- the end of a connection from our side --- */

START_TEST(what_is_still_sent_after_a_wire_error_is_read_and_discarded)
{
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, CG_BYTES("\x00\x00\x00\x00"));
    turn();
    ck_assert(has_ended(guest));
    ck_assert_uint_eq(shared.draining, 1);
    say_frames(guest, 10);
    turn();
    ck_assert_uint_eq(cell_a->frames, 0);
    ck_assert_int_eq(shutdown(guest, SHUT_WR), 0);
    turn();
    ck_assert_uint_eq(shared.draining, 0);
}
END_TEST

START_TEST(a_guest_that_does_not_end_is_left_after_the_drain_time)
{
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, CG_BYTES("\x00\x00\x00\x00"));
    turn();
    pass_ms(1999);
    turn();
    ck_assert_uint_eq(shared.draining, 1);
    pass_ms(1);
    turn();
    ck_assert_uint_eq(shared.draining, 0);
    ck_assert_int_eq(send(guest, "x", 1, MSG_NOSIGNAL), -1);
}
END_TEST

START_TEST(a_guest_that_sends_without_end_is_left_after_a_mebibyte)
{
    cg_auto_close int guest = connect_to(channel_a);
    say(guest, CG_BYTES("\x00\x00\x00\x00"));
    turn();
    static const char noise[65536];
    size_t sent = 0;
    for (ssize_t got = 0; got >= 0 || errno == EAGAIN; turn()) {
        got = send(guest, noise, sizeof(noise), MSG_NOSIGNAL);
        sent += got > 0 ? (size_t)got : 0;
        ck_assert_uint_lt(sent, 4 << 20);
    }
    ck_assert_uint_ge(sent, 1 << 20);
    ck_assert_uint_eq(shared.draining, 0);
}
END_TEST

START_TEST(a_cell_has_one_draining_connection_the_next_is_closed_at_once)
{
    cg_auto_close int first = connect_to(channel_a);
    cg_auto_close int second = connect_to(channel_a);
    say(first, CG_BYTES("\x00\x00\x00\x00"));
    say(second, CG_BYTES("\x00\x00\x00\x00"));
    turn();
    ck_assert_uint_eq(shared.draining, 1);
    ck_assert_uint_eq(cell_a->connections, 0);
    ck_assert(has_ended(first) && has_ended(second));
}
END_TEST

/* --- limits --- */

START_TEST(beyond_the_ceiling_the_cell_holding_most_loses_its_oldest_partial_frame)
{
    config.partial_bytes_max = 4096;
    restart_reader(64 << 20);
    uint64_t stalled = cg_metric_get(CG_SERIES_connections_closed_stalled);
    static const char begun[1004] = "\xff\xff\x00\x00";
    cg_auto_close int innocent = connect_to(channel_b);
    cg_auto_close int oldest = connect_to(channel_a);
    cg_auto_close int middle = connect_to(channel_a);
    cg_auto_close int newest = connect_to(channel_a);
    say(innocent, cg_bytes(begun, sizeof(begun)));
    turn();
    say(oldest, cg_bytes(begun, sizeof(begun)));
    turn();
    say(middle, cg_bytes(begun, sizeof(begun)));
    turn();
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_stalled), stalled);
    say(newest, cg_bytes(begun, sizeof(begun)));
    say(newest, cg_bytes(begun, sizeof(begun)));
    turn();
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_stalled), stalled + 1);
    ck_assert(has_ended(oldest));
    ck_assert(!has_ended(middle) && !has_ended(newest) && !has_ended(innocent));
}
END_TEST

START_TEST(a_frame_begun_must_end_in_time)
{
    uint64_t stalled = cg_metric_get(CG_SERIES_connections_closed_stalled);
    cg_auto_close int slow = connect_to(channel_a);
    cg_auto_close int silent = connect_to(channel_a);
    say(slow, CG_BYTES("\x10"));
    turn();
    for (unsigned s = 1; s < 30; s++) {
        pass_ms(1000);
        say(slow, s < 4 ? CG_BYTES("\0") : CG_BYTES("\xa5"));
        turn();
        if (s == 18) {
            break; /* one byte short of the frame */
        }
    }
    pass_ms(11999);
    turn();
    ck_assert(!has_ended(slow));
    pass_ms(1);
    turn();
    ck_assert(has_ended(slow));
    ck_assert(!has_ended(silent));
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_stalled), stalled + 1);
}
END_TEST

START_TEST(a_cell_over_its_rate_waits_and_loses_nothing)
{
    config.frames_per_second = 1000;
    config.frames_burst = 10;
    restart_reader(64 << 20);
    uint64_t paused = cg_metric_get(CG_SERIES_ingress_paused_rate);
    cg_auto_close int flood = connect_to(channel_a);
    cg_auto_close int calm = connect_to(channel_b);
    say_frames(flood, 110); /* a debt of 100 ms */
    turn();
    ck_assert_uint_eq(cell_a->frames, 110);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_ingress_paused_rate), paused + 1);
    ck_assert_int_eq(cg_cell_state(cell_a, fake_now_ns), CG_CELL_PAUSED);
    say_frames(flood, 5);
    say_frames(calm, 5);
    for (unsigned ms = 10; ms < 100; ms += 10) {
        pass_ms(10);
        turn();
        ck_assert_uint_eq(cell_a->frames, 110);
    }
    ck_assert_uint_eq(cell_b->frames, 5);
    pass_ms(10);
    turn();
    ck_assert_uint_eq(cell_a->frames, 115);
    pass_ms(1000);
    turn();
    ck_assert_int_eq(cg_cell_state(cell_a, fake_now_ns), CG_CELL_LIVE);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_ingress_paused_rate), paused + 2);
}
END_TEST

START_TEST(a_frame_begun_does_not_age_while_its_cell_is_not_read)
{
    config.frames_per_second = 1;
    config.frames_burst = 1;
    restart_reader(64 << 20);
    cg_auto_close int guest = connect_to(channel_a);
    say_frames(guest, 101); /* a debt of 100 s */
    say(guest, CG_BYTES("\x10"));
    turn();
    for (unsigned s = 0; s < 99; s++) {
        pass_ms(1000);
        turn();
    }
    ck_assert(!has_ended(guest));
}
END_TEST

START_TEST(a_full_spool_stops_the_reading_until_there_is_room)
{
    enum { FRAMES = 20000 };
    restart_reader(4 << 20);
    uint64_t paused = cg_metric_get(CG_SERIES_ingress_paused_spool);
    cg_auto_close int guest = connect_to(channel_a);
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 16 << 20);
    for (unsigned i = 0; i < FRAMES; i++) {
        put_frame(&frames, i);
    }
    size_t said = 0;
    uint64_t seen = 0;
    bool was_paused = false;
    for (unsigned rounds = 0; seen < FRAMES; rounds++) {
        ck_assert_uint_lt(rounds, 100000);
        ssize_t sent = send(guest, frames.data + said, frames.len - said, MSG_NOSIGNAL);
        said += sent > 0 ? (size_t)sent : 0;
        (void)cg_reader_turn(reader, 0);
        if (cg_cell_state(cell_a, fake_now_ns) == CG_CELL_PAUSED) {
            was_paused = true;
            uint64_t frames_before = cell_a->frames;
            pass_ms(25);
            (void)cg_reader_turn(reader, 0); /* still no room */
            ck_assert_uint_eq(cell_a->frames, frames_before);
        }
        if (was_paused || said == frames.len) {
            struct cg_batch batch;
            (void)take_events(&batch);
            for (size_t i = 0; i < batch.count; i++) {
                ck_assert_uint_eq(batch.events[i].meta.sequence, 1 + ++seen);
            }
            pass_ms(25);
        }
    }
    ck_assert(was_paused);
    ck_assert_uint_gt(cg_metric_get(CG_SERIES_ingress_paused_spool), paused);
    ck_assert_uint_eq(cell_a->frames, FRAMES);
    ck_assert_int_ne(cg_cell_state(cell_a, fake_now_ns), CG_CELL_PAUSED);
}
END_TEST

START_TEST(the_last_reading_takes_all_that_was_sent_whatever_the_rate)
{
    config.frames_per_second = 1;
    config.frames_burst = 1;
    restart_reader(64 << 20);
    cg_auto_close int flood = connect_to(channel_a);
    cg_auto_close int calm = connect_to(channel_b);
    say_frames(flood, 10);
    turn();
    say_frames(flood, 10);
    turn(); /* paused by now */
    ck_assert_uint_eq(cell_a->frames, 10);
    say_frames(calm, 10);
    cg_auto_close int late = connect_to(channel_b);
    say_frames(late, 10);
    uint64_t closed = cg_metric_get(CG_SERIES_connections_closed_shutdown);
    cg_reader_drain(reader, fake_now_ns + CG_NS_PER_S);
    ck_assert_uint_eq(cell_a->frames, 20);
    ck_assert_uint_eq(cell_b->frames, 20);
    struct cg_batch batch;
    ck_assert_uint_eq(take_events(&batch), 40);
    ck_assert(has_ended(flood) && has_ended(calm) && has_ended(late));
    ck_assert_uint_eq(shared.connections, 0);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_shutdown), closed + 3);
}
END_TEST

/* A clock that runs: every look at it takes ten milliseconds. */
static uint64_t running_time(const struct cg_clock *clock)
{
    pass_ms(10);
    return fake_time(clock);
}

/* Sends a frame whenever the clock is looked at: a guest without end. */
static int flooding_guest;
static uint64_t flooding_taken; /* frames that its socket took */
static uint64_t flooding_time(const struct cg_clock *clock)
{
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 1 << 20);
    put_frame(&frames, 1);
    ssize_t sent = send(flooding_guest, frames.data, frames.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    flooding_taken += sent == (ssize_t)frames.len;
    return running_time(clock);
}

START_TEST(the_last_reading_takes_exactly_what_a_guest_without_end_could_send)
{
    static const struct cg_clock flooding_clock = {.monotonic_ns = flooding_time,
                                                   .realtime_ns = fake_time};
    config.clock = &flooding_clock;
    cg_auto_close int guest = connect_to(channel_a);
    flooding_guest = guest;
    flooding_taken = 0;
    for (unsigned turns = 0; turns < 3;
         turns++) { /* it never pauses: no turn finds nothing to do */
        (void)cg_reader_turn(reader, 0);
    }
    uint64_t begun_ns = fake_now_ns;
    cg_reader_drain(reader, begun_ns + 60 * CG_NS_PER_S);
    ck_assert_uint_lt(fake_now_ns - begun_ns, 2 * CG_NS_PER_S);
    ck_assert_uint_gt(flooding_taken, 2);
    ck_assert_uint_eq(cell_a->frames, flooding_taken);
    ck_assert(has_ended(guest));
}
END_TEST

START_TEST(a_frame_that_the_last_reading_cuts_is_no_fault_of_the_guest)
{
    cg_auto_close int guest = connect_to(channel_a);
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 1 << 20);
    put_frame(&frames, 1);
    say(guest, cg_buf_bytes(&frames));
    say(guest, cg_bytes(frames.data, frames.len / 2));
    uint64_t closed = cg_metric_get(CG_SERIES_connections_closed_shutdown);
    cg_reader_drain(reader, fake_now_ns + CG_NS_PER_S);
    ck_assert_uint_eq(cell_a->frames, 1);
    ck_assert_uint_eq(cell_a->frames_rejected, 0);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_closed_shutdown), closed + 1);
}
END_TEST

int main(void)
{
    TCase *turned = tcase_create("reader");
    tcase_add_checked_fixture(turned, set_up, tear_down);
    tcase_add_test(turned, a_frame_becomes_an_event_with_the_hosts_stamp);
    tcase_add_test(turned, a_stream_may_be_cut_at_every_byte);
    tcase_add_test(turned, a_frame_may_come_byte_by_byte);
    tcase_add_test(turned, many_frames_come_in_one_read);
    tcase_add_test(turned, the_largest_frame_passes);
    tcase_add_test(turned, what_a_guest_says_of_its_identity_is_ignored);
    tcase_add_test(turned, a_wire_error_closes_that_connection_and_nothing_else);
    tcase_add_loop_test(turned, a_bad_length_is_refused_before_its_body, 0,
                        sizeof(bad_lengths) / sizeof(bad_lengths[0]));
    tcase_add_test(turned, an_unsupported_version_closes_with_its_own_reason);
    tcase_add_test(turned, an_end_between_frames_is_clean_and_one_inside_is_not);
    tcase_add_test(turned, the_ordinal_of_the_connection_is_on_its_events);
    tcase_add_test(turned, sequence_and_ordinal_go_on_when_the_run_is_taken_up_again);
    tcase_add_test(turned, what_is_still_sent_after_a_wire_error_is_read_and_discarded);
    tcase_add_test(turned, a_guest_that_does_not_end_is_left_after_the_drain_time);
    tcase_add_test(turned, a_guest_that_sends_without_end_is_left_after_a_mebibyte);
    tcase_add_test(turned, a_cell_has_one_draining_connection_the_next_is_closed_at_once);
    tcase_add_test(turned, beyond_the_ceiling_the_cell_holding_most_loses_its_oldest_partial_frame);
    tcase_add_test(turned, a_frame_begun_must_end_in_time);
    tcase_add_test(turned, a_cell_over_its_rate_waits_and_loses_nothing);
    tcase_add_test(turned, a_frame_begun_does_not_age_while_its_cell_is_not_read);
    tcase_add_test(turned, a_full_spool_stops_the_reading_until_there_is_room);
    tcase_add_test(turned, the_last_reading_takes_all_that_was_sent_whatever_the_rate);
    tcase_add_test(turned, the_last_reading_takes_exactly_what_a_guest_without_end_could_send);
    tcase_add_test(turned, a_frame_that_the_last_reading_cuts_is_no_fault_of_the_guest);
    tcase_set_timeout(turned, 120);
    Suite *suite = suite_create("ingress/reader");
    suite_add_tcase(suite, turned);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
