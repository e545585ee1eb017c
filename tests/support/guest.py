"""A guest agent as the host sees it: frames on the cell's telemetry socket."""

import socket
import struct
import time

import cbor2

PORT = 9001


def frame(**fields):
    """One frame; the five members have defaults, and any may be given, further ones too."""
    declaration = {
        "content_version": 1,
        "probe_source": "process.spawned",
        "guest_pid": 4242,
        "guest_comm": "curl",
        "guest_monotonic_ns": time.monotonic_ns(),
    }
    declaration.update(fields)
    body = cbor2.dumps(declaration)
    return struct.pack("<I", len(body)) + body


class Guest:
    """One connection of a guest to `<base>_9001`."""

    def __init__(self, base, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(f"{base}_{PORT}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, **fields):
        self.socket.sendall(frame(**fields))

    def send_many(self, count, **fields):
        self.socket.sendall(b"".join(frame(**{"guest_pid": i, **fields}) for i in range(count)))

    def send_raw(self, data):
        self.socket.sendall(data)

    def wait_end(self):
        """Reads until the host ends the connection; True if it did so without a reset."""
        try:
            while self.socket.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return False

    def close(self):
        self.socket.close()
