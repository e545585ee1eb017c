"""What a VMM sees of the gateway: its device thread connects for the guest, and must not wait.

The relay is the host's side of a hybrid vsock device: one thread for all its guests, and a blocking
connect to `<base>_<port>` each time a guest connects. While that waits, every device of the VM does.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import threading
import time

import pytest
from support.control import ControlledGateway
from support.guest import PORT, frame

CELLS = 1000
CONNECT_BUDGET_US = 50_000
ACCEPT_TARGET_MS = 5


class Relay:
    """Guests' connections to port 9001, carried to the host's sockets."""

    def __init__(self):
        self.streams = []
        self.late = []

    def connect(self, base):
        stream = socket.socket(socket.AF_UNIX)
        # Of the kernel's making: a connect that finds the backlog full waits, and no longer.
        budget = struct.pack("ll", 0, CONNECT_BUDGET_US)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, budget)
        try:
            stream.connect(f"{base}_{PORT}")
        except OSError as error:
            assert error.errno in (errno.EAGAIN, errno.ETIMEDOUT, errno.EINPROGRESS), error
            self.late.append(base)
        self.streams.append(stream)
        return stream

    def close(self):
        for stream in self.streams:
            stream.close()


class Stall:
    """A gateway whose disk stalls while `disk()` lasts, and that tells each accept."""

    def __init__(self, tmp_path):
        self._lock = open(tmp_path / "disk", "w+")
        pipe = tmp_path / "accepted"
        os.mkfifo(pipe)
        self.accepted = os.open(pipe, os.O_RDWR)
        asan = os.environ.get("ASAN_OPTIONS", "")
        self.env = {
            "LD_PRELOAD": os.environ["CELLGATE_STALL"],
            # What is preloaded replaces no function that the sanitizer has to be first with.
            "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0".lstrip(":"),
            "STALL_LOCK": self._lock.name,
            "STALL_ACCEPTED": str(pipe),
        }

    @contextlib.contextmanager
    def disk(self):
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def forget_accepts(self):
        os.set_blocking(self.accepted, False)
        with contextlib.suppress(BlockingIOError):
            while os.read(self.accepted, 65536):
                pass
        os.set_blocking(self.accepted, True)

    def wait_accept(self):
        assert select.select([self.accepted], [], [], 60)[0], "nobody accepts"
        assert os.read(self.accepted, 1) == b"a"

    def close(self):
        os.close(self.accepted)
        self._lock.close()


@pytest.fixture
def stall(tmp_path):
    made = Stall(tmp_path)
    yield made
    made.close()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def in_background(*calls):
    """Runs each in a thread; (threads, their results as they come)."""
    results = []
    threads = [
        threading.Thread(target=lambda call=call: results.append(call()), daemon=True)
        for call in calls
    ]
    for thread in threads:
        thread.start()
    return threads, results


def test_no_vmm_waits_while_the_disk_stalls(tmp_path, stall, capsys):
    with ControlledGateway(tmp_path, env=stall.env) as gateway:
        bases = [gateway.base_of(f"cell-{i}") for i in range(CELLS)]
        for i in range(CELLS):
            assert gateway.put(f"cell-{i}")[0] == 201
        relay = Relay()
        waits_ms, accepts_ms = [], []
        with stall.disk():
            # Work that wants the disk is under way on every thread that ever touches it.
            putting, put = in_background(*[lambda i=i: gateway.put(f"late-{i}") for i in range(4)])
            deleting, deleted = in_background(lambda: gateway.delete("cell-0"))
            assert gateway.ask("GET", "/livez")[0] == 200
            stall.forget_accepts()
            # So that it is not our own table of descriptors, shared by threads, that grows meanwhile.
            os.close(fcntl.fcntl(0, fcntl.F_DUPFD, 2 * CELLS + 512))
            for base in bases[1:]:
                begun = time.monotonic()
                stream = relay.connect(base)
                waits_ms.append((time.monotonic() - begun) * 1000)
                stall.wait_accept()
                accepts_ms.append((time.monotonic() - begun) * 1000)
                stream.sendall(frame())
            assert relay.late == []
            for path in ("/livez", "/readyz", "/metrics"):
                assert gateway.ask("GET", path)[0] == 200
            assert put == deleted == []  # the disk has stalled all the time
        for thread in putting + deleting:
            thread.join()
        assert sorted(status for status, _ in put) == [201] * 4
        assert [status for status, _ in deleted] == [200]
        with capsys.disabled():
            print(f"\n{len(accepts_ms)} connects while the disk stalled, in ms (target of accept "
                  f"{ACCEPT_TARGET_MS}): connect max {max(waits_ms):.2f} "
                  f"p99 {percentile(waits_ms, 0.99):.2f}, accept max {max(accepts_ms):.2f} "
                  f"p99 {percentile(accepts_ms, 0.99):.2f}")
        relay.close()
        assert gateway.stop() == 0
        declared = [e for e in gateway.events() if e["data"]["provenance"] == "declared"]
        assert sorted(e["data"]["cellId"] for e in declared) == sorted(
            f"cell-{i}" for i in range(1, CELLS)
        )
