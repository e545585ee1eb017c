/*
 * The worker over a real spool in memory and an exporter that plays a script. Tests wait for the
 * exporter's calls, never for time.
 */
#include "delivery/delivery.h"

#include "cellgate/cleanup.h"
#include "delivery/dead_letters.h"
#include "delivery/worker.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { CALLS_MAX = 4096, HOUR_S = 3600 };

/* --- the scripted exporter --- */

struct call {
    uint64_t first, count;
};

struct script {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const enum cg_verdict_kind *kinds; /* one a call; DELIVERED behind the last */
    size_t kinds_count;
    uint64_t poison; /* index that is refused; UINT64_MAX: none */
    int status;      /* of the refusals that `kinds` says */
    uint64_t rejected;
    bool refuse_open;
    bool gated; /* deliver waits to be cancelled */

    struct call calls[CALLS_MAX];
    size_t calls_count;
    uint64_t opened, closed, reopened;
    uint64_t refuse_opens; /* so many fail, behind the first */
    bool cancelled;
};

static void init_script(struct script *script)
{
    memset(script, 0, sizeof(*script));
    pthread_mutex_init(&script->mutex, NULL);
    pthread_cond_init(&script->changed, NULL);
    script->poison = UINT64_MAX;
}

static bool script_open(const void *config, const struct cg_exporter_env *env, void **ret_exporter,
                        struct cg_error *err)
{
    struct script *script = *(struct script *const *)config;
    (void)env;
    pthread_mutex_lock(&script->mutex);
    bool refused = script->refuse_open || (script->opened > 0 && script->refuse_opens > 0);
    script->refuse_opens -= script->opened > 0 && script->refuse_opens > 0;
    script->opened++;
    script->cancelled = false;
    pthread_cond_broadcast(&script->changed);
    pthread_mutex_unlock(&script->mutex);
    if (refused) {
        return cg_error_set(err, "no such certificate");
    }
    *ret_exporter = script;
    return true;
}

static bool holds(const struct cg_batch *batch, uint64_t index)
{
    return batch->events[0].index <= index && index <= batch->events[batch->count - 1].index;
}

static void script_deliver(void *exporter, const struct cg_batch *batch,
                           struct cg_verdict *ret_verdict)
{
    struct script *script = exporter;
    uint64_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++) {
        bytes += batch->events[i].bytes.len;
    }
    ck_assert_uint_eq(bytes, batch->bytes);
    ck_assert_int_eq(ret_verdict->kind, CG_VERDICT_DELIVERED); /* zeroed by the caller */
    ck_assert_uint_eq(ret_verdict->answer_len, 0);

    pthread_mutex_lock(&script->mutex);
    size_t number = script->calls_count++;
    ck_assert_uint_lt(number, CALLS_MAX);
    script->calls[number] = (struct call){batch->events[0].index, batch->count};
    pthread_cond_broadcast(&script->changed);
    while (script->gated && !script->cancelled) {
        pthread_cond_wait(&script->changed, &script->mutex);
    }
    if (script->cancelled) {
        ret_verdict->kind = CG_VERDICT_BACKOFF;
    } else if (number < script->kinds_count) {
        ret_verdict->kind = script->kinds[number];
        ret_verdict->status = script->status;
    } else if (script->poison != UINT64_MAX && holds(batch, script->poison)) {
        ret_verdict->kind = CG_VERDICT_SUSPECT;
        ret_verdict->status = 422;
    }
    if (ret_verdict->kind == CG_VERDICT_DELIVERED) {
        ret_verdict->rejected = script->rejected;
    } else {
        (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "call %zu", number);
    }
    pthread_mutex_unlock(&script->mutex);
}

static void script_cancel(void *exporter)
{
    struct script *script = exporter;
    pthread_mutex_lock(&script->mutex);
    script->cancelled = true;
    pthread_cond_broadcast(&script->changed);
    pthread_mutex_unlock(&script->mutex);
}

static void script_reopen(void *exporter)
{
    struct script *script = exporter;
    script->reopened++;
}

static void script_close(void *exporter)
{
    struct script *script = exporter;
    pthread_mutex_lock(&script->mutex);
    script->closed++;
    pthread_mutex_unlock(&script->mutex);
}

static void wait_for_calls(struct script *script, size_t count)
{
    pthread_mutex_lock(&script->mutex);
    while (script->calls_count < count) {
        pthread_cond_wait(&script->changed, &script->mutex);
    }
    pthread_mutex_unlock(&script->mutex);
}

static const struct cg_option no_options[] = {{0}};

static const struct cg_exporter_ops script_ops = {
    .type = "script",
    .summary = "Plays a script.",
    .options = no_options,
    .config_size = sizeof(struct script *),
    .batch_events = 100,
    .batch_bytes = 1 << 20,
    .open = script_open,
    .deliver = script_deliver,
    .cancel = script_cancel,
    .reopen = script_reopen,
    .close = script_close,
};

/* --- the spool and the worker --- */

static struct cg_spool *spool;
static struct cg_spool_run *run;
static struct cg_spool_writer *writer;
static struct script script;
static struct script *script_config;
static struct cg_delivery_config config;
static struct cg_delivery *delivery;
static char directory[64], letters_path[96];

static void setup(void)
{
    struct cg_error err = {0};
    struct cg_spool_recovery recovery;
    const struct cg_spool_config spool_config = {
        .bytes_max = 16 << 20,
        .sync = CG_SPOOL_SYNC_NEVER,
        .clock = &cg_clock_system,
    };
    ck_assert_msg(cg_spool_open(&spool_config, &spool, &recovery, &err), "%s", err.text);
    ck_assert(cg_spool_run_open(spool, CG_BYTES("cell"), CG_BYTES("run"), &run, &err));
    ck_assert(cg_spool_writer_open(spool, &writer, &err));
    init_script(&script);
    script_config = &script;
    config = (struct cg_delivery_config){
        .name = "central",
        .ops = &script_ops,
        .exporter_config = &script_config,
        .batch_events = 100,
        .batch_bytes = 1 << 20,
        .backoff_initial_ns = 1000,
        .backoff_max_ns = 10000,
        .hold_initial_ns = HOUR_S * CG_NS_PER_S,
        .hold_max_ns = HOUR_S * CG_NS_PER_S,
        .retry_after_max_ns = HOUR_S * CG_NS_PER_S,
        .suspect_after = 8,
        .jitter_seed = 1,
        .clock = &cg_clock_system,
    };
    (void)snprintf(directory, sizeof(directory), "/tmp/cellgate-delivery-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(letters_path, sizeof(letters_path), "%s/central.jsonl", directory);
}

static void teardown(void)
{
    if (delivery != NULL) {
        cg_delivery_stop(delivery);
    }
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
    (void)unlink(letters_path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static uint64_t received_ns = 1; /* of what is appended */

static void append_of(enum cg_event_kind kind, uint64_t count)
{
    static uint64_t sequence;
    struct cg_error err = {0};
    for (uint64_t i = 0; i < count; i++) {
        char *at = cg_spool_writer_begin(writer);
        if (at == NULL) { /* the block is full */
            ck_assert_int_eq(cg_spool_writer_commit(writer, &err), CG_APPEND_DONE);
            at = cg_spool_writer_begin(writer);
        }
        ck_assert_ptr_nonnull(at);
        sequence++;
        int len = snprintf(at, 100, "{\"id\":\"%08u\"}", (unsigned)sequence);
        struct cg_event_meta meta = {
            .sequence = sequence, .received_ns = received_ns, .kind = (uint8_t)kind};
        meta.text[CG_TEXT_ID] = (struct cg_event_span){7, 8};
        cg_spool_writer_end(writer, (size_t)len, &meta, run);
    }
    ck_assert_int_eq(cg_spool_writer_commit(writer, &err), CG_APPEND_DONE);
}

static void append(uint64_t count)
{
    append_of(CG_EVENT_GUEST, count);
}

static void start(void)
{
    struct cg_error err = {0};
    ck_assert_msg(cg_delivery_start(&config, spool, &delivery, &err), "%s", err.text);
}

static struct cg_delivery_status status_now(void)
{
    struct cg_delivery_status status;
    cg_delivery_status(delivery, &status);
    return status;
}

static void wait_for_state(enum cg_delivery_state state)
{
    while (status_now().state != state) {
        sched_yield();
    }
}

static void catch_up(void)
{
    ck_assert(cg_delivery_caught_up(delivery, UINT64_MAX));
}

static uint64_t first_index(void)
{
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    return status.next_index;
}

/* --- tests --- */

START_TEST(everything_is_delivered_in_order_and_counted)
{
    start();
    for (unsigned i = 0; i < 50; i++) {
        append(i + 1);
    }
    catch_up();
    uint64_t next = script.calls[0].first;
    for (size_t i = 0; i < script.calls_count; i++) {
        ck_assert_uint_eq(script.calls[i].first, next);
        ck_assert_uint_le(script.calls[i].count, 100);
        next += script.calls[i].count;
    }
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.delivered_events, 1275);
    ck_assert_uint_eq(status.requests[CG_OUTCOME_OK], script.calls_count);
    ck_assert_uint_eq(status.backlog.events, 0);
    ck_assert(status.up);
    const struct cg_histogram *durations = cg_delivery_durations(delivery);
    uint64_t observed = 0;
    for (unsigned i = 0; i <= CG_HISTOGRAM_BUCKETS; i++) {
        observed += atomic_load(&durations->buckets[i]);
    }
    ck_assert_uint_eq(observed, script.calls_count);
}
END_TEST

START_TEST(a_batch_is_repeated_until_it_is_taken)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF,
                                                 CG_VERDICT_BACKOFF};
    script.kinds = kinds;
    script.kinds_count = 3;
    append(10);
    start();
    catch_up();
    static const uint64_t counts[] = {10, 10, 8, 8}; /* the third is half open */
    ck_assert_uint_eq(script.calls_count, 5);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(script.calls[i].first, script.calls[0].first);
        ck_assert_uint_eq(script.calls[i].count, counts[i]);
    }
    ck_assert_uint_eq(script.calls[4].count, 2);
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.requests[CG_OUTCOME_BACKOFF], 3);
    ck_assert_uint_eq(status.delivered_events, 10);
    ck_assert(status.up);
    ck_assert_str_eq(status.last_error, "call 2");
    ck_assert_uint_gt(status.last_error_realtime_ns, 0);
}
END_TEST

START_TEST(configuration_trouble_holds_until_somebody_acts)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_CONFIG};
    script.kinds = kinds;
    script.kinds_count = 1;
    append(1);
    start();
    wait_for_state(CG_DELIVERY_HOLDING);
    while (status_now().up) {
        sched_yield();
    }
    struct cg_delivery_status status = status_now();
    ck_assert_str_eq(status.last_error, "call 0");
    ck_assert_uint_gt(status.retry_at_ns, 0);
    ck_assert_uint_eq(status.backlog.events, 1);
    ck_assert(!cg_delivery_caught_up(delivery, 0));

    cg_delivery_reopen(delivery);
    catch_up();
    ck_assert_uint_eq(script.reopened, 1);
    ck_assert_uint_eq(script.calls_count, 2);
    ck_assert_uint_eq(status_now().retry_at_ns, 0);
}
END_TEST

START_TEST(trouble_shows_while_the_next_try_is_under_way)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_CONFIG};
    script.kinds = kinds;
    script.kinds_count = 1;
    append(1);
    start();
    wait_for_state(CG_DELIVERY_HOLDING);
    pthread_mutex_lock(&script.mutex);
    script.gated = true; /* the second try gets no answer */
    pthread_mutex_unlock(&script.mutex);
    cg_delivery_reopen(delivery);
    wait_for_calls(&script, 2);
    ck_assert_int_eq(status_now().state, CG_DELIVERY_HOLDING);
}
END_TEST

START_TEST(stop_does_not_wait_for_a_hold)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_CONFIG};
    script.kinds = kinds;
    script.kinds_count = 1;
    append(1);
    start();
    wait_for_state(CG_DELIVERY_HOLDING);
    cg_delivery_stop(delivery);
    delivery = NULL;
    ck_assert_uint_eq(script.closed, 1);
}
END_TEST

START_TEST(stop_at_any_moment_ends)
{
    for (unsigned i = 0; i < 200; i++) {
        start();
        append(i % 3);
        for (unsigned spin = 0; spin < i; spin++) {
            sched_yield();
        }
        cg_delivery_stop(delivery);
        delivery = NULL;
    }
    ck_assert_uint_eq(script.opened, 200);
    ck_assert_uint_eq(script.closed, 200);
}
END_TEST

START_TEST(stop_cancels_a_request_and_acknowledges_nothing)
{
    script.gated = true;
    append(5);
    start();
    wait_for_calls(&script, 1);
    cg_delivery_stop(delivery);
    ck_assert(script.cancelled);

    script.gated = false;
    start();
    catch_up();
    ck_assert_uint_eq(script.calls_count, 2);
    ck_assert_uint_eq(script.calls[1].first, script.calls[0].first);
    ck_assert_uint_eq(script.calls[1].count, 5);
}
END_TEST

START_TEST(linger_gathers_a_full_batch)
{
    config.linger_ns = HOUR_S * CG_NS_PER_S;
    config.batch_events = 4;
    start();
    append(3);
    append(1);
    wait_for_calls(&script, 1);
    ck_assert_uint_eq(script.calls[0].count, 4);
}
END_TEST

START_TEST(flush_does_not_linger)
{
    config.linger_ns = HOUR_S * CG_NS_PER_S;
    start();
    append(3);
    cg_delivery_flush(delivery);
    catch_up();
    append(250); /* one flush is for what was there: the rest of 50 lingers again */
    wait_for_calls(&script, 3);
    cg_delivery_flush(delivery);
    catch_up();
    ck_assert_uint_eq(status_now().delivered_events, 253);
}
END_TEST

START_TEST(poison_is_kept_as_a_dead_letter)
{
    config.dead_letter_path = letters_path;
    uint64_t first = first_index();
    append(100);
    script.poison = first + 37;
    start();
    catch_up();
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.delivered_events, 99);
    ck_assert_uint_eq(status.dead_lettered_events, 1);
    ck_assert_uint_gt(status.requests[CG_OUTCOME_POISON], 0);

    char line[4096], index[64];
    cg_auto_fclose FILE *file = fopen(letters_path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
    (void)snprintf(index, sizeof(index), "\"index\":%u,", (unsigned)script.poison);
    ck_assert_msg(strstr(line, index) != NULL, "%s", line);
    ck_assert_ptr_nonnull(strstr(line, "\"status\":422"));
    ck_assert_int_eq(fgetc(file), EOF);
}
END_TEST

START_TEST(a_lone_poison_event_waits_for_company)
{
    uint64_t first = first_index();
    append(1);
    script.poison = first;
    start();
    wait_for_state(CG_DELIVERY_HOLDING);
    ck_assert_uint_eq(status_now().dead_lettered_events, 0);
    append(1);
    catch_up();
    ck_assert_uint_eq(status_now().dead_lettered_events, 1);
    ck_assert_uint_eq(status_now().delivered_events, 1);
}
END_TEST

START_TEST(dead_letters_that_cannot_be_kept_hold_the_exporter)
{
    char aside[96];
    (void)snprintf(aside, sizeof(aside), "%s.aside", directory);
    config.dead_letter_path = letters_path;
    start();
    ck_assert_int_eq(rename(directory, aside), 0);
    cg_delivery_reopen(delivery); /* the file is to be opened anew, and cannot be */
    uint64_t first = first_index();
    script.poison = first + 1;
    append(3);
    wait_for_state(CG_DELIVERY_HOLDING);
    ck_assert_uint_eq(status_now().dead_lettered_events, 0);
    ck_assert_uint_eq(status_now().backlog.events, 2);

    ck_assert_int_eq(rename(aside, directory), 0);
    cg_delivery_reopen(delivery);
    catch_up();
    ck_assert_uint_eq(status_now().dead_lettered_events, 1);
    ck_assert_uint_eq(status_now().delivered_events, 2);
}
END_TEST

START_TEST(events_that_the_destination_counted_out_are_counted)
{
    script.rejected = 3;
    append(10);
    start();
    catch_up();
    ck_assert_uint_eq(status_now().delivered_events, 7);
    ck_assert_uint_eq(status_now().rejected_events, 3);
}
END_TEST

START_TEST(an_exporter_that_cannot_be_opened_fails_the_start)
{
    struct cg_error err = {0};
    script.refuse_open = true;
    ck_assert(!cg_delivery_start(&config, spool, &delivery, &err));
    ck_assert_str_eq(err.text, "exporter central: no such certificate");
    ck_assert_ptr_null(delivery);
    ck_assert_uint_eq(script.closed, 0);
}
END_TEST

START_TEST(a_dead_destination_does_not_delay_another)
{
    struct script dead;
    struct script *dead_config = &dead;
    struct cg_delivery_config other = config;
    struct cg_delivery *other_delivery = NULL;
    struct cg_error err = {0};
    init_script(&dead);
    dead.gated = true;
    other.name = "dead";
    other.exporter_config = &dead_config;
    ck_assert(cg_delivery_start(&other, spool, &other_delivery, &err));
    start();
    append(1);
    wait_for_calls(&dead, 1);
    append(500);
    catch_up();
    ck_assert_uint_eq(status_now().delivered_events, 501);
    ck_assert(!cg_delivery_caught_up(other_delivery, 0));
    cg_delivery_stop(other_delivery);
}
END_TEST

/* --- filters --- */

static const char *const gateway_kind[] = {"gateway"};
static const struct cg_filter_rules only_gateway = {.kinds = {gateway_kind, 1}};

START_TEST(what_a_filter_holds_back_counts_as_passed)
{
    config.filter = &only_gateway;
    append(7);
    append_of(CG_EVENT_GATEWAY, 1);
    append(5);
    append_of(CG_EVENT_GATEWAY, 2);
    append(3);
    start();
    catch_up();
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.delivered_events, 3);
    ck_assert_uint_eq(status.filtered_events, 15);
    ck_assert_uint_eq(status.backlog.events, 0);
    ck_assert_uint_eq(script.calls_count, 1); /* one batch, though others stood between them */
    ck_assert_uint_eq(script.calls[0].count, 3);
    append(1000);
    catch_up();
    ck_assert_uint_eq(status_now().filtered_events, 1015);
    ck_assert_uint_eq(script.calls_count, 1);
}
END_TEST

START_TEST(a_selective_filter_still_makes_full_batches)
{
    enum { ROUNDS = 2000 };
    config.filter = &only_gateway;
    config.batch_events = 50;
    for (unsigned i = 0; i < ROUNDS; i++) {
        append(19);
        append_of(CG_EVENT_GATEWAY, 1);
    }
    start();
    catch_up();
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.delivered_events, ROUNDS);
    ck_assert_uint_eq(status.filtered_events, 19 * ROUNDS);
    /* 2,000 events in batches of 50 are 40 requests; the first reading knows nothing yet. */
    ck_assert_uint_le(script.calls_count, 44);
}
END_TEST

START_TEST(what_a_filter_holds_back_does_not_wait_behind_a_dead_destination)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_CONFIG};
    config.filter = &only_gateway;
    script.kinds = kinds;
    script.kinds_count = 1;
    append(100); /* in front of what cannot be sent: done with */
    append_of(CG_EVENT_GATEWAY, 1);
    append(10); /* behind it: in order */
    start();
    wait_for_state(CG_DELIVERY_HOLDING);
    ck_assert_uint_eq(status_now().filtered_events, 100);
    ck_assert_uint_eq(status_now().backlog.events, 11);
    cg_delivery_reopen(delivery);
    catch_up();
    ck_assert_uint_eq(status_now().delivered_events, 1);
    ck_assert_uint_eq(status_now().filtered_events, 110);
}
END_TEST

START_TEST(poison_among_filtered_events_is_found)
{
    config.filter = &only_gateway;
    config.dead_letter_path = letters_path;
    uint64_t first = first_index();
    for (unsigned i = 0; i < 100; i++) {
        append(3);
        append_of(CG_EVENT_GATEWAY, 1);
    }
    script.poison = first + 4 * 37 + 3;
    start();
    catch_up();
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.delivered_events, 99);
    ck_assert_uint_eq(status.dead_lettered_events, 1);
    ck_assert_uint_eq(status.filtered_events, 300);
}
END_TEST

START_TEST(flush_does_not_linger_for_filtered_events)
{
    config.filter = &only_gateway;
    config.linger_ns = HOUR_S * CG_NS_PER_S;
    start();
    append(3);
    cg_delivery_flush(delivery);
    catch_up();
    append_of(CG_EVENT_GATEWAY, 2);
    append(3);
    cg_delivery_flush(delivery);
    catch_up();
    ck_assert_uint_eq(status_now().delivered_events, 2);
    ck_assert_uint_eq(status_now().filtered_events, 6);
}
END_TEST

/* --- dead letters that are sent again --- */

static void set_poison(uint64_t index)
{
    pthread_mutex_lock(&script.mutex);
    script.poison = index;
    pthread_mutex_unlock(&script.mutex);
}

static void mark_all(enum cg_letter_state state)
{
    const struct cg_letter_ids all = {0};
    struct cg_error err = {0};
    uint64_t marked = 0;
    ck_assert_msg(
        cg_dead_letters_mark(cg_delivery_dead_letters(delivery), &all, state, &marked, &err), "%s",
        err.text);
    cg_delivery_letters_marked(delivery);
}

static void wait_for_letters(uint64_t letters)
{
    while (status_now().dead_letters.letters != letters ||
           status_now().dead_letters.replaying != 0) {
        sched_yield();
    }
}

/* One letter, of the event with that index. */
static uint64_t start_with_letter(void)
{
    config.dead_letter_path = letters_path;
    uint64_t poison = first_index() + 7;
    script.poison = poison;
    append(20);
    start();
    catch_up();
    ck_assert_uint_eq(status_now().dead_letters.letters, 1);
    return poison;
}

START_TEST(a_letter_that_is_marked_is_sent_as_it_was_and_leaves)
{
    uint64_t poison = start_with_letter();
    set_poison(UINT64_MAX);
    size_t before = script.calls_count;
    mark_all(CG_LETTER_REDO);
    wait_for_letters(0);
    while (status_now().dead_letters.bytes > 0) {
        sched_yield();
    }
    ck_assert_uint_eq(script.calls_count, before + 1);
    ck_assert_uint_eq(script.calls[before].first, poison);
    ck_assert_uint_eq(script.calls[before].count, 1);
    ck_assert_uint_eq(status_now().replayed_events, 1);
    ck_assert_uint_eq(status_now().delivered_events, 19);
}
END_TEST

START_TEST(a_letter_that_is_refused_again_stays_and_others_go_out)
{
    start_with_letter();
    uint64_t other = first_index() + 5;
    set_poison(other);
    append(20);
    catch_up();
    ck_assert_uint_eq(status_now().dead_letters.letters, 2);
    mark_all(CG_LETTER_REDO);
    wait_for_letters(1);
    ck_assert_uint_eq(status_now().replayed_events, 1);
    append(1);
    catch_up();
}
END_TEST

START_TEST(a_replay_that_was_interrupted_goes_on_with_the_next_start)
{
    uint64_t poison = start_with_letter();
    set_poison(UINT64_MAX);
    cg_delivery_stop(delivery);
    struct cg_dead_letters letters;
    struct cg_error err = {0};
    const struct cg_letter_ids all = {0};
    uint64_t marked = 0;
    ck_assert(cg_dead_letters_open(&letters, letters_path, "central", 0, &err));
    ck_assert(cg_dead_letters_mark(&letters, &all, CG_LETTER_REDO, &marked, &err));
    cg_dead_letters_close(&letters);
    size_t before = script.calls_count;
    start();
    wait_for_letters(0);
    ck_assert_uint_eq(script.calls[before].first, poison);
}
END_TEST

START_TEST(a_full_store_holds_until_letters_are_dropped)
{
    start_with_letter();
    uint64_t one = status_now().dead_letters.bytes;
    cg_delivery_stop(delivery);
    config.dead_letter_bytes_max = one + one / 2;
    set_poison(first_index() + 3); /* a spool in memory begins anew */
    start();
    append(10);
    wait_for_state(CG_DELIVERY_HOLDING);
    while (status_now().up) {
        sched_yield();
    }
    ck_assert_ptr_nonnull(strstr(status_now().last_error, "full"));
    ck_assert_uint_eq(status_now().dead_lettered_events, 0);
    ck_assert_uint_gt(status_now().backlog.events, 0);
    mark_all(CG_LETTER_GONE); /* the hold is an hour: this is what ends it */
    catch_up();
    ck_assert_uint_eq(status_now().dead_lettered_events, 1);
}
END_TEST

START_TEST(a_full_store_holds_until_letters_are_delivered)
{
    start_with_letter();
    uint64_t one = status_now().dead_letters.bytes;
    cg_delivery_stop(delivery);
    config.dead_letter_bytes_max = one + one / 2;
    set_poison(first_index() + 3); /* a spool in memory begins anew */
    start();
    append(10);
    wait_for_state(CG_DELIVERY_HOLDING);
    mark_all(CG_LETTER_REDO);
    catch_up();
    ck_assert_uint_eq(status_now().replayed_events, 1);
    ck_assert_uint_eq(status_now().dead_lettered_events, 1);
}
END_TEST

START_TEST(events_that_are_too_old_become_letters_and_the_young_go_out)
{
    config.dead_letter_path = letters_path;
    config.max_age_ns = HOUR_S * CG_NS_PER_S;
    append(300); /* received in 1970 */
    start();
    catch_up();
    struct cg_delivery_status status = status_now();
    ck_assert_uint_eq(status.expired_events, 300);
    ck_assert_uint_eq(status.dead_lettered_events, 300);
    ck_assert_uint_eq(script.calls_count, 0);
    received_ns = cg_clock_realtime(&cg_clock_system);
    append(5);
    catch_up();
    ck_assert_uint_eq(status_now().delivered_events, 5);
}
END_TEST

/* --- the watchdog's thread --- */

static _Atomic uint64_t fake_now_ns = HOUR_S * CG_NS_PER_S;

static uint64_t fake_time(const struct cg_clock *clock)
{
    (void)clock;
    return fake_now_ns;
}

static const struct cg_clock fake_clock = {.monotonic_ns = fake_time, .realtime_ns = fake_time};

START_TEST(what_a_filter_holds_back_is_no_stall)
{
    config.clock = &fake_clock;
    config.filter = &only_gateway;
    start();
    fake_now_ns += CG_NS_PER_S; /* the watchdog counts from the last progress */
    append(5);
    catch_up();
    ck_assert_uint_eq(atomic_load(&delivery->progress_ns), fake_now_ns);
    ck_assert_uint_eq(script.calls_count, 0);
}
END_TEST

START_TEST(an_exporter_that_hangs_is_cancelled_and_opened_anew)
{
    config.clock = &fake_clock;
    config.watchdog_ns = 40 * CG_NS_PER_MS;
    script.gated = true; /* beyond any timeout of its own */
    append(5);
    start();
    wait_for_calls(&script, 1);
    ck_assert(!status_now().stalled);
    ck_assert_uint_eq(status_now().rebuilds, 0);
    fake_now_ns += 41 * CG_NS_PER_MS;
    wait_for_calls(&script, 2); /* the same batch, on a new connection */
    ck_assert(status_now().stalled);
    ck_assert_uint_eq(status_now().rebuilds, 1);
    ck_assert_uint_eq(script.opened, 2);
    ck_assert_uint_eq(script.closed, 1);
    ck_assert_uint_eq(script.calls[1].first, script.calls[0].first);

    pthread_mutex_lock(&script.mutex);
    script.gated = false; /* for the next one */
    script.refuse_opens = 1;
    pthread_mutex_unlock(&script.mutex);
    fake_now_ns += 41 * CG_NS_PER_MS;
    wait_for_state(CG_DELIVERY_HOLDING); /* it could not be opened */
    while (status_now().up) {
        sched_yield();
    }
    ck_assert_str_eq(status_now().last_error, "no such certificate");
    cg_delivery_reopen(delivery);
    catch_up();
    fake_now_ns += 1;
    while (status_now().stalled) {
        sched_yield();
    }
    ck_assert_uint_eq(status_now().delivered_events, 5);
}
END_TEST

START_TEST(a_hold_that_a_destination_asked_for_is_no_stall)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_CONFIG};
    config.clock = &fake_clock;
    config.watchdog_ns = 40 * CG_NS_PER_MS;
    script.kinds = kinds;
    script.kinds_count = 1;
    script.status = 403;
    append(1);
    start();
    wait_for_state(CG_DELIVERY_HOLDING);
    while (status_now().retry_at_ns == 0) {
        sched_yield();
    }
    fake_now_ns += 41 * CG_NS_PER_MS;
    cg_delivery_reopen(delivery);
    catch_up();
    ck_assert_uint_eq(status_now().rebuilds, 0);
    ck_assert(!status_now().stalled);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("delivery");
    TCase *tests = tcase_create("delivery");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, everything_is_delivered_in_order_and_counted);
    tcase_add_test(tests, a_batch_is_repeated_until_it_is_taken);
    tcase_add_test(tests, configuration_trouble_holds_until_somebody_acts);
    tcase_add_test(tests, trouble_shows_while_the_next_try_is_under_way);
    tcase_add_test(tests, stop_does_not_wait_for_a_hold);
    tcase_add_test(tests, stop_at_any_moment_ends);
    tcase_add_test(tests, stop_cancels_a_request_and_acknowledges_nothing);
    tcase_add_test(tests, linger_gathers_a_full_batch);
    tcase_add_test(tests, flush_does_not_linger);
    tcase_add_test(tests, poison_is_kept_as_a_dead_letter);
    tcase_add_test(tests, a_lone_poison_event_waits_for_company);
    tcase_add_test(tests, dead_letters_that_cannot_be_kept_hold_the_exporter);
    tcase_add_test(tests, events_that_the_destination_counted_out_are_counted);
    tcase_add_test(tests, an_exporter_that_cannot_be_opened_fails_the_start);
    tcase_add_test(tests, a_dead_destination_does_not_delay_another);
    tcase_add_test(tests, what_a_filter_holds_back_counts_as_passed);
    tcase_add_test(tests, a_selective_filter_still_makes_full_batches);
    tcase_add_test(tests, what_a_filter_holds_back_does_not_wait_behind_a_dead_destination);
    tcase_add_test(tests, poison_among_filtered_events_is_found);
    tcase_add_test(tests, flush_does_not_linger_for_filtered_events);
    tcase_add_test(tests, a_letter_that_is_marked_is_sent_as_it_was_and_leaves);
    tcase_add_test(tests, a_letter_that_is_refused_again_stays_and_others_go_out);
    tcase_add_test(tests, a_replay_that_was_interrupted_goes_on_with_the_next_start);
    tcase_add_test(tests, a_full_store_holds_until_letters_are_dropped);
    tcase_add_test(tests, a_full_store_holds_until_letters_are_delivered);
    tcase_add_test(tests, events_that_are_too_old_become_letters_and_the_young_go_out);
    tcase_add_test(tests, what_a_filter_holds_back_is_no_stall);
    tcase_add_test(tests, an_exporter_that_hangs_is_cancelled_and_opened_anew);
    tcase_add_test(tests, a_hold_that_a_destination_asked_for_is_no_stall);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
