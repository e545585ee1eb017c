/*
 * nats_jetstream_link.h - one connection to a NATS server, driven by the exporter's own thread: the
 * only files that know libnats.
 *
 * The library is used with an event loop of ours (poll on its socket and on the cancel eventfd), so
 * that writing, reading and waiting never block, and without its reconnecting: when to come back is
 * the core's word. Only connecting blocks; cg_interrupt ends it, and a name that the resolver does
 * not answer is not tried.
 *
 * A link belongs to the thread that made it; cancel and reopen come from any.
 */
#ifndef CELLGATE_EXPORTERS_NATS_JETSTREAM_LINK_H
#define CELLGATE_EXPORTERS_NATS_JETSTREAM_LINK_H

#include "cellgate/exporter.h"
#include "exporters/nats_jetstream_ack.h"
#include "exporters/nats_jetstream_config.h"

enum { CG_NATS_HEADERS_MAX = 8 };

struct cg_nats_link;

/* Fails for what the operator must mend: files missing or of no use. Connects to nothing. `name` is
 * what the server shows for the connection. */
CG_MUST_USE bool cg_nats_link_new(const struct cg_nats_link_config *config, const char *name,
                                  struct cg_nats_link **ret_link, struct cg_error *err);
void cg_nats_link_free(struct cg_nats_link *link);

/* True once connected, which it may have been before; *ret_new tells. Otherwise a verdict. */
CG_MUST_USE bool cg_nats_link_connect(struct cg_nats_link *link, bool *ret_new,
                                      struct cg_verdict *ret_verdict);
/* Hangs up, without waiting for anybody. */
void cg_nats_link_drop(struct cg_nats_link *link);

struct cg_nats_header {
    const char *name;
    const char *value;
};

struct cg_nats_message {
    const char *subject;
    const struct cg_nats_header *headers;
    size_t header_count;
    struct cg_bytes payload;
};

/* From here on, only answers to what is published from here on are of interest. */
void cg_nats_link_begin(struct cg_nats_link *link);

/* Takes a message up for sending; its answer will bear `number`. False, and a verdict, if it is
 * larger than the server takes, or cannot be sent. */
CG_MUST_USE bool cg_nats_link_publish(struct cg_nats_link *link,
                                      const struct cg_nats_message *message, uint64_t number,
                                      struct cg_verdict *ret_verdict);
/* Bytes taken up and not yet handed to the kernel. */
size_t cg_nats_link_unsent(struct cg_nats_link *link);

/* Sends and receives what is possible now; if nothing is, waits until something is, or until the
 * monotonic deadline. False, and a verdict, if cancelled, late, or no longer connected. */
CG_MUST_USE bool cg_nats_link_pump(struct cg_nats_link *link, uint64_t deadline_ns,
                                   struct cg_verdict *ret_verdict);

/* Takes the next answer that is there: true, and the number of what it answers. The text of the ack
 * is valid until the next call. */
bool cg_nats_link_answer(struct cg_nats_link *link, bool api, uint64_t *ret_number,
                         struct cg_nats_ack *ret_ack);

/* Any thread: see struct cg_exporter_ops. */
void cg_nats_link_cancel(struct cg_nats_link *link);
void cg_nats_link_reopen(struct cg_nats_link *link);
uint64_t cg_nats_link_certificate_expiry_s(const struct cg_nats_link *link);

#endif
