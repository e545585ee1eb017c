/*
 * http_url.h - the path of a URL: which one is meant where an operator gave none. Pure; any thread.
 *
 * The URLs are those that http_client.h has found valid.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_URL_H
#define CELLGATE_EXPORTERS_HTTP_URL_H

#include <stdbool.h>

/* Nothing but scheme, user information, host and port: no path beyond "/", and no query. */
bool cg_http_url_is_bare(const char *url);

/* The URL with `default_path` (which begins with a slash) in place of no path or "/"; a URL that
 * has a path of its own stays as it is, as does every one with NULL. A query stays. To be freed;
 * NULL if there is no memory. */
char *cg_http_url_complete(const char *url, const char *default_path);

#endif
