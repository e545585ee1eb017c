"""The exporter otlp-http in the real gateway, against a collector on the published protobuf package."""

import json
import subprocess

import pytest
from google.rpc import status_pb2

from support.flows import total
from support.gateway import BINARY, QUICK_RETRY, Gateway
from support.guest import Guest
from support.http_sink import Answer
from support.otlp import OtlpHttpCollector, response
from support.tls import Authority

PASSES_BY_ITSELF = [429, 502, 503, 504]
NEEDS_SOMEBODY = [301, 401, 403, 404, 405, 408, 415, 500, 501]


@pytest.fixture
def collector():
    with OtlpHttpCollector() as made:
        yield made


def exporter(url, **more):
    return {"name": "central", "type": "otlp-http", "url": url, "retry": QUICK_RETRY,
            "timeout": "20s", "batch": {"linger": "5ms"}, **more}  # fmt: skip


def play(gateway, count=1, **fields):
    with Guest(gateway.base()) as guest:
        guest.send_many(count, **fields)


def pids(records):
    return [r.attributes["process.pid"] for r in records if "process.pid" in r.attributes]


def wait_pids(collector, count):
    """All guest events 0 … count-1 have been accepted; says how often each."""
    collector.wait(lambda: set(pids(collector.records)) >= set(range(count)))
    return pids(collector.records)


def requests(gateway, outcome):
    return total(gateway, "cellgate_exporter_requests_total", exporter="central", outcome=outcome)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_records_arrive_in_either_encoding_and_any_compression(tmp_path, collector, encoding, compression):
    more = {"encoding": encoding, "compression": compression}
    with Gateway(tmp_path, exporters=[exporter(collector.url, **more)]) as gateway:
        play(gateway, 1500, guest_comm="\\\"\n€\x00\x1f")
        assert wait_pids(collector, 1500) == list(range(1500))
        assert gateway.stop() == 0
    wanted = "application/json" if encoding == "json" else "application/x-protobuf"
    for request in collector.requests:
        assert request.line == "POST /v1/logs HTTP/1.1" and request.content_type == wanted
        assert request.headers.get("content-encoding", "none") == compression
    guests = [r for r in collector.records if "process.pid" in r.attributes]
    assert {r.attributes["process.command"] for r in guests} == {"\\\"\n€\x00\x1f"}
    assert collector.connections == 1 and collector.errors == []


@pytest.mark.parametrize("given,used", [
    ("", "/v1/logs"), ("/", "/v1/logs"), ("?key=1", "/v1/logs?key=1"),
    ("/otlp/v1/logs", "/otlp/v1/logs"), ("/in/", "/in/"),
])  # fmt: skip
def test_a_url_without_a_path_means_the_usual_one(tmp_path, collector, given, used):
    with Gateway(tmp_path, exporters=[exporter(collector.url.rstrip("/") + given)]) as gateway:
        play(gateway, 5)
        assert wait_pids(collector, 5) == list(range(5))
    assert collector.requests[0].line == f"POST {used} HTTP/1.1"


def test_over_tls_with_a_token_and_an_instance_of_its_own(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    token = tmp_path / "token"
    token.write_text("tok-first\n")
    token.chmod(0o600)
    more = {"tls": {"ca_file": authority.ca_file}, "bearer_token_file": str(token), "instance_id": "gw-3"}
    with OtlpHttpCollector(cert_file=cert, key_file=key) as collector:
        with Gateway(tmp_path, exporters=[exporter(collector.url, **more)]) as gateway:
            play(gateway, 5)
            assert wait_pids(collector, 5) == list(range(5))
        assert collector.requests[0].headers["authorization"] == "Bearer tok-first"
        resource = collector.records[0].resource
        assert resource["service.instance.id"] == "gw-3" and resource["host.name"] == "node-1"


def test_only_the_statuses_of_otlp_bring_the_same_batch_again(tmp_path, collector):
    collector.script(*[Answer(status, headers={"Retry-After": "0"}) for status in PASSES_BY_ITSELF])
    with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
        play(gateway, 20)
        assert wait_pids(collector, 20) == list(range(20))
        assert requests(gateway, "backoff") == len(PASSES_BY_ITSELF)
        assert requests(gateway, "config") == 0


@pytest.mark.parametrize("status", NEEDS_SOMEBODY)
def test_every_other_status_holds_everything_until_somebody_acts(tmp_path, collector, status):
    collector.script(*[Answer(status)] * 3)
    with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
        play(gateway, 20)
        assert wait_pids(collector, 20) == list(range(20))
        assert requests(gateway, "config") == 3 and requests(gateway, "backoff") == 0
        assert total(gateway, "cellgate_exporter_dead_lettered_events_total") == 0


def test_retry_after_is_taken(tmp_path, collector):
    """With back-offs of an hour, only the collector's word can bring the batch again."""
    retry = {"initial": "1h", "max": "1h", "hold_initial": "1h", "hold_max": "1h"}
    collector.script(*[Answer(503, headers={"Retry-After": "1"}), Answer(429, headers={"Retry-After": "1"})])
    with Gateway(tmp_path, exporters=[exporter(collector.url, retry=retry)]) as gateway:
        play(gateway, 20)
        assert wait_pids(collector, 20) == list(range(20))
        assert requests(gateway, "backoff") == 2


def test_too_large_requests_are_split(tmp_path, collector):
    collector.policy = lambda request: Answer(413) if len(request.body) > 20000 else None
    with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
        play(gateway, 300)
        assert wait_pids(collector, 300) == list(range(300))
        assert requests(gateway, "too_large") >= 1


def test_one_poison_event_is_set_aside_with_the_collectors_words(tmp_path, collector):
    poison = 137
    words = status_pb2.Status(code=3, message="not this one\x1b[2J").SerializeToString()

    def refuse(request):
        found = pids(collector.events_of(request))
        return Answer(400, body=words) if poison in found else None

    collector.policy = refuse
    config = {"state_dir": str(tmp_path / "state")}
    with Gateway(tmp_path, exporters=[exporter(collector.url)], config=config) as gateway:
        play(gateway, 300)
        wanted = set(range(300)) - {poison}
        collector.wait(lambda: set(pids(collector.records)) >= wanted)
        assert sorted(pids(collector.records)) == sorted(wanted)
        line = gateway.wait_log("event=event_dead_lettered")
        assert "HTTP 400: not this one" in line and "\x1b" not in line
        assert gateway.stop() == 0
    lines = (tmp_path / "state/dead-letters/central.jsonl").read_text().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["event"]["data"]["guest"]["guestPid"] == poison


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_partial_success_is_counted_and_reported_and_not_sent_again(tmp_path, collector, encoding):
    body = response(2, "too old").SerializeToString()
    if encoding == "json":
        body = b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}'

    def answer(request):
        return Answer(200, body=body) if 19 in pids(collector.events_of(request)) else None

    collector.policy = answer
    with Gateway(tmp_path, exporters=[exporter(collector.url, encoding=encoding)]) as gateway:
        play(gateway, 20)
        assert wait_pids(collector, 20) == list(range(20))
        line = gateway.wait_log("event=events_rejected")
        assert "rejected=2" in line and "too old" in line and "first=" in line and "last=" in line
        play(gateway, 30, guest_pid=1000)
        collector.wait(lambda: len(pids(collector.records)) >= 50)
        assert total(gateway, "cellgate_exporter_rejected_events_total") == 2
        assert gateway.stop() == 0
    assert len(pids(collector.records)) == 50


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_an_answer_that_cannot_be_read_is_still_an_acceptance(tmp_path, collector, encoding):
    bodies = [b"\xff\xff", b"<html>", b"{", b"x" * 100_000]
    collector.script(*[Answer(200, body=body) for body in bodies], Answer(200, endless=50_000_000))
    with Gateway(tmp_path, exporters=[exporter(collector.url, encoding=encoding)]) as gateway:
        for n in range(len(bodies) + 2):
            play(gateway, 1, guest_pid=n)
            wait_pids(collector, n + 1)
        assert requests(gateway, "backoff") == 0
        assert total(gateway, "cellgate_exporter_dead_lettered_events_total") == 0
    assert pids(collector.records) == list(range(len(bodies) + 2))
    assert collector.sent_bytes < 50_000_000


BROKEN = {
    "half a body": Answer(200, body=b"x" * 1000, half=True),
    "early end": Answer(drop=True),
    "reset": Answer(reset=True),
    "garbage": Answer(raw=b"\x00\xff\x1b[2J garbage\r\n\r\n"),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_no_whole_answer_means_once_more(tmp_path, collector, answer):
    collector.script(*[answer] * 3)
    with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
        play(gateway, 10)
        assert wait_pids(collector, 10) == list(range(10))
        assert requests(gateway, "backoff") >= 1 and "\x1b" not in gateway.log()


def test_stopping_does_not_wait_for_a_collector_that_never_answers(tmp_path, collector):
    collector.policy = lambda request: Answer(hold=True)
    config = {"shutdown": {"drain": "50ms"}}
    with Gateway(tmp_path, exporters=[exporter(collector.url, timeout="1h")], config=config) as gateway:
        play(gateway, 10)
        collector.wait_requests(1)
        assert gateway.stop() == 0


@pytest.mark.parametrize("wrong,said", [
    ({"url": "collector:4318"}, "url: not an http:// or https:// URL"),
    ({"encoding": "xml"}, "encoding"),
    ({"compression": "zstd", "compression_level": 20}, "compression_level"),
    ({"headers": {"content-type": "x"}}, "content-type is set by the exporter itself"),
    ({"instance_id": ""}, "instance_id"),
])  # fmt: skip
def test_check_refuses_what_cannot_work(tmp_path, wrong, said):
    path = tmp_path / "cellgate.json"
    path.write_text(json.dumps({"exporters": [exporter("https://collector:4318") | wrong]}))
    done = subprocess.run([BINARY, "check", "--config", str(path)], capture_output=True, text=True)
    assert done.returncode == 78 and said in done.stderr + done.stdout
