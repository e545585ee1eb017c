"""Disks that refuse, and files that rot: the gateway stays up, says so, and goes on by itself."""

import errno
import os
import pathlib
import random
import subprocess

import pytest
from support.faults import Injection, Ledger, last_delivered, last_sequences, scaled
from support.flows import Account, Load, caught_up, play, to_sink, total, until
from support.gateway import Gateway
from support.http_sink import HttpSink

CELLS = 3
NAMES = [f"cell-{i}" for i in range(CELLS)]
SEED = 20261125


def config(directory, **spool):
    return {
        "state_dir": str(directory / "state"),
        "spool": {"dir": str(directory / "spool"), "sync": "20ms", **spool},
    }


def settle(scenario, gateway, sink, summary):
    caught_up(gateway, "central", timeout=120)
    last = last_sequences(gateway, NAMES)
    resident = gateway.resident_bytes()
    assert gateway.stop() == 0
    account = Account.of_accepted(sink)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    return Ledger(scenario, account, last=last, sent=summary["sent"], resident=resident).settle()


def ready(gateway):
    return gateway.get("/readyz")[0] == 200


def io_failures(gateway):
    return total(gateway, "cellgate_spool_append_failures_total", reason="io")


DISK_ERRORS = ["ENOSPC", "EDQUOT", "EIO", "EROFS"]


@pytest.mark.parametrize("calls", ["write", "sync", "make"])
@pytest.mark.parametrize("error", DISK_ERRORS)
def test_a_disk_that_refuses_for_a_while_costs_nothing(tmp_path, error, calls):
    injection = Injection(tmp_path)
    errnum = getattr(errno, error)
    with HttpSink() as sink:
        gateway = Gateway(
            tmp_path, exporters=[to_sink("central", sink.url)], cells=CELLS,
            config=config(tmp_path, max_bytes="16MiB"), env=injection.env,
        )  # fmt: skip
        with gateway:
            load = ["--cells", CELLS, "--frames", scaled(4000, 40000), "--rate", 15_000, "--timeout", "60s"]
            with Load(gateway.base("%d"), *load) as load:
                for round_number in range(scaled(2, 10)):
                    more = len(sink.accepted) + 1000
                    until(
                        lambda: len(sink.accepted) >= more or not load.running(),
                        lambda: f"{len(sink.accepted)} of {more}",
                    )
                    failures, accepted = io_failures(gateway), len(sink.accepted)
                    injection.set(**{calls: errnum})
                    until(
                        lambda: io_failures(gateway) > failures
                        or (calls == "make" and len(sink.accepted) > accepted + 1500)
                        or not load.running(),
                        lambda: f"no failure was met: {gateway.log()}",
                    )
                    assert gateway.get("/livez")[0] == 200
                    injection.set(**{calls: 0})
                    until(lambda: ready(gateway), lambda: gateway.get("/readyz?verbose")[1])
                status, summary = load.end()
            assert status == 0 and summary["sent"] == CELLS * scaled(4000, 40000)
            settle(f"{error} on {calls}", gateway, sink, summary)


def test_a_full_file_system_pauses_the_guests_until_there_is_room(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "cellgate-test", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    try:
        ballast = small / "ballast"
        with HttpSink() as sink:
            exporters = [to_sink("central", sink.url)]
            settings = {
                "state_dir": str(tmp_path / "state"),
                "spool": {"dir": str(small / "spool"), "max_bytes": "64MiB", "sync": "20ms"},
            }
            with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=settings) as gateway:
                play(gateway.base("%d"), "--cells", CELLS, "--frames", 100)
                caught_up(gateway, "central")
                sent_before = len(sink.accepted)
                fill(ballast)
                load = ["--cells", CELLS, "--frames", scaled(5000, 20000), "--timeout", "60s"]
                with Load(gateway.base("%d"), *load) as load:
                    until(lambda: not ready(gateway), lambda: "still ready on a full file system")
                    assert gateway.get("/livez")[0] == 200
                    ballast.unlink()
                    until(lambda: ready(gateway), lambda: gateway.get("/readyz?verbose")[1])
                    status, summary = load.end()
                assert status == 0 and sent_before > 0
                summary["sent"] += CELLS * 100
                settle("ENOSPC on a small tmpfs", gateway, sink, summary)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def fill(path):
    """Takes what is left of the file system."""
    with open(path, "wb", buffering=0) as ballast:
        block = bytes(4096)
        while True:
            try:
                if ballast.write(block) < len(block):
                    return
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return


def rot(path, rng, how):
    size = path.stat().st_size
    if how == "truncated":
        os.truncate(path, rng.randrange(size) if size else 0)
    elif size:
        with open(path, "r+b") as file:
            for _ in range(8):
                at = rng.randrange(size)
                file.seek(at)
                byte = file.read(1)[0] ^ (1 << rng.randrange(8))
                file.seek(at)
                file.write(bytes([byte]))


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_no_damage_to_any_file_of_the_spool_stops_the_next_start(tmp_path, how):
    """What damage took is named; what it left arrives; and the gateway starts each time."""
    rng = random.Random(SEED)
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url)]
        settings = config(tmp_path, max_bytes="16MiB", cell_share="16MiB")
        for round_number in range(scaled(4, 20)):
            down = [to_sink("central", "http://127.0.0.1:9/")]
            with Gateway(tmp_path, exporters=down, cells=CELLS, config=settings) as gateway:
                play(gateway.base("%d"), "--cells", CELLS, "--frames", 2000)
                gateway.kill()
            files = sorted(p for p in (tmp_path / "spool").rglob("*") if p.is_file())
            assert len(files) >= 2
            for path in files:
                rot(path, rng, how)
            with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=settings) as gateway:
                play(gateway.base("%d"), "--cells", CELLS, "--frames", 10)
                caught_up(gateway, "central")
                assert ready(gateway)
                last = last_sequences(gateway, [f"cell-{i}" for i in range(CELLS)])
                assert gateway.stop() == 0
        account = Account.of_accepted(sink)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    Ledger(f"every file of the spool {how}, {scaled(4, 20)} times", account, last=last).settle()
    # Every round's last frames came behind the damage, and all of them arrived.
    assert len(account.guests()) >= scaled(4, 20) * CELLS * 10
    assert pathlib.Path(tmp_path / "spool").is_dir()
