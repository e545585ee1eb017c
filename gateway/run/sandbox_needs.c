#include "run/sandbox_needs.h"

#include "run/config_paths.h"
#include "run/privileges.h"
#include "run/seccomp.h"

#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool wants_nftables(const struct cg_config *config)
{
    return config->probes.enabled[CG_PROBE_NFTABLES];
}

static bool wants_namespaces(const struct cg_config *config)
{
    return config->probes.netns;
}

/*
 * What is needed beside the paths of the configuration. `wanted` NULL: always. A host probe that
 * needs more has its row here: its directories (another row for each), the capabilities that the
 * gateway must keep for it, which are the only ones that it keeps at all, and CG_SECCOMP_*.
 */
static const struct need {
    const char *path; /* NULL: only capabilities */
    enum cg_landlock_access access;
    uint64_t capabilities;
    unsigned calls;
    bool (*wanted)(const struct cg_config *config);
} needs[] = {
    /* Names, certificates, time zones: files that are replaced by others of the same name, so the
     * directory and not the file. What is in it for root only stays closed to another user. */
    {"/etc", CG_LANDLOCK_READ, 0, 0, NULL},
    /* Libraries that are loaded late, for name services and cryptography. */
    {"/usr", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/lib", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/lib64", CG_LANDLOCK_READ, 0, 0, NULL},
    /* What /etc/resolv.conf points to. */
    {"/run/systemd/resolve", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/run/resolvconf", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/run/NetworkManager", CG_LANDLOCK_READ, 0, 0, NULL},
    /* The gateway's own numbers, and when a VMM's process started. */
    {"/proc", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/sys/devices/system", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/sys/fs/cgroup", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/sys/class/net", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/sys/devices/virtual/net", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/dev/null", CG_LANDLOCK_DEVICE, 0, 0, NULL},
    {"/dev/zero", CG_LANDLOCK_DEVICE, 0, 0, NULL},
    {"/dev/full", CG_LANDLOCK_DEVICE, 0, 0, NULL},
    {"/dev/random", CG_LANDLOCK_READ, 0, 0, NULL},
    {"/dev/urandom", CG_LANDLOCK_READ, 0, 0, NULL},
    /* The kernel says rulesets to administrators of the network only, and setns needs more. */
    {NULL, CG_LANDLOCK_READ, CG_CAPABILITY(CAP_NET_ADMIN), 0, wants_nftables},
    {NULL, CG_LANDLOCK_READ, CG_CAPABILITY(CAP_SYS_ADMIN), CG_SECCOMP_NETWORK_NAMESPACES,
     wants_namespaces},
};

enum { NEEDS = sizeof(needs) / sizeof(needs[0]) };

static bool is_wanted(const struct need *need, const struct cg_config *config)
{
    return need->wanted == NULL || need->wanted(config);
}

uint64_t cg_sandbox_capabilities(const struct cg_config *config)
{
    uint64_t kept = 0;
    for (size_t i = 0; i < NEEDS; i++) {
        kept |= is_wanted(&needs[i], config) ? needs[i].capabilities : 0;
    }
    return kept;
}

unsigned cg_sandbox_calls(const struct cg_config *config)
{
    unsigned more = 0;
    for (size_t i = 0; i < NEEDS; i++) {
        more |= is_wanted(&needs[i], config) ? needs[i].calls : 0;
    }
    return more;
}

/* --- the rules; after the first that fails, no more --- */

struct rules {
    const struct cg_landlock *landlock;
    bool good;
    struct cg_error *err;
};

static void allow(struct rules *rules, const char *path, enum cg_landlock_access access)
{
    rules->good = rules->good && cg_landlock_allow(rules->landlock, path, access, rules->err);
}

/* The directory, since files are replaced by others of the same name. */
static void allow_directory_of(struct rules *rules, const char *path,
                               enum cg_landlock_access access)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int len = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    (void)snprintf(dir, sizeof(dir), "%.*s", len, slash == NULL ? "." : path);
    allow(rules, dir, access);
}

/* A name is a file, and often a link to where it really is. */
static void allow_named(void *context, const char *path, bool written)
{
    struct rules *rules = context;
    if (strcmp(path, "-") == 0) {
        return; /* stdout */
    }
    if (!written && strchr(path, '/') == NULL && access(path, F_OK) != 0) {
        return; /* one of systemd's credentials */
    }
    enum cg_landlock_access access = written ? CG_LANDLOCK_WRITE : CG_LANDLOCK_READ;
    allow_directory_of(rules, path, access);
    char real[PATH_MAX];
    if (!written && realpath(path, real) != NULL) {
        allow_directory_of(rules, real, access);
    }
}

static void allow_strings(struct rules *rules, const struct cg_strings *paths,
                          enum cg_landlock_access access)
{
    for (size_t i = 0; i < paths->count; i++) {
        allow(rules, paths->items[i], access);
    }
}

static void allow_listeners(struct rules *rules, const struct cg_strings *addresses)
{
    static const char prefix[] = "unix:";
    for (size_t i = 0; i < addresses->count; i++) {
        if (strncmp(addresses->items[i], prefix, sizeof(prefix) - 1) == 0) {
            allow_directory_of(rules, addresses->items[i] + sizeof(prefix) - 1,
                               CG_LANDLOCK_SOCKETS);
        }
    }
}

/* Without roots, each cell's directory; many cells often lie in one. */
static void allow_cells(struct rules *rules, const struct cg_sections *cells)
{
    const struct cg_cell_spec *specs = cells->items;
    for (size_t i = 0; i < cells->count; i++) {
        allow_directory_of(rules, specs[i].vsock_uds_base, CG_LANDLOCK_SOCKETS);
    }
}

/* Likewise where their probes look: what is there may not be there yet. */
static void allow_probes(struct rules *rules, const struct cg_sections *cells)
{
    const struct cg_cell_spec *specs = cells->items;
    for (size_t i = 0; i < cells->count; i++) {
        const struct cg_probe_spec *probes = specs[i].probes;
        for (unsigned text = 0; probes != NULL && text < CG_PROBE_TEXT_COUNT; text++) {
            const char *path = probes->text[text];
            if (path != NULL && path[0] == '/') {
                allow_directory_of(rules, path, CG_LANDLOCK_READ);
            }
        }
    }
}

static void allow_if_given(struct rules *rules, const char *path, enum cg_landlock_access access)
{
    if (path != NULL) {
        allow(rules, path, access);
    }
}

bool cg_sandbox_allow_files(const char *path, const struct cg_config *config,
                            const struct cg_landlock *landlock, struct cg_error *err)
{
    struct rules rules = {.landlock = landlock, .good = true, .err = err};
    for (size_t i = 0; i < NEEDS; i++) {
        if (needs[i].path != NULL && is_wanted(&needs[i], config)) {
            allow(&rules, needs[i].path, needs[i].access);
        }
    }
    allow_if_given(&rules, getenv("CREDENTIALS_DIRECTORY"), CG_LANDLOCK_READ);
    allow_if_given(&rules, config->state_dir, CG_LANDLOCK_WRITE);
    allow_if_given(&rules, config->spool.dir, CG_LANDLOCK_WRITE);
    if (strcmp(path, "-") != 0) {
        allow_directory_of(&rules, path, CG_LANDLOCK_READ);
    }
    cg_config_paths(config, allow_named, &rules);
    allow_listeners(&rules, &config->http.listen);
    allow_strings(&rules, &config->ingress.roots, CG_LANDLOCK_SOCKETS);
    if (config->ingress.roots.count == 0) {
        allow_cells(&rules, &config->ingress.cells);
    }
    allow_strings(&rules, &config->probes.roots, CG_LANDLOCK_READ);
    if (config->probes.roots.count == 0) {
        allow_probes(&rules, &config->ingress.cells);
    }
    allow_strings(&rules, &config->sandbox.read_paths, CG_LANDLOCK_READ);
    allow_strings(&rules, &config->sandbox.write_paths, CG_LANDLOCK_WRITE);
    return rules.good;
}
