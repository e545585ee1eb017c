#include "base/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct start {
    void *(*run)(void *context);
    void *context;
    char name[16]; /* what the kernel takes */
};

static void *name_and_run(void *given)
{
    struct start start = *(struct start *)given;
    free(given);
    (void)pthread_setname_np(pthread_self(), start.name);
    return start.run(start.context);
}

int cg_thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *context),
                    void *context)
{
    struct start *start = malloc(sizeof(*start));
    if (start == NULL) {
        return ENOMEM;
    }
    *start = (struct start){.run = run, .context = context};
    (void)snprintf(start->name, sizeof(start->name), "%s", name);
    int errnum = pthread_create(ret_thread, NULL, name_and_run, start);
    if (errnum != 0) {
        free(start);
    }
    return errnum;
}
