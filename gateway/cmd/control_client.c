#include "cmd/control_client.h"

#include "cellgate/cleanup.h"
#include "cellgate/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

enum {
    ANSWER_BYTES_MAX = 128 << 20,
    HEAD_BYTES_MAX = 8192,
    READ_BYTES = 64 << 10,
    SEND_TIMEOUT_S = 10,
    ANSWER_TIMEOUT_S = 660, /* the gateway waits for exporters for 10 minutes at most */
    NODES_MAX = 1 << 20,
    LEVELS_MAX = 16,
};

const char *cg_control_socket(void)
{
    const char *socket = getenv("CELLGATE_CONTROL");
    return socket == NULL || socket[0] == '\0' ? CG_CONTROL_SOCKET_DEFAULT : socket;
}

bool cg_control_connect(const char *path, int *ret_fd, struct cg_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval sending = {.tv_sec = SEND_TIMEOUT_S};
    const struct timeval reading = {.tv_sec = ANSWER_TIMEOUT_S};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return cg_error_set(err, "%s: the path of a socket is at most %zu bytes long", path,
                            sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &sending, sizeof(sending)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &reading, sizeof(reading)) != 0) {
        return cg_error_errno(err, errno, "make a socket");
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return cg_error_errno(err, errno, "connect to %s", path);
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

/* A gateway that has answered already may not read it all: what it said is read all the same. */
static bool send_all(int fd, struct cg_bytes bytes, struct cg_error *err)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return true;
        }
        if (sent < 0) {
            return cg_error_errno(err, errno, "send");
        }
        bytes.data += sent;
        bytes.len -= (size_t)sent;
    }
    return true;
}

static bool read_all(int fd, struct cg_buf *raw, struct cg_error *err)
{
    for (;;) {
        if (!cg_buf_reserve(raw, READ_BYTES)) {
            return cg_error_set(err, "the answer is too large");
        }
        ssize_t got = recv(fd, raw->data + raw->len, READ_BYTES, 0);
        if (got == 0 || (got < 0 && errno == ECONNRESET && raw->len > 0)) {
            return true;
        }
        if (got < 0) {
            return cg_error_errno(err, errno, "read the answer");
        }
        raw->len += (size_t)got;
    }
}

/* The value of a header in the head, or an empty one. `name` ends in a colon. */
static struct cg_bytes header(struct cg_bytes head, const char *name)
{
    size_t name_len = strlen(name);
    for (size_t at = 0; at + name_len < head.len; at++) {
        if (head.data[at] == '\n' && strncasecmp(head.data + at + 1, name, name_len) == 0) {
            const char *value = head.data + at + 1 + name_len;
            const char *end = memchr(value, '\r', head.len - (size_t)(value - head.data));
            value += *value == ' ' ? 1 : 0;
            return cg_bytes(value, end == NULL ? 0 : (size_t)(end - value));
        }
    }
    return cg_bytes(NULL, 0);
}

static bool split(struct cg_control_answer *answer, struct cg_error *err)
{
    static const char blank_line[] = "\r\n\r\n";
    struct cg_bytes raw = cg_buf_bytes(&answer->raw);
    const char *end =
        raw.len == 0 ? NULL : memmem(raw.data, raw.len, blank_line, sizeof(blank_line) - 1);
    if (end == NULL || !cg_bytes_starts(raw, CG_BYTES("HTTP/1.")) || raw.len < 12) {
        return cg_error_set(err, "the answer is not HTTP");
    }
    struct cg_bytes head = cg_bytes(raw.data, (size_t)(end - raw.data) + 2);
    struct cg_bytes length = header(head, "content-length:");
    const char *body = end + sizeof(blank_line) - 1;
    size_t body_len = raw.len - (size_t)(body - raw.data);
    char digits[24] = "";
    if (length.len == 0 || length.len >= sizeof(digits)) {
        return cg_error_set(err, "the answer has no length");
    }
    memcpy(digits, length.data, length.len);
    if (strtoull(digits, NULL, 10) != body_len) {
        return cg_error_set(err, "the answer was cut");
    }
    answer->status = (unsigned)strtoul(raw.data + sizeof("HTTP/1.1 ") - 1, NULL, 10);
    answer->body = cg_bytes(body, body_len);
    if (!cg_json_parse(&answer->json, answer->body, NULL)) {
        answer->json.count = 0; /* text */
    }
    return true;
}

bool cg_control_send(int fd, const char *method, const char *target, struct cg_bytes body,
                     struct cg_error *err)
{
    cg_auto_buf struct cg_buf request;
    cg_buf_init(&request, HEAD_BYTES_MAX + body.len);
    cg_buf_printf(&request, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method,
                  target);
    if (body.len > 0) {
        cg_buf_printf(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                      body.len);
    }
    cg_buf_append_str(&request, "\r\n");
    if (!cg_buf_append(&request, body)) {
        return cg_error_set(err, "the request is too long");
    }
    return send_all(fd, cg_buf_bytes(&request), err);
}

bool cg_control_ask(const char *socket, const char *method, const char *target,
                    struct cg_bytes body, struct cg_control_answer *ret_answer,
                    struct cg_error *err)
{
    cg_auto_close int fd = -1;
    struct cg_control_answer answer = {0};
    cg_buf_init(&answer.raw, ANSWER_BYTES_MAX);
    cg_json_init(&answer.json, (struct cg_json_limits){.bytes_max = ANSWER_BYTES_MAX,
                                                       .nodes_max = NODES_MAX,
                                                       .levels_max = LEVELS_MAX});
    if (!cg_control_connect(socket, &fd, err) || !cg_control_send(fd, method, target, body, err) ||
        !read_all(fd, &answer.raw, err) || !split(&answer, err)) {
        cg_control_answer_fini(&answer);
        return false;
    }
    *ret_answer = answer;
    return true;
}

void cg_control_answer_fini(struct cg_control_answer *answer)
{
    cg_json_fini(&answer->json);
    cg_buf_fini(&answer->raw);
}

void cg_control_append_encoded(struct cg_buf *target, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;
        if (isalnum(c) || strchr("-._~", c) != NULL) {
            cg_buf_append_char(target, (char)c);
        } else {
            cg_buf_printf(target, "%%%02X", c);
        }
    }
}

const char *cg_control_show(const struct cg_json *json, uint32_t object, const char *member,
                            char out[CG_CONTROL_SHOWN_MAX])
{
    uint32_t node = json->count == 0 ? 0 : cg_json_find(json, object, cg_bytes_str(member));
    if (node == 0 || cg_json_type(json, node) == CG_JSON_NULL) {
        return memcpy(out, "-", 2);
    }
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, json->nodes[node].len + (size_t)1);
    if (cg_json_type(json, node) == CG_JSON_STRING) {
        cg_json_decode(json, node, &text);
    } else {
        cg_buf_append(&text, cg_json_raw(json, node));
    }
    (void)cg_text_escape(cg_buf_bytes(&text), out, CG_CONTROL_SHOWN_MAX);
    return out;
}

void cg_control_complain(const char *name, const struct cg_control_answer *answer)
{
    char title[CG_CONTROL_SHOWN_MAX];
    char member[CG_CONTROL_SHOWN_MAX];
    char detail[CG_CONTROL_SHOWN_MAX];
    (void)cg_control_show(&answer->json, 0, "title", title);
    (void)cg_control_show(&answer->json, 0, "member", member);
    (void)cg_control_show(&answer->json, 0, "detail", detail);
    bool about = strcmp(member, "-") != 0;
    (void)fprintf(stderr, "cellgate %s: %u %s: %s%s%s\n", name, answer->status, title,
                  about ? member : "", about ? ": " : "", detail);
}
