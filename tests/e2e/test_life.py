"""The life of cells as events: silence, streams, drops and the end of a run, by the real binary with
short windows. What the file exporter wrote is checked by `cellgate verify --gaps` and here."""

import json
import os
import subprocess
import time

import pytest
from support.control import ControlledGateway
from support.guest import Guest, frame

BINARY = os.environ.get("CELLGATE", "cellgate")
PREFIX = "dev.cellos.events.cell.observability.v1."
WINDOW_MS = 100


class Life:
    """A gateway with cells of short windows, and the events it has exported so far."""

    def __init__(self, tmp_path, cells=1, **config):
        keepalive = {"window": f"{WINDOW_MS}ms", "boot_grace": "100ms"}
        keepalive.update(config.pop("keepalive", {}))
        self.gateway = ControlledGateway(
            tmp_path, cells=cells, config={"keepalive": keepalive, **config}
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gateway.__exit__()

    def guest(self, number=0):
        return Guest(self.gateway.base(number))

    def events(self, name=None):
        """All whole events so far, or those whose type ends in `.name`."""
        path = self.gateway.events_path
        text = path.read_text() if path.exists() else ""
        events = [json.loads(line) for line in text.split("\n")[:-1]]
        events = [event["data"].get("event", event) for event in events]
        return [e for e in events if name is None or e["type"].endswith("." + name)]

    def wait(self, name, count=1):
        """Events of a type, when there are so many."""
        deadline = time.monotonic() + 60
        while len(found := self.events(name)) < count:
            assert time.monotonic() < deadline, f"{count} {name}: {self.events()}"
            time.sleep(0.005)
        return found

    def check(self):
        """The sequences of each run are whole, by our own count and by the program's."""
        runs = {}
        for event in self.events():
            runs.setdefault(event["data"]["runId"], []).append(event["data"]["host"]["sequence"])
        for sequences in runs.values():
            assert sequences == list(range(1, len(sequences) + 1))
        keys = self.gateway.directory / "no-keys.json"
        keys.write_text("{}")
        answer = subprocess.run(
            [BINARY, "verify", "--keys", str(keys), "--gaps", str(self.gateway.events_path)],
            capture_output=True,
            text=True,
        )
        assert "0 sequence numbers missing, 0 repeated" in answer.stderr, answer.stdout
        return runs

    def finish(self):
        assert self.gateway.stop() == 0
        self.check()


def shape(event):
    """What every event of the gateway's own has, checked; its further members."""
    data = dict(event["data"])
    assert data.pop("provenance") == "observed"
    host = data.pop("host")
    assert data.pop("cellId") == host["cellId"]
    assert data.pop("runId") == host["runId"]
    assert host["hostReceivedAt"] == event["time"]
    assert host.get("connection") == data.get("connection")
    return data


def test_a_cell_that_nobody_connects_to_falls_silent(tmp_path):
    with Life(tmp_path) as life:
        (event,) = life.wait("agent_silenced")
        assert event["type"] == PREFIX + "guest.agent_silenced"
        data = shape(event)
        assert data.pop("elapsedMs") >= WINDOW_MS
        assert data == {
            "connectionState": "never",
            "epistemicStatus": "DECLARED",
            "keepaliveWindowMs": WINDOW_MS,
            "ruleClass": "GUEST_AGENT_DECLARATION",
        }
        assert life.gateway.metric("cellgate_cells", state="silent") == 1
        life.finish()


def test_an_idle_agent_then_a_dead_one_then_one_that_speaks_again(tmp_path):
    with Life(tmp_path, keepalive={"boot_grace": "1h"}) as life:
        with life.guest() as guest:
            guest.send()
            (event,) = life.wait("agent_silenced")
            assert event["data"]["connectionState"] == "open"
            assert life.gateway.metric("cellgate_cells", state="idle") == 1
        first, second = life.wait("agent_silenced", 2)
        assert second["data"]["connectionState"] == "closed"
        with life.guest() as guest:
            guest.send()
            (resumed,) = life.wait("agent_resumed")
        assert shape(resumed)["silentMs"] >= 2 * WINDOW_MS
        assert life.gateway.metric("cellgate_agent_silenced_total") == 2
        assert life.gateway.metric("cellgate_agent_resumed_total") == 1
        life.finish()


def test_once_is_one_silence_a_run(tmp_path):
    with Life(tmp_path, keepalive={"boot_grace": "1h", "once": True}) as life:
        with life.guest() as guest:
            guest.send()
            life.wait("agent_silenced")
            guest.send()
            life.wait("agent_resumed")
        life.wait("stream_closed")
        # Another cell's silence, begun later, shows that the time for a second one has passed.
        life.gateway.put("late", keepalive_ms=300)
        with Guest(f"{life.gateway.root}/late.vsock") as guest:
            guest.send()
            life.wait("agent_silenced", 2)
        assert [e["data"]["cellId"] for e in life.events("agent_silenced")] == ["cell-0", "late"]
        life.finish()


def test_two_hundred_connections_are_told_of_in_a_few_events(tmp_path):
    ingress = {"max_connections": 1000}
    with Life(tmp_path, keepalive={"window": "1h"}, ingress=ingress) as life:
        for _ in range(200):
            with life.guest() as guest:
                guest.send()
        assert life.gateway.stop() == 0
        life.check()
        streams = [shape(e) for e in life.events() if ".stream_" in e["type"]]
        assert len(streams) + sum(stream["suppressed"] for stream in streams) == 400
        # Ten each ten seconds, and one at the end, however long a slow machine took.
        assert 11 <= len(streams) <= 100
        assert streams[0] == {"connection": 1, "suppressed": 0}
        closed = [stream for stream in streams if "reason" in stream][0]
        assert (closed["frames"], closed["bytes"]) == (1, len(frame()))
        assert sum(e["data"]["provenance"] == "declared" for e in life.events()) == 200


def test_refused_frames_are_told_of(tmp_path):
    with Life(tmp_path, keepalive={"window": "1h"}) as life:
        for bad in (b"\0\0\0\0", b"\0\0\0\0", frame(content_version=0x0100)):
            with life.guest() as guest:
                guest.send_raw(bad)
                assert guest.wait_end()
        life.finish()
        drops = {}
        for event in life.events("telemetry.dropped"):
            assert event["type"] == PREFIX + "guest.telemetry.dropped"
            for reason, drop in shape(event)["drops"].items():
                assert set(drop) == {"count"}
                drops[reason] = drops.get(reason, 0) + drop["count"]
        assert drops == {"wire_error": 2, "unsupported_version": 1}


def test_connections_beyond_the_cap_are_told_of(tmp_path):
    with Life(tmp_path, keepalive={"window": "1h"}, ingress={"max_connections": 1}) as life:
        with life.guest() as guest:
            guest.send()
            life.wait("process_spawned")
            with life.guest() as other:
                assert other.wait_end()
            (event,) = life.wait("telemetry.dropped")
            assert shape(event) == {"drops": {"connection_cap": {"count": 1}}}
        life.finish()


@pytest.mark.parametrize("frames", [0, 3000])
def test_the_end_of_a_run_is_its_last_event(tmp_path, frames):
    with Life(tmp_path, cells=0, keepalive={"window": "1h"}) as life:
        life.gateway.put("cell-a")
        with Guest(f"{life.gateway.root}/cell-a.vsock") as guest:
            guest.send_many(frames)
            life.wait("stream_opened")
            status, _ = life.gateway.delete("cell-a")
            assert status == 200
            assert guest.wait_end()
        life.wait("run_ended")
        last = life.events()[-1]
        assert last["type"] == PREFIX + "run_ended"
        data = shape(last)
        assert data["frames"] == frames
        assert (data["silences"], data["drops"]) == (0, 0)
        assert data["lastSequence"] == last["data"]["host"]["sequence"] == frames + 3
        (closed,) = life.events("stream_closed")
        assert shape(closed)["reason"] == "deregistered"
        life.finish()


def test_the_events_of_the_gateways_own_are_signed_too(tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    subprocess.run([BINARY, "keygen", "--kid", "k1", "--out", str(keys)], check=True)
    signing = {"mode": "ed25519", "kid": "k1", "key_file": str(keys / "k1.key")}
    with Life(tmp_path, signing=signing) as life:
        life.wait("agent_silenced")
        assert life.gateway.stop() == 0
        answer = subprocess.run(
            [BINARY, "verify", "--gaps", "--keys", str(keys / "k1.keys.json")]
            + [str(life.gateway.events_path)],
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr


def silences(life, cell, state):
    """The ids of the silences told of a cell; an event may have been delivered twice after a kill."""
    return {
        event["id"]
        for event in life.events("agent_silenced")
        if (event["data"]["cellId"], event["data"]["connectionState"]) == (cell, state)
    }


def wait_silence(life, cell, state):
    deadline = time.monotonic() + 60
    while not silences(life, cell, state):
        assert time.monotonic() < deadline, life.events()
        time.sleep(0.005)


def test_a_silence_that_was_told_is_not_told_again_after_a_kill(tmp_path):
    with Life(tmp_path, spool={"dir": str(tmp_path / "spool")}) as life:
        with life.guest() as guest:
            guest.send()
            life.wait("stream_opened")
        wait_silence(life, "cell-0", "closed")
        life.gateway.kill()
        life.gateway.start()
        # A cell registered later, with the same window: by then the first would have been told again.
        assert life.gateway.put("later")[0] == 201
        wait_silence(life, "later", "never")
        with life.guest() as guest:
            guest.send()
            (resumed,) = life.wait("agent_resumed")
        assert resumed["data"]["cellId"] == "cell-0"
        assert resumed["data"]["silentMs"] >= WINDOW_MS
        assert len(silences(life, "cell-0", "closed")) == 1
