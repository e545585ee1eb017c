#include "run/inherited.h"

#include "cellgate/cleanup.h"

#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

void cg_inherited_collect(struct cg_inherited *ret_inherited)
{
    *ret_inherited = (struct cg_inherited){0};
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    if (count > 0) {
        ret_inherited->items = calloc((size_t)count, sizeof(ret_inherited->items[0]));
    }
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (ret_inherited->items == NULL) {
            (void)close(fd);
            free(names[i]);
            continue;
        }
        ret_inherited->items[ret_inherited->count++] =
            (struct cg_inherited_item){.fd = fd, .name = names[i]};
    }
    free(names);
}

void cg_inherited_close(struct cg_inherited *inherited)
{
    for (size_t i = 0; i < inherited->count; i++) {
        cg_cleanup_close(&inherited->items[i].fd);
        free(inherited->items[i].name);
    }
    free(inherited->items);
    *inherited = (struct cg_inherited){0};
}

size_t cg_inherited_take(struct cg_inherited *inherited, const char *name, int *ret_fds, size_t max)
{
    size_t taken = 0;
    for (size_t i = 0; inherited != NULL && i < inherited->count && taken < max; i++) {
        if (inherited->items[i].fd >= 0 && strcmp(inherited->items[i].name, name) == 0) {
            ret_fds[taken++] = cg_steal_fd(&inherited->items[i].fd);
        }
    }
    return taken;
}

size_t cg_inherited_count(const struct cg_inherited *inherited, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; inherited != NULL && i < inherited->count; i++) {
        count += inherited->items[i].fd >= 0 && strcmp(inherited->items[i].name, name) == 0;
    }
    return count;
}
