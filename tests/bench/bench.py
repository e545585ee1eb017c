#!/usr/bin/env python3
"""One command, one table: what cellgate costs, beside its targets.

    python3 tests/bench/bench.py [--build DIR] [--only NAME[,NAME…]] [--scale F] [--json]

Figures are events per second of the gateway's own CPU time (user and system), end to end: the real
binary reads from Unix sockets, and the destination has acknowledged every event. The floors of the
machine are measured in the same run. Builds the release binary first unless --build names one.
Needs nothing but Python's standard library.
"""
import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
FRAME_BYTES = 115
READY_S = 30
PATIENCE_S = 300


def process_cpu_s(pid):
    """CPU time of a process and its threads: the clock that clock_getcpuclockid(3) names."""
    return time.clock_gettime((~pid << 3) | 2)


def process_memory(pid):
    """Anonymous and resident bytes."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
    return int(fields["Anonymous"]) * 1024, int(fields["Rss"]) * 1024


class Gateway:
    """The release binary on a configuration of its own, in a directory of its own."""

    def __init__(self, binary, directory, config, cells=4, probes=None):
        self.binary, self.directory = binary, pathlib.Path(directory)
        self.base = str(self.directory / "cell-%d.vsock")
        config.setdefault("node", "bench")
        config.setdefault("http", {"listen": "127.0.0.1:0"})
        config.setdefault("log", {"level": "warning"})
        config["log"]["level"] = "info"
        config["ingress"] = {"frames_per_second": 0, **config.get("ingress", {}), "cells": [
            {"cell_id": f"cell-{n}", "run_id": "bench", "spec_signature_hash": "sha256:deadbeef",
             "vsock_uds_base": self.base.replace("%d", str(n)),
             **({"probes": probes[n]} if probes else {})} for n in range(cells)]}
        path = self.directory / "cellgate.json"
        path.write_text(json.dumps(config))
        self.log = self.directory / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([binary, "run", "--config", str(path)], stderr=log)
        self.url = self._wait_ready()

    def _wait_ready(self):
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            found = re.search(r"event=http_listening address=(\S+)", self.log.read_text())
            if found and "event=ready" in self.log.read_text():
                return "http://" + found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise SystemExit("the gateway did not start:\n" + self.log.read_text())

    def metric(self, name, labels=""):
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as answer:
            for line in answer.read().decode().split("\n"):
                if line.startswith(name) and labels in line:
                    return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_delivered(self, count):
        deadline = time.monotonic() + PATIENCE_S
        while (now := self.metric("cellgate_exporter_delivered_events_total")) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {now} of {count} events were delivered")
            time.sleep(0.1)

    def send(self, cells, frames, *more):
        done = subprocess.run([self.binary, "send", "--socket", self.base, "--cells", str(cells),
                               "--frames", str(frames), "--json", *more],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"send failed: {done.stdout}{done.stderr}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@contextlib.contextmanager
def running(binary, config, cells=4, probes=None):
    with tempfile.TemporaryDirectory(prefix="cellgate-bench-", dir=BENCH_DIR) as directory:
        text = json.dumps(config).replace("@DIR@", directory)
        gateway = Gateway(binary, directory, json.loads(text), cells, probes)
        try:
            yield gateway
        finally:
            gateway.stop()


@contextlib.contextmanager
def sink(build, *arguments, program="sink", scheme="http"):
    process = subprocess.Popen([build / "tests/bench" / program, *arguments],
                               stdout=subprocess.PIPE, text=True)
    totals = {}
    try:
        yield f"{scheme}://127.0.0.1:{json.loads(process.stdout.readline())['port']}/", totals
    finally:
        process.terminate()
        totals.update(json.loads(process.stdout.read()))
        process.wait()


def write_key(directory, mode):
    path = pathlib.Path(directory) / "bench.key"
    path.write_text("QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI")
    path.chmod(0o600)
    return {"mode": mode, "kid": "bench", "key_file": str(path)}


def http_exporter(url, **batch):
    return {"name": "sink", "type": "cloudevents-http", "url": url,
            "batch": {"events": 512, "bytes": "1MiB", "linger": "20ms", **batch}}


def pump(build, config, total, cells=4):
    """Events per CPU-second and per second of wall-clock time, and the gateway's peak memory."""
    with running(build / "cellgate", config, cells) as gateway:
        gateway.send(cells, 2000)  # start-up costs, caches and connections are not the path's
        gateway.wait_delivered(2000 * cells)
        cpu, wall = process_cpu_s(gateway.process.pid), time.monotonic()
        gateway.send(cells, total // cells)
        gateway.wait_delivered(2000 * cells + total // cells * cells)
        cpu = process_cpu_s(gateway.process.pid) - cpu
        wall = time.monotonic() - wall
        _, resident = process_memory(gateway.process.pid)
    return {"per_cpu_s": total / cpu, "per_s": total / wall, "resident": resident}


def bench_http(build, mode, total, **ingress):
    with tempfile.TemporaryDirectory(dir=BENCH_DIR) as keys, sink(build) as (url, totals):
        config = {"spool": {"dir": "@DIR@/spool"}, "exporters": [http_exporter(url)],
                  "ingress": ingress}
        if mode != "off":
            config["signing"] = write_key(keys, mode)
        figures = pump(build, config, total)
    check_events(totals, total)
    figures["bytes"] = totals["body_bytes"] / totals["events"]
    return figures


def check_events(totals, total):
    # Each of 4 cells connects and closes twice, which are events too.
    expected = total + 8000 + 16
    if totals["events"] != expected:
        raise SystemExit(f"the sink counted {totals['events']} events of {expected}")


def otlp_exporter(kind, url, **more):
    return {"name": "sink", "type": kind, "url": url,
            "batch": {"events": 512, "bytes": "1MiB", "linger": "20ms"}, **more}


def bench_otlp_http(build, total, **more):
    with sink(build, "--otlp") as (url, totals):
        figures = pump(build, {"spool": {"dir": "@DIR@/spool"},
                               "exporters": [otlp_exporter("otlp-http", url, **more)]}, total)
    check_events(totals, total)
    figures["bytes"] = totals["unpacked_bytes"] / totals["events"]
    figures["ratio"] = totals["unpacked_bytes"] / totals["body_bytes"]
    return figures


def bench_otlp_grpc(build, total):
    with tempfile.TemporaryDirectory(dir=BENCH_DIR) as directory:
        certificate = str(pathlib.Path(directory) / "sink.pem")
        with sink(build, certificate, program="grpc_sink", scheme="https") as (url, totals):
            exporter = otlp_exporter("otlp-grpc", url, tls={"ca_file": certificate})
            figures = pump(build, {"spool": {"dir": "@DIR@/spool"}, "exporters": [exporter]}, total)
    check_events(totals, total)
    figures["bytes"] = totals["body_bytes"] / totals["events"]
    return figures


def bench_jsonl(build, total):
    return pump(build, {"spool": {"dir": "@DIR@/spool"}, "exporters": [
        {"name": "file", "type": "jsonl", "path": "@DIR@/events.jsonl"}]}, total)


@contextlib.contextmanager
def nats_server():
    """The URL of a nats-server with JetStream on files."""
    binary = shutil.which("nats-server") or "/usr/sbin/nats-server"
    with tempfile.TemporaryDirectory(prefix="cellgate-bench-", dir=BENCH_DIR) as directory:
        process = subprocess.Popen([binary, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", directory,
                                    "--ports_file_dir", directory], stderr=subprocess.DEVNULL)
        ports = pathlib.Path(directory) / f"nats-server_{process.pid}.ports"
        try:
            deadline = time.monotonic() + READY_S
            while not (ports.exists() and ports.read_text().endswith("}")):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("nats-server did not start")
                time.sleep(0.01)
            yield json.loads(ports.read_text())["nats"][0]
        finally:
            process.kill()
            process.wait()


def bench_nats(build, total):
    """The way to JetStream, and events per CPU-second of libnats alone in the same run, measured
    right before and right behind."""
    def floor(url):
        done = subprocess.run([build / "tests/bench/nats_floor", url, "620", str(total // 4)],
                              capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["publish_ns"]

    with nats_server() as url:
        before = floor(url)
        figures = pump(build, {"spool": {"dir": "@DIR@/spool"}, "exporters": [
            {"name": "queue", "type": "nats-jetstream", "servers": url, "stream": "BENCH",
             "subject": "bench.{cell_id}.{type}", "create_stream": {"enabled": True}}]}, total)
        return figures, 2e9 / (before + floor(url))


def bench_kafka(build, total):
    """To librdkafka's mock cluster in a process of its own."""
    mock = subprocess.Popen([build / "tests/kafka_mock"], stdin=subprocess.PIPE, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        return pump(build, {"spool": {"dir": "@DIR@/spool"}, "exporters": [
            {"name": "queue", "type": "kafka", "topic": "events",
             "brokers": mock.stdout.readline().strip()}]}, total)
    finally:
        mock.kill()
        mock.wait()


def bench_idle(build, count):
    """Anonymous bytes a connected idle cell adds to the same process without cells."""
    # The tail of the spool is bounded and belongs to no cell: filled first. Only if nothing is
    # delivered is it as full at one time as at another.
    tail_events = 60000
    config = {"exporters": [http_exporter("http://127.0.0.1:1/")], "shutdown": {"drain": "0s"},
              "spool": {"cell_share": "64MiB"}}

    def fill(gateway):
        gateway.send(1, tail_events)
        deadline = time.monotonic() + PATIENCE_S
        while gateway.metric("cellgate_frames_received_total") < tail_events:
            if time.monotonic() > deadline:
                raise SystemExit("the tail was not filled")
            time.sleep(0.1)

    with running(build / "cellgate", config, 1) as gateway:
        fill(gateway)
        empty, _ = process_memory(gateway.process.pid)
    with running(build / "cellgate", config, count) as gateway:
        fill(gateway)
        guests = []
        for n in range(count):
            guest = socket.socket(socket.AF_UNIX)
            guest.connect(gateway.base.replace("%d", str(n)) + "_9001")
            guests.append(guest)
        deadline = time.monotonic() + PATIENCE_S
        while gateway.metric("cellgate_connections ") < count and time.monotonic() < deadline:
            time.sleep(0.1)
        full, _ = process_memory(gateway.process.pid)
        for guest in guests:
            guest.close()
    return (full - empty) / count


def bench_dead_collector(build, total):
    """Resident bytes early and late while nothing is delivered."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"  # bound, but nobody listens
        config = {"spool": {"dir": "@DIR@/spool", "max_bytes": "4GiB", "cell_share": "4GiB"},
                  "exporters": [http_exporter(url)], "shutdown": {"drain": "0s"}}
        with running(build / "cellgate", config) as gateway:
            sizes = []
            for _ in range(2):
                gateway.send(4, total // 8)
                sizes.append(process_memory(gateway.process.pid)[1])
    return sizes


def bench_start(build, spool_bytes):
    """Milliseconds from starting the gateway to its being ready, with a backlog of so many bytes."""
    config = {"spool": {"dir": "@DIR@/spool", "max_bytes": str(max(2 * spool_bytes, 1 << 26))},
              "exporters": [http_exporter("http://127.0.0.1:1/")], "shutdown": {"drain": "0s"}}
    with tempfile.TemporaryDirectory(prefix="cellgate-bench-", dir=BENCH_DIR) as directory:
        if spool_bytes > 0:
            subprocess.run([build / "tests/bench/fill_spool", directory + "/spool",
                            str(spool_bytes)], check=True, stdout=subprocess.DEVNULL)
        text = json.dumps(config).replace("@DIR@", directory)
        begun = time.monotonic()
        gateway = Gateway(build / "cellgate", directory, json.loads(text), 1)
        ready = time.monotonic() - begun
        backlog = gateway.metric("cellgate_exporter_backlog_events")
        _, resident = process_memory(gateway.process.pid)
        gateway.stop()
    return {"ms": ready * 1e3, "backlog": backlog, "resident": resident}


def bench_latency(build, count):
    """p50 and p99 from writing a frame's last byte to its arrival at the sink, linger 0."""
    with sink(build, "--latency") as (url, totals):
        config = {"spool": {"dir": "@DIR@/spool"}, "exporters": [http_exporter(url, linger="0s")]}
        with running(build / "cellgate", config, 1) as gateway:
            gateway.send(1, count, "--rate", "500")
            gateway.wait_delivered(count)
    return totals["latency_us"]


def measure_floors(build, events):
    """Nanoseconds of CPU per event of the machine's own doings."""
    done = subprocess.run([build / "tests/bench/floors", BENCH_DIR, "620", str(events)],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def churn_client(path, base, number, pairs_per_s, seconds, results):
    """PUTs and DELETEs cells at a steady rate over one connection; the PUTs' times in us."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    stream = client.makefile("rb")

    def ask(method, cell, body=b""):
        head = f"{method} /v1/cells/{cell} HTTP/1.1\r\nHost: x\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        begun = time.monotonic()
        client.sendall(head.encode() + b"\r\n" + body)
        status, length = int(stream.readline().split()[1]), 0
        while (line := stream.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        text = stream.read(length)
        took = time.monotonic() - begun
        if status != (201 if method == "PUT" else 200):
            raise SystemExit(f"{method} {cell}: {status} {text.decode()}")
        return took * 1e6

    puts, begun = [], time.monotonic()
    for n in range(int(pairs_per_s * seconds)):
        due = begun + n / pairs_per_s
        time.sleep(max(0.0, due - time.monotonic()))
        cell = f"churn-{number}-{n}"
        body = json.dumps({"run_id": "r", "spec_signature_hash": "sha256:00",
                           "vsock_uds_base": base.replace("%d", cell)}).encode()
        puts.append(ask("PUT", cell, body))
        ask("DELETE", cell)
    results.put((puts, time.monotonic() - begun))


def bench_churn(build, cells, seconds, clients=8, requests_per_s=1000):
    """PUT and DELETE from many clients while other cells send: the times of PUT until 201, and the
    frames of the others that did not arrive."""
    config = {"spool": {"dir": "@DIR@/spool", "sync": "200ms"}, "state_dir": "@DIR@/state",
              "control": {"socket": "@DIR@/control.sock"}, "ingress": {"roots": ["@DIR@"]},
              "exporters": [{"name": "file", "type": "jsonl", "path": "@DIR@/events.jsonl"}]}
    frames = 2 * seconds
    with running(build / "cellgate", config, cells) as gateway:
        sender = subprocess.Popen([gateway.binary, "send", "--socket", gateway.base, "--cells",
                                   str(cells), "--frames", str(frames), "--rate",
                                   str(2 * cells)],
                                  stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while gateway.metric("cellgate_connections ") < cells and time.monotonic() < deadline:
            time.sleep(0.05)
        results = multiprocessing.Queue()
        arguments = (str(gateway.directory / "control.sock"), gateway.base)
        processes = [multiprocessing.Process(target=churn_client, args=(
            *arguments, n, requests_per_s / 2 / clients, seconds, results)) for n in range(clients)]
        for process in processes:
            process.start()
        outcomes = [results.get(timeout=PATIENCE_S) for _ in processes]
        for process in processes:
            process.join()
        if sender.wait(PATIENCE_S) != 0:
            raise SystemExit("a guest could not send")
        deadline = time.monotonic() + READY_S
        received = 0
        while received < cells * frames and time.monotonic() < deadline:
            received = gateway.metric("cellgate_frames_received_total")
            time.sleep(0.05)
        dropped = gateway.metric("cellgate_events_dropped_total")
    puts = sorted(time_us for times, _ in outcomes for time_us in times)
    rate = 2 * len(puts) / max(seconds for _, seconds in outcomes)
    return {"p50": puts[len(puts) // 2], "p99": puts[len(puts) * 99 // 100], "rate": rate,
            "lost": cells * frames - received + dropped}


def fc_document(number):
    """A document of Firecracker's size and shape."""
    part = {f"counter_of_some_kind_{n}": number + n for n in range(24)}
    return json.dumps({"utc_timestamp_ms": number, **{
        name: part for name in ("net", "vsock", "vcpu", "block", "api_server", "seccomp", "signals",
                                "put_api_requests", "get_api_requests", "i8042", "uart", "vmm")
    }}, separators=(",", ":")) + "\n"


@contextlib.contextmanager
def probed_host(cells, directory):
    """So many cgroups, interfaces and tables in a namespace, and metrics files. None: not permitted."""
    name = f"cellgate-bench-{os.getpid()}"
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    root = next((pathlib.Path(m[1]) for m in mounts if m[2] == "cgroup2"), None)
    if os.geteuid() != 0 or root is None or shutil.which("nft") is None:
        yield None
        return
    groups = root / name

    def run(*command, text=None):
        return subprocess.run(command, input=text, capture_output=True, text=True)

    try:
        groups.mkdir()
        for n in range(cells):
            (groups / f"cell-{n}").mkdir()
            (directory / f"cell-{n}.metrics").touch()
        done = [run("ip", "netns", "add", name),
                run("ip", "-n", name, "-batch", "-", text="".join(
                    f"link add tap{n} type veth peer name peer{n}\nlink set tap{n} up\n"
                    for n in range(cells))),
                run("ip", "netns", "exec", name, "nft", "-f", "-", text="".join(
                    f"table inet cell-{n} {{\n chain out {{\n"
                    "  ip daddr 10.0.0.0/8 counter accept\n  tcp dport 443 counter accept\n"
                    "  counter drop\n }\n}\n" for n in range(cells)))]
        good = all(step.returncode == 0 for step in done)
        yield {
            "roots": [str(root), "/run/netns", str(directory)],
            "cgroup": {"path": f"{groups}/{{cell_id}}"},
            "tap_link": {"netns": f"/run/netns/{name}"},
            "netns": True,
            "nftables": {"enabled": True, "table": "{cell_id}", "netns": f"/run/netns/{name}"},
            "fc_metrics": {"path": f"{directory}/{{cell_id}}.metrics"},
        } if good else None
    finally:
        run("ip", "netns", "delete", name)
        for n in range(cells):
            with contextlib.suppress(OSError):
                (groups / f"cell-{n}").rmdir()
        with contextlib.suppress(OSError):
            groups.rmdir()


def bench_probes(build, cells, interval_s, rounds):
    """CPU share of one core of four probes for each cell, and readings per round; None: cannot be."""
    with tempfile.TemporaryDirectory(prefix="cellgate-bench-") as directory:
        with probed_host(cells, pathlib.Path(directory)) as probes:
            if probes is None:
                return None
            config = {"probes": {"interval": f"{interval_s}s", **probes},
                      "spool": {"dir": "@DIR@/spool"}, "exporters": [
                          {"name": "file", "type": "jsonl", "path": "@DIR@/events.jsonl"}]}
            per_cell = [{"tap_link": {"interface": f"tap{n}"}} for n in range(cells)]
            with running(build / "cellgate", config, cells, probes=per_cell) as gateway:
                names = ("cgroup", "tap_link", "nftables", "fc_metrics")

                def readings():
                    return {name: gateway.metric("cellgate_probe_readings_total",
                                                 f'probe="{name}"') for name in names}

                time.sleep(interval_s)  # the first round opens what stays open
                before, cpu, begun = readings(), process_cpu_s(gateway.process.pid), time.monotonic()
                for number in range(rounds):
                    for n in range(cells):
                        with open(f"{directory}/cell-{n}.metrics", "a") as file:
                            file.write(fc_document(number))
                    time.sleep(max(0, begun + (number + 1) * interval_s - time.monotonic()))
                seconds = time.monotonic() - begun
                cpu = process_cpu_s(gateway.process.pid) - cpu
                behind = readings()
                return {"share": 100 * cpu / seconds, "readings": {
                    name: (behind[name] - before[name]) / rounds for name in names}}


def measure(build, scale, only):
    rows = []

    def wanted(name):
        return not only or name in only

    def row(name, figure, target=None, unit="events/CPU-s", note=""):
        rows.append({"name": name, "figure": figure, "target": target, "unit": unit, "note": note})
        print_row(rows[-1])

    def count(n):
        return max(4000, int(n * scale))

    floors = measure_floors(build, count(1_000_000))
    for name, what in (("loopback_ns", "floor: loopback send"),
                       ("write_new_ns", "floor: write to new pages"),
                       ("write_over_ns", "floor: write over old pages"),
                       ("write_twice_ns", "floor: write twice to new files"),
                       ("hmac_ns", "floor: HMAC-SHA256"),
                       ("ed25519_openssl_ns", "floor: Ed25519, OpenSSL"),
                       ("ed25519_sodium_ns", "floor: Ed25519, libsodium")):
        row(what, 1e9 / floors[name])
    if wanted("unsigned"):
        figures = bench_http(build, "off", count(4_000_000))
        row("unsigned -> cloudevents-http", figures["per_cpu_s"], 1_000_000,
            note=f"{figures['bytes']:.0f} B/event sent")
        row("  resident under load", figures["resident"] / 2**20, 64, "MiB (at most)")
    if wanted("hmac"):
        row("hmac-sha256 -> cloudevents-http",
            bench_http(build, "hmac-sha256", count(2_000_000))["per_cpu_s"], 560_000)
    if wanted("ed25519"):
        best = 1e9 / min(floors["ed25519_openssl_ns"], floors["ed25519_sodium_ns"])
        row("ed25519 -> cloudevents-http",
            bench_http(build, "ed25519", count(200_000))["per_cpu_s"], 0.9 * best)
    if wanted("jsonl"):
        # The floor right before and right behind: what new pages cost changes by the minute.
        before = measure_floors(build, count(1_000_000))["write_twice_ns"]
        figures = bench_jsonl(build, count(1_000_000))
        behind = measure_floors(build, count(1_000_000))["write_twice_ns"]
        floor = 2e9 / (before + behind)
        row("unsigned -> jsonl file", figures["per_cpu_s"], min(1_200_000, 0.6 * floor),
            note=f"floor {floor:,.0f}")
    if wanted("nats"):
        figures, alone = bench_nats(build, count(400_000))
        row("unsigned -> nats-jetstream", figures["per_cpu_s"], 0.85 * alone,
            note=f"libnats alone {alone:,.0f}; {figures['resident'] / 2**20:.0f} MiB resident")
    if wanted("kafka"):
        figures = bench_kafka(build, count(1_000_000))
        row("unsigned -> kafka", figures["per_cpu_s"], 400_000,
            note=f"to librdkafka's mock cluster; {figures['resident'] / 2**20:.0f} MiB resident")
    if wanted("otlp-http"):
        figures = bench_otlp_http(build, count(2_000_000))
        row("unsigned -> otlp-http protobuf", figures["per_cpu_s"], 600_000,
            note=f"{figures['bytes']:.0f} B/event sent")
        for method in ("gzip", "zstd"):
            figures = bench_otlp_http(build, count(1_000_000), compression=method,
                                      compression_level=1)
            row(f"  the same, {method} level 1", figures["per_cpu_s"],
                note=f"ratio {figures['ratio']:.1f}")
    if wanted("otlp-grpc"):
        figures = bench_otlp_grpc(build, count(2_000_000))
        row("unsigned -> otlp-grpc over TLS", figures["per_cpu_s"], 450_000,
            note=f"{figures['bytes']:.0f} B/event sent")
    if wanted("threads"):
        one = bench_http(build, "off", count(3_000_000), threads=1)["per_s"]
        two = bench_http(build, "off", count(3_000_000), threads=2)["per_s"]
        row("wall-clock, 1 ingress thread", one, unit="events/s")
        row("wall-clock, 2 ingress threads", two, unit="events/s", note=f"{two / one:.2f} x")
    if wanted("idle"):
        row("anonymous memory per idle cell (9,000)", bench_idle(build, 9000), 1536,
            "bytes (at most)")
    if wanted("dead"):
        early, late = bench_dead_collector(build, count(3_000_000))
        row("resident, dead collector, later/earlier", late / early, 1.05, "ratio (at most)",
            f"{early / 2**20:.1f} -> {late / 2**20:.1f} MiB")
    if wanted("start"):
        row("start with an empty spool", bench_start(build, 0)["ms"], unit="ms")
        size = max(1 << 26, int(10 * 2**30 * min(scale, 1)))
        figures = bench_start(build, size)
        row(f"start with {size / 2**30:.2f} GiB of spool", figures["ms"], unit="ms",
            note=f"{figures['backlog']:,.0f} events wait, {figures['resident'] / 2**20:.0f} MiB")
    if wanted("latency"):
        latency = bench_latency(build, count(5_000))
        row("frame to sink, linger 0, p50", latency["p50"], unit="us")
        row("frame to sink, linger 0, p99", latency["p99"], unit="us")
    if wanted("probes"):
        cells = max(10, int(1000 * min(scale, 1)))
        probes = bench_probes(build, cells, 10, 3)
        if probes is None:
            print("four probes a cell: skipped, the machine does not permit cgroups or namespaces")
        else:
            note = ", ".join(f"{n} {c:.0f}" for n, c in probes["readings"].items()) + " a round"
            row(f"{cells:,} cells x four probes every 10 s", probes["share"], 5,
                "% of one core (at most)", note)
    if wanted("churn"):
        churn = bench_churn(build, max(50, int(5000 * min(scale, 1))), 5)
        note = f"{churn['rate']:,.0f} PUT and DELETE/s, 8 clients"
        row("PUT -> 201 while 5,000 cells send, p50", churn["p50"], unit="us", note=note)
        row("PUT -> 201 while 5,000 cells send, p99", churn["p99"], 10_000, "us (at most)", note)
        row("  frames lost meanwhile", churn["lost"], unit="frames")
        if churn["lost"] != 0:
            raise SystemExit("frames were lost")
    return rows


def print_row(row):
    if row["target"] is None:
        target = ratio = ""
    else:
        target, ratio = f"{row['target']:,.0f}", f"{row['figure'] / row['target']:.2f}"
        if row["target"] < 10:
            target = f"{row['target']:.2f}"
    digits = 2 if row["figure"] < 10 else 0
    print(f"{row['name']:<42}{row['figure']:>14,.{digits}f} {row['unit']:<16}{target:>12} {ratio:>6}"
          f"  {row['note']}", flush=True)


def main():
    global BENCH_DIR
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of events")
    parser.add_argument("--json", type=pathlib.Path, help="also write the rows to this file")
    parser.add_argument("--dir", default=None, help="where spool and files go (a disk)")
    arguments = parser.parse_args()
    BENCH_DIR = arguments.dir or tempfile.gettempdir()
    build = arguments.build
    if build is None:
        build = ROOT / "build/bench"
        subprocess.run(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja",
                        "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON"],
                       check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    print(f"{'path':<42}{'figure':>14} {'unit':<16}{'target':>12} {'ratio':>6}")
    rows = measure(build.resolve(), arguments.scale, set(filter(None, arguments.only.split(","))))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
