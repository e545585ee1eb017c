"""`cellgate tap` and GET /v1/tap: live events, which slow nobody down and hold nothing."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import threading
import time

import pytest
from support.control import ControlledGateway, schema
from support.flows import Load, caught_up, play, to_file, to_sink, total, until
from support.gateway import BINARY, UnixConnection
from support.guest import Guest
from support.http_sink import HttpSink
from support.terminal import Terminal

TAPS_MAX = 8
RESIDENT_MAX = 1 << 30  # a sanitizer's own memory is most of it; without the bound it grows on
SPAWNED = "dev.cellos.events.cell.observability.v1.guest.process_spawned"


@pytest.fixture
def gateway(tmp_path):
    with ControlledGateway(tmp_path, cells=3) as gateway:
        yield gateway


def all_of(gateway):
    return gateway.base(0)[: -len("0.vsock")] + "%d.vsock"


class Tap:
    """GET /v1/tap; open when the object is there."""

    def __init__(self, gateway, query=""):
        self.connection = UnixConnection(gateway.socket, 120)
        self.connection.request("GET", "/v1/tap" + query)
        self.answer = self.connection.getresponse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.answer.close()
        self.connection.close()

    def line(self):
        text = self.answer.readline().decode()
        document = json.loads(text)
        schema("tap-line").validate(document)
        return document


@contextlib.contextmanager
def opening(gateway):
    """Waits until the tap that the block starts is there: until a request has been answered that is
    not one of those that look at the metrics."""

    def answered():
        return total(gateway, "cellgate_http_requests_total", code="2xx")

    expected = answered()
    yield
    end = time.monotonic() + 60
    expected += 1  # that look itself
    while answered() == expected:
        expected += 1
        assert time.monotonic() < end, "no tap was opened"


class Command:
    """`cellgate tap` with its lines in a pipe; open when the object is there."""

    def __init__(self, gateway, *arguments):
        with opening(gateway):
            self.process = subprocess.Popen(
                [BINARY, "tap", "--socket", gateway.socket, *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


def cell_of(event):
    return event["data"].get("event", event)["data"]["cellId"]


# --- what it shows ---


def test_a_tap_sees_the_events_of_one_cell_only(gateway):
    with Tap(gateway, "?cell=cell-1") as tap:
        assert tap.answer.status == 200
        assert tap.answer.headers["content-type"] == "application/x-ndjson"
        play(all_of(gateway), "--cells", 3, "--frames", 20)
        caught_up(gateway, "file")
        expected = [event for event in gateway.events() if cell_of(event) == "cell-1"]
        assert len(expected) >= 20
        assert [tap.line() for _ in expected] == expected


def test_lines_are_the_bytes_that_go_out(tmp_path):
    env = {"CELLOS_EVENT_SIGNING": "hmac", "CELLOS_EVENT_SIGNING_KID": "k",
           "CELLOS_EVENT_SIGNING_KEY_BASE64": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}  # fmt: skip
    with ControlledGateway(tmp_path, cells=2, env=env) as gateway, \
            Command(gateway, "cell-?", "--types", "*.process_spawned", "--limit", "10") as tap:
        play(all_of(gateway), "--cells", 2, "--frames", 5)
        status, out, err = tap.end()
        assert (status, err) == (0, "")
        caught_up(gateway, "file")
        sent = gateway.events_path.read_text().splitlines()
        assert out.splitlines() == [line for line in sent if SPAWNED in line]


def test_patterns_choose_types(gateway):
    with Tap(gateway, "?types=*.stream_opened&limit=2") as tap:
        play(all_of(gateway), "--cells", 2, "--frames", 5)
        assert sorted(cell_of(tap.line()) for _ in range(2)) == ["cell-0", "cell-1"]
        assert tap.answer.read() == b""  # the limit: a well-formed end


def test_nothing_from_before_is_shown(gateway):
    play(gateway.base(0), "--frames", 50)
    with Tap(gateway, "?types=*.process_spawned") as tap:
        play(gateway.base(0), "--frames", 1)
        play(gateway.base(1), "--frames", 1)
        assert [cell_of(tap.line()) for _ in range(2)] == ["cell-0", "cell-1"]


def test_on_a_terminal_text_of_guests_drives_nothing(gateway):
    evil = "\x1b[2J\x7f\u009b2J\u202eabc"
    command = [BINARY, "tap", "--socket", gateway.socket, "--types", "*.process_spawned", "-n", "1"]
    with contextlib.ExitStack() as stack:
        with opening(gateway):
            terminal = stack.enter_context(Terminal(command))
        guest = stack.enter_context(Guest(gateway.base(0)))
        guest.send(guest_comm=evil)
        assert terminal.end() == 0
        shown = terminal.output.removesuffix("\r\n")
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", shown)
        assert json.loads(shown)["data"]["guest"]["guestComm"] == evil


# --- what it is refused ---


@pytest.mark.parametrize("query, member", [("?limit=0", "limit"), ("?limit=x", "limit"),
                                           ("?cell=", "cell"), ("?types=" + 257 * "a", "types")])  # fmt: skip
def test_bad_arguments_are_named(gateway, query, member):
    status, problem, _ = gateway.ask("GET", "/v1/tap" + query)
    assert status == 400
    assert problem["member"] == member


def test_a_tap_is_read_only_and_not_public(gateway):
    for method in ("POST", "HEAD", "PUT"):
        status, _, headers = gateway.ask(method, "/v1/tap")
        assert (status, headers["allow"]) == (405, "GET")
    assert gateway.get("/v1/tap")[0] == 404


def test_one_tap_too_many_is_refused_until_another_ends(gateway):
    taps = [Tap(gateway) for _ in range(TAPS_MAX)]
    try:
        assert [tap.answer.status for tap in taps] == TAPS_MAX * [200]
        status, problem, _ = gateway.ask("GET", "/v1/tap")
        assert status == 503
        assert "8 taps" in problem["detail"]
        done = subprocess.run([BINARY, "tap", "--socket", gateway.socket], capture_output=True,
                              text=True, timeout=120)  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert "503" in done.stderr and "8 taps" in done.stderr
        # Its end is seen though no event comes.
        taps.pop().close()
        until(lambda: not is_full(gateway), lambda: "a tap that has ended still takes a place")
    finally:
        for tap in taps:
            tap.close()


def is_full(gateway):
    with Tap(gateway) as tap:
        return tap.answer.status == 503


@pytest.mark.parametrize("options", [["a", "b"], ["--what"], ["--limit"]])
def test_wrong_usage_is_64(options):
    done = subprocess.run([BINARY, "tap", *options], capture_output=True, text=True)
    assert done.returncode == 64


def test_without_a_gateway_it_fails(tmp_path):
    path = str(tmp_path / "none.sock")
    done = subprocess.run([BINARY, "tap", "--socket", path], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"connect to {path}" in done.stderr


# --- how it ends ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(gateway, number):
    with Command(gateway) as tap:
        play(gateway.base(0), "--frames", 3)
        first = tap.process.stdout.readline()
        assert json.loads(first)["type"].endswith(".stream_opened")
        status, _, err = tap.end(number)
        assert (status, err) == (0, "")


def test_a_signal_ends_it_where_nobody_takes_its_lines(gateway):
    with Load(gateway.base(0), "--duration", "120s"), Command(gateway) as tap:
        pipe = os.open(f"/proc/self/fd/{tap.process.stdout.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
        try:

            def is_full():
                gateway.get("/livez")  # takes a while
                return not select.select([], [pipe], [], 0)[1]

            until(is_full, lambda: "its pipe never was full")
            tap.process.send_signal(signal.SIGINT)
            assert tap.process.wait(120) == 0
        finally:
            os.close(pipe)


def test_a_tap_ends_well_with_the_gateway(gateway):
    with Tap(gateway) as idle, Command(gateway, "cell-0") as tap:
        play(gateway.base(0), "--frames", 3)
        assert gateway.stop() == 0
        status, out, err = tap.end()
        assert (status, err) == (0, "")
        assert len(out.splitlines()) >= 3
        assert len(idle.answer.read().splitlines()) >= 3  # read to its well-formed end


def test_a_tap_says_that_the_gateway_was_killed(gateway):
    with Command(gateway) as tap:
        gateway.kill()
        status, _, err = tap.end()
        assert status == 1
        assert "the gateway has gone away" in err or "reset" in err


# --- what it costs others ---


def test_a_stalled_tap_slows_nobody_and_holds_nothing(tmp_path):
    frames = 4000 if os.environ.get("CELLGATE_SLOW") == "1" else 30000
    with HttpSink() as sink:
        exporters = [to_file("file", tmp_path / "events.jsonl"), to_sink("central", sink.url)]
        with ControlledGateway(tmp_path, exporters=exporters, cells=1,
                               config={"spool": {"max_bytes": "8MiB"}}) as gateway, \
                Tap(gateway) as tap:
            play(gateway.base(0), "--frames", frames)
            for exporter in ("file", "central"):
                caught_up(gateway, exporter)
            # A spool of 8 MiB took far more than that, so nothing was held for the tap.
            def segments():
                return gateway.metric("cellgate_spool_segments")

            until(lambda: segments() <= 2, lambda: f"{segments()} segments are held")
            assert len(sink.accepted) == total(gateway, "cellgate_events_appended_total")
            assert gateway.resident_bytes() < RESIDENT_MAX
            assert gateway.stop() == 0  # a client that takes nothing does not hold this either
            assert tap.answer.readline() != b""  # it was there all the time


def test_a_slow_tap_is_told_how_many_it_missed(gateway):
    frames = 4000 if os.environ.get("CELLGATE_SLOW") == "1" else 40000
    with Tap(gateway) as tap:
        play(gateway.base(0), "--frames", frames)
        caught_up(gateway, "file")
        appended = total(gateway, "cellgate_events_appended_total")
        seen = skipped = 0
        while seen + skipped < appended:
            document = tap.line()
            skipped += document.get("skipped", 0)
            seen += "skipped" not in document
        assert seen + skipped == appended
        assert total(gateway, "cellgate_tap_skipped_events_total") == skipped
        if frames > 10000:
            assert skipped > 0


def test_taps_come_and_go_under_load(gateway):
    with Load(all_of(gateway), "--cells", 3, "--rate", 2000, "--duration", "120s"):
        failures = []

        def tap_again_and_again():
            try:
                for _ in range(10):
                    with Tap(gateway, "?limit=50") as tap:
                        if tap.answer.status == 200:
                            for _ in range(25):
                                tap.line()
            except Exception as failure:  # noqa: BLE001 - told by the test's own thread
                failures.append(failure)

        threads = [threading.Thread(target=tap_again_and_again) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
    caught_up(gateway, "file")
