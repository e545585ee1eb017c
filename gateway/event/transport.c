#include "event/transport.h"

#include "event/render.h"

#define OPEN_ID "{\"specversion\":\"1.0\",\"id\":\""
#define OPEN_DATA                                                                                  \
    "\",\"source\":\"/cellos-supervisor/event-signing\","                                          \
    "\"type\":\"dev.cellos.events.signed_envelope.v1\","                                           \
    "\"datacontenttype\":\"application/json\",\"data\":"
#define OPEN_ENVELOPE   "{\"event\":"
#define SEAL_KID        ",\"signerKid\":\""
#define SEAL_ALGORITHM  "\",\"algorithm\":\""
#define SEAL_SIGNATURE  "\",\"signature\":\""
#define SEAL_END        "\"}"
#define CLOSE_TIME      ",\"time\":\""
#define CLOSE_TRACE     ",\"traceparent\":\""
#define ALGORITHM_BYTES (sizeof("hmac-sha256") - 1) /* the longer of the two */

/* sizeof counts a NUL for each; that is slack, not arithmetic to rely on. */
enum {
    FIXED_BYTES = sizeof(OPEN_ID OPEN_DATA OPEN_ENVELOPE SEAL_KID SEAL_ALGORITHM SEAL_SIGNATURE
                             SEAL_END CLOSE_TIME "\"" CLOSE_TRACE "\"}") +
                  ALGORITHM_BYTES + CG_SIGNATURE_TEXT_MAX + CG_RENDER_SLACK,
};

size_t cg_transport_overhead(const struct cg_signer *signer,
                             const struct cg_transport_attributes *attributes)
{
    return FIXED_BYTES + cg_signer_kid_json(signer).len + attributes->id_json.len +
           attributes->time_json.len + attributes->traceparent_json.len;
}

char *cg_transport_open(char *at, struct cg_bytes id_json)
{
    at = CG_RENDER_LITERAL(at, OPEN_ID);
    at = cg_render_bytes(at, id_json);
    return CG_RENDER_LITERAL(at, OPEN_DATA);
}

char *cg_transport_open_envelope(char *at)
{
    return CG_RENDER_LITERAL(at, OPEN_ENVELOPE);
}

char *cg_transport_seal(char *at, const char *canonical, struct cg_signer *signer)
{
    char signature[CG_SIGNATURE_TEXT_MAX];
    size_t len = cg_signer_sign(signer, cg_bytes(canonical, (size_t)(at - canonical)), signature);
    if (len == 0) {
        return NULL;
    }
    at = CG_RENDER_LITERAL(at, SEAL_KID);
    at = cg_render_bytes(at, cg_signer_kid_json(signer));
    at = CG_RENDER_LITERAL(at, SEAL_ALGORITHM);
    at = cg_render_bytes(at, cg_bytes_str(cg_signing_mode_name(cg_signer_mode(signer))));
    at = CG_RENDER_LITERAL(at, SEAL_SIGNATURE);
    at = cg_render_bytes(at, cg_bytes(signature, len));
    return CG_RENDER_LITERAL(at, SEAL_END);
}

char *cg_transport_close(char *at, const struct cg_transport_attributes *attributes)
{
    if (attributes->time_json.len > 0) {
        at = CG_RENDER_LITERAL(at, CLOSE_TIME);
        at = cg_render_bytes(at, attributes->time_json);
        *at++ = '"';
    }
    if (attributes->traceparent_json.len > 0) {
        at = CG_RENDER_LITERAL(at, CLOSE_TRACE);
        at = cg_render_bytes(at, attributes->traceparent_json);
        *at++ = '"';
    }
    *at++ = '}';
    return at;
}

/* Envelope, and the transport event around it unless `attributes` is NULL. */
static bool append(struct cg_buf *out, struct cg_signer *signer, struct cg_bytes canonical,
                   const struct cg_transport_attributes *attributes)
{
    static const struct cg_transport_attributes none = {0};
    size_t overhead = cg_transport_overhead(signer, attributes == NULL ? &none : attributes);
    if (canonical.len > out->max || !cg_buf_reserve(out, canonical.len + overhead)) {
        return false;
    }
    char *at = out->data + out->len;
    if (attributes != NULL) {
        at = cg_transport_open(at, attributes->id_json);
    }
    at = cg_transport_open_envelope(at);
    const char *inner = at;
    at = cg_render_bytes(at, canonical);
    at = cg_transport_seal(at, inner, signer);
    if (at == NULL) {
        return false;
    }
    if (attributes != NULL) {
        at = cg_transport_close(at, attributes);
    }
    out->len = (size_t)(at - out->data);
    return true;
}

bool cg_transport_append_envelope(struct cg_buf *out, struct cg_signer *signer,
                                  struct cg_bytes canonical)
{
    return append(out, signer, canonical, NULL);
}

bool cg_transport_append_event(struct cg_buf *out, struct cg_signer *signer,
                               struct cg_bytes canonical,
                               const struct cg_transport_attributes *attributes)
{
    return append(out, signer, canonical, attributes);
}
