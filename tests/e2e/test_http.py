"""The public listener of a running gateway, asked with curl, promtool, Prometheus and bare sockets."""
import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

from support.gateway import BINARY, Gateway


@pytest.fixture
def gateway(tmp_path):
    """A gateway that also listens on TCP, as `url` says."""
    exporter = {"name": "out", "type": "jsonl", "path": str(tmp_path / "events.jsonl")}
    with Gateway(tmp_path, exporters=[exporter], cells=2, start=False) as running:
        running.config["http"] = {"listen": [f"unix:{running.public}", "127.0.0.1:0"]}
        running.start()
        line = running.wait_log("event=http_listening address=127.0.0.1:")
        running.url = "http://" + re.search(r"address=(\S+)", line).group(1)
        yield running


def send(gateway, cell, count):
    subprocess.run([BINARY, "send", "--socket", gateway.base(cell), "--frames", str(count)],
                   check=True, capture_output=True)


def wait_for_metric(gateway, name, value):
    deadline = time.monotonic() + 60
    while (gateway.metric(name) or 0) < value:
        assert time.monotonic() < deadline


def curl(gateway, path, *arguments):
    done = subprocess.run(
        ["curl", "-sS", "-i", "--max-time", "20", *arguments, gateway.url + path],
        capture_output=True, text=True, check=True)
    head, _, body = done.stdout.partition("\n\n")
    status, *headers = head.split("\n")
    return int(status.split()[1]), {h.split(":")[0].lower(): h.split(":", 1)[1].strip()
                                    for h in headers}, body


def test_health_answers_in_words_and_in_json(gateway):
    assert curl(gateway, "/livez")[::2] == (200, "ok\n")
    assert curl(gateway, "/readyz")[::2] == (200, "ready\n")
    status, _, body = curl(gateway, "/readyz?verbose")
    assert status == 200
    assert "[+] gateway: ready" in body and "[+] spool: ok" in body and "exporter" in body
    status, headers, body = curl(gateway, "/healthz")
    report = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert report["status"] == "ok"
    assert report["cells"] == {"waiting": 2, "live": 0, "idle": 0, "silent": 0, "paused": 0}
    assert [e["state"] for e in report["exporters"]] == ["idle"]


def test_head_has_the_headers_and_no_body(gateway):
    status, headers, body = curl(gateway, "/healthz", "--head")
    assert (status, body) == (200, "")
    assert int(headers["content-length"]) > 100


@pytest.mark.parametrize("arguments,path,status", [
    ([], "/nothing", 404),
    ([], "/livez/", 404),
    (["-X", "POST", "-d", "x=1"], "/metrics", 405),
    (["-X", "DELETE"], "/livez", 405),
    (["-H", "Host: evil.example"], "/healthz", 403),
    (["-H", "Host:"], "/healthz", 400),
])
def test_refusals_are_problem_documents(gateway, arguments, path, status):
    got, headers, body = curl(gateway, path, *arguments)
    assert got == status
    if "content-type" in headers:  # without Host the HTTP library itself answers, with no body
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status and problem["title"] and problem["detail"]
    if status == 405:
        assert headers["allow"] == "GET, HEAD"


def test_promtool_finds_nothing_to_say_about_the_metrics(gateway):
    send(gateway, 0, 10)
    wait_for_metric(gateway, "cellgate_exporter_delivered_events_total", 10)
    status, headers, body = curl(gateway, "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    done = subprocess.run([shutil.which("promtool"), "check", "metrics"], input=body,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert "cellgate_frames_received_total 10" in body
    assert 'cellgate_cells{state="live"} 1' in body
    assert 'cellgate_events_appended_total{kind="guest"} 10' in body


@contextlib.contextmanager
def prometheus(tmp_path, target):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: cellgate, static_configs: [{{targets: ['{target}']}}]}}]\n")
    process = subprocess.Popen(
        [shutil.which("prometheus"), f"--config.file={config}",
         f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def test_a_real_prometheus_scrapes_it(gateway, tmp_path):
    send(gateway, 1, 7)
    with prometheus(tmp_path, gateway.url.removeprefix("http://")) as port:
        query = f"http://127.0.0.1:{port}/api/v1/query?query=cellgate_frames_received_total"
        deadline = time.monotonic() + 60
        result = []
        while not (result and result[0]["value"][1] == "7"):
            assert time.monotonic() < deadline, result
            try:
                with urllib.request.urlopen(query, timeout=5) as answer:
                    result = json.load(answer)["data"]["result"]
            except OSError:
                result = []
            time.sleep(0.05)


def test_three_hundred_slow_clients_do_not_stop_a_scrape(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    slow = []
    try:
        for i in range(300):
            client = socket.create_connection((host, int(port)), timeout=10)
            with contextlib.suppress(OSError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: "[: 10 + i % 40])
            slow.append(client)
        for _ in range(5):
            assert curl(gateway, "/livez")[0] == 200
            assert curl(gateway, "/metrics")[0] == 200
    finally:
        for client in slow:
            client.close()
    assert gateway.metric("cellgate_http_connections_evicted_total") >= 280


def test_a_client_that_never_finishes_its_request_is_closed(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"GET /livez HTT")
        assert client.recv(1000) == b""  # closed by the gateway, whenever that is


def test_a_request_split_at_every_byte_is_answered(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":
            client.sendall(bytes([byte]))
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b"ok\n")


def test_garbage_and_huge_headers_do_not_disturb(gateway):
    host, port = gateway.url.removeprefix("http://").split(":")
    for garbage in (b"\0\xff\n" * 100, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000,
                    b"POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        with socket.create_connection((host, int(port)), timeout=30) as client:
            with contextlib.suppress(OSError):
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
    assert curl(gateway, "/livez")[0] == 200
