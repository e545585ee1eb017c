/* replay.c - runs a fuzz target over every file of a corpus directory, without libFuzzer. */
#include "cellgate/cleanup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(int dir_fd, const char *name)
{
    cg_auto_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        perror(name);
        return -1;
    }
    /* Exactly as large as the input, so that the sanitizers see a read beyond it. */
    cg_auto_free uint8_t *data = malloc((size_t)info.st_size + (info.st_size == 0));
    if (data == NULL || read(fd, data, (size_t)info.st_size) != (ssize_t)info.st_size) {
        perror(name);
        return -1;
    }
    (void)LLVMFuzzerTestOneInput(data, (size_t)info.st_size);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (dir == NULL) {
        (void)fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
        return 64;
    }
    size_t files = 0;
    int failed = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.') {
            failed |= replay_file(dirfd(dir), entry->d_name);
            files++;
        }
    }
    (void)closedir(dir);
    (void)printf("%zu inputs replayed\n", files);
    return failed != 0 || files == 0;
}
