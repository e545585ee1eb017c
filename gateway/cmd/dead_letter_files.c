#include "cmd/dead_letter_files.h"

#include "cellgate/cleanup.h"
#include "delivery/letters_report.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

static const char suffix[] = ".jsonl";

static void close_dir(DIR **dir)
{
    if (*dir != NULL) {
        (void)closedir(*dir);
    }
}

/* Names as the configuration allows them: no slash, and no dot in front. */
static bool is_name(struct cg_bytes name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    bool good = name.len > 0 && name.len <= CG_EXPORTER_NAME_BYTES_MAX && name.data[0] != '.';
    for (size_t i = 0; good && i < name.len; i++) {
        good = memchr(allowed, name.data[i], sizeof(allowed) - 1) != NULL;
    }
    return good;
}

static bool path_of(const char *state_dir, struct cg_bytes exporter, char *ret_path,
                    struct cg_error *err)
{
    if (!is_name(exporter)) {
        return cg_error_set(err, "that is no exporter's name");
    }
    int len = snprintf(ret_path, PATH_MAX, "%s/dead-letters/%.*s%s", state_dir,
                       CG_BYTES_ARG(exporter), suffix);
    return (len > 0 && len < PATH_MAX) || cg_error_set(err, "the path is too long");
}

/* The same, of a file that is there. */
static bool path_of_file(const char *state_dir, const char *exporter, char *ret_path,
                         struct cg_error *err)
{
    return path_of(state_dir, cg_bytes_str(exporter), ret_path, err) &&
           (access(ret_path, F_OK) == 0 || cg_error_errno(err, errno, "%s", ret_path));
}

bool cg_letter_files_counts(const char *state_dir, struct cg_buf *out, struct cg_error *err)
{
    char path[PATH_MAX];
    int len = snprintf(path, sizeof(path), "%s/dead-letters", state_dir);
    __attribute__((cleanup(close_dir))) DIR *dir = len > 0 && len < PATH_MAX ? opendir(path) : NULL;
    if (dir == NULL) {
        return cg_error_errno(err, errno, "%s", path);
    }
    const char *separator = "";
    cg_buf_append_str(out, "{\"exporters\":[");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t name_len = strlen(entry->d_name);
        size_t end = name_len - (sizeof(suffix) - 1);
        if (name_len < sizeof(suffix) || strcmp(entry->d_name + end, suffix) != 0 ||
            !is_name(cg_bytes(entry->d_name, end))) {
            continue;
        }
        cg_buf_printf(out, "%s{\"exporter\":\"%.*s\",\"bytes_max\":null,", separator, (int)end,
                      entry->d_name);
        if (!path_of(state_dir, cg_bytes(entry->d_name, end), path, err) ||
            !cg_letters_report_counts(path, out, err)) {
            return false;
        }
        cg_buf_append_char(out, '}');
        separator = ",";
    }
    return cg_buf_append_str(out, "]}\n") || cg_error_set(err, "no memory");
}

bool cg_letter_files_list(const char *state_dir, const char *exporter, uint64_t after,
                          uint64_t limit, struct cg_buf *out, struct cg_error *err)
{
    char path[PATH_MAX];
    uint64_t next = 0;
    if (!path_of_file(state_dir, exporter, path, err)) {
        return false;
    }
    cg_buf_printf(out, "{\"exporter\":\"%s\",\"letters\":", exporter);
    if (!cg_letters_report_list(path, after, limit, out, &next, err)) {
        return false;
    }
    cg_buf_append_str(out, ",\"next\":");
    if (next == 0) {
        cg_buf_append_str(out, "null");
    } else {
        cg_buf_append_u64(out, next);
    }
    return cg_buf_append_str(out, "}\n") || cg_error_set(err, "no memory");
}

bool cg_letter_files_one(const char *state_dir, const char *exporter, const char *id,
                         struct cg_buf *out, struct cg_error *err)
{
    char path[PATH_MAX];
    bool found = false;
    return path_of_file(state_dir, exporter, path, err) &&
           cg_letters_report_one(path, cg_bytes_str(id), out, &found, err) &&
           (found || cg_error_set(err, "there is no such dead letter"));
}

bool cg_letter_files_mark(const char *state_dir, const char *exporter,
                          const struct cg_letter_ids *ids, enum cg_letter_state state,
                          struct cg_buf *out, struct cg_error *err)
{
    char path[PATH_MAX];
    uint64_t marked = 0;
    struct cg_dead_letters letters;
    if (!path_of_file(state_dir, exporter, path, err)) {
        return false;
    }
    bool good = cg_dead_letters_open(&letters, path, exporter, 0, err) &&
                cg_dead_letters_mark(&letters, ids, state, &marked, err) &&
                cg_dead_letters_compact(&letters, err);
    cg_dead_letters_close(&letters);
    if (good && marked == 0 && ids->count > 0) {
        return cg_error_set(err, "there are no such dead letters");
    }
    if (good) {
        cg_buf_printf(out, "{\"exporter\":\"%s\",\"letters\":%llu}\n", exporter,
                      (unsigned long long)marked);
    }
    return good;
}
