/*
 * bench_event.c - what one event costs in CPU time: rendering alone, and with each signature.
 *
 * Prints a line per step: name, nanoseconds an event, events per CPU-second. The declaration is the
 * one that the end-to-end benchmark sends (a frame of about 115 bytes). Not a test: nothing is
 * asserted about the numbers.
 */
#include "cellgate/clock.h"
#include "cellgate/limits.h"
#include "event/envelope.h"
#include "event/keys.h"
#include "event/uuid.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { EVENTS_PER_READ = 64 }; /* frames that share one stamp of the clock */

static const char *bench_mode;

static char *bench_getenv(const char *name)
{
    static char mode[16], kid[] = "ops-2026", key[] = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI";
    (void)snprintf(mode, sizeof(mode), "%s", bench_mode);
    bool off = strcmp(bench_mode, "off") == 0;
    return strcmp(name, "CELLOS_EVENT_SIGNING") == 0                      ? mode
           : strcmp(name, "CELLOS_EVENT_SIGNING_KID") == 0 && !off        ? kid
           : strcmp(name, "CELLOS_EVENT_SIGNING_KEY_BASE64") == 0 && !off ? key
                                                                          : NULL;
}

static double cpu_ns(void)
{
    struct timespec now;
    CG_ASSERT(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void report(const char *name, double start_ns, uint64_t events, size_t bytes)
{
    double each = (cpu_ns() - start_ns) / (double)events;
    (void)printf("%-28s %8.1f ns  %8.3f M/CPU-s  %zu bytes\n", name, each, 1e3 / each, bytes);
}

static void bench_uuid(uint64_t events)
{
    static struct cg_uuid_source source;
    char text[CG_UUID_TEXT_LEN];
    cg_uuid_source_init(&source);
    double start_ns = cpu_ns();
    for (uint64_t i = 0; i < events; i++) {
        cg_uuid_next(&source, i * CG_NS_PER_MS, text);
    }
    report("uuid", start_ns, events, sizeof(text));
}

static void bench_signature(const char *mode, uint64_t events)
{
    bench_mode = mode;
    struct cg_error err = {0};
    struct cg_signing_key *key;
    const char *warning;
    struct cg_signer *signer;
    CG_ASSERT(cg_signing_key_load(&(struct cg_key_request){0}, bench_getenv, &key, &warning, &err));
    CG_ASSERT(cg_signer_new(key, &signer, &err));
    char message[590] = {0};
    char text[CG_SIGNATURE_TEXT_MAX];
    size_t len = 0;
    double start_ns = cpu_ns();
    for (uint64_t i = 0; i < events; i++) {
        memcpy(message, &i, sizeof(i));
        len = cg_signer_sign(signer, cg_bytes(message, sizeof(message)), text);
    }
    char name[64];
    (void)snprintf(name, sizeof(name), "signature of 590 bytes, %s", mode);
    report(name, start_ns, events, len);
    cg_signer_free(signer);
    cg_signing_key_free(key);
}

static void bench_event(const char *mode, uint64_t events)
{
    bench_mode = mode;
    struct cg_error err = {0};
    struct cg_signing_key *key;
    const char *warning;
    struct cg_signer *signer;
    struct cg_envelope *envelope;
    CG_ASSERT(cg_signing_key_load(&(struct cg_key_request){0}, bench_getenv, &key, &warning, &err));
    CG_ASSERT(cg_signer_new(key, &signer, &err));
    CG_ASSERT(cg_envelope_new(CG_BYTES("/cellos-supervisor/host-telemetry"),
                              CG_BYTES("dev.cellos.events.cell.observability.v1.guest."),
                              CG_BYTES("host-7"), &envelope, &err));
    const struct cg_run_identity run = {
        .cell_id = CG_BYTES("cell-0042"),
        .run_id = CG_BYTES("run-xyz"),
        .spec_hash_json = CG_BYTES("sha256:deadbeef"),
    };
    struct cg_declaration declaration = {
        .content_version = 1,
        .guest_pid = 4242,
        .guest_monotonic_ns = UINT64_C(1234567890123),
        .probe_source = CG_BYTES("process.spawned"),
        .guest_comm = CG_BYTES("curl"),
    };
    struct cg_stamp stamp = {.run = &run, .connection = 1};
    static char out[64][CG_EVENT_BYTES_MAX];
    struct cg_event_meta meta;
    size_t bytes = 0;
    double start_ns = cpu_ns();
    for (uint64_t i = 0; i < events; i++) {
        stamp.sequence = i + 1;
        stamp.received_ns = UINT64_C(1795518000123456789) + i / EVENTS_PER_READ * 40000;
        declaration.guest_monotonic_ns += 1013;
        bytes = cg_envelope_guest(envelope, signer, &stamp, &declaration,
                                  "019ab0a4-2a40-7f00-8000-0123456789ab", out[i % 4], &meta);
        CG_ASSERT(bytes > 0);
    }
    char name[64];
    (void)snprintf(name, sizeof(name), "event, %s", mode);
    report(name, start_ns, events, bytes);
    cg_envelope_free(envelope);
    cg_signer_free(signer);
    cg_signing_key_free(key);
}

int main(void)
{
    bench_uuid(20000000);
    bench_event("off", 20000000);
    bench_signature("hmac-sha256", 1000000);
    bench_event("hmac-sha256", 1000000);
    bench_signature("ed25519", 20000);
    bench_event("ed25519", 20000);
    return EXIT_SUCCESS;
}
