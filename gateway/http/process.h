/*
 * process.h - the process_* metrics that every Prometheus client library has.
 */
#ifndef CELLGATE_HTTP_PROCESS_H
#define CELLGATE_HTTP_PROCESS_H

#include "cellgate/buf.h"

/* Appends the families; one that the kernel does not tell is left out. Any thread. */
void cg_process_metrics(struct cg_buf *out);

#endif
