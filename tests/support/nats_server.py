"""A real NATS server with JetStream on files, in a directory of the test's, on a port that it keeps over
restarts."""

import asyncio
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import nats

from support.ports import steady_port

BINARY = shutil.which("nats-server") or "/usr/sbin/nats-server"
PATIENCE_S = 60


class NatsServer:
    def __init__(self, directory, *, config="", scheme="nats", client=None, start=True):
        self.directory = pathlib.Path(directory) / "nats"
        self.directory.mkdir()
        self.config = config  # further lines of its configuration file
        self.client = client or {}  # what our own connections need: user, tls, …
        self.scheme = scheme
        self.port = steady_port()
        self.process = None
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self):
        path = self.directory / "server.conf"
        path.write_text(
            f'host: "127.0.0.1"\nport: {self.port}\n'
            f'jetstream {{ store_dir: "{self.directory}/store" }}\n{self.config}\n'
        )
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "-c", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_started()

    def _wait_started(self):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as probe:
                    if probe.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("nats-server did not start:\n" + (self.directory / "log").read_text()[-4000:])

    def kill(self):
        """SIGKILL, also when it is stopped."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stand_still(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    # --- what is in it ---

    def _ask(self, question):
        async def run():
            connection = await nats.connect(f"{self.scheme}://127.0.0.1:{self.port}", **self.client)
            try:
                return await question(connection.jetstream(timeout=PATIENCE_S))
            finally:
                await connection.close()

        return asyncio.run(run())

    def add_stream(self, name, subjects, **more):
        self._ask(lambda stream: stream.add_stream(name=name, subjects=subjects, **more))

    def stream(self, name):
        """Configuration and state of a stream."""
        return self._ask(lambda stream: stream.stream_info(name))

    def messages(self, name):
        """All (subject, headers, data) of a stream, in its order."""

        async def read(stream):
            left = (await stream.stream_info(name)).state.messages
            found = []
            reader = await stream.pull_subscribe("", stream=name, durable="reader")
            while left > len(found):
                for message in await reader.fetch(min(1000, left - len(found)), timeout=PATIENCE_S):
                    found.append((message.subject, message.headers, message.data))
                    await message.ack()
            return found

        return self._ask(read)
