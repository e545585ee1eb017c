"""`cellgate top`: the table, and the screen on a real terminal."""

import os
import signal
import subprocess

import pytest
from support.control import ControlledGateway
from support.flows import Load, play, to_sink, until
from support.gateway import BINARY
from support.http_sink import Answer, HttpSink
from support.terminal import OLD_SCREEN, OWN_SCREEN, SHOW_CURSOR, Terminal


@pytest.fixture
def gateway(tmp_path):
    with ControlledGateway(tmp_path, cells=3) as gateway:
        yield gateway


def arguments(gateway, *more):
    return [BINARY, "top", "--socket", gateway.socket, "--interval", "0.2", *more]


def cells_of(text):
    """The rows of the table of cells: (id, state, frames a second)."""
    rows = text[text.index("\nCELL "):].split("\n")[2:]
    return [tuple(row.split()[i] for i in (0, 2, 3)) for row in rows if row.startswith("cell-")]


def once(gateway, *more):
    done = subprocess.run(arguments(gateway, "--once", *more), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def pages(gateway, base="%d.vsock"):
    return gateway.base(0)[: -len("0.vsock")] + base


# --- the table ---


def test_once_prints_a_table_without_a_terminal(gateway):
    play(pages(gateway), "--cells", 3, "--frames", 5)
    text = once(gateway, "--order", "id")
    assert text.startswith("cellgate 0.")
    assert "on node-1: ok" in text
    assert "\x1b" not in text
    assert [row[0] for row in cells_of(text)] == ["cell-0", "cell-1", "cell-2"]
    exporter = next(line for line in text.split("\n") if line.startswith("file "))
    assert exporter.split()[1] == "jsonl"


def test_rates_are_those_of_two_samples(gateway):
    with Load(gateway.base(1), "--cells", 1, "--rate", 500, "--duration", "120s"):
        seen = []

        def busy():
            seen[:] = cells_of(once(gateway))
            return seen[0][0] == "cell-1" and float(seen[0][2]) > 0

        until(busy, lambda: once(gateway))
        assert [float(row[2]) for row in seen[1:]] == [0, 0]


def test_the_silent_come_first_when_asked_for(tmp_path):
    with ControlledGateway(tmp_path, cells=3,
                           config={"keepalive": {"window": "1ms", "boot_grace": "0s"}}) as gateway:
        play(gateway.base(2), "--frames", 1)  # the last to be heard; the others never were
        until(lambda: gateway.show("cell-2")[1]["state"] == "silent", lambda: gateway.show("cell-2"))
        assert [row[:2] for row in cells_of(once(gateway, "--order", "silent"))] == [
            ("cell-0", "silent"), ("cell-1", "silent"), ("cell-2", "silent")]  # fmt: skip


def test_a_long_list_is_cut_and_says_so(gateway):
    text = once(gateway, "--cells", "2", "--order", "id")
    assert len(cells_of(text)) == 2
    assert text.endswith("(1 more)\n")


def test_text_of_a_collector_does_not_drive_the_terminal(tmp_path):
    evil = b"\x1b]0;owned\x07\x9b2J"
    with HttpSink() as sink:
        sink.policy = lambda request: Answer(raw=b"HTTP/1.1 403 " + evil + b"\r\nX-Evil: " + evil +
                                             b"\r\nContent-Length: 11\r\n\r\n" + evil)  # fmt: skip
        with ControlledGateway(tmp_path, exporters=[to_sink("central", sink.url)], cells=1) as gateway:
            play(gateway.base(0), "--frames", 1)
            until(lambda: gateway.metric("cellgate_exporter_up", exporter="central") == 0,
                  lambda: gateway.log())
            row = next(line for line in once(gateway).split("\n") if line.startswith("central "))
            assert "\x1b" not in row and "\x9b" not in row
            assert row.split()[2] in ("holding", "backoff") and "HTTP" in row


@pytest.mark.parametrize("options", [["--interval", "0"], ["--interval", "x"], ["--order", "size"],
                                     ["--cells", "-1"], ["--cells", "1x"], ["extra"], ["--what"]])  # fmt: skip
def test_wrong_usage_is_64(gateway, options):
    done = subprocess.run([BINARY, "top", "--once", *options], capture_output=True, text=True)
    assert done.returncode == 64
    assert done.stderr != "" and done.stdout == ""


def test_without_a_gateway_or_a_terminal_it_fails(tmp_path):
    socket = str(tmp_path / "none.sock")
    done = subprocess.run([BINARY, "top", "--once", "--socket", socket], capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 1
    assert f"connect to {socket}" in done.stderr
    done = subprocess.run([BINARY, "top", "--socket", socket], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert "no terminal" in done.stderr


# --- the screen ---


def test_q_leaves_and_the_terminal_is_as_before(gateway):
    with Terminal(arguments(gateway)) as terminal:
        screen = terminal.wait_screen(lambda screen: "cell-0" in screen.text)
        assert len(screen.lines) == 24
        assert all(len(line) <= 100 for line in screen.lines)
        assert terminal.output.startswith(OWN_SCREEN)
        assert terminal.settings() != terminal.before
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.output.endswith(SHOW_CURSOR + OLD_SCREEN)
        assert terminal.settings() == terminal.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_before(gateway, number):
    with Terminal(arguments(gateway)) as terminal:
        terminal.wait_screen(lambda screen: "cell-0" in screen.text)
        terminal.process.send_signal(number)
        assert terminal.end() == 0
        assert terminal.output.endswith(SHOW_CURSOR + OLD_SCREEN)
        assert terminal.settings() == terminal.before


def test_control_c_is_a_signal(gateway):
    with Terminal(arguments(gateway)) as terminal:
        terminal.wait_screen(lambda screen: "cell-0" in screen.text)
        terminal.type("\x03")
        assert terminal.end() == 0
        assert terminal.settings() == terminal.before


def test_a_stopped_top_gives_the_terminal_back_until_it_goes_on(gateway):
    with Terminal(arguments(gateway)) as terminal:
        terminal.wait_screen(lambda screen: "cell-0" in screen.text)
        terminal.type("\x1a")
        terminal.wait_output(OLD_SCREEN)
        os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED | os.WNOWAIT)
        assert terminal.settings() == terminal.before
        drawn = terminal.output.count(OWN_SCREEN)
        terminal.process.send_signal(signal.SIGCONT)
        until(lambda: terminal._read(1) and terminal.output.count(OWN_SCREEN) > drawn,
              lambda: terminal.output)
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.settings() == terminal.before


def test_it_follows_the_size_of_the_terminal(gateway):
    with Terminal(arguments(gateway), lines=40, columns=200) as terminal:
        terminal.wait_screen(lambda screen: "cell-0" in screen.text and len(screen.lines) == 40)
        for lines, columns in ((24, 60), (8, 20), (2, 3), (1, 1), (30, 120)):
            terminal.resize(lines, columns)
            screen = terminal.wait_screen(lambda screen: len(screen.lines) == lines)
            terminal.wait_screen(lambda screen: max(map(len, screen.lines)) <= columns)
        terminal.wait_screen(lambda screen: "cell-2" in screen.text)
        terminal.type("q")
        assert terminal.end() == 0


def test_keys_scroll_and_order(tmp_path):
    with ControlledGateway(tmp_path, cells=60) as gateway, \
            Terminal(arguments(gateway, "--order", "id"), lines=20) as terminal:
        def shows(first):
            return terminal.wait_screen(
                lambda screen: cells_of(screen.text)[:1] and cells_of(screen.text)[0][0] == first)

        names = sorted(f"cell-{i}" for i in range(60))
        screen = shows(names[0])
        page = len(cells_of(screen.text))
        assert 0 < page < 60
        terminal.type("j")
        shows(names[1])
        terminal.type("\x1b[B\x1b[B\x1b[A")
        shows(names[2])
        terminal.type("\x1b[6~")
        shows(names[2 + page])
        terminal.type(" \x1b[5~kk")
        shows(names[page])
        terminal.type("\x1b[F")
        screen = shows(names[60 - page])
        assert f"{60 - page + 1}-60 of 60, by id" in screen.lines[-1]
        terminal.type("j ")  # there is nothing below
        terminal.type("b")
        terminal.wait_screen(lambda screen: "busiest first" in screen.lines[-1])
        terminal.type("s")
        terminal.wait_screen(lambda screen: "silent first" in screen.lines[-1])
        terminal.type("xyz\x1b[99z")  # means nothing
        terminal.type("q")
        assert terminal.end() == 0


def test_a_gateway_that_goes_away_is_shown_and_waited_for(tmp_path):
    with ControlledGateway(tmp_path, cells=1) as gateway, \
            Terminal(arguments(gateway)) as terminal:
        terminal.wait_screen(lambda screen: "cell-0" in screen.text)
        assert gateway.stop() == 0
        screen = terminal.wait_screen(lambda screen: "connect to" in screen.lines[-1])
        assert "cell-0" in screen.text  # what was last known
        gateway.start()
        terminal.wait_screen(lambda screen: "q quit" in screen.lines[-1])
        terminal.type("q")
        assert terminal.end() == 0


def test_a_gateway_that_hangs_holds_neither_keys_nor_signals(gateway):
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        with Terminal(arguments(gateway)) as terminal:
            terminal.wait_screen(lambda screen: "asking the gateway" in screen.lines[-1])
            terminal.type("s")
            terminal.resize(10, 50)
            terminal.wait_screen(lambda screen: len(screen.lines) == 10)
            terminal.type("q")
            assert terminal.end() == 0
    finally:
        gateway.process.send_signal(signal.SIGCONT)
