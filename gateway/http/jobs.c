#include "http/jobs.h"

#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>

struct cg_http_jobs {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct cg_http_job *first; /* NULL: none waits */
    struct cg_http_job *last;
    size_t waiting, waiting_max;
    bool stopping;
    unsigned threads_count;
    pthread_t threads[];
};

static struct cg_http_job *next_job(struct cg_http_jobs *jobs)
{
    (void)pthread_mutex_lock(&jobs->lock);
    while (jobs->first == NULL && !jobs->stopping) {
        (void)pthread_cond_wait(&jobs->wake, &jobs->lock);
    }
    struct cg_http_job *job = jobs->first;
    if (job != NULL) {
        jobs->first = job->next;
        jobs->waiting--;
    }
    (void)pthread_mutex_unlock(&jobs->lock);
    return job;
}

static void *serve(void *context)
{
    struct cg_http_jobs *jobs = context;
    for (struct cg_http_job *job; (job = next_job(jobs)) != NULL;) {
        job->run(job);
    }
    return NULL;
}

bool cg_http_jobs_start(unsigned threads, size_t waiting_max, struct cg_http_jobs **ret_jobs,
                        struct cg_error *err)
{
    struct cg_http_jobs *jobs = calloc(1, sizeof(*jobs) + threads * sizeof(jobs->threads[0]));
    if (jobs == NULL) {
        return cg_error_set(err, "out of memory");
    }
    jobs->waiting_max = waiting_max;
    (void)pthread_mutex_init(&jobs->lock, NULL);
    (void)pthread_cond_init(&jobs->wake, NULL);
    for (; jobs->threads_count < threads; jobs->threads_count++) {
        pthread_t *thread = &jobs->threads[jobs->threads_count];
        int status = cg_thread_start(thread, "http-job", serve, jobs);
        if (status != 0) {
            cg_http_jobs_stop(jobs);
            return cg_error_errno(err, status, "start a thread for requests");
        }
    }
    *ret_jobs = jobs;
    return true;
}

bool cg_http_jobs_add(struct cg_http_jobs *jobs, struct cg_http_job *job)
{
    (void)pthread_mutex_lock(&jobs->lock);
    bool room = jobs->waiting < jobs->waiting_max;
    if (room) {
        job->next = NULL;
        *(jobs->first == NULL ? &jobs->first : &jobs->last->next) = job;
        jobs->last = job;
        jobs->waiting++;
        (void)pthread_cond_signal(&jobs->wake);
    }
    (void)pthread_mutex_unlock(&jobs->lock);
    return room;
}

void cg_http_jobs_stop(struct cg_http_jobs *jobs)
{
    if (jobs == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    (void)pthread_cond_broadcast(&jobs->wake);
    (void)pthread_mutex_unlock(&jobs->lock);
    for (unsigned i = 0; i < jobs->threads_count; i++) {
        (void)pthread_join(jobs->threads[i], NULL);
    }
    (void)pthread_cond_destroy(&jobs->wake);
    (void)pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}
