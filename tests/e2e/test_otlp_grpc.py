"""The exporter otlp-grpc in the real gateway, against grpcio's server and one that breaks rules."""

import json
import subprocess

import pytest

from support.flows import total
from support.gateway import BINARY, QUICK_RETRY, Gateway
from support.grpc_sink import (CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM,
                               GrpcSink, Reply, frame)  # fmt: skip
from support.guest import Guest
from support.otlp import GrpcCollector, Status, response
from support.tls import Authority

PASSES_BY_ITSELF = [1, 2, 4, 10, 13, 14, 15]
PERHAPS_POISON = [3, 9, 11]
NEEDS_SOMEBODY = [5, 6, 7, 12, 16]


def exporter(url, **more):
    return {"name": "central", "type": "otlp-grpc", "url": url, "retry": QUICK_RETRY,
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


def dead_lettered(gateway):
    return total(gateway, "cellgate_exporter_dead_lettered_events_total")


@pytest.fixture(params=["h2c", "tls"])
def security(request, tmp_path):
    """Keyword arguments of a collector, and what the exporter needs to know."""
    if request.param == "h2c":
        return {}, {}
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    return {"cert_file": cert, "key_file": key}, {"tls": {"ca_file": authority.ca_file}}


# --- the protocol ---


def test_records_arrive_whole_and_in_order(tmp_path, security):
    served, known = security
    with GrpcCollector(**served) as collector:
        with Gateway(tmp_path, exporters=[exporter(collector.url, **known)]) as gateway:
            play(gateway, 3000)
            assert wait_pids(collector, 3000) == list(range(3000))
            assert gateway.stop() == 0
        assert all(0 < call.time_remaining <= 20 for call in collector.calls)
        assert all(len(call.records) <= 512 for call in collector.calls)
        peers = {call.peer for call in collector.calls}
    assert len(peers) == (1 if known else len(collector.calls))


def test_a_call_is_what_grpc_wants(tmp_path, security):
    served, known = security
    with GrpcSink(**served) as sink:
        with Gateway(tmp_path, exporters=[exporter(sink.url, timeout="1h", **known)]) as gateway:
            play(gateway, 10)
            assert wait_pids(sink, 10) == list(range(10))
        headers = sink.requests[0].headers
    assert headers[":method"] == "POST" and headers[":scheme"] == ("https" if known else "http")
    assert headers[":path"] == "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    assert headers["content-type"] == "application/grpc" and headers["te"] == "trailers"
    assert headers["grpc-timeout"] == "3600000m" and "grpc-encoding" not in headers
    assert headers["user-agent"].startswith("cellgate/") and "expect" not in headers


@pytest.mark.parametrize("level", [0, 1, 9])
def test_messages_can_be_compressed(tmp_path, level):
    more = {"compression": "gzip", "compression_level": level}
    with GrpcCollector() as collector, GrpcSink() as sink:
        exporters = [exporter(collector.url, **more), {**exporter(sink.url, **more), "name": "raw"}]
        with Gateway(tmp_path, exporters=exporters) as gateway:
            play(gateway, 700)
            assert wait_pids(collector, 700) == wait_pids(sink, 700) == list(range(700))
            assert gateway.stop() == 0
        assert sink.requests[0].headers["grpc-encoding"] == "gzip"
    assert [r.text for r in collector.records] == [r.text for r in sink.records]


def test_the_connection_over_tls_is_kept(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    with GrpcSink(cert_file=cert, key_file=key) as sink:
        tls = {"ca_file": authority.ca_file}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)]) as gateway:
            play(gateway, 3000)
            assert wait_pids(sink, 3000) == list(range(3000))
        assert len(sink.requests) > 3 and sink.connections == 1


def test_a_client_certificate_is_shown(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    client_cert, client_key, end = authority.issue("gateway-client", client=True)
    with GrpcCollector(cert_file=cert, key_file=key, client_ca=authority.ca_file) as collector:
        tls = {"ca_file": authority.ca_file, "cert_file": client_cert, "key_file": client_key}
        with Gateway(tmp_path, exporters=[exporter(collector.url, tls=tls)]) as gateway:
            play(gateway, 5)
            assert wait_pids(collector, 5) == list(range(5))
            name = "cellgate_tls_certificate_expiry_timestamp_seconds"
            assert gateway.metric(name, exporter="central") == end


def test_a_wrong_server_certificate_is_configuration_trouble(tmp_path):
    authority, other = Authority(tmp_path), Authority(tmp_path, "another authority")
    cert, key, _ = other.issue("server")
    config = {"shutdown": {"drain": "50ms"}}
    with GrpcSink(cert_file=cert, key_file=key) as sink:
        tls = {"ca_file": authority.ca_file}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)], config=config) as gateway:
            play(gateway, 5)
            sink.wait(lambda: sink.connections >= 3)
            assert requests(gateway, "config") >= 1 and requests(gateway, "backoff") == 0
        assert sink.requests == []


def test_token_and_headers_are_metadata_and_never_shown(tmp_path):
    token = tmp_path / "token"
    token.write_text("tok-first\n")
    token.chmod(0o600)
    more = {"bearer_token_file": str(token), "headers": {"x-tenant": "hidden-tenant"}}
    with GrpcCollector() as collector:
        collector.script(Status(16, "who are you?"))
        with Gateway(tmp_path, exporters=[exporter(collector.url, **more)]) as gateway:
            play(gateway, 1)
            wait_pids(collector, 1)
            metadata = collector.calls[-1].metadata
            assert metadata["authorization"] == "Bearer tok-first"
            assert metadata["x-tenant"] == "hidden-tenant"
            shown = gateway.log() + gateway.get("/healthz")[1] + gateway.get("/readyz?verbose")[1]
            assert "who are you?" in shown
            assert "tok-" not in shown and "hidden-tenant" not in shown


# --- what the server answers ---


def test_retryable_codes_bring_the_same_batch_again(tmp_path, security):
    served, known = security
    with GrpcCollector(**served) as collector:
        collector.script(*[Status(code, "later") for code in PASSES_BY_ITSELF])
        with Gateway(tmp_path, exporters=[exporter(collector.url, **known)]) as gateway:
            play(gateway, 20)
            assert wait_pids(collector, 20) == list(range(20))
            assert requests(gateway, "backoff") == len(PASSES_BY_ITSELF)
            assert dead_lettered(gateway) == 0
        tries = collector.calls[: len(PASSES_BY_ITSELF) + 1]
        first, *others = [[record.text for record in call.records] for call in tries]
        for other in others:  # from the same event on, byte for byte, be it more or less of them
            assert other and all(a == b for a, b in zip(first, other))


@pytest.mark.parametrize("code", NEEDS_SOMEBODY)
def test_other_codes_hold_everything_until_somebody_acts(tmp_path, code):
    with GrpcCollector() as collector:
        collector.script(*[Status(code, "no")] * 5)
        with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
            play(gateway, 20)
            assert wait_pids(collector, 20) == list(range(20))
            assert requests(gateway, "config") == 5 and requests(gateway, "backoff") == 0
            assert dead_lettered(gateway) == 0


@pytest.mark.parametrize("code", PERHAPS_POISON)
def test_one_poison_event_is_set_aside_with_the_servers_words(tmp_path, code):
    poison = 137

    def refuse(records):
        return Status(code, "not this one: 100%") if poison in pids(records) else None

    config = {"state_dir": str(tmp_path / "state")}
    with GrpcCollector() as collector:
        collector.policy = refuse
        with Gateway(tmp_path, exporters=[exporter(collector.url)], config=config) as gateway:
            play(gateway, 300)
            wanted = set(range(300)) - {poison}
            collector.wait(lambda: set(pids(collector.records)) >= wanted)
            assert sorted(pids(collector.records)) == sorted(wanted)
            assert dead_lettered(gateway) == 1
            assert gateway.stop() == 0
    lines = (tmp_path / "state/dead-letters/central.jsonl").read_text().splitlines()
    letter = json.loads(lines[0])
    assert len(lines) == 1 and letter["status"] == code
    assert letter["answer"] == "not this one: 100%"
    assert letter["event"]["data"]["guest"]["guestPid"] == poison


def test_exhaustion_without_a_delay_means_a_smaller_batch(tmp_path):
    with GrpcCollector() as collector:
        collector.policy = lambda records: Status(8, "too much") if len(records) > 10 else None
        with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
            play(gateway, 300)
            assert wait_pids(collector, 300) == list(range(300))
            assert requests(gateway, "too_large") >= 1 and requests(gateway, "backoff") == 0


def test_a_servers_own_limit_of_message_size_is_found_by_splitting(tmp_path, security):
    served, known = security
    limit = [("grpc.max_receive_message_length", 20_000)]
    with GrpcCollector(options=limit, **served) as collector:
        with Gateway(tmp_path, exporters=[exporter(collector.url, **known)]) as gateway:
            play(gateway, 600)
            assert wait_pids(collector, 600) == list(range(600))
            assert requests(gateway, "too_large") >= 1 and dead_lettered(gateway) == 0


def test_a_batch_that_would_pass_message_bytes_is_split_beforehand(tmp_path):
    more = {"message_bytes": "256KiB", "batch": {"events": 4096, "bytes": "16MiB", "linger": "5ms"}}
    with GrpcCollector() as collector:
        with Gateway(tmp_path, exporters=[exporter(collector.url, **more)], start=False) as gateway:
            gateway.config["spool"] = {"dir": str(tmp_path / "spool")}
            gateway.start()
            play(gateway, 3000)
            assert wait_pids(collector, 3000) == list(range(3000))
        assert max(int(call.metadata["content-length"]) for call in collector.calls) <= 256 * 1024 + 5


@pytest.mark.parametrize("code", [8, 14])
def test_the_delay_that_the_server_names_is_taken(tmp_path, code):
    """With back-offs of an hour, only the server's word can bring the batch again."""
    retry = {"initial": "1h", "max": "1h", "hold_initial": "1h", "hold_max": "1h"}
    with GrpcCollector() as collector:
        collector.script(*[Status(code, "slowly", retry_delay_ns=1_000_000)] * 3)
        with Gateway(tmp_path, exporters=[exporter(collector.url, retry=retry)]) as gateway:
            play(gateway, 20)
            assert wait_pids(collector, 20) == list(range(20))
            assert requests(gateway, "backoff") == 3 and requests(gateway, "too_large") == 0


def test_the_delay_that_the_server_names_is_capped(tmp_path):
    retry = {**QUICK_RETRY, "retry_after_max": "10ms"}
    with GrpcCollector() as collector:
        collector.script(Status(14, "in a year", retry_delay_ns=365 * 86400 * 10**9))
        with Gateway(tmp_path, exporters=[exporter(collector.url, retry=retry)]) as gateway:
            play(gateway, 20)
            assert wait_pids(collector, 20) == list(range(20))


def test_partial_success_is_counted_and_reported_and_not_sent_again(tmp_path):
    with GrpcCollector() as collector:
        collector.policy = lambda records: (
            Status(rejected=2, message="two are\ntoo old \x1b[2J") if 19 in pids(records) else None)
        with Gateway(tmp_path, exporters=[exporter(collector.url)]) as gateway:
            play(gateway, 20)
            assert wait_pids(collector, 20) == list(range(20))
            line = gateway.wait_log("event=events_rejected")
            assert "rejected=2" in line and "too old" in line and "\x1b" not in line
            assert "first=" in line and "last=" in line
            play(gateway, 30, guest_pid=1000)
            collector.wait(lambda: len(pids(collector.records)) >= 50)
            assert total(gateway, "cellgate_exporter_rejected_events_total") == 2
            assert gateway.stop() == 0
        assert len(pids(collector.records)) == 50


BROKEN = {
    "RST_STREAM instead of an answer": Reply(reset_at_once=True, reset=INTERNAL_ERROR),
    "RST_STREAM, calm down": Reply(reset_at_once=True, reset=ENHANCE_YOUR_CALM),
    "RST_STREAM instead of trailers": Reply(reset=CANCEL),
    "GOAWAY instead of an answer": Reply(goaway_first=True),
    "GOAWAY with an error": Reply(goaway_first=True, goaway=ENHANCE_YOUR_CALM),
    "the connection's end": Reply(drop=True),
    "no trailers": Reply(trailers=None),
    "trailers without a status": Reply(trailers={"x": "y"}),
    "HTTP 503": Reply(http_status=503, trailers=None, body=b"busy"),
    "HTTP 404": Reply(http_status=404, trailers=None, body=b"who?"),
    "UNAVAILABLE in trailers only": Reply(trailers_only=True, trailers={"grpc-status": "14"}),
    "a status that is no number": Reply(trailers={"grpc-status": "fine"}),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_no_whole_answer_means_once_more(tmp_path, security, reply):
    served, known = security
    with GrpcSink(**served) as sink:
        sink.script(*[reply] * 3)
        with Gateway(tmp_path, exporters=[exporter(sink.url, **known)]) as gateway:
            play(gateway, 10)
            assert wait_pids(sink, 10) == list(range(10))
            assert requests(gateway, "backoff") >= 3 and requests(gateway, "config") == 0
            assert dead_lettered(gateway) == 0


def test_a_refused_stream_is_tried_again_at_once(tmp_path, security):
    """The server says that it has done nothing; libcurl itself then asks once more."""
    served, known = security
    with GrpcSink(**served) as sink:
        sink.script(*[Reply(reset_at_once=True, reset=REFUSED_STREAM)] * 8)
        with Gateway(tmp_path, exporters=[exporter(sink.url, **known)]) as gateway:
            play(gateway, 10)
            assert wait_pids(sink, 10) == list(range(10))
            assert requests(gateway, "config") == 0 and dead_lettered(gateway) == 0


def test_a_good_bye_behind_an_answer_loses_nothing(tmp_path, security):
    """Now and then: libcurl may lose an answer with which a connection ends, and it comes again."""
    served, known = security
    answered = iter(range(10**9))
    with GrpcSink(**served) as sink:
        sink.policy = lambda request: Reply(goaway=NO_ERROR) if next(answered) % 3 == 0 else None
        with Gateway(tmp_path, exporters=[exporter(sink.url, **known)]) as gateway:
            play(gateway, 3000)
            assert sorted(set(wait_pids(sink, 3000))) == list(range(3000))
            assert dead_lettered(gateway) == 0
        assert sink.connections >= 2


def test_a_refusal_before_the_message_is_read_is_heard(tmp_path, security):
    served, known = security
    with GrpcSink(**served) as sink:
        early = Reply(early=True, body=b"", trailers={"grpc-status": "8", "grpc-message": "too%20large"},
                      reset=NO_ERROR)  # fmt: skip
        with Gateway(tmp_path, exporters=[exporter(sink.url, **known)]) as gateway:
            play(gateway, 5)
            wait_pids(sink, 5)
            sink.script(early)
            play(gateway, 600)
            wait_pids(sink, 600)
            assert requests(gateway, "too_large") == 1


def test_an_unknown_code_in_trailers_only_holds(tmp_path):
    with GrpcSink() as sink:
        sink.script(Reply(trailers_only=True, trailers={"grpc-status": "99"}))
        with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
            play(gateway, 10)
            assert wait_pids(sink, 10) == list(range(10))
            assert requests(gateway, "config") == 1


def test_what_the_server_says_is_decoded_and_shown_without_control_characters(tmp_path):
    trailers = {"grpc-status": "7", "grpc-message": "caf%C3%A9 %1b[2J%0aevent=forged 100%"}
    retry = {**QUICK_RETRY, "hold_initial": "1h", "hold_max": "1h"}
    config = {"shutdown": {"drain": "50ms"}}
    with GrpcSink() as sink:
        sink.policy = lambda request: Reply(trailers=trailers)
        with Gateway(tmp_path, exporters=[exporter(sink.url, retry=retry)], config=config) as gateway:
            play(gateway, 10)
            line = gateway.wait_log("event=exporter_holding")
            assert "gRPC 7 PERMISSION_DENIED: café" in line and "100%" in line
            health = gateway.get("/healthz")[1]
            assert "café" in json.dumps(json.loads(health), ensure_ascii=False)
            shown = gateway.log() + health + gateway.get("/readyz?verbose")[1]
            assert "\x1b" not in shown and not any(x.startswith("event=forged") for x in shown.splitlines())


def test_an_answer_that_cannot_be_read_is_still_an_acceptance(tmp_path):
    bodies = [b"", frame(b"\xff\xff\xff"), frame(b"abc", compressed=True), b"\0\0\0", frame(b"") * 2]
    with GrpcSink() as sink:
        sink.script(*[Reply(body=body) for body in bodies])
        with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
            for n in range(len(bodies)):
                play(gateway, 1, guest_pid=n)
                wait_pids(sink, n + 1)
            assert requests(gateway, "backoff") == 0 and dead_lettered(gateway) == 0
        assert pids(sink.records) == list(range(len(bodies)))


def test_a_long_answer_is_read_whole(tmp_path):
    with GrpcSink() as sink:
        body = frame(response(3, "z" * 60_000).SerializeToString())
        sink.script(Reply(headers={"x": "y" * 8000}, body=body))
        with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
            play(gateway, 10)
            assert wait_pids(sink, 10) == list(range(10))
            assert "rejected=3" in gateway.wait_log("event=events_rejected")


def test_an_answer_beyond_the_limit_is_none(tmp_path, security):
    """Its trailers are behind what is read of it."""
    served, known = security
    with GrpcSink(**served) as sink:
        sink.script(Reply(body=frame(b"z" * 5_000_000)))
        with Gateway(tmp_path, exporters=[exporter(sink.url, **known)]) as gateway:
            play(gateway, 10)
            assert sorted(set(wait_pids(sink, 10))) == list(range(10))
            sink.wait_requests(2)
            assert dead_lettered(gateway) == 0


def test_stopping_does_not_wait_for_a_server_that_never_answers(tmp_path, security):
    served, known = security
    config = {"shutdown": {"drain": "50ms"}}
    with GrpcSink(**served) as sink:
        sink.policy = lambda request: Reply(hold=True)
        exporters = [exporter(sink.url, timeout="1h", **known)]
        with Gateway(tmp_path, exporters=exporters, config=config) as gateway:
            play(gateway, 10)
            sink.wait_requests(1)
            assert gateway.stop() == 0


def test_a_server_that_never_answers_is_left_after_the_timeout(tmp_path, security):
    served, known = security
    with GrpcSink(**served) as sink:
        sink.script(Reply(hold=True))
        with Gateway(tmp_path, exporters=[exporter(sink.url, timeout="300ms", **known)]) as gateway:
            play(gateway, 10)
            wait_pids(sink, 10)
            assert requests(gateway, "backoff") >= 1


# --- the configuration ---


@pytest.mark.parametrize("wrong,said", [
    ({"url": "https://collector:4317/v1/logs"}, "url: gRPC has paths of its own"),
    ({"url": "https://collector:4317?x=1"}, "url: gRPC has paths of its own"),
    ({"url": "ftp://collector"}, "url: not an http:// or https:// URL"),
    ({"headers": {"grpc-timeout": "1S"}}, "grpc-timeout is set by the exporter itself"),
    ({"compression": "zstd"}, "compression"),
    ({"message_bytes": "1KiB"}, "message_bytes"),
    ({"http_version": "2"}, "http_version"),
])  # fmt: skip
def test_check_refuses_what_cannot_work(tmp_path, wrong, said):
    path = tmp_path / "cellgate.json"
    path.write_text(json.dumps({"exporters": [exporter("https://collector:4317") | wrong]}))
    done = subprocess.run([BINARY, "check", "--config", str(path)], capture_output=True, text=True)
    assert done.returncode == 78 and said in done.stderr + done.stdout
