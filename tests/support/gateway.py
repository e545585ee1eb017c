"""Runs the real binary with a configuration of the test's, in a directory of the test's.

    with Gateway(tmp_path, exporters=[{...}], cells=2) as gateway:
        with Guest(gateway.base(0)) as guest: ...
        gateway.get("/metrics")

The public listener is a Unix socket in the directory, so that no port has to be guessed. The log is
read all the time; `wait_log` waits for a line.
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading

# $CELLGATE_BINARY is the operator's word, $CELLGATE that of the build.
BINARY = os.environ.get("CELLGATE_BINARY") or os.environ.get("CELLGATE", "cellgate")

# What would otherwise make tests wait; a test may say otherwise.
QUICK_RETRY = {"initial": "5ms", "max": "20ms", "hold_initial": "5ms", "hold_max": "20ms"}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Gateway:
    def __init__(
        self, directory, *, exporters, cells=1, config=None, env=None, arguments=(), manager=None,
        start=True, binary=BINARY,
    ):  # fmt: skip
        self.directory = pathlib.Path(directory)
        # Socket paths are short; test directories may not be.
        self._short = tempfile.TemporaryDirectory(prefix="cg-")
        self.public = f"{self._short.name}/http.sock"
        self.config = {
            "node": "node-1",
            "ingress": {
                "roots": [self._short.name],
                "frames_per_second": 0,
                "cells": [
                    {
                        "cell_id": f"cell-{i}",
                        "run_id": f"run-{i}",
                        "spec_signature_hash": "sha256:00",
                        "vsock_uds_base": self.base(i),
                    }
                    for i in range(cells)
                ],
            },
            "http": {"listen": f"unix:{self.public}"},
            # What a test adds by a reload lies here too.
            "sandbox": {"write_paths": [str(self.directory)]},
            "exporters": exporters,
        }
        self.config.update(config or {})
        self._env = {**os.environ, **(env or {})}
        self._arguments = [str(argument) for argument in arguments]
        self._manager = manager  # support/manager.py
        self._binary = binary
        self.process = None
        self.lines = []
        self._changed = threading.Condition()
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._short.cleanup()

    def base(self, number=0):
        return f"{self._short.name}/{number}.vsock"

    # --- the process ---

    def write_config(self):
        """The configuration as it stands, in one line, where the process reads it."""
        path = self.directory / "cellgate.json"
        path.write_text(json.dumps(self.config))
        return path

    def _launch(self):
        path = self.write_config()
        self.lines = []
        command = [self._binary, "run", "--config", str(path), *self._arguments]
        env, fds = self._env, ()
        if self._manager is not None:
            command, fds = self._manager.command(command)
            env = {**env, **self._manager.env}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            pass_fds=fds,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read_log, args=(self.process, self.lines), daemon=True)
        self._reader.start()

    def start(self, timeout=60):
        self._launch()
        try:
            self.wait_log("event=ready", timeout)
            status, body = self.get("/readyz")
            assert status == 200, body
        except BaseException:
            self.kill()
            raise

    def try_start(self, timeout=60):
        """(None, log) once it is ready, (exit status, log) if it ends before that."""
        self._launch()
        with self._changed:
            self._changed.wait_for(
                lambda: any("event=ready" in line or line == "(end)" for line in self.lines), timeout
            )
        if self.lines[-1] != "(end)":
            return None, self.log()
        return self.process.wait(timeout), self.log()

    def _read_log(self, process, lines):
        """Into the lines of this process: a killed one's helper holds its stderr a moment longer."""
        for line in process.stderr:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            lines.append("(end)")
            self._changed.notify_all()

    def wait_log(self, text, timeout=60, after=0):
        """The first line with the text, behind so many; fails when the gateway ends without one."""

        def found():
            return next((line for line in self.lines[after:] if text in line), None)

        with self._changed:
            self._changed.wait_for(
                lambda: found() or (self.lines and self.lines[-1] == "(end)"), timeout
            )
            assert found(), f"no {text!r} in the log:\n" + "\n".join(self.lines[-40:])
            return found()

    def log(self):
        with self._changed:
            return "\n".join(self.lines)

    def stop(self, timeout=60):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self._reader.join()
        return status

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self._reader.join()

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    # --- its listener ---

    def get(self, path, timeout=30):
        """(status, body) of a GET."""
        connection = UnixConnection(self.public, timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name, **labels):
        """The value of one series, None if it is not there."""
        _, text = self.get("/metrics")
        for line in text.splitlines():
            series, _, value = line.rpartition(" ")
            base, _, rest = series.partition("{")
            if base == name and all(f'{key}="{text}"' in rest for key, text in labels.items()):
                return float(value)
        return None
