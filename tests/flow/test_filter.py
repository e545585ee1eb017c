"""One gateway, several exporters, each for its own events: alarms one way, the stream another."""

import json
import subprocess

import pytest
from support.control import ControlledGateway
from support.flows import Account, caught_up, play, to_file, to_sink, total, until
from support.gateway import BINARY, Gateway
from support.guest import Guest
from support.http_sink import Answer, HttpSink

ALARMS = {"kinds": ["gateway"], "types": ["*.agent_silenced", "*.run_ended"]}
NO_ALARMS = {"not_types": ["*.agent_silenced", "*.run_ended"]}
SIGNED = {"CELLOS_EVENT_SIGNING": "hmac", "CELLOS_EVENT_SIGNING_KID": "k",
          "CELLOS_EVENT_SIGNING_KEY_BASE64": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}  # fmt: skip


def inner(line):
    event = json.loads(line)
    return event["data"].get("event", event)


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def types_of(path):
    return [inner(line)["type"].rpartition(".v1.")[2] for line in lines_of(path)]


def filtered(gateway, exporter):
    return gateway.metric("cellgate_exporter_filtered_events_total", exporter=exporter)


@pytest.fixture(params=["unsigned", "signed"])
def env(request):
    return SIGNED if request.param == "signed" else {}


def test_alarms_go_one_way_and_the_stream_another(tmp_path, env):
    alarms, stream, everything = (tmp_path / name for name in ("alarms", "stream", "everything"))
    exporters = [to_file("alarms", alarms, filter=ALARMS),
                 to_file("stream", stream, filter=NO_ALARMS), to_file("all", everything)]  # fmt: skip
    with ControlledGateway(tmp_path, exporters=exporters, env=env) as gateway:
        cells = ["vm-1", "vm-2"]
        for cell in cells:
            assert gateway.put(cell)[0] == 201
        for cell in cells:
            play(gateway.base_of(cell), "--frames", 300)
        with Guest(gateway.base_of("vm-1")) as guest:
            guest.send(probe_source="run_ended")  # a guest's word is no alarm
        # The end of a run waits for every exporter, whatever each of them is for.
        for cell in cells:
            status, totals = gateway.delete(cell, "?wait=60s")
            assert status == 200, totals
        assert types_of(alarms) == ["run_ended", "run_ended"]
        sent = lines_of(everything)
        alarm_lines, stream_lines = lines_of(alarms), lines_of(stream)
        assert len(sent) == len(alarm_lines) + len(stream_lines) + 1
        left = [line for line in sent if line not in set(alarm_lines)]
        # not_types does not ask who says so: the guest's own word is in neither.
        assert [line for line in left if not inner(line)["type"].endswith(".run_ended")] == stream_lines
        assert filtered(gateway, "alarms") == len(sent) - 2
        assert filtered(gateway, "stream") == 3
        assert filtered(gateway, "all") == 0
        for name in ("alarms", "stream", "all"):
            assert gateway.metric("cellgate_exporter_backlog_events", exporter=name) == 0
        exporter = gateway.ask("GET", "/v1/exporters")[1]["exporters"][0]
        assert (exporter["name"], exporter["delivered_events"]) == ("alarms", 2)
        assert exporter["filtered_events"] == len(sent) - 2


def test_tenants_are_told_apart_by_labels_and_cells(tmp_path, env):
    files = {name: tmp_path / name for name in ("red", "blue", "prod", "rest")}
    rules = {"red": {"labels": {"tenant": "red", "pool": "*"}}, "blue": {"labels": {"tenant": "b?ue*"}},
             "prod": {"cells": ["prod-*"], "kinds": "guest"},
             "rest": {"not_cells": ["prod-*"], "types": "*.process_spawned"}}  # fmt: skip
    exporters = [to_file(name, files[name], filter=rules[name]) for name in files]
    with ControlledGateway(tmp_path, exporters=exporters, env=env) as gateway:
        labels = {"prod-1": {"tenant": "red", "pool": 'a "1"\\'}, "prod-2": {"tenant": "blue-7"},
                  "dev-1": {"tenant": "red"}, "dev-2": None}  # fmt: skip
        for cell, of_cell in labels.items():
            assert gateway.put(cell, labels=of_cell)[0] == 201
        for cell in labels:
            play(gateway.base_of(cell), "--frames", 20, "--comm", '"labels":{"tenant":"red"}')
        assert gateway.ask("POST", "/v1/flush?timeout=60s")[0] == 200
        cells = {name: {inner(line)["data"]["cellId"] for line in lines_of(path)}
                 for name, path in files.items()}  # fmt: skip
        assert cells == {"red": {"prod-1"}, "blue": {"prod-2"}, "prod": {"prod-1", "prod-2"},
                         "rest": {"dev-1", "dev-2"}}
        assert len(lines_of(files["prod"])) == len(lines_of(files["rest"])) == 40
        assert len(lines_of(files["red"])) >= 20  # the gateway's own events of the cell too


def test_a_kill_loses_and_repeats_nothing_of_what_is_filtered(tmp_path):
    alarms = tmp_path / "alarms"
    exporters = [to_file("alarms", alarms, filter={"types": ["*.stream_opened"]}),
                 to_file("all", tmp_path / "all")]  # fmt: skip
    config = {"spool": {"dir": str(tmp_path / "spool")}, "state_dir": str(tmp_path / "state")}
    with Gateway(tmp_path, exporters=exporters, cells=4, config=config) as gateway:
        every = gateway.base(0)[: -len("0.vsock")] + "%d.vsock"
        for _ in range(3):
            play(every, "--cells", 4, "--frames", 500)
            until(lambda: total(gateway, "cellgate_events_appended_total", kind="guest") == 2000,
                  lambda: gateway.log())
            gateway.kill()
            gateway.start()
        for name in ("alarms", "all"):
            caught_up(gateway, name)
        assert gateway.stop() == 0
        account = Account.of_files(alarms)
        assert len(account.by_id) == 12
        opened = {line for line in lines_of(tmp_path / "all") if ".stream_opened" in line}
        assert set(lines_of(alarms)) == opened


def test_what_is_filtered_holds_no_spool(tmp_path):
    with HttpSink() as sink:
        sink.policy = lambda request: Answer(503)  # it never gets anything, and would not take it
        exporters = [to_sink("alarms", sink.url, filter=ALARMS), to_file("all", tmp_path / "all")]
        config = {"spool": {"max_bytes": "4MiB", "dir": str(tmp_path / "spool")}}
        with Gateway(tmp_path, exporters=exporters, cells=1, config=config) as gateway:
            play(gateway.base(0), "--frames", 20000)  # 12 MB
            for name in ("alarms", "all"):
                caught_up(gateway, name)

            def segments():
                return gateway.metric("cellgate_spool_segments")

            until(lambda: segments() <= 2, lambda: f"{segments()} segments are held")
            assert sink.requests == []
            assert filtered(gateway, "alarms") == total(gateway, "cellgate_events_appended_total")


def test_a_selective_filter_meets_poison_and_outages_like_any_exporter(tmp_path):
    with HttpSink() as sink:
        sink.script(Answer(503), Answer(500), Answer(413))
        sink.policy = lambda request: Answer(400) if b"poison" in request.body else None
        exporters = [to_sink("some", sink.url, filter={"cells": ["cell-1"], "kinds": ["guest"]})]
        with Gateway(tmp_path, exporters=exporters, cells=3) as gateway:
            for comm in ("good", "poison", "good"):
                for cell in (0, 1, 2):
                    play(gateway.base(cell), "--frames", 30 if comm == "good" else 1,
                         "--comm", comm)  # fmt: skip
            caught_up(gateway, "some")
            account = Account.of_accepted(sink)
            assert {arrival.run[0] for arrival in account.arrivals} == {"cell-1"}
            assert len(account.by_id) == 60
            dead = gateway.metric("cellgate_exporter_dead_lettered_events_total", exporter="some")
            assert dead == 1
            appended = total(gateway, "cellgate_events_appended_total")
            assert filtered(gateway, "some") == appended - 61


@pytest.mark.parametrize("rules, words", [
    ({"kind": ["guest"]}, "unknown key 'kind' (did you mean 'kinds'?)"),
    ({"kinds": ["guests"]}, "filter.kinds: expected guest, gateway or probe, not 'guests'"),
    ({"types": [""]}, "filter.types: a pattern has 1 to 256 bytes"),
    ({"types": 65 * ["x"]}, "types: at most 64 allowed, not 65"),
    ({"labels": {"team": ""}}, "filter.labels: a pattern has 1 to 256 bytes"),
    ({"labels": ["team"]}, "labels: expected a map of texts to texts"),
])  # fmt: skip
def test_rules_that_cannot_be_meant_are_refused_where_they_stand(tmp_path, rules, words):
    path = tmp_path / "cellgate.json"
    path.write_text(json.dumps({"exporters": [to_file("a", tmp_path / "a", filter=rules)]}))
    done = subprocess.run([BINARY, "check", "--config", str(path)], capture_output=True, text=True)
    assert done.returncode == 78
    assert words in done.stderr
    assert done.stderr.startswith(f"{path}:1:")
