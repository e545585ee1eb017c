/*
 * fuzz_grpc_status.c - any bytes as the end of a gRPC call: grpc-status, grpc-message and
 * grpc-status-details-bin, each ended by a NUL, and behind them the answer's body. Whatever it is,
 * a verdict comes out that the core can act on.
 */
#include "exporters/grpc_status.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text up to the next NUL, copied, so that a read beyond it shows; NULL for an empty one, which
 * stands for none. To be freed. */
static char *take_text(struct cg_bytes *rest)
{
    const char *end = rest->len == 0 ? NULL : memchr(rest->data, '\0', rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->data);
    char *text = len == 0 ? NULL : strndup(rest->data, len);
    size_t used = end == NULL ? len : len + 1;
    if (used > 0) {
        *rest = cg_bytes(rest->data + used, rest->len - used);
    }
    return text;
}

static void check_verdict(const struct cg_verdict *verdict, const char *status)
{
    CG_ASSERT(memchr(verdict->detail, '\0', sizeof(verdict->detail)) != NULL);
    CG_ASSERT(verdict->detail[0] != '\0' && verdict->answer_len <= CG_VERDICT_ANSWER_MAX);
    CG_ASSERT(verdict->retry_after_ns == 0 || verdict->kind == CG_VERDICT_BACKOFF);
    CG_ASSERT(!verdict->suspicious_when_repeated || verdict->kind == CG_VERDICT_BACKOFF);
    bool is_zero = status != NULL && status[strspn(status, "0")] == '\0';
    CG_ASSERT((verdict->kind == CG_VERDICT_DELIVERED) == is_zero);
    CG_ASSERT(verdict->rejected == 0 || is_zero);
}

static void check_text(const char *text)
{
    char said[64];
    if (text != NULL) {
        size_t len = cg_grpc_text_decode(text, said, sizeof(said));
        CG_ASSERT(len < sizeof(said) && strlen(said) == len && len <= strlen(text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cg_otlp_reader
        *reader; /* for all inputs, as an exporter has one for all answers */
    if (reader == NULL) {
        CG_ASSERT(cg_otlp_reader_new(&reader, NULL));
    }
    struct cg_bytes rest = cg_bytes(data, size);
    char *status = take_text(&rest);
    char *message = take_text(&rest);
    char *details = take_text(&rest);
    const struct cg_grpc_answer answer = {
        .http_status = 200,
        .status = status,
        .message = message,
        .details = details,
        .body = rest,
    };
    struct cg_verdict verdict = {0};
    cg_grpc_verdict(reader, &answer, 0, &verdict);
    check_verdict(&verdict, status);
    check_text(message);
    free(status);
    free(message);
    free(details);
    return 0;
}
