"""Guests of every kind against the real binary: the hostile ones harm nobody but themselves.

Every test has a good guest in another cell, whose events must come out whole.
"""

import json
import os
import resource
import signal
import socket
import struct

import pytest
from support.flows import until
from support.gateway import Gateway
from support.guest import Guest, frame

TYPE = "dev.cellos.events.cell.observability.v1.guest.process_spawned"


class Cells:
    """A gateway with a cell to misuse (0) and one to keep well (1), exporting to a file."""

    def __init__(self, tmp_path, **ingress):
        self.path = tmp_path / "events.jsonl"
        self.gateway = Gateway(
            tmp_path,
            exporters=[
                {"name": "file", "type": "jsonl", "path": str(self.path), "batch": {"linger": "0s"}}
            ],
            cells=2,
            config={"state_dir": str(tmp_path / "state")},
            start=False,
        )
        self.gateway.config["ingress"].update(ingress)
        self.gateway.start()

    def __enter__(self):
        self.good = Guest(self.gateway.base(1))
        return self

    def __exit__(self, *_):
        self.good.close()
        self.gateway.__exit__()

    def guest(self):
        return Guest(self.gateway.base(0))

    def rejected(self, reason):
        return self.gateway.metric("cellgate_frames_rejected_total", reason=reason)

    def closed(self, reason):
        return self.gateway.metric("cellgate_connections_closed_total", reason=reason)

    def finish(self):
        """Stops the gateway; what the guests of each cell declared, in the order of the file."""
        self.good.send(guest_pid=1, guest_comm="good")
        assert self.gateway.stop() == 0
        events = {"cell-0": [], "cell-1": []}
        for line in self.path.read_text().splitlines():
            event = json.loads(line)
            events[event["data"]["host"]["cellId"]].append(event)
        for cell in events.values():
            sequences = [event["data"]["host"]["sequence"] for event in cell]
            assert sequences == list(range(1, len(cell) + 1))
            cell[:] = [event for event in cell if event["data"]["provenance"] == "declared"]
        last = events["cell-1"][-1]["data"]["guest"]
        assert (last["guestPid"], last["guestComm"]) == (1, "good")
        return events


@pytest.fixture
def cells(tmp_path):
    with Cells(tmp_path) as made:
        yield made


def body(data):
    return struct.pack("<I", len(data)) + data


BAD = {
    "zero length": (struct.pack("<I", 0), "length"),
    "oversized": (struct.pack("<I", 65537), "length"),
    "garbage": (b"\xff" * 1000, "length"),
    "text instead of frames": (b"GET / HTTP/1.1\r\n\r\n", "length"),
    "not CBOR": (body(b"\x1c" * 20), "malformed"),
    "an array": (body(b"\x80"), "structure"),
    "an empty map": (body(b"\xa0"), "field"),
    "64 KiB of nested arrays": (body(b"\xa1\x61x" + b"\x81" * 65533), "depth"),
    "2^24 items announced in nine bytes": (body(b"\x9b" + struct.pack(">Q", 1 << 24)), "structure"),
    "a field missing": (body(frame()[4:].replace(b"guest_pid", b"guest_pit")), "field"),
    "text that is not UTF-8": (body(frame()[4:].replace(b"curl", b"cu\xc3l")), "text"),
    "pid out of range": (frame(guest_pid=1 << 32), "field"),
    "version 1.0": (frame(content_version=0x0100), "unsupported_version"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_ends_its_connection_and_is_counted_by_reason(cells, name):
    data, reason = BAD[name]
    with cells.guest() as guest, cells.guest() as other:
        guest.send_many(3)
        guest.send_raw(data)
        assert guest.wait_end(), "the stream was reset"
        other.send()
        assert cells.rejected(reason) == 1
        closed = "unsupported_version" if reason == "unsupported_version" else "wire_error"
        assert cells.closed(closed) == 1
        line = cells.gateway.wait_log("event=frame_rejected")
        assert "cell=cell-0" in line and f"reason={reason}" in line
    assert len(cells.finish()["cell-0"]) == 4


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 40])
def test_an_end_inside_a_frame_is_truncated(cells, cut):
    with cells.guest() as guest:
        guest.send_raw(frame()[:cut])
        guest.socket.shutdown(socket.SHUT_WR)
        guest.wait_end()
    assert cells.rejected("truncated") == 1
    assert cells.closed("wire_error") == 1
    assert cells.finish()["cell-0"] == []


def test_an_end_between_frames_is_clean(cells):
    with cells.guest() as guest:
        guest.send()
        guest.socket.shutdown(socket.SHUT_WR)
        guest.wait_end()
    assert cells.closed("eof") == 1
    assert cells.rejected("truncated") == 0
    assert len(cells.finish()["cell-0"]) == 1


def test_attribution_comes_from_the_socket_and_from_nothing_else(cells):
    with cells.guest() as guest:
        guest.send(
            cell_id="cell-1",
            run_id="forged",
            spec_signature_hash="sha256:forged",
            host_received_at="1970-01-01T00:00:00Z",
            connection=99,
            sequence=12345,
        )
        guest.socket.shutdown(socket.SHUT_WR)
        guest.wait_end()
    (event,) = cells.finish()["cell-0"]
    host = event["data"]["host"]
    assert (host["cellId"], host["runId"], host["connection"]) == ("cell-0", "run-0", 1)
    assert "forged" not in json.dumps(event)
    assert not event["time"].startswith("1970")
    assert event["type"] == TYPE


def test_a_guest_that_says_nothing_keeps_its_connection(cells):
    with cells.guest() as guest:
        cells.good.send_many(1000)
        guest.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            guest.socket.recv(1)
        until(lambda: cells.gateway.metric("cellgate_connections") == 2, "both connections")
    assert len(cells.finish()["cell-1"]) == 1001


def test_a_frame_may_come_a_byte_at_a_time(cells):
    with cells.guest() as guest:
        for byte in frame(guest_pid=7) + frame(guest_pid=8):
            guest.send_raw(bytes([byte]))
        guest.socket.shutdown(socket.SHUT_WR)
        guest.wait_end()
    pids = [event["data"]["guest"]["guestPid"] for event in cells.finish()["cell-0"]]
    assert pids == [7, 8]


def test_a_frame_begun_and_not_ended_is_stalled(tmp_path):
    with Cells(tmp_path, frame_deadline="50ms") as cells, cells.guest() as guest:
        guest.send_raw(b"\x10")
        assert guest.wait_end()
        assert cells.closed("stalled") == 1
        assert "cell=cell-0" in cells.gateway.wait_log("event=connection_stalled")
        cells.finish()


def test_a_thousand_connections_hit_the_cap_and_the_log_stays_short(cells):
    guests = [cells.guest() for _ in range(1000)]
    refused = 0
    for guest in guests[16:]:
        refused += guest.wait_end() is not None
    assert refused == 984
    assert cells.gateway.metric("cellgate_connections_refused_total", reason="cap") == 984
    guests[0].send()
    assert "cell=cell-0" in cells.gateway.wait_log("event=connection_refused")
    assert cells.gateway.log().count("event=connection_refused") < 20
    for guest in guests:
        guest.close()
    assert len(cells.finish()["cell-0"]) == 1


def test_a_loop_of_connects_and_closes_leaves_nothing_behind(cells):
    fds = f"/proc/{cells.gateway.process.pid}/fd"
    before = len(os.listdir(fds))
    for _ in range(2000):
        cells.guest().close()
    cells.good.send_many(100)

    def accepted():
        opened = cells.gateway.metric("cellgate_connections_opened_total")
        return opened + cells.gateway.metric("cellgate_connections_refused_total", reason="cap")

    while accepted() < 2001 or cells.gateway.metric("cellgate_connections") > 1:
        pass  # the last of the loop are being accepted and closed
    assert accepted() == 2001
    assert len(os.listdir(fds)) < before + 10
    assert len(cells.finish()["cell-1"]) == 101


def test_a_flood_pauses_its_own_cell_and_loses_nothing(tmp_path):
    limits = {"frames_per_second": 20000, "frames_burst": 100}
    with Cells(tmp_path, **limits) as cells, cells.guest() as flood:
        flood.send_many(2000)
        cells.good.send_many(50)
        flood.send_many(2000)
        flood.socket.shutdown(socket.SHUT_WR)
        flood.wait_end()
        assert cells.gateway.metric("cellgate_ingress_paused_total", reason="rate") >= 1
        events = cells.finish()
        assert len(events["cell-0"]) == 4000
        assert len(events["cell-1"]) == 51


def test_connections_of_a_run_are_numbered(cells):
    for _ in range(3):
        with cells.guest() as guest:
            guest.send()
            guest.socket.shutdown(socket.SHUT_WR)
            guest.wait_end()
    ordinals = [event["data"]["host"]["connection"] for event in cells.finish()["cell-0"]]
    assert ordinals == [1, 2, 3]


def test_what_was_sent_before_the_end_is_read(cells):
    with cells.guest() as guest:
        guest.send_many(500)
        events = cells.finish()
    assert len(events["cell-0"]) == 500
    assert not os.path.exists(cells.gateway.base(0) + "_9001")


def test_a_killed_gateway_starts_again_over_its_own_sockets(cells):
    cells.gateway.process.send_signal(signal.SIGKILL)
    cells.gateway.process.wait()
    assert os.path.exists(cells.gateway.base(0) + "_9001")
    cells.path.unlink(missing_ok=True)  # a spool in memory counts from 1 again
    cells.gateway.start()
    cells.good = Guest(cells.gateway.base(1))
    cells.finish()


def test_a_socket_of_somebody_else_stops_the_start_and_stays(tmp_path):
    exporter = {"name": "file", "type": "jsonl", "path": str(tmp_path / "events.jsonl")}
    gateway = Gateway(tmp_path, exporters=[exporter], start=False)
    path = gateway.base(0) + "_9001"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(path)
        with pytest.raises(AssertionError, match="exists already"):
            gateway.start()
        assert path in gateway.log()
        assert os.path.exists(path)
    gateway.__exit__()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect as somebody else")
def test_only_the_users_that_may_connect_do(tmp_path):
    with Cells(tmp_path, peer_uids=[os.geteuid(), os.geteuid()]) as cells:
        path = f"{cells.gateway.base(0)}_9001"
        # The file lets everybody in, so that it is the check of the peer that is seen.
        os.chmod(os.path.dirname(path), 0o755)
        os.chmod(path, 0o666)
        for _ in range(3):
            os.seteuid(65534)
            try:
                stranger = cells.guest()
            finally:
                os.seteuid(0)
            stranger.wait_end()
            stranger.close()
        assert cells.gateway.metric("cellgate_connections_refused_total", reason="peer") == 3
        line = cells.gateway.wait_log("event=connection_refused")
        assert "cell=cell-0" in line and "reason=peer" in line
        with cells.guest() as guest:
            guest.send()
            guest.socket.shutdown(socket.SHUT_WR)
            guest.wait_end()
        assert len(cells.finish()["cell-0"]) == 1
    events = [json.loads(line) for line in cells.path.read_text().splitlines()]
    drops = [event["data"]["drops"] for event in events if "drops" in event["data"]]
    assert sum(drop["peer"]["count"] for drop in drops if isinstance(drop, dict)) == 3


def test_guests_leave_descriptors_to_others(cells):
    limit = len(os.listdir(f"/proc/{cells.gateway.process.pid}/fd")) + 12
    _, hard = resource.prlimit(cells.gateway.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(cells.gateway.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
    guests = [cells.guest() for _ in range(15)]
    cells.gateway.wait_log("reason=descriptors")
    assert cells.gateway.get("/livez")[0] == 200
    for guest in guests:
        guest.close()


def test_running_out_of_descriptors_is_survived(cells):
    limit = len(os.listdir(f"/proc/{cells.gateway.process.pid}/fd")) + 4
    _, hard = resource.prlimit(cells.gateway.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(cells.gateway.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
    guests = [cells.guest() for _ in range(12)]
    line = cells.gateway.wait_log("event=connection_refused")
    assert "reason=descriptors" in line
    for guest in guests:
        guest.close()
    resource.prlimit(cells.gateway.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    with cells.guest() as guest:
        guest.send()
        guest.socket.shutdown(socket.SHUT_WR)
        guest.wait_end()
    assert len(cells.finish()["cell-0"]) == 1
