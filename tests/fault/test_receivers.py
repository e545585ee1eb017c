"""Receivers in every kind of trouble that passes: each gets all in the end, and nobody else notices."""

import itertools
import threading
import time

import pytest
from support.faults import Ledger, dead_letters, last_delivered, last_sequences, scaled
from support.flows import Account, Load, caught_up, to_file, to_sink, until
from support.gateway import QUICK_RETRY, Gateway
from support.http_sink import Answer, HttpSink
from support.ports import steady_port
from support.tls import Authority

CELLS = 3
NAMES = [f"cell-{i}" for i in range(CELLS)]
RETRY = {**QUICK_RETRY, "initial": "20ms", "max": "100ms"}


def config(directory):
    return {"state_dir": str(directory / "state"), "spool": {"dir": str(directory / "spool")}}


def first(count, answer):
    """The same answer to the first requests, then what the sink says by itself."""
    asked = itertools.count()
    return lambda request: answer if next(asked) < count else None


def too_slow(count, release):
    """Accepts the first requests, but says so only when nobody listens any more."""
    asked = itertools.count()

    def policy(request):
        if next(asked) < count:
            release.wait(1)
        return None

    return policy


def thousandth(request):
    pids = [event["data"].get("guest", {}).get("guestPid", 1) for event in request.events()]
    return Answer(400, body=b"not this one") if any(pid % 1000 == 0 for pid in pids) else None


NEVER = threading.Event()
TROUBLES = {
    "answers 500 thirty times": lambda sink: first(30, Answer(500)),
    "answers 429 with Retry-After": lambda sink: first(3, Answer(429, headers={"Retry-After": "1"})),
    "answers 413 above 20,000 bytes": lambda sink: lambda r: Answer(413) if len(r.body) > 20_000 else None,
    "answers 400 for every thousandth event": lambda sink: thousandth,
    "answers 200 after the timeout": lambda sink: too_slow(4, NEVER),
    "sends half an answer": lambda sink: first(20, Answer(body=b"x" * 100, half=True)),
    "resets connections": lambda sink: first(20, Answer(reset=True)),
    "redirects": lambda sink: first(20, Answer(302, headers={"Location": "http://127.0.0.1/"})),
    "answers garbage": lambda sink: first(20, Answer(raw=b"\x00\xff not HTTP\r\n\r\n")),
}


def run(directory, scenario, exporter, sink_of, *, begin=lambda: None):
    """Load for a receiver in trouble beside one that is well; settles both ledgers."""
    path = directory / "events.jsonl"
    frames = scaled(3000, 30000)
    exporters = [exporter, to_file("local", path)]
    with Gateway(directory, exporters=exporters, cells=CELLS, config=config(directory)) as gateway:
        with Load(gateway.base("%d"), "--cells", CELLS, "--frames", frames, "--rate", 9000) as load:
            begin()
            status, summary = load.end()
        assert status == 0
        for name in (exporter["name"], "local"):
            caught_up(gateway, name, timeout=120)
        last = last_sequences(gateway, NAMES)
        resident = gateway.resident_bytes()
        assert gateway.stop() == 0
    well = Account.of_files(path)
    last = {r: max(end, last_delivered(well)[r]) for r, end in last.items()}
    letters = dead_letters(directory, exporter["name"])
    troubled = Account.of_accepted(sink_of())
    Ledger(
        f"receiver {scenario}", troubled,
        last=last, letters=letters, sent=summary["sent"], resident=resident,
    ).settle()  # fmt: skip
    assert Ledger("", well, last=last).lost == [] and well.repeated == 0
    return letters, troubled


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda name: name.replace(" ", "-").replace(",", ""))
def test_a_receiver_that_is_in_trouble_gets_everything(tmp_path, trouble):
    with HttpSink() as sink:
        sink.policy = TROUBLES[trouble](sink)
        exporter = to_sink("troubled", sink.url, retry=RETRY, timeout="300ms")
        letters, account = run(tmp_path, trouble, exporter, lambda: sink)
        if trouble.startswith("answers 400"):
            assert len(letters) == CELLS * scaled(3, 30)
        else:
            assert letters == []
        if trouble.startswith("answers 200 after"):
            assert account.repeated > 0


def test_a_receiver_that_is_down_gets_everything_when_it_is_back(tmp_path):
    port = steady_port()
    sinks = []

    def begin():
        began = time.monotonic()
        until(lambda: time.monotonic() - began > scaled(2, 30), lambda: "")
        sinks.append(HttpSink(port=port))

    exporter = to_sink("troubled", f"http://127.0.0.1:{port}/", retry=RETRY)
    try:
        run(tmp_path, "down at first", exporter, lambda: sinks[0], begin=begin)
    finally:
        for sink in sinks:
            sink.stop()


def test_a_receiver_whose_certificate_is_mended_gets_everything(tmp_path):
    trusted = Authority(tmp_path)
    right = trusted.issue("right")[:2]
    wrong = Authority(tmp_path, name="a stranger").issue("wrong")[:2]
    impostor = HttpSink(cert_file=wrong[0], key_file=wrong[1])
    sinks = []

    def begin():
        impostor.wait(lambda: len(impostor.errors) >= 3)
        impostor.stop()
        assert not impostor.accepted
        sinks.append(HttpSink(cert_file=right[0], key_file=right[1], port=impostor.port))

    url = f"https://127.0.0.1:{impostor.port}/"
    exporter = to_sink("troubled", url, retry=RETRY, tls={"ca_file": trusted.ca_file})
    try:
        run(tmp_path, "with a wrong certificate at first", exporter, lambda: sinks[0], begin=begin)
    finally:
        for sink in sinks:
            sink.stop()


def test_a_name_that_does_not_resolve_loses_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    with HttpSink() as sink:
        lost = to_sink("troubled", "http://collector.invalid/", retry=RETRY)
        exporters = [lost, to_file("local", path)]
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path)) as gateway:
            with Load(gateway.base("%d"), "--cells", CELLS, "--frames", 1000) as load:
                status, summary = load.end()
            assert status == 0
            caught_up(gateway, "local")
            until(
                lambda: gateway.metric("cellgate_exporter_up", exporter="troubled") == 0,
                lambda: "the name was resolved",
            )
            gateway.config["shutdown"] = {"drain": "100ms"}
            assert gateway.stop() == 0
            lost["url"] = sink.url
            gateway.start()
            caught_up(gateway, "troubled")
            last = last_sequences(gateway, NAMES)
            assert gateway.stop() == 0
        account = Account.of_accepted(sink)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    Ledger("receiver's name does not resolve", account, last=last, sent=summary["sent"]).settle()
    assert dead_letters(tmp_path, "troubled") == []


def test_a_dead_receiver_costs_another_no_time(tmp_path):
    """The one that is well has each event before the next is sent, the other never has any."""
    port = steady_port()
    with HttpSink() as sink:
        exporters = [to_sink("well", sink.url, batch={"linger": "0s"}),
                     to_sink("dead", f"http://127.0.0.1:{port}/", retry=RETRY)]  # fmt: skip
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path)) as gateway:
            load = ["--cells", CELLS, "--frames", scaled(3000, 30000), "--rate", 9000]
            with Load(gateway.base("%d"), *load) as load:
                status, summary = load.end()
            assert status == 0
            caught_up(gateway, "well")
            last = last_sequences(gateway, NAMES)
            resident = gateway.resident_bytes()
            dead_backlog = gateway.metric("cellgate_exporter_backlog_events", exporter="dead")
            assert dead_backlog >= summary["sent"]
            gateway.kill()
        account = Account.of_accepted(sink)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    account.assert_in_order()
    ledger = Ledger("beside a dead receiver", account, last=last, sent=summary["sent"], resident=resident)
    ledger.settle()
    assert account.repeated == 0
