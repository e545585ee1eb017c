#include "http/reloads.h"

#include "cellgate/log.h"
#include "event/json_write.h"

#include <pthread.h>
#include <stdlib.h>

struct cg_reloads {
    pthread_mutex_t lock; /* covers the state */
    struct cg_reload_state state;
};

bool cg_reloads_new(struct cg_reloads **ret_reloads, struct cg_error *err)
{
    struct cg_reloads *reloads = calloc(1, sizeof(*reloads));
    if (reloads == NULL) {
        return cg_error_set(err, "out of memory");
    }
    (void)pthread_mutex_init(&reloads->lock, NULL);
    cg_buf_init(&reloads->state.problems, CG_RELOAD_PROBLEMS_BYTES_MAX);
    *ret_reloads = reloads;
    return true;
}

void cg_reloads_free(struct cg_reloads *reloads)
{
    if (reloads != NULL) {
        cg_buf_fini(&reloads->state.problems);
        (void)pthread_mutex_destroy(&reloads->lock);
        free(reloads);
    }
}

void cg_reloads_note(struct cg_reloads *reloads, enum cg_reload_outcome outcome,
                     uint64_t realtime_ns, struct cg_bytes problems)
{
    (void)pthread_mutex_lock(&reloads->lock);
    struct cg_reload_state *state = &reloads->state;
    state->any = true;
    state->outcome = outcome;
    state->realtime_ns = realtime_ns;
    cg_buf_clear(&state->problems);
    (void)cg_buf_append(&state->problems, problems);
    (void)pthread_mutex_unlock(&reloads->lock);
}

bool cg_reloads_good(struct cg_reloads *reloads)
{
    (void)pthread_mutex_lock(&reloads->lock);
    bool good = !reloads->state.any || reloads->state.outcome == CG_RELOAD_DONE;
    (void)pthread_mutex_unlock(&reloads->lock);
    return good;
}

void cg_reloads_state(struct cg_reloads *reloads, struct cg_reload_state *ret_state)
{
    (void)pthread_mutex_lock(&reloads->lock);
    *ret_state = reloads->state;
    cg_buf_init(&ret_state->problems, CG_RELOAD_PROBLEMS_BYTES_MAX);
    (void)cg_buf_append(&ret_state->problems, cg_buf_bytes(&reloads->state.problems));
    (void)pthread_mutex_unlock(&reloads->lock);
}

void cg_reloads_append_problems(struct cg_bytes problems, struct cg_buf *out)
{
    const char *separator = "";
    (void)cg_buf_append_char(out, '[');
    while (problems.len > 0) {
        const char *end = memchr(problems.data, '\n', problems.len);
        size_t len = end == NULL ? problems.len : (size_t)(end - problems.data);
        char shown[4 * CG_ERROR_TEXT_MAX];
        (void)cg_text_escape(cg_bytes(problems.data, len), shown, sizeof(shown));
        (void)cg_buf_append_str(out, separator);
        cg_json_append_string(out, cg_bytes_str(shown));
        separator = ",";
        size_t taken = end == NULL ? len : len + 1;
        problems = cg_bytes(problems.data + taken, problems.len - taken);
    }
    (void)cg_buf_append_char(out, ']');
}
