"""Many exporters, each with a trouble of its own, and none of them another's."""

import json
import pathlib
import signal

from support.flows import Account, caught_up, play, to_sink, total
from support.gateway import BINARY, QUICK_RETRY, Gateway
from support.http_sink import Answer, HttpSink
from support.ports import steady_port

CELLS = 2
# A sanitizer keeps what was freed; of that a little must do when memory is what is measured.
ENV = {"ASAN_OPTIONS": "quarantine_size_mb=4:detect_leaks=1"}
# TSan remembers for each byte that was touched four of its own, which are resident as well.
WATCHED = b"__tsan_init" in pathlib.Path(BINARY).read_bytes()


def config(directory):
    return {"state_dir": str(directory / "state"), "spool": {"dir": str(directory / "spool")}}


def delivered(gateway, exporter):
    return total(gateway, "cellgate_exporter_delivered_events_total", exporter=exporter)


def dead_letters(directory, exporter):
    path = directory / "state" / "dead-letters" / f"{exporter}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_dead_and_a_faltering_destination_delay_nobody_and_get_everything(tmp_path):
    port = steady_port()
    answered = iter(range(10**9))
    with HttpSink() as healthy, HttpSink() as faltering:
        faltering.policy = lambda request: Answer(500) if next(answered) % 3 == 0 else None
        exporters = [
            to_sink("healthy", healthy.url),
            to_sink("faltering", faltering.url),
            to_sink("dead", f"http://127.0.0.1:{port}/"),
        ]
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path), env=ENV) as gateway:
            play(gateway.base("%d"), "--cells", CELLS, "--frames", 4000)
            for exporter in ("healthy", "faltering"):
                caught_up(gateway, exporter)
            before = gateway.resident_bytes()
            play(gateway.base("%d"), "--cells", CELLS, "--frames", 16000)
            for exporter in ("healthy", "faltering"):
                caught_up(gateway, exporter)
            growth = gateway.resident_bytes() - before
            backlog = total(gateway, "cellgate_exporter_backlog_bytes", exporter="dead")
            assert delivered(gateway, "dead") == 0
            assert gateway.metric("cellgate_exporter_up", exporter="dead") == 0
            assert gateway.get("/readyz")[0] == 200
            # What waits for the dead one waits on disk.
            assert backlog > 24_000_000
            assert growth < (16 << 20) * (5 if WATCHED else 1), growth
            with HttpSink(port=port) as revived:
                caught_up(gateway, "dead")
                assert gateway.metric("cellgate_exporter_up", exporter="dead") == 1
                assert total(gateway, "cellgate_exporter_requests_total", exporter="faltering", outcome="backoff")
                assert not total(gateway, "cellgate_exporter_dead_lettered_events_total")
                assert gateway.stop() == 0
                accounts = [Account.of_accepted(sink) for sink in (healthy, faltering, revived)]
        for account in accounts:
            account.assert_in_order()
            assert len(account.guests()) == CELLS * 20000
        assert accounts[0].texts() == accounts[1].texts() == accounts[2].texts()


def test_exactly_what_is_refused_becomes_a_dead_letter(tmp_path):
    def refuse(request):
        pids = [event["data"].get("guest", {}).get("guestPid", 1) for event in request.events()]
        return Answer(400, body=b"not this one") if any(pid % 1000 == 0 for pid in pids) else None

    with HttpSink() as healthy, HttpSink() as picky:
        picky.policy = refuse
        exporters = [to_sink("healthy", healthy.url), to_sink("picky", picky.url)]
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path)) as gateway:
            play(gateway.base("%d"), "--cells", CELLS, "--frames", 5000)
            for exporter in ("healthy", "picky"):
                caught_up(gateway, exporter)
            assert total(gateway, "cellgate_exporter_dead_lettered_events_total", exporter="picky") == 10
            assert gateway.stop() == 0
        everything, rest = Account.of_accepted(healthy), Account.of_accepted(picky)
    everything.assert_in_order()
    refused = {a.id for a in everything.guests() if a.guest["guestPid"] % 1000 == 0}
    letters = dead_letters(tmp_path, "picky")
    assert len(letters) == len(refused) == CELLS * 5
    assert {letter["event"]["id"] for letter in letters} == refused
    assert all(letter["status"] == 400 and letter["answer"] == "not this one" for letter in letters)
    assert rest.repeated == 0 and set(rest.by_id) == set(everything.by_id) - refused
    assert dead_letters(tmp_path, "healthy") == []


def test_a_destination_that_refuses_everything_holds_until_it_is_mended(tmp_path):
    statuses = (400, 302, 413)
    retry = {**QUICK_RETRY, "hold_initial": "1h", "hold_max": "1h"}
    sinks = {f"refuses-{status}": HttpSink() for status in statuses}
    with HttpSink() as healthy:
        for status, sink in zip(statuses, sinks.values()):
            sink.policy = lambda request, status=status: Answer(status)
        exporters = [to_sink("healthy", healthy.url)]
        exporters += [to_sink(name, sink.url, retry=retry) for name, sink in sinks.items()]
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path)) as gateway:
            play(gateway.base("%d"), "--cells", CELLS, "--frames", 3000)
            caught_up(gateway, "healthy")
            for name, sink in sinks.items():
                gateway.wait_log(f"event=exporter_holding exporter={name}")
            asked = {name: len(sink.requests) for name, sink in sinks.items()}
            for name, sink in sinks.items():
                assert delivered(gateway, name) == 0 and sink.accepted == []
                assert len(sink.requests) == asked[name]  # nobody is asked in quick succession
                sink.policy = lambda request: None
            gateway.process.send_signal(signal.SIGUSR1)
            for name in sinks:
                caught_up(gateway, name)
            assert not total(gateway, "cellgate_exporter_dead_lettered_events_total")
            assert gateway.stop() == 0
        everything = Account.of_accepted(healthy)
        for name, sink in sinks.items():
            account = Account.of_accepted(sink)
            account.assert_in_order()
            assert account.texts() == everything.texts()
            assert dead_letters(tmp_path, name) == []
            sink.stop()
