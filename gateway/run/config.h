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

/* When sockets are left to the next gateway at the end. */
enum cg_handover_when { CG_HANDOVER_OFF, CG_HANDOVER_AUTO, CG_HANDOVER_ON };

/* Whether a part of the sandbox is wanted. */
enum cg_part { CG_PART_AUTO, CG_PART_ON, CG_PART_OFF };

struct cg_exporter_config {
    const char *name;
    const char *type; /* ops->type */
    const struct cg_exporter_ops *ops;
    uint64_t batch_events, batch_bytes, linger_ns;
    uint64_t backoff_initial_ns, backoff_max_ns, hold_initial_ns, hold_max_ns, retry_after_max_ns;
    uint64_t suspect_after;
    const char *quota_text; /* as written; NULL: none */
    uint64_t quota_bytes;   /* 0: none */
    struct cg_filter_rules filter;
    uint64_t max_age_ns;  /* 0: none is too old */
    uint64_t watchdog_ns; /* 0: none */
    uint64_t dead_letter_bytes_max;
    void *own;           /* ops->config_size bytes, filled by ops->options */
    size_t line, column; /* where it stands; 0: not in the file */
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
        size_t line, column; /* where the section stands; 0: not in the file */
    } signing;

    struct {
        const char *dir;
        uint64_t bytes_max;
        const char *sync_text; /* as written; what follows is what it means */
        enum cg_spool_sync sync;
        uint64_t sync_interval_ns;
        int when_full;             /* enum cg_spool_when_full */
        uint64_t cell_share_bytes; /* 0: no limit */
        uint64_t reserve_bytes;    /* 0: not said */
    } spool;

    struct {
        uint64_t drain_ns; /* how long exporters may catch up after SIGTERM */
        int handover;      /* enum cg_handover_when */
    } shutdown;

    struct {
        int enable, seccomp, landlock; /* enum cg_part */
        const char *user, *group;      /* NULL: stay */
        struct cg_strings read_paths, write_paths;
    } sandbox;

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
/*
 * The same for a gateway that runs with `running`: a key that differs and cannot be changed while
 * it runs is a problem too, at its place.
 */
CG_MUST_USE bool cg_config_reload(const char *path, const char *const *settings,
                                  size_t settings_count, const struct cg_config *running,
                                  struct cg_config **ret_config, struct cg_buf *ret_problems);
void cg_config_free(struct cg_config *config);

/* Whether two exporters, or two cells, are configured alike, by value. */
bool cg_config_exporter_equal(const struct cg_exporter_config *a,
                              const struct cg_exporter_config *b);
bool cg_config_cell_equal(const struct cg_cell_spec *a, const struct cg_cell_spec *b);

/* Writes the configuration in force, defaults included, as YAML. Secrets are hidden, and absent
 * values are null. */
void cg_config_print(const struct cg_config *config, struct cg_buf *out);

/* Writes every key with type, default and help as Markdown: the reference page. */
void cg_config_reference(struct cg_buf *out);

#endif
