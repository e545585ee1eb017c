"""The exporter cloudevents-http in the real gateway, against a destination that misbehaves."""

import base64

import pytest
from cloudevents.http import from_dict

from support.gateway import QUICK_RETRY, Gateway
from support.guest import Guest
from support.h2_sink import H2Sink
from support.http_sink import Answer, HttpSink
from support.tls import Authority

PASSES_BY_ITSELF = [408, 429, 500, 502, 503, 504]
NEEDS_SOMEBODY = [300, 302, 307, 401, 403, 404, 405, 415, 501, 505]


@pytest.fixture
def sink():
    with HttpSink() as made:
        yield made


def exporter(url, **more):
    return {
        "name": "central",
        "type": "cloudevents-http",
        "url": url,
        "retry": QUICK_RETRY,
        "timeout": "20s",
        **more,
    }


def guest_pids(events):
    return [event["data"]["guest"]["guestPid"] for event in events if "guest" in event["data"]]


def wait_pids(sink, count):
    """All guest events 0 … count-1 have been accepted; says how often each."""
    sink.wait(lambda: set(guest_pids(sink.accepted)) >= set(range(count)))
    return guest_pids(sink.accepted)


def play(gateway, count=1, **fields):
    with Guest(gateway.base()) as guest:
        guest.send_many(count, **fields)


def requests_metric(gateway, outcome):
    return gateway.metric("cellgate_exporter_requests_total", exporter="central", outcome=outcome)


def test_batches_arrive_as_cloud_events(tmp_path, sink):
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 1500)
        assert wait_pids(sink, 1500) == list(range(1500))
        assert gateway.stop() == 0
    for request in sink.requests:
        assert request.line == "POST / HTTP/1.1"
        assert request.content_type.split(";")[0] == "application/cloudevents-batch+json"
        assert request.body.startswith(b"[{") and len(request.events()) <= 512
        assert request.headers["user-agent"].startswith("cellgate/")
        assert "expect" not in request.headers
    for event in sink.accepted:
        parsed = from_dict(event)
        assert parsed["specversion"] == "1.0" and parsed["type"] and parsed["source"]
    assert len({event["id"] for event in sink.accepted}) == len(sink.accepted)
    assert sink.connections == 1 and sink.errors == []


def test_single_mode_sends_one_event_a_request(tmp_path, sink):
    with Gateway(tmp_path, exporters=[exporter(sink.url, mode="single")]) as gateway:
        play(gateway, 50)
        assert wait_pids(sink, 50) == list(range(50))
    for request in sink.requests:
        assert request.content_type.split(";")[0] == "application/cloudevents+json"
        assert request.body.startswith(b"{") and len(request.events()) == 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_compressed_bodies_are_smaller_and_the_same(tmp_path, sink, compression, level):
    options = {"compression": compression, "compression_level": level}
    with Gateway(tmp_path, exporters=[exporter(sink.url, **options)]) as gateway:
        play(gateway, 600)
        assert wait_pids(sink, 600) == list(range(600))
    assert all(request.headers["content-encoding"] == compression for request in sink.requests)
    packed = sum(len(request.raw) for request in sink.requests)
    assert packed < sum(len(request.body) for request in sink.requests) / 2


def test_the_same_bytes_come_again_until_they_are_accepted(tmp_path, sink):
    sink.script(*[Answer(status) for status in PASSES_BY_ITSELF])
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway)
        assert wait_pids(sink, 1) == [0]
        tries = [r for r in sink.requests if guest_pids(r.events()) == [0]]
        first = next(e for e in tries[0].events() if "guest" in e["data"])
        for request in tries:
            assert first in request.events()
        assert requests_metric(gateway, "backoff") == len(PASSES_BY_ITSELF)


@pytest.mark.parametrize("status", NEEDS_SOMEBODY)
def test_configuration_trouble_holds_everything(tmp_path, sink, status):
    sink.script(*[Answer(status)] * 5)
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 20)
        assert wait_pids(sink, 20) == list(range(20))
        assert requests_metric(gateway, "config") == 5
        assert not gateway.metric("cellgate_exporter_dead_lettered_events_total", exporter="central")


def test_a_redirect_is_not_followed(tmp_path, sink):
    with HttpSink() as other:
        sink.script(*[Answer(status, headers={"Location": other.url}) for status in (301, 307, 308)])
        with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
            play(gateway, 5)
            assert wait_pids(sink, 5) == list(range(5))
        assert other.connections == 0


def test_retry_after_is_capped_by_configuration(tmp_path, sink):
    retry = {**QUICK_RETRY, "retry_after_max": "10ms"}
    later = ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "99999999999999999999", "nonsense"]
    sink.script(*[Answer(503, headers={"Retry-After": value}) for value in later])
    with Gateway(tmp_path, exporters=[exporter(sink.url, retry=retry)]) as gateway:
        play(gateway)
        assert wait_pids(sink, 1) == [0]


def test_too_large_batches_are_split(tmp_path, sink):
    sink.policy = lambda request: Answer(413) if len(request.body) > 5000 else None
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 300)
        assert wait_pids(sink, 300) == list(range(300))
        assert requests_metric(gateway, "too_large") >= 1


def test_one_poison_event_is_set_aside_and_the_rest_arrives(tmp_path, sink):
    poison = 137
    sink.policy = lambda r: Answer(400, body=b"no") if poison in guest_pids(r.events()) else None
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 300)
        wanted = set(range(300)) - {poison}
        sink.wait(lambda: set(guest_pids(sink.accepted)) >= wanted)
        assert sorted(guest_pids(sink.accepted)) == sorted(wanted)
        assert gateway.metric("cellgate_exporter_dead_lettered_events_total", exporter="central") == 1


def test_a_destination_that_refuses_everything_gets_everything_later(tmp_path, sink):
    sink.policy = lambda request: Answer(400)
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 40)
        sink.wait_requests(30)
        sink.policy = lambda request: None
        wait_pids(sink, 40)
        assert not gateway.metric("cellgate_exporter_dead_lettered_events_total", exporter="central")


BROKEN = {
    "garbage": Answer(raw=b"\x00\xff\x1b[2J garbage\r\n\r\n"),
    "another protocol": Answer(raw=b"220 mail.example ESMTP\r\n"),
    "half a head": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": Answer(200, body=b"x" * 1000, half=True),
    "bad chunk": Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "early end": Answer(drop=True),
    "reset": Answer(reset=True),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_no_whole_answer_means_once_more(tmp_path, sink, answer):
    sink.script(*[answer] * 3)
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 10)
        assert wait_pids(sink, 10) == list(range(10))
        assert requests_metric(gateway, "backoff") >= 1
        assert "\x1b" not in gateway.log()


def test_a_huge_answer_is_read_to_its_limit_only(tmp_path, sink):
    sink.script(Answer(500, endless=100_000_000), Answer(200, endless=100_000_000))
    with Gateway(tmp_path, exporters=[exporter(sink.url)]) as gateway:
        play(gateway, 10)
        assert sorted(set(wait_pids(sink, 10))) == list(range(10))
        play(gateway, 20)  # and the exporter goes on
        wait_pids(sink, 20)
    assert sink.sent_bytes < 100_000_000


def test_a_destination_that_never_answers_is_left_after_the_timeout(tmp_path, sink):
    sink.script(Answer(hold=True))
    with Gateway(tmp_path, exporters=[exporter(sink.url, timeout="100ms")]) as gateway:
        play(gateway, 10)
        sink.wait_requests(1)
        wait_pids(sink, 10)
        assert requests_metric(gateway, "backoff") >= 1


def test_stopping_does_not_wait_for_a_destination_that_never_answers(tmp_path, sink):
    sink.policy = lambda request: Answer(hold=True)
    config = {"shutdown": {"drain": "50ms"}}
    exporters = [exporter(sink.url, timeout="1h")]
    with Gateway(tmp_path, exporters=exporters, config=config) as gateway:
        play(gateway, 10)
        sink.wait_requests(1)
        assert gateway.stop() == 0


def test_one_dead_destination_does_not_delay_another(tmp_path, sink):
    with HttpSink() as dead:
        dead.policy = lambda request: Answer(hold=True)
        exporters = [exporter(sink.url), {**exporter(dead.url, timeout="1h"), "name": "dead"}]
        config = {"shutdown": {"drain": "50ms"}}
        with Gateway(tmp_path, exporters=exporters, config=config) as gateway:
            play(gateway, 700)
            assert wait_pids(sink, 700) == list(range(700))
            dead.wait_requests(1)
            assert dead.accepted == []


# --- who is who ---


def test_a_server_certificate_of_the_given_authority_is_good(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    with HttpSink(cert_file=cert, key_file=key) as sink:
        tls = {"ca_file": authority.ca_file}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)]) as gateway:
            play(gateway, 600)
            assert wait_pids(sink, 600) == list(range(600))
        assert sink.connections == 1


@pytest.mark.parametrize("wrong", ["authority", "name", "expired"])
def test_a_wrong_server_certificate_is_configuration_trouble(tmp_path, wrong):
    authority = Authority(tmp_path)
    signer = Authority(tmp_path, "another authority") if wrong == "authority" else authority
    address = "127.0.0.2" if wrong == "name" else "127.0.0.1"
    cert, key, _ = signer.issue("server", address=address, days=-1 if wrong == "expired" else 1)
    with HttpSink(cert_file=cert, key_file=key) as sink:
        tls = {"ca_file": authority.ca_file}
        config = {"shutdown": {"drain": "50ms"}}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)], config=config) as gateway:
            play(gateway, 5)
            sink.wait(lambda: sink.connections >= 3)
            assert requests_metric(gateway, "config") >= 1
            assert requests_metric(gateway, "backoff") == 0
            assert gateway.get("/readyz")[0] == 200
        assert sink.requests == []


def test_a_client_certificate_is_shown(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    client_cert, client_key, end = authority.issue("gateway-client", client=True)
    with HttpSink(cert_file=cert, key_file=key, client_ca=authority.ca_file) as sink:
        tls = {"ca_file": authority.ca_file, "cert_file": client_cert, "key_file": client_key}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)]) as gateway:
            play(gateway, 5)
            assert wait_pids(sink, 5) == list(range(5))
            name = "cellgate_tls_certificate_expiry_timestamp_seconds"
            assert gateway.metric(name, exporter="central") == end
        subject = dict(pair for part in sink.requests[0].peer_certificate["subject"] for pair in part)
        assert subject["commonName"] == "gateway-client"


def test_a_missing_client_certificate_is_configuration_trouble(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    with HttpSink(cert_file=cert, key_file=key, client_ca=authority.ca_file) as sink:
        tls = {"ca_file": authority.ca_file}
        config = {"shutdown": {"drain": "50ms"}}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)], config=config) as gateway:
            play(gateway, 5)
            sink.wait(lambda: len(sink.errors) >= 3)
            assert requests_metric(gateway, "config") >= 1
        assert sink.requests == []


def test_the_bearer_token_is_sent_follows_its_file_and_is_never_shown(tmp_path, sink):
    token = tmp_path / "token"
    token.write_text("tok-first\n")
    token.chmod(0o600)
    options = {"bearer_token_file": str(token)}
    with Gateway(tmp_path, exporters=[exporter(sink.url, **options)]) as gateway:
        play(gateway, 1)
        wait_pids(sink, 1)
        assert sink.requests[-1].headers["authorization"] == "Bearer tok-first"
        fresh = tmp_path / "token.new"
        fresh.write_text("tok-second")
        fresh.chmod(0o600)
        fresh.rename(token)
        sink.script(Answer(503, body=b"later"))
        play(gateway, 2)
        wait_pids(sink, 2)
        assert sink.requests[-1].headers["authorization"] == "Bearer tok-second"
        shown = gateway.log() + gateway.get("/healthz")[1] + gateway.get("/readyz?verbose")[1]
        assert "tok-" not in shown


def test_headers_and_user_information_are_sent_and_never_shown(tmp_path, sink):
    url = sink.url.replace("http://", "http://user:pa%20ss@")
    options = {"headers": {"X-Tenant": "hidden-tenant"}}
    sink.script(Answer(401))
    with Gateway(tmp_path, exporters=[exporter(url, **options)]) as gateway:
        play(gateway, 1)
        wait_pids(sink, 1)
        expected = "Basic " + base64.b64encode(b"user:pa ss").decode()
        assert sink.requests[-1].headers["authorization"] == expected
        assert sink.requests[-1].headers["x-tenant"] == "hidden-tenant"
        shown = gateway.log() + gateway.get("/healthz")[1] + gateway.get("/readyz?verbose")[1]
        assert "pa%20ss" not in shown and "pa ss" not in shown and "hidden-tenant" not in shown


# --- HTTP/2 ---


def test_http_2_over_tls_keeps_its_connection(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    with H2Sink(cert_file=cert, key_file=key) as sink:
        tls = {"ca_file": authority.ca_file}
        with Gateway(tmp_path, exporters=[exporter(sink.url, tls=tls)]) as gateway:
            play(gateway, 2000)
            assert wait_pids(sink, 2000) == list(range(2000))
        assert sink.requests[0][0][":method"] == "POST"
        assert sink.connections == 1


def test_http_2_in_clear_text_works_from_request_to_request(tmp_path):
    with H2Sink() as sink:
        with Gateway(tmp_path, exporters=[exporter(sink.url, http_version="2")]) as gateway:
            play(gateway, 2000)
            assert wait_pids(sink, 2000) == list(range(2000))
        assert len(sink.requests) > 1
