/*
 * probe_fc_metrics.c - the metrics that a Firecracker writes about its VM.
 *
 * It writes to a file or FIFO (metrics_path), a document a line, every 60 s and on request. The
 * probe reads on where it stopped, at its intervals; with `flush` it asks first and reads when that
 * is answered. What was there before the run began is not the run's: a file that exists then is
 * read from its end. Each document becomes an event, since most of its numbers count from the
 * document before; of more than DOCUMENTS_MAX at once only the newest do, and `skipped` counts the
 * others.
 */
#include "probes/fc_document.h"
#include "probes/flush.h"
#include "probes/paths.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    READ_BYTES_MAX = 256 << 10, /* in one turn */
    DOCUMENTS_MAX = 8,
};

struct fc_all {
    struct cg_probe_host *host;
    struct cg_fc_reader reader;
    char buffer[CG_FC_LINE_BYTES_MAX + READ_BYTES_MAX];
};

struct fc {
    struct fc_all *all;
    const struct cg_probe_spec *spec;
    struct cg_flush flush;
    int fd; /* -1: not open */
    bool regular;
    dev_t device;
    ino_t inode;
    off_t offset;  /* of a regular file */
    char *partial; /* a line that has begun, or NULL */
    size_t partial_len;
    bool overlong; /* what comes up to the next line's end belongs to a line given up */
};

/* --- the file --- */

static void drop_partial(struct fc *fc)
{
    free(fc->partial);
    fc->partial = NULL;
    fc->partial_len = 0;
    fc->overlong = false;
}

static void close_file(struct fc *fc)
{
    if (fc->fd >= 0) {
        (void)close(cg_steal_fd(&fc->fd));
    }
    drop_partial(fc);
}

/* Opens what lies at the path, unless it is what is open already. `from_end`: a regular file's
 * contents are not the run's. */
static enum cg_probe_outcome open_file(struct fc *fc, bool from_end, struct cg_error *err)
{
    cg_auto_close int fd = -1;
    const char *path = fc->spec->text[CG_PROBE_FC_PATH];
    enum cg_probe_outcome outcome =
        cg_probe_open(fc->all->host->policy->roots, path, O_RDONLY, &fd, err);
    if (outcome != CG_PROBE_READ) {
        return outcome;
    }
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return cg_probe_outcome_of(errno);
    }
    if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode)) {
        (void)cg_error_set(err, "%s is neither a file nor a FIFO", path);
        return CG_PROBE_DENIED;
    }
    if (fc->fd >= 0 && fc->device == status.st_dev && fc->inode == status.st_ino) {
        if (fc->regular && status.st_size < fc->offset) {
            fc->offset = 0; /* it was cut off: begun anew */
            drop_partial(fc);
        }
        return CG_PROBE_READ;
    }
    close_file(fc);
    fc->fd = cg_steal_fd(&fd);
    fc->regular = S_ISREG(status.st_mode);
    fc->device = status.st_dev;
    fc->inode = status.st_ino;
    fc->offset = from_end ? status.st_size : 0;
    return CG_PROBE_READ;
}

/* Reads on into `buffer`, which begins with what was left of the last line; returns its length. */
static size_t read_on(struct fc *fc, char *buffer, enum cg_probe_outcome *outcome,
                      struct cg_error *err)
{
    size_t len = fc->partial_len;
    if (len > 0) {
        memcpy(buffer, fc->partial, len);
    }
    size_t end = len + READ_BYTES_MAX;
    while (len < end) {
        ssize_t got = fc->regular ? pread(fc->fd, buffer + len, end - len, fc->offset)
                                  : read(fc->fd, buffer + len, end - len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno != EAGAIN) {
            int errnum = errno;
            *outcome = cg_probe_outcome_of(errnum);
            (void)cg_error_errno(err, errnum, "read %s", fc->spec->text[CG_PROBE_FC_PATH]);
        }
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
        fc->offset += got;
    }
    return len;
}

/* --- documents --- */

/* The lines of one turn; of too many the first are counted only. */
struct lines {
    struct cg_bytes last[DOCUMENTS_MAX]; /* a ring */
    uint64_t count;
    uint64_t overlong;
};

static void keep_partial(struct fc *fc, struct cg_bytes rest)
{
    bool overlong = fc->overlong;
    char *copy = NULL;
    if (rest.len > 0 && rest.len < CG_FC_LINE_BYTES_MAX && !overlong) {
        copy = malloc(rest.len);
    }
    if (copy != NULL) {
        memcpy(copy, rest.data, rest.len);
    }
    drop_partial(fc);
    fc->partial = copy;
    fc->partial_len = copy == NULL ? 0 : rest.len;
    fc->overlong = overlong || (rest.len > 0 && copy == NULL);
}

static void split(struct fc *fc, struct cg_bytes bytes, struct lines *lines)
{
    const char *end;
    while (bytes.len > 0 && (end = memchr(bytes.data, '\n', bytes.len)) != NULL) {
        struct cg_bytes line = cg_bytes(bytes.data, (size_t)(end - bytes.data));
        bytes = cg_bytes(end + 1, bytes.len - line.len - 1);
        if (fc->overlong || line.len > CG_FC_LINE_BYTES_MAX) {
            fc->overlong = false;
            lines->overlong++;
        } else if (line.len > 0) {
            lines->last[lines->count++ % DOCUMENTS_MAX] = line;
        }
    }
    keep_partial(fc, bytes);
}

static enum cg_probe_outcome tell_documents(struct fc *fc, const struct lines *lines,
                                            const struct cg_probe_turn *turn,
                                            struct cg_probe_sink *sink, struct cg_error *err)
{
    uint64_t first = lines->count > DOCUMENTS_MAX ? lines->count - DOCUMENTS_MAX : 0;
    enum cg_probe_outcome outcome = lines->overlong > 0 ? CG_PROBE_MALFORMED : CG_PROBE_NO_NEWS;
    if (lines->overlong > 0) {
        (void)cg_error_set(err, "a line has more than %d bytes", CG_FC_LINE_BYTES_MAX);
    }
    for (uint64_t i = first; i < lines->count; i++) {
        uint64_t cut = 0;
        cg_output_clear(&sink->output);
        sink->output.wrapper = "metrics";
        if (!cg_fc_document_read(&fc->all->reader, lines->last[i % DOCUMENTS_MAX], &sink->output,
                                 &sink->facts, &cut, err)) {
            outcome = CG_PROBE_MALFORMED;
            sink->facts = (struct cg_facts){0};
            continue;
        }
        sink->facts_kind = CG_FACTS_GROWTH;
        cg_output_text(&sink->inputs, "endpoint", cg_bytes_str(fc->spec->text[CG_PROBE_FC_PATH]));
        cg_output_bool(&sink->inputs, "flushed",
                       fc->spec->flush && fc->flush.outcome == CG_PROBE_READ);
        if (cut > 0) {
            cg_output_text(&sink->inputs, "fractions", CG_BYTES("truncated"));
            cg_output_u64(&sink->inputs, "fractionsTruncated", cut);
        }
        cg_output_text(&sink->inputs, "kind", CG_BYTES("firecracker.metrics"));
        cg_output_u64(&sink->inputs, "skipped", i == first ? first : 0);
        cg_output_text(&sink->inputs, "trigger", cg_bytes_str(cg_probe_why_name(turn->why)));
        cg_probe_emit(sink);
        outcome = outcome == CG_PROBE_NO_NEWS ? CG_PROBE_READ : outcome;
    }
    return outcome;
}

/* The worse of two outcomes: what went wrong at one end is told even if the other did well. */
static enum cg_probe_outcome worse(enum cg_probe_outcome a, enum cg_probe_outcome b)
{
    return a >= CG_PROBE_MISSING ? a : b >= CG_PROBE_MISSING || a == CG_PROBE_NO_NEWS ? b : a;
}

static enum cg_probe_outcome read_open(struct fc *fc, const struct cg_probe_turn *turn,
                                       struct cg_probe_sink *sink, struct cg_error *err)
{
    if (fc->fd < 0) {
        return CG_PROBE_NO_NEWS;
    }
    struct lines lines = {0};
    enum cg_probe_outcome outcome = CG_PROBE_NO_NEWS;
    size_t len = read_on(fc, fc->all->buffer, &outcome, err);
    split(fc, cg_bytes(fc->all->buffer, len), &lines);
    return worse(outcome, tell_documents(fc, &lines, turn, sink, err));
}

/* What is open first, then what lies at the path now, if that is another. */
static enum cg_probe_outcome read_documents(struct fc *fc, const struct cg_probe_turn *turn,
                                            struct cg_probe_sink *sink, struct cg_error *err)
{
    struct stat before = {.st_dev = fc->device, .st_ino = fc->inode};
    off_t offset = fc->offset;
    bool was_open = fc->fd >= 0;
    enum cg_probe_outcome outcome = read_open(fc, turn, sink, err);
    enum cg_probe_outcome opened = open_file(fc, false, err);
    bool another = opened == CG_PROBE_READ &&
                   (!was_open || before.st_dev != fc->device || before.st_ino != fc->inode ||
                    (fc->regular && fc->offset < offset));
    if (another) {
        return worse(outcome, read_open(fc, turn, sink, err));
    }
    return worse(outcome, opened == CG_PROBE_READ ? CG_PROBE_NO_NEWS : opened);
}

static enum cg_probe_outcome read_fc(void *state, const struct cg_probe_turn *turn,
                                     struct cg_probe_sink *sink, struct cg_error *err)
{
    struct fc *fc = state;
    if (turn->why == CG_PROBE_BASE) {
        enum cg_probe_outcome outcome = open_file(fc, true, err);
        return outcome == CG_PROBE_READ ? CG_PROBE_NO_NEWS : outcome;
    }
    const char *api_socket = fc->spec->flush ? fc->spec->text[CG_PROBE_FC_API_SOCKET] : NULL;
    if (turn->stage == CG_PROBE_FIRST && api_socket != NULL &&
        cg_flush_begin(&fc->flush, api_socket)) {
        return CG_PROBE_LATER;
    }
    cg_flush_cancel(&fc->flush);
    enum cg_probe_outcome outcome = read_documents(fc, turn, sink, err);
    if (api_socket != NULL && fc->flush.outcome != CG_PROBE_READ && outcome < CG_PROBE_MISSING) {
        *err = fc->flush.err;
        return fc->flush.outcome;
    }
    return outcome;
}

/* --- life --- */

static void *attach(void *shared, struct cg_probe_instance *instance,
                    const struct cg_probe_spec *spec)
{
    struct fc_all *all = shared;
    struct fc *fc = calloc(1, sizeof(*fc));
    if (fc == NULL) {
        return NULL;
    }
    fc->all = all;
    fc->spec = spec;
    fc->fd = -1;
    cg_flush_init(&fc->flush, all->host, instance);
    return fc;
}

static void detach(void *state)
{
    struct fc *fc = state;
    cg_flush_fini(&fc->flush);
    close_file(fc);
    free(fc);
}

static bool start(struct cg_probe_host *host, void **ret_shared, struct cg_error *err)
{
    struct fc_all *all = malloc(sizeof(*all));
    if (all == NULL) {
        return cg_error_set(err, "out of memory for the fc_metrics probe");
    }
    all->host = host;
    cg_fc_reader_init(&all->reader);
    *ret_shared = all;
    return true;
}

static void stop(void *shared)
{
    struct fc_all *all = shared;
    cg_fc_reader_fini(&all->reader);
    free(all);
}

const struct cg_probe_ops cg_probe_fc_metrics = {
    .probe = CG_PROBE_FC_METRICS,
    .readings = CG_SERIES_probe_readings_fc_metrics,
    .errors = CG_SERIES_probe_errors_fc_metrics_missing,
    .start = start,
    .stop = stop,
    .attach = attach,
    .detach = detach,
    .read = read_fc,
};
