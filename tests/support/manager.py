"""A stand-in for the service manager: hears what a service says (sd_notify), keeps descriptors for
it, and passes sockets and kept descriptors to the next start, as systemd does.

    with Manager(tmp_path, store=100) as manager:
        manager.listen("http", "127.0.0.1", 0)
        with Gateway(tmp_path, manager=manager, ...) as gateway:
            gateway.stop(); gateway.start()      # what was stored comes back
"""

import array
import os
import socket
import sys
import tempfile
import threading

DESCRIPTORS_PER_MESSAGE = 253


class Manager:
    def __init__(self, *, store=0, tells_of_store=False, watchdog=None, deaf=False):
        self.store_max = store  # FileDescriptorStoreMax=
        self.messages = []  # dicts, in order
        self.stored = []  # (name, descriptor)
        self.deaf = deaf  # takes nothing in but READY=1, and closes nothing: see `unheard`
        self.unheard = []  # descriptors that came meanwhile
        self._sockets = []  # (name, socket)
        self._changed = threading.Condition()
        self._directory = tempfile.TemporaryDirectory(prefix="cg-")
        path = f"{self._directory.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self.env = {"NOTIFY_SOCKET": path}
        if tells_of_store:
            self.env["FDSTORE"] = str(store)
        if watchdog:
            self.env["WATCHDOG_USEC"] = str(watchdog)
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for fd in [fd for _, fd in self.stored] + self.unheard:
            os.close(fd)
        for _, sock in self._sockets:
            sock.close()
        self._directory.cleanup()

    # --- what it passes ---

    def listen(self, name, *address):
        """A socket unit: a path, or an address and a port. Returns the socket."""
        if len(address) == 1:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.bind(str(address[0]))
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.bind(address)
        sock.listen(16)
        self._sockets.append((name, sock))
        return sock

    def put(self, name, fd):
        """Stores a descriptor, as if the service had."""
        with self._changed:
            self.stored.append((name, os.dup(fd)))

    def command(self, command):
        """(the command that starts it with what it is passed, the descriptors to be kept open)."""
        with self._changed:
            passed = [(name, sock.fileno()) for name, sock in self._sockets] + self.stored
        if not passed:
            return command, ()
        names = ":".join(name for name, _ in passed)
        fds = [fd for _, fd in passed]
        numbers = ",".join(map(str, fds))
        return [sys.executable, __file__, numbers, names, *command], fds

    # --- what it hears ---

    def wait(self, condition, timeout=60):
        """Until it holds of the messages; it is asked whenever one has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.messages), timeout), self.messages

    def heard(self, key, value=None):
        """The messages with that member."""
        with self._changed:
            return [m for m in self.messages if key in m and value in (None, m[key])]

    def kept(self):
        with self._changed:
            return len(self.stored)

    def _hear(self):
        while True:
            size = DESCRIPTORS_PER_MESSAGE * array.array("i").itemsize
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(size))
            except OSError:
                return
            fds = array.array("i")
            for level, kind, content in ancillary:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                fds.frombytes(content)
            if not data:
                return
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            with self._changed:
                self._take(message, list(fds))
                self._changed.notify_all()

    def _take(self, message, fds):
        if self.deaf and "READY" not in message:
            self.unheard += fds
            return
        message["descriptors"] = len(fds)
        self.messages.append(message)
        if message.get("FDSTORE") == "1":
            for fd in fds:
                if len(self.stored) < self.store_max:
                    self.stored.append((message["FDNAME"], fd))
                else:
                    os.close(fd)  # and says nothing
            return
        if message.get("FDSTOREREMOVE") == "1":
            gone = [fd for name, fd in self.stored if name == message["FDNAME"]]
            self.stored = [(name, fd) for name, fd in self.stored if name != message["FDNAME"]]
            fds += gone
        for fd in fds:  # a barrier's among them
            os.close(fd)


def _exec(numbers, names, command):
    """Moves the descriptors to 3 and up, says so in the environment, and becomes the command."""
    fds = [int(number) for number in numbers.split(",")]
    first = 3
    high = [os.dup2(fd, 10000 + i, inheritable=False) for i, fd in enumerate(fds)]
    for i, fd in enumerate(high):
        os.dup2(fd, first + i)
    for fd in fds:
        if fd >= first + len(fds):
            os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(fds))
    os.environ["LISTEN_FDNAMES"] = names
    os.execv(command[0], command)


if __name__ == "__main__":
    _exec(sys.argv[1], sys.argv[2], sys.argv[3:])
