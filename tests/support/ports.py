"""Ports for servers that tests kill and start again."""

import pathlib
import random
import socket


def steady_port():
    """A free port on 127.0.0.1 that the kernel gives to nobody by itself: below those of which it takes
    one for a connection. While the server is away, nothing else gets it, not even a connection to it."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert lowest > 2048, "the kernel gives out every port"
    for _ in range(1000):
        port = random.randrange(max(1024, lowest - 20000), lowest)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")
