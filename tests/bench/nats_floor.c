/*
 * nats_floor.c - what libnats alone costs: nanoseconds of CPU per event, as one JSON object.
 *
 *     nats_floor URL EVENT_BYTES EVENTS
 *
 * Publishes messages of that size, with the headers that the exporter sets, to a stream of its own
 * that it makes, as the library's own asynchronous publishing does it, 512 at once on the way; and
 * waits for every PubAck.
 */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TYPE    "dev.cellos.events.cell.observability.v1.guest.process_spawned"
#define SUBJECT "floor.cell-0." TYPE

enum { WINDOW = 512, EVENT_BYTES_MAX = 65536, STALL_MS = 60000 };

static double cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void check(natsStatus status, const char *what)
{
    if (status != NATS_OK) {
        (void)fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
        exit(1);
    }
}

static void publish(jsCtx *stream, const char *event, int bytes, unsigned long number)
{
    char id[64];
    (void)snprintf(id, sizeof(id), "01a213dc-4579-7b20-%04lx-%012lx", number >> 16, number);
    natsMsg *message = NULL;
    check(natsMsg_Create(&message, SUBJECT, NULL, event, bytes), "message");
    const char *const headers[][2] = {
        {"Nats-Msg-Id", id},
        {"ce-id", id},
        {"ce-source", "/cellos-supervisor/host-telemetry"},
        {"ce-type", TYPE},
        {"ce-specversion", "1.0"},
        {"content-type", "application/cloudevents+json"},
        {"Nats-Expected-Stream", "FLOOR"},
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        check(natsMsgHeader_Set(message, headers[i][0], headers[i][1]), "header");
    }
    check(js_PublishMsgAsync(stream, &message, NULL), "publish");
}

int main(int argc, char **argv)
{
    static char event[EVENT_BYTES_MAX];
    if (argc != 4 || atoi(argv[2]) <= 0 || atoi(argv[2]) > EVENT_BYTES_MAX) {
        (void)fprintf(stderr, "usage: nats_floor URL EVENT_BYTES EVENTS\n");
        return 64;
    }
    int bytes = atoi(argv[2]);
    unsigned long events = strtoul(argv[3], NULL, 10);
    memset(event, 'x', sizeof(event));

    natsConnection *connection = NULL;
    jsCtx *stream = NULL;
    jsOptions options;
    check(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = WINDOW;
    options.PublishAsync.StallWait = STALL_MS;
    check(natsConnection_ConnectTo(&connection, argv[1]), "connect");
    check(natsConnection_JetStream(&stream, connection, &options), "JetStream");
    const char *subjects[] = {"floor.>"};
    jsStreamConfig config;
    check(jsStreamConfig_Init(&config), "stream");
    config.Name = "FLOOR";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    check(js_AddStream(NULL, stream, &config, NULL, NULL), "stream");

    double begun = cpu_ns();
    for (unsigned long i = 0; i < events; i++) {
        publish(stream, event, bytes, i);
    }
    check(js_PublishAsyncComplete(stream, NULL), "acknowledgements");
    (void)printf("{\"publish_ns\": %.0f}\n", (cpu_ns() - begun) / (double)events);
    return 0;
}
