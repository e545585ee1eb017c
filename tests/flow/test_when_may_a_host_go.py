"""When a host may go: the gateway's own words on it, and the receiver's count, agree."""

import json
import subprocess
import threading

from support.control import ControlledGateway
from support.flows import Account, play, to_sink, until
from support.gateway import BINARY
from support.http_sink import HttpSink

FRAMES = 700


def acknowledged(shown, exporter):
    return next(a for a in shown["acknowledged"] if a["exporter"] == exporter)


def verify_gaps(path, arrivals, *arguments):
    path.write_text("".join(arrival.text + "\n" for arrival in arrivals))
    command = [BINARY, "verify", "--keys", path.with_name("k1.keys.json"), "--gaps", path]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)


def signed(directory):
    command = [BINARY, "keygen", "--kid", "k1", "--out", directory]
    subprocess.run(command, check=True, capture_output=True)
    return {"mode": "ed25519", "kid": "k1", "key_file": str(directory / "k1.key")}


def test_acknowledged_wait_flush_and_gaps_say_the_same(tmp_path):
    """A destination that stands still in the middle: nobody says that the host may go, until it may."""
    gate = threading.Event()
    gate.set()

    def policy(request):
        gate.wait(60)

    with HttpSink() as sink:
        sink.policy = policy
        exporters = [to_sink("central", sink.url, batch={"events": 50, "linger": "1ms"})]
        settings = {"signing": signed(tmp_path)}
        with ControlledGateway(tmp_path, exporters=exporters, config=settings) as gateway:
            assert gateway.put("vm-1")[0] == 201
            play(gateway.base_of("vm-1"), "--frames", FRAMES)
            status, flushed, _ = gateway.ask("POST", "/v1/flush?timeout=60s&cell=vm-1")
            assert status == 200, flushed
            first = gateway.show("vm-1")[1]
            assert acknowledged(first, "central") == {
                "exporter": "central", "sequence": first["sequence"], "caught_up": True,
            }  # fmt: skip
            got = Account.of_sink(sink)
            assert max(got.sequences(("vm-1", "run-1"))) == first["sequence"]

            gate.clear()
            play(gateway.base_of("vm-1"), "--frames", FRAMES)
            until(
                lambda: gateway.show("vm-1")[1]["frames"] == 2 * FRAMES, lambda: "not all was read"
            )
            # Nothing more has been acknowledged, and everybody says so.
            behind = acknowledged(gateway.show("vm-1")[1], "central")
            assert not behind["caught_up"] and behind["sequence"] <= first["sequence"]
            status, problem, _ = gateway.ask("POST", "/v1/flush?timeout=50ms&cell=vm-1")
            assert status == 504 and "central" in json.dumps(problem)
            status, problem = gateway.delete("vm-1", "?wait=50ms")
            assert status == 504 and "central" in json.dumps(problem)

            totals = problem["result"]
            assert totals["frames"] == 2 * FRAMES
            # The run has ended with that all the same; what is left of it, a flush waits for.
            assert gateway.delete("vm-1")[0] == 404
            gate.set()
            status, flushed, _ = gateway.ask("POST", "/v1/flush?timeout=60s")
            assert status == 200, flushed
            account = Account.of_sink(sink)
            sequences = account.sequences(("vm-1", "run-1"))
            assert sorted(set(sequences)) == list(range(1, totals["last_sequence"] + 1))
            assert gateway.stop() == 0
    assert account.repeated == 0
    whole = verify_gaps(tmp_path / "received.jsonl", account.by_id.values())
    assert whole.returncode == 0, whole.stderr
    # And were one lost on the way behind us, the receiver would know which.
    arrivals = list(account.by_id.values())
    lost = arrivals.pop(len(arrivals) // 2)
    holed = verify_gaps(tmp_path / "received.jsonl", arrivals)
    assert holed.returncode == 1 and str(lost.sequence) in holed.stderr + holed.stdout
