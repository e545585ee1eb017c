#include "http/process.h"

#include "cellgate/cleanup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void sample(struct cg_buf *out, const char *name, const char *type, const char *help,
                   double value)
{
    cg_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name,
                  value);
}

static bool read_text(const char *path, char *ret_text, size_t max)
{
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, ret_text, max - 1);
    if (len < 0) {
        return false;
    }
    ret_text[len] = '\0';
    return true;
}

/* Since Linux 6.2 the directory's size is the count; before, it is 0 and must be walked. */
static double open_descriptors(void)
{
    struct stat info;
    if (stat("/proc/self/fd", &info) == 0 && info.st_size > 0) {
        return (double)info.st_size;
    }
    DIR *dir = opendir("/proc/self/fd");
    double count = 0;
    if (dir != NULL) {
        while (readdir(dir) != NULL) {
            count++;
        }
        (void)closedir(dir);
        count -= 3; /* ".", ".." and the directory itself */
    }
    return count;
}

/* Seconds since the epoch at which the machine booted; /proc/stat names it. */
static double boot_time_s(void)
{
    cg_auto_fclose FILE *file = fopen("/proc/stat", "re");
    char line[256];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "btime ", 6) == 0) {
            return strtod(line + 6, NULL);
        }
    }
    return 0;
}

/* proc(5): what stands behind the parenthesised name, field 3 being the first. */
enum { STAT_UTIME = 14, STAT_STIME = 15, STAT_START = 22, STAT_VSIZE = 23, STAT_RSS = 24 };

static bool parse_stat(char *text, double ret_fields[STAT_RSS + 1])
{
    char *at = strrchr(text, ')');
    if (at == NULL || strlen(at) < 4) {
        return false;
    }
    at += 4; /* ") S": the state is a letter */
    for (unsigned field = 4; field <= STAT_RSS; field++) {
        char *end = NULL;
        ret_fields[field] = strtod(at, &end);
        if (end == at) {
            return false;
        }
        at = end;
    }
    return true;
}

void cg_process_metrics(struct cg_buf *out)
{
    char text[1024];
    double fields[STAT_RSS + 1];
    double ticks = (double)sysconf(_SC_CLK_TCK);
    if (read_text("/proc/self/stat", text, sizeof(text)) && parse_stat(text, fields)) {
        sample(out, "process_cpu_seconds_total", "counter",
               "Total user and system CPU time spent in seconds.",
               (fields[STAT_UTIME] + fields[STAT_STIME]) / ticks);
        sample(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
               fields[STAT_VSIZE]);
        sample(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
               fields[STAT_RSS] * (double)sysconf(_SC_PAGESIZE));
        sample(out, "process_start_time_seconds", "gauge",
               "Start time of the process since unix epoch in seconds.",
               boot_time_s() + fields[STAT_START] / ticks);
    }
    sample(out, "process_open_fds", "gauge", "Number of open file descriptors.",
           open_descriptors());
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        sample(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
               (double)limit.rlim_cur);
    }
}
