/*
 * grpc_sink.c - a gRPC server for OTLP logs that costs as little as possible: TLS on 127.0.0.1.
 *
 *     grpc_sink CERTIFICATE_FILE   writes its certificate there, prints {"port": N}, and at SIGTERM
 *                                  totals as JSON
 *
 * One thread, one connection after the other. Events are counted from the messages.
 */
#include "bench/otlp_count.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 * 1024,
    MESSAGE_BYTES_MAX = 64 * 1024 * 1024,
    WINDOW_BYTES = 16 * 1024 * 1024,
    PREFIX_BYTES = 5,
};

static struct {
    unsigned long long requests, events, bytes, refused;
} totals;

/* One call is going on at a time: its message, and the answer's five bytes. */
static struct {
    char *data;
    size_t len, cap;
    bool answered;
} call;

static void die(const char *what)
{
    (void)fprintf(stderr, "grpc_sink: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* --- the certificate --- */

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    if (extension == NULL || X509_add_ext(certificate, extension, -1) != 1) {
        die("certificate");
    }
    X509_EXTENSION_free(extension);
}

static SSL_CTX *make_context(const char *certificate_file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    FILE *file = fopen(certificate_file, "we");
    if (key == NULL || certificate == NULL || context == NULL || file == NULL) {
        die("certificate");
    }
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"sink", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    add_extension(certificate, NID_subject_alt_name, "IP:127.0.0.1");
    add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (X509_sign(certificate, key, EVP_sha256()) == 0 || PEM_write_X509(file, certificate) != 1 ||
        fclose(file) != 0 || SSL_CTX_use_certificate(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey(context, key) != 1) {
        die("certificate");
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

static int select_h2(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                     const unsigned char *in, unsigned in_len, void *context)
{
    (void)ssl;
    (void)context;
    return nghttp2_select_next_protocol((unsigned char **)(uintptr_t)out, out_len, in, in_len) == 1
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* --- one call --- */

static int take_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                     size_t len, void *context)
{
    (void)session;
    (void)flags;
    (void)stream;
    (void)context;
    if (len > MESSAGE_BYTES_MAX - call.len) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (call.len + len > call.cap) {
        call.cap = 2 * (call.len + len);
        call.data = realloc(call.data, call.cap);
        if (call.data == NULL) {
            die("no memory");
        }
    }
    memcpy(call.data + call.len, data, len);
    call.len += len;
    return 0;
}

#define HEADER(text_name, text_value)                                                              \
    {                                                                                              \
        .name = (uint8_t *)(uintptr_t)(text_name), .namelen = sizeof(text_name) - 1,               \
        .value = (uint8_t *)(uintptr_t)(text_value), .valuelen = sizeof(text_value) - 1,           \
        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,                     \
    }

/* An empty message, and the trailers behind it. */
static ssize_t give_answer(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)source;
    (void)context;
    static const nghttp2_nv trailers[] = {HEADER("grpc-status", "0")};
    if (room < PREFIX_BYTES || nghttp2_submit_trailer(session, stream, trailers, 1) != 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    memset(to, 0, PREFIX_BYTES);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return PREFIX_BYTES;
}

static int end_of_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    (void)context;
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    uint64_t count = call.len < PREFIX_BYTES
                         ? UINT64_MAX
                         : otlp_count_records(call.data + PREFIX_BYTES, call.len - PREFIX_BYTES);
    totals.requests++;
    totals.bytes += call.len;
    totals.events += count == UINT64_MAX ? 0 : count;
    totals.refused += count == UINT64_MAX;
    call.len = 0;
    static const nghttp2_nv headers[] = {HEADER(":status", "200"),
                                         HEADER("content-type", "application/grpc")};
    nghttp2_data_provider provider = {.read_callback = give_answer};
    return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &provider);
}

/* --- one connection --- */

static bool send_all(nghttp2_session *session, SSL *ssl)
{
    for (;;) {
        const uint8_t *data;
        ssize_t len = nghttp2_session_mem_send(session, &data);
        if (len <= 0) {
            return len == 0;
        }
        if (SSL_write(ssl, data, (int)len) != len) {
            return false;
        }
    }
}

static nghttp2_session *open_session(void)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1},
    };
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        die("no memory");
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, take_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, end_of_frame);
    if (nghttp2_session_server_new(&session, callbacks, NULL) != 0 ||
        nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
        nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES) != 0) {
        die("no HTTP/2 session");
    }
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

/* False once a signal has come. */
static bool wait_for(int fd, int signals)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    return (fds[1].revents & POLLIN) == 0;
}

/* False once a signal has come. */
static bool serve(SSL *ssl, int fd, int signals)
{
    static uint8_t data[READ_BYTES];
    nghttp2_session *session = open_session();
    bool alive = SSL_accept(ssl) == 1 && send_all(session, ssl);
    bool go_on = true;
    while (alive && (SSL_pending(ssl) > 0 || (go_on = wait_for(fd, signals)))) {
        int got = SSL_read(ssl, data, sizeof(data));
        alive = got > 0 && nghttp2_session_mem_recv(session, data, (size_t)got) == got &&
                send_all(session, ssl);
    }
    call.len = 0;
    nghttp2_session_del(session);
    return go_on;
}

static int listen_on_any_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        die("listen");
    }
    printf("{\"port\": %u}\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        die("usage: grpc_sink CERTIFICATE_FILE");
    }
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    SSL_CTX *context = make_context(argv[1]);
    SSL_CTX_set_alpn_select_cb(context, select_h2, NULL);
    int listener = listen_on_any_port();
    bool go_on = true;
    while (go_on && wait_for(listener, signals)) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        int one = 1;
        SSL *ssl = SSL_new(context);
        if (fd < 0 || ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
            die("accept");
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        go_on = serve(ssl, fd, signals);
        SSL_free(ssl);
        (void)close(fd);
    }
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    printf("{\"requests\": %llu, \"events\": %llu, \"body_bytes\": %llu, \"refused\": %llu, "
           "\"cpu_seconds\": %.3f}\n",
           totals.requests, totals.events, totals.bytes, totals.refused,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    return 0;
}
