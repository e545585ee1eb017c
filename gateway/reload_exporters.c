/* reload_exporters.c - the exporters of a configuration that is reloaded come and go. */
#include "reload_state.h"
#include "run/files.h"

/* --- what can fail --- */

static void note_exporter(struct cg_reload_work *reload, enum cg_reload_change change,
                          const char *name)
{
    reload->names[change][reload->counts[change]++] = name;
}

static struct cg_running *find_running(struct cg_gateway *gateway, const char *name)
{
    for (size_t i = 0; i < gateway->exporters_count; i++) {
        if (strcmp(gateway->exporters[i].config->name, name) == 0) {
            return &gateway->exporters[i];
        }
    }
    return NULL;
}

static bool exporter_problem(const struct cg_reload_work *reload,
                             const struct cg_exporter_config *config, const char *text)
{
    return cg_reload_problem(reload, config->line, config->column, text);
}

bool cg_reload_add_exporters(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    for (size_t i = 0; i < reload->config->exporters_count; i++) {
        const struct cg_exporter_config *config = &reload->config->exporters[i];
        struct cg_error err = {0};
        if (find_running(gateway, config->name) != NULL) {
            continue;
        }
        if (gateway->exporters_count >= CG_EXPORTERS_MAX) {
            return exporter_problem(reload, config,
                                    "too many exporters, with those that it replaces; remove "
                                    "these in a reload before");
        }
        if (!cg_running_start(gateway, config, reload->config,
                              &gateway->exporters[gateway->exporters_count], &err)) {
            cg_spool_reader_forget(gateway->spool, config->name);
            return exporter_problem(reload, config, err.text);
        }
        gateway->exporters_count++;
        note_exporter(reload, CG_CHANGE_ADDED, config->name);
    }
    return true;
}

/* Stops it where it is, and starts it as `config` says, from there. */
static bool restart(struct cg_gateway *gateway, struct cg_running *running,
                    const struct cg_exporter_config *config, struct cg_config *owner,
                    struct cg_error *err)
{
    struct cg_running stopping = *running;
    running->delivery = NULL;
    cg_running_publish(gateway);
    if (stopping.delivery != NULL) {
        cg_running_stop(&stopping);
    }
    bool started = cg_running_start(gateway, config, owner, running, err);
    cg_running_publish(gateway);
    return started;
}

bool cg_reload_restart_exporters(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    for (size_t i = 0; i < reload->config->exporters_count; i++) {
        const struct cg_exporter_config *config = &reload->config->exporters[i];
        struct cg_running *running = find_running(gateway, config->name);
        if (running->owner == reload->config) {
            continue; /* added just now */
        }
        if (running->delivery != NULL && cg_config_exporter_equal(running->config, config)) {
            note_exporter(reload, CG_CHANGE_KEPT, config->name);
            continue;
        }
        struct cg_error err = {0};
        reload->before[reload->before_count++] = *running;
        if (!restart(gateway, running, config, reload->config, &err)) {
            return exporter_problem(reload, config, err.text);
        }
        note_exporter(reload, CG_CHANGE_RESTARTED, config->name);
    }
    return true;
}

/* Returns whether all is as it was. */
bool cg_reload_undo_exporters(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    bool undone = true;
    while (gateway->exporters_count > 0 && reload->counts[CG_CHANGE_ADDED] > 0) {
        struct cg_running added = gateway->exporters[--gateway->exporters_count];
        reload->counts[CG_CHANGE_ADDED]--;
        cg_running_publish(gateway);
        cg_running_stop(&added);
        cg_spool_reader_forget(gateway->spool, added.config->name);
    }
    for (size_t i = 0; i < reload->before_count; i++) {
        const struct cg_running *before = &reload->before[i];
        struct cg_running *running = find_running(gateway, before->config->name);
        struct cg_error err = {0};
        if (!restart(gateway, running, before->config, before->owner, &err)) {
            running->config = before->config; /* the next reload starts it */
            running->owner = before->owner;
            (void)cg_reload_problem(reload, 0, 0, err.text);
            undone = false;
        }
    }
    return undone;
}

/* --- what cannot fail --- */

/* The order of the file is that of the pages. */
void cg_reload_remove_exporters(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    struct cg_running removed[CG_EXPORTERS_MAX];
    struct cg_running kept[CG_EXPORTERS_MAX];
    size_t removed_count = 0;
    for (size_t i = 0; i < reload->config->exporters_count; i++) {
        struct cg_running *running = find_running(gateway, reload->config->exporters[i].name);
        kept[i] = *running;
        running->config = &reload->config->exporters[i]; /* not to be removed: see below */
        running->owner = NULL;
    }
    for (size_t i = 0; i < gateway->exporters_count; i++) {
        if (gateway->exporters[i].owner != NULL) {
            removed[removed_count++] = gateway->exporters[i];
        }
    }
    memcpy(gateway->exporters, kept, reload->config->exporters_count * sizeof(kept[0]));
    gateway->exporters_count = reload->config->exporters_count;
    cg_running_publish(gateway);
    for (size_t i = 0; i < removed_count; i++) {
        note_exporter(reload, CG_CHANGE_REMOVED, removed[i].config->name);
        cg_running_stop(&removed[i]);
        cg_spool_reader_forget(gateway->spool, removed[i].config->name);
    }
}

/* Those that go on keep their connections, unless their files were replaced: certificates, keys. */
void cg_reload_refresh_exporters(struct cg_reload_work *reload)
{
    for (size_t i = 0; i < reload->counts[CG_CHANGE_KEPT]; i++) {
        struct cg_running *running =
            find_running(reload->gateway, reload->names[CG_CHANGE_KEPT][i]);
        uint64_t mark = cg_files_mark(running->config);
        if (mark != running->files_mark) {
            running->files_mark = mark;
            cg_delivery_reopen(running->delivery);
        }
    }
}
