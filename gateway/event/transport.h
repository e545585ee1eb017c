/*
 * transport.h - the text around a canonical event: signed envelope and transport event. Pure.
 *
 * docs/contract.md section 5. The envelope is {"event":<canonical>,"signerKid":…,"algorithm":…,
 * "signature":…}; in transport it is the `data` of a CloudEvent with the same id and time (and
 * traceparent, where the event has one). The hot path renders the canonical event in its place
 * between cg_transport_open and cg_transport_seal; who has the canonical bytes already uses
 * cg_transport_append_*.
 *
 * Texts named *_json are as they stand in JSON: escaped, without quotes, so any id will do.
 */
#ifndef CELLGATE_TRANSPORT_H
#define CELLGATE_TRANSPORT_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"
#include "event/sign.h"

/* What the transport event shares with the event inside. */
struct cg_transport_attributes {
    struct cg_bytes id_json;
    struct cg_bytes time_json;        /* empty: the member is left out */
    struct cg_bytes traceparent_json; /* empty: the member is left out */
};

/* Appends the envelope around `canonical` (which must not lie in `out`). The signer's mode is not
 * off. False if the library failed to sign or the buffer failed; `out` is then as before. */
CG_MUST_USE bool cg_transport_append_envelope(struct cg_buf *out, struct cg_signer *signer,
                                              struct cg_bytes canonical);
/* Appends the transport event with that envelope in it. Likewise. */
CG_MUST_USE bool cg_transport_append_event(struct cg_buf *out, struct cg_signer *signer,
                                           struct cg_bytes canonical,
                                           const struct cg_transport_attributes *attributes);

/*
 * The same in pieces, for a caller who has made room: each writes at `at` and returns where the
 * text ends. cg_transport_seal signs what lies from `canonical` to `at` and closes the envelope;
 * it returns NULL, having written nothing, if the library failed.
 */
char *cg_transport_open(char *at, struct cg_bytes id_json);
char *cg_transport_open_envelope(char *at);
CG_MUST_USE char *cg_transport_seal(char *at, const char *canonical, struct cg_signer *signer);
char *cg_transport_close(char *at, const struct cg_transport_attributes *attributes);

/* Bytes that the pieces add at most around a canonical event with these attributes. */
size_t cg_transport_overhead(const struct cg_signer *signer,
                             const struct cg_transport_attributes *attributes);

#endif
