/*
 * reader.h - one ingress thread: it reads its cells' connections, and nobody else does.
 *
 * docs/contract.md sections 1 and 2. A reader turns: it waits for what is ready, reads each ready
 * connection once (so that a cell takes no more than its share of a turn), commits what came of it,
 * and looks at its timers. Timers are lists in the order of time, so that thousands of connections
 * cost nothing while nothing happens.
 *
 * The functions are called on the reader's thread (in tests, the test's) but for those that say
 * "any thread".
 */
#ifndef CELLGATE_READER_H
#define CELLGATE_READER_H

#include "ingress/connection.h"
#include "ingress/ingress.h"

/* `config` and `shared` are borrowed until the reader is freed. */
CG_MUST_USE bool cg_reader_new(const struct cg_ingress_config *config,
                               struct cg_ingress_shared *shared, const struct cg_envelope *envelope,
                               const struct cg_signing_key *key, struct cg_spool *spool,
                               struct cg_reader **ret_reader, struct cg_error *err);
/* Closes the connections it still has. NULL is fine. */
void cg_reader_free(struct cg_reader *reader);

/* Any thread, once: the reader keeps the cell's keep-alive clock and its account from here on. The
 * channel stays the caller's, who frees it after the reader, unless cg_reader_forget takes it. */
void cg_reader_adopt(struct cg_reader *reader, struct cg_channel *channel);

/* Any thread: the acceptor closed a connection of this channel at once. It becomes a drop of the
 * cell, with the reason's name; telemetry.dropped tells of it. */
void cg_reader_note_refused(struct cg_reader *reader, struct cg_channel *channel,
                            enum cg_connect_refusal refusal);

/* Any thread: a probe has read something of the cell. The reading is the reader's from here on; if
 * too many wait already, it is dropped, and telemetry.dropped tells of it. */
void cg_reader_observe(struct cg_reader *reader, struct cg_channel *channel,
                       struct cg_reading *reading);

/*
 * Any thread but the reader's: the run is over. The acceptor gives nothing more for this channel.
 * Reads what its connections hold now, until `deadline_ns` at most, closes them (`deregistered`),
 * appends the last events of the run, run_ended behind them all, and blocks until that is done.
 * False: it was not appended before the deadline; it is as soon as the spool takes it. The channel
 * is the reader's from the call on in either case, who frees it; *ret_totals is filled in either
 * case, and `last_sequence` is that of run_ended, or the last assigned so far.
 */
CG_MUST_USE bool cg_reader_forget(struct cg_reader *reader, struct cg_channel *channel,
                                  uint64_t deadline_ns, struct cg_run_totals *ret_totals);

/* Any thread: hands over a connection that was accepted for a cell of this reader. */
void cg_reader_give(struct cg_reader *reader, struct cg_connection *connection);

/* Any thread: what the reader works by from its next turn on; `key` NULL: it signs with the key it
 * has. One that comes before the last was taken up takes its place, but for a key it has not. */
struct cg_reader_change;
CG_MUST_USE bool cg_reader_change_new(const struct cg_ingress_settings *settings,
                                      const struct cg_signing_key *key,
                                      struct cg_reader_change **ret_change, struct cg_error *err);
void cg_reader_change_free(struct cg_reader_change *change); /* NULL is fine */
void cg_reader_change(struct cg_reader *reader, struct cg_reader_change *change);
/* Waits until it has been taken up, or the monotonic clock of the system passes `until_ns`. */
void cg_reader_await_change(struct cg_reader *reader, uint64_t until_ns);

/* Any thread: how often it has turned; a poke makes it turn once more. */
uint64_t cg_reader_turns(const struct cg_reader *reader);
void cg_reader_poke(struct cg_reader *reader);

/* Any thread: what cg_reader_run shall do. */
enum cg_reader_order { CG_READER_TURN, CG_READER_DRAIN, CG_READER_QUIESCE, CG_READER_STOP };
void cg_reader_order(struct cg_reader *reader, enum cg_reader_order order, uint64_t deadline_ns);

/* Turns until it is ordered to stop, or has drained or come to rest; may be called again. */
void cg_reader_run(struct cg_reader *reader);

/* Waits until something is ready or due, at most until `wait_until_ns`, and does it. Returns how
 * many connections were ready. */
unsigned cg_reader_turn(struct cg_reader *reader, uint64_t wait_until_ns);

/*
 * Comes to rest, for another process to go on from here: appends what it has read, and what is to
 * be told, and reads nothing more. False if that was not possible before the deadline. Nothing is
 * closed: afterwards it may be drained all the same, or abandoned.
 */
CG_MUST_USE bool cg_reader_quiesce(struct cg_reader *reader, uint64_t deadline_ns);
/* Once its thread has ended: whether it came to rest. */
bool cg_reader_is_quiet(const struct cg_reader *reader);
/* Closes its connections for this process only, and tells nobody. */
void cg_reader_abandon(struct cg_reader *reader);

/* Reads what the connections hold until there is nothing more or the drain timeout has passed,
 * appends it, which may take until the deadline if the spool is full, and closes them. */
void cg_reader_drain(struct cg_reader *reader, uint64_t deadline_ns);

#endif
