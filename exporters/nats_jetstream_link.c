#include "exporters/nats_jetstream_link.h"

#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "exporters/interrupt.h"
#include "exporters/resolve.h"
#include "exporters/token_file.h"

#include <errno.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
    IO_BYTES = 128 * 1024,
    REPLY_BYTES_MAX = 128,
    SPENT_MAX = 256, /* messages kept before they are destroyed, and their bytes */
    SPENT_BYTES_MAX = 256 * 1024,
};

struct cg_nats_link {
    const struct cg_nats_link_config *config;
    char *name;
    struct cg_interrupt *interrupt;
    struct cg_token_file *secret; /* token or password; NULL if neither is configured */
    int cancel_fd;                /* eventfd; readable for good once cancelled */
    atomic_bool cancelled;
    atomic_bool reopen;
    _Atomic uint64_t certificate_expiry_s;

    natsConnection *connection; /* NULL: none */
    natsSubscription *answers;
    natsMsg *answer; /* the last one handed out */
    natsMsg *spent[SPENT_MAX];
    size_t spent_count;
    size_t spent_bytes;
    int fd; /* the connection's; -1: none */
    char inbox[REPLY_BYTES_MAX];
    uint64_t generation;
};

static bool fail(enum cg_verdict_kind kind, const char *text, struct cg_verdict *ret_verdict)
{
    ret_verdict->kind = kind;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "%.*s",
                   CG_VERDICT_DETAIL_MAX - 1, text);
    return false;
}

/* --- life --- */

/* The library reads it, at each connect; this only says beforehand what is wrong with it. */
static bool check_credentials(const char *path, struct cg_error *err)
{
    struct stat st;
    if (access(path, R_OK) != 0 || stat(path, &st) != 0) {
        return cg_error_errno(err, errno, "credentials_file: %s", path);
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0) {
        return cg_error_set(err, "credentials_file: %s: not a file of mode 0600 (mode %04o)", path,
                            (unsigned)st.st_mode & 07777);
    }
    return true;
}

static bool check_files(struct cg_nats_link *link, struct cg_error *err)
{
    uint64_t expiry_s = 0;
    if (!cg_tls_files_check(&link->config->tls, &expiry_s, err)) {
        return false;
    }
    atomic_store(&link->certificate_expiry_s, expiry_s);
    const char *credentials = link->config->credentials_file;
    if (credentials != NULL && !check_credentials(credentials, err)) {
        return false;
    }
    if (link->secret != NULL && !cg_token_file_refresh(link->secret, err)) {
        return cg_error_context(err, link->config->user != NULL ? "password_file" : "token_file");
    }
    return true;
}

static bool init_link(struct cg_nats_link *link, const char *name, struct cg_error *err)
{
    const struct cg_nats_link_config *config = link->config;
    link->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->cancel_fd < 0) {
        return cg_error_errno(err, errno, "eventfd");
    }
    link->name = strdup(name);
    const char *secret = config->user != NULL ? config->password_file : config->token_file;
    link->secret = secret == NULL ? NULL : malloc(sizeof(*link->secret));
    if (link->name == NULL || (secret != NULL && link->secret == NULL) ||
        nats_Open(-1) != NATS_OK) {
        return cg_error_set(err, "no memory for a NATS connection");
    }
    if (secret != NULL) {
        cg_token_file_init(link->secret, secret);
    }
    return cg_interrupt_new(&link->interrupt, err) && check_files(link, err);
}

bool cg_nats_link_new(const struct cg_nats_link_config *config, const char *name,
                      struct cg_nats_link **ret_link, struct cg_error *err)
{
    struct cg_nats_link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return cg_error_set(err, "no memory for a NATS connection");
    }
    link->config = config;
    link->cancel_fd = -1;
    link->fd = -1;
    if (!init_link(link, name, err)) {
        cg_nats_link_free(link);
        return false;
    }
    *ret_link = link;
    return true;
}

/* The library frees messages on a thread of its own, which sleeps while there are none. So they are
 * handed to it many at once: one by one, each would wake it. */
static void destroy_spent(struct cg_nats_link *link)
{
    for (size_t i = 0; i < link->spent_count; i++) {
        natsMsg_Destroy(link->spent[i]);
    }
    link->spent_count = 0;
    link->spent_bytes = 0;
}

static void spend(struct cg_nats_link *link, natsMsg *message)
{
    if (message == NULL) {
        return;
    }
    link->spent[link->spent_count++] = message;
    link->spent_bytes += (size_t)natsMsg_GetDataLength(message);
    if (link->spent_count == SPENT_MAX || link->spent_bytes > SPENT_BYTES_MAX) {
        destroy_spent(link);
    }
}

void cg_nats_link_drop(struct cg_nats_link *link)
{
    spend(link, link->answer);
    link->answer = NULL;
    destroy_spent(link);
    if (link->connection == NULL) {
        return;
    }
    if (link->fd >= 0) {
        /* Closing an open connection would wait for the server to take what is still unsent. */
        (void)shutdown(link->fd, SHUT_RDWR);
        natsConnection_ProcessReadEvent(link->connection);
    }
    natsSubscription_Destroy(link->answers);
    natsConnection_Destroy(link->connection);
    link->answers = NULL;
    link->connection = NULL;
    link->fd = -1;
}

void cg_nats_link_free(struct cg_nats_link *link)
{
    cg_nats_link_drop(link);
    cg_interrupt_free(link->interrupt);
    if (link->secret != NULL) {
        cg_token_file_fini(link->secret);
        free(link->secret);
    }
    free(link->name);
    cg_cleanup_close(&link->cancel_fd);
    free(link);
    nats_ReleaseThreadMemory();
}

void cg_nats_link_cancel(struct cg_nats_link *link)
{
    atomic_store(&link->cancelled, true);
    (void)eventfd_write(link->cancel_fd, 1);
    cg_interrupt_cancel(link->interrupt);
}

void cg_nats_link_reopen(struct cg_nats_link *link)
{
    atomic_store(&link->reopen, true);
}

uint64_t cg_nats_link_certificate_expiry_s(const struct cg_nats_link *link)
{
    return atomic_load(&link->certificate_expiry_s);
}

/* --- the library's event loop: we poll for reading always, and for writing while there is
 * something unsent, so that all it tells us is the descriptor --- */

static natsStatus attach(void **ret_data, void *loop, natsConnection *connection, natsSock fd)
{
    (void)connection;
    struct cg_nats_link *link = loop;
    link->fd = fd;
    *ret_data = link;
    return NATS_OK;
}

static natsStatus ask_for_events(void *data, bool add)
{
    (void)data;
    (void)add;
    return NATS_OK;
}

static natsStatus detach(void *data)
{
    struct cg_nats_link *link = data;
    link->fd = -1;
    return NATS_OK;
}

/* --- connecting --- */

static void free_options(natsOptions **options)
{
    natsOptions_Destroy(*options);
}

#define auto_options __attribute__((cleanup(free_options)))

#define TRY(call)                                                                                  \
    do {                                                                                           \
        natsStatus try_status_ = (call);                                                           \
        if (try_status_ != NATS_OK) {                                                              \
            return try_status_;                                                                    \
        }                                                                                          \
    } while (0)

static natsStatus set_credentials(const struct cg_nats_link *link, natsOptions *options)
{
    const struct cg_nats_link_config *config = link->config;
    if (config->credentials_file != NULL) {
        TRY(natsOptions_SetUserCredentialsFromFiles(options, config->credentials_file, NULL));
    }
    if (config->user != NULL) {
        TRY(natsOptions_SetUserInfo(options, config->user, link->secret->token));
    } else if (link->secret != NULL) {
        TRY(natsOptions_SetToken(options, link->secret->token));
    }
    return NATS_OK;
}

static natsStatus set_tls(const struct cg_nats_link_config *config, natsOptions *options)
{
    if (!cg_nats_link_wants_tls(config)) {
        return NATS_OK;
    }
    TRY(natsOptions_SetSecure(options, true));
    if (config->tls.ca_file != NULL) {
        TRY(natsOptions_LoadCATrustedCertificates(options, config->tls.ca_file));
    }
    if (config->tls.cert_file != NULL) {
        TRY(natsOptions_LoadCertificatesChain(options, config->tls.cert_file,
                                              config->tls.key_file));
    }
    return NATS_OK;
}

/* `servers` is a copy of the configured list, since the library asks for one it might write to. */
static natsStatus set_options(struct cg_nats_link *link, const char **servers, natsOptions *options)
{
    const struct cg_nats_link_config *config = link->config;
    TRY(natsOptions_SetServers(options, servers, (int)config->servers.count));
    TRY(natsOptions_SetName(options, link->name));
    TRY(natsOptions_SetTimeout(options, (int64_t)(config->connect_timeout_ns / CG_NS_PER_MS)));
    TRY(natsOptions_SetEventLoop(options, link, attach, ask_for_events, ask_for_events, detach));
    TRY(natsOptions_SetIOBufSize(options, IO_BYTES));
    TRY(natsOptions_SetSendAsap(options, true)); /* no thread that flushes: pump does */
    TRY(natsOptions_SetAllowReconnect(options, false));
    TRY(natsOptions_SetIgnoreDiscoveredServers(options, true)); /* only where we were told to go */
    /* Nobody reads the pongs while there is nothing to deliver; deliver has a timeout. */
    TRY(natsOptions_SetPingInterval(options, 0));
    TRY(natsOptions_SetNoEcho(options, true));
    TRY(set_credentials(link, options));
    return set_tls(config, options);
}

static natsStatus connect_and_listen(struct cg_nats_link *link)
{
    const char *servers[CG_NATS_SERVERS_MAX];
    size_t count = link->config->servers.count;
    CG_ASSERT(count > 0 && count <= CG_NATS_SERVERS_MAX);
    memcpy(servers, link->config->servers.items, count * sizeof(servers[0]));
    auto_options natsOptions *options = NULL;
    TRY(natsOptions_Create(&options));
    TRY(set_options(link, servers, options));
    TRY(natsConnection_Connect(&link->connection, options));

    natsInbox *inbox = NULL;
    TRY(natsInbox_Create(&inbox));
    (void)snprintf(link->inbox, sizeof(link->inbox), "%s", inbox);
    natsInbox_Destroy(inbox);
    char pattern[REPLY_BYTES_MAX + 8];
    (void)snprintf(pattern, sizeof(pattern), "%s.>", link->inbox);
    TRY(natsConnection_SubscribeSync(&link->answers, link->connection, pattern));
    return natsSubscription_SetPendingLimits(link->answers, -1, -1); /* the window bounds them */
}

/* The library's own words, without the line of its source that it puts before them. */
static const char *last_error(natsStatus status)
{
    const char *text = nats_GetLastError(NULL);
    if (text == NULL || text[0] == '\0') {
        return natsStatus_GetText(status);
    }
    const char *behind = text[0] == '(' ? strstr(text, "): ") : NULL;
    return behind != NULL ? behind + 3 : text;
}

static enum cg_verdict_kind kind_of(natsStatus status, const char *text)
{
    switch (status) {
    case NATS_ERR: /* the server is full, or else a credentials file is none */
        return strstr(text, "maximum connections") != NULL ? CG_VERDICT_BACKOFF : CG_VERDICT_CONFIG;
    case NATS_CONNECTION_AUTH_FAILED:
    case NATS_NOT_PERMITTED:
    case NATS_SECURE_CONNECTION_WANTED:
    case NATS_SECURE_CONNECTION_REQUIRED:
    case NATS_SSL_ERROR:
    case NATS_NO_SERVER_SUPPORT:
    case NATS_INVALID_ARG:
        return CG_VERDICT_CONFIG;
    default:
        return CG_VERDICT_BACKOFF;
    }
}

/* Is there a server whose name has an address? The library would ask for it blockingly, and would
 * not tell an unknown name from one that nobody answers for just now. */
static bool resolve(struct cg_nats_link *link, struct cg_verdict *ret_verdict)
{
    enum cg_verdict_kind kind = CG_VERDICT_CONFIG;
    char host[CG_NATS_HOST_BYTES_MAX] = "";
    for (size_t i = 0; i < link->config->servers.count; i++) {
        bool is_tls;
        CG_ASSERT(cg_nats_server_parse(link->config->servers.items[i], &is_tls, host));
        int timeout_ms = (int)(link->config->connect_timeout_ns / CG_NS_PER_MS);
        switch (cg_resolve(host, link->cancel_fd, timeout_ms)) {
        case CG_RESOLVED_KNOWN:
            return true;
        case CG_RESOLVED_UNKNOWN:
            break;
        case CG_RESOLVED_NOT_NOW:
            kind = CG_VERDICT_BACKOFF;
            break;
        }
    }
    ret_verdict->kind = kind;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "%s: %.200s",
                   kind == CG_VERDICT_CONFIG ? "no such host" : "could not resolve", host);
    return false;
}

static bool connect_anew(struct cg_nats_link *link, struct cg_verdict *ret_verdict)
{
    if (!resolve(link, ret_verdict)) {
        return false;
    }
    uint64_t timeout_ns = link->config->connect_timeout_ns * link->config->servers.count;
    if (!cg_interrupt_begin(link->interrupt, timeout_ns)) {
        return fail(CG_VERDICT_BACKOFF, "cancelled", ret_verdict);
    }
    uint64_t begun_ns = cg_clock_monotonic(&cg_clock_system);
    natsStatus status = connect_and_listen(link);
    cg_interrupt_end(link->interrupt);
    if (status == NATS_OK) {
        return true;
    }
    const char *text = last_error(status);
    bool late = cg_clock_monotonic(&cg_clock_system) - begun_ns >= timeout_ns;
    (void)fail(late ? CG_VERDICT_BACKOFF : kind_of(status, text), text, ret_verdict);
    cg_nats_link_drop(link);
    return false;
}

/* Reads what came while nobody waited: the server may have hung up. */
static void notice_hangup(struct cg_nats_link *link)
{
    struct pollfd poll_fd = {.fd = link->fd, .events = POLLIN};
    while (link->fd >= 0 && poll(&poll_fd, 1, 0) > 0) {
        natsConnection_ProcessReadEvent(link->connection);
    }
    if (link->connection != NULL && link->fd < 0) {
        cg_nats_link_drop(link);
    }
}

bool cg_nats_link_connect(struct cg_nats_link *link, bool *ret_new, struct cg_verdict *ret_verdict)
{
    if (atomic_exchange(&link->reopen, false)) {
        cg_nats_link_drop(link);
    }
    notice_hangup(link);
    *ret_new = link->connection == NULL;
    if (!*ret_new) {
        return true;
    }
    struct cg_error err = {0};
    if (!check_files(link, &err)) {
        return fail(CG_VERDICT_CONFIG, err.text, ret_verdict);
    }
    bool connected = connect_anew(link, ret_verdict);
    if (atomic_load(&link->cancelled)) {
        return fail(CG_VERDICT_BACKOFF, "cancelled", ret_verdict);
    }
    return connected;
}

/* --- messages and answers --- */

void cg_nats_link_begin(struct cg_nats_link *link)
{
    link->generation++;
}

static natsStatus publish(struct cg_nats_link *link, const struct cg_nats_message *message,
                          const char *reply)
{
    natsMsg *copy = NULL;
    natsStatus status = natsMsg_Create(&copy, message->subject, reply, message->payload.data,
                                       (int)message->payload.len);
    for (size_t i = 0; status == NATS_OK && i < message->header_count; i++) {
        status = natsMsgHeader_Set(copy, message->headers[i].name, message->headers[i].value);
    }
    if (status == NATS_OK) {
        status = natsConnection_PublishMsg(link->connection, copy);
    }
    spend(link, copy);
    return status;
}

bool cg_nats_link_publish(struct cg_nats_link *link, const struct cg_nats_message *message,
                          uint64_t number, struct cg_verdict *ret_verdict)
{
    char reply[REPLY_BYTES_MAX + 48];
    (void)snprintf(reply, sizeof(reply), "%s.%" PRIu64 ".%" PRIu64, link->inbox, link->generation,
                   number);
    natsStatus status = publish(link, message, reply);
    if (status == NATS_OK) {
        return true;
    }
    const char *text = last_error(status);
    return fail(status == NATS_MAX_PAYLOAD ? CG_VERDICT_SUSPECT : kind_of(status, text), text,
                ret_verdict);
}

size_t cg_nats_link_unsent(struct cg_nats_link *link)
{
    int unsent = natsConnection_Buffered(link->connection);
    return unsent > 0 ? (size_t)unsent : 0;
}

/* The connection is gone, or the server has told us that we may not publish. */
static bool judge_connection(struct cg_nats_link *link, struct cg_verdict *ret_verdict)
{
    const char *text = NULL;
    natsStatus status = natsConnection_GetLastError(link->connection, &text);
    if (link->fd >= 0 && status != NATS_NOT_PERMITTED) {
        return true;
    }
    bool named = text != NULL && text[0] != '\0';
    return fail(status == NATS_ERR ? CG_VERDICT_BACKOFF : kind_of(status, ""),
                named ? text : "the server closed the connection", ret_verdict);
}

bool cg_nats_link_pump(struct cg_nats_link *link, uint64_t deadline_ns,
                       struct cg_verdict *ret_verdict)
{
    if (link->fd < 0) {
        return judge_connection(link, ret_verdict);
    }
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    if (now_ns >= deadline_ns) {
        return fail(CG_VERDICT_BACKOFF, "no acknowledgement in time", ret_verdict);
    }
    short events = cg_nats_link_unsent(link) > 0 ? POLLIN | POLLOUT : POLLIN;
    struct pollfd fds[] = {{.fd = link->cancel_fd, .events = POLLIN},
                           {.fd = link->fd, .events = events}};
    int timeout_ms = (int)((deadline_ns - now_ns) / CG_NS_PER_MS) + 1;
    if (poll(fds, 2, timeout_ms) < 0) {
        return errno == EINTR || fail(CG_VERDICT_BACKOFF, "poll failed", ret_verdict);
    }
    if (fds[0].revents != 0) {
        return fail(CG_VERDICT_BACKOFF, "cancelled", ret_verdict);
    }
    if ((fds[1].revents & POLLOUT) != 0) {
        natsConnection_ProcessWriteEvent(link->connection);
    }
    if ((fds[1].revents & (POLLIN | POLLERR | POLLHUP)) != 0) {
        natsConnection_ProcessReadEvent(link->connection);
    }
    return judge_connection(link, ret_verdict);
}

/* The number behind "<inbox>.<generation>."; false if it is from before. */
static bool parse_reply(const struct cg_nats_link *link, const char *subject, uint64_t *ret_number)
{
    char expected[REPLY_BYTES_MAX + 24];
    int len =
        snprintf(expected, sizeof(expected), "%s.%" PRIu64 ".", link->inbox, link->generation);
    if (strncmp(subject, expected, (size_t)len) != 0) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(subject + len, &end, 10);
    if (errno != 0 || end == subject + len || *end != '\0') {
        return false;
    }
    *ret_number = number;
    return true;
}

bool cg_nats_link_answer(struct cg_nats_link *link, bool api, uint64_t *ret_number,
                         struct cg_nats_ack *ret_ack)
{
    for (;;) {
        spend(link, link->answer);
        link->answer = NULL;
        natsStatus status = natsSubscription_NextMsg(&link->answer, link->answers, 0);
        if (status == NATS_NO_RESPONDERS) { /* the library keeps which message it was to itself */
            *ret_number = 0;
            *ret_ack = (struct cg_nats_ack){.no_responders = true};
            return true;
        }
        if (status != NATS_OK) {
            return false;
        }
        if (parse_reply(link, natsMsg_GetSubject(link->answer), ret_number)) {
            struct cg_bytes data = cg_bytes(natsMsg_GetData(link->answer),
                                            (size_t)natsMsg_GetDataLength(link->answer));
            *ret_ack = cg_nats_ack_parse(data, api);
            return true;
        }
    }
}
