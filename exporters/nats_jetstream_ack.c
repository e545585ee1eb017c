#include "exporters/nats_jetstream_ack.h"

#include <stdio.h>

/*
 * Finds `"name":` and returns what stands behind it, nothing if it is not there. Good enough for
 * these answers: inside a JSON text a quote has a backslash before it, so that the bytes looked for
 * can stand in none.
 */
static struct cg_bytes behind(struct cg_bytes json, struct cg_bytes name)
{
    const char *at = memmem(json.data, json.len, name.data, name.len);
    if (at == NULL) {
        return cg_bytes("", 0);
    }
    at += name.len;
    size_t left = json.len - (size_t)(at - json.data);
    while (left > 0 && *at == ' ') {
        at++;
        left--;
    }
    return cg_bytes(at, left);
}

/* 0 if there is no number, or none of at most six digits. */
static unsigned number(struct cg_bytes text)
{
    unsigned value = 0;
    size_t digits = 0;
    while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9') {
        if (digits == 6) {
            return 0;
        }
        value = value * 10 + (unsigned)(text.data[digits++] - '0');
    }
    return value;
}

static struct cg_bytes text_of(struct cg_bytes quoted)
{
    if (quoted.len == 0 || quoted.data[0] != '"') {
        return cg_bytes("", 0);
    }
    const char *end = memchr(quoted.data + 1, '"', quoted.len - 1);
    return end == NULL ? cg_bytes("", 0)
                       : cg_bytes(quoted.data + 1, (size_t)(end - quoted.data - 1));
}

struct cg_nats_ack cg_nats_ack_parse(struct cg_bytes answer, bool api)
{
    if (answer.len == 0 || answer.data[0] != '{') {
        return (struct cg_nats_ack){.text = CG_BYTES("not an acknowledgement")};
    }
    struct cg_bytes error = behind(answer, CG_BYTES("\"error\":"));
    if (error.len == 0) {
        struct cg_bytes sequence = behind(answer, CG_BYTES("\"seq\":"));
        bool has_sequence = sequence.len > 0 && sequence.data[0] >= '1' && sequence.data[0] <= '9';
        bool good = api ? behind(answer, CG_BYTES("\"config\":")).len > 0 : has_sequence;
        return (struct cg_nats_ack){.good = good, .text = CG_BYTES("not an acknowledgement")};
    }
    return (struct cg_nats_ack){
        .code = number(behind(error, CG_BYTES("\"code\":"))),
        .error_code = number(behind(error, CG_BYTES("\"err_code\":"))),
        .text = text_of(behind(error, CG_BYTES("\"description\":"))),
    };
}

/* Where the server's number says more than its code. */
static const struct {
    unsigned error_code;
    enum cg_verdict_kind kind;
} known[] = {
    {10039, CG_VERDICT_CONFIG},  /* JetStream is not enabled for the account */
    {10054, CG_VERDICT_SUSPECT}, /* the message is larger than the stream takes */
    {10076, CG_VERDICT_CONFIG},  /* JetStream is not enabled */
    {10097, CG_VERDICT_SUSPECT}, /* its headers are */
    {10109, CG_VERDICT_CONFIG},  /* the stream is sealed */
};

/* What is busy, full or has no leader just now (5xx) passes by itself, or when somebody makes room;
 * refusals do not. */
static enum cg_verdict_kind kind_of(const struct cg_nats_ack *ack)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].error_code == ack->error_code) {
            return known[i].kind;
        }
    }
    return ack->code == 0 || ack->code >= 500 ? CG_VERDICT_BACKOFF : CG_VERDICT_CONFIG;
}

void cg_nats_ack_verdict(const struct cg_nats_ack *ack, struct cg_verdict *ret_verdict)
{
    if (ack->no_responders) {
        ret_verdict->kind = CG_VERDICT_CONFIG;
        (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail),
                       "no stream takes the subject (or JetStream is not enabled)");
        return;
    }
    ret_verdict->kind = kind_of(ack);
    ret_verdict->status = (int)ack->error_code;
    int len = ack->text.len < 200 ? (int)ack->text.len : 200;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "JetStream error %u: %.*s",
                   ack->error_code, len, ack->text.data);
}
