/*
 * fc_document.h - one line of a Firecracker's metrics file becomes the output of a reading. Pure
 * but for memory.
 *
 * Firecracker writes a JSON object a line: utc_timestamp_ms, and an object of numbers for each of
 * its parts ("net", "vsock", "vcpu" …; docs/metrics.md of its repository). Most numbers count from
 * the document before, so documents add up only when each is told. The members are taken as they
 * are, whatever a later version calls them; numbers that are no integers are cut toward 0.
 */
#ifndef CELLGATE_FC_DOCUMENT_H
#define CELLGATE_FC_DOCUMENT_H

#include "cells/witness.h"
#include "event/canonical.h"
#include "probes/output.h"

enum { CG_FC_LINE_BYTES_MAX = 65536, CG_FC_DOCUMENT_NODES_MAX = 16384, CG_FC_LEVELS_MAX = 16 };

/* Memory that is used from document to document. */
struct cg_fc_reader {
    struct cg_json json;
    struct cg_canonical canonical;
};
void cg_fc_reader_init(struct cg_fc_reader *reader);
void cg_fc_reader_fini(struct cg_fc_reader *reader);

/*
 * Reads a line without its end. What stands before the last beginning of a document in it is what
 * an interrupted write has left, and is passed over when the whole is no document. Adds the members
 * to `output` and the figures to `facts` (CG_FACTS_GROWTH); *ret_cut counts the numbers cut.
 */
CG_MUST_USE bool cg_fc_document_read(struct cg_fc_reader *reader, struct cg_bytes line,
                                     struct cg_output *output, struct cg_facts *facts,
                                     uint64_t *ret_cut, struct cg_error *err);

/* The status of the answer to a request over Firecracker's API socket: 0 while its first line is
 * not whole, UINT32_MAX if it is no answer. */
uint32_t cg_fc_answer_status(struct cg_bytes answer);

#endif
