"""Reloading: what changes is in force, what cannot change is named, a bad file changes nothing."""

import copy
import json
import pathlib
import signal
import ssl
import subprocess

import pytest

from support.control import ControlledGateway
from support.flows import Account, caught_up, to_file, to_sink, until
from support.gateway import BINARY, Gateway, UnixConnection
from support.guest import Guest
from support.http_sink import Answer, HttpSink
from support.tls import Authority

DONE = {"unchanged": [], "added": [], "restarted": [], "removed": []}


def cell(gateway, number, run="run-1", **more):
    return {
        "cell_id": f"cell-{number}",
        "run_id": run,
        "spec_signature_hash": "sha256:00",
        "vsock_uds_base": gateway.base(number),
        **more,
    }


def health(gateway):
    return json.loads(gateway.get("/healthz")[1])


def guests(events):
    return [event for event in events if event["data"].get("provenance") == "declared"]


def refused(gateway, *parts):
    """Reloads, and expects to be told each of these; what runs is what ran before."""
    before = gateway.get("/v1/exporters")[1]
    status, body = gateway.reload()
    assert status == 422
    for part in parts:
        assert any(part in line for line in body["problems"]), body
    assert gateway.metric("cellgate_config_last_reload_success") == 0
    report = health(gateway)
    assert report["status"] == "degraded"
    assert report["last_reload"]["problems"] == body["problems"]
    assert not report["last_reload"]["success"]
    names = [exporter["name"] for exporter in json.loads(before)["exporters"]]
    assert [e["name"] for e in json.loads(gateway.get("/v1/exporters")[1])["exporters"]] == names
    return body["problems"]


def accepted(gateway):
    status, body = gateway.reload()
    assert status == 200, body
    return body


def delivered(gateway, frames, *exporters, name="cell-0"):
    """Waits until a cell's frames have been read, so many in all, and the exporters have them."""
    until(lambda: gateway.show(name)[1]["frames"] == frames, gateway.log)
    gateway.settle()
    for exporter in exporters:
        caught_up(gateway, exporter)


# --- files that are refused ---


def test_a_bad_file_changes_nothing_and_every_problem_is_named_with_its_place(tmp_path):
    with ControlledGateway(tmp_path, cells=1) as gateway:
        good = copy.deepcopy(gateway.config)
        gateway.config["keepalive"] = {"window": "soon"}
        gateway.config["exporters"][0]["no_such_key"] = 1
        gateway.config["log"] = {"level": "loud"}
        problems = refused(gateway, "window", "no_such_key", "level")
        file = str(tmp_path / "cellgate.json")
        assert all(line.startswith(f"{file}:1:") for line in problems)
        assert "event=reload_refused problems=3" in gateway.log()
        gateway.config = good
        assert accepted(gateway)["exporters"] == {**DONE, "unchanged": ["file"]}
        assert gateway.metric("cellgate_config_last_reload_success") == 1
        assert health(gateway)["status"] == "ok"
        assert health(gateway)["last_reload"]["problems"] == []


def test_a_file_that_is_gone_or_no_yaml_changes_nothing(tmp_path):
    with ControlledGateway(tmp_path) as gateway:
        file = gateway.write_config()
        file.write_text("{")
        status, body, _ = gateway.ask("POST", "/v1/reload")
        assert status == 422 and body["problems"][0].startswith(f"{file}:2:1: not YAML")
        file.unlink()
        status, body, _ = gateway.ask("POST", "/v1/reload")
        assert status == 422 and "cannot be opened" in body["problems"][0]
        assert gateway.get("/readyz")[0] == 200


@pytest.mark.parametrize(
    "section, key, value",
    [
        ("spool", "dir", "/nowhere/else"),
        ("spool", "max_bytes", "2GiB"),
        ("ingress", "threads", 7),
        ("ingress", "roots", []),
        ("http", "listen", "127.0.0.1:1"),
        ("control", "mode", "0600"),
        ("event", "source", "/elsewhere"),
    ],
)
def test_a_key_that_takes_a_restart_is_named(tmp_path, section, key, value):
    with ControlledGateway(tmp_path) as gateway:
        gateway.config.setdefault(section, {})[key] = value
        refused(gateway, f"{section}.{key}: cannot change while the gateway runs; it takes a restart")


def test_a_default_that_is_spelled_out_is_no_change(tmp_path):
    with ControlledGateway(tmp_path) as gateway:
        gateway.config["spool"]["sync"] = "200ms"
        gateway.config["ingress"]["max_connections"] = 16
        gateway.config["exporters"][0]["retry"] = {"initial": "500ms"}
        assert accepted(gateway)["exporters"] == {**DONE, "unchanged": ["file"]}


def test_settings_of_the_command_line_stay_in_force(tmp_path):
    other = tmp_path / "other.jsonl"
    arguments = ["--set", f"exporters.file.path={other}", "--set", "keepalive.window=7s"]
    with ControlledGateway(tmp_path, cells=1, arguments=arguments) as gateway:
        gateway.config["keepalive"] = {"window": "3s"}
        assert accepted(gateway)["exporters"]["unchanged"] == ["file"]
        assert gateway.show("cell-0")[1]["keepalive_ms"] == 7000
        with Guest(gateway.base()) as guest:
            guest.send()
            until(lambda: other.read_text().count("declared") == 1, other.read_text)


def test_reloading_is_asked_for_with_post_and_only_on_the_control_socket(tmp_path):
    with ControlledGateway(tmp_path) as gateway:
        status, _, headers = gateway.ask("GET", "/v1/reload")
        assert status == 405 and headers["allow"] == "POST"
        connection = UnixConnection(gateway.public, 30)
        connection.request("POST", "/v1/reload")
        assert connection.getresponse().status == 404
        connection.close()
        assert "reloaded" not in gateway.log()


# --- by signal ---


def test_a_hangup_reloads_and_does_not_stop(tmp_path):
    with ControlledGateway(tmp_path) as gateway:
        gateway.config["exporters"].append(to_file("second", tmp_path / "second.jsonl"))
        gateway.write_config()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log("event=reloaded unchanged=1 added=1")
        gateway.config["exporters"].pop(0)
        gateway.config["node"] = "another"
        gateway.write_config()
        gateway.process.send_signal(signal.SIGHUP)
        assert "node: cannot change" in gateway.wait_log("event=reload_problem")
        gateway.wait_log("event=reload_refused")
        assert gateway.get("/readyz")[0] == 200
        assert gateway.stop() == 0


# --- exporters ---


def test_an_unchanged_exporter_keeps_its_connection_and_a_changed_one_goes_on_where_it_was(tmp_path):
    with HttpSink() as kept, HttpSink() as changed, HttpSink() as added:
        exporters = [to_sink("kept", kept.url), to_sink("changed", changed.url)]
        with ControlledGateway(tmp_path, cells=1, exporters=exporters) as gateway:
            with Guest(gateway.base()) as guest:
                for round_number in range(3):
                    guest.send_many(10)
                    delivered(gateway, 10 * (round_number + 1), "kept", "changed")
                    gateway.config["exporters"][1]["batch"] = {"events": 5 + round_number}
                    report = accepted(gateway)
                    assert report["exporters"]["unchanged"] == ["kept"]
                    assert report["exporters"]["restarted"] == ["changed"]
                gateway.config["exporters"].append(to_sink("added", added.url))
                assert accepted(gateway)["exporters"]["added"] == ["added"]
                guest.send_many(10)
                delivered(gateway, 40, "kept", "changed", "added")
            assert kept.connections == 1
            assert changed.connections == 4
        # Nothing came twice to those that were there; the new one got whatever was kept.
        for sink in (kept, changed):
            account = Account.of_sink(sink)
            account.assert_in_order()
            assert account.repeated == 0 and len(account.guests()) == 40
        last = [e["data"]["host"]["sequence"] for e in guests(added.accepted)]
        assert last == sorted(last) and last[-10:] == sorted(
            e["data"]["host"]["sequence"] for e in guests(kept.accepted)
        )[-10:]


def test_a_removed_exporter_stops_and_holds_nothing_in_the_spool(tmp_path):
    cells, frames = 5, 400  # some 600 KiB each: within a cell's share, and several segments in all
    with HttpSink() as dead:
        dead.policy = lambda request: Answer(503)
        exporters = [to_file("file", tmp_path / "events.jsonl"), to_sink("dead", dead.url)]
        spool = {"spool": {"dir": str(tmp_path / "spool"), "max_bytes": "16MiB"}}
        with ControlledGateway(tmp_path, cells=cells, exporters=exporters, config=spool) as gateway:
            for number in range(cells):
                with Guest(gateway.base(number)) as guest:
                    guest.send_many(frames, guest_comm="x" * 1000)
                    delivered(gateway, frames, "file", name=f"cell-{number}")
            assert gateway.metric("cellgate_spool_segments") >= 3
            del gateway.config["exporters"][1]
            assert accepted(gateway)["exporters"] == {
                **DONE,
                "unchanged": ["file"],
                "removed": ["dead"],
            }
            assert gateway.metric("cellgate_exporter_up", exporter="dead") is None
            until(
                lambda: gateway.metric("cellgate_spool_segments") == 1,
                lambda: gateway.metric("cellgate_spool_segments"),
            )
            with Guest(gateway.base()) as guest:
                guest.send()
                delivered(gateway, frames + 1, "file")


def test_an_exporter_that_cannot_be_opened_undoes_the_whole_reload(tmp_path):
    with HttpSink() as sink:
        # The file lets a confined gateway write where the added ones do.
        exporters = [to_sink("sink", sink.url), to_file("file", tmp_path / "events.jsonl")]
        with ControlledGateway(tmp_path, cells=1, exporters=exporters) as gateway:
            with Guest(gateway.base()) as guest:
                good = copy.deepcopy(gateway.config)
                guest.send_many(5)
                delivered(gateway, 5, "sink")
                gateway.config["exporters"][0]["batch"] = {"events": 3}
                gateway.config["exporters"] += [
                    to_file("fine", tmp_path / "fine.jsonl"),
                    to_file("bad", tmp_path / "no" / "such" / "directory.jsonl"),
                ]
                gateway.config["ingress"]["cells"].append(cell(gateway, 1))
                refused(gateway, "exporter bad")
                assert not pathlib.Path(f"{gateway.base(1)}_9001").exists()
                gateway.config = good
                assert accepted(gateway)["exporters"] == {**DONE, "unchanged": ["sink", "file"]}
                # A changed one that fails is put back, and goes on.
                gateway.config["exporters"][0]["bearer_token_file"] = str(tmp_path / "absent")
                refused(gateway, "bearer_token_file")
                guest.send_many(5)
                delivered(gateway, 10, "sink")
        account = Account.of_sink(sink)
        account.assert_in_order()
        assert account.repeated == 0 and len(account.guests()) == 10


def test_a_certificate_rotates_when_only_its_files_change(tmp_path):
    authority = Authority(tmp_path)
    server, server_key, _ = authority.issue("server")
    cert, key, end = authority.issue("client", client=True)
    with HttpSink(cert_file=server, key_file=server_key, client_ca=authority.ca_file) as sink:
        tls = {"ca_file": authority.ca_file, "cert_file": cert, "key_file": key}
        exporters = [to_sink("sink", sink.url, tls=tls)]
        with ControlledGateway(tmp_path, cells=1, exporters=exporters) as gateway:

            def expiry():
                return gateway.metric(
                    "cellgate_tls_certificate_expiry_timestamp_seconds", exporter="sink"
                )

            with Guest(gateway.base()) as guest:
                guest.send()
                delivered(gateway, 1, "sink")
                accepted(gateway)
                guest.send()
                delivered(gateway, 2, "sink")
                assert sink.connections == 1 and expiry() == end
                _, _, new_end = authority.issue("client", client=True, days=20)
                report = accepted(gateway)
                assert report["exporters"] == {**DONE, "unchanged": ["sink"]}
                guest.send()
                delivered(gateway, 3, "sink")
                assert sink.connections == 2 and expiry() == new_end
        shown = [r.peer_certificate["serialNumber"] for r in sink.requests]
        assert len(set(shown)) == 2 and shown == sorted(shown, key=shown.index)
        assert ssl.cert_time_to_seconds(sink.requests[-1].peer_certificate["notAfter"]) == new_end


# --- signing ---


def keygen(directory, kid):
    subprocess.run([BINARY, "keygen", "--kid", kid, "--out", directory], check=True, capture_output=True)
    return directory / f"{kid}.key", json.loads((directory / f"{kid}.keys.json").read_text())


def signed_by(events):
    return [event["data"]["signerKid"] for event in events if "signerKid" in event["data"]]


def test_a_signing_key_rotates_under_another_kid(tmp_path):
    first_file, first_keys = keygen(tmp_path, "first")
    second_file, second_keys = keygen(tmp_path, "second")
    signing = {"mode": "ed25519", "kid": "first", "key_file": str(first_file)}
    with ControlledGateway(tmp_path, cells=1, config={"signing": signing}) as gateway:
        with Guest(gateway.base()) as guest:
            guest.send_many(20)
            delivered(gateway, 20)
            gateway.config["signing"] = {**signing, "kid": "second", "key_file": str(second_file)}
            report = accepted(gateway)
            assert report["signing"] == {"mode": "ed25519", "kid": "second", "changed": True}
            guest.send_many(20)
            delivered(gateway, 40, "file")
            assert accepted(gateway)["signing"]["changed"] is False
        assert gateway.stop() == 0
        kids = signed_by(gateway.events())
        first = kids.count("first")
        assert kids == ["first"] * first + ["second"] * (len(kids) - first)
        assert first >= 20 and len(kids) - first >= 20
    keys = tmp_path / "both.json"
    keys.write_text(json.dumps({**first_keys, **second_keys}))
    done = subprocess.run(
        [BINARY, "verify", "--keys", keys, "--gaps", gateway.events_path],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout[-500:]


def test_another_key_under_the_same_kid_is_refused_also_when_only_the_file_changed(tmp_path):
    key_file, _ = keygen(tmp_path, "ops")
    other_file, _ = keygen(tmp_path, "other")
    signing = {"mode": "ed25519", "kid": "ops", "key_file": str(key_file)}
    with ControlledGateway(tmp_path, cells=1, config={"signing": signing}) as gateway:
        key_file.write_text(other_file.read_text())
        refused(gateway, "another key under the same kid")
        secret = other_file.read_text().strip()
        assert secret not in gateway.log()
        gateway.config["signing"]["mode"] = "hmac-sha256"
        refused(gateway, "another key under the same kid")
        gateway.config["signing"] = {"mode": "ed25519", "kid": "ops", "key_file": str(tmp_path / "no")}
        refused(gateway, "signing")
        gateway.config["signing"] = {"mode": "ed25519", "kid": "new", "key_file": str(key_file)}
        assert accepted(gateway)["signing"]["kid"] == "new"
        with Guest(gateway.base()) as guest:
            guest.send()
            delivered(gateway, 1, "file")
        assert gateway.stop() == 0
        assert set(signed_by(gateway.events())) == {"new"}


def test_signing_can_be_turned_on_and_off(tmp_path):
    key_file, _ = keygen(tmp_path, "ops")
    with ControlledGateway(tmp_path, cells=1) as gateway:
        with Guest(gateway.base()) as guest:
            modes = (
                {"mode": "ed25519", "kid": "ops", "key_file": str(key_file)},
                {"mode": "off"},
                {"mode": "hmac-sha256", "kid": "hmac", "key_file": str(key_file)},
            )
            for frames, signing in enumerate(modes, 1):
                gateway.config["signing"] = signing
                assert accepted(gateway)["signing"]["changed"]
                guest.send()
                delivered(gateway, frames, "file")
                event = gateway.events()[-1]
                assert event["data"].get("signerKid") == signing.get("kid")


# --- cells and what they live by ---


def test_cells_come_and_vanish_with_the_file(tmp_path):
    with ControlledGateway(tmp_path, cells=2) as gateway:
        with Guest(gateway.base(1)) as leaving, Guest(gateway.base(0)) as staying:
            leaving.send_many(3)
            del gateway.config["ingress"]["cells"][1]
            gateway.config["ingress"]["cells"].append(cell(gateway, 2))
            assert accepted(gateway)["cells"] == {"added": 1, "ended": 1}
            assert leaving.wait_end()
            assert gateway.show("cell-1")[0] == 404
            assert not pathlib.Path(f"{gateway.base(1)}_9001").exists()
            staying.send()
            with Guest(gateway.base(2)) as fresh:
                fresh.send()
                delivered(gateway, 1, name="cell-2")
                delivered(gateway, 1, "file")
        ended = [e for e in gateway.events() if e["type"].endswith("run_ended")]
        assert [(e["data"]["cellId"], e["data"]["frames"]) for e in ended] == [("cell-1", 3)]
        assert {e["data"]["cellId"] for e in guests(gateway.events())} == {"cell-0", "cell-1", "cell-2"}
        # Its run is over for good: its numbers are used.
        gateway.config["ingress"]["cells"].append(cell(gateway, 1, "run-1"))
        refused(gateway, "has ended before")
        assert gateway.show("cell-1")[0] == 404


def test_a_new_run_of_a_cell_takes_the_place_of_the_old_one(tmp_path):
    with ControlledGateway(tmp_path, cells=1) as gateway:
        with Guest(gateway.base()) as guest:
            guest.send()
            gateway.config["ingress"]["cells"][0]["run_id"] = "second"
            assert accepted(gateway)["cells"] == {"added": 1, "ended": 1}
            assert guest.wait_end()
        with Guest(gateway.base()) as guest:
            guest.send()
            delivered(gateway, 1, "file")
        assert [e["data"]["runId"] for e in guests(gateway.events())] == ["run-0", "second"]
        # The same run is what it was registered as.
        gateway.config["ingress"]["cells"][0]["labels"] = {"a": "b"}
        refused(gateway, "labels: cannot change while a run of cell 'cell-0' goes on")


def test_a_cell_that_cannot_be_bound_refuses_the_reload_without_a_trace(tmp_path):
    with ControlledGateway(tmp_path, cells=1) as gateway:
        assert gateway.put("put")[0] == 201
        taken = pathlib.Path(f"{gateway.base(2)}_9001")
        taken.write_text("mine")
        cells = gateway.config["ingress"]["cells"]
        cells += [cell(gateway, 1), cell(gateway, 2)]
        refused(gateway, "cell cell-2", "exists already")
        assert taken.read_text() == "mine"
        assert gateway.show("cell-1")[0] == 404
        assert not pathlib.Path(f"{gateway.base(1)}_9001").exists()
        cells[2] = {**cell(gateway, 2), "vsock_uds_base": gateway.base_of("put")}
        refused(gateway, "belongs to cell put")
        cells[2] = cell(gateway, 3)
        assert accepted(gateway)["cells"] == {"added": 2, "ended": 0}
        assert gateway.show("put")[0] == 200


def test_windows_and_rates_change_for_the_cells_that_are_there(tmp_path):
    config = {"keepalive": {"window": "1h", "boot_grace": "0s"}}
    with ControlledGateway(tmp_path, cells=2, config=config) as gateway:
        gateway.config["ingress"]["cells"][0]["keepalive"] = "30m"  # says for itself
        gateway.config["ingress"]["cells"][0]["run_id"] = "own"
        accepted(gateway)
        with Guest(gateway.base(1)) as guest:
            guest.send()
            delivered(gateway, 1, "file", name="cell-1")
            gateway.config["keepalive"]["window"] = "20ms"
            accepted(gateway)
            assert gateway.show("cell-1")[1]["keepalive_ms"] == 20
            assert gateway.show("cell-0")[1]["keepalive_ms"] == 30 * 60 * 1000

            def silenced():
                return [e for e in gateway.events() if e["type"].endswith("agent_silenced")]

            until(lambda: silenced(), gateway.log)
            assert silenced()[0]["data"]["keepaliveWindowMs"] == 20
            gateway.config["keepalive"]["window"] = "1h"
            gateway.config["ingress"].update({"frames_per_second": 1, "frames_burst": 1})
            accepted(gateway)
            guest.send_many(50)
            until(lambda: gateway.show("cell-1")[1]["state"] == "paused", gateway.log)
            gateway.config["ingress"].update({"frames_per_second": 0})
            accepted(gateway)
            guest.send_many(50)
            until(lambda: gateway.show("cell-1")[1]["frames"] == 101, gateway.log)


def test_the_level_of_the_log_and_the_names_of_the_host_change(tmp_path):
    with ControlledGateway(tmp_path, cells=1) as gateway:

        def ask_as(host):
            connection = UnixConnection(gateway.public, 30)
            connection.request("GET", "/livez", headers={"Host": host})
            status = connection.getresponse().status
            connection.close()
            return status

        assert ask_as("gw.example") == 403
        gateway.config["http"]["hosts"] = ["gw.example"]
        gateway.config["log"] = {"level": "debug"}
        accepted(gateway)
        assert ask_as("gw.example") == 200
        with Guest(gateway.base()):
            gateway.wait_log("event=connection_opened")
        gateway.wait_log("event=connection_closed")
        gateway.config["http"]["hosts"] = []
        gateway.config["log"]["level"] = "error"
        accepted(gateway)
        assert ask_as("gw.example") == 403
        before = gateway.log()
        accepted(gateway)
        assert gateway.log() == before


def test_a_gateway_without_a_control_socket_reloads_by_signal(tmp_path):
    path = tmp_path / "events.jsonl"
    with Gateway(tmp_path, exporters=[to_file("file", path)]) as gateway:
        gateway.config["exporters"][0]["path"] = str(tmp_path / "other.jsonl")
        gateway.write_config()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log("event=reloaded unchanged=0 added=0 restarted=1")
        with Guest(gateway.base()) as guest:
            guest.send()
        assert gateway.stop() == 0
    assert "declared" in (tmp_path / "other.jsonl").read_text()
    assert "declared" not in path.read_text()
