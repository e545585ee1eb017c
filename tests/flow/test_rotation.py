"""Files that change under load: whoever changes them, each line is in one of them, once."""

import signal

from support.flows import Account, Load, caught_up, to_file, total, until
from support.gateway import Gateway

CELLS = 2
FRAMES = 8000
FILE_BYTES = 256 * 1024


def start(directory, exporter):
    config = {"state_dir": str(directory / "state"), "spool": {"dir": str(directory / "spool")}}
    return Gateway(directory, exporters=[exporter], cells=CELLS, config=config)


def load(gateway):
    return Load(gateway.base("%d"), "--cells", CELLS, "--frames", FRAMES, "--rate", 8000)


def finish(gateway, load):
    status, summary = load.end()
    assert (status, summary["sent"]) == (0, CELLS * FRAMES)
    caught_up(gateway, "local")
    assert gateway.stop() == 0


def assert_every_line_once(account):
    account.assert_in_order()
    assert len(account.guests()) == CELLS * FRAMES


def test_rotation_by_size_keeps_every_line(tmp_path):
    path = tmp_path / "events.jsonl"
    exporter = to_file(
        "local", path, rotate={"bytes": FILE_BYTES, "keep": 999}, sync=False,
        batch={"events": 100, "linger": "1ms"},
    )  # fmt: skip
    with start(tmp_path, exporter) as gateway, load(gateway) as running:
        finish(gateway, running)
    rotated = sorted(tmp_path.glob("events.jsonl.*"), key=lambda p: int(p.suffix[1:]), reverse=True)
    assert len(rotated) >= 20
    assert all(file.stat().st_size <= FILE_BYTES for file in [path, *rotated])
    assert_every_line_once(Account.of_files(*rotated, path))  # in order, from the oldest on


def test_rotation_by_somebody_else_keeps_every_line(tmp_path):
    path = tmp_path / "events.jsonl"
    exporter = to_file("local", path, batch={"events": 100, "linger": "1ms"})
    moved = []
    with start(tmp_path, exporter) as gateway, load(gateway) as running:

        def delivered():
            return total(gateway, "cellgate_exporter_delivered_events_total", exporter="local")

        for turn in range(10):
            wanted = (turn + 1) * CELLS * FRAMES // 12
            until(lambda: delivered() >= wanted and path.exists(), lambda: f"{delivered()} delivered")
            moved.append(tmp_path / f"moved-{turn}.jsonl")
            path.rename(moved[-1])
            gateway.process.send_signal(signal.SIGUSR1)
        finish(gateway, running)
    assert all(file.stat().st_size > 0 for file in moved)
    assert_every_line_once(Account.of_files(*moved, path))
