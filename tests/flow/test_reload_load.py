"""Reloading again and again under load: nothing is lost, and nothing arrives out of order."""

import os
import subprocess

from support.control import ControlledGateway
from support.flows import Account, Load, caught_up, to_file, to_sink
from support.gateway import BINARY
from support.http_sink import HttpSink

CELLS = 4
RELOADS = 15 if os.environ.get("CELLGATE_SLOW") == "1" else 40


def test_nothing_is_lost_while_everything_that_can_change_changes(tmp_path):
    """Each round another batch size, another key, another window; one exporter comes and goes."""
    keys = {}
    for kid in ("a", "b"):
        subprocess.run([BINARY, "keygen", "--kid", kid, "--out", tmp_path], check=True, capture_output=True)
        keys[kid] = tmp_path / f"{kid}.key"
    local = tmp_path / "local.jsonl"
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url), to_file("local", local)]
        signing = {"mode": "ed25519", "kid": "b", "key_file": str(keys["b"])}
        with ControlledGateway(
            tmp_path, exporters=exporters, cells=CELLS, config={"signing": signing}
        ) as gateway:
            load = Load(gateway.base("%d"), "--cells", CELLS, "--frames", 1_000_000, "--rate", 500)
            with load:
                for number in range(RELOADS):
                    kid = "ab"[number % 2]
                    gateway.config["exporters"] = [
                        to_sink("central", sink.url, batch={"events": 100 + number, "linger": "5ms"}),
                        to_file("local", local),
                    ]
                    if number % 3 == 1:
                        gateway.config["exporters"].append(to_file("guest", tmp_path / "guest.jsonl"))
                    gateway.config["signing"] = {**signing, "kid": kid, "key_file": str(keys[kid])}
                    gateway.config["keepalive"] = {"window": f"{10 + number}s"}
                    status, body = gateway.reload()
                    assert status == 200, body
                    assert body["exporters"]["unchanged"] == ["local"] and body["signing"]["changed"]
                    sink.wait_accepted(len(sink.accepted) + 20)
                assert load.running()
                assert gateway.stop() == 0
                _, summary = load.end()
            assert summary["resets"] == 0
            gateway.start()
            caught_up(gateway, "central")
            caught_up(gateway, "local")
            assert gateway.stop() == 0
        delivered, kept = Account.of_sink(sink), Account.of_files(local)
    kept.assert_in_order()
    assert kept.repeated == 0
    assert len(kept.guests()) == summary["sent"]
    # A request that a restart cut short came again: the same bytes.
    assert {a.text for a in delivered.arrivals} == {a.text for a in kept.arrivals}
    kids = {a.text.partition('"signerKid":"')[2][:1] for a in kept.guests()}
    assert kids == {"a", "b"}
