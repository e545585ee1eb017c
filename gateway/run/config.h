/*
 * config.h - the configuration file as typed structs. docs/contract.md section 8.
 *
 * YAML (or JSON, which is YAML enough), read by libyaml with its line numbers, through the tables
 * of option.h. Every problem is found and reported, as file:line:column, not only the first. Not
 * thread-safe; a configuration is immutable once loaded.
 */
#ifndef CELLGATE_CONFIG_H
#define CELLGATE_CONFIG_H

#include "cellgate/buf.h"
#include "cellgate/error.h"
#include "cellgate/exporter.h"
#include "cellgate/log.h"
#include "cells/registry.h"
#include "delivery/filter.h"
#include "spool/spool.h"

struct cg_exporter_config {
    const char *name;
    const char *type; /* ops->type */
    const struct cg_exporter_ops *ops;
    uint64_t batch_events, batch_bytes, linger_ns;
    uint64_t backoff_initial_ns, backoff_max_ns, hold_initial_ns, hold_max_ns, retry_after_max_ns;
    uint64_t suspect_after;
    struct cg_filter_rules filter;
    uint64_t max_age_ns;  /* 0: none is too old */
    uint64_t watchdog_ns; /* 0: none */
    uint64_t dead_letter_bytes_max;
    void *own; /* ops->config_size bytes, filled by ops->options */
};

struct cg_config {
    const char *node;      /* never NULL after loading */
    const char *state_dir; /* NULL: nothing is kept */

    struct {
        uint64_t threads; /* 0: the number of cores, at most 4 */
        uint64_t connections_max;
        uint64_t frames_per_second, frames_burst;
        uint64_t frame_deadline_ns;
        uint64_t partial_bytes_max;
        struct cg_strings roots;
        struct {
            struct cg_range uids, gids;
        } owners;                  /* that a registration may give a socket to */
        struct cg_range peer_uids; /* who may connect */
        struct cg_sections cells;  /* struct cg_cell_spec */
    } ingress;

    struct {
        uint64_t window_ns; /* default of a cell's own */
        uint64_t boot_grace_ns;
        bool once;
    } keepalive;

    struct cg_probe_policy probes;

    struct {
        struct cg_strings listen;
        struct cg_strings hosts;
    } http;

    struct {
        const char *socket; /* path; NULL: no control listener */
        uint64_t mode;
        const char *group; /* NULL: the gateway's own */
    } control;

    struct {
        const char *source;
        const char *type_prefix;
    } event;

    struct {
        const char *mode; /* "off", "hmac-sha256" or "ed25519"; NULL: not said, keys.h judges */
        const char *kid;
        const char *key_file;
    } signing;

    struct {
        const char *dir;
        uint64_t bytes_max;
        const char *sync_text; /* as written; what follows is what it means */
        enum cg_spool_sync sync;
        uint64_t sync_interval_ns;
        int when_full; /* enum cg_spool_when_full */
    } spool;

    struct {
        uint64_t drain_ns; /* how long exporters may catch up after SIGTERM */
    } shutdown;

    struct {
        int level;  /* enum cg_log_level */
        int format; /* enum cg_log_format */
    } log;

    struct cg_exporter_config *exporters;
    size_t exporters_count;

    struct cg_config_memory *memory; /* what all the pointers above point into */
};

/*
 * Reads `path` ("-": stdin), then applies `settings` ("path.to.key=value", exporters by name:
 * "exporters.central.url=…"). On refusal *ret_problems holds one line per problem
 * ("cellgate.yaml:12:5: unknown key 'lisen' (did you mean 'listen'?)"), each ending in a newline.
 * The configuration itself is judged: no file but `path` is opened, no name is resolved.
 */
CG_MUST_USE bool cg_config_load(const char *path, const char *const *settings,
                                size_t settings_count, struct cg_config **ret_config,
                                struct cg_buf *ret_problems);
/* The same from memory; `name` stands in for the file's in problems. */
CG_MUST_USE bool cg_config_parse(const char *name, struct cg_bytes text,
                                 const char *const *settings, size_t settings_count,
                                 struct cg_config **ret_config, struct cg_buf *ret_problems);
void cg_config_free(struct cg_config *config);

/* Writes the configuration in force, defaults included, as YAML. Secrets are hidden, and absent
 * values are null. */
void cg_config_print(const struct cg_config *config, struct cg_buf *out);

/* Writes every key with type, default and help as Markdown: the reference page. */
void cg_config_reference(struct cg_buf *out);

#endif
