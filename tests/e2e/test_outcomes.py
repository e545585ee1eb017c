"""Every row of the table of outcomes (docs/contract.md section 7), end to end, with figures: what was
sent, delivered, repeated and set aside. What test_cloudevents_http.py shows already is not here."""

import email.utils
import json
import time

import pytest

from support.control import ControlledGateway
from support.flows import Account, caught_up, to_sink, total, until
from support.gateway import QUICK_RETRY
from support.guest import Guest
from support.http_sink import Answer, HttpSink

NAME = "cellgate_exporter_dead_lettered_events_total"


@pytest.fixture
def sink():
    with HttpSink() as made:
        yield made


def pids(events):
    return [event["data"]["guest"]["guestPid"] for event in events if "guest" in event["data"]]


def gateway_to(tmp_path, url, **more):
    return ControlledGateway(tmp_path, exporters=[to_sink("central", url, **more)], cells=1)


def play(gateway, count, **fields):
    with Guest(gateway.base()) as guest:
        guest.send_many(count, **fields)


def shown(gateway):
    status, answer, _ = gateway.ask("GET", "/v1/exporters")
    assert status == 200
    return answer["exporters"][0]


def letters(gateway):
    status, page, _ = gateway.ask("GET", "/v1/dead-letters/central?limit=1000")
    assert status == 200 and page["next"] is None
    return page["letters"]


def account(gateway, sink, sent, *, repeats=0, restarted=False):
    """Everything that was sent was delivered or is a dead letter; says how much of each."""
    until(lambda: restarted or total(gateway, "cellgate_frames_received_total") >= sent, gateway.log)
    caught_up(gateway, "central")
    arrived = pids(sink.accepted)
    kept = [gateway.ask("GET", f"/v1/dead-letters/central/{row['id']}")[1]["event"] for row in letters(gateway)]
    lost = set(range(sent)) - set(arrived) - set(pids(kept))
    print(f"sent {sent}, delivered {len(set(arrived))}, repeated {len(arrived) - len(set(arrived))}, "
          f"dead letters {len(kept)}, lost {len(lost)}")
    assert not lost and not set(arrived) & set(pids(kept))
    assert len(arrived) - len(set(arrived)) <= repeats
    return kept


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_the_destination_says_when_to_come_back(tmp_path, sink, status, form):
    """With delays of milliseconds of its own the exporter waits the hour that it is told to."""
    in_an_hour = "3500" if form == "seconds" else email.utils.formatdate(time.time() + 3500, usegmt=True)
    sink.policy = lambda request: Answer(status, headers={"Retry-After": in_an_hour})
    with gateway_to(tmp_path, sink.url) as gateway:
        play(gateway, 5)
        until(lambda: (shown(gateway)["retry_in_ms"] or 0) > 60_000, lambda: shown(gateway))
        assert shown(gateway)["retry_in_ms"] <= 3_500_000
        assert shown(gateway)["state"] == "backoff" and len(sink.requests) == 1
        assert "backoff" in gateway.get("/readyz?verbose")[1]


REFUSALS = {status: Answer(status, body=b"never") for status in (400, 409, 413, 422, 301, 302, 401, 403, 404, 500)}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=map(str, REFUSALS))
def test_a_receiver_that_answers_one_thing_to_everything_gets_everything_later(tmp_path, sink, answer):
    """It accepts some events first, so that its health is on record; then it turns. None becomes a dead
    letter, and after it is mended all arrive, in order."""
    with gateway_to(tmp_path, sink.url, batch={"linger": "1ms", "events": 50}) as gateway:
        play(gateway, 100)
        sink.wait(lambda: len(set(pids(sink.accepted))) == 100)
        sink.policy = lambda request: answer
        with Guest(gateway.base()) as guest:
            for pid in range(100, 400):
                guest.send(guest_pid=pid)
        sink.wait_requests(len(sink.requests) + 60)
        assert gateway.metric(NAME, exporter="central") == 0
        assert total(gateway, "cellgate_exporter_delivered_events_total") == len(sink.accepted)
        health = json.loads(gateway.get("/healthz")[1])
        assert health["status"] == "degraded" and health["exporters"][0]["backlog_events"] >= 300
        sink.policy = lambda request: None
        assert account(gateway, sink, 400) == []


def test_one_event_in_a_thousand_is_refused(tmp_path, sink):
    sink.policy = lambda r: Answer(400, body=b"bad") if any(p % 1000 == 500 for p in pids(r.events())) else None
    with gateway_to(tmp_path, sink.url) as gateway:
        play(gateway, 4000)
        kept = account(gateway, sink, 4000)
        assert pids(kept) == [500, 1500, 2500, 3500]
        assert {row["reason"] for row in letters(gateway)} == {"refused"}


def test_an_event_that_crashes_the_receiver_is_found_behind_its_500s(tmp_path, sink):
    sink.policy = lambda r: Answer(500) if 33 in pids(r.events()) else None
    with gateway_to(tmp_path, sink.url) as gateway:
        play(gateway, 100)
        until(lambda: gateway.metric(NAME, exporter="central") == 1, gateway.log)
        kept = account(gateway, sink, 100)
        assert pids(kept) == [33] and letters(gateway)[0]["reason"] == "failing"


def test_one_event_that_is_too_large_is_set_aside_alone(tmp_path, sink):
    sink.policy = lambda r: Answer(413) if len(r.body) > 3000 else None
    with gateway_to(tmp_path, sink.url) as gateway:
        with Guest(gateway.base()) as guest:
            for pid in range(60):
                guest.send(guest_pid=pid, guest_comm="\0" * 1000 if pid == 20 else "x")
        until(lambda: gateway.metric(NAME, exporter="central") == 1, gateway.log)
        kept = account(gateway, sink, 60)
        assert pids(kept) == [20] and letters(gateway)[0]["reason"] == "too_large"


@pytest.mark.parametrize("late", [Answer(hold=True), Answer(200, body=b"x" * 1000, half=True)],
                         ids=["too late", "half of it"])
def test_a_batch_that_was_taken_without_a_whole_answer_comes_again_the_same(tmp_path, sink, late):
    taken = []

    def policy(request):
        if len(taken) < 3:
            taken.append(request)
            return late
        return None

    sink.policy = policy
    with gateway_to(tmp_path, sink.url, timeout="1s") as gateway:
        play(gateway, 50)
        account(gateway, sink, 50, repeats=1000)
        assert len(taken) == 3
        # An account refuses an id that comes again with other bytes.
        Account(text for text in map(json.dumps, sum((r.events() for r in taken), sink.accepted)))


def test_after_an_outage_a_small_batch_goes_first_and_then_they_grow(tmp_path, sink):
    with gateway_to(tmp_path, sink.url, batch={"linger": "1ms", "events": 200}) as gateway:
        sink.policy = lambda request: Answer(503)
        play(gateway, 1000)
        sink.wait_requests(20)
        mended = []

        def policy(request):
            mended.append(len(request.events()))
            return None

        sink.policy = policy
        assert account(gateway, sink, 1000) == []
        print("events in each request after the outage:", mended)
        assert mended[0] <= 8 and mended[1] <= 16 and mended[2] <= 32 and max(mended) > 64


@pytest.mark.parametrize("scheme,host,outcome", [
    ("https", None, "backoff"),  # what listens there does not speak TLS
    ("http", "host.invalid", None),  # unknown, or no resolver: that is the machine's to say
])
def test_a_destination_that_is_not_to_be_reached_loses_nothing(tmp_path, sink, scheme, host, outcome):
    url = f"{scheme}://{host or '127.0.0.1'}:{sink.port}/"
    config = {"shutdown": {"drain": "10ms"}}
    with gateway_to(tmp_path, url) as gateway:
        play(gateway, 20)
        until(lambda: sum(shown(gateway)["requests"].values()) >= 3, lambda: shown(gateway))
        now = shown(gateway)
        assert now["state"] in ("backoff", "holding") and now["backlog_events"] >= 20
        if outcome:
            assert now["requests"][outcome] >= 3 and now["requests"]["config"] == 0
        assert now["dead_lettered_events"] == 0 and now["last_error"]
        # Mended in the configuration, all of it arrives.
        gateway.kill()
        gateway.config["exporters"][0]["url"] = sink.url
        gateway.config.update(config)
        gateway.start()
        assert account(gateway, sink, 20, restarted=True) == []


def test_the_watchdog_rebuilds_an_exporter_that_gets_no_answer(tmp_path, sink):
    """A receiver that takes everything and answers nothing, and a timeout of an hour."""
    sink.policy = lambda request: Answer(hold=True) if request.connection <= 2 else None
    with gateway_to(tmp_path, sink.url, timeout="1h", watchdog="300ms") as gateway:
        play(gateway, 10)
        sink.wait(lambda: sink.connections >= 2)
        until(lambda: gateway.metric("cellgate_exporter_stalled", exporter="central") == 1
              or len(sink.accepted) > 0, gateway.log)
        gateway.wait_log("event=exporter_stalled")
        account(gateway, sink, 10)
        until(lambda: gateway.metric("cellgate_exporter_stalled", exporter="central") == 0, gateway.log)
        gateway.wait_log("event=exporter_moving")
        assert gateway.metric("cellgate_exporter_rebuilds_total", exporter="central") >= 2
        assert gateway.log().count("event=exporter_stalled") == gateway.log().count("event=exporter_moving") >= 1


def test_a_stall_is_told_of_where_health_is(tmp_path, sink):
    sink.policy = lambda request: Answer(hold=True)
    with gateway_to(tmp_path, sink.url, timeout="1h", watchdog="200ms") as gateway:
        play(gateway, 10)
        until(lambda: "stalled" in gateway.get("/readyz?verbose")[1], lambda: gateway.get("/readyz?verbose")[1])
        health = json.loads(gateway.get("/healthz")[1])
        assert health["status"] == "degraded" and health["exporters"][0]["stalled"] is True
        assert gateway.get("/readyz")[0] == 200
        # It is rebuilt again and again, and told of once.
        until(lambda: shown(gateway)["rebuilds"] >= 3, lambda: shown(gateway))
        assert gateway.log().count("event=exporter_stalled") == 1
