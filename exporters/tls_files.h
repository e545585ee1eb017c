/*
 * tls_files.h - the certificate files of an exporter, judged before they are needed.
 *
 * The TLS library reads these files at the first handshake, long after the operator has looked
 * away. So they are read once at the start too, only to say what is wrong with them. Any thread.
 */
#ifndef CELLGATE_EXPORTERS_TLS_FILES_H
#define CELLGATE_EXPORTERS_TLS_FILES_H

#include "cellgate/error.h"
#include "cellgate/option.h"

#include <stdbool.h>
#include <stdint.h>

/* Part of an exporter's configuration; NULL where not given. All PEM. */
struct cg_tls_files {
    const char *ca_file;   /* trusted authorities, instead of the system's */
    const char *cert_file; /* client certificate, with its chain behind it */
    const char *key_file;  /* its private key, without a passphrase */
};

/* The keys of a section that fills one. */
extern const struct cg_option cg_tls_options[];

/*
 * True if every file that is given can be read and fits: at least one authority; certificate and
 * key belong together; the key is not accessible by others. *ret_expiry_s is when the client
 * certificate ends, seconds of real time, 0 without one; an expired one is no failure here (the
 * clock may be wrong, and the destination will say).
 */
CG_MUST_USE bool cg_tls_files_check(const struct cg_tls_files *files, uint64_t *ret_expiry_s,
                                    struct cg_error *err);

/* Is this OpenSSL's text of an alert about our certificate? With TLS 1.3 the destination refuses it
 * after the handshake is done for us, so that libcurl reports a failed read and only the alert's
 * name tells. Pure. */
bool cg_tls_is_certificate_alert(const char *text);

#endif
