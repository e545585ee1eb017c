#include "delivery/dead_letters.h"

#include "base/file.h"
#include "base/utf8.h"
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cellgate/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum {
    /* An event, an answer and a detail of which every byte is escaped to six, and the rest. */
    LETTER_BYTES_MAX =
        CG_EVENT_BYTES_MAX + 6 * (CG_VERDICT_ANSWER_MAX + CG_VERDICT_DETAIL_MAX) + 8192,
    FILE_MODE = 0600,
};

/* --- one line --- */

/* The length of the UTF-8 character at the start of `text`, or 0 if there is none. */
static size_t character_length(struct cg_bytes text)
{
    unsigned char first = (unsigned char)text.data[0];
    size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    return length <= text.len && cg_utf8_valid(cg_bytes(text.data, length)) ? length : 0;
}

/* A JSON string of what a peer sent: bytes that are not UTF-8 become U+FFFD. */
static void append_json_string(struct cg_buf *line, struct cg_bytes text)
{
    cg_buf_append_char(line, '"');
    while (text.len > 0) {
        unsigned char first = (unsigned char)text.data[0];
        size_t length = character_length(text);
        if (length == 0) {
            cg_buf_append_str(line, "\xef\xbf\xbd");
            length = 1;
        } else if (first < 0x20 || first == 0x7f) {
            cg_buf_printf(line, "\\u%04x", first);
        } else {
            if (first == '"' || first == '\\') {
                cg_buf_append_char(line, '\\');
            }
            cg_buf_append(line, cg_bytes(text.data, length));
        }
        text = cg_bytes(text.data + length, text.len - length);
    }
    cg_buf_append_char(line, '"');
}

/* A text of the event stands there as JSON already. */
static void append_member(struct cg_buf *line, const char *name, struct cg_bytes escaped)
{
    cg_buf_append_str(line, name);
    cg_buf_append(line, escaped);
    cg_buf_append_char(line, '"');
}

static void render(struct cg_buf *line, const char *exporter, const struct cg_event *event,
                   const struct cg_verdict *verdict, uint64_t realtime_ns)
{
    char time[CG_TIME_TEXT_LEN];
    cg_time_format(realtime_ns, time);

    cg_buf_clear(line);
    append_member(line, "{\"time\":\"", cg_bytes(time, sizeof(time)));
    cg_buf_append_str(line, ",\"exporter\":");
    append_json_string(line, cg_bytes_str(exporter));
    append_member(line, ",\"id\":\"", cg_event_get(event, CG_TEXT_ID));
    cg_buf_append_str(line, ",\"index\":");
    cg_buf_append_u64(line, event->index);
    append_member(line, ",\"cell\":\"", cg_event_get(event, CG_TEXT_CELL));
    append_member(line, ",\"run\":\"", cg_event_get(event, CG_TEXT_RUN));
    cg_buf_append_str(line, ",\"sequence\":");
    cg_buf_append_u64(line, event->meta.sequence);
    cg_buf_printf(line, ",\"status\":%d,\"detail\":", verdict->status);
    append_json_string(line, cg_bytes_str(verdict->detail));
    cg_buf_append_str(line, ",\"answer\":");
    append_json_string(line, cg_bytes(verdict->answer, verdict->answer_len));
    cg_buf_append_str(line, ",\"event\":");
    cg_buf_append(line, event->bytes);
    cg_buf_append_str(line, "}\n");
}

/* --- the file --- */

/* Cuts the file back to the end of its last whole line. */
static bool cut_unfinished_line(int fd, struct cg_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return cg_error_errno(err, errno, "fstat");
    }
    if (!S_ISREG(st.st_mode)) {
        return cg_error_set(err, "not a regular file");
    }
    off_t end;
    if (!cg_file_lines_end(fd, st.st_size, LETTER_BYTES_MAX, &end, err)) {
        return false;
    }
    if (end < st.st_size && ftruncate(fd, end) != 0) {
        return cg_error_errno(err, errno, "truncate");
    }
    return true;
}

static bool open_file(struct cg_dead_letters *letters, struct cg_error *err)
{
    int flags = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    cg_auto_close int fd = open(letters->path, flags, FILE_MODE);
    if (fd < 0) {
        return cg_error_errno(err, errno, "dead letters %s", letters->path);
    }
    if (!cut_unfinished_line(fd, err) || !cg_file_sync_directory(letters->path, err)) {
        return cg_error_context(err, "dead letters %s", letters->path);
    }
    letters->fd = cg_steal_fd(&fd);
    return true;
}

bool cg_dead_letters_open(struct cg_dead_letters *letters, const char *path, const char *exporter,
                          struct cg_error *err)
{
    *letters = (struct cg_dead_letters){.path = path, .exporter = exporter, .fd = -1};
    cg_buf_init(&letters->line, LETTER_BYTES_MAX);
    return path == NULL || open_file(letters, err);
}

void cg_dead_letters_close(struct cg_dead_letters *letters)
{
    cg_dead_letters_reopen(letters);
    cg_buf_fini(&letters->line);
}

void cg_dead_letters_reopen(struct cg_dead_letters *letters)
{
    if (letters->fd >= 0) {
        (void)close(cg_steal_fd(&letters->fd));
    }
}

static bool write_line(int fd, struct cg_bytes line, struct cg_error *err)
{
    return cg_file_write_all(fd, line, err) &&
           (fdatasync(fd) == 0 || cg_error_errno(err, errno, "sync"));
}

bool cg_dead_letters_keep(struct cg_dead_letters *letters, const struct cg_event *event,
                          const struct cg_verdict *verdict, uint64_t realtime_ns,
                          struct cg_error *err)
{
    if (letters->path == NULL) {
        return true;
    }
    render(&letters->line, letters->exporter, event, verdict, realtime_ns);
    if (letters->line.failed) {
        return cg_error_set(err, "dead letters %s: no memory for a line", letters->path);
    }
    if (letters->fd < 0 && !open_file(letters, err)) {
        return false;
    }
    struct stat before;
    if (fstat(letters->fd, &before) != 0) {
        return cg_error_errno(err, errno, "dead letters %s", letters->path);
    }
    if (!write_line(letters->fd, cg_buf_bytes(&letters->line), err)) {
        if (ftruncate(letters->fd, before.st_size) != 0) {
            cg_dead_letters_reopen(letters); /* which cuts off the unfinished line */
        }
        return cg_error_context(err, "dead letters %s", letters->path);
    }
    return true;
}
