"""`cellgate spool`: people look into a spool, also a live one, and set an exporter back; and another
boot after a kill, which is what a power cut looks like from here."""

import json
import pathlib
import struct
import subprocess

from support.flows import Account, caught_up, play, to_file, to_sink, total, until
from support.gateway import BINARY, Gateway
from support.guest import Guest
from support.ports import steady_port

SKIP = 1 << 20


def spool(*arguments, check=0):
    done = subprocess.run(
        [BINARY, "spool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == check, done
    return done.stdout if check == 0 else done.stderr


def config(directory):
    return {
        "state_dir": str(directory / "state"),
        "spool": {"dir": str(directory / "spool"), "max_bytes": "16MiB", "sync": "10ms"},
        "shutdown": {"drain": "10ms"},
    }


def test_a_spool_is_shown_while_it_is_live_and_afterwards(tmp_path):
    directory = tmp_path / "spool"
    exporters = [to_sink("dead", f"http://127.0.0.1:{steady_port()}/")]
    with Gateway(tmp_path, exporters=exporters, cells=2, config=config(tmp_path)) as gateway:
        play(gateway.base("%d"), "--cells", 2, "--frames", 500)
        until(
            lambda: gateway.metric("cellgate_frames_received_total") == 1000,
            lambda: "not all was read",
        )
        live = json.loads(spool("list", "--json", "--dir", directory))
        assert live["held_by"] == gateway.process.pid
        assert live["next_index"] - live["first_index"] >= 1000
        assert {run["cell"]: run["sequence"] >= 500 for run in live["runs"]} == {
            "cell-0": True,
            "cell-1": True,
        }
        events = [json.loads(line) for line in spool("cat", "--dir", directory).splitlines()]
        assert len(events) >= 1000
        assert "held by process" in spool("list", "--dir", directory)
        assert "stop it first" in spool("rewind", "dead", "--oldest", "--dir", directory, check=1)
        assert gateway.stop() == 0
    after = json.loads(spool("list", "--json", "--config", tmp_path / "cellgate.json"))
    assert after["held_by"] is None and after["damaged"] == []
    assert [p["exporter"] for p in after["positions"]] == ["dead"]
    assert after["segments"][-1]["next_index"] == after["next_index"]
    shown = spool("cat", "--json", "--cell", "cell-1", "--from", 100, "--to", 199, "--dir", directory)
    for line in map(json.loads, shown.splitlines()):
        assert 100 <= line["index"] <= 199 and line["cell"] == "cell-1"
        assert line["event"]["data"]["host"]["sequence"] == line["sequence"]


def test_an_exporter_that_was_set_back_delivers_again_and_nothing_is_ever_skipped(tmp_path):
    directory = tmp_path / "spool"
    path = tmp_path / "events.jsonl"
    exporters = [to_file("local", path)]
    with Gateway(tmp_path, exporters=exporters, cells=1, config=config(tmp_path)) as gateway:
        play(gateway.base(0), "--frames", 300)
        until(
            lambda: gateway.metric("cellgate_frames_received_total") == 300,
            lambda: "not all was read",
        )
        caught_up(gateway, "local")
        assert gateway.stop() == 0
        first = len(Account.of_files(path).arrivals)
        assert "only ever set back" in spool(
            "rewind", "local", "--index", 10**6, "--dir", directory, check=1
        )
        assert "no exporter of that name" in spool(
            "rewind", "lokal", "--oldest", "--dir", directory, check=1
        )
        oldest = json.loads(spool("list", "--json", "--dir", directory))["first_index"]
        assert f"starts at event {oldest}," in spool("rewind", "local", "--oldest", "--dir", directory)
        gateway.start()
        caught_up(gateway, "local")
        assert gateway.stop() == 0
        again = Account.of_files(path)
        assert again.repeated >= first
        again.assert_whole()
        # By time: of the last event that a guest sent.
        events = spool("cat", "--json", "--dir", directory).splitlines()
        received = json.loads(events[-1])["received"]
        spool("rewind", "local", "--time", received, "--dir", directory)
        position = json.loads(spool("list", "--json", "--dir", directory))["positions"][0]["index"]
        assert json.loads(events[-1])["received"] == received
        assert position in [json.loads(e)["index"] for e in events if received in e]
    assert "is not kept any more" in spool("rewind", "local", "--index", 0, "--dir", directory, check=1)
    usage = ["rewind", "local", "--dir", directory], ["list"], ["show", "--dir", directory], []
    for arguments in usage:
        spool(*arguments, check=64)
    assert "expected a time" in spool("rewind", "local", "--time", "noon", "--dir", directory, check=1)


# --- another boot ---

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def forge_boot(directory):
    """Makes every segment one of another boot: magic 8, version 4, crc 4, instance 16, boot 16."""
    for path in (pathlib.Path(directory) / "segments").glob("*.seg"):
        with open(path, "r+b") as file:
            header = bytearray(file.read(128))
            header[32:48] = bytes(range(16))
            header[12:16] = bytes(4)
            header[12:16] = struct.pack("<I", crc32c(header))
            file.seek(0)
            file.write(header)


def test_after_a_power_cut_no_number_is_used_twice_and_the_skip_is_named(tmp_path):
    path = tmp_path / "events.jsonl"
    exporters = [to_file("local", path)]
    with Gateway(tmp_path, exporters=exporters, cells=2, config=config(tmp_path)) as gateway:
        play(gateway.base("%d"), "--cells", 2, "--frames", 100)
        until(
            lambda: gateway.metric("cellgate_frames_received_total") == 200,
            lambda: "not all was read",
        )
        caught_up(gateway, "local")
        gateway.kill()
        gateway.start()  # the same boot: numbers go on
        with Guest(gateway.base(0)) as guest:
            guest.send_many(5)
            until(
                lambda: gateway.metric("cellgate_frames_received_total") == 5,
                lambda: "not all was read",
            )
        until(
            lambda: total(gateway, "cellgate_events_appended_total", kind="gateway") >= 2,
            lambda: "the connection's end was never told",
        )
        caught_up(gateway, "local")
        gateway.kill()
        before = Account.of_files(path)
        before.assert_whole()
        forge_boot(tmp_path / "spool")
        gateway.start()
        gateway.wait_log("event=spool_numbers_skipped reason=power_loss runs=2")
        with Guest(gateway.base(0)) as guest:
            guest.send_many(5)
            until(
                lambda: gateway.metric("cellgate_frames_received_total") == 5,
                lambda: "not all was read",
            )
        caught_up(gateway, "local")
        assert gateway.stop() == 0
    account = Account.of_files(path)  # which holds that no number stands for two events
    told = {}
    for text in account.texts().values():
        event = json.loads(text)
        if event["type"].endswith("telemetry.dropped"):
            assert set(event["data"]["drops"]) == {"power_loss"}
            told[event["data"]["cellId"]] = event["data"]["drops"]["power_loss"]
    for i in range(2):
        run = (f"cell-{i}", f"run-{i}")
        last = max(before.sequences(run))
        assert told[f"cell-{i}"]["count"] == SKIP
        [[first, end]] = told[f"cell-{i}"]["ranges"]
        assert end - first + 1 == SKIP and first == last + 1
        assert min(s for s in account.sequences(run) if s > last) == end + 1
    done = subprocess.run(
        [BINARY, "verify", "--keys", "/dev/stdin", "--gaps", str(path)], input="{}",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "missing" not in done.stdout
