/*
 * terminal.h - a terminal that a command has to itself: keys as they are pressed, a screen of its
 * own, signals as things to read, and everything as before at the end.
 *
 * Between enter and leave, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP and SIGWINCH do nothing but
 * make `signal_fd` readable, in threads that are started after enter too; so there is no way out
 * past leave but SIGKILL and crashes. One thread.
 */
#ifndef CELLGATE_CMD_TERMINAL_H
#define CELLGATE_CMD_TERMINAL_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <signal.h>
#include <termios.h>

struct cg_terminal {
    int signal_fd;
    struct termios before;
    sigset_t mask_before;
};

enum cg_key {
    CG_KEY_NONE, /* anything else */
    CG_KEY_UP,
    CG_KEY_DOWN,
    CG_KEY_PAGE_UP,
    CG_KEY_PAGE_DOWN,
    CG_KEY_HOME,
    CG_KEY_END,
    CG_KEY_FIRST_CHARACTER = 32, /* from here: that character */
};

/* Whether stdin and stdout are a terminal. */
bool cg_terminal_is_one(void);
CG_MUST_USE bool cg_terminal_enter(struct cg_terminal *terminal, struct cg_error *err);
void cg_terminal_leave(struct cg_terminal *terminal);

/* Lines and columns as they are now. */
void cg_terminal_size(size_t *ret_lines, size_t *ret_columns);
/* Writes all of it; false if the terminal is gone. */
bool cg_terminal_write(struct cg_bytes bytes);
/* The next signal; 0 if there is none. SIGTSTP is followed here: it returns when the process goes
 * on, and the screen is to be drawn anew. */
int cg_terminal_signal(struct cg_terminal *terminal);
/* Reads what was typed: a key, and how many bytes it took of `typed`. Pure. */
enum cg_key cg_terminal_key(struct cg_bytes typed, size_t *ret_len);

#endif
