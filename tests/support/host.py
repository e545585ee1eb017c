"""The host's side of a VM, for probes to look at: cgroups, network namespaces with a veth pair and a
firewall table, a Firecracker that writes metrics and answers its API socket.

What the machine does not permit is skipped, with the reason."""

import contextlib
import errno
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import uuid

import pytest


def short_id():
    return uuid.uuid4().hex[:8]


def cgroup2_root():
    """Where cgroup2 is mounted, or None."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return pathlib.Path(fields[1])
    return None


def remove_when_empty(path):
    deadline = time.monotonic() + 30
    while True:
        try:
            path.rmdir()
            return
        except OSError as error:
            assert error.errno == errno.EBUSY and time.monotonic() < deadline
            time.sleep(0.01)


@contextlib.contextmanager
def cgroup():
    """A cgroup (v2) of the test's own."""
    root = cgroup2_root()
    if root is None:
        pytest.skip("no cgroup2 is mounted")
    path = root / f"cellgate-test-{short_id()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"cgroup2 is not writable: {error}")
    try:
        yield path
    finally:
        (path / "cgroup.kill").write_text("1")
        remove_when_empty(path)


def run_in(cgroup_path, *command):
    """Starts a program in a cgroup."""

    def join():
        with open(cgroup_path / "cgroup.procs", "w") as procs:
            procs.write("0")

    return subprocess.Popen(command, preexec_fn=join, stdout=subprocess.DEVNULL)


def ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check)


class Network:
    """A namespace with one end of a veth pair in it, `tap`, whose other end, with an address too, is
    in a second one that stands for the guest."""

    def __init__(self):
        self.host = f"cgh{short_id()}"
        self.guest = f"cgg{short_id()}"
        self.tap = "tap0"

    def __enter__(self):
        try:
            for name in (self.host, self.guest):
                made = ip("netns", "add", name, check=False)
                if made.returncode != 0:
                    pytest.skip(f"no network namespace can be made: {made.stderr.strip()}")
            self.in_host("link", "add", self.tap, "type", "veth", "peer", "name", "eth0",
                         "netns", self.guest)
            self.in_host("address", "add", "10.9.8.1/24", "dev", self.tap)
            ip("-n", self.guest, "address", "add", "10.9.8.2/24", "dev", "eth0")
            ip("-n", self.guest, "link", "set", "eth0", "up")
            self.in_host("link", "set", self.tap, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in (self.host, self.guest):
            ip("netns", "delete", name, check=False)

    def rename(self, name):
        """The host's namespace gets the name of one that is gone."""
        source, target = f"/run/netns/{self.host}", f"/run/netns/{name}"
        pathlib.Path(target).touch()
        subprocess.run(["mount", "--bind", source, target], check=True)
        subprocess.run(["umount", source], check=True)
        pathlib.Path(source).unlink()
        self.host = name

    @property
    def path(self):
        return f"/run/netns/{self.host}"

    def in_host(self, *arguments):
        return ip("-n", self.host, *arguments)

    def send_from_guest(self, count):
        """So many UDP datagrams to the host's end."""
        program = ("import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                   f"for _ in range({count}): s.sendto(b'x' * 10, ('10.9.8.1', 7))\n")
        subprocess.run(["ip", "netns", "exec", self.guest, "python3", "-c", program], check=True)

    def nft(self, text):
        done = subprocess.run(["ip", "netns", "exec", self.host, "nft", "-f", "-"], input=text,
                              capture_output=True, text=True)
        if "not permitted" in done.stderr or "not supported" in done.stderr:
            pytest.skip(f"no firewall table can be made: {done.stderr.strip()[:200]}")
        assert done.returncode == 0, done.stderr


def metrics(number, **parts):
    """A document of Firecracker's shape: utc_timestamp_ms first, then its parts."""
    document = {
        "utc_timestamp_ms": 1_700_000_000_000 + number,
        "api_server": {"process_startup_time_us": 3000, "process_startup_time_cpu_us": 2000},
        "latencies_us": {"pause_vm": 0, "resume_vm": 0},
        "net": {"rx_bytes_count": 0, "rx_packets_count": 0, "tx_bytes_count": 0,
                "tx_packets_count": 0},
        "vcpu": {"exit_io_in": 100 + number,
                 "exit_io_in_agg": {"min_us": 1, "max_us": 9, "sum_us": 70}},
        "vsock": {"rx_bytes_count": 0, "rx_packets_count": 0, "tx_bytes_count": 128,
                  "tx_packets_count": 2},
    }
    for name, members in parts.items():
        document.setdefault(name, {}).update(members)
    return json.dumps(document, separators=(",", ":")) + "\n"


class Firecracker:
    """Answers PUT /actions on a Unix socket; FlushMetrics writes a document to the metrics file
    before the answer, as the real one does. `behave`: "well", "hang", "refuse", "garbage"."""

    def __init__(self, socket_path, metrics_path, behave="well"):
        self.metrics_path = metrics_path
        self.behave = behave
        self.requests = []
        self._held = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(socket_path))
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)
        for connection in self._held:
            connection.close()

    def write(self, text):
        """As Firecracker does: without blocking, into a file or FIFO that is there."""
        fd = os.open(self.metrics_path, os.O_RDWR | os.O_NONBLOCK | os.O_APPEND)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(30)
            with contextlib.suppress(OSError):  # who asked may have given up
                self._answer(connection)

    def _answer(self, connection):
        request = b""
        while b"\r\n\r\n" not in request or not request.endswith(b"}"):
            more = connection.recv(4096)
            if not more:
                break
            request += more
        self.requests.append(request.decode())
        if self.behave == "hang":
            self._held.append(connection)
            return
        if self.behave == "well":
            self.write(metrics(len(self.requests)))
        answer = {"well": b"HTTP/1.1 204 \r\nServer: Firecracker API\r\n\r\n",
                  "refuse": b"HTTP/1.1 400 \r\nContent-Length: 22\r\n\r\n"
                            b'{"fault_message":"no"}',
                  "garbage": b"\x00\x01SSH-2.0-nothing\r\n"}[self.behave]
        connection.sendall(answer)
        connection.close()
