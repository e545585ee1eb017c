/*
 * secret_file.h - opening a file that may be root's only: a key, a token.
 *
 * A gateway that has given up its rights cannot open such a file again when it changes. Whoever
 * can (the privileged helper, run/privileged.h) is set once, before there are threads. Any thread.
 */
#ifndef CELLGATE_SECRET_FILE_H
#define CELLGATE_SECRET_FILE_H

/* Opens `path` for reading, without following a symlink; -1 with errno. */
typedef int cg_secret_file_opener(void *context, const char *path);

/* Who is asked where this process is refused; NULL: nobody. */
void cg_secret_file_set_opener(cg_secret_file_opener *open_it, void *context);

/* As open(2) for reading, without following a symlink, and without waiting for the writer of a
 * FIFO. Where that is refused (EACCES), the opener is asked. */
int cg_secret_file_open(const char *path);

#endif
