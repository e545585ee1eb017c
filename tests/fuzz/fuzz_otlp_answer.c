/*
 * fuzz_otlp_answer.c - any bytes as what a collector answers: a response in protobuf, the same in
 * JSON, and a status. What can be read is the same when it is read again, and nothing that cannot
 * be read changes the verdict.
 */
#include "exporters/otlp_answer.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_response(struct cg_otlp_reader *reader, enum cg_otlp_encoding encoding,
                           struct cg_bytes body)
{
    struct cg_verdict first = {.detail = "before"};
    struct cg_verdict second = {.detail = "before"};
    bool read = cg_otlp_read_response(reader, encoding, body, &first);
    CG_ASSERT(read == cg_otlp_read_response(reader, encoding, body, &second));
    CG_ASSERT(memcmp(&first, &second, sizeof(first)) == 0);
    CG_ASSERT(memchr(first.detail, '\0', sizeof(first.detail)) != NULL);
    CG_ASSERT(first.rejected <= INT64_MAX);
    if (!read) {
        CG_ASSERT(first.rejected == 0 && strcmp(first.detail, "before") == 0);
    }
}

static void check_status(struct cg_otlp_reader *reader, struct cg_bytes body)
{
    struct cg_otlp_status status;
    if (cg_otlp_read_status(reader, body, &status)) {
        CG_ASSERT(memchr(status.message, '\0', sizeof(status.message)) != NULL);
        CG_ASSERT(status.has_retry_info || status.retry_delay_ns == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cg_otlp_reader
        *reader; /* for all inputs, as an exporter has one for all answers */
    if (reader == NULL) {
        CG_ASSERT(cg_otlp_reader_new(&reader, NULL));
    }
    struct cg_bytes body = cg_bytes(data, size);
    check_response(reader, CG_OTLP_PROTOBUF, body);
    check_response(reader, CG_OTLP_JSON, body);
    check_status(reader, body);
    return 0;
}
