/*
 * dead_letters_page.h - dead letters over the control listener: docs/control.md.
 *
 *     GET  /v1/dead-letters                       counts for each exporter
 *     GET  /v1/dead-letters/{exporter}            its letters, without the events (?after= ?limit=)
 *     GET  /v1/dead-letters/{exporter}/{id}       one letter, with the event
 *     POST /v1/dead-letters/{exporter}/replay     {"ids": […]} or {"all": true}: send them again
 *     POST /v1/dead-letters/{exporter}/drop       the same: forget them
 *
 * Reads and writes files: for threads that may block.
 */
#ifndef CELLGATE_HTTP_DEAD_LETTERS_PAGE_H
#define CELLGATE_HTTP_DEAD_LETTERS_PAGE_H

#include "http/public.h"

/* Is it one of these paths? */
bool cg_dead_letters_page_has(const char *path);
void cg_dead_letters_page(const struct cg_gateway_view *view, const struct cg_http_request *request,
                          struct cg_http_answer *answer);

#endif
