/*
 * cleanup.h - cleanup bound to scope, and stealing where ownership moves.
 *
 *     cg_auto_close int fd = open(…);
 *     …
 *     *ret_fd = cg_steal_fd(&fd);
 *
 * Types with an end of their own define cg_auto_<type> beside their header in the same way.
 */
#ifndef CELLGATE_CLEANUP_H
#define CELLGATE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cg_cleanup_free(void *pointer_to_pointer)
{
    free(*(void **)pointer_to_pointer);
}

/* close() is never retried: on Linux the descriptor is gone whatever it returns. */
static inline void cg_cleanup_close(const int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

static inline void cg_cleanup_fclose(FILE **file)
{
    if (*file != NULL) {
        (void)fclose(*file);
    }
}

#define cg_auto_free   __attribute__((cleanup(cg_cleanup_free)))
#define cg_auto_close  __attribute__((cleanup(cg_cleanup_close)))
#define cg_auto_fclose __attribute__((cleanup(cg_cleanup_fclose)))

static inline int cg_steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#define cg_steal_ptr(pointer)                                                                      \
    ({                                                                                             \
        __typeof__(pointer) cg_stolen_ = (pointer);                                                \
        (pointer) = NULL;                                                                          \
        cg_stolen_;                                                                                \
    })

#endif
