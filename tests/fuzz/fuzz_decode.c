/* fuzz_decode.c - whatever the body, decoding stays in its bounds and keeps its promises. */
#include "base/utf8.h"
#include "cellgate/error.h"
#include "ingress/decode.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cg_decode_scratch scratch;

static bool lies_in(struct cg_bytes text, const char *start, size_t length)
{
    return text.data >= start && text.data + text.len <= start + length;
}

static void check_text(struct cg_bytes text, struct cg_bytes body)
{
    CG_ASSERT(cg_utf8_valid(text));
    CG_ASSERT(lies_in(text, body.data, body.len) ||
              lies_in(text, scratch.text, sizeof(scratch.text)));
}

/* Bytes behind the map are ignored, so that one more changes nothing. */
static void check_with_tail(struct cg_bytes body, const struct cg_declaration *declaration)
{
    if (body.len == CG_FRAME_BODY_BYTES_MAX) {
        return;
    }
    char *longer = malloc(body.len + 1);
    CG_ASSERT(longer != NULL);
    memcpy(longer, body.data, body.len);
    longer[body.len] = (char)0xFF;
    static struct cg_decode_scratch other_scratch;
    struct cg_declaration again;
    const char *why;
    CG_ASSERT(cg_decode(cg_bytes(longer, body.len + 1), &other_scratch, &again, &why) ==
              CG_REFUSAL_NONE);
    CG_ASSERT(again.content_version == declaration->content_version &&
              again.guest_pid == declaration->guest_pid &&
              again.guest_monotonic_ns == declaration->guest_monotonic_ns &&
              cg_bytes_equal(again.probe_source, declaration->probe_source) &&
              cg_bytes_equal(again.guest_comm, declaration->guest_comm));
    free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > CG_FRAME_BODY_BYTES_MAX) {
        return 0;
    }
    struct cg_bytes body = cg_bytes(data, size);
    struct cg_declaration declaration;
    const char *why = NULL;
    enum cg_refusal refusal = cg_decode(body, &scratch, &declaration, &why);
    CG_ASSERT(refusal != CG_REFUSAL_LENGTH && refusal != CG_REFUSAL_TRUNCATED);
    CG_ASSERT((refusal == CG_REFUSAL_NONE) == (why == NULL));
    if (refusal == CG_REFUSAL_NONE) {
        CG_ASSERT(declaration.content_version <= 0xFF);
        check_text(declaration.probe_source, body);
        check_text(declaration.guest_comm, body);
        check_with_tail(body, &declaration);
    }
    return 0;
}
