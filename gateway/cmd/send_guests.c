#include "cmd/send_guests.h"

#include "cellgate/cleanup.h"
#include "cellgate/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum {
    BATCH_BYTES = 256 << 10,
    BATCH_FRAMES_MAX = 4096,
    EVENTS_PER_WAIT = 512,
    TICK_MS = 50,         /* at least so often deadlines are looked at */
    DESCRIPTORS_OWN = 16, /* beside the connections */
    PROGRESS_EVERY_TICKS = 4,
};

enum guest_state {
    GUEST_SENDING,
    GUEST_HOLDING, /* all sent; open until `deadline_ns` */
    GUEST_CLOSING, /* our end is shut; the peer's close is due by `deadline_ns` */
    GUEST_DONE,
};

struct guest {
    int fd;
    enum guest_state state;
    uint32_t cell;
    uint32_t reconnects_left;
    uint64_t first_number; /* of this connection's frames among its cell's */
    uint64_t begun;        /* frames of which at least a byte was sent */
    uint64_t deadline_ns;
    char *partial; /* the rest of a frame whose front was sent; owned */
    size_t partial_at;
    size_t partial_len;
    size_t malformed_at; /* how much of the malformed frame was sent */
    bool queued;
    struct guest *next_ready;
};

struct player {
    const struct cg_send_plan *plan;
    struct cg_send_result *result;
    int epoll;
    size_t count;
    size_t open;
    struct guest *ready_head; /* those that may have something to send and room for it */
    struct guest *ready_tail;
    size_t ready;
    uint64_t start_ns;
    uint64_t now_ns;
    uint64_t begun; /* frames, over all guests: what the rate allows of */
    bool stopping;
    uint64_t stop_deadline_ns;
    size_t ends[BATCH_FRAMES_MAX]; /* where each frame of the batch ends */
    char batch[BATCH_BYTES];
    struct guest guests[]; /* `count` of them */
};

_Static_assert((int)BATCH_BYTES >= (int)CG_SEND_FRAME_ROOM, "every frame fits into a batch");

static void note_trouble(struct player *player, const char *text)
{
    if (player->result->trouble[0] == '\0') {
        (void)snprintf(player->result->trouble, sizeof(player->result->trouble), "%s", text);
    }
}

static void push_ready(struct player *player, struct guest *guest)
{
    if (guest->queued || guest->state != GUEST_SENDING) {
        return;
    }
    guest->queued = true;
    guest->next_ready = NULL;
    if (player->ready_tail == NULL) {
        player->ready_head = guest;
    } else {
        player->ready_tail->next_ready = guest;
    }
    player->ready_tail = guest;
    player->ready++;
}

static struct guest *pop_ready(struct player *player)
{
    struct guest *guest = player->ready_head;
    CG_ASSERT(guest != NULL);
    player->ready_head = guest->next_ready;
    if (player->ready_head == NULL) {
        player->ready_tail = NULL;
    }
    guest->queued = false;
    player->ready--;
    return guest;
}

/* Frames that this guest has still to begin. */
static uint64_t frames_left(const struct player *player, const struct guest *guest)
{
    return player->stopping ? 0 : player->plan->frames - guest->begun;
}

/* How many frames may be begun now, over all guests. */
static uint64_t allowance(const struct player *player)
{
    if (player->plan->rate == 0) {
        return UINT64_MAX;
    }
    uint64_t elapsed = player->now_ns - player->start_ns;
    uint64_t due = (uint64_t)((unsigned __int128)player->plan->rate * elapsed / CG_NS_PER_S) + 1;
    return due > player->begun ? due - player->begun : 0;
}

static void drop_partial(struct guest *guest)
{
    free(guest->partial);
    guest->partial = NULL;
    guest->partial_at = guest->partial_len = 0;
}

static void close_guest(struct guest *guest)
{
    if (guest->fd >= 0) {
        (void)close(guest->fd);
        guest->fd = -1;
    }
}

static void end_guest(struct player *player, struct guest *guest)
{
    close_guest(guest);
    drop_partial(guest);
    guest->state = GUEST_DONE;
    player->open--;
}

static bool connect_guest(struct player *player, struct guest *guest)
{
    const struct cg_send_plan *plan = player->plan;
    struct cg_error err = {0};
    if (!cg_send_connect(plan->socket_base, guest->cell, plan->timeout_ns, &guest->fd, &err)) {
        player->result->connect_failures++;
        note_trouble(player, err.text);
        return false;
    }
    struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                   .data.ptr = guest};
    if (epoll_ctl(player->epoll, EPOLL_CTL_ADD, guest->fd, &interest) != 0) {
        player->result->connect_failures++;
        note_trouble(player, "cannot watch a connection");
        close_guest(guest);
        return false;
    }
    player->result->connections++;
    guest->state = GUEST_SENDING;
    push_ready(player, guest);
    return true;
}

/* The connection is gone before it was ended from here. */
static void lose_connection(struct player *player, struct guest *guest, const char *trouble)
{
    struct cg_send_result *result = player->result;
    bool half_a_frame = guest->partial != NULL;
    uint64_t left = frames_left(player, guest);
    bool due = half_a_frame || left > 0;
    if (due) {
        note_trouble(player, trouble);
    }
    result->lost += half_a_frame;
    close_guest(guest);
    drop_partial(guest);
    if (left > 0 && guest->reconnects_left > 0) {
        guest->reconnects_left--;
        if (connect_guest(player, guest)) {
            result->reconnects++;
            return;
        }
    }
    if (player->plan->frames != CG_SEND_UNLIMITED) {
        result->lost += left;
    } else if (left > 0 && !half_a_frame) {
        result->lost++;
    }
    end_guest(player, guest);
}

enum sent { SENT_ALL, SENT_SOME, SENT_BROKEN };

/* Sends what the socket takes; *ret_length is how much that was. */
static enum sent send_bytes(struct player *player, struct guest *guest, const char *data,
                            size_t length, size_t *ret_length)
{
    ssize_t sent = send(guest->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        return SENT_BROKEN;
    }
    *ret_length = sent < 0 ? 0 : (size_t)sent;
    player->result->bytes += *ret_length;
    return *ret_length == length ? SENT_ALL : SENT_SOME;
}

static enum sent send_partial(struct player *player, struct guest *guest)
{
    size_t length;
    enum sent sent = send_bytes(player, guest, guest->partial + guest->partial_at,
                                guest->partial_len - guest->partial_at, &length);
    if (sent == SENT_SOME) {
        guest->partial_at += length;
    } else if (sent == SENT_ALL) {
        player->result->sent++;
        drop_partial(guest);
    }
    return sent;
}

/* Fills the batch with at most `max` frames of this guest; returns how many. */
static size_t fill_batch(struct player *player, const struct guest *guest, uint64_t max)
{
    uint64_t time_ns = cg_clock_monotonic(&cg_clock_system);
    size_t count = 0;
    size_t at = 0;
    while (count < max && count < BATCH_FRAMES_MAX) {
        size_t length =
            cg_send_source_write(player->plan->source, guest->first_number + guest->begun + count,
                                 time_ns, player->batch + at, BATCH_BYTES - at);
        if (length == 0) {
            break;
        }
        at += length;
        player->ends[count++] = at;
    }
    return count;
}

static enum sent send_batch(struct player *player, struct guest *guest, uint64_t max)
{
    size_t count = fill_batch(player, guest, max);
    size_t length;
    enum sent sent = send_bytes(player, guest, player->batch, player->ends[count - 1], &length);
    if (sent == SENT_BROKEN) {
        return sent;
    }
    size_t whole = 0;
    while (whole < count && player->ends[whole] <= length) {
        whole++;
    }
    size_t whole_bytes = whole == 0 ? 0 : player->ends[whole - 1];
    uint64_t begun = whole + (length > whole_bytes);
    player->result->sent += whole;
    player->begun += begun;
    guest->begun += begun;
    if (length > whole_bytes) {
        guest->partial_len = player->ends[whole] - length;
        guest->partial = malloc(guest->partial_len);
        if (guest->partial == NULL) {
            player->result->lost++;
            return SENT_BROKEN;
        }
        memcpy(guest->partial, player->batch + length, guest->partial_len);
    }
    return sent;
}

static enum sent send_malformed(struct player *player, struct guest *guest)
{
    size_t length;
    struct cg_bytes malformed = player->plan->malformed;
    enum sent sent = send_bytes(player, guest, malformed.data + guest->malformed_at,
                                malformed.len - guest->malformed_at, &length);
    if (sent != SENT_BROKEN) {
        guest->malformed_at += length;
        player->result->malformed += sent == SENT_ALL;
    }
    return sent;
}

static void begin_close(struct player *player, struct guest *guest)
{
    (void)shutdown(guest->fd, SHUT_WR);
    guest->state = GUEST_CLOSING;
    guest->deadline_ns = player->now_ns + player->plan->timeout_ns;
}

static void all_sent(struct player *player, struct guest *guest)
{
    if (player->plan->hold_ns > 0 && !player->stopping) {
        guest->state = GUEST_HOLDING;
        guest->deadline_ns = player->now_ns + player->plan->hold_ns;
    } else {
        begin_close(player, guest);
    }
}

/* Nobody knows what the peer has read of what was sent. After a malformed frame that is no news. */
static void note_reset(struct player *player, const struct guest *guest)
{
    if (guest->malformed_at == 0) {
        player->result->resets++;
        note_trouble(player, "the peer closed a connection with bytes unread");
    }
}

/* A send failed: the first call that fails after a reset need not be the one that is told of it. */
static void note_broken_send(struct player *player, const struct guest *guest, int errnum)
{
    int pending = 0;
    socklen_t len = sizeof(pending);
    (void)getsockopt(guest->fd, SOL_SOCKET, SO_ERROR, &pending, &len);
    if (errnum == ECONNRESET || pending == ECONNRESET) {
        note_reset(player, guest);
    }
}

/* One turn of a guest: the rest of a frame, or a batch, or what comes behind the last frame. */
static void take_turn(struct player *player, struct guest *guest)
{
    uint64_t left = frames_left(player, guest);
    enum sent sent;
    if (guest->partial != NULL) {
        sent = send_partial(player, guest);
    } else if (left > 0) {
        /* What the rate allows is shared by those that are ready. */
        uint64_t share = allowance(player) / (player->ready + 1);
        uint64_t max = share == 0 ? 1 : share;
        sent = send_batch(player, guest, left < max ? left : max);
    } else if (guest->malformed_at < player->plan->malformed.len) {
        sent = send_malformed(player, guest);
    } else {
        all_sent(player, guest);
        return;
    }
    if (sent == SENT_BROKEN) {
        int errnum = errno;
        note_broken_send(player, guest, errnum);
        lose_connection(player, guest, strerror(errnum));
    } else if (sent == SENT_ALL) {
        push_ready(player, guest);
    }
    /* SENT_SOME: the socket is full, and will say when it is not. */
}

/* A gateway never says anything: whatever comes is thrown away, and an end is an end. */
static void hear(struct player *player, struct guest *guest)
{
    char ignored[4096];
    ssize_t got;
    do {
        got = recv(guest->fd, ignored, sizeof(ignored), MSG_DONTWAIT);
    } while (got > 0 || (got < 0 && errno == EINTR));
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got < 0) {
        note_reset(player, guest);
    }
    if (guest->state == GUEST_SENDING) {
        lose_connection(player, guest, "the peer closed a connection before its end");
    } else {
        end_guest(player, guest);
    }
}

static void on_event(struct player *player, const struct epoll_event *event)
{
    struct guest *guest = event->data.ptr;
    if (guest->state == GUEST_DONE) {
        return;
    }
    if ((event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        hear(player, guest);
    }
    if ((event->events & EPOLLOUT) != 0) {
        push_ready(player, guest);
    }
}

static void print_progress(const struct player *player)
{
    const struct cg_send_result *result = player->result;
    (void)fprintf(stderr, "\r%zu connections open, %llu frames sent, %llu lost ", player->open,
                  (unsigned long long)result->sent, (unsigned long long)result->lost);
}

static void check_deadlines(struct player *player)
{
    for (size_t i = 0; i < player->count; i++) {
        struct guest *guest = &player->guests[i];
        bool late = player->now_ns >= guest->deadline_ns;
        if (guest->state == GUEST_HOLDING && (late || player->stopping)) {
            begin_close(player, guest);
        } else if (guest->state == GUEST_CLOSING && late) {
            player->result->unclosed++;
            note_trouble(player, "the peer did not close a connection in time");
            end_guest(player, guest);
        } else if (guest->state == GUEST_SENDING && player->stopping &&
                   player->now_ns >= player->stop_deadline_ns) {
            lose_connection(player, guest, "the peer did not take the last bytes in time");
        }
    }
}

/* The end of the duration, or of the operator's patience: no frame is begun any more. */
static void check_stop(struct player *player)
{
    const struct cg_send_plan *plan = player->plan;
    bool over = plan->duration_ns > 0 && player->now_ns - player->start_ns >= plan->duration_ns;
    if (player->stopping || (!over && !*plan->stop)) {
        return;
    }
    player->stopping = true;
    player->stop_deadline_ns = player->now_ns + plan->timeout_ns;
    for (size_t i = 0; i < player->count; i++) {
        push_ready(player, &player->guests[i]);
    }
}

static int wait_ms(const struct player *player)
{
    if (player->ready == 0) {
        return TICK_MS;
    }
    /* With a rate, what is not allowed yet will be in a moment. */
    return player->stopping || allowance(player) > 0 ? 0 : 1;
}

/* A turn for each guest that is ready, as far as the rate allows. */
static void take_turns(struct player *player)
{
    for (size_t turns = player->ready; turns > 0; turns--) {
        if (!player->stopping && allowance(player) == 0) {
            return;
        }
        struct guest *guest = pop_ready(player);
        if (guest->state == GUEST_SENDING) {
            take_turn(player, guest);
        }
    }
}

static void play(struct player *player)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    uint64_t next_tick_ns = player->now_ns;
    unsigned ticks = 0;
    while (player->open > 0) {
        int got = epoll_wait(player->epoll, events, EVENTS_PER_WAIT, wait_ms(player));
        player->now_ns = cg_clock_monotonic(&cg_clock_system);
        for (int i = 0; i < got; i++) {
            on_event(player, &events[i]);
        }
        check_stop(player);
        take_turns(player);
        if (player->now_ns >= next_tick_ns) {
            next_tick_ns = player->now_ns + TICK_MS * CG_NS_PER_MS;
            check_deadlines(player);
            if (player->plan->progress && ticks++ % PROGRESS_EVERY_TICKS == 0) {
                print_progress(player);
            }
        }
    }
    if (player->plan->progress) {
        print_progress(player);
        (void)fputc('\n', stderr);
    }
}

static bool raise_descriptor_limit(uint64_t needed, struct cg_error *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return cg_error_errno(err, errno, "cannot ask for the limit of descriptors");
    }
    if (limit.rlim_cur < needed) {
        limit.rlim_cur = needed < limit.rlim_max ? needed : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            return cg_error_errno(err, errno, "cannot raise the limit of descriptors");
        }
    }
    return limit.rlim_cur >= needed ||
           cg_error_set(err, "%llu descriptors are needed, and the hard limit is %llu",
                        (unsigned long long)needed, (unsigned long long)limit.rlim_max);
}

static void start_guests(struct player *player)
{
    const struct cg_send_plan *plan = player->plan;
    for (size_t i = 0; i < player->count; i++) {
        struct guest *guest = &player->guests[i];
        uint64_t ordinal = i % plan->connections;
        *guest = (struct guest){
            .fd = -1,
            .cell = (uint32_t)(i / plan->connections),
            .first_number = plan->frames == CG_SEND_UNLIMITED ? 0 : ordinal * plan->frames,
            .reconnects_left = plan->reconnects,
        };
        player->open++;
        if (*plan->stop || !connect_guest(player, guest)) {
            uint64_t due = plan->frames == CG_SEND_UNLIMITED ? 1 : plan->frames;
            player->result->lost += *plan->stop ? 0 : due;
            end_guest(player, guest);
        }
    }
}

bool cg_send_play(const struct cg_send_plan *plan, struct cg_send_result *ret_result,
                  struct cg_error *err)
{
    size_t count = (size_t)plan->cells * plan->connections;
    if (!raise_descriptor_limit(count + DESCRIPTORS_OWN, err)) {
        return false;
    }
    cg_auto_close int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        return cg_error_errno(err, errno, "cannot make an epoll instance");
    }
    struct player *player = calloc(1, sizeof(*player) + count * sizeof(player->guests[0]));
    if (player == NULL) {
        return cg_error_set(err, "no memory for %zu guests", count);
    }
    struct cg_send_result result = {0};
    player->plan = plan;
    player->result = &result;
    player->epoll = epoll;
    player->count = count;
    uint64_t first_ns = cg_clock_monotonic(&cg_clock_system);
    start_guests(player);
    player->start_ns = player->now_ns = cg_clock_monotonic(&cg_clock_system);
    play(player);
    result.elapsed_ns = cg_clock_monotonic(&cg_clock_system) - first_ns;
    free(player);
    *ret_result = result;
    return true;
}
