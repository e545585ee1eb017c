/*
 * nats_jetstream_ack.h - what a JetStream server answers, and what it means. Pure; any thread.
 */
#ifndef CELLGATE_EXPORTERS_NATS_JETSTREAM_ACK_H
#define CELLGATE_EXPORTERS_NATS_JETSTREAM_ACK_H

#include "cellgate/bytes.h"
#include "cellgate/exporter.h"

enum {
    CG_NATS_STREAM_NAME_IN_USE = 10058, /* a stream of that name exists, configured otherwise */
};

struct cg_nats_ack {
    bool good;            /* no error in it, and for a PubAck: a sequence number */
    bool no_responders;   /* nobody listens on the subject: no stream has it */
    unsigned code;        /* as HTTP has it */
    unsigned error_code;  /* the server's own number */
    struct cg_bytes text; /* the server's description, borrowed from the answer */
};

/* The answer to a published message, or with `api` to a request of the JetStream API. What cannot
 * be read is not good, with code 0. */
struct cg_nats_ack cg_nats_ack_parse(struct cg_bytes answer, bool api);

/* For an answer that is not good. */
void cg_nats_ack_verdict(const struct cg_nats_ack *ack, struct cg_verdict *ret_verdict);

#endif
