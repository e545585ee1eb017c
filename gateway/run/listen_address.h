/*
 * listen_address.h - the form of an address to listen on. Pure.
 */
#ifndef CELLGATE_LISTEN_ADDRESS_H
#define CELLGATE_LISTEN_ADDRESS_H

#include <stdbool.h>

/* Whether it is "127.0.0.1:9464", "[::1]:9464", "localhost:9464" or "unix:/path"; the port may be
 * 0, a Unix path is absolute and fits a socket address. */
bool cg_listen_address_check(const char *address);

#endif
