/*
 * floors.c - what the machine itself costs, measured in the same run as the gateway: one JSON
 * object.
 *
 *     floors DIRECTORY EVENT_BYTES EVENTS
 *
 * Nanoseconds of this process's CPU per event of EVENT_BYTES: sending it over loopback, writing it
 * to new pages and over old pages of a file, writing it twice to new files (the floor of spool plus
 * file exporter), and what HMAC-SHA256 and Ed25519 take for a message of that size.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 512 };

static char batch[BATCH * 4096];

static double cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void check(int good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void drain(int fd)
{
    static char sink[1 << 20];
    while (read(fd, sink, sizeof(sink)) > 0) {
    }
    _exit(0);
}

static double loopback(size_t event, unsigned batches)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(listener >= 0 && bind(listener, (void *)&address, len) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, (void *)&address, &len) == 0,
          "listen");
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        drain(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0 && connect(fd, (void *)&address, len) == 0, "connect");
    double start = cpu_ns();
    for (unsigned i = 0; i < batches; i++) {
        for (size_t sent = 0; sent < BATCH * event;) {
            ssize_t n = send(fd, batch + sent, BATCH * event - sent, MSG_NOSIGNAL);
            check(n > 0, "send");
            sent += (size_t)n;
        }
    }
    double took = cpu_ns() - start;
    (void)close(fd);
    (void)close(listener);
    (void)waitpid(child, NULL, 0);
    return took / (double)batches / BATCH;
}

static int temporary(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    check(fd >= 0, directory);
    return fd;
}

/* To `files` files at once, from the start of each. */
static double writes(const int *fds, unsigned files, size_t event, unsigned batches)
{
    double start = cpu_ns();
    for (unsigned i = 0; i < batches; i++) {
        for (unsigned f = 0; f < files; f++) {
            off_t at = (off_t)(i * BATCH * event);
            check(pwrite(fds[f], batch, BATCH * event, at) == (ssize_t)(BATCH * event), "pwrite");
        }
    }
    return (cpu_ns() - start) / (double)batches / BATCH;
}

static double hmac(size_t event, unsigned count)
{
    unsigned char key[32] = {1};
    unsigned char mac[32];
    size_t len = 0;
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithm);
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                           OSSL_PARAM_construct_end()};
    check(EVP_MAC_init(context, key, sizeof(key), params) == 1, "EVP_MAC_init");
    double start = cpu_ns();
    for (unsigned i = 0; i < count; i++) {
        check(EVP_MAC_init(context, NULL, 0, NULL) == 1 &&
                  EVP_MAC_update(context, (const unsigned char *)batch, event) == 1 &&
                  EVP_MAC_final(context, mac, &len, sizeof(mac)) == 1,
              "EVP_MAC");
    }
    double took = (cpu_ns() - start) / count;
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(algorithm);
    return took;
}

static double ed25519_openssl(size_t event, unsigned count)
{
    unsigned char seed[32] = {1};
    unsigned char signature[64];
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof(seed));
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    check(EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1, "EVP_DigestSignInit");
    double start = cpu_ns();
    for (unsigned i = 0; i < count; i++) {
        size_t len = sizeof(signature);
        check(EVP_DigestSign(context, signature, &len, (const unsigned char *)batch, event) == 1,
              "EVP_DigestSign");
    }
    double took = (cpu_ns() - start) / count;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return took;
}

static double ed25519_sodium(size_t event, unsigned count)
{
    unsigned char public[crypto_sign_PUBLICKEYBYTES];
    unsigned char secret[crypto_sign_SECRETKEYBYTES];
    unsigned char signature[crypto_sign_BYTES];
    check(sodium_init() >= 0 && crypto_sign_keypair(public, secret) == 0, "sodium");
    double start = cpu_ns();
    for (unsigned i = 0; i < count; i++) {
        check(crypto_sign_detached(signature, NULL, (const unsigned char *)batch, event, secret) ==
                  0,
              "crypto_sign_detached");
    }
    return (cpu_ns() - start) / count;
}

int main(int argc, char **argv)
{
    size_t event = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned batches = argc == 4 ? (unsigned)(strtoul(argv[3], NULL, 10) / BATCH) : 0;
    if (event == 0 || event > sizeof(batch) / BATCH || batches == 0) {
        (void)fprintf(stderr, "usage: %s DIRECTORY EVENT_BYTES EVENTS\n", argv[0]);
        return 64;
    }
    memset(batch, 'x', sizeof(batch));
    int fds[] = {temporary(argv[1]), temporary(argv[1])};
    double once = writes(fds, 1, event, batches);
    double over = writes(fds, 1, event, batches);
    check(ftruncate(fds[0], 0) == 0, "ftruncate");
    double twice = writes(fds, 2, event, batches);
    (void)printf("{\"event_bytes\":%zu,\"loopback_ns\":%.1f,\"write_new_ns\":%.1f,"
                 "\"write_over_ns\":%.1f,\"write_twice_ns\":%.1f,\"hmac_ns\":%.1f,"
                 "\"ed25519_openssl_ns\":%.1f,\"ed25519_sodium_ns\":%.1f}\n",
                 event, loopback(event, batches), once, over, twice, hmac(event, 500000),
                 ed25519_openssl(event, 20000), ed25519_sodium(event, 20000));
    return 0;
}
