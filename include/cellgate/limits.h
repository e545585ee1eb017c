/*
 * limits.h - the limits that more than one folder needs, each with its unit last.
 */
#ifndef CELLGATE_LIMITS_H
#define CELLGATE_LIMITS_H

enum {
    CG_FRAME_PREFIX_BYTES = 4,
    CG_FRAME_BODY_BYTES_MAX = 65536,   /* docs/contract.md section 2 */
    CG_EVENT_BYTES_MAX = 65535,        /* in transport, signature included; section 4 */
    CG_DECLARED_TEXT_BYTES_MAX = 1024, /* guestComm and probeSource in an event; section 4 */
    CG_ID_BYTES_MAX = 128,             /* cell and run ids; section 6 */
    CG_SPEC_HASH_BYTES_MAX = 256,
    CG_TRACEPARENT_BYTES_MAX = 128,
    CG_LABELS_MAX = 16,       /* section 4 */
    CG_LABEL_BYTES_MAX = 256, /* each key and each value */
    CG_KID_BYTES_MAX = 256,
    CG_NODE_BYTES_MAX = 255,
    CG_TELEMETRY_PORT = 9001, /* section 1 */
    CG_EXPORTERS_MAX = 32,
    CG_EXPORTER_NAME_BYTES_MAX = 64,
};

#endif
