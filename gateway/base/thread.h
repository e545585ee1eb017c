/*
 * thread.h - starting a thread that has a name.
 */
#ifndef CELLGATE_THREAD_H
#define CELLGATE_THREAD_H

#include <pthread.h>

/*
 * As pthread_create; the thread gives itself the name (15 bytes of it) before it runs. Somebody
 * else would have to write it to a file beneath /proc, which the sandbox does not let.
 */
int cg_thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *context),
                    void *context);

#endif
