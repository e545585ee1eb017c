"""Stopping under load, and going on where it was."""

import base64
import subprocess

import pytest

from support.flows import Account, Load, caught_up, play, to_file, to_sink
from support.gateway import BINARY, Gateway
from support.guest import Guest
from support.http_sink import HttpSink

CELLS = 4


def config(directory, **more):
    return {"state_dir": str(directory / "state"), "spool": {"dir": str(directory / "spool")}, **more}


def keys(directory, mode):
    """A key; the configuration that signs with it, and the arguments that verify."""
    if mode == "off":
        return {"mode": "off"}, None
    subprocess.run([BINARY, "keygen", "--kid", "k1", "--out", directory], check=True, capture_output=True)
    key_file = directory / "k1.key"
    signing = {"mode": mode, "kid": "k1", "key_file": str(key_file)}
    if mode == "ed25519":
        return signing, ["--keys", directory / "k1.keys.json"]
    hmac_keys = directory / "hmac.json"
    raw = base64.urlsafe_b64decode(key_file.read_text().strip() + "==")
    hmac_keys.write_text('{"k1":"' + base64.urlsafe_b64encode(raw).decode().rstrip("=") + '"}')
    hmac_keys.chmod(0o600)
    return signing, ["--hmac-keys", hmac_keys]


# Ed25519 is slow: what 8 full sockets hold must be signed within the two seconds of the last reading.
@pytest.mark.parametrize(
    "mode, rate", [("off", None), ("hmac-sha256", None), ("ed25519", 2000)], ids=["off", "hmac", "ed25519"]
)
def test_what_was_sent_before_sigterm_is_delivered(tmp_path, mode, rate):
    path = tmp_path / "events.jsonl"
    signing, verifying = keys(tmp_path, mode)
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url), to_file("local", path)]
        drain = {"signing": signing, "shutdown": {"drain": "60s"}}
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config(tmp_path, **drain)) as gateway:
            arguments = ["--cells", CELLS, "--connections", 2, "--frames", 1_000_000]
            arguments += ["--rate", rate] if rate else []
            with Load(gateway.base("%d"), *arguments) as load:
                sink.wait_accepted(2000)
                assert gateway.stop() == 0
                _, summary = load.end()
        assert summary["lost"] > 0 and summary["unclosed"] == 0
        delivered, kept = Account.of_sink(sink), Account.of_files(path)
    delivered.assert_in_order()
    kept.assert_in_order()
    assert [a.text for a in delivered.arrivals] == [a.text for a in kept.arrivals]
    guests = len(kept.guests())
    assert summary["resets"] == 0
    assert guests == summary["sent"]
    assert not [line for line in gateway.lines if "level=error" in line]
    if verifying:
        done = subprocess.run(
            [BINARY, "verify", *verifying, "--gaps", path], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == len(kept.arrivals) and all(line.startswith("ok\t") for line in lines)


def test_a_clean_restart_goes_on_without_a_repeat(tmp_path):
    path = tmp_path / "events.jsonl"
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url), to_file("local", path)]
        with Gateway(tmp_path, exporters=exporters, config=config(tmp_path)) as gateway:
            for round_number in range(3):
                play(gateway.base(), "--connections", 2, "--frames", 300)
                assert gateway.stop() == 0
                gateway.start()
            caught_up(gateway, "central")
            assert gateway.stop() == 0
        delivered, kept = Account.of_sink(sink), Account.of_files(path)
    for account in (delivered, kept):
        account.assert_in_order()
        assert account.repeated == 0
        assert len(account.guests()) == 3 * 2 * 300
        # Each round had two connections, and each its own ordinal.
        for ordinal in range(1, 7):
            assert sum(a.connection == ordinal for a in account.guests()) == 300
        rounds = [(a.connection + 1) // 2 for a in account.guests()]
        assert rounds == sorted(rounds) and set(rounds) == {1, 2, 3}


def test_a_new_run_counts_from_one_and_the_old_one_stays_where_it_was(tmp_path):
    with HttpSink() as sink:
        with Gateway(tmp_path, exporters=[to_sink("central", sink.url)], config=config(tmp_path)) as gateway:
            cell = gateway.config["ingress"]["cells"][0]
            for run in ("first", "second", "first"):
                cell["run_id"] = run
                gateway.stop()
                gateway.start()
                with Guest(gateway.base()) as guest:
                    guest.send_many(50)
            assert gateway.stop() == 0
        account = Account.of_sink(sink)
    account.assert_in_order()
    guests = {run: [a for a in account.guests() if a.run[1] == run] for run in ("first", "second")}
    assert [a.connection for a in guests["first"]] == [1] * 50 + [2] * 50
    assert [a.connection for a in guests["second"]] == [1] * 50
    assert min(account.sequences(("cell-0", "second"))) == 1
