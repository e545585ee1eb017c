/*
 * acceptor.h - the thread that does nothing but accept and hand over.
 *
 * docs/contract.md section 1: a VMM connects with a blocking connect on its device thread, so a
 * guest's connection must never wait behind other work, nor behind a lack of descriptors.
 */
#ifndef CELLGATE_ACCEPTOR_H
#define CELLGATE_ACCEPTOR_H

#include "ingress/connection.h"
#include "ingress/ingress.h"

struct cg_acceptor;

/* Starts the thread. `config` and `shared` are borrowed until it is freed. */
CG_MUST_USE bool cg_acceptor_start(const struct cg_ingress_config *config,
                                   struct cg_ingress_shared *shared,
                                   struct cg_acceptor **ret_acceptor, struct cg_error *err);

/* Any thread: accepts on the channel's socket from now on. */
CG_MUST_USE bool cg_acceptor_add(struct cg_acceptor *acceptor, struct cg_channel *channel,
                                 struct cg_error *err);

/* Any thread, while the acceptor runs: lets in who is waiting on the channel's socket, up to the
 * cell's cap, and knows the channel no more when it returns. The socket stays open. */
void cg_acceptor_remove(struct cg_acceptor *acceptor, struct cg_channel *channel);

/* How often it has turned; a poke makes it turn once more. Any thread. */
uint64_t cg_acceptor_turns(const struct cg_acceptor *acceptor);
void cg_acceptor_poke(struct cg_acceptor *acceptor);

/* Ends the thread; after it the caller may empty what the sockets still hold. */
void cg_acceptor_stop(struct cg_acceptor *acceptor);
/* Accepts what is waiting on the channel's socket, up to the cell's cap. After stop. */
void cg_acceptor_empty(struct cg_acceptor *acceptor, struct cg_channel *channel);

/* After stop. NULL is fine. */
void cg_acceptor_free(struct cg_acceptor *acceptor);

#endif
