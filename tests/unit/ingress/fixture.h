/*
 * fixture.h - a real spool in memory, a registry, an envelope, and frames as guests send them: what
 * the tests of the reader and of ingress as a whole stand on. Included by one test file each.
 */
#ifndef CELLGATE_TESTS_INGRESS_FIXTURE_H
#define CELLGATE_TESTS_INGRESS_FIXTURE_H

#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "ingress/ingress.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct cg_error err;

/* --- a clock that stands still until it is moved --- */

static uint64_t fake_now_ns;

static uint64_t fake_time(const struct cg_clock *clock)
{
    (void)clock;
    return fake_now_ns;
}

static const struct cg_clock fake_clock = {.monotonic_ns = fake_time, .realtime_ns = fake_time};

/* --- frames --- */

static void put_head(struct cg_buf *out, unsigned major, uint64_t value)
{
    if (value < 24) {
        cg_buf_append_char(out, (char)(major << 5 | value));
    } else {
        cg_buf_append_char(out, (char)(major << 5 | 25));
        cg_buf_append_char(out, (char)(value >> 8));
        cg_buf_append_char(out, (char)(value & 0xff));
    }
}

static void put_text(struct cg_buf *out, const char *text)
{
    put_head(out, 3, strlen(text));
    cg_buf_append_str(out, text);
}

static void put_number(struct cg_buf *out, const char *key, uint64_t value)
{
    put_text(out, key);
    put_head(out, 0, value);
}

/* A frame of these values, with `forged` (NULL: none) as a cell_id of the guest's own invention. */
static void put_frame_of(struct cg_buf *out, uint64_t version, uint64_t pid, const char *comm,
                         const char *forged)
{
    cg_auto_buf struct cg_buf body;
    cg_buf_init(&body, CG_FRAME_BODY_BYTES_MAX);
    put_head(&body, 5, forged == NULL ? 5 : 6);
    put_number(&body, "content_version", version);
    put_text(&body, "probe_source");
    put_text(&body, "process.spawned");
    put_number(&body, "guest_pid", pid);
    put_text(&body, "guest_comm");
    put_text(&body, comm);
    put_number(&body, "guest_monotonic_ns", 12345);
    if (forged != NULL) {
        put_text(&body, "cell_id");
        put_text(&body, forged);
    }
    const uint32_t len = (uint32_t)body.len;
    for (unsigned shift = 0; shift < 32; shift += 8) {
        cg_buf_append_char(out, (char)(len >> shift & 0xff));
    }
    ck_assert(cg_buf_append(out, cg_buf_bytes(&body)));
}

static inline void put_frame(struct cg_buf *out, uint64_t pid)
{
    put_frame_of(out, 1, pid, "curl", NULL);
}

/* --- what all tests share --- */

static struct cg_spool *spool;
static struct cg_spool_reader *events;
static struct cg_registry *registry;
static struct cg_registrations *registrations;
static struct cg_envelope *envelope;
static struct cg_signing_key *key;
static struct cg_ingress_config config;

static char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

static void open_spool(uint64_t bytes_max)
{
    const struct cg_spool_config spool_config = {
        .bytes_max = bytes_max, .sync = CG_SPOOL_SYNC_NEVER, .clock = &cg_clock_system};
    struct cg_spool_recovery recovery;
    ck_assert_msg(cg_spool_open(&spool_config, &spool, &recovery, &err), "%s", err.text);
    ck_assert_msg(cg_spool_reader_open(spool, "test", &events, &err), "%s", err.text);
    ck_assert_msg(cg_registry_new(spool, 1, 10 * CG_NS_PER_S, &registry, &err), "%s", err.text);
}

static void close_spool(void)
{
    cg_registry_free(registry);
    cg_spool_reader_close(events);
    cg_spool_close(spool);
}

static void set_up_common(void)
{
    err = (struct cg_error){0};
    fake_now_ns = 1000 * CG_NS_PER_S;
    const struct cg_key_request off = {.mode = "off"};
    const char *warning;
    ck_assert_msg(cg_signing_key_load(&off, no_environment, &key, &warning, &err), "%s", err.text);
    ck_assert_msg(cg_envelope_new(cg_bytes_str("/source"), cg_bytes_str("type."),
                                  cg_bytes_str("node-7"), &envelope, &err),
                  "%s", err.text);
    struct cg_registrations_found found;
    ck_assert(cg_registrations_open(NULL, &cg_clock_system, &registrations, &found, &err));
    config = (struct cg_ingress_config){
        .registrations = registrations,
        .threads = 1,
        .connections_max = 16,
        .frame_deadline_ns = 30 * CG_NS_PER_S,
        .partial_bytes_max = 16 << 20,
        .drain_timeout_ns = 2 * CG_NS_PER_S,
        .boot_grace_ns = 1000000 * CG_NS_PER_S, /* nobody is late unless a test says so */
        .clock = &fake_clock,
    };
    open_spool(64 << 20);
}

static void tear_down_common(void)
{
    close_spool();
    cg_registrations_close(registrations);
    cg_envelope_free(envelope);
    cg_signing_key_free(key);
}

static struct cg_cell *add_cell(const char *id, const char *base)
{
    const struct cg_cell_spec spec = {.cell_id = id,
                                      .run_id = "run-1",
                                      .spec_signature_hash = "sha256:00",
                                      .vsock_uds_base = base};
    struct cg_cell *cell = NULL;
    ck_assert_msg(cg_registry_add(registry, &spec, 1, &cell, &err), "%s", err.text);
    return cell;
}

/* The next events in the spool, which are then behind us. */
static size_t take_all_events(struct cg_batch *ret_batch)
{
    ck_assert_msg(
        cg_spool_reader_peek(events, CG_SPOOL_PEEK_EVENTS_MAX, UINT64_MAX, ret_batch, &err), "%s",
        err.text);
    cg_spool_reader_ack(events, ret_batch->count);
    return ret_batch->count;
}

/* The same without the gateway's own events. Valid until the next call. */
static inline size_t take_events(struct cg_batch *ret_batch)
{
    static struct cg_event of_guests[CG_SPOOL_PEEK_EVENTS_MAX];
    struct cg_batch batch;
    size_t count = 0;
    while (count == 0 && take_all_events(&batch) > 0) {
        for (size_t i = 0; i < batch.count; i++) {
            if (batch.events[i].meta.kind == CG_EVENT_GUEST) {
                of_guests[count++] = batch.events[i];
            }
        }
    }
    *ret_batch = (struct cg_batch){.events = of_guests, .count = count};
    return count;
}

#endif
