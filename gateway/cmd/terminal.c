#include "cmd/terminal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { LINES_FALLBACK = 24, COLUMNS_FALLBACK = 80, SIZE_MAX_SANE = 1000 };

/* The other screen, without a cursor; and back. */
static const char own_screen[] = "\033[?1049h\033[?25l\033[2J";
static const char old_screen[] = "\033[?25h\033[?1049l";

bool cg_terminal_is_one(void)
{
    return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
}

bool cg_terminal_write(struct cg_bytes bytes)
{
    while (bytes.len > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes.data, bytes.len);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = STDOUT_FILENO, .events = POLLOUT};
            (void)poll(&writable, 1, -1);
            continue;
        }
        if (written < 0 && errno != EINTR) {
            return false;
        }
        size_t count = written > 0 ? (size_t)written : 0;
        bytes = cg_bytes(bytes.data + count, bytes.len - count);
    }
    return true;
}

/* Signals of the terminal's keys stay signals. */
static bool take_screen(const struct cg_terminal *terminal)
{
    struct termios keys = terminal->before;
    keys.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &keys) == 0 &&
           cg_terminal_write(cg_bytes(own_screen, sizeof(own_screen) - 1));
}

static void give_screen_back(const struct cg_terminal *terminal)
{
    (void)cg_terminal_write(cg_bytes(old_screen, sizeof(old_screen) - 1));
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal->before);
}

bool cg_terminal_enter(struct cg_terminal *terminal, struct cg_error *err)
{
    static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
    sigset_t signals;
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++) {
        (void)sigaddset(&signals, taken[i]);
    }
    if (tcgetattr(STDIN_FILENO, &terminal->before) != 0) {
        return cg_error_errno(err, errno, "look at the terminal");
    }
    (void)pthread_sigmask(SIG_BLOCK, &signals, &terminal->mask_before);
    terminal->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (terminal->signal_fd < 0 || !take_screen(terminal)) {
        int errnum = errno;
        cg_terminal_leave(terminal);
        return cg_error_errno(err, errnum, "take the terminal");
    }
    return true;
}

void cg_terminal_leave(struct cg_terminal *terminal)
{
    give_screen_back(terminal);
    if (terminal->signal_fd >= 0) {
        (void)close(terminal->signal_fd);
    }
    (void)pthread_sigmask(SIG_SETMASK, &terminal->mask_before, NULL);
}

void cg_terminal_size(size_t *ret_lines, size_t *ret_columns)
{
    struct winsize size = {0};
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    *ret_lines = size.ws_row == 0 ? LINES_FALLBACK : size.ws_row;
    *ret_columns = size.ws_col == 0 ? COLUMNS_FALLBACK : size.ws_col;
    *ret_lines = *ret_lines > SIZE_MAX_SANE ? SIZE_MAX_SANE : *ret_lines;
    *ret_columns = *ret_columns > SIZE_MAX_SANE ? SIZE_MAX_SANE : *ret_columns;
}

int cg_terminal_signal(struct cg_terminal *terminal)
{
    struct signalfd_siginfo info;
    if (read(terminal->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return 0;
    }
    if (info.ssi_signo == SIGTSTP) {
        give_screen_back(terminal);
        (void)raise(SIGSTOP);
        (void)take_screen(terminal);
    }
    return (int)info.ssi_signo;
}

enum cg_key cg_terminal_key(struct cg_bytes typed, size_t *ret_len)
{
    static const struct {
        const char *sequence;
        enum cg_key key;
    } keys[] = {
        {"\033[A", CG_KEY_UP},   {"\033[B", CG_KEY_DOWN},     {"\033OA", CG_KEY_UP},
        {"\033OB", CG_KEY_DOWN}, {"\033[5~", CG_KEY_PAGE_UP}, {"\033[6~", CG_KEY_PAGE_DOWN},
        {"\033[H", CG_KEY_HOME}, {"\033[F", CG_KEY_END},      {"\033[1~", CG_KEY_HOME},
        {"\033[4~", CG_KEY_END}, {"\033OH", CG_KEY_HOME},     {"\033OF", CG_KEY_END},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (cg_bytes_starts(typed, cg_bytes_str(keys[i].sequence))) {
            *ret_len = strlen(keys[i].sequence);
            return keys[i].key;
        }
    }
    *ret_len = 1;
    unsigned char c = (unsigned char)typed.data[0];
    return c >= CG_KEY_FIRST_CHARACTER && c < 0x7f ? (enum cg_key)c : CG_KEY_NONE;
}
