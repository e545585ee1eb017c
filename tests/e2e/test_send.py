"""`cellgate send` against a listener of Python's, with cbor2 as the judge of its frames."""

import io
import json
import os
import socket
import struct
import subprocess
import threading

import cbor2
import pytest

CELLGATE = os.environ["CELLGATE"]
PORT_SUFFIX = "_9001"


class Peer:
    """Listens for one cell, reads every connection to its end, and keeps what came."""

    def __init__(self, base, limit=None):
        self.streams = []
        self.limit = limit  # of bytes, after which a connection is closed
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(base + PORT_SUFFIX)
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        readers = []
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            stream = io.BytesIO()
            self.streams.append(stream)
            reader = threading.Thread(target=self.read, args=(connection, stream), daemon=True)
            reader.start()
            readers.append(reader)
        for reader in readers:
            reader.join()

    def read(self, connection, stream):
        with connection:
            while self.limit is None or stream.tell() < self.limit:
                size = 65536 if self.limit is None else min(65536, self.limit - stream.tell())
                data = connection.recv(size)
                if not data:
                    break
                stream.write(data)

    def close(self):
        # Only shutdown wakes a blocked accept.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def bytes(self):
        return [stream.getvalue() for stream in self.streams]

    def frames(self):
        return [frame for data in self.bytes() for frame in cut(data)]


def cut(data):
    frames = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        assert len(data) >= 4 + length
        frames.append(cbor2.loads(data[4 : 4 + length]))
        data = data[4 + length :]
    return frames


def send(*arguments, text=""):
    done = subprocess.run(
        [CELLGATE, "send", *arguments], input=text, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


def send_json(*arguments, text=""):
    code, out, err = send("--json", *arguments, text=text)
    return code, json.loads(out), err


@pytest.fixture
def base(tmp_path):
    return str(tmp_path / "a.vsock")


@pytest.fixture
def peer(base):
    listening = Peer(base)
    yield listening
    if listening.listener.fileno() >= 0:
        listening.close()


def test_one_frame_by_default_with_the_members_of_the_contract(base, peer):
    code, out, err = send("--socket", base)
    peer.close()
    assert (code, err) == (0, "")
    assert out.startswith("sent 1, lost 0 ")
    (frame,) = peer.frames()
    assert list(frame) == [
        "content_version", "probe_source", "guest_pid", "guest_comm", "guest_monotonic_ns",
    ]  # fmt: skip
    monotonic = frame.pop("guest_monotonic_ns")
    assert 0 < monotonic < 1 << 63
    assert frame == {
        "content_version": 1,
        "probe_source": "process.spawned",
        "guest_pid": 1,
        "guest_comm": "simulated",
    }
    assert len(peer.bytes()[0]) == 115


def test_frames_are_numbered_and_all_arrive(base, peer):
    code, summary, _ = send_json("--socket", base, "--frames", "20000")
    peer.close()
    assert code == 0
    assert (summary["sent"], summary["lost"], summary["bytes"]) == (20000, 0, 20000 * 115)
    assert [frame["guest_pid"] for frame in peer.frames()] == list(range(1, 20001))


def test_cells_are_numbered_in_the_path_and_connections_share_the_numbers(tmp_path):
    peers = [Peer(str(tmp_path / f"cell-{i}.vsock")) for i in range(5)]
    code, summary, _ = send_json(
        "--socket", str(tmp_path / "cell-%d.vsock"), "--cells", "5", "--connections", "3", "--frames", "100"
    )
    for one in peers:
        one.close()
    assert code == 0
    assert (summary["connections"], summary["sent"]) == (15, 1500)
    for one in peers:
        assert len(one.streams) == 3
        assert sorted(frame["guest_pid"] for frame in one.frames()) == list(range(1, 301))


def test_the_base_is_not_a_format(tmp_path):
    peer = Peer(str(tmp_path / "%s%n0%"))
    code, _, err = send("--socket", str(tmp_path / "%s%n%d%"))
    peer.close()
    assert (code, err) == (0, "")
    assert len(peer.frames()) == 1


def test_flags_fill_the_members(base, peer):
    code, _, _ = send(
        "--socket", base, "--probe-source", "net.connect", "--comm", "é\"\\", "--pid", "4294967295",
        "--monotonic-ns", "18446744073709551615", "--content-version", "65535", "--frames", "2",
    )  # fmt: skip
    peer.close()
    assert code == 0
    assert peer.frames() == 2 * [
        {
            "content_version": 65535,
            "probe_source": "net.connect",
            "guest_pid": 4294967295,
            "guest_comm": 'é"\\',
            "guest_monotonic_ns": 18446744073709551615,
        }
    ]


def test_frames_come_from_json_lines_in_turn(base, peer):
    lines = [
        '{"probe_source":"a.b","guest_pid":7,"guest_comm":"x\\u0000y","guest_monotonic_ns":18446744073709551615}',
        "",
        '{"accept":true,"guest":{"guest_comm":"second"}}',
    ]
    code, summary, _ = send_json("--socket", base, "--input", "-", "--frames", "3", text="\n".join(lines))
    peer.close()
    assert (code, summary["sent"]) == (0, 3)
    first, second, third = peer.frames()
    assert first == third
    assert first["guest_comm"] == "x\0y"
    assert first["guest_monotonic_ns"] == 18446744073709551615
    assert (second["guest_comm"], second["guest_pid"]) == ("second", 2)


def test_a_round_of_the_input_is_the_default(base, peer, tmp_path):
    file = tmp_path / "frames.jsonl"
    file.write_text("{}\n" * 7)
    code, summary, _ = send_json("--socket", base, "--input", str(file))
    peer.close()
    assert (code, summary["sent"]) == (0, 7)


@pytest.mark.parametrize(
    "line, what",
    [
        ("{", "line 1"),
        ("[]", "JSON object"),
        ('{"guest_pid":4294967296}', "integer"),
        ('{"guest_pid":1.0}', "integer"),
        ('{"guest_comm":7}', "text"),
        ('{"cell_id":"a"}', "no such member"),
        ('{"guest_pid":1,"guest_pid":2}', "line 1"),
        ("", "no frame"),
    ],
)
def test_bad_json_lines_are_refused_by_line(base, peer, line, what):
    code, out, err = send("--socket", base, "--input", "-", text=line + "\n")
    assert (code, out) == (1, "")
    assert what in err
    peer.close()
    assert peer.streams == []


def test_nobody_listening_is_loss(base):
    code, summary, err = send_json("--socket", base, "--frames", "10")
    assert code == 1
    assert (summary["sent"], summary["lost"], summary["connect_failures"]) == (0, 10, 1)
    assert base + PORT_SUFFIX in err


def test_a_peer_that_closes_early_is_loss(base):
    # It takes 1,000 bytes: whatever the sockets held beside them was sent, and the rest is lost.
    peer = Peer(base, limit=1000)
    code, summary, err = send_json("--socket", base, "--frames", "100000")
    peer.close()
    assert code == 1
    assert summary["lost"] > 0
    assert summary["sent"] + summary["lost"] == 100000
    assert summary["sent"] >= 1000 // 115
    assert err != ""


def test_bytes_left_unread_are_told(base):
    # All fits into the socket, so that nothing is lost here; but the peer did not read it.
    peer = Peer(base, limit=115)
    code, summary, _ = send_json("--socket", base, "--frames", "20", "--hold", "1m")
    peer.close()
    assert code == 1
    assert (summary["sent"], summary["lost"], summary["resets"]) == (20, 0, 1)


def test_it_connects_again_when_asked(base):
    peer = Peer(base, limit=1150)
    code, summary, _ = send_json("--socket", base, "--frames", "100000", "--reconnect", "3")
    peer.close()
    assert code == 1
    assert summary["reconnects"] == 3
    assert summary["connections"] == 4
    assert len(peer.streams) == 4
    assert summary["sent"] + summary["lost"] == 100000


def test_a_peer_that_never_closes_is_told(base):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(base + PORT_SUFFIX)
    listener.listen(1)
    code, summary, err = send_json("--socket", base, "--timeout", "100ms")
    listener.close()
    assert code == 1
    assert (summary["sent"], summary["unclosed"]) == (1, 1)
    assert "did not close" in err


def test_a_rate_and_a_duration_bound_what_is_sent(base, peer):
    code, summary, _ = send_json("--socket", base, "--rate", "500", "--duration", "400ms")
    peer.close()
    assert code == 0
    # 500 a second for 0.4 s, and one to begin with; a slow machine may send fewer, never more.
    assert 1 <= summary["sent"] <= 201
    assert len(peer.frames()) == summary["sent"]


def test_a_signal_ends_it_and_nothing_is_lost(base, peer):
    process = subprocess.Popen(
        [CELLGATE, "send", "--socket", base, "--rate", "1000", "--json"], stdout=subprocess.PIPE
    )
    # It is running once the first frame is here.
    waiting = threading.Event()
    for _ in range(10000):
        if peer.streams and peer.streams[0].tell() > 0:
            break
        waiting.wait(0.002)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    peer.close()
    summary = json.loads(out)
    assert process.returncode == 0
    assert summary["sent"] >= 1
    assert summary["lost"] == 0
    assert len(peer.frames()) == summary["sent"]


def decode(data):
    done = subprocess.run([CELLGATE, "decode", "--frames"], input=data, capture_output=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "kind, error",
    [
        ("oversized", "length"),
        ("zero", "length"),
        ("truncated", "truncated"),
        ("garbage", "malformed"),
        ("nested", "depth"),
        ("version", "unsupported_version"),
    ],
)
def test_malformed_frames_come_last_and_are_what_they_are_called(base, peer, kind, error):
    code, summary, _ = send_json("--socket", base, "--frames", "2", "--malformed", kind)
    peer.close()
    assert code == 0
    assert (summary["sent"], summary["lost"], summary["malformed"]) == (2, 0, 1)
    answers = decode(peer.bytes()[0])
    assert [answer["accept"] for answer in answers] == [True, True, False]
    assert answers[2]["error"].startswith(error)


def test_forged_attribution_is_in_the_frame_and_dropped_by_the_decoder(base, peer):
    code, _, _ = send("--socket", base, "--frames", "0", "--malformed", "forged")
    peer.close()
    assert code == 0
    (frame,) = peer.frames()
    assert frame["cell_id"] == "another-cell"
    (answer,) = decode(peer.bytes()[0])
    assert answer["accept"]
    assert set(answer["guest"]) == set(frame) - {
        "cell_id", "run_id", "spec_signature_hash", "host_received_at",
    }  # fmt: skip


def test_a_path_longer_than_an_address_works(tmp_path):
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    # Python cannot bind so long a path either, but by way of the directory.
    here = os.open(directory, os.O_PATH)
    peer = Peer(f"/proc/self/fd/{here}/a.vsock")
    code, _, err = send("--socket", str(directory / "a.vsock"))
    peer.close()
    os.close(here)
    assert (code, err) == (0, "")
    assert len(peer.frames()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--socket"],
        ["--socket", "x", "stray"],
        ["--socket", "x", "--bogus"],
        ["--socket", "x", "--cells", "0"],
        ["--socket", "x", "--frames", "-1"],
        ["--socket", "x", "--frames", "1e3"],
        ["--socket", "x", "--rate", "0"],
        ["--socket", "x", "--pid", "4294967296"],
        ["--socket", "x", "--duration", "5 parsecs"],
        ["--socket", "x", "--duration", "99999999999h"],
        ["--socket", "x", "--timeout", "0"],
    ],
)
def test_wrong_usage_is_said_with_64(arguments):
    code, out, err = send(*arguments)
    assert (code, out) == (64, "")
    assert err != ""


def test_an_unknown_malformed_kind_names_those_there_are(base):
    code, _, err = send("--socket", base, "--malformed", "curdled")
    assert code == 1
    assert "oversized" in err


def test_help_goes_to_stdout():
    code, out, err = send("--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: cellgate send")
