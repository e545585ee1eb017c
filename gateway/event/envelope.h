/*
 * envelope.h - a stamped declaration becomes the bytes of an event. Pure.
 *
 * docs/contract.md section 4 (canonical form) and 5 (signed envelope). The bytes are made once, by
 * copying constant pieces and the few values between them; they are signed, spooled and sent as
 * they are. No JSON tree, no allocation.
 */
#ifndef CELLGATE_ENVELOPE_H
#define CELLGATE_ENVELOPE_H

#include "cellgate/error.h"
#include "cellgate/event.h"
#include "event/sign.h"
#include "event/stamp.h"

enum {
    CG_UUID_TEXT_LEN = 36,
    CG_EVENT_SOURCE_BYTES_MAX = 2048, /* escaped */
    CG_EVENT_TYPE_PREFIX_BYTES_MAX = 256,
    CG_EVENT_RUN_BYTES_MAX = 40960, /* what a run's constant texts may take of an event */
};

/* What is the same for all events of a gateway. */
struct cg_envelope;

/*
 * source, type_prefix (the prefix of guest types) and node are texts of the configuration; they are
 * copied, and escaped once. Fails if one is too long, is not UTF-8 or there is no memory; and for a
 * type prefix with anything but printable ASCII, `"` and `\` excepted: types are matched as they
 * stand in the JSON.
 */
CG_MUST_USE bool cg_envelope_new(struct cg_bytes source, struct cg_bytes type_prefix,
                                 struct cg_bytes node, struct cg_envelope **ret_envelope,
                                 struct cg_error *err);
void cg_envelope_free(struct cg_envelope *envelope);

/*
 * True if events of this run fit an event of CG_EVENT_BYTES_MAX, whatever its guest declares.
 * Allowed ids, hash and labels do, unless labels are full of characters that an escape makes six
 * times as long: registration refuses those.
 */
bool cg_envelope_run_fits(const struct cg_run_identity *run);

/*
 * Renders the event of one guest declaration as it goes out: signed by `signer` inside its
 * transport event, or unsigned (without a null traceparent) where the signer's mode is off.
 *
 * `out` has room for CG_EVENT_BYTES_MAX bytes. Returns the length, and fills *ret_meta; returns 0,
 * with *ret_meta untouched, if signing failed or the run does not fit (the caller counts the event
 * as dropped). The envelope may be shared by threads, the signer not.
 */
CG_MUST_USE size_t cg_envelope_guest(const struct cg_envelope *envelope, struct cg_signer *signer,
                                     const struct cg_stamp *stamp,
                                     const struct cg_declaration *declaration,
                                     const char uuid[CG_UUID_TEXT_LEN], char *out,
                                     struct cg_event_meta *ret_meta);

/*
 * The gateway's own events; docs/contract.md section 4 lists when each is made and its members.
 * Types are the prefix of guest types and the name (`…v1.guest.agent_silenced`; the dot of
 * `telemetry.dropped` stays, which no guest's type has). run_ended and corroboration are not about
 * the guest alone: a `guest.` at the end of the prefix is left out for them (`…v1.run_ended`).
 */
enum cg_gateway_event {
    CG_GATEWAY_AGENT_SILENCED,
    CG_GATEWAY_AGENT_RESUMED,
    CG_GATEWAY_TELEMETRY_DROPPED,
    CG_GATEWAY_STREAM_OPENED,
    CG_GATEWAY_STREAM_CLOSED,
    CG_GATEWAY_PAUSED,
    CG_GATEWAY_UNPAUSED,
    CG_GATEWAY_RUN_ENDED,
    CG_GATEWAY_CORROBORATION,
    CG_GATEWAY_EVENT_COUNT
};

/* One member of `data` beside cellId, host, provenance and runId: its key, and its value as JSON.
 */
struct cg_member {
    struct cg_bytes key;
    struct cg_bytes json;
};

/*
 * As cg_envelope_guest, for an event of the gateway's own: provenance `observed`, `members` (sorted
 * by key, no key twice) in their sorted places among the others. Returns 0 too if the members are
 * so long that the event would exceed CG_EVENT_BYTES_MAX: the caller splits.
 */
CG_MUST_USE size_t cg_envelope_gateway(const struct cg_envelope *envelope, struct cg_signer *signer,
                                       const struct cg_stamp *stamp, enum cg_gateway_event type,
                                       const struct cg_member *members, size_t count,
                                       enum cg_event_severity severity,
                                       const char uuid[CG_UUID_TEXT_LEN], char *out,
                                       struct cg_event_meta *ret_meta);

/* What a host probe read: two canonical JSON objects, and its name among sources ("host.cgroup").
 */
struct cg_probe_content {
    struct cg_bytes source;
    struct cg_bytes inputs, output;
};

/* What there always is of an event for inputs and output together, whatever run and gateway are
 * called: a probe that keeps to it makes events that fit. */
enum { CG_PROBE_CONTENT_BYTES_MAX = 49152 };

/*
 * As cg_envelope_guest, for a reading: the source is `cellos-host-telemetry/probes`, the data flat,
 * the type the prefix of guest types without `v1.guest.`, and `host.v1.<probe>`. Returns 0 too if
 * the event would exceed CG_EVENT_BYTES_MAX.
 */
CG_MUST_USE size_t cg_envelope_probe(const struct cg_envelope *envelope, struct cg_signer *signer,
                                     const struct cg_stamp *stamp,
                                     const struct cg_probe_content *content,
                                     const char uuid[CG_UUID_TEXT_LEN], char *out,
                                     struct cg_event_meta *ret_meta);

#endif
