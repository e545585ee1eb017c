"""Processes that are killed: the gateway at random instants, and a receiver between two batches."""

import random
import subprocess
import sys

from support.faults import Ledger, account_of_receiver, last_delivered, last_sequences, scaled
from support.flows import Account, Load, caught_up, play, to_file, to_sink, until
from support.gateway import Gateway
from support.http_sink import HttpSink
from support.ports import steady_port

CELLS = 3
NAMES = [f"cell-{i}" for i in range(CELLS)]
SEED = 20261125


def config(directory, **spool):
    return {
        "state_dir": str(directory / "state"),
        "spool": {"dir": str(directory / "spool"), "max_bytes": "16MiB", "sync": "20ms", **spool},
    }


def test_a_gateway_that_is_killed_at_any_instant_loses_nothing_it_appended(tmp_path):
    rng = random.Random(SEED)
    path = tmp_path / "events.jsonl"
    kills = scaled(6, 50)
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url), to_file("local", path)]
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path)) as gateway:
            for _ in range(kills):
                load = ["--cells", CELLS, "--connections", 2, "--frames", 1_000_000, "--rate", 8000]
                with Load(gateway.base("%d"), *load) as load:
                    sink.wait_accepted(len(sink.accepted) + rng.randrange(1, 2000))
                    gateway.kill()
                    load.end()
                gateway.start()
            resident = gateway.resident_bytes()
            for exporter in ("central", "local"):
                caught_up(gateway, exporter)
            last = last_sequences(gateway, NAMES)
            assert gateway.stop() == 0
        accounts = {"http": Account.of_sink(sink), "file": Account.of_files(path)}
    # At the end each run was told of its last connections: nothing was delivered that is not known.
    assert last_delivered(*accounts.values()) == last
    for receiver, account in accounts.items():
        name = f"gateway killed {kills} times, {receiver}"
        Ledger(name, account, last=last, resident=resident).settle()


def test_a_gateway_that_is_killed_while_its_spool_gives_events_up_names_all_of_them(tmp_path):
    rng = random.Random(SEED)
    port = steady_port()
    kills = scaled(8, 50)
    settings = config(tmp_path, max_bytes="4MiB", when_full="drop_oldest")
    exporters = [to_sink("central", f"http://127.0.0.1:{port}/")]
    with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=settings) as gateway:
        for _ in range(kills):
            appended = rng.randrange(3000, 20_000)
            with Load(gateway.base("%d"), "--cells", CELLS, "--frames", 1_000_000) as load:
                until(
                    lambda: gateway.metric("cellgate_frames_received_total") > appended,
                    lambda: "the frames do not arrive",
                )
                gateway.kill()
                load.end()
            gateway.start()
        with HttpSink(port=port) as sink:
            caught_up(gateway, "central")
            resident = gateway.resident_bytes()
            last = last_sequences(gateway, NAMES)
            assert gateway.stop() == 0
            account = Account.of_accepted(sink)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    ledger = Ledger(f"gateway killed {kills} times, dropping", account, last=last, resident=resident)
    assert ledger.settle().by_name > kills * 1000


class Receiver:
    def __init__(self, port, path):
        self._command = [sys.executable, "-m", "support.receiver", str(port), str(path)]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_a_receiver_that_is_killed_gets_everything_in_the_end(tmp_path):
    rng = random.Random(SEED)
    port, path = steady_port(), tmp_path / "received"
    receiver = Receiver(port, path)
    exporters = [to_sink("central", f"http://127.0.0.1:{port}/", batch={"events": 50, "linger": "1ms"})]
    frames = scaled(4000, 40000)
    with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path)) as gateway:
        receiver.start()
        try:
            load = ["--cells", CELLS, "--frames", frames, "--rate", 12_000]
            with Load(gateway.base("%d"), *load) as load:
                for _ in range(scaled(5, 50)):
                    size = path.stat().st_size + rng.randrange(1, 200_000)
                    until(
                        lambda: path.stat().st_size >= size or not load.running(),
                        lambda: f"{path.stat().st_size} of {size} bytes",
                    )
                    receiver.kill()
                    receiver.start()
                status, summary = load.end()
            assert status == 0 and summary["sent"] == CELLS * frames
            caught_up(gateway, "central")
            last = last_sequences(gateway, NAMES)
            resident = gateway.resident_bytes()
            assert gateway.stop() == 0
        finally:
            receiver.kill()
    account = account_of_receiver(path)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    Ledger(
        "receiver killed", account, last=last, sent=summary["sent"], resident=resident
    ).settle()  # fmt: skip


def test_a_stop_with_a_dead_receiver_keeps_what_it_could_not_deliver(tmp_path):
    port = steady_port()
    exporters = [to_sink("central", f"http://127.0.0.1:{port}/")]
    settings = {**config(tmp_path), "shutdown": {"drain": "3s"}}
    with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=settings) as gateway:
        load = ["--cells", CELLS, "--frames", 1_000_000, "--rate", 8000]
        with Load(gateway.base("%d"), *load) as load:
            until(
                lambda: gateway.metric("cellgate_exporter_backlog_events", exporter="central") > 2000,
                lambda: "no backlog",
            )
            assert gateway.stop() == 0
            _, summary = load.end()
        assert "event=exporter_left_behind exporter=central" in gateway.log()
        with HttpSink(port=port) as sink:
            gateway.start()
            play(gateway.base("%d"), "--cells", CELLS, "--frames", 1)
            caught_up(gateway, "central")
            last = last_sequences(gateway, NAMES)
            resident = gateway.resident_bytes()
            assert gateway.stop() == 0
            account = Account.of_accepted(sink)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    sent = summary["sent"] + CELLS
    Ledger("SIGTERM with a dead receiver", account, last=last, sent=sent, resident=resident).settle()
