/* What a JetStream server answers: nothing in it may be read out of bounds, and only what looks
 * like a PubAck acknowledges. */
#include "exporters/nats_jetstream_ack.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Exactly as large as what is in it, so that a sanitizer sees one byte too many. */
    char *answer = malloc(size > 0 ? size : 1);
    if (answer == NULL) {
        return 0;
    }
    memcpy(answer, data, size);
    struct cg_bytes bytes = cg_bytes(answer, size);
    for (int api = 0; api < 2; api++) {
        struct cg_nats_ack ack = cg_nats_ack_parse(bytes, api);
        CG_ASSERT(!ack.good || memchr(answer, '"', size) != NULL);
        if (!ack.good) {
            struct cg_verdict verdict = {0};
            cg_nats_ack_verdict(&ack, &verdict);
            CG_ASSERT(verdict.kind != CG_VERDICT_DELIVERED && verdict.kind != CG_VERDICT_TOO_LARGE);
            CG_ASSERT(strlen(verdict.detail) < CG_VERDICT_DETAIL_MAX);
        }
    }
    free(answer);
    return 0;
}
