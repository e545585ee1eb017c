"""A command on a terminal of its own (a pty): keys, sizes, signals, and the screen as it was last drawn.

    with Terminal([BINARY, "top"], lines=24, columns=100) as terminal:
        terminal.wait_screen(lambda screen: "cell-0" in screen.text)
        terminal.type("q")
        assert terminal.end() == 0
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

_FRAME = re.compile(r"\x1b\[H(.*?)\x1b\[J", re.DOTALL)
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OWN_SCREEN, OLD_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Screen:
    def __init__(self, drawn):
        self.lines = [line.rstrip() for line in
                      _SEQUENCE.sub("", drawn).replace("\r", "").split("\n")]  # fmt: skip
        self.text = "\n".join(self.lines)


class Terminal:
    def __init__(self, arguments, *, lines=24, columns=100, env=None):
        self._master, slave = pty.openpty()
        self._slave = slave  # kept open: its settings are looked at after the end
        self.resize(lines, columns)
        self.before = termios.tcgetattr(slave)
        self.output = ""
        self.process = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        os.close(self._slave)
        os.close(self._master)

    def resize(self, lines, columns):
        """The kernel sends SIGWINCH for it."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys):
        os.write(self._master, keys.encode())

    def _read(self, timeout):
        if select.select([self._master], [], [], timeout)[0]:
            self.output += os.read(self._master, 1 << 16).decode(errors="replace")
            return True
        return False

    def screen(self):
        """As it was last drawn whole; None before."""
        drawn = _FRAME.findall(self.output)
        return Screen(drawn[-1]) if drawn else None

    def wait_screen(self, condition, timeout=60):
        """Reads until a screen fits; returns it."""
        end = time.monotonic() + timeout
        while True:
            screen = self.screen()
            if screen is not None and condition(screen):
                return screen
            left = end - time.monotonic()
            assert left > 0, f"not within {timeout} s:\n" + (screen.text if screen else self.output)
            assert self.process.poll() is None or self._read(0), "it has ended:\n" + self.output
            self._read(min(left, 1))

    def wait_output(self, text, timeout=60):
        end = time.monotonic() + timeout
        while text not in self.output:
            left = end - time.monotonic()
            assert left > 0, f"no {text!r} within {timeout} s in {self.output!r}"
            self._read(min(left, 1))

    def end(self, timeout=60):
        """Waits for the end; its exit status."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def settings(self):
        return termios.tcgetattr(self._slave)
