#include "spool/record.h"

#include "cellgate/error.h"
#include "spool/crc32c.h"

static uint32_t content_crc(const struct cg_record_header *record)
{
    size_t from = offsetof(struct cg_record_header, len);
    return cg_crc32c(0, (const char *)record + from, cg_record_bytes(record->len) - from);
}

/* Header and padding but for what the kinds differ in; then the checksum. */
static void finish(struct cg_record_header *record, size_t len)
{
    memset((char *)(record + 1) + len, 0, cg_record_bytes(len) - CG_RECORD_HEADER_BYTES - len);
    record->index = 0;
    record->seal = 0;
    record->len = (uint32_t)len;
    record->content_crc = content_crc(record);
}

void cg_record_stage(struct cg_record_header *record, size_t len, const struct cg_event_meta *meta)
{
    CG_ASSERT(meta->kind > 0 && meta->kind < CG_RECORD_INTERNAL);
    for (unsigned i = 0; i < CG_TEXT_COUNT; i++) {
        CG_ASSERT((size_t)meta->text[i].offset + meta->text[i].len <= len);
    }
    record->kind = meta->kind;
    record->severity = meta->severity;
    CG_ASSERT((meta->silence & CG_RECORD_TELLS_LOSSES) == 0);
    record->flags = (uint16_t)(meta->silence | (meta->tells_losses ? CG_RECORD_TELLS_LOSSES : 0));
    record->connection = meta->connection;
    record->pid = meta->pid;
    record->sequence = meta->sequence;
    record->received_ns = meta->received_ns;
    memcpy(record->text, meta->text, sizeof(record->text));
    finish(record, len);
}

void cg_record_stage_internal(struct cg_record_header *record, size_t len, enum cg_record_kind kind,
                              uint16_t flags)
{
    CG_ASSERT(kind >= CG_RECORD_INTERNAL && len <= CG_RECORD_PAYLOAD_MAX);
    memset(record, 0, sizeof(*record));
    record->kind = (uint8_t)kind;
    record->flags = flags;
    finish(record, len);
}

void cg_record_seal(struct cg_record_header *record, uint64_t index, uint64_t salt)
{
    record->index = index;
    record->seal = cg_crc32c_u64x2(record->content_crc, index, salt);
}

bool cg_record_sealed(const struct cg_record_header *record, uint64_t salt)
{
    return record->len <= CG_RECORD_PAYLOAD_MAX &&
           record->seal == cg_crc32c_u64x2(record->content_crc, record->index, salt);
}

bool cg_record_whole(const struct cg_record_header *record)
{
    if (record->content_crc != content_crc(record)) {
        return false;
    }
    /* The checksum says that we wrote it; the spans are checked all the same, since others use
     * them without looking. */
    for (unsigned i = 0; i < CG_TEXT_COUNT; i++) {
        if ((size_t)record->text[i].offset + record->text[i].len > record->len) {
            return false;
        }
    }
    return true;
}

void cg_record_event(const struct cg_record_header *record, struct cg_event *ret_event)
{
    ret_event->index = record->index;
    ret_event->meta.sequence = record->sequence;
    ret_event->meta.received_ns = record->received_ns;
    ret_event->meta.connection = record->connection;
    ret_event->meta.pid = record->pid;
    ret_event->meta.kind = record->kind;
    ret_event->meta.severity = record->severity;
    ret_event->meta.silence = record->flags & (uint16_t)~CG_RECORD_TELLS_LOSSES;
    ret_event->meta.tells_losses = (record->flags & CG_RECORD_TELLS_LOSSES) != 0;
    memcpy(ret_event->meta.text, record->text, sizeof(record->text));
    ret_event->bytes = cg_record_payload(record);
}
