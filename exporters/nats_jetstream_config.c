#include "exporters/nats_jetstream_config.h"

#include <string.h>

bool cg_nats_server_parse(const char *text, bool *ret_is_tls, char ret_host[CG_NATS_HOST_BYTES_MAX])
{
    bool is_tls = strncmp(text, "tls://", 6) == 0;
    if (is_tls) {
        text += 6;
    } else if (strncmp(text, "nats://", 7) == 0) {
        text += 7;
    }
    bool bracketed = text[0] == '[';
    text += bracketed;
    size_t len = strcspn(text, bracketed ? "]/@?# " : ":/@?# ");
    const char *rest = text + len;
    if (len == 0 || len >= CG_NATS_HOST_BYTES_MAX || (bracketed && *rest++ != ']')) {
        return false;
    }
    if (*rest == ':') {
        size_t digits = strspn(++rest, "0123456789");
        if (digits == 0 || digits > 5) {
            return false;
        }
        rest += digits;
    }
    if (*rest != '\0') {
        return false;
    }
    *ret_is_tls = is_tls;
    memcpy(ret_host, text, len);
    ret_host[len] = '\0';
    return true;
}

bool cg_nats_link_validate(const struct cg_nats_link_config *config, struct cg_error *err)
{
    for (size_t i = 0; i < config->servers.count; i++) {
        const char *server = config->servers.items[i];
        bool is_tls;
        char host[CG_NATS_HOST_BYTES_MAX];
        if (strchr(server, '@') != NULL) {
            return cg_error_set(err, "servers: user and password belong into user and "
                                     "password_file, a token into token_file");
        }
        if (strlen(server) > CG_NATS_SERVER_BYTES_MAX ||
            !cg_nats_server_parse(server, &is_tls, host)) {
            return cg_error_set(err, "servers: expected nats://HOST[:PORT] or tls://HOST[:PORT]");
        }
    }
    if ((config->tls.cert_file == NULL) != (config->tls.key_file == NULL)) {
        return cg_error_set(err, "tls: cert_file and key_file go together");
    }
    if ((config->user == NULL) != (config->password_file == NULL)) {
        return cg_error_set(err, "user and password_file go together");
    }
    int ways =
        (config->credentials_file != NULL) + (config->token_file != NULL) + (config->user != NULL);
    return ways <= 1 || cg_error_set(err, "more than one of credentials_file, token_file and user");
}

bool cg_nats_link_wants_tls(const struct cg_nats_link_config *config)
{
    bool wanted = config->tls.ca_file != NULL || config->tls.cert_file != NULL;
    for (size_t i = 0; i < config->servers.count; i++) {
        wanted = wanted || strncmp(config->servers.items[i], "tls://", 6) == 0;
    }
    return wanted;
}
